//! `cargo xtask test`: every test, then the count of what the run left behind, then the total alone
//! on the last line. `cargo xtask test docker [--engine RELEASE] [SCENARIO…]` runs those of the Docker
//! plugin alone, with this machine's engine or with that of another release of Debian.

mod leaks;
mod tally;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{engines, run, setup};
use leaks::Census;
use tally::Tally;

/// The later version that the test of an upgrade builds: here, so that no test waits for it.
const NEXT_VERSION: [&str; 7] =
    ["build", "--package", "netd-user", "--bin", "netd-next", "--features", "next-layout"];

/// The word that asks for the tests of Docker, and what they are.
const DOCKER: &str = "docker";
const DOCKER_TESTS: [&str; 6] =
    ["--package", "netd-tests", "--test", "docker_plugin", "--test", "docker"];
/// Asks for another engine than this machine's.
const ENGINE: &str = "--engine";
/// Tells the tests where it is.
const ENGINE_PLACE: &str = "NETD_ENGINE";

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
    suite(&["--package", "netd-tests"], filters, tally)?;
    tally.add(before.compare()?);
    Ok(())
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
    tally.add(stream(&mut command)?);
    Ok(())
}

/// Runs one cargo call's tests; what they say is shown as it comes, and counted.
fn suite(packages: &[&str], filters: &[String], tally: &mut Tally) -> Result<()> {
    tally.add(stream(&mut tests(packages, filters))?);
    Ok(())
}

fn tests(packages: &[&str], filters: &[String]) -> Command {
    let mut command = run::cargo(&["test", "--no-fail-fast"]);
    command.args(packages).arg("--").args(filters);
    command
}

fn stream(command: &mut Command) -> Result<Tally> {
    let shown = run::shown(command);
    eprintln!("$ {shown}");
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("can't start `{shown}`"))?;
    let output = child.stdout.take().context("a piped output is there")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.write_all(b"\n")?;
        tally.count_line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        println!("`{shown}` failed without naming a test ({status})");
        tally.failed += 1;
    }
    Ok(tally)
}
