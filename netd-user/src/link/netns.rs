//! Named network namespaces.
//!
//! Law: only threads made for it enter a namespace, and they end there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::statfs::{FsType, statfs};
use tokio::sync::oneshot;

use super::LinkError;
use super::netlink::Netlink;
use crate::fault;

/// `NSFS_MAGIC`, uapi/linux/magic.h.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);
/// `SO_NETNS_COOKIE`, asm-generic/socket.h.
const SO_NETNS_COOKIE: i32 = 71;
/// Index of the loopback device in every namespace.
const LOOPBACK: u32 = 1;
/// The calling thread's own namespace.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Creates a namespace and mounts it at `path`; its parent directory is made where it is missing.
pub fn create(path: &Path) -> Result<(), LinkError> {
    let failed = |action| move |source| file_error(action, path, source);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("create directory for"))?;
    }
    OpenOptions::new().write(true).create_new(true).open(path).map_err(failed("create"))?;
    fault::point();
    let target = path.to_owned();
    let outcome = on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some(OWN_NAMESPACE), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    outcome.map_err(|source| {
        let _ = fs::remove_file(path);
        file_error("mount a new namespace at", path, source)
    })
}

/// Unmounts and removes `path`. One that is gone already is no error.
pub fn delete(path: &Path) -> Result<(), LinkError> {
    while exists(path) {
        umount2(path, MntFlags::MNT_DETACH)
            .map_err(|error| file_error("unmount", path, error.into()))?;
        fault::point();
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_error("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Whether a namespace is mounted at `path`.
pub fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// Runs `work` in the namespace at `path`, on a thread of its own. Blocks the caller.
pub fn run_in<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LinkError> {
    let namespace = open(path)?;
    on_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
    .map_err(|source| file_error("enter", path, source))
}

/// The same without blocking the caller. `work` may use the caller's runtime.
pub async fn visit<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LinkError> {
    let namespace = open(path)?;
    let runtime = tokio::runtime::Handle::current();
    let (answer, answered) = oneshot::channel();
    let visitor = move || {
        let _runtime = runtime.enter();
        let outcome = setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| work());
        // The caller may have gone away; then nobody wants the answer.
        let _ = answer.send(outcome);
    };
    let spawned = thread::Builder::new().name("netns".to_owned()).spawn(visitor);
    spawned.map_err(|source| file_error("enter", path, source))?;
    let outcome = answered.await.map_err(|_| LinkError::Closed)?;
    outcome.map_err(|error| file_error("enter", path, error.into()))
}

/// Raises the loopback device of the namespace at `path`.
pub async fn raise_loopback(path: &Path) -> Result<(), LinkError> {
    let (netlink, ()) = Netlink::connect_in(path, || ()).await?;
    netlink.raise("lo", LOOPBACK).await
}

/// Cookie of the calling thread's namespace.
pub fn cookie() -> Result<u64, LinkError> {
    let path = Path::new(OWN_NAMESPACE);
    let made = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    let socket = made.map_err(|error| file_error("open a socket in", path, error.into()))?;
    let mut cookie = 0u64;
    let mut len = 8;
    // SAFETY: both pointers are to locals of the sizes that the option has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(file_error("read the cookie of", path, io::Error::last_os_error()));
    }
    Ok(cookie)
}

/// Index of an interface of the calling thread's namespace.
pub(super) fn index(interface: &str) -> Result<u32, LinkError> {
    if_nametoindex(interface).map_err(|_| LinkError::Missing(interface.to_owned()))
}

/// Opens the namespace at `path`.
pub(super) fn open(path: &Path) -> Result<File, LinkError> {
    File::open(path).map_err(|source| file_error("open", path, source))
}

/// Runs `work` on a new thread and waits for it.
fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = thread::Builder::new().name("netns".to_owned()).spawn(work)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> LinkError {
    LinkError::File { action, path: path.to_owned(), source }
}
