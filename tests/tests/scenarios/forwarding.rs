//! Names of the outside: who is asked, in which order, and what becomes of the answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use netd_tests::outside::WORLD_V4;
use netd_tests::upstream::{Manner, NameServer};
use netd_tests::{Daemon, eventually};

use super::names::{dig, glibc, inside, named};
use super::resolver::{NOERROR, answer, query, resolver_of, socket};
use super::{World, drops, flow_stat, network};

const WORLD: IpAddr = IpAddr::V4(WORLD_V4);
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SOON: Duration = Duration::from_secs(20);
/// How long a client waits before it asks again.
const AGAIN: Duration = Duration::from_secs(1);
/// For thousands of queries on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A daemon whose host has these name servers, and the file that says so.
fn daemon_with<'a>(world: &'a World, servers: &[IpAddr]) -> (Daemon<'a>, std::path::PathBuf) {
    daemon_that_says(world, servers, "")
}

/// The same with further settings.
fn daemon_that_says<'a>(
    world: &'a World,
    servers: &[IpAddr],
    settings: &str,
) -> (Daemon<'a>, std::path::PathBuf) {
    let file = world.host.directory().join("resolv.conf");
    write_servers(&file, servers);
    let settings = format!("resolv-conf = \"{}\"\n{settings}", file.display());
    (Daemon::start(&world.host, &settings).unwrap(), file)
}

fn write_servers(file: &std::path::Path, servers: &[IpAddr]) {
    let lines: Vec<String> = servers.iter().map(|it| format!("nameserver {it}\n")).collect();
    let draft = file.with_extension("new");
    std::fs::write(&draft, lines.concat()).unwrap();
    std::fs::rename(&draft, file).unwrap();
}

/// A further address of the outside for a server.
fn address(world: &World, last: u8) -> IpAddr {
    let address = IpAddr::from([203, 0, 113, last]);
    world.outside.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]).unwrap();
    address
}

fn server(world: &World, address: IpAddr, manner: Manner) -> NameServer {
    NameServer::start(world.outside.netns(), address, manner).unwrap()
}

#[test]
fn names_of_the_world_are_asked_of_the_hosts_servers_and_kept_as_long_as_they_say() {
    let world = World::new();
    let upstream = server(&world, WORLD, Manner::Answers(FIRST, 300));
    let (daemon, _) = daemon_with(&world, &[WORLD]);
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    assert_eq!(glibc(&daemon, "asker", "www.example", "ahostsv4"), [FIRST.to_string()]);
    let asked = upstream.asked();
    for transport in ["+notcp", "+tcp"] {
        let said = dig(&daemon, "asker", &[transport, "+short", "WWW.example"]);
        assert_eq!(said.trim(), FIRST.to_string());
    }
    assert_eq!(upstream.asked(), asked, "the second time it was known");
    for asked in [asked + 1; 2] {
        let said = dig(&daemon, "asker", &["nx.example"]);
        assert!(said.contains("status: NXDOMAIN") && said.contains("SOA"), "{said}");
        assert_eq!(upstream.asked(), asked, "no is an answer that is kept, too");
    }
    let cached = daemon.ok(&["dns", "cache"]).unwrap();
    assert!(cached.contains("www.example.") && cached.contains(&FIRST.to_string()), "{cached}");
    daemon.ok(&["dns", "flush"]).unwrap();
    dig(&daemon, "asker", &["+short", "www.example"]);
    assert!(upstream.asked() > asked, "after a flush it is asked again");
}

#[test]
fn trouble_and_silence_lead_to_the_next_server_and_no_is_an_answer() {
    let world = World::new();
    let (silent, failing) = (address(&world, 11), address(&world, 12));
    let first = server(&world, silent, Manner::Silent);
    let _second = server(&world, failing, Manner::Fails);
    let third = server(&world, WORLD, Manner::Answers(SECOND, 300));
    let (daemon, _) = daemon_with(&world, &[silent, failing, WORLD]);
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let said = dig(&daemon, "asker", &["+time=15", "+short", "www.example"]);
    assert_eq!(said.trim(), SECOND.to_string());
    assert!(first.asked() > 0);
    let (asked, answered) = (first.asked(), third.asked());
    assert!(dig(&daemon, "asker", &["nx.example"]).contains("status: NXDOMAIN"));
    assert_eq!(first.asked(), asked, "a silent server is asked last");
    assert_eq!(third.asked(), answered + 1, "and NXDOMAIN ends the search");
}

#[test]
fn servers_of_the_sandbox_win_and_its_loopback_is_its_own() {
    let world = World::new();
    let own = address(&world, 13);
    let _host = server(&world, WORLD, Manner::Answers(FIRST, 300));
    let _own = server(&world, own, Manner::Answers(SECOND, 300));
    let (daemon, _) = daemon_with(&world, &[WORLD]);
    network(&daemon, "app", &[]);
    daemon.ok(&["network", "create", "-o", &format!("netd.dns.servers={own}"), "net"]).unwrap();
    named(&daemon, "plain", &["app"]);
    named(&daemon, "member", &["net"]);
    let words = ["sandbox", "create", "--name", "choosy", "--network", "app", "--dns"];
    daemon.ok(&[&words[..], &[&own.to_string()]].concat()).unwrap();
    daemon
        .ok(&["sandbox", "create", "--name", "inner", "--network", "app", "--dns", "127.0.0.1"])
        .unwrap();
    let inner = netd_tests::Container::find(&daemon, "inner").unwrap();
    let third = Ipv4Addr::new(192, 0, 2, 3);
    let _inner =
        NameServer::start(&inner.netns, Ipv4Addr::LOCALHOST.into(), Manner::Answers(third, 300))
            .unwrap();
    for (name, answer) in
        [("plain", FIRST), ("member", SECOND), ("choosy", SECOND), ("inner", third)]
    {
        let said = dig(&daemon, name, &["+short", "www.example"]);
        assert_eq!(said.trim(), answer.to_string(), "{name}");
    }
}

#[test]
fn servers_of_the_daemon_win_over_the_hosts_and_lose_to_a_networks() {
    let world = World::new();
    let (stub, own) = (IpAddr::from([127, 0, 0, 54]), address(&world, 14));
    let host = server(&world, WORLD, Manner::Answers(Ipv4Addr::new(192, 0, 2, 3), 300));
    let _daemons =
        NameServer::start(world.host.netns(), stub, Manner::Answers(FIRST, 300)).unwrap();
    let _networks = server(&world, own, Manner::Answers(SECOND, 300));
    let (daemon, _) = daemon_that_says(&world, &[WORLD], &format!("dns = [\"{stub}\"]"));
    network(&daemon, "app", &[]);
    daemon.ok(&["network", "create", "-o", &format!("netd.dns.servers={own}"), "net"]).unwrap();
    named(&daemon, "plain", &["app"]);
    named(&daemon, "member", &["net"]);
    for (name, answer) in [("plain", FIRST), ("member", SECOND)] {
        let said = dig(&daemon, name, &["+short", "www.example"]);
        assert_eq!(said.trim(), answer.to_string(), "{name}");
    }
    assert_eq!(host.asked(), 0, "the host's own server is none of those");
}

#[test]
fn a_resolver_on_the_hosts_loopback_works_from_containers_and_its_replacement_is_followed() {
    let world = World::new();
    let stub = IpAddr::from([127, 0, 0, 53]);
    let _stub = NameServer::start(world.host.netns(), stub, Manner::Answers(FIRST, 0)).unwrap();
    let _other = server(&world, WORLD, Manner::Answers(SECOND, 0));
    let (daemon, file) = daemon_with(&world, &[stub]);
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    assert_eq!(dig(&daemon, "asker", &["+short", "www.example"]).trim(), FIRST.to_string());
    write_servers(&file, &[WORLD]);
    let follows = |answer: Ipv4Addr| {
        eventually("the other server's answer", SOON, || {
            let said = dig(&daemon, "asker", &["+short", "www.example"]);
            Ok((said.trim() == answer.to_string()).then_some(()))
        })
        .unwrap();
    };
    follows(SECOND);
    std::fs::write(&file, format!("nameserver {stub}\n")).unwrap();
    follows(FIRST);
}

#[test]
fn an_internal_network_has_its_names_and_no_others_until_another_joins() {
    let world = World::new();
    let stub = IpAddr::from([127, 0, 0, 53]);
    let stub_server =
        NameServer::start(world.host.netns(), stub, Manner::Answers(FIRST, 0)).unwrap();
    let (daemon, _) = daemon_with(&world, &[stub]);
    network(&daemon, "inside", &["--internal"]);
    network(&daemon, "open", &[]);
    named(&daemon, "asker", &["inside"]);
    for _ in 0..2 {
        assert_eq!(glibc(&daemon, "asker", "asker", "ahostsv4").len(), 1);
        assert!(dig(&daemon, "asker", &["www.example"]).contains("status: SERVFAIL"));
        let before = stub_server.asked();
        daemon.ok(&["network", "connect", "open", "asker"]).unwrap();
        assert_eq!(dig(&daemon, "asker", &["+short", "www.example"]).trim(), FIRST.to_string());
        assert!(stub_server.asked() > before);
        daemon.ok(&["network", "disconnect", "open", "asker"]).unwrap();
    }
}

#[test]
fn a_large_answer_is_truncated_by_udp_and_whole_by_tcp() {
    let world = World::new();
    let _upstream = server(&world, WORLD, Manner::Answers(FIRST, 300));
    let (daemon, _) = daemon_with(&world, &[WORLD]);
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    for _ in ["from upstream", "from the cache"] {
        let cut = dig(&daemon, "asker", &["+ignore", "+noedns", "big.example", "TXT"]);
        assert!(cut.contains("qr tc rd ra") && cut.contains("ANSWER: 0"), "{cut}");
        let whole = dig(&daemon, "asker", &["big.example", "TXT"]);
        assert!(whole.contains("ANSWER: 200") && whole.contains("(TCP)"), "{whole}");
    }
}

/// A query for `www.example`, A, as printf takes it.
const QUERY: &str =
    r"\022\064\001\000\000\001\000\000\000\000\000\000\003www\007example\000\000\001\000\001";

#[test]
fn a_dead_server_holds_up_neither_local_names_nor_other_containers() {
    let world = World::new();
    let dead = server(&world, WORLD, Manner::Silent);
    let (daemon, _) = daemon_with(&world, &[WORLD]);
    network(&daemon, "app", &[]);
    named(&daemon, "busy", &["app"]);
    named(&daemon, "other", &["app"]);
    // No faster than a socket's queue is emptied, and what is lost nevertheless is asked again.
    let flood = format!(
        "exec 3<>/dev/udp/127.0.0.11/53; export RES_OPTIONS='timeout:1 attempts:5'; \
         for i in $(seq 20); do for j in $(seq 100); do printf '{QUERY}' >&3; done; sleep 0.02; done; \
         for i in 1 2 3 4 5; do timeout 10 getent ahostsv4 other || exit 7; done"
    );
    let said = daemon.cli(&["sandbox", "exec", "busy", "bash", "-c", &flood]).unwrap();
    assert!(said.code == Some(0) && said.stdout.lines().count() >= 5, "{said:?}");
    eventually("a thousand queries at the dead server", SOON, || {
        Ok((dead.asked() > 1_000).then_some(()))
    })
    .unwrap();
    assert_eq!(glibc(&daemon, "other", "busy", "ahostsv4").len(), 1);
}

#[test]
fn garbage_is_survived_and_failures_are_seen() {
    let world = World::new();
    let _failing = server(&world, WORLD, Manner::Fails);
    let (daemon, _) = daemon_with(&world, &[WORLD]);
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let garbage = "for i in $(seq 1 50); do head -c $((i * 40)) /dev/urandom | \
                   socat -u - UDP4:127.0.0.11:53; head -c 4000 /dev/urandom | \
                   socat -t 0.1 - TCP4:127.0.0.11:53 >/dev/null 2>&1; done";
    inside(&daemon, "asker", &["sh", "-c", garbage]);
    assert_eq!(glibc(&daemon, "asker", "asker", "ahostsv4").len(), 1);
    assert!(dig(&daemon, "asker", &["www.example"]).contains("status: SERVFAIL"));
    let looked_up = daemon.ok(&["dns", "lookup", "asker", "--from", "asker"]).unwrap();
    assert_eq!(looked_up.lines().count(), 2, "{looked_up}");
    let failed = daemon.cli(&["dns", "lookup", "www.example", "--from", "asker"]).unwrap();
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("SERVFAIL"), "{failed:?}");
}

/// Each once: with a port for each, the smallest pool of masquerade would be used up many times.
#[test]
fn thousands_of_new_names_are_resolved_through_a_handful_of_ports() {
    const NAMES: usize = 6_000;
    const ON_THE_WAY: usize = 100;
    const POOL: u16 = 256;
    let world = World::new();
    let upstream = server(&world, WORLD, Manner::Answers(FIRST, 300));
    let file = world.host.directory().join("resolv.conf");
    write_servers(&file, &[WORLD]);
    let last = 61_000 + POOL - 1;
    let settings = format!("resolv-conf = \"{}\"\nsnat-ports = \"61000-{last}\"", file.display());
    let daemon = Daemon::start(&world.host, &settings).unwrap();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let client = socket(&resolver_of(&daemon, "asker"));
    let before = flow_stat(&daemon, "created");
    let ask = |id: u16| {
        client.send(&query(id, &format!("n{id}.example"))).unwrap();
        Instant::now()
    };
    let (end, mut names) = (Instant::now() + PATIENCE, 0..u16::try_from(NAMES).unwrap());
    let mut waiting = BTreeMap::new();
    while !(names.is_empty() && waiting.is_empty()) {
        assert!(Instant::now() < end, "{names:?} and {waiting:?} are not answered");
        let room = ON_THE_WAY.saturating_sub(waiting.len());
        waiting.extend(names.by_ref().take(room).map(|id| (id, ask(id))));
        while let Some((id, code)) = answer(&client) {
            // Any other code is one more reason to ask again, as resolvers do.
            if code == NOERROR {
                waiting.remove(&id);
            }
        }
        let overdue = waiting.iter_mut().filter(|(_, asked)| asked.elapsed() > AGAIN);
        overdue.for_each(|(id, asked)| *asked = ask(*id));
        std::thread::yield_now();
    }
    assert!(upstream.asked() >= NAMES);
    assert_eq!(drops(&daemon, "snat_exhausted"), 0);
    let flows = flow_stat(&daemon, "created") - before;
    assert!(flows < u64::from(POOL), "{flows} flows");
}
