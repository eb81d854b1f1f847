//! The cheapest of many, kept as costs change.
//!
//! A winner tree, sixteen children to a node: the leaves are the places of the list, and each node above knows the best of its
//! children. A change costs one comparison where it does not touch a winner, and a look at sixteen neighbours (two or three cache
//! lines) a level where it does: five levels for a million backends, of which only the lowest is large. A heap would be as cheap,
//! but could not say which of several equally cheap backends comes first in the list; the kernel takes that one, and so
//! does this tree, as it is over places.

use alloc::vec::Vec;

use super::{Backends, Change, Entry, Place};

const WIDTH: usize = 16;

/// A cost per weight. Compared by cross-multiplication, as in the kernel: exact, without division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    cost: u32,
    /// 0 is no candidate: it loses against all.
    weight: u32,
}

impl Key {
    const NONE: Self = Self { cost: 1, weight: 0 };

    /// The key of a backend, which is no candidate if it is not usable.
    pub(super) const fn new(entry: &Entry, cost: u32, weight: u32) -> Self {
        if entry.usable() { Self { cost, weight } } else { Self::NONE }
    }

    const fn beats(self, other: Self) -> bool {
        (self.cost as u64) * (other.weight as u64) < (other.cost as u64) * (self.weight as u64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Winner {
    place: u32,
    key: Key,
}

impl Winner {
    /// Of equals the one nearer to the head, whose place is greater, comes first.
    const fn beats(self, other: Self) -> bool {
        if self.place > other.place {
            !other.key.beats(self.key)
        } else {
            self.key.beats(other.key)
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    keys: Vec<Key>,
    /// `levels[0]` has the winners of the keys, sixteen each; the last level is one winner.
    levels: Vec<Vec<Winner>>,
}

impl Tree {
    /// Heeds a change of the list, where `key` is what a backend costs.
    pub(super) fn changed(
        &mut self,
        backends: &Backends,
        change: Change,
        key: impl Fn(&Entry) -> Key,
    ) {
        match change {
            Change::Added(place) | Change::Edited(place) | Change::Updated(place) => {
                if let Some(entry) = backends.get(place) {
                    self.grow(backends.places());
                    self.set(place.index(), key(entry));
                }
            }
            Change::Removed(place) => self.set(place.index(), Key::NONE),
            Change::Renumbered => {
                *self = Self::default();
                self.grow(backends.places());
                for (place, entry) in backends.iter() {
                    self.set(place.index(), key(entry));
                }
            }
        }
    }

    /// The place of the cheapest; of several, the one nearest to the head.
    pub(super) fn first(&self, backends: &Backends) -> Option<Place> {
        let winner = self.levels.last()?.first().filter(|winner| winner.key.weight > 0)?;
        backends.place_at(winner.place as usize)
    }

    fn grow(&mut self, places: usize) {
        if places <= self.keys.len() {
            return;
        }
        self.keys.resize(places, Key::NONE);
        let (mut count, mut level) = (places, 0);
        loop {
            count = count.div_ceil(WIDTH);
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            // A node that has got more children has the same winner: the new ones are no candidates yet.
            for node in self.levels[level].len()..count {
                let winner = self.best(level, node);
                self.levels[level].push(winner);
            }
            if count == 1 {
                return;
            }
            level += 1;
        }
    }

    fn set(&mut self, place: usize, key: Key) {
        let Some(old) = self.keys.get_mut(place) else { return };
        let (mut before, mut now) = (leaf(place, *old), leaf(place, key));
        if before == now {
            return;
        }
        *old = key;
        let mut node = place;
        for level in 0..self.levels.len() {
            node /= WIDTH;
            let winner = self.levels[level][node];
            let next = if winner.place != before.place {
                if !now.beats(winner) {
                    return;
                }
                now
            } else if before.beats(now) {
                // The winner got worse: any of its neighbours may be better now.
                self.best(level, node)
            } else {
                now
            };
            if next == winner {
                return;
            }
            self.levels[level][node] = next;
            (before, now) = (winner, next);
        }
    }

    /// The best child of a node.
    fn best(&self, level: usize, node: usize) -> Winner {
        let from = node * WIDTH;
        let mut best = leaf(from, Key::NONE);
        if level == 0 {
            let keys = &self.keys[from..self.keys.len().min(from + WIDTH)];
            for (at, &key) in keys.iter().enumerate() {
                // In order of place: an equal one behind comes first.
                if !best.key.beats(key) {
                    best = leaf(from + at, key);
                }
            }
        } else {
            let below = &self.levels[level - 1];
            best = below[from];
            for &winner in &below[from + 1..below.len().min(from + WIDTH)] {
                if !best.key.beats(winner.key) {
                    best = winner;
                }
            }
        }
        best
    }
}

#[expect(clippy::cast_possible_truncation, reason = "places are 32-bit numbers")]
const fn leaf(place: usize, key: Key) -> Winner {
    Winner { place: place as u32, key }
}
