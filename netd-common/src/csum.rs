//! The Internet checksum, RFC 1071, and its incremental form, RFC 1624.
//!
//! Law: words are taken as they stand in memory. The one's complement sum does not care for byte
//! order as long as sum, words and result share it.
#![allow(
    clippy::cast_possible_truncation,
    reason = "each narrowing follows the fold that makes it exact"
)]

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let mut sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// What the sum over a header changes by when the word `from` becomes `to`: one term of the
/// difference that `fold32` closes and the kernel's checksum helpers take.
#[inline(always)]
pub const fn change(from: u32, to: u32) -> u64 {
    !from as u64 + to as u64
}

/// Folds a sum of `change` terms to the 32 bits that the kernel's checksum helpers take.
#[inline(always)]
pub const fn fold32(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// The sum over whole 32-bit words.
#[inline(always)]
pub fn sum(words: &[u32]) -> u64 {
    words.iter().fold(0, |sum, word| sum + u64::from(*word))
}

/// The checksum field after its data changed by `difference`: RFC 1624, equation 3.
#[inline(always)]
pub const fn adjusted(field: u16, difference: u32) -> u16 {
    !fold(!field as u64 + difference as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(words: &[u32]) -> u16 {
        !fold(sum(words))
    }

    #[test]
    fn an_incremental_change_equals_the_whole_sum_anew() {
        let mut words = [0x0102_0304u32, 0xffff_ffff, 0x8000_0001, 7];
        let mut field = full(&words);
        let mut seed = 1u32;
        for round in 0..10_000usize {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = round % words.len();
            let difference = fold32(change(words[slot], seed));
            words[slot] = seed;
            field = adjusted(field, difference);
            assert_eq!(field, full(&words), "round {round}");
        }
    }

    #[test]
    fn the_example_of_rfc_1624_holds() {
        assert_eq!(adjusted(0xdd2f, fold32(change(0x5555, 0x3285))), 0x0000);
    }
}
