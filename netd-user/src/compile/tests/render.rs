//! `Desired` as text that people can review, one line for each thing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::net::IpAddr;

use netd_common::map::endpoint::{AddressKey, AddressValue};
use netd_common::map::network::{HostAddressValue, SubnetKey, SubnetValue};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Address, IfIndex};

use crate::desired::{Desired, Link, Tables};
use crate::model::endpoint::format_mac;

/// Everything.
pub(super) fn desired(desired: &Desired) -> String {
    let mut text = String::new();
    for (name, link) in &desired.links {
        line(&mut text, "link", name, &self::link(link));
    }
    for path in &desired.namespaces {
        let _ = writeln!(text, "namespace {}", path.display());
    }
    for (link, hook) in &desired.programs {
        line(&mut text, "program", link, hook.name());
    }
    for held in &desired.held_ports {
        let at = format!("{}:{}", held.addr, held.port);
        line(&mut text, "held", &at, &format!("{:?}", held.proto));
    }
    tables(&mut text, &desired.tables);
    text
}

/// Every interface that the tables name.
pub(super) fn interfaces(tables: &Tables) -> BTreeSet<IfIndex> {
    let mut found: BTreeSet<IfIndex> = BTreeSet::new();
    found.extend(tables.networks.values().map(|it| it.gateway));
    found.extend(tables.gateways.keys());
    found.extend(tables.endpoints.keys());
    found.extend(tables.addresses_v4.values().map(|it| it.ifindex));
    found.extend(tables.addresses_v6.values().map(|it| it.ifindex));
    found.extend(tables.stations.values().map(|it| it.ifindex));
    found.extend(tables.members.values());
    found.extend(tables.host_addrs_v4.values().map(|it| it.ifindex));
    found.extend(tables.host_addrs_v6.values().map(|it| it.ifindex));
    found.extend(tables.uplinks.keys());
    found.extend(tables.published_v4.values().map(|it| it.ifindex));
    found.extend(tables.published_v6.values().map(|it| it.ifindex));
    found
}

/// The number of every endpoint that the tables name.
pub(super) fn endpoints(tables: &Tables) -> BTreeSet<u32> {
    let mut found: BTreeSet<u32> = BTreeSet::new();
    found.extend(tables.endpoints.values().map(|it| it.index.0));
    found.extend(tables.addresses_v4.values().map(|it| it.endpoint.0));
    found.extend(tables.addresses_v6.values().map(|it| it.endpoint.0));
    found.extend(tables.stations.values().map(|it| it.endpoint.0));
    found.extend(tables.published_v4.values().map(|it| it.endpoint.0));
    found.extend(tables.published_v6.values().map(|it| it.endpoint.0));
    found
}

fn line(text: &mut String, kind: &str, key: &str, value: &str) {
    writeln!(text, "{kind} {key} = {value}").unwrap();
}

fn link(link: &Link) -> String {
    match link {
        Link::Gateway(it) => format!(
            "gateway {} mtu {} addresses {} forwards v4 {} v6 {}",
            format_mac(it.mac),
            it.mtu,
            list(&it.addresses),
            it.ipv4,
            it.ipv6
        ),
        Link::Offered(it) => {
            format!("offered {} {} mtu {}", it.interface, format_mac(it.mac), it.mtu)
        }
        Link::Veth(it) => format!(
            "veth {} in {} {} mtu {} addresses {} routes {} v6 {}",
            it.interface,
            it.netns.display(),
            format_mac(it.mac),
            it.mtu,
            list(&it.addresses),
            list(it.routes.iter().map(|route| match route.via {
                Some(via) => format!("{} via {via}", route.destination),
                None => route.destination.to_string(),
            })),
            it.ipv6
        ),
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

fn tables(text: &mut String, tables: &Tables) {
    debug(text, "config", &tables.config);
    for (index, it) in &tables.networks {
        let value = format!(
            "flags {:#x} gateway {} members {} mtu {} snat {} {} mac {}",
            it.flags,
            it.gateway.0,
            it.member_count,
            it.mtu,
            ip(it.snat_v4),
            ip(it.snat_v6),
            format_mac(it.gateway_mac)
        );
        line(text, "network", &index.to_string(), &value);
    }
    debug(text, "gateway", &tables.gateways);
    for (ifindex, it) in &tables.endpoints {
        let value = format!(
            "index {} network {} flags {} {} {} mac {} gateway {}",
            it.index.0,
            it.network.0,
            it.flags,
            ip(it.v4),
            ip(it.v6),
            format_mac(it.mac),
            format_mac(it.gateway_mac)
        );
        line(text, "endpoint", &ifindex.0.to_string(), &value);
    }
    addresses(text, &tables.addresses_v4);
    addresses(text, &tables.addresses_v6);
    for (key, it) in &tables.stations {
        let key = format!("{}/{}", key.network.0, format_mac(key.mac));
        line(text, "station", &key, &format!("endpoint {} at {}", it.endpoint.0, it.ifindex.0));
    }
    for (key, ifindex) in &tables.members {
        line(text, "member", &format!("{}/{}", key.network.0, key.slot), &ifindex.0.to_string());
    }
    subnets(text, &tables.subnets_v4);
    subnets(text, &tables.subnets_v6);
    hosts(text, &tables.host_addrs_v4);
    hosts(text, &tables.host_addrs_v6);
    for (ifindex, it) in &tables.uplinks {
        let value = format!(
            "{} {} mtu {} mac {} flags {}",
            ip(it.v4),
            ip(it.v6),
            it.mtu,
            format_mac(it.mac),
            it.flags
        );
        line(text, "uplink", &ifindex.0.to_string(), &value);
    }
    for key in tables.trusted.keys() {
        line(text, "trusted", &key.network.0.to_string(), &key.ifindex.0.to_string());
    }
    published(text, &tables.published_v4);
    published(text, &tables.published_v6);
}

fn debug<K: Debug, V: Debug>(text: &mut String, kind: &str, table: &BTreeMap<K, V>) {
    for (key, value) in table {
        line(text, kind, &format!("{key:?}"), &format!("{value:?}"));
    }
}

fn addresses<A: Address>(text: &mut String, table: &BTreeMap<AddressKey<A>, AddressValue>) {
    for (key, it) in table {
        let value = format!(
            "endpoint {} at {} mac {} flags {}",
            it.endpoint.0,
            it.ifindex.0,
            format_mac(it.mac),
            it.flags
        );
        line(text, "address", &format!("{}/{}", key.network.0, ip(key.addr)), &value);
    }
}

fn subnets<A: Address>(text: &mut String, table: &BTreeMap<SubnetKey<A>, SubnetValue>) {
    for (key, it) in table {
        let prefix = format!("{}/{}", ip(key.addr), key.prefix_len);
        line(text, "subnet", &prefix, &format!("network {}", it.network.0));
    }
}

fn hosts<A: Address>(text: &mut String, table: &BTreeMap<A, HostAddressValue>) {
    for (addr, it) in table {
        let value = format!("network {} at {}", it.network.0, it.ifindex.0);
        line(text, "host", &ip(*addr), &value);
    }
}

fn published<A: Address>(text: &mut String, table: &BTreeMap<PublishedKey<A>, PublishedValue<A>>) {
    for (key, it) in table {
        let value = format!(
            "{} port {} endpoint {} network {} at {} mac {} slot {}",
            ip(it.target),
            it.port.get(),
            it.endpoint.0,
            it.network.0,
            it.ifindex.0,
            format_mac(it.mac),
            it.slot
        );
        let key = format!("{} port {} proto {}", ip(key.addr), key.port.get(), key.proto);
        line(text, "published", &key, &value);
    }
}

fn ip<A: Address>(addr: A) -> String {
    let addr: IpAddr = addr.into();
    addr.to_string()
}
