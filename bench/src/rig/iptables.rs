//! The bridge with the rules that Docker 28 makes in iptables, its userland proxy left out.

use std::fmt::Write as _;

use anyhow::Result;

use super::bridged::{BRIDGE_ONE, BRIDGE_TWO, Filtering, Topology};
use super::{
    Family, HOST_PORT, Plan, Rig, SERVER_PORT, STRANGER, Standing, Transport, endpoint_address,
    endpoint_address_v6,
};
use crate::namespace::feed;

/// Docker's way until now, by one of the two programs that speak it.
pub(super) struct Iptables {
    /// The rig's name.
    pub(super) name: &'static str,
    /// What reads the rules.
    pub(super) restore: &'static str,
    /// What reads those of IPv6.
    pub(super) restore_v6: &'static str,
}

impl Rig for Iptables {
    fn name(&self) -> &'static str {
        self.name
    }

    fn says(&self) -> &'static str {
        "bridge with Docker's iptables rules: one DNAT and one ACCEPT rule for each published port"
    }

    fn build(&self, plan: Plan) -> Result<Standing> {
        let topology = Topology::build(plan, Filtering::On)?;
        feed(&mut topology.host.command(self.restore), &rules(plan, Family::V4))?;
        let measured = Plan { ports: 1, endpoints: 2, ..plan };
        feed(&mut topology.host.command(self.restore_v6), &rules(measured, Family::V6))?;
        Ok(topology.standing(self.name))
    }
}

const NAT_HEAD: &str = "\
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
";

const NAT_V4: &str = "\
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.30.0.0/16 ! -o br0 -j MASQUERADE
-A POSTROUTING -s 172.31.0.0/16 ! -o br1 -j MASQUERADE
";

const NAT_V6: &str = "\
-A OUTPUT ! -d ::1/128 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s fd30::/64 ! -o br0 -j MASQUERADE
";

const FILTER_HEAD: &str = "\
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i br0 -j ACCEPT
-A DOCKER-FORWARD -i br1 -j ACCEPT
-A DOCKER-CT -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-CT -o br1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-BRIDGE -o br0 -j DOCKER
-A DOCKER-BRIDGE -o br1 -j DOCKER
-A DOCKER-ISOLATION-STAGE-1 -i br0 ! -o br0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -i br1 ! -o br1 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o br0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -o br1 -j DROP
";

const FILTER_TAIL: &str = "\
-A DOCKER ! -i br0 -o br0 -j DROP
-A DOCKER ! -i br1 -o br1 -j DROP
";

fn rules(plan: Plan, family: Family) -> String {
    let mut raw = "*raw\n".to_owned();
    let masquerade = match family {
        Family::V4 => NAT_V4,
        Family::V6 => NAT_V6,
    };
    let (mut nat, mut filter) = (format!("{NAT_HEAD}{masquerade}"), FILTER_HEAD.to_owned());
    let endpoint = |number| family.of(endpoint_address(number), endpoint_address_v6(number));
    for number in 1..=plan.endpoints {
        let address = endpoint(number);
        writeln!(raw, "-A PREROUTING -d {address} ! -i {BRIDGE_ONE} -j DROP").ok();
    }
    if family == Family::V4 {
        writeln!(raw, "-A PREROUTING -d {STRANGER} ! -i {BRIDGE_TWO} -j DROP").ok();
    }
    for (transport, host, container) in published(plan) {
        let (address, transport) = (endpoint(1), transport.name());
        let port = format!("-p {transport} -m {transport} --dport");
        let target = std::net::SocketAddr::new(address, container);
        let target = format!("-j DNAT --to-destination {target}");
        writeln!(nat, "-A DOCKER ! -i {BRIDGE_ONE} {port} {host} {target}").ok();
        let to = format!("-d {address} ! -i {BRIDGE_ONE} -o {BRIDGE_ONE}");
        writeln!(filter, "-A DOCKER {to} {port} {container} -j ACCEPT").ok();
    }
    format!("{raw}COMMIT\n{nat}COMMIT\n{filter}{FILTER_TAIL}COMMIT\n")
}

/// Published ports in the order of their publication: transport, host port, container port.
pub(super) fn published(plan: Plan) -> Vec<(Transport, u16, u16)> {
    let mut ports: Vec<_> = plan.filler_ports().map(|port| (plan.filler, port, port)).collect();
    ports.push((Transport::Tcp, HOST_PORT, SERVER_PORT));
    ports.push((Transport::Udp, HOST_PORT, SERVER_PORT));
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_published_port_is_one_dnat_and_one_accept_rule() {
        let plan = Plan { endpoints: 2, ports: 1_000, filler: Transport::Tcp };
        let rules = rules(plan, Family::V4);
        let count = |text| rules.lines().filter(|line| line.contains(text)).count();
        assert_eq!(count("-j DNAT"), 1_001);
        assert_eq!(count("--dport 8080 -j ACCEPT"), 2);
        assert_eq!(count("COMMIT"), 3);
    }

    #[test]
    fn rules_of_ipv6_name_no_address_of_ipv4() {
        let rules = rules(Plan::SMALL, Family::V6);
        assert!(rules.contains("--to-destination [fd30::2]:8080"), "{rules}");
        assert!(!rules.contains("172."), "{rules}");
    }
}
