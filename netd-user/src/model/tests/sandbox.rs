//! Sandboxes: names, modes, coming and going.

use super::*;
use crate::model::sandbox::{ProcessRef, SandboxMode};

const INVALID: &str = "invalid endpoint settings:\n";

#[test]
fn names_are_unique_sound_and_made_when_missing() {
    let mut world = World::new();
    let web = world.sandbox(container("web", &[]));
    assert_eq!(
        world.sandbox_refused(container("web", &[])),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            web.id
        )
    );
    for name in ["x", "-a", "a b", "ä1"] {
        let text =
            format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        assert_eq!(world.sandbox_refused(container(name, &[])), text);
    }
    let made = world.sandbox(SandboxSpec::default());
    assert!(made.name.contains('_'), "{}", made.name);
    assert_eq!(made.hostname, made.id.short());
    assert_eq!(world.model.find_sandbox("/web").unwrap().id, web.id);
    assert_eq!(world.refused(remove_sandbox("gone")), "No such container: gone");
}

#[test]
fn bad_words_are_refused() {
    let mut world = World::new();
    let spec = SandboxSpec { hostname: Some("a..b".to_owned()), ..container("c1", &[]) };
    assert_eq!(world.sandbox_refused(spec), "invalid hostname format: a..b");
    let spec = SandboxSpec { dns: vec!["one".to_owned()], ..container("c1", &[]) };
    assert_eq!(world.sandbox_refused(spec), "IP address is not correctly formatted: one");
    let spec = SandboxSpec { netns: Some(PathBuf::from("x")), ..container("c1", &[]) };
    assert_eq!(world.sandbox_refused(spec), "network namespace \"x\": an absolute path is needed");
    let given =
        || SandboxSpec { netns: Some(PathBuf::from("/run/netns/a")), ..container("c1", &[]) };
    assert!(!world.sandbox(given()).owns_netns);
    let spec = SandboxSpec { name: Some("c2".to_owned()), ..given() };
    assert_eq!(
        world.sandbox_refused(spec),
        "network namespace /run/netns/a is already in use by container c1"
    );
    let spec =
        SandboxSpec { networks: vec![("host".to_owned(), EndpointSpec::default())], ..given() };
    assert_eq!(
        world.sandbox_refused(SandboxSpec { name: None, ..spec }),
        "conflicting options: network namespace and the network mode"
    );
}

#[test]
fn host_mode_shares_and_discards_ports() {
    let mut world = World::new();
    world.network(named("n1"));
    let spec = publishing("hc", &["host"], &["80:80"]);
    let Outcome::Sandbox(id, warnings) = world.must(Command::CreateSandbox(Box::new(spec))) else {
        unreachable!("creation gives an id")
    };
    assert_eq!(warnings, ["Published ports are discarded when using host network mode"]);
    assert_eq!(world.model.sandboxes[&id].mode, SandboxMode::Host);
    assert!(world.model.sandboxes[&id].publications.is_empty());
    let shares = "container sharing network namespace with another container or host cannot be connected to any other network";
    assert_eq!(world.refused(connect("n1", "hc", EndpointSpec::default())), shares);
    assert_eq!(world.sandbox_refused(container("c1", &["host", "n1"])), shares);
    assert_eq!(
        world.refused(disconnect("host", "hc")),
        "cannot disconnect container from host network - container was created in host network mode"
    );
    let mac = EndpointSpec { mac: Some("02:00:00:00:00:01".to_owned()), ..EndpointSpec::default() };
    assert_eq!(
        world.sandbox_refused(at("c1", "host", mac)),
        "conflicting options: mac-address and the network mode"
    );
}

#[test]
fn the_none_network_is_private() {
    let mut world = World::new();
    world.network(named("n1"));
    let private = "container cannot be connected to multiple networks with one of the networks in private (none) mode";
    assert_eq!(world.sandbox_refused(container("c1", &["none", "n1"])), private);
    assert_eq!(world.sandbox(container("lo", &["none"])).mode, SandboxMode::None);
    assert_eq!(world.refused(connect("n1", "lo", EndpointSpec::default())), private);
    world.sandbox(container("c1", &["n1"]));
    assert_eq!(world.refused(connect("none", "c1", EndpointSpec::default())), private);
    assert_eq!(
        world.refused(connect("none", "lo", EndpointSpec::default())),
        "endpoint with name lo already exists in network none"
    );
    world.must(disconnect("none", "lo"));
    world.must(connect("n1", "lo", EndpointSpec::default()));
    world.must(disconnect("n1", "lo"));
    world.must(connect("none", "lo", EndpointSpec::default()));
}

#[test]
fn connect_and_disconnect_speak_dockers_words() {
    let mut world = World::new();
    world.network(named("r1"));
    world.network(named("auto1"));
    let r1c = world.sandbox(container("r1c", &["r1"]));
    let plain = EndpointSpec::default;
    assert_eq!(
        world.refused(connect("r1", "r1c", plain())),
        "endpoint with name r1c already exists in network r1"
    );
    assert_eq!(
        world.refused(connect("host", "r1c", plain())),
        "cannot connect container to host network - container must be created in host network mode"
    );
    for network in ["auto1", "host", "none"] {
        let text = format!("container {} is not connected to network {network}", r1c.id);
        assert_eq!(world.refused(disconnect(network, "r1c")), text);
    }
    assert_eq!(world.refused(connect("nope", "r1c", plain())), "network nope not found");
    assert_eq!(world.refused(connect("r1", "nope", plain())), "No such container: nope");
    assert_eq!(
        world.sandbox_refused(container("e1", &["nope"])),
        "failed to set up container networking: network nope not found"
    );
    assert_eq!(
        world.sandbox_refused(container("e1", &["r1", "r1"])),
        "network \"r1\" is specified multiple times"
    );
    world.must(connect("auto1", "r1c", plain()));
    assert_eq!(&*world.endpoint("r1c", "auto1").interface, "eth1");
    world.must(disconnect("r1", "r1c"));
    world.must(connect("r1", "r1c", plain()));
    assert_eq!(&*world.endpoint("r1c", "r1").interface, "eth0");
}

#[test]
fn endpoint_settings_are_checked_all_at_once() {
    let mut world = World::new();
    world.network(with_subnets("r1", &["10.1.0.0/24"]));
    world.network(named("auto1"));
    world.sandbox(container("c1", &[]));
    let wrong = EndpointSpec {
        ip: Some("10.1.0".to_owned()),
        ip6: Some("fd00::1".to_owned()),
        mac: Some("zz".to_owned()),
        aliases: vec![String::new()],
        options: BTreeMap::from([
            ("com.docker.network.endpoint.ifname".to_owned(), "lo".to_owned()),
            ("com.docker.network.endpoint.sysctls".to_owned(), "a=1".to_owned()),
            ("netd.x".to_owned(), "1".to_owned()),
        ]),
        gw_priority: 0,
    };
    let refused = world.refused(connect("r1", "c1", wrong));
    assert_eq!(
        refused.lines().collect::<Vec<_>>(),
        [
            "invalid endpoint settings:",
            "invalid IPv4 address: 10.1.0",
            "no configured subnet contains IP address fd00::1",
            "zz is not a valid mac address",
            "invalid network-scoped alias \"\"",
            "invalid value \"lo\" for com.docker.network.endpoint.ifname",
            "com.docker.network.endpoint.sysctls is not supported yet by netd",
            "unknown endpoint option netd.x",
        ]
    );
    let alias = EndpointSpec { aliases: vec!["foo".to_owned()], ..EndpointSpec::default() };
    let scoped = "network-scoped aliases are only supported for user-defined networks";
    assert_eq!(world.refused(connect("bridge", "c1", alias)), format!("{INVALID}{scoped}"));
    let refused = world.sandbox_refused(at("e5", "bridge", ip("172.17.0.9")));
    assert_eq!(
        refused,
        format!(
            "invalid config for network bridge: {INVALID}user-specified IP address is supported on user-defined networks only"
        )
    );
    for (network, asked) in [("r1", "10.9.9.9"), ("auto1", "172.18.0.77")] {
        let refused = world.sandbox_refused(at("e6", network, ip(asked)));
        assert_eq!(
            refused,
            format!(
                "invalid config for network {network}: {INVALID}no configured subnet contains IP address {asked}"
            )
        );
    }
}

#[test]
fn macs_and_interface_names_are_not_shared() {
    let mut world = World::new();
    world.network(named("n1"));
    world.network(named("n2"));
    let spec = |mac: &str| EndpointSpec { mac: Some(mac.to_owned()), ..EndpointSpec::default() };
    world.sandbox(at("c1", "n1", spec("02:AA:00:00:00:01")));
    let refused = world.sandbox_refused(at("c2", "n1", spec("02:aa:00:00:00:01")));
    assert_eq!(
        refused,
        "failed to set up container networking: MAC address 02:aa:00:00:00:01 is already in use on network n1"
    );
    assert!(
        world
            .sandbox_refused(at("c2", "n1", spec("ff:ff:ff:ff:ff:ff")))
            .contains("a unicast address is needed")
    );
    world.sandbox(at("c2", "n2", spec("02:aa:00:00:00:01")));
    let ifname = || EndpointSpec {
        options: BTreeMap::from([(
            "com.docker.network.endpoint.ifname".to_owned(),
            "eth0".to_owned(),
        )]),
        ..EndpointSpec::default()
    };
    assert_eq!(
        world.refused(connect("n2", "c1", ifname())),
        "interface name eth0 is already in use in the container"
    );
}

#[test]
fn the_gateway_is_chosen_per_family() {
    let mut world = World::new();
    for name in ["b", "a"] {
        world.network(named(name));
    }
    world.network(NetworkSpec { internal: true, ..named("0-internal") });
    world.network(NetworkSpec { ipv6: Some(true), ..named("six") });
    let id = world.sandbox(container("c1", &["0-internal", "b", "a", "six"])).id;
    let chosen = |world: &World, v6| {
        let endpoint = world.model.gateway_endpoint(id, v6);
        assert_eq!(endpoint, world.model.gateway_endpoints(v6).get(&id).copied());
        endpoint.map(|endpoint| world.model.networks[&endpoint.network].name.clone())
    };
    assert_eq!(
        (chosen(&world, false), chosen(&world, true)),
        (Some("a".into()), Some("six".into()))
    );
    world.must(disconnect("b", "c1"));
    world.must(connect("b", "c1", EndpointSpec { gw_priority: 1, ..EndpointSpec::default() }));
    assert_eq!(chosen(&world, false), Some("b".into()));
    for name in ["a", "b", "six"] {
        world.must(disconnect(name, "c1"));
    }
    assert_eq!((chosen(&world, false), chosen(&world, true)), (None, None));
}

#[test]
fn an_owner_is_set_and_cleared() {
    let mut world = World::new();
    world.sandbox(container("c1", &[]));
    let owner = Some(ProcessRef { pid: 7, start_ticks: 9 });
    let set = |owner| Command::SetOwner { sandbox: "c1".to_owned(), owner };
    world.must(set(owner));
    assert_eq!(world.model.find_sandbox("c1").unwrap().owner, owner);
    world.must(set(None));
    assert_eq!(world.model.find_sandbox("c1").unwrap().owner, None);
}

#[test]
fn a_sandbox_on_several_networks_is_all_or_nothing() {
    let mut world = World::new();
    world.network(named("n1"));
    world.network(with_subnets("full", &["10.4.0.0/32"]));
    let before = world.model.clone();
    assert!(
        world
            .sandbox_refused(container("c1", &["n1", "full"]))
            .contains("no available IPv4 addresses")
    );
    assert_eq!(world.model, before);
}
