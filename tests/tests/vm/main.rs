//! What netd promises, on other kernels than this machine's: programs of this workspace run in a
//! virtual machine, and each test of theirs counts as one of here.
//!
//! Law: what is listed and not heard of has failed, whatever became of the machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

mod guest;
mod plan;

use std::process::ExitCode;
use std::thread;

use plan::{MACHINES, Planned};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let all: Vec<Planned> = MACHINES.iter().flat_map(plan::tests_of).collect();
    let (chosen, filtered): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|it| it.is_asked_for(&words));
    if std::env::args().any(|word| word == "--list") || chosen.is_empty() {
        for test in &chosen {
            println!("{test}: test");
        }
        return ended(0, 0, filtered.len());
    }
    println!("\nrunning {} tests", chosen.len());
    let failed = thread::scope(|scope| {
        let running = MACHINES.each_ref().map(|machine| {
            let own: Vec<_> = chosen.iter().filter(|it| it.is_of(machine)).collect();
            scope.spawn(move || guest::run(machine, &own))
        });
        running.into_iter().map(|machine| machine.join().unwrap()).sum()
    });
    ended(chosen.len() - failed, failed, filtered.len())
}

/// In the words of every test runner, so that totals add up.
fn ended(passed: usize, failed: usize, filtered: usize) -> ExitCode {
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
