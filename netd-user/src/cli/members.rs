//! The processes of a sandbox that lives with one (`netd run`), and their end.
//!
//! Laws: a process is ended through the descriptor that it was recognised by, never by its number
//! alone; the rights are the caller's own, so asking the daemon gives nobody power over processes.

use std::fs::{self, Metadata};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::CliError;
use super::process;
use crate::api::SandboxInspect;

/// Processes that make others as fast as they are ended are given up on.
const ROUNDS: usize = 100;
/// A process that does not end within this many milliseconds waits for a device.
const ENDS_WITHIN_MS: u16 = 10_000;

/// Ends them all; how many there were. A sandbox without an owner is filled by somebody else, who
/// also ends what runs in it.
pub(super) fn end(sandbox: &SandboxInspect) -> Result<usize, CliError> {
    match (sandbox.pid, sandbox.mode.as_str()) {
        (0, _) => Ok(0),
        // In the host's namespace only the owner is the sandbox's.
        (pid, "host") => end_one(sandbox, pid, |_| true).map(usize::from),
        _ => end_within(sandbox),
    }
}

fn end_within(sandbox: &SandboxInspect) -> Result<usize, CliError> {
    let Ok(netns) = fs::metadata(&sandbox.netns) else { return Ok(0) };
    let netns = identity(&netns);
    let is_inside = |pid: i32| namespace_of(&pid.to_string()) == Some(netns);
    if namespace_of("self") == Some(netns) {
        return Err(CliError::Refused(format!("we are in sandbox {} ourselves", sandbox.name)));
    }
    let mut ended = 0;
    for _ in 0..ROUNDS {
        let inside: Vec<i32> = numbers().into_iter().filter(|pid| is_inside(*pid)).collect();
        if inside.is_empty() {
            return Ok(ended);
        }
        for pid in inside {
            ended += usize::from(end_one(sandbox, pid, is_inside)?);
        }
    }
    Err(CliError::Refused(format!("sandbox {} makes processes without end", sandbox.name)))
}

/// Whether it was there to be ended. `is_it` is asked when its number can't change hands any more.
fn end_one(
    sandbox: &SandboxInspect,
    pid: i32,
    is_it: impl Fn(i32) -> bool,
) -> Result<bool, CliError> {
    let failed =
        |errno| CliError::system(format!("cannot end process {pid} of {}", sandbox.name), errno);
    let process = match process::open_process(pid) {
        Err(Errno::ESRCH) => return Ok(false),
        opened => opened.map_err(failed)?,
    };
    if !is_it(pid) {
        return Ok(false);
    }
    match process::kill(&process) {
        Err(Errno::ESRCH) => return Ok(false),
        killed => killed.map_err(failed)?,
    }
    wait(&process).map_err(failed)?;
    Ok(true)
}

fn wait(process: &OwnedFd) -> nix::Result<()> {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(ENDS_WITHIN_MS))? {
        0 => Err(Errno::ETIMEDOUT),
        _ => Ok(()),
    }
}

fn numbers() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// None for a process that is gone, that we may not look at, or that has ended but was not waited for.
fn namespace_of(process: &str) -> Option<(u64, u64)> {
    let found = fs::metadata(Path::new("/proc").join(process).join("ns/net")).ok()?;
    Some(identity(&found))
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_sandbox_without_an_owner_is_left_alone() {
        let sandbox = SandboxInspect { netns: "/proc/self/ns/net".into(), ..Default::default() };
        assert_eq!(end(&sandbox).unwrap(), 0);
    }

    #[test]
    fn our_own_namespace_is_never_emptied() {
        let netns = "/proc/self/ns/net".into();
        let sandbox = SandboxInspect { netns, pid: 1, ..Default::default() };
        assert!(end(&sandbox).unwrap_err().to_string().contains("ourselves"));
    }

    #[test]
    fn the_owner_in_the_hosts_namespace_is_ended_alone() {
        let mut owner = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(owner.id()).unwrap();
        let sandbox = SandboxInspect { mode: "host".into(), pid, ..Default::default() };
        assert_eq!(end(&sandbox).unwrap(), 1);
        assert_eq!(owner.wait().unwrap().code(), None);
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(end(&sandbox).unwrap(), 0, "it is gone");
    }
}
