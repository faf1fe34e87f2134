//! The store's upkeep: copies made in turn while the daemon runs, and `netd store`.
//!
//! Law: a store is replaced only under the lock that a running daemon holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use super::STATE_LOCK;
use super::lock::Lock;
use crate::cli::StoreRequest;
use crate::config::Config;
use crate::controller::told_to_stop;
use crate::store::StoreError;
use crate::store::backup::{self, Sound};

/// How often a store that changed is copied.
const BACKUP_INTERVAL: Duration = Duration::from_hours(1);

/// Copies the store at once and then in turn, until told to stop.
pub(super) async fn back_up(state_dir: PathBuf, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(BACKUP_INTERVAL);
    loop {
        tokio::select! {
            () = told_to_stop(&mut stop) => return,
            _ = tick.tick() => {}
        }
        let place = state_dir.clone();
        match tokio::task::spawn_blocking(move || backup::rotate(&place)).await {
            Ok(Ok(Some(copy))) => tracing::debug!(path = %copy.path.display(), "store copied"),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the store was not copied"),
            Err(error) => tracing::error!(%error, "the store was not copied"),
        }
    }
}

/// Carries out what `netd store` asks for; the answer is for the user.
pub fn store(request: StoreRequest, config: Option<&Path>) -> Result<String, String> {
    let config = Config::load(config).map_err(|error| error.to_string())?;
    let state_dir = config.state_dir;
    match request {
        StoreRequest::Backup(target) => {
            let copy = backup::create(&state_dir, target.as_deref()).map_err(told)?;
            Ok(copy.path.display().to_string())
        }
        StoreRequest::Restore(file) => restore(&state_dir, &file),
        StoreRequest::Verify(Some(file)) => backup::verify(&file).map(|it| line(&it)).map_err(told),
        StoreRequest::Verify(None) => verify(&state_dir),
    }
}

fn restore(state_dir: &Path, file: &Path) -> Result<String, String> {
    let _lock =
        Lock::take(state_dir, "state-dir", STATE_LOCK).map_err(|error| error.to_string())?;
    let restored = backup::restore(state_dir, file).map_err(told)?;
    Ok(format!("{}; start the daemon to bring the host in line with it", line(&restored)))
}

/// The store and every copy; the damaged ones fail it, after all have been looked at.
fn verify(state_dir: &Path) -> Result<String, String> {
    let copies = backup::copies(state_dir);
    let found = [backup::verify_store(state_dir)].into_iter();
    let found = found.chain(copies.iter().map(|path| backup::verify(path)));
    let (sound, damaged): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
    let sound: Vec<String> = sound.iter().flatten().map(line).collect();
    if damaged.is_empty() {
        return Ok(sound.join("\n"));
    }
    let damaged = damaged.into_iter().filter_map(Result::err).map(told);
    Err(damaged.chain(sound).collect::<Vec<_>>().join("\n"))
}

fn line(sound: &Sound) -> String {
    let [networks, sandboxes, endpoints] = sound.objects;
    format!(
        "{}: sound, revision {}, {networks} networks, {sandboxes} sandboxes, {endpoints} endpoints",
        sound.path.display(),
        sound.revision
    )
}

#[allow(clippy::needless_pass_by_value, reason = "it ends a chain of results")]
fn told(error: StoreError) -> String {
    error.to_string()
}
