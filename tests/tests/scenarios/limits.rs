//! Size: more endpoints on one network than a Linux bridge has ports.

use std::net::IpAddr;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use netd_tests::{Container, Daemon, Lab, eventually};

use super::network;

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
    in_parallel(|numbers| {
        for name in &names[numbers] {
            daemon.ok(&["sandbox", "create", "--name", name, "--network", "big"]).unwrap();
        }
        Vec::<()>::new()
    });
    let crowd = Crowd::find(&daemon, &names);
    let unreached = in_parallel(|numbers| numbers.flat_map(|it| crowd.unreached(it)).collect());
    assert!(unreached.is_empty(), "{} unreached: {unreached:?}", unreached.len());
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
