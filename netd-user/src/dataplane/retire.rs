//! Counters of what is gone.
//!
//! Laws: an index that is given again counts from zero; the drops of endpoints and networks that are gone
//! stay in the host's sums, under two indexes that the packet path never writes, so that nothing counted
//! meanwhile is lost; the table of drops does not grow with the number of endpoints that ever were.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::{bytes_of, pod_read_unaligned};
use netd_common::map::counter::DropKey;
use netd_common::map::{COUNTERS, DROPS, PUBLISHED_HITS};
use netd_common::{EndpointIndex, NetworkIndex};

use super::{Dataplane, DataplaneError};
use crate::desired::Tables;

/// What counters are kept for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Living {
    endpoints: BTreeSet<EndpointIndex>,
    networks: BTreeSet<NetworkIndex>,
    publications: BTreeSet<u32>,
}

impl Living {
    /// What tables tell of.
    pub fn of(tables: &Tables) -> Self {
        let v4 = tables.published_v4.values().map(|published| published.slot);
        let v6 = tables.published_v6.values().map(|published| published.slot);
        Self {
            endpoints: tables.endpoints.values().map(|endpoint| endpoint.index).collect(),
            networks: tables.networks.keys().copied().map(NetworkIndex).collect(),
            publications: v4.chain(v6).collect(),
        }
    }

    /// Under which key a drop is to be counted instead, if what it was counted for is gone.
    fn heir(&self, key: &DropKey) -> Option<DropKey> {
        let is_kept = |index: NetworkIndex| {
            [NetworkIndex::HOST, NetworkIndex::GONE].contains(&index)
                || self.networks.contains(&index)
        };
        let counts = |index: EndpointIndex| {
            [EndpointIndex::NONE, EndpointIndex::GONE].contains(&index)
                || self.endpoints.contains(&index)
        };
        match (is_kept(key.network), counts(key.endpoint)) {
            (true, true) => None,
            (true, false) => Some(DropKey { endpoint: EndpointIndex::GONE, ..*key }),
            (false, _) => {
                Some(DropKey { endpoint: EndpointIndex::GONE, network: NetworkIndex::GONE, ..*key })
            }
        }
    }
}

impl Dataplane {
    /// Lets counters follow: those of what was there `before` and is not there `now` become zero, and
    /// drops of anything that is not there move to the sums.
    pub fn retire(&self, before: &Living, now: &Living) -> Result<(), DataplaneError> {
        let slots =
            |gone: Vec<u32>| gone.into_iter().flat_map(u32::to_ne_bytes).collect::<Vec<_>>();
        let endpoints = before.endpoints.difference(&now.endpoints).map(|index| index.0);
        let publications = before.publications.difference(&now.publications).copied();
        self.maps.get(&COUNTERS).delete(&slots(endpoints.collect()))?;
        self.maps.get(&PUBLISHED_HITS).delete(&slots(publications.collect()))?;
        self.move_drops(now)
    }

    /// Room is made first: a full table takes the sums then.
    fn move_drops(&self, now: &Living) -> Result<(), DataplaneError> {
        let map = self.maps.get(&DROPS);
        let mut gone = Vec::new();
        let mut sums: BTreeMap<DropKey, Vec<u64>> = BTreeMap::new();
        map.for_each(|key, value| {
            let Some(heir) = now.heir(&pod_read_unaligned(key)) else { return };
            gone.extend_from_slice(key);
            add(sums.entry(heir).or_default(), value);
        })?;
        map.delete(&gone)?;
        for (key, mut sum) in sums {
            if let Some(held) = map.lookup(bytes_of(&key))? {
                add(&mut sum, &held);
            }
            map.put(bytes_of(&key), bytemuck::cast_slice(&sum))?;
        }
        Ok(())
    }
}

/// Adds counters of all CPUs, which are whole words.
fn add(sum: &mut Vec<u64>, value: &[u8]) {
    let words = value.chunks_exact(size_of::<u64>()).map(pod_read_unaligned::<u64>);
    sum.resize(sum.len().max(value.len() / size_of::<u64>()), 0);
    for (sum, word) in sum.iter_mut().zip(words) {
        *sum = sum.saturating_add(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn living() -> Living {
        Living {
            endpoints: [EndpointIndex(4)].into(),
            networks: [NetworkIndex(7)].into(),
            publications: BTreeSet::new(),
        }
    }

    fn key(endpoint: EndpointIndex, network: NetworkIndex) -> DropKey {
        DropKey { endpoint, network, reason: 3, hook: 1 }
    }

    #[test]
    fn drops_of_what_lives_and_of_the_host_stay() {
        for endpoint in [EndpointIndex(4), EndpointIndex::NONE, EndpointIndex::GONE] {
            for network in [NetworkIndex(7), NetworkIndex::HOST, NetworkIndex::GONE] {
                assert_eq!(living().heir(&key(endpoint, network)), None);
            }
        }
    }

    #[test]
    fn drops_of_a_gone_endpoint_stay_with_their_network_and_reason() {
        let heir = living().heir(&key(EndpointIndex(5), NetworkIndex(7)));
        assert_eq!(heir, Some(key(EndpointIndex::GONE, NetworkIndex(7))));
    }

    #[test]
    fn drops_of_a_gone_network_stay_with_their_reason() {
        for endpoint in [EndpointIndex(5), EndpointIndex::NONE, EndpointIndex::GONE] {
            let heir = living().heir(&key(endpoint, NetworkIndex(8)));
            assert_eq!(heir, Some(key(EndpointIndex::GONE, NetworkIndex::GONE)));
        }
    }

    #[test]
    fn counters_add_up_cpu_by_cpu() {
        let mut sum = Vec::new();
        add(&mut sum, bytemuck::bytes_of(&[1u64, 2, 3, 4]));
        add(&mut sum, bytemuck::bytes_of(&[10u64, 20, 30, 40]));
        assert_eq!(sum, [11, 22, 33, 44]);
    }
}
