//! Nothing stays behind: what the kernel holds after the run is what it held before.
//!
//! The census itself is a program of the tests' package, which can ask the kernel for its programs
//! and maps; here its answers are compared.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::tally::Tally;
use crate::run;

/// The kernel frees programs and maps some time after the last reference is gone.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// One line for each thing that a test could leave: its kind and its name.
pub(super) struct Census(BTreeSet<String>);

impl Census {
    /// Removes what an earlier run that was killed has left, then counts.
    pub(super) fn after_sweep() -> Result<Self> {
        Self::take(&["--sweep"])
    }

    /// Counts again and compares: one test passed or failed.
    pub(super) fn compare(&self) -> Result<Tally> {
        let deadline = Instant::now() + SETTLES_WITHIN;
        let mut differences = self.differences(&Self::take(&[])?);
        while !differences.is_empty() && Instant::now() < deadline {
            differences = self.differences(&Self::take(&[])?);
        }
        if differences.is_empty() {
            println!("nothing left behind: {} things before and after", self.0.len());
            return Ok(Tally { passed: 1, ..Tally::default() });
        }
        println!("the run left the machine changed:\n{}", differences.join("\n"));
        Ok(Tally { failed: 1, ..Tally::default() })
    }

    fn take(options: &[&str]) -> Result<Self> {
        let mut command =
            run::cargo(&["run", "--quiet", "--package", "netd-tests", "--bin", "census", "--"]);
        let output = command.args(options).output().context("can't start the census")?;
        ensure!(
            output.status.success(),
            "the census failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let lines = String::from_utf8_lossy(&output.stdout);
        Ok(Self(lines.lines().map(str::to_owned).collect()))
    }

    fn differences(&self, after: &Self) -> Vec<String> {
        let left = after.0.difference(&self.0).map(|item| format!("  left behind: {item}"));
        let gone = self.0.difference(&after.0).map(|item| format!("  gone: {item}"));
        left.chain(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Census;

    fn census(items: &[&str]) -> Census {
        Census(items.iter().map(|item| (*item).to_owned()).collect())
    }

    #[test]
    fn what_came_and_what_went_are_both_named() {
        let before = census(&["link lo", "link eth0"]);
        assert!(before.differences(&census(&["link eth0", "link lo"])).is_empty());
        let changed = before.differences(&census(&["link lo", "map flows 7"]));
        assert_eq!(changed, ["  left behind: map flows 7", "  gone: link eth0"]);
    }
}
