//! Keys of the kernel side.

use super::super::FlowTable;
use super::super::raw::RawFlowTable;
use super::{Checked, Wrong};
use crate::compile::{CompileSettings, FlowTimeouts};

/// A smaller masquerade pool would exhaust on one busy remote.
const SNAT_PORTS_MIN: u16 = 256;
/// More than a CPU could send.
const ICMP_ERRORS_MAX: u32 = 1_000_000;

pub(super) fn snat_ports(given: Option<&str>) -> Checked<(u16, u16)> {
    let Some(text) = given else { return Ok((49_152, 65_535)) };
    let wrong = |what: &str| Err(Wrong("snat-ports", format!("'{text}' {what}")));
    let range = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    });
    match range {
        None => wrong("is no range: write FIRST-LAST such as '49152-65535'"),
        Some((first, last)) if first > last => wrong("runs backwards: write FIRST-LAST"),
        Some((first, _)) if first < 1024 => wrong("takes privileged ports: begin at 1024 or above"),
        Some((first, last)) if last - first < SNAT_PORTS_MIN - 1 => {
            wrong("is too small: at least 256 ports are needed")
        }
        Some(range) => Ok(range),
    }
}

pub(super) fn icmp_errors(rate: Option<u32>, burst: Option<u32>) -> Checked<(u32, u32)> {
    let default = CompileSettings::default().icmp_errors;
    match (rate.unwrap_or(default.0), burst.unwrap_or(default.1)) {
        (rate, _) if rate > ICMP_ERRORS_MAX => Err(Wrong(
            "icmp-error-rate",
            format!("{rate} is out of range: 0 (none) to {ICMP_ERRORS_MAX} in a second"),
        )),
        (_, burst) if !(1..=ICMP_ERRORS_MAX).contains(&burst) => Err(Wrong(
            "icmp-error-burst",
            format!("{burst} is out of range: 1 to {ICMP_ERRORS_MAX}; a rate of 0 sends none"),
        )),
        errors => Ok(errors),
    }
}

/// Longer than TCP's retransmissions take to reach their longest interval.
const TCP_LOOSE_S: u32 = 300;

pub(super) fn flow_table(raw: &RawFlowTable) -> Checked<FlowTable> {
    let default = FlowTimeouts::default();
    let timeout = |given: Option<u32>, default: u32| match given.unwrap_or(default) {
        0 => Err(Wrong("flow-table", "a timeout of 0 would forget each packet: use 1".to_owned())),
        seconds => Ok(seconds),
    };
    Ok(FlowTable {
        size: table_size(raw.size)?,
        embryonic_size: table_size(raw.embryonic_size)?,
        timeouts: FlowTimeouts {
            tcp_syn_s: timeout(raw.tcp_syn, default.tcp_syn_s)?,
            tcp_established_s: timeout(raw.tcp_established, default.tcp_established_s)?,
            tcp_fin_s: timeout(raw.tcp_fin, default.tcp_fin_s)?,
            tcp_rst_s: timeout(raw.tcp_rst, default.tcp_rst_s)?,
            udp_s: timeout(raw.udp, default.udp_s)?,
            udp_assured_s: timeout(raw.udp_assured, default.udp_assured_s)?,
            icmp_s: timeout(raw.icmp, default.icmp_s)?,
            other_s: timeout(raw.other, default.other_s)?,
        },
        tcp_loose_s: raw.tcp_loose.unwrap_or(TCP_LOOSE_S),
    })
}

fn table_size(given: Option<u32>) -> Checked<Option<u32>> {
    match given {
        Some(size) if !(1_024..=16_777_216).contains(&size) => Err(Wrong(
            "flow-table",
            format!("a size of {size} is out of range: 1024 to 16777216 entries"),
        )),
        size => Ok(size),
    }
}
