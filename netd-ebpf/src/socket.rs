//! Published ports for the host's own sockets, and name queries of sandboxes: translated when they
//! connect or send, so that no packet of theirs needs translation.
//!
//! Law: the application sees the address it asked for, whatever it is asked later. A socket that
//! is bound to a loopback address cannot reach a container: the kernel has no route from there,
//! and a hook cannot bind it anew (`bpf_bind` refuses a socket that has a port). It is told so.

use netd_common::map::published::{PublishedKey, SocketPeer, SocketPeerKey};
use netd_common::map::resolver::{RESOLVER_ADDR, RESOLVER_PORT};
use netd_common::wire::{TCP, UDP};
use netd_common::{Address, Be16, Family, Ipv4, Ipv6, V4, V6};

use crate::pipeline::AllTables;
use crate::service;
use crate::tables::FamilyTables;

/// What the socket hooks remember.
pub trait PeerTables {
    /// The address that the application asked for.
    fn peer(&self, key: &SocketPeerKey) -> Option<SocketPeer>;

    /// Remembers it.
    fn remember(&mut self, key: &SocketPeerKey, peer: &SocketPeer);
}

/// A socket and an address it names. IPv4 as v4-mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// `bpf_get_socket_cookie`.
    pub cookie: u64,
    /// The address.
    pub addr: Ipv6,
    /// The port.
    pub port: Be16,
    /// IP protocol number.
    pub proto: u8,
}

/// An IPv4 address as IPv6 carries it.
#[inline(always)]
pub const fn mapped(addr: Ipv4) -> Ipv6 {
    Ipv6([0, 0, 0xffffu32.to_be(), addr.0])
}

/// The IPv4 address in a v4-mapped one.
#[inline(always)]
pub fn unmapped(addr: Ipv6) -> Option<Ipv4> {
    if addr.0[0] == 0 && addr.0[1] == 0 && addr.0[2] == 0xffffu32.to_be() {
        Some(Ipv4(addr.0[3]))
    } else {
        None
    }
}

/// Where a socket is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Where it asked for.
    Asked,
    /// To the container behind the published port that it asked for.
    Container(Ipv6, Be16),
    /// To a container, which there is no way to from the loopback address that it is bound to.
    OutOfReach,
}

/// Where a socket that is bound to `own`, or to no address, is sent.
#[inline(always)]
pub fn translate<T: AllTables + PeerTables>(tables: &mut T, asked: &Named, own: Ipv6) -> Target {
    let found = match unmapped(asked.addr) {
        Some(v4) => target::<V4, T>(tables, v4, asked).map(|(addr, port)| (mapped(addr), port)),
        None => target::<V6, T>(tables, asked.addr, asked),
    };
    let Some((addr, port)) = found else {
        return Target::Asked;
    };
    if own.is_loopback() || unmapped(own).is_some_and(Address::is_loopback) {
        return Target::OutOfReach;
    }
    let real = Named { addr, port, ..*asked };
    let peer = SocketPeer { addr: asked.addr, port: asked.port, pad: 0 };
    tables.remember(&peer_key(&real), &peer);
    Target::Container(addr, port)
}

#[inline(always)]
fn target<F: Family, T: FamilyTables<F>>(
    tables: &T,
    addr: F::Addr,
    asked: &Named,
) -> Option<(F::Addr, Be16)> {
    // The kernel takes the unspecified address for loopback.
    let ours = addr.is_loopback() || addr.is_any() || tables.host_address(&addr).is_some();
    if !ours {
        return None;
    }
    service::backend::<F, T>(tables, addr, asked.port, asked.proto)
        .map(|backend| (backend.target, backend.port))
}

/// The address that the application asked for, given the one it really talks to.
#[inline(always)]
pub fn recover<T: PeerTables>(tables: &T, real: &Named) -> Option<SocketPeer> {
    tables.peer(&peer_key(real))
}

#[inline(always)]
fn peer_key(real: &Named) -> SocketPeerKey {
    let one_peer = real.proto == TCP;
    SocketPeerKey {
        cookie: real.cookie,
        addr: if one_peer { Ipv6::ANY } else { real.addr },
        port: if one_peer { Be16(0) } else { real.port },
        proto: u16::from(real.proto),
        pad: 0,
    }
}

/// Where sandboxes' name queries go.
pub trait ResolverTables {
    /// The port of netd's sockets in a network namespace, at `RESOLVER_ADDR`.
    fn resolver_port(&self, netns_cookie: u64) -> Option<Be16>;
}

const RESOLVER: Ipv6 = mapped(Ipv4(u32::from_ne_bytes(RESOLVER_ADDR)));
const NAME_SERVICE: Be16 = Be16::new(RESOLVER_PORT);

/// The port that a socket of a sandbox reaches instead of the name service's.
#[inline(always)]
pub fn to_resolver<T: ResolverTables>(
    tables: &T,
    netns_cookie: u64,
    asked: &Named,
) -> Option<Be16> {
    let is_query = asked.port == NAME_SERVICE && at_resolver(asked);
    if is_query { tables.resolver_port(netns_cookie) } else { None }
}

/// The port that a sandbox's application believes to talk to, given the one it really does.
#[inline(always)]
pub fn from_resolver<T: ResolverTables>(
    tables: &T,
    netns_cookie: u64,
    real: &Named,
) -> Option<Be16> {
    let is_answer = at_resolver(real) && tables.resolver_port(netns_cookie) == Some(real.port);
    is_answer.then_some(NAME_SERVICE)
}

#[inline(always)]
fn at_resolver(peer: &Named) -> bool {
    peer.addr == RESOLVER && (peer.proto == TCP || peer.proto == UDP)
}

/// Whether a port is published on the address that a socket would bind. A bind to every address
/// meets only what is published on every address: the packets of a port that is published on one
/// address never reach such a socket, the others do.
#[inline(always)]
pub fn is_taken<T: AllTables>(tables: &T, wanted: &Named) -> bool {
    match unmapped(wanted.addr) {
        Some(v4) => holds::<V4, T>(tables, v4, wanted),
        None => {
            holds::<V6, T>(tables, wanted.addr, wanted)
                || wanted.addr.is_any() && holds::<V4, T>(tables, Ipv4::ANY, wanted)
        }
    }
}

#[inline(always)]
fn holds<F: Family, T: FamilyTables<F>>(tables: &T, addr: F::Addr, wanted: &Named) -> bool {
    let key = |addr| PublishedKey { addr, port: wanted.port, proto: wanted.proto, pad: 0 };
    tables.published(&key(addr)).is_some()
        || !addr.is_any() && tables.published(&key(F::Addr::ANY)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SANDBOX: u64 = 7;
    const SOCKETS: Be16 = Be16::new(40_053);

    struct OneSandbox;

    impl ResolverTables for OneSandbox {
        fn resolver_port(&self, netns_cookie: u64) -> Option<Be16> {
            (netns_cookie == SANDBOX).then_some(SOCKETS)
        }
    }

    fn query(proto: u8) -> Named {
        Named { cookie: 1, addr: RESOLVER, port: NAME_SERVICE, proto }
    }

    #[test]
    fn name_queries_of_a_sandbox_reach_its_sockets_and_answers_come_from_port_53() {
        for proto in [TCP, UDP] {
            let asked = query(proto);
            assert_eq!(to_resolver(&OneSandbox, SANDBOX, &asked), Some(SOCKETS));
            let real = Named { port: SOCKETS, ..asked };
            assert_eq!(from_resolver(&OneSandbox, SANDBOX, &real), Some(NAME_SERVICE));
        }
    }

    #[test]
    fn other_namespaces_ports_addresses_and_protocols_are_left_alone() {
        let asked = query(UDP);
        assert_eq!(to_resolver(&OneSandbox, SANDBOX + 1, &asked), None);
        let strangers = [
            Named { port: Be16::new(54), ..asked },
            Named { addr: mapped(Ipv4(u32::from_ne_bytes([127, 0, 0, 1]))), ..asked },
            Named { proto: 132, ..asked },
        ];
        for stranger in strangers {
            assert_eq!(to_resolver(&OneSandbox, SANDBOX, &stranger), None);
        }
        assert_eq!(from_resolver(&OneSandbox, SANDBOX, &asked), None);
        assert_eq!(
            from_resolver(&OneSandbox, SANDBOX + 1, &Named { port: SOCKETS, ..asked }),
            None
        );
    }
}
