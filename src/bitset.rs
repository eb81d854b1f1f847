//! A set of small integers that finds the next or previous member in a few loads at any fill.
//!
//! Sixty-four-ary: a bit of one level says whether a word of the level below has any bit. A search climbs
//! until a word has a candidate and comes down again: at most two loads a level.

use alloc::vec::Vec;

/// Members below 64 to the `LEVELS`: how many levels there are is fixed, for loops over them to be unrolled.
#[derive(Clone, Debug)]
pub(crate) struct Bitset<const LEVELS: usize = 6> {
    /// `levels[0]` holds the members; the last level is one word.
    levels: [Vec<u64>; LEVELS],
    len: usize,
}

impl<const LEVELS: usize> Default for Bitset<LEVELS> {
    fn default() -> Self {
        Self { levels: [const { Vec::new() }; LEVELS], len: 0 }
    }
}

const fn split(index: usize) -> (usize, usize) {
    (index / 64, index % 64)
}

impl<const LEVELS: usize> Bitset<LEVELS> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut set = Self::default();
        set.grow(capacity);
        set
    }

    /// The members `0..count`, with room for no more than the last word of them has.
    pub(crate) fn full(count: usize) -> Self {
        let mut set = Self::with_capacity(count);
        set.len = count;
        let mut members = count;
        for level in &mut set.levels {
            let (words, bits) = split(members);
            level[..words].fill(u64::MAX);
            if bits > 0 {
                level[words] = u64::MAX >> (64 - bits);
            }
            members = words + usize::from(bits > 0);
        }
        set
    }

    /// Makes room for members below `capacity`; members stay.
    pub(crate) fn grow(&mut self, capacity: usize) {
        let mut words = capacity;
        for level in &mut self.levels {
            words = words.div_ceil(64).max(1);
            if level.len() < words {
                level.resize(words, 0);
            }
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        let (word, bit) = split(index);
        self.levels[0].get(word).is_some_and(|w| w >> bit & 1 == 1)
    }

    /// Adds a member; true if it was not there. Beyond the capacity nothing is added.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let (word, bit) = split(index);
        let Some(members) = self.levels[0].get_mut(word) else { return false };
        let added = *members >> bit & 1 == 0;
        *members |= 1 << bit;
        self.len += usize::from(added);
        // All summaries, without a look whether there is need: that would be a coin's toss at many fills.
        let mut at = word;
        for level in &mut self.levels[1..] {
            let (word, bit) = split(at);
            level[word] |= 1 << bit;
            at = word;
        }
        added
    }

    /// Takes a member out; true if it was there.
    pub(crate) fn remove(&mut self, index: usize) -> bool {
        let (word, bit) = split(index);
        let Some(members) = self.levels[0].get_mut(word) else { return false };
        if *members >> bit & 1 == 0 {
            return false;
        }
        *members &= !(1 << bit);
        self.len -= 1;
        let empty = *members == 0;
        self.refresh(word, empty);
        true
    }

    /// Makes it a member or none, with room for it. That it is so already, which is looked for first, costs one load.
    pub(crate) fn set(&mut self, index: usize, member: bool) {
        if member == self.contains(index) {
            return;
        }
        if member {
            self.grow(index + 1);
            self.insert(index);
        } else {
            self.remove(index);
        }
    }

    /// Takes out all members of `from..to`.
    pub(crate) fn remove_run(&mut self, from: usize, to: usize) {
        let mut at = from;
        while at < to {
            let (word, bit) = split(at);
            let end = (word * 64 + 64).min(to);
            let mask = u64::MAX << bit & u64::MAX >> (63 - (end - 1) % 64);
            let Some(members) = self.levels[0].get_mut(word) else { return };
            self.len -= (*members & mask).count_ones() as usize;
            *members &= !mask;
            let empty = *members == 0;
            self.refresh(word, empty);
            at = end;
        }
    }

    /// Clears what the levels above say of a word of members, as far as that is empty.
    fn refresh(&mut self, word: usize, mut empty: bool) {
        let mut at = word;
        for level in &mut self.levels[1..] {
            let (word, bit) = split(at);
            level[word] &= !(u64::from(empty) << bit);
            // If the one below is not empty, this has its bit.
            empty = level[word] == 0;
            at = word;
        }
    }

    /// The least number that is at least `from` and no member: sixty-four a load. It may be one beyond the
    /// capacity.
    pub(crate) fn next_absent(&self, from: usize) -> usize {
        let (mut word, bit) = split(from);
        let mut mask = u64::MAX << bit;
        while let Some(members) = self.levels[0].get(word) {
            let absent = !members & mask;
            if absent != 0 {
                return word * 64 + absent.trailing_zeros() as usize;
            }
            mask = u64::MAX;
            word += 1;
        }
        from.max(word * 64)
    }

    /// The least member that is at least `from`.
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        let mut at = from;
        for (height, level) in self.levels.iter().enumerate() {
            let (word, bit) = split(at);
            let candidates = level.get(word)? & (u64::MAX << bit);
            if candidates != 0 {
                return Some(self.descend(
                    height,
                    word * 64 + candidates.trailing_zeros() as usize,
                    true,
                ));
            }
            at = word + 1;
        }
        None
    }

    /// The greatest member that is at most `to`.
    #[inline]
    pub(crate) fn prev(&self, to: usize) -> Option<usize> {
        let (word, bit) = split(to);
        // Nearly always it is in the same word.
        if let Some(members) = self.levels[0].get(word) {
            let candidates = members & (u64::MAX >> (63 - bit));
            if candidates != 0 {
                return Some(word * 64 + candidates.ilog2() as usize);
            }
        }
        self.climb_to_prev(to)
    }

    fn climb_to_prev(&self, to: usize) -> Option<usize> {
        let last = (self.levels[0].len() * 64).checked_sub(1)?;
        let mut at = to.min(last);
        for (height, level) in self.levels.iter().enumerate() {
            let (word, bit) = split(at);
            let candidates = level[word] & (u64::MAX >> (63 - bit));
            if candidates != 0 {
                let top = candidates.ilog2() as usize;
                return Some(self.descend(height, word * 64 + top, false));
            }
            at = word.checked_sub(1)?;
        }
        None
    }

    /// From a set bit of a level down to the first or last member under it.
    fn descend(&self, height: usize, mut at: usize, first: bool) -> usize {
        for level in self.levels[..height].iter().rev() {
            let word = level[at];
            let bit = if first { word.trailing_zeros() } else { word.ilog2() };
            at = at * 64 + bit as usize;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::Bitset;

    proptest! {
        /// Against the ordered set of the standard library, over three levels, growing on the way.
        #[test]
        fn agrees_with_btree_set(
            operations in prop::collection::vec((0_u8..8, 0_usize..300_000), 1..300),
            dense in prop::bool::ANY,
        ) {
            let mut set = Bitset::<4>::with_capacity(if dense { 200 } else { 1 });
            let mut model = BTreeSet::new();
            let mut capacity = if dense { 256 } else { 64 };
            for (kind, value) in operations {
                let value = if dense { value % 200 } else { value };
                match kind {
                    0 if value % 5 == 0 => {
                        set.remove_run(value, value + value % 700);
                        model.retain(|member| !(value..value + value % 700).contains(member));
                    }
                    0..=3 => {
                        if value >= capacity {
                            prop_assert!(!set.insert(value));
                            set.grow(value + 1);
                            capacity = (value + 1).next_multiple_of(64);
                        }
                        prop_assert_eq!(set.insert(value), model.insert(value));
                    }
                    4 | 5 => prop_assert_eq!(set.remove(value), model.remove(&value)),
                    6 => prop_assert_eq!(set.next(value), model.range(value..).next().copied()),
                    _ => prop_assert_eq!(set.prev(value), model.range(..=value).next_back().copied()),
                }
                prop_assert_eq!(set.contains(value), model.contains(&value));
                let absent = (value..=300_000).find(|value| !model.contains(value));
                prop_assert_eq!(Some(set.next_absent(value)), absent);
                prop_assert_eq!(set.len(), model.len());
            }
            let mut walked = Vec::new();
            let mut from = 0;
            while let Some(member) = set.next(from) {
                walked.push(member);
                from = member + 1;
            }
            prop_assert!(walked.into_iter().eq(model));
        }
    }

    #[test]
    fn a_full_set_has_every_member() {
        for count in [0, 1, 63, 64, 65, 4_095, 4_096, 4_097, 262_145] {
            let mut set = Bitset::<3>::full(count);
            assert_eq!((set.len(), set.next_absent(0), set.next(count)), (count, count, None));
            for from in [0, count / 2, count.saturating_sub(1)] {
                assert_eq!(set.next(from), Some(from).filter(|&from| from < count), "{count}");
            }
            set.remove_run(1, count);
            assert_eq!((set.len(), set.next(1)), (count.min(1), None), "{count}");
        }
    }
}
