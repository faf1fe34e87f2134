//! When a published container goes, and when it comes back: who asks is told, and who keeps asking is
//! answered.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::process::built;
use netd_tests::{Container, Daemon, Netns, eventually};

use super::{World, container, is_reached, network};

const PORTS: [&str; 4] = ["-p", "8080:7000/tcp", "-p", "8080:7000/udp"];
const AT_ONCE: Duration = Duration::from_secs(1);

/// A socket that stays the same, connected to `target`.
fn client(netns: &Netns, target: SocketAddr) -> UdpSocket {
    let any: IpAddr =
        if target.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = netns.run(|| Ok(UdpSocket::bind((any, 0))?)).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

fn is_answered(socket: &UdpSocket) -> bool {
    socket.send(b"again").is_ok() && socket.recv(&mut [0; 128]).is_ok()
}

/// Removes the container and makes it anew, with another address than before.
fn recreate(daemon: &Daemon<'_>) -> Container {
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    container(daemon, "squatter", "app", &[]);
    container(daemon, "web", "app", &PORTS)
}

#[test]
fn udp_client_that_keeps_sending_reaches_the_recreated_container_within_a_second() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let servers = web.serve_all(7000).unwrap();
    let clients = world.uplink().map(|ip| client(world.outside.netns(), SocketAddr::new(ip, 8080)));
    assert!(clients.iter().all(is_answered));
    drop(servers);
    let web = recreate(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    for client in &clients {
        eventually("an answer", AT_ONCE, || Ok(is_answered(client).then_some(()))).unwrap();
    }
}

#[test]
fn udp_socket_of_a_host_process_reaches_the_recreated_container_within_a_second() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let servers = web.serve_all(7000).unwrap();
    let asking = ["127.0.0.1:8080", "[::1]:8080"].map(|it| Asking::start(&world, "keep", it));
    for asking in &asking {
        asking.hears("answered 0");
    }
    drop(servers);
    let web = recreate(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    let before = asking.each_ref().map(|asking| asking.said().lines().count());
    for (asking, before) in asking.iter().zip(before) {
        eventually("an answer", AT_ONCE, || {
            let answered = |line: &str| line.starts_with("answered");
            Ok(asking.said().lines().skip(before).any(answered).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn connected_sockets_of_a_host_process_end_with_the_container() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = web.serve_all(7000).unwrap();
    let ways = ["stay-udp", "stay-tcp"].into_iter();
    let ways = ways.flat_map(|way| ["127.0.0.1:8080", "[::1]:8080"].map(|target| (way, target)));
    let asking: Vec<_> = ways.map(|(way, target)| Asking::start(&world, way, target)).collect();
    for asking in &asking {
        asking.hears("answered 0");
    }
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    for asking in &asking {
        asking.hears("ended");
    }
}

/// A host process that keeps asking the published port from one socket.
struct Asking {
    process: std::process::Child,
    log: std::path::PathBuf,
}

impl Asking {
    fn start(world: &World, way: &str, target: &str) -> Self {
        let log = world.host.directory().join(format!("{way} {target}.log"));
        let wire = built("wire").unwrap();
        let process = world.host.spawn(&wire, &[way, target], &log).unwrap();
        Self { process, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn hears(&self, words: &str) {
        let heard = || Ok(self.said().contains(words).then_some(()));
        eventually(words, Duration::from_secs(3), heard)
            .unwrap_or_else(|error| panic!("{error}: {}", self.said()));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Both only fail for a process that has ended and was waited for.
        let _already_ended = self.process.kill();
        let _already_waited = self.process.wait();
    }
}

#[test]
fn revoked_port_refuses_new_clients_and_ends_the_established() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = web.serve_all(7000).unwrap();
    let targets = world.uplink().map(|ip| SocketAddr::new(ip, 8080));
    let connect = |target: SocketAddr| {
        world.outside.netns().run(|| Ok(TcpStream::connect_timeout(&target, AT_ONCE)))
    };
    let held = targets.map(|target| connect(target).unwrap().unwrap());
    let client = targets.map(|target| client(world.outside.netns(), target));
    assert!(client.iter().all(is_answered));
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    for (mut stream, client) in held.into_iter().zip(client) {
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(b"still there?").unwrap();
        let ended = stream.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(ended, Err(ErrorKind::ConnectionReset));
        client.send(b"still there?").unwrap();
        let ended = client.recv(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(ended, Err(ErrorKind::ConnectionRefused));
    }
    for target in targets {
        let refused = connect(target).unwrap().map(drop).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{target}");
    }
}

#[test]
fn tcp_and_udp_of_one_port_belong_to_two_containers_on_both_families() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &PORTS[..2]);
    let b = container(&daemon, "c2", "app", &PORTS[2..]);
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7000));
    let _tcp = netd_tests::wire::tcp_echo_server(&a.netns, any).unwrap();
    let _udp = netd_tests::wire::udp_echo_server(&b.netns, any).unwrap();
    let outside = world.outside.netns();
    let targets = world.uplink().map(|ip| SocketAddr::new(ip, 8080));
    let reached = |transport| targets.map(|target| is_reached(outside, target, transport));
    assert_eq!(Transport::ALL.map(reached), [[true; 2]; 2]);
    daemon.ok(&["sandbox", "rm", "c1"]).unwrap();
    assert_eq!(Transport::ALL.map(reached), [[false; 2], [true; 2]]);
}
