//! Network namespaces without a name: held by a file descriptor, gone with the process.
//!
//! Law: nothing here needs cleaning up after a crash. The kernel removes a namespace, its links and
//! its rules when the last descriptor and the last thread in it are gone.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    file: Arc<File>,
}

impl Namespace {
    /// A fresh one with its loopback up.
    pub(crate) fn create() -> Result<Self> {
        let file = thread::scope(|scope| {
            join(scope.spawn(|| -> Result<File> {
                unshare(CloneFlags::CLONE_NEWNET).context("new network namespace")?;
                File::open("/proc/thread-self/ns/net").context("own network namespace")
            }))
        })?;
        let namespace = Self { file: Arc::new(file) };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// One that a path names.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(Self { file: Arc::new(file) })
    }

    /// A path that names it while this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Moves the calling thread into it, for good.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).context("entering a network namespace")
    }

    /// Runs something in it, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            join(scope.spawn(|| {
                self.enter()?;
                work()
            }))
        })
    }

    /// A command that will run in it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec only `setns` and `prctl` are called, plain system calls on a
        // descriptor that the closure keeps open.
        unsafe {
            command.pre_exec(move || {
                die_with_parent()?;
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Into::into)
            });
        }
        command
    }

    /// One line for `ip`.
    pub(crate) fn ip(&self, line: &str) -> Result<()> {
        self.ip_batch(std::slice::from_ref(&line.to_owned()))
    }

    /// Many lines for `ip`, in one process.
    pub(crate) fn ip_batch(&self, lines: &[String]) -> Result<()> {
        feed(self.command("ip").args(["-batch", "-"]), &(lines.join("\n") + "\n"))
    }

    /// Writes settings under `/proc/sys/net`.
    pub(crate) fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(name, value)| {
                fs::write(format!("/proc/sys/net/{name}"), value)
                    .with_context(|| format!("setting net/{name} to {value}"))
            })
        })
    }

    /// Packets that a link of it has received.
    pub(crate) fn received(&self, link: &str) -> Result<u64> {
        self.run(|| {
            let table = fs::read_to_string("/proc/thread-self/net/dev").context("link counters")?;
            table
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.trim() == link)
                .and_then(|(_, counters)| counters.split_whitespace().nth(1)?.parse().ok())
                .with_context(|| format!("no counters of {link}"))
        })
    }
}

/// Feeds text to a command and names its complaint.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<()> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| name.clone())?;
    let stdin = child.stdin.take().context("no pipe to the command")?;
    let written = thread::scope(|scope| {
        let writer = scope.spawn(move || { &stdin }.write_all(input.as_bytes()));
        let output = child.wait_with_output();
        (writer.join(), output)
    });
    let output = written.1.with_context(|| name.clone())?;
    ensure!(
        output.status.success(),
        "{name}: {} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The result of a thread, its panic as an error.
pub(crate) fn join<T>(handle: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().map_err(|_| anyhow!("a thread of the bench panicked"))?
}

fn die_with_parent() -> std::io::Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes one integer and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
