//! Slots `0..size`, some of them taken, in two bands.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

use crate::bitset::Bitset;

#[derive(Clone, Debug)]
pub(super) struct Bitmap {
    /// The free slots: a search for a free one is then a search for a member.
    free: Bitset,
    size: usize,
    /// Slots below it are the static band.
    offset: usize,
    rng: Pcg64Mcg,
}

impl Bitmap {
    pub(super) fn new(size: usize, offset: usize, seed: u64) -> Self {
        let mut free = Bitset::with_capacity(size);
        for slot in 0..size {
            free.insert(slot);
        }
        Self { free, size, offset: offset.min(size), rng: generator(seed) }
    }

    pub(super) const fn size(&self) -> usize {
        self.size
    }

    pub(super) const fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn has(&self, slot: usize) -> bool {
        slot < self.size && !self.free.contains(slot)
    }

    /// Takes a slot; false if it is taken or out of range.
    pub(super) fn allocate(&mut self, slot: usize) -> bool {
        self.free.remove(slot)
    }

    pub(super) fn allocate_next(&mut self) -> Option<usize> {
        let slot = self.search(self.offset, self.size).or_else(|| self.search(0, self.offset))?;
        self.free.remove(slot);
        Some(slot)
    }

    /// Gives a slot back; false if it was free.
    pub(super) fn release(&mut self, slot: usize) -> bool {
        slot < self.size && self.free.insert(slot)
    }

    /// The taken slots, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.size).filter(|&slot| self.has(slot))
    }

    fn search(&mut self, from: usize, to: usize) -> Option<usize> {
        let first = self.free.next(from).filter(|&slot| slot < to)?;
        let start = from + below(&mut self.rng, to - from);
        Some(self.free.next(start).filter(|&slot| slot < to).unwrap_or(first))
    }
}

/// The generator is fixed, and its start is spelled out here rather than left to a seeding helper whose
/// outcome a later release may change: two rounds of SplitMix64.
fn generator(seed: u64) -> Pcg64Mcg {
    let mix = |n: u64| {
        let z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    Pcg64Mcg::new(u128::from(mix(1)) << 64 | u128::from(mix(2)))
}

/// A number in `0..bound` by multiply and shift; 0 for an empty range.
fn below(rng: &mut Pcg64Mcg, bound: usize) -> usize {
    let product = u128::from(rng.next_u64()) * bound as u128;
    usize::try_from(product >> 64).unwrap_or(0)
}

/// The size of the static band: `size / divisor` held to 16 and `max`; none in ranges of up to 16.
pub(super) fn static_band(size: u64, divisor: u64, max: u64) -> usize {
    let band = if size <= 16 { 0 } else { (size / divisor).clamp(16, max) };
    usize::try_from(band).unwrap_or(0) // at most `max`, which is small
}
