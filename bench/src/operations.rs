//! Map operations of a packet: the packet path's own source, run on tables that count.
//!
//! Law: the packets here take the ways that the generator's take; the counter of a packet is part of
//! its cost but no map operation, as it is an array slot.

use anyhow::{Result, ensure};
use netd_common::map::config::Config;
use netd_common::map::endpoint::{
    ADDRESS_IS_GATEWAY, AddressKey, AddressValue, EndpointValue, StationKey, StationValue,
};
use netd_common::map::network::{HostAddressValue, MASQUERADE_V4, NetworkValue, UplinkValue};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Be16, EndpointIndex, Hook, IfIndex, Ipv4, MacAddr, NetworkIndex, V4};
use netd_ebpf::tables::Route;
use netd_ebpf::testing::build::{Ends, see};
use netd_ebpf::testing::{FakeTables, Frame, Outcome, pass};
use netd_ebpf::verdict::Decision;

use crate::results::{Case, Section};
use crate::rig::{HOST_PORT, NETD, SERVER_PORT};
use crate::session::Session;
use crate::statistics::Better;

const UPLINK: IfIndex = IfIndex(1);
const GATEWAY: IfIndex = IfIndex(2);
const NETWORK: NetworkIndex = NetworkIndex(1);
const CLIENT_PORT: u16 = 4_000;

const HOST: Ipv4 = Ipv4::new([10, 99, 0, 2]);
const OUTSIDE: Ipv4 = Ipv4::new([10, 99, 0, 1]);
const GATEWAY_ADDRESS: Ipv4 = container(1);

/// What a packet asks of the maps.
#[derive(Clone, Copy, Debug)]
struct Count {
    operations: u32,
    writes: u32,
}

impl Count {
    const fn of(outcome: &Outcome) -> Self {
        Self { operations: outcome.operations, writes: outcome.updates }
    }
}

/// Operations by way, of a flow's first packet and of a later one.
pub(crate) fn all(session: &mut Session) -> Result<()> {
    let ways = [
        ("published", published()?),
        ("masquerade", masquerade()?),
        ("same network", same_network()?),
    ];
    for (way, counts) in ways {
        for (packet, count) in ["new flow", "known flow"].into_iter().zip(counts) {
            let title = format!("{way}, {packet}");
            let case = |group, unit, count| {
                let mut case = Case::new(Section::Resources, group, &title, unit, Better::Lower);
                case.rigs.insert(NETD.to_owned(), [(0, f64::from(count))].into());
                case
            };
            session.finish(vec![
                case("Map operations of a packet", "operations", count.operations),
                case("Map writes of a packet", "writes", count.writes),
            ]);
        }
    }
    Ok(())
}

/// To a published port: the first packet, and one after the answer.
fn published() -> Result<[Count; 2]> {
    let mut tables = tables();
    let ends = ends((mac(0), mac(9)), (OUTSIDE, HOST), UPLINK);
    let request = || ends.udp(CLIENT_PORT, HOST_PORT);
    let first = pass(&mut tables, Hook::FromNetdev, request());
    ensure!(first.decision == delivered(2), "published: {:?}", first.decision);
    answer(&mut tables, &first, 2)?;
    pass(&mut tables, Hook::FromNetdev, request());
    let later = pass(&mut tables, Hook::FromNetdev, request());
    Ok([Count::of(&first), Count::of(&later)])
}

/// From a container to the outside.
fn masquerade() -> Result<[Count; 2]> {
    let mut tables = tables();
    let ends = ends((mac(1), mac(2)), (container(2), OUTSIDE), veth(2));
    let request = || ends.udp(CLIENT_PORT, SERVER_PORT);
    let first = pass(&mut tables, Hook::FromContainer, request());
    ensure!(matches!(first.decision, Decision::Uplink(..)), "masquerade: {:?}", first.decision);
    let port = see::<V4>(&first.frame).ports.0;
    let back = self::ends((mac(0), mac(9)), (OUTSIDE, HOST), UPLINK).udp(SERVER_PORT, port);
    let reply = pass(&mut tables, Hook::FromNetdev, back);
    ensure!(reply.decision == delivered(2), "masquerade reply: {:?}", reply.decision);
    pass(&mut tables, Hook::FromContainer, request());
    let later = pass(&mut tables, Hook::FromContainer, request());
    Ok([Count::of(&first), Count::of(&later)])
}

/// From a container to its neighbour.
fn same_network() -> Result<[Count; 2]> {
    let mut tables = tables();
    let ends = ends((mac(3), mac(2)), (container(2), container(3)), veth(2));
    let request = || ends.udp(CLIENT_PORT, SERVER_PORT);
    let first = pass(&mut tables, Hook::FromContainer, request());
    ensure!(first.decision == delivered(3), "same network: {:?}", first.decision);
    answer(&mut tables, &first, 3)?;
    pass(&mut tables, Hook::FromContainer, request());
    let later = pass(&mut tables, Hook::FromContainer, request());
    Ok([Count::of(&first), Count::of(&later)])
}

/// Lets a container answer what was delivered to it.
fn answer(tables: &mut FakeTables, delivered: &Outcome, host: u8) -> Result<()> {
    let seen = see::<V4>(&delivered.frame);
    let back: Frame = ends((seen.macs.1, seen.macs.0), (seen.addrs.1, seen.addrs.0), veth(host))
        .udp(seen.ports.1, seen.ports.0);
    let answered = pass(tables, Hook::FromContainer, back).decision;
    ensure!(!matches!(answered, Decision::Drop(_)), "an answer was dropped: {answered:?}");
    Ok(())
}

/// One network with two containers, the first of which publishes.
fn tables() -> FakeTables {
    let mut tables = FakeTables {
        config: Config {
            generation: 1,
            snat_first: 49_152,
            snat_last: 65_535,
            udp_s: 30,
            udp_assured_s: 180,
            ..Config::ZERO
        },
        now_s: 1_000,
        ..FakeTables::default()
    };
    let network = NetworkValue {
        flags: MASQUERADE_V4,
        gateway: GATEWAY,
        member_count: 2,
        mtu: 1_500,
        gateway_mac: mac(1),
        ..NetworkValue::default()
    };
    tables.networks.insert(NETWORK.0, network);
    tables.gateways.insert(GATEWAY, NETWORK);
    tables.uplinks.insert(UPLINK, UplinkValue { v4: HOST, mac: mac(0), ..UplinkValue::default() });
    let same = |a: Ipv4, b: Ipv4| a.octets()[..3] == b.octets()[..3];
    tables.v4.subnets.push((same, container(0), NETWORK));
    tables.v4.default_route = Route::Via(UPLINK, OUTSIDE);
    host_addresses(&mut tables);
    endpoint(&mut tables, 2);
    endpoint(&mut tables, 3);
    publish(&mut tables);
    tables
}

fn host_addresses(tables: &mut FakeTables) {
    let uplink = HostAddressValue { ifindex: UPLINK, network: NetworkIndex::HOST };
    tables.v4.host_addresses.insert(HOST, uplink);
    let gateway = HostAddressValue { ifindex: GATEWAY, network: NETWORK };
    tables.v4.host_addresses.insert(GATEWAY_ADDRESS, gateway);
    let owner = AddressValue {
        endpoint: EndpointIndex::NONE,
        ifindex: GATEWAY,
        mac: mac(1),
        flags: ADDRESS_IS_GATEWAY,
    };
    tables.v4.addresses.insert(AddressKey { network: NETWORK, addr: GATEWAY_ADDRESS }, owner);
}

fn endpoint(tables: &mut FakeTables, host: u8) {
    let value = EndpointValue {
        index: index(host),
        network: NETWORK,
        v4: container(host),
        mac: mac(host),
        gateway_mac: mac(1),
        ..EndpointValue::default()
    };
    tables.endpoints.insert(veth(host), value);
    let station = StationKey { network: NETWORK, mac: mac(host), pad: 0 };
    tables.stations.insert(station, StationValue { endpoint: index(host), ifindex: veth(host) });
    let (endpoint, ifindex) = (index(host), veth(host));
    let owner = AddressValue { endpoint, ifindex, mac: mac(host), flags: 0 };
    tables.v4.addresses.insert(AddressKey { network: NETWORK, addr: container(host) }, owner);
}

fn publish(tables: &mut FakeTables) {
    let key =
        PublishedKey { addr: Ipv4::new([0; 4]), port: Be16::new(HOST_PORT), proto: 17, pad: 0 };
    let value = PublishedValue {
        target: container(2),
        network: NETWORK,
        endpoint: index(2),
        ifindex: veth(2),
        slot: 0,
        mac: mac(2),
        port: Be16::new(SERVER_PORT),
    };
    tables.v4.published.insert(key, value);
}

fn ends(macs: (MacAddr, MacAddr), (src, dst): (Ipv4, Ipv4), ifindex: IfIndex) -> Ends<V4> {
    Ends { macs, src, dst, ifindex }
}

fn delivered(host: u8) -> Decision {
    Decision::Deliver(veth(host), index(host))
}

const fn container(host: u8) -> Ipv4 {
    Ipv4::new([172, 30, 0, host])
}

/// 0 is the uplink's, 1 the gateway's, 9 the outside's.
const fn mac(host: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, host])
}

const fn veth(host: u8) -> IfIndex {
    IfIndex(100 + host as u32)
}

const fn index(host: u8) -> EndpointIndex {
    EndpointIndex(host as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_flow_costs_four_map_operations_at_most_and_no_more_than_a_new_one() {
        for count in [published, masquerade, same_network] {
            let [new, known] = count().expect("a way through the tables");
            assert!(
                known.operations <= 4 && known.operations <= new.operations,
                "{known:?}, {new:?}"
            );
            assert!(known.writes == 0 && new.writes <= 8, "{known:?}, {new:?}");
        }
    }
}
