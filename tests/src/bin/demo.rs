//! Shows netd's main job on real traffic, step by step: `cargo xtask demo`. Its exit status is 0 only
//! if every step held, and an interrupt leaves as little behind as the end does.

use std::process::ExitCode;

use anyhow::Result;
use netd_tests::demo;
use netd_tests::guard::guarded;

fn main() -> Result<ExitCode> {
    guarded(demo::run)
}
