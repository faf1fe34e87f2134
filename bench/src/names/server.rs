//! What answering costs the server: its threads' time on CPUs, by the scheduler's clock.
//!
//! Law: what the kernel does for a packet is counted against who sent it, client or server, in all rigs
//! alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

/// Threads of a server.
#[derive(Clone, Debug)]
pub(super) enum Server {
    /// All in a process's directory.
    Process(PathBuf),
    /// Some of this one, which add themselves.
    Threads(Arc<Mutex<Vec<PathBuf>>>),
}

impl Server {
    /// All of a process.
    pub(super) fn process(pid: u32) -> Self {
        Self::Process(PathBuf::from(format!("/proc/{pid}/task")))
    }

    /// Those that will add themselves.
    pub(super) fn of_threads() -> Self {
        Self::Threads(Arc::default())
    }

    /// The calling thread is one of them.
    pub(super) fn join(&self) -> Result<()> {
        if let Self::Threads(threads) = self {
            let thread = Path::new("/proc").join(fs::read_link("/proc/thread-self")?);
            threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(())
    }

    /// Their time on CPUs so far, microseconds.
    pub(super) fn spent_us(&self) -> Result<f64> {
        let threads = match self {
            Self::Process(tasks) => fs::read_dir(tasks)?
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<PathBuf>>>()?,
            Self::Threads(threads) => {
                threads.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        };
        ensure!(!threads.is_empty(), "the server has no thread");
        // One that has just ended takes along what it spent: workers do not.
        let spent = threads.iter().filter_map(|thread| {
            let text = fs::read_to_string(thread.join("schedstat")).ok()?;
            Some(first_number(&text))
        });
        Ok(spent.sum::<Result<f64>>()? / 1_000.0)
    }
}

/// Nanoseconds on a CPU; waiting and turns follow.
fn first_number(text: &str) -> Result<f64> {
    let word = text.split_whitespace().next().context("an empty schedstat")?;
    word.parse().with_context(|| format!("schedstat: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_a_thread_is_seen_in_its_server_alone() {
        let (busy, idle) = (Server::of_threads(), Server::of_threads());
        busy.join().unwrap();
        let waits = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                idle.join().unwrap();
                waits.wait();
                waits.wait();
            });
            waits.wait();
            let before = [&busy, &idle].map(|it| it.spent_us().unwrap());
            while busy.spent_us().unwrap() < before[0] + 20_000.0 {
                std::hint::black_box(fs::read_link("/proc/self").unwrap());
            }
            assert!(idle.spent_us().unwrap() < before[1] + 10_000.0);
            waits.wait();
        });
        assert!(Server::process(std::process::id()).spent_us().unwrap() > 20_000.0);
    }
}
