//! One machine's life: boots with the programs that its tests are in, and hears how each went.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use netd_tests::process::built;
use netd_tests::vm::{self, Initramfs, Kernel};

use super::plan::{LIVES_FOR, Machine, Planned};

/// What is shown of a kernel's log where a test failed.
const LOG_LINES: usize = 30;

/// Runs a machine's tests and tells how each went; returns which failed.
pub(super) fn run(machine: &Machine, tests: &[&Planned]) -> Vec<String> {
    if tests.is_empty() {
        return Vec::new();
    }
    let mut told = Told::default();
    if let Err(error) = live(machine, tests, &mut told) {
        println!("{}: {error:#}", machine.name);
    }
    for test in tests {
        let word = if told.has_held(test) { "ok" } else { "FAILED" };
        println!("test {test} ... {word}");
    }
    told.failures(tests)
}

/// From boot to end; what the programs say is shown as it comes.
fn live(machine: &Machine, tests: &[&Planned], told: &mut Told) -> Result<()> {
    let kernel = Kernel::of(machine.package)?;
    println!("booting {} as {}", kernel.release(), machine.name);
    let tree = tree(&kernel, machine, tests)?;
    let mut guest = vm::Machine::boot(&kernel, &tree, LIVES_FOR)?;
    let heard = listen(machine, &mut guest, told);
    if heard.is_err() || !told.failures(tests).is_empty() {
        let log = guest.kernel_log();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        println!("{}: its kernel said last:\n{last}", machine.name);
    }
    heard
}

fn listen(machine: &Machine, guest: &mut vm::Machine, told: &mut Told) -> Result<()> {
    let booted = Instant::now();
    while let Some(line) = guest.next_line()? {
        println!("  {} {:>3}s | {line}", machine.name, booted.elapsed().as_secs());
        told.hear(&line);
    }
    Ok(())
}

fn tree(kernel: &Kernel, machine: &Machine, tests: &[&Planned]) -> Result<Initramfs> {
    let mut tree = Initramfs::new(kernel, machine.modules)?;
    tree.add_program(&built("netd")?, "netd")?;
    tree.add_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("verified-insns.txt"))?;
    // Programs run in the order in which the tests name them first.
    let mut programs: Vec<&str> = tests.iter().map(|test| test.program).collect();
    programs.dedup();
    for program in programs {
        tree.add_program(&executable(program)?, program)?;
        let names = tests.iter().filter(|it| it.program == program).map(|it| it.test);
        let names = names.collect::<Vec<_>>().join(" ");
        // What one kernel lacks is ignored there, and what it is for runs here.
        let options = "--include-ignored --test-threads=2 --exact";
        tree.then_run(&format!("./{program} {options} {names}"));
    }
    Ok(tree)
}

/// Where cargo puts a program of tests; it builds it unless that is done.
fn executable(test: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["test", "--package", "netd-tests"]);
    cargo.args(["--test", test, "--no-run", "--quiet", "--message-format", "json"]);
    let said = cargo.output().context("can't start cargo")?;
    let complaint = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success(), "the tests `{test}` can't be built: {}", complaint.trim());
    let found = String::from_utf8_lossy(&said.stdout).lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == test && message["profile"]["test"] == true;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    found.with_context(|| format!("cargo names no program of the tests `{test}`"))
}

/// What the machine has told of its tests.
#[derive(Default)]
struct Told {
    held: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Told {
    /// A test runner's line: `test NAME ... ok`.
    fn hear(&mut self, line: &str) {
        let Some((name, rest)) = line.strip_prefix("test ").and_then(|it| it.split_once(" ... "))
        else {
            return;
        };
        if rest == "ok" {
            self.held.insert(name.to_owned());
        } else {
            self.failed.insert(name.to_owned());
        }
    }

    fn has_held(&self, test: &Planned) -> bool {
        self.held.contains(test.test) && !self.failed.contains(test.test)
    }

    fn failures(&self, tests: &[&Planned]) -> Vec<String> {
        tests.iter().filter(|test| !self.has_held(test)).map(ToString::to_string).collect()
    }
}
