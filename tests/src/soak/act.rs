//! What can happen, and the dice that choose it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};

use super::expect::Expected;
use crate::container::Transport;
use crate::{Host, Netns, Outside};

/// Names that may be in use: few, so that operations meet each other.
const NETWORKS: u64 = 6;
const SANDBOXES: u64 = 24;
/// Ports that may be published.
const PORTS: u64 = 40;
const RESTART_ONCE_IN: u64 = 300;
const FIRST_PORT: u16 = 9000;
/// What every container serves.
pub(super) const SERVED: u16 = 7000;

/// An operation.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A dual-stack network.
    MakeNetwork { network: String },
    /// Refused while it is in use.
    RemoveNetwork { network: String },
    /// A container on a network that publishes some ports.
    Create { sandbox: String, network: String, ports: Vec<u16> },
    /// A container goes, with all it publishes.
    Remove { sandbox: String },
    /// A container joins a further network.
    Connect { sandbox: String, network: String },
    /// It leaves one.
    Disconnect { sandbox: String, network: String },
    /// The daemon ends, by force or not, and starts again.
    Restart { crash: bool },
    /// Traffic.
    Ask,
}

impl Act {
    /// The command line's words.
    pub(super) fn words(&self) -> Vec<&str> {
        match self {
            Self::MakeNetwork { network } => vec!["network", "create", "--ipv6", network],
            Self::RemoveNetwork { network } => vec!["network", "rm", network],
            Self::Create { sandbox, network, ports } => {
                let mut words = vec!["sandbox", "create", "--name", sandbox, "--network", network];
                words.extend(ports.iter().flat_map(|port| ["-p", published(*port)]));
                words
            }
            Self::Remove { sandbox } => vec!["sandbox", "rm", sandbox],
            Self::Connect { sandbox, network } => vec!["network", "connect", network, sandbox],
            Self::Disconnect { sandbox, network } => {
                vec!["network", "disconnect", network, sandbox]
            }
            Self::Restart { .. } | Self::Ask => Vec::new(),
        }
    }
}

/// `-p PORT:7000`, once made for each port.
fn published(port: u16) -> &'static str {
    static WORDS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let words = WORDS.get_or_init(|| {
        (0..PORTS).map(|n| format!("{}:{SERVED}", u64::from(FIRST_PORT) + n)).collect()
    });
    &words[usize::from(port - FIRST_PORT)]
}

/// One request and whether it must be answered.
pub(super) struct Probe {
    /// Asked from inside, or from outside where none is named.
    pub(super) from: Option<Netns>,
    /// Whom.
    pub(super) target: SocketAddr,
    /// How.
    pub(super) transport: Transport,
    /// Whether an answer comes.
    pub(super) answers: bool,
}

impl Probe {
    /// Asks.
    pub(super) fn check(&self, outside: &Outside) -> Result<()> {
        let from = self.from.as_ref().unwrap_or(outside.netns());
        let mut asked = self.transport.ask(from, self.target);
        if asked.is_err() && self.answers {
            // A datagram may be lost where the machine is busy; twice is no accident.
            asked = self.transport.ask(from, self.target);
        }
        ensure!(
            asked.is_ok() == self.answers,
            "{} from {}: {}: {asked:?}",
            self.target,
            from.path().display(),
            if self.answers { "no answer" } else { "an answer that must not come" }
        );
        Ok(())
    }
}

/// A generator of numbers (`SplitMix64`): the same seed, the same run.
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    /// From a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next operation.
    pub(super) fn act(&mut self, expected: &Expected) -> Act {
        let network = format!("net{}", self.below(NETWORKS));
        let sandbox = format!("box{}", self.below(SANDBOXES));
        // A daemon lives for some hundred operations: long enough to show what grows.
        if self.below(RESTART_ONCE_IN) == 0 {
            return Act::Restart { crash: self.below(2) == 0 };
        }
        match self.below(100) {
            0..8 => Act::MakeNetwork { network },
            8..12 => Act::RemoveNetwork { network },
            12..37 => Act::Create { sandbox, network, ports: self.ports() },
            37..52 => Act::Remove { sandbox },
            52..67 => Act::Connect { sandbox, network },
            67..77 => Act::Disconnect { sandbox, network },
            _ if expected.is_empty() => Act::Create { sandbox, network, ports: self.ports() },
            _ => Act::Ask,
        }
    }

    fn ports(&mut self) -> Vec<u16> {
        let mut ports: Vec<u16> = Vec::new();
        for _ in 0..self.below(4) {
            let offset = u16::try_from(self.below(PORTS)).unwrap_or(0);
            let port = FIRST_PORT + offset;
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports
    }

    /// A few requests whose outcome the model knows.
    pub(super) fn probes(&mut self, expected: &Expected, host: &Host) -> Vec<Probe> {
        let members = expected.members();
        if members.is_empty() {
            return Vec::new();
        }
        let mut probes = Vec::new();
        for transport in Transport::ALL {
            let (from, _, _) = &members[self.index(members.len())];
            let (to, network, addresses) = &members[self.index(members.len())];
            let target = SocketAddr::new(addresses[self.index(2)], SERVED);
            let answers = expected.shares(from, to, network);
            // What must not answer costs the whole deadline: asked now and then.
            if from != to && (answers || self.below(8) == 0) {
                let from = expected.netns(from);
                probes.push(Probe { from, target, transport, answers });
            }
            if let Some(port) = self.published(expected) {
                let own: [IpAddr; 2] = [host.v4().into(), host.v6().into()];
                let target = SocketAddr::new(own[self.index(2)], port);
                probes.push(Probe { from: None, target, transport: Transport::Tcp, answers: true });
            }
        }
        probes
    }

    fn published(&mut self, expected: &Expected) -> Option<u16> {
        let ports = expected.published();
        if ports.is_empty() { None } else { Some(ports[self.index(ports.len())]) }
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
