//! What the name service tells: counters, and failures as events of the monitor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hickory_proto::op::ResponseCode;

use crate::api::DropEvent;
use crate::controller::Controller;
use crate::dns::service::{Failure, Source, Witness};
use crate::observe::events::Hub;
use crate::observe::metrics::NameMetrics;
use crate::observe::time::rfc3339;

/// Events a second: a flood of failures must not drown the others.
const EVENTS_PER_S: u64 = 100;

/// The one observer of names.
pub(super) struct NameWitness {
    pub(super) metrics: NameMetrics,
    pub(super) hub: Hub,
    pub(super) controller: Controller,
    started: Instant,
    /// The second that is counted, and how many events it had.
    second: AtomicU64,
    told: AtomicU64,
}

impl NameWitness {
    pub(super) fn new(metrics: NameMetrics, hub: Hub, controller: Controller) -> Self {
        Self {
            metrics,
            hub,
            controller,
            started: Instant::now(),
            second: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    fn may_tell(&self) -> bool {
        let second = self.started.elapsed().as_secs();
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.told.store(0, Ordering::Relaxed);
        }
        self.told.fetch_add(1, Ordering::Relaxed) < EVENTS_PER_S
    }
}

impl Witness for NameWitness {
    fn answered(&self, source: Source, code: ResponseCode, took: Duration) {
        self.metrics.answered(source, code, took);
    }

    fn failed(&self, failure: Failure) {
        let Failure { sandbox, name, kind, why } = failure;
        tracing::debug!(%sandbox, name, kind, why, "a name was not resolved");
        if !self.hub.is_heard() || !self.may_tell() {
            return;
        }
        let model = self.controller.model();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.hub.publish(DropEvent {
            time: rfc3339(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)),
            reason: "name_not_resolved".to_owned(),
            explanation: format!("{name} {kind}: {why}."),
            hook: "resolver".to_owned(),
            sandbox: model.sandboxes.get(&sandbox).map(|it| it.name.clone()).unwrap_or_default(),
            ..DropEvent::default()
        });
    }
}
