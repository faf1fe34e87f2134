//! What is told to whom, and who is asked: the pure parts over small models.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::names::Names;
use super::ordeal::endure;
use super::policy::{Place, Servers, Silent, Upstream};
use super::ready::Ready;
use super::reply::{Transport, Verdict, decide, is_answer};
use crate::compile::tests::world::World;
use crate::model::options::NAME_SERVERS;
use crate::model::{Proto, SandboxId};

const ASKER: SandboxId = SandboxId([1; 32]);

/// Sandbox 1 on `app` and `back`, 2 (`Web`) on `app`, 3 (`db`) on `back`, 4 on `far` alone.
fn world() -> World {
    let mut world = World::default();
    world.network(1, "app", |_| {});
    world.network(2, "Back", |network| network.internal = true);
    world.network(3, "far", |_| {});
    world.sandbox(1, "asker", &[(1, 2), (2, 2)]);
    world.sandbox(2, "Web", &[(1, 3)]);
    world.sandbox(3, "db", &[(2, 3)]);
    world.sandbox(4, "stranger", &[(3, 2)]);
    world
}

fn change(world: &mut World, n: u8, change: impl FnOnce(&mut crate::model::Sandbox)) {
    change_of(world.model.sandboxes.get_mut(&SandboxId([n; 32])).unwrap(), change);
}

fn change_of<T: Clone>(shared: &mut Arc<T>, change: impl FnOnce(&mut T)) {
    change(Arc::make_mut(shared));
}

fn servers(host: &[&str]) -> Servers {
    let host = host.iter().map(|text| text.parse().unwrap()).collect();
    Servers { host, ..Servers::default() }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn verdict(world: &World, sandbox: SandboxId, bytes: &[u8]) -> Verdict {
    let names = Names::of(&world.model, &Servers::default());
    decide(bytes, &names, names.asker(sandbox).unwrap(), 5, 0)
}

/// The records' data, or none where the query leads upstream.
fn told(world: &World, name: &str, kind: RecordType) -> Option<Vec<String>> {
    match verdict(world, ASKER, &query(name, kind).to_vec().unwrap()) {
        Verdict::Answer(reply) => {
            assert_eq!(reply.message.metadata.response_code, ResponseCode::NoError);
            Some(reply.message.answers.iter().map(|record| record.data.to_string()).collect())
        }
        Verdict::Forward(_) => None,
        Verdict::Ignore => panic!("{name} is ignored"),
    }
}

fn code(world: &World, message: &Message) -> Option<ResponseCode> {
    match verdict(world, ASKER, &message.to_vec().unwrap()) {
        Verdict::Answer(reply) => Some(reply.message.metadata.response_code),
        Verdict::Forward(_) | Verdict::Ignore => None,
    }
}

fn texts(records: &[&str]) -> Vec<String> {
    records.iter().map(ToString::to_string).collect()
}

#[test]
fn every_name_of_a_container_leads_to_it_without_regard_to_case() {
    let mut world = world();
    world.change_endpoint(3, |endpoint| endpoint.aliases = vec!["WWW".to_owned()]);
    change(&mut world, 2, |sandbox| "shop".clone_into(&mut sandbox.hostname));
    let id = SandboxId([2; 32]).short();
    for name in ["web.", "WEB.", "www.", "shop.", &id, "web.app.", "wEb.ApP.", "tasks.web."] {
        assert_eq!(told(&world, name, RecordType::A), Some(texts(&["10.1.0.3"])), "{name}");
        assert_eq!(told(&world, name, RecordType::AAAA), Some(texts(&["fd00:1::3"])), "{name}");
    }
    assert_eq!(told(&world, "db.back.", RecordType::A), Some(texts(&["10.2.0.3"])));
}

#[test]
fn a_known_name_is_nodata_for_other_types_and_an_unknown_one_leads_upstream() {
    let mut world = world();
    world.change_endpoint(3, |endpoint| endpoint.v6 = None);
    for kind in [RecordType::AAAA, RecordType::MX, RecordType::TXT, RecordType::HTTPS] {
        assert_eq!(told(&world, "web.", kind), Some(texts(&[])), "{kind}");
    }
    for name in ["stranger.", "stranger.far.", "web.back.", "web.app.example.", "app.", "."] {
        assert_eq!(told(&world, name, RecordType::A), None, "{name}");
    }
}

#[test]
fn the_network_of_the_first_default_route_answers_first() {
    let mut world = world();
    world.change_endpoint(4, |endpoint| endpoint.aliases = vec!["web".to_owned()]);
    assert_eq!(told(&world, "web.", RecordType::A), Some(texts(&["10.2.0.3"])), "'Back' < 'app'");
    world.change_endpoint(1, |endpoint| endpoint.gw_priority = 1);
    assert_eq!(told(&world, "web.", RecordType::A), Some(texts(&["10.1.0.3"])));
}

#[test]
fn addresses_lead_to_names_only_on_shared_networks() {
    let world = world();
    let pointer = |address: &str| {
        let name = Name::from(address.parse::<IpAddr>().unwrap()).to_ascii();
        told(&world, &name, RecordType::PTR)
    };
    assert_eq!(pointer("10.1.0.3"), Some(texts(&["Web.app."])));
    assert_eq!(pointer("fd00:2::3"), Some(texts(&["db.Back."])));
    assert_eq!(pointer("10.3.0.2"), None);
    assert_eq!(told(&world, "3.0.1.10.in-addr.arpa.", RecordType::A), Some(texts(&[])));
}

#[test]
fn an_exposed_port_has_a_service_record() {
    let mut world = world();
    change(&mut world, 2, |sandbox| sandbox.expose = vec![(80, 90, Proto::Tcp)]);
    assert_eq!(told(&world, "_85._tcp.web.", RecordType::SRV), Some(texts(&["0 0 85 web."])));
    assert_eq!(told(&world, "_85._udp.web.", RecordType::SRV), Some(texts(&[])));
    assert_eq!(told(&world, "_85._tcp.web.", RecordType::A), Some(texts(&[])));
    assert_eq!(told(&world, "_85._tcp.example.", RecordType::SRV), None);
}

#[test]
fn localhost_never_leads_upstream() {
    assert_eq!(told(&world(), "localhost.", RecordType::A), Some(texts(&["127.0.0.1"])));
    assert_eq!(told(&world(), "x.localhost.", RecordType::AAAA), Some(texts(&["::1"])));
}

#[test]
fn what_is_no_plain_query_is_refused_by_its_name() {
    let world = world();
    let mut update = query("web.", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(code(&world, &update), Some(ResponseCode::NotImp));
    assert_eq!(code(&world, &query("web.", RecordType::AXFR)), Some(ResponseCode::Refused));
    let mut twice = query("web.", RecordType::A);
    twice.add_query(twice.queries[0].clone());
    assert_eq!(code(&world, &twice), Some(ResponseCode::FormErr));
    let response = Message::response(7, OpCode::Query).to_vec().unwrap();
    assert!(matches!(verdict(&world, ASKER, &response), Verdict::Ignore));
    assert!(matches!(verdict(&world, ASKER, &[0; 11]), Verdict::Ignore));
}

#[test]
fn an_answer_that_does_not_fit_is_truncated_by_udp_and_whole_by_tcp() {
    let mut world = World::default();
    world.crowd(100);
    for index in 1..=100 {
        world.change_endpoint(index, |endpoint| endpoint.aliases = vec!["all".to_owned()]);
    }
    let names = Names::of(&world.model, &Servers::default());
    let asker = names.asker(SandboxId([0; 32])).unwrap();
    let bytes = query("all.", RecordType::A).to_vec().unwrap();
    let Verdict::Answer(reply) = decide(&bytes, &names, asker, 5, 0) else { panic!("forwarded") };
    let udp = Message::from_vec(&reply.encode(Transport::Udp).unwrap()).unwrap();
    assert!(udp.metadata.truncation && udp.answers.is_empty());
    let tcp = Message::from_vec(&reply.encode(Transport::Tcp).unwrap()).unwrap();
    assert!(!tcp.metadata.truncation && tcp.answers.len() == 100);
}

/// What a query is told that says the same as an earlier one, as far as that is known.
fn told_again(ready: &Ready, query: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; 4096];
    buffer[..query.len()].copy_from_slice(query);
    let len = ready.answer(&mut buffer, query.len())?;
    Some(buffer[..len].to_vec())
}

/// Asks and keeps the answer.
fn keep(world: &World, ready: &mut Ready, message: &Message) -> Vec<u8> {
    let query = message.to_vec().unwrap();
    let Verdict::Answer(reply) = verdict(world, ASKER, &query) else { panic!("forwarded") };
    let answer = reply.encode(Transport::Udp).unwrap();
    ready.keep(&query, &reply, &answer);
    answer
}

#[test]
fn the_same_query_is_told_the_same_under_its_own_id_as_long_as_the_names_are_the_same() {
    let (world, mut ready) = (world(), Ready::default());
    ready.follow(1);
    for kind in [RecordType::A, RecordType::TXT] {
        let mut message = query("web.", kind);
        let first = keep(&world, &mut ready, &message);
        message.metadata.id ^= 0xffff;
        let again = told_again(&ready, &message.to_vec().unwrap()).unwrap();
        assert_eq!(again[..2], message.metadata.id.to_be_bytes());
        assert_eq!(again[2..], first[2..]);
        assert_eq!(told_again(&ready, &query("WEB.", kind).to_vec().unwrap()), None);
    }
    ready.follow(2);
    assert_eq!(told_again(&ready, &query("web.", RecordType::A).to_vec().unwrap()), None);
}

#[test]
fn answers_that_come_in_turns_and_refusals_are_made_each_time() {
    let (mut world, mut ready) = (world(), Ready::default());
    world.sandbox(5, "other", &[(1, 4)]);
    for index in [3, 6] {
        world.change_endpoint(index, |endpoint| endpoint.aliases = vec!["www".to_owned()]);
    }
    for (name, kind) in [("www.", RecordType::A), ("web.", RecordType::AXFR)] {
        let message = query(name, kind);
        keep(&world, &mut ready, &message);
        assert_eq!(told_again(&ready, &message.to_vec().unwrap()), None, "{name} {kind}");
    }
}

fn upstreams(world: &World, n: u8, servers: &Servers) -> Vec<(Place, String)> {
    let names = Names::of(&world.model, servers);
    let asker = names.asker(SandboxId([n; 32])).unwrap();
    let show = |it: &Upstream| (it.place, it.address.ip().to_string());
    asker.upstreams.servers.iter().map(show).collect()
}

fn at(place: Place, server: &str) -> (Place, String) {
    (place, server.to_owned())
}

#[test]
fn the_sandbox_wins_over_the_network_the_network_over_the_daemon_the_daemon_over_the_host() {
    let mut world = world();
    let mut known = servers(&["9.9.9.1"]);
    assert_eq!(upstreams(&world, 2, &known), [at(Place::Sandbox, "9.9.9.1")]);
    known.daemon = vec![Ipv4Addr::new(9, 9, 9, 2).into()];
    assert_eq!(upstreams(&world, 2, &known), [at(Place::Sandbox, "9.9.9.2")]);
    let network = world.model.networks.values_mut().find(|it| it.name == "app").unwrap();
    change_of(network, |it| {
        it.options.insert(NAME_SERVERS.to_owned(), "9.9.9.3, fd00:1::9".to_owned());
    });
    let both = [at(Place::Sandbox, "9.9.9.3"), at(Place::Sandbox, "fd00:1::9")];
    assert_eq!(upstreams(&world, 2, &known), both);
    change(&mut world, 2, |sandbox| sandbox.dns = vec!["127.0.0.1".to_owned()]);
    assert_eq!(upstreams(&world, 2, &known), [at(Place::Sandbox, "127.0.0.1")]);
}

#[test]
fn the_hosts_loopback_and_families_that_a_sandbox_lacks_are_asked_from_the_host() {
    let mut world = world();
    let known = servers(&["127.0.0.53", "9.9.9.1", "2001:db8::1"]);
    world.change_endpoint(3, |endpoint| endpoint.v6 = None);
    let wanted = [
        at(Place::Host, "127.0.0.53"),
        at(Place::Sandbox, "9.9.9.1"),
        at(Place::Host, "2001:db8::1"),
    ];
    assert_eq!(upstreams(&world, 2, &known), wanted);
}

#[test]
fn an_internal_network_leads_to_no_server_but_its_own() {
    let mut world = world();
    let known = servers(&["127.0.0.53", "9.9.9.1"]);
    assert_eq!(upstreams(&world, 3, &known), []);
    change(&mut world, 3, |sandbox| {
        sandbox.dns = vec!["10.2.0.2".to_owned(), "9.9.9.9".to_owned()];
    });
    assert_eq!(upstreams(&world, 3, &known), [at(Place::Sandbox, "10.2.0.2")]);
}

#[test]
fn a_silent_server_is_asked_last_until_it_speaks_or_time_has_passed() {
    let upstream =
        |last| Upstream { place: Place::Host, address: (Ipv4Addr::new(9, 9, 9, last), 53).into() };
    let (a, b) = (upstream(1), upstream(2));
    let mut silent = Silent::default();
    assert_eq!(silent.order(&[a, b], 0), [a, b]);
    silent.fell_silent(a, 0);
    assert_eq!(silent.order(&[a, b], 29_999), [b, a]);
    assert_eq!(silent.order(&[a, b], 30_000), [a, b]);
    silent.fell_silent(b, 29_999);
    assert_eq!(silent.order(&[a, b], 29_999), [a, b]);
    silent.spoke(b);
    silent.spoke(a);
    assert!(silent.is_empty());
}

#[test]
fn only_a_response_to_a_query_is_an_answer() {
    assert!(is_answer(&Message::response(7, OpCode::Query)));
    assert!(!is_answer(&Message::response(7, OpCode::Update)));
    assert!(!is_answer(&Message::query()));
}

/// Runs what the fuzzer has kept.
#[test]
fn clients_get_what_is_owed_on_all_that_the_fuzzer_has_kept() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/dns");
    let kept = std::fs::read_dir(&corpus).expect("the fuzzer's corpus is in the repository");
    let runs = kept.map(|file| endure(&std::fs::read(file.unwrap().path()).unwrap())).count();
    assert!(runs > 50, "{runs} files in {}", corpus.display());
}

proptest! {
    #[test]
    fn clients_get_what_is_owed_whatever_comes_in(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
        endure(&bytes);
    }

    #[test]
    fn whatever_comes_in_is_answered_in_form_or_not_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let world = world();
        if let Verdict::Answer(reply) = verdict(&world, ASKER, &bytes) {
            let answer = Message::from_vec(&reply.encode(Transport::Udp).unwrap()).unwrap();
            prop_assert_eq!(answer.metadata.id.to_be_bytes(), [bytes[0], bytes[1]]);
        }
    }

    #[test]
    fn every_turn_tells_all_holders(random in any::<u64>(), count in 1_u16..20) {
        let mut world = World::default();
        world.crowd(count);
        for index in 1..=u32::from(count) {
            world.change_endpoint(index, |endpoint| endpoint.aliases = vec!["all".to_owned()]);
        }
        let names = Names::of(&world.model, &Servers::default());
        let bytes = query("all.", RecordType::A).to_vec().unwrap();
        let asker = names.asker(SandboxId([0; 32])).unwrap();
        let Verdict::Answer(reply) = decide(&bytes, &names, asker, 5, random) else {
            panic!("forwarded")
        };
        let addresses = reply.message.answers.iter().filter_map(|record| record.data.ip_addr());
        let distinct: std::collections::BTreeSet<IpAddr> = addresses.collect();
        prop_assert_eq!(distinct.len(), usize::from(count));
    }
}
