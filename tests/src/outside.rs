//! The outside: one namespace that is the segment the hosts' uplinks lie on, its router, a client on
//! it, and (on addresses of its own) the world behind the router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use nix::ifaddrs::getifaddrs;

use crate::netns::Netns;
use crate::process::run;
use crate::raw::{self, RawLink};
use crate::{Host, Lab};

/// The router's and client's address on the segment.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The router's and client's address on the segment.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// An address behind the router: the world.
pub const WORLD_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// An address behind the router: the world.
pub const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

const SEGMENT: &str = "segment";
/// Type of a router advertisement, and how many hops it lets hosts' packets take.
const ADVERTISEMENT: u8 = 134;
const HOPS: u8 = 64;
const SECOND: &str = "second";
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

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
        // Detection of duplicates would keep its addresses, link-local ones too, silent for seconds.
        outside.netns.run(|| run("sysctl", &["-qw", "net.ipv6.conf.default.accept_dad=0"]))?;
        outside.ip(&["link", "add", SEGMENT, "type", "bridge"])?;
        outside.ip(&["link", "set", SEGMENT, "up"])?;
        for (address, device) in [
            (format!("{ROUTER_V4}/24"), SEGMENT),
            (format!("{ROUTER_V6}/64"), SEGMENT),
            (format!("{WORLD_V4}/32"), "lo"),
            (format!("{WORLD_V6}/128"), "lo"),
        ] {
            outside.ip(&["address", "add", &address, "dev", device])?;
        }
        Ok(outside)
    }

    /// Plugs a host's uplink `device` into the segment.
    pub(crate) fn plug(&self, host: &str, device: &str, port: &str) -> Result<()> {
        let peer = ["type", "veth", "peer", "name", device, "netns", host];
        self.ip(&[&["link", "add", port], &peer[..]].concat())?;
        self.ip(&["link", "set", port, "master", SEGMENT, "up"])
    }

    /// Its name, which is its namespace's too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Plugs a second link into a host, which calls it `eth1`.
    pub fn plug_second(&self, host: &Host) -> Result<SecondLink<'_>> {
        let link = ["link", "add", SECOND, "type", "veth", "peer", "name", "eth1", "netns"];
        self.ip(&[&link[..], &[host.name()]].concat())?;
        let second = SecondLink { outside: self };
        let prefixes = |last: u16| {
            let [v4, v6] = addresses_on_second(last);
            [format!("{v4}/24"), format!("{v6}/64")]
        };
        for (own, hosts) in prefixes(1).into_iter().zip(prefixes(2)) {
            let nodad: &[&str] = if own.contains(':') { &["nodad"] } else { &[] };
            self.ip(&[&["address", "add", &own, "dev", SECOND], nodad].concat())?;
            host.ip(&[&["address", "add", &hosts, "dev", "eth1"], nodad].concat())?;
        }
        self.ip(&["link", "set", SECOND, "up"])?;
        host.ip(&["link", "set", "eth1", "up"])?;
        Ok(second)
    }

    /// Its namespace: work run there is a remote client's or server's.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Changes a link, an address or a route.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        run("ip", &[&["-netns", &self.name], arguments].concat()).map(drop)
    }

    /// Tells all on the segment that the router is one, for so many seconds: 0 takes it back.
    pub fn advertise_router(&self, lifetime_s: u16) -> Result<()> {
        // Its answers to neighbours say that it is one, too.
        self.netns.run(|| run("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=1"]))?;
        let source = self.netns.run(link_local)?;
        let [high, low] = lifetime_s.to_be_bytes();
        let frame = PacketBuilder::ethernet2(raw::mac(&self.netns, SEGMENT)?, ALL_NODES_MAC)
            .ipv6(source.octets(), ALL_NODES.octets(), 255)
            .icmpv6_raw(ADVERTISEMENT, 0, [HOPS, 0, high, low]);
        let mut bytes = Vec::new();
        frame.write(&mut bytes, &[0; 8])?;
        RawLink::open(&self.netns, SEGMENT)?.send(&[bytes])
    }
}

/// Another link between the outside and a host. It goes with the value.
pub struct SecondLink<'outside> {
    outside: &'outside Outside,
}

impl SecondLink<'_> {
    /// The host's addresses on it.
    pub fn host_addresses(&self) -> [IpAddr; 2] {
        addresses_on_second(2)
    }
}

impl Drop for SecondLink<'_> {
    fn drop(&mut self) {
        // The laboratory's end removes what is left.
        let _left = self.outside.ip(&["link", "delete", SECOND]);
    }
}

fn addresses_on_second(last: u16) -> [IpAddr; 2] {
    let [_, last_v4] = last.to_be_bytes();
    [
        Ipv4Addr::new(192, 0, 2, last_v4).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, last).into(),
    ]
}

/// The router's own address on the segment.
fn link_local() -> Result<Ipv6Addr> {
    let own = getifaddrs()?.filter(|it| it.interface_name == SEGMENT);
    let mut own = own.filter_map(|it| Some(it.address?.as_sockaddr_in6()?.ip()));
    own.find(Ipv6Addr::is_unicast_link_local).context("the segment has no link-local address")
}
