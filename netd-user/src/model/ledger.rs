//! The host ports that are taken.
//!
//! Law: a wildcard address meets every address of its family; ranges are compared as ranges, so a
//! range of 50 000 ports costs what one port costs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Model;
use super::id::SandboxId;
use super::port::Proto;

/// The host ports that are taken, as disjoint ranges for each protocol and address.
#[derive(Default)]
pub(super) struct Ledger(BTreeMap<(Proto, IpAddr), BTreeMap<u16, u16>>);

impl Ledger {
    /// What all sandboxes but one hold.
    pub(super) fn of_others(model: &Model, sandbox: SandboxId) -> Self {
        let mut ledger = Self::default();
        let others = model.sandboxes.values().filter(|held| held.id != sandbox);
        for row in others.flat_map(|held| &held.publications).filter(|row| row.takes_host_port()) {
            ledger.put(row.host_ip, (row.host_port, row.host_port_last()), row.proto);
        }
        ledger
    }

    /// Notes a range that is taken.
    pub(super) fn put(&mut self, addr: IpAddr, (first, last): (u16, u16), proto: Proto) {
        self.0.entry((proto, addr)).or_default().insert(first, last);
    }

    /// The address that holds a port of a range already, and the first such port.
    pub(super) fn conflict(
        &self,
        addr: IpAddr,
        range: (u16, u16),
        proto: Proto,
    ) -> Option<(IpAddr, u16)> {
        let any = unspecified(addr.is_ipv6());
        let least = if addr.is_unspecified() { any } else { addr };
        let most = if addr.is_unspecified() { last_of(addr.is_ipv6()) } else { addr };
        let wildcard = self.0.get_key_value(&(proto, any)).filter(|_| !addr.is_unspecified());
        let related = self.0.range((proto, least)..=(proto, most));
        wildcard
            .into_iter()
            .chain(related)
            .find_map(|((_, held), ranges)| Some((*held, meets(ranges, range)?)))
    }
}

/// The first port of a range that disjoint ranges hold.
fn meets(held: &BTreeMap<u16, u16>, (first, last): (u16, u16)) -> Option<u16> {
    let before = held.range(..=first).next_back().filter(|(_, end)| **end >= first);
    match before {
        Some(_) => Some(first),
        None => held.range(first..=last).next().map(|(start, _)| *start),
    }
}

/// Every address of a family.
pub(super) fn unspecified(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn last_of(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::from_bits(u128::MAX).into() } else { Ipv4Addr::BROADCAST.into() }
}
