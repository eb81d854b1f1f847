//! `wrr`: weighted round robin.
//!
//! A bar comes down from the greatest weight in steps of the weights' greatest common divisor. At each bar the list is walked from
//! head to tail, and every backend that reaches the bar is picked once; below the lowest bar it starts again at the top. Every add,
//! edit and removal puts the walk back to the head, and the bar roughly where it was. A backend that starts slowly is passed over
//! as often as its [share](super::Entry::share) says.
//!
//! The kernel walks; here a tree over places knows the greatest usable weight below each node, so that the next backend that
//! reaches the bar is found in O(log n), and the next bar that any reaches in O(1).

use super::{Backends, Change, Entry, Flags, Lots, Place, Scheduler, Start, gcd};
use crate::backend::Flow;
use alloc::vec;
use alloc::vec::Vec;

/// `wrr`: in turn, by weight.
#[derive(Clone, Debug)]
pub struct WeightedRoundRobin {
    walk: Walk,
    lots: Lots,
}

impl WeightedRoundRobin {
    /// One that has heard of no backend yet. The seed says where a walk begins, unless at the [head](Flags::head).
    pub fn new(flags: Flags, seed: u64) -> Self {
        let (weights, start) = (Weights::default(), Start::new(flags, seed));
        Self { walk: Walk { weights, cursor: None, bar: 0, start }, lots: Lots::new(!seed) }
    }

    fn heed(&mut self, backends: &Backends, change: Change) {
        let weights = &mut self.walk.weights;
        match change {
            Change::Counted(_) => {}
            Change::Updated(place) | Change::Added(place) | Change::Edited(place) => {
                weights.grow(backends.places());
                weights.set(place.index(), Weight::of(backends.get(place)));
            }
            Change::Removed(place) => weights.set(place.index(), Weight::default()),
            Change::Renumbered => {
                *weights = Weights::default();
                weights.grow(backends.places());
                for (place, entry) in backends.iter() {
                    weights.set(place.index(), Weight::of(Some(entry)));
                }
            }
        }
        if !matches!(change, Change::Counted(_) | Change::Updated(_)) {
            self.walk.reset();
        }
    }
}

#[derive(Clone, Debug)]
struct Walk {
    weights: Weights,
    /// The last one picked; `None` is where walks begin.
    cursor: Option<Place>,
    bar: u32,
    start: Start,
}

impl Walk {
    /// The step between bars.
    fn step(&self) -> u32 {
        self.weights.root().gcd.max(1)
    }

    fn highest(&self) -> u32 {
        self.weights.root().greatest.saturating_sub(self.step() - 1)
    }

    /// The list has changed: back to its head.
    fn reset(&mut self) {
        let (step, highest) = (self.step(), self.highest());
        self.cursor = None;
        if self.bar > highest || self.bar == 0 {
            self.bar = highest;
        } else if step > 1 {
            self.bar = self.bar / step * step + 1;
        }
    }

    fn next(&mut self, backends: &Backends) -> Option<Place> {
        if self.highest() == 0 {
            return None;
        }
        let usable = self.weights.root().usable;
        if usable == 0 {
            self.give_up();
            return None;
        }
        let from = match self.cursor {
            Some(cursor) => cursor.index(),
            None => self.start.index(backends).saturating_add(1),
        };
        let mut found = self.weights.last_before(from, self.bar);
        if found.is_none() {
            // The first bar below, round again if need be, that anybody reaches.
            self.bar = self.next_bar();
            if let Some(above) = self.bar.checked_sub(usable) {
                let steps = above.div_ceil(self.step());
                self.bar = self.bar.saturating_sub(steps * self.step()).max(1);
            }
            found = self.weights.last_before(usize::MAX, self.bar);
        }
        self.cursor = Some(backends.place_at(found?)?);
        self.cursor
    }

    /// The bar after this one.
    fn next_bar(&self) -> u32 {
        self.bar.checked_sub(self.step()).filter(|bar| *bar > 0).unwrap_or_else(|| self.highest())
    }

    /// Nobody is usable: the kernel's search comes to rest in one of two places.
    fn give_up(&mut self) {
        let lowest = self.bar <= self.step();
        if !(lowest && self.cursor.is_some()) {
            self.cursor = None;
            self.bar = self.highest();
        }
    }
}

impl Scheduler for WeightedRoundRobin {
    #[inline]
    fn changed(&mut self, backends: &Backends, change: Change) {
        if !matches!(change, Change::Counted(_)) {
            self.heed(backends, change);
        }
    }

    #[inline]
    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        self.lots.among(backends, || self.walk.next(backends))
    }

    fn another(&mut self, _: &Backends) -> Option<Self> {
        Some(Self { lots: self.lots.another(), ..self.clone() })
    }
}

/// What is known of a part of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    /// The greatest weight that is usable.
    usable: u32,
    /// The greatest weight.
    greatest: u32,
    /// The greatest common divisor of those above 0; 0 if there is none.
    gcd: u32,
}

impl Weight {
    fn of(entry: Option<&Entry>) -> Self {
        entry.map_or_else(Self::default, |entry| {
            let weight = entry.weight();
            Self { usable: if entry.usable() { weight } else { 0 }, greatest: weight, gcd: weight }
        })
    }

    fn with(self, other: Self) -> Self {
        Self {
            usable: self.usable.max(other.usable),
            greatest: self.greatest.max(other.greatest),
            gcd: gcd(self.gcd, other.gcd),
        }
    }
}

/// A binary tree over places: node 1 is the root, the children of `n` are `2n` and `2n + 1`.
#[derive(Clone, Debug, Default)]
struct Weights(Vec<Weight>);

impl Weights {
    fn leaves(&self) -> usize {
        self.0.len() / 2
    }

    fn root(&self) -> Weight {
        self.0.get(1).copied().unwrap_or_default()
    }

    fn grow(&mut self, places: usize) {
        let before = self.leaves();
        if places <= before {
            return;
        }
        let leaves = places.next_power_of_two();
        let mut nodes = vec![Weight::default(); 2 * leaves];
        nodes[leaves..leaves + before].copy_from_slice(&self.0[before..]);
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node].with(nodes[2 * node + 1]);
        }
        self.0 = nodes;
    }

    fn set(&mut self, place: usize, weight: Weight) {
        let mut node = self.leaves() + place;
        let Some(leaf) = self.0.get_mut(node).filter(|leaf| **leaf != weight) else { return };
        *leaf = weight;
        while node > 1 {
            node /= 2;
            let now = self.0[2 * node].with(self.0[2 * node + 1]);
            if self.0[node] == now {
                return;
            }
            self.0[node] = now;
        }
    }

    /// The last place before `end` whose usable weight reaches the bar: the first in the order of the list.
    fn last_before(&self, end: usize, bar: u32) -> Option<usize> {
        let leaves = self.leaves();
        let reaches = |node: usize| self.0.get(node).is_some_and(|weight| weight.usable >= bar);
        let mut node = if end >= leaves {
            Some(1).filter(|&root| reaches(root))?
        } else {
            // Climb until there is something to the left that reaches it.
            let mut node = leaves + end;
            loop {
                if node <= 1 {
                    return None;
                }
                if node % 2 == 1 && reaches(node - 1) {
                    break node - 1;
                }
                node /= 2;
            }
        };
        while node < leaves {
            node = if reaches(2 * node + 1) { 2 * node + 1 } else { 2 * node };
        }
        Some(node - leaves)
    }
}
