//! A link as a message of the kernel tells of it. Pure.

use std::borrow::Cow;

use netd_common::{IfIndex, MacAddr};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

use crate::facts::LinkFact;
use crate::model::LinkName;

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkRecord {
    /// Name.
    pub(super) name: LinkName,
    /// What the compiler may know.
    pub(super) fact: LinkFact,
    /// Group: the owner tag of our own links.
    pub(super) group: u32,
    /// Index of the other end, for veths.
    pub(super) peer: u32,
    /// The namespace that the other end is in, by its number here; none where it is here.
    pub(super) peer_namespace: Option<i32>,
    /// The loopback device.
    pub(super) loopback: bool,
    /// Whether its frames begin with an Ethernet header.
    pub(super) has_ethernet: bool,
}

/// What a message says of a link.
pub(super) fn link_of(message: LinkMessage) -> LinkRecord {
    let mut link = LinkRecord::default();
    link.fact.ifindex = IfIndex(message.header.index);
    link.fact.up = message.header.flags.contains(LinkFlags::Up);
    link.loopback = message.header.flags.contains(LinkFlags::Loopback);
    link.has_ethernet = has_ethernet(message.header.link_layer_type);
    for attribute in message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name = name.into();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.fact.mtu = mtu;
        } else if let LinkAttribute::Address(mac) = attribute {
            link.fact.mac = mac.try_into().map_or(MacAddr::default(), MacAddr);
        } else if let LinkAttribute::Group(group) = attribute {
            link.group = group;
        } else if let LinkAttribute::Link(peer) = attribute {
            link.peer = peer;
        } else if let LinkAttribute::LinkNetNsId(number) = attribute {
            link.peer_namespace = Some(number);
        } else if let LinkAttribute::LinkInfo(parts) = attribute {
            link.fact.kind = parts.iter().find_map(kind_of).unwrap_or_default();
        }
    }
    link
}

/// The kernel's `dev_is_mac_header_xmit`.
fn has_ethernet(kind: LinkLayerType) -> bool {
    !matches!(
        kind,
        LinkLayerType::Tunnel
            | LinkLayerType::Tunnel6
            | LinkLayerType::Sit
            | LinkLayerType::Ipgre
            | LinkLayerType::Ip6gre
            | LinkLayerType::Void
            | LinkLayerType::None
            | LinkLayerType::Rawip
            | LinkLayerType::Ppp
    )
}

/// Facts are copied with every change of the host: the kinds of our own links take no memory then.
fn kind_of(part: &LinkInfo) -> Option<Cow<'static, str>> {
    let LinkInfo::Kind(kind) = part else { return None };
    let kind = kind.to_string();
    let own = ["veth", "bridge"].into_iter().find(|own| *own == kind);
    Some(own.map_or(Cow::Owned(kind), Cow::Borrowed))
}
