//! What upstreams said, for as long as they said it holds.
//!
//! Law: bounded in number and time; a failure is never kept; a negative answer is kept only as long
//! as its SOA allows (RFC 2308).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_net::{DnsError, NetError};
use hickory_proto::op::{DnsResponse, Message, Query, ResponseCode};
use hickory_proto::rr::Record;
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::{ResponseCache, TtlConfig};

/// Answers that one set of servers may fill.
const CAPACITY: usize = 4096;
/// However long a server says.
const POSITIVE_MOST: Duration = Duration::from_hours(1);
const NEGATIVE_MOST: Duration = Duration::from_mins(5);

/// The answers of one set of servers.
pub(super) struct Cache {
    answers: ArcSwap<ResponseCache>,
    queries: Mutex<HashSet<Query>>,
}

/// One answer as people see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name with its final dot.
    pub name: String,
    /// The record type.
    pub kind: String,
    /// The response code.
    pub rcode: String,
    /// How long it holds yet, seconds.
    pub ttl_s: u32,
    /// The records' data.
    pub records: Vec<String>,
}

impl Cache {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { answers: ArcSwap::from_pointee(answers()), queries: Mutex::default() }
    }

    /// What is known about a query, with what is left of its time.
    pub(super) fn get(&self, query: &Query) -> Option<Message> {
        let known = self.answers.load().get(query, Instant::now())?;
        match known {
            Ok(message) => Some(message),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let mut message = Message::response(0, hickory_proto::op::OpCode::Query);
                message.metadata.response_code = none.response_code;
                let soa = none.soa.map(|soa| Record::clone(&soa.into_record_of_rdata()));
                message.authorities = soa.into_iter().collect();
                Some(message)
            }
            Err(_) => None,
        }
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, query: &Query, answer: &Message) {
        let Ok(response) = DnsResponse::from_message(answer.clone()) else { return };
        let result = match DnsError::from_response(response) {
            Ok(response) => Ok(response.into_message()),
            Err(error) => Err(NetError::Dns(error)),
        };
        self.answers.load().insert(query.clone(), result, Instant::now());
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        if queries.len() >= 2 * CAPACITY {
            queries.retain(|query| self.get(query).is_some());
        }
        queries.insert(query.clone());
    }

    /// Forgets everything; says how much that was.
    pub(super) fn flush(&self) -> usize {
        let held = self.entries().len();
        self.answers.store(Arc::new(answers()));
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).clear();
        held
    }

    /// Everything that holds, by name.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = queries.iter().filter_map(|query| Some(entry(query, &self.get(query)?)));
        let mut entries: Vec<Entry> = known.collect();
        entries.sort();
        entries
    }
}

fn answers() -> ResponseCache {
    let mut bounds = ResolverOpts::default();
    bounds.positive_max_ttl = Some(POSITIVE_MOST);
    bounds.negative_max_ttl = Some(NEGATIVE_MOST);
    ResponseCache::new(CAPACITY as u64, TtlConfig::from_opts(&bounds))
}

fn entry(query: &Query, message: &Message) -> Entry {
    let records = message.answers.iter().chain(&message.authorities);
    Entry {
        name: query.name().to_ascii(),
        kind: query.query_type().to_string(),
        rcode: code_name(message.metadata.response_code),
        ttl_s: records.map(|record| record.ttl).min().unwrap_or(0),
        records: message.answers.iter().map(|record| record.data.to_string()).collect(),
    }
}

/// As `dig` writes it.
pub(super) fn code_name(code: ResponseCode) -> String {
    let common = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    let number = u16::from(code);
    common
        .get(usize::from(number))
        .map_or_else(|| format!("RCODE{number}"), |&name| name.to_owned())
}
