//! Who may run beside whom: many that share, or one alone. Unlike a guard of the standard library's
//! lock a turn may end on another thread than it began on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

static RUNNING: Mutex<Running> = Mutex::new(Running { shared: 0, alone: false });
static ENDED: Condvar = Condvar::new();

struct Running {
    shared: usize,
    alone: bool,
}

/// The right to run; it ends with the value.
pub(super) struct Turn {
    alone: bool,
}

impl Turn {
    /// Waits until nobody runs alone.
    pub(super) fn shared() -> Self {
        wait_while(|running| running.alone).shared += 1;
        Self { alone: false }
    }

    /// Waits until nobody runs.
    pub(super) fn alone() -> Self {
        wait_while(|running| running.alone || running.shared > 0).alone = true;
        Self { alone: true }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.alone {
            running.alone = false;
        } else {
            running.shared -= 1;
        }
        ENDED.notify_all();
    }
}

fn wait_while(busy: impl Fn(&Running) -> bool) -> MutexGuard<'static, Running> {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    ENDED.wait_while(running, |running| busy(running)).unwrap_or_else(PoisonError::into_inner)
}
