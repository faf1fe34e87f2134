//! Loops that the verifier follows once.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;

/// What `bpf_loop` passes on to each round.
struct Round<'a, T, G> {
    tables: &'a mut T,
    body: G,
}

impl<T, G: FnMut(&mut T, u32) -> bool> Round<'_, T, G> {
    extern "C" fn run(index: u32, round: *mut Self) -> i64 {
        // SAFETY: bpf_loop passes on what `repeat` gave it.
        let round = unsafe { &mut *round };
        i64::from((round.body)(round.tables, index))
    }
}

/// Calls `body` with 0, 1, ... until it says true or `rounds` are over.
#[inline(always)]
pub(super) fn repeat<T, G: FnMut(&mut T, u32) -> bool>(tables: &mut T, rounds: u32, body: G) {
    let mut round = Round { tables, body };
    // SAFETY: the callback takes an index and the context given here, which outlives the loop.
    unsafe { bpf_loop(rounds, Round::<'_, T, G>::run as *mut c_void, (&raw mut round).cast(), 0) };
}
