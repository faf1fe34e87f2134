//! What the daemon uses, watched over a run: it must not grow with the number of operations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::Daemon;

/// The values of one gauge in order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<u64>);

/// All gauges.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    series: BTreeMap<String, Series>,
    end: BTreeMap<String, u64>,
}

impl Series {
    /// The median of a share of the run, where a daemon restarts now and then and begins small.
    fn median(&self, part: usize, parts: usize) -> u64 {
        let len = self.0.len();
        let mut values = self.0[len * part / parts..len * (part + 1) / parts].to_vec();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    }
}

impl Gauges {
    /// Reads all of them.
    pub(super) fn read(&mut self, daemon: &Daemon<'_>) -> Result<()> {
        for (name, value) in values(daemon)? {
            self.series.entry(name).or_default().0.push(value);
        }
        Ok(())
    }

    /// Reads them after everything has been removed.
    pub(super) fn read_end(&mut self, daemon: &Daemon<'_>) -> Result<()> {
        self.end = values(daemon)?;
        Ok(())
    }

    /// One line for each: quarters of the run, the most, and the end with nothing left.
    pub(super) fn table(&self) -> String {
        let mut table = format!(
            "{:<24}{:>10}{:>10}{:>10}{:>10}{:>10}{:>12}\n",
            "median of each quarter", "1st", "2nd", "3rd", "4th", "most", "all removed"
        );
        for (name, series) in &self.series {
            let [a, b, c, d] = [0, 1, 2, 3].map(|part| series.median(part, 4));
            let most = series.0.iter().max().copied().unwrap_or(0);
            let end = self.end.get(name).copied().unwrap_or(0);
            let _ = writeln!(table, "{name:<24}{a:>10}{b:>10}{c:>10}{d:>10}{most:>10}{end:>12}");
        }
        table
    }
}

fn values(daemon: &Daemon<'_>) -> Result<BTreeMap<String, u64>> {
    let pid = daemon.pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    let threads = threads.and_then(|text| text.trim().parse().ok());
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    let mut values = BTreeMap::from([
        ("resident KiB".to_owned(), memory.context("no VmRSS")?),
        ("threads".to_owned(), threads.context("no Threads")?),
        ("file descriptors".to_owned(), descriptors),
    ]);
    let said: Value = serde_json::from_str(&daemon.cli(&["status", "--format", "json"])?.stdout)?;
    for map in said["Maps"].as_array().into_iter().flatten() {
        if let (Some(name), Some(entries)) = (map["Name"].as_str(), map["Entries"].as_u64()) {
            values.insert(format!("map {name}"), entries);
        }
    }
    Ok(values)
}
