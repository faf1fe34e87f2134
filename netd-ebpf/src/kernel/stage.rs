//! The stages of a packet's way as the kernel sees them: functions of their own.
//!
//! Law: each is a global function, which the verifier looks at once, apart from its callers; and
//! all of them take turns on the one stack of 512 bytes. What one leaves to another stands in this
//! CPU's notes.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use netd_common::wire::ETHERTYPE_IPV4;
use netd_common::{DropReason, IfIndex, V4, V6};

use super::maps::{self, Maps};
use super::redirect;
use super::skb::Skb;
use crate::packet::Io;
use crate::pipeline;
use crate::verdict::{Decision, Stage, Verdict, Version};

/// A stage: from a packet and its hook to a verdict's word.
pub type Function = extern "C" fn(*mut __sk_buff, u32) -> u64;

/// What a container's packet is left to before the stages of all hooks.
#[inline(always)]
pub(super) fn sort_out(ctx: *mut __sk_buff, hook: u32, word: u64) -> u64 {
    if word == left_to(Stage::Frame, Version::V4) {
        return frame(ctx, hook);
    }
    after(word, Stage::Sort, [sort_v4, sort_v6], (ctx, hook))
}

/// The later stages, in the order in which one leaves a packet to another.
#[inline(always)]
pub(super) fn go_on(ctx: *mut __sk_buff, hook: u32, word: u64) -> u64 {
    if Verdict::from_word(word).is_last() { word } else { all(ctx, hook, word) }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn all(ctx: *mut __sk_buff, hook: u32, word: u64) -> u64 {
    let packet = (ctx, hook);
    let mut word = after(word, Stage::Gather, [gather_v4, gather_v6], packet);
    word = guess(word, packet);
    word = after(word, Stage::Explain, [explain_v4, explain_v6], packet);
    word = after(word, Stage::CatchUp, [catch_up_v4, catch_up_v6], packet);
    word = after(word, Stage::Review, [judge_v4, judge_v6], packet);
    word = after(word, Stage::Renew, [renew_v4, renew_v6], packet);
    word = after(word, Stage::Advance, [advance_v4, advance_v6], packet);
    word = after(word, Stage::Begin, [judge_v4, judge_v6], packet);
    word = after(word, Stage::Open, [open_v4, open_v6], packet);
    word = after(word, Stage::Claim, [claim, claim], packet);
    after(word, Stage::Carry, [carry_v4, carry_v6], packet)
}

/// A fragment before its first is decided without ports, and then held if they matter.
#[inline(always)]
fn guess(word: u64, packet: (*mut __sk_buff, u32)) -> u64 {
    let guessed = after(word, Stage::Guess, [judge_v4, judge_v6], packet);
    if guessed == word { word } else { hold(packet.0, packet.1, guessed) }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hold(ctx: *mut __sk_buff, hook: u32, word: u64) -> u64 {
    let Some(works) = maps::works(hook) else {
        return 0;
    };
    let mut io = Io::new(Skb::new(ctx), Maps::new(ctx.cast()));
    io.ledger = works.ledger;
    pipeline::hold(&mut io, &mut works.piece, (Verdict::from_word(word), hook as u16)).word()
}

#[inline(always)]
fn left_to(stage: Stage, version: Version) -> u64 {
    Verdict::from(Decision::Later(stage, version)).word()
}

#[inline(always)]
fn after(
    word: u64,
    stage: Stage,
    [v4, v6]: [Function; 2],
    (ctx, hook): (*mut __sk_buff, u32),
) -> u64 {
    if word == left_to(stage, Version::V4) {
        v4(ctx, hook)
    } else if word == left_to(stage, Version::V6) {
        v6(ctx, hook)
    } else {
        word
    }
}

/// For an argument that a function does not use LLVM passes on whatever is at hand, which the
/// verifier refuses to call a context: so each function uses it.
#[inline(always)]
fn used(ctx: *mut __sk_buff) -> *mut __sk_buff {
    // SAFETY: the context is the one the kernel gave the program.
    let _len = unsafe { core::ptr::read_volatile(&raw const (*ctx).len) };
    ctx
}

/// Functions of stages: of each the notes that it works on.
macro_rules! functions {
    ($($name:ident = $stage:ident$(::<$family:ty>)?, |$works:ident| $($notes:expr),+;)+) => {$(
        /// One stage.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(ctx: *mut __sk_buff, hook: u32) -> u64 {
            let Some($works) = maps::works(hook) else {
                return 0;
            };
            let mut io = Io::new(Skb::new(used(ctx)), Maps::new(ctx.cast()));
            io.ledger = $works.ledger;
            let verdict = pipeline::$stage$(::<$family, Skb, Maps>)?(&mut io, $($notes),+);
            $works.note(&io);
            verdict.word()
        }
    )+};
}

/// The first stages, one for each hook: the packet is counted against nobody yet.
macro_rules! first_functions {
    ($($name:ident = $stage:ident;)+) => {$(
        /// A hook's first stage.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(ctx: *mut __sk_buff, hook: u32) -> u64 {
            let Some(works) = maps::works(hook) else {
                return 0;
            };
            let mut io = Io::new(Skb::new(ctx), Maps::new(ctx.cast()));
            let verdict = pipeline::$stage(&mut io, works);
            works.note(&io);
            verdict.word()
        }
    )+};
}

first_functions! {
    first_from_container = from_container;
    first_to_container = to_container;
    first_from_host = from_host;
    first_from_netdev = from_netdev;
    first_to_netdev = to_netdev;
    first_from_l3dev = from_l3dev;
    first_to_l3dev = to_l3dev;
}

functions! {
    frame = frame, |works| works;
    sort_v4 = sort::<V4>, |works| &mut works.v4, &works.frame, &works.endpoint;
    sort_v6 = sort::<V6>, |works| &mut works.v6, &works.frame, &works.endpoint;
    gather_v4 = gather::<V4>, |works| &mut works.v4, &mut works.piece;
    gather_v6 = gather::<V6>, |works| &mut works.v6, &mut works.piece;
    explain_v4 = explain::<V4>, |works| &mut works.v4;
    explain_v6 = explain::<V6>, |works| &mut works.v6;
    catch_up_v4 = catch_up::<V4>, |works| &mut works.v4;
    catch_up_v6 = catch_up::<V6>, |works| &mut works.v6;
    judge_v4 = judge::<V4>, |works| &mut works.v4;
    judge_v6 = judge::<V6>, |works| &mut works.v6;
    renew_v4 = renew::<V4>, |works| &mut works.v4;
    renew_v6 = renew::<V6>, |works| &mut works.v6;
    claim = claim, |works| &works.piece;
    advance_v4 = advance::<V4>, |works| &mut works.v4;
    advance_v6 = advance::<V6>, |works| &mut works.v6;
    open_v4 = open::<V4>, |works| &mut works.v4;
    open_v6 = open::<V6>, |works| &mut works.v6;
    carry_v4 = carry::<V4>, |works| &mut works.v4;
    carry_v6 = carry::<V6>, |works| &mut works.v6;
}

/// The sender of a dropped packet is told why, if it is to be told at all.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn complain(ctx: *mut __sk_buff, hook: u32, reason: u32) -> i32 {
    let (Some(works), Some(reason)) = (maps::works(hook), DropReason::from_number(reason as u8))
    else {
        return TC_ACT_SHOT;
    };
    let mut io = Io::new(Skb::new(ctx), Maps::new(ctx.cast()));
    // SAFETY: the context is the one the kernel gave the program.
    if unsafe { (*ctx).protocol } == u32::from(ETHERTYPE_IPV4.0) {
        let told = pipeline::complain::<V4, Skb, Maps>(&mut io, &mut works.v4, reason);
        if told { tell_v4(ctx, hook) } else { TC_ACT_SHOT }
    } else {
        let told = pipeline::complain::<V6, Skb, Maps>(&mut io, &mut works.v6, reason);
        if told { tell_v6(ctx, hook) } else { TC_ACT_SHOT }
    }
}

/// How the sender is told.
macro_rules! errors {
    ($($name:ident, $family:ty, $work:ident;)+) => {$(
        /// One family's errors: the packet goes back by the device that it came from.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(ctx: *mut __sk_buff, hook: u32) -> i32 {
            let Some(works) = maps::works(hook) else {
                return TC_ACT_SHOT;
            };
            let mut io = Io::new(Skb::new(ctx), Maps::new(ctx.cast()));
            if !pipeline::tell::<$family, Skb, Maps>(&mut io, &works.$work) {
                return TC_ACT_SHOT;
            }
            // SAFETY: the context is the one the kernel gave the program.
            redirect(IfIndex(unsafe { (*ctx).ifindex }), 0)
        }
    )+};
}

errors! {
    tell_v4, V4, v4;
    tell_v6, V6, v6;
}
