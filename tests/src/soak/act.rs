//! What can happen.

use std::sync::OnceLock;

use anyhow::{Context as _, Result};

use crate::process::built;

/// Ports that may be published.
pub(super) const PORTS: u16 = 40;
/// The first of them.
pub(super) const FIRST_PORT: u16 = 9000;
/// What every container serves.
pub(super) const SERVED: u16 = 7000;
/// Servers of the world.
pub(super) const WORLD_PORT: u16 = 7100;

/// An operation.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A dual-stack network.
    MakeNetwork { network: String },
    /// Refused while it is in use.
    RemoveNetwork { network: String },
    /// A container on a network that publishes some ports.
    Create { sandbox: String, network: String, ports: Vec<u16> },
    /// The same by `netd run`: it lives as long as its process, which serves.
    Run { sandbox: String, network: String, ports: Vec<u16> },
    /// The process of `netd run` is killed.
    Kill { sandbox: String },
    /// A container goes, with all it publishes.
    Remove { sandbox: String },
    /// A container joins a further network.
    Connect { sandbox: String, network: String },
    /// It leaves one.
    Disconnect { sandbox: String, network: String },
    /// An engine's container joins the engine's network.
    Enter { guest: u8 },
    /// It leaves.
    Leave { guest: u8 },
    /// It publishes a port while it runs.
    Publish { guest: u8, port: u16 },
    /// It takes that back and runs on.
    Revoke { guest: u8 },
    /// The daemon ends, by force or not, and starts again; a process may be killed meanwhile.
    Restart { crash: bool, killing: Option<String> },
    /// Traffic.
    Ask,
}

impl Act {
    /// The command line's words.
    pub(super) fn words(&self) -> Result<Vec<&str>> {
        Ok(match self {
            Self::MakeNetwork { network } => vec!["network", "create", "--ipv6", network],
            Self::RemoveNetwork { network } => vec!["network", "rm", network],
            Self::Create { sandbox, network, ports } => {
                let mut words = vec!["sandbox", "create", "--name", sandbox, "--network", network];
                words.extend(published(ports));
                words
            }
            Self::Run { sandbox, network, ports } => {
                let mut words = vec!["run", "-d", "--name", sandbox, "--network", network];
                words.extend(published(ports));
                words.extend([server()?, "serve", served()]);
                words
            }
            Self::Remove { sandbox } => vec!["sandbox", "rm", sandbox],
            Self::Connect { sandbox, network } => vec!["network", "connect", network, sandbox],
            Self::Disconnect { sandbox, network } => {
                vec!["network", "disconnect", network, sandbox]
            }
            Self::Kill { .. }
            | Self::Enter { .. }
            | Self::Leave { .. }
            | Self::Publish { .. }
            | Self::Revoke { .. }
            | Self::Restart { .. }
            | Self::Ask => Vec::new(),
        })
    }
}

/// The name of an engine's container.
pub(super) fn guest_name(guest: u8) -> String {
    format!("guest{guest}")
}

/// `-p PORT:7000 -p PORT:7000/udp` for each; the words are made once.
fn published(ports: &[u16]) -> Vec<&'static str> {
    static WORDS: OnceLock<Vec<[String; 2]>> = OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let spec = |port| [format!("{port}:{SERVED}"), format!("{port}:{SERVED}/udp")];
        (FIRST_PORT..FIRST_PORT + PORTS).map(spec).collect()
    });
    let of_port = |port: &u16| &words[usize::from(port - FIRST_PORT)];
    ports.iter().map(of_port).flat_map(|[tcp, udp]| ["-p", tcp, "-p", udp]).collect()
}

fn server() -> Result<&'static str> {
    static PATH: OnceLock<String> = OnceLock::new();
    let path = built("wire")?.to_str().context("a path in UTF-8")?.to_owned();
    Ok(PATH.get_or_init(|| path))
}

fn served() -> &'static str {
    static PORT: OnceLock<String> = OnceLock::new();
    PORT.get_or_init(|| SERVED.to_string())
}
