//! `lc`: least connection.
//!
//! The usable backend with the least 256 · active + inactive connections; of several, the one nearest to the head of the
//! list. The sum is of 32 bits and wraps, as in the kernel. Weights above 0 do not matter.

use super::tree::{Key, Tree};
use super::{Backends, Change, Entry, Flags, Place, Scheduler};
use crate::backend::Flow;

/// `lc`: the fewest connections.
#[derive(Clone, Debug)]
pub struct LeastConnection(Tree);

/// What `lc` and `wlc` count: an active connection is as heavy as 256 inactive ones.
pub(super) const fn overhead(entry: &Entry) -> u32 {
    entry.active().wrapping_mul(256).wrapping_add(entry.inactive())
}

fn key(entry: &Entry) -> Option<Key> {
    Key::new(entry, overhead(entry), 1)
}

impl LeastConnection {
    /// One that has heard of no backend yet. The seed says which of equals comes first, unless it is the
    /// [head](Flags::head).
    pub fn new(flags: Flags, seed: u64) -> Self {
        Self(Tree::new(flags, seed))
    }
}

impl Scheduler for LeastConnection {
    fn changed(&mut self, backends: &Backends, change: Change) {
        self.0.changed(backends, change, key);
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        self.0.first(backends, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;

    #[test]
    fn the_sum_is_of_32_bits() {
        let mut backends = Backends::default();
        let id = backends.create(Backend::new(([10, 0, 0, 1], 80).into()));
        let entry = backends.entry_mut(id).expect("created");
        for (active, inactive, expected) in [
            (0, 0, 0),
            (1, 0, 256),
            (3, 255, 1023),
            ((1 << 24) - 1, 256, 0),
            (1 << 24, 7, 7),
            (u32::MAX, 257, 1),
            (0, u32::MAX, u32::MAX),
        ] {
            (entry.active, entry.inactive) = (active, inactive);
            assert_eq!(overhead(entry), expected, "{active} active, {inactive} inactive");
        }
    }
}
