//! The cheapest of many, kept as costs change.
//!
//! A winner tree, sixteen children to a node: the leaves are the places of the list, and each node above knows the best of its
//! children. A change costs one comparison where it does not touch a winner, and a look at sixteen neighbours a level where it
//! does; five levels serve a million backends, of which only the lowest is large. A heap would be as cheap, but could not say which
//! of several equally cheap backends comes first in the list; the kernel takes that one, and so does this tree, as it is over
//! places.
//!
//! A key is one number, so that finding the least of sixteen takes no branches: the cost, then the rank of the place among equals.
//! As long as all weights are alike, which they nearly always are, the cost is what it is. From the first weight that differs it is
//! divided by its weight, to so many places that the order is that of the fractions, exactly.

use alloc::vec::Vec;

use super::{Backends, Change, Entry, Flags, Place};
use crate::draw::Draw;

const WIDTH: usize = 16;

/// A cost per weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Less than the greatest number, which is that of no candidate.
    cost: u32,
    weight: u32,
}

impl Key {
    /// The key of a backend; `None` if it is not usable. While it starts slowly, what it has counts for more: it is level
    /// with the others as soon as it has its share of what they have.
    pub(super) fn new(entry: &Entry, cost: u32, weight: u32) -> Option<Self> {
        if !entry.usable() {
            return None;
        }
        let cost = if entry.share() < Entry::FULL_SHARE {
            let whole = u64::from(cost) * u64::from(Entry::FULL_SHARE);
            u32::try_from(whole.div_ceil(entry.share().into())).unwrap_or(u32::MAX)
        } else {
            cost
        };
        // Four thousand million connections are not told from one less.
        Some(Self { cost: cost.min(u32::MAX - 1), weight })
    }

    /// As the kernel compares: crosswise, without division.
    pub(super) const fn beats(self, other: Self) -> bool {
        (self.cost as u64) * (other.weight as u64) < (other.cost as u64) * (self.weight as u64)
    }
}

/// A key with a rank in its lowest 32 bits.
trait Number: Copy + Ord {
    fn new(key: Option<Key>, rank: u32) -> Self;
    fn rank(self) -> u32;
    fn is_candidate(self) -> bool;
}

/// The cost alone: weights are alike.
impl Number for u64 {
    fn new(key: Option<Key>, rank: u32) -> Self {
        Self::from(key.map_or(u32::MAX, |key| key.cost)) << 32 | Self::from(rank)
    }

    fn rank(self) -> u32 {
        low(self)
    }

    fn is_candidate(self) -> bool {
        self >> 32 < Self::from(u32::MAX)
    }
}

/// The cost by the weight, with 64 bits behind the point: fractions whose denominators have 31 bits at most differ by more than
/// that resolves, or not at all.
impl Number for u128 {
    fn new(key: Option<Key>, rank: u32) -> Self {
        let Some(Key { cost, weight }) = key else {
            return Self::MAX << 32 | Self::from(rank);
        };
        let divisor = u64::from(weight.max(1));
        let divide = |number: u64| (number / divisor, number % divisor);
        let (whole, rest) = divide(cost.into());
        let (high, rest) = divide(rest << 32);
        let (low, _) = divide(rest << 32);
        Self::from(whole << 32 | high) << 64 | Self::from(low << 32 | u64::from(rank))
    }

    fn rank(self) -> u32 {
        let bytes = self.to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn is_candidate(self) -> bool {
        self >> 96 < Self::from(u32::MAX)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn low(number: u64) -> u32 {
    number as u32
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    order: Order,
    keys: Keys,
    /// A place whose counts have changed since: connections that are picked are activated next, and that is one change then.
    pending: Option<Place>,
}

#[derive(Clone, Debug)]
enum Keys {
    /// All candidates so far have this weight, if there was one.
    Alike(Option<u32>, Winners<u64>),
    Mixed(Winners<u128>),
}

/// Which of equals comes first: every place has a rank of its own, and every rank is of one place.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// The head first: a greater place has a smaller rank.
    HeadFirst,
    /// Shuffled: an odd factor, its inverse, and what is added.
    Drawn { factor: u32, inverse: u32, shift: u32 },
}

impl Order {
    fn drawn(seed: u64) -> Self {
        let random = Draw::new(seed).next();
        let factor = low(random >> 32) | 1;
        // Each step doubles the bits that are right, of which an odd number squared has three.
        let inverse = (0..4).fold(factor, |inverse, _| {
            inverse.wrapping_mul(2_u32.wrapping_sub(factor.wrapping_mul(inverse)))
        });
        Self::Drawn { factor, inverse, shift: low(random) }
    }

    const fn rank(self, place: u32) -> u32 {
        match self {
            Self::HeadFirst => !place,
            Self::Drawn { factor, shift, .. } => {
                let mixed = place.wrapping_mul(factor).wrapping_add(shift);
                // Without it, ranks would be an even progression, whose ends come first too often.
                folded(folded(mixed).wrapping_mul(factor))
            }
        }
    }

    const fn place(self, rank: u32) -> u32 {
        match self {
            Self::HeadFirst => !rank,
            Self::Drawn { inverse, shift, .. } => {
                let mixed = folded(folded(rank).wrapping_mul(inverse));
                mixed.wrapping_sub(shift).wrapping_mul(inverse)
            }
        }
    }
}

/// The upper half laid over the lower one, which is its own inverse.
const fn folded(number: u32) -> u32 {
    number ^ number >> 16
}

impl Tree {
    pub(super) fn new(flags: Flags, seed: u64) -> Self {
        let order = if flags.head { Order::HeadFirst } else { Order::drawn(seed) };
        Self { order, keys: Keys::Alike(None, Winners::default()), pending: None }
    }

    /// Heeds a change of the list, where `key` is what a backend costs.
    pub(super) fn changed(
        &mut self,
        backends: &Backends,
        change: Change,
        key: impl Fn(&Entry) -> Option<Key>,
    ) {
        match change {
            Change::Counted(place) => {
                if self.pending != Some(place) {
                    self.settle(backends, key);
                    self.pending = Some(place);
                }
            }
            Change::Updated(place)
            | Change::Added(place)
            | Change::Edited(place)
            | Change::Removed(place) => {
                self.settle(backends, &key);
                self.set(backends, place, key);
            }
            Change::Renumbered => {
                self.pending = None;
                self.keys = Keys::Alike(None, Winners::default());
                for (place, _) in backends.iter() {
                    self.set(backends, place, &key);
                }
            }
        }
    }

    /// The place of the cheapest; of several, the one that comes first.
    pub(super) fn first(
        &mut self,
        backends: &Backends,
        key: impl Fn(&Entry) -> Option<Key>,
    ) -> Option<Place> {
        self.settle(backends, key);
        let rank = match &self.keys {
            Keys::Alike(_, winners) => winners.first(),
            Keys::Mixed(winners) => winners.first(),
        };
        backends.place_at(self.order.place(rank?) as usize)
    }

    fn settle(&mut self, backends: &Backends, key: impl Fn(&Entry) -> Option<Key>) {
        if let Some(place) = self.pending.take() {
            self.set(backends, place, key);
        }
    }

    fn set(&mut self, backends: &Backends, place: Place, key: impl Fn(&Entry) -> Option<Key>) {
        let (order, places) = (self.order, backends.places());
        let now = backends.get(place).and_then(&key);
        match &mut self.keys {
            Keys::Mixed(winners) => winners.set(order, places, place, now),
            Keys::Alike(common, winners) => {
                let weight = now.map(|key| *common.get_or_insert(key.weight) == key.weight);
                if weight.unwrap_or(true) {
                    return winners.set(order, places, place, now);
                }
                let mut winners = Winners::default();
                for (place, entry) in backends.iter() {
                    winners.set(order, places, place, key(entry));
                }
                self.keys = Keys::Mixed(winners);
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Winners<K> {
    /// `levels[0]` has the keys of all places, each other one the least of every sixteen of the one below. All have
    /// room for sixteen more or none; the last has one key.
    levels: Vec<Vec<K>>,
}

impl<K> Default for Winners<K> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<K: Number> Winners<K> {
    /// The rank of the first of all.
    fn first(&self) -> Option<u32> {
        let first = *self.levels.last()?.first()?;
        first.is_candidate().then(|| first.rank())
    }

    fn set(&mut self, order: Order, places: usize, place: Place, key: Option<Key>) {
        self.grow(places);
        let now = K::new(key, order.rank(place.0));
        let Some(leaf) = self.levels.first_mut().and_then(|leaves| leaves.get_mut(place.index()))
        else {
            return;
        };
        let (mut before, mut now) = (core::mem::replace(leaf, now), now);
        let mut node = place.index();
        for level in 1..self.levels.len() {
            node /= WIDTH;
            let winner = self.levels[level][node];
            let next = if winner != before {
                if now >= winner {
                    return;
                }
                now
            } else if now > winner {
                // The winner got worse: any of its neighbours may be better now.
                self.least(level - 1, node)
            } else {
                now
            };
            self.levels[level][node] = next;
            (before, now) = (winner, next);
        }
    }

    fn grow(&mut self, places: usize) {
        let room = places.next_multiple_of(WIDTH);
        if self.levels.first().is_some_and(|leaves| leaves.len() >= room) {
            return;
        }
        let (mut room, mut level) = (room, 0);
        loop {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            // A node that has got more children has the same winner: the new ones are no candidates.
            let (known, nobody) = (self.levels[level].len(), K::new(None, u32::MAX));
            self.levels[level].resize(room, nobody);
            if level > 0 {
                for node in known..self.levels[level - 1].len() / WIDTH {
                    self.levels[level][node] = self.least(level - 1, node);
                }
            }
            if room == 1 {
                return;
            }
            room /= WIDTH;
            if room > 1 {
                room = room.next_multiple_of(WIDTH);
            }
            level += 1;
        }
    }

    /// The least of a node's children, which are of this level.
    fn least(&self, level: usize, node: usize) -> K {
        let children = &self.levels[level][node * WIDTH..][..WIDTH];
        let mut half: [K; WIDTH / 2] =
            core::array::from_fn(|at| children[at].min(children[at + WIDTH / 2]));
        for width in [4, 2, 1] {
            for at in 0..width {
                half[at] = half[at].min(half[at + width]);
            }
        }
        half[0]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Key> {
        let cost = prop_oneof![0..9_u32, (u32::MAX - 9)..(u32::MAX - 1), 0..(u32::MAX - 1)];
        let weight =
            prop_oneof![1..9_u32, (i32::MAX as u32 - 9)..=i32::MAX as u32, 1..=i32::MAX as u32];
        (cost, weight).prop_map(|(cost, weight)| Key { cost, weight })
    }

    proptest! {
        /// The order of quotients is that of the products that the kernel compares, however near to each other they are.
        #[test]
        fn quotients_are_ordered_as_fractions(a in key(), b in key()) {
            let number = |key: Key| <u128 as Number>::new(Some(key), 7);
            prop_assert_eq!(number(a) < number(b), a.beats(b));
            prop_assert_eq!(number(a) == number(b), !a.beats(b) && !b.beats(a));
            prop_assert!(number(a).is_candidate() && number(a) < Number::new(None, 0));
            prop_assert_eq!(number(a).rank(), 7);
        }
    }

    /// Neighbours that only the last of the binary places tells apart.
    #[test]
    fn the_nearest_fractions_are_told_apart() {
        let most = i32::MAX as u32;
        let near = [(1, most), (1, most - 1), (most - 2, most), (most - 3, most - 1), (1, 1)];
        for pair in near.windows(2) {
            let [less, more] = [pair[0], pair[1]].map(|(cost, weight)| Key { cost, weight });
            let order =
                |a: Key, b: Key| <u128 as Number>::new(Some(a), 0).cmp(&Number::new(Some(b), 0));
            let expected = if less.beats(more) {
                core::cmp::Ordering::Less
            } else {
                core::cmp::Ordering::Greater
            };
            assert_eq!(order(less, more), expected, "{less:?} {more:?}");
        }
    }

    #[test]
    fn ranks_tell_places() {
        let orders = (0..100).map(Order::drawn).chain([Order::HeadFirst]);
        for order in orders {
            for place in [0, 1, 2, 15, 16, 4_095, 1 << 20, u32::MAX - 1] {
                assert_eq!(order.place(order.rank(place)), place, "{order:?}");
            }
        }
        assert!(Order::HeadFirst.rank(7) < Order::HeadFirst.rank(6));
    }
}
