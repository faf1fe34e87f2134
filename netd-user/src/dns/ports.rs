//! The ports that upstreams are asked from by UDP, shared by a sandbox's queries to one server.
//!
//! Each port is a flow to the packet path, which keeps one of the host's ports from others, for minutes
//! where it goes on.
//! Laws: who asks seldom has a new port for each query; who asks much has `PORTS` at a time, each for
//! `LIFE`. Nobody can foretell which of them a query leaves by, nor its id (RFC 5452). A port ends
//! when its time and its last query are over, or with its sandbox.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hickory_net::runtime::{DnsUdpSocket, TokioTime};
use tokio::net::UdpSocket;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinSet;

use super::policy::Upstream;
use super::reply::UDP_PAYLOAD;
use crate::link::errand::Errands;
use crate::model::SandboxId;

/// Ports of a sandbox towards one server.
const PORTS: usize = 16;
/// How long a port takes further queries.
const LIFE: Duration = Duration::from_secs(30);
/// Datagrams under one id that are looked at; all but one of them are forged.
const LOOKED_AT: usize = 8;

/// Who asks which server, and from where.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) sandbox: SandboxId,
    pub(super) server: Upstream,
    /// The sandbox's namespace; none for the host's.
    pub(super) netns: Option<Arc<File>>,
}

/// All ports that are open.
pub(super) struct Ports {
    errands: Errands,
    pools: Mutex<BTreeMap<(SandboxId, Upstream), Vec<Slot>>>,
    order: RandomState,
    turn: AtomicU64,
}

#[derive(Clone)]
struct Slot {
    until: Instant,
    port: Arc<OnceCell<Arc<Port>>>,
}

/// An open port and who waits for answers there; it ends with the value.
struct Port {
    socket: Arc<UdpSocket>,
    waiting: Arc<Waiting>,
    _reader: JoinSet<()>,
}

/// By the ids of their queries.
type Waiting = Mutex<HashMap<u16, mpsc::Sender<Datagram>>>;
type Datagram = (Vec<u8>, SocketAddr);

impl Ports {
    pub(super) fn new(errands: Errands) -> Self {
        let (pools, order, turn) = Default::default();
        Self { errands, pools, order, turn }
    }

    /// A way for the query with an id; `AddrInUse` where another attempt may find one.
    pub(super) async fn lane(&self, route: &Route, id: u16) -> io::Result<Lane> {
        let slot = self.choose(route);
        let port = slot.port.get_or_try_init(|| self.open(route)).await?;
        Lane::on(Arc::clone(port), id)
    }

    fn choose(&self, route: &Route) -> Slot {
        let now = Instant::now();
        let mut pools = self.pools();
        let pool = pools.entry((route.sandbox, route.server)).or_default();
        pool.retain(|slot| slot.until > now);
        if pool.len() < PORTS {
            let slot = Slot { until: now + LIFE, port: Arc::default() };
            pool.push(slot.clone());
            return slot;
        }
        let drawn = self.order.hash_one(self.turn.fetch_add(1, Ordering::Relaxed));
        let index = usize::try_from(drawn % pool.len() as u64).unwrap_or_default();
        pool[index].clone()
    }

    async fn open(&self, route: &Route) -> io::Result<Arc<Port>> {
        let server = route.server.address;
        // Not connected: the sandbox's own address may change meanwhile.
        let socket = match &route.netns {
            Some(netns) => UdpSocket::from_std(self.errands.udp(netns, server).await?)?,
            None if server.is_ipv4() => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?,
            None => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?,
        };
        // Until the runtime has seen that, it turns away whoever wants to send at once.
        socket.writable().await?;
        let (socket, waiting) = (Arc::new(socket), Arc::<Waiting>::default());
        let mut reader = JoinSet::new();
        reader.spawn(read(Arc::clone(&socket), Arc::clone(&waiting)));
        Ok(Arc::new(Port { socket, waiting, _reader: reader }))
    }

    /// Closes those whose time is over.
    pub(super) fn close_old(&self) {
        let now = Instant::now();
        self.pools().retain(|_, pool| {
            pool.retain(|slot| slot.until > now);
            !pool.is_empty()
        });
    }

    /// Closes those of a sandbox that is gone.
    pub(super) fn forget(&self, sandbox: SandboxId) {
        self.pools().retain(|(owner, _), _| *owner != sandbox);
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<(SandboxId, Upstream), Vec<Slot>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands answers to who waits for their ids, who has to look whether they are true.
async fn read(socket: Arc<UdpSocket>, waiting: Arc<Waiting>) {
    let mut buffer = vec![0; usize::from(UDP_PAYLOAD)];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => deliver(&waiting, &buffer[..len], from),
            Err(error) => {
                tracing::debug!(%error, "an upstream's answer was not taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn deliver(waiting: &Waiting, bytes: &[u8], from: SocketAddr) {
    let Some(id) = bytes.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
    if let Some(lane) = lock(waiting).get(&id) {
        // Whose place is full has been sent forgeries, and asks again.
        let _ = lane.try_send((bytes.to_vec(), from));
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u16, mpsc::Sender<Datagram>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One query's share of a port: to hickory, a socket.
pub(super) struct Lane {
    port: Arc<Port>,
    id: u16,
    answers: Mutex<mpsc::Receiver<Datagram>>,
}

impl Lane {
    fn on(port: Arc<Port>, id: u16) -> io::Result<Self> {
        let (sender, answers) = mpsc::channel(LOOKED_AT);
        match lock(&port.waiting).entry(id) {
            Entry::Occupied(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Entry::Vacant(place) => {
                place.insert(sender);
            }
        }
        Ok(Self { port, id, answers: Mutex::new(answers) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        lock(&self.port.waiting).remove(&self.id);
    }
}

impl DnsUdpSocket for Lane {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((bytes, from)) = ready!(answers.poll_recv(cx)) else {
            unreachable!("its port holds the sender as long as the lane is there");
        };
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Poll::Ready(Ok((len, from)))
    }

    fn poll_send_to(
        &self,
        _cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        match self.port.socket.try_send_to(buf, target) {
            // The wake-up would be one query's alone. What is not sent is asked again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Ok(buf.len())),
            sent => Poll::Ready(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::policy::Place;
    use super::*;

    /// A server that says everything back, and a route to it.
    async fn echo() -> (JoinSet<BTreeSet<SocketAddr>>, Route) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("socket");
        let server =
            Upstream { place: Place::Host, address: socket.local_addr().expect("address") };
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut peers = BTreeSet::new();
            let mut buffer = [0; 512];
            loop {
                let (len, peer) = socket.recv_from(&mut buffer).await.expect("query");
                peers.insert(peer);
                socket.send_to(&buffer[..len], peer).await.expect("answer");
                if len > 2 {
                    return peers;
                }
            }
        });
        (task, Route { sandbox: SandboxId([1; 32]), server, netns: None })
    }

    fn ports() -> Ports {
        Ports::new(Errands::start().expect("thread"))
    }

    async fn answer(lane: &Lane) -> Vec<u8> {
        let mut buffer = [0; 512];
        let heard = tokio::time::timeout(Duration::from_secs(30), lane.recv_from(&mut buffer));
        let (len, _) = heard.await.expect("an answer in time").expect("answer");
        buffer[..len].to_vec()
    }

    #[tokio::test]
    async fn who_asks_much_shares_a_few_ports_and_hears_its_own_answers() {
        let ((mut server, route), ports) = (echo().await, ports());
        let mut lanes = Vec::new();
        // As many as a socket's queue holds.
        for id in 0..100_u16 {
            let lane = ports.lane(&route, id).await.expect("lane");
            lane.send_to(&id.to_be_bytes(), route.server.address).await.expect("sent");
            lanes.push(lane);
        }
        for (lane, id) in lanes.iter().zip(0_u16..) {
            assert_eq!(answer(lane).await, id.to_be_bytes());
        }
        lanes[0].send_to(&[0, 0, 0], route.server.address).await.expect("sent");
        let peers = server.join_next().await.expect("server").expect("peers");
        assert_eq!(peers.len(), PORTS);
    }

    #[tokio::test]
    async fn one_id_is_never_twice_on_a_port() {
        let ((_server, route), ports) = (echo().await, ports());
        let mut lanes = Vec::new();
        for _ in 0..PORTS {
            lanes.push(ports.lane(&route, 7).await.expect("a new port each"));
        }
        let refused = ports.lane(&route, 7).await.err().expect("no place is left");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        lanes.clear();
        assert!(ports.lane(&route, 7).await.is_ok());
    }

    #[tokio::test]
    async fn a_port_ends_with_its_last_query_and_its_sandbox() {
        let ((_server, route), ports) = (echo().await, ports());
        let lane = ports.lane(&route, 7).await.expect("lane");
        let socket = Arc::downgrade(&lane.port.socket);
        ports.forget(route.sandbox);
        assert!(ports.pools().is_empty());
        lane.send_to(&[0, 7], route.server.address).await.expect("sent");
        assert_eq!(answer(&lane).await, [0, 7], "what waits is not cut off");
        drop(lane);
        while socket.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }
}
