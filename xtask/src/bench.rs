//! `cargo xtask bench`: what netd costs, beside iptables, nftables, a plain bridge and loopback.
//!
//! It is built in the release profile, and the README's headline table follows the results.

use anyhow::Result;

use crate::{run, setup};

/// Installs what is missing, builds, measures; options are the bench's own, `--help` lists them.
pub(crate) fn run(options: &[String]) -> Result<()> {
    setup::ensure(setup::Purpose::Test)?;
    run::run(&mut run::cargo(&[
        "build",
        "--release",
        "--package",
        "netd-user",
        "--package",
        "netd-bench",
        "--bins",
    ]))?;
    let mut bench = run::cargo(&["run", "--release", "--quiet", "--package", "netd-bench", "--"]);
    run::run(bench.args(["--readme", "README.md"]).args(options))
}
