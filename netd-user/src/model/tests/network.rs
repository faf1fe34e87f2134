//! Networks, their pools and addresses.

use super::*;
use crate::model::network::{DriverKind, GatewayMode};

fn subnets(network: &Network) -> Vec<String> {
    network.pools.iter().map(|pool| pool.subnet.to_string()).collect()
}

fn gateway(network: &Network) -> String {
    network.pools[0].gateway.map(|gateway| gateway.to_string()).unwrap_or_default()
}

#[test]
fn predefined_networks_are_made_once_and_protected() {
    let mut world = World::new();
    let before = world.model.clone();
    world.must(Command::EnsurePredefined);
    assert_eq!(world.model, before);
    let drivers =
        ["bridge", "host", "none"].map(|name| world.model.find_network(name).unwrap().driver);
    assert_eq!(drivers, [DriverKind::Bridge, DriverKind::Host, DriverKind::Null]);
    for name in ["bridge", "host", "none"] {
        let refused = world.refused(remove_network(name));
        assert_eq!(refused, format!("{name} is a pre-defined network and cannot be removed"));
        let refused = world.network_refused(named(name));
        assert_eq!(refused, format!("operation is not permitted on predefined {name} network"));
    }
    for driver in ["host", "null"] {
        let spec = NetworkSpec { driver: Some(driver.to_owned()), ..named("second") };
        let text = format!("only one instance of \"{driver}\" network is allowed");
        assert_eq!(world.network_refused(spec), text);
    }
    assert_eq!(subnets(world.model.find_network("bridge").unwrap()), ["172.17.0.0/16"]);
}

#[test]
fn the_predefined_bridge_follows_the_settings() {
    let mut world = World::with(Settings {
        bip: Some("10.7.0.5/24".parse().unwrap()),
        fixed_cidr: Some("10.7.0.128/25".parse().unwrap()),
        default_gateway: Some("10.7.0.254".parse().unwrap()),
        ipv6: true,
        icc: false,
        mtu: Some(1_400),
        ..settings()
    });
    let bridge = Arc::clone(world.model.find_network("bridge").unwrap());
    assert_eq!(gateway(&bridge), "10.7.0.5");
    assert_eq!(bridge.pools[0].container_gateway(), Some("10.7.0.254".parse().unwrap()));
    assert_eq!(subnets(&bridge)[1], "fd12:3456:789a::/64");
    assert_eq!((bridge.bridge.icc, bridge.bridge.mtu), (false, Some(1_400)));
    assert_eq!(&*bridge.bridge.device, "netd0");
    world.sandbox(container("c1", &[]));
    assert_eq!(world.v4("c1", "bridge"), "10.7.0.128");

    let changed = Settings { bip: Some("10.8.0.1/24".parse().unwrap()), ..settings() };
    world.now.settings = Arc::new(changed);
    world.must(Command::EnsurePredefined);
    let used = Arc::clone(world.model.find_network("bridge").unwrap());
    assert_eq!((gateway(&used).as_str(), used.bridge.icc), ("10.7.0.5", true));
    world.must(remove_sandbox("c1"));
    world.must(Command::EnsurePredefined);
    let free = world.model.find_network("bridge").unwrap();
    assert_eq!((gateway(free).as_str(), free.id, free.index), ("10.8.0.1", used.id, used.index));

    world.now.settings = Arc::new(Settings { bridge: Some("none".to_owned()), ..settings() });
    world.must(Command::EnsurePredefined);
    assert!(world.model.network_named("bridge").is_none());
    let refused = world.sandbox_refused(container("c1", &[]));
    assert_eq!(refused, "failed to set up container networking: network bridge not found");
}

#[test]
fn an_automatic_bridge_keeps_its_subnet_at_the_next_start() {
    let mut world = World::new();
    world.now.occupied = vec!["172.17.0.0/16".parse().unwrap()];
    world.must(Command::EnsurePredefined);
    assert_eq!(subnets(world.model.find_network("bridge").unwrap()), ["172.17.0.0/16"]);
}

#[test]
fn a_bip_with_a_foreign_range_or_gateway_is_refused() {
    let bip = Some("10.7.0.1/24".parse().unwrap());
    let foreign = Some("10.9.0.0/25".parse().unwrap());
    let now = circumstances(Settings { bip, fixed_cidr: foreign, ..settings() });
    let refused = Model::default().apply(Command::EnsurePredefined, &now).unwrap_err();
    assert_eq!(refused.message, "fixed-cidr 10.9.0.0/25 is not within bip 10.7.0.0/24");
    let default_gateway = Some("10.9.0.1".parse().unwrap());
    let now = circumstances(Settings { bip, default_gateway, ..settings() });
    let refused = Model::default().apply(Command::EnsurePredefined, &now).unwrap_err();
    assert_eq!(refused.message, "default gateway ip must be part of the network");
}

#[test]
fn default_pools_are_dockers_thirty_one() {
    let mut world = World::new();
    let granted: Vec<_> =
        (1..31).map(|at| subnets(&world.network(named(&format!("n{at}")))).remove(0)).collect();
    assert_eq!(granted[0], "172.18.0.0/16");
    assert_eq!(granted[2], "172.20.0.0/16");
    assert_eq!(granted[13], "172.31.0.0/16");
    assert_eq!(
        (granted[14].as_str(), granted[29].as_str()),
        ("192.168.0.0/20", "192.168.240.0/20")
    );
    let refused = world.network_refused(named("n32"));
    assert_eq!(refused, "all predefined address pools have been fully subnetted");
    world.must(remove_network("n7"));
    assert_eq!(subnets(&world.network(named("again")))[0], granted[6]);
}

#[test]
fn configured_pools_are_taken_in_order_and_skip_what_is_occupied() {
    let pool = |base: &str, size| AddressPool { base: base.parse().unwrap(), size };
    let mut world = World::with(Settings {
        default_address_pools: vec![pool("175.30.0.0/16", 16), pool("175.33.0.0/16", 24)],
        ..settings()
    });
    assert_eq!(subnets(&world.network(named("n1"))), ["175.33.0.0/24"]);
    world.now.occupied = vec![
        "0.0.0.0/0".parse().unwrap(),
        "175.33.1.9/32".parse().unwrap(),
        "175.33.2.0/23".parse().unwrap(),
    ];
    assert_eq!(subnets(&world.network(named("n2"))), ["175.33.4.0/24"]);
    assert_eq!(subnets(&world.network(with_subnets("any", &["0.0.0.0/26"]))), ["175.33.1.64/26"]);
}

#[test]
fn ipv6_defaults_to_the_ula_prefix() {
    let mut world = World::new();
    let spec = NetworkSpec { ipv6: Some(true), ..named("six") };
    assert_eq!(subnets(&world.network(spec))[1], "fd12:3456:789a::/64");
    let spec = NetworkSpec { ipv6: Some(true), ipv4: Some(false), ..named("only") };
    let only = world.network(spec);
    assert_eq!(subnets(&only), ["fd12:3456:789a:1::/64"]);
    assert_eq!(gateway(&only), "fd12:3456:789a:1::1");
    world.sandbox(container("c1", &["only"]));
    let endpoint = world.endpoint("c1", "only");
    assert_eq!((endpoint.v4, endpoint.v6), (None, Some("fd12:3456:789a:1::2".parse().unwrap())));
    let spec = NetworkSpec { ipv4: Some(false), ..named("nothing") };
    assert_eq!(world.network_refused(spec), "IPv4 or IPv6 must be enabled");
}

#[test]
fn overlapping_subnets_are_refused() {
    let mut world = World::new();
    world.network(with_subnets("n1", &["10.1.0.0/24"]));
    let text = "invalid pool request: Pool overlaps with other one on this address space";
    assert_eq!(world.network_refused(with_subnets("n2", &["10.1.0.0/16"])), text);
    assert_eq!(world.network_refused(with_subnets("n2", &["10.2.0.0/24", "10.2.0.0/25"])), text);
}

#[test]
fn everything_wrong_with_subnets_is_said_at_once() {
    let mut world = World::new();
    let mut wrong = subnet("10.1.0.1/24");
    wrong.gateway = Some("10.2.0.1".to_owned());
    wrong.ip_range = Some("10.1.0.5/16".to_owned());
    wrong.aux_addresses.insert("a".to_owned(), "fd00::1".to_owned());
    let mut other = subnet("10.3.0.0/24");
    other.ip_range = Some("10.4.0.0/25".to_owned());
    other.gateway = Some("x".to_owned());
    let empty = SubnetSpec { gateway: Some("10.0.0.1".to_owned()), ..SubnetSpec::default() };
    let subnets = vec![
        wrong,
        other,
        subnet("10.1.0.0"),
        empty,
        subnet("224.1.0.0/16"),
        subnet("10.0.0.0/+8"),
    ];
    let refused = world.network_refused(NetworkSpec { subnets, ..named("n1") });
    assert_eq!(
        refused.lines().collect::<Vec<_>>(),
        [
            "invalid network config:",
            "invalid subnet 10.1.0.1/24: it should be 10.1.0.0/24",
            "invalid ip-range 10.1.0.5/16: CIDR block is bigger than its parent subnet 10.1.0.1/24",
            "invalid ip-range 10.1.0.5/16: it should be 10.1.0.0/16",
            "invalid gateway 10.2.0.1: parent subnet 10.1.0.1/24 doesn't contain this address",
            "invalid auxiliary address a: parent subnet is an IPv4 block",
            "invalid ip-range 10.4.0.0/25: parent subnet 10.3.0.0/24 doesn't contain ip-range",
            "invalid gateway x: invalid address",
            "invalid subnet 10.1.0.0: invalid CIDR block notation",
            "every ip-range or gateway must have a corresponding subnet",
            "invalid subnet 224.1.0.0/16: it holds multicast addresses",
            "invalid subnet 10.0.0.0/+8: invalid CIDR block notation",
        ]
    );
}

#[test]
fn names_drivers_and_ipam_drivers_are_checked() {
    let mut world = World::new();
    world.network(named("r1"));
    assert_eq!(world.network_refused(named("r1")), "network with name r1 already exists");
    assert_eq!(world.network_refused(named(" ")), "invalid name: name is empty");
    assert!(world.network_refused(named("a\nb")).starts_with("invalid name: "));
    let spec = NetworkSpec { driver: Some("macvlan".to_owned()), ..named("n") };
    assert_eq!(world.network_refused(spec), "plugin \"macvlan\" not found");
    let spec = NetworkSpec { ipam_driver: Some("dhcp".to_owned()), ..named("n") };
    assert_eq!(world.network_refused(spec), "plugin \"dhcp\" not found");
    let spec =
        NetworkSpec { ipam_driver: Some("null".to_owned()), ..with_subnets("n", &["10.1.0.0/24"]) };
    assert_eq!(
        world.network_refused(spec),
        "null ipam driver does not handle specific address pool requests"
    );
    let null = world.network(NetworkSpec { ipam_driver: Some("null".to_owned()), ..named("n") });
    assert!(null.pools.is_empty());
    world.sandbox(container("c1", &["n"]));
    assert_eq!(world.endpoint("c1", "n").v4, None);
}

#[test]
fn options_are_read_or_refused_in_dockers_words() {
    let mut world = World::new();
    let docker = "com.docker.network.";
    for (key, value, text) in [
        (
            "driver.mtu",
            "abc",
            "failed to parse com.docker.network.driver.mtu value: abc (strconv.Atoi: parsing \"abc\": invalid syntax)",
        ),
        ("driver.mtu", "-1", "invalid MTU number: -1"),
        ("driver.mtu", "67", "invalid MTU number: 67"),
        (
            "bridge.enable_icc",
            "maybe",
            "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)",
        ),
        (
            "bridge.gateway_mode_ipv4",
            "foo",
            "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: foo (unknown gateway mode foo)",
        ),
        (
            "bridge.gateway_mode_ipv4",
            "isolated",
            "gateway mode 'isolated' can only be used for an internal network",
        ),
        (
            "bridge.host_binding_ipv4",
            "x",
            "failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)",
        ),
        (
            "bridge.trusted_host_interfaces",
            "eth1:a/b",
            "failed to parse com.docker.network.bridge.trusted_host_interfaces value: a/b (a link's name is needed)",
        ),
    ] {
        assert_eq!(world.network_refused(with_option("n", &format!("{docker}{key}"), value)), text);
    }
}

#[test]
fn options_of_netd_and_short_ones_are_known_by_name() {
    let mut world = World::new();
    assert!(
        world
            .network_refused(with_option("n", "com.docker.network.bridge.name", "a/b"))
            .contains("a/b")
    );
    assert!(
        world
            .network_refused(with_option("n", "com.docker.network.container_iface_prefix", ""))
            .contains("iface_prefix")
    );
    assert!(
        world
            .network_refused(with_option("n", "netd.foo", "1"))
            .contains("unknown network option netd.foo")
    );
    assert!(
        world
            .network_refused(with_option("n", "netd.anti_spoof", "no"))
            .contains("netd.anti_spoof")
    );
    world.network(with_option("unknown", "com.docker.network.x", "1"));
    assert_eq!(world.network(with_option("short", "mtu", "1400")).bridge.mtu, Some(1_400));
    let small = NetworkSpec { ipv6: Some(true), ..with_option("n", "mtu", "1000") };
    assert_eq!(
        world.network_refused(small),
        "invalid MTU number: 1000: IPv6 needs 1280 bytes or more"
    );
    let routed = world.network(with_option(
        "routed",
        "com.docker.network.bridge.gateway_mode_ipv4",
        "routed",
    ));
    assert_eq!(routed.gateway_mode(false), GatewayMode::Routed);
}

#[test]
fn default_options_yield_to_given_ones() {
    let mtu = "com.docker.network.driver.mtu".to_owned();
    let opts = BTreeMap::from([(mtu.clone(), "1300".to_owned())]);
    let mut world = World::with(Settings { default_network_opts: opts, ..settings() });
    assert_eq!(world.network(named("n1")).bridge.mtu, Some(1_300));
    assert_eq!(world.network(with_option("n2", &mtu, "1200")).bridge.mtu, Some(1_200));
}

#[test]
fn devices_have_names_of_their_own() {
    let mut world = World::new();
    let automatic = world.network(named("n1"));
    assert_eq!(*automatic.bridge.device, format!("br-{}", automatic.id.short()));
    let key = "com.docker.network.bridge.name";
    let held = world.network(with_option("n2", key, "br-r1x"));
    let refused = world.network_refused(with_option("n3", key, "br-r1x"));
    let tail = format!(
        "(br-r1x): conflicts with network {} (br-r1x): networks have same bridge name",
        held.id
    );
    assert!(refused.starts_with("cannot create network ") && refused.ends_with(&tail), "{refused}");
}

#[test]
fn networks_are_found_by_name_then_by_prefix() {
    let mut world = World::new();
    let n1 = world.network(named("n1"));
    let by = |world: &World, text: &str| world.model.find_network(text).map(|network| network.id);
    assert_eq!(by(&world, &n1.id.to_string()), Ok(n1.id));
    assert_eq!(by(&world, &n1.id.short()), Ok(n1.id));
    assert_eq!(by(&world, &n1.id.to_string()[..13]), Ok(n1.id));
    let n2 = world.network(named(&n1.id.short()));
    assert_eq!(by(&world, &n1.id.short()), Ok(n2.id));
    for text in ["nope", "", "zz", &"0".repeat(65)] {
        assert_eq!(by(&world, text).unwrap_err().message, format!("network {text} not found"));
    }
    let mut firsts: BTreeMap<char, u32> = BTreeMap::new();
    for at in 0..20 {
        world.network(named(&format!("m{at}")));
    }
    for id in world.model.networks.keys() {
        *firsts.entry(id.to_string().remove(0)).or_default() += 1;
    }
    let (digit, count) = firsts.into_iter().find(|(_, count)| *count > 1).unwrap();
    let refused = by(&world, &digit.to_string()).unwrap_err();
    let text = format!("network {digit} is ambiguous ({count} matches found based on ID prefix)");
    assert_eq!((refused.kind, refused.message), (RefusalKind::Invalid, text));
}

#[test]
fn a_network_in_use_stays() {
    let mut world = World::new();
    world.network(named("r1"));
    world.sandbox(container("r1c", &["r1"]));
    let id = world.endpoint("r1c", "r1").id.short();
    let refused = world.refused(remove_network("r1"));
    let text = format!(
        "error while removing network: network r1 has active endpoints (name:\"r1c\" id:\"{id}\")"
    );
    assert_eq!(refused, text);
    world.must(remove_sandbox("r1c"));
    world.must(remove_network("r1"));
    assert_eq!(world.refused(remove_network("r1")), "network r1 not found");
}

#[test]
fn prune_obeys_filters_and_use() {
    let mut world = World::new();
    let labelled = |name: &str, key: &str, value: &str| NetworkSpec {
        labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..named(name)
    };
    for spec in
        [labelled("a", "env", "test"), labelled("b", "env", "prod"), named("c"), named("used")]
    {
        world.network(spec);
    }
    world.sandbox(container("c1", &["used"]));
    let prune = |key: &str, value: &str| Command::PruneNetworks {
        filters: BTreeMap::from([(key.to_owned(), BTreeSet::from([value.to_owned()]))]),
    };
    let pruned =
        |names: &[&str]| Outcome::Pruned(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(world.refused(prune("name", "a")), "invalid filter 'name'");
    assert!(world.refused(prune("until", "soon")).contains("soon"));
    assert_eq!(world.must(prune("until", "1h")), pruned(&[]));
    assert_eq!(world.must(prune("label", "env=test")), pruned(&["a"]));
    assert_eq!(world.must(prune("label!", "env")), pruned(&["c"]));
    world.now.now_ns += 3_600_000_000_001;
    assert_eq!(world.must(prune("until", "1h")), pruned(&["b"]));
    assert_eq!(world.model.networks.len(), 4);
}

#[test]
fn a_range_serves_gateway_and_containers() {
    let mut world = World::new();
    let mut asked = subnet("10.1.0.0/24");
    asked.ip_range = Some("10.1.0.128/25".to_owned());
    asked.aux_addresses.insert("printer".to_owned(), "10.1.0.129".to_owned());
    asked.aux_addresses.insert("outside".to_owned(), "10.1.0.7".to_owned());
    let network = world.network(NetworkSpec { subnets: vec![asked], ..named("r1") });
    assert_eq!(gateway(&network), "10.1.0.128");
    world.sandbox(container("c1", &["r1"]));
    assert_eq!(world.v4("c1", "r1"), "10.1.0.130");
    let mut usage = world.model.pool_usage();
    usage.retain(|usage| usage.network_name == "r1");
    assert_eq!((usage[0].allocated, usage[0].available), (4, 128 - 4));
    for taken in ["10.1.0.7", "10.1.0.128", "10.1.0.255", "10.1.0.130"] {
        let refused = world.sandbox_refused(at("c2", "r1", ip(taken)));
        assert_eq!(refused, "failed to set up container networking: Address already in use");
    }
    world.sandbox(at("c2", "r1", ip("10.1.0.1")));
}

#[test]
fn gateways_and_auxiliary_addresses_must_be_free() {
    let mut world = World::new();
    let mut edge = subnet("10.1.0.0/24");
    edge.gateway = Some("10.1.0.255".to_owned());
    let refused = world.network_refused(NetworkSpec { subnets: vec![edge], ..named("n") });
    assert_eq!(refused, "failed to allocate gateway (10.1.0.255): Address already in use");
    let mut twice = subnet("10.1.0.0/24");
    twice.gateway = Some("10.1.0.9".to_owned());
    twice.aux_addresses.insert("a".to_owned(), "10.1.0.9".to_owned());
    let refused = world.network_refused(NetworkSpec { subnets: vec![twice], ..named("n") });
    assert_eq!(
        refused,
        "failed to allocate secondary ip address (a:10.1.0.9): Address already in use"
    );
}

#[test]
fn small_pools_give_every_address() {
    let mut world = World::new();
    let network = world.network(with_subnets("p2p", &["10.4.0.0/31"]));
    assert_eq!(gateway(&network), "10.4.0.0");
    world.sandbox(container("c1", &["p2p"]));
    assert_eq!(world.v4("c1", "p2p"), "10.4.0.1");
    let refused = world.sandbox_refused(container("c2", &["p2p"]));
    let text = format!(
        "failed to set up container networking: no available IPv4 addresses on this network's address pools: p2p ({}); remove containers from it, or create a network with a larger subnet",
        network.id
    );
    assert_eq!(refused, text);
    assert_eq!(gateway(&world.network(with_subnets("one", &["10.4.1.0/32"]))), "10.4.1.0");
    let key = |family| format!("com.docker.network.bridge.gateway_mode_ipv{family}");
    let isolated = NetworkSpec {
        internal: true,
        options: BTreeMap::from([4, 6].map(|family| (key(family), "isolated".to_owned()))),
        ..with_subnets("iso", &["10.5.0.0/31", "fd00:5::/127"])
    };
    assert_eq!(gateway(&world.network(isolated)), "");
    world.sandbox(container("aa", &["iso"]));
    world.sandbox(container("bb", &["iso"]));
    assert_eq!(
        (world.v4("aa", "iso"), world.v4("bb", "iso")),
        ("10.5.0.0".into(), "10.5.0.1".into())
    );
    assert_eq!(world.endpoint("bb", "iso").v6, Some("fd00:5::1".parse().unwrap()));
}

#[test]
fn the_lowest_address_is_given_again_and_the_second_subnet_serves_after_the_first() {
    let mut world = World::new();
    world.network(with_subnets("n", &["10.6.0.0/30", "10.7.0.0/29"]));
    for name in ["c1", "c2", "c3"] {
        world.sandbox(container(name, &["n"]));
    }
    assert_eq!(world.v4("c1", "n"), "10.6.0.2");
    assert_eq!(world.v4("c3", "n"), "10.7.0.3");
    world.must(remove_sandbox("c1"));
    world.sandbox(container("c4", &["n"]));
    assert_eq!(world.v4("c4", "n"), "10.6.0.2");
    world.sandbox(at("c5", "n", ip("10.7.0.6")));
}
