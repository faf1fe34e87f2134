//! One host with five networks, an uplink, and an outside.

use netd_common::map::config::Config;
use netd_common::map::endpoint::{
    ADDRESS_IS_GATEWAY, AddressKey, AddressValue, CHECK_ADDRESS, CHECK_MAC, EndpointValue,
    StationKey, StationValue,
};
use netd_common::map::network::{
    HostAddressValue, ICC_DISABLED, INTERNAL, MASQUERADE_V4, MASQUERADE_V6, NetworkValue,
    ROUTED_V4, ROUTED_V6, UplinkValue,
};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{
    Address, Be16, DropReason, EndpointIndex, Hook, IfIndex, Ipv4, Ipv6, MacAddr, NetworkIndex, V4,
    V6,
};

use crate::tables::Route;
use crate::testing::build::{Build, Ends};
use crate::testing::{FakeFamily, FakeTables, Frame, Outcome, pass};
use crate::verdict::Decision;

pub(super) const BRIDGE: u8 = 1;
pub(super) const OTHER: u8 = 2;
pub(super) const INNER: u8 = 3;
pub(super) const QUIET: u8 = 4;
pub(super) const ROUTED: u8 = 5;

pub(super) const UPLINK: IfIndex = IfIndex(1);
pub(super) const UPLINK_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(super) const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// What the scene needs of a family.
pub(super) trait Lab: Build {
    /// Container `host` of network `network`; 1 is the gateway.
    fn at(network: u8, host: u8) -> Self::Addr;
    /// An address outside; 1 and 7 are the host's own.
    fn outside(host: u8) -> Self::Addr;
    /// The source of a container that reaches itself.
    fn hairpin_addr() -> Self::Addr;
    /// A loopback address.
    fn loopback() -> Self::Addr;
    /// A group address.
    fn group() -> Self::Addr;
    /// Whether both are in one network.
    fn same_network(a: Self::Addr, b: Self::Addr) -> bool;
    /// The family's tables.
    fn tables(tables: &mut FakeTables) -> &mut FakeFamily<Self::Addr>;
}

impl Lab for V4 {
    fn at(network: u8, host: u8) -> Ipv4 {
        Ipv4::new([10, network, 0, host])
    }

    fn outside(host: u8) -> Ipv4 {
        Ipv4::new([198, 51, 100, host])
    }

    fn hairpin_addr() -> Ipv4 {
        Ipv4::new([169, 254, 1, 1])
    }

    fn loopback() -> Ipv4 {
        Ipv4::new([127, 0, 0, 1])
    }

    fn group() -> Ipv4 {
        Ipv4::new([224, 0, 0, 251])
    }

    fn same_network(a: Ipv4, b: Ipv4) -> bool {
        a.octets()[..3] == b.octets()[..3]
    }

    fn tables(tables: &mut FakeTables) -> &mut FakeFamily<Ipv4> {
        &mut tables.v4
    }
}

impl Lab for V6 {
    fn at(network: u8, host: u8) -> Ipv6 {
        Ipv6::new([0xfd, 0, 0, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
    }

    fn outside(host: u8) -> Ipv6 {
        Ipv6::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
    }

    fn hairpin_addr() -> Ipv6 {
        Ipv6::new([0xfd, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    }

    fn loopback() -> Ipv6 {
        Ipv6::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    }

    fn group() -> Ipv6 {
        Ipv6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb])
    }

    fn same_network(a: Ipv6, b: Ipv6) -> bool {
        a.0[0] == b.0[0]
    }

    fn tables(tables: &mut FakeTables) -> &mut FakeFamily<Ipv6> {
        &mut tables.v6
    }
}

pub(super) const fn index(network: u8, host: u8) -> EndpointIndex {
    EndpointIndex(network as u32 * 10 + host as u32)
}

pub(super) const fn veth(network: u8, host: u8) -> IfIndex {
    IfIndex(100 + index(network, host).0)
}

pub(super) const fn mac(network: u8, host: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, network, host])
}

pub(super) const fn gateway(network: u8) -> IfIndex {
    IfIndex(10 + network as u32)
}

pub(super) fn host_tables<F: Lab>() -> FakeTables {
    let mut tables = FakeTables {
        config: Config {
            generation: 1,
            snat_first: 50_000,
            snat_last: 50_015,
            hairpin_v4: V4::hairpin_addr(),
            hairpin_v6: V6::hairpin_addr(),
            tcp_syn_s: 30,
            tcp_established_s: 7_440,
            tcp_fin_s: 30,
            tcp_rst_s: 10,
            udp_s: 30,
            udp_assured_s: 180,
            icmp_s: 10,
            other_s: 600,
            icmp_error_rate: 1,
            icmp_error_burst: 2,
            ..Config::ZERO
        },
        now_s: 1_000,
        ..FakeTables::default()
    };
    let masquerade = MASQUERADE_V4 | MASQUERADE_V6;
    add_network::<F>(&mut tables, BRIDGE, masquerade, &[2, 3]);
    add_network::<F>(&mut tables, OTHER, masquerade, &[2]);
    add_network::<F>(&mut tables, INNER, INTERNAL | masquerade, &[2, 3]);
    add_network::<F>(&mut tables, QUIET, ICC_DISABLED | masquerade, &[2, 3]);
    add_network::<F>(&mut tables, ROUTED, ROUTED_V4 | ROUTED_V6, &[2]);
    add_uplink::<F>(&mut tables);
    for proto in [6, 17] {
        publish::<F>(&mut tables, (F::Addr::ANY, 8_080, proto), (BRIDGE, 3, 80));
        publish::<F>(&mut tables, (F::Addr::ANY, 8_082, proto), (OTHER, 2, 80));
        publish::<F>(&mut tables, (F::outside(7), 9_090, proto), (BRIDGE, 3, 90));
        publish::<F>(&mut tables, (F::at(QUIET, 3), 80, proto), (QUIET, 3, 80));
        publish::<F>(&mut tables, (F::at(ROUTED, 2), 80, proto), (ROUTED, 2, 80));
    }
    tables
}

fn add_uplink<F: Lab>(tables: &mut FakeTables) {
    tables.uplinks.insert(
        UPLINK,
        UplinkValue {
            v4: V4::outside(1),
            v6: V6::outside(1),
            mac: UPLINK_MAC,
            ..UplinkValue::default()
        },
    );
    for host in [1, 7] {
        F::tables(tables).host_addresses.insert(
            F::outside(host),
            HostAddressValue { ifindex: UPLINK, network: NetworkIndex::HOST },
        );
    }
    F::tables(tables).default_route = Route::Via(UPLINK, F::outside(254));
}

fn add_network<F: Lab>(tables: &mut FakeTables, network: u8, flags: u32, hosts: &[u8]) {
    let number = NetworkIndex(u32::from(network));
    let value = NetworkValue {
        flags,
        gateway: gateway(network),
        member_count: u32::try_from(hosts.len()).unwrap(),
        mtu: 1_500,
        gateway_v4: V4::at(network, 1),
        gateway_v6: V6::at(network, 1),
        gateway_mac: mac(network, 1),
        ..NetworkValue::default()
    };
    tables.networks.insert(number.0, value);
    tables.gateways.insert(gateway(network), number);
    F::tables(tables).subnets.push((F::same_network, F::at(network, 0), number));
    F::tables(tables)
        .host_addresses
        .insert(F::at(network, 1), HostAddressValue { ifindex: gateway(network), network: number });
    add_address::<F>(tables, network, 1, (EndpointIndex::NONE, ADDRESS_IS_GATEWAY));
    for host in hosts {
        add_endpoint::<F>(tables, network, *host);
    }
}

fn add_address<F: Lab>(
    tables: &mut FakeTables,
    network: u8,
    host: u8,
    (endpoint, flags): (EndpointIndex, u16),
) {
    let key = AddressKey { network: NetworkIndex(u32::from(network)), addr: F::at(network, host) };
    let value = AddressValue {
        endpoint,
        ifindex: if flags == 0 { veth(network, host) } else { gateway(network) },
        mac: mac(network, host),
        flags,
    };
    F::tables(tables).addresses.insert(key, value);
}

pub(super) fn add_endpoint<F: Lab>(tables: &mut FakeTables, network: u8, host: u8) {
    let number = NetworkIndex(u32::from(network));
    let value = EndpointValue {
        index: index(network, host),
        network: number,
        flags: CHECK_MAC | CHECK_ADDRESS,
        v4: V4::at(network, host),
        v6: V6::at(network, host),
        mac: mac(network, host),
        gateway_mac: mac(network, 1),
    };
    tables.endpoints.insert(veth(network, host), value);
    let station = StationKey { network: number, mac: mac(network, host), pad: 0 };
    let place = StationValue { endpoint: value.index, ifindex: veth(network, host) };
    tables.stations.insert(station, place);
    add_address::<F>(tables, network, host, (value.index, 0));
}

pub(super) fn publish<F: Lab>(
    tables: &mut FakeTables,
    (addr, port, proto): (F::Addr, u16, u8),
    (network, host, target): (u8, u8, u16),
) {
    let key = PublishedKey { addr, port: Be16::new(port), proto, pad: 0 };
    let value = PublishedValue {
        target: F::at(network, host),
        network: NetworkIndex(u32::from(network)),
        endpoint: index(network, host),
        ifindex: veth(network, host),
        slot: u32::from(port),
        mac: mac(network, host),
        port: Be16::new(target),
    };
    F::tables(tables).published.insert(key, value);
}

/// From a container by way of its gateway.
pub(super) fn via_gateway<F: Lab>(network: u8, host: u8, dst: F::Addr) -> Ends<F> {
    Ends {
        macs: (mac(network, 1), mac(network, host)),
        src: F::at(network, host),
        dst,
        ifindex: veth(network, host),
    }
}

/// From a container to its neighbour.
pub(super) fn to_neighbor<F: Lab>(network: u8, host: u8, neighbor: u8) -> Ends<F> {
    Ends {
        macs: (mac(network, neighbor), mac(network, host)),
        src: F::at(network, host),
        dst: F::at(network, neighbor),
        ifindex: veth(network, host),
    }
}

/// From outside.
pub(super) fn arriving<F: Lab>(host: u8, dst: F::Addr) -> Ends<F> {
    Ends { macs: (UPLINK_MAC, ROUTER_MAC), src: F::outside(host), dst, ifindex: UPLINK }
}

pub(super) fn from_container(tables: &mut FakeTables, frame: Frame) -> Outcome {
    pass(tables, Hook::FromContainer, frame)
}

pub(super) fn from_netdev(tables: &mut FakeTables, frame: Frame) -> Outcome {
    pass(tables, Hook::FromNetdev, frame)
}

pub(super) const fn dropped(reason: DropReason) -> Decision {
    Decision::Drop(reason)
}

pub(super) const fn delivered(network: u8, host: u8) -> Decision {
    Decision::Deliver(veth(network, host), index(network, host))
}

/// Runs a test written over a family on both.
macro_rules! on_both_families {
    ($($(#[$meta:meta])* fn $name:ident<$family:ident>() $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports, reason = "each claim uses what it needs")]
            use super::*;

            fn claim<$family: Lab>() $body

            #[test]
            fn on_ipv4() {
                claim::<netd_common::V4>();
            }

            #[test]
            fn on_ipv6() {
                claim::<netd_common::V6>();
            }
        }
    )+};
}
pub(super) use on_both_families;
