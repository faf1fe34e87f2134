//! Watching a container engine's API for the names of its containers: best effort, read-only, beside
//! everything else.
//!
//! Laws: nobody waits for the watcher, least of all who answers the engine's own calls, for the engine
//! holds locks meanwhile; every question has a time-out and every answer a size; a lost engine is asked
//! again ever more rarely, and what it said last stays.

mod docker;
mod session;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::controller::told_to_stop;
use crate::model::{ContainerId, NetworkId};
use crate::roster::{Container, EngineLink, NetworkCard, Roster};
use session::Session;

pub use docker::DockerApi;

/// When the engine is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between complete listings.
    pub relist: Duration,
    /// First pause before a lost engine is asked again; it doubles.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            relist: Duration::from_secs(30),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
        }
    }
}

/// The engine as the watcher asks it.
pub trait Engine: Send + Sync + 'static {
    /// What happens, from now on.
    type Events: Events;
    /// Begins to tell what happens.
    fn events(&self) -> impl Future<Output = Result<Self::Events, EngineError>> + Send;
    /// All networks.
    fn networks(
        &self,
    ) -> impl Future<Output = Result<BTreeMap<NetworkId, NetworkCard>, EngineError>> + Send;
    /// All containers, without details.
    fn containers(&self) -> impl Future<Output = Result<Vec<Container>, EngineError>> + Send;
    /// One container with its details; none where there is none.
    fn container(
        &self,
        id: ContainerId,
    ) -> impl Future<Output = Result<Option<Container>, EngineError>> + Send;
}

/// What happens to the engine's objects.
pub trait Events: Send {
    /// Waits for the next; may be given up and called again without loss.
    fn next(&mut self) -> impl Future<Output = Result<Happening, EngineError>> + Send;
}

/// What became different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// Something about a container.
    Container(ContainerId),
    /// A network came or went.
    Networks,
    /// Nothing that has a name.
    Nothing,
}

/// Why the engine was not understood.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It can't be reached.
    #[error("{}: {source}", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It does not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It refuses.
    #[error("it answered {0}")]
    Refused(u16),
    /// Its answer is longer than any that is meant for people.
    #[error("an answer is longer than {0} bytes")]
    Long(usize),
    /// Its answer is not what its API promises.
    #[error("an answer is not understood: {0}")]
    Garbled(String),
    /// It has more than can be followed.
    #[error("it has {0} objects: {1} can be followed")]
    Many(usize, usize),
    /// It ended the stream of events.
    #[error("it stopped telling what happens")]
    Ended,
}

/// Follows the engine until told to stop. `matter` says which networks are netd's.
pub async fn watch<E: Engine>(
    (engine, pace): (E, Pace),
    matter: impl Fn(NetworkId) -> bool + Send + Sync,
    rosters: watch::Sender<Arc<Roster>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut roster = Roster::default();
    let started = Instant::now();
    let mut pause = pace.first_pause;
    loop {
        let heard_s = started.elapsed().as_secs();
        let session =
            Session { engine: &engine, pace, matter: &matter, rosters: &rosters, started };
        let error = tokio::select! {
            () = told_to_stop(&mut stop) => return,
            error = session.run(&mut roster) => error,
        };
        tell(&mut roster, &error, &rosters);
        if roster.listed_s.is_some_and(|listed| listed >= heard_s) {
            pause = pace.first_pause;
        }
        // Until it lists again nobody can say what it has forgotten.
        roster.listed_s = None;
        tokio::select! {
            () = told_to_stop(&mut stop) => return,
            () = sleep(pause) => pause = (pause * 2).min(pace.longest_pause),
        }
    }
}

/// Says once that the engine is lost; an engine that is not there is no mistake.
fn tell(roster: &mut Roster, error: &EngineError, rosters: &watch::Sender<Arc<Roster>>) {
    let link = EngineLink::Silent(error.to_string());
    if roster.link == EngineLink::Connected {
        tracing::warn!(%error, "the container engine is not heard any more: last names stay");
    } else if roster.link != link {
        tracing::info!(%error, "no container engine is heard");
    }
    roster.link = link;
    roster.listed_s = None;
    rosters.send_replace(Arc::new(roster.clone()));
}
