//! From a query to an answer, or to what has to be asked elsewhere. Pure, but for the shuffle.
//!
//! Laws: whatever comes in, at most one answer goes out and nothing panics; a name that a network
//! knows never leads upstream, and its missing records are NODATA, never NXDOMAIN.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::{Asker, Found, Holder, Names};
use crate::model::Proto;

/// Shortest message that has an id to answer to: a header.
const HEADER_LEN: usize = 12;
/// What we take by UDP (RFC 6891); the loopback device carries it unfragmented.
pub const UDP_PAYLOAD: u16 = 4096;
/// Without EDNS (RFC 1035).
const PLAIN_PAYLOAD: u16 = 512;
/// Most addresses in one answer: as many IPv6 ones fit a datagram.
const ANSWERS_AT_MOST: usize = 128;

/// What becomes of a query.
#[derive(Debug)]
pub enum Verdict {
    /// It is answered from what is known.
    Answer(Reply),
    /// It has to be asked upstream.
    Forward(Ask),
    /// It is no query: answering would only help a flood.
    Ignore,
}

/// A query as understood, on its way upstream.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Name, type, class.
    pub query: Query,
    head: Metadata,
    edns: Option<Edns>,
}

/// An answer with what its sending needs.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub message: Message,
    /// The most that the asker takes by UDP, bytes.
    pub payload: u16,
}

/// Decides a query of `asker`; `random` chooses which of several addresses comes first.
pub fn decide(bytes: &[u8], names: &Names, asker: &Asker, ttl_s: u32, random: u64) -> Verdict {
    let Ok(message) = Message::from_vec(bytes) else { return malformed(bytes) };
    if message.metadata.message_type != MessageType::Query {
        return Verdict::Ignore;
    }
    let (head, edns) = (message.metadata, message.edns);
    let mut queries = message.queries.into_iter();
    let (Some(query), None) = (queries.next(), queries.next()) else {
        return Verdict::Answer(
            Ask { query: Query::new(), head, edns }.failed(ResponseCode::FormErr),
        );
    };
    let ask = Ask { query, head, edns };
    match refusal(&ask) {
        Some(code) => Verdict::Answer(ask.failed(code)),
        None => resolve(ask, names, asker, (ttl_s, random)),
    }
}

/// What is wrong, to who still has an id. A response is never answered, however broken it is.
fn malformed(bytes: &[u8]) -> Verdict {
    const RESPONSE: u8 = 0x80;
    if bytes.len() < HEADER_LEN || bytes[2] & RESPONSE != 0 {
        return Verdict::Ignore;
    }
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let message = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    Verdict::Answer(Reply { message, payload: PLAIN_PAYLOAD })
}

/// Why a query is not even looked at.
fn refusal(ask: &Ask) -> Option<ResponseCode> {
    let transfer = matches!(ask.query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if ask.head.op_code != OpCode::Query {
        Some(ResponseCode::NotImp)
    } else if ask.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        Some(ResponseCode::BADVERS)
    } else if transfer || ask.query.query_class() != DNSClass::IN {
        Some(ResponseCode::Refused)
    } else {
        None
    }
}

fn resolve(ask: Ask, names: &Names, asker: &Asker, (ttl_s, random): (u32, u64)) -> Verdict {
    let Some(name) = text(ask.query.name()) else { return Verdict::Forward(ask) };
    let kind = ask.query.query_type();
    let answers = if ask.query.name().is_localhost() {
        Some(localhost(kind))
    } else if name.rsplit('.').next() == Some("arpa") {
        pointer(&ask.query, names, asker)
    } else if let Some(found) = names.find(asker, &name) {
        Some(addresses(kind, found, random))
    } else {
        service(&name, names, asker)
            .map(|known| if kind == RecordType::SRV { known } else { Vec::new() })
    };
    let Some(answers) = answers else { return Verdict::Forward(ask) };
    let mut reply = ask.reply(ResponseCode::NoError);
    let record = |data| Record::from_rdata(ask.query.name().clone(), ttl_s, data);
    reply.message.answers = answers.into_iter().map(record).collect();
    reply.message.metadata.authoritative = true;
    Verdict::Answer(reply)
}

/// A name in lower case without its final dot; none where it is no text.
fn text(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(std::str::from_utf8(label).ok()?);
    }
    text.make_ascii_lowercase();
    Some(text)
}

/// RFC 6761, 6.3.
fn localhost(kind: RecordType) -> Vec<RData> {
    let (v4, v6) = (std::net::Ipv4Addr::LOCALHOST, std::net::Ipv6Addr::LOCALHOST);
    records(kind, std::iter::once((Some(v4), Some(v6))))
}

fn addresses(kind: RecordType, found: Found<'_>, random: u64) -> Vec<RData> {
    let count = found.holders.len();
    // One that has been shuffled once more by each client needs no better than a turn.
    let turn = usize::try_from(random % count.max(1) as u64).unwrap_or(0);
    let (late, early) = found.holders.split_at(turn);
    let mut chosen: Vec<&Holder> = early.iter().chain(late).collect();
    if random & 1 << 63 != 0 && count > 2 {
        chosen[1..].reverse();
    }
    records(kind, chosen.into_iter().map(|holder| (holder.v4, holder.v6)))
}

fn records(
    kind: RecordType,
    holders: impl Iterator<Item = (Option<std::net::Ipv4Addr>, Option<std::net::Ipv6Addr>)>,
) -> Vec<RData> {
    let of_kind = |(v4, v6): (Option<_>, Option<_>)| {
        let v4 = v4.filter(|_| matches!(kind, RecordType::A | RecordType::ANY));
        let v6 = v6.filter(|_| matches!(kind, RecordType::AAAA | RecordType::ANY));
        v4.map(|it| RData::A(A(it))).into_iter().chain(v6.map(|it| RData::AAAA(AAAA(it))))
    };
    holders.flat_map(of_kind).take(ANSWERS_AT_MOST).collect()
}

/// The name of an address of ours; other addresses are asked upstream.
fn pointer(query: &Query, names: &Names, asker: &Asker) -> Option<Vec<RData>> {
    let net = query.name().parse_arpa_name().ok()?;
    if net.prefix_len() != net.max_prefix_len() {
        return None;
    }
    let address: IpAddr = net.addr();
    let name = Name::from_ascii(names.reverse(asker, address)?).ok()?;
    let wanted = matches!(query.query_type(), RecordType::PTR | RecordType::ANY);
    Some(if wanted { vec![RData::PTR(PTR(name))] } else { Vec::new() })
}

/// `_PORT._PROTO.NAME` with the number of an exposed port (RFC 2782).
fn service(name: &str, names: &Names, asker: &Asker) -> Option<Vec<RData>> {
    let (port, rest) = name.strip_prefix('_')?.split_once("._")?;
    let (proto, name) = rest.split_once('.')?;
    let found = names.find(asker, name)?;
    let target = Name::from_ascii(format!("{name}.")).ok()?;
    let proto = match proto {
        "tcp" => Proto::Tcp,
        "udp" => Proto::Udp,
        "sctp" => Proto::Sctp,
        _ => return Some(Vec::new()),
    };
    let port =
        port.parse().ok().filter(|port| found.holders.iter().any(|it| it.exposes(*port, proto)));
    Some(port.map(|port| RData::SRV(SRV::new(0, 0, port, target))).into_iter().collect())
}

impl Ask {
    /// An empty answer to it.
    pub fn reply(&self, code: ResponseCode) -> Reply {
        let mut message = Message::response(self.head.id, self.head.op_code);
        message.metadata = Metadata::response_from_request(&self.head);
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.queries = vec![self.query.clone()];
        let payload = self.edns.as_ref().map_or(PLAIN_PAYLOAD, Edns::max_payload);
        message.edns = self.edns.as_ref().map(our_edns);
        Reply { message, payload: payload.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD) }
    }

    /// An answer that says why there is none.
    pub fn failed(&self, code: ResponseCode) -> Reply {
        let mut reply = self.reply(code);
        if self.query == Query::new() {
            reply.message.queries.clear();
        }
        reply
    }

    /// An upstream's answer, as an answer to this query.
    pub fn relay(&self, answer: Message) -> Reply {
        let mut reply = self.reply(answer.metadata.response_code);
        // Who sets AD or DO understands it (RFC 6840, 5.8).
        let understands = self.head.authentic_data || self.wants_proof();
        reply.message.metadata.authentic_data = answer.metadata.authentic_data && understands;
        reply.message.answers = answer.answers;
        reply.message.authorities = answer.authorities;
        reply.message.additionals = answer.additionals;
        reply
    }

    /// Whether DNSSEC matters to the asker: then no cache stands between.
    pub fn wants_proof(&self) -> bool {
        let asks = self.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        asks || self.head.checking_disabled
    }

    /// The query for an upstream, under an id of its own.
    pub fn upstream(&self) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.head.checking_disabled;
        message.metadata.authentic_data = self.head.authentic_data;
        message.queries = vec![self.query.clone()];
        let dnssec_ok = self.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let mut edns = Edns::new();
        edns.set_max_payload(UPSTREAM_PAYLOAD).set_dnssec_ok(dnssec_ok);
        message.edns = Some(edns);
        message
    }
}

fn our_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

/// Whether an upstream's message is a response to a query. Records of other operations have forms of
/// their own (RFC 2136), which no client could read in an answer.
pub fn is_answer(message: &Message) -> bool {
    let Metadata { message_type, op_code, .. } = message.metadata;
    message_type == MessageType::Response && op_code == OpCode::Query
}

/// What upstreams may send by UDP: unfragmented on every link (RFC 9715).
const UPSTREAM_PAYLOAD: u16 = 1232;

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram, truncated where it does not fit.
    Udp,
    /// A stream.
    Tcp,
}

impl Reply {
    /// The answer as bytes; none where it can't be written, which only a foreign answer causes.
    pub fn encode(&self, transport: Transport) -> Option<Vec<u8>> {
        let bytes = self.message.to_vec().ok()?;
        let fits = match transport {
            Transport::Udp => bytes.len() <= usize::from(self.payload),
            Transport::Tcp => u16::try_from(bytes.len()).is_ok(),
        };
        if fits { Some(bytes) } else { self.message.truncate().to_vec().ok() }
    }
}
