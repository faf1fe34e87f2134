//! One daemon per state directory and per run directory.
//!
//! Law: the lock is the kernel's (`flock`), so it can't be left behind; the number in the file only
//! helps whoever meets it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Held as long as the daemon runs.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Why the directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error("another netd daemon (process {holder}) uses {}: stop it, or set another {key}",
        directory.display())]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Process number as the other wrote it.
        holder: String,
    },
    /// The system refuses.
    #[error("{}: can't be locked: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Lock {
    /// Takes `directory`, named by the configuration's `key`, by the file `name` in it.
    pub(super) fn take(directory: &Path, key: &'static str, name: &str) -> Result<Self, LockError> {
        let path = directory.join(name);
        let system = |source| LockError::System { path: path.clone(), source };
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let mut file = options.open(&path).map_err(system)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                return Err(LockError::Held { directory: directory.to_owned(), key, holder });
            }
            Err(TryLockError::Error(source)) => return Err(system(source)),
        }
        sign(&mut file).map_err(system)?;
        Ok(Self { _file: file })
    }
}

/// Who holds the lock at `path`, as the other wrote it; none where nobody does. Changes nothing.
pub(super) fn holder_of(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| holder(&mut file))
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_holds_the_directory() {
        let directory = tempfile::tempdir().expect("directory");
        let first = Lock::take(directory.path(), "state-dir", "netd.lock").expect("free");
        let second = Lock::take(directory.path(), "state-dir", "netd.lock").expect_err("held");
        let own = std::process::id();
        let sentence = format!(
            "another netd daemon (process {own}) uses {}: stop it, or set another state-dir",
            directory.path().display()
        );
        assert_eq!(second.to_string(), sentence);
        assert_eq!(holder_of(&directory.path().join("netd.lock")), Some(own.to_string()));
        drop(first);
        assert_eq!(holder_of(&directory.path().join("netd.lock")), None);
        Lock::take(directory.path(), "state-dir", "netd.lock").expect("free again");
    }
}
