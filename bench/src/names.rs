//! Name queries: netd's name service beside Docker's embedded one and a bare forwarder.
//!
//! Law: all three have a site of their own, the same upstream and the same client inside; a burst
//! counts only if its names were resolved, and an uncached name only if the upstream was asked.

mod client;
mod forwarder;
mod upstream;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::corner::Directory;
use crate::engine::Engine;
use crate::interrupt;
use crate::namespace::Namespace;
use crate::results::{Case, Section};
use crate::rig::{DOCKER, NETD, Netd, OUTSIDE, Site};
use crate::session::Session;
use crate::statistics::Better;
use client::{Client, Pace};
use forwarder::Forwarder;
use upstream::Upstream;

/// The name of the bare forwarder.
pub(crate) const FORWARDER: &str = "hickory";
/// What the report says of it.
pub(crate) const FORWARDER_SAYS: &str =
    "hickory-server with one zone in memory and a forwarder, in a host's namespace";

const GROUP: &str = "Name queries";
/// The network, and so the domain of local names.
const NETWORK: &str = "bench";
/// The container that is looked for.
const TARGET: &str = "target";
/// A name that everybody has asked for before.
const CACHED: &str = "cached.example";
/// Of a burst at full speed.
const BURST: Duration = Duration::from_secs(1);
/// Queries of a burst whose latency is measured, in a second: far from what anybody can take.
const GENTLY: u32 = 1_000;
/// More than any of them answers in a burst.
const DISTINCT: usize = 60_000;

/// A name service with a client inside.
struct Subject {
    client: Client,
    upstream: Upstream,
    distinct: usize,
    scratch: PathBuf,
    _held: Held,
}

/// What runs for it, and ends with it.
enum Held {
    Netd { _daemon: crate::rig::Daemon, _site: Site },
    Docker { _engine: Engine },
    Forwarder { _forwarder: Forwarder, _site: Site },
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Local,
    Cached,
    Uncached,
}

impl Names {
    const ALL: [Self; 3] = [Self::Local, Self::Cached, Self::Uncached];

    const fn title(self) -> &'static str {
        match self {
            Self::Local => "local name",
            Self::Cached => "external name, asked before",
            Self::Uncached => "external name, new",
        }
    }
}

/// All of them.
pub(crate) fn all(session: &mut Session, netd: &Netd) -> Result<()> {
    let scratch = Directory::create()?;
    let mut subjects = Vec::new();
    for name in [NETD, DOCKER, FORWARDER] {
        interrupt::check()?;
        match build(name, netd, scratch.path()) {
            Ok(subject) => subjects.push((name.to_owned(), subject)),
            Err(error) => session.problem(&[], name, &format!("can't be built: {error:#}")),
        }
    }
    for names in Names::ALL {
        let rate = case(names.title(), "queries/s", Better::Higher);
        let borrowed = subjects.iter_mut().map(|(name, subject)| (name.clone(), subject));
        session.interleave(vec![rate], borrowed.collect(), |subject| {
            Ok(vec![subject.burst(names, Pace::AtFullSpeed(BURST))?.rate])
        })?;
        let latencies = [("median", 0.5), ("99th percentile", 0.99)];
        let latency = latencies.map(|(quantile, _)| {
            let title = format!("{}, {quantile} of the time to an answer", names.title());
            case(&title, "us", Better::Lower)
        });
        let borrowed = subjects.iter_mut().map(|(name, subject)| (name.clone(), subject));
        session.interleave(latency.into(), borrowed.collect(), |subject| {
            let taken = subject.burst(names, Pace::Gentle { per_second: GENTLY, count: GENTLY })?;
            latencies.iter().map(|(_, part)| taken.latency_us(*part)).collect()
        })?;
    }
    Ok(())
}

fn case(title: &str, unit: &str, better: Better) -> Case {
    Case::new(Section::Names, GROUP, title, unit, better)
}

fn build(name: &str, netd: &Netd, scratch: &Path) -> Result<Subject> {
    let (inside, outside, cgroup, held) = match name {
        NETD => netd_inside(netd)?,
        DOCKER => docker_inside()?,
        _ => forwarder_inside()?,
    };
    let upstream = Upstream::start(&outside, OUTSIDE.into())?;
    let client = Client { inside, cgroup };
    let scratch = scratch.join(name);
    Ok(Subject { client, upstream, distinct: 0, scratch, _held: held })
}

type Inside = (Namespace, Namespace, Option<PathBuf>, Held);

fn netd_inside(netd: &Netd) -> Result<Inside> {
    let site = Site::build()?;
    let daemon = netd.daemon(&site.host)?;
    daemon.create_network(NETWORK, &[])?;
    daemon.create_sandbox(TARGET, NETWORK, (None, None), Vec::new())?;
    let netns = daemon.create_asker("asker", NETWORK, OUTSIDE.into())?;
    let (inside, outside) = (Namespace::open(&netns)?, site.outside.clone());
    let cgroup = Some(netd.cgroup.clients());
    Ok((inside, outside, cgroup, Held::Netd { _daemon: daemon, _site: site }))
}

fn docker_inside() -> Result<Inside> {
    let engine = Engine::start()?;
    for name in [TARGET, "asker"] {
        engine.run_asking(name, IpAddr::from(OUTSIDE))?;
        engine.connect(name)?;
    }
    let inside = engine.namespace_of("asker")?;
    Ok((inside, engine.outside().clone(), None, Held::Docker { _engine: engine }))
}

fn forwarder_inside() -> Result<Inside> {
    let site = Site::build()?;
    let forwarder = Forwarder::start(&site.host, OUTSIDE.into(), (NETWORK, TARGET))?;
    let (inside, outside) = (site.host.clone(), site.outside.clone());
    Ok((inside, outside, None, Held::Forwarder { _forwarder: forwarder, _site: site }))
}

impl Subject {
    fn burst(&mut self, names: Names, pace: Pace) -> Result<client::Taken> {
        let input = match names {
            Names::Local => format!("{TARGET}.{NETWORK} A\n"),
            Names::Cached => format!("{CACHED} A\n"),
            Names::Uncached => self.new_names(),
        };
        std::fs::write(&self.scratch, input).context("names to ask for")?;
        let asked = self.upstream.asked();
        let taken = self.client.ask(&self.scratch, pace)?;
        let asked = self.upstream.asked() - asked;
        let every = u64::from(names == Names::Uncached) * taken.completed;
        ensure!(asked >= every, "{asked} of {every} new names came to the upstream");
        Ok(taken)
    }

    /// Names that nobody has asked for yet.
    fn new_names(&mut self) -> String {
        let first = self.distinct;
        self.distinct += DISTINCT;
        let lines = (first..self.distinct).map(|number| format!("n{number}.example A"));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }
}
