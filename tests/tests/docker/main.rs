//! A real Docker engine on netd, scenario by scenario, and beside it the same assertions on Docker's
//! own bridge driver: two columns. Only netd's must hold; where the bridge's differs, it says how.
//!
//! Law: each scenario starts from an empty engine and must leave netd empty: what is left is its
//! failure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scenario that can't go on has failed"
)]

mod addresses;
mod case;
mod connection;
mod contract;
mod egress;
mod faults;
mod import;
mod life;
mod members;
mod modes;
mod names;
mod paths;
mod pools;
mod ports;
mod projects;
mod ranges;
mod restarts;
mod time;
mod traffic;
mod translation;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use case::{Case, Driver, Rig};
use netd_tests::Lab;
use netd_tests::summary::Summary;

/// What is claimed, and on which drivers.
struct Scenario {
    name: &'static str,
    drivers: &'static [Driver],
    run: fn(&Case<'_, '_>) -> Result<()>,
}

const BOTH: &[Driver] = &[Driver::Netd, Driver::Bridge];
const NETD: &[Driver] = &[Driver::Netd];

const fn both(name: &'static str, run: fn(&Case<'_, '_>) -> Result<()>) -> Scenario {
    Scenario { name, drivers: BOTH, run }
}

const fn netd(name: &'static str, run: fn(&Case<'_, '_>) -> Result<()>) -> Scenario {
    Scenario { name, drivers: NETD, run }
}

/// How a scenario went on one driver.
enum Verdict {
    Held,
    NotAsked,
    Failed(String),
}

impl Verdict {
    /// As a driver's column shows it.
    fn word(&self, driver: Driver) -> &'static str {
        match (self, driver) {
            (Self::Held, _) => "ok",
            (Self::NotAsked, _) => "-",
            (Self::Failed(_), Driver::Netd) => "FAILED",
            (Self::Failed(_), Driver::Bridge) => "differs",
        }
    }

    /// The later, the more it matters where several are one.
    const fn weight(&self) -> u8 {
        match self {
            Self::NotAsked => 0,
            Self::Held => 1,
            Self::Failed(_) => 2,
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let listed = scenarios();
    let asked = |it: &&Scenario| words.is_empty() || words.iter().any(|w| it.name.contains(w));
    let chosen: Vec<&Scenario> = listed.iter().filter(asked).collect();
    let filtered = listed.len() - chosen.len();
    if std::env::args().any(|word| word == "--list") || chosen.is_empty() {
        for scenario in &chosen {
            println!("{}: test", scenario.name);
        }
        return Summary { filtered, ..Summary::default() }.end();
    }
    println!("\nrunning {} tests", chosen.len());
    let lab = Lab::new().unwrap();
    let outside = lab.outside().unwrap();
    let host = lab.host(&outside).unwrap();
    let rig = Rig::start(&outside, &host).unwrap();
    println!("{}\n{:<8} {:<8} scenario", rig.engine().says().unwrap(), "netd", "bridge");
    let mut judged = Vec::new();
    for scenario in &chosen {
        let verdicts = [Driver::Netd, Driver::Bridge].map(|driver| judge(&rig, scenario, driver));
        show(scenario, &verdicts);
        judged.push((*scenario, verdicts));
    }
    let failed = judged.iter().filter(|(_, it)| matches!(it[0], Verdict::Failed(_)));
    let failed: Vec<_> = failed.map(|(scenario, _)| scenario.name.to_owned()).collect();
    let mut summary = Summary { passed: chosen.len() - failed.len(), failed, skipped: 0, filtered };
    if words.is_empty() {
        match compare_times(&rig) {
            Ok(table) => println!("{table}"),
            Err(error) => summary.failed.push(format!("start-up times: {error:#}")),
        }
        let untold = contract::untold(&listed);
        if untold.is_empty() {
            println!("\n{}", contract::table(&judged));
            summary.skipped = contract::skips(&listed);
        }
        let untold = untold.iter().map(|id| format!("{id}: neither run nor skipped with a reason"));
        summary.failed.extend(untold);
    }
    summary.end()
}

/// A call that a busy machine has held up is no result: it is worth a second try.
fn compare_times(rig: &Rig<'_>) -> Result<String> {
    time::compare(rig).or_else(|error| {
        println!("start-up times, measured again: {error:#}");
        time::compare(rig)
    })
}

fn scenarios() -> Vec<Scenario> {
    let listed: [&[Scenario]; 17] = [
        traffic::SCENARIOS,
        members::SCENARIOS,
        paths::SCENARIOS,
        egress::SCENARIOS,
        ports::SCENARIOS,
        ranges::SCENARIOS,
        modes::SCENARIOS,
        translation::SCENARIOS,
        addresses::SCENARIOS,
        pools::SCENARIOS,
        words::SCENARIOS,
        names::SCENARIOS,
        life::SCENARIOS,
        restarts::SCENARIOS,
        faults::SCENARIOS,
        projects::SCENARIOS,
        import::SCENARIOS,
    ];
    listed.into_iter().flatten().map(|it| Scenario { ..*it }).collect()
}

fn judge(rig: &Rig<'_>, scenario: &Scenario, driver: Driver) -> Verdict {
    if !scenario.drivers.contains(&driver) {
        return Verdict::NotAsked;
    }
    let case = Case::new(rig, driver);
    let run = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&case)));
    let outcome = run.unwrap_or_else(|_| Err(anyhow!("it panicked: see above")));
    match outcome.and(case.finish()) {
        Ok(()) => Verdict::Held,
        Err(error) => {
            // The next one starts from nothing, whatever this one left.
            let _first_failure_counts = case.finish();
            Verdict::Failed(format!("{error:#}"))
        }
    }
}

fn show(scenario: &Scenario, verdicts: &[Verdict; 2]) {
    let [netd, bridge] = [0, 1].map(|column| verdicts[column].word(BOTH[column]));
    println!("{netd:<8} {bridge:<8} {}", scenario.name);
    for (column, verdict) in ["netd", "bridge"].iter().zip(verdicts) {
        if let Verdict::Failed(why) = verdict {
            let short: String = why.chars().take(2500).collect();
            println!("  {column}: {}", short.replace('\n', "\n  "));
        }
    }
}
