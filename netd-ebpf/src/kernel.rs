//! The kernel's edge: maps, helpers, and the one place where a verdict becomes an action.
//!
//! Law: only this module and the binary's entry points name `aya_ebpf`. Every verdict is acted on
//! and counted in one exhaustive match.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "helpers return small numbers in wide registers, and lengths of small types are u32"
)]
#![allow(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "a context pointer is the kernel's own: nobody else can call a program"
)]

use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_loop, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer,
    bpf_skb_change_type,
};
use netd_common::{DropReason, Hook, IfIndex};

use crate::complain;
use crate::pipeline::{self, NextHop};
use crate::tables::Tables;
use crate::verdict::{Decision, Ledger, Sender, Verdict, Version};
use count::Direction;
use held::again;
use maps::Maps;
use skb::Skb;
use stage::Function;

mod atomic;
mod count;
mod held;
mod host;
mod maps;
mod repeat;
mod skb;
pub mod sock;
pub mod stage;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const PACKET_HOST: u32 = 0;
const INGRESS: u64 = BPF_F_INGRESS as u64;

/// Runs a hook's pipeline on a packet.
#[inline(always)]
pub fn run(ctx: *mut __sk_buff, hook: Hook, first: Function) -> i32 {
    skb::bring_head(ctx);
    settle(ctx, hook, Verdict::from_word(first(ctx, hook as u32)))
}

/// As `run`, for what leaves by an uplink: what the packet path sent needs no second look.
#[inline(always)]
pub fn run_leaving(ctx: *mut __sk_buff, hook: Hook, first: Function) -> i32 {
    if pipeline::is_ours(&mut Skb::new(ctx)) {
        return TC_ACT_UNSPEC;
    }
    run(ctx, hook, first)
}

/// Runs a hook's pipeline on a packet, and the later stages that it leaves the packet to.
#[inline(always)]
pub fn run_staged(ctx: *mut __sk_buff, hook: Hook, first: Function) -> i32 {
    skb::bring_head(ctx);
    let word = stage::go_on(ctx, hook as u32, first(ctx, hook as u32));
    settle_or_complain(ctx, hook, word)
}

/// As `run_staged`, for what containers send.
#[inline(always)]
pub fn run_container(ctx: *mut __sk_buff, hook: Hook, first: Function) -> i32 {
    skb::bring_head(ctx);
    let word = stage::sort_out(ctx, hook as u32, first(ctx, hook as u32));
    settle_or_complain(ctx, hook, stage::go_on(ctx, hook as u32, word))
}

#[inline(always)]
fn settle_or_complain(ctx: *mut __sk_buff, hook: Hook, word: u64) -> i32 {
    let verdict = Verdict::from_word(word);
    // Apart from the rest: in one match with it, the verifier is shown registers never written.
    if word == Verdict::from(Decision::Again).word() {
        return again(ctx, hook as u32);
    }
    let action = settle(ctx, hook, verdict);
    match complain::called_for(verdict) {
        Some(reason) => stage::complain(ctx, hook as u32, u32::from(reason as u8)),
        None => action,
    }
}

/// Does and counts what was decided.
#[inline(always)]
fn settle(ctx: *mut __sk_buff, hook: Hook, verdict: Verdict) -> i32 {
    let Some(works) = maps::works(hook as u32) else {
        return TC_ACT_SHOT;
    };
    let ledger = &works.ledger;
    count::trace(verdict, ledger);
    // It is gone and the controller has yet to notice: the kernel would drop the packet in silence.
    if let Some((device, reason)) = verdict.way_out()
        && !skb::exists(ctx, device)
    {
        return count::dropped(ctx, hook as u32, reason as u32);
    }
    let decision = verdict.decision();
    if matches!(hook, Hook::FromContainer) && is_taken(decision) {
        count::traffic(ctx, ledger.endpoint, Direction::FromContainer);
    }
    match decision {
        Decision::Later(..) | Decision::Held | Decision::Again => TC_ACT_SHOT,
        Decision::Untouched => TC_ACT_UNSPEC,
        Decision::Accept => {
            count::traffic(ctx, ledger.endpoint, Direction::ToContainer);
            TC_ACT_UNSPEC
        }
        Decision::Drop(reason) => count::dropped(ctx, hook as u32, u32::from(reason as u8)),
        Decision::Deliver(ifindex, endpoint) => {
            count::traffic(ctx, endpoint, Direction::ToContainer);
            deliver(ctx, ifindex)
        }
        Decision::ToVeth(ifindex) => redirect(ifindex, 0),
        Decision::HostStack(gateway) => redirect(gateway, INGRESS),
        Decision::Uplink(ifindex, version) => leave(ifindex, version, &mut works.next_hop),
        Decision::Answer => answer(ctx, hook),
        Decision::Replicate(sender) => replicate(ctx, hook, sender, ledger),
    }
}

/// Whether a packet was accepted, rather than dropped or left to a later stage.
#[inline(always)]
const fn is_taken(decision: Decision) -> bool {
    match decision {
        Decision::Untouched
        | Decision::Accept
        | Decision::Deliver(..)
        | Decision::ToVeth(_)
        | Decision::HostStack(_)
        | Decision::Uplink(..)
        | Decision::Answer
        | Decision::Replicate(_) => true,
        Decision::Later(..) | Decision::Drop(_) | Decision::Held | Decision::Again => false,
    }
}

#[inline(always)]
fn redirect(ifindex: IfIndex, flags: u64) -> i32 {
    // SAFETY: takes plain numbers; an unknown device makes the kernel drop the packet.
    unsafe { bpf_redirect(ifindex.0, flags) as i32 }
}

/// A packet for another's MAC arrived as "for another host"; in its namespace it is for the host.
#[inline(always)]
fn deliver(ctx: *mut __sk_buff, ifindex: IfIndex) -> i32 {
    // SAFETY: the context is the one the kernel gave the program.
    if unsafe { (*ctx).pkt_type } != PACKET_HOST {
        // SAFETY: as above; both types are among those that may be changed.
        unsafe { bpf_skb_change_type(ctx, PACKET_HOST) };
    }
    // SAFETY: takes plain numbers; a peer that is down makes the kernel drop the packet.
    unsafe { bpf_redirect_peer(ifindex.0, 0) as i32 }
}

/// To an explicit neighbour, or to the one that the kernel's routes name.
#[inline(always)]
fn leave(ifindex: IfIndex, version: Version, next_hop: &mut NextHop) -> i32 {
    if next_hop.addr == [0; 4] {
        // SAFETY: without parameters the kernel asks its own routes.
        return unsafe { bpf_redirect_neigh(ifindex.0, core::ptr::null_mut(), 0, 0) as i32 };
    }
    next_hop.family = match version {
        Version::V4 => AF_INET,
        Version::V6 => AF_INET6,
    };
    let len = size_of::<NextHop>() as i32;
    // SAFETY: the layout is the kernel's struct, and the notes live through the call.
    unsafe { bpf_redirect_neigh(ifindex.0, core::ptr::from_mut(next_hop).cast(), len, 0) as i32 }
}

const _: () = assert!(
    size_of::<NextHop>() == size_of::<bpf_redir_neigh>(),
    "a next hop is the kernel's struct"
);

/// Back to the container by its veth, or back to the stack by its gateway device.
#[inline(always)]
fn answer(ctx: *mut __sk_buff, hook: Hook) -> i32 {
    // SAFETY: the context is the one the kernel gave the program.
    let ifindex = IfIndex(unsafe { (*ctx).ifindex });
    match hook {
        Hook::FromHost => redirect(ifindex, INGRESS),
        Hook::FromContainer
        | Hook::ToContainer
        | Hook::FromNetdev
        | Hook::ToNetdev
        | Hook::FromL3dev
        | Hook::ToL3dev => redirect(ifindex, 0),
    }
}

/// What the replication loop needs in each round.
#[repr(C)]
struct Fan {
    ctx: *mut __sk_buff,
    network: u32,
    except: IfIndex,
}

/// Copies go out of each member's veth, through `to_container`, and a container's also into the
/// host's stack.
#[inline(never)]
fn replicate(ctx: *mut __sk_buff, hook: Hook, sender: Sender, ledger: &Ledger) -> i32 {
    let tables = Maps::new(ctx.cast());
    let network = tables.network(ledger.network);
    let rounds = network.member_count.min(tables.config().replication_limit);
    let mut fan = Fan { ctx, network: ledger.network.0, except: IfIndex(0) };
    if matches!(sender, Sender::Container) {
        // SAFETY: the context is the one the kernel gave the program.
        fan.except = IfIndex(unsafe { (*ctx).ifindex });
        // SAFETY: the context is the program's own; a vanished device only fails the copy.
        unsafe { bpf_clone_redirect(ctx, network.gateway.0, INGRESS) };
    }
    // SAFETY: the callback takes an index and the context given here, which outlives the loop.
    unsafe { bpf_loop(rounds, copy_to_member as *mut core::ffi::c_void, (&raw mut fan).cast(), 0) };
    if rounds < network.member_count {
        count::dropped(ctx, hook as u32, DropReason::ReplicationLimit as u32)
    } else {
        TC_ACT_SHOT
    }
}

extern "C" fn copy_to_member(slot: u32, fan: *mut Fan) -> i64 {
    // SAFETY: bpf_loop passes on what `replicate` gave it.
    let fan = unsafe { &*fan };
    if let Some(ifindex) = maps::member(fan.network, slot)
        && ifindex != fan.except
    {
        // SAFETY: the context is the program's own; a vanished device only fails the copy.
        unsafe { bpf_clone_redirect(fan.ctx, ifindex.0, 0) };
    }
    0
}
