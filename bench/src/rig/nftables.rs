//! The bridge with published ports in an nftables map: one lookup however many there are.

use std::fmt::Write as _;

use anyhow::Result;

use super::bridged::{Filtering, Topology};
use super::iptables::published;
use super::{
    Family, NFTABLES, Plan, Rig, Standing, Transport, endpoint_address, endpoint_address_v6,
};
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
        feed(topology.host.command("nft").args(["-f", "-"]), &rules(plan, Family::V4))?;
        let measured = Plan { ports: 1, endpoints: 2, ..plan };
        feed(topology.host.command("nft").args(["-f", "-"]), &rules(measured, Family::V6))?;
        Ok(topology.standing(self.name()))
    }
}

/// What differs between the families: its name, its type of address, its loopback and the subnets.
struct Words {
    family: &'static str,
    kind: &'static str,
    loopback: &'static str,
    subnets: [&'static str; 2],
}

impl Words {
    const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                family: "ip",
                kind: "ipv4_addr",
                loopback: "127.0.0.0/8",
                subnets: ["172.30.0.0/16", "172.31.0.0/16"],
            },
            Family::V6 => Self {
                family: "ip6",
                kind: "ipv6_addr",
                loopback: "::1",
                subnets: ["fd30::/64", "fd31::/64"],
            },
        }
    }
}

fn chains(words: &Words) -> String {
    let Words { family, loopback, subnets: [one, two], .. } = words;
    format!(
        "\
chain prerouting {{
  type nat hook prerouting priority dstnat; policy accept;
  fib daddr type local jump published
}}
chain output {{
  type nat hook output priority -100; policy accept;
  {family} daddr != {loopback} fib daddr type local jump published
}}
chain published {{
  dnat {family} to tcp dport map @tcp_ports
  dnat {family} to udp dport map @udp_ports
}}
chain postrouting {{
  type nat hook postrouting priority srcnat; policy accept;
  oifname != \"br0\" {family} saddr {one} masquerade
  oifname != \"br1\" {family} saddr {two} masquerade
}}
chain forward {{
  type filter hook forward priority filter; policy accept;
  oifname vmap {{ \"br0\" : jump to_one, \"br1\" : jump to_two }}
}}
chain to_one {{
  ct state established,related accept
  iifname \"br0\" accept
  {family} daddr . meta l4proto . th dport @open accept
  drop
}}
chain to_two {{
  ct state established,related accept
  iifname \"br1\" accept
  drop
}}
"
    )
}

fn rules(plan: Plan, family: Family) -> String {
    let words = Words::of(family);
    let address = family.of(endpoint_address(1), endpoint_address_v6(1));
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
        let kind = format!("type inet_service : {} . inet_service;", words.kind);
        format!("map {name} {{ {kind} elements = {{ {elements} }} }}\n")
    };
    let kind = format!("type {} . inet_proto . inet_service;", words.kind);
    let set = format!("set open {{ {kind} elements = {{ {open} }} }}\n");
    let maps = map("tcp_ports", tcp) + &map("udp_ports", udp);
    let chains = chains(&words);
    format!("table {} netd-bench {{\n{maps}{set}{chains}}}\n", words.family)
}
