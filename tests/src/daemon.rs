//! A netd daemon on a host, and the command line that talks to it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::Host;
use crate::{eventually, process};

const READY_WITHIN: Duration = Duration::from_mins(1);
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A running daemon; it ends with the value, by force.
pub struct Daemon<'host> {
    host: &'host Host,
    places: Places,
    child: Child,
}

/// Where one daemon keeps its things. A daemon started again on the same places finds its state.
#[derive(Clone, Debug)]
pub struct Places {
    directory: PathBuf,
    bpffs: PathBuf,
    cgroup: PathBuf,
}

/// What a command line said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Places {
    /// The places of the host's one daemon.
    pub fn of(host: &Host) -> Self {
        Self {
            directory: host.directory().to_owned(),
            bpffs: host.bpffs().join("netd"),
            cgroup: host.cgroup().to_owned(),
        }
    }

    /// Places for a further daemon on the same host, which must not meet the first.
    pub fn further(host: &Host, name: &str) -> Result<Self> {
        let directory = host.directory().join(name);
        for below in ["state", "run", "netns"] {
            fs::create_dir_all(directory.join(below))?;
        }
        let cgroup = host.cgroup().join(name);
        fs::create_dir_all(&cgroup)?;
        Ok(Self { directory, bpffs: host.bpffs().join(name), cgroup })
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("run/netd.sock")
    }

    /// The socket that a container engine finds the driver by.
    pub fn plugin_socket(&self) -> PathBuf {
        self.directory.join("plugins/netd.sock")
    }

    /// The API of the host's container engine, where one runs.
    pub fn engine_socket(&self) -> PathBuf {
        self.directory.join("engine/docker.sock")
    }

    /// Where sandboxes' namespaces are mounted.
    pub fn netns(&self) -> PathBuf {
        self.directory.join("netns")
    }

    /// Where the daemon's pins are.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// What the daemon wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("daemon.log")
    }

    /// The configuration that keeps a daemon within its places: the one list of such keys.
    fn configuration(&self) -> [(&'static str, PathBuf); 8] {
        [
            ("state-dir", self.directory.join("state")),
            ("run-dir", self.directory.join("run")),
            ("netns-dir", self.netns()),
            ("bpffs-dir", self.bpffs.clone()),
            ("cgroup", self.cgroup.clone()),
            ("api-socket", self.socket()),
            ("docker-socket", self.plugin_socket()),
            ("docker-api-socket", self.engine_socket()),
        ]
    }

    fn write_configuration(&self, settings: &str) -> Result<PathBuf> {
        let mut text = String::new();
        for (key, path) in self.configuration() {
            writeln!(text, "{key} = \"{}\"", path.display())?;
        }
        // What follows a table's heading belongs to the table: the settings come last.
        writeln!(text, "{settings}")?;
        let file = self.directory.join("netd.toml");
        fs::write(&file, text)?;
        Ok(file)
    }
}

impl<'host> Daemon<'host> {
    /// Starts the host's daemon with further `settings` (TOML) and waits until it answers.
    pub fn start(host: &'host Host, settings: &str) -> Result<Self> {
        Self::start_at(host, Places::of(host), settings)
    }

    /// Starts the host's daemon with its fault switch set: once it serves, its `step`-th effect on
    /// the kernel fails, and no other.
    pub fn start_failing(host: &'host Host, step: u32) -> Result<Self> {
        Self::start_in(host, &[&format!("NETD_FAULT={step}")])
    }

    /// Starts the host's daemon with further variables of the environment, each `NAME=VALUE`.
    pub fn start_in(host: &'host Host, environment: &[&str]) -> Result<Self> {
        Self::start_in_with(host, environment, "")
    }

    /// The same with further `settings` (TOML).
    pub fn start_in_with(host: &'host Host, environment: &[&str], settings: &str) -> Result<Self> {
        Self::start_with(host, Places::of(host), settings, &[environment, &["netd"]].concat())
    }

    /// Starts the host's daemon where not all can be had that its store asks for.
    pub fn start_degraded(host: &'host Host) -> Result<Self> {
        let mut daemon = Self::spawn(host, Places::of(host), "", &["netd"])?;
        // Its answer is a table, whatever it says.
        daemon.wait_for_answer(|said| !said.stdout.is_empty())?;
        Ok(daemon)
    }

    /// Starts another version of the host's daemon: a program built beside `netd`.
    pub fn start_version(host: &'host Host, program: &str) -> Result<Self> {
        Self::start_with(host, Places::of(host), "", &[program])
    }

    /// Starts the host's daemon so that it is killed at a point: the `point`-th change once it serves,
    /// or, as `start:7`, of its whole life. A daemon that dies before it serves is an error.
    pub fn start_dying(host: &'host Host, point: &str) -> Result<Self> {
        Self::start_in(host, &[&format!("NETD_FAULT_KILL={point}")])
    }

    /// Starts a version of the host's daemon that is killed at the `point`-th change of its start; false
    /// where the start has fewer, and the daemon was ended by force when it served.
    pub fn start_and_die(
        host: &'host Host,
        program: &str,
        settings: &str,
        point: u32,
    ) -> Result<bool> {
        let kill = format!("NETD_FAULT_KILL=start:{point}");
        let mut daemon = Self::spawn(host, Places::of(host), settings, &[&kill, program])?;
        let socket = daemon.places.socket();
        let died = eventually("the daemon's death or its answer", READY_WITHIN, || {
            if let Some(status) = daemon.child.try_wait()? {
                let killed = status.signal() == Some(Signal::SIGKILL as i32);
                ensure!(killed, "it ended otherwise ({status}): {}", daemon.places.log());
                return Ok(Some(true));
            }
            let answers = socket.exists() && daemon.cli(&["status"])?.code == Some(0);
            Ok(answers.then_some(false))
        })?;
        daemon.crash().map(|_| died)
    }

    /// Whether its process has ended.
    pub fn is_dead(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it has been killed.
    pub fn has_died(mut self) -> Result<()> {
        let status = process::wait(&mut self.child, STOPS_WITHIN).context("to be killed")?;
        ensure!(status.signal() == Some(Signal::SIGKILL as i32), "it ended otherwise: {status}");
        Ok(())
    }

    /// Starts a daemon on given places.
    pub fn start_at(host: &'host Host, places: Places, settings: &str) -> Result<Self> {
        Self::start_with(host, places, settings, &["netd"])
    }

    fn start_with(
        host: &'host Host,
        places: Places,
        settings: &str,
        command: &[&str],
    ) -> Result<Self> {
        let mut daemon = Self::spawn(host, places, settings, command)?;
        daemon.wait_for_answer(|said| said.code == Some(0))?;
        Ok(daemon)
    }

    /// `command` ends with the program, after variables of its environment.
    fn spawn(host: &'host Host, places: Places, settings: &str, command: &[&str]) -> Result<Self> {
        let file = places.write_configuration(settings)?.to_string_lossy().into_owned();
        let (program, environment) = command.split_last().context("a program")?;
        let program = process::built(program)?.to_string_lossy().into_owned();
        let run = [&program, "daemon", "--config", &file];
        let arguments = [&["NETD_FAULT="], environment, &run[..]].concat();
        let child = host.spawn("env", &arguments, &places.log_file())?;
        Ok(Self { host, places, child })
    }

    fn wait_for_answer(&mut self, is_one: fn(&Said) -> bool) -> Result<()> {
        let answered = eventually("the daemon's answer", READY_WITHIN, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended ({status})");
            }
            if !self.places.socket().exists() {
                return Ok(None);
            }
            Ok(is_one(&self.cli(&["status"])?).then_some(()))
        });
        answered.with_context(|| format!("its log:\n{}", self.places.log()))
    }

    /// Runs the command line against this daemon, whatever it answers.
    pub fn cli(&self, arguments: &[&str]) -> Result<Said> {
        let socket = self.places.socket();
        let socket = socket.to_string_lossy();
        let all = [&["-H", &socket], arguments].concat();
        let output = self.host.exec(process::built("netd")?, &all)?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs the command line; the answer is its output without the last line's end. Refusals are
    /// errors.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        let said = self.cli(arguments)?;
        ensure!(said.code == Some(0), "`netd {}` failed: {said:?}", arguments.join(" "));
        Ok(said.stdout.trim_end().to_owned())
    }

    /// The host that it runs on.
    pub fn host(&self) -> &'host Host {
        self.host
    }

    /// Its places, for another daemon that continues this one's work.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Its process.
    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        kill(self.pid()?, Signal::SIGTERM)?;
        process::wait(&mut self.child, STOPS_WITHIN).context("after a request to stop")
    }

    /// Ends it as a crash would.
    pub fn crash(mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // Both only fail for a process that has ended and was waited for: then all is done.
        let _already_ended = self.child.kill();
        let _already_waited = self.child.wait();
    }
}
