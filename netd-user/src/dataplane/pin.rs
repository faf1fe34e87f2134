//! Pinned links: what keeps a program attached while no daemon runs.
//!
//! Law: an attachment lives exactly as long as its pin.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::syscall::{Command, bpf};

#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct UpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
#[derive(Default)]
struct DetachAttr {
    link: u32,
}

#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// The head of `struct bpf_link_info`, as far as tcx and cgroup links fill it.
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    target: [u32; 4],
}

/// A link of the kernel between a program and the place it is attached to.
#[derive(Debug)]
pub(super) struct KernelLink {
    fd: OwnedFd,
}

impl KernelLink {
    /// Attaches `program` to `target`: an interface index for tcx, an open directory for a cgroup.
    pub(super) fn create(
        program: BorrowedFd<'_>,
        target: u32,
        attach_type: u32,
    ) -> io::Result<Self> {
        let mut attr =
            CreateAttr { program: number(program), target, attach_type, ..CreateAttr::default() };
        bpf(Command::LinkCreate, &mut attr).map(Self::own)
    }

    /// Opens the link pinned at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        let mut attr = ObjectAttr { path: path.as_ptr() as u64, ..ObjectAttr::default() };
        bpf(Command::ObjectGet, &mut attr).map(Self::own)
    }

    /// Pins the link: it outlives this process.
    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let fd = self.fd.as_raw_fd().unsigned_abs();
        let mut attr = ObjectAttr { path: path.as_ptr() as u64, fd, flags: 0 };
        bpf(Command::ObjectPin, &mut attr).map(drop)
    }

    /// Puts `program` in the place of the attached one, without a gap.
    pub(super) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let link = self.fd.as_raw_fd().unsigned_abs();
        let mut attr = UpdateAttr { link, program: number(program), ..UpdateAttr::default() };
        bpf(Command::LinkUpdate, &mut attr).map(drop)
    }

    /// Takes the program off now: a link that goes with its last pin is taken off later, by a work
    /// queue. Nothing to do where the interface is gone.
    pub(super) fn detach(&self) -> io::Result<()> {
        let mut attr = DetachAttr { link: self.fd.as_raw_fd().unsigned_abs() };
        match bpf(Command::LinkDetach, &mut attr) {
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The interface a tcx link sits on; 0 once the interface is gone.
    pub(super) fn interface(&self) -> io::Result<u32> {
        Ok(self.info()?.target[0])
    }

    /// The cgroup (inode of its directory) that a cgroup link sits on; 0 once it is gone.
    pub(super) fn cgroup(&self) -> io::Result<u64> {
        let [low, high, ..] = self.info()?.target;
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    fn info(&self) -> io::Result<RawInfo> {
        let mut info = RawInfo::default();
        let mut attr = InfoAttr {
            fd: self.fd.as_raw_fd().unsigned_abs(),
            len: u32::try_from(size_of::<RawInfo>()).map_err(io::Error::other)?,
            info: std::ptr::from_mut(&mut info) as u64,
        };
        bpf(Command::ObjectInfo, &mut attr)?;
        Ok(info)
    }

    fn own(fd: i32) -> Self {
        // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
        Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } }
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
