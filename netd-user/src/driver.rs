//! Drivers: compiler passes that add links and table entries to `Desired`.
//!
//! Law: a driver never acts. What it adds depends on its arguments alone, and entries that need an
//! interface index wait until the facts have the link.

mod bridge;

use netd_common::IfIndex;

use crate::compile::CompileSettings;
use crate::compile::topology::Topology;
use crate::desired::{Desired, Tables};
use crate::facts::HostFacts;
use crate::model::Network;
use crate::model::network::DriverKind;

/// MTU of Ethernet, where no uplink says otherwise.
const ETHERNET_MTU: u32 = 1_500;

/// What a network of one kind comes to.
pub trait Driver: Sync {
    /// Adds the links of the network and its endpoints, and their programs. The context's links
    /// are no part of it: it is asked before they are made.
    fn add_links(&self, network: &Network, context: &Context<'_>, desired: &mut Desired);
    /// Adds the entries of those whose links exist.
    fn add_entries(&self, network: &Network, context: &Context<'_>, tables: &mut Tables);
}

/// What every driver may know.
pub struct Context<'a> {
    /// Who is a member of what.
    pub topology: Topology<'a>,
    /// The host.
    pub facts: &'a HostFacts,
    /// The daemon's settings.
    pub settings: &'a CompileSettings,
}

impl Context<'_> {
    /// A link's index, once it exists.
    pub fn ifindex(&self, link: &str) -> Option<IfIndex> {
        self.facts.links.get(link).map(|link| link.ifindex)
    }

    /// The MTU of a network's links: its own, the daemon's, else the preferred uplink's.
    pub fn mtu(&self, network: &Network) -> u32 {
        let uplink = self.facts.uplinks.first().map(|uplink| uplink.mtu);
        let inherited = self.settings.mtu.or(uplink);
        network.bridge.mtu.or(inherited).unwrap_or(ETHERNET_MTU)
    }
}

/// The driver of a kind.
pub fn driver(kind: DriverKind) -> &'static dyn Driver {
    match kind {
        DriverKind::Bridge => &bridge::Bridge,
        DriverKind::Host => &Host,
        DriverKind::Null => &Null,
    }
}

/// Shares the host's namespace: nothing to make.
struct Host;

impl Driver for Host {
    fn add_links(&self, _network: &Network, _context: &Context<'_>, _desired: &mut Desired) {}

    fn add_entries(&self, _network: &Network, _context: &Context<'_>, _tables: &mut Tables) {}
}

/// Loopback only: the namespace itself is all there is, and it is the sandbox's.
struct Null;

impl Driver for Null {
    fn add_links(&self, _network: &Network, _context: &Context<'_>, _desired: &mut Desired) {}

    fn add_entries(&self, _network: &Network, _context: &Context<'_>, _tables: &mut Tables) {}
}
