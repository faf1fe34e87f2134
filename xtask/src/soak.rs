//! `cargo xtask soak`: churn on one host for as long as asked, compared with a model all the time; the seed
//! is printed and can be given.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::{run, setup};

/// Installs what is missing, builds, and churns.
pub(crate) fn run(options: &[String]) -> Result<()> {
    setup::ensure(setup::Purpose::Demo)?;
    let packages = ["build", "--package", "netd-user", "--package", "netd-tests", "--bins"];
    run::run(&mut run::cargo(&packages))?;
    let mut soak =
        run::cargo(&["run", "--quiet", "--package", "netd-tests", "--bin", "soak", "--"]);
    soak.args(options);
    eprintln!("$ {}", run::shown(&soak));
    // It takes our place, and with it the signals meant for us: it cleans up, we would not.
    Err(soak.exec()).context("can't start the soak")
}
