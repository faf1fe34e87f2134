//! Endpoints: a sandbox's interface on a network.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use netd_common::MacAddr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{EndpointId, NetworkId, SandboxId};
use super::link_name::LinkName;

/// What a user asks for on connecting; text as given, checked by the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// `--ip`.
    pub ip: Option<String>,
    /// `--ip6`.
    pub ip6: Option<String>,
    /// `--mac-address`.
    pub mac: Option<String>,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--gw-priority`: the highest provides the default route.
    pub gw_priority: i32,
    /// `--driver-opt`.
    pub options: BTreeMap<String, String>,
}

/// A granted endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Unique id.
    pub id: EndpointId,
    /// Number in the dataplane, from 1; reused after removal.
    pub index: u32,
    /// Its network.
    pub network: NetworkId,
    /// Its sandbox; none before it joins one and after it has left.
    pub sandbox: Option<SandboxId>,
    /// Who makes what is inside the sandbox.
    #[serde(default)]
    pub inside: Inside,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Its MAC.
    #[serde(serialize_with = "mac_to_text", deserialize_with = "mac_from_text")]
    pub mac: MacAddr,
    /// Names beside the sandbox's, on this network.
    pub aliases: Vec<String>,
    /// Higher wins the default route; equal ones go by network name.
    pub gw_priority: i32,
    /// Name of the interface in the sandbox; for one that an engine takes, the name it is offered
    /// under in the host's namespace.
    pub interface: LinkName,
    /// Name of the veth end in the host's namespace.
    pub veth: LinkName,
    /// Options as given.
    pub options: BTreeMap<String, String>,
}

/// Who makes the inside of an endpoint: its interface's name, addresses and routes in the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inside {
    /// netd, in the sandbox's namespace.
    #[default]
    Netd,
    /// An engine, which takes the interface from the host's namespace.
    Engine {
        /// Whether the engine has chosen it as a way out of the sandbox, and so as the way in of
        /// published ports.
        opened: bool,
    },
}

impl Endpoint {
    /// Whether its sandbox may leave by it where its network offers a gateway.
    pub fn may_be_gateway(&self) -> bool {
        match self.inside {
            Inside::Netd => true,
            Inside::Engine { opened } => opened,
        }
    }

    /// How many families it speaks where an engine chose it. Of two that are opened, the one with
    /// fewer was chosen for its own family, and the other for what that lacks.
    pub fn breadth(&self) -> usize {
        match self.inside {
            Inside::Netd => 0,
            Inside::Engine { .. } => {
                usize::from(self.v4.is_some()) + usize::from(self.v6.is_some())
            }
        }
    }

    /// The names of its links in the host's namespace.
    pub fn link_names(&self) -> impl Iterator<Item = &str> {
        let offered = (self.inside != Inside::Netd).then_some(&*self.interface);
        [&*self.veth].into_iter().chain(offered)
    }

    /// Whether an engine has taken it into a sandbox.
    pub fn is_with_engine(&self) -> bool {
        self.sandbox.is_some() && self.inside != Inside::Netd
    }
}

/// `aa:bb:cc:dd:ee:ff`.
pub fn format_mac(mac: MacAddr) -> String {
    mac.0.map(|byte| format!("{byte:02x}")).join(":")
}

/// Reads what `format_mac` writes, in either case.
pub fn parse_mac(text: &str) -> Option<MacAddr> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let digits = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let part = parts.next().filter(digits)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(MacAddr(mac))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
fn mac_to_text<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_mac(*mac))
}

fn mac_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_mac(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is no MAC address")))
}
