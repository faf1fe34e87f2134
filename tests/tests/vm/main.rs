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

use netd_tests::summary::Summary;
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
        return Summary { filtered: filtered.len(), ..Summary::default() }.end();
    }
    println!("\nrunning {} tests", chosen.len());
    let failed: Vec<String> = thread::scope(|scope| {
        let running = MACHINES.each_ref().map(|machine| {
            let own: Vec<_> = chosen.iter().filter(|it| it.is_of(machine)).collect();
            scope.spawn(move || guest::run(machine, &own))
        });
        running.into_iter().flat_map(|machine| machine.join().unwrap()).collect()
    });
    let passed = chosen.len() - failed.len();
    Summary { passed, failed, skipped: 0, filtered: filtered.len() }.end()
}
