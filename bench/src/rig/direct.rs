//! The limits: loopback in one namespace, and a veth between two.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;

use super::{HOST, LOOPBACK, OUTSIDE, Path, Plan, Rig, SERVER_PORT, Standing};
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

    fn build(&self, _plan: Plan) -> Result<Standing> {
        let namespace = Namespace::create()?;
        prepare(&namespace)?;
        Ok(standing(self.name(), namespace.clone(), namespace, Ipv4Addr::LOCALHOST))
    }
}

impl Rig for Veth {
    fn name(&self) -> &'static str {
        "veth"
    }

    fn says(&self) -> &'static str {
        "client and server at the two ends of one veth, nothing between"
    }

    fn build(&self, _plan: Plan) -> Result<Standing> {
        let (client, server) = (Namespace::create()?, Namespace::create()?);
        prepare(&client)?;
        client.ip_batch(&[
            format!("link add v0 type veth peer name v0 netns {}", server.path().display()),
            format!("addr add {OUTSIDE}/24 dev v0"),
            "link set v0 up".to_owned(),
        ])?;
        server.ip_batch(&[format!("addr add {HOST}/24 dev v0"), "link set v0 up".to_owned()])?;
        Ok(standing(self.name(), client, server, HOST))
    }
}

/// Lets a client's namespace open many short connections.
pub(super) fn prepare(client: &Namespace) -> Result<()> {
    client.sysctl(&[("ipv4/ip_local_port_range", "1024 65535"), ("ipv4/tcp_tw_reuse", "1")])
}

fn standing(
    rig: &'static str,
    client: Namespace,
    server: Namespace,
    address: Ipv4Addr,
) -> Standing {
    let connect = SocketAddrV4::new(address, SERVER_PORT);
    let route = Route { client, server, connect, listen: SERVER_PORT, cgroup: None };
    let routes: BTreeMap<Path, Route> =
        Path::ALL.into_iter().map(|path| (path, route.clone())).collect();
    Standing { rig, routes, field: None, _held: None }
}
