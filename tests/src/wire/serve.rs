//! Servers: each request is answered with what the server saw, until the server's value goes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{ANSWER_DEADLINE, encode};
use crate::Netns;

const DATAGRAM_LEN_MAX: usize = 65_535;

/// A running server; it ends with the value.
pub struct Server {
    address: SocketAddr,
    // Dropping this end tells the server's thread to stop.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The address it listens on, with the port the system chose where none was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn start(
        address: SocketAddr,
        work: impl FnOnce(&UnixStream) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let thread = thread::spawn(move || {
            if let Err(error) = work(&stopped) {
                eprintln!("the server on {address} ended: {error:#}");
            }
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _panic_was_printed = thread.join();
        }
    }
}

/// Serves TCP inside `netns`.
pub fn tcp_echo_server(netns: &Netns, address: SocketAddr) -> Result<Server> {
    let bound = netns.run(|| TcpListener::bind(address).with_context(|| format!("tcp {address}")));
    let listener = bound?;
    Server::start(listener.local_addr()?, move |stop| serve_tcp(&listener, stop))
}

/// Serves UDP inside `netns`.
pub fn udp_echo_server(netns: &Netns, address: SocketAddr) -> Result<Server> {
    let bound = netns.run(|| UdpSocket::bind(address).with_context(|| format!("udp {address}")));
    let socket = bound?;
    Server::start(socket.local_addr()?, move |stop| serve_udp(&socket, stop))
}

/// Answers connections until the other end of `stop` closes.
pub fn serve_tcp(listener: &TcpListener, stop: &UnixStream) -> Result<()> {
    listener.set_nonblocking(true)?;
    while is_asked(listener.as_fd(), stop)? {
        match listener.accept() {
            Ok((stream, peer)) => drop(thread::spawn(move || answer(stream, peer))),
            Err(error) if is_harmless(error.kind()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A client that breaks off is the client's affair.
fn answer(mut stream: TcpStream, peer: SocketAddr) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    let mut request = Vec::new();
    stream.read_to_end(&mut request)?;
    stream.write_all(&encode(peer, &request))
}

/// Answers datagrams until the other end of `stop` closes.
pub fn serve_udp(socket: &UdpSocket, stop: &UnixStream) -> Result<()> {
    socket.set_nonblocking(true)?;
    let mut request = vec![0; DATAGRAM_LEN_MAX];
    while is_asked(socket.as_fd(), stop)? {
        let answered = socket
            .recv_from(&mut request)
            .and_then(|(len, peer)| socket.send_to(&encode(peer, &request[..len]), peer));
        match answered {
            Ok(_) => {}
            Err(error) if is_harmless(error.kind()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits for a request (true) or for the end (false).
fn is_asked(socket: BorrowedFd<'_>, stop: &UnixStream) -> Result<bool> {
    let mut watched =
        [PollFd::new(socket, PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => return Ok(!watched[1].any().unwrap_or(true)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a client, or an ICMP error about an earlier answer, can cause.
fn is_harmless(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}
