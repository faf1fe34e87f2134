//! Sockets of host processes: those whose peer is gone are ended, so that no client waits for an
//! answer of a container that does not exist (`sock_diag(7)`).
//!
//! Law: which sockets end is decided by their peer's address alone, from the kernel's own list.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use bytemuck::{Pod, Zeroable, bytes_of, pod_read_unaligned};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// All states but `TIME_WAIT` and `LISTEN`: neither has anybody who waits for a peer.
const STATES: u32 = !(1 << 6 | 1 << 10);
const HEADER_LEN: usize = size_of::<Header>();
const BUFFER_LEN: usize = 32 * 1024;

/// The kernel's `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// The kernel's `struct inet_diag_sockid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct SocketId {
    sport: [u8; 2],
    dport: [u8; 2],
    src: [u8; 16],
    dst: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// The kernel's `struct inet_diag_req_v2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    proto: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: SocketId,
}

/// The beginning of the kernel's `struct inet_diag_msg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Found {
    family: u8,
    state: u8,
    timer: u8,
    retransmissions: u8,
    id: SocketId,
}

impl Found {
    /// The peer; an IPv4 one of a socket of both families is IPv4.
    fn peer(&self) -> IpAddr {
        let dst = self.id.dst;
        if self.family == AF_INET {
            return Ipv4Addr::new(dst[0], dst[1], dst[2], dst[3]).into();
        }
        IpAddr::V6(Ipv6Addr::from(dst)).to_canonical()
    }
}

/// Ends the host's TCP and UDP sockets that are connected to one of `peers`; how many there were.
pub fn end(peers: &BTreeSet<IpAddr>) -> io::Result<usize> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
    let mut ended = 0;
    for family in [AF_INET, AF_INET6] {
        for proto in [TCP, UDP] {
            for found in connected_to(peers, list(&socket, family, proto)?) {
                ended += usize::from(destroy(&socket, proto, &found)?);
            }
        }
    }
    Ok(ended)
}

fn connected_to(peers: &BTreeSet<IpAddr>, mut found: Vec<Found>) -> Vec<Found> {
    found.retain(|socket| peers.contains(&socket.peer()));
    found
}

fn list(socket: &OwnedFd, family: u8, proto: u8) -> io::Result<Vec<Found>> {
    let request = request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, (family, proto), SocketId::zeroed());
    send(socket.as_raw_fd(), bytes_of(&request), MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if read_list(&buffer[..len], &mut found)? {
            return Ok(found);
        }
    }
}

/// Reads the messages of one buffer. True: the list is complete.
fn read_list(mut bytes: &[u8], found: &mut Vec<Found>) -> io::Result<bool> {
    while let Some((header, body, rest)) = next_message(bytes) {
        match header.kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return acknowledged(body).map(|()| true),
            SOCK_DIAG_BY_FAMILY => {
                let message = body.get(..size_of::<Found>());
                found.extend(message.map(pod_read_unaligned::<Found>));
            }
            _ => {}
        }
        bytes = rest;
    }
    Ok(false)
}

fn next_message(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let header: Header = pod_read_unaligned(bytes.get(..HEADER_LEN)?);
    let len = usize::try_from(header.len).ok()?;
    let body = bytes.get(HEADER_LEN..len)?;
    Some((header, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// An error message's number, 0 for none.
fn acknowledged(body: &[u8]) -> io::Result<()> {
    let code: i32 = body.get(..4).map_or(0, pod_read_unaligned);
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

/// False: it has ended by itself in between.
fn destroy(socket: &OwnedFd, proto: u8, found: &Found) -> io::Result<bool> {
    let request = request(SOCK_DESTROY, NLM_F_ACK, (found.family, proto), found.id);
    send(socket.as_raw_fd(), bytes_of(&request), MsgFlags::empty())?;
    let mut buffer = [0; 1024];
    let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let Some((header, body, _)) = next_message(&buffer[..len]) else {
        return Err(Errno::EBADMSG.into());
    };
    if header.kind != NLMSG_ERROR {
        return Err(Errno::EBADMSG.into());
    }
    match acknowledged(body) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(false),
        Err(error) => Err(error),
    }
}

fn request(kind: u16, flags: u16, (family, proto): (u8, u8), id: SocketId) -> Request {
    const LEN: u32 = 16 + 56;
    Request {
        header: Header { len: LEN, kind, flags: flags | NLM_F_REQUEST, sequence: 1, port: 0 },
        family,
        proto,
        extensions: 0,
        pad: 0,
        states: STATES,
        id,
    }
}

const _: () = assert!(size_of::<Request>() == 16 + 56, "the kernel's structs have 16 and 56 bytes");

#[cfg(test)]
mod tests {
    use super::*;

    fn found(family: u8, peer: &[u8]) -> Found {
        let mut found = Found { family, ..Found::zeroed() };
        found.id.dst[..peer.len()].copy_from_slice(peer);
        found
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER_LEN + body.len()).unwrap();
        let header = Header { len, kind, flags: 0, sequence: 1, port: 0 };
        let mut bytes = [bytes_of(&header), body].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn sockets_are_chosen_by_their_peer_on_either_family() {
        let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 2]].concat();
        let gone = [found(AF_INET, &[10, 0, 0, 2]), found(AF_INET6, &mapped)];
        let stays = [found(AF_INET, &[10, 0, 0, 3]), found(AF_INET6, &[0xfd; 16])];
        let peers = BTreeSet::from(["10.0.0.2".parse().unwrap()]);
        assert_eq!(connected_to(&peers, [gone, stays].concat()), gone);
    }

    #[test]
    fn list_ends_with_done_and_not_before() {
        let socket = found(AF_INET, &[10, 0, 0, 2]);
        let first = message(SOCK_DIAG_BY_FAMILY, &[bytes_of(&socket), &[0; 20]].concat());
        let mut all = Vec::new();
        assert!(!read_list(&[first.clone(), first].concat(), &mut all).unwrap());
        assert!(read_list(&message(NLMSG_DONE, &[0; 4]), &mut all).unwrap());
        assert_eq!(all, [socket, socket]);
    }

    #[test]
    fn refusal_and_cut_messages_are_no_list() {
        let refused = message(NLMSG_ERROR, &(-1i32).to_ne_bytes());
        assert_eq!(read_list(&refused, &mut Vec::new()).unwrap_err().raw_os_error(), Some(1));
        let whole = message(SOCK_DIAG_BY_FAMILY, &[0; 72]);
        let mut all = Vec::new();
        for len in 0..whole.len() {
            assert!(!read_list(&whole[..len], &mut all).unwrap());
        }
        assert_eq!(all, []);
    }
}
