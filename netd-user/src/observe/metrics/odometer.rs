//! Counters that outlive the slots they are read from.
//!
//! Laws: a total never goes backwards. What a slot has counted since the last reading belongs to its
//! owner at this reading; so a slot that changes hands starts its new owner at zero, and at most the
//! last moments of the old one are counted for the new. A slot that was zeroed starts anew. On the
//! first reading after a start all that a slot holds is its owner's, since the kernel side counts on
//! while the daemon restarts.

use std::collections::BTreeMap;

/// Totals by owner `O`, of slots `S` with `N` counters each.
#[derive(Debug)]
pub(super) struct Odometer<S, O, const N: usize> {
    last: BTreeMap<S, [u64; N]>,
    totals: BTreeMap<O, [u64; N]>,
}

impl<S: Ord + Copy, O: Ord, const N: usize> Odometer<S, O, N> {
    pub(super) fn new() -> Self {
        Self { last: BTreeMap::new(), totals: BTreeMap::new() }
    }

    /// Takes a reading of all slots; a slot that is left out holds zero.
    pub(super) fn read(
        &mut self,
        slots: impl IntoIterator<Item = (S, [u64; N])>,
        owner: impl Fn(&S) -> Option<O>,
    ) {
        let mut now = BTreeMap::new();
        for (slot, counters) in slots {
            let since = since(self.last.get(&slot), &counters);
            if let Some(owner) = owner(&slot) {
                let total = self.totals.entry(owner).or_insert([0; N]);
                for (total, count) in total.iter_mut().zip(since) {
                    *total = total.saturating_add(count);
                }
            }
            now.insert(slot, counters);
        }
        self.last = now;
    }

    /// Forgets owners that are no more.
    pub(super) fn retain(&mut self, lives: impl Fn(&O) -> bool) {
        self.totals.retain(|owner, _| lives(owner));
    }

    /// An owner's total so far.
    pub(super) fn total(&self, owner: &O) -> [u64; N] {
        self.totals.get(owner).copied().unwrap_or([0; N])
    }

    /// All totals.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&O, &[u64; N])> {
        self.totals.iter()
    }
}

/// A counter below its last reading was zeroed in between.
fn since<const N: usize>(last: Option<&[u64; N]>, now: &[u64; N]) -> [u64; N] {
    let Some(last) = last else {
        return *now;
    };
    std::array::from_fn(|i| now[i].checked_sub(last[i]).unwrap_or(now[i]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(odometer: &mut Odometer<u32, char, 1>, value: u64, owner: char) -> u64 {
        odometer.read([(1, [value])], |_| Some(owner));
        odometer.total(&owner)[0]
    }

    #[test]
    fn a_slot_that_changes_hands_starts_its_new_owner_at_zero() {
        let mut odometer = Odometer::new();
        assert_eq!(read(&mut odometer, 100, 'a'), 100);
        assert_eq!(read(&mut odometer, 150, 'a'), 150);
        assert_eq!(read(&mut odometer, 150, 'b'), 0);
        assert_eq!(read(&mut odometer, 157, 'b'), 7);
        assert_eq!(odometer.total(&'a'), [150]);
        odometer.retain(|owner| *owner == 'b');
        assert_eq!(odometer.total(&'a'), [0]);
    }

    #[test]
    fn a_slot_that_was_zeroed_starts_anew() {
        let mut odometer = Odometer::new();
        read(&mut odometer, 100, 'a');
        assert_eq!(read(&mut odometer, 5, 'a'), 105);
        odometer.read([], |_| Some('a'));
        assert_eq!(read(&mut odometer, 200, 'a'), 305);
    }

    proptest! {
        #[test]
        fn no_total_goes_backwards(readings: Vec<([u16; 3], [u8; 3])>) {
            let mut odometer: Odometer<usize, u8, 1> = Odometer::new();
            let mut before = BTreeMap::new();
            for (values, owners) in readings {
                let slots = values.iter().map(|value| [u64::from(*value)]).enumerate();
                odometer.read(slots, |slot| Some(owners[*slot] % 4));
                for (owner, total) in odometer.totals() {
                    prop_assert!(before.get(owner).is_none_or(|old| old <= total));
                    before.insert(*owner, *total);
                }
            }
        }
    }
}
