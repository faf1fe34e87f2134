//! The host's own sockets and published ports: real sockets under the attached hooks, in a network
//! namespace and a cgroup of the test's own. Needs root.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test fails by panicking, and its helpers are shared by its own crate only"
)]

mod dataplane;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{CgroupAttachMode, Program};
use dataplane::tables;
use netd_common::map::config::Config;
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Be16, Ipv4, Ipv6};
use netd_user::link::netns;
use nix::sched::{CloneFlags, setns, unshare};

const HOOKS: &[&str] = &[
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "post_bind4",
    "post_bind6",
];
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(3));

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split_whitespace()).status();
    assert!(status.expect("ip runs").success(), "ip {args}");
}

/// A cgroup and a namespace that vanish with the test.
struct Corner {
    cgroup: PathBuf,
    netns: String,
}

impl Corner {
    fn new() -> Self {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.join("cgroup.controllers").exists())
            .expect("cgroup v2 is mounted");
        let name = format!("netdsock-{}", std::process::id());
        let corner = Self { cgroup: root.join(&name), netns: name };
        std::fs::create_dir(&corner.cgroup).expect("a cgroup");
        ip(&format!("netns add {}", corner.netns));
        corner
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.netns]).status();
        let _gone = std::fs::remove_dir(&self.cgroup);
    }
}

fn publish(ebpf: &mut Ebpf) {
    tables::set(
        ebpf,
        "config",
        0,
        Config { host_netns_cookie: netns::cookie().expect("a cookie"), ..Config::ZERO },
    );
    for proto in [6, 17] {
        let port = Be16::new(8_080);
        let v4 = PublishedValue {
            target: Ipv4::from(Ipv4Addr::new(172, 31, 0, 2)),
            port: Be16::new(80),
            ..PublishedValue::default()
        };
        tables::put(ebpf, "published_v4", PublishedKey { addr: Ipv4(0), port, proto, pad: 0 }, v4);
        let v6 = PublishedValue {
            target: Ipv6::from("fd00:31::2".parse::<Ipv6Addr>().expect("an address")),
            port: Be16::new(80),
            ..PublishedValue::default()
        };
        tables::put(
            ebpf,
            "published_v6",
            PublishedKey { addr: Ipv6([0; 4]), port, proto, pad: 0 },
            v6,
        );
    }
}

fn attach(ebpf: &mut Ebpf, cgroup: &File) {
    for name in HOOKS {
        match dataplane::verify(ebpf, name) {
            Program::CgroupSockAddr(program) => {
                program.attach(cgroup, CgroupAttachMode::Single).expect("attached");
            }
            Program::CgroupSock(program) => {
                program.attach(cgroup, CgroupAttachMode::Single).expect("attached");
            }
            _ => panic!("{name} is no socket hook"),
        }
    }
}

/// A server in the backend's namespace: echoes until its socket times out.
fn serve(backend: &str) {
    let file = File::open(format!("/run/netns/{backend}")).expect("a namespace");
    setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entry");
    let listener = TcpListener::bind("[::]:80").expect("a listener");
    let socket = UdpSocket::bind("[::]:80").expect("a socket");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _closed = stream.write_all(b"tcp!");
        }
    });
    std::thread::spawn(move || {
        let mut data = [0; 16];
        while let Ok((_, peer)) = socket.recv_from(&mut data) {
            let _gone = socket.send_to(b"udp!", peer);
        }
    });
}

#[test]
fn host_sockets_reach_published_ports_and_never_see_the_difference() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a namespace of our own");
    let corner = Corner::new();
    let backend = &corner.netns;
    ip("link set lo up");
    ip(&format!("link add gw0 type veth peer name eth0 netns {backend}"));
    ip("addr add 172.31.0.1/24 dev gw0");
    ip("addr add fd00:31::1/64 dev gw0 nodad");
    ip("link set gw0 up");
    ip(&format!("-n {backend} addr add 172.31.0.2/24 dev eth0"));
    ip(&format!("-n {backend} addr add fd00:31::2/64 dev eth0 nodad"));
    ip(&format!("-n {backend} link set eth0 up"));
    let server = backend.clone();
    std::thread::spawn(move || serve(&server)).join().expect("a server");
    let mut ebpf = dataplane::load();
    publish(&mut ebpf);
    attach(&mut ebpf, &File::open(&corner.cgroup).expect("a cgroup"));
    let out = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "as_a_process_of_the_host", "--ignored", "--nocapture"])
        .env("NETD_TEST_CGROUP", &corner.cgroup)
        .output()
        .expect("a process");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

/// The part that runs in the cgroup; the test above starts it.
#[test]
#[ignore = "run by host_sockets_reach_published_ports_and_never_see_the_difference"]
fn as_a_process_of_the_host() {
    let cgroup = std::env::var_os("NETD_TEST_CGROUP").expect("started by the other test");
    std::fs::write(PathBuf::from(cgroup).join("cgroup.procs"), "0").expect("entry");
    for asked in ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080", "0.0.0.0:8080"] {
        let asked: SocketAddr = asked.parse().expect("an address");
        tcp(asked);
        udp_connected(asked);
        udp_unconnected(asked);
    }
    for bind in ["127.0.0.1:8080", "0.0.0.0:8080", "[::1]:8080", "[::]:8080"] {
        let bind: SocketAddr = bind.parse().expect("an address");
        let refused = |error: std::io::Error| error.kind();
        assert_eq!(
            TcpListener::bind(bind).map_err(refused).err(),
            Some(std::io::ErrorKind::PermissionDenied),
            "{bind}"
        );
        assert_eq!(
            UdpSocket::bind(bind).map_err(refused).err(),
            Some(std::io::ErrorKind::PermissionDenied),
            "{bind}"
        );
    }
    TcpListener::bind("0.0.0.0:8081").expect("another port is free");
    bound_to_loopback();
}

fn tcp(asked: SocketAddr) {
    let mut stream = TcpStream::connect_timeout(&asked, Duration::from_secs(3))
        .unwrap_or_else(|e| panic!("{asked}: {e}"));
    stream.set_read_timeout(TIMEOUT).expect("a timeout");
    assert_eq!(stream.peer_addr().expect("a peer"), asked);
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"tcp!");
}

fn any_of(asked: SocketAddr) -> SocketAddr {
    let ip = match asked.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

fn udp_connected(asked: SocketAddr) {
    let socket = UdpSocket::bind(any_of(asked)).expect("a socket");
    socket.set_read_timeout(TIMEOUT).expect("a timeout");
    socket.connect(asked).expect("connected");
    assert_eq!(socket.peer_addr().expect("a peer"), asked);
    socket.send(b"?").expect("sent");
    let mut answer = [0; 4];
    let (_, from) = socket.recv_from(&mut answer).unwrap_or_else(|e| panic!("{asked}: {e}"));
    assert_eq!((from, &answer), (asked, b"udp!"));
}

fn udp_unconnected(asked: SocketAddr) {
    let socket = UdpSocket::bind(any_of(asked)).expect("a socket");
    socket.set_read_timeout(TIMEOUT).expect("a timeout");
    socket.send_to(b"?", asked).expect("sent");
    let mut answer = [0; 4];
    let (_, from) = socket.recv_from(&mut answer).unwrap_or_else(|e| panic!("{asked}: {e}"));
    assert_eq!((from, &answer), (asked, b"udp!"));
}

/// The stated limit: such a socket gets an error at once, not silence.
fn bound_to_loopback() {
    for (own, asked) in [("127.0.0.1:0", "127.0.0.1:8080"), ("[::1]:0", "[::1]:8080")] {
        let socket = UdpSocket::bind(own).expect("a socket");
        let told = std::io::ErrorKind::AddrNotAvailable;
        assert_eq!(socket.send_to(b"?", asked).map_err(|error| error.kind()), Err(told));
        assert_eq!(socket.connect(asked).map_err(|error| error.kind()), Err(told));
    }
}
