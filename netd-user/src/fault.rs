//! Death on purpose, for end-to-end tests of a whole daemon; in debug builds only.
//!
//! `NETD_FAULT_KILL=<n>` in the environment kills the process, as kill -9 does, at the n-th point that it
//! comes to once it serves; with `start:<n>` the points of the start count, too. A point stands before or
//! after each single change of the kernel, of a file or of the store. Law: points change nothing else.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static SERVING: AtomicBool = AtomicBool::new(false);
static PASSED: AtomicUsize = AtomicUsize::new(0);
static DEADLY: OnceLock<Option<Deadly>> = OnceLock::new();

/// The point that kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deadly {
    number: usize,
    from_start: bool,
}

/// Here the process may be killed.
pub(crate) fn point() {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(deadly) = *DEADLY.get_or_init(asked) else { return };
    if !deadly.from_start && !SERVING.load(Ordering::Relaxed) {
        return;
    }
    if PASSED.fetch_add(1, Ordering::Relaxed) + 1 == deadly.number {
        // The signal comes before the call returns; a test that outlives it says so itself.
        let _never = kill(Pid::this(), Signal::SIGKILL);
    }
}

/// The start is over: points count from here on.
pub(crate) fn serving() {
    SERVING.store(true, Ordering::Relaxed);
}

fn asked() -> Option<Deadly> {
    parse(&std::env::var("NETD_FAULT_KILL").ok()?)
}

fn parse(text: &str) -> Option<Deadly> {
    let (number, from_start) = match text.strip_prefix("start:") {
        Some(number) => (number, true),
        None => (text, false),
    };
    Some(Deadly { number: number.parse().ok().filter(|number| *number > 0)?, from_start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadly_point_is_read_from_its_number() {
        assert_eq!(parse("7"), Some(Deadly { number: 7, from_start: false }));
        assert_eq!(parse("start:7"), Some(Deadly { number: 7, from_start: true }));
        assert_eq!((parse(""), parse("0"), parse("start:"), parse("x")), (None, None, None, None));
    }
}
