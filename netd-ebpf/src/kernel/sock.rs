//! The socket hooks' edge: contexts of `cgroup/sock_addr` and `cgroup/sock`.
//!
//! Law: in the host's own network namespace a hook acts on published ports, in a sandbox's on name
//! queries, and nowhere else.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use netd_common::map::published::{SocketPeer, SocketPeerKey};
use netd_common::{Be16, Family, Ipv4, Ipv6};

use super::maps::{Maps, RESOLVERS, SOCKET_PEERS};
use crate::socket::{self, Named, PeerTables, ResolverTables, Target, mapped, unmapped};
use crate::tables::Tables;

/// The kernel goes on.
const ALLOW: i32 = 1;
/// The kernel refuses with EPERM, or what `bpf_set_retval` says.
const REFUSE: i32 = 0;
const EADDRNOTAVAIL: i32 = 99;

#[inline(always)]
fn netns_cookie(ctx: *mut c_void) -> u64 {
    // SAFETY: the context is the one the kernel gave the program.
    unsafe { bpf_get_netns_cookie(ctx) }
}

#[inline(always)]
fn is_host(ctx: *mut c_void) -> bool {
    netns_cookie(ctx) == Maps::new(ctx).config().host_netns_cookie
}

/// How a family's address stands in the context. Volatile, because the verifier takes words only
/// and LLVM would join them.
pub trait SockAddr: Family {
    /// Reads the address.
    ///
    /// # Safety
    /// The context is the program's own.
    unsafe fn read(ctx: *mut bpf_sock_addr) -> Ipv6;

    /// The address that the socket is bound to, or all zero.
    ///
    /// # Safety
    /// The context is the program's own.
    unsafe fn bound(ctx: *mut bpf_sock_addr) -> Ipv6;

    /// Writes the address.
    ///
    /// # Safety
    /// The context is the program's own.
    unsafe fn write(ctx: *mut bpf_sock_addr, addr: Ipv6);
}

impl SockAddr for netd_common::V4 {
    #[inline(always)]
    unsafe fn read(ctx: *mut bpf_sock_addr) -> Ipv6 {
        // SAFETY: the caller's promise.
        mapped(Ipv4(unsafe { read_volatile(&raw const (*ctx).user_ip4) }))
    }

    #[inline(always)]
    unsafe fn bound(ctx: *mut bpf_sock_addr) -> Ipv6 {
        // SAFETY: the caller's promise; a socket address hook always has its socket.
        mapped(Ipv4(unsafe { read_volatile(&raw const (*socket_of(ctx)).src_ip4) }))
    }

    #[inline(always)]
    unsafe fn write(ctx: *mut bpf_sock_addr, addr: Ipv6) {
        // SAFETY: the caller's promise.
        unsafe { write_volatile(&raw mut (*ctx).user_ip4, addr.0[3]) };
    }
}

impl SockAddr for netd_common::V6 {
    #[inline(always)]
    unsafe fn read(ctx: *mut bpf_sock_addr) -> Ipv6 {
        // SAFETY: the caller's promise.
        unsafe {
            Ipv6([
                read_volatile(&raw const (*ctx).user_ip6[0]),
                read_volatile(&raw const (*ctx).user_ip6[1]),
                read_volatile(&raw const (*ctx).user_ip6[2]),
                read_volatile(&raw const (*ctx).user_ip6[3]),
            ])
        }
    }

    #[inline(always)]
    unsafe fn bound(ctx: *mut bpf_sock_addr) -> Ipv6 {
        // SAFETY: the caller's promise; a socket address hook always has its socket.
        unsafe { source_v6(socket_of(ctx)) }
    }

    #[inline(always)]
    unsafe fn write(ctx: *mut bpf_sock_addr, addr: Ipv6) {
        // SAFETY: the caller's promise.
        unsafe {
            write_volatile(&raw mut (*ctx).user_ip6[0], addr.0[0]);
            write_volatile(&raw mut (*ctx).user_ip6[1], addr.0[1]);
            write_volatile(&raw mut (*ctx).user_ip6[2], addr.0[2]);
            write_volatile(&raw mut (*ctx).user_ip6[3], addr.0[3]);
        }
    }
}

/// # Safety
/// The context is the program's own.
#[inline(always)]
unsafe fn socket_of(ctx: *mut bpf_sock_addr) -> *mut bpf_sock {
    // SAFETY: the caller's promise.
    unsafe { read_volatile(&raw const (*ctx).__bindgen_anon_1.sk) }
}

/// # Safety
/// The socket is the program's own.
#[inline(always)]
unsafe fn source_v6(socket: *mut bpf_sock) -> Ipv6 {
    // SAFETY: the caller's promise.
    unsafe {
        Ipv6([
            read_volatile(&raw const (*socket).src_ip6[0]),
            read_volatile(&raw const (*socket).src_ip6[1]),
            read_volatile(&raw const (*socket).src_ip6[2]),
            read_volatile(&raw const (*socket).src_ip6[3]),
        ])
    }
}

#[inline(always)]
fn named<F: SockAddr>(ctx: *mut bpf_sock_addr) -> Named {
    // SAFETY: the context is the one the kernel gave the program.
    unsafe {
        Named {
            cookie: bpf_get_socket_cookie(ctx.cast()),
            addr: F::read(ctx),
            port: Be16(read_volatile(&raw const (*ctx).user_port) as u16),
            proto: read_volatile(&raw const (*ctx).protocol) as u8,
        }
    }
}

#[inline(always)]
fn rename<F: SockAddr>(ctx: *mut bpf_sock_addr, addr: Ipv6, port: Be16) {
    // SAFETY: the context is the one the kernel gave the program.
    unsafe { F::write(ctx, addr) };
    renumber(ctx, port);
}

#[inline(always)]
fn renumber(ctx: *mut bpf_sock_addr, port: Be16) {
    // SAFETY: the context is the one the kernel gave the program.
    unsafe { write_volatile(&raw mut (*ctx).user_port, u32::from(port.0)) };
}

/// connect and sendmsg: the published port's backend, or the sandbox's name server, instead.
#[inline(always)]
pub fn translate<F: SockAddr>(ctx: *mut bpf_sock_addr) -> i32 {
    let mut maps = Maps::new(ctx.cast());
    if is_host(ctx.cast()) {
        return redirect::<F>(ctx, &mut maps);
    }
    if let Some(port) = socket::to_resolver(&maps, netns_cookie(ctx.cast()), &named::<F>(ctx)) {
        renumber(ctx, port);
    }
    ALLOW
}

#[inline(always)]
fn redirect<F: SockAddr>(ctx: *mut bpf_sock_addr, maps: &mut Maps) -> i32 {
    // SAFETY: the context is the one the kernel gave the program.
    let own = unsafe { F::bound(ctx) };
    match socket::translate(maps, &named::<F>(ctx), own) {
        Target::Asked => ALLOW,
        Target::Container(addr, port) => {
            rename::<F>(ctx, addr, port);
            ALLOW
        }
        Target::OutOfReach => {
            // SAFETY: takes a plain number.
            let _previous = unsafe { bpf_set_retval(-EADDRNOTAVAIL) };
            REFUSE
        }
    }
}

/// recvmsg and getpeername: the address that the application asked for.
#[inline(always)]
pub fn recover<F: SockAddr>(ctx: *mut bpf_sock_addr) -> i32 {
    let maps = Maps::new(ctx.cast());
    if is_host(ctx.cast()) {
        if let Some(peer) = socket::recover(&maps, &named::<F>(ctx))
            && (F::VERSION == 6 || unmapped(peer.addr).is_some())
        {
            rename::<F>(ctx, peer.addr, peer.port);
        }
    } else if let Some(port) =
        socket::from_resolver(&maps, netns_cookie(ctx.cast()), &named::<F>(ctx))
    {
        renumber(ctx, port);
    }
    ALLOW
}

/// `post_bind`: a published port is not for the host's sockets. The hook cannot read a socket's
/// mark, so nobody is exempt: who must hold a port binds it before it is published.
#[inline(always)]
pub fn guard_bind<F: Family>(ctx: *mut bpf_sock) -> i32 {
    if !is_host(ctx.cast()) {
        return ALLOW;
    }
    // SAFETY: the context is the one the kernel gave the program.
    let wanted = unsafe {
        let addr = if F::VERSION == 4 {
            mapped(Ipv4(read_volatile(&raw const (*ctx).src_ip4)))
        } else {
            source_v6(ctx)
        };
        Named {
            cookie: 0,
            addr,
            port: Be16::new(read_volatile(&raw const (*ctx).src_port) as u16),
            proto: read_volatile(&raw const (*ctx).protocol) as u8,
        }
    };
    if socket::is_taken(&Maps::new(ctx.cast()), &wanted) { REFUSE } else { ALLOW }
}

impl PeerTables for Maps {
    #[inline(always)]
    fn peer(&self, key: &SocketPeerKey) -> Option<SocketPeer> {
        // SAFETY: copied at once.
        unsafe { SOCKET_PEERS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember(&mut self, key: &SocketPeerKey, peer: &SocketPeer) {
        // A full table evicts; without memory the application sees the backend's address.
        let _refused = SOCKET_PEERS.insert(key, peer, 0);
    }
}

impl ResolverTables for Maps {
    #[inline(always)]
    fn resolver_port(&self, netns_cookie: u64) -> Option<Be16> {
        // SAFETY: copied at once; a value of four bytes is never seen half written.
        unsafe { RESOLVERS.get(netns_cookie) }.map(|value| value.port)
    }
}
