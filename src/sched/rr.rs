//! `rr`: round robin.
//!
//! A pick goes on behind the last one picked, from head to tail, and wraps once. Weights above 0 do not
//! matter. A backend added later sits at the head and so is picked only after the wrap; when the last one
//! picked is removed, the next pick is the entry that followed it. A backend that starts slowly is passed over as often as
//! its [share](super::Entry::share) says.
//!
//! A hierarchical bitset of the usable places finds the next one in O(log₆₄ n), however many backends in
//! between have weight 0.

use super::{Backends, Change, Flags, Lots, Place, Scheduler, Start};
use crate::backend::Flow;
use crate::bitset::Bitset;

/// `rr`: each usable backend in turn.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    usable: Bitset,
    mark: Mark,
    lots: Lots,
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    /// Nobody was picked yet.
    Start(Start),
    /// The list's head, before the first entry.
    Head,
    /// The last one picked.
    At(Place),
}

impl RoundRobin {
    /// One that has heard of no backend yet. The seed says where it begins, unless at the [head](Flags::head).
    pub fn new(flags: Flags, seed: u64) -> Self {
        Self {
            usable: Bitset::default(),
            mark: Mark::Start(Start::new(flags, seed)),
            lots: Lots::new(!seed),
        }
    }

    fn heed(&mut self, backends: &Backends, change: Change) {
        match change {
            Change::Counted(_) => {}
            Change::Updated(place) | Change::Added(place) | Change::Edited(place) => {
                let usable = backends.get(place).is_some_and(super::Entry::usable);
                self.usable.set(place.index(), usable);
            }
            Change::Removed(place) => {
                self.usable.remove(place.index());
                if matches!(self.mark, Mark::At(mark) if mark == place) {
                    self.mark = backends.before(place).map_or(Mark::Head, Mark::At);
                }
            }
            Change::Renumbered => {
                self.usable = Bitset::default();
                for (place, entry) in backends.iter() {
                    self.usable.set(place.index(), entry.usable());
                }
                if let Mark::At(mark) = self.mark {
                    self.mark = backends.renumbered(mark).map_or(Mark::Head, Mark::At);
                }
            }
        }
    }
}

impl Mark {
    fn next(&mut self, usable: &Bitset, backends: &Backends) -> Option<Place> {
        let behind_mark = match *self {
            Self::Start(start) => usable.prev(start.index(backends)),
            Self::Head => None,
            Self::At(mark) => mark.index().checked_sub(1).and_then(|to| usable.prev(to)),
        };
        // Wrapping from the head comes down to the mark at the latest: what lies behind it was looked at.
        let index = behind_mark.or_else(|| usable.prev(usize::MAX))?;
        let place = backends.place_at(index)?;
        *self = Self::At(place);
        Some(place)
    }
}

impl Scheduler for RoundRobin {
    #[inline]
    fn changed(&mut self, backends: &Backends, change: Change) {
        if !matches!(change, Change::Counted(_)) {
            self.heed(backends, change);
        }
    }

    #[inline]
    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        self.lots.among(backends, || self.mark.next(&self.usable, backends))
    }

    fn another(&mut self, _: &Backends) -> Option<Self> {
        Some(Self { lots: self.lots.another(), ..self.clone() })
    }
}
