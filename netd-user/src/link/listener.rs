//! A socket that hears of every change of links, addresses and routes in its namespace.
//!
//! Law: the kernel queues a notification before it acknowledges the request that caused it, so a
//! drained queue includes all that we did ourselves.

use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::LinkError;
use super::netlink::netlink_error;

/// Room for the notifications of a burst: a thousand links made at once fit.
const QUEUE_LEN: usize = 4 << 20;

/// Links, addresses and routes.
pub(super) const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// What came in.
#[derive(Debug)]
pub(super) enum Heard {
    /// Every change since the last time.
    Messages(Vec<RouteNetlinkMessage>),
    /// The queue ran over: some changes are lost, everything has to be read again.
    Overrun,
}

/// A socket in the multicast groups, never blocking.
pub(super) fn open() -> Result<Socket, LinkError> {
    let refused = |source| netlink_error("listen to", "links, addresses and routes", source);
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(refused)?;
    socket.set_non_blocking(true).map_err(refused)?;
    socket.set_rx_buf_sz(QUEUE_LEN).map_err(refused)?;
    let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (*group as u32 - 1));
    socket.bind(&SocketAddr::new(0, groups)).map_err(refused)?;
    Ok(socket)
}

/// Takes everything out of the queue.
pub(super) fn drain(socket: &Socket) -> Result<Heard, LinkError> {
    let mut messages = Vec::new();
    let mut overrun = false;
    loop {
        match socket.recv_from_full() {
            Ok((bytes, _)) => parse(&bytes, &mut messages),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => overrun = true,
            Err(error) => return Err(netlink_error("read", "notifications", error)),
        }
    }
    Ok(if overrun { Heard::Overrun } else { Heard::Messages(messages) })
}

fn parse(mut bytes: &[u8], messages: &mut Vec<RouteNetlinkMessage>) {
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let len = (message.header.length as usize).next_multiple_of(4);
        if let NetlinkPayload::InnerMessage(inner) = message.payload {
            messages.push(inner);
        }
        if len == 0 || len >= bytes.len() {
            break;
        }
        bytes = &bytes[len..];
    }
}
