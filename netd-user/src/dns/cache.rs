//! What upstreams said, for as long as they said it holds.
//!
//! Law: bounded in number and time; a failure is never kept; a negative answer is kept only as long
//! as its SOA allows (RFC 2308).

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_net::{DnsError, NetError};
use hickory_proto::op::{DnsResponse, Message, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::{ResponseCache, TtlConfig};

/// Answers that one set of servers may fill.
const CAPACITY: usize = 4096;
/// Earlier queries that are looked at, beyond as many as there can be answers, for each new one.
const LOOKED_AT: usize = 2;
/// However long a server says.
const POSITIVE_MOST: Duration = Duration::from_hours(1);
const NEGATIVE_MOST: Duration = Duration::from_mins(5);

/// The answers of one set of servers.
pub(super) struct Cache {
    answers: ArcSwap<ResponseCache>,
    asked: Mutex<Asked>,
}

/// What answers may be there for; hickory does not tell.
#[derive(Default)]
struct Asked {
    queries: HashSet<Query>,
    /// The same: first that which was looked at longest ago.
    order: VecDeque<Query>,
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
        Self { answers: ArcSwap::from_pointee(answers()), asked: Mutex::default() }
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
        let Ok(response) = DnsResponse::from_message(bounded(query, answer)) else { return };
        let result = match DnsError::from_response(response) {
            Ok(response) => Ok(response.into_message()),
            Err(error) => Err(NetError::Dns(error)),
        };
        self.answers.load().insert(query.clone(), result, Instant::now());
        let mut asked = self.asked();
        if asked.queries.insert(query.clone()) {
            asked.order.push_back(query.clone());
            asked.forget_some(|query| self.get(query).is_some());
        }
    }

    /// Forgets everything; says how much that was.
    pub(super) fn flush(&self) -> usize {
        let asked = std::mem::take(&mut *self.asked());
        let held = asked.order.iter().filter(|query| self.get(query).is_some()).count();
        self.answers.store(Arc::new(answers()));
        held
    }

    /// Everything that holds, by name.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let queries = self.asked().order.clone();
        let known = queries.iter().filter_map(|query| Some(entry(query, &self.get(query)?)));
        let mut entries: Vec<Entry> = known.collect();
        entries.sort();
        entries
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// Looks at a few, so that none waits for all: as many again as there are answers, at most, are
    /// without one.
    fn forget_some(&mut self, holds: impl Fn(&Query) -> bool) {
        for _ in 0..LOOKED_AT {
            if self.order.len() <= CAPACITY {
                return;
            }
            let Some(query) = self.order.pop_front() else { return };
            if holds(&query) {
                self.order.push_back(query);
            } else {
                self.queries.remove(&query);
            }
        }
    }
}

/// hickory bounds how long a no is kept, but not what its SOA goes on to tell clients: the smaller of
/// two numbers is the time that it holds (RFC 2308). Nor does it see a no at the end of aliases: these
/// hold no longer than the no, and without a SOA not at all.
fn bounded(query: &Query, answer: &Message) -> Message {
    let most = u32::try_from(NEGATIVE_MOST.as_secs()).unwrap_or(u32::MAX);
    let mut answer = answer.clone();
    if !is_no(query, &answer) {
        return answer;
    }
    let mut holds = None;
    for record in &mut answer.authorities {
        if let RData::SOA(soa) = &record.data {
            record.ttl = record.ttl.min(soa.minimum).min(most);
            holds = holds.or(Some(record.ttl));
        }
    }
    for alias in &mut answer.answers {
        alias.ttl = alias.ttl.min(holds.unwrap_or(0));
    }
    answer
}

/// Whether nothing of the type that was asked for is there.
fn is_no(query: &Query, answer: &Message) -> bool {
    let wanted = query.query_type();
    let tells = |record: &Record| wanted == RecordType::ANY || record.record_type() == wanted;
    !answer.answers.iter().any(tells)
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::{A, CNAME, SOA};

    use super::*;

    const DAY_S: u32 = 86_400;

    /// What is known after an answer was kept.
    fn kept(code: ResponseCode, fill: impl FnOnce(&mut Message)) -> Option<(ResponseCode, u32)> {
        let query = Query::query(Name::from_ascii("www.example.").expect("name"), RecordType::A);
        let mut answer = Message::response(7, OpCode::Query);
        answer.metadata.response_code = code;
        answer.add_query(query.clone());
        fill(&mut answer);
        let cache = Cache::new();
        cache.keep(&query, &answer);
        let known = cache.get(&query)?;
        Some((known.metadata.response_code, cache.entries().first().expect("entry").ttl_s))
    }

    fn record(ttl_s: u32, data: RData) -> Record {
        Record::from_rdata(Name::from_ascii("www.example.").expect("name"), ttl_s, data)
    }

    fn soa(minimum: u32) -> Record {
        let root = Name::root();
        record(DAY_S, RData::SOA(SOA::new(root.clone(), root, 1, 60, 60, 60, minimum)))
    }

    #[test]
    fn an_answer_is_kept_as_long_as_it_says_and_no_longer_than_an_hour() {
        for (said, bounds) in [(30, 29..=30), (DAY_S, 3_599..=3_600)] {
            let fill = |it: &mut Message| {
                it.answers.push(record(said, RData::A(A(Ipv4Addr::LOCALHOST))));
            };
            let (code, ttl_s) = kept(ResponseCode::NoError, fill).expect("kept");
            assert!(code == ResponseCode::NoError && bounds.contains(&ttl_s), "{said}: {ttl_s}");
        }
    }

    #[test]
    fn no_is_kept_as_its_soa_allows_and_no_longer_than_five_minutes() {
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            for (minimum, bounds) in [(DAY_S, 299..=300), (60, 59..=60)] {
                let fill = |it: &mut Message| it.authorities.push(soa(minimum));
                let (known, ttl_s) = kept(code, fill).expect("kept");
                assert!(known == code && bounds.contains(&ttl_s), "{code}: {ttl_s}");
            }
            assert_eq!(kept(code, |_| {}), None, "{code} without a word of how long");
        }
    }

    #[test]
    fn an_alias_of_what_is_not_there_is_kept_no_longer_than_the_no() {
        let alias = || record(3_600, RData::CNAME(CNAME(Name::root())));
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            let fill = |it: &mut Message| {
                it.answers.push(alias());
                it.authorities.push(soa(60));
            };
            let (known, ttl_s) = kept(code, fill).expect("kept");
            assert!(known == code && (59..=60).contains(&ttl_s), "{code}: {ttl_s}");
            assert_eq!(kept(code, |it| it.answers.push(alias())), None, "{code} without a SOA");
        }
        let fill = |it: &mut Message| {
            it.answers.extend([alias(), record(3_600, RData::A(A(Ipv4Addr::LOCALHOST)))]);
            it.authorities.push(soa(60));
        };
        let (_, ttl_s) = kept(ResponseCode::NoError, fill).expect("kept");
        assert!(ttl_s > 60, "a yes: {ttl_s}");
    }

    #[test]
    fn however_many_are_asked_for_few_more_are_remembered_than_answers() {
        let cache = Cache::new();
        for number in 0..4 * CAPACITY {
            let name = Name::from_ascii(format!("n{number}.example.")).expect("name");
            let query = Query::query(name.clone(), RecordType::A);
            let mut answer = Message::response(7, OpCode::Query);
            answer.add_query(query.clone());
            let address = RData::A(A(Ipv4Addr::LOCALHOST));
            answer.answers.push(Record::from_rdata(name, 300, address));
            cache.keep(&query, &answer);
            let asked = cache.asked();
            assert_eq!(asked.queries.len(), asked.order.len());
            assert!(asked.order.len() <= 3 * CAPACITY, "{}", asked.order.len());
        }
        let held = cache.entries().len();
        assert!(held > CAPACITY / 2, "{held}");
    }

    #[test]
    fn trouble_is_never_kept() {
        for code in [ResponseCode::ServFail, ResponseCode::Refused] {
            assert_eq!(kept(code, |it| it.authorities.push(soa(DAY_S))), None, "{code}");
        }
    }
}
