//! What a balancer does for handles that pick by copies of it.

use super::Balancer;
use crate::backend::BackendId;
use crate::sched::{Backends, Change, Scheduler};
use crate::time::Instant;

/// Whose a balancer is, and whether it picks as it did when the owner looked last.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    /// A number of its own for each owner; 0 is none.
    owner: usize,
    outdated: bool,
}

impl Mark {
    pub(super) const fn outdate(&mut self) {
        self.outdated = true;
    }
}

impl Clone for Mark {
    /// A clone of a balancer is another balancer.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<S: Scheduler> Balancer<S> {
    /// Makes it the owner's, as it is now.
    pub(crate) const fn set_owner(&mut self, owner: usize) {
        self.mark = Mark { owner, outdated: false };
    }

    pub(crate) const fn is_owned(&self, by: usize) -> bool {
        self.mark.owner == by
    }

    /// Whether it is the owner's, and nothing that matters to picks has changed but counts.
    #[inline]
    pub(crate) const fn is_unchanged(&self, owner: usize) -> bool {
        self.is_owned(owner) && !self.mark.outdated
    }

    /// Counts several events of connections as one; a stale id counts nothing.
    #[inline]
    pub(crate) fn adjust(&mut self, id: BackendId, active: i32, inactive: i32) {
        let Some((entry, place)) = self.backends.listed_mut(id) else { return };
        entry.active = entry.active.saturating_add_signed(active);
        entry.inactive = entry.inactive.saturating_add_signed(inactive);
        let turned = match active.saturating_add(inactive) {
            1.. => entry.counted(),
            0 => false,
            _ => entry.uncounted(),
        };
        if let Some(place) = place {
            let change = if turned { Change::Updated(place) } else { Change::Counted(place) };
            self.scheduler.changed(&self.backends, change);
        }
    }

    /// A scheduler to go with a copy of the list; see [`Scheduler::another`].
    pub(crate) fn another(&mut self) -> Option<S> {
        self.scheduler.another(&self.backends)
    }

    pub(crate) const fn backends(&self) -> &Backends {
        &self.backends
    }

    /// Whether a listed backend can be overloaded: then picks depend on counts, whatever the algorithm.
    pub(crate) fn has_thresholds(&self) -> bool {
        self.iter().any(|(_, entry)| entry.backend.upper_threshold > 0)
    }

    /// Until when no timer changes what is picked.
    pub(crate) const fn unchanged_until(&self) -> Instant {
        self.next
    }
}
