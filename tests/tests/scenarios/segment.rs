//! A network is an Ethernet segment: multicast, addresses that float, announcements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use netd_tests::process::run;
use netd_tests::{Container, eventually};

use super::{World, container, drops, network};

const MDNS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const MDNS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// A socket on mDNS's port that hears the group.
fn listener(container: &Container, v6: bool) -> UdpSocket {
    let socket = container.netns.run(|| {
        let any: IpAddr = if v6 { [0u16; 8].into() } else { [0u8; 4].into() };
        let socket = UdpSocket::bind((any, 5353))?;
        if v6 {
            let index = nix::net::if_::if_nametoindex("eth0")?;
            socket.join_multicast_v6(&MDNS_V6, index)?;
        } else {
            socket.join_multicast_v4(&MDNS_V4, &Ipv4Addr::UNSPECIFIED)?;
        }
        Ok(socket)
    });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

#[test]
fn multicast_reaches_all_members_of_the_network_and_nobody_else() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let [a, b, c] = ["c1", "c2", "c3"].map(|name| container(&daemon, name, "one", &[]));
    let stranger = container(&daemon, "stranger", "two", &[]);
    for v6 in [false, true] {
        let [sender, near, far] = [&a, &b, &stranger].map(|it| listener(it, v6));
        let third = listener(&c, v6);
        let index = a.netns.run(|| Ok(nix::net::if_::if_nametoindex("eth0")?)).unwrap();
        let group: SocketAddr = if v6 {
            std::net::SocketAddrV6::new(MDNS_V6, 5353, 0, index).into()
        } else {
            (MDNS_V4, 5353).into()
        };
        sender.send_to(b"who is there?", group).unwrap();
        for heard in [&near, &third] {
            let (len, from) = heard.recv_from(&mut [0; 64]).unwrap();
            assert_eq!(len, 13);
            assert!(v6 || from.ip() == a.address("one", false).unwrap(), "{from}");
        }
        assert!(far.recv_from(&mut [0; 64]).is_err(), "another network heard it");
    }
}

fn ip(container: &Container, arguments: &[&str]) {
    container.netns.run(|| run("ip", arguments)).unwrap();
}

/// VRRP's way: whoever holds the address announces it when its link comes up.
#[test]
fn address_floats_between_two_containers_and_its_announcement_is_followed_at_once() {
    let world = World::new();
    let daemon = world.daemon();
    for (mode, third) in [("mac", 77), ("off", 78)] {
        let subnet = format!("10.{third}.0.0/24");
        let option = format!("netd.anti_spoof={mode}");
        network(&daemon, mode, &["--subnet", &subnet, "-o", &option]);
        let [a, b, c] =
            ["a", "b", "c"].map(|name| container(&daemon, &format!("{mode}-{name}"), mode, &[]));
        let floating = format!("10.{third}.0.100");
        let target: IpAddr = floating.parse().unwrap();
        ip(&a, &["address", "add", &format!("{floating}/24"), "dev", "eth0"]);
        assert!(c.pings(target).unwrap(), "{mode}");
        assert!(world.host.pings(target).unwrap(), "{mode}: from the host");
        ip(&a, &["address", "del", &format!("{floating}/24"), "dev", "eth0"]);
        let notify = || run("sysctl", &["-qw", "net.ipv4.conf.eth0.arp_notify=1"]);
        b.netns.run(notify).unwrap();
        ip(&b, &["address", "add", &format!("{floating}/24"), "dev", "eth0"]);
        ip(&b, &["link", "set", "eth0", "down"]);
        ip(&b, &["link", "set", "eth0", "up"]);
        for (name, reached) in [("a member", &c.netns), ("the host", world.host.netns())] {
            let ping = || {
                let text = target.to_string();
                Ok(run("ping", &["-n", "-q", "-c", "1", "-W", "1", &text]).ok())
            };
            eventually(name, Duration::from_secs(2), || reached.run(ping)).unwrap();
        }
        let mac = b.described()["Networks"][mode]["MacAddress"].as_str().unwrap().to_owned();
        let known = c.netns.run(|| run("ip", &["neigh", "show", &floating])).unwrap();
        assert!(known.contains(&mac), "{mode}: {known}, not {mac}");
    }
}

#[test]
fn foreign_address_is_refused_where_addresses_are_checked() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24"]);
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    ip(&a, &["address", "add", "10.77.0.100/24", "dev", "eth0"]);
    assert!(!b.pings("10.77.0.100".parse().unwrap()).unwrap());
    assert!(drops(&daemon, "spoofed_neighbor") > 0);
}
