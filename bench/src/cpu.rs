//! One CPU for the measured, real-time priority in short bursts.
//!
//! Law: client, server and the packet work between them share one CPU, so that a rate is the inverse
//! of a cost and no wake-up crosses CPUs. A burst ends well before the kernel's real-time throttle.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Rest after a burst, which lets ordinary threads of the CPU run.
pub(crate) const REST: Duration = Duration::from_millis(30);

const PRIORITY: libc::c_int = 10;

/// The CPU that measures: the last one we may use, as the first ones serve most interrupts.
pub(crate) fn measuring() -> Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("CPUs of this process")?;
    (0..CpuSet::count())
        .rev()
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .context("no CPU is allowed")
}

/// Pins the calling thread.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).context("CPU number")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to CPU {cpu}"))
}

/// Gives the calling thread real-time priority until the value is dropped.
pub(crate) struct RealTime(());

impl RealTime {
    /// Starts it.
    pub(crate) fn enter() -> Result<Self> {
        set_scheduler(libc::SCHED_FIFO, PRIORITY).context("real-time priority")?;
        Ok(Self(()))
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        if let Err(error) = set_scheduler(libc::SCHED_OTHER, 0) {
            eprintln!("back to ordinary priority: {error}");
        }
    }
}

/// Lets the CPU breathe between bursts.
pub(crate) fn rest() {
    thread::sleep(REST);
}

fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> std::io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: 0 names the calling thread, and the parameters outlive the call.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
