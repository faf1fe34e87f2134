//! What the daemon uses, watched over a run: it must not grow with the number of operations.
//!
//! Law: compared is what an emptied host takes at the end of each quarter of the run, so that nothing but
//! what was left behind can make a difference. The first quarter is the warm-up; from the second on one
//! daemon lives.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::Daemon;

/// Readings by name.
type Readings = BTreeMap<String, u64>;

/// All gauges.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// Of the quarter that runs.
    running: BTreeMap<String, Vec<u64>>,
    quarters: Vec<Quarter>,
}

/// What a quarter of the run came to.
#[derive(Debug)]
struct Quarter {
    /// Medians over the churn.
    busy: Readings,
    /// After everything was removed.
    empty: Readings,
}

impl Gauges {
    /// Reads all of them.
    pub(super) fn read(&mut self, daemon: &Daemon<'_>) -> Result<()> {
        for (name, value) in values(daemon)? {
            self.running.entry(name).or_default().push(value);
        }
        Ok(())
    }

    /// Reads them of an emptied host, which ends a quarter.
    pub(super) fn end_quarter(&mut self, daemon: &Daemon<'_>) -> Result<()> {
        let running = std::mem::take(&mut self.running);
        let busy = running.into_iter().map(|(name, values)| (name, median(values))).collect();
        self.quarters.push(Quarter { busy, empty: values(daemon)? });
        Ok(())
    }

    /// What later quarters leave behind more than the second did, a phrase each.
    pub(super) fn grown(&self) -> Vec<String> {
        let [_, second, later @ ..] = self.quarters.as_slice() else { return Vec::new() };
        let mut grown = Vec::new();
        for (number, quarter) in (3..).zip(later) {
            for (name, value) in &quarter.empty {
                let base = second.empty.get(name).copied().unwrap_or(0);
                let most = bound(name, base);
                if *value > most {
                    grown.push(format!(
                        "{name} is {value} after quarter {number}, {base} after the second ({most} are allowed)"
                    ));
                }
            }
        }
        grown
    }

    /// One line for each: the churn of each quarter, and what was there after it with nothing left.
    pub(super) fn table(&self) -> String {
        let mut table =
            format!("{:<24}{:>40}    {:>40}\n", "by quarter", "busy (median)", "emptied");
        let names = self.quarters.first().map(|first| first.empty.keys()).into_iter().flatten();
        for name in names {
            let row = |of: fn(&Quarter) -> &Readings| {
                let values = self.quarters.iter().map(|it| of(it).get(name).copied().unwrap_or(0));
                values.fold(String::new(), |row, value| row + &format!("{value:>10}"))
            };
            let (busy, empty) = (row(|it| &it.busy), row(|it| &it.empty));
            let _ = writeln!(table, "{name:<24}{busy:>40}    {empty:>40}");
        }
        table
    }
}

/// The most that a gauge may come to where it was `base` before.
fn bound(name: &str, base: u64) -> u64 {
    match name {
        // An allocator keeps pages, and some caches fill late; a leak of a hundred bytes for each of
        // ten thousand operations is a megabyte.
        "resident KiB" => base + base / 8 + 2_048,
        // The write-ahead log and free pages of the store.
        "store KiB" => base + base / 2 + 4_096,
        // A request that is just ending; threads of a pool that end some seconds after their work.
        "file descriptors" => base + 8,
        "threads" => base + 12,
        "pins" => base,
        // Flows and traces of datagrams outlive containers by their time-outs.
        _ if name.starts_with("map flows") || name.starts_with("map fragment") => 2 * base + 512,
        _ => base + 8,
    }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn values(daemon: &Daemon<'_>) -> Result<Readings> {
    let pid = daemon.pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|text| text.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("no {key} in a process's status"))
    };
    let mut values = BTreeMap::from([
        ("resident KiB".to_owned(), number("VmRSS:")?),
        ("threads".to_owned(), number("Threads:")?),
        ("file descriptors".to_owned(), fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64),
        ("pins".to_owned(), files(daemon.places().bpffs())?.0),
        ("store KiB".to_owned(), files(&daemon.host().directory().join("state"))?.1 / 1024),
    ]);
    let said: Value = serde_json::from_str(&daemon.cli(&["status", "--format", "json"])?.stdout)?;
    for map in said["Maps"].as_array().into_iter().flatten() {
        if let (Some(name), Some(entries)) = (map["Name"].as_str(), map["Entries"].as_u64()) {
            values.insert(format!("map {name}"), entries);
        }
    }
    Ok(values)
}

/// How many there are below a directory, and their bytes.
fn files(directory: &Path) -> Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let (further, in_them) = files(&entry.path())?;
            (count, bytes) = (count + further, bytes + in_them);
        } else {
            count += 1;
            // A log of the store may have gone meanwhile.
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok((count, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauges(name: &str, empty: [u64; 4]) -> Gauges {
        let quarter = |value| Quarter {
            busy: Readings::new(),
            empty: Readings::from([(name.to_owned(), value)]),
        };
        Gauges { running: BTreeMap::new(), quarters: empty.map(quarter).into() }
    }

    #[test]
    fn what_stays_or_shrinks_has_not_grown() {
        assert!(gauges("pins", [90, 40, 40, 40]).grown().is_empty());
        assert!(gauges("resident KiB", [40_000, 60_000, 61_000, 59_000]).grown().is_empty());
    }

    #[test]
    fn one_pin_more_and_ten_descriptors_more_have_grown() {
        assert_eq!(gauges("pins", [40, 40, 41, 41]).grown().len(), 2);
        let told = gauges("file descriptors", [50, 50, 55, 60]).grown();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("60 after quarter 4"), "{told:?}");
    }

    #[test]
    fn a_table_that_fills_with_every_operation_has_grown() {
        assert_eq!(gauges("map drops", [100, 200, 300, 400]).grown().len(), 2);
    }
}
