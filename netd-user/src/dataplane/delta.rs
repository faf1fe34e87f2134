//! What separates the tables that should be from those that are, and the one order of writing it.
//!
//! Laws: a difference is one merge pass over two sorted maps and writes nothing that is already so.
//! Puts go in `in_put_order`, then deletes in `in_delete_order`: at no single write does an entry refer
//! to one that is missing. No I/O here.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Debug;

use netd_common::map::config::Config as ConfigValue;
use netd_common::map::endpoint::{
    AddressKey, AddressValue, EndpointValue, MemberKey, StationKey, StationValue,
};
use netd_common::map::network::{
    HostAddressValue, NetworkValue, SubnetKey, SubnetValue, UplinkValue,
};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::map::{self, MapSpec};
use netd_common::{IfIndex, Ipv4, Ipv6};

use crate::desired::Tables;

/// The writes that turn one table into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<K, V> {
    /// Entries that are new or have changed, in order of their keys.
    pub put: Vec<(K, V)>,
    /// Keys to remove, in order.
    pub delete: Vec<K>,
}

impl<K, V> Delta<K, V> {
    /// How many writes.
    pub fn len(&self) -> usize {
        self.put.len() + self.delete.len()
    }

    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty()
    }
}

impl<K, V> Default for Delta<K, V> {
    fn default() -> Self {
        Self { put: Vec::new(), delete: Vec::new() }
    }
}

/// What turns `held` into `desired`.
pub fn diff<K, V>(desired: &BTreeMap<K, V>, held: &BTreeMap<K, V>) -> Delta<K, V>
where
    K: Ord + Clone,
    V: PartialEq + Clone,
{
    let mut delta = Delta::default();
    let mut held = held.iter().peekable();
    for (key, value) in desired {
        while let Some((gone, _)) = held.next_if(|(other, _)| *other < key) {
            delta.delete.push(gone.clone());
        }
        match held.peek().map(|(other, _)| (*other).cmp(key)) {
            Some(Ordering::Equal) => {
                if held.next().is_some_and(|(_, old)| old != value) {
                    delta.put.push((key.clone(), value.clone()));
                }
            }
            Some(Ordering::Greater | Ordering::Less) | None => {
                delta.put.push((key.clone(), value.clone()));
            }
        }
    }
    delta.delete.extend(held.map(|(key, _)| key.clone()));
    delta
}

/// A desired table and the map that holds it in the kernel. An entry of an array map is absent where
/// its slot is all zero: deleting it means zeroing it.
pub trait Table {
    /// The map's key.
    type Key: Ord + Copy + Debug + bytemuck::Pod + aya::Pod;
    /// The map's value.
    type Value: PartialEq + Copy + Debug + bytemuck::Pod + aya::Pod;
    /// The map.
    const SPEC: MapSpec;

    /// The entries.
    fn of(tables: &Tables) -> &BTreeMap<Self::Key, Self::Value>;

    /// The entries, to fill.
    fn of_mut(tables: &mut Tables) -> &mut BTreeMap<Self::Key, Self::Value>;

    /// What turns this table of `held` into that of `desired`.
    fn delta(desired: &Tables, held: &Tables) -> Delta<Self::Key, Self::Value> {
        diff(Self::of(desired), Self::of(held))
    }
}

/// Does one thing to every table in turn.
pub trait Visit {
    /// Why it stopped.
    type Error;

    /// Does it to table `T`.
    fn visit<T: Table>(&mut self) -> Result<(), Self::Error>;
}

macro_rules! tables {
    ($($(#[doc = $doc:literal])+ $name:ident = $spec:ident, $field:ident: $key:ty => $value:ty;)+) => {
        $($(#[doc = $doc])+
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Table for $name {
            type Key = $key;
            type Value = $value;
            const SPEC: MapSpec = map::$spec;

            fn of(tables: &Tables) -> &BTreeMap<$key, $value> {
                &tables.$field
            }

            fn of_mut(tables: &mut Tables) -> &mut BTreeMap<$key, $value> {
                &mut tables.$field
            }
        })+

        /// Visits every table, those referred to before those that refer to them. The configuration is
        /// last, so that a new generation finds all that it announces.
        pub fn in_put_order<V: Visit>(visitor: &mut V) -> Result<(), V::Error> {
            $(visitor.visit::<$name>()?;)+
            Ok(())
        }

        tables!(@reverse [] $($name)+);
    };
    (@reverse [$($reversed:ident)*] $name:ident $($rest:ident)*) => {
        tables!(@reverse [$name $($reversed)*] $($rest)*);
    };
    (@reverse [$($reversed:ident)+]) => {
        /// Visits every table in the reverse of `in_put_order`.
        pub fn in_delete_order<V: Visit>(visitor: &mut V) -> Result<(), V::Error> {
            $(visitor.visit::<$reversed>()?;)+
            Ok(())
        }
    };
}

tables! {
    /// `networks`.
    Networks = NETWORKS, networks: u32 => NetworkValue;
    /// `subnets_v4`.
    SubnetsV4 = SUBNETS_V4, subnets_v4: SubnetKey<Ipv4> => SubnetValue;
    /// `subnets_v6`.
    SubnetsV6 = SUBNETS_V6, subnets_v6: SubnetKey<Ipv6> => SubnetValue;
    /// `gateways`.
    Gateways = GATEWAYS, gateways: IfIndex => u32;
    /// `host_addrs_v4`.
    HostAddrsV4 = HOST_ADDRS_V4, host_addrs_v4: Ipv4 => HostAddressValue;
    /// `host_addrs_v6`.
    HostAddrsV6 = HOST_ADDRS_V6, host_addrs_v6: Ipv6 => HostAddressValue;
    /// `uplinks`.
    Uplinks = UPLINKS, uplinks: IfIndex => UplinkValue;
    /// `endpoints`.
    Endpoints = ENDPOINTS, endpoints: IfIndex => EndpointValue;
    /// `addresses_v4`.
    AddressesV4 = ADDRESSES_V4, addresses_v4: AddressKey<Ipv4> => AddressValue;
    /// `addresses_v6`.
    AddressesV6 = ADDRESSES_V6, addresses_v6: AddressKey<Ipv6> => AddressValue;
    /// `stations`.
    Stations = STATIONS, stations: StationKey => StationValue;
    /// `members`.
    Members = MEMBERS, members: MemberKey => IfIndex;
    /// `published_v4`.
    PublishedV4 = PUBLISHED_V4, published_v4: PublishedKey<Ipv4> => PublishedValue<Ipv4>;
    /// `published_v6`.
    PublishedV6 = PUBLISHED_V6, published_v6: PublishedKey<Ipv6> => PublishedValue<Ipv6>;
    /// `config`.
    Config = CONFIG, config: u32 => ConfigValue;
}
