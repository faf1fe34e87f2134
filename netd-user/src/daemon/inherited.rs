//! Sockets that the service manager listens on before the daemon runs, and after (socket activation).
//!
//! Law: a socket is known by its path. One that no key of the configuration names is refused: whoever
//! connects to it would wait for ever.

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{UnixAddr, getsockname};

/// Why what was handed over can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// The variables are wrong.
    #[error("the service manager's LISTEN_FDS can't be read: {0}: see sd_listen_fds(3)")]
    Unreadable(std::io::Error),
    /// No unix socket.
    #[error(
        "the service manager handed over descriptor {0}, which is no unix socket: name paths in \
         ListenStream="
    )]
    NotUnix(RawFd),
    /// Nobody would answer there.
    #[error(
        "the service manager listens on {}, which no key names: set api-socket or docker-socket to \
         it, or change ListenStream= in netd.socket", .0.display()
    )]
    Unnamed(PathBuf),
}

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<(PathBuf, UnixListener)>);

impl Inherited {
    /// Takes over what was passed to this process; nothing outside the service manager. To be called
    /// once.
    pub(super) fn take() -> Result<Self, InheritedError> {
        let passed = sd_notify::listen_fds().map_err(InheritedError::Unreadable)?;
        passed.map(adopt).collect::<Result<_, _>>().map(Self)
    }

    /// The socket at a path, if it was passed.
    pub(super) fn at(&mut self, path: &Path) -> Option<UnixListener> {
        let found = self.0.iter().position(|(at, _)| at == path)?;
        Some(self.0.swap_remove(found).1)
    }

    /// Refuses what nobody has taken.
    pub(super) fn none_left(self) -> Result<(), InheritedError> {
        match self.0.into_iter().next() {
            Some((path, _)) => Err(InheritedError::Unnamed(path)),
            None => Ok(()),
        }
    }
}

fn adopt(descriptor: RawFd) -> Result<(PathBuf, UnixListener), InheritedError> {
    let address = getsockname::<UnixAddr>(descriptor).ok();
    let path = address.as_ref().and_then(UnixAddr::path).map(Path::to_owned);
    let path = path.ok_or(InheritedError::NotUnix(descriptor))?;
    // SAFETY: the service manager opened this descriptor for this process, whose id it named with it;
    // nothing else here has been given it, and `take` runs once.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok((path, UnixListener::from(owned)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd as _;

    use super::*;

    #[test]
    fn socket_is_found_by_its_path_once_and_one_of_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("api.sock"), dir.path().join("other.sock")];
        let passed = paths.clone().map(|path| UnixListener::bind(path).unwrap().into_raw_fd());
        let mut inherited = Inherited(passed.map(|fd| adopt(fd).unwrap()).into());
        assert!(inherited.at(Path::new("/nowhere")).is_none());
        assert!(inherited.at(&paths[0]).is_some());
        assert!(inherited.at(&paths[0]).is_none());
        let refused = inherited.none_left().unwrap_err().to_string();
        assert!(refused.contains("other.sock, which no key names"), "{refused}");
    }

    #[test]
    fn what_is_no_unix_socket_is_refused() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap().into_raw_fd();
        assert!(matches!(adopt(tcp), Err(InheritedError::NotUnix(_))));
    }
}
