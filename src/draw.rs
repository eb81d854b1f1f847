//! Numbers from a seed: the same on every platform and with every release.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng as _;

#[derive(Clone, Debug)]
pub(crate) struct Draw(Pcg64Mcg);

impl Draw {
    /// The generator is fixed, and its start is spelled out here rather than left to a seeding helper whose
    /// outcome a later release may change: two rounds of SplitMix64.
    pub(crate) fn new(seed: u64) -> Self {
        let mix = |n: u64| {
            let z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self(Pcg64Mcg::new(u128::from(mix(1)) << 64 | u128::from(mix(2))))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound` by multiply and shift; 0 for an empty range.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        halves(self.next(), bound).0
    }
}

/// Where a number of 64 random bits falls in `0..count`, and how far from there to the next in 2⁶⁴ parts, which
/// is as good as random unless the count is very great.
#[expect(clippy::cast_possible_truncation, reason = "less than the count")]
pub(crate) fn index(random: u64, count: usize) -> (usize, u64) {
    let (index, rest) = halves(random, count as u64);
    (index as usize, rest)
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of the product")]
fn halves(random: u64, bound: u64) -> (u64, u64) {
    let product = u128::from(random) * u128::from(bound);
    ((product >> 64) as u64, product as u64)
}
