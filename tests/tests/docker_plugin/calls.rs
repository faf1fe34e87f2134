//! The mechanics: activation, statuses, dialects, bodies, connections.

use netd_tests::plugin::Caller;
use serde_json::{Value, json};

use super::{World, id, network};

#[test]
fn activation_and_capabilities_need_no_body_and_no_host() {
    let world = World::new();
    let mut engine = world.engine();
    let activated = engine.call("Plugin.Activate", &Value::Null);
    assert_eq!(activated.status, 200);
    assert_eq!(activated.body, json!({"Implements": ["NetworkDriver", "IpamDriver"]}));
    assert_eq!(
        engine.granted("NetworkDriver.GetCapabilities", &Value::Null),
        json!({"Scope": "local", "ConnectivityScope": "local", "GwAllocChecker": true})
    );
    assert_eq!(
        engine.granted("IpamDriver.GetCapabilities", &Value::Null),
        json!({"RequiresMACAddress": true, "RequiresRequestReplay": false})
    );
    assert_eq!(
        engine.granted("IpamDriver.GetDefaultAddressSpaces", &Value::Null),
        json!({"LocalDefaultAddressSpace": "netdLocal", "GlobalDefaultAddressSpace": "netdGlobal"})
    );
}

/// Engines from 25 on name a host that is nobody's.
#[test]
fn calls_to_any_host_are_served_alike() {
    let world = World::new();
    let engine = world.engine();
    let socket = engine.daemon.places().plugin_socket();
    for host in ["plugin.moby.localhost", "localhost:80", "%2Frun%2Fnetd.sock"] {
        let mut caller = Caller::connect_as(&socket, host).unwrap();
        let answered = caller.call("NetworkDriver.CreateNetwork", &network(&id(1), 1)).unwrap();
        assert_eq!((answered.status, answered.body), (200, json!({})), "{host}");
        assert_eq!(caller.call("Plugin.Activate", &Value::Null).unwrap().status, 200, "{host}");
    }
}

#[test]
fn one_connection_serves_hundreds_of_calls() {
    let world = World::new();
    let mut engine = world.engine();
    for n in 0..300 {
        let body = engine.granted("NetworkDriver.EndpointOperInfo", &json!({"EndpointID": n}));
        assert_eq!(body, json!({"Value": {}}));
    }
}

#[test]
fn failures_are_told_in_both_dialects() {
    let world = World::new();
    let mut engine = world.engine();
    let pool = json!({"PoolID": "no pool", "Address": "", "Options": {}});
    assert!(engine.refused("IpamDriver.RequestAddress", &pool).contains("'no pool'"));
    let join = json!({"NetworkID": id(1), "EndpointID": id(2), "SandboxKey": "/x/y"});
    let said = engine.refused("NetworkDriver.Join", &join);
    assert_eq!(said, format!("endpoint {} not found", id(2)));
}

#[test]
fn call_that_lost_its_body_is_refused_and_changes_nothing() {
    let world = World::new();
    let mut engine = world.engine();
    for method in [
        "NetworkDriver.CreateNetwork",
        "NetworkDriver.CreateEndpoint",
        "NetworkDriver.Join",
        "NetworkDriver.ProgramExternalConnectivity",
        "IpamDriver.RequestPool",
        "IpamDriver.RequestAddress",
    ] {
        for body in ["", "\n", "{", "[]"] {
            let answered = engine.caller.call_with(method, body).unwrap();
            assert_eq!(answered.status, 400, "{method} {body:?}");
            assert!(answered.failure().contains("request body"), "{answered:?}");
        }
    }
    engine.assert_empty();
}

#[test]
fn unknown_methods_are_not_found_and_the_plugin_serves_on() {
    let world = World::new();
    let mut engine = world.engine();
    for method in ["NetworkDriver.Foo", "IpamDriver.Foo", "VolumeDriver.Create", "Foo", ""] {
        let answered = engine.call(method, &json!({}));
        assert_eq!(answered.status, 404, "{method}");
        assert!(answered.failure().contains(method));
    }
    engine.granted("Plugin.Activate", &Value::Null);
}

#[test]
fn discovery_and_allocation_of_other_hosts_are_taken_note_of() {
    let world = World::new();
    let mut engine = world.engine();
    let node =
        json!({"DiscoveryType": 1, "DiscoveryData": {"Address": "192.168.1.7", "Self": true}});
    for method in ["DiscoverNew", "DiscoverDelete"] {
        assert_eq!(engine.granted(&format!("NetworkDriver.{method}"), &node), json!({}));
    }
}

#[test]
fn clients_on_many_connections_are_served_at_once() {
    let world = World::new();
    let engine = world.engine();
    let socket = engine.daemon.places().plugin_socket();
    std::thread::scope(|scope| {
        for n in 1..=20 {
            let socket = &socket;
            scope.spawn(move || {
                let mut caller = Caller::connect(socket).unwrap();
                let network = network(&id(n), n);
                let made = caller.call("NetworkDriver.CreateNetwork", &network).unwrap();
                assert_eq!(made.status, 200, "{made:?}");
                let gone = json!({"NetworkID": id(n)});
                let gone = caller.call("NetworkDriver.DeleteNetwork", &gone).unwrap();
                assert_eq!(gone.status, 200, "{gone:?}");
            });
        }
    });
    engine.assert_empty();
}
