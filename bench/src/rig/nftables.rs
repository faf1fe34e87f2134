//! The bridge with published ports in an nftables map: one lookup however many there are.

use std::fmt::Write as _;

use anyhow::Result;

use super::bridged::{Filtering, Topology};
use super::iptables::published;
use super::{NFTABLES, Plan, Rig, Standing, Transport, endpoint_address};
use crate::namespace::feed;

/// What Docker's nftables back end comes to.
pub(super) struct Nftables;

impl Rig for Nftables {
    fn name(&self) -> &'static str {
        NFTABLES
    }

    fn says(&self) -> &'static str {
        "bridge with nftables: published ports in a map, networks in verdict maps"
    }

    fn build(&self, plan: Plan) -> Result<Standing> {
        let topology = Topology::build(plan, Filtering::On)?;
        feed(topology.host.command("nft").args(["-f", "-"]), &rules(plan))?;
        Ok(topology.standing(self.name()))
    }
}

const CHAINS: &str = "\
chain prerouting {
  type nat hook prerouting priority dstnat; policy accept;
  fib daddr type local jump published
}
chain output {
  type nat hook output priority -100; policy accept;
  ip daddr != 127.0.0.0/8 fib daddr type local jump published
}
chain published {
  dnat ip to tcp dport map @tcp_ports
  dnat ip to udp dport map @udp_ports
}
chain postrouting {
  type nat hook postrouting priority srcnat; policy accept;
  oifname != \"br0\" ip saddr 172.30.0.0/16 masquerade
  oifname != \"br1\" ip saddr 172.31.0.0/16 masquerade
}
chain forward {
  type filter hook forward priority filter; policy accept;
  oifname vmap { \"br0\" : jump to_one, \"br1\" : jump to_two }
}
chain to_one {
  ct state established,related accept
  iifname \"br0\" accept
  ip daddr . meta l4proto . th dport @open accept
  drop
}
chain to_two {
  ct state established,related accept
  iifname \"br1\" accept
  drop
}
";

fn rules(plan: Plan) -> String {
    let address = endpoint_address(1);
    let (mut tcp, mut udp, mut open) = (String::new(), String::new(), String::new());
    for (transport, host, container) in published(plan) {
        let ports = match transport {
            Transport::Tcp => &mut tcp,
            Transport::Udp => &mut udp,
        };
        write!(ports, "{host} : {address} . {container}, ").ok();
        write!(open, "{address} . {} . {container}, ", transport.name()).ok();
    }
    let map = |name, elements| {
        let kind = "type inet_service : ipv4_addr . inet_service;";
        format!("map {name} {{ {kind} elements = {{ {elements} }} }}\n")
    };
    let set = format!(
        "set open {{ type ipv4_addr . inet_proto . inet_service; elements = {{ {open} }} }}\n"
    );
    let maps = map("tcp_ports", tcp) + &map("udp_ports", udp);
    format!("table ip netd-bench {{\n{maps}{set}{CHAINS}}}\n")
}
