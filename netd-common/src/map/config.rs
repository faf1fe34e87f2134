//! The live configuration of the kernel side.

use crate::addr::{Ipv4, Ipv6};
use crate::layout;

/// Slot 0 of map `config`. Times in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// Cookie of the host's network namespace (`SO_NETNS_COOKIE`): socket hooks act there only.
    pub host_netns_cookie: u64,
    /// Bumped whenever endpoints, networks, published ports, addresses or routes change; a flow
    /// entry of another generation is decided anew.
    pub generation: u32,
    /// `ConfigFlags`.
    pub flags: u32,
    /// First masquerade port, host order.
    pub snat_first: u16,
    /// Last masquerade port, host order, inclusive.
    pub snat_last: u16,
    /// Source that a container sees when it reaches itself through a published port.
    pub hairpin_v4: Ipv4,
    /// The same for IPv6.
    pub hairpin_v6: Ipv6,
    /// TCP before a reply.
    pub tcp_syn_s: u32,
    /// Established TCP (RFC 5382: at least 7 440).
    pub tcp_established_s: u32,
    /// TCP after a FIN.
    pub tcp_fin_s: u32,
    /// TCP after a RST.
    pub tcp_rst_s: u32,
    /// UDP before a reply.
    pub udp_s: u32,
    /// UDP after a reply.
    pub udp_assured_s: u32,
    /// ICMP echo.
    pub icmp_s: u32,
    /// Every other protocol.
    pub other_s: u32,
    /// Most events per second and CPU that go to the ring buffer.
    pub event_rate: u32,
    /// Most members one broadcast is replicated to.
    pub replication_limit: u32,
    /// ICMP errors of our own per second and CPU.
    pub icmp_error_rate: u32,
    /// As many of them at once.
    pub icmp_error_burst: u32,
    /// Until then, seconds of `CLOCK_MONOTONIC`, a TCP segment in mid-stream may open a flow: the
    /// flow table was lost under running connections.
    pub loose_until_s: u32,
    /// Always zero.
    pub pad: u32,
}

impl Config {
    /// All zero: no network, no flow survives.
    pub const ZERO: Self = Self {
        host_netns_cookie: 0,
        generation: 0,
        flags: 0,
        snat_first: 0,
        snat_last: 0,
        hairpin_v4: Ipv4(0),
        hairpin_v6: Ipv6([0; 4]),
        tcp_syn_s: 0,
        tcp_established_s: 0,
        tcp_fin_s: 0,
        tcp_rst_s: 0,
        udp_s: 0,
        udp_assured_s: 0,
        icmp_s: 0,
        other_s: 0,
        event_rate: 0,
        replication_limit: 0,
        icmp_error_rate: 0,
        icmp_error_burst: 0,
        loose_until_s: 0,
        pad: 0,
    };
}

/// `Config::flags`: write every verdict to the scratch map, for tests.
pub const TRACE_VERDICTS: u32 = 1;

layout!(Config, 96);
