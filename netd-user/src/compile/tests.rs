//! The compiler's laws, and one whole output.

mod render;
pub(crate) mod world;

use netd_common::map::published::PublishedKey;
use netd_common::{Be16, IfIndex, Ipv4, Ipv6};
use proptest::prelude::*;

use super::*;
use crate::dataplane::delta::{Table, Visit, in_put_order};
use crate::desired::{Link, Tables};
use crate::model::network::{AntiSpoof, GatewayMode};
use crate::model::{EndpointId, Proto};
use topology::AddressFamily;
use world::World;

fn compiled(world: &World) -> Desired {
    compile(&world.model, &world.facts(), &CompileSettings::default())
}

/// A front network with two endpoints, one of them also on an internal network, and a sandbox alone.
fn small() -> World {
    let mut world = World::default();
    world.network(1, "frontend", |_| {});
    world.network(2, "backend", |network| network.internal = true);
    world.network(3, "shop", |network| {
        network.ipv6 = false;
        network.bridge.icc = false;
        network.bridge.mtu = Some(1400);
        network.bridge.anti_spoof = AntiSpoof::Mac;
        network.bridge.host_ipv4 = Some(Ipv4Addr::new(192, 0, 2, 9));
    });
    world.sandbox(1, "web", &[(1, 2), (2, 2)]);
    world.sandbox(2, "client", &[(1, 3)]);
    world.sandbox(3, "till", &[(3, 2)]);
    world.sandbox(4, "hermit", &[]);
    world.publish(1, "0.0.0.0", (8080, 80, 2), Proto::Tcp);
    world.publish(1, "::", (8080, 80, 2), Proto::Tcp);
    world.publish(1, "127.0.0.1", (5353, 53, 1), Proto::Udp);
    world.publish(3, "0.0.0.0", (9000, 90, 1), Proto::Tcp);
    world.publish(3, "::", (9000, 90, 1), Proto::Tcp);
    world
}

#[test]
fn a_small_host_compiles_to_this() {
    let text = render::desired(&compiled(&small()));
    let fixture = include_str!("tests/small.txt");
    if std::env::var_os("NETD_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/compile/tests/small.txt");
        std::fs::write(path, &text).unwrap();
        return;
    }
    assert_eq!(text, fixture, "NETD_BLESS=1 writes the fixture anew");
}

#[test]
fn without_links_there_are_links_but_no_entries_of_networks() {
    let world = small();
    let facts = HostFacts { links: std::collections::BTreeMap::new(), ..world.facts() };
    let desired = compile(&world.model, &facts, &CompileSettings::default());
    assert_eq!(desired.links, compiled(&world).links);
    assert_eq!(desired.held_ports, compiled(&world).held_ports);
    let hosts = Tables {
        config: desired.tables.config.clone(),
        host_addrs_v4: desired.tables.host_addrs_v4.clone(),
        host_addrs_v6: desired.tables.host_addrs_v6.clone(),
        uplinks: desired.tables.uplinks.clone(),
        ..Tables::default()
    };
    assert_eq!(desired.tables, hosts);
}

#[test]
fn priority_moves_the_default_route_and_the_published_ports() {
    let mut world = World::default();
    world.network(1, "alpha", |_| {});
    world.network(2, "beta", |_| {});
    world.sandbox(1, "web", &[(1, 2), (2, 2)]);
    world.publish(1, "0.0.0.0", (80, 80, 1), Proto::Tcp);
    assert_eq!(published_network(&compiled(&world)), 1);
    world.change_endpoint(2, |endpoint| endpoint.gw_priority = 1);
    let desired = compiled(&world);
    assert_eq!(published_network(&desired), 2);
    let routes = |veth: &str| match &desired.links[veth] {
        Link::Veth(link) => link.routes.len(),
        Link::Gateway(_) | Link::Offered(_) => unreachable!("{veth} is an endpoint's of ours"),
    };
    assert_eq!((routes("veth1"), routes("veth2")), (0, 2));
}

#[test]
fn an_open_networks_address_is_the_way_outs_too_and_no_others() {
    use netd_common::map::endpoint::ADDRESS_IS_ELSEWHERE;
    let mut world = World::default();
    world.network(1, "alpha", |network| network.bridge.gateway_mode_v4 = GatewayMode::Routed);
    world.network(2, "beta", |_| {});
    world.network(3, "gamma", |_| {});
    world.sandbox(1, "web", &[(1, 2), (2, 2), (3, 2)]);
    let elsewhere = |desired: &Desired| {
        let entries = desired.tables.addresses_v4.iter();
        let v4 = entries.filter(|(_, it)| it.flags & ADDRESS_IS_ELSEWHERE != 0);
        let v6 = desired.tables.addresses_v6.values();
        assert!(v6.into_iter().all(|it| it.flags & ADDRESS_IS_ELSEWHERE == 0), "its mode is nat");
        v4.map(|(key, it)| (key.network.0, key.addr.octets(), it.endpoint.0)).collect::<Vec<_>>()
    };
    assert_eq!(elsewhere(&compiled(&world)), [], "it is the way out itself");
    world.change_endpoint(2, |endpoint| endpoint.gw_priority = 1);
    assert_eq!(elsewhere(&compiled(&world)), [(2, [10, 1, 0, 2], 2)]);
}

fn published_network(desired: &Desired) -> u32 {
    desired.tables.published_v4.values().next().unwrap().network.0
}

#[test]
fn a_default_gateway_by_name_changes_the_route_but_not_the_device() {
    let mut world = World::default();
    let router = "10.1.0.254".parse().unwrap();
    world.network(1, "alpha", |network| {
        network.pools[0].aux_addresses.insert("DefaultGatewayIPv4".to_owned(), router);
    });
    world.sandbox(1, "web", &[(1, 2)]);
    let desired = compiled(&world);
    let Link::Veth(veth) = &desired.links["veth1"] else { unreachable!("an endpoint's") };
    assert!(veth.routes.iter().any(|route| route.via == Some(router)));
    let Link::Gateway(gateway) = &desired.links["br-alpha"] else { unreachable!("a network's") };
    assert!(gateway.addresses.contains(&"10.1.0.1/24".parse().unwrap()));
}

#[test]
fn an_inhibited_or_isolated_gateway_holds_no_address() {
    let mut world = World::default();
    world.network(1, "alpha", |network| network.bridge.inhibit_ipv4 = true);
    world.network(2, "beta", |network| {
        network.internal = true;
        network.bridge.gateway_mode_v4 = GatewayMode::Isolated;
        network.bridge.gateway_mode_v6 = GatewayMode::Isolated;
    });
    let desired = compiled(&world);
    let held = |device: &str| match &desired.links[device] {
        Link::Gateway(link) => link.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        Link::Veth(_) | Link::Offered(_) => unreachable!("{device} is a network's"),
    };
    assert_eq!(held("br-alpha"), ["fd00:1::1/64"]);
    assert!(held("br-beta").is_empty());
    assert!(desired.tables.addresses_v4.is_empty());
}

#[test]
fn a_routed_network_opens_container_ports_and_translates_none() {
    let mut world = World::default();
    world.network(1, "alpha", |network| network.bridge.gateway_mode_v4 = GatewayMode::Routed);
    world.sandbox(1, "web", &[(1, 2)]);
    world.publish(1, "0.0.0.0", (8080, 80, 1), Proto::Tcp);
    let desired = compiled(&world);
    let key =
        PublishedKey { addr: Ipv4::new([10, 1, 0, 2]), port: Be16::new(80), proto: 6, pad: 0 };
    assert_eq!(desired.tables.published_v4.keys().collect::<Vec<_>>(), [&key]);
    assert!(desired.held_ports.is_empty());
}

#[test]
fn a_long_range_is_published_without_sockets() {
    let mut world = World::default();
    world.network(1, "alpha", |_| {});
    world.sandbox(1, "web", &[(1, 2)]);
    world.publish(1, "0.0.0.0", (10_000, 10_000, 50_000), Proto::Udp);
    world.publish(1, "0.0.0.0", (1_000, 1_000, 64), Proto::Udp);
    let desired = compiled(&world);
    assert_eq!(desired.tables.published_v4.len(), 50_064);
    assert_eq!(desired.held_ports.len(), 64);
}

#[test]
fn a_pool_of_everything_claims_no_prefix() {
    let mut world = World::default();
    world.network(1, "alpha", |network| {
        network.pools[0].subnet = "0.0.0.0/0".parse().unwrap();
        network.pools[0].gateway = None;
    });
    assert!(compiled(&world).tables.subnets_v4.is_empty());
}

#[test]
fn ten_thousand_endpoints_compile_to_as_many_entries() {
    let mut world = World::default();
    world.crowd(10_000);
    let facts = world.facts();
    let settings = CompileSettings::default();
    let desired = compile(&world.model, &facts, &settings);
    let held = Tables::default();
    let mut writes = Writes { desired: &desired.tables, held: &held, count: 0 };
    in_put_order(&mut writes).unwrap();
    let again = compile(&world.model, &facts, &settings);
    let mut none = Writes { desired: &again.tables, held: &desired.tables, count: 0 };
    in_put_order(&mut none).unwrap();
    // An endpoint, a station, a member, three addresses; a network, its device, two subnets, three
    // gateway addresses and as many host addresses; the configuration, two host addresses, an uplink.
    assert_eq!(writes.count, 10_000 * 6 + 10 + 4);
    assert_eq!(none.count, 0);
}

struct Writes<'a> {
    desired: &'a Tables,
    held: &'a Tables,
    count: usize,
}

impl Visit for Writes<'_> {
    type Error = std::convert::Infallible;

    fn visit<T: Table>(&mut self) -> Result<(), Self::Error> {
        self.count += T::delta(self.desired, self.held).len();
        Ok(())
    }
}

proptest! {
    #[test]
    fn entries_refer_to_what_is_there(world in world::worlds()) {
        let facts = world.facts();
        let desired = compile(&world.model, &facts, &CompileSettings::default());
        let known = |ifindex: IfIndex| facts.links.values().any(|link| link.ifindex == ifindex);
        for ifindex in render::interfaces(&desired.tables) {
            prop_assert!(known(ifindex), "{ifindex:?}");
        }
        check_endpoints(&desired.tables)?;
        check_slots(&desired.tables)?;
        for (link, _) in &desired.programs {
            let uplink = facts.uplinks.iter().any(|uplink| uplink.name == *link);
            prop_assert!(uplink || desired.links.contains_key(link), "{link}");
        }
        prop_assert_eq!(&desired, &compile(&world.model, &facts, &CompileSettings::default()));
    }

    #[test]
    fn an_outline_depends_on_uplinks_and_resolver_alone(world in world::worlds()) {
        let facts = world.facts();
        let bare = HostFacts {
            uplinks: facts.uplinks.clone(),
            resolver: facts.resolver.clone(),
            ..HostFacts::default()
        };
        prop_assert!(facts != bare && is_same_outline(&facts, &bare));
        let outlines = [&facts, &bare].map(|it| outline(&world.model, it, &CompileSettings::default()));
        prop_assert_eq!(&outlines[0], &outlines[1]);
        prop_assert_eq!(&outlines[0].tables, &Tables::default());
    }

    #[test]
    fn a_removed_endpoint_leaves_no_trace(world in world::worlds(), pick in any::<prop::sample::Index>()) {
        prop_assume!(!world.model.endpoints.is_empty());
        let mut world = world;
        let ids: Vec<EndpointId> = world.model.endpoints.keys().copied().collect();
        let gone = world.model.endpoints.remove(&ids[pick.index(ids.len())]).unwrap();
        let facts = world.facts_with(&gone.veth);
        let ifindex = facts.links[&gone.veth].ifindex;
        let desired = compile(&world.model, &facts, &CompileSettings::default());
        prop_assert!(!desired.links.contains_key(&gone.veth));
        prop_assert!(desired.programs.iter().all(|(link, _)| *link != gone.veth));
        prop_assert!(!render::interfaces(&desired.tables).contains(&ifindex));
        prop_assert!(!render::endpoints(&desired.tables).contains(&gone.index));
    }
}

fn check_endpoints(tables: &Tables) -> Result<(), TestCaseError> {
    let known = |ifindex, endpoint| {
        tables.endpoints.get(&ifindex).is_some_and(|value| value.index == endpoint)
    };
    let networks: Vec<u32> = tables.networks.keys().copied().collect();
    for value in tables.endpoints.values() {
        prop_assert!(networks.contains(&value.network.0));
    }
    for station in tables.stations.values() {
        prop_assert!(known(station.ifindex, station.endpoint));
    }
    let addresses = tables.addresses_v4.values().chain(tables.addresses_v6.values());
    for address in addresses.filter(|address| address.flags == 0) {
        prop_assert!(known(address.ifindex, address.endpoint));
    }
    for value in tables.published_v4.values() {
        prop_assert!(known(value.ifindex, value.endpoint) && value.target != Ipv4::default());
    }
    for value in tables.published_v6.values() {
        prop_assert!(known(value.ifindex, value.endpoint) && value.target != Ipv6::default());
    }
    Ok(())
}

fn check_slots(tables: &Tables) -> Result<(), TestCaseError> {
    for (network, value) in &tables.networks {
        let slots = tables.members.keys().filter(|key| key.network.0 == *network);
        let slots: Vec<u32> = slots.map(|key| key.slot).collect();
        prop_assert_eq!(slots, (0..value.member_count).collect::<Vec<_>>());
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_way_out_is_the_models(world in world::worlds()) {
        let topology = Topology::of(&world.model);
        for sandbox in world.model.sandboxes.keys() {
            for (family, v6) in [(AddressFamily::V4, false), (AddressFamily::V6, true)] {
                let joined = topology.joined(*sandbox).unwrap();
                let compiled = joined.gateway(family).map(|it| it.endpoint.id);
                let model = world.model.gateway_endpoint(*sandbox, v6).map(|it| it.id);
                prop_assert_eq!(compiled, model);
            }
        }
    }
}
