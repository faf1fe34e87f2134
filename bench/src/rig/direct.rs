//! The limits: loopback in one namespace, and a veth between two.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use super::{
    Family, HOST, HOST_V6, LOOPBACK, OUTSIDE, OUTSIDE_V6, Path, Plan, Rig, SERVER_PORT, Standing,
    VETH,
};
use crate::namespace::Namespace;
use crate::traffic::Route;

/// Client and server in one namespace.
pub(super) struct Loopback;

/// Client and server at the two ends of a veth.
pub(super) struct Veth;

impl Rig for Loopback {
    fn name(&self) -> &'static str {
        LOOPBACK
    }

    fn says(&self) -> &'static str {
        "client and server in one namespace: the limit"
    }

    fn publishes(&self) -> bool {
        false
    }

    fn build(&self, _plan: Plan) -> Result<Standing> {
        let namespace = Namespace::create()?;
        prepare(&namespace)?;
        Ok(standing(self.name(), (namespace.clone(), namespace), |family| {
            family.of(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
        }))
    }
}

impl Rig for Veth {
    fn name(&self) -> &'static str {
        VETH
    }

    fn says(&self) -> &'static str {
        "client and server at the two ends of one veth, nothing between"
    }

    fn publishes(&self) -> bool {
        false
    }

    fn build(&self, _plan: Plan) -> Result<Standing> {
        let (client, server) = (Namespace::create()?, Namespace::create()?);
        prepare(&client)?;
        client.ip_batch(&[
            format!("link add v0 type veth peer name v0 netns {}", server.path().display()),
            format!("addr add {OUTSIDE}/24 dev v0"),
            format!("addr add {OUTSIDE_V6}/64 dev v0 nodad"),
            "link set v0 up".to_owned(),
        ])?;
        server.ip_batch(&[
            format!("addr add {HOST}/24 dev v0"),
            format!("addr add {HOST_V6}/64 dev v0 nodad"),
            "link set v0 up".to_owned(),
        ])?;
        Ok(standing(self.name(), (client, server), |family| family.of(HOST, HOST_V6)))
    }
}

/// Lets a client's namespace open many short connections, none of them from the servers' port: what
/// waits for its time there would keep a later server from listening.
pub(super) fn prepare(client: &Namespace) -> Result<()> {
    client.sysctl(&[
        ("ipv4/ip_local_port_range", "1024 65535"),
        ("ipv4/ip_local_reserved_ports", &SERVER_PORT.to_string()),
        ("ipv4/tcp_tw_reuse", "1"),
    ])
}

fn standing(
    rig: &'static str,
    (client, server): (Namespace, Namespace),
    address: impl Fn(Family) -> IpAddr,
) -> Standing {
    let mut routes = BTreeMap::new();
    for family in Family::ALL {
        let connect = SocketAddr::new(address(family), SERVER_PORT);
        let (client, server) = (client.clone(), server.clone());
        let route = Route { client, server, connect, listen: SERVER_PORT, cgroup: None };
        routes.extend(Path::ALL.map(|path| ((path, family), route.clone())));
    }
    Standing { rig, routes, field: None, _held: None }
}
