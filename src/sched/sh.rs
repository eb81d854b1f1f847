//! `sh`: source hashing.
//!
//! 256 slots, dealt out from head to tail and round again: each backend takes as many slots in a row as its weight, one if
//! that is 0. The client's address (with its port, if flagged) chooses the slot.
//!
//! A client goes to one backend as long as the list does not change; when it does, most clients move.

use super::hash::{SLOTS, Table, look_up, number};
use super::{Backends, Change, Flags, Place, Scheduler};
use crate::backend::Flow;

/// `sh`: by the client's address.
#[derive(Clone, Debug)]
pub struct SourceHashing {
    pub(super) flags: Flags,
    table: Table,
}

impl SourceHashing {
    /// With these flags.
    pub fn new(flags: Flags) -> Self {
        Self { flags, table: Table::new(SLOTS) }
    }

    fn refresh(&mut self, backends: &Backends) {
        self.table.refresh(|slots| {
            // Of more backends than slots, those behind get none.
            let turns = backends.iter().flat_map(|(place, entry)| {
                let turns = usize::try_from(entry.weight().max(1)).unwrap_or(SLOTS);
                core::iter::repeat_n(place, turns.min(SLOTS))
            });
            let first: alloc::vec::Vec<Place> = turns.take(SLOTS).collect();
            for (slot, place) in first.iter().cycle().take(SLOTS).enumerate() {
                slots.set(slot, *place);
            }
        });
    }
}

impl Scheduler for SourceHashing {
    fn changed(&mut self, _: &Backends, change: Change) {
        if !matches!(change, Change::Counted(_) | Change::Updated(_)) {
            self.table.forget();
        }
    }

    fn pick(&mut self, backends: &Backends, flow: &Flow) -> Option<Place> {
        self.refresh(backends);
        look_up(&self.table, backends, number(flow.client, self.flags.port), self.flags.fallback)
    }

    fn another(&mut self, backends: &Backends) -> Option<Self> {
        self.refresh(backends);
        Some(self.clone())
    }
}
