//! Program entry points and the panic handler, nothing else.
#![no_std]
#![no_main]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "aya's macros export each entry point anew, without its doc line"
)]
#![allow(clippy::needless_pass_by_value, reason = "aya's macros call with a context by value")]

use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier};
use aya_ebpf::programs::{SockAddrContext, SockContext, TcContext};
use netd_common::{Hook, V4, V6};
use netd_ebpf::kernel::{self, sock, stage};

macro_rules! classifiers {
    ($($name:ident, $hook:ident, $run:ident, $first:ident;)+) => {$(
        /// tcx.
        #[classifier]
        pub fn $name(ctx: TcContext) -> i32 {
            kernel::$run(ctx.skb.skb, Hook::$hook, stage::$first)
        }
    )+};
}

classifiers! {
    from_container, FromContainer, run_container, first_from_container;
    to_container, ToContainer, run, first_to_container;
    from_host, FromHost, run, first_from_host;
    from_netdev, FromNetdev, run_staged, first_from_netdev;
    to_netdev, ToNetdev, run_leaving, first_to_netdev;
    from_l3dev, FromL3dev, run_staged, first_from_l3dev;
    to_l3dev, ToL3dev, run_leaving, first_to_l3dev;
}

macro_rules! socket_hooks {
    ($($name:ident, $action:ident, $family:ty;)+) => {$(
        /// Root cgroup.
        #[cgroup_sock_addr($name)]
        pub fn $name(ctx: SockAddrContext) -> i32 {
            sock::$action::<$family>(ctx.sock_addr)
        }
    )+};
}

socket_hooks! {
    connect4, translate, V4;
    connect6, translate, V6;
    sendmsg4, translate, V4;
    sendmsg6, translate, V6;
    recvmsg4, recover, V4;
    recvmsg6, recover, V6;
    getpeername4, recover, V4;
    getpeername6, recover, V6;
}

/// Root cgroup.
#[cgroup_sock(post_bind4)]
pub fn post_bind4(ctx: SockContext) -> i32 {
    sock::guard_bind::<V4>(ctx.sock)
}

/// Root cgroup.
#[cgroup_sock(post_bind6)]
pub fn post_bind6(ctx: SockContext) -> i32 {
    sock::guard_bind::<V6>(ctx.sock)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
