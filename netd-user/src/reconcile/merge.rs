//! Two sorted collections side by side, in one pass instead of a search for each key. Pure.
//!
//! Law: both sides are told in ascending order, as maps and sets tell them.

use std::collections::BTreeMap;

/// What is wanted, with what is held under the same key.
pub(super) fn beside<'w, 'h, K: Ord, W, H>(
    wanted: &'w BTreeMap<K, W>,
    held: &'h BTreeMap<K, H>,
) -> impl Iterator<Item = (&'w K, &'w W, Option<&'h H>)> {
    let mut held = held.iter().peekable();
    wanted.iter().map(move |(key, wanted)| {
        while held.next_if(|(other, _)| **other < *key).is_some() {}
        (key, wanted, held.next_if(|(other, _)| **other == *key).map(|(_, found)| found))
    })
}

/// What is wanted and not held so: under the same key is nothing, something unknown, or something else.
pub(super) fn changed<'w, K: Ord, V: PartialEq>(
    wanted: &'w BTreeMap<K, V>,
    held: &BTreeMap<K, Option<V>>,
) -> Vec<(&'w K, &'w V)> {
    let changed = beside(wanted, held)
        .filter(|(_, wanted, held)| held.and_then(Option::as_ref) != Some(wanted));
    changed.map(|(key, wanted, _)| (key, wanted)).collect()
}

/// Keys that are not among others.
pub(super) fn without<'a, K: Ord + 'a>(
    keys: impl IntoIterator<Item = &'a K>,
    others: impl IntoIterator<Item = &'a K>,
) -> impl Iterator<Item = &'a K> {
    let mut others = others.into_iter().peekable();
    keys.into_iter().filter(move |key| {
        while others.next_if(|other| other < key).is_some() {}
        others.next_if(|other| other == key).is_none()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_pass_finds_what_a_search_for_each_key_finds(
            wanted: BTreeMap<u8, bool>,
            held: BTreeMap<u8, bool>,
        ) {
            let searched = wanted.iter().map(|(key, value)| (key, value, held.get(key)));
            prop_assert!(beside(&wanted, &held).eq(searched));
        }

        #[test]
        fn keys_without_others_are_their_difference(keys: BTreeSet<u8>, others: BTreeSet<u8>) {
            prop_assert!(without(&keys, &others).eq(keys.difference(&others)));
        }
    }
}
