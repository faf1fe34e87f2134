//! When the flow table is lost under running connections: for a documented while they may go on.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::{Container, Daemon, Netns};

use super::{World, container, drops, network};

/// Connections on both families: in through a published port, out by masquerade.
struct Connections {
    inward: [TcpStream; 2],
    outward: [TcpStream; 2],
}

impl Connections {
    fn open(world: &World, web: &Container) -> Self {
        echo_streams(&web.netns, ([0u16; 8], 7000).into());
        let far = [WORLD_V4.into(), WORLD_V6.into()].map(|ip| SocketAddr::new(ip, 7000));
        for address in far {
            echo_streams(world.outside.netns(), address);
        }
        let published = world.uplink().map(|ip| SocketAddr::new(ip, 8080));
        let mut all = Self {
            inward: published.map(|target| connect(world.outside.netns(), target)),
            outward: far.map(|target| connect(&web.netns, target)),
        };
        assert_eq!(all.echo(), [[Ok(()); 2]; 2]);
        all
    }

    /// What becomes of a question on each.
    fn echo(&mut self) -> [[Result<(), ErrorKind>; 2]; 2] {
        [self.inward.each_mut().map(echo), self.outward.each_mut().map(echo)]
    }
}

fn echo(stream: &mut TcpStream) -> Result<(), ErrorKind> {
    let mut heard = [0; 5];
    let answered = stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut heard));
    answered.map_err(|error| error.kind())
}

fn connect(netns: &Netns, target: SocketAddr) -> TcpStream {
    let stream = netns.run(|| Ok(TcpStream::connect(target)?)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn echo_streams(netns: &Netns, address: SocketAddr) {
    let listener = netns.run(|| Ok(TcpListener::bind(address)?)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
}

/// Stops the daemon, takes all it has in the kernel's maps away, and starts it anew.
fn cold_start<'host>(world: &'host World, daemon: Daemon<'host>, settings: &str) -> Daemon<'host> {
    let places = daemon.places().clone();
    daemon.stop().unwrap();
    std::fs::remove_dir_all(places.bpffs()).unwrap();
    Daemon::start_at(&world.host, places, settings).unwrap()
}

#[test]
fn connections_go_on_after_the_flow_table_was_lost() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "8080:7000"]);
    let mut connections = Connections::open(&world, &web);
    let _daemon = cold_start(&world, daemon, "");
    assert_eq!(connections.echo(), [[Ok(()); 2]; 2]);
}

#[test]
fn without_the_loose_window_a_lost_flow_table_ends_connections_with_a_reason() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "8080:7000"]);
    let mut connections = Connections::open(&world, &web);
    let daemon = cold_start(&world, daemon, "[flow-table]\ntcp-loose = 0\n");
    let [inward, outward] = connections.echo();
    assert_eq!(inward, [Err(ErrorKind::ConnectionReset); 2], "by the host's stack");
    assert_eq!(outward, [Err(ErrorKind::WouldBlock); 2]);
    assert!(drops(&daemon, "invalid_state") >= 2);
}
