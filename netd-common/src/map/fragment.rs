//! Datagrams in fragments: what their first ones leave behind, which of their bytes have passed,
//! and the later ones that wait for a first.
//!
//! Law: what is known of a datagram counts for `LIFETIME_S`, as in a receiver's own reassembly; an
//! identification that is used again after that is another datagram's.

use super::counter::DropKey;
use crate::id::{Be16, NetworkIndex};
use crate::layout;

/// A datagram in fragments, as its hook sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FragmentKey {
    /// Where it is seen: a network, or the host's scope for uplinks.
    pub network: NetworkIndex,
    /// Source address; an IPv4 one in the first word.
    pub src: [u32; 4],
    /// Destination address, likewise.
    pub dst: [u32; 4],
    /// Identification, as it stands in the header.
    pub id: u32,
    /// IP protocol number.
    pub proto: u8,
    /// 4 or 6.
    pub version: u8,
    /// Always zero.
    pub pad: [u8; 2],
}

/// What a datagram's fragments leave behind for one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FragmentValue {
    /// Source port, or an echo's id.
    pub sport: Be16,
    /// Destination port, or an echo's id.
    pub dport: Be16,
    /// `FRAGMENT_*`.
    pub flags: u32,
    /// Slots of `FRAGMENTS_HELD` that were given to later fragments before the first came.
    pub waiting: u32,
    /// When the first of them came.
    pub born_s: u32,
}

/// `FragmentValue::flags`: the first fragment has come, and the ports are its.
pub const FRAGMENT_FIRST: u32 = 1;
/// `FragmentValue::flags`: the datagram may open a connection.
pub const FRAGMENT_OPENS: u32 = 2;

/// How long a datagram is waited for: as in the kernel's reassembly.
pub const LIFETIME_S: u32 = 30;

/// Whether what began then is past its time.
#[inline(always)]
pub const fn is_past(born_s: u32, now_s: u32) -> bool {
    now_s.wrapping_sub(born_s) > LIFETIME_S
}

/// Fragments are cut in units of this many bytes.
pub const UNIT_LEN: u32 = 8;
/// Units of the longest datagram.
pub const UNITS_MAX: u32 = 65_536 / UNIT_LEN;
/// Units of one word of `UnitsValue::words`.
pub const WORD_UNITS: u32 = u64::BITS;
/// Words of `UnitsValue::words`.
pub const WORDS: usize = (UNITS_MAX / WORD_UNITS) as usize;

/// Which units of a translated datagram have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct UnitsValue {
    /// When its first fragment came.
    pub born_s: u32,
    /// `UNITS_SPOILT` or nothing.
    pub flags: u16,
    /// The unit after the furthest that has passed.
    pub furthest: u16,
    /// How many have passed.
    pub passed: u32,
    /// How many there are; zero before the last fragment has said.
    pub total: u32,
    /// One bit for each.
    pub words: [u64; WORDS],
}

/// `UnitsValue::flags`: fragments overlapped, and no more of the datagram pass.
pub const UNITS_SPOILT: u16 = 1;

impl UnitsValue {
    /// Of a datagram of which nothing has passed.
    pub const NONE: Self =
        Self { born_s: 0, flags: 0, furthest: 0, passed: 0, total: 0, words: [0; WORDS] };
}

/// A row of units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Units {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Units {
    /// The unit after the last.
    #[inline(always)]
    pub const fn end(self) -> u32 {
        self.first + self.count
    }

    /// How many words of `UnitsValue::words` they touch, from the one of the first unit on.
    #[inline(always)]
    pub const fn words(self) -> u32 {
        // Shifts: a division that rounds up branches, and the verifier follows both ways.
        ((self.end() + WORD_UNITS - 1) >> WORD_UNITS.ilog2()).wrapping_sub(self.first / WORD_UNITS)
    }

    /// Their bits in a word.
    #[inline(always)]
    pub const fn mask(self, word: u32) -> u64 {
        let begin = word * WORD_UNITS;
        let from = self.first.saturating_sub(begin);
        let to = if self.end() < begin + WORD_UNITS { self.end() - begin } else { WORD_UNITS };
        (u64::MAX << (from & 63)) & (u64::MAX >> ((WORD_UNITS - to) & 63))
    }
}

/// A later fragment that waits for its first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct HeldKey {
    /// Its datagram.
    pub datagram: FragmentKey,
    /// Its place among those that wait, from 0.
    pub slot: u32,
}

/// Most fragments of one datagram that wait: as many as a 64 KiB datagram has at an MTU of 1280.
pub const HELD_MAX: u32 = 64;
/// The longest frame that waits.
pub const HELD_LEN: usize = 2_048;

const _: () = assert!(HELD_LEN.is_power_of_two(), "a mask bounds the length of a held frame");

/// The length of a frame that is held, 1 to `HELD_LEN` bytes: unchanged where it is one, and bounded
/// whatever it is, by a mask that every kernel's verifier follows.
#[inline(always)]
pub const fn held_len(len: u32) -> u32 {
    (len.wrapping_sub(1) & (HELD_LEN as u32 - 1)) + 1
}
/// How long one waits: reordering is a matter of milliseconds.
pub const HELD_S: u32 = 2;

/// Its frame, and what it is counted as if its first never comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct HeldValue {
    /// Since when.
    pub held_s: u32,
    /// Length of the frame.
    pub len: u32,
    /// The drop that it is if its first never comes; without a reason it is a copy, and the host's
    /// stack has the fragment itself.
    pub drop: DropKey,
    /// The frame.
    pub bytes: [u8; HELD_LEN],
}

layout!(
    FragmentKey, 44;
    FragmentValue, 16;
    UnitsValue, 1_040;
    HeldKey, 48;
    HeldValue, 2_068;
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_a_row_of_units_are_its_units_and_no_others() {
        for (first, count) in
            [(0, 1), (0, 64), (0, 65), (63, 2), (5, 185), (64, 64), (8_191, 1), (0, 8_192)]
        {
            let units = Units { first, count };
            let mut of_words = 0;
            for word in first / WORD_UNITS..first / WORD_UNITS + units.words() {
                let mask = units.mask(word);
                for bit in 0..WORD_UNITS {
                    let unit = word * WORD_UNITS + bit;
                    assert_eq!(
                        mask >> bit & 1 == 1,
                        (first..first + count).contains(&unit),
                        "{unit}"
                    );
                }
                of_words += mask.count_ones();
            }
            assert_eq!(of_words, count);
        }
    }

    #[test]
    fn what_is_known_of_a_datagram_counts_for_its_lifetime() {
        assert!(!is_past(100, 100 + LIFETIME_S));
        assert!(is_past(100, 101 + LIFETIME_S));
    }
}
