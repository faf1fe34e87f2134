//! What is known of datagrams in fragments.
//!
//! Law: an entry is inserted whole, all zero but for its time, and then changed in place.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use netd_common::map::counter::DropKey;
use netd_common::map::fragment::{
    FragmentKey, FragmentValue, HeldKey, HeldValue, Units, UnitsValue, WORD_UNITS, is_past,
};

use super::super::atomic::{fetch_add, fetch_or};
use super::super::repeat::repeat;
use super::{FRAGMENT_UNITS, FRAGMENTS, FRAGMENTS_HELD, now_s};
use crate::fragment::Passed;
use crate::packet::PacketBuf;

/// A new datagram's entry: too large for the stack.
#[btf_map(name = "units_blank")]
static UNITS_BLANK: PerCpuArray<UnitsValue, 1> = PerCpuArray::new();

/// An entry before it is inserted: too large for the stack.
#[btf_map(name = "held_draft")]
static HELD_DRAFT: PerCpuArray<HeldValue, 1> = PerCpuArray::new();

/// A datagram's entry, made if it is not there.
#[inline(always)]
pub(super) fn fragment(key: &FragmentKey) -> Option<&'static mut FragmentValue> {
    let found = FRAGMENTS.get_ptr_mut(key).or_else(|| {
        let _exists = FRAGMENTS.insert(key, FragmentValue::default(), 1);
        FRAGMENTS.get_ptr_mut(key)
    })?;
    // SAFETY: the entry's memory outlives the program; a lost race between CPUs leaves one of two
    // valid values in each field.
    Some(unsafe { &mut *found })
}

/// Holds a frame.
#[inline(always)]
pub(super) fn hold<B: PacketBuf>(key: &HeldKey, buf: &B, drop: &DropKey) -> bool {
    let Some(draft) = HELD_DRAFT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the slot is this CPU's own, all zero is a valid value, and it is used at once.
    let draft = unsafe { &mut *draft };
    let Some(len) = buf.copy_out(&mut draft.bytes) else {
        return false;
    };
    draft.held_s = now_s();
    draft.len = len;
    draft.drop = *drop;
    let draft: &HeldValue = draft;
    FRAGMENTS_HELD.insert(key, draft, 0).is_ok()
}

/// What the rounds of the loop over words find.
struct Row {
    value: &'static mut UnitsValue,
    units: Units,
    fresh: u64,
    passed: u64,
}

/// Marks units of a datagram as passed.
#[inline(always)]
pub(super) fn pass_units(
    key: &FragmentKey,
    units: Units,
) -> Option<(&'static mut UnitsValue, Passed)> {
    let mut row = Row { value: entry(key)?, units, fresh: 0, passed: 0 };
    #[allow(clippy::redundant_closure, reason = "the type of `mark` has a name that BTF refuses")]
    repeat(&mut row, units.words(), |row, round| mark(row, round));
    let passed = if row.passed == 0 {
        let before = fetch_add(&mut row.value.passed, units.count);
        Passed::None(before.wrapping_add(units.count))
    } else if row.fresh == 0 {
        Passed::All
    } else {
        Passed::Some
    };
    Some((row.value, passed))
}

/// Marks those in one word; true beyond the last.
#[inline(always)]
fn mark(row: &mut Row, round: u32) -> bool {
    let word = row.units.first / WORD_UNITS + round;
    let Some(place) = row.value.words.get_mut(word as usize) else {
        return true;
    };
    let mask = row.units.mask(word);
    let before = fetch_or(place, mask);
    row.passed |= before & mask;
    row.fresh |= mask & !before;
    false
}

/// A datagram's units, from none if its time is up or it is not there.
#[inline(always)]
fn entry(key: &FragmentKey) -> Option<&'static mut UnitsValue> {
    if let Some(found) = FRAGMENT_UNITS.get_ptr_mut(key) {
        // SAFETY: as in `fragment`.
        let found = unsafe { &mut *found };
        if !is_past(found.born_s, now_s()) {
            return Some(found);
        }
        let _absent = FRAGMENT_UNITS.remove(key);
    }
    let blank = UNITS_BLANK.get_ptr_mut(0)?;
    // SAFETY: the slot is this CPU's own, and nothing but the time is ever written to it.
    let blank = unsafe { &mut *blank };
    blank.born_s = now_s();
    let blank: &UnitsValue = blank;
    let _exists = FRAGMENT_UNITS.insert(key, blank, 1);
    // SAFETY: as in `fragment`.
    FRAGMENT_UNITS.get_ptr_mut(key).map(|made| unsafe { &mut *made })
}
