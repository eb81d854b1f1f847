//! Taken slots as one bit each: for ranges that a bitmap of their size can be afforded for.

use crate::bitset::Bitset;

#[derive(Clone, Debug)]
pub(super) struct Bitmap {
    /// The free slots: a search for a free one is then a search for a member.
    free: Bitset<4>,
}

impl Bitmap {
    /// The most slots, of four levels: two MiB of bits.
    pub(super) const MAX_SIZE: u64 = 1 << 24;

    /// Slots `0..size`, at most [`MAX_SIZE`](Self::MAX_SIZE), all free.
    pub(super) fn new(size: u64) -> Self {
        Self { free: Bitset::full(index(size)) }
    }

    pub(super) fn has(&self, slot: u64) -> bool {
        !self.free.contains(index(slot))
    }

    /// Takes a slot; false if it is taken.
    pub(super) fn take(&mut self, slot: u64) -> bool {
        self.free.remove(index(slot))
    }

    /// Takes the slots `from..to`.
    pub(super) fn take_run(&mut self, from: u64, to: u64) {
        self.free.remove_run(index(from), index(to));
    }

    /// Gives a slot back; false if it was free.
    pub(super) fn give(&mut self, slot: u64) -> bool {
        self.free.insert(index(slot))
    }

    /// The first free slot from one on.
    pub(super) fn next_free(&self, from: u64) -> Option<u64> {
        self.free.next(index(from)).map(|slot| slot as u64)
    }

    /// The first slot from one on that is not free; it may be the one behind the last.
    pub(super) fn next_taken(&self, from: u64) -> u64 {
        self.free.next_absent(index(from)) as u64
    }
}

/// Slots are below 2²⁴.
const fn index(slot: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^24")]
    {
        slot as usize
    }
}
