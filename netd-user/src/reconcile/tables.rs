//! The writes that turn the held tables into the desired ones, as bytes and in order. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytemuck::{Pod, bytes_of};
use netd_common::Address;
use netd_common::map::endpoint::{ADDRESS_IS_GATEWAY, AddressKey, AddressValue};
use netd_common::map::{MapSpec, PUBLISHED_V4, PUBLISHED_V6};

use super::effects::Entries;
use super::merge::beside;
use crate::dataplane::delta::{Config, Table, Visit, in_delete_order, in_put_order};
use crate::desired::Tables;

/// One write of one table.
pub(super) struct Write {
    /// The table's map.
    pub(super) map: MapSpec,
    /// What is written or deleted.
    pub(super) entries: Entries,
    /// Makes the same change to what is known to be held.
    pub(super) adopt: Box<dyn FnOnce(&mut Tables) + Send>,
}

/// All writes but the configuration's, which carries the generation and is the reconciler's own.
#[derive(Default)]
pub(super) struct Plan {
    /// Entries that published ports stand on.
    pub(super) puts: Vec<Write>,
    /// Published ports: written when all they lead to works.
    pub(super) publish: Vec<Write>,
    /// Entries to remove, those that refer first.
    pub(super) deletes: Vec<Write>,
}

impl Plan {
    /// What turns `held` into `desired`.
    pub(super) fn new(desired: &Tables, held: &Tables) -> Self {
        let mut puts = Puts { desired, held, plan: Self::default() };
        let Ok(()) = in_put_order(&mut puts);
        let mut deletes = Deletes { desired, held, plan: puts.plan };
        let Ok(()) = in_delete_order(&mut deletes);
        deletes.plan
    }

    /// Nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.publish.is_empty() && self.deletes.is_empty()
    }
}

struct Puts<'a> {
    desired: &'a Tables,
    held: &'a Tables,
    plan: Plan,
}

impl Visit for Puts<'_> {
    type Error = std::convert::Infallible;

    fn visit<T: Table>(&mut self) -> Result<(), Self::Error> {
        let put = T::delta(self.desired, self.held).put;
        if put.is_empty() || is_config::<T>() {
            return Ok(());
        }
        let entries = Entries {
            keys: joined(put.iter().map(|(key, _)| key)),
            values: joined(put.iter().map(|(_, value)| value)),
            count: put.len(),
        };
        let adopt = move |tables: &mut Tables| T::of_mut(tables).extend(put);
        let write = Write { map: T::SPEC, entries, adopt: Box::new(adopt) };
        if [PUBLISHED_V4.name, PUBLISHED_V6.name].contains(&T::SPEC.name) {
            self.plan.publish.push(write);
        } else {
            self.plan.puts.push(write);
        }
        Ok(())
    }
}

struct Deletes<'a> {
    desired: &'a Tables,
    held: &'a Tables,
    plan: Plan,
}

impl Visit for Deletes<'_> {
    type Error = std::convert::Infallible;

    fn visit<T: Table>(&mut self) -> Result<(), Self::Error> {
        let delete = T::delta(self.desired, self.held).delete;
        if delete.is_empty() || is_config::<T>() {
            return Ok(());
        }
        let entries =
            Entries { keys: joined(delete.iter()), values: Vec::new(), count: delete.len() };
        let adopt = move |tables: &mut Tables| {
            for key in &delete {
                T::of_mut(tables).remove(key);
            }
        };
        self.plan.deletes.push(Write { map: T::SPEC, entries, adopt: Box::new(adopt) });
        Ok(())
    }
}

/// Addresses of endpoints that no network holds any more.
pub(super) fn addresses_gone(desired: &Tables, held: &Tables) -> BTreeSet<IpAddr> {
    let v4 = gone(&desired.addresses_v4, &held.addresses_v4).map(IpAddr::from);
    let v6 = gone(&desired.addresses_v6, &held.addresses_v6).map(IpAddr::from);
    v4.chain(v6).collect()
}

/// A link-local address says nothing without its network: it is nobody's peer.
fn gone<'a, A: Address>(
    desired: &'a BTreeMap<AddressKey<A>, AddressValue>,
    held: &'a BTreeMap<AddressKey<A>, AddressValue>,
) -> impl Iterator<Item = A> + 'a {
    let removed = beside(held, desired).filter(|(_, _, desired)| desired.is_none());
    let endpoints = removed.filter(|(_, value, _)| value.flags & ADDRESS_IS_GATEWAY == 0);
    endpoints.map(|(key, ..)| key.addr).filter(|addr| !addr.is_link_local())
}

fn joined<'a, T: Pod>(items: impl ExactSizeIterator<Item = &'a T>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(items.len() * size_of::<T>());
    items.for_each(|item| bytes.extend_from_slice(bytes_of(item)));
    bytes
}

fn is_config<T: Table>() -> bool {
    T::SPEC.name == Config::SPEC.name
}
