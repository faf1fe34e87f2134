//! The project's chores: `cargo xtask` lists them. It compiles first on a fresh machine, so it
//! depends on next to nothing.

mod bench;
mod build;
mod demo;
mod engines;
mod fuzz;
mod kernels;
mod lint;
mod restarts;
mod run;
mod setup;
mod soak;
mod source;
mod test;
mod tidy;
mod toolchain;
mod vm;

use std::process::ExitCode;

/// A chore: its name, what it does in a line, and the function that does it.
struct Chore {
    name: &'static str,
    says: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const CHORES: [Chore; 11] = [
    Chore { name: "setup", says: "install what building and testing need", run: setup::run },
    Chore { name: "build", says: "build everything, with cargo's options", run: build::run },
    Chore {
        name: "demo",
        says: "show the main job on real traffic, in a corner of its own",
        run: demo::run,
    },
    Chore {
        name: "test",
        says: "run every test, or those whose name contains a word given",
        run: test::run,
    },
    Chore {
        name: "vm",
        says: "run the tests on other kernels alone, or those whose name contains a word given",
        run: vm::run,
    },
    Chore {
        name: "fuzz",
        says: "random input against the packet path; --minutes N, --keep, a target's name",
        run: fuzz::run,
    },
    Chore {
        name: "lint",
        says: "check format and lints, of the kernel object too",
        run: lint::run,
    },
    Chore {
        name: "bench",
        says: "measure netd beside iptables, nftables and loopback; --quick for five minutes",
        run: bench::run,
    },
    Chore {
        name: "restarts",
        says: "restart the daemon under full traffic and count what is lost",
        run: restarts::run,
    },
    Chore {
        name: "soak",
        says: "churn a host at random and compare it with a model; --minutes N, --seed N",
        run: soak::run,
    },
    Chore { name: "tidy", says: "check the rules of the house on the sources", run: tidy::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    };
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        eprint!("there is no `cargo xtask {name}`\n{}", usage());
        return ExitCode::from(2);
    };
    match (chore.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let lines =
        CHORES.iter().map(|chore| format!("  cargo xtask {:<9}{}\n", chore.name, chore.says));
    lines.collect()
}
