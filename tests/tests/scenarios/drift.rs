//! What others do to netd's things, and what runs out: seen within seconds, put right or told, and nothing
//! that works is taken down for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::host::UPLINK;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::process::run;
use netd_tests::wire::Server;
use netd_tests::{Container, Daemon, eventually};
use nix::mount::{MsFlags, mount};

use super::{World, container, network};

/// The daemon looks around every two seconds; a loaded machine takes its time, too.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// A host with a published service on one of its networks.
struct Scene<'world> {
    world: &'world World,
    daemon: Daemon<'world>,
    web: Container,
    device: String,
    _servers: Vec<Server>,
}

impl<'world> Scene<'world> {
    fn set(world: &'world World) -> Self {
        let daemon = world.daemon();
        network(&daemon, "app", &[]);
        let web = container(&daemon, "web", "app", &["-p", "8080:7000"]);
        let servers = web.serve_all(7000).unwrap();
        let device = daemon.ok(&["network", "inspect", "-f", "{{.Device}}", "app"]).unwrap();
        let scene = Self { world, daemon, web, device, _servers: servers };
        assert!(scene.works());
        scene
    }

    /// Published ports from outside, and the container from the host and back.
    fn works(&self) -> bool {
        let published = self.world.uplink().map(|address| SocketAddr::new(address, 8080));
        let host = self.world.host.netns();
        let own = self.web.addresses("app").unwrap();
        let outside = self.world.outside.netns();
        published.iter().all(|target| super::is_reached(outside, *target, Transport::Tcp))
            && own.iter().all(|address| {
                super::is_reached(host, SocketAddr::new(*address, 7000), Transport::Udp)
            })
    }

    fn comes_back(&self, what: &str) {
        eventually(what, NOTICED_WITHIN, || Ok(self.works().then_some(()))).unwrap();
    }

    fn pins(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.daemon.places().bpffs()).unwrap();
        let mut directories = entries.map(|entry| entry.unwrap().path());
        directories.find(|path| path.join("maps").is_dir()).unwrap()
    }

    /// The host's end of the container's link.
    fn veth(&self) -> String {
        let links = std::fs::read_dir(self.pins().join("links")).unwrap();
        let mut names = links.map(|it| it.unwrap().file_name().to_string_lossy().into_owned());
        let pin = names.find(|name| name.starts_with("veth")).unwrap();
        pin.rsplit_once('-').unwrap().0.to_owned()
    }

    fn problems(&self) -> Vec<String> {
        let text = self.daemon.cli(&["status", "--format", "json"]).unwrap().stdout;
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let problems = status["Problems"].as_array().cloned().unwrap_or_default();
        problems.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
    }

    fn tells(&self, what: &str) {
        eventually(what, NOTICED_WITHIN, || {
            Ok(self.problems().iter().any(|problem| problem.contains(what)).then_some(()))
        })
        .unwrap();
        let said = self.daemon.cli(&["status"]).unwrap();
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(self.metric("netd_problems") >= 1.0);
    }

    fn is_well_again(&self) {
        let well = || Ok(self.problems().is_empty().then_some(()));
        eventually("no problems", NOTICED_WITHIN, well).unwrap();
    }

    fn metric(&self, name: &str) -> f64 {
        let get = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok())
        };
        let said = self.world.host.exec("curl", &["-s", "http://127.0.0.1:9959/metrics"]).unwrap();
        get(&String::from_utf8_lossy(&said.stdout)).unwrap()
    }

    /// A change is refused in a sentence, and nothing of it is left.
    fn refuses(&self, words: &str) {
        let create = ["sandbox", "create", "--name", "more", "--network", "app", "-p", "8081:1"];
        let said = self.daemon.cli(&create).unwrap();
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains(words), "{said:?}");
        assert!(self.works());
        assert_eq!(self.daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap(), "web");
    }

    fn takes_changes(&self) {
        container(&self.daemon, "more", "app", &["-p", "8081:1"]);
        self.daemon.ok(&["sandbox", "rm", "more"]).unwrap();
    }
}

#[test]
fn deleted_link_is_made_anew() {
    let world = World::new();
    let scene = Scene::set(&world);
    world.host.ip(&["link", "delete", &scene.veth()]).unwrap();
    // What ran in the sandbox stays, and its sockets take up where they were.
    scene.comes_back("the container's link");
    world.host.ip(&["link", "delete", &scene.device]).unwrap();
    scene.comes_back("the gateway device");
}

/// While no daemon runs nobody notices: the packet path itself says what it can't deliver.
#[test]
fn packets_for_a_container_whose_link_is_gone_are_drops_with_a_reason() {
    let world = World::new();
    let scene = Scene::set(&world);
    let veth = scene.veth();
    let Scene { daemon, web, _servers, .. } = scene;
    daemon.crash().unwrap();
    world.host.ip(&["link", "delete", &veth]).unwrap();
    let published = world.uplink().map(|address| SocketAddr::new(address, 8080));
    for target in published {
        assert!(!super::is_reached(world.outside.netns(), target, Transport::Tcp), "{target}");
    }
    for target in web.addresses("app").unwrap() {
        assert!(!world.host.pings(target).unwrap(), "{target}");
    }
    let again = world.daemon();
    let told = super::drops(&again, "unknown_destination");
    assert!(told >= 4, "{told}");
    for target in published {
        let is_back =
            || Ok(super::is_reached(world.outside.netns(), target, Transport::Tcp).then_some(()));
        eventually("the published port", NOTICED_WITHIN, is_back).unwrap();
    }
}

#[test]
fn packets_of_open_flows_whose_uplink_is_gone_are_drops_with_a_reason() {
    let world = World::new();
    let Scene { daemon, web, _servers, .. } = Scene::set(&world);
    let before = super::flow_stat(&daemon, "created");
    let targets: [SocketAddr; 2] = [(WORLD_V4, 7000).into(), (WORLD_V6, 7000).into()];
    let bind = |any: &str| web.netns.run(|| Ok(UdpSocket::bind(any)?)).unwrap();
    let sockets = [bind("0.0.0.0:0"), bind("[::]:0")];
    let send = || {
        for (socket, target) in sockets.iter().zip(targets) {
            socket.send_to(b"are you there", target).unwrap();
        }
    };
    send();
    let opened = || Ok((super::flow_stat(&daemon, "created") >= before + 2).then_some(()));
    eventually("both flows", NOTICED_WITHIN, opened).unwrap();
    daemon.crash().unwrap();
    world.host.ip(&["link", "delete", UPLINK]).unwrap();
    send();
    let again = world.daemon();
    let told = || Ok((super::drops(&again, "no_route") >= 2).then_some(()));
    eventually("both drops", NOTICED_WITHIN, told).unwrap();
}

#[test]
fn link_taken_down_comes_up_again() {
    let world = World::new();
    let scene = Scene::set(&world);
    for link in [scene.veth(), scene.device.clone()] {
        world.host.ip(&["link", "set", &link, "down"]).unwrap();
        scene.comes_back(&link);
    }
}

#[test]
fn detached_programs_are_attached_anew() {
    let world = World::new();
    let scene = Scene::set(&world);
    let links = scene.pins().join("links");
    let mut pins: Vec<_> = std::fs::read_dir(links).unwrap().map(|it| it.unwrap().path()).collect();
    pins.sort();
    assert!(pins.len() >= 14, "{pins:?}");
    let before = scene.metric("netd_drift_repairs_total");
    for pin in &pins {
        run("bpftool", &["link", "detach", "pinned", &pin.to_string_lossy()]).unwrap();
    }
    scene.comes_back("the programs");
    let attached = |pin: &PathBuf| {
        let shown = run("bpftool", &["link", "show", "pinned", &pin.to_string_lossy()]);
        let shown = shown.unwrap_or_default();
        !shown.is_empty() && !shown.contains("ifindex 0 ") && !shown.contains("cgroup_id 0 ")
    };
    eventually("every program", NOTICED_WITHIN, || Ok(pins.iter().all(attached).then_some(())))
        .unwrap();
    assert!(scene.metric("netd_drift_repairs_total") > before);
}

/// A full look comes every five minutes only: it is the kernel that tells.
#[test]
fn what_goes_inside_a_sandbox_comes_back() {
    let world = World::new();
    let scene = Scene::set(&world);
    let other = container(&scene.daemon, "other", "app", &[]);
    let repairs = || scene.metric("netd_drift_repairs_total");
    for words in [
        &["-4", "route", "flush", "dev", "eth0"][..],
        &["-6", "route", "flush", "dev", "eth0"],
        &["-4", "address", "flush", "dev", "eth0"],
        &["-6", "address", "flush", "dev", "eth0"],
        &["route", "del", "default"],
        &["link", "set", "eth0", "down"],
    ] {
        let before = repairs();
        scene.web.netns.run(|| run("ip", words)).unwrap();
        let repaired = || Ok((repairs() > before).then_some(()));
        eventually(&words.join(" "), NOTICED_WITHIN, repaired).unwrap();
        scene.comes_back(&words.join(" "));
        for target in scene.web.addresses("app").unwrap() {
            assert!(other.pings(target).unwrap(), "{words:?}: {target}");
        }
    }
    // Our own work is none of it.
    let settled = repairs();
    scene.takes_changes();
    scene.daemon.ok(&["network", "create", "further"]).unwrap();
    scene.daemon.ok(&["network", "connect", "further", "web"]).unwrap();
    scene.daemon.ok(&["network", "disconnect", "further", "web"]).unwrap();
    assert!(scene.works());
    assert!((repairs() - settled).abs() < 0.5, "{} after {settled}", repairs());
}

/// An address in the prefix of the first one that eth0 has in what `ip -o address` says.
fn beside_own(said: &str) -> String {
    let own = said.lines().find(|line| line.contains("eth0")).unwrap();
    let (own, prefix_len) = own.split_whitespace().nth(3).unwrap().split_once('/').unwrap();
    let other: IpAddr = match own.parse().unwrap() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() ^ 0x40).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() ^ 0x40).into(),
    };
    format!("{other}/{prefix_len}")
}

/// A floating address, a node's route to its neighbour's containers: netd has not given them.
#[test]
fn what_a_sandbox_gives_itself_stays_when_its_own_is_put_back() {
    let world = World::new();
    let scene = Scene::set(&world);
    let web = scene.web.netns.clone();
    let ip = |words: &[&str]| web.run(|| run("ip", words)).unwrap();
    let [v4, v6] = scene.web.addresses("app").unwrap().map(|address| address.to_string());
    let floating = ["-4", "-6"].map(|family| beside_own(&ip(&[family, "-o", "address"])));
    for address in floating.iter().map(String::as_str).chain(["192.0.2.100/24"]) {
        ip(&["address", "add", address, "dev", "eth0"]);
    }
    ip(&["address", "add", "2001:db8:77::100/64", "dev", "eth0"]);
    ip(&["route", "add", "192.0.3.0/24", "dev", "eth0", "src", &v4]);
    ip(&["route", "add", "2001:db8:78::/64", "dev", "eth0", "src", &v6]);
    let has_its_own = || {
        let addresses = ip(&["address", "show", "dev", "eth0"]);
        let routes = ip(&["route"]) + &ip(&["-6", "route"]);
        for own in ["192.0.2.100/24", "2001:db8:77::100/64", &floating[0], &floating[1]] {
            assert!(addresses.contains(own), "{own}: {addresses}");
        }
        assert!(routes.contains("192.0.3.0/24"), "{routes}");
        assert!(routes.contains("2001:db8:78::/64"), "{routes}");
    };
    for lost in [
        &["-4", "route", "del", "default"][..],
        &["-4", "route", "flush", "dev", "eth0", "proto", "kernel"],
        &["-6", "route", "flush", "dev", "eth0", "proto", "kernel"],
    ] {
        let before = scene.metric("netd_drift_repairs_total");
        ip(lost);
        let repaired = || Ok((scene.metric("netd_drift_repairs_total") > before).then_some(()));
        eventually(&lost.join(" "), NOTICED_WITHIN, repaired).unwrap();
        has_its_own();
    }
    for target in scene.web.addresses("app").unwrap() {
        let answers = || Ok(world.host.pings(target)?.then_some(()));
        eventually("an answer", NOTICED_WITHIN, answers).unwrap();
    }
    // A daemon that knows nothing yet looks into every sandbox.
    ip(&["-6", "route", "del", "default"]);
    let Scene { daemon, .. } = scene;
    daemon.crash().unwrap();
    let _again = world.daemon();
    let has_default = || Ok(ip(&["-6", "route"]).contains("default").then_some(()));
    eventually("the default route", NOTICED_WITHIN, has_default).unwrap();
    has_its_own();
}

#[test]
fn flushed_routes_and_removed_addresses_come_back() {
    let world = World::new();
    let scene = Scene::set(&world);
    for family in ["-4", "-6"] {
        world.host.ip(&[family, "route", "flush", "dev", &scene.device]).unwrap();
        scene.comes_back("the routes");
        world.host.ip(&[family, "address", "flush", "dev", &scene.device]).unwrap();
        scene.comes_back("the addresses");
    }
}

#[test]
fn removed_pins_are_made_anew() {
    let world = World::new();
    let scene = Scene::set(&world);
    let maps = scene.pins().join("maps");
    let count = std::fs::read_dir(&maps).unwrap().count();
    let root = scene.pins();
    std::fs::remove_dir_all(&root).unwrap();
    scene.comes_back("the programs, which go with their pins");
    let pinned =
        || Ok((std::fs::read_dir(&maps).into_iter().flatten().count() == count).then_some(()));
    eventually("the maps' pins", NOTICED_WITHIN, pinned).unwrap();
    scene.takes_changes();
}

#[test]
fn edited_map_entries_are_put_right() {
    let world = World::new();
    let scene = Scene::set(&world);
    for name in
        ["published_v4", "published_v6", "endpoints", "addresses_v4", "stations", "gateways"]
    {
        empty(&scene.pins().join("maps").join(name));
        eventually("the map's entries", NOTICED_WITHIN, || {
            Ok((!keys(&scene.pins().join("maps").join(name)).is_empty()).then_some(()))
        })
        .unwrap();
        scene.comes_back(name);
    }
}

fn keys(pin: &Path) -> Vec<Vec<String>> {
    let dump =
        run("bpftool", &["--json", "map", "dump", "pinned", &pin.to_string_lossy()]).unwrap();
    let entries: serde_json::Value = serde_json::from_str(&dump).unwrap();
    let words = |entry: &serde_json::Value| {
        let bytes = entry["key"].as_array().unwrap().iter();
        bytes.map(|byte| byte.as_str().unwrap().to_owned()).collect()
    };
    entries.as_array().unwrap().iter().map(words).collect()
}

fn empty(pin: &Path) {
    let path = pin.to_string_lossy();
    for key in keys(pin) {
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        run("bpftool", &[&["map", "delete", "pinned", &path, "key"], &key[..]].concat()).unwrap();
    }
}

#[test]
fn changed_settings_are_changed_back() {
    let world = World::new();
    let scene = Scene::set(&world);
    let veth = scene.veth();
    let settings = [
        (format!("ipv4/conf/{}/forwarding", scene.device), "0"),
        (format!("ipv4/conf/{}/rp_filter", scene.device), "1"),
        (format!("ipv6/conf/{}/forwarding", scene.device), "0"),
        (format!("ipv6/conf/{}/disable_ipv6", scene.device), "1"),
        (format!("ipv6/conf/{}/accept_ra", scene.device), "1"),
        (format!("ipv4/neigh/{}/base_reachable_time_ms", scene.device), "30000"),
        (format!("ipv6/conf/{veth}/disable_ipv6"), "0"),
        ("ipv4/ip_local_reserved_ports".to_owned(), "\n"),
    ];
    for (setting, wrong) in settings {
        let path = Path::new("/proc/sys/net").join(&setting);
        let read = || world.host.netns().run(|| Ok(std::fs::read_to_string(&path)?));
        let right = read().unwrap();
        world.host.netns().run(|| Ok(std::fs::write(&path, wrong)?)).unwrap();
        let restored = || Ok((read()? == right).then_some(()));
        eventually(&setting, NOTICED_WITHIN, restored).unwrap();
    }
    scene.comes_back("traffic");
}

#[test]
fn full_disk_refuses_changes_and_nothing_else() {
    let world = World::new();
    let state = world.host.directory().join("state");
    mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
    let scene = Scene::set(&world);
    let filler = state.join("filler");
    let full = std::fs::write(&filler, vec![0; 8 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(nix::errno::Errno::ENOSPC as i32));
    scene.tells("is full: changes are refused until there is room");
    scene.refuses("No space left on device");
    let network = scene.daemon.cli(&["network", "create", "more"]).unwrap();
    let told = "taken back: the change could not be stored";
    assert!(network.code == Some(1) && network.stderr.contains(told), "{network:?}");
    assert!(scene.problems().iter().any(|it| it.contains("could not be stored")));
    std::fs::remove_file(&filler).unwrap();
    scene.is_well_again();
    scene.takes_changes();
}

#[test]
fn read_only_bpffs_refuses_changes_and_nothing_else() {
    let world = World::new();
    let scene = Scene::set(&world);
    let remount = |flags| {
        let place = world.host.bpffs();
        mount(None::<&str>, &place, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>)
    };
    remount(MsFlags::MS_RDONLY).unwrap();
    scene.tells("is read-only: what is there works on; remount it to make changes");
    scene.refuses("Read-only file system");
    remount(MsFlags::empty()).unwrap();
    scene.is_well_again();
    scene.takes_changes();
}

#[test]
fn exhausted_file_descriptors_refuse_changes_and_nothing_else() {
    let world = World::new();
    let scene = Scene::set(&world);
    let pid = scene.daemon.pid().unwrap();
    let used = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let most = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let most = most.split_whitespace().nth(4).unwrap().parse().unwrap();
    let limit = |count: usize| {
        // The hard limit stays: it can't be raised again.
        let limit = format!("--nofile={count}:{most}");
        run("prlimit", &["--pid", &pid.to_string(), &limit]).unwrap();
    };
    // Room for a question of the command line, not for a hundred published ports.
    limit(used + 12);
    scene.tells("file descriptors are in use: raise the limit");
    let ports = ["-p", "8100-8149:1-50"];
    let create =
        [&["sandbox", "create", "--name", "more", "--network", "app"], &ports[..]].concat();
    let said = scene.daemon.cli(&create).unwrap();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("Too many open files"), "{said:?}");
    assert!(scene.works());
    limit(most);
    scene.is_well_again();
    scene.daemon.ok(&create).unwrap();
    assert!(scene.works());
}

/// Without memory the daemon ends; its supervisor starts it again, and meanwhile traffic goes on.
#[test]
fn exhausted_memory_ends_the_daemon_at_worst_and_no_traffic() {
    let world = World::new();
    let scene = Scene::set(&world);
    let pid = scene.daemon.pid().unwrap();
    run("prlimit", &["--pid", &pid.to_string(), "--as=1048576"]).unwrap();
    for number in 0..20 {
        let name = format!("more{number}");
        let create = ["sandbox", "create", "--name", &name, "--network", "app"];
        if scene.daemon.cli(&create).unwrap().code != Some(0) {
            break;
        }
    }
    assert!(scene.works());
    let Scene { daemon, web, _servers, .. } = scene;
    let acknowledged = daemon.cli(&["ps", "--format", "{{.Names}}"]).unwrap();
    daemon.crash().unwrap();
    let again = world.daemon();
    let found = again.ok(&["ps", "--format", "{{.Names}}"]).unwrap();
    if acknowledged.code == Some(0) {
        assert_eq!(found, acknowledged.stdout.trim_end());
    }
    let target = SocketAddr::new(world.uplink()[0], 8080);
    assert!(super::is_reached(world.outside.netns(), target, Transport::Tcp));
    container(&again, "later", "app", &[]);
    assert!(web.pings(again_address(&again, "later")).unwrap());
}

fn again_address(daemon: &Daemon<'_>, name: &str) -> std::net::IpAddr {
    Container::find(daemon, name).unwrap().address("app", false).unwrap()
}
