//! Unix sockets of the front doors: made with its rights, never taken from a living daemon.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, chown};

/// Owner and group may use the API; it is as good as root on the network.
const SOCKET_MODE: u32 = 0o660;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{}: another daemon serves this socket: stop it, or configure another path", .0.display())]
    InUse(PathBuf),
    /// Something else lies there.
    #[error("{}: exists and is no socket: remove it, or configure another path", .0.display())]
    NotASocket(PathBuf),
    /// No such group.
    #[error(
        "group '{0}' does not exist: create it (groupadd --system {0}) or change the key 'group'"
    )]
    UnknownGroup(String),
    /// The system refuses.
    #[error("{}: the socket can't be made: {source}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Whose a listening socket's name is.
#[derive(Debug)]
pub enum BoundSocket {
    /// Made here: it goes when this is dropped.
    Own {
        /// The socket.
        path: PathBuf,
        /// Device and inode.
        identity: (u64, u64),
    },
    /// The service manager's, which listens on when the daemon does not run.
    Inherited,
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        match self {
            // Only our own: a later daemon may have put another in its place.
            Self::Own { path, identity } => {
                if std::fs::metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == *identity) {
                    let _ = std::fs::remove_file(path);
                }
            }
            Self::Inherited => {}
        }
    }
}

/// Binds `path`: rights are set before the name appears, a stale socket is replaced.
pub fn bind(path: &Path, group: Option<&str>) -> Result<(UnixListener, BoundSocket), SocketError> {
    let system = |source| SocketError::System { path: path.to_owned(), source };
    let gid = group.map(find_group).transpose()?;
    check_free(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).map_err(system)?;
    let hidden = directory.join(format!(".netd-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(system)?;
    let publish = || {
        chown(&hidden, None, gid)?;
        std::fs::set_permissions(&hidden, PermissionsExt::from_mode(SOCKET_MODE))?;
        std::fs::rename(&hidden, path)?;
        std::fs::metadata(path)
    };
    let metadata = publish().map_err(|source| {
        let _ = std::fs::remove_file(&hidden);
        system(source)
    })?;
    let identity = (metadata.dev(), metadata.ino());
    Ok((listener, BoundSocket::Own { path: path.to_owned(), identity }))
}

fn find_group(name: &str) -> Result<Gid, SocketError> {
    let group = Group::from_name(name).ok().flatten();
    group.map(|group| group.gid).ok_or_else(|| SocketError::UnknownGroup(name.to_owned()))
}

fn check_free(path: &Path) -> Result<(), SocketError> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse(path.to_owned()));
    }
    Ok(())
}
