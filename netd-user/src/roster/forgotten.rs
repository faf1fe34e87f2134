//! Endpoints for which no end will ever be told: made for a container that the engine has given up,
//! while it or netd was away.
//!
//! Laws: an endpoint is forgotten only where the kernel and the engine agree, twice and `GRACE_S`
//! apart: nobody has taken its interface, and the engine, which knows the endpoint's network, lists it
//! with no container. Networks are never taken away: the engine refuses to lose them.

use std::collections::{BTreeMap, BTreeSet};

use super::Roster;
use crate::facts::HostFacts;
use crate::model::{Endpoint, EndpointId, Inside, Model};

/// Between making an endpoint and taking its interface an engine calls netd twice, and no call takes
/// 10 s: whoever is not done after that is not under way.
const GRACE_S: u64 = 25;

/// Endpoints that looked forgotten, and since which listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    since_s: BTreeMap<EndpointId, u64>,
}

impl Suspects {
    /// Takes note of a roster; says which endpoints are forgotten.
    pub fn judge(
        &mut self,
        model: &Model,
        facts: &HostFacts,
        roster: &Roster,
    ) -> BTreeSet<EndpointId> {
        let Some(now_s) = roster.listed_s else { return BTreeSet::new() };
        let known = roster.containers_by_endpoint();
        let suspect = |endpoint: &Endpoint| {
            is_unclaimed(endpoint, facts)
                && roster.networks.contains_key(&endpoint.network)
                && !known.contains_key(&endpoint.id)
        };
        let suspects = model.endpoints.values().filter(|endpoint| suspect(endpoint));
        let since = |id: EndpointId| self.since_s.get(&id).copied().unwrap_or(now_s);
        self.since_s = suspects.map(|endpoint| (endpoint.id, since(endpoint.id))).collect();
        let ripe =
            self.since_s.iter().filter(|(_, since)| now_s.saturating_sub(**since) >= GRACE_S);
        ripe.map(|(id, _)| *id).collect()
    }
}

/// Whether an engine has made an endpoint and nobody has taken its interface.
pub fn is_unclaimed(endpoint: &Endpoint, facts: &HostFacts) -> bool {
    match endpoint.inside {
        Inside::Netd => false,
        Inside::Engine { .. } => {
            endpoint.sandbox.is_none() || facts.links.contains_key(&endpoint.interface)
        }
    }
}
