//! `random`: any usable backend, each as probable as the others.
//!
//! What kube-proxy's iptables and nftables modes do. Weights above 0 do not matter. The usable places are kept side by side,
//! so that a pick is one draw and one load however many there are.

use super::lots::{Lots, Urn};
use super::{Backends, Change, Place, Scheduler};
use crate::backend::Flow;

/// `random`: any usable backend.
#[derive(Clone, Debug)]
pub struct Random {
    urn: Urn,
    lots: Lots,
}

impl Random {
    /// One that has heard of no backend yet, whose picks follow from the seed.
    pub fn new(seed: u64) -> Self {
        Self { urn: Urn::new(seed), lots: Lots::new(!seed) }
    }
}

impl Scheduler for Random {
    #[inline]
    fn changed(&mut self, backends: &Backends, change: Change) {
        self.urn.changed(backends, change, |entry| u32::from(entry.usable()));
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        self.lots.among(backends, || self.urn.draw())
    }

    fn another(&mut self, _: &Backends) -> Option<Self> {
        Some(Self { urn: self.urn.another(), lots: self.lots.another() })
    }
}
