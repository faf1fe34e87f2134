//! dnsperf in a namespace, and what it says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;
use crate::units::{index, real_len};

/// Where every name service answers.
const SERVER: &str = "127.0.0.11";
/// Queries on the way at full speed.
const OUTSTANDING: &str = "100";

/// Somebody inside a container.
#[derive(Debug)]
pub(super) struct Client {
    /// The container's namespace.
    pub(super) inside: Namespace,
    /// The cgroup whose processes reach netd; none elsewhere.
    pub(super) cgroup: Option<PathBuf>,
}

/// How it asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// One after the other answered, for so long.
    AtFullSpeed(Duration),
    /// Evenly, and each answer is timed.
    Gentle {
        /// In a second.
        per_second: u32,
        /// In all.
        count: u32,
    },
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Taken {
    /// Answers a second.
    pub(super) rate: f64,
    /// Answers.
    pub(super) completed: u64,
    latencies_s: Vec<f64>,
}

impl Client {
    /// Asks for the names in a file, over and over.
    pub(super) fn ask(&self, names: &Path, pace: Pace) -> Result<Taken> {
        // A process that moves itself takes all its threads along.
        let mut command = self.inside.command("sh");
        let into = self.cgroup.as_ref().map(|it| it.join("cgroup.threads").display().to_string());
        command.args(["-c", "[ -z \"$0\" ] || echo $$ > \"$0\"; exec dnsperf \"$@\""]);
        command.arg(into.unwrap_or_default());
        command.args(["-s", SERVER, "-c", "4", "-T", "1", "-d"]).arg(names);
        match pace {
            Pace::AtFullSpeed(time) => {
                command.args(["-q", OUTSTANDING, "-l", &time.as_secs().to_string()]);
            }
            Pace::Gentle { per_second, count } => {
                let time = count.div_ceil(per_second).to_string();
                command.args(["-v", "-Q", &per_second.to_string(), "-l", &time]);
            }
        }
        let output = command.output().context("running dnsperf: install dnsperf")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "dnsperf: {complaint}{said}");
        Taken::of(&said).with_context(|| format!("dnsperf said: {complaint}{said}"))
    }
}

impl Taken {
    /// Reads it; a query that was lost or not resolved spoils the burst.
    fn of(said: &str) -> Result<Self> {
        let number = |key: &str| {
            let line = said.lines().find_map(|line| line.trim().strip_prefix(key));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.with_context(|| format!("no `{key}`"))
        };
        let sent: u64 = number("Queries sent:")?.parse()?;
        let completed: u64 = number("Queries completed:")?.parse()?;
        ensure!(completed > 0 && completed == sent, "{completed} of {sent} were answered");
        ensure!(said.contains("NOERROR") && said.contains("(100.00%)"), "not all were resolved");
        let codes = said.lines().find(|line| line.contains("Response codes:")).unwrap_or_default();
        ensure!(codes.contains("NOERROR") && !codes.contains(','), "{codes}");
        let answers = said.lines().filter_map(|line| line.strip_prefix("> "));
        let mut latencies_s: Vec<f64> =
            answers.filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect();
        latencies_s.sort_by(f64::total_cmp);
        Ok(Self { rate: number("Queries per second:")?.parse()?, completed, latencies_s })
    }

    /// The time within which this part of the answers came, microseconds.
    pub(super) fn latency_us(&self, part: f64) -> Result<f64> {
        let last = self.latencies_s.len().checked_sub(1).context("no answer was timed")?;
        Ok(self.latencies_s[index((real_len(last) * part).round())] * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "> NOERROR a.example A 0.000200\n> NOERROR a.example A 0.000100\n\
        Statistics:\n\n  Queries sent:         2\n  Queries completed:    2 (100.00%)\n\
        Queries lost:         0 (0.00%)\n\n  Response codes:       NOERROR 2 (100.00%)\n\
        Queries per second:   1999.5\n";

    #[test]
    fn rate_and_latencies_are_read() {
        let taken = Taken::of(SAID).unwrap();
        assert_eq!((taken.completed, format!("{:.0}", taken.rate)), (2, "2000".to_owned()));
        let times = [0.0, 1.0].map(|part| format!("{:.0}", taken.latency_us(part).unwrap()));
        assert_eq!(times, ["100", "200"]);
    }

    #[test]
    fn a_burst_with_a_lost_or_unresolved_name_counts_for_nothing() {
        let lost = SAID.replace("completed:    2", "completed:    1");
        let failed = SAID.replace("NOERROR 2 (100.00%)", "NOERROR 1 (50.00%), SERVFAIL 1 (50.00%)");
        assert!(Taken::of(&lost).is_err() && Taken::of(&failed).is_err());
    }
}
