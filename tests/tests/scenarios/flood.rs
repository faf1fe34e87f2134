//! A flood of opening segments from forged addresses: it can push out only its like.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use netd_tests::raw::{RawLink, mac};
use netd_tests::{Container, Daemon, Netns, eventually};

use super::{World, container, flow_stat, network};

const SOURCES: u64 = 1_000_000;
const FRAMES_AT_ONCE: u64 = 1_000;
const IDLE: usize = 20;
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn syn_flood_of_a_million_sources_ends_no_established_flow_and_stops_no_transfer() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "8080:7000"]);
    echo_streams(&web, 7000);
    let targets = world.uplink().map(|address| SocketAddr::new(address, 8080));
    let mut idle: Vec<TcpStream> = targets
        .iter()
        .flat_map(|target| (0..IDLE).map(|_| connect(world.outside.netns(), *target)))
        .collect();
    for stream in &mut idle {
        echo(stream, b"before");
    }
    let transfers = targets.map(|target| connect(world.outside.netns(), target));
    let (stop, rounds) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    thread::scope(|scope| {
        for (stream, rounds) in transfers.into_iter().zip(&rounds) {
            scope.spawn(|| transfer(stream, rounds, &stop));
        }
        flood(&world, &daemon);
        let after = rounds.each_ref().map(|it| it.load(Ordering::Relaxed));
        let goes_on = || {
            let on =
                rounds.iter().zip(after).all(|(it, then)| it.load(Ordering::Relaxed) > then + 9);
            Ok(on.then_some(()))
        };
        let went_on = eventually("the transfers' progress", PATIENCE, goes_on);
        stop.store(true, Ordering::Relaxed);
        went_on.unwrap();
    });
    for stream in &mut idle {
        echo(stream, b"after");
    }
    assert!(flow_stat(&daemon, "evicted") > SOURCES / 2, "the table has not been full");
    assert_eq!(flow_stat(&daemon, "pressure"), 0);
}

/// Sends until every source has opened a flow: half of them on each family.
fn flood(world: &World, daemon: &Daemon<'_>) {
    let link = RawLink::open(world.outside.netns(), "h1").unwrap();
    let to = mac(world.host.netns(), "eth0").unwrap();
    let from = mac(world.outside.netns(), "h1").unwrap();
    let syn = |number: u64| syn((from, to), number, world.uplink());
    let before = flow_stat(daemon, "created");
    for first in (0..SOURCES).step_by(usize::try_from(FRAMES_AT_ONCE).unwrap()) {
        let frames: Vec<_> = (first..first + FRAMES_AT_ONCE).map(syn).collect();
        link.send(&frames).unwrap();
    }
    let opened = flow_stat(daemon, "created") - before;
    assert!(opened >= SOURCES * 99 / 100, "{opened} of the sources got through");
}

/// The opening segment of a source of this number.
fn syn((from, to): ([u8; 6], [u8; 6]), number: u64, host: [IpAddr; 2]) -> Vec<u8> {
    let low = u32::try_from(number / 2).unwrap();
    let link = etherparse::PacketBuilder::ethernet2(from, to);
    let head = match host[usize::from(number % 2 == 1)] {
        IpAddr::V4(host) => {
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + low);
            link.ipv4(source.octets(), host.octets(), 64)
        }
        IpAddr::V6(host) => {
            let net = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0));
            link.ipv6(Ipv6Addr::from(net + u128::from(low)).octets(), host.octets(), 64)
        }
    };
    let mut frame = Vec::with_capacity(80);
    head.tcp(5000, 8080, low, 64_000).syn().write(&mut frame, &[]).unwrap();
    frame
}

/// Gives each connection its bytes back until the client closes.
fn echo_streams(container: &Container, port: u16) {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = container.netns.run(|| Ok(TcpListener::bind(any)?)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
}

fn connect(netns: &Netns, target: SocketAddr) -> TcpStream {
    let stream = netns.run(|| Ok(TcpStream::connect(target)?)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, text);
}

fn transfer(mut stream: TcpStream, rounds: &AtomicU64, stop: &AtomicBool) {
    let block = [0x5a; 8_192];
    while !stop.load(Ordering::Relaxed) {
        echo(&mut stream, &block);
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}
