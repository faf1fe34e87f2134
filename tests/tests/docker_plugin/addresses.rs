//! Pools and addresses requested on their own.

use serde_json::{Value, json};

use super::{Engine, World, id};

impl Engine<'_> {
    fn pool(&mut self, subnet: &str, range: &str) -> Value {
        let v6 = subnet.contains(':');
        let asked = json!({"AddressSpace": "netdLocal", "Pool": subnet, "SubPool": range,
            "Options": {}, "V6": v6});
        self.granted("IpamDriver.RequestPool", &asked)
    }

    fn address(&mut self, pool: &str, address: &str, options: &Value) -> String {
        let asked = json!({"PoolID": pool, "Address": address, "Options": options});
        let granted = self.granted("IpamDriver.RequestAddress", &asked);
        granted["Address"].as_str().unwrap().to_owned()
    }

    /// A network of both families as an engine makes it that takes all addresses from here; its pools.
    fn network_of_leases(&mut self) -> [String; 2] {
        let pools = ["10.1.0.0/24", "fd00:1::/64"].map(|subnet| {
            let pool = self.pool(subnet, "")["PoolID"].as_str().unwrap().to_owned();
            self.address(&pool, "", &gateway());
            pool
        });
        let options = json!({"com.docker.network.enable_ipv6": true});
        let asked = json!({"NetworkID": id(1), "Options": options,
            "IPv4Data": [{"AddressSpace": "netdLocal", "Pool": "10.1.0.0/24",
                "Gateway": "10.1.0.1/24"}],
            "IPv6Data": [{"AddressSpace": "netdLocal", "Pool": "fd00:1::/64",
                "Gateway": "fd00:1::1/64"}]});
        self.granted("NetworkDriver.CreateNetwork", &asked);
        pools
    }

    /// Endpoint 7 of that network, with the addresses that it asks for.
    fn endpoint_of_leases(&mut self, pools: &[String; 2]) {
        let addresses = [(&pools[0], "10.1.0.7"), (&pools[1], "fd00:1::7")]
            .map(|(pool, address)| self.address(pool, address, &json!({})));
        let interface = json!({"Address": addresses[0], "AddressIPv6": addresses[1],
            "MacAddress": ""});
        let asked = json!({"NetworkID": id(1), "EndpointID": id(7), "Interface": interface,
            "Options": {}});
        self.granted("NetworkDriver.CreateEndpoint", &asked);
    }

    fn give_back(&mut self, pool: &str, address: &str) {
        let asked = json!({"PoolID": pool, "Address": address});
        self.granted("IpamDriver.ReleaseAddress", &asked);
    }
}

fn gateway() -> Value {
    json!({"RequestAddressType": "com.docker.network.gateway"})
}

#[test]
fn requests_repeated_are_granted_as_before_and_counted_once() {
    let world = World::new();
    let mut engine = world.engine();
    let pool = engine.pool("10.1.0.0/24", "");
    assert_eq!(engine.pool("10.1.0.0/24", ""), pool);
    let id = pool["PoolID"].as_str().unwrap();
    assert_eq!(id, "netdLocal/10.1.0.0/24");
    for _ in 0..2 {
        assert_eq!(engine.address(id, "10.1.0.1", &gateway()), "10.1.0.1/24");
        assert_eq!(engine.address(id, "10.1.0.9", &Value::Null), "10.1.0.9/24");
    }
    engine.give_back(id, "10.1.0.9");
    assert_eq!(engine.address(id, "10.1.0.9", &json!({})), "10.1.0.9/24");
    let asked = json!({"PoolID": id, "Address": "10.1.0.9", "Options": {}});
    assert_eq!(engine.refused("IpamDriver.RequestAddress", &asked), "Address already in use");
}

#[test]
fn lowest_free_address_of_the_range_comes_first() {
    let world = World::new();
    let mut engine = world.engine();
    let pool = engine.pool("10.1.0.0/24", "10.1.0.128/25");
    let id = pool["PoolID"].as_str().unwrap().to_owned();
    assert_eq!(engine.address(&id, "", &gateway()), "10.1.0.128/24");
    for last in [129, 130, 131] {
        assert_eq!(engine.address(&id, "", &json!({})), format!("10.1.0.{last}/24"));
    }
    engine.give_back(&id, "10.1.0.130");
    assert_eq!(engine.address(&id, "", &json!({})), "10.1.0.130/24");
    assert_eq!(engine.address(&id, "10.1.0.9", &Value::Null), "10.1.0.9/24");
}

#[test]
fn edges_and_other_prefixes_are_refused_and_a_full_pool_says_so() {
    let world = World::new();
    let mut engine = world.engine();
    let id = engine.pool("10.1.0.0/30", "")["PoolID"].as_str().unwrap().to_owned();
    let ask = |address: &str| json!({"PoolID": id, "Address": address, "Options": {}});
    for edge in ["10.1.0.0", "10.1.0.3"] {
        let said = engine.refused("IpamDriver.RequestAddress", &ask(edge));
        assert_eq!(said, "Address already in use", "{edge}");
    }
    let said = engine.refused("IpamDriver.RequestAddress", &ask("10.2.0.1"));
    assert!(said.contains("It does not belong to any of this network's subnets"), "{said}");
    for last in [1, 2] {
        assert_eq!(engine.address(&id, "", &json!({})), format!("10.1.0.{last}/30"));
    }
    let said = engine.refused("IpamDriver.RequestAddress", &ask(""));
    assert!(said.contains("no available IPv4 addresses"), "{said}");
}

#[test]
fn unnamed_pools_differ_until_they_are_released() {
    let world = World::new();
    let mut engine = world.engine();
    let mut held = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let pool = engine.pool("", "");
        assert!(held.insert(pool["Pool"].as_str().unwrap().to_owned()), "{pool}");
    }
    for pool in &held {
        let released = json!({"PoolID": format!("netdLocal/{pool}")});
        engine.granted("IpamDriver.ReleasePool", &released);
    }
    assert!(held.contains(engine.pool("", "")["Pool"].as_str().unwrap()));
}

#[test]
fn overlapping_pools_are_refused_in_dockers_words() {
    let world = World::new();
    let mut engine = world.engine();
    engine.pool("10.1.0.0/16", "");
    engine.network(2);
    for taken in ["10.1.2.0/24", "10.0.0.0/8", "10.2.0.0/25"] {
        let asked = json!({"AddressSpace": "netdLocal", "Pool": taken, "V6": false});
        let said = engine.refused("IpamDriver.RequestPool", &asked);
        assert!(said.ends_with("Pool overlaps with other one on this address space"), "{said}");
    }
}

/// What an engine does where the same prefix is asked for twice: the second network is refused, and
/// what it took is given back, which must not touch the first.
#[test]
fn second_network_on_a_prefix_is_refused_and_leaves_the_first_its_pool() {
    let world = World::new();
    let mut engine = world.engine();
    let pool = engine.pool("10.1.0.0/24", "")["PoolID"].as_str().unwrap().to_owned();
    let asked = |n: u8| {
        json!({"NetworkID": id(n), "Options": {}, "IPv4Data": [{"AddressSpace": "netdLocal",
            "Pool": "10.1.0.0/24", "Gateway": "10.1.0.1/24"}], "IPv6Data": []})
    };
    engine.address(&pool, "", &gateway());
    engine.granted("NetworkDriver.CreateNetwork", &asked(1));
    engine.pool("10.1.0.0/24", "");
    engine.address(&pool, "10.1.0.1", &gateway());
    engine.refused("NetworkDriver.CreateNetwork", &asked(2));
    engine.give_back(&pool, "10.1.0.1");
    engine.granted("IpamDriver.ReleasePool", &json!({"PoolID": pool}));
    assert_eq!(engine.address(&pool, "", &json!({})), "10.1.0.2/24");
    engine.granted("IpamDriver.ReleasePool", &json!({"PoolID": pool}));
    engine.granted("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id(1)}));
    assert_eq!(engine.pool("10.1.0.0/25", "")["Pool"], "10.1.0.0/25");
}

/// An engine that has heard no answer to `CreateEndpoint` gives the addresses back and says no more.
#[test]
fn endpoint_that_never_joined_ends_with_its_address() {
    let world = World::new();
    let mut engine = world.engine();
    let pools = engine.network_of_leases();
    let links = world.links();
    for _ in 0..2 {
        engine.endpoint_of_leases(&pools);
        engine.give_back(&pools[0], "10.1.0.7");
        engine.give_back(&pools[1], "fd00:1::7");
        assert_eq!(engine.daemon.ok(&["status", "--format", "{{.Endpoints}}"]).unwrap(), "0");
        assert_eq!(world.links(), links);
    }
}

#[test]
fn endpoint_in_a_sandbox_keeps_an_address_that_is_given_back() {
    let world = World::new();
    let mut engine = world.engine();
    let pools = engine.network_of_leases();
    engine.endpoint_of_leases(&pools);
    let interface = engine.join(&id(1), &id(7), "abc");
    engine.give_back(&pools[0], "10.1.0.7");
    assert!(world.has_link(&interface));
    let asked = json!({"PoolID": pools[0], "Address": "10.1.0.7", "Options": {}});
    assert_eq!(engine.refused("IpamDriver.RequestAddress", &asked), "Address already in use");
    engine.end("Leave", &id(1), &id(7));
    engine.end("DeleteEndpoint", &id(1), &id(7));
    engine.give_back(&pools[0], "10.1.0.7");
    assert_eq!(engine.address(&pools[0], "10.1.0.7", &json!({})), "10.1.0.7/24");
}

#[test]
fn pools_and_addresses_survive_a_restart_and_a_lost_pool_is_understood() {
    let world = World::new();
    let mut engine = world.engine();
    let pool = engine.pool("10.1.0.0/24", "")["PoolID"].as_str().unwrap().to_owned();
    assert_eq!(engine.address(&pool, "", &json!({})), "10.1.0.1/24");
    engine.daemon.crash().unwrap();
    let mut engine = world.engine();
    assert_eq!(engine.address(&pool, "", &json!({})), "10.1.0.2/24");
    let unheard_of = "netdLocal/10.9.0.0/24";
    assert_eq!(engine.address(unheard_of, "", &json!({})), "10.9.0.1/24");
}

#[test]
fn pools_of_ipv6_are_as_good() {
    let world = World::new();
    let mut engine = world.engine();
    let pool = engine.pool("fd00:1::/64", "")["PoolID"].as_str().unwrap().to_owned();
    assert_eq!(engine.address(&pool, "", &gateway()), "fd00:1::1/64");
    assert_eq!(engine.address(&pool, "", &json!({})), "fd00:1::2/64");
    let asked = json!({"AddressSpace": "netdLocal", "Pool": "", "V6": true});
    let granted = engine.granted("IpamDriver.RequestPool", &asked);
    assert!(granted["Pool"].as_str().unwrap().ends_with("::/64"), "{granted}");
}
