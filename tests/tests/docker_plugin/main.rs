//! The plugin protocol over the real socket of a daemon, without an engine: what engines 20.10 to 29
//! send, and what they must be told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a contract that can't be checked is broken"
)]

mod addresses;
mod calls;
mod endpoints;
mod faults;
mod members;
mod networks;
mod traces;

use netd_tests::plugin::{Answered, Caller};
use netd_tests::{Daemon, Host, Lab, Outside};
use serde_json::{Value, json};

/// A host for a daemon.
struct World {
    _outside: Outside,
    host: Host,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let outside = lab.outside().unwrap();
        let host = lab.host(&outside).unwrap();
        Self { _outside: outside, host }
    }

    fn engine(&self) -> Engine<'_> {
        self.engine_with("")
    }

    /// With further settings (TOML).
    fn engine_with(&self, settings: &str) -> Engine<'_> {
        self.engine_in(&[], settings)
    }

    /// With variables of the daemon's environment, too.
    fn engine_in(&self, environment: &[&str], settings: &str) -> Engine<'_> {
        let settings = format!("bridge = \"none\"\n{settings}");
        let daemon = Daemon::start_in_with(&self.host, environment, &settings).unwrap();
        let caller = Caller::connect(&daemon.places().plugin_socket()).unwrap();
        Engine { daemon, caller }
    }

    /// Names of the host's links.
    fn links(&self) -> Vec<String> {
        let said = self.host.exec("ip", &["-br", "link"]).unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        text.lines().filter_map(|line| line.split([' ', '@']).next()).map(str::to_owned).collect()
    }

    fn has_link(&self, name: &str) -> bool {
        self.links().iter().any(|link| link == name)
    }

    /// Whether a TCP port of the host is bound.
    fn is_bound(&self, port: u16) -> bool {
        let address = format!("0.0.0.0:{port}");
        self.host.netns().run(|| Ok(std::net::TcpListener::bind(&address).is_err())).unwrap()
    }
}

/// An engine with its plugin.
struct Engine<'world> {
    daemon: Daemon<'world>,
    caller: Caller,
}

impl Engine<'_> {
    fn call(&mut self, method: &str, arguments: &Value) -> Answered {
        self.caller.call(method, arguments).unwrap()
    }

    /// What a call that is granted answers.
    fn granted(&mut self, method: &str, arguments: &Value) -> Value {
        let answered = self.call(method, arguments);
        assert_eq!(answered.status, 200, "{method} {arguments}: {answered:?}");
        answered.body
    }

    /// What a call that is refused says, in both dialects.
    fn refused(&mut self, method: &str, arguments: &Value) -> String {
        let answered = self.call(method, arguments);
        assert_eq!(answered.status, 500, "{method} {arguments}: {answered:?}");
        assert_eq!(answered.body["Err"], answered.body["Error"]);
        answered.failure().to_owned()
    }

    /// Creates network `n` as 10.N.0.0/24.
    fn network(&mut self, n: u8) -> String {
        let id = id(n);
        self.granted("NetworkDriver.CreateNetwork", &network(&id, n));
        id
    }

    /// Creates endpoint `n` at 10.NETWORK.0.N.
    fn endpoint(&mut self, network: u8, n: u8) -> String {
        let (network_id, endpoint) = (id(network), id(n));
        let address = format!("10.{network}.0.{n}/24");
        self.granted(
            "NetworkDriver.CreateEndpoint",
            &json!({"NetworkID": network_id, "EndpointID": endpoint,
                "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
                "Options": {}}),
        );
        endpoint
    }

    /// Joins an endpoint to a sandbox; the name of its interface.
    fn join(&mut self, network: &str, endpoint: &str, sandbox: &str) -> String {
        let key = format!("/var/run/docker/netns/{sandbox}");
        let body = self.granted(
            "NetworkDriver.Join",
            &json!({"NetworkID": network, "EndpointID": endpoint, "SandboxKey": key, "Options": {}}),
        );
        body["InterfaceName"]["SrcName"].as_str().unwrap().to_owned()
    }

    fn end(&mut self, method: &str, network: &str, endpoint: &str) {
        let arguments = json!({"NetworkID": network, "EndpointID": endpoint});
        self.granted(&format!("NetworkDriver.{method}"), &arguments);
    }

    /// Nothing of an engine is left, but what the host had before.
    fn assert_empty(&self) {
        assert_eq!(self.daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap(), "");
        let networks = self.daemon.ok(&["network", "ls", "--format", "{{.Name}}"]).unwrap();
        assert_eq!(networks.lines().collect::<Vec<_>>(), ["host", "none"]);
    }
}

/// An id of 64 digits.
fn id(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

fn network(id: &str, n: u8) -> Value {
    json!({"NetworkID": id,
        "Options": {"com.docker.network.enable_ipv6": false, "com.docker.network.generic": {}},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": format!("10.{n}.0.0/24"),
            "Gateway": format!("10.{n}.0.1/24")}],
        "IPv6Data": []})
}

/// A published port of both kinds of engines.
fn published(network: &str, endpoint: &str, host: u16, container: u16) -> Value {
    json!({"NetworkID": network, "EndpointID": endpoint, "Options": {
        "com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": container}],
        "com.docker.network.portmap": [{"Proto": 6, "IP": "", "Port": container, "HostIP": "",
            "HostPort": host, "HostPortEnd": host}]}})
}
