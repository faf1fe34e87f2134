//! Restarts the daemon under full traffic and tells what was lost: `cargo xtask restarts`. Options:
//! `--times N` (20 by SIGTERM and 20 by kill -9), `--rate N` (50 000 datagrams a second),
//! `--connections N` (200). Its exit status is 0 only if nothing was lost.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use netd_tests::Lab;
use netd_tests::guard::guarded;
use netd_tests::load::Volume;
use netd_tests::restarts::{self, Trial};

fn main() -> Result<ExitCode> {
    guarded(|| {
        let trial = trial(std::env::args().skip(1))?;
        let lab = Lab::alone()?;
        let outside = lab.outside()?;
        let host = lab.host(&outside)?;
        println!("{trial:?}");
        let report = restarts::run(&host, &outside, &trial)?;
        let lost: usize = report.lost.iter().map(|(_, numbers)| numbers.len()).sum();
        println!(
            "{} restarts in {:.0} s: {} datagrams ({} a second), {lost} lost; {} requests on {} \
             connections, {} failed; {} datagrams answered",
            2 * trial.times,
            report.lasted.as_secs_f64(),
            report.sent,
            per_second(report.sent, report.lasted),
            report.answered,
            report.connections,
            report.failures.len(),
            report.echoes,
        );
        report.check()
    })
}

fn per_second(count: u64, time: Duration) -> u128 {
    u128::from(count) * 1_000 / time.as_millis().max(1)
}

fn trial(arguments: impl Iterator<Item = String>) -> Result<Trial> {
    let pause = Duration::from_millis(20);
    let volume = Volume { packets_per_s: 50_000, connections: 200, pause };
    let mut trial = Trial { times: 20, volume, between: 500 };
    let arguments: Vec<String> = arguments.collect();
    for pair in arguments.chunks(2) {
        let value = pair.get(1).with_context(|| format!("{} needs a number", pair[0]))?;
        match pair[0].as_str() {
            "--times" => trial.times = value.parse()?,
            "--rate" => trial.volume.packets_per_s = value.parse()?,
            "--connections" => trial.volume.connections = value.parse()?,
            other => bail!("{other}: the options are --times, --rate and --connections"),
        }
    }
    Ok(trial)
}
