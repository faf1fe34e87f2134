//! A named network namespace, entered by threads of its own: the rest of the process stays outside.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::process::run;

/// Where named namespaces are mounted.
pub const NAMESPACES: &str = "/run/netns";

/// A network namespace. Clones name the same one.
#[derive(Clone, Debug)]
pub struct Netns {
    path: PathBuf,
}

impl Netns {
    /// Makes a namespace of this name, with loopback up.
    pub fn create(name: &str) -> Result<Self> {
        run("ip", &["netns", "add", name])?;
        run("ip", &["-netns", name, "link", "set", "lo", "up"])?;
        Ok(Self::at(Path::new(NAMESPACES).join(name)))
    }

    /// A namespace that something else has mounted at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Removes a named namespace.
    pub fn delete(name: &str) -> Result<()> {
        run("ip", &["netns", "delete", name]).map(drop)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside, on a thread that ends with it. Sockets and programs that `work` makes stay
    /// inside, wherever they are used afterwards.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(&self.path)
                    .with_context(|| format!("no namespace at {}", self.path.display()))?;
                setns(file, CloneFlags::CLONE_NEWNET).context("entering a namespace needs root")?;
                work()
            });
            inside.join().map_err(|panic| anyhow!("the work inside panicked: {}", words(&panic)))?
        })
    }
}

fn words(panic: &Box<dyn std::any::Any + Send>) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}
