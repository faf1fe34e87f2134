//! The tables that say what a world is, as the controller would write them.
//!
//! Law: they follow the compiler's rules for bridge networks and publications; flows stay.

use netd_common::map::config::Config;
use netd_common::map::endpoint::{
    ADDRESS_IS_ELSEWHERE, ADDRESS_IS_GATEWAY, AddressKey, AddressValue, CHECK_ADDRESS, CHECK_MAC,
    EndpointValue, StationKey, StationValue,
};
use netd_common::map::network::{
    HostAddressValue, ICC_DISABLED, INTERNAL, NetworkValue, TrustedKey, UplinkValue,
};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Address, Be16, EndpointIndex, NetworkIndex, V4, V6};

use super::FakeTables;
use super::places::{Globe, Place};
use super::world::{
    AntiSpoof, BEGINS_S, FIRST_SEAT, HOST_SOCKET, LAST_SEAT, Mode, NETWORKS, Network, POOL,
    Publication, TRUSTED, TUNNEL, World, gateway, gateway_mac, uplink, uplink_mac,
};
use crate::tables::Route;

/// Tables that hold nothing but settings.
pub fn empty_tables() -> FakeTables {
    let config = Config {
        generation: 1,
        snat_first: *POOL.start(),
        snat_last: *POOL.end(),
        hairpin_v4: V4::addr(Place::Hairpin),
        hairpin_v6: V6::addr(Place::Hairpin),
        tcp_syn_s: 30,
        tcp_established_s: 7_440,
        tcp_fin_s: 31,
        tcp_rst_s: 10,
        udp_s: 32,
        udp_assured_s: 180,
        icmp_s: 11,
        icmp_error_rate: 1_000,
        icmp_error_burst: 100,
        other_s: 600,
        ..Config::ZERO
    };
    FakeTables { config, now_s: BEGINS_S, ..FakeTables::default() }
}

/// Makes the tables say what the world is, as the controller does; flows stay.
pub fn write<F: Globe>(world: &World, tables: &mut FakeTables) {
    tables.config.loose_until_s = world.loose_until_s;
    tables.networks.clear();
    tables.gateways.clear();
    tables.endpoints.clear();
    tables.stations.clear();
    tables.uplinks.clear();
    tables.trusted.clear();
    let family = F::family(tables);
    family.addresses.clear();
    family.subnets.clear();
    family.host_addresses.clear();
    family.published.clear();
    for network in 1..=NETWORKS {
        write_network::<F>(world, network, tables);
    }
    for uplink in 1..=TUNNEL {
        write_uplink::<F>(uplink, tables);
    }
    write_routes::<F>(world, tables);
    for (slot, publication) in (0..).zip(world.effective()) {
        write_publication::<F>(world, publication, slot, tables);
    }
}

fn write_network<F: Globe>(world: &World, number: u8, tables: &mut FakeTables) {
    let network = world.network(number);
    let index = NetworkIndex(u32::from(number));
    let source = if network.chosen_source { Place::Host(2) } else { Place::Nobody };
    let value = NetworkValue {
        flags: flags::<F>(network),
        gateway: gateway(number),
        member_count: 3,
        mtu: 1_500,
        snat_v4: V4::addr(source),
        snat_v6: V6::addr(source),
        gateway_v4: V4::addr(Place::Gateway(number)),
        gateway_v6: V6::addr(Place::Gateway(number)),
        gateway_mac: gateway_mac(number),
        ..NetworkValue::default()
    };
    tables.networks.insert(index.0, value);
    tables.gateways.insert(gateway(number), index);
    if network.trusts {
        tables.trusted.insert(TrustedKey { network: index, ifindex: uplink(TRUSTED) });
    }
    let own = HostAddressValue { ifindex: gateway(number), network: index };
    let holder = AddressValue {
        endpoint: EndpointIndex::NONE,
        ifindex: gateway(number),
        mac: gateway_mac(number),
        flags: ADDRESS_IS_GATEWAY,
    };
    let addr = F::addr(Place::Gateway(number));
    let family = F::family(tables);
    family.subnets.push((F::same_subnet, addr, index));
    family.host_addresses.insert(addr, own);
    family.addresses.insert(AddressKey { network: index, addr }, holder);
    for seat in FIRST_SEAT..=LAST_SEAT {
        if world.life(number, seat).is_some() {
            write_endpoint::<F>(world, (number, seat), tables);
        }
    }
}

fn flags<F: Globe>(network: &Network) -> u32 {
    let quiet = if network.quiet { ICC_DISABLED } else { 0 };
    if network.internal {
        return INTERNAL | quiet;
    }
    let masquerade = if network.masquerade { F::MASQUERADE } else { 0 };
    quiet
        | match network.mode {
            Mode::Nat => masquerade,
            Mode::Unprotected => masquerade | F::OPEN,
            Mode::Routed => F::ROUTED,
        }
}

fn write_endpoint<F: Globe>(world: &World, (number, seat): (u8, u8), tables: &mut FakeTables) {
    let network = NetworkIndex(u32::from(number));
    let (index, ifindex) = (world.index(number, seat), world.veth(number, seat));
    let mac = world.mac(number, seat);
    let value = EndpointValue {
        index,
        network,
        flags: match world.network(number).anti_spoof {
            AntiSpoof::Address => CHECK_MAC | CHECK_ADDRESS,
            AntiSpoof::Mac => CHECK_MAC,
            AntiSpoof::Off => 0,
        },
        v4: V4::addr(Place::Member(number, seat)),
        v6: V6::addr(Place::Member(number, seat)),
        mac,
        gateway_mac: gateway_mac(number),
    };
    tables.endpoints.insert(ifindex, value);
    let station = StationKey { network, mac, pad: 0 };
    tables.stations.insert(station, StationValue { endpoint: index, ifindex });
    let key = AddressKey { network, addr: F::addr(Place::Member(number, seat)) };
    let holder = AddressValue { endpoint: index, ifindex, mac, flags: 0 };
    F::family(tables).addresses.insert(key, holder);
    if let Some((to, seat)) = world.elsewhere((number, seat)) {
        let key = AddressKey { network, addr: F::addr(Place::Member(to, seat)) };
        let holder = AddressValue { flags: ADDRESS_IS_ELSEWHERE, ..holder };
        F::family(tables).addresses.insert(key, holder);
    }
}

fn write_uplink<F: Globe>(number: u8, tables: &mut FakeTables) {
    let ifindex = uplink(number);
    let value = UplinkValue {
        v4: V4::addr(Place::Host(number)),
        v6: V6::addr(Place::Host(number)),
        mtu: 1_500,
        mac: uplink_mac(number),
        ..Default::default()
    };
    tables.uplinks.insert(ifindex, value);
    let own = HostAddressValue { ifindex, network: NetworkIndex::HOST };
    F::family(tables).host_addresses.insert(F::addr(Place::Host(number)), own);
}

fn write_routes<F: Globe>(world: &World, tables: &mut FakeTables) {
    let way = |to| match world.route(to) {
        Some(number) => Route::Via(uplink(number), F::addr(Place::Router(number))),
        None => Route::Missing,
    };
    let family = F::family(tables);
    family.default_route = way(Place::Outside(0));
    family.routes = [Place::Outside(10), Place::Outside(11), Place::Outside(12)]
        .map(|to| (F::addr(to), way(to)))
        .into_iter()
        .collect();
    family.sockets = [(HOST_SOCKET, 6)].into_iter().collect();
}

fn write_publication<F: Globe>(
    world: &World,
    it: &Publication,
    slot: u32,
    tables: &mut FakeTables,
) {
    let target = F::addr(Place::Member(it.network, it.seat));
    let value = PublishedValue {
        target,
        network: NetworkIndex(u32::from(it.network)),
        endpoint: world.index(it.network, it.seat),
        ifindex: world.veth(it.network, it.seat),
        slot,
        mac: world.mac(it.network, it.seat),
        port: Be16::new(it.target),
    };
    let network = world.network(it.network);
    let published = &mut F::family(tables).published;
    let mut insert = |addr, port| {
        let key = PublishedKey { addr, port: Be16::new(port), proto: it.proto, pad: 0 };
        published.entry(key).or_insert(value);
    };
    if network.is_published_by_the_host() {
        insert(it.host.map_or(F::Addr::ANY, F::addr), it.port);
    }
    if network.quiet || network.mode == Mode::Routed || network.trusts {
        insert(target, it.target);
    }
}
