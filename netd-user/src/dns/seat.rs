//! One sandbox's place at the name service: its sockets, and its share of what others need, too.
//!
//! Laws: a sandbox has two tasks, however much it asks, and one more for each query that waits for an
//! upstream, at most `WAITING`; after a full batch, and on a connection after each message, it lets
//! others go first; nothing outlives the seat.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, yield_now};

use super::policy::Upstreams;
use super::ready::Ready;
use super::reply::{Ask, Reply, Transport, UDP_PAYLOAD};
use super::service::{Handled, NameService, Source};
use super::upstream::From;
use crate::link::resolver::ResolverSockets;
use crate::model::SandboxId;

/// Queries of a sandbox that wait for upstreams; the next one is refused.
const WAITING: usize = 4_096;
/// Datagrams answered before others have their turn.
const BATCH: usize = 64;
/// Connections of a sandbox at once; the next one is closed.
const CONNECTIONS: usize = 128;
/// How long a connection may be silent, or take to bring or take a message (RFC 7766).
const PATIENCE: Duration = Duration::from_secs(10);

/// A sandbox's place; it ends with the value.
pub(super) struct Seat {
    shared: Arc<Shared>,
    _loops: JoinSet<()>,
}

struct Shared {
    service: Arc<NameService>,
    from: From,
    udp: UdpSocket,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
    turn: AtomicU64,
}

/// What a waiting query holds.
struct Permit {
    _own: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

impl Seat {
    /// Takes the sockets over.
    pub(super) fn open(
        service: &Arc<NameService>,
        sandbox: SandboxId,
        sockets: ResolverSockets,
    ) -> io::Result<Self> {
        let listener = TcpListener::from_std(sockets.tcp)?;
        let shared = Arc::new(Shared {
            service: Arc::clone(service),
            from: From { sandbox, netns: Arc::new(sockets.netns) },
            udp: UdpSocket::from_std(sockets.udp)?,
            waiting: Arc::new(Semaphore::new(WAITING)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            tasks: Mutex::default(),
            turn: AtomicU64::new(0),
        });
        let mut loops = JoinSet::new();
        loops.spawn(Arc::clone(&shared).serve_udp());
        loops.spawn(Arc::clone(&shared).serve_tcp(listener));
        Ok(Self { shared, _loops: loops })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.tasks().abort_all();
    }
}

impl Shared {
    async fn serve_udp(self: Arc<Self>) {
        let mut ready = Ready::default();
        loop {
            if let Err(error) = self.udp.readable().await {
                return tracing::error!(%error, "a sandbox's name socket is lost");
            }
            if self.answer_batch(&mut ready) == BATCH {
                // More waits, and others go first: a flood has no more than its turns.
                yield_now().await;
            }
        }
    }

    /// How many datagrams there were. Synchronous, so that a buffer on the stack serves all sandboxes
    /// of a thread.
    fn answer_batch(self: &Arc<Self>, ready: &mut Ready) -> usize {
        let mut buffer = [0; UDP_PAYLOAD as usize];
        let known = self.service.known();
        ready.follow(known.generation);
        for taken in 0..BATCH {
            let Ok((len, peer)) = self.udp.try_recv_from(&mut buffer) else { return taken };
            let since = Instant::now();
            if let Some(len) = ready.answer(&mut buffer, len) {
                self.send(&buffer[..len], peer);
                self.service.count(ResponseCode::NoError, Source::Local, since);
                continue;
            }
            let query = &buffer[..len];
            match self.service.handle(&known, self.from.sandbox, query, self.random()) {
                Handled::Done(reply, source) => {
                    let answer = self.reply(&reply, peer, source, since);
                    if source == Source::Local {
                        ready.keep(query, &reply, &answer);
                    }
                }
                Handled::Later(ask, upstreams) => self.reply_later(ask, upstreams, peer, since),
                Handled::Nothing => {}
            }
        }
        BATCH
    }

    /// Sends and counts an answer; empty where none can be written.
    fn reply(&self, reply: &Reply, peer: SocketAddr, source: Source, since: Instant) -> Vec<u8> {
        let bytes = reply.encode(Transport::Udp).unwrap_or_default();
        if !bytes.is_empty() {
            self.send(&bytes, peer);
        }
        self.service.count(reply.message.metadata.response_code, source, since);
        bytes
    }

    fn send(&self, answer: &[u8], peer: SocketAddr) {
        // A client that is gone, or whose queue is full, asks again.
        let _ = self.udp.try_send_to(answer, peer);
    }

    fn reply_later(
        self: &Arc<Self>,
        ask: Ask,
        upstreams: Upstreams,
        peer: SocketAddr,
        since: Instant,
    ) {
        let Some(permit) = self.permit() else {
            let reply = self.service.turn_away(self.from.sandbox, &ask);
            self.reply(&reply, peer, Source::Overload, since);
            return;
        };
        let this = Arc::clone(self);
        self.spawn(async move {
            let reply = this.service.forward(&this.from, &upstreams, &ask).await;
            this.reply(&reply, peer, Source::Upstream, since);
            drop(permit);
        });
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.converse(stream),
                // Of this connection, or of descriptors that run out: it passes.
                Err(error) => {
                    tracing::debug!(%error, "a connection of a sandbox was not taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn converse(self: &Arc<Self>, mut stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else { return };
        let this = Arc::clone(self);
        self.spawn(async move {
            // A broken or silent connection closes: the client knows what to do.
            while let Ok(Some(())) = this.exchange(&mut stream).await {
                // Others go first, however many messages wait here.
                yield_now().await;
            }
            drop(permit);
        });
    }

    /// One message and its answer; none when the client is done or sends what is no query.
    async fn exchange(&self, stream: &mut TcpStream) -> io::Result<Option<()>> {
        let message = tokio::time::timeout(PATIENCE, read_message(stream)).await??;
        let since = Instant::now();
        let handled = {
            let known = self.service.known();
            self.service.handle(&known, self.from.sandbox, &message, self.random())
        };
        let (reply, source) = match handled {
            Handled::Done(reply, source) => (reply, source),
            Handled::Nothing => return Ok(None),
            Handled::Later(ask, upstreams) => self.forward(&ask, &upstreams).await,
        };
        let Some(bytes) = reply.encode(Transport::Tcp) else { return Ok(None) };
        let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let framed = [&len.to_be_bytes()[..], &bytes].concat();
        tokio::time::timeout(PATIENCE, stream.write_all(&framed)).await??;
        self.service.count(reply.message.metadata.response_code, source, since);
        Ok(Some(()))
    }

    async fn forward(&self, ask: &Ask, upstreams: &Upstreams) -> (Reply, Source) {
        let Some(_permit) = self.permit() else {
            return (self.service.turn_away(self.from.sandbox, ask), Source::Overload);
        };
        (self.service.forward(&self.from, upstreams, ask).await, Source::Upstream)
    }

    fn permit(&self) -> Option<Permit> {
        let own = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        let common = Arc::clone(&self.service.in_flight).try_acquire_owned().ok()?;
        Some(Permit { _own: own, _common: common })
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Different for each query; splitmix64.
    fn random(&self) -> u64 {
        let seed = self.turn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = stream.read_u16().await?;
    let mut message = vec![0; usize::from(len)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
