//! Our own client and server: request and response on one connection, on a new connection each, in
//! datagrams, and streams.
//!
//! Law: both ends are real-time threads on one CPU; a lost or late answer fails the burst instead of
//! thinning it.

mod bulk;
mod datagram;
mod stream;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cpu::{self, RealTime};
use crate::namespace::Namespace;
use crate::statistics::quantile;
use crate::units::{real, real_len};

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// One byte each way, over and over, on one connection.
    TcpRr,
    /// The same with a connection for each.
    TcpCrr,
    /// One datagram each way.
    UdpRr,
    /// One stream.
    Bulk1,
    /// Eight streams.
    Bulk8,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::TcpRr, Self::TcpCrr, Self::UdpRr, Self::Bulk1, Self::Bulk8];

    /// The name that the field uses.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TcpRr => "TCP_RR",
            Self::TcpCrr => "TCP_CRR",
            Self::UdpRr => "UDP_RR",
            Self::Bulk1 => "bulk TCP, 1 flow",
            Self::Bulk8 => "bulk TCP, 8 flows",
        }
    }

    /// What its rate counts.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::TcpRr | Self::TcpCrr | Self::UdpRr => "transactions/s",
            Self::Bulk1 | Self::Bulk8 => "MB/s",
        }
    }
}

/// Where traffic goes: two namespaces and the address that leads from one to the other.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Where the client runs.
    pub(crate) client: Namespace,
    /// Where the server runs.
    pub(crate) server: Namespace,
    /// What the client connects to.
    pub(crate) connect: SocketAddr,
    /// The server's port.
    pub(crate) listen: u16,
    /// A threaded cgroup that the client's thread must be in.
    pub(crate) cgroup: Option<PathBuf>,
}

/// What a burst came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Burst {
    /// In the unit of its kind.
    pub(crate) rate: f64,
    /// Latency of a transaction, microseconds; none for streams.
    pub(crate) latency: Option<Latency>,
}

/// Latency of transactions, microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// One in a hundred is slower.
    pub p99: f64,
}

/// Runs one burst.
pub(crate) fn burst(kind: Kind, route: &Route, cpu: usize, length: Duration) -> Result<Burst> {
    let result = match kind {
        Kind::TcpRr => stream::requests(route, cpu, length),
        Kind::TcpCrr => stream::connections(route, cpu, length),
        Kind::UdpRr => datagram::requests(route, cpu, length),
        Kind::Bulk1 => bulk::streams(route, cpu, length, 1),
        Kind::Bulk8 => bulk::streams(route, cpu, length, 8),
    };
    result.with_context(|| format!("{} to {}", kind.name(), route.connect))
}

impl Route {
    fn listen_address(&self) -> SocketAddr {
        self.any(self.listen)
    }

    /// Any address of the family, with a port.
    fn any(&self, port: u16) -> SocketAddr {
        match self.connect {
            SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
        }
    }

    /// Moves the calling thread to where the client runs.
    pub(crate) fn enter_client(&self) -> Result<()> {
        if let Some(cgroup) = &self.cgroup {
            let thread = nix::unistd::gettid().to_string();
            fs::write(cgroup.join("cgroup.threads"), thread).context("entering the cgroup")?;
        }
        self.client.enter()
    }
}

/// Repeats a transaction in real time and clocks each.
fn clock(cpu: usize, length: Duration, mut once: impl FnMut() -> Result<()>) -> Result<Burst> {
    cpu::pin(cpu)?;
    for _ in 0..20 {
        once()?;
    }
    let mut times = Vec::with_capacity(200_000);
    let _burst = RealTime::enter()?;
    let start = Instant::now();
    let mut before = start;
    while before.duration_since(start) < length {
        once()?;
        let after = Instant::now();
        times.push(after.duration_since(before).as_secs_f64() * 1e6);
        before = after;
    }
    summary(times, before.duration_since(start))
}

fn summary(mut times: Vec<f64>, elapsed: Duration) -> Result<Burst> {
    ensure!(!times.is_empty() && elapsed > Duration::ZERO, "no transaction took place");
    times.sort_by(f64::total_cmp);
    let at = |part| quantile(&times, part).unwrap_or_default();
    Ok(Burst {
        rate: real_len(times.len()) / elapsed.as_secs_f64(),
        latency: Some(Latency { p50: at(0.5), p99: at(0.99) }),
    })
}

fn megabytes_per_second(bytes: u64, elapsed: Duration) -> f64 {
    real(bytes) / 1e6 / elapsed.as_secs_f64()
}
