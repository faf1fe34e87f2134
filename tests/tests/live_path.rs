//! Real packets through the attached programs, without a controller: a host in a network namespace
//! of its own, two containers and an outside. Needs root.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test fails by panicking, and its helpers are shared by its own crate only"
)]

mod dataplane;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{Program, TcAttachType};
use dataplane::tables;
use netd_common::map::config::Config;
use netd_common::map::counter::{DropKey, EndpointCounters, TrafficCounter};
use netd_common::map::endpoint::{
    ADDRESS_IS_GATEWAY, AddressKey, AddressValue, CHECK_ADDRESS, CHECK_MAC, EndpointValue,
    MemberKey, StationKey, StationValue,
};
use netd_common::map::network::{
    HostAddressValue, MASQUERADE_V4, MASQUERADE_V6, NetworkValue, SubnetValue, UPLINK_HAS_MAC,
    UplinkValue,
};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Be16, EndpointIndex, IfIndex, Ipv4, Ipv6, MacAddr, NetworkIndex};
use nix::sched::{CloneFlags, setns, unshare};

const TIMEOUT: Duration = Duration::from_secs(3);

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split_whitespace()).status();
    assert!(status.expect("ip runs").success(), "ip {args}");
}

/// Names of namespaces that vanish with the test.
struct Namespaces(Vec<String>);

impl Namespaces {
    fn add(&mut self, role: &str) -> String {
        let name = format!("netdlive-{}-{role}", std::process::id());
        ip(&format!("netns add {name}"));
        self.0.push(name.clone());
        name
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _gone = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Runs in another namespace, on a thread of its own.
fn within<R: Send>(netns: &str, work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let file = std::fs::File::open(format!("/run/netns/{netns}")).expect("a namespace");
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entry");
                work()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn link(name: &str) -> (IfIndex, MacAddr) {
    let read = |file: &str| {
        // sysfs shows the namespace of its mount: ask the kernel by netlink through ip instead.
        let out = Command::new("ip").args(["-o", "link", "show", name]).output().expect("ip runs");
        let text = String::from_utf8(out.stdout).expect("text");
        match file {
            "ifindex" => text.split(':').next().expect("an index").trim().to_owned(),
            _ => text.split("link/ether ").nth(1).expect("a MAC")[..17].to_owned(),
        }
    };
    let mac: Vec<u8> =
        read("address").split(':').map(|part| u8::from_str_radix(part, 16).expect("hex")).collect();
    (IfIndex(read("ifindex").parse().expect("a number")), MacAddr(mac.try_into().expect("6")))
}

fn mac_in(netns: &str, name: &str) -> MacAddr {
    within(netns, || link(name).1)
}

fn v4(text: &str) -> Ipv4 {
    Ipv4::from(text.parse::<std::net::Ipv4Addr>().expect("an address"))
}

fn v6(text: &str) -> Ipv6 {
    Ipv6::from(text.parse::<std::net::Ipv6Addr>().expect("an address"))
}

fn attach(ebpf: &mut Ebpf, name: &str, device: &str, at: TcAttachType) {
    let Some(Program::SchedClassifier(program)) = ebpf.program_mut(name) else {
        panic!("{name} is no classifier");
    };
    program.attach(device, at).expect("attached");
}

const NET: NetworkIndex = NetworkIndex(1);

struct Scene {
    ebpf: Ebpf,
    containers: [String; 2],
    outside: String,
    _namespaces: Namespaces,
}

fn scene() -> Scene {
    unshare(CloneFlags::CLONE_NEWNET).expect("a namespace of our own");
    let mut namespaces = Namespaces(Vec::new());
    let containers = [namespaces.add("a"), namespaces.add("b")];
    let outside = namespaces.add("o");
    ip("link set lo up");
    ip("link add gw0 type bridge");
    std::fs::write("/proc/sys/net/ipv6/conf/gw0/accept_dad", "0").expect("sysctl");
    ip("addr add 172.30.0.1/24 dev gw0");
    ip("addr add fd00:30::1/64 dev gw0 nodad");
    ip("link set gw0 up");
    for family in ["ipv4", "ipv6"] {
        std::fs::write(format!("/proc/sys/net/{family}/conf/gw0/forwarding"), "1").expect("sysctl");
    }
    for (i, netns) in containers.iter().enumerate() {
        ip(&format!("link add hv{i} type veth peer name eth0 netns {netns}"));
        ip(&format!("link set hv{i} addrgenmode none up"));
        host_in(netns, &format!("172.30.0.{}/24", i + 2), &format!("fd00:30::{}/64", i + 2));
        ip(&format!("-n {netns} route add default via 172.30.0.1"));
        ip(&format!("-n {netns} -6 route add default via fd00:30::1"));
    }
    ip(&format!("link add up0 type veth peer name eth0 netns {outside}"));
    ip("addr add 198.51.100.1/24 dev up0");
    ip("addr add 2001:db8:1::1/64 dev up0 nodad");
    ip("link set up0 up");
    host_in(&outside, "198.51.100.2/24", "2001:db8:1::2/64");
    let mut ebpf = dataplane::load();
    fill(&mut ebpf, &containers);
    for name in ["from_container", "to_container", "from_host", "from_netdev", "to_netdev"] {
        dataplane::verify(&mut ebpf, name);
    }
    for i in 0..2 {
        attach(&mut ebpf, "from_container", &format!("hv{i}"), TcAttachType::Ingress);
        attach(&mut ebpf, "to_container", &format!("hv{i}"), TcAttachType::Egress);
    }
    attach(&mut ebpf, "from_host", "gw0", TcAttachType::Egress);
    attach(&mut ebpf, "from_netdev", "up0", TcAttachType::Ingress);
    attach(&mut ebpf, "to_netdev", "up0", TcAttachType::Egress);
    Scene { ebpf, containers, outside, _namespaces: namespaces }
}

fn host_in(netns: &str, v4: &str, v6: &str) {
    ip(&format!("-n {netns} link set lo up"));
    ip(&format!("-n {netns} addr add {v4} dev eth0"));
    ip(&format!("-n {netns} addr add {v6} dev eth0 nodad"));
    ip(&format!("-n {netns} link set eth0 up"));
}

fn fill(ebpf: &mut Ebpf, containers: &[String; 2]) {
    let config = Config {
        generation: 1,
        snat_first: 49_152,
        snat_last: 65_535,
        hairpin_v4: v4("169.254.1.1"),
        hairpin_v6: v6("fd00:ffff::1"),
        tcp_syn_s: 30,
        tcp_established_s: 7_440,
        tcp_fin_s: 30,
        tcp_rst_s: 10,
        udp_s: 30,
        udp_assured_s: 180,
        icmp_s: 10,
        other_s: 600,
        event_rate: 100,
        replication_limit: 64,
        ..Config::ZERO
    };
    tables::set(ebpf, "config", 0, config);
    let gateway = link("gw0");
    fill_host(ebpf, gateway, link("up0"));
    for (slot, netns) in (0..).zip(containers) {
        fill_container(ebpf, slot, mac_in(netns, "eth0"), gateway.1);
    }
    publish(ebpf, link("hv1").0, mac_in(&containers[1], "eth0"));
}

fn fill_host(ebpf: &mut Ebpf, gateway: (IfIndex, MacAddr), uplink: (IfIndex, MacAddr)) {
    let network = NetworkValue {
        flags: MASQUERADE_V4 | MASQUERADE_V6,
        gateway: gateway.0,
        member_count: 2,
        mtu: 1_500,
        gateway_mac: gateway.1,
        ..NetworkValue::default()
    };
    tables::set(ebpf, "networks", NET.0, network);
    tables::put(ebpf, "gateways", gateway.0, NET.0);
    let inner = HostAddressValue { ifindex: gateway.0, network: NET };
    let outer = HostAddressValue { ifindex: uplink.0, network: NetworkIndex::HOST };
    tables::put(ebpf, "host_addrs_v4", v4("172.30.0.1"), inner);
    tables::put(ebpf, "host_addrs_v6", v6("fd00:30::1"), inner);
    tables::put(ebpf, "host_addrs_v4", v4("198.51.100.1"), outer);
    tables::put(ebpf, "host_addrs_v6", v6("2001:db8:1::1"), outer);
    tables::prefix(ebpf, "subnets_v4", 24, v4("172.30.0.0"), SubnetValue { network: NET });
    tables::prefix(ebpf, "subnets_v6", 64, v6("fd00:30::"), SubnetValue { network: NET });
    let way_out = UplinkValue {
        v4: v4("198.51.100.1"),
        v6: v6("2001:db8:1::1"),
        mtu: 1_500,
        mac: uplink.1,
        flags: UPLINK_HAS_MAC,
    };
    tables::put(ebpf, "uplinks", uplink.0, way_out);
    let holder = AddressValue {
        endpoint: EndpointIndex::NONE,
        ifindex: gateway.0,
        mac: gateway.1,
        flags: ADDRESS_IS_GATEWAY,
    };
    hold(ebpf, (v4("172.30.0.1"), v6("fd00:30::1")), holder);
}

fn hold(ebpf: &mut Ebpf, addrs: (Ipv4, Ipv6), holder: AddressValue) {
    tables::put(ebpf, "addresses_v4", AddressKey { network: NET, addr: addrs.0 }, holder);
    tables::put(ebpf, "addresses_v6", AddressKey { network: NET, addr: addrs.1 }, holder);
}

fn fill_container(ebpf: &mut Ebpf, slot: u32, mac: MacAddr, gateway_mac: MacAddr) {
    let index = EndpointIndex(slot + 1);
    let ifindex = link(&format!("hv{slot}")).0;
    let host = slot + 2;
    let addrs = (v4(&format!("172.30.0.{host}")), v6(&format!("fd00:30::{host}")));
    let endpoint = EndpointValue {
        index,
        network: NET,
        flags: CHECK_MAC | CHECK_ADDRESS,
        v4: addrs.0,
        v6: addrs.1,
        mac,
        gateway_mac,
    };
    tables::put(ebpf, "endpoints", ifindex, endpoint);
    let place = StationValue { endpoint: index, ifindex };
    tables::put(ebpf, "stations", StationKey { network: NET, mac, pad: 0 }, place);
    tables::put(ebpf, "members", MemberKey { network: NET, slot }, ifindex);
    hold(ebpf, addrs, AddressValue { endpoint: index, ifindex, mac, flags: 0 });
}

/// Port 8080 of the host is port 80 of the second container.
fn publish(ebpf: &mut Ebpf, ifindex: IfIndex, mac: MacAddr) {
    for proto in [6, 17] {
        let to_v4 = PublishedValue {
            target: v4("172.30.0.3"),
            network: NET,
            endpoint: EndpointIndex(2),
            ifindex,
            slot: 0,
            mac,
            port: Be16::new(80),
        };
        let to_v6 = PublishedValue {
            target: v6("fd00:30::3"),
            network: NET,
            endpoint: EndpointIndex(2),
            ifindex,
            slot: 0,
            mac,
            port: Be16::new(80),
        };
        let port = Be16::new(8_080);
        let any_v4 = PublishedKey { addr: Ipv4(0), port, proto, pad: 0 };
        let any_v6 = PublishedKey { addr: Ipv6([0; 4]), port, proto, pad: 0 };
        tables::put(ebpf, "published_v4", any_v4, to_v4);
        tables::put(ebpf, "published_v6", any_v6, to_v6);
    }
}

/// A TCP exchange; the address that the server saw.
fn tcp(server: &str, listen: &str, client: &str, connect: &str) -> IpAddr {
    let listener = within(server, || TcpListener::bind(listen).expect("a listener"));
    let serve = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("a client");
        let mut byte = vec![0; 1 << 16];
        let mut got = 0;
        while got < 1 << 20 {
            got += stream.read(&mut byte).expect("data");
        }
        stream.write_all(b"pong").expect("answered");
        peer.ip()
    });
    within(client, || {
        let addr: SocketAddr = connect.parse().expect("an address");
        let mut stream =
            TcpStream::connect_timeout(&addr, TIMEOUT).unwrap_or_else(|e| panic!("{connect}: {e}"));
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.write_all(&vec![7; 1 << 20]).expect("sent");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"pong");
    });
    serve.join().expect("served")
}

/// A UDP exchange; the address that the server saw.
fn udp(server: &str, listen: &str, client: &str, connect: &str) -> IpAddr {
    let socket = within(server, || UdpSocket::bind(listen).expect("a socket"));
    socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let local = if connect.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let asker = within(client, || UdpSocket::bind(local).expect("a socket"));
    asker.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let mut from = None;
    for _ in 0..3 {
        asker.send_to(b"ping", connect).expect("sent");
        let mut data = [0; 4];
        let (_, peer) = socket.recv_from(&mut data).unwrap_or_else(|e| panic!("{connect}: {e}"));
        socket.send_to(b"pong", peer).expect("answered");
        let (_, answered) =
            asker.recv_from(&mut data).unwrap_or_else(|e| panic!("{connect}: answer: {e}"));
        assert_eq!(answered.to_string(), connect);
        from = Some(peer.ip());
    }
    from.expect("three rounds")
}

/// A datagram to a port that nobody listens on: the ICMP error finds its way back.
fn refused(client: &str, connect: &str) {
    within(client, || {
        let local = if connect.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(local).expect("a socket");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        socket.connect(connect).expect("connected");
        socket.send(b"?").expect("sent");
        let error = socket.recv(&mut [0; 4]).expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{connect}");
    });
}

fn ping(netns: &str, addr: &str) {
    let out = Command::new("ip")
        .args(["netns", "exec", netns, "ping", "-c", "2", "-i", "0.2", "-W", "2", addr])
        .output()
        .expect("ping runs");
    assert!(out.status.success(), "ping {addr}: {}", String::from_utf8_lossy(&out.stdout));
}

/// A TCP or UDP exchange.
type Exchange = fn(&str, &str, &str, &str) -> IpAddr;

/// Server, its address and port; client, what it asks for; the address that the server sees.
fn paths<'a>(a: &'a str, b: &'a str, o: &'a str) -> Vec<[&'a str; 5]> {
    vec![
        [b, "172.30.0.3:81", a, "172.30.0.3:81", "172.30.0.2"],
        [b, "[fd00:30::3]:81", a, "[fd00:30::3]:81", "fd00:30::2"],
        [b, "0.0.0.0:80", o, "198.51.100.1:8080", "198.51.100.2"],
        [b, "[::]:80", o, "[2001:db8:1::1]:8080", "2001:db8:1::2"],
        [o, "0.0.0.0:99", a, "198.51.100.2:99", "198.51.100.1"],
        [o, "[::]:99", a, "[2001:db8:1::2]:99", "2001:db8:1::1"],
        [b, "0.0.0.0:80", a, "198.51.100.1:8080", "172.30.0.2"],
        [b, "[::]:80", a, "[2001:db8:1::1]:8080", "fd00:30::2"],
        [b, "0.0.0.0:80", b, "172.30.0.1:8080", "169.254.1.1"],
        [b, "[::]:80", b, "[fd00:30::1]:8080", "fd00:ffff::1"],
    ]
}

/// Reason, hook and packets of every drop.
fn drops(ebpf: &mut Ebpf) -> Vec<String> {
    tables::all_per_cpu::<DropKey, TrafficCounter>(ebpf, "drops")
        .iter()
        .map(|(key, cpus)| {
            let packets: u64 = cpus.iter().map(|count| count.packets).sum();
            format!("reason {} at hook {}: {packets}", key.reason, key.hook)
        })
        .collect()
}

#[test]
fn real_traffic_takes_every_path() {
    let mut scene = scene();
    let [a, b] = scene.containers.clone();
    let o = scene.outside.clone();
    for host in ["172.30.0.3", "172.30.0.1", "198.51.100.1", "198.51.100.2"] {
        ping(&a, host);
    }
    for host in ["fd00:30::3", "fd00:30::1", "2001:db8:1::1", "2001:db8:1::2"] {
        ping(&a, host);
    }
    for (client, port) in
        [(&a, "198.51.100.2:9"), (&o, "198.51.100.1:8080"), (&a, "198.51.100.1:8080")]
    {
        refused(client, port);
    }
    for (client, port) in
        [(&a, "[2001:db8:1::2]:9"), (&o, "[2001:db8:1::1]:8080"), (&a, "[2001:db8:1::1]:8080")]
    {
        refused(client, port);
    }
    for exchange in [tcp as Exchange, udp as Exchange] {
        for [server, listen, client, ask, seen] in paths(&a, &b, &o) {
            println!("{ask}");
            assert_eq!(exchange(server, listen, client, ask).to_string(), seen);
        }
    }
    assert_eq!(drops(&mut scene.ebpf), Vec::<String>::new());
    for index in [1, 2] {
        let cpus = tables::per_cpu::<EndpointCounters>(&mut scene.ebpf, "counters", index);
        assert!(cpus.iter().any(|cpu| cpu.from_container.packets > 0));
        assert!(cpus.iter().any(|cpu| cpu.to_container.packets > 0));
    }
}
