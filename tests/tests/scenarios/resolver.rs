//! What one container can do to the name service, and what it can't: bounds, garbage, floods, and
//! nothing left behind.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netd_tests::outside::WORLD_V4;
use netd_tests::upstream::{Manner, NameServer};
use netd_tests::{Container, Daemon, Netns, eventually};

use super::names::{dig, glibc, inside, named};
use super::{Monitor, World, network};

/// As docs/dns.md says.
const WAITING: usize = 4_096;
const CONNECTIONS: usize = 128;
/// A loaded machine takes its time.
const SOON: Duration = Duration::from_mins(1);
pub(super) const NOERROR: u8 = 0;
const FORMERR: u8 = 1;
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

/// A daemon whose host has these name servers.
fn daemon_with<'a>(world: &'a World, servers: &[IpAddr], settings: &str) -> Daemon<'a> {
    let file = world.host.directory().join("resolv.conf");
    let lines: Vec<String> = servers.iter().map(|it| format!("nameserver {it}\n")).collect();
    fs::write(&file, lines.concat()).unwrap();
    let settings = format!("resolv-conf = \"{}\"\n{settings}", file.display());
    Daemon::start(&world.host, &settings).unwrap()
}

/// Three name servers that say nothing, so that a query waits for eight seconds.
fn dead_servers(world: &World) -> (Vec<IpAddr>, Vec<NameServer>) {
    let addresses: Vec<IpAddr> = (11..14).map(|last| IpAddr::from([203, 0, 113, last])).collect();
    let start = |address: &IpAddr| {
        world.outside.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]).unwrap();
        NameServer::start(world.outside.netns(), *address, Manner::Silent).unwrap()
    };
    let servers = addresses.iter().map(start).collect();
    (addresses, servers)
}

/// A query for an A record.
pub(super) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Where a container's queries end up. A flood goes there itself: it is the daemon that is tried, and
/// the hooks have tests of their own.
pub(super) fn resolver_of(daemon: &Daemon<'_>, container: &str) -> (Netns, SocketAddr) {
    let netns = Container::find(daemon, container).unwrap().netns;
    let sockets = inside(daemon, container, &["ss", "-Hlun"]);
    let local = sockets.split_whitespace().nth(3).unwrap().to_owned();
    (netns, local.parse().unwrap())
}

/// A socket in the container's namespace that asks its resolver.
pub(super) fn socket((netns, resolver): &(Netns, SocketAddr)) -> UdpSocket {
    let socket = netns.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(resolver)?;
        Ok(socket)
    });
    let socket = socket.unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// The response code of an answer that is there.
pub(super) fn heard(socket: &UdpSocket) -> Option<u8> {
    answer(socket).map(|(_, code)| code)
}

/// The id and the response code of an answer that is there.
pub(super) fn answer(socket: &UdpSocket) -> Option<(u16, u8)> {
    let mut buffer = [0; 4096];
    socket.recv(&mut buffer).ok()?;
    Some((u16::from_be_bytes([buffer[0], buffer[1]]), buffer[3] & 0x0f))
}

/// What the daemon holds: descriptors and threads.
fn held(daemon: &Daemon<'_>) -> (usize, usize) {
    let proc = format!("/proc/{}", daemon.pid().unwrap());
    let count = |list: &str| fs::read_dir(format!("{proc}/{list}")).unwrap().count();
    (count("fd"), count("task"))
}

fn metric(world: &World, line: &str) -> u64 {
    let said = world.host.exec("curl", &["-s", "http://127.0.0.1:9959/metrics"]).unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let found = text.lines().find_map(|it| it.strip_prefix(line)).map(str::trim);
    found.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[test]
fn beyond_4096_waiting_queries_the_next_is_refused_and_nothing_is_left_behind() {
    let world = World::new();
    let (addresses, dead) = dead_servers(&world);
    let asked = || dead.iter().map(NameServer::asked).sum::<usize>();
    let daemon = daemon_with(&world, &addresses, "");
    network(&daemon, "app", &[]);
    named(&daemon, "busy", &["app"]);
    named(&daemon, "other", &["app"]);
    let busy = resolver_of(&daemon, "busy");
    let (descriptors, threads) = held(&daemon);
    let flood = socket(&busy);
    let (start, mut sent) = (Instant::now(), 0_usize);
    let first = loop {
        assert!(start.elapsed() < SOON, "{sent} sent, {} came to the servers", asked());
        // Not more at once than a socket's queue takes.
        for _ in 0..64 {
            let id = u16::try_from(sent % 65_536).unwrap();
            sent += usize::from(flood.send(&query(id, "www.example")).is_ok());
        }
        match heard(&flood) {
            Some(SERVFAIL) | None => {}
            Some(code) => break code,
        }
    };
    assert_eq!(first, REFUSED, "after {sent}");
    assert!(sent > WAITING, "refused after {sent}");
    // One container's flood takes nothing from another.
    assert_eq!(glibc(&daemon, "other", "busy", "ahostsv4").len(), 1);
    assert_eq!(glibc(&daemon, "busy", "other", "ahostsv4").len(), 1);
    let before = asked();
    let said = dig(&daemon, "other", &["+time=1", "www.example"]);
    assert!(said.contains("timed out") && asked() > before, "it waits, not refused: {said}");
    let refused = "netd_dns_queries_total{rcode=\"refused\",source=\"overload\"}";
    assert!(metric(&world, refused) > 0);
    eventually("the sockets' end", SOON, || {
        let (now, tasks) = held(&daemon);
        Ok((now <= descriptors + 8 && tasks <= threads + 1).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_flood_of_one_container_leaves_the_others_their_answers() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "busy", &["app"]);
    named(&daemon, "other", &["app"]);
    let busy = resolver_of(&daemon, "busy");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let flood = socket(&busy);
                let message = query(7, "other");
                while !stop.load(Ordering::Relaxed) {
                    // A queue that is full is what is wanted.
                    let _ = flood.send(&message);
                    while heard(&flood).is_some() {}
                }
            });
        }
        let answered = thread::scope(|inner| {
            let asking = inner.spawn(|| {
                let answers = (0..20).map(|_| dig(&daemon, "other", &["+short", "busy"]));
                answers.filter(|said| said.lines().count() == 1 && !said.contains(';')).count()
            });
            asking.join()
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(answered.unwrap(), 20);
    });
}

#[test]
fn the_socket_that_a_containers_queries_wait_at_has_the_room_that_is_documented() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let sockets = inside(&daemon, "asker", &["ss", "-Hlunm"]);
    assert!(sockets.contains(&format!("rb{}", 2 << 20)), "{sockets}");
}

#[test]
fn what_is_no_query_is_told_so_or_ignored_and_does_no_harm() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let resolver = resolver_of(&daemon, "asker");
    let (pid, (descriptors, threads)) = (daemon.pid().unwrap(), held(&daemon));
    let header = |flags: [u8; 2], questions: u8| {
        [&[0, 9][..], &flags, &[0, questions, 0, 0, 0, 0, 0, 0]].concat()
    };
    let asks = |rest: &[u8]| [header([1, 0], 1), rest.to_vec()].concat();
    let long = asks(
        &[
            &[63; 1][..],
            &[b'x'; 63],
            &[63],
            &[b'x'; 63],
            &[63],
            &[b'x'; 63],
            &[63],
            &[b'x'; 63],
            &[63],
            &[b'x'; 63],
            &[0, 0, 1, 0, 1],
        ]
        .concat(),
    );
    for (what, message, wanted) in [
        ("a name that points at itself", asks(&[0xc0, 12, 0, 1, 0, 1]), Some(FORMERR)),
        ("a name that ends where it began", asks(&[1, b'a', 0xc0, 12, 0, 1, 0, 1]), Some(FORMERR)),
        ("a name that points ahead", asks(&[0xc0, 200, 0, 1, 0, 1]), Some(FORMERR)),
        ("a label without an end", asks(&[60, b'a']), Some(FORMERR)),
        ("a name of 320 bytes", long, Some(FORMERR)),
        ("no question", header([1, 0], 0), Some(FORMERR)),
        ("questions that are not there", header([1, 0], 9), Some(FORMERR)),
        ("more than a datagram that is taken", vec![0; 9_000], Some(FORMERR)),
        ("a response", header([0x81, 0], 0), None),
        ("half a header", vec![0, 9, 1], None),
        ("nothing", Vec::new(), None),
    ] {
        let asker = socket(&resolver);
        asker.send(&message).unwrap();
        // The answer to a good one says that the bad one has been dealt with.
        asker.send(&query(10, "asker")).unwrap();
        let mut codes = Vec::new();
        eventually(what, SOON, || {
            codes.extend(heard(&asker));
            Ok((codes.last() == Some(&NOERROR)).then_some(()))
        })
        .unwrap();
        let expected: Vec<u8> = wanted.into_iter().chain([NOERROR]).collect();
        assert_eq!(codes, expected, "{what}");
    }
    assert_eq!(glibc(&daemon, "asker", "asker", "ahostsv4").len(), 1);
    assert_eq!(daemon.pid().unwrap(), pid);
    let (now, tasks) = held(&daemon);
    assert!(now <= descriptors + 4 && tasks <= threads + 1, "{now} of {descriptors}, {tasks}");
}

/// Whether the other side has closed.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    !matches!((&*stream).read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn silent_connections_are_bounded_and_end() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let (netns, resolver) = resolver_of(&daemon, "asker");
    let connect = || netns.run(|| Ok(TcpStream::connect(resolver)?)).unwrap();
    let silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect()).collect();
    let further = connect();
    eventually("the end of one too many", SOON, || Ok(is_closed(&further).then_some(()))).unwrap();
    let by_udp = dig(&daemon, "asker", &["+notcp", "+short", "asker"]);
    assert_eq!(by_udp.lines().count(), 1, "{by_udp}");
    eventually("the end of the silent", SOON, || Ok(silent.iter().all(is_closed).then_some(())))
        .unwrap();
    let by_tcp = dig(&daemon, "asker", &["+tcp", "+short", "asker"]);
    assert_eq!(by_tcp.lines().count(), 1, "{by_tcp}");
}

#[test]
fn failures_are_counted_and_told_to_the_monitor_with_what_each_server_did() {
    let world = World::new();
    let failing = NameServer::start(world.outside.netns(), WORLD_V4.into(), Manner::Fails).unwrap();
    let daemon = daemon_with(&world, &[WORLD_V4.into()], "dns-ttl = 60");
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    let local = dig(&daemon, "asker", &["+noall", "+answer", "asker"]);
    assert!(local.contains("\t60\tIN\tA"), "the configured time: {local}");
    let monitor = Monitor::start(&world, &daemon);
    let seen = eventually("the failure in the monitor", SOON, || {
        let said = dig(&daemon, "asker", &["www.example"]);
        assert!(said.contains("status: SERVFAIL"), "{said}");
        Ok(monitor.told("name_not_resolved").pop())
    });
    let seen = seen.unwrap().to_string();
    let told = format!("{WORLD_V4} said SERVFAIL");
    assert!(seen.contains("www.example. A") && seen.contains(&told), "{seen}");
    assert!(seen.contains("\"asker\""), "{seen}");
    assert!(failing.asked() > 0);
    for line in [
        "netd_dns_queries_total{rcode=\"servfail\",source=\"upstream\"}",
        "netd_dns_queries_total{rcode=\"noerror\",source=\"local\"}",
        "netd_dns_query_duration_seconds_count{source=\"local\"}",
    ] {
        assert!(metric(&world, line) > 0, "{line}");
    }
}

#[test]
fn what_a_container_does_with_its_netfilter_changes_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "asker", &["app"]);
    for line in [
        "iptables -t nat -F; iptables -F; iptables -X; nft flush ruleset",
        "iptables -t nat -A OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to 127.0.0.99:9",
        "iptables -P INPUT DROP; iptables -A INPUT -i lo -j ACCEPT",
    ] {
        let said = inside(&daemon, "asker", &["sh", "-c", &format!("({line}) 2>&1")]);
        assert_eq!(glibc(&daemon, "asker", "asker", "ahostsv4").len(), 1, "{line}: {said}");
        assert_eq!(
            dig(&daemon, "asker", &["+tcp", "+short", "asker"]).lines().count(),
            1,
            "{line}"
        );
    }
}

#[test]
fn processes_from_before_a_connect_ask_on_the_sockets_they_have_and_on_new_ones() {
    let world = World::new();
    let daemon = daemon_with(&world, &[], "");
    network(&daemon, "app", &[]);
    network(&daemon, "late", &[]);
    named(&daemon, "peer", &["late"]);
    let told = world.host.directory().join("told");
    // A query for `peer` every time on one socket that was connected at the start, and by glibc.
    let query = r"\022\064\001\000\000\001\000\000\000\000\000\000\004peer\000\000\001\000\001";
    let script = format!(
        "exec 3<>/dev/udp/127.0.0.11/53; while sleep 0.2; do printf '{query}' >&3; \
         a=$(timeout 1 head -c 8 <&3 | od -An -tx1 -j3 -N5 | tr -d ' \\n'); \
         b=$(getent ahostsv4 peer | head -n1 | cut -d' ' -f1); echo \"$a $b\" > {0}.new; \
         mv {0}.new {0}; done",
        told.display()
    );
    daemon
        .ok(&["run", "-d", "--name", "old", "--network", "app", "--", "bash", "-c", &script])
        .unwrap();
    let says = |what: &str, is_so: &dyn Fn(&str) -> bool| {
        let said = || Ok(is_so(fs::read_to_string(&told).unwrap_or_default().trim()).then_some(()));
        eventually(what, SOON, said).unwrap();
    };
    let address = Container::find(&daemon, "peer").unwrap().address("late", false).unwrap();
    let IpAddr::V4(address) = address else { panic!("{address}") };
    for _ in 0..2 {
        says("no such name", &|said| !said.is_empty() && !said.contains(&address.to_string()));
        daemon.ok(&["network", "connect", "late", "old"]).unwrap();
        // NOERROR, one question, one answer.
        says("the name", &|said| said == format!("8000010001 {address}"));
        daemon.ok(&["network", "disconnect", "late", "old"]).unwrap();
    }
    daemon.ok(&["sandbox", "rm", "old"]).unwrap();
}
