//! Uplinks that share a wire: 802.1Q and 802.1ad tags on a trunk, links bonded to one. This machine's
//! kernel may lack both; `cargo xtask vm` boots one that has them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::outside::{ROUTER_V4, WORLD_V4, WORLD_V6};
use netd_tests::process::run;
use netd_tests::wire::{Server, tcp_echo_server, tcp_request, udp_echo_server};
use netd_tests::{Container, Daemon, eventually};

use super::{World, container, is_reached, network};

const WORLD: [IpAddr; 2] = [IpAddr::V4(WORLD_V4), IpAddr::V6(WORLD_V6)];
const PUBLISHED: [&str; 4] = ["-p", "8080:7000/tcp", "-p", "8080:7000/udp"];
/// The host's and the router's addresses behind the tag.
const HOST: [&str; 2] = ["192.0.2.10", "2001:db8:50::10"];
const ROUTER: [&str; 2] = ["192.0.2.1", "2001:db8:50::1"];

/// A VLAN on a link: its device's name, and `ip`'s words for the tag.
struct Tag {
    device: &'static str,
    words: &'static str,
}

const FIFTY: Tag = Tag { device: "v50", words: "id 50" };

fn host_ip(world: &World, arguments: &str) {
    world.host.ip(&arguments.split(' ').collect::<Vec<_>>()).unwrap();
}

fn outside_ip(world: &World, arguments: &str) {
    world.outside.ip(&arguments.split(' ').collect::<Vec<_>>()).unwrap();
}

/// The host's port on the segment.
fn port(world: &World) -> &str {
    world.host.name().rsplit('-').next().unwrap()
}

/// Tags, the outermost first, between host and router; the way to the world leads through them.
fn tag(world: &World, tags: &[Tag]) {
    let (mut below_host, mut below_outside) = ("eth0", "segment");
    for Tag { device, words } in tags {
        host_ip(world, &format!("link add link {below_host} name {device} type vlan {words}"));
        host_ip(world, &format!("link set {device} up"));
        outside_ip(
            world,
            &format!("link add link {below_outside} name {device} type vlan {words}"),
        );
        outside_ip(world, &format!("link set {device} up"));
        (below_host, below_outside) = (device, device);
    }
    let device = below_host;
    for (number, len) in [24, 64].into_iter().enumerate() {
        let nodad = ["", " nodad"][number];
        let (host, router) = (HOST[number], ROUTER[number]);
        host_ip(world, &format!("address add {host}/{len} dev {device}{nodad}"));
        outside_ip(world, &format!("address add {router}/{len} dev {device}{nodad}"));
        host_ip(world, &format!("route replace default via {router} dev {device}"));
    }
}

/// Nothing but what bears this VLAN's tag passes between host and router.
fn close_to_untagged_frames(world: &World, vlan: &str) {
    outside_ip(world, "link set segment type bridge vlan_filtering 1 vlan_default_pvid 0");
    let allow = |link: &str, own: &[&str]| {
        let words = [&["vlan", "add", "dev", link, "vid", vlan], own].concat();
        world.outside.netns().run(|| run("bridge", &words)).unwrap();
    };
    allow(port(world), &[]);
    allow("segment", &["self"]);
    assert!(!world.host.pings(ROUTER_V4).unwrap(), "an untagged frame passed");
}

fn addresses(texts: [&str; 2]) -> [IpAddr; 2] {
    texts.map(|text| text.parse().unwrap())
}

fn world_serves(world: &World) -> Vec<Server> {
    let netns = world.outside.netns();
    let targets = WORLD.map(|target| SocketAddr::new(target, 7000));
    let tcp = targets.map(|target| tcp_echo_server(netns, target).unwrap());
    tcp.into_iter().chain(targets.map(|target| udp_echo_server(netns, target).unwrap())).collect()
}

/// Out to the world as the host, and in to the published port with the client's address.
fn carries(world: &World, a: &Container, hosts: [IpAddr; 2], client: [IpAddr; 2]) {
    for number in [0, 1] {
        assert!(a.pings(WORLD[number]).unwrap(), "{}", WORLD[number]);
        for transport in Transport::ALL {
            let out = transport.ask(&a.netns, SocketAddr::new(WORLD[number], 7000)).unwrap();
            assert_eq!(out.seen_as.ip(), hosts[number], "{transport:?}");
            let published = SocketAddr::new(hosts[number], 8080);
            let answer = transport.ask(world.outside.netns(), published).unwrap();
            assert_eq!(answer.from, published, "{transport:?}");
            assert_eq!(answer.seen_as.ip(), client[number], "{transport:?}");
        }
    }
}

fn pair(daemon: &Daemon<'_>) -> [Container; 2] {
    network(daemon, "app", &[]);
    [container(daemon, "client", "app", &[]), container(daemon, "web", "app", &PUBLISHED)]
}

#[test]
#[ignore = "it needs 802.1Q: `cargo xtask vm` boots a kernel that has it"]
fn tagged_uplink_carries_traffic_both_ways_and_all_of_it_tagged() {
    let world = World::new();
    tag(&world, &[FIFTY]);
    close_to_untagged_frames(&world, "50");
    let daemon = world.daemon();
    let [a, web] = pair(&daemon);
    let _servers = (web.serve_all(7000).unwrap(), world_serves(&world));
    carries(&world, &a, addresses(HOST), addresses(ROUTER));
    let payload: Vec<u8> = (0..300_000u32).map(|i| i.to_le_bytes()[0]).collect();
    for (host, target) in addresses(HOST).into_iter().zip(WORLD) {
        let ways = [
            (world.outside.netns(), SocketAddr::new(host, 8080)),
            (&a.netns, SocketAddr::new(target, 7000)),
        ];
        for (from, to) in ways {
            assert!(tcp_request(from, to, &payload).unwrap().echo == payload, "{to}");
        }
    }
}

#[test]
#[ignore = "it needs 802.1ad: `cargo xtask vm` boots a kernel that has it"]
fn uplink_of_two_tags_carries_traffic_both_ways() {
    let world = World::new();
    let provider = Tag { device: "s7", words: "protocol 802.1ad id 7" };
    tag(&world, &[provider, FIFTY]);
    let daemon = world.daemon();
    let [a, web] = pair(&daemon);
    let _servers = (web.serve_all(7000).unwrap(), world_serves(&world));
    carries(&world, &a, addresses(HOST), addresses(ROUTER));
}

#[test]
#[ignore = "it needs 802.1Q: `cargo xtask vm` boots a kernel that has it"]
fn port_published_on_a_tagged_uplink_leaves_other_frames_to_the_host() {
    let world = World::new();
    tag(&world, &[FIFTY]);
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let ports = [format!("{}:8080:7000/tcp", HOST[0]), format!("[{}]:8080:7000/tcp", HOST[1])];
    let web = container(&daemon, "web", "app", &["-p", &ports[0], "-p", &ports[1]]);
    let _server = web.serve_all(7000).unwrap();
    // A VLAN that the host has, too, and that no network publishes on.
    host_ip(&world, "link add link eth0 name v60 type vlan id 60");
    host_ip(&world, "link set v60 up");
    outside_ip(&world, "link add link segment name v60 type vlan id 60");
    outside_ip(&world, "link set v60 up");
    host_ip(&world, "address add 192.0.2.130/25 dev v60");
    outside_ip(&world, "address add 192.0.2.129/25 dev v60");
    for tagged in addresses(HOST) {
        let published = SocketAddr::new(tagged, 8080);
        assert!(is_reached(world.outside.netns(), published, Transport::Tcp), "{published}");
    }
    let others = world.uplink().into_iter().chain(["192.0.2.130".parse().unwrap()]);
    for own in others.map(|own| SocketAddr::new(own, 8080)) {
        assert!(!is_reached(world.outside.netns(), own, Transport::Tcp), "{own} is not published");
        let _host = tcp_echo_server(world.host.netns(), own).unwrap();
        let answer = Transport::Tcp.ask(world.outside.netns(), own).unwrap();
        assert_eq!(answer.from, own, "the host's own server answers");
    }
}

#[test]
#[ignore = "it needs 802.1Q: `cargo xtask vm` boots a kernel that has it"]
fn port_published_everywhere_answers_by_the_tag_it_was_asked_with() {
    let world = World::new();
    tag(&world, &[FIFTY]);
    let daemon = world.daemon();
    let [_a, web] = pair(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    for target in world.uplink().into_iter().chain(addresses(HOST)) {
        let target = SocketAddr::new(target, 8080);
        for transport in Transport::ALL {
            let answer = transport.ask(world.outside.netns(), target).unwrap();
            assert_eq!(answer.from, target, "{transport:?}");
        }
    }
}

#[test]
#[ignore = "it needs 802.1Q: `cargo xtask vm` boots a kernel that has it"]
fn tagged_uplink_that_goes_and_comes_back_is_one_again() {
    let world = World::new();
    tag(&world, &[FIFTY]);
    let daemon = world.daemon();
    let [a, web] = pair(&daemon);
    let _servers = (web.serve_all(7000).unwrap(), world_serves(&world));
    host_ip(&world, "link del v50");
    assert!(!a.pings(WORLD[0]).unwrap());
    outside_ip(&world, "link del v50");
    tag(&world, &[FIFTY]);
    eventually("the way out", Duration::from_secs(10), || Ok(a.pings(WORLD[0])?.then_some(())))
        .unwrap();
    carries(&world, &a, addresses(HOST), addresses(ROUTER));
}

/// Two links to the segment as one, of which the first carries all as long as it lives.
fn bond(world: &World) {
    let name = world.host.name();
    outside_ip(world, &format!("link add spare type veth peer name eth1 netns {name}"));
    outside_ip(world, "link set spare master segment up");
    host_ip(world, "link add bond0 type bond mode active-backup miimon 50");
    for link in ["eth0", "eth1"] {
        host_ip(world, &format!("link set {link} down"));
        host_ip(world, &format!("address flush dev {link}"));
        host_ip(world, &format!("link set {link} master bond0"));
    }
    host_ip(world, "link set bond0 up");
    let [v4, v6] = world.uplink();
    host_ip(world, &format!("address add {v4}/24 dev bond0"));
    host_ip(world, &format!("address add {v6}/64 dev bond0 nodad"));
    host_ip(world, "route add default via 198.51.100.1");
    host_ip(world, "-6 route add default via 2001:db8:1::1 dev bond0");
}

#[test]
#[ignore = "it needs bonding: `cargo xtask vm` boots a kernel that has it"]
fn bonded_uplink_carries_traffic_both_ways_over_the_loss_of_a_link() {
    let world = World::new();
    bond(&world);
    let daemon = world.daemon();
    let [a, web] = pair(&daemon);
    let _servers = (web.serve_all(7000).unwrap(), world_serves(&world));
    let router = addresses(["198.51.100.1", "2001:db8:1::1"]);
    carries(&world, &a, world.uplink(), router);
    outside_ip(&world, &format!("link set {} down", port(&world)));
    eventually("the other link", Duration::from_secs(10), || Ok(a.pings(WORLD[0])?.then_some(())))
        .unwrap();
    carries(&world, &a, world.uplink(), router);
}
