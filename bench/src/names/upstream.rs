//! The name server of the outside: every name is there, and has one address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_proto::op::{Message, Metadata};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};

use crate::namespace::Namespace;

/// How often it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Longer than a run of the bench.
const TTL_S: u32 = 3_600;
const ANSWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A running one; it ends with the value.
#[derive(Debug)]
pub(super) struct Upstream {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Serves an address inside a namespace.
    pub(super) fn start(outside: &Namespace, address: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(address, 53);
        let socket = outside.run(|| UdpSocket::bind(address).context("socket of the upstream"))?;
        socket.set_read_timeout(Some(LOOK))?;
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = thread::spawn(move || serve(&socket, &stopped, &count));
        Ok(Self { stop, asked, thread: Some(thread) })
    }

    /// Queries that came in.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _panic_was_printed = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool, asked: &AtomicU64) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, peer)) = socket.recv_from(&mut buffer) else { continue };
        asked.fetch_add(1, Ordering::Relaxed);
        if let Some(bytes) = answer(&buffer[..len]) {
            let _a_client_may_be_gone = socket.send_to(&bytes, peer);
        }
    }
}

fn answer(bytes: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(bytes).ok()?;
    let asked = query.queries.first()?.clone();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&query.metadata);
    if asked.query_type() == RecordType::A {
        let name = asked.name().clone();
        answer.answers = vec![Record::from_rdata(name, TTL_S, RData::A(A(ANSWER)))];
    }
    answer.queries = vec![asked];
    answer.edns = query.edns;
    answer.to_vec().ok()
}
