//! What the handles have in common.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::seat::{Copied, Delta, Filled, NO_EPOCH, Seat, Ticket};
use crate::backend::BackendId;
use crate::balancer::{Balancer, Conn};
use crate::sched::{Backends, Scheduler};
use crate::time::Instant;

/// Locks are taken in the order of `main`, `seats`, a seat.
pub(super) struct Inner<S> {
    main: Mutex<Main<S>>,
    /// Apart from the rest, so that a handle can be made while a closure has the balancer.
    seats: Mutex<Seats<S>>,
    /// How many handles there are.
    handles: AtomicUsize,
    filled: Filled,
}

pub(super) struct Main<S> {
    pub(super) balancer: Balancer<S>,
    /// By which the balancer is known as the one that was here before.
    owner: usize,
    /// Of the balancer; another one's is another.
    epoch: u32,
    copies: Copies,
    /// Taken from seats and not yet counted. Not empty only while that is done, or when a scheduler panicked.
    taken: VecDeque<(BackendId, Delta)>,
}

/// Whether picks may be made by copies of the list as it is.
enum Copies {
    Unknown,
    /// They depend on counts.
    Refused,
    Given(Arc<Backends>),
}

struct Seats<S> {
    list: Vec<Arc<Seat<S>>>,
    made: usize,
    /// At so many, those are looked for that nobody has any more.
    limit: usize,
    epoch: u32,
}

/// How many were made, so that each has a number of its own.
static OWNERS: AtomicUsize = AtomicUsize::new(0);

/// How often a lease tries to get the lock. To leave it to others costs more than the few tens of nanoseconds for which a pick
/// holds it.
const PATIENCE: u32 = 16;
const SPINS: u32 = 4;

/// What once was longer gives its memory back.
const KEPT: usize = 1024;

impl<S: Scheduler> Inner<S> {
    pub(super) fn new(mut balancer: Balancer<S>) -> Self {
        let owner = OWNERS.fetch_add(1, Ordering::Relaxed) + 1;
        balancer.set_owner(owner);
        let (epoch, copies, taken) = (NO_EPOCH + 1, Copies::Unknown, VecDeque::new());
        Self {
            main: Mutex::new(Main { balancer, owner, epoch, copies, taken }),
            seats: Mutex::new(Seats { list: Vec::new(), made: 0, limit: 8, epoch }),
            handles: AtomicUsize::new(0),
            filled: Filled::new(0),
        }
    }

    /// A seat for one more handle.
    pub(super) fn enter(&self) -> Arc<Seat<S>> {
        self.handles.fetch_add(1, Ordering::Relaxed);
        let mut seats = self.seats();
        if seats.list.len() >= seats.limit {
            let has_use = |seat: &mut Seat<S>| !seat.is_settled();
            seats.list.retain_mut(|seat| Arc::get_mut(seat).is_none_or(has_use));
            seats.limit = 2 * seats.list.len() + 8;
        }
        let seat = Arc::new(Seat::new(seats.made, seats.epoch));
        seats.made = seats.made.wrapping_add(1);
        seats.list.push(Arc::clone(&seat));
        seat
    }

    /// A handle is no more; its leases may be.
    pub(super) fn leave(&self, seat: &Seat<S>) {
        self.handles.fetch_sub(1, Ordering::Relaxed);
        seat.leave();
    }

    pub(super) const fn filled(&self) -> &Filled {
        &self.filled
    }

    /// The lock, with everything counted.
    #[inline]
    pub(super) fn lock(&self) -> Locked<'_, S> {
        let mut locked = self.lock_uncounted();
        if self.has_uncounted(&locked) {
            self.catch_up(&mut locked, None);
        }
        locked
    }

    /// The lock, with everything counted that matters to a pick: where picks are made by copies, counts do when a removed backend
    /// may be forgotten.
    #[inline]
    pub(super) fn lock_to_pick(&self, now: Instant) -> Locked<'_, S> {
        let mut locked = self.lock_uncounted();
        let counts_matter =
            !matches!(locked.copies, Copies::Given(_)) || now >= locked.balancer.unchanged_until();
        if counts_matter && self.has_uncounted(&locked) {
            self.catch_up(&mut locked, None);
        }
        locked
    }

    fn lock_uncounted(&self) -> Locked<'_, S> {
        let main = self.main.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { inner: self, main }
    }

    /// Counts what became of a connection, at once or by leaving it to who has the lock next.
    #[inline]
    pub(super) fn count(&self, seat: &Seat<S>, ticket: &Ticket, delta: Delta) {
        if seat.has_copy() || !self.try_count(ticket, delta) {
            seat.note(ticket, delta, &self.filled);
        }
    }

    #[inline]
    fn try_count(&self, ticket: &Ticket, delta: Delta) -> bool {
        // While unwinding no scheduler of the caller's is asked: if it panicked, that would end the process.
        if std::thread::panicking() {
            return false;
        }
        let Some(mut locked) = self.try_lock() else { return false };
        if locked.epoch == ticket.epoch {
            if self.has_uncounted(&locked) {
                self.catch_up(&mut locked, Some((ticket.backend, delta)));
            } else {
                locked.balancer.adjust(ticket.backend, delta.active, delta.inactive);
            }
        }
        true
    }

    /// The lock, unless it is held for longer than a pick takes.
    #[inline]
    fn try_lock(&self) -> Option<Locked<'_, S>> {
        for _ in 0..PATIENCE {
            match self.main.try_lock() {
                Ok(main) => return Some(Locked { inner: self, main }),
                Err(TryLockError::Poisoned(error)) => {
                    return Some(Locked { inner: self, main: error.into_inner() });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            for _ in 0..SPINS {
                core::hint::spin_loop();
            }
        }
        None
    }

    #[inline]
    fn has_uncounted(&self, main: &Main<S>) -> bool {
        // Who calls holds the lock, so that whatever else took something to count is over with it.
        self.filled.load(Ordering::Relaxed) != 0 || !main.taken.is_empty()
    }

    /// Counts what is in the seats by now: each was put there by a call that would have counted it itself. Then `last`.
    #[cold]
    fn catch_up(&self, main: &mut Main<S>, last: Option<(BackendId, Delta)>) {
        // Before the seats are looked at: what comes after that sets it again.
        let filled = self.filled.swap(0, Ordering::Acquire);
        for seat in self.seats().list.iter().filter(|seat| seat.bit() & filled != 0) {
            seat.drain(&mut main.taken);
        }
        main.taken.extend(last);
        main.count_taken();
    }

    /// Takes the copies away, as the balancer is not what they were made of.
    #[cold]
    fn withdraw(&self, main: &mut Main<S>) {
        let replaced = !main.balancer.is_owned(main.owner);
        main.balancer.set_owner(main.owner);
        let copies = mem::replace(&mut main.copies, Copies::Unknown);
        if !replaced && !matches!(copies, Copies::Given(_)) {
            return;
        }
        let mut seats = self.seats();
        if replaced {
            main.epoch = main.epoch.wrapping_add(1).max(NO_EPOCH + 1);
            seats.epoch = main.epoch;
            main.taken.clear();
        }
        let withdraw = |seat: &Arc<Seat<S>>| seat.withdraw(main.epoch, &mut main.taken);
        let old: Vec<Box<Copied<S>>> = seats.list.iter().filter_map(withdraw).collect();
        // A scheduler of the caller's may do anything when it is dropped.
        drop(seats);
        drop(old);
    }

    /// Gives a seat a copy to pick by, if picks depend on no counts and others may pick meanwhile.
    #[inline]
    pub(super) fn offer_copy(&self, main: &mut Main<S>, seat: &Seat<S>) {
        if !matches!(main.copies, Copies::Refused) && self.handles.load(Ordering::Relaxed) > 1 {
            main.make_copy(seat);
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats<S>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Scheduler> Main<S> {
    /// For a connection of the balancer.
    pub(super) const fn ticket(&self, conn: &Conn) -> Ticket {
        Ticket { backend: conn.backend(), addr: conn.addr(), epoch: self.epoch }
    }

    /// For a connection that may be of another balancer, and then counts nothing.
    pub(super) fn checked_ticket(&self, conn: &Conn) -> Ticket {
        let own = self.balancer.get(conn.backend()).is_some_and(|own| own.addr() == conn.addr());
        let epoch = if own { self.epoch } else { NO_EPOCH };
        Ticket { epoch, ..self.ticket(conn) }
    }

    #[cold]
    fn make_copy(&mut self, seat: &Seat<S>) {
        let Self { balancer, copies, .. } = self;
        let until = balancer.unchanged_until();
        if !seat.wants_copy(balancer.len(), until) {
            return;
        }
        let unknown = matches!(copies, Copies::Unknown);
        let another = if unknown && balancer.has_thresholds() { None } else { balancer.another() };
        let Some(scheduler) = another else {
            if unknown {
                *copies = Copies::Refused;
            }
            return;
        };
        let backends = match copies {
            Copies::Given(backends) => Arc::clone(backends),
            _ => Arc::new(balancer.backends().clone()),
        };
        *copies = Copies::Given(Arc::clone(&backends));
        seat.set_copy(Box::new(Copied { backends, scheduler, until }));
    }

    fn count_taken(&mut self) {
        while let Some((backend, Delta { active, inactive })) = self.taken.pop_front() {
            self.balancer.adjust(backend, active, inactive);
        }
        self.taken.shrink_to(KEPT);
    }
}

/// The lock. When it is given back, also by a panic, nobody picks by a copy of what is no more.
pub(super) struct Locked<'a, S: Scheduler> {
    inner: &'a Inner<S>,
    main: MutexGuard<'a, Main<S>>,
}

impl<S: Scheduler> Locked<'_, S> {
    /// Takes copies away if the balancer is not what they were made of.
    #[inline]
    pub(super) fn settle(&mut self) {
        if !self.main.balancer.is_unchanged(self.main.owner) {
            self.inner.withdraw(&mut self.main);
        }
    }
}

impl<S: Scheduler> Deref for Locked<'_, S> {
    type Target = Main<S>;

    fn deref(&self) -> &Main<S> {
        &self.main
    }
}

impl<S: Scheduler> DerefMut for Locked<'_, S> {
    fn deref_mut(&mut self) -> &mut Main<S> {
        &mut self.main
    }
}

impl<S: Scheduler> Drop for Locked<'_, S> {
    #[inline]
    fn drop(&mut self) {
        self.settle();
    }
}
