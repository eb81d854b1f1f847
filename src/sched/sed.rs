//! `sed`: shortest expected delay.
//!
//! The usable backend with the least (active + 1) / weight, exactly; of several, the one nearest to the head. Inactive
//! connections do not count, so that UDP, which is never active, always goes to the first of the greatest
//! weight.

use super::tree::{Key, Tree};
use super::{Backends, Change, Entry, Flags, Place, Scheduler};
use crate::backend::Flow;

/// `sed`: the shortest expected delay.
#[derive(Clone, Debug)]
pub struct ShortestExpectedDelay(Tree);

/// What `sed` and `nq` minimise.
pub(super) fn delay(entry: &Entry) -> Option<Key> {
    Key::new(entry, entry.active().wrapping_add(1), entry.weight())
}

impl ShortestExpectedDelay {
    /// One that has heard of no backend yet. The seed says which of equals comes first, unless it is the
    /// [head](Flags::head).
    pub fn new(flags: Flags, seed: u64) -> Self {
        Self(Tree::new(flags, seed))
    }
}

impl Scheduler for ShortestExpectedDelay {
    fn changed(&mut self, backends: &Backends, change: Change) {
        self.0.changed(backends, change, delay);
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        self.0.first(backends, delay)
    }
}
