//! The one binary: hands the command line what it needs from the layers above it.

use std::process::ExitCode;

use netd_user::cli::{self, Wiring};
use netd_user::daemon;

fn main() -> ExitCode {
    cli::run(Wiring {
        daemon: daemon::main,
        places: daemon::places,
        uninstall: daemon::uninstall::main,
        needed: daemon::NEEDED,
        store: daemon::store,
    })
}
