//! `p2c`: the better of two.
//!
//! Two different usable backends are drawn, each as probable as its weight says, and the one with the fewer connections per weight
//! (counted as [`wlc`](super::WeightedLeastConnection) counts) is picked; of equals the one drawn first. Nearly as even as the
//! least of all, without the herd that runs to it where many balancers see the same counts.

use super::lots::Urn;
use super::wlc::loads;
use super::{Backends, Change, Entry, Place, Scheduler};
use crate::backend::Flow;

/// `p2c`: the better of two drawn by weight.
#[derive(Clone, Debug)]
pub struct PowerOfTwoChoices(Urn);

impl PowerOfTwoChoices {
    /// One that has heard of no backend yet, whose picks follow from the seed.
    pub fn new(seed: u64) -> Self {
        Self(Urn::new(seed))
    }
}

impl Scheduler for PowerOfTwoChoices {
    #[inline]
    fn changed(&mut self, backends: &Backends, change: Change) {
        self.0.changed(backends, change, Entry::usable_weight);
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        let (first, second) = self.0.draw_two()?;
        let loads = |place| backends.get(place).and_then(loads);
        Some(if loads(second)?.beats(loads(first)?) { second } else { first })
    }
}
