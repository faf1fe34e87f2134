//! Members of a network as an engine makes them: interfaces taken into namespaces and given addresses
//! there, as the answers said.

use std::net::IpAddr;

use netd_tests::{Netns, process};
use serde_json::{Value, json};

use super::{Engine, World, id};

/// A namespace that has taken an endpoint's interface in; it ends with the value.
struct Member {
    name: String,
    netns: Netns,
}

impl Member {
    /// An empty one.
    fn new(world: &World, n: u8) -> Self {
        let name = format!("{}-m{n}", world.host.name());
        let netns = Netns::create(&name).unwrap();
        Self { name, netns }
    }

    /// What engines do between `Join` and the start of the container's program.
    fn take(&self, world: &World, interface: &str, addresses: &[&str]) {
        world.host.ip(&["link", "set", interface, "netns", &self.name, "name", "eth0"]).unwrap();
        for address in addresses.iter().filter(|address| !address.is_empty()) {
            let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            self.ip(&[&["address", "add", address, "dev", "eth0"], nodad].concat());
        }
        self.ip(&["link", "set", "eth0", "up"]);
    }

    fn ip(&self, words: &[&str]) {
        process::run("ip", &[&["-netns", &self.name], words].concat()).unwrap();
    }

    /// How many links it has, loopback with them.
    fn links(&self) -> usize {
        process::run("ip", &["-netns", &self.name, "-br", "link"]).unwrap().lines().count()
    }

    fn pings(&self, target: IpAddr) -> bool {
        self.netns
            .run(|| {
                let target = target.to_string();
                let mut command = std::process::Command::new("ping");
                command.args(["-n", "-q", "-c", "1", "-W", "2", &target]);
                Ok(process::output(&mut command, b"")?.status.success())
            })
            .unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Whatever is left goes with the host.
        let _left = Netns::delete(&self.name);
    }
}

impl Engine<'_> {
    /// A member of network 1, with options of its endpoint's. Its namespace is there before `Join`, as
    /// engines from 28 on have it (A14).
    fn member(&mut self, world: &World, n: u8, addresses: [&str; 2], options: &Value) -> Member {
        let interface =
            json!({"Address": addresses[0], "AddressIPv6": addresses[1], "MacAddress": ""});
        let asked = json!({"NetworkID": id(1), "EndpointID": id(n), "Interface": interface,
            "Options": options});
        let created = self.granted("NetworkDriver.CreateEndpoint", &asked);
        let mac = created["Interface"]["MacAddress"].as_str().unwrap();
        let member = Member::new(world, n);
        let join = json!({"NetworkID": id(1), "EndpointID": id(n),
            "SandboxKey": member.netns.path(), "Options": {}});
        let joined = self.granted("NetworkDriver.Join", &join);
        let interface = joined["InterfaceName"]["SrcName"].as_str().unwrap();
        assert!(world.has_link(interface) && member.links() == 1, "the engine moves {interface}");
        world.host.ip(&["link", "set", interface, "address", mac]).unwrap();
        member.take(world, interface, &addresses);
        member
    }
}

/// C19: engines from 28 on ask whether a gateway is needed, and give its address to a container.
#[test]
fn two_members_of_a_network_of_two_addresses_reach_each_other() {
    let world = World::new();
    let mut engine = world.engine();
    let isolated = json!({"com.docker.network.bridge.gateway_mode_ipv4": "isolated",
        "com.docker.network.bridge.gateway_mode_ipv6": "isolated"});
    let options = json!({"com.docker.network.enable_ipv4": true,
        "com.docker.network.enable_ipv6": true, "com.docker.network.internal": true,
        "com.docker.network.generic": isolated});
    let told = engine.granted("NetworkDriver.GwAllocCheck", &json!({"Options": options}));
    assert_eq!(told, json!({"SkipIPv4": true, "SkipIPv6": true}));
    let pool = |pool: &str| json!([{"AddressSpace": "LocalDefault", "Pool": pool}]);
    let asked = json!({"NetworkID": id(1), "Options": options, "IPv4Data": pool("10.1.0.8/31"),
        "IPv6Data": pool("fd00:1::8/127")});
    engine.granted("NetworkDriver.CreateNetwork", &asked);
    let none = json!({});
    let first = engine.member(&world, 7, ["10.1.0.8/31", "fd00:1::8/127"], &none);
    let second = engine.member(&world, 8, ["10.1.0.9/31", "fd00:1::9/127"], &none);
    for (from, to) in [(&first, ["10.1.0.9", "fd00:1::9"]), (&second, ["10.1.0.8", "fd00:1::8"])] {
        for target in to {
            assert!(from.pings(target.parse().unwrap()), "{target} is silent");
        }
    }
}

/// C13: engines from 27 on set what `com.docker.network.endpoint.sysctls` says themselves, after `Join`.
#[test]
fn settings_of_an_interface_are_the_engines() {
    const SETTING: &str = "/proc/sys/net/ipv4/conf/eth0/rp_filter";
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    let asked = json!({"com.docker.network.endpoint.ifname": "foo0", "my.key": "v1",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.rp_filter=2"});
    let member = engine.member(&world, 7, ["10.1.0.7/24", ""], &asked);
    member.netns.run(|| Ok(std::fs::write(SETTING, "2")?)).unwrap();
    engine.daemon.crash().unwrap();
    let mut engine = world.engine();
    engine.endpoint(1, 8);
    let held = member.netns.run(|| Ok(std::fs::read_to_string(SETTING)?)).unwrap();
    assert_eq!(held.trim(), "2");
    assert!(member.pings("10.1.0.1".parse().unwrap()), "the gateway is silent");
}
