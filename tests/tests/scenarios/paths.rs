//! What a sender learns of the way: its hops, what fits it, and that nobody is there any more.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use netd_tests::outside::{ROUTER_V4, ROUTER_V6, WORLD_V4, WORLD_V6};
use netd_tests::path::{FAR_V4, FAR_V6, Far, ping};
use netd_tests::process::run;
use netd_tests::{Netns, eventually::eventually};
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use std::os::fd::AsRawFd as _;

use super::{World, container, network};

const DEADLINE: Duration = Duration::from_secs(20);

fn any(target: IpAddr) -> IpAddr {
    if target.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() }
}

fn udp(netns: &Netns, target: SocketAddr) -> UdpSocket {
    let socket = netns.run(|| Ok(UdpSocket::bind((any(target.ip()), 0))?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Who complains about a datagram that may take so many hops, and with which ICMP type.
fn complainer(netns: &Netns, target: IpAddr, hops: i32) -> (IpAddr, u8) {
    let socket = udp(netns, (target, 33_434).into());
    if target.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
        setsockopt(&socket, sockopt::Ipv6Ttl, &hops).unwrap();
    } else {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
        setsockopt(&socket, sockopt::Ipv4Ttl, &hops).unwrap();
    }
    socket.send_to(b"who is there?", (target, 33_434)).unwrap();
    eventually("an ICMP error", DEADLINE, || Ok(read_error(&socket))).unwrap()
}

#[allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum, of which two variants matter")]
fn read_error(socket: &UdpSocket) -> Option<(IpAddr, u8)> {
    let mut control = nix::cmsg_space!([u8; 128]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut [], Some(&mut control), flags);
    let message = match message {
        Err(Errno::EAGAIN) => return None,
        message => message.unwrap(),
    };
    message.cmsgs().unwrap().find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, Some(from)) => {
            Some((IpAddr::from(from.sin_addr.s_addr.to_ne_bytes()), error.ee_type))
        }
        ControlMessageOwned::Ipv6RecvErr(error, Some(from)) => {
            Some((IpAddr::from(from.sin6_addr.s6_addr), error.ee_type))
        }
        _ => None,
    })
}

#[test]
fn traceroute_from_a_container_shows_gateway_routers_and_target_by_udp_and_by_icmp() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let a = container(&daemon, "c1", "app", &[]);
    let _far = Far::behind(&world.outside).unwrap();
    let paths: [[IpAddr; 3]; 2] = [
        ["10.77.0.1".parse().unwrap(), ROUTER_V4.into(), FAR_V4.into()],
        ["fd77::1".parse().unwrap(), ROUTER_V6.into(), FAR_V6.into()],
    ];
    for path in paths {
        let target = path[2];
        let (exceeded, unreachable) = if target.is_ipv6() { (3, 1) } else { (11, 3) };
        for (hops, hop) in (1u8..).zip(path) {
            let kind = if hop == target { unreachable } else { exceeded };
            assert_eq!(
                complainer(&a.netns, target, hops.into()),
                (hop, kind),
                "{hops} hops by UDP"
            );
            let said = ping(&a.netns, target, hops).unwrap();
            let says = if hop == target {
                format!("from {hop}: icmp_seq=1")
            } else {
                format!("From {hop} icmp_seq=1 Time")
            };
            assert!(said.contains(&says), "{hops} hops by ICMP: {said}");
        }
    }
}

#[test]
fn pings_with_the_same_id_to_the_same_target_at_once_are_told_apart() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let sandboxes = ["c1", "c2", "c3"].map(|name| container(&daemon, name, "app", &[]));
    for target in [IpAddr::from(WORLD_V4), WORLD_V6.into()] {
        std::thread::scope(|scope| {
            for sandbox in &sandboxes {
                scope.spawn(move || {
                    let target = target.to_string();
                    let arguments =
                        ["-n", "-e", "4711", "-c", "5", "-i", "0.2", "-W", "5", &target];
                    let said = sandbox.netns.run(|| run("ping", &arguments)).unwrap();
                    assert!(said.contains("5 received"), "{}: {said}", sandbox.name);
                    assert!(!said.contains("DUP"), "{}: {said}", sandbox.name);
                });
            }
        });
    }
}

#[test]
fn revoked_port_resets_its_connections_and_refuses_new_ones_and_datagrams() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let neighbour = container(&daemon, "c2", "app", &[]);
    for host in world.uplink() {
        let ports = ["-p", "8080:7000", "-p", "8080:7000/udp"];
        let web = container(&daemon, "web", "app", &ports);
        let servers = web.serve_all(7000).unwrap();
        let target = SocketAddr::new(host, 8080);
        let clients = [world.outside.netns(), &neighbour.netns];
        let connected = clients.map(|client| Connected::to(client, target));
        drop(servers);
        daemon.ok(&["sandbox", "rm", "web"]).unwrap();
        for (client, connected) in clients.into_iter().zip(connected) {
            connected.expect_refusal();
            let error = client
                .run(|| Ok(TcpStream::connect_timeout(&target, Duration::from_secs(5)).err()))
                .unwrap();
            let kind = error.map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::ConnectionRefused), "{target}: a new connection");
            let socket = udp(client, target);
            socket.connect(target).unwrap();
            socket.send(b"anybody?").unwrap();
            let kind = socket.recv(&mut [0; 8]).map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::ConnectionRefused), "{target}: a new datagram");
        }
    }
}

/// A client of a published port by both protocols.
struct Connected {
    target: SocketAddr,
    tcp: TcpStream,
    udp: UdpSocket,
}

impl Connected {
    fn to(netns: &Netns, target: SocketAddr) -> Self {
        let connect = || Ok(TcpStream::connect_timeout(&target, Duration::from_secs(5))?);
        let tcp = netns.run(connect).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let udp = udp(netns, target);
        udp.connect(target).unwrap();
        udp.send(b"hello").unwrap();
        udp.recv(&mut [0; 128]).unwrap();
        Self { target, tcp, udp }
    }

    /// By the first packet, or by the end of the server a moment before.
    fn expect_refusal(mut self) {
        let (target, told) = (self.target, "what is sent next is refused");
        eventually(told, DEADLINE, || {
            let written = self.tcp.write_all(b"still there?");
            let read = written.and_then(|()| self.tcp.read(&mut [0; 128]));
            let kind = read.as_ref().map_err(std::io::Error::kind);
            let is_over = matches!(kind, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
            Ok(is_over.then_some(()))
        })
        .unwrap_or_else(|error| panic!("{target}: {error}"));
        eventually(told, DEADLINE, || {
            let asked = self.udp.send(b"still there?").and_then(|_| self.udp.recv(&mut [0; 128]));
            let kind = asked.map_err(|error| error.kind());
            Ok((kind == Err(ErrorKind::ConnectionRefused)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{target}: {error}"));
    }
}

/// The largest datagram of a link that takes 1 500 bytes.
fn full(target: IpAddr) -> Vec<u8> {
    vec![0x5a; if target.is_ipv6() { 1_452 } else { 1_472 }]
}

#[test]
fn network_with_a_smaller_mtu_still_takes_what_the_uplink_took() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["-o", "com.docker.network.driver.mtu=1400"]);
    let a = container(&daemon, "c1", "app", &["-p", "8080:7000/udp"]);
    for host in world.uplink() {
        let server = a.netns.run(|| Ok(UdpSocket::bind((any(host), 7000))?)).unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        let target = SocketAddr::new(host, 8080);
        udp(world.outside.netns(), target).send_to(&full(host), target).unwrap();
        let mut got = [0; 2_000];
        assert_eq!(server.recv(&mut got).unwrap(), full(host).len(), "{target}");
    }
}

/// `discovery` off: packets of sockets made then allow routers to fragment them.
fn set_discovery(netns: &Netns, off: &str) {
    let setting = format!("net.ipv4.ip_no_pmtu_disc={off}");
    netns.run(|| run("sysctl", &["-qw", &setting])).unwrap();
}

#[test]
fn datagram_too_big_for_the_uplink_arrives_in_fragments_once_its_sender_was_told_with_or_without_df()
 {
    let world = World::new();
    world.host.ip(&["link", "set", "eth0", "mtu", "1400"]).unwrap();
    let daemon = world.daemon();
    network(&daemon, "app", &["-o", "com.docker.network.driver.mtu=1500"]);
    for (target, off) in
        [(IpAddr::from(WORLD_V4), "0"), (WORLD_V4.into(), "1"), (WORLD_V6.into(), "0")]
    {
        // A container of its own has yet to learn.
        let name = format!("c{}{off}", u8::from(target.is_ipv6()));
        let a = container(&daemon, &name, "app", &[]);
        let target = SocketAddr::new(target, 7000);
        let server = world.outside.netns().run(|| Ok(UdpSocket::bind(target)?)).unwrap();
        server.set_nonblocking(true).unwrap();
        set_discovery(&a.netns, off);
        let socket = udp(&a.netns, target);
        set_discovery(&a.netns, "0");
        let told = super::drops(&daemon, "too_big");
        let len = eventually("the datagram", DEADLINE, || {
            // A socket that forbids fragments says that it has been told.
            let _told = socket.send_to(&full(target.ip()), target);
            Ok(server.recv(&mut [0; 2_000]).ok())
        });
        assert_eq!(len.unwrap(), full(target.ip()).len(), "{target}");
        assert!(super::drops(&daemon, "too_big") > told, "{target}");
    }
    assert_eq!(super::drops(&daemon, "no_route"), 0);
}
