//! The programs: loaded once per start, attached by pinned links.
//!
//! Laws: a pinned link that an earlier run left gets the new program without a gap; a pin whose
//! interface or cgroup is gone is removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use netd_common::Hook;
use netd_common::map::MAPS;

use super::DataplaneError;
use super::bpffs::failed;
use super::pin::KernelLink;
use crate::fault;

/// `enum bpf_attach_type`, uapi/linux/bpf.h.
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

/// The socket hooks, with their `enum bpf_attach_type`.
const SOCKET_HOOKS: [(&str, u32); 10] = [
    ("connect4", 10),
    ("connect6", 11),
    ("post_bind4", 12),
    ("post_bind6", 13),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
];

/// The loaded programs.
#[derive(Debug)]
pub(super) struct Programs {
    object: Ebpf,
    links: PathBuf,
}

impl Programs {
    /// Loads the object; maps that are pinned already are used as they are.
    pub(super) fn load(
        object: &[u8],
        capacities: &BTreeMap<String, u32>,
        maps: &Path,
        links: PathBuf,
    ) -> Result<Self, DataplaneError> {
        let mut loader = EbpfLoader::new();
        for spec in MAPS {
            loader.map_pin_path(spec.name, maps.join(spec.name));
        }
        for (name, capacity) in capacities {
            loader.map_max_entries(name, *capacity);
        }
        let mut object = loader.load(object)?;
        for (name, program) in object.programs_mut() {
            load_one(program).map_err(refused("load", name))?;
        }
        Ok(Self { object, links })
    }

    /// Instructions that the verifier walked, by program.
    pub(super) fn verified_instructions(&self) -> BTreeMap<String, u32> {
        let count = |program: &Program| program.info().ok()?.verified_instruction_count();
        self.object.programs().filter_map(|(n, p)| Some((n.to_owned(), count(p)?))).collect()
    }

    /// The descriptor of a program.
    pub(super) fn fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, DataplaneError> {
        let program = self.object.program(name).ok_or(DataplaneError::MissingProgram(name))?;
        Ok(program.fd().map_err(refused("use", name))?.as_fd())
    }

    /// Attaches the program of `hook` to a link of the host, or renews what is pinned there.
    pub(super) fn attach(
        &self,
        link: &str,
        ifindex: u32,
        hook: Hook,
    ) -> Result<(), DataplaneError> {
        let path = self.pin_of(link, hook);
        let program = self.fd(hook.name())?;
        if Self::renew(&path, program, |pinned| Ok(pinned.interface()? == ifindex))? {
            return Ok(());
        }
        let made = KernelLink::create(program, ifindex, attach_type(hook));
        let pinned = made.and_then(|made| {
            fault::point();
            made.pin(&path)
        });
        pinned.map_err(failed("attach program at", &path))
    }

    /// Detaches it.
    pub(super) fn detach(&self, link: &str, hook: Hook) -> Result<(), DataplaneError> {
        take_off(&self.pin_of(link, hook))
    }

    /// Attaches the socket hooks to a cgroup, or renews them.
    pub(super) fn attach_sockets(&self, cgroup: &Path) -> Result<(), DataplaneError> {
        let dir = File::open(cgroup).map_err(failed("open cgroup", cgroup))?;
        let inode = dir.metadata().map_err(failed("inspect cgroup", cgroup))?.ino();
        for (name, attach_type) in SOCKET_HOOKS {
            let path = self.links.join(socket_pin(name));
            let program = self.fd(name)?;
            if !Self::renew(&path, program, |pinned| Ok(pinned.cgroup()? == inode))? {
                KernelLink::create(program, dir.as_raw_fd().unsigned_abs(), attach_type)
                    .and_then(|made| made.pin(&path))
                    .map_err(failed("attach program at", &path))?;
            }
        }
        Ok(())
    }

    /// Whether every socket hook sits on that cgroup.
    pub(super) fn are_sockets_attached(&self, cgroup: &Path) -> Result<bool, DataplaneError> {
        let inode = fs::metadata(cgroup).map_err(failed("inspect cgroup", cgroup))?.ino();
        let sits = |name: &str| {
            let pinned = KernelLink::open(&self.links.join(socket_pin(name)));
            pinned.and_then(|pinned| pinned.cgroup()).is_ok_and(|found| found == inode)
        };
        Ok(SOCKET_HOOKS.iter().all(|(name, _)| sits(name)))
    }

    /// Detaches the socket hooks.
    pub(super) fn detach_sockets(&self) -> Result<(), DataplaneError> {
        SOCKET_HOOKS.iter().try_for_each(|(name, _)| take_off(&self.links.join(socket_pin(name))))
    }

    /// What is attached where `index_of` still knows the link under the index of the attachment.
    /// Pins of links that are gone are removed.
    pub(super) fn attached(
        &self,
        index_of: impl Fn(&str) -> Option<u32>,
    ) -> Result<Vec<(String, Hook)>, DataplaneError> {
        let mut attached = Vec::new();
        let entries = fs::read_dir(&self.links).map_err(failed("list", &self.links))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some((link, hook)) = parse_pin(&path) else { continue };
            let interface = KernelLink::open(&path)
                .and_then(|pinned| pinned.interface())
                .map_err(failed("open", &path))?;
            if interface != 0 && index_of(&link) == Some(interface) {
                attached.push((link, hook));
            } else {
                unpin(&path)?;
            }
        }
        Ok(attached)
    }

    /// Takes over what an earlier version pinned in `links`: each link gets the program of its hook
    /// without a gap, and its pin comes here. What has no place any more is detached.
    pub(super) fn inherit(
        &self,
        links: &Path,
        index_of: impl Fn(&str) -> Option<u32>,
        cgroup: Option<&Path>,
    ) -> Result<(), DataplaneError> {
        let cgroup = cgroup.map(fs::metadata).transpose().ok().flatten().map(|dir| dir.ino());
        let Ok(entries) = fs::read_dir(links) else { return Ok(()) };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if let Some((link, hook)) = parse_pin(&path) {
                let place = |pinned: &KernelLink| Ok(index_of(&link) == Some(pinned.interface()?));
                self.take_over(&path, hook.name(), place)?;
            } else if let Some(name) = socket_hook(&path) {
                let place = |pinned: &KernelLink| Ok(cgroup == Some(pinned.cgroup()?));
                self.take_over(&path, name, place)?;
            }
        }
        Ok(())
    }

    fn take_over(
        &self,
        path: &Path,
        program: &'static str,
        in_place: impl Fn(&KernelLink) -> std::io::Result<bool>,
    ) -> Result<(), DataplaneError> {
        let own = path.file_name().map(|name| self.links.join(name)).filter(|own| !own.exists());
        let taken = Self::renew(path, self.fd(program)?, in_place);
        match (taken, own) {
            (Ok(true), Some(own)) => fs::rename(path, own).map_err(failed("rename", path)),
            // One that is here already was attached anew, by a run that was killed.
            (Ok(true), None) => take_off(path),
            (Ok(false), _) => Ok(()),
            (Err(error), _) => Err(error),
        }
    }

    /// Puts the loaded program in the place of the pinned one, if it still sits where it should.
    fn renew(
        path: &Path,
        program: BorrowedFd<'_>,
        in_place: impl Fn(&KernelLink) -> std::io::Result<bool>,
    ) -> Result<bool, DataplaneError> {
        let pinned = match KernelLink::open(path) {
            Ok(pinned) => pinned,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("open", path)(error)),
        };
        if in_place(&pinned).map_err(failed("inspect", path))? {
            pinned.update(program).map_err(failed("update", path))?;
            return Ok(true);
        }
        unpin(path)?;
        Ok(false)
    }

    fn pin_of(&self, link: &str, hook: Hook) -> PathBuf {
        // bpffs refuses names with a dot, links may have one; `%` is in neither.
        self.links.join(format!("{}-{}", link.replace('%', "%25").replace('.', "%2e"), hook.name()))
    }
}

/// Detaches the hooks on bind whose pins are in `links`: the next bind is free.
pub(super) fn lift_guard(links: &Path) -> Result<(), DataplaneError> {
    ["post_bind4", "post_bind6"].iter().try_for_each(|name| take_off(&links.join(socket_pin(name))))
}

/// A pinned link in words.
pub(super) fn describe(pin: &Path) -> String {
    match (parse_pin(pin), socket_hook(pin)) {
        (Some((link, hook)), _) => format!("program {} on link {link}", hook.name()),
        (None, Some(hook)) => format!("program {hook} on the cgroup's sockets"),
        (None, None) => format!("the program pinned at {}", pin.display()),
    }
}

fn socket_pin(name: &str) -> String {
    format!("cgroup-{name}")
}

fn parse_pin(path: &Path) -> Option<(String, Hook)> {
    let (link, hook) = path.file_name()?.to_str()?.rsplit_once('-')?;
    let hook = Hook::ALL.iter().find(|h| h.name() == hook)?;
    Some((link.replace("%2e", ".").replace("%25", "%"), *hook))
}

fn socket_hook(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?.strip_prefix("cgroup-")?;
    SOCKET_HOOKS.iter().map(|(hook, _)| *hook).find(|hook| *hook == name)
}

const fn attach_type(hook: Hook) -> u32 {
    match hook {
        Hook::FromContainer | Hook::FromNetdev | Hook::FromL3dev => TCX_INGRESS,
        Hook::ToContainer | Hook::FromHost | Hook::ToNetdev | Hook::ToL3dev => TCX_EGRESS,
    }
}

fn load_one(program: &mut Program) -> Result<(), ProgramError> {
    if let Program::SchedClassifier(program) = program {
        return program.load();
    }
    if let Program::CgroupSockAddr(program) = program {
        return program.load();
    }
    if let Program::CgroupSock(program) = program {
        return program.load();
    }
    Err(ProgramError::UnexpectedProgramType)
}

/// Detaches what is pinned, at once, and removes the pin; no pin needs nothing.
pub(super) fn take_off(path: &Path) -> Result<(), DataplaneError> {
    match KernelLink::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.and_then(|pinned| pinned.detach()).map_err(failed("detach", path))?,
    }
    unpin(path)
}

fn unpin(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn refused(
    action: &'static str,
    program: &str,
) -> impl FnOnce(ProgramError) -> DataplaneError + use<> {
    let program = program.to_owned();
    move |source| DataplaneError::Program { action, program, source }
}
