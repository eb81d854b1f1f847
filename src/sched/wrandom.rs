//! `wrandom`: any usable backend, each as probable as its weight says, exactly.
//!
//! Backends of about the same weight are a class; a pick draws a class, then one of its places, and draws again where the place's
//! weight is short of the class's greatest. So it is a few loads however many backends there are, and a change of
//! weight costs as little.

use super::lots::{Lots, Urn};
use super::{Backends, Change, Entry, Place, Scheduler};
use crate::backend::Flow;

/// `wrandom`: any usable backend, by weight.
#[derive(Clone, Debug)]
pub struct WeightedRandom {
    urn: Urn,
    lots: Lots,
}

impl WeightedRandom {
    /// One that has heard of no backend yet, whose picks follow from the seed.
    pub fn new(seed: u64) -> Self {
        Self { urn: Urn::new(seed), lots: Lots::new(!seed) }
    }
}

impl Scheduler for WeightedRandom {
    #[inline]
    fn changed(&mut self, backends: &Backends, change: Change) {
        self.urn.changed(backends, change, Entry::usable_weight);
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        self.lots.among(backends, || self.urn.draw())
    }

    fn another(&mut self, _: &Backends) -> Option<Self> {
        Some(Self { urn: self.urn.another(), lots: self.lots.another() })
    }
}
