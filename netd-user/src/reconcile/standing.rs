//! The links that stand as they were seen: one pass over two looks at the host. Pure.
//!
//! Law: asked for names in ascending order, as sets and maps tell them, and for each in any number.

use std::collections::btree_map::Iter;
use std::iter::Peekable;

use crate::facts::{HostFacts, LinkFact};
use crate::model::LinkName;

/// Links that are in both looks with one index.
pub(super) struct Links<'a> {
    before: Peekable<Iter<'a, LinkName, LinkFact>>,
    now: Peekable<Iter<'a, LinkName, LinkFact>>,
}

impl<'a> Links<'a> {
    /// Between an earlier look and one of now.
    pub(super) fn between(before: &'a HostFacts, now: &'a HostFacts) -> Self {
        Self { before: before.links.iter().peekable(), now: now.links.iter().peekable() }
    }

    /// The link as it is now, if it is the one that was seen.
    pub(super) fn find(&mut self, name: &str) -> Option<&'a LinkFact> {
        let before = advance(&mut self.before, name)?;
        let now = advance(&mut self.now, name)?;
        (before.ifindex == now.ifindex).then_some(now)
    }
}

/// Goes on to a name, if it is there.
fn advance<'a>(
    links: &mut Peekable<Iter<'a, LinkName, LinkFact>>,
    name: &str,
) -> Option<&'a LinkFact> {
    while links.next_if(|(found, _)| &***found < name).is_some() {}
    links.peek().filter(|(found, _)| &***found == name).map(|(_, link)| *link)
}

#[cfg(test)]
mod tests {
    use netd_common::IfIndex;

    use super::*;

    fn host(links: &[(&str, u32)]) -> HostFacts {
        let fact = |ifindex| LinkFact { ifindex: IfIndex(ifindex), ..LinkFact::default() };
        let links = links.iter().map(|(name, index)| ((*name).into(), fact(*index)));
        HostFacts { links: links.collect(), ..HostFacts::default() }
    }

    #[test]
    fn a_link_stands_that_is_in_both_looks_with_one_index() {
        let before = host(&[("a", 1), ("b", 2), ("d", 4), ("e", 5)]);
        let now = host(&[("a", 1), ("b", 9), ("c", 3), ("e", 5)]);
        let mut links = Links::between(&before, &now);
        let found = ["", "a", "a", "b", "c", "d", "e", "f"].map(|name| links.find(name).is_some());
        assert_eq!(found, [false, true, true, false, false, false, true, false]);
    }
}
