//! Small models and hosts for tests: number in, names and addresses out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use netd_common::{IfIndex, MacAddr};
use proptest::prelude::*;

use crate::facts::{HostFacts, LinkFact, UplinkFact};
use crate::model::network::{AntiSpoof, BridgeOptions, DriverKind, GatewayMode, Pool};
use crate::model::sandbox::SandboxMode;
use crate::model::{
    Endpoint, EndpointId, Inside, Keeper, Model, Network, NetworkId, Proto, Publication, Sandbox,
    SandboxId,
};

/// A model, and a host that has made all its links.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) model: Model,
}

impl World {
    /// Network `n`: `10.N.0.0/24` and `fd00:N::/64`, device `br-NAME`.
    pub(crate) fn network(&mut self, n: u8, name: &str, change: impl FnOnce(&mut Network)) {
        let mut network = Network {
            id: NetworkId([n; 32]),
            index: n.into(),
            name: name.to_owned(),
            created_ns: 0,
            driver: DriverKind::Bridge,
            keeper: Keeper::Netd,
            predefined: false,
            ipv4: true,
            ipv6: true,
            internal: false,
            pools: vec![
                pool(&format!("10.{n}.0.0/24"), &format!("10.{n}.0.1")),
                pool(&format!("fd00:{n}::/64"), &format!("fd00:{n}::1")),
            ],
            ipam_driver: "default".to_owned(),
            ipam_options: BTreeMap::new(),
            options: BTreeMap::new(),
            bridge: bridge_options(name),
            labels: BTreeMap::new(),
        };
        change(&mut network);
        let speaks = |pool: &Pool| if pool.subnet.is_ipv4() { network.ipv4 } else { network.ipv6 };
        network.pools = network.pools.iter().filter(|pool| speaks(pool)).cloned().collect();
        self.model.networks.insert(network.id, Arc::new(network));
    }

    /// Sandbox `n` with an endpoint on each (network, host part).
    pub(crate) fn sandbox(&mut self, n: u8, name: &str, endpoints: &[(u8, u16)]) {
        let id = SandboxId([n; 32]);
        let sandbox = Sandbox {
            id,
            name: name.to_owned(),
            created_ns: 0,
            keeper: Keeper::Netd,
            mode: if endpoints.is_empty() { SandboxMode::None } else { SandboxMode::Bridged },
            netns: Path::new("/run/netns").join(name).into(),
            owns_netns: true,
            hostname: name.to_owned(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            extra_hosts: Vec::new(),
            labels: BTreeMap::new(),
            expose: Vec::new(),
            ports: Vec::new(),
            publications: Vec::new(),
            owner: None,
        };
        self.model.sandboxes.insert(id, Arc::new(sandbox));
        for (i, (network, host)) in (0..).zip(endpoints) {
            self.endpoint(id, *network, *host, i);
        }
    }

    fn endpoint(&mut self, sandbox: SandboxId, network: u8, host: u16, i: u32) {
        let index = u32::try_from(self.model.endpoints.len()).unwrap() + 1;
        let id = NetworkId([network; 32]);
        let parent = &self.model.networks[&id];
        let [high, low] = host.to_be_bytes();
        let endpoint = Endpoint {
            id: endpoint_id(index),
            index,
            network: id,
            sandbox: Some(sandbox),
            inside: Inside::Netd,
            v4: parent.ipv4.then(|| Ipv4Addr::new(10, network, high, low)),
            v6: parent.ipv6.then(|| {
                let group = u16::from_str_radix(&network.to_string(), 16).unwrap();
                Ipv6Addr::new(0xfd00, group, 0, 0, 0, 0, 0, host)
            }),
            mac: MacAddr([0x02, 0x42, 10, network, high, low]),
            aliases: Vec::new(),
            gw_priority: 0,
            interface: format!("eth{i}").into(),
            veth: format!("veth{index}").into(),
            options: BTreeMap::new(),
        };
        self.model.endpoints.insert(endpoint.id, Arc::new(endpoint));
    }

    /// Changes endpoint number `index`.
    pub(crate) fn change_endpoint(&mut self, index: u32, change: impl FnOnce(&mut Endpoint)) {
        change(Arc::make_mut(self.model.endpoints.get_mut(&endpoint_id(index)).unwrap()));
    }

    /// Publishes (host port, container port, count) of sandbox `n`.
    pub(crate) fn publish(&mut self, n: u8, ip: &str, ports: (u16, u16, u16), proto: Proto) {
        let slot = self.model.sandboxes.values().map(|it| it.publications.len()).sum::<usize>();
        let sandbox = self.model.sandboxes.get_mut(&SandboxId([n; 32])).unwrap();
        Arc::make_mut(sandbox).publications.push(Publication {
            slot: u32::try_from(slot).unwrap(),
            host_ip: ip.parse().unwrap(),
            host_port: ports.0,
            container_port: ports.1,
            count: ports.2,
            proto,
        });
    }

    /// One network `10.1.0.0/16` with so many endpoints, each in its sandbox.
    pub(crate) fn crowd(&mut self, count: u16) {
        self.network(1, "crowd", |network| {
            network.pools[0].subnet = "10.1.0.0/16".parse().unwrap();
        });
        self.sandbox(1, "template", &[]);
        let template = self.model.sandboxes.remove(&SandboxId([1; 32])).unwrap();
        for n in 0..count {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&n.to_be_bytes());
            let sandbox = Sandbox {
                id: SandboxId(id),
                name: format!("c{n}"),
                mode: SandboxMode::Bridged,
                ..Sandbox::clone(&template)
            };
            self.model.sandboxes.insert(sandbox.id, Arc::new(sandbox));
            self.endpoint(SandboxId(id), 1, n + 2, 0);
        }
    }

    /// A host with all links of the model and the uplink `eth0`.
    pub(crate) fn facts(&self) -> HostFacts {
        let bridges = self.model.networks.values();
        let bridges = bridges.map(|network| (&network.bridge.device, 100 + network.index));
        let veths = self.model.endpoints.values();
        let veths = veths.map(|endpoint| (&endpoint.veth, 1_000 + endpoint.index));
        let uplink = UplinkFact {
            name: "eth0".into(),
            ifindex: IfIndex(2),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 2])),
            mtu: 9_000,
            v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
            v6: Some("2001:db8::1".parse().unwrap()),
        };
        let links = bridges.chain(veths).map(|(name, index)| (name.clone(), link(index)));
        HostFacts {
            links: links.chain([("eth0".into(), link(2))]).collect(),
            addresses: [
                (IpAddr::V4(uplink.v4.unwrap()), IfIndex(2)),
                (IpAddr::V6(uplink.v6.unwrap()), IfIndex(2)),
            ]
            .into(),
            uplinks: vec![uplink],
            netns_cookie: 7,
            ..HostFacts::default()
        }
    }

    /// The same host, on which a link lingers.
    pub(crate) fn facts_with(&self, lingering: &str) -> HostFacts {
        let mut facts = self.facts();
        facts.links.insert(lingering.into(), link(99_999));
        facts
    }
}

/// Up to four networks of any kind, with sandboxes on any of them and published ports.
pub(crate) fn worlds() -> impl Strategy<Value = World> {
    let networks = prop::collection::vec(any_network(), 1..4);
    let sandboxes = prop::collection::vec((any::<[bool; 3]>(), any::<[bool; 4]>()), 0..6);
    (networks, sandboxes).prop_map(|(networks, sandboxes)| {
        let mut world = World::default();
        for (n, kind) in (1..).zip(&networks) {
            world.network(n, &format!("net{n}"), |network| kind.set(network));
        }
        for (n, (on, publishes)) in (1_u8..).zip(sandboxes) {
            let on = (1..).zip(on).filter(|(network, on)| *on && *network <= networks.len());
            let endpoints: Vec<(u8, u16)> =
                on.map(|(network, _)| (u8::try_from(network).unwrap(), u16::from(n) + 1)).collect();
            world.sandbox(n, &format!("box{n}"), &endpoints);
            for (ip, wanted) in ["0.0.0.0", "::", "127.0.0.1", "::1"].into_iter().zip(publishes) {
                if wanted {
                    world.publish(n, ip, (u16::from(n) * 100, 80, 3), Proto::Udp);
                }
            }
        }
        world
    })
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    families: (bool, bool),
    internal: bool,
    icc: bool,
    mode: GatewayMode,
}

impl Kind {
    fn set(self, network: &mut Network) {
        (network.ipv4, network.ipv6) = self.families;
        network.internal = self.internal;
        network.bridge.icc = self.icc;
        network.bridge.gateway_mode_v4 = self.mode;
        network.bridge.gateway_mode_v6 = self.mode;
    }
}

fn any_network() -> impl Strategy<Value = Kind> {
    let mode = prop::sample::select(vec![
        GatewayMode::Nat,
        GatewayMode::NatUnprotected,
        GatewayMode::Routed,
        GatewayMode::Isolated,
    ]);
    let families = prop::sample::select(vec![(true, true), (true, false), (false, true)]);
    (families, any::<bool>(), any::<bool>(), mode)
        .prop_map(|(families, internal, icc, mode)| Kind { families, internal, icc, mode })
}

fn link(ifindex: u32) -> LinkFact {
    LinkFact { ifindex: IfIndex(ifindex), mtu: 1_500, up: true, ..LinkFact::default() }
}

fn endpoint_id(index: u32) -> EndpointId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&index.to_be_bytes());
    EndpointId(id)
}

fn pool(subnet: &str, gateway: &str) -> Pool {
    Pool {
        subnet: subnet.parse().unwrap(),
        range: None,
        gateway: gateway.parse().ok(),
        aux_addresses: BTreeMap::new(),
        configured: false,
    }
}

fn bridge_options(name: &str) -> BridgeOptions {
    BridgeOptions {
        device: format!("br-{name}").into(),
        masquerade: true,
        icc: true,
        host_binding: None,
        gateway_mode_v4: GatewayMode::Nat,
        gateway_mode_v6: GatewayMode::Nat,
        inhibit_ipv4: false,
        host_ipv4: None,
        host_ipv6: None,
        trusted: BTreeSet::new(),
        mtu: None,
        interface_prefix: "eth".to_owned(),
        anti_spoof: AntiSpoof::Address,
        names: None,
    }
}
