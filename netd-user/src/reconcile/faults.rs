//! Faults on purpose, for end-to-end tests of a whole daemon: `NETD_FAULT=<n>` in the environment
//! makes the n-th effect after start fail, once. Compiled into debug builds only.

use super::ReconcileError;
use crate::fault;

/// Counts effects down to the one that fails.
#[derive(Debug, Default)]
pub(super) struct Faults {
    done: usize,
    fails: Option<usize>,
}

impl Faults {
    /// As the environment asks.
    pub(super) fn from_environment() -> Self {
        let asked = || std::env::var("NETD_FAULT").ok()?.parse().ok();
        Self { done: 0, fails: if cfg!(debug_assertions) { asked() } else { None } }
    }

    /// Before each effect.
    pub(super) fn step(&mut self) -> Result<(), ReconcileError> {
        fault::point();
        self.done += 1;
        if self.fails == Some(self.done) {
            return Err(ReconcileError::Injected(self.done));
        }
        Ok(())
    }
}
