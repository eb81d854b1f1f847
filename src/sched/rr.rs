//! `rr`: round robin.
//!
//! A pick goes on behind the last one picked, from head to tail, and wraps once. Weights above 0 do not
//! matter. A backend added later sits at the head and so is picked only after the wrap; when the last one
//! picked is removed, the next pick is the entry that followed it.
//!
//! A hierarchical bitset of the usable places finds the next one in O(log₆₄ n), however many backends in
//! between have weight 0.

use super::{Backends, Change, Place, Scheduler};
use crate::backend::{BackendId, Flow};
use crate::bitset::Bitset;

/// `rr`: each usable backend in turn.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    usable: Bitset,
    /// The last one picked; `None` is the list's head, before the first entry.
    mark: Option<(Place, BackendId)>,
}

impl RoundRobin {
    fn refresh(&mut self, backends: &Backends, place: Place) {
        let usable = backends.get(place).is_some_and(super::Entry::usable);
        // Nearly all changes are of counts, and change nothing here.
        if usable == self.usable.contains(place.index()) {
            return;
        }
        if usable {
            self.usable.grow(backends.places());
            self.usable.insert(place.index());
        } else {
            self.usable.remove(place.index());
        }
    }

    fn rebuild(&mut self, backends: &Backends) {
        self.usable = Bitset::with_capacity(backends.places());
        for (place, entry) in backends.iter() {
            if entry.usable() {
                self.usable.insert(place.index());
            }
        }
        self.mark = self.mark.and_then(|(_, id)| Some((backends.place(id)?, id)));
    }
}

impl Scheduler for RoundRobin {
    fn changed(&mut self, backends: &Backends, change: Change) {
        match change {
            Change::Added(place) | Change::Edited(place) | Change::Updated(place) => {
                self.refresh(backends, place);
            }
            Change::Removed(place) => {
                self.usable.remove(place.index());
                if self.mark.is_some_and(|(mark, _)| mark == place) {
                    self.mark = backends
                        .before(place)
                        .and_then(|before| Some((before, backends.id(before)?)));
                }
            }
            Change::Renumbered => self.rebuild(backends),
        }
    }

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        let behind_mark = match self.mark {
            None => self.usable.prev(usize::MAX),
            Some((mark, _)) => mark.index().checked_sub(1).and_then(|to| self.usable.prev(to)),
        };
        // Wrapping from the head comes down to the mark at the latest: what lies behind it was looked at.
        let index = behind_mark.or_else(|| self.usable.prev(usize::MAX))?;
        let place = backends.place_at(index)?;
        self.mark = Some((place, backends.id(place)?));
        Some(place)
    }
}
