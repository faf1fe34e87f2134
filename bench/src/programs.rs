//! The programs of the kernel object: how many instructions the verifier walks and what a stranger's
//! packet costs in each.
//!
//! Law: the counts are bounded elsewhere, by the test `verifier` and its record.

use std::collections::BTreeMap;

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
