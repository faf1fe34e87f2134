//! `cargo xtask restarts`: the daemon restarted under full traffic, and what that lost: nothing.

use anyhow::Result;

use crate::{run, setup};

/// Installs what is missing, builds, and runs it; options are the program's own.
pub(crate) fn run(options: &[String]) -> Result<()> {
    setup::ensure(setup::Purpose::Test)?;
    run::run(&mut run::cargo(&["build", "--workspace"]))?;
    let mut trial = run::cargo(&["run", "--quiet", "--package", "netd-tests", "--bin", "restarts"]);
    run::run(trial.arg("--").args(options))
}
