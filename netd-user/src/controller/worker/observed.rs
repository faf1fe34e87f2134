//! What a container engine says, as the worker uses it: names for all to see, namespaces to answer in,
//! and the end of what the engine has forgotten.
//!
//! Law: no command waits for it, and none is judged by it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Depth, Worker};
use crate::controller::whereabouts::Whereabouts;
use crate::controller::{Host, Kernel, world};
use crate::facts::HostFacts;
use crate::model::{Command, EndpointId, EngineCommand, Model};
use crate::roster::{self, Called, Roster, Suspects};
use crate::store::Store;

/// What was observed.
#[derive(Debug)]
pub(super) struct Observed {
    rosters: watch::Receiver<Arc<Roster>>,
    pub(super) roster: Arc<Roster>,
    pub(super) whereabouts: Whereabouts,
    suspects: Suspects,
    forgotten: BTreeSet<EndpointId>,
}

impl Observed {
    /// Of those that are sent there.
    pub(super) fn from(rosters: watch::Receiver<Arc<Roster>>) -> Self {
        let roster = Arc::clone(&rosters.borrow());
        Self {
            rosters,
            roster,
            whereabouts: Whereabouts::default(),
            suspects: Suspects::default(),
            forgotten: BTreeSet::new(),
        }
    }

    /// Of nobody.
    pub(super) fn nothing() -> Self {
        Self::from(watch::channel(Arc::default()).1)
    }

    /// Waits for another roster; for ever where nobody sends one.
    pub(super) async fn changed(&mut self) {
        if self.rosters.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The model as everybody calls it.
    pub(super) fn call(&self, model: &Arc<Model>) -> Called {
        roster::call(model, &self.roster, &self.whereabouts.places())
    }

    /// Endpoints that have ended without a word: their sandbox is gone, or the engine has forgotten
    /// them.
    pub(super) fn departed(&self, model: &Model, facts: &HostFacts) -> BTreeSet<EndpointId> {
        let mut departed = world::departed(model, facts);
        let forgotten = self.forgotten.iter().filter_map(|id| model.endpoints.get(id));
        let still = forgotten.filter(|endpoint| roster::is_unclaimed(endpoint, facts));
        departed.extend(still.map(|endpoint| endpoint.id));
        departed
    }

    fn take(&mut self, model: &Model, facts: &HostFacts) {
        self.roster = Arc::clone(&self.rosters.borrow_and_update());
        self.forgotten = self.suspects.judge(model, facts, &self.roster);
    }
}

impl<K: Kernel, S: Store, H: Host> Worker<K, S, H> {
    /// From now on names, and what is forgotten, come from these rosters.
    pub fn follow(&mut self, rosters: watch::Receiver<Arc<Roster>>) {
        self.observed = Observed::from(rosters);
    }

    /// Takes another roster over.
    pub(super) async fn take_roster(&mut self) {
        let Ok(facts) = self.kernel.facts().await else { return };
        self.observed.take(&self.state.model, &facts);
        if !self.observed.forgotten.is_empty() {
            self.bury_forgotten().await;
        }
        let before = self.observed.whereabouts.clone();
        self.observed.whereabouts.look(&self.state.model, &self.observed.roster);
        if self.observed.whereabouts == before {
            self.publish();
        } else {
            self.converge(Depth::Changes).await;
        }
    }

    async fn bury_forgotten(&mut self) {
        let count = self.observed.forgotten.len();
        tracing::info!(count, "the engine has forgotten endpoints that nobody took, removing them");
        if let Err(error) = self.execute(Command::Engine(Box::new(EngineCommand::Bury))).await {
            tracing::warn!(%error, "endpoints that the engine has forgotten stay for now");
        }
        self.observed.forgotten.clear();
    }
}
