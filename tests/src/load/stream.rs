//! Datagrams numbered one by one: a sender at a constant rate, and a receiver that notes each number.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Path, Report};
use crate::Netns;

/// A receiver that gets no processor for a second still loses nothing of 50 000 packets.
const QUEUE_BYTES: usize = 128 << 20;
/// Each such datagram is answered, so that the flow has a reply.
const ECHO_EVERY: u64 = 64;
/// A sender that was kept waiting catches up by bursts no longer than this.
const BURST: u64 = 64;
const TICK: Duration = Duration::from_millis(1);
const LOOKS_UP_EVERY: Duration = Duration::from_millis(100);
/// What a datagram carries: the stream's number and its own.
const LEN: usize = 12;

/// What came of each stream: bits by number.
type Seen = BTreeMap<u32, Numbers>;

#[derive(Default)]
struct Numbers {
    bits: Vec<u64>,
    count: u64,
}

impl Numbers {
    fn note(&mut self, number: u64) {
        let Ok(word) = usize::try_from(number / 64) else { return };
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        self.count += u64::from(self.bits[word] & bit == 0);
        self.bits[word] |= bit;
    }

    fn has(&self, number: u64) -> bool {
        let word = usize::try_from(number / 64).ok().and_then(|word| self.bits.get(word));
        word.is_some_and(|word| word & 1 << (number % 64) != 0)
    }
}

/// Notes the datagrams that come to one port, of any stream.
pub(super) struct Receiver {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Listens in `netns`, on both families.
    pub(super) fn start(netns: &Netns, port: u16) -> Result<Self> {
        let socket = netns.run(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?));
        let socket = socket.with_context(|| format!("udp port {port}"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE_BYTES)?;
        socket.set_read_timeout(Some(LOOKS_UP_EVERY))?;
        let (seen, stop) = (Arc::new(Mutex::new(Seen::new())), Arc::new(AtomicBool::new(false)));
        let (notes, told) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || receive(&socket, &notes, &told));
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// How many different ones of a stream came.
    pub(super) fn came(&self, stream: u32) -> u64 {
        self.with(stream, |numbers| numbers.count).unwrap_or(0)
    }

    /// Whether that one came.
    pub(super) fn has(&self, stream: u32, number: u64) -> bool {
        self.with(stream, |numbers| numbers.has(number)).unwrap_or(false)
    }

    fn with<T>(&self, stream: u32, look: impl FnOnce(&Numbers) -> T) -> Option<T> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&stream).map(look)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panic_was_printed = thread.join();
        }
    }
}

fn receive(socket: &UdpSocket, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut datagram = [0; LEN];
    while !stop.load(Ordering::Relaxed) {
        let Ok((LEN, from)) = socket.recv_from(&mut datagram) else { continue };
        let (stream, number) = decode(&datagram);
        seen.lock().unwrap_or_else(PoisonError::into_inner).entry(stream).or_default().note(number);
        if number.is_multiple_of(ECHO_EVERY) {
            // A sender that has ended needs no answer.
            let _nobody_there = socket.send_to(&datagram, from);
        }
    }
}

/// Sends numbered datagrams until told to stop.
pub(super) struct Sender {
    name: String,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<(u64, Vec<String>)>,
}

impl Sender {
    /// Sends `rate` a second along `path`.
    pub(super) fn start(
        stream: u32,
        path: &Path,
        rate: u32,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        let any = if path.stream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = path.from.run(|| Ok(UdpSocket::bind(any)?))?;
        socket.connect(path.stream)?;
        socket.set_nonblocking(true)?;
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let thread = thread::spawn(move || send(&socket, stream, rate, &count, &stop));
        Ok(Self { name: path.name.clone(), sent, thread })
    }

    /// Waits for its end; its name and how many it sent.
    pub(super) fn finish(self, report: &mut Report) -> (String, u64) {
        match self.thread.join() {
            Ok((echoes, failures)) => {
                report.echoes += echoes;
                report.failures.extend(failures);
            }
            Err(_) => report.failures.push(format!("the stream {} broke off", self.name)),
        }
        (self.name, self.sent.load(Ordering::Relaxed))
    }
}

fn send(
    socket: &UdpSocket,
    stream: u32,
    rate: u32,
    sent: &AtomicU64,
    stop: &AtomicBool,
) -> (u64, Vec<String>) {
    let (begun, mut echoes, mut failures) = (Instant::now(), 0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let due = u64::from(rate) * u64::try_from(begun.elapsed().as_micros()).unwrap_or(0);
        let behind = (due / 1_000_000).saturating_sub(sent.load(Ordering::Relaxed));
        for _ in 0..behind.min(BURST) {
            match socket.send(&encode(stream, sent.load(Ordering::Relaxed))) {
                Ok(_) => drop(sent.fetch_add(1, Ordering::Relaxed)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => failures.push(format!("a datagram was refused: {error}")),
            }
        }
        while socket.recv(&mut [0; LEN]).is_ok() {
            echoes += 1;
        }
        if behind < BURST {
            thread::sleep(TICK);
        }
    }
    failures.truncate(10);
    (echoes, failures)
}

fn encode(stream: u32, number: u64) -> [u8; LEN] {
    let mut datagram = [0; LEN];
    datagram[..4].copy_from_slice(&stream.to_be_bytes());
    datagram[4..].copy_from_slice(&number.to_be_bytes());
    datagram
}

fn decode(datagram: &[u8; LEN]) -> (u32, u64) {
    let (mut stream, mut number) = ([0; 4], [0; 8]);
    stream.copy_from_slice(&datagram[..4]);
    number.copy_from_slice(&datagram[4..]);
    (u32::from_be_bytes(stream), u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_counts_once() {
        let mut numbers = Numbers::default();
        for number in [0, 63, 64, 64, 1_000] {
            numbers.note(number);
        }
        assert_eq!(numbers.count, 4);
        assert!(numbers.has(64) && numbers.has(1_000) && !numbers.has(65) && !numbers.has(9_999));
    }

    #[test]
    fn datagram_reads_back_as_it_was_written() {
        assert_eq!(decode(&encode(5, u64::MAX - 1)), (5, u64::MAX - 1));
    }
}
