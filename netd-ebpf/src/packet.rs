//! Where the bytes of a packet are.
//!
//! Law: everything is read and written by copy at an offset from the frame's first byte. There is
//! no reference into a packet, so none can go stale when a write moves the data. Checksums change
//! by differences only: a packet may carry a checksum that its device has yet to complete.

use bytemuck::Pod;
use netd_common::IfIndex;
use netd_common::map::fragment::HELD_LEN;
use netd_common::wire::Ethernet;

use crate::headers::{self, Payload};
use crate::verdict::Ledger;

/// How far into a frame `PacketBuf::head` reaches: to the end of a TCP header behind an IPv6 one.
pub const HEAD_LEN: u32 = 14 + 40 + 20;

/// The kernel would not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// What a transport checksum's difference comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// The addresses of the pseudo header, which a partial checksum includes.
    PseudoHeader,
    /// The payload, which a partial checksum leaves to the device.
    Payload,
}

/// A transport checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumField {
    /// Where it stands.
    pub offset: u32,
    /// UDP: zero says "none" and stays zero.
    pub zero_is_none: bool,
    /// The pseudo header is IPv6's.
    pub ipv6: bool,
}

/// A frame in the kernel or in a test.
pub trait PacketBuf {
    /// Length of the frame in bytes.
    fn frame_len(&self) -> u32;

    /// The interface whose hook it is seen at.
    fn ifindex(&self) -> IfIndex;

    /// Whether its destination MAC is the interface's own.
    fn is_for_host(&self) -> bool;

    /// Whether the stack received it elsewhere and forwards it, rather than having made it.
    fn is_forwarded(&self) -> bool;

    /// Whether it is several packets that a device has yet to cut apart, or has put together.
    fn is_super_packet(&self) -> bool;

    /// Whether it carries a VLAN tag that was taken out of the bytes.
    fn has_vlan_tag(&self) -> bool;

    /// `skb->mark`.
    fn mark(&self) -> u32;

    /// Sets `skb->mark`.
    fn set_mark(&mut self, mark: u32);

    /// Reads a header, or nothing if the frame ends before it does.
    fn load<T: Pod>(&self, offset: u32) -> Option<T>;

    /// As `load`, for what stands at a fixed place within the frame's first `HEAD_LEN` bytes: in the
    /// kernel a plain read.
    #[inline(always)]
    fn head<T: Pod>(&self, offset: u32) -> Option<T> {
        self.load(offset)
    }

    /// Copies the whole frame; its length, or nothing if it is longer.
    fn copy_out(&self, into: &mut [u8; HELD_LEN]) -> Option<u32>;

    /// Writes bytes; checksums are the caller's business.
    fn store<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Refused>;

    /// As `store`, where `head` reads.
    #[inline(always)]
    fn store_head<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Refused> {
        self.store(offset, value)
    }

    /// `Tables::repeat`, for a loop over the bytes.
    #[inline(always)]
    fn repeat<G: FnMut(&Self, u32) -> bool>(&self, rounds: u32, mut body: G)
    where
        Self: Sized,
    {
        for round in 0..rounds {
            if body(self, round) {
                return;
            }
        }
    }

    /// Puts an Ethernet header before a packet that came without one.
    fn push_ethernet(&mut self, header: &Ethernet) -> Result<(), Refused>;

    /// `headers::options`; in the kernel a function that the verifier looks at once.
    #[inline(always)]
    fn options(&self, end: u32) -> Option<bool>
    where
        Self: Sized,
    {
        headers::options(self, end)
    }

    /// `headers::option`, likewise.
    #[inline(always)]
    fn option(&self, at: u32, end: u32) -> Option<(u32, bool)>
    where
        Self: Sized,
    {
        headers::option(self, at, end)
    }

    /// `headers::extensions`, likewise.
    #[inline(always)]
    fn extensions(&self, at: u32, proto: u8) -> Option<Payload>
    where
        Self: Sized,
    {
        headers::extensions(self, at, proto)
    }

    /// Cuts the frame or makes it longer; what is new is written next.
    fn resize(&mut self, len: u32) -> Result<(), Refused>;

    /// Whether an interface takes it whole, or each of its segments.
    fn fits(&self, ifindex: IfIndex) -> bool;

    /// Applies a difference to an IPv4 header checksum.
    fn fold_header_checksum(&mut self, offset: u32, difference: u32) -> Result<(), Refused>;

    /// Applies a difference to a transport checksum.
    fn fold_checksum(
        &mut self,
        field: ChecksumField,
        cover: Cover,
        difference: u32,
    ) -> Result<(), Refused>;
}

/// A packet with what may be looked up for it: what every step works on.
#[derive(Debug)]
pub struct Io<B, T> {
    /// The bytes.
    pub buf: B,
    /// The tables.
    pub tables: T,
    /// Whom it is counted against.
    pub ledger: Ledger,
    /// The neighbour of a packet that leaves by an uplink, all zero for the kernel's own choice;
    /// an IPv4 address in the first word.
    pub next_hop: [u32; 4],
}

impl<B, T> Io<B, T> {
    /// A packet that is counted against nobody yet.
    #[inline(always)]
    pub const fn new(buf: B, tables: T) -> Self {
        Self {
            buf,
            tables,
            ledger: Ledger {
                endpoint: netd_common::EndpointIndex::NONE,
                network: netd_common::NetworkIndex::HOST,
            },
            next_hop: [0; 4],
        }
    }
}
