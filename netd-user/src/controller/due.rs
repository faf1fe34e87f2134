//! When the controller's background work comes next.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Tuning;

/// Changes of the host come in bursts, our own among them.
const SETTLE: Duration = Duration::from_millis(200);
/// Between two looks around: with the kernel's part and a loaded machine well within five seconds.
const PATROL: Duration = Duration::from_secs(2);
/// The share of time that looking around may take on a large host, as a divisor.
const PATROL_SHARE: u32 = 100;
/// Longest pause between tries of background work that fails.
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// When background work comes next.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) verify: Instant,
    pub(super) patrol: Instant,
    pub(super) settle: Option<Instant>,
    pub(super) retry: Option<Instant>,
    pause: Duration,
}

impl Due {
    /// From now on.
    pub(super) fn new(tuning: &Tuning) -> Self {
        Self {
            verify: Instant::now() + tuning.verify_interval,
            patrol: Instant::now() + PATROL,
            settle: None,
            retry: None,
            pause: tuning.first_retry,
        }
    }

    /// After the burst.
    pub(super) fn settle(&mut self) {
        self.settle.get_or_insert_with(|| Instant::now() + SETTLE);
    }

    /// Later, and later each time.
    pub(super) fn try_again(&mut self) {
        self.retry = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_RETRY);
    }

    /// A full look was taken.
    pub(super) fn verified(&mut self, tuning: &Tuning) {
        self.verify = Instant::now() + tuning.verify_interval;
    }

    /// A look around was taken, and took so long.
    pub(super) fn patrolled(&mut self, took: Duration) {
        self.patrol = Instant::now() + PATROL.max(took * PATROL_SHARE);
    }

    /// Nothing to try again.
    pub(super) fn calm(&mut self, tuning: &Tuning) {
        self.retry = None;
        self.pause = tuning.first_retry;
    }
}

/// At that instant, or never.
pub(super) async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
