//! Endpoints: creation, join, publication, ends in any order.

use serde_json::{Value, json};

use super::{World, id, published};

const PROGRAM: &str = "NetworkDriver.ProgramExternalConnectivity";

#[test]
fn reply_holds_a_mac_only_where_none_was_given() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let create = |n: u8, mac: &str| {
        json!({"NetworkID": id(1), "EndpointID": id(n), "Interface": {"Address":
            format!("10.1.0.{n}/24"), "AddressIPv6": "", "MacAddress": mac}, "Options": {}})
    };
    let given = create(2, "02:42:0a:01:00:02");
    for _ in 0..2 {
        let told = engine.granted("NetworkDriver.CreateEndpoint", &given);
        assert_eq!(told, json!({"Interface": {}}));
    }
    let told = engine.granted("NetworkDriver.CreateEndpoint", &create(3, ""));
    let mac = told["Interface"]["MacAddress"].as_str().unwrap().to_owned();
    let first = u8::from_str_radix(&mac[..2], 16).unwrap();
    assert_eq!(first & 3, 2, "{mac} is local and individual");
    assert_eq!(told["Interface"].as_object().unwrap().len(), 1);
    let again = engine.granted("NetworkDriver.CreateEndpoint", &create(3, ""));
    assert_eq!(again["Interface"]["MacAddress"], mac);
}

#[test]
fn interface_is_there_with_its_mtu_when_join_is_answered() {
    let world = World::new();
    let mut engine = world.engine();
    let mut network = super::network(&id(1), 1);
    network["Options"]["com.docker.network.generic"] =
        json!({"com.docker.network.driver.mtu": "1400"});
    engine.granted("NetworkDriver.CreateNetwork", &network);
    let endpoint = engine.endpoint(1, 7);
    let join = json!({"NetworkID": id(1), "EndpointID": endpoint,
        "SandboxKey": "/var/run/docker/netns/be461a740df3", "Options": {}});
    let joined = engine.granted("NetworkDriver.Join", &join);
    assert_eq!(joined["InterfaceName"]["DstPrefix"], "eth");
    assert_eq!(joined["Gateway"], "10.1.0.1");
    assert_eq!(joined.get("GatewayIPv6"), None);
    assert_eq!(joined["DisableGatewayService"], true);
    let name = joined["InterfaceName"]["SrcName"].as_str().unwrap();
    assert!(name.len() <= 15 && world.has_link(name), "{name}");
    let shown = world.host.exec("ip", &["link", "show", name]).unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("mtu 1400"), "{shown:?}");
    assert_eq!(engine.granted("NetworkDriver.Join", &join), joined, "repeated");
}

#[test]
fn leave_alone_frees_ports_and_takes_the_interface() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let endpoint = engine.endpoint(1, 7);
    let interface = engine.join(&id(1), &endpoint, "abc");
    engine.granted(PROGRAM, &published(&id(1), &endpoint, 8080, 80));
    assert!(world.is_bound(8080));
    for _ in 0..2 {
        engine.end("Leave", &id(1), &endpoint);
        assert!(!world.is_bound(8080) && !world.has_link(&interface));
    }
    engine.end("DeleteEndpoint", &id(1), &endpoint);
    engine.granted("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id(1)}));
    engine.assert_empty();
}

/// A42: what an engine takes back that has heard a refusal.
#[test]
fn leave_after_a_join_that_was_refused_is_granted() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let endpoint = engine.endpoint(1, 7);
    let mut join = json!({"NetworkID": id(1), "EndpointID": endpoint, "SandboxKey": "/"});
    let said = engine.refused("NetworkDriver.Join", &join);
    assert!(said.contains("a sandbox key is needed"), "{said}");
    for _ in 0..2 {
        engine.end("Leave", &id(1), &endpoint);
    }
    join["SandboxKey"] = json!("/var/run/docker/netns/abc");
    engine.granted("NetworkDriver.Join", &join);
    for method in ["Leave", "Leave", "DeleteEndpoint", "Leave"] {
        engine.end(method, &id(1), &endpoint);
    }
    engine.granted("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id(1)}));
    engine.assert_empty();
}

#[test]
fn revoked_port_is_free_at_once_for_another_endpoint_of_the_container() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    engine.network(2);
    let (first, second) = (engine.endpoint(1, 7), engine.endpoint(2, 8));
    engine.join(&id(1), &first, "abc");
    engine.join(&id(2), &second, "abc");
    for _ in 0..3 {
        engine.granted(PROGRAM, &published(&id(1), &first, 8080, 80));
        engine.end("RevokeExternalConnectivity", &id(1), &first);
        engine.granted(PROGRAM, &published(&id(2), &second, 8080, 80));
        engine.granted(PROGRAM, &published(&id(2), &second, 8080, 80));
        engine.end("RevokeExternalConnectivity", &id(2), &second);
    }
    assert!(!world.is_bound(8080));
}

#[test]
fn port_of_another_container_or_process_is_refused_in_dockers_words() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let (first, second) = (engine.endpoint(1, 7), engine.endpoint(1, 8));
    engine.join(&id(1), &first, "abc");
    engine.join(&id(1), &second, "def");
    engine.granted(PROGRAM, &published(&id(1), &first, 8080, 80));
    let said = engine.refused(PROGRAM, &published(&id(1), &second, 8080, 80));
    assert_eq!(said, "Bind for 0.0.0.0:8080 failed: port is already allocated");
    let listener = world.host.netns().run(|| Ok(std::net::TcpListener::bind("0.0.0.0:8081")?));
    let _listener = listener.unwrap();
    let said = engine.refused(PROGRAM, &published(&id(1), &second, 8081, 80));
    assert!(said.contains("8081") && said.contains("address already in use"), "{said}");
    engine.end("Leave", &id(1), &first);
    engine.granted(PROGRAM, &published(&id(1), &second, 8080, 80));
}

#[test]
fn ranges_ephemeral_ports_and_addresses_are_granted() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let endpoint = engine.endpoint(1, 7);
    engine.join(&id(1), &endpoint, "abcdef012345");
    let binding = |host_ip: &str, port: u16, (first, last): (u16, u16), proto: u8| {
        json!({"Proto": proto, "IP": "", "Port": port, "HostIP": host_ip, "HostPort": first,
            "HostPortEnd": last})
    };
    let ports = [
        binding("", 50, (5000, 5010), 6),
        binding("127.0.0.1", 90, (9000, 9000), 17),
        binding("", 81, (0, 0), 6),
    ];
    let program = json!({"NetworkID": id(1), "EndpointID": endpoint,
        "Options": {"com.docker.network.portmap": ports}});
    engine.granted(PROGRAM, &program);
    let shown = engine.daemon.ok(&["port", "abcdef012345"]).unwrap();
    assert!(shown.contains("50/tcp -> 0.0.0.0:5000"), "{shown}");
    assert!(shown.contains("90/udp -> 127.0.0.1:9000"), "{shown}");
    assert!(shown.contains("81/tcp -> 0.0.0.0:"), "{shown}");
    let icmp = json!({"NetworkID": id(1), "EndpointID": endpoint,
        "Options": {"com.docker.network.portmap": [binding("", 1, (1, 1), 1)]}});
    assert!(engine.refused(PROGRAM, &icmp).contains("IP protocol 1"));
}

/// The words of an engine that says again what a container publishes, with one of its private options.
fn program(ports: &[(u16, u16)]) -> Value {
    let binding = |(host, container): &(u16, u16)| {
        json!({"Proto": 6, "IP": "", "Port": container, "HostIP": "", "HostPort": host,
            "HostPortEnd": host})
    };
    let ports: Vec<Value> = ports.iter().map(binding).collect();
    json!({"NetworkID": id(1), "EndpointID": id(7), "Options": {
        "com.docker.network.driver.private.no_proxy_6to4": true,
        "com.docker.network.portmap": ports}})
}

/// Engines of 29 say it again, without a word between, where an endpoint becomes a gateway of IPv6, too.
#[test]
fn ports_programmed_again_are_the_difference_and_chosen_ones_stay() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let endpoint = engine.endpoint(1, 7);
    engine.join(&id(1), &endpoint, "abcdef012345");
    engine.granted(PROGRAM, &program(&[(8080, 80), (0, 81)]));
    let shown = engine.daemon.ok(&["port", "abcdef012345"]).unwrap();
    engine.granted(PROGRAM, &program(&[(8080, 80), (0, 81)]));
    assert_eq!(engine.daemon.ok(&["port", "abcdef012345"]).unwrap(), shown);
    engine.granted(PROGRAM, &program(&[(8081, 80), (0, 81)]));
    assert!(!world.is_bound(8080) && world.is_bound(8081));
    let kept = |text: &str| text.lines().find(|line| line.starts_with("81/")).map(str::to_owned);
    assert_eq!(kept(&engine.daemon.ok(&["port", "abcdef012345"]).unwrap()), kept(&shown));
}

#[test]
fn ports_are_granted_all_or_none_and_a_refusal_leaves_those_before() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let endpoint = engine.endpoint(1, 7);
    engine.join(&id(1), &endpoint, "abc");
    let taken = world.host.netns().run(|| Ok(std::net::TcpListener::bind("0.0.0.0:8082")?));
    let _taken = taken.unwrap();
    let said = engine.refused(PROGRAM, &program(&[(8080, 80), (8082, 82)]));
    assert!(said.contains("8082") && !world.is_bound(8080), "{said}");
    engine.granted(PROGRAM, &program(&[(8080, 80)]));
    engine.refused(PROGRAM, &program(&[(8080, 80), (8081, 81), (8082, 82)]));
    assert!(world.is_bound(8080) && !world.is_bound(8081));
}

#[test]
fn endpoint_without_ipv6_is_offered_no_gateway_of_ipv6() {
    let world = World::new();
    let mut engine = world.engine();
    let mut network = super::network(&id(1), 1);
    network["Options"]["com.docker.network.enable_ipv6"] = json!(true);
    network["IPv6Data"] =
        json!([{"AddressSpace": "LocalDefault", "Pool": "fd00:1::/64", "Gateway": "fd00:1::1/64"}]);
    engine.granted("NetworkDriver.CreateNetwork", &network);
    let endpoint = engine.endpoint(1, 7);
    let join = json!({"NetworkID": id(1), "EndpointID": endpoint, "SandboxKey": "/x/abc"});
    let joined = engine.granted("NetworkDriver.Join", &join);
    assert_eq!((&joined["Gateway"], joined.get("GatewayIPv6")), (&json!("10.1.0.1"), None));
}

#[test]
fn internal_network_offers_no_gateway_and_opens_nothing() {
    let world = World::new();
    let mut engine = world.engine();
    let mut network = super::network(&id(1), 1);
    network["Options"]["com.docker.network.internal"] = json!(true);
    engine.granted("NetworkDriver.CreateNetwork", &network);
    let endpoint = engine.endpoint(1, 7);
    let join = json!({"NetworkID": id(1), "EndpointID": endpoint, "SandboxKey": "/x/abc"});
    let joined = engine.granted("NetworkDriver.Join", &join);
    assert_eq!(joined.get("Gateway"), None);
    engine.granted(PROGRAM, &published(&id(1), &endpoint, 8080, 80));
    assert!(!world.is_bound(8080));
    engine.end("RevokeExternalConnectivity", &id(1), &endpoint);
}

/// A sandbox that ends without a word takes its interface along: whoever claims the address or the
/// port next has them.
#[test]
fn dead_owner_is_superseded_by_the_next_claimant() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let dead = engine.endpoint(1, 7);
    let interface = engine.join(&id(1), &dead, "abc");
    engine.granted(PROGRAM, &published(&id(1), &dead, 8080, 80));
    world.host.ip(&["link", "delete", &interface]).unwrap();
    let create = json!({"NetworkID": id(1), "EndpointID": id(8),
        "Interface": {"Address": "10.1.0.7/24", "MacAddress": ""}, "Options": {}});
    engine.granted("NetworkDriver.CreateEndpoint", &create);
    engine.join(&id(1), &id(8), "def");
    engine.granted(PROGRAM, &published(&id(1), &id(8), 8080, 80));
    for method in ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint"] {
        engine.end(method, &id(1), &dead);
    }
    assert!(world.is_bound(8080));
    assert_eq!(engine.daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap(), "def");
}

/// Nobody asks for anything: the end of the sandbox alone removes what it had.
#[test]
fn endpoint_whose_sandbox_ended_goes_by_itself() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let dead = engine.endpoint(1, 7);
    let interface = engine.join(&id(1), &dead, "abc");
    engine.granted(PROGRAM, &published(&id(1), &dead, 8080, 80));
    world.host.ip(&["link", "delete", &interface]).unwrap();
    let gone = || Ok((!world.is_bound(8080)).then_some(()));
    netd_tests::eventually("the port of the dead", std::time::Duration::from_secs(30), gone)
        .unwrap();
    assert_eq!(engine.daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap(), "");
}

/// The engine's calls about the end met nobody, and are not made again.
#[test]
fn endpoint_whose_sandbox_ended_while_netd_was_down_goes_by_itself() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let (dead, alive) = (engine.endpoint(1, 7), engine.endpoint(1, 8));
    let interface = engine.join(&id(1), &dead, "abc");
    let other = engine.join(&id(1), &alive, "def");
    engine.granted(PROGRAM, &published(&id(1), &dead, 8080, 80));
    engine.daemon.crash().unwrap();
    world.host.ip(&["link", "delete", &interface]).unwrap();
    let engine = world.engine();
    let gone = || Ok((!world.is_bound(8080)).then_some(()));
    netd_tests::eventually("the port of the dead", std::time::Duration::from_secs(30), gone)
        .unwrap();
    assert_eq!(engine.daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap(), "def");
    assert!(world.has_link(&other));
}

#[test]
fn endpoints_and_publications_survive_a_crash_and_can_still_be_revoked() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let endpoint = engine.endpoint(1, 7);
    let interface = engine.join(&id(1), &endpoint, "abc");
    engine.granted(PROGRAM, &published(&id(1), &endpoint, 8080, 80));
    engine.daemon.crash().unwrap();
    let mut engine = world.engine();
    assert!(world.has_link(&interface) && world.is_bound(8080));
    engine.end("RevokeExternalConnectivity", &id(1), &endpoint);
    assert!(!world.is_bound(8080));
    engine.end("Leave", &id(1), &endpoint);
    engine.end("DeleteEndpoint", &id(1), &endpoint);
    engine.granted("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id(1)}));
    engine.assert_empty();
}
