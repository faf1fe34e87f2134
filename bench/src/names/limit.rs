//! What no name service can pass: a server that does nothing.
//!
//! Law: a query goes back as it came, but for the bit that makes it an answer; what is measured is the
//! client, and the kernel between it and a server.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

use super::server::Server;
use crate::namespace::Namespace;

/// Where it answers, as the others do.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);
/// Queries taken, and answers sent, by one system call.
const BATCH: usize = 64;
/// Of a query without EDNS.
const LONGEST: usize = 512;
const RESPONSE: u8 = 0x80;
/// How often it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A running one; it ends with the value.
#[derive(Debug)]
pub(super) struct Limit {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Limit {
    /// Starts it in a container's namespace, as the server whose work is counted.
    pub(super) fn start(inside: &Namespace, server: &Server) -> Result<Self> {
        let socket = inside.run(|| UdpSocket::bind(ADDRESS).context("socket of the limit"))?;
        socket.set_read_timeout(Some(LOOK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, server) = (Arc::clone(&stop), server.clone());
        let thread = thread::spawn(move || {
            if let Err(error) = server.join() {
                eprintln!("the thread of the limit is not counted: {error:#}");
            }
            serve(&socket, &stopped);
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _panic_was_printed = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffers = vec![[0; LONGEST]; BATCH];
    let (mut takes, mut sends) = (headers(), headers());
    while !stop.load(Ordering::Relaxed) {
        let Ok(came) = take(socket, &mut takes, &mut buffers) else { continue };
        let (lengths, peers): (Vec<usize>, Vec<Option<SockaddrIn>>) = came.into_iter().unzip();
        let answers = buffers.iter_mut().zip(lengths).map(|(buffer, len)| {
            buffer[2] |= RESPONSE;
            [IoSlice::new(&buffer[..len])]
        });
        let answers: Vec<_> = answers.collect();
        let flags = MsgFlags::empty();
        let _a_client_may_be_gone =
            sendmmsg(socket.as_raw_fd(), &mut sends, &answers, &peers, [], flags);
    }
}

fn headers() -> MultiHeaders<SockaddrIn> {
    MultiHeaders::preallocate(BATCH, None)
}

/// What waits, and waits where nothing does; the lengths and senders of what came.
fn take(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrIn>,
    buffers: &mut [[u8; LONGEST]],
) -> nix::Result<Vec<(usize, Option<SockaddrIn>)>> {
    let mut slices: Vec<_> = buffers.iter_mut().map(|it| [IoSliceMut::new(it)]).collect();
    let flags = MsgFlags::MSG_WAITFORONE;
    let taken = recvmmsg(socket.as_raw_fd(), headers, &mut slices, flags, None)?;
    Ok(taken.map(|message| (message.bytes, message.address)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_comes_back_as_an_answer() {
        let inside = Namespace::create().unwrap();
        let _limit = Limit::start(&inside, &Server::of_threads()).unwrap();
        let client = inside.run(|| Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let query: Vec<u8> = (0..40).collect();
        for _ in 0..2 {
            client.send_to(&query, ADDRESS).unwrap();
            let mut answer = [0; LONGEST];
            let len = client.recv(&mut answer).unwrap();
            assert_eq!((answer[2], len), (query[2] | RESPONSE, query.len()));
            assert_eq!(answer[3..len], query[3..]);
        }
    }
}
