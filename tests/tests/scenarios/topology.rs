//! Networks of unusual form: several per container, one family alone, two addresses, two uplinks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netd_tests::container::Transport;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::process::run;
use netd_tests::wire::tcp_echo_server;
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
    let target = SocketAddr::new(b.address("one", false).unwrap(), 7000);
    let mut stream = a.netns.run(|| Ok(std::net::TcpStream::connect(target)?)).unwrap();
    for round in 0..3 {
        connect(&daemon, &[], "two", "c1");
        for target in c.addresses("two").unwrap() {
            assert!(is_reached(&a.netns, SocketAddr::new(target, 7000), Transport::Udp));
        }
        stream.write_all(format!("{round} ").as_bytes()).unwrap();
        daemon.ok(&["network", "disconnect", "two", "c1"]).unwrap();
        stream.write_all(b"back ").unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\n0 back 1 back 2 back "), "{answer}");
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

/// The world is behind both uplinks; the host's default route leads into the void of the first.
#[test]
fn replies_leave_by_the_uplink_that_the_request_came_in_on() {
    let world = World::new();
    let second: IpAddr = Ipv4Addr::new(192, 0, 2, 2).into();
    let link = ["link", "add", "second", "type", "veth", "peer", "name", "eth1", "netns"];
    world.outside.ip(&[&link[..], &[world.host.name()]].concat()).unwrap();
    world.outside.ip(&["address", "add", "192.0.2.1/24", "dev", "second"]).unwrap();
    world.outside.ip(&["link", "set", "second", "up"]).unwrap();
    world.host.ip(&["address", "add", "192.0.2.2/24", "dev", "eth1"]).unwrap();
    world.host.ip(&["link", "set", "eth1", "up"]).unwrap();
    world.host.ip(&["route", "add", "default", "via", "192.0.2.1", "metric", "9"]).unwrap();
    world.host.ip(&["route", "add", "default", "via", "192.0.2.1", "table", "100"]).unwrap();
    world.host.ip(&["rule", "add", "from", "192.0.2.2", "table", "100"]).unwrap();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let ports = ["-p", "8080:7000/tcp", "-p", "8080:7000/udp"];
    let web = container(&daemon, "web", "app", &ports);
    let _servers = web.serve_all(7000).unwrap();
    world.host.ip(&["route", "replace", "default", "via", "198.51.100.99"]).unwrap();
    for transport in Transport::ALL {
        let target = SocketAddr::new(second, 8080);
        let answer = world.outside.netns().run(|| ask_from_the_world(transport, target)).unwrap();
        assert_eq!(answer, SocketAddr::from((WORLD_V4, 5353)), "{transport:?}");
    }
}

/// Asks from the world's own address; how the server saw it.
fn ask_from_the_world(transport: Transport, target: SocketAddr) -> anyhow::Result<SocketAddr> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
    };
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;
    let kind = match transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let socket = socket(AddressFamily::Inet, kind, SockFlag::empty(), None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(3, 0))?;
    let own = std::net::SocketAddrV4::new(WORLD_V4, 5353);
    bind(socket.as_raw_fd(), &SockaddrIn::from(own))?;
    let SocketAddr::V4(target) = target else { anyhow::bail!("IPv4 only") };
    connect(socket.as_raw_fd(), &SockaddrIn::from(target))?;
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
