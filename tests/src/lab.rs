//! A laboratory: the name that all of one test's things carry, the directory they live in, and their
//! removal.

mod sweep;
mod turn;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::{Host, Outside};
use turn::Turn;

pub use sweep::{remove_leftovers, things_named};

/// What every name of the harness starts with.
pub const PREFIX: &str = "nt";

/// Where laboratories keep their files, each in a directory of its own.
pub const ROOT: &str = "/run/netd-tests";

const LOCK: &str = "lock";

/// One test's world. It goes when the last of its hosts and clones is gone, in any order.
#[derive(Clone)]
pub struct Lab {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    directory: PathBuf,
    hosts: AtomicU32,
    // Held as long as the process lives: what it guards is no leftover.
    _lock: Flock<File>,
    _turn: Turn,
}

impl Lab {
    /// A laboratory beside others.
    pub fn new() -> Result<Self> {
        Self::with_turn(Turn::shared)
    }

    /// A laboratory that no other of this program runs beside: for what measures, or counts things
    /// of the whole machine. A test that holds one must not ask for a second.
    pub fn alone() -> Result<Self> {
        Self::with_turn(Turn::alone)
    }

    fn with_turn(turn: impl FnOnce() -> Turn) -> Result<Self> {
        static SWEPT: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ensure!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: it needs root"
        );
        let turn = turn();
        fs::create_dir_all(ROOT)?;
        SWEPT.call_once(|| {
            if let Err(error) = remove_leftovers() {
                eprintln!("leftovers of an earlier run: {error:#}");
            }
        });
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let directory = Path::new(ROOT).join(&name);
        let lock = lock_directory(&directory)?;
        let hosts = AtomicU32::new(0);
        Ok(Self { inner: Arc::new(Inner { name, directory, hosts, _lock: lock, _turn: turn }) })
    }

    /// A host with an uplink to the outside.
    pub fn host(&self, outside: &Outside) -> Result<Host> {
        let number = self.inner.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        Host::create(self, outside, number)
    }

    /// The outside: a router and client that the hosts' uplinks lead to.
    pub fn outside(&self) -> Result<Outside> {
        Outside::create(self)
    }

    /// The name that all its things start with.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A directory that goes with the laboratory.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }
}

fn lock_directory(directory: &Path) -> Result<Flock<File>> {
    fs::create_dir(directory).with_context(|| format!("making {}", directory.display()))?;
    let file = File::create(directory.join(LOCK))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = sweep::remove(&self.name, &self.directory) {
            eprintln!("removing {}: {error:#}", self.name);
        }
    }
}
