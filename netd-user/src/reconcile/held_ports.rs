//! Ports of the host held by bound sockets, so that a program that wants one meets the conflict.
//!
//! Law: a held socket never serves: TCP does not listen, datagrams find no room in its queue.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, socket,
    sockopt,
};

use super::ReconcileError;
use crate::desired::HeldPort;
use crate::model::Proto;

/// The sockets. None for a protocol that this kernel doesn't speak: nobody else can bind it either.
#[derive(Debug, Default)]
pub(super) struct HeldPorts {
    sockets: BTreeMap<HeldPort, Option<OwnedFd>>,
}

impl HeldPorts {
    /// Binds a port.
    pub(super) fn hold(&mut self, port: HeldPort) -> Result<(), ReconcileError> {
        if let std::collections::btree_map::Entry::Vacant(place) = self.sockets.entry(port) {
            place.insert(bound(port).map_err(|errno| refused(port, errno))?);
        }
        Ok(())
    }

    /// Lets go of it.
    pub(super) fn release(&mut self, port: HeldPort) {
        self.sockets.remove(&port);
    }

    /// What is held.
    pub(super) fn held(&self) -> BTreeSet<HeldPort> {
        self.sockets.keys().copied().collect()
    }
}

/// The protocol's name.
pub const fn name_of(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
        Proto::Sctp => "sctp",
    }
}

fn bound(port: HeldPort) -> Result<Option<OwnedFd>, Errno> {
    let Some(socket) = open(port)? else { return Ok(None) };
    let address = SockaddrStorage::from(SocketAddr::new(port.addr, port.port));
    match bind(socket.as_raw_fd(), &address) {
        // Connections of an earlier server may still be in TIME_WAIT: with the option they don't
        // count. A listener does, with or without it.
        Err(Errno::EADDRINUSE) if port.proto == Proto::Tcp => {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            bind(socket.as_raw_fd(), &address)?;
            setsockopt(&socket, sockopt::ReuseAddr, &false)?;
        }
        other => other?,
    }
    Ok(Some(socket))
}

fn open(port: HeldPort) -> Result<Option<OwnedFd>, Errno> {
    let family = if port.addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, protocol) = match port.proto {
        Proto::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Proto::Udp => (SockType::Datagram, SockProtocol::Udp),
        Proto::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let socket = match socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol) {
        Err(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::ESOCKTNOSUPPORT) => {
            return Ok(None);
        }
        other => other?,
    };
    if port.addr.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if port.proto == Proto::Udp {
        setsockopt(&socket.as_fd(), sockopt::RcvBuf, &0)?;
    }
    Ok(Some(socket))
}

fn refused(port: HeldPort, errno: Errno) -> ReconcileError {
    if errno == Errno::EADDRINUSE {
        ReconcileError::PortBusy(port)
    } else if errno == Errno::EPERM {
        ReconcileError::PortGuarded(port)
    } else if errno == Errno::EADDRNOTAVAIL {
        ReconcileError::AddressNotAvailable(port)
    } else {
        ReconcileError::Port { port, source: io::Error::from(errno) }
    }
}
