//! `dh`: destination hashing.
//!
//! 256 slots, dealt out one by one from head to tail and round again, whatever the weights. The virtual address that the
//! client called chooses the slot: this spreads services of many addresses (by firewall mark, as the kernel has them); under one
//! address there is one backend for all.

use super::hash::{SLOTS, Table, folded, look_up};
use super::{Backends, Change, Flags, Place, Scheduler};
use crate::backend::Flow;

/// `dh`: by the virtual address.
#[derive(Clone, Debug)]
pub struct DestinationHashing {
    pub(super) flags: Flags,
    table: Table,
}

impl DestinationHashing {
    /// With these flags; ports do not matter. The kernel's `dh` has no fallback.
    pub fn new(flags: Flags) -> Self {
        Self { flags, table: Table::new(SLOTS) }
    }

    fn refresh(&mut self, backends: &Backends) {
        self.table.refresh(|slots| {
            let first: alloc::vec::Vec<Place> =
                backends.iter().map(|(place, _)| place).take(SLOTS).collect();
            for (slot, place) in first.iter().cycle().take(SLOTS).enumerate() {
                slots.set(slot, *place);
            }
        });
    }
}

impl Scheduler for DestinationHashing {
    fn changed(&mut self, _: &Backends, change: Change) {
        if !matches!(change, Change::Counted(_) | Change::Updated(_) | Change::Edited(_)) {
            self.table.forget();
        }
    }

    fn pick(&mut self, backends: &Backends, flow: &Flow) -> Option<Place> {
        self.refresh(backends);
        look_up(&self.table, backends, folded(flow.destination.ip()), self.flags.fallback)
    }

    fn another(&mut self, backends: &Backends) -> Option<Self> {
        self.refresh(backends);
        Some(self.clone())
    }
}
