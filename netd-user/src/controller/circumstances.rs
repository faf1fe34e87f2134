//! What a command is judged by: the clock, entropy and the host's port settings.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::facts::HostFacts;
use crate::model::{Circumstances, Proto, Settings};

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
    fn reserved_ports(&mut self) -> BTreeSet<u16>;
}

/// The machine we run on.
#[derive(Debug, Default)]
pub struct ProcHost;

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
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        text.ok().and_then(|text| parse_range(&text)).unwrap_or(FALLBACK_PORTS)
    }

    fn reserved_ports(&mut self) -> BTreeSet<u16> {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports");
        text.map(|text| parse_reserved(&text)).unwrap_or_default()
    }
}

/// Gathers what a command is judged by. `busy` are ports that an earlier try found taken.
pub(super) fn gather<H: Host>(
    host: &mut H,
    facts: &HostFacts,
    settings: &Arc<Settings>,
    busy: &BTreeSet<(Proto, u16)>,
) -> std::io::Result<Circumstances> {
    let port_range = host.port_range();
    let mut busy_ports = passed_over(&host.reserved_ports(), port_range);
    busy_ports.extend(busy);
    let nameservers = facts.nameservers.iter().map(|addr| (*addr).into());
    Ok(Circumstances {
        now_ns: host.now_ns(),
        seed: host.entropy()?,
        occupied: facts.routes.iter().copied().chain(nameservers).collect(),
        host_addresses: facts.addresses.keys().copied().collect(),
        port_range,
        busy_ports,
        uplink_mtu: facts.uplinks.first().map_or(FALLBACK_MTU, |uplink| uplink.mtu),
        settings: Arc::clone(settings),
    })
}

/// Reserved ports of the range, for every protocol. Ten thousands as a rule: built in order, at once.
fn passed_over(reserved: &BTreeSet<u16>, (first, last): (u16, u16)) -> BTreeSet<(Proto, u16)> {
    let within: Vec<u16> = reserved.range(first..=last.max(first)).copied().collect();
    let ports = |proto| within.iter().map(move |port| (proto, *port));
    [Proto::Tcp, Proto::Udp, Proto::Sctp].into_iter().flat_map(ports).collect()
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_whitespace().map(str::parse);
    let (first, last) = (ports.next()?.ok()?, ports.next()?.ok()?);
    (first <= last).then_some((first, last))
}

fn parse_reserved(text: &str) -> BTreeSet<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_port_settings_are_read_as_written() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(parse_range("60999 32768"), None);
        assert_eq!(parse_range(""), None);
        assert_eq!(
            parse_reserved("80,49152-49154\n"),
            BTreeSet::from([80, 49_152, 49_153, 49_154])
        );
        assert_eq!(parse_reserved("\n"), BTreeSet::new());
    }
}
