//! Settings of single interfaces under /proc/sys/net, in the calling thread's namespace.
//!
//! Law: only settings of interfaces that are ours; nothing under `all` or `default`. What is lent for
//! a moment is in `routers`.

use std::fs;
use std::path::PathBuf;

use super::{LinkError, routers};
use crate::fault;

/// An interface's settings, written before it comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    family: &'static str,
    table: &'static str,
    key: &'static str,
    value: &'static str,
}

impl Setting {
    fn path(&self, interface: &str) -> PathBuf {
        ["/proc/sys/net", self.family, self.table, interface, self.key].iter().collect()
    }
}

const fn ipv4(key: &'static str, value: &'static str) -> Setting {
    Setting { family: "ipv4", table: "conf", key, value }
}

const fn ipv6(key: &'static str, value: &'static str) -> Setting {
    Setting { family: "ipv6", table: "conf", key, value }
}

/// The interface takes no part in IPv6.
pub(super) const WITHOUT_IPV6: &[Setting] = &[ipv6("disable_ipv6", "1")];

/// IPv6 with addresses from us alone, usable at once: duplicates can't be, the model deals them out.
const WITH_IPV6: &[Setting] = &[
    ipv6("disable_ipv6", "0"),
    ipv6("accept_ra", "0"),
    ipv6("accept_dad", "0"),
    ipv6("addr_gen_mode", "0"),
];

/// A gateway device forwards IPv4: `bpf_fib_lookup` asks for it.
pub(super) const FORWARD_IPV4: &[Setting] = &[ipv4("forwarding", "1")];

/// A gateway device does not forward IPv4.
pub(super) const KEEP_IPV4: &[Setting] = &[ipv4("forwarding", "0")];

/// Loose reverse path filter, whatever `all` says: what a container sends to the host may be answered on
/// another way.
pub(super) const LOOSE_PATHS: &[Setting] = &[ipv4("rp_filter", "2")];

/// A gateway device forwards IPv6.
const FORWARD_IPV6: Setting = ipv6("forwarding", "1");

/// Neighbours are believed for a second or two. The kernel has one neighbour table for all namespaces
/// (`gc_thresh3`, 1 024 entries) and keeps an entry as long as it is believed; asking again costs
/// nothing here, because the programs answer.
pub(super) const FORGETFUL_IPV4: &[Setting] = &[neighbors("ipv4")];

/// The same for IPv6.
const FORGETFUL_IPV6: &[Setting] = &[neighbors("ipv6")];

const fn neighbors(family: &'static str) -> Setting {
    Setting { family, table: "neigh", key: "base_reachable_time_ms", value: "2000" }
}

/// Writes settings of one interface. IPv6 ones don't exist where the kernel runs without IPv6, and
/// then have nothing to turn off.
pub(super) fn write(interface: &str, settings: &[Setting]) -> Result<(), LinkError> {
    for setting in settings {
        fault::point();
        match put(interface, setting) {
            Err(LinkError::File { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && settings == WITHOUT_IPV6 => {}
            written => written?,
        }
    }
    Ok(())
}

fn put(interface: &str, setting: &Setting) -> Result<(), LinkError> {
    let path = setting.path(interface);
    fs::write(&path, setting.value).map_err(|source| LinkError::File {
        action: "write",
        path,
        source,
    })
}

/// Makes the interface forward IPv6. Even to say so again would cost the host its learned routers.
pub(super) fn forward_ipv6(interface: &str) -> Result<(), LinkError> {
    if forwards(interface, "ipv6") {
        return Ok(());
    }
    fault::point();
    routers::kept(|| put(interface, &FORWARD_IPV6))
}

/// Turns the interface's part in IPv6 on or off.
pub(super) fn write_ipv6(interface: &str, on: bool) -> Result<(), LinkError> {
    if !on {
        return write(interface, WITHOUT_IPV6);
    }
    write(interface, WITH_IPV6)?;
    write(interface, FORGETFUL_IPV6)
}

/// Whether the settings of a gateway device that no field of it tells are as they were written.
pub(super) fn is_gateway_as_written(interface: &str, has_ipv6: bool) -> bool {
    let ipv6: [&[Setting]; 2] = if has_ipv6 { [WITH_IPV6, FORGETFUL_IPV6] } else { [&[], &[]] };
    let settings = [LOOSE_PATHS, FORGETFUL_IPV4, ipv6[0], ipv6[1]];
    settings.iter().all(|settings| stand(interface, settings))
}

/// Whether settings are as they were written, those that the kernel doesn't have left aside.
pub(super) fn stand(interface: &str, settings: &[Setting]) -> bool {
    settings.iter().all(|setting| match fs::read_to_string(setting.path(interface)) {
        Ok(found) => found.trim() == setting.value,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    })
}

/// Whether the interface forwards packets of the family (`ipv4`, `ipv6`).
pub(super) fn forwards(interface: &str, family: &'static str) -> bool {
    is(interface, family, "forwarding", "1")
}

/// Whether the interface takes part in IPv6.
pub(super) fn has_ipv6(interface: &str) -> bool {
    is(interface, "ipv6", "disable_ipv6", "0")
}

fn is(interface: &str, family: &str, key: &str, value: &str) -> bool {
    fs::read_to_string(path_of(interface, family, key)).is_ok_and(|found| found.trim() == value)
}

fn path_of(interface: &str, family: &str, key: &str) -> PathBuf {
    ["/proc/sys/net", family, "conf", interface, key].iter().collect()
}
