//! The ports that upstreams are asked from by UDP, shared by a sandbox's queries to one server.
//!
//! Each port is a flow to the packet path, which keeps one of the host's ports from others, for minutes
//! where it goes on.
//! Laws: a query leaves by an open port at which nobody waits, else by a new one. After `PORTS` in
//! `LIFE`, closed ones counted, queries share those that are open, and a new one is opened only where
//! none is. Numbers of ports, which of several a query leaves by, and its id are random (RFC 5452). A
//! port ends when nobody has waited there for `IDLE`, when its time and its last query are over, or with
//! its sandbox.

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
use tokio::task::{JoinSet, yield_now};

use super::policy::Upstream;
use super::reply::UDP_PAYLOAD;
use crate::link::errand::Errands;
use crate::model::SandboxId;

/// Ports of a sandbox towards one server.
const PORTS: usize = 16;
/// How long a port takes further queries: with the three minutes for which its flow outlives it, a busy
/// sandbox keeps no more than 26 of the host's ports.
const LIFE: Duration = Duration::from_mins(5);
/// How long a port without queries is kept for the next one.
const IDLE: Duration = Duration::from_secs(5);
/// Datagrams taken before others have their turn.
const BATCH: usize = 64;
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

struct Slot {
    until: Instant,
    /// None when it is closed, for its flow goes on.
    door: Option<Arc<Door>>,
}

/// A port that is open, or opens with the first query. Who uses it holds it.
struct Door {
    port: OnceCell<Arc<Port>>,
    used: Mutex<Instant>,
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
        let door = self.choose(route);
        let port = door.port.get_or_try_init(|| self.open(route)).await?;
        let port = Arc::clone(port);
        Lane::on(door, port, id)
    }

    fn choose(&self, route: &Route) -> Arc<Door> {
        let now = Instant::now();
        let mut pools = self.pools();
        let pool = pools.entry((route.sandbox, route.server)).or_default();
        pool.retain(|slot| slot.until > now);
        let mut candidates: Vec<&Arc<Door>> =
            pool.iter().filter_map(|it| it.door.as_ref()).collect();
        if pool.len() < PORTS || candidates.iter().any(|door| door.is_free()) {
            candidates.retain(|door| door.is_free());
        }
        if let Some(door) = self.draw(&candidates) {
            return door;
        }
        let door = Arc::new(Door { port: OnceCell::new(), used: Mutex::new(now) });
        pool.push(Slot { until: now + LIFE, door: Some(Arc::clone(&door)) });
        door
    }

    /// One of them that can't be foretold.
    fn draw(&self, doors: &[&Arc<Door>]) -> Option<Arc<Door>> {
        let drawn = self.order.hash_one(self.turn.fetch_add(1, Ordering::Relaxed));
        let index = drawn.checked_rem(doors.len() as u64)?;
        doors.get(usize::try_from(index).ok()?).map(|door| Arc::clone(door))
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

    /// Closes those that are not used any more, or whose time is over.
    pub(super) fn close_old(&self, now: Instant) {
        self.pools().retain(|_, pool| {
            pool.retain(|slot| slot.until > now);
            for slot in pool.iter_mut() {
                slot.door.take_if(|door| door.is_free() && door.used() + IDLE <= now);
            }
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

impl Door {
    /// Whether nobody but its pool, which is locked, holds it.
    fn is_free(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }

    /// When its last query ended.
    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands answers to who waits for their ids, who has to look whether they are true.
async fn read(socket: Arc<UdpSocket>, waiting: Arc<Waiting>) {
    loop {
        let taken = match socket.readable().await {
            Ok(()) => take_batch(&socket, &waiting),
            Err(error) => Err(error),
        };
        match taken {
            Ok(BATCH) => yield_now().await,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "an upstream's answer was not taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// How many datagrams there were. Synchronous, so that a buffer on the stack serves all ports.
fn take_batch(socket: &UdpSocket, waiting: &Waiting) -> io::Result<usize> {
    let mut buffer = [0; UDP_PAYLOAD as usize];
    for taken in 0..BATCH {
        match socket.try_recv_from(&mut buffer) {
            Ok((len, from)) => deliver(waiting, &buffer[..len], from),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
            Err(error) => return Err(error),
        }
    }
    Ok(BATCH)
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
    door: Arc<Door>,
    port: Arc<Port>,
    id: u16,
    answers: Mutex<mpsc::Receiver<Datagram>>,
}

impl Lane {
    fn on(door: Arc<Door>, port: Arc<Port>, id: u16) -> io::Result<Self> {
        let (sender, answers) = mpsc::channel(LOOKED_AT);
        match lock(&port.waiting).entry(id) {
            Entry::Occupied(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Entry::Vacant(place) => {
                place.insert(sender);
            }
        }
        Ok(Self { door, port, id, answers: Mutex::new(answers) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        lock(&self.port.waiting).remove(&self.id);
        *self.door.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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
    use std::sync::Weak;

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
    async fn who_asks_one_after_the_other_leaves_by_one_port() {
        let ((mut server, route), ports) = (echo().await, ports());
        for id in 0..20_u16 {
            let lane = ports.lane(&route, id).await.expect("lane");
            lane.send_to(&id.to_be_bytes(), route.server.address).await.expect("sent");
            assert_eq!(answer(&lane).await, id.to_be_bytes());
        }
        let last = ports.lane(&route, 0).await.expect("lane");
        last.send_to(&[0, 0, 0], route.server.address).await.expect("sent");
        let peers = server.join_next().await.expect("server").expect("peers");
        assert_eq!(peers.len(), 1);
    }

    #[tokio::test]
    async fn a_port_ends_soon_after_its_last_query_and_not_before() {
        let ((_server, route), ports) = (echo().await, ports());
        let lane = ports.lane(&route, 7).await.expect("lane");
        let socket = Arc::downgrade(&lane.port.socket);
        ports.close_old(Instant::now() + IDLE);
        assert!(ports.pools().values().flatten().all(|slot| slot.door.is_some()), "it is in use");
        let before = Instant::now();
        drop(lane);
        ports.close_old(before);
        assert!(ports.pools().values().flatten().all(|slot| slot.door.is_some()), "it just was");
        ports.close_old(Instant::now() + IDLE);
        ended(&socket).await;
        ports.close_old(Instant::now() + LIFE);
        assert!(ports.pools().is_empty());
    }

    #[tokio::test]
    async fn bursts_with_pauses_open_few_more_ports_than_one() {
        const BURSTS: usize = 10;
        let ((_server, route), ports) = (echo().await, ports());
        for _ in 0..BURSTS {
            let mut lanes = Vec::new();
            for id in 0..100 {
                lanes.push(ports.lane(&route, id).await.expect("lane"));
            }
            lanes.clear();
            ports.close_old(Instant::now() + IDLE);
        }
        let opened: usize = ports.pools().values().map(Vec::len).sum();
        assert_eq!(opened, PORTS + BURSTS - 1);
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
        ended(&socket).await;
    }

    /// Comes back when it is closed.
    async fn ended(socket: &Weak<UdpSocket>) {
        let wait = async {
            while socket.upgrade().is_some() {
                yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("its end in time");
    }
}
