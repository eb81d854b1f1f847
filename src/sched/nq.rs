//! `nq`: never queue.
//!
//! The first usable backend from the head that has no active connection, whatever its weight; if all have some, the one that
//! [`sed`](super::ShortestExpectedDelay) would pick. Inactive connections do not make a backend busy, so that UDP always
//! goes to the first usable one.
//!
//! The idle ones are a hierarchical bitset over places: the first is found in O(log₆₄ n).

use super::sed::delay;
use super::tree::Tree;
use super::{Backends, Change, Entry, Flags, Place, Scheduler, Start};
use crate::backend::Flow;
use crate::bitset::Bitset;

/// `nq`: an idle backend, or the shortest expected delay.
#[derive(Clone, Debug)]
pub struct NeverQueue {
    idle: Bitset,
    start: Start,
    delays: Tree,
}

impl NeverQueue {
    /// One that has heard of no backend yet. The seed says where the search begins, unless at the [head](Flags::head).
    pub fn new(flags: Flags, seed: u64) -> Self {
        let (idle, start) = (Bitset::default(), Start::new(flags, seed));
        Self { idle, start, delays: Tree::new(flags, seed) }
    }

    fn note(&mut self, backends: &Backends, place: Place) {
        let idle = |entry: &Entry| entry.usable() && entry.active() == 0;
        self.idle.set(place.index(), backends.get(place).is_some_and(idle));
    }
}

impl Scheduler for NeverQueue {
    fn changed(&mut self, backends: &Backends, change: Change) {
        match change {
            Change::Counted(place)
            | Change::Updated(place)
            | Change::Added(place)
            | Change::Edited(place)
            | Change::Removed(place) => self.note(backends, place),
            Change::Renumbered => {
                self.idle = Bitset::default();
                backends.iter().for_each(|(place, _)| self.note(backends, place));
            }
        }
        self.delays.changed(backends, change, delay);
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        let idle =
            self.idle.prev(self.start.index(backends)).or_else(|| self.idle.prev(usize::MAX));
        idle.map_or_else(|| self.delays.first(backends, delay), |index| backends.place_at(index))
    }
}
