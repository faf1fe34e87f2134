//! The demo: one host of a laboratory, its daemon and containers, and what their traffic meets. Each
//! step prints what was tried, what was expected and what was seen.
//!
//! Law: a step holds only if all it expected was seen; nothing is printed as seen that was not.

mod border;
mod life;
mod probe;
mod publish;
mod report;
mod setting;
mod sight;
mod stage;
mod text;

use std::fs;

use anyhow::{Result, bail};

use crate::lab::{Lab, things_named};
use report::Report;
use stage::Stage;

type Step = (&'static str, fn(&mut Stage<'_>) -> Result<()>);

const STEPS: [Step; 10] = [
    ("A daemon with an embedded store, in a namespace of its own", setting::daemon),
    ("Three networks: frontend, backend and an internal one", setting::networks),
    ("Real servers in sandboxes, with published ports", setting::servers),
    ("A published port, reached from everywhere", publish::reached),
    ("A container reaches outside, masqueraded", border::masquerade),
    ("Two networks cannot reach each other, and the drop says why", border::isolation),
    ("The internal network: no way out, its members reach each other", border::internal),
    ("Live counters of every endpoint, and metrics", sight::counters),
    ("The daemon is killed: traffic goes on, and it takes up where it was", life::killed),
    ("Netfilter is as it was", life::netfilter),
];

/// Plays all steps; an error if one of them did not hold.
pub fn run() -> Result<()> {
    let mut report = Report::default();
    let name = play(&mut report)?;
    report.begin("Nothing is left behind");
    let outcome = nothing_left(&mut report, &name);
    report.end(outcome);
    let failed = report.close();
    if failed > 0 {
        bail!("the demo did not hold ({failed} of its steps)");
    }
    Ok(())
}

/// The steps that need the laboratory, which is gone afterwards; the answer is its name.
fn play(report: &mut Report) -> Result<String> {
    let lab = Lab::new()?;
    let outside = lab.outside()?;
    let host = lab.host(&outside)?;
    let mut stage = Stage::new(&outside, &host, report)?;
    stage.introduce();
    for (title, step) in STEPS {
        stage.report.begin(title);
        let outcome = step(&mut stage);
        stage.report.end(outcome);
    }
    Ok(lab.name().to_owned())
}

fn nothing_left(report: &mut Report, name: &str) -> Result<()> {
    let mut left: Vec<String> =
        things_named(name)?.iter().map(|path| path.display().to_string()).collect();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    let expected = format!("no namespace, control group, process, mount or file of {name}");
    let seen = if left.is_empty() { "none".to_owned() } else { left.join(", ") };
    report.claim(&expected, &seen, left.is_empty());
    Ok(())
}
