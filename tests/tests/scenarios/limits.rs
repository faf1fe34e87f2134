//! Size: more endpoints on one network than a Linux bridge has ports.

use std::net::IpAddr;
use std::thread;

use netd_tests::{Container, Lab, Outside};

use super::network;

const ENDPOINTS: usize = 1_200;
const AT_ONCE: usize = 4;

#[test]
fn twelve_hundred_endpoints_reach_the_gateway_their_successor_and_one_at_random() {
    let lab = Lab::alone().unwrap();
    let outside: Outside = lab.outside().unwrap();
    let host = lab.host(&outside).unwrap();
    let daemon = netd_tests::Daemon::start(&host, "").unwrap();
    network(&daemon, "big", &["--subnet", "10.77.0.0/16", "--subnet", "fd77::/64"]);
    let numbers: Vec<usize> = (0..ENDPOINTS).collect();
    let chunks: Vec<&[usize]> = numbers.chunks(ENDPOINTS.div_ceil(AT_ONCE)).collect();
    let containers: Vec<Container> = thread::scope(|scope| {
        let makers: Vec<_> = chunks
            .iter()
            .map(|chunk| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let make = |number: &usize| {
                        let arguments = ["--network", "big"];
                        Container::create(daemon, &format!("c{number}"), &arguments).unwrap()
                    };
                    chunk.iter().map(make).collect::<Vec<_>>()
                })
            })
            .collect();
        makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect()
    });
    let addresses: Vec<[IpAddr; 2]> =
        containers.iter().map(|it| it.addresses("big").unwrap()).collect();
    let gateways: [IpAddr; 2] = ["10.77.0.1".parse().unwrap(), "fd77::1".parse().unwrap()];
    // A full-period step through the numbers: every container is somebody's random pick.
    let unreached: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = chunks
            .iter()
            .map(|chunk| {
                let (containers, addresses) = (&containers, &addresses);
                scope.spawn(move || {
                    let mut unreached = Vec::new();
                    for &number in *chunk {
                        let picks = [(number + 1) % ENDPOINTS, (number * 7 + 611) % ENDPOINTS];
                        let others = picks.into_iter().flat_map(|pick| addresses[pick]);
                        for target in gateways.into_iter().chain(others) {
                            if !containers[number].pings(target).unwrap() {
                                unreached.push(format!("c{number} to {target}"));
                            }
                        }
                    }
                    unreached
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(unreached.is_empty(), "{} unreached: {unreached:?}", unreached.len());
}
