//! The end of a run of tests that are a table, in the words of the standard runner: who adds up
//! totals, or looks for what failed, reads them all alike.

use std::process::ExitCode;

/// How a run went.
#[derive(Debug, Default)]
pub struct Summary {
    /// Tests that held.
    pub passed: usize,
    /// Names of those that did not.
    pub failed: Vec<String>,
    /// Tests that were not run, for a reason that was told.
    pub skipped: usize,
    /// Tests that nobody asked for.
    pub filtered: usize,
}

impl Summary {
    /// Prints it, and tells what the process ends with.
    pub fn end(&self) -> ExitCode {
        if !self.failed.is_empty() {
            println!("\nfailures:\n    {}", self.failed.join("\n    "));
        }
        let verdict = if self.failed.is_empty() { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out\n",
            self.passed,
            self.failed.len(),
            self.skipped,
            self.filtered
        );
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
