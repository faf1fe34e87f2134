//! Published ports: which container stands behind a host's address and port.
//!
//! Law: the exact address wins over "any address"; a loopback address is never looked up here,
//! because only the host's own sockets may reach it (`socket`).

use netd_common::map::flow::FlowKey;
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::wire::{SCTP, TCP, UDP};
use netd_common::{Address, Be16, Family};

use crate::tables::FamilyTables;

/// The backend of an address and port.
#[inline(always)]
pub fn backend<F: Family, T: FamilyTables<F>>(
    tables: &T,
    addr: F::Addr,
    port: Be16,
    proto: u8,
) -> Option<PublishedValue<F::Addr>> {
    let mut key = PublishedKey { addr, port, proto, pad: 0 };
    if let Some(backend) = tables.published(&key) {
        return Some(backend);
    }
    key.addr = F::Addr::ANY;
    tables.published(&key)
}

/// The backend that a flow's first packet asks for.
#[inline(always)]
pub fn backend_of<F: Family, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
) -> Option<PublishedValue<F::Addr>> {
    if key.dst.is_loopback() || !has_ports(key.proto) {
        return None;
    }
    backend::<F, T>(tables, key.dst, key.dport, key.proto)
}

/// Whether a container publishes the port that a packet to its own address is for.
#[inline(always)]
pub fn is_exposed<F: Family, T: FamilyTables<F>>(tables: &T, key: &FlowKey<F::Addr>) -> bool {
    has_ports(key.proto)
        && tables
            .published(&PublishedKey { addr: key.dst, port: key.dport, proto: key.proto, pad: 0 })
            .is_some()
}

#[inline(always)]
const fn has_ports(proto: u8) -> bool {
    matches!(proto, TCP | UDP | SCTP)
}
