//! The one binary as a later version with another layout of the flow table: under a name of its own,
//! so that its build leaves the present version beside it.

use std::process::ExitCode;

use netd_user::{cli, daemon};

fn main() -> ExitCode {
    cli::run(daemon::wiring())
}
