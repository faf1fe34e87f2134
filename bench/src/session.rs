//! A run: rounds that go around the rigs, so that what disturbs the machine disturbs all alike.
//!
//! Law: a rig that fails a case drops out of that case alone, and the report says why.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cpu;
use crate::interrupt;
use crate::results::{Case, Program};
use crate::rig::Path;
use crate::traffic::Kind;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds of each case.
    pub(crate) rounds: u32,
    /// Length of a burst of traffic.
    pub(crate) burst: Duration,
    /// Frames of a burst within one flow.
    pub(crate) frames: u32,
    /// What is measured on every way.
    pub(crate) kinds: &'static [Kind],
    /// Ways that are measured over IPv6 too.
    pub(crate) ways_v6: &'static [Path],
    /// Sizes of rigs: published ports.
    pub(crate) ports: &'static [u16],
    /// Sizes of rigs: endpoints.
    pub(crate) endpoints: &'static [u16],
    /// Endpoints present when creation is clocked for the second time.
    pub(crate) present: u32,
    /// Containers that a starting daemon finds.
    pub(crate) found: u32,
    /// Times that an operation of the daemon is repeated.
    pub(crate) operations: u32,
    /// Times that Docker's engine does the same.
    pub(crate) engine_operations: u32,
    /// Rounds of name queries, whose bursts take a second each.
    pub(crate) name_rounds: u32,
}

impl Effort {
    /// For every day: less than five minutes, of which the traffic takes half.
    pub(crate) const QUICK: Self = Self {
        rounds: 4,
        burst: Duration::from_millis(100),
        frames: 20_000,
        kinds: &[Kind::TcpRr, Kind::TcpCrr, Kind::UdpRr, Kind::Bulk1],
        ways_v6: &[Path::OutsideToPublished, Path::ContainerToOutside],
        ports: &[1, 1_000, 10_000],
        endpoints: &[2, 100],
        present: 100,
        found: 40,
        operations: 10,
        engine_operations: 3,
        name_rounds: 4,
    };

    /// For the record: less than thirty minutes.
    pub(crate) const FULL: Self = Self {
        rounds: 9,
        burst: Duration::from_millis(250),
        frames: 50_000,
        kinds: &Kind::ALL,
        ways_v6: &Path::ALL,
        ports: &[1, 1_000, 10_000],
        endpoints: &[2, 100, 1_000],
        present: 1_000,
        found: 400,
        operations: 50,
        engine_operations: 5,
        name_rounds: 5,
    };
}

/// A run and what it has brought so far.
#[derive(Debug)]
pub(crate) struct Session {
    /// How much.
    pub(crate) effort: Effort,
    /// The CPU that measures.
    pub(crate) cpu: usize,
    /// What was measured.
    pub(crate) cases: Vec<Case>,
    /// The programs.
    pub(crate) programs: Vec<Program>,
    /// What failed.
    pub(crate) problems: Vec<String>,
    /// When it began.
    started: Instant,
}

impl Session {
    /// An empty one.
    pub(crate) fn new(effort: Effort) -> Result<Self> {
        let cpu = cpu::measuring()?;
        let (cases, programs, problems) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { effort, cpu, cases, programs, problems, started: Instant::now() })
    }

    /// Measures cases that one burst yields together: each subject in turn, round after round, and
    /// every round begins with another subject.
    pub(crate) fn interleave<S>(
        &mut self,
        rounds: u32,
        mut cases: Vec<Case>,
        mut subjects: Vec<(String, S)>,
        mut burst: impl FnMut(&mut S) -> Result<Vec<f64>>,
    ) -> Result<()> {
        for round in 0..rounds {
            let mut failed = Vec::new();
            for (name, subject) in &mut subjects {
                interrupt::check()?;
                match burst(subject) {
                    Ok(values) => record(&mut cases, name, round, &values),
                    Err(error) => failed.push((name.clone(), format!("{error:#}"))),
                }
                cpu::rest();
            }
            for (name, error) in failed {
                interrupt::check()?;
                self.problem(&cases, &name, &error);
                subjects.retain(|(other, _)| *other != name);
            }
            if !subjects.is_empty() {
                subjects.rotate_left(1);
            }
        }
        self.finish(cases);
        Ok(())
    }

    /// Takes measured cases and shows them.
    pub(crate) fn finish(&mut self, cases: Vec<Case>) {
        let elapsed_s = self.started.elapsed().as_secs();
        for case in &cases {
            announce(case, elapsed_s);
        }
        self.cases.extend(cases);
    }

    /// Notes that something of a rig could not be measured.
    pub(crate) fn problem(&mut self, cases: &[Case], rig: &str, error: &str) {
        let title = cases.first().map_or("", |case| case.title.as_str());
        let problem = format!("{rig}, {title}: {error}");
        eprintln!("  not measured: {problem}");
        self.problems.push(problem);
    }
}

fn record(cases: &mut [Case], rig: &str, round: u32, values: &[f64]) {
    for (case, value) in cases.iter_mut().zip(values) {
        case.rigs.entry(rig.to_owned()).or_default().insert(round, *value);
    }
}

/// Shows a case on the terminal as soon as it is measured, and how long the run has taken so far.
fn announce(case: &Case, elapsed_s: u64) {
    let scale = case.scale.map(|scale| format!(" at {scale}")).unwrap_or_default();
    eprintln!("[{elapsed_s} s] {}: {}{scale}, {}", case.group, case.title, case.unit);
    for rig in case.rigs.keys() {
        let Some(figure) = case.figure(rig) else { continue };
        eprintln!("  {rig:<10} {}", crate::report::line(case, rig, &figure));
    }
}
