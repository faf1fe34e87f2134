//! Sandboxes: a network namespace with the endpoints and published ports of one container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::endpoint::EndpointSpec;
use super::extra_host::ExtraHost;
use super::id::SandboxId;
use super::keeper::Keeper;
use super::netns::NetnsPath;
use super::network::Network;
use super::port::{PortSpec, Proto, Publication};
use super::refusal::Refusal;

/// What a user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Unique name; one is made where none is given.
    pub name: Option<String>,
    /// Networks to connect to, in order, each by name, id or id prefix. Empty: the predefined bridge.
    pub networks: Vec<(String, EndpointSpec)>,
    /// Host name; the short id where none is given.
    pub hostname: Option<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`; a lone `.` means none.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--add-host`, as given.
    pub extra_hosts: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `-p`, parsed.
    pub ports: Vec<PortSpec>,
    /// `-P`.
    pub publish_all: bool,
    /// `--expose`: container ports, single or ranges, as given (`80`, `80/udp`, `80-90/tcp`).
    pub expose: Vec<String>,
    /// An existing namespace to fill, else one is made under the netns directory.
    pub netns: Option<PathBuf>,
    /// The process it lives and dies with.
    pub owner: Option<ProcessRef>,
}

/// A granted sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Unique id.
    pub id: SandboxId,
    /// Unique name.
    pub name: String,
    /// Unix time of creation, nanoseconds.
    pub created_ns: i64,
    /// Who decides on its networks and its end.
    #[serde(default)]
    pub keeper: Keeper,
    /// How it is attached.
    pub mode: SandboxMode,
    /// Path of its network namespace.
    pub netns: NetnsPath,
    /// Whether we made the namespace, and so remove it.
    pub owns_netns: bool,
    /// Host name.
    pub hostname: String,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`; a lone `.` means none.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    #[serde(default)]
    pub dns_options: Vec<String>,
    /// `--add-host`.
    #[serde(default)]
    pub extra_hosts: Vec<ExtraHost>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Exposed container ports: first, last, protocol.
    pub expose: Vec<(u16, u16, Proto)>,
    /// What `-p` and `-P` ask for; granted anew when the gateway endpoints change.
    pub ports: Vec<PortSpec>,
    /// What the ports came to: rows of a family are there exactly while a gateway endpoint of that
    /// family is, so every row here is to be opened.
    pub publications: Vec<Publication>,
    /// The process it lives and dies with.
    pub owner: Option<ProcessRef>,
}

impl Sandbox {
    /// Refuses what only the keeper of the sandbox may do.
    pub(super) fn refuse_unless_ours(&self) -> Result<(), Refusal> {
        self.keeper.refuse_unless_ours("sandbox", &self.name)
    }

    /// Whether it asks netd for names, given its networks. On the predefined bridge alone it uses the
    /// host's name servers, as with Docker; an engine's containers have the engine's own resolver
    /// unless a network says otherwise.
    pub fn asks_netd<'a>(&self, networks: impl Iterator<Item = &'a Network>) -> bool {
        let mut networks = networks.peekable();
        let lonely = self.keeper == Keeper::Netd && networks.peek().is_none();
        self.mode == SandboxMode::Bridged && (lonely || networks.any(Network::asks_netd))
    }
}

/// How a sandbox is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// To bridge networks.
    Bridged,
    /// It is the host's namespace.
    Host,
    /// Loopback only.
    None,
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}
