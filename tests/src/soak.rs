//! Churn: random operations on one host for as long as asked, with every answer, the daemon's view and real
//! traffic compared with a model of what should be; the daemon's memory, descriptors and map fill watched.
//!
//! Laws: what happens follows from the seed alone; the first thing that is not as the model says ends the
//! run and names the seed and the step.

mod act;
mod expect;
mod gauge;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{Daemon, Host, Outside};
use act::{Act, Dice};
use expect::Expected;
use gauge::Gauges;

/// How long, and by which dice.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long operations are made.
    pub lasts: Duration,
    /// What the dice start from.
    pub seed: u64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Operations made.
    pub steps: u64,
    /// Operations that the daemon refused, as the model said it would.
    pub refused: u64,
    /// Requests over real sockets, those that must fail included.
    pub probes: u64,
    /// Restarts of the daemon, by request and by force.
    pub restarts: u64,
    /// The table of what was used, from the beginning to the end.
    pub table: String,
}

/// Operations between two full comparisons.
const STEPS_BETWEEN_COMPARISONS: u64 = 10;

/// Runs on a host of its own.
pub fn run(host: &Host, outside: &Outside, plan: Plan) -> Result<Report> {
    let mut soak = Soak {
        host,
        outside,
        daemon: Some(Daemon::start(host, "")?),
        expected: Expected::default(),
        dice: Dice::new(plan.seed),
        report: Report { steps: 0, refused: 0, probes: 0, restarts: 0, table: String::new() },
        gauges: Gauges::default(),
    };
    let end = Instant::now() + plan.lasts;
    soak.churn(end).with_context(|| {
        let step = soak.report.steps;
        format!("seed {}, step {step}; the daemon's log ends:\n{}", plan.seed, soak.end_of_log())
    })?;
    soak.report.table = soak.gauges.table();
    Ok(soak.report)
}

/// One run.
struct Soak<'world> {
    host: &'world Host,
    outside: &'world Outside,
    /// None only while it is replaced.
    daemon: Option<Daemon<'world>>,
    expected: Expected,
    dice: Dice,
    report: Report,
    gauges: Gauges,
}

impl<'world> Soak<'world> {
    fn churn(&mut self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            self.step()?;
            if self.report.steps.is_multiple_of(STEPS_BETWEEN_COMPARISONS) {
                self.compare()?;
            }
        }
        self.compare()?;
        // Everything goes again: what is held at the end is what was held at the beginning.
        for act in self.expected.removals() {
            self.carry_out(&act).with_context(|| format!("{act:?}"))?;
        }
        self.compare()?;
        self.gauges.read_end(self.daemon.as_ref().context("a daemon")?)
    }

    fn step(&mut self) -> Result<()> {
        let act = self.dice.act(&self.expected);
        self.report.steps += 1;
        self.carry_out(&act).with_context(|| format!("{act:?}"))
    }

    fn carry_out(&mut self, act: &Act) -> Result<()> {
        match act {
            Act::Restart { crash } => self.restart(*crash),
            Act::Ask => self.ask(),
            Act::MakeNetwork { .. }
            | Act::RemoveNetwork { .. }
            | Act::Create { .. }
            | Act::Remove { .. }
            | Act::Connect { .. }
            | Act::Disconnect { .. } => self.command(act),
        }
    }

    /// The daemon grants what the model grants, and refuses what it refuses.
    fn command(&mut self, act: &Act) -> Result<()> {
        let said = self.daemon()?.cli(&act.words())?;
        let granted = self.expected.grants(act);
        anyhow::ensure!(
            (said.code == Some(0)) == granted,
            "the model {} it: {said:?}",
            if granted { "grants" } else { "refuses" }
        );
        if granted {
            self.expected.apply(act);
            self.expected.learn(self.daemon.as_ref().context("a daemon")?, act)?;
        } else {
            self.report.refused += 1;
        }
        Ok(())
    }

    fn restart(&mut self, crash: bool) -> Result<()> {
        let old = self.daemon.take().context("a daemon")?;
        if crash { old.crash() } else { old.stop() }?;
        self.report.restarts += 1;
        // What a container serves does not depend on the daemon: it is asked while none runs.
        self.ask()?;
        self.daemon = Some(Daemon::start(self.host, "")?);
        Ok(())
    }

    /// A few requests: neighbours reach each other, strangers don't, published ports answer.
    fn ask(&mut self) -> Result<()> {
        for probe in self.dice.probes(&self.expected, self.host) {
            self.report.probes += 1;
            probe.check(self.outside)?;
        }
        Ok(())
    }

    /// Objects, links, namespaces and maps are those of the model, and nothing is reported as wrong.
    fn compare(&mut self) -> Result<()> {
        let daemon = self.daemon.as_ref().context("a daemon")?;
        self.expected.compare(self.host, daemon)?;
        self.gauges.read(daemon)
    }

    fn daemon(&self) -> Result<&Daemon<'world>> {
        self.daemon.as_ref().context("a daemon")
    }

    fn end_of_log(&self) -> String {
        let log = crate::daemon::Places::of(self.host).log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}
