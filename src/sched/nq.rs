//! `nq`: never queue.
//!
//! The first usable backend from the head that has no active connection, whatever its weight; if all have some, the one that
//! [`sed`](super::ShortestExpectedDelay) would pick. Inactive connections do not make a backend busy, so that UDP always
//! goes to the first usable one.
//!
//! The idle ones are a hierarchical bitset over places: the first is found in O(log₆₄ n).

use super::sed::delay;
use super::tree::Tree;
use super::{Backends, Change, Entry, Place, Scheduler};
use crate::backend::Flow;
use crate::bitset::Bitset;

/// `nq`: an idle backend, or the shortest expected delay.
#[derive(Clone, Debug, Default)]
pub struct NeverQueue {
    idle: Bitset,
    delays: Tree,
}

impl NeverQueue {
    fn note(&mut self, backends: &Backends, place: Place) {
        let idle = |entry: &Entry| entry.usable() && entry.active() == 0;
        let idle = backends.get(place).is_some_and(idle);
        if idle == self.idle.contains(place.index()) {
            return;
        }
        if idle {
            self.idle.grow(backends.places());
            self.idle.insert(place.index());
        } else {
            self.idle.remove(place.index());
        }
    }
}

impl Scheduler for NeverQueue {
    fn changed(&mut self, backends: &Backends, change: Change) {
        match change {
            Change::Added(place)
            | Change::Edited(place)
            | Change::Updated(place)
            | Change::Removed(place) => self.note(backends, place),
            Change::Renumbered => {
                self.idle = Bitset::with_capacity(backends.places());
                backends.iter().for_each(|(place, _)| self.note(backends, place));
            }
        }
        self.delays.changed(backends, change, delay);
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        let idle = self.idle.prev(usize::MAX).and_then(|index| backends.place_at(index));
        idle.or_else(|| self.delays.first(backends))
    }
}
