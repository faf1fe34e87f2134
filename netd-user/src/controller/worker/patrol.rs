//! The look around that the worker takes every few seconds: for what others changed without a word of the
//! kernel, and for what is about to run out.
//!
//! Laws: it costs at most a hundredth of the time; it puts back single things and takes down nothing
//! that works; what it can't put back it tells in the view.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Depth, State, Worker};
use crate::controller::{Host, Kernel};
use crate::model::Model;
use crate::store::{Change, Store};

impl<K: Kernel, S: Store, H: Host> Worker<K, S, H> {
    /// Looks around once.
    pub(super) async fn patrol(&mut self) {
        let started = Instant::now();
        let tended = self.kernel.tend().await;
        self.tell_repairs(tended.mended);
        self.state.shortages = tended.problems;
        self.try_store_again().await;
        // What fails is tried again at its own, growing intervals.
        if self.state.problem.is_none() {
            self.look_for_drift().await;
        }
        self.publish();
        self.due.patrolled(started.elapsed());
    }

    /// Compares everything with the kernel.
    pub(super) async fn verify(&mut self) {
        self.due.verified(&self.tuning);
        self.converge(Depth::Everything).await;
    }

    /// Finds what others made and have taken away.
    pub(super) async fn look_for_losses(&mut self, model: &Model) {
        self.state.left_out.look_for_namespaces(model);
        if let Ok(facts) = self.kernel.facts().await {
            self.state.left_out.look_for_links(model, &facts);
        }
    }

    async fn look_for_drift(&mut self) {
        let model = Arc::clone(&self.state.model);
        self.look_for_losses(&model).await;
        let looked = self.reconcile(&model, Depth::HostSide).await;
        match looked {
            Ok(changed) => {
                self.state.dirty = false;
                self.tell_repairs(changed);
            }
            Err(error) => self.converged(Err(error)).await,
        }
    }

    /// A store that refused a change gets what it has once more, so that its recovery is noticed.
    async fn try_store_again(&mut self) {
        if self.state.unkept.is_none() {
            return;
        }
        let mut change = Change { revision: self.state.revision, ..Change::default() };
        let tried = change.remember(&self.memory);
        if tried.is_ok() && self.write(change).await.is_ok() {
            tracing::info!("the store takes changes again");
        }
    }

    /// Logs and counts what others had changed.
    pub(super) fn tell_repairs(&self, changes: usize) {
        if changes == 0 {
            return;
        }
        tracing::warn!(changes, "others changed what is netd's: it was put right");
        if let Some(observer) = &self.observer {
            observer.repaired(changes);
        }
    }
}

impl State {
    /// What is wrong with more than one sandbox, each a sentence.
    pub(super) fn problems(&self) -> Vec<String> {
        let told = self.problem.iter().chain(&self.unkept).chain(&self.shortages);
        told.cloned().collect()
    }
}
