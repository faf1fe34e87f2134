//! The one binary: hands the command line what it needs from the layers above it.

use std::process::ExitCode;

use netd_user::{cli, daemon};

fn main() -> ExitCode {
    cli::run(daemon::wiring())
}
