//! What the steps play on: a host, the outside, and the daemon while it runs. Whatever is run here is
//! printed first, as one would type it.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::report::Report;
use super::text::command_line;
use crate::daemon::Places;
use crate::outside::{ROUTER_V4, ROUTER_V6, WORLD_V4, WORLD_V6};
use crate::process::built;
use crate::{Container, Daemon, Host, Outside, Said};

/// The port that every server listens on inside its sandbox.
pub(super) const INNER_PORT: u16 = 7000;
/// The port of the host that leads to it.
pub(super) const PUBLISHED_PORT: u16 = 8080;

/// The world of the demo.
pub(super) struct Stage<'a> {
    pub(super) outside: &'a Outside,
    pub(super) host: &'a Host,
    pub(super) report: &'a mut Report,
    /// Netfilter's rules before the daemon's first start.
    pub(super) rules_before: Vec<String>,
    pub(super) wire: PathBuf,
    daemon: Option<Daemon<'a>>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        outside: &'a Outside,
        host: &'a Host,
        report: &'a mut Report,
    ) -> Result<Self> {
        let rules_before = super::life::rules(host)?;
        Ok(Self { outside, host, report, rules_before, wire: built("wire")?, daemon: None })
    }

    /// Says where everything is.
    pub(super) fn introduce(&mut self) {
        let (name, v4, v6) = (self.host.name(), self.host.v4(), self.host.v6());
        println!("netd: a host's container network by eBPF, on real traffic\n");
        let who = [
            ("host", format!("namespace {name}, {v4} and {v6} on its uplink eth0")),
            ("outside", format!("a client at {ROUTER_V4} and {ROUTER_V6}; behind it the world,")),
            ("", format!("{WORLD_V4} and {WORLD_V6}")),
            ("wire", "a small server and client: the server answers with the".to_owned()),
            ("", "address it saw the client come from".to_owned()),
            ("NETD_HOST", format!("unix://{}, in every host$ below", self.socket())),
        ];
        for (word, sentence) in who {
            println!("  {word:<11}{sentence}");
        }
    }

    /// The daemon's configuration file.
    pub(super) fn configuration(&self) -> String {
        self.host.directory().join("netd.toml").to_string_lossy().into_owned()
    }

    /// The daemon's socket.
    pub(super) fn socket(&self) -> String {
        Places::of(self.host).socket().to_string_lossy().into_owned()
    }

    /// The host's addresses on its uplink.
    pub(super) fn uplink(&self) -> [IpAddr; 2] {
        [self.host.v4().into(), self.host.v6().into()]
    }

    /// Starts the daemon.
    pub(super) fn start(&mut self) -> Result<()> {
        let configuration = self.configuration();
        self.tried("host", &["netd", "daemon", "--config", &configuration, "&"]);
        self.daemon = Some(Daemon::start(self.host, "")?);
        Ok(())
    }

    /// The daemon, which must run.
    pub(super) fn daemon(&self) -> Result<&Daemon<'a>> {
        self.daemon.as_ref().context("the daemon does not run")
    }

    /// Ends the daemon with signal 9.
    pub(super) fn kill(&mut self) -> Result<()> {
        let daemon = self.daemon.take().context("the daemon does not run")?;
        let pid = daemon.pid()?.to_string();
        self.tried("host", &["kill", "-9", &pid]);
        daemon.crash().map(drop)
    }

    /// Prints a command line. What the demo asks in passing is not printed.
    pub(super) fn tried(&mut self, prompt: &str, words: &[&str]) {
        let line = command_line(words).replace("'&'", "&");
        let wire = self.wire.to_string_lossy();
        self.report.tried(prompt, &line.replace(&*wire, "wire"));
    }

    /// Runs `netd` on the host and prints what it says; the answer is that.
    pub(super) fn netd(&mut self, arguments: &[&str]) -> Result<String> {
        let said = self.try_netd(arguments)?;
        anyhow::ensure!(said.code == Some(0), "it failed: {}", said.stderr.trim());
        Ok(said.stdout)
    }

    /// The same, whatever it answers, with or without a daemon.
    pub(super) fn try_netd(&mut self, arguments: &[&str]) -> Result<Said> {
        self.tried("host", &[&["netd"], arguments].concat());
        let said = self.quietly(arguments)?;
        self.report.said(said.stdout.trim_end());
        self.report.said(said.stderr.trim_end());
        Ok(said)
    }

    /// The same, unprinted.
    pub(super) fn quietly(&self, arguments: &[&str]) -> Result<Said> {
        let socket = self.socket();
        let all = [&["-H", &socket], arguments].concat();
        let output = self.host.exec(built("netd")?, &all)?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// What the daemon says about itself.
    pub(super) fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.daemon()?.ok(&["status", "--format", "json"])?)?)
    }

    /// How often a reason has been counted on the whole host.
    pub(super) fn drops(&self, reason: &str) -> Result<u64> {
        Ok(self.status()?["Drops"][reason].as_u64().unwrap_or(0))
    }

    /// A container's addresses on its network.
    pub(super) fn addresses(&self, container: &str, network: &str) -> Result<[IpAddr; 2]> {
        Container::find(self.daemon()?, container)?.addresses(network)
    }
}
