//! The programs of the kernel object: how many instructions the verifier walks and what a stranger's
//! packet costs in each.
//!
//! Law: `bench/programs.json` records the counts, so that a change shows in review; growth beyond a
//! tenth fails a test until the file is written anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::programs::{Program as Loaded, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use netd_user::dataplane::object::DATAPLANE_OBJECT;

use crate::cpu::{self, RealTime};
use crate::results::Program;
use crate::units::nanoseconds;

const RUNS: u32 = 100_000;

/// Instructions by program.
pub(crate) type Counts = BTreeMap<String, u32>;

/// Loads every program and measures those that can run on a packet.
pub(crate) fn measure(cpu: usize) -> Result<Vec<Program>> {
    let mut object = EbpfLoader::new().load(DATAPLANE_OBJECT).context("the kernel object")?;
    let names = load(&mut object)?;
    let mut programs = Vec::new();
    for (name, verified_instructions) in names {
        let program = object.program(&name).context("a program vanished")?;
        let run_ns = if let Loaded::SchedClassifier(program) = program {
            Some(run(program, cpu)?)
        } else {
            None
        };
        programs.push(Program { name, verified_instructions, run_ns });
    }
    Ok(programs)
}

/// Where counts are recorded.
pub(crate) fn record_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs.json")
}

/// Records the counts.
pub(crate) fn record(programs: &[Program]) -> Result<()> {
    let counts: Counts =
        programs.iter().map(|p| (p.name.clone(), p.verified_instructions)).collect();
    let text = serde_json::to_string_pretty(&counts)? + "\n";
    std::fs::write(record_path(), text).with_context(|| record_path().display().to_string())
}

/// The verifier's count of every program, loaded.
fn load(object: &mut Ebpf) -> Result<Counts> {
    let mut counts = Counts::new();
    for (name, program) in object.programs_mut() {
        load_one(program).with_context(|| format!("loading {name}"))?;
        let count = program.info()?.verified_instruction_count();
        counts.insert(name.to_owned(), count.context("the kernel counts no instructions")?);
    }
    Ok(counts)
}

fn load_one(program: &mut Loaded) -> Result<()> {
    if let Loaded::SchedClassifier(program) = program {
        return Ok(program.load()?);
    }
    if let Loaded::CgroupSockAddr(program) = program {
        return Ok(program.load()?);
    }
    if let Loaded::CgroupSock(program) = program {
        return Ok(program.load()?);
    }
    bail!("a kind of program that the bench does not know")
}

/// Nanoseconds for a packet that is not ours: what everyone pays for the program being there.
fn run(program: &SchedClassifier, cpu: usize) -> Result<f64> {
    let frame = crate::generator::sample();
    std::thread::scope(|scope| {
        crate::namespace::join(scope.spawn(|| {
            cpu::pin(cpu)?;
            let _burst = RealTime::enter()?;
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let options = TestRunOptions {
                    data_in: Some(&frame),
                    repeat: RUNS,
                    ..TestRunOptions::default()
                };
                best = best.min(nanoseconds(program.test_run(options)?.duration));
            }
            Ok(best)
        }))
    })
}

/// What grew by more than a tenth or is not recorded.
#[cfg(test)]
fn overgrown(counts: &Counts, recorded: &Counts) -> Vec<String> {
    let complaint = |(name, count): (&String, &u32)| match recorded.get(name) {
        None => Some(format!("{name} is not recorded")),
        Some(old) if u64::from(*count) * 10 > u64::from(*old) * 11 => {
            Some(format!("{name} grew from {old} to {count} instructions"))
        }
        Some(_) => None,
    };
    counts.iter().filter_map(complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u32)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn growth_by_more_than_a_tenth_and_unrecorded_programs_are_complained_of() {
        let recorded = counts(&[("a", 1_000), ("b", 1_000)]);
        let now = counts(&[("a", 1_100), ("b", 1_101), ("c", 1)]);
        let complaints = ["b grew from 1000 to 1101 instructions", "c is not recorded"];
        assert_eq!(overgrown(&now, &recorded), complaints);
    }

    #[test]
    fn no_program_outgrew_its_record() {
        assert!(nix::unistd::geteuid().is_root(), "this test loads BPF programs: run it as root");
        let mut object = EbpfLoader::new().load(DATAPLANE_OBJECT).expect("kernel object");
        let counts = load(&mut object).expect("programs");
        let text = std::fs::read_to_string(record_path()).expect("bench/programs.json");
        let recorded: Counts = serde_json::from_str(&text).expect("bench/programs.json");
        let complaints = overgrown(&counts, &recorded);
        assert!(
            complaints.is_empty(),
            "{complaints:?}: where that is meant, run `cargo xtask bench --part programs --record-programs`"
        );
    }
}
