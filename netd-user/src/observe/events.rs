//! Drops as they happen: from the kernel's event to a sentence, and from one reader to many listeners.
//!
//! Laws: a slow listener loses its oldest events and learns how many; it never slows down the reader.
//! Names are those of the model at the time an event is told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netd_common::verdict::Event;
use netd_common::{DropReason, Hook, Ipv6};
use tokio::sync::broadcast;

use super::time::{Clock, rfc3339};
use crate::api::DropEvent;
use crate::model::Model;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Puts kernel events into users' words.
#[derive(Debug)]
pub struct Narrator {
    clock: Clock,
    model: Arc<Model>,
    networks: BTreeMap<u32, String>,
    sandboxes: BTreeMap<u32, String>,
}

impl Narrator {
    /// A narrator that reads moments by `clock` and knows no names yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, model: Arc::default(), networks: BTreeMap::new(), sandboxes: BTreeMap::new() }
    }

    /// What happened, in the names of `model`.
    pub fn tell(&mut self, event: &Event, model: &Arc<Model>) -> DropEvent {
        if !Arc::ptr_eq(&self.model, model) {
            self.learn(model);
        }
        let name =
            |names: &BTreeMap<u32, String>, index| names.get(&index).cloned().unwrap_or_default();
        let (reason, explanation) = reason(event.reason);
        DropEvent {
            time: rfc3339(self.clock.unix_ns(event.timestamp_ns)),
            reason,
            explanation,
            hook: Hook::from_number(event.hook).map_or_else(String::new, |it| it.name().to_owned()),
            network: name(&self.networks, event.network.0),
            sandbox: name(&self.sandboxes, event.endpoint.0),
            ifindex: event.ifindex.0,
            proto: protocol(event),
            src: peer(event, event.src, event.sport.get()),
            dst: peer(event, event.dst, event.dport.get()),
            len: event.len,
        }
    }

    fn learn(&mut self, model: &Arc<Model>) {
        let networks = model.networks.values();
        self.networks = networks.map(|network| (network.index, network.name.clone())).collect();
        let sandbox = |endpoint: &crate::model::Endpoint| {
            let sandbox = model.sandboxes.get(&endpoint.sandbox?)?;
            Some((endpoint.index, sandbox.name.clone()))
        };
        self.sandboxes = model.endpoints.values().filter_map(|it| sandbox(it)).collect();
        self.model = Arc::clone(model);
    }
}

/// Leading white space of the documentation's lines is trimmed away.
fn reason(number: u8) -> (String, String) {
    match DropReason::from_number(number) {
        Some(reason) => (reason.name().to_owned(), reason.explanation().trim().to_owned()),
        None => (
            format!("reason_{number}"),
            "This version of the controller does not know the reason.".to_owned(),
        ),
    }
}

fn protocol(event: &Event) -> String {
    match (event.family, event.proto) {
        (0, _) => String::new(),
        (_, ICMP) => "icmp".to_owned(),
        (_, TCP) => "tcp".to_owned(),
        (_, UDP) => "udp".to_owned(),
        (_, ICMPV6) => "icmpv6".to_owned(),
        (_, SCTP) => "sctp".to_owned(),
        (_, number) => number.to_string(),
    }
}

fn peer(event: &Event, addr: Ipv6, port: u16) -> String {
    let addr = Ipv6Addr::from(addr.octets());
    let addr = match event.family {
        0 => return String::new(),
        4 => addr.to_canonical(),
        _ => IpAddr::V6(addr),
    };
    match (addr, event.proto) {
        (IpAddr::V4(addr), TCP | UDP | SCTP) => format!("{addr}:{port}"),
        (IpAddr::V6(addr), TCP | UDP | SCTP) => format!("[{addr}]:{port}"),
        (addr, _) => addr.to_string(),
    }
}

/// Passes events on to any number of listeners.
#[derive(Clone, Debug)]
pub struct Hub {
    sender: broadcast::Sender<Arc<DropEvent>>,
    lost: Arc<AtomicU64>,
}

impl Hub {
    /// A hub whose listeners may fall this many events behind.
    pub fn new(lag: usize) -> Self {
        Self { sender: broadcast::Sender::new(lag.max(1)), lost: Arc::default() }
    }

    /// Whether anybody listens; without listeners there is no need to tell events at all.
    pub fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Passes an event on to those who listen now.
    pub fn publish(&self, event: DropEvent) {
        // An error says that nobody listens, which is no loss.
        let _ = self.sender.send(Arc::new(event));
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        Listener { receiver: self.sender.subscribe(), lost: Arc::clone(&self.lost) }
    }

    /// Events that listeners were too slow for, all listeners together.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<Arc<DropEvent>>,
    lost: Arc<AtomicU64>,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Arc<DropEvent>),
    /// The listener was too slow for so many events.
    Lost(u64),
}

impl Listener {
    /// Waits for the next event; none when the hub is gone.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.receiver.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                self.lost.fetch_add(count, Ordering::Relaxed);
                Some(Heard::Lost(count))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netd_common::{Be16, EndpointIndex, IfIndex, NetworkIndex};

    use super::*;
    use crate::compile::tests::world::World;

    fn event() -> Event {
        Event {
            timestamp_ns: 7,
            src: Ipv4Addr::new(10, 1, 0, 2).to_ipv6_mapped().into(),
            dst: Ipv4Addr::new(10, 2, 0, 2).to_ipv6_mapped().into(),
            endpoint: EndpointIndex(1),
            network: NetworkIndex(1),
            ifindex: IfIndex(1001),
            len: 74,
            sport: Be16::new(40_000),
            dport: Be16::new(80),
            reason: DropReason::NetworkIsolation as u8,
            hook: Hook::FromContainer as u8,
            family: 4,
            proto: TCP,
        }
    }

    fn told(event: &Event) -> DropEvent {
        let mut world = World::default();
        world.network(1, "frontend", |_| {});
        world.sandbox(1, "web", &[(1, 2)]);
        Narrator::new(Clock::with_difference(0)).tell(event, &Arc::new(world.model))
    }

    #[test]
    fn a_drop_is_told_in_names() {
        let expected = DropEvent {
            time: "1970-01-01T00:00:00.000000007Z".to_owned(),
            reason: "network_isolation".to_owned(),
            explanation: "It is for an endpoint of another network.".to_owned(),
            hook: "from_container".to_owned(),
            network: "frontend".to_owned(),
            sandbox: "web".to_owned(),
            ifindex: 1001,
            proto: "tcp".to_owned(),
            src: "10.1.0.2:40000".to_owned(),
            dst: "10.2.0.2:80".to_owned(),
            len: 74,
        };
        assert_eq!(told(&event()), expected);
    }

    #[test]
    fn addresses_are_written_by_their_family_and_protocol() {
        let v6: Ipv6 = "fd00::2".parse::<Ipv6Addr>().unwrap().into();
        let udp = told(&Event { family: 6, proto: UDP, src: v6, ..event() });
        assert_eq!((udp.proto.as_str(), udp.src.as_str()), ("udp", "[fd00::2]:40000"));
        let icmp = told(&Event { family: 6, proto: ICMPV6, src: v6, ..event() });
        assert_eq!((icmp.proto.as_str(), icmp.src.as_str()), ("icmpv6", "fd00::2"));
        let other = told(&Event { proto: 47, ..event() });
        assert_eq!((other.proto.as_str(), other.src.as_str()), ("47", "10.1.0.2"));
        let arp = told(&Event { family: 0, ..event() });
        assert_eq!((arp.proto.as_str(), arp.src.as_str()), ("", ""));
    }

    #[test]
    fn strangers_have_no_names() {
        let stranger = Event { endpoint: EndpointIndex(9), network: NetworkIndex(0), ..event() };
        let told = told(&Event { reason: 250, hook: 250, ..stranger });
        assert_eq!((told.network.as_str(), told.sandbox.as_str()), ("", ""));
        assert_eq!((told.reason.as_str(), told.hook.as_str()), ("reason_250", ""));
    }

    #[test]
    fn names_follow_the_model() {
        let mut world = World::default();
        world.network(1, "frontend", |_| {});
        let mut narrator = Narrator::new(Clock::with_difference(0));
        let mut network =
            |world: &World| narrator.tell(&event(), &Arc::new(world.model.clone())).network;
        assert_eq!(network(&world), "frontend");
        world.network(1, "renamed", |_| {});
        assert_eq!(network(&world), "renamed");
    }

    #[tokio::test]
    async fn a_slow_listener_learns_how_much_it_lost() {
        let hub = Hub::new(2);
        assert!(!hub.is_heard());
        hub.publish(DropEvent::default());
        let mut listener = hub.listen();
        for len in 0..5 {
            hub.publish(DropEvent { len, ..DropEvent::default() });
        }
        let length = |heard| match heard {
            Some(Heard::Event(event)) => Some(event.len),
            Some(Heard::Lost(_)) | None => None,
        };
        assert_eq!(listener.next().await, Some(Heard::Lost(3)));
        assert_eq!(length(listener.next().await), Some(3));
        assert_eq!(length(listener.next().await), Some(4));
        assert_eq!(hub.lost(), 3);
        drop(hub);
        assert_eq!(listener.next().await, None);
    }
}
