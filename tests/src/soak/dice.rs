//! The dice: which operation comes next, and who asks whom.

use std::net::{IpAddr, SocketAddr};

use super::act::{Act, FIRST_PORT, PORTS, SERVED, WORLD_PORT, guest_name};
use super::expect::{Expected, Kind, Member};
use super::probe::{Daemons, Meant, Probe, WORLD};
use crate::Host;
use crate::container::Transport;

/// Names that may be in use: few, so that operations meet each other.
const NETWORKS: u64 = 6;
const SANDBOXES: u64 = 24;
const GUESTS: u8 = 4;
const RESTART_ONCE_IN: u64 = 40;

/// A generator of numbers (`SplitMix64`): the same seed, the same run.
pub(super) struct Dice {
    state: u64,
    /// Whether the daemon restarts now and then.
    pub(super) restarts: bool,
}

impl Dice {
    /// From a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, restarts: true }
    }

    /// The next operation.
    pub(super) fn act(&mut self, expected: &Expected) -> Act {
        if self.restarts && self.below(RESTART_ONCE_IN) == 0 {
            let running = expected.of_kind(Kind::Process);
            let killing = if self.below(2) == 0 { self.one_of(&running).cloned() } else { None };
            return Act::Restart { crash: self.below(2) == 0, killing };
        }
        let network = format!("net{}", self.below(NETWORKS));
        let sandbox = format!("box{}", self.below(SANDBOXES));
        match self.below(100) {
            0..7 => Act::MakeNetwork { network },
            7..11 => Act::RemoveNetwork { network },
            11..28 => Act::Create { sandbox, network, ports: self.ports() },
            28..40 => Act::Remove { sandbox },
            40..52 => Act::Connect { sandbox, network },
            52..60 => Act::Disconnect { sandbox, network },
            60..68 => Act::Run { sandbox, network, ports: self.ports() },
            68..72 => self.kill(expected),
            72..84 => self.guest(expected),
            _ if expected.is_empty() => Act::Create { sandbox, network, ports: self.ports() },
            _ => Act::Ask,
        }
    }

    fn kill(&mut self, expected: &Expected) -> Act {
        let running = expected.of_kind(Kind::Process);
        self.one_of(&running).map_or(Act::Ask, |sandbox| Act::Kill { sandbox: sandbox.clone() })
    }

    /// What an engine asks of a plugin fits the state of its container.
    fn guest(&mut self, expected: &Expected) -> Act {
        let guest = u8::try_from(self.below(GUESTS.into())).unwrap_or(0);
        match expected.ports_of(&guest_name(guest)) {
            None => Act::Enter { guest },
            Some(_) if self.below(4) == 0 => Act::Leave { guest },
            Some([]) => Act::Publish { guest, port: self.port() },
            Some(_) => Act::Revoke { guest },
        }
    }

    fn port(&mut self) -> u16 {
        FIRST_PORT + u16::try_from(self.below(PORTS.into())).unwrap_or(0)
    }

    fn ports(&mut self) -> Vec<u16> {
        let mut ports: Vec<u16> = Vec::new();
        for _ in 0..self.below(4) {
            let port = self.port();
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports
    }

    /// A few requests whose outcome the model knows.
    pub(super) fn probes(
        &mut self,
        expected: &Expected,
        host: &Host,
        daemons: Daemons,
    ) -> Vec<Probe> {
        let members = expected.members();
        let mut probes = Vec::new();
        for transport in Transport::ALL {
            let from = self.one_of(&members).cloned();
            let to = self.one_of(&members).cloned();
            if let (Some(from), Some(to)) = (&from, &to) {
                probes.extend(self.neighbour(expected, from, to, transport));
                probes.push(self.world(from, host, transport));
                if daemons == Daemons::One {
                    probes.extend(Self::name(expected, from, to));
                }
            }
            let published = expected.published();
            if let Some(port) = self.one_of(&published).copied() {
                let own: [IpAddr; 2] = [host.v4().into(), host.v6().into()];
                let target = SocketAddr::new(own[self.index(2)], port);
                let meant = Meant::Request { target, transport, seen_as: None };
                probes.push(Probe { from: None, meant, answers: true });
            }
        }
        probes
    }

    fn neighbour(
        &mut self,
        expected: &Expected,
        from: &Member,
        to: &Member,
        transport: Transport,
    ) -> Option<Probe> {
        let target = SocketAddr::new(to.addresses[self.index(2)], SERVED);
        let answers = expected.is_on(&from.name, &to.network);
        // What must not answer costs the whole deadline: asked now and then.
        if from.name == to.name || !answers && self.below(8) != 0 {
            return None;
        }
        let meant = Meant::Request { target, transport, seen_as: None };
        Some(Probe { from: Some(from.netns.clone()), meant, answers })
    }

    fn world(&mut self, from: &Member, host: &Host, transport: Transport) -> Probe {
        let hosts: [IpAddr; 2] = [host.v4().into(), host.v6().into()];
        let family = self.index(2);
        let target = SocketAddr::new(WORLD[family], WORLD_PORT);
        let meant = Meant::Request { target, transport, seen_as: Some(hosts[family]) };
        Probe { from: Some(from.netns.clone()), meant, answers: true }
    }

    /// An engine answers its own containers' queries by itself, and knows their names.
    fn name(expected: &Expected, from: &Member, to: &Member) -> Option<Probe> {
        let is_named = |member: &Member| expected.kind(&member.name) != Some(Kind::Engine);
        if !is_named(from) || !is_named(to) {
            return None;
        }
        let meant = Meant::Name {
            asker: from.name.clone(),
            name: to.name.clone(),
            addresses: expected.addresses_seen(&from.name, &to.name),
        };
        Some(Probe { from: None, meant, answers: true })
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { Some(&all[self.index(all.len())]) }
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
