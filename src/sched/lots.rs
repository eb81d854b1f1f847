//! What is left to a seed: where walks begin, who is passed over, which backend is drawn.

use alloc::vec::Vec;

use super::{Backends, Change, Entry, Flags, Place};
use crate::draw::{Draw, index};

/// Where a walk of the list begins when nothing that was picked says so.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Head,
    /// So far from the tail, in 2⁶⁴ parts of the list.
    Drawn(u64),
}

impl Start {
    pub(super) fn new(flags: Flags, seed: u64) -> Self {
        if flags.head { Self::Head } else { Self::Drawn(Draw::new(seed).next()) }
    }

    /// The index of the place to begin at.
    pub(super) fn index(self, backends: &Backends) -> usize {
        match self {
            Self::Head => usize::MAX,
            Self::Drawn(random) => index(random, backends.places()).0,
        }
    }
}

/// Passes over backends that start slowly.
#[derive(Clone, Debug)]
pub(super) struct Lots(Draw);

impl Lots {
    pub(super) fn new(seed: u64) -> Self {
        Self(Draw::new(seed))
    }

    /// Others, seeded from these.
    pub(super) fn another(&mut self) -> Self {
        Self::new(self.0.next())
    }

    /// The first of those that `next` yields to get the connection: one that starts slowly does as often as its share says.
    #[inline]
    pub(super) fn among(
        &mut self,
        backends: &Backends,
        mut next: impl FnMut() -> Option<Place>,
    ) -> Option<Place> {
        let place = next()?;
        if backends.any_starts_slowly() {
            return self.among_slow(backends, place, next);
        }
        Some(place)
    }

    #[cold]
    fn among_slow(
        &mut self,
        backends: &Backends,
        mut place: Place,
        mut next: impl FnMut() -> Option<Place>,
    ) -> Option<Place> {
        for _ in 0..PATIENCE {
            let share = backends.get(place).map_or(Entry::FULL_SHARE, Entry::share);
            if share == Entry::FULL_SHARE || self.0.below(Entry::FULL_SHARE.into()) < share.into() {
                break;
            }
            place = next()?;
        }
        Some(place)
    }
}

/// How often a lot is drawn again at most.
const PATIENCE: usize = 64;

/// Places with weights, drawn in proportion: one or two loads, however many there are.
///
/// Places of about the same weight, up to twice the least, are a class. A draw chooses a class by its sum, then any of its places,
/// and keeps that with the probability of its weight over the class's greatest: at least every other time. A change moves a place
/// from one class to another.
#[derive(Clone, Debug)]
pub(super) struct Urn {
    draw: Draw,
    /// Of each place.
    weights: Vec<u32>,
    /// Where each place is in its class.
    positions: Vec<usize>,
    classes: [Class; CLASSES],
    /// A bit for each class that is not empty.
    occupied: u32,
    total: u64,
}

#[derive(Clone, Debug, Default)]
struct Class {
    places: Vec<Place>,
    total: u64,
    /// No weight is greater.
    bound: u32,
}

const CLASSES: usize = 32;

impl Urn {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            draw: Draw::new(seed),
            weights: Vec::new(),
            positions: Vec::new(),
            classes: [const { Class { places: Vec::new(), total: 0, bound: 0 } }; CLASSES],
            occupied: 0,
            total: 0,
        }
    }

    /// The same places with other draws, seeded from these.
    pub(super) fn another(&mut self) -> Self {
        Self { draw: Draw::new(self.draw.next()), ..self.clone() }
    }

    /// Gives a place a weight; 0 takes it out.
    pub(super) fn set(&mut self, place: Place, weight: u32) {
        let at = place.index();
        let old = self.weights.get(at).copied().unwrap_or(0);
        if old == weight {
            return;
        }
        if old > 0 {
            self.take_out(place, old);
        }
        if weight > 0 {
            if self.weights.len() <= at {
                self.weights.resize(at + 1, 0);
                self.positions.resize(at + 1, 0);
            }
            let number = weight.ilog2();
            let class = &mut self.classes[number as usize];
            self.positions[at] = class.places.len();
            class.places.push(place);
            class.total += u64::from(weight);
            class.bound = class.bound.max(weight);
            self.occupied |= 1 << number;
            self.total += u64::from(weight);
        }
        self.weights[at] = weight;
    }

    fn take_out(&mut self, place: Place, weight: u32) {
        let number = weight.ilog2();
        let class = &mut self.classes[number as usize];
        let at = self.positions[place.index()];
        class.places.swap_remove(at);
        if let Some(moved) = class.places.get(at) {
            self.positions[moved.index()] = at;
        }
        class.total -= u64::from(weight);
        if class.places.is_empty() {
            class.bound = 0;
            self.occupied &= !(1 << number);
        }
        self.total -= u64::from(weight);
    }

    /// Heeds a change of the list, where `weight` is what a backend has.
    #[inline]
    pub(super) fn changed(
        &mut self,
        backends: &Backends,
        change: Change,
        weight: impl Fn(&Entry) -> u32,
    ) {
        // Nearly all changes are of counts, which are nothing to it.
        if !matches!(change, Change::Counted(_)) {
            self.heed(backends, change, weight);
        }
    }

    fn heed(&mut self, backends: &Backends, change: Change, weight: impl Fn(&Entry) -> u32) {
        match change {
            Change::Counted(_) => {}
            Change::Updated(place) | Change::Added(place) | Change::Edited(place) => {
                self.set(place, backends.get(place).map_or(0, weight));
            }
            Change::Removed(place) => self.set(place, 0),
            Change::Renumbered => {
                let draw = self.draw.clone();
                *self = Self { draw, ..Self::new(0) };
                for (place, entry) in backends.iter() {
                    self.set(place, weight(entry));
                }
            }
        }
    }

    /// Two different places, the first as probable as its weight says, the second as its weight among the others says; the same one
    /// twice if there is no other.
    pub(super) fn draw_two(&mut self) -> Option<(Place, Place)> {
        let first = self.draw()?;
        let weight = self.weights[first.index()];
        if self.total == u64::from(weight) {
            return Some((first, first));
        }
        for _ in 0..PATIENCE {
            let second = self.draw()?;
            if second != first {
                return Some((first, second));
            }
        }
        // One outweighs all others together by far.
        self.set(first, 0);
        let second = self.draw();
        self.set(first, weight);
        Some((first, second?))
    }

    /// A place, each as probable as its weight says.
    pub(super) fn draw(&mut self) -> Option<Place> {
        let number = self.class()?;
        let Self { draw, weights, classes, .. } = self;
        let class = &classes[number];
        let alike = class.total == u64::from(class.bound) * class.places.len() as u64;
        // At least every other try succeeds: after so many it makes no difference.
        for _ in 0..PATIENCE {
            let (at, rest) = index(draw.next(), class.places.len());
            let place = class.places[at];
            if alike || index(rest, class.bound as usize).0 < weights[place.index()] as usize {
                return Some(place);
            }
        }
        class.places.last().copied()
    }

    fn class(&mut self) -> Option<usize> {
        if !self.occupied.is_power_of_two() {
            let mut rest = self.draw.below(self.total);
            let mut left = self.occupied;
            while left != 0 {
                let number = left.trailing_zeros() as usize;
                let total = self.classes[number].total;
                if rest < total {
                    return Some(number);
                }
                rest -= total;
                left &= left - 1;
            }
            return None;
        }
        Some(self.occupied.trailing_zeros() as usize)
    }
}
