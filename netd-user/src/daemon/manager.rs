//! What the service manager is told (`sd_notify`): readiness, the state in a sentence, that the
//! controller lives.
//!
//! Law: only turns of the controller's loop feed the watchdog. A controller that hangs is not alive
//! because something else of the daemon still is.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::controller::{Controller, View};

/// Between two turns where no watchdog waits: often enough for the sentence.
const UNHURRIED: Duration = Duration::from_secs(5);
/// A watchdog misses this many turns before it acts.
const TURNS: u32 = 3;

/// How often the controller has to turn.
pub(super) fn turn_interval() -> Duration {
    sd_notify::watchdog_enabled().map_or(UNHURRIED, |patience| patience / TURNS)
}

/// Ready, and what for.
pub(super) fn ready(view: &View) {
    notify(&[NotifyState::Ready, NotifyState::Status(&sentence(view))]);
}

/// Reads the configuration anew; `ready` follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no clock to tell the service manager"),
    }
}

/// Stops; the dataplane does not.
pub(super) fn stopping() {
    let sentence = "stopping; the dataplane goes on";
    notify(&[NotifyState::Stopping, NotifyState::Status(sentence)]);
}

/// Hands every turn on to the watchdog, and each change of the state, until the controller ends.
pub(super) async fn follow(mut turns: watch::Receiver<u64>, controller: Controller) {
    let mut told = sentence(&controller.view());
    while turns.changed().await.is_ok() {
        notify(&[NotifyState::Watchdog]);
        let now = sentence(&controller.view());
        if now != told {
            notify(&[NotifyState::Status(&now)]);
            told = now;
        }
    }
}

fn sentence(view: &View) -> String {
    let trouble = view.problems.first().or_else(|| view.failures.values().next());
    if let Some(trouble) = trouble {
        return format!("degraded: {trouble}");
    }
    let (networks, endpoints) =
        (view.called.model.networks.len(), view.called.model.endpoints.len());
    format!("serving: {networks} networks, {endpoints} endpoints")
}

/// Outside systemd there is nobody to tell.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_the_first_trouble() {
        let mut view = View::default();
        assert_eq!(sentence(&view), "serving: 0 networks, 0 endpoints");
        view.problems.push("no room".to_owned());
        assert_eq!(sentence(&view), "degraded: no room");
    }
}
