//! Networks: options of every engine, repetition, overlap, ends.

use serde_json::{Value, json};

use super::{World, id, network};

const CREATE: &str = "NetworkDriver.CreateNetwork";

#[test]
fn network_created_again_is_granted_and_with_other_pools_refused() {
    let world = World::new();
    let mut engine = world.engine();
    let asked = network(&id(1), 1);
    engine.granted(CREATE, &asked);
    engine.granted(CREATE, &asked);
    let said = engine.refused(CREATE, &network(&id(1), 2));
    assert!(said.contains("already exists"), "{said}");
    engine.endpoint(1, 7);
    let said = engine.refused(CREATE, &network(&id(2), 1));
    assert_eq!(said, "invalid pool request: Pool overlaps with other one on this address space");
}

#[test]
fn options_of_others_are_ignored_and_unknown_ones_of_ours_refused_by_name() {
    let world = World::new();
    let mut engine = world.engine();
    let with = |options: Value| {
        let mut asked = network(&id(1), 1);
        asked["Options"]["com.docker.network.generic"] = options;
        asked["Unheard"] = json!({"of": 1});
        asked
    };
    let said = engine.refused(CREATE, &with(json!({"netd.nonsense": "1"})));
    assert!(said.contains("netd.nonsense"), "{said}");
    engine.granted(CREATE, &with(json!({"foo": "bar", "com.docker.network.bridge.nonsense": "1"})));
    let endpoint = json!({"NetworkID": id(1), "EndpointID": id(2),
        "Interface": {"Address": "10.1.0.2/24"}, "Options": {"netd.nonsense": "1"}});
    let said = engine.refused("NetworkDriver.CreateEndpoint", &endpoint);
    assert!(said.contains("netd.nonsense"), "{said}");
}

#[test]
fn missing_keys_nulls_and_empty_lists_mean_the_same() {
    let world = World::new();
    let mut engine = world.engine();
    let pool = json!({"AddressSpace": "LocalDefault", "Pool": "10.1.0.0/24"});
    let cases = [
        json!({"NetworkID": id(1), "IPv4Data": [pool]}),
        json!({"NetworkID": id(1), "Options": null, "IPv4Data": [pool], "IPv6Data": null}),
        json!({"NetworkID": id(1), "Options": {"com.docker.network.generic": null,
            "com.docker.network.internal": false}, "IPv4Data": [pool], "IPv6Data": []}),
        json!({"NetworkID": id(1), "IPv4Data": null, "IPv6Data": null}),
        json!({"NetworkID": id(1), "IPv4Data": [{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]}),
    ];
    for asked in cases {
        engine.granted(CREATE, &asked);
        engine.granted("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id(1)}));
    }
    engine.network(1);
    let endpoint = engine.endpoint(1, 7);
    engine.join(&id(1), &endpoint, "abc");
    for options in [json!({}), Value::Null, json!({"com.docker.network.portmap": null})] {
        let program = json!({"NetworkID": id(1), "EndpointID": endpoint, "Options": options});
        engine.granted("NetworkDriver.ProgramExternalConnectivity", &program);
    }
}

#[test]
fn removal_of_what_is_not_there_is_granted() {
    let world = World::new();
    let mut engine = world.engine();
    for id in [id(9), "no id at all".to_owned()] {
        engine.granted("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id}));
        for method in ["DeleteEndpoint", "Leave", "RevokeExternalConnectivity"] {
            engine.end(method, &id, &id);
        }
        engine.granted("IpamDriver.ReleasePool", &json!({"PoolID": id}));
        let address = json!({"PoolID": id, "Address": "10.0.0.1"});
        engine.granted("IpamDriver.ReleaseAddress", &address);
    }
}

#[test]
fn networks_without_a_gateway_address_need_none() {
    let world = World::new();
    let mut engine = world.engine();
    let check = |internal: bool, generic: Value| {
        json!({"Options": {"com.docker.network.enable_ipv4": true,
            "com.docker.network.internal": internal, "com.docker.network.generic": generic}})
    };
    let isolated = json!({"com.docker.network.bridge.gateway_mode_ipv4": "isolated"});
    let cases = [
        (check(false, json!({})), (false, false)),
        (check(true, json!({})), (false, false)),
        (check(true, isolated), (true, false)),
    ];
    for (asked, (v4, v6)) in cases {
        let told = engine.granted("NetworkDriver.GwAllocCheck", &asked);
        assert_eq!(told, json!({"SkipIPv4": v4, "SkipIPv6": v6}), "{asked}");
    }
}

#[test]
fn network_without_ipv4_is_one_of_ipv6_alone() {
    let world = World::new();
    let mut engine = world.engine();
    let asked = json!({"NetworkID": id(1), "Options": {"com.docker.network.enable_ipv4": false,
        "com.docker.network.enable_ipv6": true, "com.docker.network.generic": {}},
        "IPv4Data": null, "IPv6Data": [{"AddressSpace": "LocalDefault", "Pool": "fd00:5::/64",
            "Gateway": "fd00:5::1/64"}]});
    engine.granted(CREATE, &asked);
    let endpoint = json!({"NetworkID": id(1), "EndpointID": id(2), "Interface":
        {"Address": "", "AddressIPv6": "fd00:5::2/64", "MacAddress": ""}, "Options": {}});
    engine.granted("NetworkDriver.CreateEndpoint", &endpoint);
    let join = json!({"NetworkID": id(1), "EndpointID": id(2), "SandboxKey": "/x/abc"});
    let joined = engine.granted("NetworkDriver.Join", &join);
    assert_eq!(joined["GatewayIPv6"], "fd00:5::1");
    assert_eq!(joined.get("Gateway"), None);
    assert_eq!(joined["DisableGatewayService"], true);
}

#[test]
fn command_line_leaves_the_engines_networks_to_the_engine() {
    let world = World::new();
    let mut engine = world.engine();
    let name = engine.network(1)[..12].to_owned();
    let said = engine.daemon.cli(&["sandbox", "create", "--network", &name]).unwrap();
    assert!(said.stderr.contains("kept by the container engine"), "{said:?}");
    engine.daemon.ok(&["network", "prune", "-f"]).unwrap();
    assert!(engine.daemon.ok(&["network", "ls"]).unwrap().contains(&name));
}
