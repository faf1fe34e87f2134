//! The topology that rigs with a Linux bridge share, and the plain bridge: netfilter off, containers
//! reached by routes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::Result;

use super::direct::prepare;
use super::{
    BRIDGE, Endpoint, Family, Field, GATEWAY, GATEWAY_V6, HOST, HOST_PORT, HOST_V6, OUTSIDE,
    OUTSIDE_V6, Path, Plan, Rig, SERVER_PORT, STRANGE_GATEWAY, STRANGER, Standing, UPLINK,
    endpoint_address, endpoint_address_v6,
};
use crate::namespace::Namespace;
use crate::traffic::Route;

/// Name of network 1's bridge.
pub(super) const BRIDGE_ONE: &str = "br0";
/// Name of network 2's bridge.
pub(super) const BRIDGE_TWO: &str = "br1";

/// The plain bridge.
pub(super) struct Bridge;

impl Rig for Bridge {
    fn name(&self) -> &'static str {
        BRIDGE
    }

    fn says(&self) -> &'static str {
        "plain Linux bridge, netfilter off, no translation: outside routes to the containers"
    }

    fn publishes(&self) -> bool {
        false
    }

    fn build(&self, plan: Plan) -> Result<Standing> {
        let mut topology = Topology::build(plan, Filtering::Off)?;
        topology.outside.ip(&format!("route add 172.16.0.0/12 via {HOST}"))?;
        topology.outside.ip(&format!("route add fd30::/64 via {HOST_V6}"))?;
        topology.field.published_v6 = endpoint_address_v6(1);
        topology.field.published = SocketAddrV4::new(endpoint_address(1), SERVER_PORT);
        topology.field.isolates = false;
        Ok(topology.standing(self.name()))
    }
}

/// Whether bridged packets pass netfilter, as they do on hosts of Docker without its userland proxy,
/// with `icc=false`, of swarm and of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filtering {
    /// They do not.
    Off,
    /// They do.
    On,
}

/// Outside, host, two bridges and their endpoints.
pub(super) struct Topology {
    /// The machine outside.
    pub(super) outside: Namespace,
    /// The host.
    pub(super) host: Namespace,
    /// The places in it.
    pub(super) field: Field,
    _others: Namespace,
}

impl Topology {
    /// Builds everything but rules.
    pub(super) fn build(plan: Plan, filtering: Filtering) -> Result<Self> {
        let Site { outside, host } = Site::build()?;
        let filter = if filtering == Filtering::On { "1" } else { "0" };
        host.sysctl(&[
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("bridge/bridge-nf-call-iptables", filter),
            ("bridge/bridge-nf-call-ip6tables", filter),
        ])?;
        bridge(&host, BRIDGE_ONE, GATEWAY)?;
        host.ip(&format!("addr add {GATEWAY_V6}/64 dev {BRIDGE_ONE} nodad"))?;
        bridge(&host, BRIDGE_TWO, STRANGE_GATEWAY)?;
        let one = member(&host, 1)?;
        let two = member(&host, 2)?;
        let stranger = endpoint(&host, BRIDGE_TWO, "s1", STRANGER, STRANGE_GATEWAY)?;
        let others = others(&host, plan)?;
        let field = Field {
            outside: outside.clone(),
            host: host.clone(),
            one,
            two,
            stranger,
            gateway: BRIDGE_ONE.to_owned(),
            published: SocketAddrV4::new(HOST, HOST_PORT),
            published_v6: HOST_V6,
            isolates: true,
        };
        Ok(Self { outside, host, field, _others: others })
    }

    /// The rig with its routes.
    pub(super) fn standing(self, rig: &'static str) -> Standing {
        let routes = routes(&self.field);
        Standing { rig, routes, field: Some(self.field.clone()), _held: Some(Box::new(self)) }
    }
}

/// The outside and the host with a veth between them and the host's default route through it.
#[derive(Debug)]
pub(crate) struct Site {
    /// The machine outside.
    pub(crate) outside: Namespace,
    /// The host.
    pub(crate) host: Namespace,
}

impl Site {
    /// Builds both.
    pub(crate) fn build() -> Result<Self> {
        let (outside, host) = (Namespace::create()?, Namespace::create()?);
        prepare(&outside)?;
        prepare(&host)?;
        let peer = outside.path();
        host.ip_batch(&[
            format!("link add {UPLINK} type veth peer name o0 netns {}", peer.display()),
            format!("addr add {HOST}/24 dev {UPLINK}"),
            format!("addr add {HOST_V6}/64 dev {UPLINK} nodad"),
            format!("link set {UPLINK} up"),
        ])?;
        outside.ip_batch(&[
            format!("addr add {OUTSIDE}/24 dev o0"),
            format!("addr add {OUTSIDE_V6}/64 dev o0 nodad"),
            "link set o0 up".to_owned(),
        ])?;
        host.ip(&format!("route add default via {OUTSIDE}"))?;
        host.ip(&format!("route add default via {OUTSIDE_V6}"))?;
        Ok(Self { outside, host })
    }
}

/// The four ways, given the places.
pub(super) fn routes(field: &Field) -> BTreeMap<(Path, Family), Route> {
    Family::ALL.into_iter().flat_map(|family| routes_of(field, family)).collect()
}

fn routes_of(field: &Field, family: Family) -> Vec<((Path, Family), Route)> {
    let route = |client: &Namespace, server: &Namespace, connect| Route {
        client: client.clone(),
        server: server.clone(),
        connect,
        listen: SERVER_PORT,
        cgroup: None,
    };
    let (one, two) = (&field.one.namespace, &field.two.namespace);
    let Some(neighbour) = field.two.address_in(family) else { return Vec::new() };
    let neighbour = SocketAddr::new(neighbour, SERVER_PORT);
    let outside = SocketAddr::new(family.of(OUTSIDE, OUTSIDE_V6), SERVER_PORT);
    let published = family.of(*field.published.ip(), field.published_v6);
    let published = SocketAddr::new(published, field.published.port());
    vec![
        ((Path::ContainerToContainer, family), route(one, two, neighbour)),
        ((Path::OutsideToPublished, family), route(&field.outside, one, published)),
        ((Path::ContainerToOutside, family), route(one, &field.outside, outside)),
        ((Path::HostToPublished, family), route(&field.host, one, published)),
    ]
}

impl Endpoint {
    fn address_in(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => Some(self.address.into()),
            Family::V6 => self.address_v6.map(IpAddr::from),
        }
    }
}

fn bridge(host: &Namespace, name: &str, gateway: Ipv4Addr) -> Result<()> {
    host.ip_batch(&[
        format!("link add {name} type bridge"),
        format!("addr add {gateway}/16 dev {name}"),
        format!("link set {name} up"),
    ])
}

/// An endpoint of network 1, with an address of each family.
fn member(host: &Namespace, number: u16) -> Result<Endpoint> {
    let (name, address) = (format!("h{number}"), endpoint_address_v6(number));
    let endpoint = endpoint(host, BRIDGE_ONE, &name, endpoint_address(number), GATEWAY)?;
    endpoint.namespace.ip_batch(&[
        format!("addr add {address}/64 dev eth0 nodad"),
        format!("route add default via {GATEWAY_V6}"),
    ])?;
    Ok(Endpoint { address_v6: Some(address), ..endpoint })
}

fn endpoint(
    host: &Namespace,
    bridge: &str,
    host_link: &str,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
) -> Result<Endpoint> {
    let namespace = Namespace::create()?;
    prepare(&namespace)?;
    let path = namespace.path();
    host.ip_batch(&[
        format!("link add {host_link} type veth peer name eth0 netns {}", path.display()),
        format!("link set {host_link} master {bridge} up"),
    ])?;
    namespace.ip_batch(&[
        format!("addr add {address}/16 dev eth0"),
        "link set eth0 up".to_owned(),
        format!("route add default via {gateway}"),
    ])?;
    Ok(Endpoint { namespace, address, address_v6: None, host_link: host_link.to_owned() })
}

/// The endpoints beside the measured ones, all in one namespace: only their links and rules count.
fn others(host: &Namespace, plan: Plan) -> Result<Namespace> {
    let namespace = Namespace::create()?;
    let path = namespace.path();
    let lines: Vec<String> = (3..=plan.endpoints)
        .flat_map(|number| {
            [
                format!(
                    "link add h{number} type veth peer name e{number} netns {}",
                    path.display()
                ),
                format!("link set h{number} master {BRIDGE_ONE} up"),
            ]
        })
        .collect();
    host.ip_batch(&lines)?;
    let ups: Vec<String> =
        (3..=plan.endpoints).map(|number| format!("link set e{number} up")).collect();
    namespace.ip_batch(&ups)?;
    Ok(namespace)
}
