//! The model's claims. Here: the words in which the tests speak.

mod engine;
mod laws;
mod network;
mod publish;
mod sandbox;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::invariants::invariants;
use super::network::SubnetSpec;
use super::port::parse_ports;
use super::*;

/// A model and the circumstances of its next command.
#[derive(Clone)]
struct World {
    model: Model,
    now: Circumstances,
    commands: u64,
}

impl World {
    /// With the predefined networks.
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let mut world = Self { model: Model::default(), now: circumstances(settings), commands: 0 };
        world.must(Command::EnsurePredefined);
        world
    }

    /// Applies a command; the model stays sound, and as it was on a refusal.
    fn run(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.commands += 1;
        self.now.seed[..8].copy_from_slice(&self.commands.to_le_bytes());
        let before = self.model.clone();
        let result = self.model.apply(command, &self.now);
        assert_eq!(self.model, before, "apply changes nothing in place");
        let (model, outcome) = result?;
        assert_eq!(invariants(&model), Vec::<String>::new());
        self.model = model;
        Ok(outcome)
    }

    fn must(&mut self, command: Command) -> Outcome {
        self.run(command).expect("the command is granted")
    }

    fn refused(&mut self, command: Command) -> String {
        self.run(command).expect_err("the command is refused").message
    }

    fn network(&mut self, spec: NetworkSpec) -> Arc<Network> {
        let Outcome::Network(id) = self.must(Command::CreateNetwork(Box::new(spec))) else {
            unreachable!("creation gives an id")
        };
        Arc::clone(&self.model.networks[&id])
    }

    fn network_refused(&mut self, spec: NetworkSpec) -> String {
        self.refused(Command::CreateNetwork(Box::new(spec)))
    }

    fn sandbox(&mut self, spec: SandboxSpec) -> Arc<Sandbox> {
        let Outcome::Sandbox(id, _) = self.must(Command::CreateSandbox(Box::new(spec))) else {
            unreachable!("creation gives an id")
        };
        Arc::clone(&self.model.sandboxes[&id])
    }

    fn sandbox_refused(&mut self, spec: SandboxSpec) -> String {
        self.refused(Command::CreateSandbox(Box::new(spec)))
    }

    fn endpoint(&self, sandbox: &str, network: &str) -> Arc<Endpoint> {
        let sandbox = self.model.find_sandbox(sandbox).expect("it is there").id;
        let network = self.model.find_network(network).expect("it is there").id;
        Arc::clone(self.model.endpoint_between(sandbox, network).expect("it is connected"))
    }

    fn v4(&self, sandbox: &str, network: &str) -> String {
        self.endpoint(sandbox, network).v4.expect("it has IPv4").to_string()
    }

    /// Published ports as `docker port` would list them.
    fn ports(&self, sandbox: &str) -> Vec<String> {
        let sandbox = self.model.find_sandbox(sandbox).expect("it is there");
        let rows = sandbox.publications.iter();
        rows.map(|row| {
            let host = std::net::SocketAddr::new(row.host_ip, row.host_port);
            format!("{host}->{}*{}/{}", row.container_port, row.count, row.proto)
        })
        .collect()
    }
}

fn connect(network: &str, sandbox: &str, spec: EndpointSpec) -> Command {
    Command::Connect {
        network: network.to_owned(),
        sandbox: sandbox.to_owned(),
        spec: Box::new(spec),
    }
}

fn disconnect(network: &str, sandbox: &str) -> Command {
    Command::Disconnect { network: network.to_owned(), sandbox: sandbox.to_owned() }
}

fn remove_network(network: &str) -> Command {
    Command::RemoveNetwork { network: network.to_owned() }
}

fn remove_sandbox(sandbox: &str) -> Command {
    Command::RemoveSandbox { sandbox: sandbox.to_owned() }
}

fn named(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.to_owned(), ..NetworkSpec::default() }
}

fn subnet(text: &str) -> SubnetSpec {
    SubnetSpec { subnet: text.to_owned(), ..SubnetSpec::default() }
}

fn with_subnets(name: &str, subnets: &[&str]) -> NetworkSpec {
    let ipv6 = subnets.iter().any(|text| text.contains(':'));
    let subnets = subnets.iter().map(|text| subnet(text)).collect();
    NetworkSpec { subnets, ipv6: Some(ipv6), ..named(name) }
}

fn with_option(name: &str, key: &str, value: &str) -> NetworkSpec {
    NetworkSpec { options: BTreeMap::from([(key.to_owned(), value.to_owned())]), ..named(name) }
}

fn container(name: &str, networks: &[&str]) -> SandboxSpec {
    let networks = networks.iter().map(|name| ((*name).to_owned(), EndpointSpec::default()));
    SandboxSpec {
        name: Some(name.to_owned()),
        networks: networks.collect(),
        ..SandboxSpec::default()
    }
}

fn at(name: &str, network: &str, spec: EndpointSpec) -> SandboxSpec {
    SandboxSpec { networks: vec![(network.to_owned(), spec)], ..container(name, &[]) }
}

fn ip(text: &str) -> EndpointSpec {
    EndpointSpec { ip: Some(text.to_owned()), ..EndpointSpec::default() }
}

fn publishing(name: &str, networks: &[&str], ports: &[&str]) -> SandboxSpec {
    let ports = ports.iter().flat_map(|text| parse_ports(text).expect("the syntax is right"));
    SandboxSpec { ports: ports.collect(), ..container(name, networks) }
}

fn settings() -> Settings {
    Settings {
        default_address_pools: Vec::new(),
        ula_prefix: "fd12:3456:789a::/48".parse().expect("a prefix"),
        bip: None,
        bip6: None,
        fixed_cidr: None,
        fixed_cidr_v6: None,
        default_gateway: None,
        default_gateway_v6: None,
        ipv6: false,
        icc: true,
        ip_masq: true,
        ip: None,
        mtu: None,
        bridge: None,
        default_network_opts: BTreeMap::new(),
        bridge_prefix: "br-".to_owned(),
        veth_prefix: "veth".to_owned(),
        default_bridge_name: "netd0".to_owned(),
        netns_dir: PathBuf::from("/run/netns"),
    }
}

fn circumstances(settings: Settings) -> Circumstances {
    Circumstances {
        now_ns: 1_700_000_000_000_000_000,
        seed: [0; 32],
        departed: BTreeSet::new(),
        occupied: Vec::new(),
        host_addresses: BTreeSet::from(["192.0.2.1".parse().expect("an address")]),
        port_range: (32_768, 32_771),
        reserved_ports: Vec::new(),
        busy_ports: BTreeSet::new(),
        uplink_mtu: 1_500,
        settings: Arc::new(settings),
    }
}
