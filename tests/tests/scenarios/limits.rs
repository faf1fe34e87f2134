//! Size: more endpoints on one network than a Linux bridge has ports.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::thread;
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::{Container, Daemon, Lab, eventually};

use super::{World, container, is_reached, network};

const ENDPOINTS: usize = 1_200;
const AT_ONCE: usize = 4;
/// For an answer, where the kernel is busy with all the others.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn twelve_hundred_endpoints_reach_the_gateway_their_successor_and_one_at_random() {
    let lab = Lab::alone().unwrap();
    let _room = NeighborTable::widen();
    let outside = lab.outside().unwrap();
    let host = lab.host(&outside).unwrap();
    let daemon = Daemon::start(&host, "").unwrap();
    network(&daemon, "big", &["--subnet", "10.77.0.0/16", "--subnet", "fd77::/64"]);
    let names: Vec<String> = (0..ENDPOINTS).map(|number| format!("c{number:04}")).collect();
    let before = Held::by(&daemon);
    in_parallel(|numbers| {
        for name in &names[numbers] {
            daemon.ok(&["sandbox", "create", "--name", name, "--network", "big"]).unwrap();
        }
        Vec::<()>::new()
    });
    before.has_grown_little(&daemon);
    let crowd = Crowd::find(&daemon, &names);
    let unreached = in_parallel(|numbers| numbers.flat_map(|it| crowd.unreached(it)).collect());
    assert!(unreached.is_empty(), "{} unreached: {unreached:?}", unreached.len());
}

/// What a daemon holds for its sandboxes, the name service of each included.
struct Held {
    resident_kib: u64,
    threads: usize,
}

impl Held {
    fn by(daemon: &Daemon<'_>) -> Self {
        let proc = format!("/proc/{}", daemon.pid().unwrap());
        let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            resident_kib: resident.split_whitespace().next().unwrap().parse().unwrap(),
            threads: std::fs::read_dir(format!("{proc}/task")).unwrap().count(),
        }
    }

    /// No thread, and of memory no more than a page table and a few pages for each.
    fn has_grown_little(&self, daemon: &Daemon<'_>) {
        let now = Self::by(daemon);
        let each = now.resident_kib.saturating_sub(self.resident_kib) / ENDPOINTS as u64;
        assert!(each <= 64, "{each} KiB for a sandbox");
        // What blocks goes to a few threads, however many sandboxes there are.
        let (before, after) = (self.threads, now.threads);
        assert!(after <= before + 16, "{before} threads, then {after}");
    }
}

fn status(daemon: &Daemon<'_>) -> serde_json::Value {
    serde_json::from_str(&daemon.ok(&["status", "--format", "json"]).unwrap()).unwrap()
}

fn fill(daemon: &Daemon<'_>, map: &str) -> (u64, u64) {
    let status = status(daemon);
    let maps = status["Maps"].as_array().unwrap();
    let found = maps.iter().find(|it| it["Name"] == map).unwrap();
    (found["Entries"].as_u64().unwrap(), found["Capacity"].as_u64().unwrap())
}

#[test]
fn every_port_of_a_protocol_is_published_at_once_and_counted() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "1-65535:1-65535"]);
    assert_eq!(fill(&daemon, "published_v4"), (65_535, 262_144));
    assert_eq!(fill(&daemon, "published_v6"), (65_535, 262_144));
    for port in [1, 7_000, 65_535] {
        let _servers = web.serve(port, true).unwrap();
        for address in world.uplink() {
            let target = SocketAddr::new(address, port);
            assert!(is_reached(world.outside.netns(), target, Transport::Tcp), "{target}");
        }
    }
    let more = ["sandbox", "create", "--name", "more", "--network", "app", "-p", "80:80"];
    let said = daemon.cli(&more).unwrap();
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("port is already allocated"), "{said:?}");
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    assert_eq!(fill(&daemon, "published_v4").0, 0);
}

#[test]
fn exhausted_pool_refuses_in_a_sentence_and_was_counted_before() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.ok(&["network", "create", "--subnet", "10.77.0.0/29", "small"]).unwrap();
    let available = || {
        let metrics = ["-s", "http://127.0.0.1:9959/metrics"];
        let said = world.host.exec("curl", &metrics).unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let key = "netd_ipam_available_addresses{network=\"small\",pool=\"10.77.0.0/29\"} ";
        text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned()
    };
    for left in (0..5).rev() {
        container(&daemon, &format!("box{left}"), "small", &[]);
        assert_eq!(available(), left.to_string());
    }
    let create = ["sandbox", "create", "--name", "more", "--network", "small"];
    let said = daemon.cli(&create).unwrap();
    assert_eq!(said.code, Some(1));
    let sentence = "no available IPv4 addresses on this network's address pools: small (";
    let remedy = "; remove containers from it, or create a network with a larger subnet";
    assert!(said.stderr.contains(sentence) && said.stderr.contains(remedy), "{said:?}");
    daemon.ok(&["sandbox", "rm", "box0"]).unwrap();
    daemon.ok(&create).unwrap();
}

/// The kernel's one neighbour table for all namespaces, made as large as `docs/operations.md` advises
/// for so many containers; it gets its old limits back.
struct NeighborTable {
    limits: Vec<(String, String)>,
}

impl NeighborTable {
    fn widen() -> Self {
        let mut limits = Vec::new();
        for family in ["ipv4", "ipv6"] {
            for (key, value) in [("gc_thresh3", "65536"), ("gc_thresh2", "49152")] {
                let path = format!("/proc/sys/net/{family}/neigh/default/{key}");
                limits.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
                std::fs::write(path, value).unwrap();
            }
        }
        Self { limits }
    }
}

impl Drop for NeighborTable {
    fn drop(&mut self) {
        for (path, value) in &self.limits {
            std::fs::write(path, value).unwrap();
        }
    }
}

/// The containers of the network, with their addresses.
struct Crowd {
    containers: Vec<Container>,
    addresses: Vec<[IpAddr; 2]>,
}

impl Crowd {
    fn find(daemon: &Daemon<'_>, names: &[String]) -> Self {
        let containers: Vec<Container> = in_parallel(|numbers| {
            let names: Vec<&str> = names[numbers].iter().map(String::as_str).collect();
            let shares = names.chunks(50).map(|share| Container::find_all(daemon, share).unwrap());
            shares.flatten().collect()
        });
        let addresses = containers.iter().map(|it| it.addresses("big").unwrap()).collect();
        Self { containers, addresses }
    }

    /// Which of its targets a container does not reach. A step without a common divisor with their
    /// number picks the random one: every container is somebody's pick.
    fn unreached(&self, number: usize) -> Vec<String> {
        let picks = [(number + 1) % ENDPOINTS, (number * 7 + 611) % ENDPOINTS];
        let gateways: [IpAddr; 2] = ["10.77.0.1".parse().unwrap(), "fd77::1".parse().unwrap()];
        let targets = picks.into_iter().flat_map(|pick| self.addresses[pick]).chain(gateways);
        let fails = |target: &IpAddr| {
            let answers = || Ok(self.containers[number].pings(*target)?.then_some(()));
            eventually("an answer", PATIENCE, answers).is_err()
        };
        targets.filter(fails).map(|target| format!("c{number} to {target}")).collect()
    }
}

/// Spreads the containers' numbers over a few threads.
fn in_parallel<T: Send>(work: impl Fn(Range<usize>) -> Vec<T> + Sync) -> Vec<T> {
    let share = ENDPOINTS.div_ceil(AT_ONCE);
    thread::scope(|scope| {
        let start = |first: usize| {
            let numbers = first..(first + share).min(ENDPOINTS);
            let work = &work;
            scope.spawn(move || work(numbers))
        };
        let workers: Vec<_> = (0..ENDPOINTS).step_by(share).map(start).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}
