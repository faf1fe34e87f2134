//! `cargo xtask vm [FILTER…]`: the tests on other kernels alone.

use anyhow::Result;

use crate::{run, setup};

/// Installs what is missing, builds, and runs the tests whose names contain one of `filters`, or all.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    setup::ensure(setup::Purpose::Test)?;
    setup::ensure_kernels()?;
    run::run(&mut run::cargo(&["build", "--package", "netd-user"]))?;
    // The machines carry programs of other tests, too.
    run::run(&mut run::cargo(&["test", "--package", "netd-tests", "--no-run"]))?;
    let mut tests = run::cargo(&["test", "--package", "netd-tests", "--test", "vm", "--"]);
    run::run(tests.args(filters))
}
