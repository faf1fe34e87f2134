//! What changes in a running controller beside its model: settings, and the count of its turns.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::super::{Compiler, Host, Kernel, Live};
use super::{Depth, Worker};
use crate::compile::CompileSettings;
use crate::model::Settings;
use crate::store::Store;

/// The count of turns of the controller's loop, which stands still while the controller does.
#[derive(Debug)]
pub(super) struct Turns {
    interval: Interval,
    count: watch::Sender<u64>,
}

impl Turns {
    /// One every `period` at most.
    pub(super) fn every(period: Duration) -> Self {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval, count: watch::Sender::new(0) }
    }

    /// Waits for the next turn and counts it.
    pub(super) async fn next(&mut self) {
        self.interval.tick().await;
        self.count.send_modify(|count| *count += 1);
    }

    /// The count as it goes on.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

impl<K: Kernel, S: Store, H: Host> Worker<K, S, H> {
    /// From now on the returned count goes up every `period`, as long as the controller is not stuck.
    pub fn count_turns(&mut self, period: Duration) -> watch::Receiver<u64> {
        self.turns = Turns::every(period);
        self.turns.watch()
    }

    /// Takes over the settings that were told last.
    pub(super) async fn take_over(&mut self) {
        let told = self.live.borrow_and_update().clone();
        let Some(Live { settings, compile, verify_interval }) = told else { return };
        let ula_prefix = self.settings.ula_prefix;
        self.settings = Arc::new(Settings { ula_prefix, ..settings });
        // What the start found of the flow table is no setting.
        let loose_until_s = self.compiler.settings.loose_until_s;
        self.compiler = Compiler { settings: CompileSettings { loose_until_s, ..compile } };
        self.tuning.verify_interval = verify_interval;
        self.due.verified(&self.tuning);
        self.converge(Depth::Changes).await;
    }
}
