//! A first fragment that others wait for, and they behind it.
//!
//! Law: a frame that waits is sent once, and only if it was still there afterwards: its memory may
//! have become another's while it was read.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, BPF_F_INVALIDATE_HASH, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_loop, bpf_skb_change_tail, bpf_skb_store_bytes,
};
use netd_common::map::counter::FlowStat;
use netd_common::map::fragment::{HELD_MAX, HeldKey, held_len};

use super::maps::{self, FRAGMENTS_HELD, Maps};
use super::{INGRESS, count};
use crate::tables::Tables;
use crate::verdict::Decision;

/// The packet, and the key of those that wait for it.
struct Queue {
    ctx: *mut __sk_buff,
    key: HeldKey,
}

/// Sends the first fragment to its own hook again and those that wait for it behind it, in their
/// order: now each finds what the first left behind. The packet itself ends here.
#[inline(never)]
pub(super) fn again(ctx: *mut __sk_buff, hook: u32) -> i32 {
    let Some(works) = maps::works(hook) else {
        return TC_ACT_SHOT;
    };
    count::trace(Decision::Again.into(), &works.ledger);
    let piece = &works.piece;
    let mut queue = Queue { ctx, key: HeldKey { datagram: piece.key, slot: 0 } };
    receive(ctx);
    let rounds = piece.waiting.min(HELD_MAX);
    // SAFETY: the callback takes an index and the context given here, which outlives the loop.
    unsafe { bpf_loop(rounds, release as *mut c_void, (&raw mut queue).cast(), 0) };
    TC_ACT_SHOT
}

/// As if the interface had received it anew.
#[inline(always)]
fn receive(ctx: *mut __sk_buff) {
    // SAFETY: the context is the one the kernel gave the program.
    let ifindex = unsafe { (*ctx).ifindex };
    // SAFETY: as above; a vanished device only fails the copy.
    unsafe { bpf_clone_redirect(ctx, ifindex, INGRESS) };
}

extern "C" fn release(slot: u32, queue: *mut Queue) -> i64 {
    // SAFETY: bpf_loop passes on what `again` gave it.
    let queue = unsafe { &mut *queue };
    queue.key.slot = slot;
    let (ctx, key) = (queue.ctx, &queue.key);
    if let Some(is_drop) = become_held(ctx, key)
        && FRAGMENTS_HELD.remove(key).is_ok()
    {
        if is_drop {
            Maps::new(ctx.cast()).count_flow(FlowStat::FragmentsReleased);
        }
        receive(ctx);
    }
    0
}

/// Makes the packet the frame that waits; whether that would have been a drop.
#[inline(always)]
fn become_held(ctx: *mut __sk_buff, key: &HeldKey) -> Option<bool> {
    const FLAGS: u64 = (BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH) as u64;
    // SAFETY: read at once; `release` asks whether it was still there afterwards.
    let held = unsafe { FRAGMENTS_HELD.get(key) }?;
    let len = held_len(held.len);
    // SAFETY: takes plain numbers; the kernel checks the length.
    let resized = unsafe { bpf_skb_change_tail(ctx, len, 0) };
    if resized != 0 {
        return None;
    }
    // SAFETY: the helper reads `len` bytes, and there are as many.
    let stored =
        unsafe { bpf_skb_store_bytes(ctx.cast(), 0, held.bytes.as_ptr().cast(), len, FLAGS) };
    (stored == 0).then_some(held.drop.reason != 0)
}
