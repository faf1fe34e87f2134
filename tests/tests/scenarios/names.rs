//! Names: containers find each other, through the resolvers that containers really have.

use std::net::Ipv4Addr;
use std::time::Duration;

use netd_tests::upstream::{Manner, NameServer};
use netd_tests::{Daemon, eventually};

use super::{World, network};

/// A container with this name on these networks; each may carry aliases (`net:alias`).
pub(super) fn named(daemon: &Daemon<'_>, name: &str, networks: &[&str]) {
    let mut arguments = vec!["sandbox", "create", "--name", name];
    for network in networks {
        arguments.extend(["--network", network]);
    }
    daemon.ok(&arguments).unwrap();
}

/// What a program in a container prints, whatever it thinks of it.
pub(super) fn inside(daemon: &Daemon<'_>, container: &str, program: &[&str]) -> String {
    let words = [&["sandbox", "exec", container], program].concat();
    let said = daemon.cli(&words).unwrap();
    said.stdout + &said.stderr
}

/// The addresses by the C library's resolver, of one family.
pub(super) fn glibc(daemon: &Daemon<'_>, container: &str, name: &str, family: &str) -> Vec<String> {
    let said = inside(daemon, container, &["getent", family, name]);
    let mut found: Vec<String> =
        said.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
    found.sort();
    found.dedup();
    found
}

pub(super) fn dig(daemon: &Daemon<'_>, container: &str, arguments: &[&str]) -> String {
    let words = [&["dig", "+tries=1", "+time=5"], arguments].concat();
    inside(daemon, container, &words)
}

#[test]
fn containers_of_a_network_find_each_other_by_every_name() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let words = "sandbox create --name Web --hostname shop --network app --network-alias www";
    let id = daemon.ok(&words.split(' ').collect::<Vec<_>>()).unwrap();
    let web = netd_tests::Container::find(&daemon, "Web").unwrap();
    let [v4, v6] = web.addresses("app").unwrap().map(|address| address.to_string());
    for name in ["Web", "web", "WEB", "www", "shop", &id[..12], "web.app", "www.APP", "tasks.web"] {
        assert_eq!(glibc(&daemon, "asker", name, "ahostsv4").join(" "), v4, "{name}");
        let aaaa = dig(&daemon, "asker", &["+short", name, "AAAA"]);
        assert_eq!(aaaa.trim(), v6, "{name}");
    }
}

#[test]
fn answers_come_by_udp_and_tcp_from_the_address_that_was_asked() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    for transport in ["+notcp", "+tcp"] {
        let said = dig(&daemon, "asker", &[transport, "asker"]);
        assert!(said.contains("status: NOERROR"), "{said}");
        assert!(said.contains("SERVER: 127.0.0.11#53(127.0.0.11)"), "{said}");
        assert!(said.contains("qr aa rd ra"), "{said}");
        let ttl = said.lines().find(|line| line.contains("\tA\t")).map(ttl_of);
        assert_eq!(ttl, Some(5), "{said}");
    }
}

fn ttl_of(line: &str) -> u32 {
    line.split_whitespace().nth(1).and_then(|ttl| ttl.parse().ok()).unwrap()
}

/// A query for `asker`, A, as it stands in a datagram, and with `\\0` as printf takes it.
const QUERY: &str =
    r"\022\064\001\000\000\001\000\000\000\000\000\000\005asker\000\000\001\000\001";

#[test]
fn sockets_of_both_families_connected_or_not_hear_from_port_53() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let peers =
        ["UDP4:127.0.0.11:53", "UDP6:[::ffff:127.0.0.11]:53", "UDP4-DATAGRAM:127.0.0.11:53"];
    let peers = peers.into_iter().chain(["UDP6-DATAGRAM:[::ffff:127.0.0.11]:53"]);
    for peer in peers {
        let line = format!("printf '{QUERY}' | socat -d -d -d -t 5 - '{peer}' | od -An -tx1");
        let said = inside(&daemon, "asker", &["sh", "-c", &line]);
        assert!(said.contains(" 12 34 85 80"), "{peer}: {said}");
    }
}

#[test]
fn port_53_is_the_containers_own_to_listen_on() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    named(&daemon, "peer", &["app"]);
    let asker = netd_tests::Container::find(&daemon, "asker").unwrap();
    let own = Ipv4Addr::new(192, 0, 2, 1);
    let everywhere = Ipv4Addr::UNSPECIFIED.into();
    let _server = NameServer::start(&asker.netns, everywhere, Manner::Answers(own, 60)).unwrap();
    assert_eq!(glibc(&daemon, "asker", "peer", "ahostsv4").len(), 1, "netd's names stay");
    let [v4, _] = asker.addresses("app").unwrap().map(|address| format!("@{address}"));
    for (client, server) in [("asker", "@127.0.0.1"), ("peer", &v4)] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig(&daemon, client, &[transport, "+short", server, "www.example"]);
            assert_eq!(said.trim(), own.to_string(), "{client} {server} {transport}");
        }
    }
}

/// A program that prints what musl's `getaddrinfo` finds.
const MUSL: &str = r#"
#include <netdb.h>
#include <stdio.h>
#include <arpa/inet.h>
int main(int argc, char **argv) {
    struct addrinfo hints = { .ai_socktype = SOCK_DGRAM }, *found = 0;
    char text[64];
    int error = getaddrinfo(argv[argc - 1], 0, &hints, &found);
    if (error) return printf("%s\n", gai_strerror(error)), 1;
    for (; found; found = found->ai_next) {
        if (found->ai_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
        else
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)found->ai_addr)->sin6_addr, text, sizeof text);
        puts(text);
    }
}
"#;

#[test]
fn musl_finds_both_families_and_one_where_only_one_is() {
    let world = World::new();
    let daemon = world.daemon();
    let (source, program) =
        (world.host.directory().join("find.c"), world.host.directory().join("find"));
    std::fs::write(&source, MUSL).unwrap();
    let (source, program) = (source.to_string_lossy(), program.to_string_lossy());
    let built = world.host.exec("musl-gcc", &["-static", "-o", &program, &source]).unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    network(&daemon, "app", &[]);
    daemon.ok(&["network", "create", "four"]).unwrap();
    named(&daemon, "both", &["app"]);
    named(&daemon, "one", &["four"]);
    for (name, net, families) in [("both", "app", 2), ("one", "four", 1)] {
        let said = inside(&daemon, name, &[&program, name]);
        assert_eq!(said.lines().count(), families, "{said}");
        let address =
            netd_tests::Container::find(&daemon, name).unwrap().address(net, false).unwrap();
        assert!(said.contains(&address.to_string()), "{said}");
    }
}

#[test]
fn a_known_name_without_the_record_asked_for_is_nodata() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.ok(&["network", "create", "four"]).unwrap();
    named(&daemon, "asker", &["four"]);
    for kind in ["AAAA", "MX", "TXT", "HTTPS"] {
        let said = dig(&daemon, "asker", &["asker", kind]);
        assert!(said.contains("status: NOERROR") && said.contains("ANSWER: 0"), "{kind}: {said}");
    }
}

#[test]
fn an_exposed_port_has_a_service_record_and_tasks_lead_to_all() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let web = ["sandbox", "create", "--name", "web", "--network", "app", "--expose", "80-81"];
    daemon.ok(&web).unwrap();
    let said = dig(&daemon, "asker", &["+short", "_80._tcp.web", "SRV"]);
    assert_eq!(said.trim(), "0 0 80 web.");
    let said = dig(&daemon, "asker", &["_80._udp.web", "SRV"]);
    assert!(said.contains("status: NOERROR") && said.contains("ANSWER: 0"), "{said}");
    let direct = glibc(&daemon, "asker", "web", "ahostsv4");
    assert_eq!(glibc(&daemon, "asker", "tasks.web", "ahostsv4"), direct);
}

#[test]
fn addresses_lead_back_to_names() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let asker = netd_tests::Container::find(&daemon, "asker").unwrap();
    for address in asker.addresses("app").unwrap() {
        let said = dig(&daemon, "asker", &["+short", "-x", &address.to_string()]);
        assert_eq!(said.trim(), "asker.app.", "{address}");
    }
}

#[test]
fn names_of_other_networks_are_unknown_and_an_alias_is_of_one_network() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &["--internal"]);
    network(&daemon, "two", &["--internal"]);
    named(&daemon, "aa", &["one"]);
    named(&daemon, "bb", &["two"]);
    for name in ["bb", "bb.two"] {
        assert!(dig(&daemon, "aa", &[name]).contains("status: SERVFAIL"), "{name}");
    }
    let alias = ["network", "connect", "--alias", "db", "one", "bb"];
    daemon.ok(&alias).unwrap();
    assert_eq!(glibc(&daemon, "aa", "db", "ahostsv4"), glibc(&daemon, "aa", "bb", "ahostsv4"));
    assert_eq!(glibc(&daemon, "aa", "db", "ahostsv4").len(), 1);
    named(&daemon, "cc", &["two"]);
    assert!(dig(&daemon, "cc", &["db"]).contains("status: SERVFAIL"));
}

#[test]
fn where_two_networks_know_a_name_that_of_the_way_out_answers() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    network(&daemon, "back", &[]);
    named(&daemon, "asker", &["app", "back"]);
    let address_of = |name, network| {
        let words =
            ["sandbox", "create", "--name", name, "--network", network, "--network-alias", "db"];
        daemon.ok(&words).unwrap();
        let found = netd_tests::Container::find(&daemon, name).unwrap();
        found.addresses(network).unwrap()[0].to_string()
    };
    let (app, back) = (address_of("one", "app"), address_of("two", "back"));
    assert_eq!(glibc(&daemon, "asker", "db", "ahostsv4"), [app], "the first by name");
    daemon.ok(&["network", "disconnect", "back", "asker"]).unwrap();
    daemon.ok(&["network", "connect", "--gw-priority", "1", "back", "asker"]).unwrap();
    assert_eq!(glibc(&daemon, "asker", "db", "ahostsv4"), [back]);
}

#[test]
fn several_containers_under_one_alias_are_all_told_in_turns() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    for name in ["w1", "w2", "w3"] {
        let words =
            ["sandbox", "create", "--name", name, "--network", "app", "--network-alias", "w"];
        daemon.ok(&words).unwrap();
    }
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let said = dig(&daemon, "asker", &["+short", "w"]);
        assert_eq!(said.lines().count(), 3, "{said}");
        firsts.extend(said.lines().next().map(str::to_owned));
        if firsts.len() == 3 {
            return;
        }
    }
    panic!("only {firsts:?} ever came first");
}

#[test]
fn answers_follow_connect_and_disconnect_at_once() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    network(&daemon, "other", &[]);
    named(&daemon, "asker", &["app"]);
    named(&daemon, "late", &["other"]);
    for _ in 0..3 {
        assert!(glibc(&daemon, "asker", "late", "ahostsv4").is_empty());
        daemon.ok(&["network", "connect", "app", "late"]).unwrap();
        assert_eq!(glibc(&daemon, "asker", "late", "ahostsv4").len(), 1);
        daemon.ok(&["network", "disconnect", "app", "late"]).unwrap();
    }
    daemon.ok(&["network", "connect", "app", "late"]).unwrap();
    daemon.ok(&["sandbox", "rm", "late"]).unwrap();
    assert!(glibc(&daemon, "asker", "late", "ahostsv4").is_empty());
}

#[test]
fn only_networks_that_users_made_have_names_and_elsewhere_are_the_hosts_name_servers() {
    const SERVER: &str = "nameserver 192.0.2.53\n";
    let world = World::new();
    let file = world.host.directory().join("resolv.conf");
    std::fs::write(&file, SERVER).unwrap();
    let settings = format!("resolv-conf = \"{}\"", file.display());
    let daemon = Daemon::start(&world.host, &settings).unwrap();
    named(&daemon, "plain", &[]);
    let conf = inside(&daemon, "plain", &["cat", "/etc/resolv.conf"]);
    assert!(!conf.contains("127.0.0.11"), "{conf}");
    let seen_on =
        |mode| daemon.ok(&["run", "--network", mode, "--", "cat", "/etc/resolv.conf"]).unwrap();
    assert!(conf.ends_with(SERVER) && seen_on("none").ends_with(SERVER.trim()), "{conf}");
    let of_host = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(seen_on("host").trim(), of_host.trim());
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let conf = inside(&daemon, "asker", &["cat", "/etc/resolv.conf"]);
    assert!(conf.contains("nameserver 127.0.0.11\n"), "{conf}");
    assert!(conf.contains("ndots:0"), "{conf}");
}

#[test]
fn names_are_answered_again_after_a_crash_on_the_sockets_that_clients_have() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    assert_eq!(glibc(&daemon, "asker", "asker", "ahostsv4").len(), 1);
    let sockets = |daemon: &Daemon<'_>| inside(daemon, "asker", &["ss", "-Hlun"]);
    let before = sockets(&daemon);
    assert!(before.contains("127.0.0.11:") && !before.contains(":53 "), "{before}");
    daemon.crash().unwrap();
    let daemon = world.daemon();
    let ports = |text: &str| text.split_whitespace().nth(3).map(str::to_owned);
    assert_eq!(ports(&sockets(&daemon)), ports(&before));
    eventually("an answer", Duration::from_secs(20), || {
        Ok((glibc(&daemon, "asker", "asker", "ahostsv4").len() == 1).then_some(()))
    })
    .unwrap();
}
