//! The outside: one namespace that is the segment the hosts' uplinks lie on, its router, a client on
//! it, and (on addresses of its own) the world behind the router.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::Lab;
use crate::netns::Netns;
use crate::process::run;

/// The router's and client's address on the segment.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The router's and client's address on the segment.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// An address behind the router: the world.
pub const WORLD_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// An address behind the router: the world.
pub const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

const SEGMENT: &str = "segment";

/// The segment, its router, a client, and the world.
pub struct Outside {
    name: String,
    netns: Netns,
    // Keeps the laboratory: its end removes the namespace.
    _lab: Lab,
}

impl Outside {
    /// Makes the namespace.
    pub(crate) fn create(lab: &Lab) -> Result<Self> {
        let name = format!("{}-out", lab.name());
        let netns = Netns::create(&name)?;
        let outside = Self { name, netns, _lab: lab.clone() };
        outside.ip(&["link", "add", SEGMENT, "type", "bridge"])?;
        outside.ip(&["link", "set", SEGMENT, "up"])?;
        for (address, device) in [
            (format!("{ROUTER_V4}/24"), SEGMENT),
            (format!("{ROUTER_V6}/64"), SEGMENT),
            (format!("{WORLD_V4}/32"), "lo"),
            (format!("{WORLD_V6}/128"), "lo"),
        ] {
            // Detection of a duplicate would keep the address silent for a second.
            let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            outside.ip(&[&["address", "add", &address, "dev", device], nodad].concat())?;
        }
        Ok(outside)
    }

    /// Plugs a host's uplink `device` into the segment.
    pub(crate) fn plug(&self, host: &str, device: &str, port: &str) -> Result<()> {
        let peer = ["type", "veth", "peer", "name", device, "netns", host];
        self.ip(&[&["link", "add", port], &peer[..]].concat())?;
        self.ip(&["link", "set", port, "master", SEGMENT, "up"])
    }

    /// Its namespace: work run there is a remote client's or server's.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Changes a link, an address or a route.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        run("ip", &[&["-netns", &self.name], arguments].concat()).map(drop)
    }
}
