//! The kernel's edge: maps, helpers, and the one place where a verdict becomes an action.
//!
//! Law: only this module and the binary's entry points name `aya_ebpf`. Every verdict is acted on
//! and counted in one exhaustive match.

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh,
    bpf_redir_neigh__bindgen_ty_1,
};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_loop, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer,
    bpf_skb_change_type,
};
use netd_common::wire::ETHERTYPE_IPV4;
use netd_common::{DropReason, Hook, IfIndex, V4, V6};

use crate::complain;
use crate::packet::Io;
use crate::pipeline;
use crate::tables::Tables;
use crate::verdict::{Decision, Ledger, Sender, Verdict, Version};
use count::Direction;
use maps::Maps;
use skb::Skb;

mod count;
mod host;
mod maps;
mod skb;
pub mod sock;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const PACKET_HOST: u32 = 0;
const INGRESS: u64 = BPF_F_INGRESS as u64;

/// Runs a hook's pipeline on a packet.
#[inline(always)]
pub fn run(ctx: *mut __sk_buff, hook: Hook, first: Stage) -> i32 {
    tell(ctx, hook, first(ctx, hook as u32))
}

/// Runs a hook's pipeline on a packet, and the later stages that it leaves the packet to. Each is
/// a function of its own: they take turns on the one stack of 512 bytes.
#[inline(always)]
pub fn run_staged(ctx: *mut __sk_buff, hook: Hook, first: Stage) -> i32 {
    let slot = hook as u32;
    let mut action = first(ctx, slot);
    action = after(action, GATHER, [gather_v4, gather_v6], (ctx, slot));
    action = after(action, EXPLAIN, [explain_v4, explain_v6], (ctx, slot));
    action = after(action, CATCH_UP, [catch_up_v4, catch_up_v6], (ctx, slot));
    action = after(action, BEGIN, [begin_v4, begin_v6], (ctx, slot));
    action = after(action, OPEN, [open_v4, open_v6], (ctx, slot));
    action = after(action, CARRY, [carry_v4, carry_v6], (ctx, slot));
    let reason = action >> REASON_SHIFT;
    if reason <= 0 {
        return tell(ctx, hook, action);
    }
    tell(ctx, hook, i32::from(action as i16));
    // SAFETY: the context is the one the kernel gave the program.
    let is_v4 = unsafe { (*ctx).protocol } == u32::from(ETHERTYPE_IPV4.0);
    let hook_and_reason = slot | (reason as u32) << 8;
    // Two calls, not a pointer to either: the verifier knows no calls by pointer.
    if is_v4 { complain_v4(ctx, hook_and_reason) } else { complain_v6(ctx, hook_and_reason) }
}

/// A stage: from a packet and its hook to an action or the next stage.
pub type Stage = extern "C" fn(*mut __sk_buff, u32) -> i32;

// No actions of the kernel's: the packet goes on to a later stage, of either family.
const CATCH_UP: [i32; 2] = [-104, -106];
const BEGIN: [i32; 2] = [-204, -206];
const EXPLAIN: [i32; 2] = [-604, -606];
const GATHER: [i32; 2] = [-704, -706];
const OPEN: [i32; 2] = [-304, -306];
const CARRY: [i32; 2] = [-404, -406];
/// Dropped and counted; the monitor is yet to hear of it.
const DROP_AND_TELL: i32 = -500;

/// Above the action of a drop that its sender is told of stands the reason.
const REASON_SHIFT: i32 = 16;

#[inline(always)]
fn after(action: i32, code: [i32; 2], next: [Stage; 2], (ctx, hook): (*mut __sk_buff, u32)) -> i32 {
    if action == code[0] {
        next[0](ctx, hook)
    } else if action == code[1] {
        next[1](ctx, hook)
    } else {
        action
    }
}

#[inline(always)]
fn tell(ctx: *mut __sk_buff, hook: Hook, action: i32) -> i32 {
    if action == DROP_AND_TELL { count::report(ctx, hook as u32) } else { action }
}

#[inline(always)]
const fn code(stage: [i32; 2], version: Version) -> i32 {
    match version {
        Version::V4 => stage[0],
        Version::V6 => stage[1],
    }
}

/// The first stages, one for each hook.
macro_rules! first_stages {
    ($($name:ident, $pipeline:ident, $hook:ident;)+) => {$(
        /// A hook's first stage.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(ctx: *mut __sk_buff, hook: u32) -> i32 {
            let Some(works) = maps::works(hook) else {
                return TC_ACT_SHOT;
            };
            let mut io = Io::new(Skb::new(ctx), Maps::new(ctx.cast()));
            let verdict = pipeline::$pipeline(&mut io, works);
            settle(&io, ctx, Hook::$hook, verdict)
        }
    )+};
}

first_stages! {
    first_from_container, from_container, FromContainer;
    first_to_container, to_container, ToContainer;
    first_from_host, from_host, FromHost;
    first_from_netdev, from_netdev, FromNetdev;
    first_to_netdev, to_netdev, ToNetdev;
}

/// The slow ways. Global functions: the verifier looks at each once, apart from its callers.
macro_rules! stages {
    ($($name:ident, $stage:ident, $family:ty, $work:ident;)+) => {$(
        /// One family's slow way.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(ctx: *mut __sk_buff, hook: u32) -> i32 {
            let (Some(works), Some(hook)) = (maps::works(hook), Hook::from_number(hook as u8)) else {
                return TC_ACT_SHOT;
            };
            let mut io = Io::new(Skb::new(ctx), Maps::new(ctx.cast()));
            let verdict = pipeline::$stage::<$family, Skb, Maps>(&mut io, &mut works.$work);
            settle(&io, ctx, hook, verdict)
        }
    )+};
}

stages! {
    catch_up_v4, catch_up, V4, v4;
    catch_up_v6, catch_up, V6, v6;
    begin_v4, begin, V4, v4;
    begin_v6, begin, V6, v6;
    explain_v4, explain, V4, v4;
    explain_v6, explain, V6, v6;
    gather_v4, gather, V4, v4;
    gather_v6, gather, V6, v6;
    open_v4, open, V4, v4;
    open_v6, open, V6, v6;
    carry_v4, carry, V4, v4;
    carry_v6, carry, V6, v6;
}

/// The sender of a dropped packet is told why.
macro_rules! complaints {
    ($($name:ident, $family:ty, $work:ident;)+) => {$(
        /// One family's errors. The hook in the lowest byte, the reason above.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $name(ctx: *mut __sk_buff, hook_and_reason: u32) -> i32 {
            let hook = hook_and_reason & 0xff;
            let (Some(works), Some(hook), Some(reason)) = (
                maps::works(hook),
                Hook::from_number(hook as u8),
                DropReason::from_number((hook_and_reason >> 8) as u8),
            ) else {
                return TC_ACT_SHOT;
            };
            let mut io = Io::new(Skb::new(ctx), Maps::new(ctx.cast()));
            let told = pipeline::complain::<$family, Skb, Maps>(&mut io, &works.$work, reason);
            if told.decision() == Decision::Answer { answer(ctx, hook) } else { TC_ACT_SHOT }
        }
    )+};
}

complaints! {
    complain_v4, V4, v4;
    complain_v6, V6, v6;
}

/// Does and counts what was decided.
#[inline(always)]
fn settle(io: &Io<Skb, Maps>, ctx: *mut __sk_buff, hook: Hook, verdict: Verdict) -> i32 {
    let ledger = &io.ledger;
    count::trace(verdict, ledger);
    let decision = verdict.decision();
    if matches!(hook, Hook::FromContainer) && is_taken(decision) {
        count::traffic(ctx, ledger.endpoint, Direction::FromContainer);
    }
    match decision {
        Decision::CatchUp(version) => code(CATCH_UP, version),
        Decision::Begin(version) => code(BEGIN, version),
        Decision::Explain(version) => code(EXPLAIN, version),
        Decision::Gather(version) => code(GATHER, version),
        Decision::Open(version) => code(OPEN, version),
        Decision::Carry(version) => code(CARRY, version),
        Decision::Untouched => TC_ACT_UNSPEC,
        Decision::Accept => {
            count::traffic(ctx, ledger.endpoint, Direction::ToContainer);
            TC_ACT_UNSPEC
        }
        Decision::Drop(reason) => drop_packet(ctx, hook, reason, ledger),
        Decision::Deliver(ifindex, endpoint) => {
            count::traffic(ctx, endpoint, Direction::ToContainer);
            deliver(ctx, ifindex)
        }
        Decision::ToVeth(ifindex) => redirect(ifindex, 0),
        Decision::HostStack(gateway) => redirect(gateway, INGRESS),
        Decision::Uplink(ifindex, version) => leave(ifindex, version, &io.next_hop),
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
        Decision::CatchUp(_)
        | Decision::Begin(_)
        | Decision::Explain(_)
        | Decision::Gather(_)
        | Decision::Open(_)
        | Decision::Carry(_)
        | Decision::Drop(_) => false,
    }
}

#[inline(never)]
fn drop_packet(ctx: *mut __sk_buff, hook: Hook, reason: DropReason, ledger: &Ledger) -> i32 {
    let action =
        if count::dropped(ctx, hook, reason, ledger) { DROP_AND_TELL } else { TC_ACT_SHOT };
    let told = matches!(hook, Hook::FromContainer | Hook::FromNetdev) && complain::is_told(reason);
    if told { action & 0xffff | (reason as i32) << REASON_SHIFT } else { action }
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
    // SAFETY: takes plain numbers; a device without a peer makes the kernel drop the packet.
    unsafe { bpf_redirect_peer(ifindex.0, 0) as i32 }
}

/// To an explicit neighbour, or to the one that the kernel's routes name.
#[inline(always)]
fn leave(ifindex: IfIndex, version: Version, next_hop: &[u32; 4]) -> i32 {
    if *next_hop == [0; 4] {
        // SAFETY: without parameters the kernel asks its own routes.
        return unsafe { bpf_redirect_neigh(ifindex.0, core::ptr::null_mut(), 0, 0) as i32 };
    }
    let mut params = bpf_redir_neigh {
        nh_family: match version {
            Version::V4 => AF_INET,
            Version::V6 => AF_INET6,
        },
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: *next_hop },
    };
    let len = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: the parameters live through the call.
    unsafe { bpf_redirect_neigh(ifindex.0, &raw mut params, len, 0) as i32 }
}

/// Back to the container by its veth, or back to the stack by its gateway device.
#[inline(always)]
fn answer(ctx: *mut __sk_buff, hook: Hook) -> i32 {
    // SAFETY: the context is the one the kernel gave the program.
    let ifindex = IfIndex(unsafe { (*ctx).ifindex });
    match hook {
        Hook::FromHost => redirect(ifindex, INGRESS),
        Hook::FromContainer | Hook::ToContainer | Hook::FromNetdev | Hook::ToNetdev => {
            redirect(ifindex, 0)
        }
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
        drop_packet(ctx, hook, DropReason::ReplicationLimit, ledger)
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
