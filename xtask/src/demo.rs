//! `cargo xtask demo`: from a fresh machine to the main job shown on real traffic.
//!
//! It is built in the dev profile: a cold build takes about half of release's time, and what the
//! demo shows is that things work, not how fast; the kernel object is optimized in either.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::{run, setup};

/// Installs what is missing, builds, and shows.
pub(crate) fn run(options: &[String]) -> Result<()> {
    setup::ensure(setup::Purpose::Demo)?;
    run::run(&mut run::cargo(&[
        "build",
        "--package",
        "netd-user",
        "--package",
        "netd-tests",
        "--bins",
    ]))?;
    let mut demo =
        run::cargo(&["run", "--quiet", "--package", "netd-tests", "--bin", "demo", "--"]);
    demo.args(options);
    eprintln!("$ {}", run::shown(&demo));
    // It takes our place, and with it the signals meant for us: it cleans up, we would not.
    Err(demo.exec()).context("can't start the demo")
}
