//! Churn: random operations on one host for as long as asked, with every answer, the daemon's view and real
//! traffic compared with a model of what should be; the daemon's memory, descriptors and map fill watched.
//!
//! Laws: what happens follows from the seed alone; the first thing that is not as the model says ends the
//! run and names the seed and the step. The daemon restarts in the first quarter and lives through the
//! others; after each the host is emptied, and what an empty host takes must not grow from the second
//! quarter on.

mod act;
mod dice;
mod expect;
mod gauge;
mod guest;
mod kernel;
mod probe;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Container, Daemon, Host, Outside, eventually};
use act::Act;
use dice::Dice;
use expect::Expected;
use gauge::Gauges;
use guest::Engine;
use probe::{Daemons, World};

/// How long, and by which dice.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long operations are made.
    pub lasts: Duration,
    /// What the dice start from.
    pub seed: u64,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Operations made.
    pub steps: u64,
    /// Operations that the daemon refused, as the model said it would.
    pub refused: u64,
    /// Requests over real sockets, those that must fail included.
    pub probes: u64,
    /// Of them those that were answered at the second try.
    pub second_tries: u64,
    /// Restarts of the daemon, by request and by force.
    pub restarts: u64,
    /// Processes of `netd run` that were killed.
    pub killed: u64,
    /// Comparisons of all that there is with the model.
    pub comparisons: u64,
    /// The table of what was used, from the beginning to the end.
    pub table: String,
}

/// Operations between two full comparisons.
const STEPS_BETWEEN_COMPARISONS: u64 = 10;
/// Parts of a run; the daemon restarts in the first only.
const QUARTERS: u32 = 4;
/// Operations after the last quarter, among them restarts again: of a daemon that has lived long.
const STEPS_AT_LAST: u64 = 60;
/// A datagram may be lost where the machine is busy, but not many of them.
const SECOND_TRIES_ONE_IN: u64 = 200;
/// What a daemon does by itself, on a loaded machine.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// Runs on a host of its own.
pub fn run(host: &Host, outside: &Outside, plan: Plan) -> Result<Report> {
    let daemon = Daemon::start(host, "")?;
    let engine = Engine::begin(host, daemon.places().plugin_socket())?;
    let mut soak = Soak {
        host,
        world: World::serve(host, outside)?,
        daemon: Some(daemon),
        expected: Expected::new(guest::network()),
        engine,
        dice: Dice::new(plan.seed),
        report: Report::default(),
        gauges: Gauges::default(),
    };
    let churned = soak.churn(plan.lasts);
    soak.report.table = soak.gauges.table();
    churned.with_context(|| {
        let (step, table, log) = (soak.report.steps, &soak.report.table, soak.end_of_log());
        format!("seed {}, step {step}\n{table}the daemon's log ends:\n{log}", plan.seed)
    })?;
    Ok(soak.report)
}

/// One run.
struct Soak<'world> {
    host: &'world Host,
    world: World<'world>,
    /// None only while it is replaced.
    daemon: Option<Daemon<'world>>,
    engine: Engine<'world>,
    expected: Expected,
    dice: Dice,
    report: Report,
    gauges: Gauges,
}

impl<'world> Soak<'world> {
    fn churn(&mut self, lasts: Duration) -> Result<()> {
        let begun = Instant::now();
        self.compare()?;
        for quarter in 1..=QUARTERS {
            self.dice.restarts = quarter == 1;
            let end = begun + lasts * quarter / QUARTERS;
            self.go_on(|_| Instant::now() < end)?;
            if quarter == 1 {
                // What the later quarters are compared with lives through all of them.
                self.restart(true, None)?;
            }
            self.empty()?;
            self.gauges.end_quarter(self.daemon.as_ref().context("a daemon")?)?;
        }
        self.dice.restarts = true;
        let last = self.report.steps + STEPS_AT_LAST;
        self.go_on(|report| report.steps < last)?;
        self.empty()?;
        self.engine.end()?;
        self.expected.engine_ends();
        self.compare()?;
        self.judge()
    }

    fn go_on(&mut self, goes_on: impl Fn(&Report) -> bool) -> Result<()> {
        while goes_on(&self.report) {
            let act = self.dice.act(&self.expected);
            self.report.steps += 1;
            self.carry_out(&act).with_context(|| format!("{act:?}"))?;
            if self.report.steps.is_multiple_of(STEPS_BETWEEN_COMPARISONS) {
                self.compare()?;
                self.gauges.read(self.daemon.as_ref().context("a daemon")?)?;
            }
        }
        self.compare()
    }

    /// Takes everything away but the engine's network.
    fn empty(&mut self) -> Result<()> {
        for act in self.expected.removals() {
            self.carry_out(&act).with_context(|| format!("{act:?}"))?;
        }
        self.compare()
    }

    fn judge(&self) -> Result<()> {
        let Report { probes, second_tries, .. } = self.report;
        ensure!(
            second_tries <= probes / SECOND_TRIES_ONE_IN + 3,
            "{second_tries} of {probes} requests were answered at the second try only"
        );
        let grown = self.gauges.grown();
        ensure!(grown.is_empty(), "an empty host takes more and more: {}", grown.join("; "));
        Ok(())
    }

    fn carry_out(&mut self, act: &Act) -> Result<()> {
        match act {
            Act::Restart { crash, killing } => self.restart(*crash, killing.as_deref()),
            Act::Ask => self.ask(Daemons::One),
            Act::Kill { sandbox } => self.kill(sandbox),
            Act::Enter { .. } | Act::Leave { .. } | Act::Publish { .. } | Act::Revoke { .. } => {
                let granted = self.engine.carry_out(act)?;
                self.granted(act, granted)
            }
            Act::MakeNetwork { .. }
            | Act::RemoveNetwork { .. }
            | Act::Create { .. }
            | Act::Run { .. }
            | Act::Remove { .. }
            | Act::Connect { .. }
            | Act::Disconnect { .. } => {
                let said = self.daemon()?.cli(&act.words()?)?;
                let granted = said.code == Some(0);
                self.granted(act, granted).with_context(|| format!("{said:?}"))
            }
        }
    }

    /// The daemon grants what the model grants, and refuses what it refuses.
    fn granted(&mut self, act: &Act, granted: bool) -> Result<()> {
        match (self.expected.grants(act), granted) {
            (true, true) => {}
            (false, false) => {
                self.report.refused += 1;
                return Ok(());
            }
            (true, false) => bail!("the model grants what was refused"),
            (false, true) => bail!("the model refuses what was granted"),
        }
        self.expected.apply(act);
        self.expected.learn(self.daemon.as_ref().context("a daemon")?, act)
    }

    /// A container of `netd run` goes with its process, without anybody's word.
    fn kill(&mut self, sandbox: &str) -> Result<()> {
        end_process(self.daemon()?, sandbox)?;
        self.report.killed += 1;
        self.expected.forget(sandbox);
        self.departs(sandbox)
    }

    fn departs(&self, sandbox: &str) -> Result<()> {
        let daemon = self.daemon()?;
        eventually(&format!("the end of {sandbox}"), SETTLES_WITHIN, || {
            let names = daemon.ok(&["ps", "--format", "{{.Names}}"])?;
            Ok((!names.lines().any(|name| name == sandbox)).then_some(()))
        })
    }

    fn restart(&mut self, crash: bool, killing: Option<&str>) -> Result<()> {
        let pid = killing.map(|sandbox| process_of(self.daemon()?, sandbox)).transpose()?;
        let old = self.daemon.take().context("a daemon")?;
        if crash { old.crash() } else { old.stop() }?;
        self.report.restarts += 1;
        // What a container serves does not depend on the daemon: it is asked while none runs.
        self.ask(Daemons::None)?;
        if let Some(pid) = pid {
            kill(pid, Signal::SIGKILL)?;
        }
        self.daemon = Some(Daemon::start(self.host, "")?);
        if let Some(sandbox) = killing {
            self.report.killed += 1;
            self.expected.forget(sandbox);
            self.departs(sandbox)?;
        }
        self.ask(Daemons::One)
    }

    /// A few requests: neighbours reach each other, strangers don't, published ports answer, the world
    /// does and sees the host, names are known to those who share a network.
    fn ask(&mut self, daemons: Daemons) -> Result<()> {
        for probe in self.dice.probes(&self.expected, self.host, daemons) {
            self.report.probes += 1;
            let tries = probe.check(&self.world)?;
            self.report.second_tries += tries - 1;
        }
        Ok(())
    }

    /// Objects, links, namespaces and maps are those of the model, and nothing is reported as wrong.
    fn compare(&mut self) -> Result<()> {
        self.report.comparisons += 1;
        let daemon = self.daemon()?;
        self.expected.compare_objects(daemon)?;
        let mut told = String::new();
        let settled = eventually("the host to hold what the model says", SETTLES_WITHIN, || {
            let compared = kernel::compare(&self.expected, self.host, daemon);
            told = compared.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
            Ok(compared.ok())
        });
        settled.with_context(|| told)
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

fn process_of(daemon: &Daemon<'_>, sandbox: &str) -> Result<Pid> {
    let pid = Container::find(daemon, sandbox)?.described()["Pid"].as_i64();
    let pid = pid.filter(|pid| *pid > 1).context("a container of `run` shows no process")?;
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

fn end_process(daemon: &Daemon<'_>, sandbox: &str) -> Result<()> {
    Ok(kill(process_of(daemon, sandbox)?, Signal::SIGKILL)?)
}
