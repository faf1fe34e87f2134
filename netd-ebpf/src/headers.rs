//! What may stand between the fixed IP header and the payload: IPv4 options, IPv6 extension headers.
//!
//! Law: they are walked to their end or the packet is not read at all: nothing hides behind them
//! from the steps that follow.

use netd_common::wire::{
    ETHERNET_LEN, IPV6_DESTINATION, IPV6_FRAGMENT, IPV6_HOP_BY_HOP, IPV6_ROUTING, IpHeader,
    Ipv4Header, Ipv6Fragment, OPTION_END, OPTION_LOOSE_ROUTE, OPTION_NOTHING, OPTION_STRICT_ROUTE,
    Part,
};

use crate::packet::PacketBuf;

/// More extension headers than this no sender has a use for.
const EXTENSIONS_MAX: u32 = 6;
/// Room for options in the longest IPv4 header, each at least one byte.
const OPTIONS_MAX: u32 = 40;

/// Where the payload begins, and what the headers on the way there said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Its offset in the frame; below 2^16.
    pub at: u32,
    /// Its protocol.
    pub proto: u8,
    /// Which part of a datagram it is.
    pub part: Part,
    /// Whether the packet names routers of its way that it has yet to visit.
    pub is_source_routed: bool,
    /// IPv6: the offset of what follows the fragment header; zero without one.
    pub share: u32,
}

impl Payload {
    /// In one register: what a function of the kernel's kind returns. Zero is no payload.
    #[inline(always)]
    pub fn word(found: Option<Self>) -> u64 {
        found.map_or(0, |it| {
            u64::from(it.at & 0xffff)
                | u64::from(it.proto) << 16
                | (it.part as u64) << 24
                | u64::from(it.is_source_routed) << 26
                | u64::from(it.share) << 32
        })
    }

    /// The reverse of `word`.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "each part is cut out at its own width")]
    pub fn from_word(word: u64) -> Option<Self> {
        let part = match word >> 24 & 3 {
            0 => Part::Whole,
            1 => Part::First,
            _ => Part::Later,
        };
        (word != 0).then_some(Self {
            at: word as u32 & 0xffff,
            proto: (word >> 16) as u8,
            part,
            is_source_routed: word >> 26 & 1 != 0,
            share: (word >> 32) as u32,
        })
    }
}

/// Whether a next header is one that `extensions` walks.
#[inline(always)]
pub const fn is_extension(proto: u8) -> bool {
    matches!(proto, IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_FRAGMENT | IPV6_DESTINATION)
}

/// Whether the options of an IPv4 header that ends at `end` are whole, and name routers.
#[inline(always)]
pub fn options<B: PacketBuf>(buf: &B, end: u32) -> Option<bool> {
    let mut at = ETHERNET_LEN + Ipv4Header::LEN;
    let mut is_source_routed = false;
    buf.repeat(OPTIONS_MAX, |buf, _| {
        let Some((len, names_routers)) = buf.option(at, end) else {
            at = u32::MAX;
            return true;
        };
        is_source_routed |= names_routers;
        at += len;
        at >= end
    });
    (at == end).then_some(is_source_routed)
}

/// The length of the option at `at`, and whether it names routers; the end of the list takes what
/// is left.
#[inline(always)]
pub fn option<B: PacketBuf>(buf: &B, at: u32, end: u32) -> Option<(u32, bool)> {
    let kind: u8 = buf.load(at)?;
    if kind == OPTION_END {
        return Some((end.wrapping_sub(at), false));
    }
    if kind == OPTION_NOTHING {
        return Some((1, false));
    }
    let len = u32::from(buf.load::<u8>(at + 1)?);
    let names_routers = kind == OPTION_LOOSE_ROUTE || kind == OPTION_STRICT_ROUTE;
    (len >= 2).then_some((len, names_routers))
}

/// Walks the extension headers from the first, of protocol `proto` at `at`. A later fragment ends
/// the walk: what follows is not a header.
#[inline(always)]
pub fn extensions<B: PacketBuf>(buf: &B, at: u32, proto: u8) -> Option<Payload> {
    let mut payload = Payload { at, proto, ..Payload::default() };
    let mut is_whole = true;
    buf.repeat(EXTENSIONS_MAX, |buf, _| {
        is_whole = step(buf, &mut payload).is_some();
        !is_whole || has_arrived(&payload)
    });
    (is_whole && has_arrived(&payload)).then_some(payload)
}

#[inline(always)]
const fn has_arrived(payload: &Payload) -> bool {
    matches!(payload.part, Part::Later) || !is_extension(payload.proto)
}

#[inline(always)]
fn step<B: PacketBuf>(buf: &B, payload: &mut Payload) -> Option<()> {
    if payload.proto == IPV6_FRAGMENT {
        // A fragment of a fragment would hide what the whole is.
        if payload.part != Part::Whole {
            return None;
        }
        let header: Ipv6Fragment = buf.load(payload.at)?;
        payload.part = header.part();
        payload.proto = header.proto;
        payload.at += 8;
        payload.share = payload.at;
        return Some(());
    }
    let [next, len, _, segments_left]: [u8; 4] = buf.load(payload.at)?;
    payload.is_source_routed |= payload.proto == IPV6_ROUTING && segments_left != 0;
    payload.proto = next;
    payload.at += (u32::from(len) + 1) * 8;
    Some(())
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::testing::Frame;

    const AT: u32 = 54;

    fn walk(first: u8, chain: &[u8]) -> Option<Payload> {
        let mut bytes = std::vec![0; AT as usize];
        bytes.extend(chain);
        extensions(&Frame { bytes, ..Frame::default() }, AT, first)
    }

    fn options_of(bytes: &[u8]) -> Option<bool> {
        let mut frame = std::vec![0; 34];
        frame.extend(bytes);
        let end = u32::try_from(frame.len()).unwrap();
        frame.extend([0; 8]);
        options(&Frame { bytes: frame, ..Frame::default() }, end)
    }

    #[test]
    fn a_payload_survives_its_word() {
        for part in [Part::Whole, Part::First, Part::Later] {
            let payload = Payload {
                at: 0xffff,
                proto: 255,
                part,
                is_source_routed: part == Part::First,
                share: u32::MAX,
            };
            assert_eq!(Payload::from_word(Payload::word(Some(payload))), Some(payload));
        }
        assert_eq!(Payload::from_word(Payload::word(None)), None);
    }

    #[test]
    fn extension_headers_are_walked_to_the_transport() {
        let hop_by_hop = [60, 0, 5, 2, 0, 0, 1, 0];
        let destination = [58, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let found = walk(0, &[&hop_by_hop[..], &destination].concat()).unwrap();
        assert_eq!((found.at, found.proto, found.part), (AT + 24, 58, Part::Whole));
    }

    #[test]
    fn first_fragment_is_walked_through_and_a_later_one_ends_the_walk() {
        let destination = [17, 0, 1, 4, 0, 0, 0, 0];
        let first = [60, 0, 0, 1, 1, 2, 3, 4];
        let found = walk(44, &[first, destination].concat()).unwrap();
        assert_eq!((found.at, found.proto, found.part), (AT + 16, 17, Part::First));
        assert_eq!(found.share, AT + 8, "its share of the datagram includes these options");
        let later = [60, 0, 0, 8, 1, 2, 3, 4];
        let found = walk(44, &[later, destination].concat()).unwrap();
        assert_eq!((found.at, found.proto, found.part), (AT + 8, 60, Part::Later));
    }

    #[test]
    fn routing_header_counts_while_it_has_routers_left() {
        for (left, routed) in [(0, false), (1, true)] {
            let found = walk(43, &[17, 0, 0, left, 0, 0, 0, 0]).unwrap();
            assert_eq!(found.is_source_routed, routed);
        }
    }

    #[test]
    fn chain_that_ends_early_goes_on_for_ever_or_fragments_a_fragment_is_not_read() {
        assert_eq!(walk(0, &[60, 0]), None);
        assert_eq!(walk(0, &[60, 9, 0, 0, 0, 0, 0, 0]), None, "the next header is not there");
        let endless: Vec<u8> = [60, 0, 1, 4, 0, 0, 0, 0].repeat(12);
        assert_eq!(walk(60, &endless), None);
        let fragment = [44, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(walk(44, &fragment.repeat(2)), None);
    }

    #[test]
    fn options_are_read_to_their_end() {
        assert_eq!(options_of(&[1, 1, 1, 0]), Some(false));
        assert_eq!(options_of(&[148, 4, 0, 0]), Some(false), "router alert");
        for route in [131, 137] {
            let mut hidden = [1; 40];
            hidden[37] = route;
            hidden[38] = 3;
            hidden[39] = 4;
            assert_eq!(options_of(&hidden), Some(true));
            assert_eq!(options_of(&[0, route, 3, 4]), Some(false), "behind the end of the list");
        }
    }

    #[test]
    fn option_that_lies_about_its_length_is_not_read() {
        for len in [0, 1, 5, 255] {
            assert_eq!(options_of(&[148, len, 0, 0]), None);
        }
    }
}
