//! One question to the host as it is, and what its answer must be.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail, ensure};

use super::act::WORLD_PORT;
use crate::container::Transport;
use crate::outside::{WORLD_V4, WORLD_V6};
use crate::process::built;
use crate::wire::{Server, tcp_echo_server, udp_echo_server};
use crate::{Host, Netns, Outside};

/// Addresses behind the router.
pub(super) const WORLD: [IpAddr; 2] = [IpAddr::V4(WORLD_V4), IpAddr::V6(WORLD_V6)];

/// Whether a daemon runs: names are answered by one, traffic by none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Daemons {
    /// It has just ended.
    None,
    /// It runs.
    One,
}

/// Where questions come from and go to.
pub(super) struct World<'world> {
    host: &'world Host,
    outside: &'world Outside,
    _servers: Vec<Server>,
}

impl<'world> World<'world> {
    /// With servers behind the router.
    pub(super) fn serve(host: &'world Host, outside: &'world Outside) -> Result<Self> {
        let mut servers = Vec::new();
        for address in WORLD {
            let address = SocketAddr::new(address, WORLD_PORT);
            servers.push(tcp_echo_server(outside.netns(), address)?);
            servers.push(udp_echo_server(outside.netns(), address)?);
        }
        Ok(Self { host, outside, _servers: servers })
    }
}

/// What is asked.
pub(super) enum Meant {
    /// A request over a socket; where it matters, whom the server must see.
    Request { target: SocketAddr, transport: Transport, seen_as: Option<IpAddr> },
    /// A name, asked for by a program in a container; it has one of these addresses, or does not exist.
    Name { asker: String, name: String, addresses: BTreeSet<IpAddr> },
}

/// One question and whether it must be answered.
pub(super) struct Probe {
    /// Asked from inside, or from outside where none is named.
    pub(super) from: Option<Netns>,
    /// What.
    pub(super) meant: Meant,
    /// Whether an answer comes.
    pub(super) answers: bool,
}

impl Probe {
    /// Asks; at which try the answer was right.
    pub(super) fn check(&self, world: &World<'_>) -> Result<u64> {
        let mut asked = self.ask(world);
        let mut tries = 1;
        if asked.is_err() && self.answers {
            // A datagram may be lost where the machine is busy; twice is no accident.
            asked = self.ask(world);
            tries = 2;
        }
        match (self.answers, asked) {
            (true, Ok(())) | (false, Err(_)) => Ok(tries),
            (true, Err(error)) => Err(error),
            (false, Ok(())) => bail!("{}: an answer that must not come", self.told()),
        }
    }

    fn ask(&self, world: &World<'_>) -> Result<()> {
        match &self.meant {
            Meant::Request { target, transport, seen_as } => {
                let from = self.from.as_ref().unwrap_or(world.outside.netns());
                let answer = match transport.ask(from, *target) {
                    Ok(answer) => answer,
                    Err(error) => bail!("{}: {error:#}", self.told()),
                };
                ensure!(answer.from == *target, "{}: {answer:?}", self.told());
                let right = seen_as.is_none_or(|address| answer.seen_as.ip() == address);
                ensure!(right, "{}: seen as {}", self.told(), answer.seen_as);
                Ok(())
            }
            Meant::Name { asker, name, addresses } => {
                let found = resolve(world.host, asker, name)?;
                let right = if addresses.is_empty() {
                    found.is_empty()
                } else {
                    !found.is_empty() && found.is_subset(addresses)
                };
                ensure!(right, "{}: {found:?}, not {addresses:?}", self.told());
                Ok(())
            }
        }
    }

    fn told(&self) -> String {
        match &self.meant {
            Meant::Request { target, transport, .. } => {
                let from = self
                    .from
                    .as_ref()
                    .map_or("outside".into(), |it| it.path().display().to_string());
                format!("{} {target} from {from}", transport.name())
            }
            Meant::Name { asker, name, .. } => format!("name {name} in {asker}"),
        }
    }
}

/// Both families' addresses of a name, as a program in the container is told.
fn resolve(host: &Host, asker: &str, name: &str) -> Result<BTreeSet<IpAddr>> {
    let socket = crate::daemon::Places::of(host).socket();
    let socket = socket.to_string_lossy();
    let dig = ["dig", "+short", "+tries=1", "+time=5", name, "A", name, "AAAA"];
    let words = [&["-H", &*socket, "sandbox", "exec", asker], &dig[..]].concat();
    let said = host.exec(built("netd")?, &words)?;
    let told = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.status.success(), "{words:?}: {said:?}");
    told.lines().map(|line| Ok(line.trim().parse()?)).collect()
}
