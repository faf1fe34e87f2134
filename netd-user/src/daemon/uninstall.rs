//! `netd uninstall`: the host as it was before netd came.
//!
//! Laws: never beside a running daemon; each thing is named, and what can't be removed is named with
//! the reason and keeps nothing else; what the user wrote stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::lock::{self, Lock, LockError};
use super::{DaemonError, RUN_LOCK, STATE_LOCK};
use crate::config::{Config, DEFAULT_PATH};
use crate::reconcile::remains::{self, Places, Remains};
use crate::store::{backup, sqlite};

/// What `netd uninstall` is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// To tell what would be removed.
    Look,
    /// To remove it.
    Remove,
}

/// Removes everything that a daemon with this configuration has on the host, or tells what it would.
pub fn main(config_path: Option<&Path>, dry_run: bool) -> ExitCode {
    let extent = if dry_run { Extent::Look } else { Extent::Remove };
    match run(config_path, extent) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("netd uninstall: {failures} of these could not be removed: see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("netd uninstall: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The same; how many things resisted.
fn run(config_path: Option<&Path>, extent: Extent) -> Result<usize, DaemonError> {
    let config = Config::load(config_path)?;
    let _locks = lock_out_daemons(&config, extent)?;
    let places =
        Places { bpffs_dir: config.bpffs_dir.clone(), state_dir: config.state_dir.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut remains = runtime.block_on(Remains::of(places))?;
    let found = runtime.block_on(remains.look())?;
    let files = files(&config);
    let count = found.len() + files.len();
    let mut tally = Tally { extent, failures: 0 };
    for remnant in found {
        let remove = || runtime.block_on(remains.remove(&remnant));
        tally.deal_with(&remnant.to_string(), remove);
    }
    for (what, path) in files {
        tally.deal_with(&format!("{what} {}", path.display()), || remove_file(&path));
    }
    let plugins = config.docker_socket.as_deref().and_then(Path::parent);
    let directories = [Some(config.state_dir.as_path()), Some(config.run_dir.as_path()), plugins];
    for directory in directories.into_iter().flatten() {
        tidy_away(directory, extent);
    }
    if count == 0 {
        println!("nothing of netd is on this host");
    }
    let written = config_path.unwrap_or(Path::new(DEFAULT_PATH));
    if written.exists() {
        println!("kept the configuration {}", written.display());
    }
    Ok(tally.failures)
}

/// A daemon would make anew what is removed. A look is content to say who runs.
fn lock_out_daemons(config: &Config, extent: Extent) -> Result<Vec<Lock>, LockError> {
    let places =
        [(&config.state_dir, "state-dir", STATE_LOCK), (&config.run_dir, "run-dir", RUN_LOCK)];
    let mut locks = Vec::new();
    for (directory, key, name) in places.into_iter().filter(|(dir, ..)| dir.exists()) {
        match extent {
            Extent::Remove => locks.push(Lock::take(directory, key, name)?),
            Extent::Look => {
                if let Some(holder) = lock::holder_of(&directory.join(name)) {
                    println!("a netd daemon runs (process {holder}): stop it before you uninstall");
                    break;
                }
            }
        }
    }
    Ok(locks)
}

/// Files of the daemon that exist; the locks last.
fn files(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let store = config.state_dir.join(sqlite::FILE_NAME);
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", store.display()));
    let all = [
        ("the store", store.clone()),
        ("the store's log", beside("-wal")),
        ("the store's log index", beside("-shm")),
        ("the store's mark", beside("-acknowledged")),
        ("the store of before a restore", beside(".replaced")),
        ("the socket", config.api_socket.clone()),
        ("the list of namespaces", config.state_dir.join(remains::NAMESPACES)),
        ("the lock", config.state_dir.join(STATE_LOCK)),
        ("the lock", config.run_dir.join(RUN_LOCK)),
    ];
    let engine = config.docker_socket.clone().map(|path| ("the engine's socket", path));
    let copies =
        backup::copies(&config.state_dir).into_iter().map(|path| ("a copy of the store", path));
    let shelf = ("the copies' directory", config.state_dir.join(backup::DIRECTORY));
    let all = all.into_iter().chain(engine).chain(copies).chain([shelf]);
    all.filter(|(_, path)| path.symlink_metadata().is_ok()).collect()
}

fn remove_file(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
}

/// A directory goes when nothing is left in it; what is left there is somebody else's.
fn tidy_away(directory: &Path, extent: Extent) {
    match extent {
        Extent::Remove if fs::remove_dir(directory).is_ok() => {
            println!("removed the directory {}", directory.display());
        }
        Extent::Remove if directory.exists() => {
            println!("kept the directory {}: it is not empty", directory.display());
        }
        Extent::Look | Extent::Remove => {}
    }
}

struct Tally {
    extent: Extent,
    failures: usize,
}

impl Tally {
    fn deal_with<E: std::fmt::Display>(
        &mut self,
        what: &str,
        remove: impl FnOnce() -> Result<(), E>,
    ) {
        match self.extent {
            Extent::Look => println!("would remove {what}"),
            Extent::Remove => match remove() {
                Ok(()) => println!("removed {what}"),
                Err(error) => {
                    self.failures += 1;
                    eprintln!("could not remove {what}: {error}");
                }
            },
        }
    }
}
