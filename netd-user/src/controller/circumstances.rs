//! What a command is judged by: the clock, entropy and the host's port settings.

use std::collections::BTreeSet;
use std::io::Read;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::facts::HostFacts;
use crate::link::facts::PortSettings;
use crate::model::{Circumstances, EndpointId, Proto, Settings};

/// Docker's range where the kernel tells none.
const FALLBACK_PORTS: (u16, u16) = (49_153, 65_535);
/// What links have where no uplink says otherwise.
const FALLBACK_MTU: u32 = 1500;

/// What the controller asks of the machine beside the kernel's network.
pub trait Host: Send + 'static {
    /// Unix time, nanoseconds.
    fn now_ns(&mut self) -> i64;
    /// 32 bytes nobody can guess.
    fn entropy(&mut self) -> std::io::Result<[u8; 32]>;
    /// First and last port for random publishing.
    fn port_range(&mut self) -> (u16, u16);
    /// Ports that random publishing passes over.
    fn reserved_ports(&mut self) -> Vec<RangeInclusive<u16>>;
}

/// The machine we run on.
#[derive(Debug)]
pub struct ProcHost(Option<PortSettings>);

impl ProcHost {
    /// As seen from the calling thread's namespace.
    pub fn open() -> Self {
        let settings = PortSettings::open();
        let fallback = "ports are picked without the host's settings";
        Self(settings.inspect_err(|error| tracing::warn!(%error, "{fallback}")).ok())
    }
}

impl Host for ProcHost {
    fn now_ns(&mut self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
    }

    fn entropy(&mut self) -> std::io::Result<[u8; 32]> {
        let mut seed = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Ok(seed)
    }

    fn port_range(&mut self) -> (u16, u16) {
        let range = self.0.as_ref().and_then(|settings| settings.local_range().ok());
        range.unwrap_or(FALLBACK_PORTS)
    }

    fn reserved_ports(&mut self) -> Vec<RangeInclusive<u16>> {
        let reserved = self.0.as_ref().and_then(|settings| settings.reserved().ok());
        reserved.unwrap_or_default()
    }
}

/// Gathers what a command is judged by. `busy` are ports that an earlier try found taken, `departed`
/// endpoints whose sandbox has ended.
pub(super) fn gather<H: Host>(
    host: &mut H,
    seen: &HostFacts,
    settings: &Arc<Settings>,
    busy: &BTreeSet<(Proto, u16)>,
    departed: BTreeSet<EndpointId>,
) -> std::io::Result<Circumstances> {
    let nameservers = seen.resolver.servers.iter().map(|addr| (*addr).into());
    Ok(Circumstances {
        now_ns: host.now_ns(),
        seed: host.entropy()?,
        departed,
        occupied: seen.routes.iter().copied().chain(nameservers).collect(),
        host_addresses: seen.addresses.keys().copied().collect(),
        port_range: host.port_range(),
        reserved_ports: host.reserved_ports(),
        busy_ports: busy.clone(),
        uplink_mtu: seen.uplinks.first().map_or(FALLBACK_MTU, |uplink| uplink.mtu),
        settings: Arc::clone(settings),
    })
}
