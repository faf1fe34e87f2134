//! Laws that hold whatever is asked.

use netd_common::map::{MAX_ENDPOINTS, MAX_NETWORKS};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::port::parse_expose;

const NETWORKS: &[&str] = &["n1", "n2", "n3", "n4", "bridge", "none", "host", "nope"];
const SANDBOXES: &[&str] = &["c1", "c2", "c3", "c4", "c5"];
const SUBNETS: &[&str] = &[
    "",
    "10.1.0.0/29",
    "10.1.0.0/24",
    "10.2.0.0/30",
    "10.3.0.0/31",
    "0.0.0.0/28",
    "fd00::/64",
    "fd00::/126",
];
const PORTS: &[&str] = &[
    "80",
    "8080:80",
    "127.0.0.1:8080:80",
    "8080-8082:80",
    "8080-8090:8080-8090",
    "90-93",
    "80/udp",
    "[::1]:8080:80",
    "192.0.2.1:8080:80/udp",
];
const ADDRESSES: &[&str] = &["", "", "", "10.1.0.3", "10.1.0.7", "10.2.0.2", "10.3.0.1"];

fn create_network() -> impl Strategy<Value = Command> {
    (select(NETWORKS), vec(select(SUBNETS), 0..3), any::<[bool; 3]>()).prop_map(
        |(name, subnets, [ipv6, internal, routed])| {
            let mode = if routed { "routed" } else { "nat" };
            let key = "com.docker.network.bridge.gateway_mode_ipv4".to_owned();
            Command::CreateNetwork(Box::new(NetworkSpec {
                ipv6: Some(ipv6),
                internal,
                options: BTreeMap::from([(key, mode.to_owned())]),
                ..with_subnets(name, &subnets)
            }))
        },
    )
}

fn create_sandbox() -> impl Strategy<Value = Command> {
    let networks = vec((select(NETWORKS), select(ADDRESSES)), 0..3);
    (select(SANDBOXES), networks, vec(select(PORTS), 0..3), any::<bool>()).prop_map(
        |(name, networks, ports, publish_all)| {
            let networks = networks.into_iter().map(|(name, addr)| (name.to_owned(), ip(addr)));
            Command::CreateSandbox(Box::new(SandboxSpec {
                networks: networks.collect(),
                publish_all,
                expose: vec!["80-81".to_owned()],
                ..publishing(name, &[], &ports)
            }))
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let join = (select(NETWORKS), select(SANDBOXES), select(ADDRESSES), -1..2);
    prop_oneof![
        3 => create_network(),
        4 => create_sandbox(),
        4 => join.prop_map(|(network, sandbox, addr, gw_priority)| {
            connect(network, sandbox, EndpointSpec { gw_priority, ..ip(addr) })
        }),
        2 => (select(NETWORKS), select(SANDBOXES)).prop_map(|(n, s)| disconnect(n, s)),
        1 => select(NETWORKS).prop_map(remove_network),
        1 => select(SANDBOXES).prop_map(remove_sandbox),
        1 => Just(Command::PruneNetworks { filters: BTreeMap::new() }),
        1 => Just(Command::EnsurePredefined),
    ]
}

fn survives<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
    object: &T,
) {
    let text = serde_json::to_string(object).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), object);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_commands_leave_a_sound_model(commands in vec(command(), 1..40)) {
        let mut world = World::new();
        for command in commands {
            let mut other = world.clone();
            let first = world.run(command.clone());
            prop_assert_eq!(first, other.run(command));
            prop_assert_eq!(&world.model, &other.model);
        }
        world.model.networks.values().for_each(|network| survives(network.as_ref()));
        world.model.endpoints.values().for_each(|endpoint| survives(endpoint.as_ref()));
        world.model.sandboxes.values().for_each(|sandbox| survives(sandbox.as_ref()));
    }

    #[test]
    fn addresses_are_the_lowest_free(steps in vec((any::<bool>(), 0usize..40), 1..60)) {
        let mut world = World::new();
        world.network(with_subnets("n", &["10.1.0.0/27"]));
        let mut held: BTreeMap<u8, String> = BTreeMap::new();
        for (at, (join, pick)) in steps.into_iter().enumerate() {
            let lowest = (2..31).find(|last| !held.contains_key(last));
            if join {
                let name = format!("c-{at}");
                let result = world.run(Command::CreateSandbox(Box::new(container(&name, &["n"]))));
                prop_assert_eq!(result.is_ok(), lowest.is_some());
                if let Some(lowest) = lowest {
                    prop_assert_eq!(world.v4(&name, "n"), format!("10.1.0.{lowest}"));
                    held.insert(lowest, name);
                }
            } else if let Some(last) = held.keys().nth(pick % held.len().max(1)).copied() {
                world.must(remove_sandbox(&held.remove(&last).unwrap()));
            }
        }
    }

    #[test]
    fn automatic_pools_overlap_nothing(
        occupied in vec((any::<[u8; 2]>(), 9u8..=32), 0..12),
        count in 1usize..35,
    ) {
        let mut world = World::new();
        for ([third, fourth], length) in occupied {
            let addr = std::net::Ipv4Addr::new(172, 16 + third % 16, fourth, 0);
            world.now.occupied.push(IpNetwork::new(addr.into(), length).unwrap());
        }
        for at in 0..count {
            let spec = Command::CreateNetwork(Box::new(named(&format!("n{at}"))));
            let Ok(Outcome::Network(id)) = world.run(spec) else { break };
            let granted = world.model.networks[&id].pools[0].subnet;
            let meets = |other: &IpNetwork| other.contains(granted.ip()) || granted.contains(other.network());
            prop_assert!(!world.now.occupied.iter().any(meets));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,24}", dense in "[0-9:.\\[\\]/=,a-f-]{0,24}") {
        for text in [text, dense] {
            let _ = (parse_expose(&text), World::new().model.find_network(&text).is_ok());
            for spec in parse_ports(&text).unwrap_or_default() {
                prop_assert_eq!(parse_ports(&spec.to_string()).unwrap(), vec![spec]);
            }
        }
    }

    #[test]
    fn any_words_for_a_network_are_granted_or_refused(
        name in "\\PC{0,8}", subnet in "[0-9:./a-f]{0,20}", key in "[a-z._]{0,12}", value in "\\PC{0,8}",
    ) {
        let spec = NetworkSpec { subnets: with_subnets("", &[&subnet]).subnets, ..with_option(&name, &key, &value) };
        let _ = World::new().run(Command::CreateNetwork(Box::new(spec)));
    }
}

/// A model with a network and many sandboxes on it, built by hand: by command it would take long.
fn crowded(count: u32) -> World {
    let mut world = World::new();
    world.network(with_subnets("big", &["10.0.0.0/16", "fd00::/64"]));
    let (sandbox, endpoint) =
        (world.sandbox(container("first", &["big"])), world.endpoint("first", "big"));
    for at in 1..count {
        let bytes = |kind: u8| {
            let mut id = [kind; 32];
            id[..4].copy_from_slice(&at.wrapping_mul(0x9e37_79b9).to_be_bytes());
            id
        };
        let id = SandboxId(bytes(1));
        let name = format!("s{at}");
        let netns = PathBuf::from(format!("/run/netns/{name}")).into();
        world
            .model
            .sandboxes
            .insert(id, Arc::new(Sandbox { id, name, netns, ..Sandbox::clone(&sandbox) }));
        let mut mac = endpoint.mac;
        mac.0[2..].copy_from_slice(&at.to_be_bytes());
        let added = Endpoint {
            id: EndpointId(bytes(2)),
            index: at + 1,
            sandbox: Some(id),
            v4: endpoint.v4.map(|addr| (addr.to_bits() + at).into()),
            v6: endpoint.v6.map(|addr| (addr.to_bits() + u128::from(at)).into()),
            mac,
            veth: format!("x{at}").into(),
            ..Endpoint::clone(&endpoint)
        };
        world.model.endpoints.insert(added.id, Arc::new(added));
    }
    world
}

#[test]
fn ten_thousand_endpoints_leave_the_next_address_to_the_next() {
    let mut world = crowded(10_000);
    world.sandbox(container("next", &["big"]));
    let next = world.endpoint("next", "big");
    assert_eq!(next.v4, Some("10.0.39.18".parse().unwrap()));
    assert_eq!(next.v6, Some("fd00::2712".parse().unwrap()));
    assert_eq!(next.index, 10_001);
}

#[test]
fn the_dataplanes_limits_are_told() {
    let mut world = crowded(MAX_ENDPOINTS - 1);
    let refused = world.sandbox_refused(container("next", &["big"]));
    assert!(
        refused.contains("netd holds at most 16383 endpoints (map endpoints): remove sandboxes"),
        "{refused}"
    );
    world.must(remove_sandbox("s77"));
    world.sandbox(container("next", &["big"]));
    assert_eq!(world.endpoint("next", "big").index, 78);

    let mut world = World::new();
    let host = Arc::clone(world.model.find_network("host").unwrap());
    for index in 4..MAX_NETWORKS {
        let mut id = [9; 32];
        id[..4].copy_from_slice(&index.to_be_bytes());
        let (id, name) = (NetworkId(id), format!("n{index}"));
        world
            .model
            .networks
            .insert(id, Arc::new(Network { id, index, name, ..Network::clone(&host) }));
    }
    assert_eq!(
        world.network_refused(named("next")),
        "no free network slot: netd holds at most 4095 networks (map networks): remove those that \
         are not used with `netd network prune`"
    );
}
