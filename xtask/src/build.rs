//! `cargo xtask build`: everything, the kernel object included, which netd-user's build script makes.

use anyhow::Result;

use crate::run;

/// Builds the workspace; options are cargo's own.
pub(crate) fn run(options: &[String]) -> Result<()> {
    run::run(run::cargo(&["build", "--workspace"]).args(options))
}
