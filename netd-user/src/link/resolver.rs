//! The sockets on which a sandbox's name queries are answered: in its own namespace, at the address
//! that its resolver configuration names, on a port that it would not take.
//!
//! Law: port 53 stays the container's. UDP and TCP have the same port, which a later run takes again
//! where it can, so that connected sockets of clients stay connected.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use netd_common::map::resolver::RESOLVER_ADDR;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::{LinkError, netns};
use crate::model::SandboxId;

/// Ports tried until one is free for both protocols.
const TRIES: usize = 16;
/// Bytes of queries that may wait, before what the kernel adds to each (twice as much is taken): about
/// 2 000, where its usual room holds 250.
const ROOM: usize = 1 << 20;

/// What a name server hears of sandboxes.
#[derive(Debug)]
pub enum ResolverNews {
    /// Queries of a sandbox come in here.
    Opened(SandboxId, Box<ResolverSockets>),
    /// The sandbox is gone, or asks others now.
    Closed(SandboxId),
}

/// A sandbox's sockets, not blocking.
#[derive(Debug)]
pub struct ResolverSockets {
    /// Its namespace.
    pub netns: File,
    /// The namespace's cookie.
    pub cookie: u64,
    /// Port of both sockets.
    pub port: u16,
    /// Datagrams.
    pub udp: UdpSocket,
    /// Connections.
    pub tcp: TcpListener,
}

/// Opens the sockets in the namespace at `path`; `earlier` tells the ports of an earlier run by cookie.
pub async fn open(
    path: &Path,
    earlier: Arc<BTreeMap<u64, u16>>,
) -> Result<ResolverSockets, LinkError> {
    let netns = netns::open(path)?;
    let (cookie, bound) = netns::visit(path, move || {
        let cookie = netns::cookie()?;
        Ok((cookie, bind(earlier.get(&cookie).copied())))
    })
    .await??;
    let failed =
        |source| LinkError::File { action: "open name sockets in", path: path.to_owned(), source };
    let (udp, tcp) = bound.map_err(failed)?;
    let port = udp.local_addr().map_err(failed)?.port();
    Ok(ResolverSockets { netns, cookie, port, udp, tcp })
}

fn bind(earlier: Option<u16>) -> io::Result<(UdpSocket, TcpListener)> {
    let ports = earlier.into_iter().chain(std::iter::repeat_n(0, TRIES));
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        match bind_both(port) {
            Ok(sockets) => return Ok(sockets),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn bind_both(port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    let address = |port| SocketAddrV4::new(Ipv4Addr::from(RESOLVER_ADDR), port);
    let tcp = TcpListener::bind(address(port))?;
    let udp = UdpSocket::bind(address(tcp.local_addr()?.port()))?;
    // Without the privilege the kernel's usual room has to do.
    if let Err(error) = setsockopt(&udp, RcvBufForce, &ROOM) {
        tracing::debug!(%error, "queries wait in the kernel's usual room");
    }
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    Ok((udp, tcp))
}
