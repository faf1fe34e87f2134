//! A sandbox with servers in it: what a scenario calls a container.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::wire::{Answer, Server, tcp_echo_server, tcp_request, udp_echo_server, udp_request};
use crate::{Daemon, Netns};

/// The transport protocols that scenarios run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// As in `-p 80:80/tcp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// One request from inside `netns`, one answer.
    pub fn ask(self, netns: &Netns, target: SocketAddr) -> Result<Answer> {
        match self {
            Self::Tcp => tcp_request(netns, target, b"hello"),
            Self::Udp => udp_request(netns, target, b"hello"),
        }
    }
}

/// A sandbox of a daemon, and its addresses.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    described: Value,
}

impl Container {
    /// Makes a sandbox; `arguments` are those of `netd sandbox create`.
    pub fn create(daemon: &Daemon<'_>, name: &str, arguments: &[&str]) -> Result<Self> {
        daemon.ok(&[&["sandbox", "create", "--name", name], arguments].concat())?;
        Self::find(daemon, name)
    }

    /// The sandbox of that name as it is now.
    pub fn find(daemon: &Daemon<'_>, name: &str) -> Result<Self> {
        Self::find_all(daemon, &[name])?.pop().context("inspect shows nothing")
    }

    /// The sandboxes of those names, in their order.
    pub fn find_all(daemon: &Daemon<'_>, names: &[&str]) -> Result<Vec<Self>> {
        let text = daemon.ok(&[&["sandbox", "inspect"], names].concat())?;
        let all: Vec<Value> = serde_json::from_str(&text).context("inspect is no JSON")?;
        all.into_iter().map(Self::described_by).collect()
    }

    fn described_by(described: Value) -> Result<Self> {
        let text = |key: &str| described[key].as_str().map(str::to_owned);
        let name = text("Name").context("no name is shown")?;
        let netns = Netns::at(text("Netns").context("no namespace is shown")?);
        Ok(Self { name, netns, described })
    }

    /// What `inspect` shows.
    pub fn described(&self) -> &Value {
        &self.described
    }

    /// Its address on a network, of IPv6 where `v6`.
    pub fn address(&self, network: &str, v6: bool) -> Result<IpAddr> {
        let key = if v6 { "GlobalIPv6Address" } else { "IPAddress" };
        let text = self.described["Networks"][network][key].as_str().unwrap_or_default();
        text.parse().with_context(|| format!("{} has no {key} on {network}", self.name))
    }

    /// Both addresses on a dual-stack network.
    pub fn addresses(&self, network: &str) -> Result<[IpAddr; 2]> {
        Ok([self.address(network, false)?, self.address(network, true)?])
    }

    /// Serves TCP and UDP on a port of every address, until the value goes.
    pub fn serve(&self, port: u16, v6: bool) -> Result<[Server; 2]> {
        let any: IpAddr = if v6 { [0u16; 8].into() } else { [0u8; 4].into() };
        let address = SocketAddr::new(any, port);
        Ok([tcp_echo_server(&self.netns, address)?, udp_echo_server(&self.netns, address)?])
    }

    /// Serves both families and both protocols on a port.
    pub fn serve_all(&self, port: u16) -> Result<Vec<Server>> {
        // An IPv6 socket for all addresses takes IPv4, too.
        Ok(self.serve(port, true)?.into())
    }

    /// Whether an address answers one ICMP echo request from here.
    pub fn pings(&self, target: IpAddr) -> Result<bool> {
        self.ping(&[&target.to_string()])
    }

    /// The same from an address that it may not have.
    pub fn pings_from(&self, source: IpAddr, target: IpAddr) -> Result<bool> {
        self.ping(&["-I", &source.to_string(), &target.to_string()])
    }

    fn ping(&self, words: &[&str]) -> Result<bool> {
        self.netns.run(|| {
            let mut command = std::process::Command::new("ping");
            command.args(["-n", "-q", "-c", "1", "-W", "2"]).args(words);
            Ok(crate::process::output(&mut command, b"")?.status.success())
        })
    }
}
