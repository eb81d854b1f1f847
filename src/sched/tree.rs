//! The cheapest of many, kept as costs change.
//!
//! A winner tree, sixteen children to a node: the leaves are the places of the list, and each node above knows the best of its
//! children. A change costs one comparison where it does not touch a winner, and a look at sixteen neighbours a level where it
//! does; those of the lowest level, the only large one, share a cache line. Five levels serve a million backends. A heap would be
//! as cheap, but could not say which of several equally cheap backends comes first in the list; the kernel takes that one, and
//! so does this tree, as it is over places.
//!
//! As long as all weights are alike, which they nearly always are, a key is one number that compares by itself: the
//! cost, then the rank of the place among equals. Weights are kept, and looked at, from the first that differs.

use alloc::vec::Vec;

use super::{Backends, Change, Entry, Flags, Place};
use crate::draw::Draw;

const WIDTH: usize = 16;

/// A cost per weight. Compared by cross-multiplication, as in the kernel: exact, without division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    cost: u32,
    /// 0 is no candidate: it loses against all.
    weight: u32,
}

impl Key {
    const NONE: Self = Self { cost: u32::MAX, weight: 0 };

    /// The key of a backend, which is no candidate if it is not usable. While it starts slowly, what it has counts for more:
    /// it is level with the others as soon as it has its share of what they have.
    pub(super) fn new(entry: &Entry, cost: u32, weight: u32) -> Self {
        if !entry.usable() {
            return Self::NONE;
        }
        let cost = if entry.share() < Entry::FULL_SHARE {
            let whole = u64::from(cost) * u64::from(Entry::FULL_SHARE);
            u32::try_from(whole.div_ceil(entry.share().into())).unwrap_or(u32::MAX)
        } else {
            cost
        };
        // The greatest is what no candidate has: four thousand million connections are not told from one less.
        Self { cost: cost.min(u32::MAX - 1), weight }
    }

    pub(super) const fn beats(self, other: Self) -> bool {
        (self.cost as u64) * (other.weight as u64) < (other.cost as u64) * (self.weight as u64)
    }
}

/// A place's key with its rank among equals, less being better; the rank says which place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Winner {
    /// Cost, then rank.
    key: u64,
    weight: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    order: Order,
    /// The weight of all candidates so far; `None` before the first.
    weight: Option<u32>,
    /// Not all have it: weights are kept for each.
    mixed: bool,
    costs: Vec<Costs>,
    weights: Vec<[u32; WIDTH]>,
    /// `levels[0]` has the winners of the leaves, sixteen each; the last level is one winner.
    levels: Vec<Level>,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Costs([u32; WIDTH]);

#[derive(Clone, Debug, Default)]
struct Level {
    keys: Vec<u64>,
    /// Empty until weights are mixed.
    weights: Vec<u32>,
}

/// Which of equals comes first: every place has a rank of its own, `place * factor + shift`.
#[derive(Clone, Copy, Debug)]
struct Order {
    factor: u32,
    inverse: u32,
    shift: u32,
}

impl Order {
    /// The head first: a greater place has a smaller rank.
    const HEAD_FIRST: Self = Self { factor: u32::MAX, inverse: u32::MAX, shift: u32::MAX };

    fn drawn(seed: u64) -> Self {
        let random = Draw::new(seed).next();
        let factor = (random >> 32) as u32 | 1;
        // Each step doubles the bits that are right, of which an odd number squared has three.
        let inverse = (0..4).fold(factor, |inverse, _| {
            inverse.wrapping_mul(2_u32.wrapping_sub(factor.wrapping_mul(inverse)))
        });
        Self { factor, inverse, shift: (random & 0xffff_ffff) as u32 }
    }

    const fn rank(self, place: u32) -> u32 {
        place.wrapping_mul(self.factor).wrapping_add(self.shift)
    }

    const fn place(self, rank: u32) -> u32 {
        rank.wrapping_sub(self.shift).wrapping_mul(self.inverse)
    }
}

const fn joined(cost: u32, rank: u32) -> u64 {
    (cost as u64) << 32 | rank as u64
}

const fn rank(key: u64) -> u32 {
    (key & 0xffff_ffff) as u32
}

impl Winner {
    const fn beats(self, other: Self) -> bool {
        let (cost, other_cost) = (self.key >> 32, other.key >> 32);
        let (ours, theirs) = (cost * other.weight as u64, other_cost * self.weight as u64);
        ours < theirs || ours == theirs && rank(self.key) < rank(other.key)
    }
}

impl Tree {
    pub(super) fn new(flags: Flags, seed: u64) -> Self {
        Self::ordered(if flags.head { Order::HEAD_FIRST } else { Order::drawn(seed) })
    }

    const fn ordered(order: Order) -> Self {
        Self {
            order,
            weight: None,
            mixed: false,
            costs: Vec::new(),
            weights: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// Heeds a change of the list, where `key` is what a backend costs.
    pub(super) fn changed(
        &mut self,
        backends: &Backends,
        change: Change,
        key: impl Fn(&Entry) -> Key,
    ) {
        match change {
            Change::Updated(place) | Change::Added(place) | Change::Edited(place) => {
                if let Some(entry) = backends.get(place) {
                    self.grow(backends.places());
                    self.set(place, key(entry));
                }
            }
            Change::Removed(place) => self.set(place, Key::NONE),
            Change::Renumbered => {
                *self = Self::ordered(self.order);
                self.grow(backends.places());
                for (place, entry) in backends.iter() {
                    self.set(place, key(entry));
                }
            }
        }
    }

    /// The place of the cheapest; of several, the one that comes first.
    pub(super) fn first(&self, backends: &Backends) -> Option<Place> {
        let key = *self.levels.last()?.keys.first()?;
        if key >> 32 == u64::from(Key::NONE.cost) {
            return None;
        }
        backends.place_at(self.order.place(rank(key)) as usize)
    }

    fn grow(&mut self, places: usize) {
        let mut count = places.div_ceil(WIDTH);
        if count <= self.costs.len() {
            return;
        }
        self.costs.resize(count, Costs([Key::NONE.cost; WIDTH]));
        if self.mixed {
            self.weights.resize(count, [0; WIDTH]);
        }
        let mut level = 0;
        loop {
            if level == self.levels.len() {
                self.levels.push(Level::default());
            }
            // A node that has got more children has the same winner: the new ones are no candidates yet.
            for node in self.levels[level].keys.len()..count {
                let winner = self.best(level, node);
                self.levels[level].push(winner, self.mixed);
            }
            if count == 1 {
                return;
            }
            count = count.div_ceil(WIDTH);
            level += 1;
        }
    }

    /// From now on each candidate has a weight of its own.
    #[cold]
    fn mix(&mut self, weight: u32) {
        let of = |cost: u64| if cost == u64::from(Key::NONE.cost) { 0 } else { weight };
        self.mixed = true;
        self.weights = self.costs.iter().map(|block| block.0.map(|cost| of(cost.into()))).collect();
        for level in &mut self.levels {
            level.weights = level.keys.iter().map(|key| of(key >> 32)).collect();
        }
    }

    fn set(&mut self, place: Place, key: Key) {
        let (block, at) = (place.index() / WIDTH, place.index() % WIDTH);
        let Some(cost) = self.costs.get_mut(block).map(|block| &mut block.0[at]) else { return };
        let unchanged = *cost == key.cost;
        *cost = key.cost;
        if key.weight > 0 {
            let common = *self.weight.get_or_insert(key.weight);
            if !self.mixed && key.weight != common {
                self.mix(common);
            }
        }
        if self.mixed {
            let weight = &mut self.weights[block][at];
            if unchanged && *weight == key.weight {
                return;
            }
            *weight = key.weight;
        } else if unchanged {
            return;
        }
        let rank = self.order.rank(place.0);
        let now = Winner { key: joined(key.cost, rank), weight: key.weight };
        if self.mixed { self.climb_mixed(block, now) } else { self.climb(block, now.key) }
    }

    /// One leaf below a node has another key: the winners above it are looked at as far up as it matters.
    fn climb(&mut self, mut node: usize, mut now: u64) {
        let mut before = rank(now);
        for level in 0..self.levels.len() {
            let winner = self.levels[level].keys[node];
            let next = if rank(winner) != before {
                if now >= winner {
                    return;
                }
                now
            } else if now > winner {
                // The winner got worse: any of its neighbours may be better now.
                self.best_key(level, node)
            } else {
                now
            };
            self.levels[level].keys[node] = next;
            (before, now) = (rank(winner), next);
            node /= WIDTH;
        }
    }

    fn climb_mixed(&mut self, mut node: usize, mut now: Winner) {
        let mut before = rank(now.key);
        for level in 0..self.levels.len() {
            let winner = self.levels[level].winner(node);
            let next = if rank(winner.key) != before {
                if !now.beats(winner) {
                    return;
                }
                now
            } else if winner.beats(now) {
                self.best(level, node)
            } else {
                now
            };
            self.levels[level].keys[node] = next.key;
            self.levels[level].weights[node] = next.weight;
            (before, now) = (rank(winner.key), next);
            node /= WIDTH;
        }
    }

    /// The best child of a node.
    fn best(&self, level: usize, node: usize) -> Winner {
        if !self.mixed {
            return Winner { key: self.best_key(level, node), weight: 0 };
        }
        let child = |at: usize| {
            if level == 0 {
                let key = joined(self.costs[node].0[at], self.order.rank(leaf(node, at)));
                return Winner { key, weight: self.weights[node][at] };
            }
            self.levels[level - 1].winner(node * WIDTH + at)
        };
        let children = match level {
            0 => WIDTH,
            _ => (self.levels[level - 1].keys.len() - node * WIDTH).min(WIDTH),
        };
        (1..children)
            .map(child)
            .fold(child(0), |best, one| if one.beats(best) { one } else { best })
    }

    /// The same where all weights are alike.
    fn best_key(&self, level: usize, node: usize) -> u64 {
        if level == 0 {
            let mut rank = self.order.rank(leaf(node, 0));
            let mut best = u64::MAX;
            for &cost in &self.costs[node].0 {
                best = best.min(joined(cost, rank));
                rank = rank.wrapping_add(self.order.factor);
            }
            return best;
        }
        let below = &self.levels[level - 1].keys;
        let children = &below[node * WIDTH..below.len().min((node + 1) * WIDTH)];
        children.iter().copied().fold(u64::MAX, u64::min)
    }
}

impl Level {
    fn winner(&self, node: usize) -> Winner {
        Winner { key: self.keys[node], weight: self.weights[node] }
    }

    fn push(&mut self, winner: Winner, mixed: bool) {
        self.keys.push(winner.key);
        if mixed {
            self.weights.push(winner.weight);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "places are 32-bit numbers")]
const fn leaf(node: usize, at: usize) -> u32 {
    (node * WIDTH + at) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_tell_places() {
        let orders = (0..100).map(Order::drawn).chain([Order::HEAD_FIRST]);
        for order in orders {
            for place in [0, 1, 2, 15, 16, 4_095, 1 << 20, u32::MAX - 1] {
                assert_eq!(order.place(order.rank(place)), place, "{order:?}");
            }
        }
        assert!(Order::HEAD_FIRST.rank(7) < Order::HEAD_FIRST.rank(6));
    }
}
