//! Links, namespaces, ports, maps and programs on the real kernel. Needs root. Every test runs in a
//! host of its own: a fresh network namespace on a thread of its own, and leaves nothing behind.

#![allow(missing_docs, reason = "a test binary has no API")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test ends it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netd_common::map::config::Config;
use netd_common::map::endpoint::EndpointValue;
use netd_common::map::network::NetworkValue;
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Be16, EndpointIndex, Hook, Ipv4, MacAddr, NetworkIndex};
use netd_user::dataplane::object::DATAPLANE_OBJECT;
use netd_user::desired::{Desired, GatewayLink, HeldPort, Link, Route, Tables, VethLink};
use netd_user::facts::HostFacts;
use netd_user::link::host::{HostLinks, owner_tag};
use netd_user::link::{facts, netns};
use netd_user::model::{LinkName, Proto};
use netd_user::reconcile::{Compile, ReconcileError, Reconciler, ReconcilerOptions};
use nix::sched::{CloneFlags, unshare};

#[test]
fn a_namespace_is_made_entered_and_removed() {
    on_host(|host| async move {
        let path = host.dir().join("ns");
        netns::create(&path).unwrap();
        assert!(netns::exists(&path));
        let inner = netns::run_in(&path, || netns::cookie().unwrap()).unwrap();
        assert_ne!(inner, netns::cookie().unwrap(), "the caller stays where it was");
        assert!(netns::create(&path).is_err(), "a second one would hide the first");
        netns::delete(&path).unwrap();
        netns::delete(&path).unwrap();
        assert!(!path.exists());
    });
}

#[test]
fn a_pair_carries_packets_between_the_sandbox_and_the_host() {
    on_host(|host| async move {
        let mut links = host.links().await;
        let path = host.namespace("a");
        links.create("vethtest", &veth(&path, 7)).await.unwrap();
        assert!(!links.facts().await.unwrap().links["vethtest"].up, "it waits for its programs");
        links.raise("vethtest").await.unwrap();
        // No program and no bridge: the host's end itself plays the gateway.
        ip("address add 10.9.0.1/24 dev vethtest");
        ip("link set vethtest arp on");
        let server = UdpSocket::bind("10.9.0.1:7000").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        netns::run_in(&path, || {
            let client = UdpSocket::bind("10.9.0.7:0").unwrap();
            client.send_to(b"hello", "10.9.0.1:7000").unwrap();
        })
        .unwrap();
        let mut heard = [0; 16];
        let (len, from) = server.recv_from(&mut heard).unwrap();
        assert_eq!((&heard[..len], from.ip()), (&b"hello"[..], IpAddr::from([10, 9, 0, 7])));
        links.delete("vethtest").await.unwrap();
        netns::delete(&path).unwrap();
    });
}

#[test]
fn links_are_read_back_as_they_were_made() {
    on_host(|host| async move {
        let mut links = host.links().await;
        let path = host.namespace("a");
        let desired = Desired {
            links: BTreeMap::from([
                ("br-test".into(), gateway(true)),
                ("vethtest".into(), veth(&path, 7)),
            ]),
            ..Desired::default()
        };
        for (name, link) in &desired.links {
            links.create(name, link).await.unwrap();
        }
        assert_eq!(observed(&mut links, &desired).await, desired.links);
        assert!(links.create("br-test", &gateway(true)).await.is_err());
        netns::delete(&path).unwrap();
    });
}

#[test]
fn links_change_in_place() {
    on_host(|host| async move {
        let mut links = host.links().await;
        let path = host.namespace("a");
        links.create("br-test", &gateway(true)).await.unwrap();
        links.create("vethtest", &veth(&path, 7)).await.unwrap();
        links.raise("br-test").await.unwrap();
        links.raise("vethtest").await.unwrap();
        let index = links.facts().await.unwrap().links["vethtest"].ifindex;
        let mut changed = veth(&path, 8);
        if let Link::Veth(link) = &mut changed {
            link.mtu = 1400;
            link.routes.insert(route("192.0.2.0/24", Some("10.9.0.1")));
        }
        links.change("vethtest", &veth(&path, 7), &changed).await.unwrap();
        links.change("br-test", &gateway(true), &gateway(false)).await.unwrap();
        let desired = Desired {
            links: BTreeMap::from([
                ("br-test".into(), gateway(false)),
                ("vethtest".into(), changed),
            ]),
            ..Desired::default()
        };
        assert_eq!(observed(&mut links, &desired).await, desired.links);
        assert_eq!(links.facts().await.unwrap().links["vethtest"].ifindex, index);
        netns::delete(&path).unwrap();
    });
}

#[test]
fn the_gateway_answers_on_both_families_without_a_carrier() {
    on_host(|host| async move {
        let mut links = host.links().await;
        links.create("br-test", &gateway(true)).await.unwrap();
        links.raise("br-test").await.unwrap();
        for addr in ["10.9.0.1", "fd00:9::1"] {
            let server = UdpSocket::bind((addr.parse::<IpAddr>().unwrap(), 0)).unwrap();
            server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let client = UdpSocket::bind((addr.parse::<IpAddr>().unwrap(), 0)).unwrap();
            // The kernel puts an IPv6 address into use by a work queue.
            let deadline = Instant::now() + Duration::from_secs(5);
            let arrives =
                std::iter::from_fn(|| (Instant::now() < deadline).then_some(())).any(|()| {
                    client.send_to(b"x", server.local_addr().unwrap()).unwrap();
                    server.recv(&mut [0; 4]).is_ok()
                });
            assert!(arrives, "{addr}");
        }
        let setting = |path: &str| fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap();
        assert_eq!(setting("ipv4/conf/br-test/forwarding").trim(), "1");
        assert_eq!(setting("ipv4/ip_forward").trim(), "0", "nothing global is touched");
    });
}

#[test]
fn facts_follow_addresses_routes_and_links() {
    on_host(|host| async move {
        let mut links = host.links().await;
        let mut changes = links.watch().unwrap();
        assert!(links.facts().await.unwrap().uplinks.is_empty());
        Host::uplink();
        tokio::time::timeout(Duration::from_secs(5), changes.changed()).await.unwrap().unwrap();
        let facts = links.facts().await.unwrap();
        let uplink = &facts.uplinks[0];
        assert_eq!((&*uplink.name, facts.uplinks.len()), ("up0", 1));
        assert_eq!(uplink.v4, Some(Ipv4Addr::new(192, 0, 2, 2)));
        assert_eq!(uplink.v6, Some("2001:db8::2".parse().unwrap()));
        assert!(facts.routes.contains(&network("192.0.2.0/24")));
        ip("address del 192.0.2.2/24 dev up0");
        ip("address add 192.0.2.9/24 dev up0");
        ip("route add default via 192.0.2.1");
        assert_eq!(links.facts().await.unwrap().uplinks[0].v4, Some(Ipv4Addr::new(192, 0, 2, 9)));
        ip("link del up0");
        let facts = links.facts().await.unwrap();
        assert!(facts.uplinks.is_empty() && facts.routes.is_empty() && facts.addresses.is_empty());
        let kept_up = facts;
        links.read_all().await.unwrap();
        assert_eq!(links.facts().await.unwrap(), kept_up, "notifications tell what a dump tells");
    });
}

#[test]
fn reserved_ports_are_given_back() {
    on_host(|host| async move {
        let list = "/proc/sys/net/ipv4/ip_local_reserved_ports";
        // Told in one read or cut short.
        let told = || {
            let mut bytes = [0; 256];
            let len = fs::File::open(list).unwrap().read(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..len]).trim().to_owned()
        };
        fs::write(list, "8080,20001,20003,20005,20007,60000-60010\n").unwrap();
        facts::reserve_ports(host.dir(), (49152, 65535)).unwrap();
        facts::reserve_ports(host.dir(), (50000, 65535)).unwrap();
        assert_eq!(told(), "8080,20001,20003,20005,20007,50000-65535");
        facts::restore_ports(host.dir()).unwrap();
        facts::restore_ports(host.dir()).unwrap();
        assert_eq!(told(), "8080,20001,20003,20005,20007,60000-60010");
        assert_eq!(facts::PortSettings::open().unwrap().local_range().unwrap(), (32768, 60999));
    });
}

#[test]
fn everything_is_made_pinned_reopened_and_removed() {
    on_host(|host| async move {
        Host::uplink();
        let world = host.world(3);
        let mut first = host.reconciler().await;
        let made = first.apply(&world).await.unwrap();
        assert!(made.changed > 20, "{made:?}");
        assert_eq!(first.apply(&world).await.unwrap().changed, 0);
        assert_eq!(first.verify(&world).await.unwrap().changed, 0);
        let pins = host.pins();
        assert!(pins.contains(&"up0-from_netdev".to_owned()), "{pins:?}");
        assert!(pins.contains(&"veth2-to_container".to_owned()), "{pins:?}");
        drop(first);
        assert_eq!(host.pins(), pins, "programs stay while no daemon runs");

        let mut second = host.reconciler().await;
        let again = second.apply(&world).await.unwrap();
        // Ports went with the process; the generation tells flows of the time between apart.
        assert_eq!(again.changed, 4, "{again:?}");
        assert_eq!(again.generation, made.generation + 1);
        second.apply(&host.world(1)).await.unwrap();
        assert!(!host.pins().iter().any(|pin| pin.starts_with("veth2")));
        let facts = second.facts().await.unwrap();
        assert!(facts.links.contains_key("veth1") && !facts.links.contains_key("veth2"));
        second.uninstall().await.unwrap();
        assert_eq!(links_here(), ["lo", "up0", "up0peer"]);
        assert!(!host.dir().join("bpf").exists());
    });
}

#[test]
fn a_busy_port_fails_the_apply_and_leaves_nothing() {
    on_host(|host| async move {
        Host::uplink();
        let taken = TcpListener::bind("0.0.0.0:4002").unwrap();
        let mut reconciler = host.reconciler().await;
        reconciler.apply(&host.world(1)).await.unwrap();
        let error = reconciler.apply(&host.world(3)).await.unwrap_err();
        assert!(matches!(error, ReconcileError::PortBusy(port) if port.port == 4002), "{error}");
        reconciler.apply(&host.world(1)).await.unwrap();
        assert_eq!(links_here(), ["br-test", "lo", "up0", "up0peer", "veth1"]);
        assert!(TcpListener::bind("0.0.0.0:4001").is_err(), "a held port is busy for others");
        drop(taken);
        reconciler.apply(&host.world(2)).await.unwrap();
        assert!(TcpListener::bind("0.0.0.0:4002").is_err());
        reconciler.uninstall().await.unwrap();
    });
}

#[test]
fn links_deleted_behind_our_back_come_back() {
    on_host(|host| async move {
        Host::uplink();
        let mut reconciler = host.reconciler().await;
        reconciler.apply(&host.world(2)).await.unwrap();
        ip("link del veth1");
        ip("link del br-test");
        assert!(reconciler.apply(&host.world(2)).await.unwrap().changed > 5);
        assert_eq!(reconciler.verify(&host.world(2)).await.unwrap().changed, 0);
        assert_eq!(links_here(), ["br-test", "lo", "up0", "up0peer", "veth1", "veth2"]);
        reconciler.uninstall().await.unwrap();
    });
}

#[test]
fn fifty_thousand_published_ports_are_one_batch() {
    on_host(|host| async move {
        Host::uplink();
        let mut reconciler = host.reconciler().await;
        reconciler.apply(&host.world(1)).await.unwrap();
        let world = host.world(1);
        let publish = Whole(move |facts: &HostFacts| {
            let mut desired = world.0(facts);
            for port in 1..=50_000u16 {
                let key = PublishedKey { port: Be16::new(port), proto: 17, ..Default::default() };
                let value = PublishedValue { port: Be16::new(port), ..Default::default() };
                desired.tables.published_v4.insert(key, value);
            }
            desired
        });
        let begun = Instant::now();
        let applied = reconciler.apply(&publish).await.unwrap();
        let took = begun.elapsed();
        assert_eq!(applied.changed, 2, "one batch and the new generation");
        println!("50 000 published ports, compiled and written: {took:?}");
        let fill = reconciler.stats().map_fill().unwrap();
        let published = fill.iter().find(|fill| fill.name == "published_v4").unwrap();
        assert_eq!(published.entries, 50_001);
        assert_eq!(reconciler.verify(&publish).await.unwrap().changed, 0);
        reconciler.uninstall().await.unwrap();
    });
}

#[test]
fn socket_hooks_live_in_their_cgroup_across_a_restart() {
    on_host(|mut host| async move {
        Host::uplink();
        host.cgroup = Some(Cgroup::create("netd-kernel-test"));
        let first = host.reconciler().await;
        let hooks = |pins: Vec<String>| pins.iter().filter(|p| p.starts_with("cgroup-")).count();
        assert_eq!(hooks(host.pins()), 10);
        drop(first);
        let second = host.reconciler().await;
        assert_eq!(hooks(host.pins()), 10, "renewed, not doubled");
        assert!(host.cgroup.as_ref().unwrap().run("true"), "others' processes go on");
        second.uninstall().await.unwrap();
    });
}

#[test]
fn programs_are_loaded_and_counted() {
    on_host(|host| async move {
        let reconciler = host.reconciler().await;
        let counts = reconciler.verified_instructions();
        for hook in Hook::ALL {
            assert!(counts[hook.name()] > 0, "{counts:?}");
        }
        println!("verified instructions: {counts:?}");
        let swept = reconciler.sweeper().sweep().unwrap();
        assert_eq!((swept.scanned, swept.removed), (0, 0));
        let stats = reconciler.stats();
        assert!(stats.endpoint_counters().unwrap().is_empty() && stats.drops().unwrap().is_empty());
        assert_eq!(stats.flow_stats().unwrap()["created"], 0);
        reconciler.uninstall().await.unwrap();
    });
}

#[test]
fn the_next_endpoint_writes_no_more_with_a_thousand_present() {
    on_host(|host| async move {
        Host::uplink();
        let mut reconciler = host.reconciler().await;
        reconciler.apply(&host.world(1000)).await.unwrap();
        let (mut took, mut changed) = (Vec::new(), BTreeSet::new());
        for count in 1001..=1020 {
            let world = host.world(count);
            let begun = Instant::now();
            let applied = reconciler.apply(&world).await.unwrap();
            took.push(begun.elapsed());
            changed.insert(applied.changed);
        }
        took.sort_unstable();
        println!("create and join with 1000 present: p50 {:?}, max {:?}", took[10], took[19]);
        assert_eq!(changed.len(), 1, "each writes the same number of things: {changed:?}");
        reconciler.uninstall().await.unwrap();
    });
}

/// A host of one test.
struct Host {
    dir: tempfile::TempDir,
    cgroup: Option<Cgroup>,
}

/// A cgroup v2 of one test.
struct Cgroup(PathBuf);

impl Cgroup {
    fn create(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = root.into_iter().find(|fields| fields[2] == "cgroup2").expect("a cgroup v2")[1]
            .to_owned();
        let path = Path::new(&root).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Runs a shell command in the cgroup; whether it succeeded.
    fn run(&self, command: &str) -> bool {
        let command = format!("echo $$ > {}/cgroup.procs && {command}", self.0.display());
        Command::new("sh").args(["-c", &command]).status().unwrap().success()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Runs a test in a network namespace of its own.
fn on_host<F: Future<Output = ()>>(test: impl FnOnce(Host) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        ip("link set lo up");
        let host = Host { dir: tempfile::tempdir().unwrap(), cgroup: None };
        let cleanup = Cleanup(host.dir().to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(host));
        drop(cleanup);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Unmounts what a failed test left under its directory.
struct Cleanup(PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let flags = nix::mount::MntFlags::MNT_DETACH;
        for point in points.filter(|point| Path::new(point).starts_with(&self.0)) {
            let _ = nix::mount::umount2(point, flags);
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Host {
    fn dir(&self) -> &Path {
        self.dir.path()
    }

    async fn links(&self) -> HostLinks {
        let resolv_conf = self.dir().join("resolv.conf");
        HostLinks::start(owner_tag(self.dir()), resolv_conf).await.unwrap()
    }

    fn namespace(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        netns::create(&path).unwrap();
        path
    }

    /// A way out on both families.
    fn uplink() {
        ip("link add up0 type veth peer name up0peer");
        ip("link set up0peer up");
        ip("address add 192.0.2.2/24 dev up0");
        ip("address add 2001:db8::2/64 dev up0 nodad");
        ip("link set up0 up");
        ip("route add default via 192.0.2.1");
        ip("route add default via 2001:db8::1");
    }

    async fn reconciler(&self) -> Reconciler {
        let options = ReconcilerOptions {
            bpffs_dir: self.dir().join("bpf"),
            state_dir: self.dir().to_owned(),
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.0.clone()),
            object: DATAPLANE_OBJECT.into(),
            capacities: BTreeMap::from([("flows_v4".to_owned(), 4096)]),
            snat_ports: (49152, 65535),
            resolv_conf: self.dir().join("resolv.conf"),
        };
        Reconciler::start(options).await.unwrap()
    }

    fn pins(&self) -> Vec<String> {
        let version = format!("{:016x}", netd_common::map::ABI);
        let entries = fs::read_dir(self.dir().join("bpf").join(version).join("links")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// One network with `count` endpoints; an endpoint publishes one port and holds it.
    fn world(&self, count: u32) -> Whole<impl Fn(&HostFacts) -> Desired + Send + Sync + use<>> {
        let dir = self.dir().to_owned();
        Whole(move |facts: &HostFacts| {
            let mut desired = Desired::default();
            let cookie = facts.netns_cookie;
            let config = Config { host_netns_cookie: cookie, ..Config::default() };
            desired.tables.config.insert(0, config);
            desired.links.insert("br-test".into(), gateway(true));
            desired.programs.insert(("br-test".into(), Hook::FromHost));
            for uplink in &facts.uplinks {
                desired.programs.insert((uplink.name.clone(), Hook::FromNetdev));
                desired.programs.insert((uplink.name.clone(), Hook::ToNetdev));
            }
            if let Some(link) = facts.links.get("br-test") {
                let value = NetworkValue { gateway: link.ifindex, ..NetworkValue::default() };
                desired.tables.networks.insert(1, value);
            }
            for index in 1..=count {
                endpoint(&mut desired, facts, &dir, index);
            }
            desired
        })
    }
}

/// What is desired of a host, told in one piece.
struct Whole<C>(C);

impl<C: Fn(&HostFacts) -> Desired + Send + Sync> Compile for Whole<C> {
    fn outline(&self, facts: &HostFacts) -> Desired {
        Desired { tables: Tables::default(), ..self.0(facts) }
    }

    fn tables(&self, facts: &HostFacts) -> Tables {
        self.0(facts).tables
    }

    fn is_same_outline(&self, one: &HostFacts, other: &HostFacts) -> bool {
        one == other
    }
}

fn endpoint(desired: &mut Desired, facts: &HostFacts, dir: &Path, index: u32) {
    let name = LinkName::from(format!("veth{index}"));
    let path = dir.join("netns").join(format!("{index}"));
    desired.namespaces.insert(path.as_path().into());
    desired.links.insert(name.clone(), veth(&path, index));
    desired.programs.insert((name.clone(), Hook::FromContainer));
    desired.programs.insert((name.clone(), Hook::ToContainer));
    let port = 4000 + u16::try_from(index).unwrap();
    if index <= 3 {
        let addr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        desired.held_ports.insert(HeldPort { addr, port, proto: Proto::Tcp });
    }
    let Some(link) = facts.links.get(&name) else { return };
    let (network, number) = (NetworkIndex(1), EndpointIndex(index));
    let value = EndpointValue { index: number, network, ..EndpointValue::default() };
    desired.tables.endpoints.insert(link.ifindex, value);
    if index == 1 {
        let key = PublishedKey { port: Be16::new(port), proto: 6, ..PublishedKey::default() };
        let target = Ipv4::new([10, 9, 0, 7]);
        let value = PublishedValue { target, network, endpoint: number, ..Default::default() };
        desired.tables.published_v4.insert(key, value);
    }
}

fn gateway(ipv6: bool) -> Link {
    let v6 = ipv6.then(|| network_with_host("fd00:9::1/64"));
    Link::Gateway(GatewayLink {
        mac: MacAddr([2, 0, 0, 9, 9, 1]),
        mtu: if ipv6 { 1500 } else { 1450 },
        addresses: v6.into_iter().chain([network_with_host("10.9.0.1/24")]).collect(),
        ipv4: true,
        ipv6,
    })
}

fn veth(netns: &Path, number: u32) -> Link {
    let [high, low] = [u8::try_from(number >> 8).unwrap(), u8::try_from(number & 0xff).unwrap()];
    let v4 = IpNetwork::new(IpAddr::from([10, 9, high, low]), 24).unwrap();
    let v6 = network_with_host(&format!("fd00:9::{number:x}:7/64"));
    let routes = [route("0.0.0.0/0", Some("10.9.0.1")), route("::/0", Some("fd00:9::1"))];
    Link::Veth(VethLink {
        netns: netns.into(),
        interface: "eth0".into(),
        mac: MacAddr([2, 0, 0, 9, high, low]),
        mtu: 1500,
        addresses: BTreeSet::from([v4, v6]),
        routes: BTreeSet::from(routes),
        ipv6: true,
    })
}

fn route(destination: &str, via: Option<&str>) -> Route {
    Route { destination: network(destination), via: via.map(|via| via.parse().unwrap()) }
}

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn network_with_host(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

async fn observed(links: &mut HostLinks, desired: &Desired) -> BTreeMap<LinkName, Link> {
    let found = links.observe(desired, &BTreeMap::new()).await.unwrap();
    found.into_iter().filter_map(|(name, found)| Some((name, found.link?))).collect()
}

fn links_here() -> Vec<String> {
    // sysfs shows the namespace it was mounted in; /proc/net shows the thread's.
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let lines = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let mut names: Vec<String> = lines.map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// Runs `ip` in the calling thread's namespace.
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}
