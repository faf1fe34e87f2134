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
    HostAddressValue, NetworkValue, SubnetKey, SubnetValue, TrustedKey, UplinkValue,
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
    type Key: Ord + Copy + Debug + Send + bytemuck::Pod + aya::Pod;
    /// The map's value.
    type Value: PartialEq + Copy + Debug + Send + bytemuck::Pod + aya::Pod;
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
    /// `trusted`.
    Trusted = TRUSTED, trusted: TrustedKey => u32;
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use netd_common::{EndpointIndex, MacAddr, NetworkIndex};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_difference_is_what_changed_and_what_is_gone() {
        let desired = BTreeMap::from([(1, 'a'), (2, 'b'), (4, 'd'), (6, 'f')]);
        let held = BTreeMap::from([(0, 'x'), (1, 'a'), (2, 'x'), (3, 'x'), (5, 'x'), (9, 'x')]);
        let delta = diff(&desired, &held);
        assert_eq!(delta.put, [(2, 'b'), (4, 'd'), (6, 'f')]);
        assert_eq!(delta.delete, [0, 3, 5, 9]);
        assert_eq!((delta.len(), delta.is_empty()), (7, false));
    }

    #[test]
    fn every_desired_map_is_a_table_once_in_either_order() {
        let mut puts = Names::default();
        in_put_order(&mut puts).unwrap();
        let mut deletes = Names::default();
        in_delete_order(&mut deletes).unwrap();
        deletes.0.reverse();
        assert_eq!(puts, deletes);
        let published = map::MAPS.iter().position(|map| *map == map::PUBLISHED_V6).unwrap();
        let mut desired: Vec<_> = map::MAPS[..=published].iter().map(|map| map.name).collect();
        desired.sort_unstable();
        puts.0.sort_unstable();
        assert_eq!(puts.0, desired);
    }

    proptest! {
        #[test]
        fn a_difference_makes_one_map_of_another(
            desired: BTreeMap<u8, bool>,
            held: BTreeMap<u8, bool>,
        ) {
            let mut map = held.clone();
            let delta = diff(&desired, &held);
            prop_assert!(delta.put.iter().all(|(key, value)| held.get(key) != Some(value)));
            prop_assert!(delta.delete.iter().all(|key| held.contains_key(key)));
            map.extend(delta.put);
            map.retain(|key, _| !delta.delete.contains(key));
            prop_assert_eq!(&map, &desired);
            prop_assert!(diff(&desired, &map).is_empty());
        }

        #[test]
        fn no_single_write_leaves_a_reference_to_a_missing_entry(
            desired in any_tables(),
            held in any_tables(),
        ) {
            let mut apply = Apply { desired: &desired, kernel: held, delete: false };
            in_put_order(&mut apply)?;
            apply.delete = true;
            in_delete_order(&mut apply)?;
            prop_assert_eq!(apply.kernel, desired);
        }
    }

    #[derive(Debug, Default, PartialEq)]
    struct Names(Vec<&'static str>);

    impl Visit for Names {
        type Error = Infallible;

        fn visit<T: Table>(&mut self) -> Result<(), Infallible> {
            self.0.push(T::SPEC.name);
            Ok(())
        }
    }

    /// Writes one entry at a time and checks all references after each.
    struct Apply<'a> {
        desired: &'a Tables,
        kernel: Tables,
        delete: bool,
    }

    impl Visit for Apply<'_> {
        type Error = TestCaseError;

        fn visit<T: Table>(&mut self) -> Result<(), TestCaseError> {
            let delta = T::delta(self.desired, &self.kernel);
            if self.delete {
                for key in delta.delete {
                    T::of_mut(&mut self.kernel).remove(&key);
                    check_references(&self.kernel)?;
                }
            } else {
                for (key, value) in delta.put {
                    T::of_mut(&mut self.kernel).insert(key, value);
                    check_references(&self.kernel)?;
                }
            }
            Ok(())
        }
    }

    fn check_references(tables: &Tables) -> Result<(), TestCaseError> {
        let network = |index: NetworkIndex| {
            index == NetworkIndex::HOST || tables.networks.contains_key(&index.0)
        };
        let endpoint = |ifindex| tables.endpoints.contains_key(&ifindex);
        let holder = |it: &AddressValue| it.endpoint == EndpointIndex::NONE || endpoint(it.ifindex);
        prop_assert!(tables.subnets_v4.values().all(|it| network(it.network)));
        prop_assert!(tables.subnets_v6.values().all(|it| network(it.network)));
        prop_assert!(tables.gateways.values().all(|it| network(NetworkIndex(*it))));
        prop_assert!(tables.host_addrs_v4.values().all(|it| network(it.network)));
        prop_assert!(tables.host_addrs_v6.values().all(|it| network(it.network)));
        prop_assert!(tables.endpoints.values().all(|it| network(it.network)));
        prop_assert!(tables.addresses_v4.keys().all(|it| network(it.network)));
        prop_assert!(tables.addresses_v4.values().all(holder));
        prop_assert!(tables.addresses_v6.keys().all(|it| network(it.network)));
        prop_assert!(tables.addresses_v6.values().all(holder));
        prop_assert!(tables.stations.keys().all(|it| network(it.network)));
        prop_assert!(tables.stations.values().all(|it| endpoint(it.ifindex)));
        prop_assert!(tables.members.keys().all(|it| network(it.network)));
        prop_assert!(tables.members.values().all(|it| endpoint(*it)));
        prop_assert!(tables.published_v4.values().all(|it| endpoint(it.ifindex)));
        prop_assert!(tables.published_v6.values().all(|it| endpoint(it.ifindex)));
        Ok(())
    }

    /// Tables of up to three networks with endpoints anywhere among them, without loose references.
    fn any_tables() -> impl Strategy<Value = Tables> {
        let networks = prop::collection::btree_set(1..4_u32, 1..4);
        let endpoints = prop::collection::btree_map(10..20_u32, (any::<usize>(), 0..4_u8), 0..8);
        (networks, endpoints).prop_map(|(networks, endpoints)| {
            let mut tables = Tables::default();
            for index in &networks {
                add_network(&mut tables, *index);
            }
            let networks: Vec<u32> = networks.into_iter().collect();
            for (slot, (ifindex, (pick, salt))) in (0..).zip(endpoints) {
                let network = NetworkIndex(networks[pick % networks.len()]);
                add_endpoint(&mut tables, network, IfIndex(ifindex), (slot, salt));
            }
            tables
        })
    }

    fn add_network(tables: &mut Tables, index: u32) {
        let network = NetworkIndex(index);
        let gateway = IfIndex(100 + index);
        let addr = Ipv4(index);
        tables.networks.insert(index, NetworkValue { gateway, ..NetworkValue::default() });
        tables.gateways.insert(gateway, index);
        tables.subnets_v4.insert(SubnetKey { prefix_len: 24, addr }, SubnetValue { network });
        tables.host_addrs_v4.insert(addr, HostAddressValue { ifindex: gateway, network });
        let holder = AddressValue { ifindex: gateway, ..AddressValue::default() };
        tables.addresses_v4.insert(AddressKey { network, addr }, holder);
    }

    fn add_endpoint(
        tables: &mut Tables,
        network: NetworkIndex,
        ifindex: IfIndex,
        (slot, salt): (u32, u8),
    ) {
        let endpoint = EndpointIndex(slot + 1);
        let mac = MacAddr([2, 0, 0, 0, 0, salt]);
        let value = EndpointValue { index: endpoint, network, mac, ..EndpointValue::default() };
        tables.endpoints.insert(ifindex, value);
        let station = StationKey { network, mac, pad: 0 };
        tables.stations.insert(station, StationValue { endpoint, ifindex });
        tables.members.insert(MemberKey { network, slot }, ifindex);
        let holder = AddressValue { endpoint, ifindex, mac, flags: 0 };
        let addr = Ipv6([0, 0, 0, salt.into()]);
        tables.addresses_v6.insert(AddressKey { network, addr }, holder);
        let key = PublishedKey { port: netd_common::Be16(salt.into()), ..PublishedKey::default() };
        let backend = PublishedValue { network, endpoint, ifindex, ..PublishedValue::default() };
        tables.published_v6.insert(key, backend);
    }
}
