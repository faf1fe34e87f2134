//! How many tests passed, failed and were skipped, summed from the test runners' own words.

use std::fmt;

/// The counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// Tests that held.
    pub(super) passed: usize,
    /// Tests that did not, and runs that broke off.
    pub(super) failed: usize,
    /// Tests marked as ignored.
    pub(super) skipped: usize,
    /// Whether a runner has begun and not summed up yet.
    pub(super) is_running: bool,
}

impl Tally {
    /// Adds another run's counts.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Counts a line if it is where a runner begins, `running 4 tests`, or its summary:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
    pub(super) fn count_line(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.count_end();
            self.is_running = true;
        }
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.is_running = false;
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.skipped += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// No runner says more: one that has not summed up broke off, whatever others say.
    pub(super) fn count_end(&mut self) {
        self.failed += usize::from(std::mem::take(&mut self.is_running));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn summaries_of_several_runners_add_up() {
        let mut tally = Tally::default();
        tally.count_line("running 4 tests");
        tally.count_line("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.0s");
        tally.count_line("test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0s");
        tally.count_end();
        assert_eq!(tally.to_string(), "5 passed, 5 failed, 1 skipped");
    }

    #[test]
    fn a_runner_that_broke_off_has_failed() {
        let mut tally = Tally::default();
        tally.count_line("running 4 tests");
        tally.count_line("running 1 test");
        tally.count_line("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0s");
        tally.count_line("running 2 tests");
        tally.count_end();
        assert_eq!(tally.to_string(), "1 passed, 2 failed, 0 skipped");
    }
}
