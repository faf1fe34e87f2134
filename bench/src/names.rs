//! Name queries: netd's name service beside Docker's embedded one and a bare forwarder.
//!
//! Law: all have a site of their own, the same upstream and the same client inside; a burst counts only
//! if its names were resolved, and an uncached name only if the upstream was asked.

mod client;
mod forwarder;
mod limit;
mod server;
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
use crate::units::real;
use client::{Client, Pace, Taken};
use forwarder::Forwarder;
use limit::Limit;
use server::Server;
use upstream::Upstream;

/// The name of the bare forwarder.
pub(crate) const FORWARDER: &str = "hickory";
/// What the report says of it.
pub(crate) const FORWARDER_SAYS: &str =
    "hickory-server with one zone in memory and a forwarder, in a host's namespace";
/// The name of what does nothing.
pub(crate) const LIMIT: &str = "limit";
/// What the report says of it.
pub(crate) const LIMIT_SAYS: &str = "no name service: queries sent back in batches with the bit of an \
    answer, in a container's namespace as netd's, which shows what client and kernel can do";

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
/// In the titles of what a server spends on a query.
const COST: &str = ", CPU time of the server";

/// A name service with a client inside.
struct Subject {
    client: Client,
    server: Server,
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
    Limit { _limit: Limit, _container: Box<Held> },
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

    /// Those who can be asked for them: what does nothing asks no upstream.
    fn asked_of(self, subjects: &mut [(String, Subject)]) -> Vec<(String, &mut Subject)> {
        let able = |name: &str| self == Self::Local || name != LIMIT;
        let asked = subjects.iter_mut().filter(|(name, _)| able(name));
        asked.map(|(name, subject)| (name.clone(), subject)).collect()
    }
}

/// All of them.
pub(crate) fn all(session: &mut Session, netd: &Netd) -> Result<()> {
    let scratch = Directory::create()?;
    let mut subjects = Vec::new();
    for name in [NETD, DOCKER, FORWARDER, LIMIT] {
        interrupt::check()?;
        match build(name, netd, scratch.path()) {
            Ok(subject) => subjects.push((name.to_owned(), subject)),
            Err(error) => session.problem(&[], name, &format!("can't be built: {error:#}")),
        }
    }
    let rounds = session.effort.name_rounds;
    for names in Names::ALL {
        let rate = case(names.title(), "queries/s", Better::Higher);
        let cost = case(&format!("{}{COST}", names.title()), "us", Better::Lower);
        let asked = names.asked_of(&mut subjects);
        session.interleave(rounds, vec![rate, cost], asked, |subject| {
            let (taken, server_us) = subject.burst(names, Pace::AtFullSpeed(BURST))?;
            Ok(vec![taken.rate, server_us])
        })?;
        let latencies = [("median", 0.5), ("99th percentile", 0.99)];
        let latency = latencies.map(|(quantile, _)| {
            let title = format!("{}, {quantile} of the time to an answer", names.title());
            case(&title, "us", Better::Lower)
        });
        let title = format!("{}{COST}, 1 000 queries/s", names.title());
        let cost = case(&title, "us", Better::Lower);
        let cases = latency.into_iter().chain([cost]).collect();
        let asked = names.asked_of(&mut subjects);
        session.interleave(rounds, cases, asked, |subject| {
            let pace = Pace::Gentle { per_second: GENTLY, count: GENTLY };
            let (taken, server_us) = subject.burst(names, pace)?;
            let times = latencies.iter().map(|(_, part)| taken.latency_us(*part));
            times.chain([Ok(server_us)]).collect()
        })?;
    }
    Ok(())
}

fn case(title: &str, unit: &str, better: Better) -> Case {
    Case::new(Section::Names, GROUP, title, unit, better)
}

fn build(name: &str, netd: &Netd, scratch: &Path) -> Result<Subject> {
    let (inside, outside, server, held) = match name {
        NETD => netd_inside(netd)?,
        DOCKER => docker_inside()?,
        LIMIT => limit_inside(netd)?,
        _ => forwarder_inside()?,
    };
    let upstream = Upstream::start(&outside, OUTSIDE.into())?;
    // Outside of it netd's hooks leave queries to whoever listens in the container.
    let cgroup = matches!(held, Held::Netd { .. }).then(|| netd.cgroup.clients());
    let client = Client { inside, cgroup };
    let scratch = scratch.join(name);
    Ok(Subject { client, server, upstream, distinct: 0, scratch, _held: held })
}

/// The client's namespace, the upstream's, whose work is counted, and what runs.
type Inside = (Namespace, Namespace, Server, Held);

fn netd_inside(netd: &Netd) -> Result<Inside> {
    let site = Site::build()?;
    let daemon = netd.daemon(&site.host)?;
    daemon.create_network(NETWORK, &[])?;
    daemon.create_sandbox(TARGET, NETWORK, (None, None), Vec::new())?;
    let netns = daemon.create_asker("asker", NETWORK, OUTSIDE.into())?;
    let (inside, outside) = (Namespace::open(&netns)?, site.outside.clone());
    let server = Server::process(daemon.pid());
    Ok((inside, outside, server, Held::Netd { _daemon: daemon, _site: site }))
}

fn docker_inside() -> Result<Inside> {
    let engine = Engine::start()?;
    for name in [TARGET, "asker"] {
        engine.run_asking(name, IpAddr::from(OUTSIDE))?;
        engine.connect(name)?;
    }
    let inside = engine.namespace_of("asker")?;
    let server = Server::process(engine.pid()?);
    Ok((inside, engine.outside().clone(), server, Held::Docker { _engine: engine }))
}

fn forwarder_inside() -> Result<Inside> {
    let site = Site::build()?;
    let server = Server::of_threads();
    let forwarder = Forwarder::start(&site.host, &server, OUTSIDE.into(), (NETWORK, TARGET))?;
    let (inside, outside) = (site.host.clone(), site.outside.clone());
    Ok((inside, outside, server, Held::Forwarder { _forwarder: forwarder, _site: site }))
}

fn limit_inside(netd: &Netd) -> Result<Inside> {
    let (inside, outside, _, container) = netd_inside(netd)?;
    let server = Server::of_threads();
    let limit = Limit::start(&inside, &server)?;
    let held = Held::Limit { _limit: limit, _container: Box::new(container) };
    Ok((inside, outside, server, held))
}

impl Subject {
    /// What came of it, and what an answer cost the server, microseconds.
    fn burst(&mut self, names: Names, pace: Pace) -> Result<(Taken, f64)> {
        let input = match names {
            Names::Local => format!("{TARGET}.{NETWORK} A\n"),
            Names::Cached => format!("{CACHED} A\n"),
            Names::Uncached => self.new_names(),
        };
        std::fs::write(&self.scratch, input).context("names to ask for")?;
        let (asked, spent_us) = (self.upstream.asked(), self.server.spent_us()?);
        let taken = self.client.ask(&self.scratch, pace)?;
        let spent_us = self.server.spent_us()? - spent_us;
        let asked = self.upstream.asked() - asked;
        let every = u64::from(names == Names::Uncached) * taken.completed;
        ensure!(asked >= every, "{asked} of {every} new names came to the upstream");
        let server_us = spent_us / real(taken.completed);
        Ok((taken, server_us))
    }

    /// Names that nobody has asked for yet.
    fn new_names(&mut self) -> String {
        let first = self.distinct;
        self.distinct += DISTINCT;
        let lines = (first..self.distinct).map(|number| format!("n{number}.example A"));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }
}
