//! Taken slots of a range that is too large for a bit each.
//!
//! A 64-ary tree over slots of up to 64 bits: in a level's word a bit says that all below it is taken, and a
//! word that has no bit, or whose own bit is set a level up, is not kept. So memory follows what is
//! taken: a word for a slot by itself, a few words for a run of any length; and a search for a free slot passes a
//! full subtree at once.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;

#[derive(Clone, Debug)]
pub(super) struct Sparse {
    /// Words by their place in their level, lowest level first: bit `b` of word `w` of level `l` is of the
    /// 64ˡ slots from `(64w + b) · 64ˡ` on. No word is 0 or all ones, but at the top.
    levels: Vec<BTreeMap<u64, u64>>,
}

/// The place of a slot's bit in a level.
const fn at(slot: u64, level: usize) -> (u64, u64) {
    let at = slot >> (6 * level);
    (at / 64, 1 << (at % 64))
}

// Calls that change or search are not inlined: the dense layout's, beside them, are short and would pay for their
// registers.
impl Sparse {
    /// Slots `0..size`, all free.
    pub(super) fn new(size: u64) -> Self {
        let bits = 64 - size.leading_zeros() as usize;
        Self { levels: alloc::vec![BTreeMap::new(); bits.div_ceil(6).max(1)] }
    }

    pub(super) fn has(&self, slot: u64) -> bool {
        self.level_of(slot).is_some()
    }

    /// Takes a slot; false if it is taken.
    #[inline(never)]
    pub(super) fn take(&mut self, slot: u64) -> bool {
        let within = self.levels.iter().enumerate().skip(1).any(|(level, words)| {
            let (word, bit) = at(slot, level);
            words.get(&word).is_some_and(|bits| bits & bit != 0)
        });
        !within && self.set(slot, 0)
    }

    /// Takes the slots `from..to`, all free, with nothing taken behind them.
    pub(super) fn take_run(&mut self, mut from: u64, to: u64) {
        while from < to {
            // The largest subtree that starts here and ends within.
            let fits = (to - from).ilog2().min(from.trailing_zeros()) as usize / 6;
            let level = fits.min(self.levels.len() - 1);
            self.set(from, level);
            from += 1 << (6 * level);
        }
    }

    /// Gives a slot back; false if it was free.
    #[inline(never)]
    pub(super) fn give(&mut self, slot: u64) -> bool {
        for level in 0..self.levels.len() {
            let (word, bit) = at(slot, level);
            let Entry::Occupied(mut entry) = self.levels[level].entry(word) else { continue };
            if entry.get() & bit == 0 {
                continue;
            }
            *entry.get_mut() &= !bit;
            if *entry.get() == 0 {
                entry.remove();
            }
            // The rest of the subtree is taken still.
            for below in 0..level {
                let (word, bit) = at(slot, below);
                self.levels[below].insert(word, !bit);
            }
            return true;
        }
        false
    }

    /// The first free slot from one on; it may be beyond the last one of the range.
    #[inline(never)]
    pub(super) fn next_free(&self, mut from: u64) -> Option<u64> {
        // Each round leaves a run of taken subtrees of one level behind: up the levels, and down again.
        while let Some(level) = self.level_of(from) {
            let (word, bit) = at(from, level);
            let bits = self.levels[level].get(&word)?;
            let free = !bits & !(bit - 1);
            let next =
                if free == 0 { word + 1 } else { word * 64 + u64::from(free.trailing_zeros()) };
            let level = level + usize::from(free == 0);
            from = next.checked_mul(1_u64.checked_shl(u32::try_from(6 * level).ok()?)?)?;
        }
        Some(from)
    }

    /// The first taken slot from one on.
    pub(super) fn next_taken(&self, from: u64) -> Option<u64> {
        let first = |(level, words): (usize, &BTreeMap<u64, u64>)| {
            let (word, bit) = at(from, level);
            let own = words.get(&word).map(|bits| (word, bits & !(bit - 1)));
            let (word, bits) = own
                .filter(|&(_, bits)| bits != 0)
                .or_else(|| words.range(word + 1..).next().map(|(&word, &bits)| (word, bits)))?;
            let start = (word * 64 + u64::from(bits.trailing_zeros())) << (6 * level);
            Some(start.max(from))
        };
        self.levels
            .iter()
            .enumerate()
            .filter(|(_, words)| !words.is_empty())
            .filter_map(first)
            .min()
    }

    /// The level whose bit says that the slot is taken.
    fn level_of(&self, slot: u64) -> Option<usize> {
        self.levels.iter().enumerate().position(|(level, words)| {
            let (word, bit) = at(slot, level);
            words.get(&word).is_some_and(|bits| bits & bit != 0)
        })
    }

    /// Marks the subtree of a level with a slot in it as taken, and those above that are full by that; false if it was
    /// marked.
    fn set(&mut self, slot: u64, level: usize) -> bool {
        let top = self.levels.len() - 1;
        for level in level..=top {
            let (word, bit) = at(slot, level);
            let bits = self.levels[level].entry(word).or_insert(0);
            if *bits & bit != 0 {
                return false;
            }
            *bits |= bit;
            if *bits != u64::MAX || level == top {
                break;
            }
            self.levels[level].remove(&word);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, Sparse};

    /// Also the bound of memory and of searches: a full subtree is one bit.
    #[test]
    fn what_is_taken_has_one_form() {
        let (from, to) = (60, 3 * 4_096 + 70);
        let mut run = Sparse::new(1 << 32);
        run.take_run(from, to);
        let words = |sparse: &Sparse| sparse.levels.iter().map(BTreeMap::len).sum::<usize>();
        assert_eq!(words(&run), 5, "{run:?}"); // 60..64, 64..4096, two blocks of 4096, one of 64, six more
        let mut one_by_one = Sparse::new(1 << 32);
        assert!((from..to).rev().all(|slot| one_by_one.take(slot)));
        assert_eq!(one_by_one.levels, run.levels);
        assert!([from, 4_096, to - 1].into_iter().all(|slot| run.give(slot) && run.take(slot)));
        assert_eq!(one_by_one.levels, run.levels);
        assert!((from..to).all(|slot| run.give(slot)));
        assert_eq!(words(&run), 0, "{run:?}");
    }
}
