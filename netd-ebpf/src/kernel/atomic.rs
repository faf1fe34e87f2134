//! What several CPUs change at once.
//!
//! Law: each is one instruction of the machine, and of the strictest order: LLVM makes of a relaxed
//! addition an instruction that returns nothing. `core::sync::atomic` has none of them on this target.

use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

/// Sets bits; the word before.
#[inline(always)]
pub(super) fn fetch_or(word: &mut u64, bits: u64) -> u64 {
    // SAFETY: the reference is valid and aligned; other CPUs change the word by this alone.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(word, bits) }
}

/// Adds; the number before.
#[inline(always)]
pub(super) fn fetch_add(number: &mut u32, by: u32) -> u32 {
    // SAFETY: as above.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(number, by) }
}
