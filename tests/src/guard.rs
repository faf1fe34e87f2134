//! A program that leaves nothing behind, however it ends: its work runs in a child, and the parent,
//! which interrupts do not end, removes what is left. A destructor can't promise that: a signal runs
//! none.

use std::env;
use std::process::{Child, Command, ExitCode};

use anyhow::{Context, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};

use crate::lab::remove_leftovers;

/// Tells the child that it is one.
const GUARDED: &str = "NETD_TESTS_GUARDED";

/// The shell's code for a program that an interrupt ended.
const INTERRUPTED: u8 = 130;

const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Runs `work` under guard. It must be called before any thread is started: threads started earlier
/// would take the signals.
pub fn guarded(work: impl FnOnce() -> Result<()>) -> Result<ExitCode> {
    if env::var_os(GUARDED).is_none() {
        return guard();
    }
    // The guard's end, even by force, is the work's end.
    set_pdeathsig(Signal::SIGKILL)?;
    blocked().thread_unblock()?;
    work()?;
    Ok(ExitCode::SUCCESS)
}

/// What the guard waits for. The work inherits none of it: nor do the programs that it starts.
fn blocked() -> SigSet {
    ENDING.into_iter().chain([Signal::SIGCHLD]).collect()
}

fn guard() -> Result<ExitCode> {
    let signals = blocked();
    signals.thread_block()?;
    let mut again = Command::new(env::current_exe()?);
    let child = again.args(env::args_os().skip(1)).env(GUARDED, "1").spawn();
    let ended = wait(&mut child.context("can't start the work")?, &signals);
    remove_leftovers()?;
    ended
}

/// Waits for the end of the work, which an interrupt hastens.
fn wait(child: &mut Child, signals: &SigSet) -> Result<ExitCode> {
    let mut interrupted = false;
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            let code = if interrupted { INTERRUPTED } else { code.unwrap_or(1) };
            return Ok(ExitCode::from(code));
        }
        if signals.wait()? != Signal::SIGCHLD {
            interrupted = true;
            child.kill()?;
        }
    }
}
