//! Queries and answers that nobody sends in good faith, and what must hold whatever they are: for
//! property tests and the fuzzer.
//!
//! Law: what is here knows what a name service owes its clients, and not how it keeps it.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use hickory_proto::op::{Message, ResponseCode};
use ipnetwork::Ipv6Network;

use super::cache::Cache;
use super::names::Names;
use super::policy::Servers;
use super::ready::Ready;
use super::reply::{Ask, Reply, Transport, UDP_PAYLOAD, Verdict, decide, is_answer};
use crate::config::Config;
use crate::model::{
    Circumstances, Command, EndpointSpec, Model, NetworkSpec, Outcome, Refusal, SandboxId,
    SandboxSpec, Settings,
};

/// Of a message by UDP without EDNS, and the least that EDNS may offer.
const SMALLEST: usize = 512;
const RESPONSE: u8 = 0x80;
const TTL_S: u32 = 5;
const ULA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);

/// A network with a container `web` that has a service, and twelve that share a name.
struct Town {
    names: Names,
    asker: SandboxId,
}

static TOWN: LazyLock<Result<Town, Refusal>> = LazyLock::new(Town::build);
static CACHE: LazyLock<Cache> = LazyLock::new(Cache::new);

/// A query comes in and, where it leads upstream, an answer to it. The first byte says how much of the
/// rest is the query, in units of four bytes; the second is the turn.
///
/// # Panics
///
/// Where a client gets what is not owed, or does not get what is.
pub fn endure(bytes: &[u8]) {
    let town = match &*TOWN {
        Ok(town) => town,
        Err(refusal) => unreachable!("the commands that build it are good ones: {refusal}"),
    };
    let [len, turn, rest @ ..] = bytes else { return };
    let (query, answer) = rest.split_at(rest.len().min(usize::from(*len) * 4));
    let Some(asker) = town.names.asker(town.asker) else { unreachable!("it is in the model") };
    match decide(query, &town.names, asker, TTL_S, u64::from(*turn)) {
        Verdict::Ignore => assert!(is_no_query(query), "a query has an answer"),
        Verdict::Answer(reply) => check(query, &reply),
        Verdict::Forward(ask) => outside(query, &ask, answer),
    }
}

/// Too short for an id, or a response.
fn is_no_query(bytes: &[u8]) -> bool {
    bytes.get(2).is_none_or(|flags| flags & RESPONSE != 0) || bytes.len() < 12
}

fn check(query: &[u8], reply: &Reply) {
    assert!(!is_no_query(query), "only queries are answered");
    for transport in [Transport::Udp, Transport::Tcp] {
        let Some(bytes) = reply.encode(transport) else { unreachable!("our own answer encodes") };
        in_form(query, &bytes, transport);
    }
    once_more(query, reply);
}

/// Who asks the same under another id is told the same.
fn once_more(query: &[u8], reply: &Reply) {
    let Some(mut answer) = reply.encode(Transport::Udp) else { unreachable!("as before") };
    let mut ready = Ready::default();
    ready.keep(query, reply, &answer);
    let mut buffer = [0; UDP_PAYLOAD as usize];
    let len = query.len().min(buffer.len());
    buffer[..len].copy_from_slice(&query[..len]);
    buffer[0] ^= 1;
    if let Some(len) = ready.answer(&mut buffer, len) {
        answer[0] ^= 1;
        assert_eq!(buffer[..len], answer);
    }
}

/// The id of the query, and no more than its sender takes.
fn in_form(query: &[u8], bytes: &[u8], transport: Transport) {
    assert_eq!(bytes.get(..2), query.get(..2), "the id is the query's");
    assert!(bytes.get(2).is_some_and(|flags| flags & RESPONSE != 0), "it is a response");
    assert!(Message::from_vec(bytes).is_ok(), "clients can read it");
    let asked = Message::from_vec(query).ok();
    let offered = asked.and_then(|it| it.edns).map_or(SMALLEST, |it| it.max_payload().into());
    let most = match transport {
        Transport::Udp => offered.clamp(SMALLEST, UDP_PAYLOAD.into()),
        Transport::Tcp => usize::from(u16::MAX),
    };
    assert!(bytes.len() <= most, "{} bytes where {most} are taken", bytes.len());
}

/// What is asked upstream is in form, and so is whatever becomes of the answer.
fn outside(query: &[u8], ask: &Ask, answer: &[u8]) {
    let asked = ask.upstream().to_vec().map(|bytes| Message::from_vec(&bytes));
    assert!(matches!(asked, Ok(Ok(_))), "upstreams can read it");
    let failed = ask.failed(ResponseCode::ServFail).encode(Transport::Udp);
    let Some(failed) = failed else { unreachable!("our own answer encodes") };
    in_form(query, &failed, Transport::Udp);
    let Some(answer) = Message::from_vec(answer).ok().filter(is_answer) else { return };
    CACHE.keep(&ask.query, &answer);
    let kept = CACHE.get(&ask.query);
    for message in kept.into_iter().chain([answer]) {
        let reply = ask.relay(message);
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Some(bytes) = reply.encode(transport) {
                in_form(query, &bytes, transport);
            }
        }
    }
}

impl Town {
    fn build() -> Result<Self, Refusal> {
        let config = Config::parse("", Path::new("netd.toml"));
        let settings = config.map_err(Refusal::invalid)?.base_settings().clone();
        let ula_prefix = Ipv6Network::new(ULA, 48).map_err(Refusal::invalid)?;
        let mut now = Circumstances {
            now_ns: 0,
            seed: [0; 32],
            departed: BTreeSet::new(),
            occupied: Vec::new(),
            host_addresses: BTreeSet::new(),
            port_range: (32_768, 60_999),
            reserved_ports: Vec::new(),
            busy_ports: BTreeSet::new(),
            uplink_mtu: 1500,
            settings: Arc::new(Settings { ula_prefix, ..settings }),
        };
        let mut model = Model::default();
        let mut asker = None;
        for (command, seed) in Self::commands().into_iter().zip(1..) {
            now.seed[0] = seed;
            let (next, outcome) = model.apply(command, &now)?;
            model = next;
            if let Outcome::Sandbox(id, _) = outcome {
                asker.get_or_insert(id);
            }
        }
        let asker = asker.ok_or_else(|| Refusal::invalid("nobody asks"))?;
        Ok(Self { names: Names::of(&model, &Servers::default()), asker })
    }

    fn commands() -> Vec<Command> {
        let network =
            NetworkSpec { name: "app".to_owned(), ipv6: Some(true), ..NetworkSpec::default() };
        let mut commands = vec![Command::CreateNetwork(Box::new(network))];
        let names = std::iter::once("web".to_owned()).chain((0..12).map(|n| format!("m{n:02}")));
        commands.extend(names.map(|name| {
            let endpoint =
                EndpointSpec { aliases: vec!["all".to_owned()], ..EndpointSpec::default() };
            Command::CreateSandbox(Box::new(SandboxSpec {
                name: Some(name),
                networks: vec![("app".to_owned(), endpoint)],
                expose: vec!["80-90".to_owned()],
                ..SandboxSpec::default()
            }))
        }));
        commands
    }
}
