//! The table entries of a bridge network: a switch made of maps.
//!
//! Law: a network is in the tables once its gateway device exists, an endpoint once its veth does too;
//! so an endpoint's network is always there. Slots of `members` follow the endpoints' numbers.

use std::net::{IpAddr, Ipv6Addr};

use netd_common::map::endpoint::{
    ADDRESS_IS_ELSEWHERE, ADDRESS_IS_GATEWAY, AddressKey, AddressValue, CHECK_ADDRESS, CHECK_MAC,
    EndpointValue, MemberKey, StationKey, StationValue,
};
use netd_common::map::network::{
    HostAddressValue, ICC_DISABLED, INTERNAL, MASQUERADE_V4, MASQUERADE_V6, NetworkValue, OPEN_V4,
    OPEN_V6, ROUTED_V4, ROUTED_V6, SubnetKey, SubnetValue, TrustedKey,
};
use netd_common::{EndpointIndex, IfIndex, Ipv4, Ipv6, MacAddr, NetworkIndex};

use super::links::gateway_addresses;
use crate::compile::topology::{AddressFamily, Topology, gateway_mode, speaks};
use crate::desired::Tables;
use crate::driver::Context;
use crate::model::network::{AntiSpoof, GatewayMode};
use crate::model::{Endpoint, Network};

/// A network whose gateway device exists.
pub(super) struct Switch<'a> {
    network: &'a Network,
    index: NetworkIndex,
    mtu: u32,
    gateway: IfIndex,
    gateway_mac: MacAddr,
    members: Vec<(&'a Endpoint, IfIndex)>,
    trusted: Vec<IfIndex>,
}

impl<'a> Switch<'a> {
    /// The network with the endpoints whose veths exist.
    pub(super) fn of(network: &'a Network, context: &Context<'a>) -> Option<Self> {
        let gateway = context.ifindex(&network.bridge.device)?;
        let members = context.topology.members(network.id).iter();
        let trusted = network.bridge.trusted.iter();
        Some(Self {
            network,
            index: NetworkIndex(network.index),
            mtu: context.mtu(network),
            gateway,
            gateway_mac: super::gateway_mac(network.id),
            members: members
                .filter_map(|endpoint| Some((*endpoint, context.ifindex(&endpoint.veth)?)))
                .collect(),
            trusted: trusted.filter_map(|link| context.ifindex(link)).collect(),
        })
    }

    /// Adds all that the packet path knows of it.
    pub(super) fn add(&self, topology: &Topology<'_>, tables: &mut Tables) {
        tables.networks.insert(self.index.0, self.network_value());
        tables.gateways.insert(self.gateway, self.index.0);
        for ifindex in &self.trusted {
            let key = TrustedKey { network: self.index, ifindex: *ifindex };
            tables.trusted.insert(key, 1);
        }
        self.add_subnets(tables);
        self.add_gateway_addresses(tables);
        for (slot, (endpoint, ifindex)) in (0..).zip(&self.members) {
            let key = MemberKey { network: self.index, slot };
            tables.members.insert(key, *ifindex);
            self.add_endpoint(endpoint, *ifindex, tables);
            self.add_addresses_elsewhere((endpoint, *ifindex), topology, tables);
        }
    }

    fn network_value(&self) -> NetworkValue {
        let bridge = &self.network.bridge;
        let (gateway_v4, gateway_v6) = self.gateway_of_each_family();
        NetworkValue {
            flags: network_flags(self.network),
            gateway: self.gateway,
            member_count: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            mtu: self.mtu,
            snat_v4: bridge.host_ipv4.map(Ipv4::from).unwrap_or_default(),
            snat_v6: bridge.host_ipv6.map(Ipv6::from).unwrap_or_default(),
            gateway_v4,
            gateway_v6,
            gateway_mac: self.gateway_mac,
            pad: 0,
        }
    }

    /// All zero where there is none.
    fn gateway_of_each_family(&self) -> (Ipv4, Ipv6) {
        let mut gateways = (Ipv4::default(), Ipv6::default());
        for addr in gateway_addresses(self.network) {
            match addr.ip() {
                IpAddr::V4(addr) => gateways.0 = addr.into(),
                IpAddr::V6(addr) => gateways.1 = addr.into(),
            }
        }
        gateways
    }

    /// A pool of everything (`--ipam-driver null`) marks no address as the network's.
    fn add_subnets(&self, tables: &mut Tables) {
        let value = SubnetValue { network: self.index };
        for subnet in self.network.pools.iter().map(|pool| pool.subnet) {
            let prefix_len = u32::from(subnet.prefix());
            match subnet.network() {
                _ if prefix_len == 0 => {}
                IpAddr::V4(addr) => {
                    let key = SubnetKey { prefix_len, addr: addr.into() };
                    tables.subnets_v4.insert(key, value);
                }
                IpAddr::V6(addr) => {
                    let key = SubnetKey { prefix_len, addr: addr.into() };
                    tables.subnets_v6.insert(key, value);
                }
            }
        }
    }

    fn add_gateway_addresses(&self, tables: &mut Tables) {
        let link_local = self.network.ipv6.then(|| link_local(self.gateway_mac));
        let value = AddressValue {
            endpoint: EndpointIndex::NONE,
            ifindex: self.gateway,
            mac: self.gateway_mac,
            flags: ADDRESS_IS_GATEWAY,
        };
        let host = HostAddressValue { ifindex: self.gateway, network: self.index };
        for addr in gateway_addresses(self.network).map(|it| it.ip()).chain(link_local) {
            self.add_address(addr, value, tables);
            match addr {
                IpAddr::V4(addr) => tables.host_addrs_v4.insert(addr.into(), host),
                IpAddr::V6(addr) => tables.host_addrs_v6.insert(addr.into(), host),
            };
        }
    }

    fn add_endpoint(&self, endpoint: &Endpoint, ifindex: IfIndex, tables: &mut Tables) {
        let index = EndpointIndex(endpoint.index);
        tables.endpoints.insert(ifindex, self.endpoint_value(endpoint));
        let station = StationKey { network: self.index, mac: endpoint.mac, pad: 0 };
        tables.stations.insert(station, StationValue { endpoint: index, ifindex });
        let value = AddressValue { endpoint: index, ifindex, mac: endpoint.mac, flags: 0 };
        let link_local = self.network.ipv6.then(|| link_local(endpoint.mac));
        let addresses = [endpoint.v4.map(IpAddr::V4), endpoint.v6.map(IpAddr::V6), link_local];
        for addr in addresses.into_iter().flatten() {
            self.add_address(addr, value, tables);
        }
    }

    /// What the outside asks by an address of another network is answered by the sandbox's way out.
    fn add_addresses_elsewhere(
        &self,
        (endpoint, ifindex): (&Endpoint, IfIndex),
        topology: &Topology<'_>,
        tables: &mut Tables,
    ) {
        let Some(joined) = endpoint.sandbox.and_then(|id| topology.joined(id)) else { return };
        let value = AddressValue {
            endpoint: EndpointIndex(endpoint.index),
            ifindex,
            mac: endpoint.mac,
            flags: ADDRESS_IS_ELSEWHERE,
        };
        for family in AddressFamily::ALL {
            let way_out = joined.gateway(family);
            if way_out.is_none_or(|it| it.endpoint.id != endpoint.id) {
                continue;
            }
            for other in &joined.attachments {
                if other.network.id != self.network.id
                    && is_asked_by_address(other.network, family)
                    && let Some(addr) = other.address(family)
                {
                    self.add_address(addr, value, tables);
                }
            }
        }
    }

    fn endpoint_value(&self, endpoint: &Endpoint) -> EndpointValue {
        EndpointValue {
            index: EndpointIndex(endpoint.index),
            network: self.index,
            flags: match self.network.bridge.anti_spoof {
                AntiSpoof::Address => CHECK_MAC | CHECK_ADDRESS,
                AntiSpoof::Mac => CHECK_MAC,
                AntiSpoof::Off => 0,
            },
            v4: endpoint.v4.map(Ipv4::from).unwrap_or_default(),
            v6: endpoint.v6.map(Ipv6::from).unwrap_or_default(),
            mac: endpoint.mac,
            gateway_mac: self.gateway_mac,
        }
    }

    fn add_address(&self, addr: IpAddr, value: AddressValue, tables: &mut Tables) {
        let network = self.index;
        match addr {
            IpAddr::V4(addr) => {
                let addr = addr.into();
                tables.addresses_v4.insert(AddressKey { network, addr }, value);
            }
            IpAddr::V6(addr) => {
                let addr = addr.into();
                tables.addresses_v6.insert(AddressKey { network, addr }, value);
            }
        }
    }
}

/// `NetworkValue::flags`. An internal network has no way in or out whatever its gateway mode.
fn network_flags(network: &Network) -> u32 {
    let icc = if network.bridge.icc { 0 } else { ICC_DISABLED };
    if network.internal {
        return INTERNAL | icc;
    }
    let ways = AddressFamily::ALL.into_iter().map(|family| way_out(network, family));
    ways.fold(icc, |flags, way| flags | way)
}

fn way_out(network: &Network, family: AddressFamily) -> u32 {
    let (masquerade, open, routed) = match family {
        AddressFamily::V4 => (MASQUERADE_V4, OPEN_V4, ROUTED_V4),
        AddressFamily::V6 => (MASQUERADE_V6, OPEN_V6, ROUTED_V6),
    };
    if !speaks(network, family) {
        return 0;
    }
    let masquerade = if network.bridge.masquerade { masquerade } else { 0 };
    match gateway_mode(network, family) {
        GatewayMode::Nat => masquerade,
        GatewayMode::NatUnprotected => masquerade | open,
        GatewayMode::Routed => routed,
        GatewayMode::Isolated => 0,
    }
}

/// Whether the outside reaches containers of a network by their own addresses.
fn is_asked_by_address(network: &Network, family: AddressFamily) -> bool {
    let is_open = match gateway_mode(network, family) {
        GatewayMode::NatUnprotected | GatewayMode::Routed => true,
        GatewayMode::Nat | GatewayMode::Isolated => !network.bridge.trusted.is_empty(),
    };
    is_open && !network.internal
}

/// RFC 4291: `fe80::` and the modified EUI-64 of the MAC.
fn link_local(mac: MacAddr) -> IpAddr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&mac.eui64());
    IpAddr::V6(Ipv6Addr::from(octets))
}
