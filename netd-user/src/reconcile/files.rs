//! The files of sandboxes below the state directory, which their processes see in `/etc`.
//!
//! Laws: a process has mounted the inode, so a file that is there is written in place: with one write
//! that begins at the start and blanks the rest, then cut, so that who reads meanwhile finds whole
//! lines. What is neither what we wrote last nor what we were about to write was edited, and stays.
//! What an earlier boot left has no reader any more and may be torn: it goes.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::desired::files::{FileKind, SandboxFiles};
use crate::fault;
use crate::link::LinkError;
use crate::model::SandboxId;

/// The directory, under the state directory.
pub const FILES: &str = "sandboxes";
/// Under it: in which boot its files were written.
const BOOT: &str = "boot-id";
const KERNELS_BOOT: &str = "/proc/sys/kernel/random/boot_id";
const HOST_HOSTS: &str = "/etc/hosts";
/// What we write is shorter; what is longer was edited.
const LONGEST: u64 = 1 << 20;

/// Where a sandbox's file is.
pub fn path_of(state_dir: &Path, sandbox: SandboxId, kind: FileKind) -> PathBuf {
    state_dir.join(FILES).join(sandbox.to_string()).join(kind.name())
}

/// What has been written.
#[derive(Debug)]
pub(super) struct Files {
    state_dir: PathBuf,
    written: BTreeMap<SandboxId, SandboxFiles>,
}

impl Files {
    /// Under the state directory; what an earlier boot left is removed.
    pub(super) fn open(state_dir: &Path) -> Result<Self, LinkError> {
        let dir = state_dir.join(FILES);
        let boot = fs::read_to_string(KERNELS_BOOT).unwrap_or_default();
        let mark = dir.join(BOOT);
        if fs::read_to_string(&mark).unwrap_or_default() != boot {
            remove_all(&dir).map_err(failed("remove", &dir))?;
            make_directory(&dir).map_err(failed("create", &dir))?;
            replace(&mark, &boot).map_err(failed("write", &mark))?;
        }
        Ok(Self { state_dir: state_dir.to_owned(), written: BTreeMap::new() })
    }

    /// Sandboxes that have files, with what these are made of where this run wrote them and each is
    /// still there.
    pub(super) fn observe(&self) -> Result<BTreeMap<SandboxId, Option<SandboxFiles>>, LinkError> {
        let dir = self.state_dir.join(FILES);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(failed("list", &dir)(error)),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let sandboxes = names.filter_map(|name| name.parse().ok());
        Ok(sandboxes.map(|sandbox| (sandbox, self.whole(sandbox))).collect())
    }

    fn whole(&self, sandbox: SandboxId) -> Option<SandboxFiles> {
        let written = self.written.get(&sandbox)?;
        let exists = |kind| path_of(&self.state_dir, sandbox, kind).exists();
        written.kinds().all(exists).then(|| written.clone())
    }

    /// Writes what is not as it should be and was not edited.
    pub(super) fn write(&mut self, files: &SandboxFiles) -> Result<(), LinkError> {
        let sandbox = files.sandbox.id;
        self.written.remove(&sandbox);
        let dir = self.state_dir.join(FILES).join(sandbox.to_string());
        make_directory(&dir).map_err(failed("create", &dir))?;
        let host_hosts = fs::read_to_string(HOST_HOSTS).unwrap_or_default();
        for kind in files.kinds() {
            let path = dir.join(kind.name());
            let text = files.text(kind, &host_hosts);
            put(&path, &text).map_err(failed("write", &path))?;
        }
        self.written.insert(sandbox, files.clone());
        Ok(())
    }

    /// Removes a sandbox's files; processes that see them keep them.
    pub(super) fn remove(&mut self, sandbox: SandboxId) -> Result<(), LinkError> {
        self.written.remove(&sandbox);
        let dir = self.state_dir.join(FILES).join(sandbox.to_string());
        remove_all(&dir).map_err(failed("remove", &dir))
    }
}

/// Removes the files of all sandboxes.
pub(super) fn remove_every(state_dir: &Path) -> Result<(), LinkError> {
    let dir = state_dir.join(FILES);
    remove_all(&dir).map_err(failed("remove", &dir))
}

/// A file that is there becomes `text` unless it was edited; one that is not is made.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let (last, next) = (beside(path, "written"), beside(path, "next"));
    match read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            replace(&next, text)?;
            replace(path, text)?;
        }
        // Its owner in the sandbox has taken it over.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if found == text => {
            if read(&last).is_ok_and(|last| last == text) {
                return Ok(());
            }
            replace(&next, text)?;
        }
        Ok(found) if !is_ours(&found, &last, &next) => return Ok(()),
        Ok(found) => {
            replace(&next, text)?;
            fault::point();
            match overwrite(path, text, found.len()) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
                written => written?,
            }
        }
    }
    fault::point();
    fs::rename(&next, &last)
}

fn is_ours(found: &str, last: &Path, next: &Path) -> bool {
    let same = |path| read(path).is_ok_and(|text| text.trim_end() == found.trim_end());
    same(last) || same(next)
}

/// What is no text of a length that we write reads as nothing that we wrote.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// In place: who has the inode sees it.
fn overwrite(path: &Path, text: &str, old_len: usize) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().max(old_len), b'\n');
    file.write_all_at(&bytes, 0)?;
    file.set_len(text.len() as u64)
}

/// By a new inode: who reads sees the old text or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let draft = beside(path, "draft");
    let _from_before = fs::remove_file(&draft);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
    // Whatever the daemon's umask: other users of the sandbox read it.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all_at(text.as_bytes(), 0)?;
    fs::rename(&draft, path)
}

fn make_directory(dir: &Path) -> io::Result<()> {
    match fs::create_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LinkError {
    let path = path.to_owned();
    move |source| LinkError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &Path) -> String {
        fs::read_to_string(path).expect("a file")
    }

    #[test]
    fn a_file_is_written_anew_under_who_has_it_open_and_keeps_its_inode() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("hosts");
        put(&path, "one\ntwo\nthree\n").expect("write");
        let held = File::open(&path).expect("open");
        for text in ["one\n", "one\nand a longer one\nthan before\n"] {
            put(&path, text).expect("write");
            let mut seen = vec![0; text.len() + 8];
            let len = held.read_at(&mut seen, 0).expect("read");
            assert_eq!(&seen[..len], text.as_bytes());
        }
    }

    #[test]
    fn what_a_user_has_edited_stays() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("resolv.conf");
        put(&path, "nameserver 127.0.0.11\n").expect("write");
        fs::write(&path, "nameserver 9.9.9.9\n").expect("edit");
        put(&path, "nameserver 127.0.0.11\nsearch a\n").expect("write");
        assert_eq!(said(&path), "nameserver 9.9.9.9\n");
        fs::write(&path, vec![0xff; 3 << 20]).expect("edit");
        put(&path, "nameserver 127.0.0.11\n").expect("write");
        assert_eq!(fs::metadata(&path).expect("file").len(), 3 << 20);
    }

    #[test]
    fn a_write_that_was_cut_short_at_any_step_is_no_edit() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("hosts");
        let (old, new) = ("old and long\n", "new\n");
        for seen in [old, "new\n\n\n\n\n\n\n\n\n\n", new] {
            let _ = fs::remove_file(&path);
            put(&path, old).expect("write");
            replace(&beside(&path, "next"), new).expect("intention");
            fs::write(&path, seen).expect("half");
            put(&path, "third\n").expect("write");
            assert_eq!(said(&path), "third\n", "after {seen:?}");
        }
    }

    #[test]
    fn files_of_an_earlier_boot_go_and_those_of_this_one_stay() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join(FILES).join("x");
        drop(Files::open(dir.path()).expect("open"));
        fs::write(&file, "x").expect("write");
        drop(Files::open(dir.path()).expect("open"));
        assert!(file.exists());
        fs::write(dir.path().join(FILES).join(BOOT), "another").expect("write");
        drop(Files::open(dir.path()).expect("open"));
        assert!(!file.exists());
    }
}
