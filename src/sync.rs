//! [`SharedBalancer`]: a [`Balancer`] for many threads and tasks, whose connections release themselves.
//!
//! ```
//! use svcplane::backend::Flow;
//! use svcplane::balancer::Balancer;
//! use svcplane::sched::Algorithm;
//! use svcplane::sync::SharedBalancer;
//! use svcplane::time::Instant;
//!
//! let balancer = SharedBalancer::new(Balancer::new(Algorithm::LeastConnection, std::process::id().into()));
//! let backends = ["10.0.0.1:8080".parse::<std::net::SocketAddr>()?, "10.0.0.2:8080".parse()?];
//! balancer.set_backends(backends.map(Into::into), Instant::ZERO);
//!
//! let client = "192.0.2.7:40000".parse()?;
//! let flow = Flow::new(client, "10.96.0.10:80".parse()?);
//! let handle = balancer.clone(); // of the same balancer
//! let proxying = std::thread::spawn(move || {
//!     let mut lease = handle.pick(&flow, Instant::from_secs(1)).expect("a backend");
//!     // … connect to lease.addr() …
//!     lease.established(); // from now on it counts as active
//!     // … copy bytes …
//!     lease.addr()
//! }); // dropped: released
//! let used = proxying.join().expect("no panic");
//!
//! balancer.with(|balancer| {
//!     let (_, entry) = balancer.iter().find(|(_, entry)| entry.addr() == used).expect("still listed");
//!     assert_eq!((entry.active(), entry.inactive()), (0, 0));
//! });
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! **Picks.** Where a pick depends on no counts, each handle picks by a copy of the list that is its own, and what its leases report is
//! kept there until somebody reads it: threads that have a handle each do not meet, and throughput grows with them. That is so with `rr`, `wrr`,
//! `random`, `wrandom`, `sh`, `dh`, `mh` and schedulers of the caller's that can make [another](Scheduler::another), as long as there are
//! several handles and no listed backend has an upper threshold. A handle gets its copy after two picks and as many more as are an
//! eighth of the backends, and after each change anew.
//!
//! All other picks take the balancer's lock, for as long as a [`Balancer::pick`] takes, some tens of nanoseconds: those by `lc` and
//! its like, of a handle alone, with affinity, and those that except a backend. What a [`Lease`] then reports (established,
//! closing, released) tries for about a microsecond to get that lock, and is counted at once if it does. If something holds it for
//! longer, such as a closure or a thread that was descheduled, the report stays with the handle, and whoever has the lock next
//! counts it before doing anything else. So a lease can be dropped anywhere: in a task that is cancelled, while unwinding, in a
//! closure given to [`with`](SharedBalancer::with). It never waits for a closure to end, nor for a pick under that lock; only for
//! what another thread is doing with the same handle, which is a few instructions. (Just a scheduler's own methods are no place for
//! it.)
//!
//! **Turns.** Through one handle, picks are those of the plain [`Balancer`]. Several go round each by itself:
//! `rr` is in turn for each, and all together give every backend the same to within one more than there are handles. What is left to
//! chance is another draw for each, and follows from the balancer's seed. The hashing algorithms choose the same through any.
//!
//! **Order.** A call sees all calls that happened before it: those made earlier by its thread, and those of which its thread
//! knows through a channel, a lock, a join. Once [`remove`](SharedBalancer::remove) has returned, no handle picks that backend. Only what
//! another thread is just doing may be seen a moment later. Counts are never read without what handles keep, and are exact.
//!
//! **Memory.** A handle keeps at most one difference, of some 20 bytes, for each backend that its picks went to, however many leases
//! there are. A copy takes as much as the scheduler (`mh` shares its table), and all copies share one list.
//!
//! **Panics.** A panic in a closure or a scheduler of the caller's own, while a lock is held, does not take the balancer out of
//! service: the next call goes on with what there is, as each method of [`Balancer`] leaves it whole. With a scheduler of this crate nothing
//! here panics; dropping a lease while unwinding asks no scheduler.
//!
//! **How far it goes.** Where handles pick by themselves, two threads do twice what one does: about 38,000,000 connections a second with `rr`
//! after 19,000,000 (100 backends, `benches/sync.rs`, two cores of a shared AMD EPYC); with more it was reasoned, not measured. A change
//! costs each handle a copy, some nanoseconds for each backend, and reading counts a look at what each keeps. A handle that comes and goes
//! with a connection never gets a copy, and one that many threads use at once is a lock that they all want.
//!
//! Under the balancer's lock, each connection costs one critical section for its pick and as a rule two more, whatever the number
//! of threads, so that 64 of them together cannot do more than two that contend: 5,000,000 to 10,000,000 connections a second with
//! `lc`, and what a lock costs that more threads wait for comes on top. A proxy that picks for each *connection* does not come near
//! that. One that picks for every *request* on 64 threads may: then give each worker a plain [`Balancer`] of its own, with a seed
//! of its own. Nothing is shared then, but each knows its own connections only: `lc`, `sed` and their like even out each worker's
//! part of the load rather than the whole, and an upper threshold holds per worker.

mod inner;
mod lease;
mod seat;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use crate::affinity::{Affinity, Scope};
use crate::backend::{Backend, BackendId, Flow};
use crate::balancer::{Balancer, Conn, StaleId};
use crate::sched::{AnyScheduler, Scheduler};
use crate::time::Instant;

use inner::Inner;
pub use lease::Lease;
use seat::{Delta, NoCopy, Seat, Ticket};

/// A handle on a [`Balancer`] that threads share. Clones are handles on the same one.
///
/// A thread that has a clone of its own is fastest: it picks by a copy of its own where counts do not matter, leases count their
/// references in the handle that made them, and no two threads write to the same. Making a clone allocates, so it is for a thread
/// or a listener rather than for each connection.
///
/// Its methods are those of [`Balancer`], where there is more to read about each; [`with`](Self::with) gives access to the rest.
pub struct SharedBalancer<S: Scheduler = AnyScheduler> {
    handle: Arc<Handle<S>>,
}

/// What a handle and its leases refer to. The counter of these references is on cache lines of its own, too.
#[repr(align(128))]
struct Handle<S> {
    inner: Arc<Inner<S>>,
    seat: Arc<Seat<S>>,
}

impl<S: Scheduler> SharedBalancer<S> {
    /// Shares a balancer.
    pub fn new(balancer: Balancer<S>) -> Self {
        Self::of(Arc::new(Inner::new(balancer)))
    }

    fn of(inner: Arc<Inner<S>>) -> Self {
        let seat = inner.enter();
        Self { handle: Arc::new(Handle { inner, seat }) }
    }

    /// Picks a backend for a new connection, which counts as inactive until the lease says otherwise. `None` if no backend is
    /// usable. See [`Balancer::pick`].
    #[inline]
    pub fn pick(&self, flow: &Flow, now: Instant) -> Option<Lease<S>> {
        match self.handle.pick(flow, now) {
            Ok(ticket) => Some(Lease::new(Arc::clone(&self.handle), ticket?, false)),
            Err(NoCopy) => self.pick_together(now, |balancer| balancer.pick(flow, now)),
        }
    }

    /// Picks among the backends other than `tried`, as after a failed attempt to connect. See [`Balancer::pick_except`].
    pub fn pick_except(&self, flow: &Flow, tried: &[BackendId], now: Instant) -> Option<Lease<S>> {
        if tried.is_empty() {
            return self.pick(flow, now);
        }
        self.pick_together(now, |balancer| balancer.pick_except(flow, tried, now))
    }

    /// Lends an affinity table to the picks made through the value returned. Several balancers may share a table.
    ///
    /// A pick locks the balancer first and then, while it holds that, the table. Who has locked the table may therefore
    /// not call a method of a balancer that uses it, other than a lease's.
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// # use std::{sync::Mutex, time::Duration};
    /// # use svcplane::affinity::{Affinity, Scope};
    /// # use svcplane::{backend::Flow, balancer::Balancer, sched::Algorithm, sync::SharedBalancer, time::Instant};
    /// # let now = Instant::ZERO;
    /// # let balancer = SharedBalancer::new(Balancer::new(Algorithm::RoundRobin, 7));
    /// # balancer.set_backends([1, 2].map(|n| SocketAddr::from(([10, 0, 0, n], 80)).into()), now);
    /// # let flow = Flow::new(([192, 0, 2, 7], 40_000).into(), ([10, 96, 0, 10], 80).into());
    /// let table = Mutex::new(Affinity::new(100_000, 42));
    /// let web = Scope::new(1, Duration::from_secs(10_800));
    /// let first = balancer.with_affinity(&table, web).pick(&flow, now).ok_or("no backend")?;
    /// let second = balancer.with_affinity(&table, web).pick(&flow, now).ok_or("no backend")?;
    /// assert_eq!(first.addr(), second.addr());
    /// # Ok::<(), &str>(())
    /// ```
    pub const fn with_affinity<'a>(
        &'a self,
        table: &'a Mutex<Affinity<SocketAddr>>,
        scope: Scope,
    ) -> Sticky<'a, S> {
        Sticky { balancer: self, table, scope }
    }

    /// Makes a lease of the connection that a closure picks, in whatever way: with a table behind a lock of another make, by
    /// [`choices`](Balancer::choices), from several balancers in turn. The lock is held meanwhile, as in [`with`](Self::with).
    ///
    /// The connection has to be of this balancer; the lease of another counts nothing.
    #[inline]
    pub fn pick_with(
        &self,
        pick: impl FnOnce(&mut Balancer<S>) -> Option<Conn>,
    ) -> Option<Lease<S>> {
        let mut locked = self.handle.inner.lock();
        let conn = pick(&mut locked.balancer)?;
        // It may have put another balancer in place.
        locked.settle();
        let ticket = locked.checked_ticket(&conn);
        Some(Lease::new(Arc::clone(&self.handle), ticket, conn.is_active()))
    }

    /// Picks in the balancer itself, with a closure that does no more than that.
    #[inline]
    fn pick_together(
        &self,
        now: Instant,
        pick: impl FnOnce(&mut Balancer<S>) -> Option<Conn>,
    ) -> Option<Lease<S>> {
        let Handle { inner, seat } = &*self.handle;
        let mut locked = inner.lock_to_pick(now);
        let conn = pick(&mut locked.balancer);
        let lease = conn.map(|conn| {
            let ticket = locked.ticket(&conn);
            Lease::new(Arc::clone(&self.handle), ticket, false)
        });
        // Its timers may have changed something.
        locked.settle();
        inner.offer_copy(&mut locked, seat);
        lease
    }

    /// Adds a backend. See [`Balancer::add`].
    pub fn add(&self, backend: Backend, now: Instant) -> BackendId {
        self.with(|balancer| balancer.add(backend, now))
    }

    /// Sets a backend's weight and thresholds. The closure runs while the lock is held, as in [`with`](Self::with). See
    /// [`Balancer::edit`].
    ///
    /// # Errors
    ///
    /// [`StaleId`], also when the backend was removed.
    pub fn edit(
        &self,
        id: BackendId,
        change: impl FnOnce(Backend) -> Backend,
    ) -> Result<(), StaleId> {
        self.with(|balancer| balancer.edit(id, change))
    }

    /// Takes a backend out of the list; leases on it go on. See [`Balancer::remove`].
    ///
    /// # Errors
    ///
    /// [`StaleId`], also when the backend was removed before.
    pub fn remove(&self, id: BackendId, now: Instant) -> Result<(), StaleId> {
        self.with(|balancer| balancer.remove(id, now))
    }

    /// Keeps new connections from a backend until a time. See [`Balancer::suspend`].
    ///
    /// # Errors
    ///
    /// [`StaleId`].
    pub fn suspend(&self, id: BackendId, until: Instant) -> Result<(), StaleId> {
        self.with(|balancer| balancer.suspend(id, until))
    }

    /// Makes the backends these. See [`Balancer::set_backends`].
    pub fn set_backends<I>(&self, backends: I, now: Instant)
    where
        I: IntoIterator<Item = Backend>,
    {
        // The caller's iterator may take its time, or use this very balancer.
        let backends: Vec<Backend> = backends.into_iter().collect();
        self.with(|balancer| balancer.set_backends(backends, now));
    }

    /// Does what it is time for. See [`Balancer::expire`].
    pub fn expire(&self, now: Instant) {
        self.with(|balancer| balancer.expire(now));
    }

    /// When [`expire`](Self::expire) may have something to do next. See [`Balancer::next_expiry`].
    pub fn next_expiry(&self) -> Option<Instant> {
        self.with(|balancer| balancer.next_expiry())
    }

    /// Gives a closure the balancer, with everything counted: to read counts, or for several changes as one.
    ///
    /// Picks wait until the closure returns, so it had better be short; those that handles make by themselves go on, by the list as
    /// it was before. In it, leases can be used and dropped (at about a microsecond each), but another method of this handle or a
    /// clone of it would wait for ever, or panic.
    ///
    /// Leases have to do with the balancer that made them: a closure that puts another in its place, were it a clone, leaves them
    /// without effect, and what they had counted as it is in the one that was there.
    #[inline]
    pub fn with<T>(&self, work: impl FnOnce(&mut Balancer<S>) -> T) -> T {
        work(&mut self.handle.inner.lock().balancer)
    }
}

impl<S: Scheduler> Clone for SharedBalancer<S> {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.handle.inner))
    }
}

impl<S: Scheduler> Drop for SharedBalancer<S> {
    fn drop(&mut self) {
        let Handle { inner, seat } = &*self.handle;
        inner.leave(seat);
    }
}

impl<S: Scheduler> From<Balancer<S>> for SharedBalancer<S> {
    fn from(balancer: Balancer<S>) -> Self {
        Self::new(balancer)
    }
}

impl<S: Scheduler> fmt::Debug for SharedBalancer<S> {
    /// Takes no lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBalancer").finish_non_exhaustive()
    }
}

/// A shared balancer with an affinity table lent to it: picks that heed and note where each client goes, as
/// [`balancer::Sticky`](crate::balancer::Sticky).
pub struct Sticky<'a, S: Scheduler = AnyScheduler> {
    balancer: &'a SharedBalancer<S>,
    table: &'a Mutex<Affinity<SocketAddr>>,
    scope: Scope,
}

impl<S: Scheduler> Sticky<'_, S> {
    /// As [`SharedBalancer::pick`], going where the client went last if that is possible.
    pub fn pick(&self, flow: &Flow, now: Instant) -> Option<Lease<S>> {
        self.pick_except(flow, &[], now)
    }

    /// As [`SharedBalancer::pick_except`], going where the client went last if that was not tried.
    pub fn pick_except(&self, flow: &Flow, tried: &[BackendId], now: Instant) -> Option<Lease<S>> {
        self.balancer.pick_together(now, |balancer| {
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            balancer.with_affinity(&mut table, self.scope).pick_except(flow, tried, now)
        })
    }
}

impl<S: Scheduler> fmt::Debug for Sticky<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sticky").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<S: Scheduler> Handle<S> {
    #[inline]
    fn pick(&self, flow: &Flow, now: Instant) -> Result<Option<Ticket>, NoCopy> {
        self.seat.pick(flow, now, self.inner.filled())
    }

    #[inline]
    fn count(&self, ticket: &Ticket, active: i32, inactive: i32) {
        self.inner.count(&self.seat, ticket, Delta { active, inactive });
    }
}
