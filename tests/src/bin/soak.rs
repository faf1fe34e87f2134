//! Churns one host for as long as asked and prints what it came to: `cargo xtask soak`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use netd_tests::Lab;
use netd_tests::guard::guarded;
use netd_tests::soak::{self, Plan};

const USAGE: &str = "usage: soak [--minutes N] [--seed N]";

fn main() -> Result<ExitCode> {
    let plan = plan(std::env::args().skip(1))?;
    guarded(|| churn(plan))
}

fn plan(mut words: impl Iterator<Item = String>) -> Result<Plan> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut plan = Plan { lasts: Duration::from_mins(3), seed: since_epoch.as_secs() };
    while let Some(word) = words.next() {
        let number: u64 = words.next().and_then(|text| text.parse().ok()).context(USAGE)?;
        match word.as_str() {
            "--minutes" => plan.lasts = Duration::from_mins(number),
            "--seed" => plan.seed = number,
            _ => bail!("{word}: {USAGE}"),
        }
    }
    Ok(plan)
}

fn churn(plan: Plan) -> Result<()> {
    println!("seed {}, {} minutes", plan.seed, plan.lasts.as_secs() / 60);
    let lab = Lab::alone()?;
    let outside = lab.outside()?;
    let host = lab.host(&outside)?;
    let report = soak::run(&host, &outside, plan)?;
    println!(
        "{} operations, {} of them refused as they must be; {} probes, {} answered at the second try; \
         {} restarts, {} processes killed, {} comparisons",
        report.steps,
        report.refused,
        report.probes,
        report.second_tries,
        report.restarts,
        report.killed,
        report.comparisons
    );
    print!("{}", report.table);
    Ok(())
}
