//! What the demo prints: numbered steps, what was tried, what was expected and seen, and the count of
//! steps that held.

use std::time::Instant;

use anyhow::Result;

use super::text::{cell, wrap};

/// No line is longer, but for those of a table whose words are.
const WIDTH: usize = 92;
const INDENT: &str = "     ";
/// Between two columns.
const GAP: usize = 2;

/// The steps so far.
pub(super) struct Report {
    begun: Instant,
    held: Vec<bool>,
    is_holding: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self { begun: Instant::now(), held: Vec::new(), is_holding: true }
    }
}

impl Report {
    /// Prints a step's heading.
    pub(super) fn begin(&mut self, title: &str) {
        self.is_holding = true;
        let number = self.held.len() + 1;
        println!("\n{number:>2}. {title}\n    {}", "-".repeat(title.len()));
    }

    /// Ends a step; one that could not be played did not hold.
    pub(super) fn end(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.claim("the step can be played", &format!("{error:#}"), false);
        }
        self.held.push(self.is_holding);
    }

    /// Prints how many steps held; the answer is how many did not.
    pub(super) fn close(&self) -> usize {
        let failed: Vec<String> =
            (1..).zip(&self.held).filter(|(_, held)| !**held).map(|(n, _)| n.to_string()).collect();
        let (all, seconds) = (self.held.len(), self.begun.elapsed().as_secs());
        println!("\n{} of {all} steps held, in {seconds} s", all - failed.len());
        if !failed.is_empty() {
            println!("not held: {}", failed.join(", "));
        }
        failed.len()
    }

    /// Says something in words.
    #[allow(clippy::unused_self, reason = "who holds the report may print, and nobody else")]
    pub(super) fn say(&mut self, sentence: &str) {
        print!("\n{}", wrap(sentence, INDENT, INDENT, WIDTH));
    }

    /// Prints a command line as one types it at `prompt`.
    #[allow(clippy::unused_self, reason = "who holds the report may print, and nobody else")]
    pub(super) fn tried(&mut self, prompt: &str, line: &str) {
        let first = format!("{INDENT}{prompt}$ ");
        print!("{}", wrap(line, &first, &format!("{INDENT}    "), WIDTH));
    }

    /// Prints what a command said.
    #[allow(clippy::unused_self, reason = "who holds the report may print, and nobody else")]
    pub(super) fn said(&mut self, text: &str) {
        for line in text.lines() {
            print!("{}", wrap(line, &format!("{INDENT}  "), &format!("{INDENT}      "), WIDTH));
        }
    }

    /// Compares one thing.
    pub(super) fn claim(&mut self, expected: &str, seen: &str, held: bool) {
        let rest = format!("{INDENT}          ");
        print!("{}", wrap(expected, &format!("{INDENT}expected  "), &rest, WIDTH));
        let seen = wrap(seen, &format!("{INDENT}seen      "), &rest, WIDTH);
        println!("{}", cell(seen.trim_end(), WIDTH) + self.verdict(held));
    }

    /// Prints a table's titles.
    pub(super) fn columns(&mut self, widths: [usize; 3]) {
        let titles = ["tried", "expected", "seen"];
        self.line(titles, widths, "");
    }

    /// Compares one thing in a row.
    pub(super) fn row(&mut self, cells: [&str; 3], widths: [usize; 3], held: bool) {
        let verdict = self.verdict(held);
        self.line(cells, widths, verdict);
    }

    #[allow(clippy::unused_self, reason = "who holds the report may print, and nobody else")]
    fn line(&mut self, cells: [&str; 3], [tried, expected, seen]: [usize; 3], verdict: &str) {
        // The verdicts of tables stand below those of single claims.
        let others = INDENT.len() + tried + expected + 3 * GAP;
        let widths = [tried, expected, seen.max(WIDTH.saturating_sub(others))];
        let cells = cells.iter().zip(widths).map(|(text, width)| cell(text, width));
        let cells: Vec<String> = cells.collect();
        let gap = " ".repeat(GAP);
        let line = format!("{INDENT}{gap}{}{verdict}", cells.join(&gap));
        println!("{}", line.trim_end());
    }

    fn verdict(&mut self, held: bool) -> &'static str {
        self.is_holding &= held;
        if held { "  held" } else { "  NOT HELD" }
    }
}
