//! Owners: a sandbox is removed when the process it lives with is gone.
//!
//! Law: a process is the pair of number and start time; a later one with the same number is another.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::model::sandbox::ProcessRef;
use crate::model::{Model, SandboxId};

/// How often an owner is looked at where the system grants no descriptor for it.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A sandbox whose owner is gone.
pub(super) type Departed = (SandboxId, ProcessRef);

/// One watcher per owned sandbox.
#[derive(Debug)]
pub(super) struct Owners {
    watched: BTreeMap<SandboxId, (ProcessRef, AbortHandle)>,
    departed: mpsc::UnboundedSender<Departed>,
}

impl Owners {
    /// Watchers that report to `departed`.
    pub(super) fn new(departed: mpsc::UnboundedSender<Departed>) -> Self {
        Self { watched: BTreeMap::new(), departed }
    }

    /// Watches exactly the owners that the model names.
    pub(super) fn follow(&mut self, model: &Model) {
        self.watched.retain(|id, (owner, watcher)| {
            let kept = model.sandboxes.get(id).is_some_and(|s| s.owner == Some(*owner));
            if !kept {
                watcher.abort();
            }
            kept
        });
        for sandbox in model.sandboxes.values() {
            if let Some(owner) = sandbox.owner {
                let spawn = || (owner, watch(sandbox.id, owner, self.departed.clone()));
                self.watched.entry(sandbox.id).or_insert_with(spawn);
            }
        }
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.watched.values().for_each(|(_, watcher)| watcher.abort());
    }
}

/// Whether the process runs: a zombie does not.
pub(super) fn is_alive(process: ProcessRef) -> bool {
    stat(process.pid).is_some_and(|(state, start)| state != 'Z' && start == process.start_ticks)
}

fn watch(
    id: SandboxId,
    owner: ProcessRef,
    departed: mpsc::UnboundedSender<Departed>,
) -> AbortHandle {
    let watcher = tokio::spawn(async move {
        until_gone(owner).await;
        // Nobody listens when the controller is stopping.
        let _ = departed.send((id, owner));
    });
    watcher.abort_handle()
}

async fn until_gone(owner: ProcessRef) {
    // The look at the start time comes after the opening: a number taken over in between shows.
    if let Ok(fd) = open(owner.pid).and_then(register)
        && is_alive(owner)
        && fd.readable().await.is_ok()
    {
        return;
    }
    while is_alive(owner) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn register(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the AsyncFd and so stays open and the same.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

fn open(pid: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call has just returned this descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// State and start time: fields 3 and 22 of `/proc/PID/stat`, after the name in parentheses.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}
