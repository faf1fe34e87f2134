//! `netd run`: a process in a sandbox of its own, which lives as long as the process.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitCode, ExitStatus};

use clap::Args;
use hyper::Method;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::attach::AttachArgs;
use super::client::{Client, escape};
use super::error::CliError;
use super::process::{self, PrivateFile, StartError, Surroundings, Tie};
use crate::api::{Created, Owner, OwnerUpdate, SandboxInspect};

/// What `run` takes beside the flags of every sandbox.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct RunArgs {
    #[command(flatten)]
    attach: AttachArgs,
    /// Run in the background and print the sandbox's id
    #[arg(short, long)]
    detach: bool,
    /// Remove the sandbox when the process ends; always on, taken for scripts written for Docker
    #[arg(long)]
    rm: bool,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// Why a command did not run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// Asking the daemon or the kernel failed.
    #[error(transparent)]
    Cli(#[from] CliError),
    /// The command did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A signal came before the command was started.
    #[error("interrupted by {0}")]
    Interrupted(Signal),
}

impl RunError {
    fn report(&self) -> ExitCode {
        eprintln!("netd: {self}");
        ExitCode::from(match self {
            Self::Cli(_) => 125,
            Self::Start(error) => error.exit_code(),
            Self::Interrupted(signal) => signal_code(*signal as i32),
        })
    }
}

/// Runs the command; the exit code is its own, or 125 to 127 where it did not run.
pub(super) fn run(args: &RunArgs, client: &Client) -> ExitCode {
    live(args, client).map_or_else(|error| error.report(), ExitCode::from)
}

/// Runs a command in a sandbox that exists already.
pub(super) fn exec(sandbox: &str, command: &[OsString], client: &Client) -> ExitCode {
    let work = || -> Result<u8, RunError> {
        let signals = Signals::catch()?;
        let sandbox: SandboxInspect = client.get(&path(sandbox))?;
        supervise(process::start(command, surroundings(&sandbox)?, Tie::Child)?, &signals)
    };
    work().map_or_else(|error| error.report(), ExitCode::from)
}

fn path(sandbox: &str) -> String {
    format!("/v1/sandboxes/{}", escape(sandbox))
}

fn live(args: &RunArgs, client: &Client) -> Result<u8, RunError> {
    let signals = Signals::catch()?;
    let mut request = args.attach.creation()?;
    request.owner = Some(owner(std::process::id())?);
    let created: Created = client.post("/v1/sandboxes", &request)?;
    for warning in &created.warnings {
        eprintln!("WARNING: {warning}");
    }
    let sandbox = Tenancy { client, id: created.id };
    let tie = if args.detach { Tie::Detached } else { Tie::Child };
    let process = start(args, client, &sandbox.id, &signals, tie)?;
    match tie {
        Tie::Child => supervise(process, &signals),
        Tie::Detached => detach(process, sandbox),
    }
}

fn start(
    args: &RunArgs,
    client: &Client,
    id: &str,
    signals: &Signals,
    tie: Tie,
) -> Result<Child, RunError> {
    let sandbox: SandboxInspect = client.get(&path(id))?;
    let surroundings = surroundings(&sandbox)?;
    if let Some((signal, _)) = signals.next()? {
        return Err(RunError::Interrupted(signal));
    }
    Ok(process::start(&args.command, surroundings, tie)?)
}

/// The process takes the sandbox over from us.
fn detach(mut process: Child, sandbox: Tenancy) -> Result<u8, RunError> {
    let handed = owner(process.id()).and_then(|owner| {
        let path = format!("{}/owner", path(&sandbox.id));
        sandbox.client.tell(Method::PUT, &path, &OwnerUpdate { owner: Some(owner) })
    });
    if let Err(error) = handed {
        // Without an owner the sandbox goes, and the process must not outlive it.
        let _ = process.kill();
        let _ = process.wait();
        return Err(error.into());
    }
    println!("{}", sandbox.keep());
    Ok(0)
}

/// A sandbox that is removed when we are done with it, however that comes.
struct Tenancy<'a> {
    client: &'a Client,
    id: String,
}

impl Tenancy<'_> {
    fn keep(mut self) -> String {
        std::mem::take(&mut self.id)
    }
}

impl Drop for Tenancy<'_> {
    fn drop(&mut self) {
        if self.id.is_empty() {
            return;
        }
        match self.client.delete(&path(&self.id)) {
            Err(error) if !error.is_not_found() => {
                eprintln!("netd: cannot remove sandbox {}: {error}", self.id);
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn owner(pid: u32) -> Result<Owner, CliError> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|e| CliError::system(&path, e))?;
    let start_ticks =
        start_ticks(&stat).ok_or_else(|| CliError::Refused(format!("{path} has no start time")))?;
    let pid = i32::try_from(pid).map_err(|e| CliError::Refused(e.to_string()))?;
    Ok(Owner { pid, start_ticks })
}

/// Field 22; the second may hold anything, but ends at the last parenthesis.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn surroundings(sandbox: &SandboxInspect) -> Result<Surroundings, CliError> {
    let mut surroundings = Surroundings::default();
    if sandbox.mode != "host" {
        let netns = File::open(&sandbox.netns).map_err(|e| CliError::system(&sandbox.netns, e))?;
        surroundings.netns = Some(netns);
    }
    for (target, source) in [
        ("/etc/hosts", &sandbox.hosts_path),
        ("/etc/hostname", &sandbox.hostname_path),
        ("/etc/resolv.conf", &sandbox.resolv_conf_path),
    ] {
        surroundings.files.extend(PrivateFile::new(source, target));
    }
    if !sandbox.hostname_path.is_empty() {
        surroundings.hostname = Some(sandbox.hostname.clone().into());
    }
    warn_without_servers(sandbox);
    Ok(surroundings)
}

fn warn_without_servers(sandbox: &SandboxInspect) {
    let told = std::fs::read_to_string(&sandbox.resolv_conf_path);
    let names_none = |text: String| !text.lines().any(|line| line.starts_with("nameserver"));
    if sandbox.mode == "bridged" && told.is_ok_and(names_none) {
        eprintln!(
            "WARNING: the host's name servers cannot be reached from a sandbox: name one by --dns"
        );
    }
}

/// The signals that would end us, read one by one.
struct Signals(SignalFd);

impl Signals {
    fn catch() -> Result<Self, CliError> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
        ] {
            set.add(signal);
        }
        let caught = set.thread_block().and_then(|()| {
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        });
        caught.map(Self).map_err(|e| CliError::system("cannot catch signals", e))
    }

    /// The next one that is waiting, and whether the kernel sent it: from a terminal it goes to the
    /// child as well.
    fn next(&self) -> Result<Option<(Signal, bool)>, CliError> {
        let read = self.0.read_signal().map_err(|e| CliError::system("cannot read signals", e))?;
        Ok(read.and_then(|info| {
            let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
            Some((signal, info.ssi_code == libc::SI_KERNEL))
        }))
    }

    /// Waits for a signal or the end of a process.
    fn wait(&self, process: BorrowedFd<'_>) -> Result<(), CliError> {
        let mut fds = [self.0.as_fd(), process].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(CliError::system("cannot wait for signals", errno)),
        }
    }
}

/// Waits for the child, hands signals on, and gives its exit code.
fn supervise(mut child: Child, signals: &Signals) -> Result<u8, RunError> {
    let pid = i32::try_from(child.id()).map_err(|e| CliError::Refused(e.to_string()))?;
    let end = process::watch(&child).map_err(|e| CliError::system("cannot watch", e))?;
    loop {
        let ended = child.try_wait().map_err(|e| CliError::system("cannot wait", e))?;
        if let Some(status) = ended {
            return Ok(exit_code(status));
        }
        signals.wait(end.as_fd())?;
        while let Some((signal, from_terminal)) = signals.next()? {
            if !from_terminal {
                // It may have ended meanwhile, which the next round sees.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or_else(|| signal_code(status.signal().unwrap_or_default()))
}

fn signal_code(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |number| number.saturating_add(128))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
