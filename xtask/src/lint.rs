//! `cargo xtask lint`: format and lints, warnings denied, for the host's side and the kernel's.

use anyhow::Result;

use crate::run;
use crate::toolchain::Toolchain;

/// Checks; nothing is changed.
pub(crate) fn run(_options: &[String]) -> Result<()> {
    run::run(&mut run::cargo(&["fmt", "--all", "--check"]))?;
    run::run(&mut run::cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;
    lint_kernel_object()
}

/// The kernel's side only exists with its own feature and target, which a workspace-wide run lacks.
/// A compiler without clippy still has lints of its own.
fn lint_kernel_object() -> Result<()> {
    let toolchain = Toolchain::find()?;
    let target = run::target().join("bpf");
    let verb = if toolchain.has_clippy() { "clippy" } else { "rustc" };
    let mut checked = toolchain.cargo(verb, run::workspace(), &target);
    run::run(checked.args(["--", "--deny", "warnings"]))
}
