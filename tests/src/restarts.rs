//! The daemon restarted again and again under traffic: nothing may be lost.

use anyhow::{Context, Result};

use crate::load::{Load, Report, Volume};
use crate::{Daemon, Host, Outside};

/// How often and under how much.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Restarts by SIGTERM, and as many by kill -9.
    pub times: u32,
    /// The traffic.
    pub volume: Volume,
    /// Requests that must be answered between two restarts.
    pub between: u64,
}

/// Does it; the report says what was lost.
pub fn run(host: &Host, outside: &Outside, trial: &Trial) -> Result<Report> {
    let mut daemon = Daemon::start(host, "")?;
    Load::prepare(&daemon)?;
    let load = Load::start(&daemon, host, outside, trial.volume)?;
    for crash in [false, true] {
        for number in 0..trial.times {
            let ended = if crash { daemon.crash() } else { daemon.stop() };
            ended.with_context(|| format!("end {number}"))?;
            load.go_on(trial.between)?;
            daemon = Daemon::start(host, "").with_context(|| format!("start {number}"))?;
            load.go_on(trial.between)?;
        }
    }
    load.finish()
}
