//! Asking upstreams: from the host's namespace or the sandbox's, by UDP and where it must be by TCP.
//!
//! Laws: one at a time in the order of the policy, each with a deadline; an answer that says yes or no
//! is final, anything else leads to the next; `ports` says how long sockets live.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_net::NetError;
use hickory_net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_net::runtime::{RuntimeProvider, TokioHandle, TokioTime};
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsHandle as _, DnsRequestSender as _, FirstAnswer as _};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message, ResponseCode};
use tokio::net::{TcpSocket, TcpStream};

use super::cache::{Cache, Entry};
use super::policy::{Place, Silent, Upstream, Upstreams};
use super::ports::{Lane, Ports, Route};
use super::reply::{Ask, is_answer};
use crate::link::errand::Errands;
use crate::model::SandboxId;

/// How long a server has where another can be asked after it.
const TURN: Duration = Duration::from_secs(2);
/// How long the last one has: clients give up after five seconds.
const LAST_TURN: Duration = Duration::from_secs(4);
/// Sets of servers with a cache of their own.
const CACHES: usize = 256;

type Set = (Option<SandboxId>, Vec<Upstream>);

/// Who asks, as far as upstreams care.
#[derive(Clone, Debug)]
pub(super) struct From {
    pub(super) sandbox: SandboxId,
    pub(super) netns: Arc<File>,
}

/// The way to upstreams, and what they said.
pub(super) struct Forwarder {
    errands: Errands,
    ports: Arc<Ports>,
    caches: Mutex<BTreeMap<Set, Arc<Cache>>>,
    silent: Mutex<Silent>,
    started: Instant,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nobody may be asked.
    NoServer,
    /// Nobody answered with yes or no; what each of them did.
    NoAnswer(String),
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoServer => f.write_str("it has no name server that it can reach"),
            Self::NoAnswer(what) => f.write_str(what),
        }
    }
}

impl Forwarder {
    pub(super) fn start() -> io::Result<Self> {
        let errands = Errands::start()?;
        Ok(Self {
            ports: Arc::new(Ports::new(errands.clone())),
            errands,
            caches: Mutex::default(),
            silent: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// What is known without asking.
    pub(super) fn known(
        &self,
        sandbox: SandboxId,
        upstreams: &Upstreams,
        ask: &Ask,
    ) -> Option<Message> {
        if ask.wants_proof() || upstreams.servers.is_empty() {
            return None;
        }
        self.cache(sandbox, upstreams).get(&ask.query)
    }

    /// Asks the servers until one says yes or no.
    pub(super) async fn ask(
        &self,
        from: &From,
        upstreams: &Upstreams,
        ask: &Ask,
    ) -> Result<Message, Unanswered> {
        let order = self.silent().order(&upstreams.servers, self.now_ms());
        let mut failures = Vec::new();
        for (position, server) in order.iter().enumerate() {
            let turn = if position + 1 == order.len() { LAST_TURN } else { TURN };
            match self.ask_one(from, *server, ask, turn).await {
                Ok(message) if !is_answer(&message) => {
                    failures.push(format!("{} sent no answer", server.address.ip()));
                }
                Ok(answer) if is_final(answer.metadata.response_code) => {
                    if !ask.wants_proof() {
                        self.cache(from.sandbox, upstreams).keep(&ask.query, &answer);
                    }
                    return Ok(answer);
                }
                Ok(answer) => {
                    let code = super::cache::code_name(answer.metadata.response_code);
                    failures.push(format!("{} said {code}", server.address.ip()));
                }
                Err(error) => failures.push(format!("{}: {error}", server.address.ip())),
            }
        }
        if failures.is_empty() {
            Err(Unanswered::NoServer)
        } else {
            Err(Unanswered::NoAnswer(failures.join("; ")))
        }
    }

    async fn ask_one(
        &self,
        from: &From,
        server: Upstream,
        ask: &Ask,
        turn: Duration,
    ) -> Result<Message, NetError> {
        let netns = match server.place {
            Place::Host => None,
            Place::Sandbox => Some(Arc::clone(&from.netns)),
        };
        let message = ask.upstream();
        let sockets = Sockets {
            route: Route { sandbox: from.sandbox, server, netns },
            id: message.metadata.id,
            ports: Arc::clone(&self.ports),
            errands: self.errands.clone(),
            handle: TokioHandle::default(),
        };
        let asked = tokio::time::timeout(turn, exchange(sockets, message, turn));
        let answer = asked.await.unwrap_or(Err(NetError::Timeout));
        match &answer {
            Ok(_) => self.silent().spoke(server),
            Err(_) => self.silent().fell_silent(server, self.now_ms()),
        }
        answer
    }

    /// Closes ports that nobody waits at any more.
    pub(super) fn close_old_ports(&self) {
        self.ports.close_old(Instant::now());
    }

    /// Forgets what only a sandbox that is gone has heard, and closes its ports.
    pub(super) fn forget(&self, sandbox: SandboxId) {
        self.ports.forget(sandbox);
        self.caches().retain(|(owner, _), _| *owner != Some(sandbox));
    }

    /// Forgets all answers; says how many.
    pub(super) fn flush(&self) -> usize {
        self.all_caches().iter().map(|(_, cache)| cache.flush()).sum()
    }

    /// All answers that hold, by set of servers.
    pub(super) fn entries(&self) -> Vec<(Vec<SocketAddr>, Vec<Entry>)> {
        let show = |((_, servers), cache): &(Set, Arc<Cache>)| {
            (servers.iter().map(|server| server.address).collect(), cache.entries())
        };
        self.all_caches().iter().map(show).collect()
    }

    /// To look through them without holding up those who ask.
    fn all_caches(&self) -> Vec<(Set, Arc<Cache>)> {
        let caches = self.caches();
        caches.iter().map(|(set, cache)| (set.clone(), Arc::clone(cache))).collect()
    }

    fn cache(&self, sandbox: SandboxId, upstreams: &Upstreams) -> Arc<Cache> {
        let set = (upstreams.own.then_some(sandbox), upstreams.servers.clone());
        let mut caches = self.caches();
        if caches.len() >= CACHES && !caches.contains_key(&set) {
            caches.pop_first();
        }
        Arc::clone(caches.entry(set).or_insert_with(|| Arc::new(Cache::new())))
    }

    fn caches(&self) -> std::sync::MutexGuard<'_, BTreeMap<Set, Arc<Cache>>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, Silent> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Yes or no: anything else may be the server's own trouble.
fn is_final(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// One exchange by UDP, and once more by TCP where the answer did not fit.
async fn exchange(sockets: Sockets, message: Message, turn: Duration) -> Result<Message, NetError> {
    let server = sockets.route.server.address;
    let request = DnsRequest::new(message, DnsRequestOptions::default());
    let mut stream = UdpClientStream::builder(server, sockets.clone())
        .with_timeout(Some(turn))
        .with_os_port_selection(true)
        .build();
    let answer = stream.send_message(request.clone()).first_answer().await?;
    if !answer.metadata.truncation {
        return Ok(answer.into_message());
    }
    let stream = TcpClientStream::exchange(server, None, turn, None, sockets).await?;
    Ok(stream.send(request).first_answer().await?.into_message())
}

/// Sockets of one query, in the host's namespace or a sandbox's, as hickory asks for them.
#[derive(Clone)]
struct Sockets {
    route: Route,
    id: u16,
    ports: Arc<Ports>,
    errands: Errands,
    handle: TokioHandle,
}

type Made<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Lane;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        _timeout: Option<Duration>,
    ) -> Made<Self::Tcp> {
        let this = self.clone();
        Box::pin(async move {
            let socket = match &this.route.netns {
                Some(netns) => TcpSocket::from_std_stream(this.errands.tcp(netns, server).await?),
                None if server.is_ipv4() => TcpSocket::new_v4()?,
                None => TcpSocket::new_v6()?,
            };
            Ok(AsyncIoTokioAsStd(socket.connect(server).await?))
        })
    }

    fn bind_udp(&self, _local: SocketAddr, _server: SocketAddr) -> Made<Lane> {
        let this = self.clone();
        Box::pin(async move { this.ports.lane(&this.route, this.id).await })
    }
}
