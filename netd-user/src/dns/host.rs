//! The host's own name servers, followed as its resolv.conf changes.
//!
//! Law: what is watched are directories, because the file is often replaced or a link to another; a
//! file that can't be read leaves the servers as they were.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::service::NameService;
use crate::controller::told_to_stop;
use crate::link::facts;

/// Without inotify, and against what it can't see.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Keeps the host's name servers up to date, until told to stop.
pub async fn follow(service: Arc<NameService>, path: PathBuf, mut stop: watch::Receiver<bool>) {
    loop {
        // Watched before it is read: a change in between is not missed.
        let watch = watch(&path).map_err(|error| tracing::debug!(%error, "no watch")).ok();
        match facts::resolver(&path) {
            Ok(resolver) => service.set_host_servers(resolver.servers),
            Err(error) => tracing::warn!(%error, "the host's name servers stay as they were"),
        }
        tokio::select! {
            () = told_to_stop(&mut stop) => return,
            () = changed(watch.as_ref()) => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

fn watch(path: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM;
    for place in [Some(path.to_owned()), path.canonicalize().ok()].into_iter().flatten() {
        if let Some(directory) = place.parent() {
            inotify.add_watch(directory, flags)?;
        }
    }
    // SAFETY: the descriptor is owned by the AsyncFd and so stays open and the same.
    Ok(unsafe { AsyncFd::register(OwnedFd::from(inotify)) }?)
}

async fn changed(watch: Option<&AsyncFd<OwnedFd>>) {
    let Some(watch) = watch else { return std::future::pending().await };
    let Ok(mut ready) = watch.readable().await else { return std::future::pending().await };
    // What exactly changed does not matter: the file is read again.
    let mut events = [0; 4096];
    while nix::unistd::read(watch.get_ref(), &mut events).is_ok_and(|len| len > 0) {}
    ready.clear_ready();
}
