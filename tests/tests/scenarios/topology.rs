//! Networks of unusual form: several per container, one family alone, two addresses, two uplinks.

use std::net::{IpAddr, SocketAddr};

use netd_tests::container::Transport;
use netd_tests::outside::{ROUTER_V4, ROUTER_V6, WORLD_V4, WORLD_V6};
use netd_tests::process::run;
use netd_tests::wire::{tcp_echo_server, udp_echo_server};
use netd_tests::{Container, Daemon};

use super::{World, container, is_reached, network};

/// The interface of a container's default routes, IPv4 and IPv6.
fn default_interfaces(container: &Container) -> [String; 2] {
    ["-4", "-6"].map(|family| {
        let shown = container.netns.run(|| run("ip", &[family, "route", "show", "default"]));
        let shown = shown.unwrap();
        let mut words = shown.split_whitespace().skip_while(|word| *word != "dev").skip(1);
        words.next().unwrap_or_default().to_owned()
    })
}

fn connect(daemon: &Daemon<'_>, arguments: &[&str], network: &str, container: &str) {
    let all = [&["network", "connect"], arguments, &[network, container]].concat();
    daemon.ok(&all).unwrap();
}

#[test]
fn default_route_follows_gateway_priority_and_moves_when_its_network_goes() {
    let world = World::new();
    let daemon = world.daemon();
    for name in ["a", "b", "c"] {
        network(&daemon, name, &[]);
    }
    network(&daemon, "closed", &["--internal"]);
    let c1 = container(&daemon, "c1", "b", &[]);
    let eth = |number| ["eth", "eth"].map(|name| format!("{name}{number}"));
    assert_eq!(default_interfaces(&c1), eth(0));
    connect(&daemon, &[], "a", "c1");
    assert_eq!(default_interfaces(&c1), eth(1), "equal priority: the first by name");
    connect(&daemon, &["--gw-priority", "1"], "c", "c1");
    connect(&daemon, &["--gw-priority", "9"], "closed", "c1");
    assert_eq!(default_interfaces(&c1), eth(2), "the highest priority, never an internal one");
    let _outside = tcp_echo_server(world.outside.netns(), (WORLD_V4, 7000).into()).unwrap();
    assert!(is_reached(&c1.netns, (WORLD_V4, 7000).into(), Transport::Tcp));
    daemon.ok(&["network", "disconnect", "c", "c1"]).unwrap();
    assert_eq!(default_interfaces(&c1), eth(1));
    assert!(is_reached(&c1.netns, (WORLD_V4, 7000).into(), Transport::Tcp));
    daemon.ok(&["network", "disconnect", "a", "c1"]).unwrap();
    daemon.ok(&["network", "disconnect", "b", "c1"]).unwrap();
    assert_eq!(default_interfaces(&c1), [String::new(), String::new()]);
}

#[test]
fn container_on_two_networks_reaches_members_of_both_while_one_comes_and_goes() {
    use std::io::{Read as _, Write as _};
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let a = container(&daemon, "c1", "one", &[]);
    let (b, c) = (container(&daemon, "c2", "one", &[]), container(&daemon, "c3", "two", &[]));
    let _servers = (b.serve_all(7000).unwrap(), c.serve_all(7000).unwrap());
    let mut streams = b.addresses("one").unwrap().map(|target| {
        let target = SocketAddr::new(target, 7000);
        a.netns.run(|| Ok(std::net::TcpStream::connect(target)?)).unwrap()
    });
    for round in 0..3 {
        connect(&daemon, &[], "two", "c1");
        for target in c.addresses("two").unwrap() {
            for transport in Transport::ALL {
                assert!(is_reached(&a.netns, SocketAddr::new(target, 7000), transport));
            }
        }
        for stream in &mut streams {
            stream.write_all(format!("{round} ").as_bytes()).unwrap();
        }
        daemon.ok(&["network", "disconnect", "two", "c1"]).unwrap();
        for stream in &mut streams {
            stream.write_all(b"back ").unwrap();
        }
    }
    for mut stream in streams {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\n0 back 1 back 2 back "), "{answer}");
    }
}

/// To a neighbour and, masqueraded, to the world: each question waits for its answer.
#[test]
fn no_datagram_is_lost_on_one_network_while_another_comes_and_goes() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let (a, b) = (container(&daemon, "c1", "one", &[]), container(&daemon, "c2", "one", &[]));
    let _servers = b.serve_all(7000).unwrap();
    let outside = [WORLD_V4.into(), WORLD_V6.into()].map(|ip| SocketAddr::new(ip, 7000));
    let _world = outside.map(|it| udp_echo_server(world.outside.netns(), it).unwrap());
    let near = b.addresses("one").unwrap().map(|ip| SocketAddr::new(ip, 7000));
    let (stop, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    let keep_asking = |target: SocketAddr| {
        let any: IpAddr = if target.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
        let socket = a.netns.run(|| Ok(std::net::UdpSocket::bind((any, 0))?)).unwrap();
        socket.connect(target).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let mut lost = 0;
        while !stop.load(Ordering::Relaxed) {
            let answered = socket.send(b"?").is_ok() && socket.recv(&mut [0; 128]).is_ok();
            lost += u32::from(!answered);
            asked.fetch_add(1, Ordering::Relaxed);
        }
        lost
    };
    let lost = std::thread::scope(|scope| {
        let asking: Vec<_> = near
            .into_iter()
            .chain(outside)
            .map(|target| scope.spawn(move || (target, keep_asking(target))))
            .collect();
        for _ in 0..5 {
            connect(&daemon, &[], "two", "c1");
            daemon.ok(&["network", "disconnect", "two", "c1"]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        asking.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(lost.iter().all(|(_, lost)| *lost == 0), "{lost:?} of {asked:?}");
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
}

#[test]
fn network_of_ipv6_alone_has_neighbours_published_ports_and_the_world() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.ok(&["network", "create", "--ipv4=false", "--ipv6", "six"]).unwrap();
    let a = container(&daemon, "c1", "six", &["-p", "8080:7000"]);
    let b = container(&daemon, "c2", "six", &[]);
    let _servers = a.serve_all(7000).unwrap();
    assert!(a.address("six", false).is_err());
    assert!(b.pings(a.address("six", true).unwrap()).unwrap());
    let published = SocketAddr::new(world.host.v6().into(), 8080);
    assert!(is_reached(world.outside.netns(), published, Transport::Tcp));
    let target = SocketAddr::from((WORLD_V6, 7000));
    let _outside = tcp_echo_server(world.outside.netns(), target).unwrap();
    let answer = Transport::Tcp.ask(&b.netns, target).unwrap();
    assert_eq!(answer.seen_as.ip(), IpAddr::from(world.host.v6()));
    let addresses = a.netns.run(|| run("ip", &["-4", "address", "show", "eth0"])).unwrap();
    assert!(addresses.is_empty(), "{addresses}");
}

#[test]
fn network_of_two_addresses_holds_two_containers_without_a_gateway() {
    let world = World::new();
    let daemon = world.daemon();
    let isolated = ["ipv4", "ipv6"]
        .map(|family| format!("com.docker.network.bridge.gateway_mode_{family}=isolated"));
    let options = ["--internal", "-o", &isolated[0], "-o", &isolated[1]];
    let subnets = ["--subnet", "10.77.0.0/31", "--subnet", "fd77::/127"];
    network(&daemon, "pair", &[&options[..], &subnets].concat());
    let (a, b) = (container(&daemon, "c1", "pair", &[]), container(&daemon, "c2", "pair", &[]));
    let _servers = b.serve_all(7000).unwrap();
    for target in b.addresses("pair").unwrap() {
        assert!(a.pings(target).unwrap(), "{target}");
        for transport in Transport::ALL {
            assert!(is_reached(&a.netns, SocketAddr::new(target, 7000), transport), "{target}");
        }
    }
}

/// The addresses of the host and of the outside on a second link.
const SECOND: [&str; 2] = ["192.0.2.2", "2001:db8:9::2"];
const SECOND_ROUTER: [&str; 2] = ["192.0.2.1", "2001:db8:9::1"];

fn second(texts: [&str; 2]) -> [IpAddr; 2] {
    texts.map(|text| text.parse().unwrap())
}

/// The world is behind both uplinks; the host's default route leads into the void of the first.
#[test]
fn replies_leave_by_the_uplink_that_the_request_came_in_on() {
    let world = World::new();
    let _second = world.outside.plug_second(&world.host).unwrap();
    for (family, (own, router)) in
        ["-4", "-6"].into_iter().zip(SECOND.into_iter().zip(SECOND_ROUTER))
    {
        let route = [family, "route", "add", "default", "via", router];
        world.host.ip(&[&route[..], &["metric", "2000"]].concat()).unwrap();
        world.host.ip(&[&route[..], &["table", "100"]].concat()).unwrap();
        world.host.ip(&[family, "rule", "add", "from", own, "table", "100"]).unwrap();
    }
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let ports = ["-p", "8080:7000/tcp", "-p", "8080:7000/udp"];
    let web = container(&daemon, "web", "app", &ports);
    let _servers = web.serve_all(7000).unwrap();
    world.host.ip(&["route", "replace", "default", "via", "198.51.100.99"]).unwrap();
    let void = ["-6", "route", "replace", "default", "via", "2001:db8:1::99", "dev", "eth0"];
    world.host.ip(&void).unwrap();
    let sources: [IpAddr; 2] = [WORLD_V4.into(), WORLD_V6.into()];
    for (source, own) in sources.into_iter().zip(second(SECOND)) {
        let (source, target) = (SocketAddr::new(source, 5353), SocketAddr::new(own, 8080));
        for transport in Transport::ALL {
            let asked = || ask_from(source, transport, target);
            assert_eq!(world.outside.netns().run(asked).unwrap(), source, "{transport:?}");
        }
    }
}

#[test]
fn masquerade_takes_the_address_of_the_uplink_that_the_route_leads_out_of() {
    let world = World::new();
    let _second = world.outside.plug_second(&world.host).unwrap();
    world.host.ip(&["route", "add", "203.0.113.0/24", "via", "192.0.2.1"]).unwrap();
    world.host.ip(&["-6", "route", "add", "2001:db8:2::/64", "via", "2001:db8:9::1"]).unwrap();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    let first: [IpAddr; 2] = [ROUTER_V4.into(), ROUTER_V6.into()];
    let by_first = first.into_iter().zip(world.uplink());
    let by_second = [WORLD_V4.into(), WORLD_V6.into()].into_iter().zip(second(SECOND));
    let servers: Vec<_> = by_first
        .chain(by_second)
        .map(|(target, own)| {
            let target = SocketAddr::new(target, 7000);
            let tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
            (target, own, tcp, udp_echo_server(world.outside.netns(), target).unwrap())
        })
        .collect();
    for (target, own, ..) in &servers {
        for transport in Transport::ALL {
            let answer = transport.ask(&a.netns, *target).unwrap();
            assert_eq!((answer.seen_as.ip(), answer.from), (*own, *target), "{transport:?}");
        }
        assert!(a.pings(target.ip()).unwrap(), "{target}");
    }
}

/// A second network of the host's own, such as a company's or a tunnel's.
#[test]
fn link_without_a_default_route_serves_published_ports_and_is_masqueraded_to() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let ports = ["-p", "8080:7000/tcp", "-p", "8080:7000/udp"];
    let web = container(&daemon, "web", "app", &ports);
    let _servers = web.serve_all(7000).unwrap();
    let _second = world.outside.plug_second(&world.host).unwrap();
    let patience = std::time::Duration::from_secs(10);
    for (own, router) in second(SECOND).into_iter().zip(second(SECOND_ROUTER)) {
        let (published, far) = (SocketAddr::new(own, 8080), SocketAddr::new(router, 7000));
        let _tcp = tcp_echo_server(world.outside.netns(), far).unwrap();
        let _udp = udp_echo_server(world.outside.netns(), far).unwrap();
        for transport in Transport::ALL {
            netd_tests::eventually("the new link's service", patience, || {
                Ok(is_reached(world.outside.netns(), published, transport).then_some(()))
            })
            .unwrap();
            let seen = transport.ask(world.outside.netns(), published).unwrap().seen_as.ip();
            assert_eq!(seen, router, "{transport:?}");
            assert_eq!(transport.ask(&web.netns, far).unwrap().seen_as.ip(), own, "{transport:?}");
        }
    }
}

/// Asks from a given address and port; how the server saw it.
fn ask_from(
    source: SocketAddr,
    transport: Transport,
    target: SocketAddr,
) -> anyhow::Result<SocketAddr> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
        sockopt,
    };
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;
    let kind = match transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::empty(), None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(3, 0))?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(target))?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(b"hello")?;
    let mut answer = vec![0; 128];
    if transport == Transport::Tcp {
        stream.shutdown(std::net::Shutdown::Write)?;
    }
    let len = stream.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..len]).into_owned();
    Ok(text.lines().next().unwrap_or_default().parse()?)
}
