//! A small generator (splitmix64 to seed, xoshiro256++ to draw) for ids, MACs and names.
//!
//! Law: the same seed draws the same values, so `apply` stays a function of its arguments. Nothing
//! here is a secret: ids need to be distinct, not unpredictable.

use netd_common::MacAddr;

/// The generator's state.
#[derive(Clone, Debug)]
pub struct Rand {
    state: [u64; 4],
}

impl Rand {
    /// Starts from the seed of a command.
    pub fn new(seed: [u8; 32]) -> Self {
        let mut mixed = 0;
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks(8)) {
            let given = bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            *word = splitmix(&mut mixed) ^ given;
        }
        Self { state: spread(state) }
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        let s = &mut self.state;
        let drawn = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        drawn
    }

    /// The bytes of an id.
    pub fn id(&mut self) -> [u8; 32] {
        let mut id = [0; 32];
        for bytes in id.chunks_mut(8) {
            bytes.copy_from_slice(&self.draw().to_be_bytes());
        }
        id
    }

    /// A locally administered unicast MAC.
    pub fn mac(&mut self) -> MacAddr {
        let drawn = self.draw().to_be_bytes();
        let mut mac = std::array::from_fn(|at| drawn[at]);
        mac[0] = mac[0] & 0xfc | 0x02;
        MacAddr(mac)
    }

    /// One of some words; the slice has at least one.
    pub fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let at = self.draw() % words.len() as u64;
        words[usize::try_from(at).unwrap_or(0)]
    }
}

/// Carries every seed bit into every word; all zero, which would draw zeros for ever, is left out.
fn spread(state: [u64; 4]) -> [u64; 4] {
    let mut mixed = 0;
    for word in state.iter().chain(&state) {
        mixed ^= word;
        splitmix(&mut mixed);
        mixed = mixed.rotate_left(29) ^ splitmix(&mut mixed);
    }
    let spread = state.map(|word| splitmix(&mut mixed) ^ word);
    if spread == [0; 4] { [1; 4] } else { spread }
}

/// Steele, Lea and Flood's mixer.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn neighbouring_seeds_draw_different_values() {
        let drawn: BTreeSet<_> = (0..=255)
            .flat_map(|byte| [0, 15, 31].map(|at| (at, byte)))
            .filter(|(at, byte)| *at == 0 || *byte != 0)
            .map(|(at, byte)| {
                let mut seed = [0; 32];
                seed[at] = byte;
                Rand::new(seed).id()
            })
            .collect();
        assert_eq!(drawn.len(), 256 + 255 + 255);
    }

    #[test]
    fn macs_are_local_and_unicast() {
        let mut rand = Rand::new([7; 32]);
        for _ in 0..1_000 {
            let mac = rand.mac();
            assert!(!mac.is_group());
            assert_eq!(mac.0[0] & 2, 2);
        }
    }
}
