//! The name service: what it knows, and the path of every query through it.
//!
//! Laws: the index of names is made anew when the model or the servers are others, at the first query
//! that sees them; what has to be asked upstream never holds up what is known.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, watch};

use super::cache::{Entry, code_name};
use super::names::{Asker, Names};
use super::policy::{Servers, Upstreams};
use super::reply::{Ask, Reply, Verdict, decide};
use super::seat::Seat;
use super::upstream::{Forwarder, From};
use crate::api::{NameAnswer, NameRecord};
use crate::controller::told_to_stop;
use crate::link::resolver::ResolverNews;
use crate::model::{Model, Sandbox, SandboxId};

/// Queries upstream at once, all sandboxes together: what memory bears.
const IN_FLIGHT: usize = 16_384;
/// How often ports are looked for whose time is over.
const TICK: Duration = Duration::from_secs(5);

/// What an operator chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long clients may keep an answer about a container, seconds.
    pub ttl_s: u32,
    /// The daemon's name servers.
    pub servers: Vec<IpAddr>,
}

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The model.
    Local,
    /// An upstream, earlier.
    Cache,
    /// An upstream.
    Upstream,
    /// Nobody: too many queries wait.
    Overload,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Local, Self::Cache, Self::Upstream, Self::Overload];

    /// As a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cache => "cache",
            Self::Upstream => "upstream",
            Self::Overload => "overload",
        }
    }
}

/// A query that was not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who asked.
    pub sandbox: SandboxId,
    /// The name with its final dot.
    pub name: String,
    /// The record type.
    pub kind: String,
    /// What happened.
    pub why: String,
}

/// Who wants to know how queries go.
pub trait Witness: Send + Sync + 'static {
    /// A query was answered.
    fn answered(&self, source: Source, code: ResponseCode, took: Duration);
    /// A query was not resolved.
    fn failed(&self, failure: Failure);
}

type ModelSource = Box<dyn Fn() -> Arc<Model> + Send + Sync>;

/// The name service of a host.
pub struct NameService {
    model: ModelSource,
    settings: Settings,
    host_servers: ArcSwap<Vec<IpAddr>>,
    known: ArcSwap<Known>,
    generations: AtomicU64,
    forwarder: Forwarder,
    witness: Arc<dyn Witness>,
    pub(super) in_flight: Arc<Semaphore>,
}

/// The names of one moment.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of all that a service has made, this one alone has the number.
    pub(super) generation: u64,
    model: Arc<Model>,
    host_servers: Arc<Vec<IpAddr>>,
    names: Names,
    nobody: Asker,
}

/// How far a query got at once.
pub(super) enum Handled {
    /// It is answered.
    Done(Reply, Source),
    /// It has to be asked upstream.
    Later(Ask, Upstreams),
    /// It deserves no answer.
    Nothing,
}

impl NameService {
    /// A service over the model that `model` gives at any time.
    pub fn new(
        model: impl Fn() -> Arc<Model> + Send + Sync + 'static,
        settings: Settings,
        witness: Arc<dyn Witness>,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            model: Box::new(model),
            settings,
            host_servers: ArcSwap::default(),
            known: ArcSwap::default(),
            generations: AtomicU64::new(1),
            forwarder: Forwarder::start()?,
            witness,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        }))
    }

    /// From now on the host's name servers are these.
    pub fn set_host_servers(&self, servers: Vec<IpAddr>) {
        if **self.host_servers.load() != servers {
            tracing::info!(?servers, "the host's name servers");
            self.host_servers.store(Arc::new(servers));
        }
    }

    /// Answers queries on the sockets that `news` tells of, until told to stop: on one thread of its
    /// own. Several would wake each other for a datagram, which takes longer than to answer it.
    pub async fn serve(
        self: Arc<Self>,
        news: UnboundedReceiver<ResolverNews>,
        stop: watch::Receiver<bool>,
    ) {
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.follow(news, stop));
            io::Result::Ok(())
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "no names are served"),
            Err(error) => tracing::error!(%error, "names are no longer served"),
        }
    }

    async fn follow(
        self: Arc<Self>,
        mut news: UnboundedReceiver<ResolverNews>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut seats = BTreeMap::new();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let heard = tokio::select! {
                () = told_to_stop(&mut stop) => return,
                heard = news.recv() => heard,
                _ = tick.tick() => {
                    self.forwarder.close_old_ports();
                    continue;
                }
            };
            match heard {
                Some(ResolverNews::Opened(sandbox, sockets)) => {
                    // Its namespace may be another than before.
                    self.forwarder.forget(sandbox);
                    match Seat::open(&self, sandbox, *sockets) {
                        Ok(seat) => drop(seats.insert(sandbox, seat)),
                        Err(error) => tracing::error!(%sandbox, %error, "no names for a sandbox"),
                    }
                }
                Some(ResolverNews::Closed(sandbox)) => {
                    seats.remove(&sandbox);
                    self.forwarder.forget(sandbox);
                }
                None => return,
            }
        }
    }

    /// The names as of now.
    pub(super) fn known(&self) -> Arc<Known> {
        let (model, host_servers) = ((self.model)(), self.host_servers.load_full());
        let known = self.known.load_full();
        if Arc::ptr_eq(&known.model, &model) && Arc::ptr_eq(&known.host_servers, &host_servers) {
            return known;
        }
        let servers =
            Servers { daemon: self.settings.servers.clone(), host: host_servers.as_ref().clone() };
        let names = Names::of(&model, &servers);
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let nobody = Asker::default();
        let known = Arc::new(Known { generation, model, host_servers, names, nobody });
        self.known.store(Arc::clone(&known));
        known
    }

    /// Answers a query of a sandbox, or says what it needs.
    pub(super) fn handle(
        &self,
        known: &Known,
        sandbox: SandboxId,
        bytes: &[u8],
        random: u64,
    ) -> Handled {
        let asker = known.names.asker(sandbox).unwrap_or(&known.nobody);
        match decide(bytes, &known.names, asker, self.settings.ttl_s, random) {
            Verdict::Answer(reply) => Handled::Done(reply, Source::Local),
            Verdict::Ignore => Handled::Nothing,
            Verdict::Forward(ask) => match self.forwarder.known(sandbox, &asker.upstreams, &ask) {
                Some(answer) => Handled::Done(ask.relay(answer), Source::Cache),
                None => Handled::Later(ask, asker.upstreams.clone()),
            },
        }
    }

    /// Asks upstream.
    pub(super) async fn forward(&self, from: &From, upstreams: &Upstreams, ask: &Ask) -> Reply {
        match self.forwarder.ask(from, upstreams, ask).await {
            Ok(answer) => ask.relay(answer),
            Err(why) => {
                self.fail(from.sandbox, ask, why.to_string());
                ask.failed(ResponseCode::ServFail)
            }
        }
    }

    /// Turns a query away because too many wait.
    pub(super) fn turn_away(&self, sandbox: SandboxId, ask: &Ask) -> Reply {
        self.fail(sandbox, ask, "too many of its queries wait for an answer".to_owned());
        ask.failed(ResponseCode::Refused)
    }

    fn fail(&self, sandbox: SandboxId, ask: &Ask, why: String) {
        let (name, kind) = (ask.query.name().to_ascii(), ask.query.query_type().to_string());
        self.witness.failed(Failure { sandbox, name, kind, why });
    }

    /// Asks for a name as a sandbox would.
    pub async fn lookup(
        &self,
        sandbox: &Sandbox,
        name: &str,
        kind: &str,
    ) -> Result<NameAnswer, LookupError> {
        let since = Instant::now();
        let query = question(name, kind)?;
        let bytes = query.to_vec().map_err(|_| LookupError::Name(name.to_owned()))?;
        let handled = {
            let known = self.known();
            self.handle(&known, sandbox.id, &bytes, u64::from(query.metadata.id))
        };
        let (reply, source) = match handled {
            Handled::Done(reply, source) => (reply, source),
            Handled::Nothing => return Err(LookupError::Name(name.to_owned())),
            Handled::Later(ask, upstreams) => {
                let path = sandbox.netns.display();
                let failed = |error| LookupError::Namespace(format!("{path}: {error}"));
                let netns = Arc::new(std::fs::File::open(&sandbox.netns).map_err(failed)?);
                let from = From { sandbox: sandbox.id, netns };
                (self.forward(&from, &upstreams, &ask).await, Source::Upstream)
            }
        };
        Ok(shown(&query, &reply, source, since.elapsed()))
    }

    /// Counts an answer.
    pub(super) fn count(&self, code: ResponseCode, source: Source, since: Instant) {
        self.witness.answered(source, code, since.elapsed());
    }

    /// All that is kept of upstreams' answers, by the servers that may answer.
    pub fn cached(&self) -> Vec<(Vec<SocketAddr>, Vec<Entry>)> {
        self.forwarder.entries()
    }

    /// Forgets it; says how many answers that were.
    pub fn flush(&self) -> usize {
        self.forwarder.flush()
    }
}

impl std::fmt::Debug for NameService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameService").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Why a name can't be asked for.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It is no name.
    #[error("'{0}' is no domain name: labels have 1 to 63 characters, and all of it at most 255")]
    Name(String),
    /// It is no record type.
    #[error("'{0}' is no record type: A, AAAA, PTR, SRV, TXT and others are")]
    Kind(String),
    /// The sandbox can't be entered.
    #[error("the sandbox's namespace can't be opened: {0}")]
    Namespace(String),
}

fn question(name: &str, kind: &str) -> Result<Message, LookupError> {
    let wrong = || LookupError::Name(name.to_owned());
    let mut wanted = Name::from_utf8(name).map_err(|_| wrong())?;
    wanted.set_fqdn(true);
    let upper = kind.to_ascii_uppercase();
    let kind = upper.parse::<RecordType>().map_err(|_| LookupError::Kind(kind.to_owned()))?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(wanted, kind));
    Ok(message)
}

fn shown(query: &Message, reply: &Reply, source: Source, took: Duration) -> NameAnswer {
    let asked = query.queries.first();
    let record = |record: &Record| NameRecord {
        name: record.name.to_ascii(),
        kind: record.record_type().to_string(),
        ttl_s: record.ttl,
        data: record.data.to_string(),
    };
    NameAnswer {
        name: asked.map(|query| query.name().to_ascii()).unwrap_or_default(),
        kind: asked.map(|query| query.query_type().to_string()).unwrap_or_default(),
        rcode: code_name(reply.message.metadata.response_code),
        source: source.name().to_owned(),
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        records: reply.message.answers.iter().map(record).collect(),
    }
}
