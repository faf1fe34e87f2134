//! Traffic that notices every loss: datagrams numbered one by one, and HTTP requests each of which
//! must be answered, through published ports, masquerade and within a network, on IPv4 and IPv6.
//!
//! Law: a loss is counted by what was sent and what came, never by how long anything took.

mod http;
mod stream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::outside::{WORLD_V4, WORLD_V6};
use crate::{Container, Daemon, Host, Netns, Outside, eventually};
use http::{Clients, HttpServer};
use stream::{Receiver, Sender};

/// The server's ports: as it binds them, and as the host publishes them.
const HTTP: u16 = 7080;
const STREAM: u16 = 7081;
const PUBLISHED_HTTP: u16 = 8080;
const PUBLISHED_STREAM: u16 = 8081;

/// No server needs longer for what is on its way to it.
const ARRIVES_WITHIN: Duration = Duration::from_secs(20);
/// However loaded the machine is, in this time some request is answered.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);

/// How much traffic.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// Datagrams per second of all streams together.
    pub packets_per_s: u32,
    /// HTTP connections at once, of all paths together.
    pub connections: usize,
    /// Pause of each connection between two requests.
    pub pause: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that never came, by path.
    pub lost: Vec<(String, Vec<u64>)>,
    /// Answers to datagrams that came back to the sender's socket.
    pub echoes: u64,
    /// HTTP requests answered.
    pub answered: u64,
    /// HTTP connections made.
    pub connections: u64,
    /// What went wrong with a request or a stream, a sentence each.
    pub failures: Vec<String>,
    /// How long it ran.
    pub lasted: Duration,
}

impl Report {
    /// An error that tells every loss, or nothing.
    pub fn check(&self) -> Result<()> {
        let lost: u64 = self.lost.iter().map(|(_, numbers)| numbers.len() as u64).sum();
        ensure!(
            lost == 0 && self.failures.is_empty(),
            "{lost} of {} datagrams were lost ({:?}), and of {} requests these failed: {:?}",
            self.sent,
            self.lost,
            self.answered,
            self.failures
        );
        Ok(())
    }
}

/// One way that traffic takes.
#[derive(Clone, Debug)]
struct Path {
    name: String,
    from: Netns,
    http: SocketAddr,
    stream: SocketAddr,
}

/// Running traffic. Both containers belong to the caller and must outlive it.
pub struct Load {
    stop: Arc<AtomicBool>,
    begun: Instant,
    receivers: Vec<Receiver>,
    senders: Vec<Sender>,
    clients: Clients,
    _servers: Vec<HttpServer>,
}

impl Load {
    /// The arguments that a sandbox needs to be the server: `netd sandbox create …`.
    pub fn published() -> [String; 4] {
        let stream = format!("{PUBLISHED_STREAM}:{STREAM}/udp");
        ["-p".to_owned(), format!("{PUBLISHED_HTTP}:{HTTP}"), "-p".to_owned(), stream]
    }

    /// Makes network `load` with its two containers.
    pub fn prepare(daemon: &Daemon<'_>) -> Result<()> {
        daemon.ok(&["network", "create", "--ipv6", "load"])?;
        let published = Self::published();
        let published: Vec<&str> = published.iter().map(String::as_str).collect();
        Container::create(daemon, "server", &[&["--network", "load"], &published[..]].concat())?;
        Container::create(daemon, "client", &["--network", "load"]).map(drop)
    }

    /// Begins between the containers that `prepare` made, and waits until every path works.
    pub fn start(
        daemon: &Daemon<'_>,
        host: &Host,
        outside: &Outside,
        volume: Volume,
    ) -> Result<Self> {
        let server = Container::find(daemon, "server")?;
        let client = Container::find(daemon, "client")?;
        let places = [&server.netns, outside.netns()];
        let servers = places.map(|netns| HttpServer::start(netns, HTTP));
        let receivers = places.map(|netns| Receiver::start(netns, STREAM));
        let paths = paths(&server, &client, host, outside)?;
        let stop = Arc::new(AtomicBool::new(false));
        let clients = Clients::start(&paths, volume, &stop);
        let rate = volume.packets_per_s / u32::try_from(paths.len())?;
        let senders = (0u32..).zip(&paths).map(|(number, path)| {
            Sender::start(number, path, rate, Arc::clone(&stop))
                .with_context(|| format!("the stream {}", path.name))
        });
        let load = Self {
            begun: Instant::now(),
            receivers: receivers.into_iter().collect::<Result<_>>()?,
            senders: senders.collect::<Result<_>>()?,
            clients,
            stop,
            _servers: servers.into_iter().collect::<Result<_>>()?,
        };
        load.go_on(u64::try_from(volume.connections)?)?;
        Ok(load)
    }

    /// Waits until `requests` more have been answered: whatever happened meanwhile met traffic.
    pub fn go_on(&self, requests: u64) -> Result<()> {
        let goal = self.clients.answered() + requests;
        let reached = || Ok((self.clients.answered() >= goal).then_some(()));
        eventually("answers to requests", ANSWERS_WITHIN, reached)
    }

    /// Ends it and counts.
    pub fn finish(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let lasted = self.begun.elapsed();
        let mut report = Report { lasted, ..Report::default() };
        self.clients.finish(&mut report);
        let mut sent = Vec::new();
        for sender in self.senders {
            sent.push(sender.finish(&mut report));
        }
        let came = |number: u32| -> u64 { self.receivers.iter().map(|r| r.came(number)).sum() };
        let complete = || (0u32..).zip(&sent).all(|(number, (_, sent))| came(number) == *sent);
        // What has not come by then is lost, and told below.
        let _incomplete =
            eventually("the last datagrams", ARRIVES_WITHIN, || Ok(complete().then_some(())));
        for (number, (name, sent)) in (0u32..).zip(sent) {
            report.sent += sent;
            let missing: Vec<u64> = (0..sent)
                .filter(|datagram| !self.receivers.iter().any(|r| r.has(number, *datagram)))
                .collect();
            if !missing.is_empty() {
                report.lost.push((name, missing));
            }
        }
        Ok(report)
    }
}

fn paths(
    server: &Container,
    client: &Container,
    host: &Host,
    outside: &Outside,
) -> Result<Vec<Path>> {
    let families: [(&str, IpAddr, IpAddr, bool); 2] = [
        ("IPv4", host.v4().into(), WORLD_V4.into(), false),
        ("IPv6", host.v6().into(), WORLD_V6.into(), true),
    ];
    let mut paths = Vec::new();
    for (family, uplink, world, v6) in families {
        let mut add = |name: &str, from: &Netns, address: IpAddr, ports: (u16, u16)| {
            paths.push(Path {
                name: format!("{name}, {family}"),
                from: from.clone(),
                http: SocketAddr::new(address, ports.0),
                stream: SocketAddr::new(address, ports.1),
            });
        };
        add("published", outside.netns(), uplink, (PUBLISHED_HTTP, PUBLISHED_STREAM));
        add("masqueraded", &client.netns, world, (HTTP, STREAM));
        add("same network", &client.netns, server.address("load", v6)?, (HTTP, STREAM));
    }
    Ok(paths)
}
