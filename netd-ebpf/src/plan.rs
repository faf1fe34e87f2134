//! A new flow before it has a place in the table.
//!
//! Law: it is filled in place, from the question to the answer, because the kernel's stack does
//! not hold two.

use netd_common::map::endpoint::{AddressValue, EndpointValue};
use netd_common::map::flow::{FLOW_DNAT, FlowKey, FlowValue};
use netd_common::map::published::PublishedValue;
use netd_common::{Address, EndpointIndex, IfIndex, MacAddr, NetworkIndex};

use crate::parse::Role;

/// Where replies to a flow go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop<A> {
    /// Neighbour on the uplink; all zero leaves it to the kernel.
    pub next_hop: A,
    /// Host veth or uplink.
    pub ifindex: IfIndex,
    /// The endpoint, if local.
    pub endpoint: EndpointIndex,
    /// Its MAC, if local.
    pub mac: MacAddr,
    /// `FLOW_UPLINK` or nothing.
    pub flags: u16,
}

/// How the source port of the translated packet is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PortChoice {
    /// As it is, or not at all.
    #[default]
    Keep,
    /// As it is if free, else from the pool.
    Prefer,
    /// As it is if masquerading may use it and it is free, else from the pool.
    Masquerade,
}

/// A new flow, before it has a place in the table: first the question, then its answer. One value
/// filled in place, because the kernel's stack does not hold two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan<A> {
    /// What the packet means to a connection.
    pub role: Role,
    /// Where it was seen: a host veth, or an uplink for a key of the host's scope.
    pub device: IfIndex,
    /// The network of that veth.
    pub door: NetworkIndex,
    /// The original entry.
    pub forward: FlowValue<A>,
    /// Where replies go.
    pub back: Hop<A>,
    /// How the source port is found.
    pub ports: PortChoice,
    /// Slot of the publication to count, or `NO_SLOT`.
    pub slot: u32,
}

/// `Plan::slot`: no published port was involved.
pub const NO_SLOT: u32 = u32::MAX;

impl<A: Address> Plan<A> {
    /// The question what becomes of a flow; so far it is not translated.
    #[inline(always)]
    pub fn ask(&mut self, key: &FlowKey<A>, role: Role, device: IfIndex) {
        self.role = role;
        self.device = device;
        let forward = &mut self.forward;
        forward.src = key.src;
        forward.dst = key.dst;
        forward.next_hop = A::ANY;
        forward.sport = key.sport;
        forward.dport = key.dport;
        forward.peer_network = key.network;
        forward.flags = 0;
        let back = &mut self.back;
        back.next_hop = A::ANY;
        back.ifindex = device;
        back.endpoint = EndpointIndex::NONE;
        back.mac = MacAddr([0; 6]);
        back.flags = 0;
        self.ports = PortChoice::Keep;
        self.slot = NO_SLOT;
    }

    /// Replies go to this endpoint.
    #[inline(always)]
    pub(crate) fn begins_at(&mut self, endpoint: &EndpointValue) {
        self.back.endpoint = endpoint.index;
        self.back.mac = endpoint.mac;
        self.door = endpoint.network;
    }

    /// Packets go to who holds an address, untranslated.
    #[inline(always)]
    pub(crate) fn ends_at(&mut self, holder: &AddressValue, network: NetworkIndex) {
        self.forward.ifindex = holder.ifindex;
        self.forward.endpoint = holder.endpoint;
        self.forward.mac = holder.mac;
        self.forward.peer_network = network;
    }

    /// Packets go to a published port's backend.
    #[inline(always)]
    pub(crate) fn ends_at_backend(&mut self, backend: &PublishedValue<A>) {
        self.forward.dst = backend.target;
        self.forward.dport = backend.port;
        self.forward.ifindex = backend.ifindex;
        self.forward.endpoint = backend.endpoint;
        self.forward.mac = backend.mac;
        self.forward.peer_network = backend.network;
        self.forward.flags = FLOW_DNAT;
        self.ports = PortChoice::Prefer;
        self.slot = backend.slot;
    }
}
