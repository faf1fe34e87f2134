//! Name servers of the outside: each answers every query in its own way, by UDP and TCP.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::Netns;

/// How often a server looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Records of an answer that no datagram of 1 232 bytes holds.
const MANY: usize = 200;

/// What a server makes of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Every A query has this answer, for so many seconds; names that begin with `nx.` do not exist
    /// for as long, those that begin with `big.` have 200 text records.
    Answers(Ipv4Addr, u32),
    /// It has trouble.
    Fails,
    /// It says nothing.
    Silent,
}

/// A running server; it ends with the value.
pub struct NameServer {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// Serves port 53 of an address inside `netns`.
    pub fn start(netns: &Netns, address: IpAddr, manner: Manner) -> Result<Self> {
        let address = SocketAddr::new(address, 53);
        let (udp, tcp) = netns.run(|| {
            let udp = UdpSocket::bind(address).with_context(|| format!("udp {address}"))?;
            Ok((udp, TcpListener::bind(address).with_context(|| format!("tcp {address}"))?))
        })?;
        udp.set_read_timeout(Some(LOOK))?;
        tcp.set_nonblocking(true)?;
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let work = (Arc::clone(&stop), Arc::clone(&asked));
        let by_udp = thread::spawn(move || serve_udp(&udp, manner, &work.0, &work.1));
        let stopped = Arc::clone(&stop);
        let by_tcp = thread::spawn(move || serve_tcp(&tcp, manner, &stopped));
        Ok(Self { stop, asked, threads: vec![by_udp, by_tcp] })
    }

    /// Datagrams that came in.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _panic_was_printed = thread.join();
        }
    }
}

fn serve_udp(socket: &UdpSocket, manner: Manner, stop: &AtomicBool, asked: &AtomicUsize) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::SeqCst) {
        let Ok((len, peer)) = socket.recv_from(&mut buffer) else { continue };
        asked.fetch_add(1, Ordering::SeqCst);
        let Some(answer) = answer(&buffer[..len], manner) else { continue };
        let fits = answer.max_payload();
        let whole = answer.to_vec().unwrap_or_default();
        let bytes = if whole.len() > usize::from(fits) {
            answer.truncate().to_vec().unwrap_or_default()
        } else {
            whole
        };
        let _a_client_may_be_gone = socket.send_to(&bytes, peer);
    }
}

fn serve_tcp(listener: &TcpListener, manner: Manner, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => drop(converse(stream, manner)),
            Err(_) => thread::sleep(LOOK / 10),
        }
    }
}

fn converse(mut stream: TcpStream, manner: Manner) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    let answer = answer(&message, manner).context("no answer")?.to_vec()?;
    let len = u16::try_from(answer.len())?.to_be_bytes();
    Ok(stream.write_all(&[&len[..], &answer].concat())?)
}

fn answer(bytes: &[u8], manner: Manner) -> Option<Message> {
    let query = Message::from_vec(bytes).ok()?;
    let asked = query.queries.first()?.clone();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&query.metadata);
    answer.queries = vec![asked.clone()];
    answer.edns = query.edns;
    let (address, ttl) = match manner {
        Manner::Answers(address, ttl) => (address, ttl),
        Manner::Fails => {
            answer.metadata.response_code = ResponseCode::ServFail;
            return Some(answer);
        }
        Manner::Silent => return None,
    };
    let first = asked.name().iter().next().unwrap_or_default().to_ascii_lowercase();
    if first == b"nx" {
        answer.metadata.response_code = ResponseCode::NXDomain;
        let zone = Name::root();
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 60, 60, 60, ttl);
        answer.authorities = vec![Record::from_rdata(zone, ttl, RData::SOA(soa))];
    } else if first == b"big" {
        let text = |number| RData::TXT(TXT::new(vec![format!("record number {number}")]));
        let record = |number| Record::from_rdata(asked.name().clone(), ttl, text(number));
        answer.answers = (0..MANY).map(record).collect();
    } else if asked.query_type() == RecordType::A {
        let record = Record::from_rdata(asked.name().clone(), ttl, RData::A(A(address)));
        answer.answers = vec![record];
    }
    Some(answer)
}
