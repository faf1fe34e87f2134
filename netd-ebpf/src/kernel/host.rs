//! What the kernel itself knows: its routes and its sockets.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{
    bpf_fib_lookup, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release,
};
use netd_common::map::flow::FlowKey;
use netd_common::wire::TCP;
use netd_common::{IfIndex, Ipv4, Ipv6};

use super::maps::fib_query;
use super::{AF_INET, AF_INET6};
use crate::tables::Route;

/// The kernel's `struct bpf_fib_lookup`; IPv4 addresses stand in the first word of each.
#[repr(C)]
pub(super) struct FibQuery {
    family: u8,
    proto: u8,
    ports: [u16; 2],
    total_len: u16,
    ifindex: u32,
    flow_info: u32,
    src: [u32; 4],
    dst: [u32; 4],
    vlan: u32,
    macs: [u32; 3],
}

const _: () = assert!(size_of::<FibQuery>() == 64, "the kernel's struct has 64 bytes");

impl FibQuery {
    /// Everything but the addresses. The kernel leaves answers in what it was asked with.
    #[inline(always)]
    fn ask(&mut self, family: u32, device: IfIndex) {
        self.family = family as u8;
        self.proto = 0;
        self.ports = [0; 2];
        self.total_len = 0;
        self.ifindex = device.0;
        self.flow_info = 0;
        self.vlan = 0;
    }
}

const FIB_SKIP_NEIGH: u32 = 4;
const FIB_SUCCESS: i64 = 0;
const FIB_NOT_FORWARDED: i64 = 4;
/// The route is found, but its device does not take the packet whole: `complain::check_fit` says
/// so to the sender.
const FIB_FRAG_NEEDED: i64 = 8;

/// Asks the host's routes; 0 and the query's answer on success.
#[inline(always)]
fn ask_routes(ctx: *mut c_void, query: &mut FibQuery) -> i64 {
    // SAFETY: the query has the layout and length of the kernel's struct.
    unsafe {
        bpf_fib_lookup(
            ctx,
            core::ptr::from_mut(query).cast(),
            size_of::<FibQuery>() as i32,
            FIB_SKIP_NEIGH,
        )
    }
}

#[inline(always)]
fn route_of<A>(code: i64, ifindex: u32, next_hop: A) -> Route<A> {
    match code {
        FIB_SUCCESS | FIB_FRAG_NEEDED => Route::Via(IfIndex(ifindex), next_hop),
        FIB_NOT_FORWARDED => Route::Local,
        _ => Route::Missing,
    }
}

#[inline(always)]
pub(super) fn route_v4(ctx: *mut c_void, device: IfIndex, src: &Ipv4, dst: &Ipv4) -> Route<Ipv4> {
    let Some(query) = fib_query() else {
        return Route::Missing;
    };
    query.ask(AF_INET, device);
    query.src = [src.0, 0, 0, 0];
    query.dst = [dst.0, 0, 0, 0];
    let code = ask_routes(ctx, query);
    // An IPv4 route by way of an IPv6 neighbour is left to the kernel.
    let next_hop = if u32::from(query.family) == AF_INET { Ipv4(query.dst[0]) } else { Ipv4(0) };
    route_of(code, query.ifindex, next_hop)
}

#[inline(always)]
pub(super) fn route_v6(ctx: *mut c_void, device: IfIndex, src: &Ipv6, dst: &Ipv6) -> Route<Ipv6> {
    let Some(query) = fib_query() else {
        return Route::Missing;
    };
    query.ask(AF_INET6, device);
    query.src = src.0;
    query.dst = dst.0;
    let code = ask_routes(ctx, query);
    route_of(code, query.ifindex, Ipv6(query.dst))
}

#[repr(C)]
pub(super) struct Tuple<A> {
    src: A,
    dst: A,
    sport: u16,
    dport: u16,
}

#[inline(always)]
pub(super) fn tuple_v4(key: &FlowKey<Ipv4>) -> Tuple<Ipv4> {
    Tuple { src: key.src, dst: key.dst, sport: key.sport.0, dport: key.dport.0 }
}

#[inline(always)]
pub(super) fn tuple_v6(key: &FlowKey<Ipv6>) -> Tuple<Ipv6> {
    Tuple { src: key.src, dst: key.dst, sport: key.sport.0, dport: key.dport.0 }
}

#[inline(always)]
pub(super) fn find_socket(
    ctx: *mut c_void,
    proto: u8,
    tuple: *mut bpf_sock_tuple,
    len: usize,
) -> bool {
    let netns = BPF_F_CURRENT_NETNS as u64;
    // SAFETY: the tuple has one of the two lengths that the kernel knows.
    let socket = unsafe {
        if proto == TCP {
            bpf_sk_lookup_tcp(ctx, tuple, len as u32, netns, 0)
        } else {
            bpf_sk_lookup_udp(ctx, tuple, len as u32, netns, 0)
        }
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the reference was taken by the lookup above.
    unsafe { bpf_sk_release(socket.cast()) };
    true
}
