//! How long a container takes to start: netd beside the bridge driver, in turns.

use std::time::Instant;

use anyhow::Result;

use super::case::{Case, Driver, Rig};

const ROUNDS: usize = 11;

/// The medians and their ratio, in a line. Nothing is asserted: the machine has other work.
pub(super) fn compare(rig: &Rig<'_>) -> Result<String> {
    let cases = [Case::new(rig, Driver::Netd), Case::new(rig, Driver::Bridge)];
    cases[0].finish()?;
    for (case, name) in cases.iter().zip(["netd", "docker"]) {
        case.network(name, &[])?;
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for ((case, name), times) in cases.iter().zip(["netd", "docker"]).zip(&mut times) {
            let started = Instant::now();
            case.run("timed", name, &["-p", "8080:7000"])?;
            times.push(started.elapsed());
            case.ok(&["rm", "-f", "timed"])?;
        }
    }
    cases[0].finish()?;
    let [netd, bridge] = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64()
    });
    Ok(format!(
        "start of a container with a published port: netd {netd:.3} s, bridge {bridge:.3} s, ratio {:.2}",
        netd / bridge
    ))
}
