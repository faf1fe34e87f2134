//! What an engine asks for, in any order.

use std::net::IpAddr;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::engine::{
    AddressRequest, AddressRole, AdoptedEndpoint, AdoptedNetwork, AdoptedPool, PoolRequest,
};

const PORTS: &[&str] = &["8080:80", "8080-8082:80", "80", "127.0.0.1:9000:90/udp"];

fn engine(command: EngineCommand) -> Command {
    Command::Engine(Box::new(command))
}

fn network_id(n: u8) -> NetworkId {
    NetworkId([n; 32])
}

fn endpoint_id(n: u8) -> EndpointId {
    EndpointId([n; 32])
}

/// Network `n` is `10.N.0.0/28` and `fd00:N::/64`, whose pools the engine asked for where `leased`.
fn adopted(n: u8, leased: bool) -> AdoptedNetwork {
    let pool = |subnet: String, gateway: String| AdoptedPool {
        leased,
        subnet: subnet.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        aux_addresses: BTreeMap::new(),
    };
    AdoptedNetwork {
        id: network_id(n),
        ipv4: true,
        ipv6: true,
        internal: false,
        options: BTreeMap::new(),
        pools: vec![
            pool(format!("10.{n}.0.0/28"), format!("10.{n}.0.1")),
            pool(format!("fd00:{n}::/64"), format!("fd00:{n}::1")),
        ],
    }
}

fn create(n: u8) -> Command {
    engine(EngineCommand::CreateNetwork(adopted(n, true)))
}

fn endpoint(network: u8, n: u8, host: u8, families: (bool, bool)) -> Command {
    engine(EngineCommand::CreateEndpoint(AdoptedEndpoint {
        id: endpoint_id(n),
        network: network_id(network),
        v4: families.0.then(|| [10, network, 0, host].into()),
        v6: families.1.then(|| format!("fd00:{network}::{host}").parse().unwrap()),
        mac: None,
        options: BTreeMap::new(),
    }))
}

fn join(n: u8, sandbox: u8) -> Command {
    let key = PathBuf::from(format!("/run/docker/netns/s{sandbox}"));
    engine(EngineCommand::Join { endpoint: endpoint_id(n), key })
}

fn open(n: u8, ports: &[&str]) -> Command {
    let ports = ports.iter().flat_map(|text| parse_ports(text).unwrap()).collect();
    engine(EngineCommand::Open { endpoint: endpoint_id(n), ports })
}

fn pool_request(subnet: &str) -> Command {
    engine(EngineCommand::RequestPool(PoolRequest {
        space: "local".to_owned(),
        subnet: Some(subnet.to_owned()),
        range: None,
        v6: false,
    }))
}

fn pool(n: u8) -> PoolId {
    format!("local/10.{n}.0.0/28").parse().unwrap()
}

fn address(n: u8, host: Option<u8>, role: AddressRole) -> Command {
    let addr = host.map(|host| IpAddr::from([10, n, 0, host]));
    engine(EngineCommand::RequestAddress(AddressRequest { pool: pool(n), addr, role }))
}

fn any_request() -> impl Strategy<Value = Command> {
    let (network, end) = (1u8..4, 1u8..6);
    let role = select(vec![AddressRole::Fixed, AddressRole::Endpoint]);
    prop_oneof![
        (network.clone(), any::<bool>())
            .prop_map(|(n, leased)| engine(EngineCommand::CreateNetwork(adopted(n, leased)))),
        network
            .clone()
            .prop_map(|n| { engine(EngineCommand::DeleteNetwork { network: network_id(n) }) }),
        (network.clone(), end.clone(), 1u8..6, any::<(bool, bool)>())
            .prop_map(|(network, n, host, families)| endpoint(network, n, host, families)),
        end.clone()
            .prop_map(|n| { engine(EngineCommand::DeleteEndpoint { endpoint: endpoint_id(n) }) }),
        (end.clone(), 1u8..4).prop_map(|(n, sandbox)| join(n, sandbox)),
        end.clone().prop_map(|n| engine(EngineCommand::Leave { endpoint: endpoint_id(n) })),
        (end.clone(), vec(select(PORTS), 0..3)).prop_map(|(n, ports)| open(n, &ports)),
        end.prop_map(|n| engine(EngineCommand::Close { endpoint: endpoint_id(n) })),
        network.clone().prop_map(|n| pool_request(&format!("10.{n}.0.0/28"))),
        network.clone().prop_map(|n| engine(EngineCommand::ReleasePool { pool: pool(n) })),
        (network.clone(), prop::option::of(0u8..8), role)
            .prop_map(|(n, host, role)| { address(n, host, role) }),
        (network.clone(), 0u8..8).prop_map(|(n, host)| {
            let addr = IpAddr::from([10, n, 0, host]);
            engine(EngineCommand::ReleaseAddress { pool: pool(n), addr })
        }),
        network.prop_map(|n| remove_network(&network_id(n).to_string())),
        Just(Command::CreateNetwork(Box::new(with_subnets("native", &["10.2.0.0/24"])))),
        Just(Command::CreateSandbox(Box::new(publishing("c1", &["native"], &["8080:80"])))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_requests_leave_a_sound_model_and_repeated_ones_change_nothing(
        commands in vec((any_request(), vec(1u8..6, 0..2)), 1..40)
    ) {
        let mut world = World::new();
        for (command, departed) in commands {
            world.now.departed = departed.into_iter().map(endpoint_id).collect();
            let granted = world.run(command.clone()).is_ok();
            world.now.departed.clear();
            let repeats = matches!(&command, Command::Engine(request) if !matches!(
                **request,
                EngineCommand::RequestAddress(AddressRequest { role: AddressRole::Endpoint, .. }
                    | AddressRequest { addr: None, .. })
            ));
            if granted && repeats {
                let before = world.model.clone();
                prop_assert!(world.run(command).is_ok());
                prop_assert_eq!(&world.model, &before);
            }
        }
        for endpoint in 1..6 {
            world.must(engine(EngineCommand::DeleteEndpoint { endpoint: endpoint_id(endpoint) }));
        }
        prop_assert!(world.model.sandboxes.values().all(|it| it.keeper == Keeper::Netd));
    }
}

#[test]
fn port_enters_by_the_endpoint_that_was_chosen_for_its_family() {
    let mut world = World::new();
    for n in [1, 2] {
        world.must(create(n));
    }
    world.must(endpoint(1, 1, 2, (true, true)));
    world.must(endpoint(2, 2, 2, (true, false)));
    for n in [1, 2] {
        world.must(join(n, 1));
    }
    let sandbox = world.model.endpoints[&endpoint_id(1)].sandbox.unwrap();
    world.must(open(1, &["8080:80"]));
    assert_eq!(world.ports("s1"), ["0.0.0.0:8080->80*1/tcp", "[::]:8080->80*1/tcp"]);
    // The second speaks IPv4 alone: it was chosen for that, and the first for IPv6.
    world.must(open(2, &["8080:80"]));
    let chosen = |v6| world.model.gateway_endpoint(sandbox, v6).unwrap().id;
    assert_eq!([chosen(false), chosen(true)], [endpoint_id(2), endpoint_id(1)]);
    world.must(engine(EngineCommand::Close { endpoint: endpoint_id(1) }));
    assert_eq!(world.ports("s1"), ["0.0.0.0:8080->80*1/tcp"]);
    world.must(engine(EngineCommand::Leave { endpoint: endpoint_id(2) }));
    assert_eq!(world.ports("s1"), Vec::<String>::new());
}

#[test]
fn address_that_nobody_made_use_of_is_granted_again_after_a_while() {
    let mut world = World::new();
    world.must(pool_request("10.1.0.0/28"));
    world.must(create(1));
    let claim = || address(1, Some(5), AddressRole::Endpoint);
    world.must(claim());
    assert_eq!(world.refused(claim()), "Address already in use");
    world.now.now_ns += 61_000_000_000;
    world.must(claim());
    world.must(endpoint(1, 1, 5, (true, false)));
    world.now.now_ns += 61_000_000_000;
    assert_eq!(world.refused(claim()), "Address already in use");
}

#[test]
fn full_pool_gives_what_was_forgotten_and_never_what_is_in_use() {
    let mut world = World::new();
    world.must(pool_request("10.1.0.0/28"));
    world.must(create(1));
    let any = || address(1, None, AddressRole::Endpoint);
    let granted: Vec<Outcome> = (2..15).map(|_| world.must(any())).collect();
    assert_eq!(granted.len(), 13);
    assert!(world.refused(any()).contains("no available IPv4 addresses"));
    world.must(endpoint(1, 1, 2, (true, false)));
    world.now.now_ns += 61_000_000_000;
    let again = world.must(any());
    assert_eq!(again, Outcome::Address("10.1.0.3/28".parse().unwrap()));
}

#[test]
fn objects_of_an_engine_survive_the_store() {
    let mut world = World::new();
    world.must(pool_request("10.1.0.0/28"));
    world.must(create(1));
    world.must(address(1, None, AddressRole::Endpoint));
    world.must(endpoint(1, 1, 2, (true, true)));
    world.must(join(1, 1));
    world.must(open(1, &["8080:80"]));
    let change = crate::store::Change::between(&Model::default(), &world.model, 1).unwrap();
    let mut contents = crate::store::Contents::default();
    contents.apply(&change);
    assert_eq!(contents.decode().unwrap().0, world.model);
}
