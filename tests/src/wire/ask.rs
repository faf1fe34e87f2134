//! Clients: one request, one answer, within the deadline.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::{ANSWER_DEADLINE, Answer, decode};
use crate::Netns;

const DATAGRAM_LEN_MAX: usize = 65_535;

/// Sends `request` from inside `netns` over a connection of its own.
pub fn tcp_request(netns: &Netns, target: SocketAddr, request: &[u8]) -> Result<Answer> {
    netns.run(|| ask_tcp(target, request))
}

/// Sends `request` from inside `netns` in one datagram, from a socket that is not connected: it takes
/// an answer from any address, and says from which one it came.
pub fn udp_request(netns: &Netns, target: SocketAddr, request: &[u8]) -> Result<Answer> {
    netns.run(|| ask_udp(target, request))
}

/// As `tcp_request`, from where the program runs.
pub fn ask_tcp(target: SocketAddr, request: &[u8]) -> Result<Answer> {
    let connected = TcpStream::connect_timeout(&target, ANSWER_DEADLINE);
    let stream = connected.with_context(|| format!("connecting to tcp {target}"))?;
    converse(stream, request).with_context(|| format!("tcp {target}"))
}

/// A TCP connection from a given port of a namespace, on which the other end may take its time.
pub fn connect_from(netns: &Netns, port: u16, target: SocketAddr) -> Result<TcpStream> {
    let (family, any) = match target {
        SocketAddr::V4(_) => (AddressFamily::Inet, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        SocketAddr::V6(_) => {
            (AddressFamily::Inet6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
        }
    };
    let socket =
        netns.run(|| Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?))?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(any))?;
    let stream = TcpStream::from(socket);
    // The kernel heeds it while connecting, too.
    stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    let connected = connect(stream.as_raw_fd(), &SockaddrStorage::from(target));
    connected.with_context(|| format!("connecting to tcp {target} from {port}"))?;
    Ok(stream)
}

fn converse(mut stream: TcpStream, request: &[u8]) -> Result<Answer> {
    // Asked first: a connection that has ended has no peer.
    let ends = (stream.local_addr()?, stream.peer_addr()?);
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
    stream.write_all(request)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    decode(ends, &answer)
}

/// As `udp_request`, from where the program runs.
pub fn ask_udp(target: SocketAddr, request: &[u8]) -> Result<Answer> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
    let mut answer = vec![0; DATAGRAM_LEN_MAX];
    let exchange = socket.send_to(request, target).and_then(|_| socket.recv_from(&mut answer));
    let (len, from) = exchange.with_context(|| format!("udp {target}"))?;
    decode((socket.local_addr()?, from), &answer[..len])
}
