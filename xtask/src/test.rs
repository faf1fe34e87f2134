//! `cargo xtask test`: every test, then the count of what the run left behind, then the total alone
//! on the last line. `cargo xtask test docker [--engine RELEASE] [SCENARIO…]` runs those of the Docker
//! plugin alone, with this machine's engine or with that of another release of Debian.

mod failures;
mod leaks;
mod tally;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{engines, run, setup};
use failures::{Failure, Failures};
use leaks::Census;
use tally::Tally;

/// The later version that the test of an upgrade builds: here, so that no test waits for it.
const NEXT_VERSION: [&str; 7] =
    ["build", "--package", "netd-user", "--bin", "netd-next", "--features", "next-layout"];

/// The tests that need a kernel's objects of their own: namespaces, links, programs.
const SCENARIOS: [&str; 2] = ["--package", "netd-tests"];

/// The word that asks for the tests of Docker, and what they are.
const DOCKER: &str = "docker";
const DOCKER_TESTS: [&str; 6] =
    ["--package", "netd-tests", "--test", "docker_plugin", "--test", "docker"];
/// Asks for another engine than this machine's.
const ENGINE: &str = "--engine";
/// Tells the tests where it is.
const ENGINE_PLACE: &str = "NETD_ENGINE";

/// Scenarios that may hold only when run again, alone: more than that, and the run has failed.
///
/// A whole run is over a thousand tests side by side on a few processors, with deadlines against the
/// real clock. What held only then is named as unsteady at the end: it is a bug to look for.
const MOST_UNSTEADY: usize = 2;

/// Runs the tests whose names contain one of `filters`, or all; after `docker`, those with an engine.
#[allow(clippy::unnecessary_wraps, reason = "every chore has this form; this one exits by itself")]
pub(crate) fn run(filters: &[String]) -> Result<()> {
    let mut tally = Tally::default();
    let outcome = run_all(filters, &mut tally);
    if let Err(error) = &outcome {
        println!("error: {error:#}");
        tally.failed += 1;
    }
    println!("{tally}");
    if tally.failed > 0 {
        // The total is the last line, so the failure says no more than its exit status.
        std::process::exit(1);
    }
    Ok(())
}

fn run_all(filters: &[String], tally: &mut Tally) -> Result<()> {
    setup::ensure(setup::Purpose::Test)?;
    if let Err(missing) = setup::ensure_kernels() {
        println!("the tests that need them will fail: {missing}");
    }
    if let Some((DOCKER, scenarios)) = filters.split_first().map(|(it, rest)| (it.as_str(), rest)) {
        run::run(&mut run::cargo(&["build", "--workspace"]))?;
        return docker(scenarios, tally);
    }
    run::run(&mut run::cargo(&["build", "--workspace"]))?;
    run::run(&mut run::cargo(&["test", "--workspace", "--no-run"]))?;
    run::run(&mut run::cargo(&NEXT_VERSION))?;
    let before = Census::after_sweep()?;
    // Without root, too; then what needs it: namespaces, links and programs of their own.
    suite(&["--workspace", "--exclude", "netd-tests"], filters, tally)?;
    let failures = suite(&SCENARIOS, filters, tally)?;
    if filters.is_empty() {
        hear_again(&failures, tally)?;
    }
    tally.add(before.compare()?);
    Ok(())
}

/// Runs the few that failed once more, one by one; what holds is counted so, and named.
fn hear_again(failures: &[Failure], tally: &mut Tally) -> Result<()> {
    if failures.len() > MOST_UNSTEADY {
        return Ok(());
    }
    let mut unsteady = Vec::new();
    for failure in failures {
        let (again, _) = stream(&mut tests(&SCENARIOS, &["--exact", &failure.name]))?;
        if again.failed == 0 && again.passed > 0 {
            unsteady.push(failure);
        }
    }
    tally.failed -= unsteady.len();
    tally.passed += unsteady.len();
    for failure in unsteady {
        println!("unsteady, held when run again: {}", told(failure));
    }
    Ok(())
}

/// A failed test's name, and below it what it said.
fn told(failure: &Failure) -> String {
    let lines = std::iter::once(&failure.name).chain(&failure.said);
    lines.map(String::as_str).collect::<Vec<_>>().join("\n    ")
}

/// Runs the tests of Docker; the first words may ask for another engine.
fn docker(words: &[String], tally: &mut Tally) -> Result<()> {
    let (release, scenarios) = match words {
        [option, release, scenarios @ ..] if option == ENGINE => (Some(release), scenarios),
        scenarios => (None, scenarios),
    };
    ensure!(
        !scenarios.iter().any(|word| word == ENGINE),
        "{ENGINE} comes first, with a release of Debian from trixie on: \
         `cargo xtask test docker {ENGINE} sid`"
    );
    let mut command = tests(&DOCKER_TESTS, scenarios);
    if let Some(release) = release {
        command.env(ENGINE_PLACE, engines::ensure(release)?);
    }
    tally.add(stream(&mut command)?.0);
    Ok(())
}

/// Runs one cargo call's tests, counts them, and returns those that failed.
fn suite(packages: &[&str], filters: &[String], tally: &mut Tally) -> Result<Vec<Failure>> {
    let (counted, failures) = stream(&mut tests(packages, filters))?;
    tally.add(counted);
    for failure in &failures {
        println!("failed: {}", told(failure));
    }
    Ok(failures)
}

fn tests(packages: &[&str], words: &[impl AsRef<OsStr>]) -> Command {
    let mut command = run::cargo(&["test", "--no-fail-fast"]);
    command.args(packages).arg("--").args(words);
    command
}

/// Shows what the runners say as it comes, and hears it.
fn stream(command: &mut Command) -> Result<(Tally, Vec<Failure>)> {
    let shown = run::shown(command);
    eprintln!("$ {shown}");
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("can't start `{shown}`"))?;
    let output = child.stdout.take().context("a piped output is there")?;
    let (mut tally, mut failures) = (Tally::default(), Failures::default());
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.write_all(b"\n")?;
        let line = String::from_utf8_lossy(&line);
        tally.count_line(&line);
        failures.hear(&line);
    }
    tally.count_end();
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        println!("`{shown}` failed without naming a test ({status})");
        tally.failed += 1;
    }
    Ok((tally, failures.into_found()))
}
