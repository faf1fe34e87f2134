//! Published ports: Docker's `-p` syntax and what it comes to.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// A transport protocol that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

/// One `-p`, parsed: `[HOSTIP:][HOSTPORT[-END]]:CPORT[-CEND][/proto]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// Host address, none for the default.
    pub host_ip: Option<IpAddr>,
    /// First and last host port, none for a random one.
    pub host: Option<(u16, u16)>,
    /// First and last container port.
    pub container: (u16, u16),
    /// Protocol.
    pub proto: Proto,
}

/// A granted publication: `count` consecutive host ports to as many container ports, on one address.
/// `-p` without an address comes to one of each family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publication {
    /// Slot of its hit counter, unique on the host.
    pub slot: u32,
    /// Host address; unspecified for every address of its family.
    pub host_ip: IpAddr,
    /// First host port; 0 in gateway mode `routed`, which opens container ports only.
    pub host_port: u16,
    /// First container port.
    pub container_port: u16,
    /// How many ports.
    pub count: u16,
    /// Protocol.
    pub proto: Proto,
}

/// Reads one `-p`: Docker's short syntax, or its long one (`published=8080,target=80,protocol=udp`).
pub fn parse_ports(text: &str) -> Result<Vec<PortSpec>, Refusal> {
    Err(Refusal::invalid(text))
}
