//! `wlc`: weighted least connection.
//!
//! As [`lc`](super::LeastConnection), but the connections count per weight: the usable backend with the least
//! (256 · active + inactive) / weight, exactly. With no connections at all, the one nearest to the head is
//! picked whatever the weights.

use super::lc::overhead;
use super::tree::{Key, Tree};
use super::{Backends, Change, Entry, Flags, Place, Scheduler};
use crate::backend::Flow;

/// `wlc`: the fewest connections per weight.
#[derive(Clone, Debug)]
pub struct WeightedLeastConnection(Tree);

/// What `wlc` and `p2c` compare.
pub(super) fn loads(entry: &Entry) -> Option<Key> {
    Key::new(entry, overhead(entry), entry.weight())
}

impl WeightedLeastConnection {
    /// One that has heard of no backend yet. The seed says which of equals comes first, unless it is the
    /// [head](Flags::head).
    pub fn new(flags: Flags, seed: u64) -> Self {
        Self(Tree::new(flags, seed))
    }
}

impl Scheduler for WeightedLeastConnection {
    fn changed(&mut self, backends: &Backends, change: Change) {
        self.0.changed(backends, change, loads);
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        self.0.first(backends, loads)
    }
}
