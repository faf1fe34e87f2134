//! One connection to the engine: a listing, then what happens, and a listing again every so often for
//! what was missed.
//!
//! Laws: events are heard before the first listing, so nothing falls in between; few containers are
//! asked about at once; a container that changes while it is asked about is asked about again.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Engine, EngineError, Events, Happening, Pace};
use crate::model::{ContainerId, NetworkId};
use crate::roster::{Container, EngineLink, Roster};

/// Containers asked about at once.
const ASKED_AT_ONCE: usize = 4;

/// What a connection works with.
pub(super) struct Session<'a, E, M> {
    pub(super) engine: &'a E,
    pub(super) pace: Pace,
    pub(super) matter: &'a M,
    pub(super) rosters: &'a watch::Sender<Arc<Roster>>,
    pub(super) started: Instant,
}

type Told = (ContainerId, Result<Option<Container>, EngineError>);

/// Containers to ask about.
#[derive(Default)]
struct Questions<'a> {
    waiting: BTreeSet<ContainerId>,
    asked: BTreeSet<ContainerId>,
    answers: FuturesUnordered<BoxFuture<'a, Told>>,
}

impl<'a> Questions<'a> {
    fn ask<E: Engine>(&mut self, engine: &'a E) {
        while self.asked.len() < ASKED_AT_ONCE {
            let next = self.waiting.iter().find(|id| !self.asked.contains(id)).copied();
            let Some(id) = next else { return };
            self.waiting.remove(&id);
            self.asked.insert(id);
            self.answers.push(Box::pin(async move { (id, engine.container(id).await) }));
        }
    }

    async fn next(&mut self) -> Told {
        match self.answers.next().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}

impl<E: Engine, M: Fn(NetworkId) -> bool + Sync> Session<'_, E, M> {
    /// Follows the engine until it is lost.
    pub(super) async fn run(&self, roster: &mut Roster) -> EngineError {
        match self.follow(roster).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn follow(&self, roster: &mut Roster) -> Result<std::convert::Infallible, EngineError> {
        let mut events = self.engine.events().await?;
        let mut questions = Questions::default();
        self.list(roster, &mut questions).await?;
        tracing::info!(containers = roster.containers.len(), "the container engine is heard");
        let mut relist = interval_at(Instant::now() + self.pace.relist, self.pace.relist);
        relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            questions.ask(self.engine);
            tokio::select! {
                happening = events.next() => match happening? {
                    Happening::Container(id) => drop(questions.waiting.insert(id)),
                    Happening::Networks => self.list_networks(roster).await?,
                    Happening::Nothing => {}
                },
                (id, answer) = questions.next() => {
                    questions.asked.remove(&id);
                    self.learn(roster, id, answer);
                }
                _ = relist.tick() => self.list(roster, &mut questions).await?,
            }
        }
    }

    async fn list(
        &self,
        roster: &mut Roster,
        questions: &mut Questions<'_>,
    ) -> Result<(), EngineError> {
        let began_s = self.started.elapsed().as_secs();
        let networks = self.engine.networks().await?;
        roster.list(networks, self.engine.containers().await?);
        roster.listed_s = Some(began_s);
        roster.link = EngineLink::Connected;
        questions.waiting.extend(roster.unasked(self.matter));
        self.publish(roster);
        Ok(())
    }

    async fn list_networks(&self, roster: &mut Roster) -> Result<(), EngineError> {
        roster.networks = self.engine.networks().await?;
        self.publish(roster);
        Ok(())
    }

    /// Takes an answer about one container. Without one the next listing asks again.
    fn learn(
        &self,
        roster: &mut Roster,
        id: ContainerId,
        answer: Result<Option<Container>, EngineError>,
    ) {
        match answer {
            Ok(Some(container)) => drop(roster.containers.insert(id, Arc::new(container))),
            Ok(None) => drop(roster.containers.remove(&id)),
            Err(error) => {
                tracing::debug!(container = %id, %error, "the engine does not describe a container");
                if let Some(held) = roster.containers.get_mut(&id) {
                    Arc::make_mut(held).details = None;
                }
                return;
            }
        }
        self.publish(roster);
    }

    fn publish(&self, roster: &Roster) {
        self.rosters.send_replace(Arc::new(roster.clone()));
    }
}
