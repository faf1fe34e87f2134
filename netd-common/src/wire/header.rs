//! Where the fields of either family's IP header stand.

use super::{IpFields, Ipv4Header, Ipv6Header, Part, part};
use crate::addr::{Family, Ipv4, Ipv6, V4, V6};
use crate::csum;

/// A family's fixed header and where its fields stand.
pub trait IpHeader<F: Family>: bytemuck::Pod {
    /// Length of the fixed header.
    const LEN: u32;
    /// Offset of the time to live.
    const TTL: u32;
    /// Offset of the source address; the destination follows it at once.
    const ADDRESSES: u32;
    /// Offset of the header checksum, where the family has one.
    const CHECKSUM: Option<u32>;
    /// Offset of the word before the source address, which the time to live stands in.
    const LIFE: u32;
    /// `IpFields::total_len` of a super-packet that no field has room for the length of (BIG TCP).
    const BEYOND: u32;

    /// That word.
    fn life(&self) -> u32;

    /// That word with another time to live, after the whole header's sum changed by `difference`.
    fn with_ttl(life: u32, ttl: u8, difference: u32) -> u32;

    /// The fields, or nothing if the header lies about itself.
    fn fields(&self) -> Option<IpFields<F::Addr>>;
}

impl IpHeader<V4> for Ipv4Header {
    const LEN: u32 = 20;
    const TTL: u32 = 8;
    const ADDRESSES: u32 = 12;
    const CHECKSUM: Option<u32> = Some(10);
    const LIFE: u32 = 8;
    const BEYOND: u32 = 0;

    #[inline(always)]
    fn life(&self) -> u32 {
        let checksum = self.checksum.to_ne_bytes();
        u32::from_ne_bytes([self.ttl, self.proto, checksum[0], checksum[1]])
    }

    #[inline(always)]
    fn with_ttl(life: u32, ttl: u8, difference: u32) -> u32 {
        let [_, proto, a, b] = life.to_ne_bytes();
        let [a, b] = csum::adjusted(u16::from_ne_bytes([a, b]), difference).to_ne_bytes();
        u32::from_ne_bytes([ttl, proto, a, b])
    }

    #[inline(always)]
    fn fields(&self) -> Option<IpFields<Ipv4>> {
        let header_len = u32::from(self.version_ihl & 0xf) * 4;
        let total_len = u32::from(self.total_len.get());
        let lies = total_len < header_len && total_len != Self::BEYOND;
        if self.version_ihl >> 4 != 4 || header_len < 20 || lies {
            return None;
        }
        Some(IpFields {
            src: self.src,
            dst: self.dst,
            proto: self.proto,
            ttl: self.ttl,
            part: part(self.fragment.get() & 0x1fff, self.fragment.get() & 0x2000),
            header_len,
            total_len,
        })
    }
}

impl IpHeader<V6> for Ipv6Header {
    const LEN: u32 = 40;
    const TTL: u32 = 7;
    const ADDRESSES: u32 = 8;
    const CHECKSUM: Option<u32> = None;
    const LIFE: u32 = 4;
    const BEYOND: u32 = Self::LEN;

    #[inline(always)]
    fn life(&self) -> u32 {
        let len = self.payload_len.0.to_ne_bytes();
        u32::from_ne_bytes([len[0], len[1], self.proto, self.ttl])
    }

    #[inline(always)]
    fn with_ttl(life: u32, ttl: u8, _difference: u32) -> u32 {
        let [a, b, proto, _] = life.to_ne_bytes();
        u32::from_ne_bytes([a, b, proto, ttl])
    }

    #[inline(always)]
    fn fields(&self) -> Option<IpFields<Ipv6>> {
        if self.version_flow.to_ne_bytes()[0] >> 4 != 6 {
            return None;
        }
        Some(IpFields {
            src: self.src,
            dst: self.dst,
            proto: self.proto,
            ttl: self.ttl,
            part: Part::Whole,
            header_len: 40,
            total_len: 40 + u32::from(self.payload_len.get()),
        })
    }
}
