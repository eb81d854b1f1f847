//! What a handle has to itself: a copy to pick by, and the counts that the balancer has not heard of.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backend::{BackendId, Flow};
use crate::sched::{Backends, Scheduler};
use crate::time::Instant;

/// On a cache line of its own (two, as they are fetched in pairs).
#[repr(align(128))]
pub(super) struct Seat<S> {
    /// The bit of [`Filled`] that says that it has something to count. Others may have the same.
    bit: usize,
    /// Whether there is a copy, for a look without the lock.
    has_copy: AtomicBool,
    local: Mutex<Local<S>>,
}

struct Local<S> {
    copy: Option<Box<Copied<S>>>,
    tally: Tally,
    /// That of the balancer whose connections are counted here.
    epoch: u32,
    /// Picks since the last change that were made without a copy.
    waited: usize,
}

/// The list and a scheduler, to pick by as the balancer would.
#[repr(align(128))]
pub(super) struct Copied<S> {
    pub(super) backends: Arc<Backends>,
    pub(super) scheduler: S,
    /// When the balancer may pick otherwise, as its timers have to be seen to.
    pub(super) until: Instant,
}

/// A backend that was picked, in the balancer of an epoch.
pub(super) struct Ticket {
    pub(super) backend: BackendId,
    pub(super) addr: SocketAddr,
    pub(super) epoch: u32,
}

/// No balancer's.
pub(super) const NO_EPOCH: u32 = 0;

/// By how much a backend's connections have become more or fewer.
#[derive(Clone, Copy, Default)]
pub(super) struct Delta {
    pub(super) active: i32,
    pub(super) inactive: i32,
}

/// Which seats have something to count.
pub(super) type Filled = AtomicUsize;

/// There is no copy, or it is time to look after the balancer.
pub(super) struct NoCopy;

impl<S: Scheduler> Seat<S> {
    pub(super) fn new(number: usize, epoch: u32) -> Self {
        let tally = Tally::default();
        Self {
            bit: 1 << (number % usize::BITS as usize),
            has_copy: AtomicBool::new(false),
            local: Mutex::new(Local { copy: None, tally, epoch, waited: 0 }),
        }
    }

    pub(super) const fn bit(&self) -> usize {
        self.bit
    }

    #[inline]
    pub(super) fn has_copy(&self) -> bool {
        self.has_copy.load(Ordering::Relaxed)
    }

    /// Picks by the copy, and counts that.
    #[inline]
    pub(super) fn pick(
        &self,
        flow: &Flow,
        now: Instant,
        filled: &Filled,
    ) -> Result<Option<Ticket>, NoCopy> {
        if !self.has_copy() {
            return Err(NoCopy);
        }
        let mut local = self.lock();
        let Local { copy, tally, epoch, .. } = &mut *local;
        let copy = copy.as_mut().filter(|copy| now < copy.until).ok_or(NoCopy)?;
        let Some((backend, addr)) = copy.pick(flow) else { return Ok(None) };
        self.add(tally, backend, Delta { active: 0, inactive: 1 }, filled);
        Ok(Some(Ticket { backend, addr, epoch: *epoch }))
    }

    /// Leaves something to be counted by who has the balancer next.
    #[inline]
    pub(super) fn note(&self, ticket: &Ticket, delta: Delta, filled: &Filled) {
        let mut local = self.lock();
        if local.epoch == ticket.epoch {
            self.add(&mut local.tally, ticket.backend, delta, filled);
        }
    }

    /// While the lock is held: who then finds something in the tally knows that the bit was set.
    #[inline]
    fn add(&self, tally: &mut Tally, backend: BackendId, delta: Delta, filled: &Filled) {
        if tally.add(backend, delta) {
            filled.fetch_or(self.bit, Ordering::Release);
        }
    }

    /// Moves what is to be counted to the end of `taken`.
    pub(super) fn drain(&self, taken: &mut VecDeque<(BackendId, Delta)>) {
        self.lock().tally.drain(taken);
    }

    /// Takes the copy away, and what is to be counted as [`drain`](Self::drain) does; but what was picked in another epoch counts
    /// no more.
    pub(super) fn withdraw(
        &self,
        epoch: u32,
        taken: &mut VecDeque<(BackendId, Delta)>,
    ) -> Option<Box<Copied<S>>> {
        let mut local = self.lock();
        if mem::replace(&mut local.epoch, epoch) == epoch {
            local.tally.drain(taken);
        } else {
            local.tally = Tally::default();
        }
        local.waited = 0;
        self.has_copy.store(false, Ordering::Relaxed);
        local.copy.take()
    }

    /// Whether it is worth while to make a copy of so many backends: not before as many picks as cost about the same, nor for the
    /// one pick of a handle that is made for a connection. A copy that is there is good until `until`.
    pub(super) fn wants_copy(&self, backends: usize, until: Instant) -> bool {
        let mut local = self.lock();
        if let Some(copy) = &mut local.copy {
            copy.until = until;
            return false;
        }
        local.waited += 1;
        local.waited >= 2 + backends / 8
    }

    pub(super) fn set_copy(&self, copy: Box<Copied<S>>) {
        let mut local = self.lock();
        local.copy = Some(copy);
        self.has_copy.store(true, Ordering::Relaxed);
    }

    /// Nobody picks here any more.
    pub(super) fn leave(&self) {
        let mut local = self.lock();
        self.has_copy.store(false, Ordering::Relaxed);
        let copy = local.copy.take();
        drop(local);
        drop(copy);
    }

    /// Whether there is nothing to count.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().tally.touched.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Local<S>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Scheduler> Copied<S> {
    #[inline]
    fn pick(&mut self, flow: &Flow) -> Option<(BackendId, SocketAddr)> {
        let place = self.scheduler.pick(&self.backends, flow)?;
        Some((self.backends.id(place)?, self.backends.get(place)?.addr()))
    }
}

/// Differences by slot.
#[derive(Default)]
struct Tally {
    entries: Vec<Entry>,
    /// The slots whose entries have something.
    touched: Vec<u32>,
}

#[derive(Clone, Default)]
struct Entry {
    generation: u32,
    touched: bool,
    delta: Delta,
}

impl Tally {
    /// True if there was nothing before.
    #[inline]
    fn add(&mut self, backend: BackendId, delta: Delta) -> bool {
        let at = backend.index as usize;
        if at >= self.entries.len() {
            self.entries.resize(at + 1, Entry::default());
        }
        let entry = &mut self.entries[at];
        if !entry.touched {
            *entry = Entry { generation: backend.generation, touched: true, delta };
            self.touched.push(backend.index);
            return self.touched.len() == 1;
        }
        // Of two that had a slot, the former is forgotten, and its connections with it.
        if entry.generation < backend.generation {
            (entry.generation, entry.delta) = (backend.generation, Delta::default());
        }
        if entry.generation == backend.generation {
            entry.delta.active = entry.delta.active.saturating_add(delta.active);
            entry.delta.inactive = entry.delta.inactive.saturating_add(delta.inactive);
        }
        false
    }

    fn drain(&mut self, taken: &mut VecDeque<(BackendId, Delta)>) {
        for index in self.touched.drain(..) {
            let Entry { generation, delta, .. } = mem::take(&mut self.entries[index as usize]);
            taken.push_back((BackendId { index, generation }, delta));
        }
    }
}
