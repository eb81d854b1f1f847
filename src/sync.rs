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
//! **Picks** take a lock, for as long as a [`Balancer::pick`] takes: some tens of nanoseconds. What a [`Lease`] reports (established,
//! closing, released) tries for about a microsecond to get that lock, and is counted at once if it does. If something holds it for longer,
//! such as a closure or a thread that was descheduled, the report is put in one of a few queues, and whoever has the lock next counts it before
//! doing anything else. So a lease can be dropped anywhere: in a task that is cancelled, while unwinding, in a closure given to
//! [`with`](SharedBalancer::with). It never waits for a pick or a closure to end, only for another lease's few instructions.
//!
//! **Order.** A call sees all calls that happened before it: those made earlier by its thread, and those of which its thread
//! knows through a channel, a lock, a join. Only what another thread is just doing may be seen a moment later. Counts are
//! never read without what is queued, and are exact. With one thread, picks are those of the plain [`Balancer`].
//!
//! **Memory.** The queues hold at most three entries, of 48 bytes, for each lease that was open when the lock was last taken.
//!
//! **Panics.** A panic in a closure or a scheduler of the caller's own, while the lock is held, does not take the balancer out of
//! service: the next call goes on with what there is, as each method of [`Balancer`] leaves it whole. With a scheduler of this crate nothing
//! here panics; dropping a lease while unwinding asks no scheduler.
//!
//! **How far it goes.** Each connection costs one critical section for its pick and as a rule two more, whatever the number of
//! threads, so that 64 of them together cannot do more than two that contend, and what a lock costs that more threads wait for comes on top.
//! Two do about 7,000,000 connections a second with `rr`, 5,000,000 with `lc` (100 backends, `benches/sync.rs`, two cores of a shared AMD
//! EPYC; one thread alone does 14,000,000 and 10,000,000); with more it was reasoned, not measured. A proxy
//! that picks for each *connection* does not come near that. One that picks for every *request* on 64 threads may: then give each
//! worker a plain [`Balancer`] of its own, with a seed of its own. Nothing is shared then, and throughput grows with the workers, but each
//! knows its own connections only: `rr` and the hashing algorithms choose as well as before, `lc`, `sed` and their like even out
//! each worker's part of the load rather than the whole, and an upper threshold holds per worker.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::affinity::{Affinity, Scope};
use crate::backend::{Backend, BackendId, Flow};
use crate::balancer::{Balancer, Conn, StaleId};
use crate::sched::{AnyScheduler, Scheduler};
use crate::time::Instant;

/// A handle on a [`Balancer`] that threads share. Clones are handles on the same one.
///
/// A thread that has a clone of its own is fastest: leases count their references in the handle that made them, and no two threads
/// write to the same. Making a clone allocates, so it is for a thread or a listener rather than for each connection.
///
/// Its methods are those of [`Balancer`], where there is more to read about each; [`with`](Self::with) gives access to the rest.
pub struct SharedBalancer<S: Scheduler = AnyScheduler> {
    handle: Arc<Handle<S>>,
}

struct Handle<S> {
    core: Arc<Core<S>>,
    /// One queue for all events of a lease: they are counted in their order.
    queue: usize,
}

struct Core<S> {
    main: Mutex<Main<S>>,
    /// How many handles were made.
    handles: AtomicUsize,
    /// A bit for each queue that is not empty.
    filled: AtomicUsize,
    queues: Box<[Queue]>,
}

struct Main<S> {
    balancer: Balancer<S>,
    /// Taken from a queue and not yet counted. Not empty only while that is done, or when a scheduler panicked.
    taken: VecDeque<Event>,
}

/// On a cache line of its own (two, as they are fetched in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Queue(Mutex<VecDeque<Event>>);

/// So many that two threads seldom want the same one.
const QUEUES: usize = 4;

/// How often a lease tries to get the lock. A queue costs more than the few tens of nanoseconds for which a pick holds it.
const PATIENCE: u32 = 16;
const SPINS: u32 = 4;

/// A queue that once was longer gives its memory back.
const KEPT: usize = 1024;

/// Something that happened to a connection, and the connection as it was before.
struct Event {
    conn: Conn,
    kind: Kind,
}

const _: () = assert!(size_of::<Event>() == 48);

#[derive(Clone, Copy)]
enum Kind {
    Activate,
    Deactivate,
    Release,
}

impl<S: Scheduler> SharedBalancer<S> {
    /// Shares a balancer.
    pub fn new(balancer: Balancer<S>) -> Self {
        let main = Main { balancer, taken: VecDeque::new() };
        Self::of(Arc::new(Core {
            main: Mutex::new(main),
            handles: AtomicUsize::new(0),
            filled: AtomicUsize::new(0),
            queues: core::iter::repeat_with(Queue::default).take(QUEUES).collect(),
        }))
    }

    fn of(core: Arc<Core<S>>) -> Self {
        let queue = core.handles.fetch_add(1, Ordering::Relaxed) % QUEUES;
        Self { handle: Arc::new(Handle { core, queue }) }
    }

    /// Picks a backend for a new connection, which counts as inactive until the lease says otherwise. `None` if no backend is usable.
    /// See [`Balancer::pick`].
    #[inline]
    pub fn pick(&self, flow: &Flow, now: Instant) -> Option<Lease<S>> {
        self.pick_with(|balancer| balancer.pick(flow, now))
    }

    /// Picks among the backends other than `tried`, as after a failed attempt to connect. See [`Balancer::pick_except`].
    pub fn pick_except(&self, flow: &Flow, tried: &[BackendId], now: Instant) -> Option<Lease<S>> {
        self.pick_with(|balancer| balancer.pick_except(flow, tried, now))
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
        let conn = pick(&mut self.handle.core.lock().balancer)?;
        Some(Lease { handle: Arc::clone(&self.handle), conn, stage: Stage::New })
    }

    /// Adds a backend. See [`Balancer::add`].
    pub fn add(&self, backend: Backend, now: Instant) -> BackendId {
        self.with(|balancer| balancer.add(backend, now))
    }

    /// Sets a backend's weight and thresholds. The closure runs while the lock is held, as in [`with`](Self::with). See [`Balancer::edit`].
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
    /// Picks wait until the closure returns, so it had better be short. In it, leases can be used and dropped (at about a microsecond each), but
    /// another method of this handle or a clone of it would wait for ever, or panic. Leases have to do with the balancer that made them: a
    /// closure that puts another in its place leaves them without effect.
    #[inline]
    pub fn with<T>(&self, work: impl FnOnce(&mut Balancer<S>) -> T) -> T {
        let mut main = self.handle.core.lock();
        let result = work(&mut main.balancer);
        // Leases that the closure dropped, or that others did meanwhile.
        self.handle.core.catch_up(&mut main);
        result
    }
}

impl<S: Scheduler> Clone for SharedBalancer<S> {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.handle.core))
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
        self.balancer.pick_with(|balancer| {
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

/// A connection that a pick counted. Dropping it releases it.
///
/// It keeps the balancer alive, not the backend: if that is removed, the lease goes on until it is dropped. Its calls do not wait for
/// picks, and do not fail.
#[must_use = "the connection is released when the lease is dropped"]
pub struct Lease<S: Scheduler = AnyScheduler> {
    handle: Arc<Handle<S>>,
    conn: Conn,
    stage: Stage,
}

/// Stages follow each other and none comes twice, so that a lease has at most one event of a kind queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    New,
    Established,
    Closing,
}

impl<S: Scheduler> Lease<S> {
    /// The backend's address.
    pub const fn addr(&self) -> SocketAddr {
        self.conn.addr()
    }

    /// The backend's handle, for `tried` in [`SharedBalancer::pick_except`] and for [`SharedBalancer::suspend`].
    pub const fn backend(&self) -> BackendId {
        self.conn.backend()
    }

    /// The connection is there (TCP: the handshake is done): it counts as active. Only the first call does something, and only
    /// before [`closing`](Self::closing). UDP has no such state, and needs no call.
    ///
    /// `DIFFERENCE`: the kernel, between client and server, counts it from the SYN on. A proxy that wants this calls it after the pick.
    pub fn established(&mut self) {
        if self.stage < Stage::Established {
            self.advance(Stage::Established, Kind::Activate);
        }
    }

    /// One side has closed or reset the connection: it counts as inactive until it is dropped. Only the first call does something.
    pub fn closing(&mut self) {
        match self.stage {
            Stage::New => self.stage = Stage::Closing,
            Stage::Established => self.advance(Stage::Closing, Kind::Deactivate),
            Stage::Closing => {}
        }
    }

    fn advance(&mut self, stage: Stage, kind: Kind) {
        self.stage = stage;
        self.post(kind);
        self.conn.set_active(stage == Stage::Established);
    }

    #[inline]
    fn post(&self, kind: Kind) {
        let Handle { core, queue } = &*self.handle;
        core.post(&self.conn, kind, *queue);
    }
}

impl<S: Scheduler> Drop for Lease<S> {
    #[inline]
    fn drop(&mut self) {
        self.post(Kind::Release);
    }
}

impl<S: Scheduler> fmt::Debug for Lease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("addr", &self.addr())
            .field("backend", &self.backend())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<S: Scheduler> Core<S> {
    /// The lock, with everything counted.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Main<S>> {
        let mut main = self.main.lock().unwrap_or_else(PoisonError::into_inner);
        self.catch_up(&mut main);
        main
    }

    /// Counts an event, or leaves that to who has the lock next.
    #[inline]
    fn post(&self, conn: &Conn, kind: Kind, queue: usize) {
        // While unwinding no scheduler of the caller's is asked: if it panicked, that would end the process.
        if !std::thread::panicking() {
            if let Some(mut main) = self.try_lock() {
                self.catch_up(&mut main);
                main.balancer.count(conn.alias(), kind);
                return;
            }
        }
        self.put_off(Event { conn: conn.alias(), kind }, queue);
    }

    #[cold]
    fn put_off(&self, event: Event, queue: usize) {
        self.queues[queue].lock().push_back(event);
        self.filled.fetch_or(1 << queue, Ordering::Release);
    }

    /// The lock, unless it is held for longer than a pick takes.
    #[inline]
    fn try_lock(&self) -> Option<MutexGuard<'_, Main<S>>> {
        for _ in 0..PATIENCE {
            match self.main.try_lock() {
                Ok(main) => return Some(main),
                Err(TryLockError::Poisoned(error)) => return Some(error.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
            for _ in 0..SPINS {
                core::hint::spin_loop();
            }
        }
        None
    }

    #[inline]
    fn catch_up(&self, main: &mut Main<S>) {
        // Who calls holds the lock, so that whatever else took events is over with them.
        if self.filled.load(Ordering::Relaxed) != 0 || !main.taken.is_empty() {
            self.drain(main);
        }
    }

    /// Counts what is queued by now. Each event was put there by a call that would have counted it itself.
    #[cold]
    fn drain(&self, main: &mut Main<S>) {
        main.count_taken();
        let filled = self.filled.load(Ordering::Relaxed);
        for (n, queue) in self.queues.iter().enumerate().filter(|(n, _)| filled & (1 << n) != 0) {
            // Before the queue is emptied: what comes after that sets it again.
            self.filled.fetch_and(!(1 << n), Ordering::Acquire);
            core::mem::swap(&mut *queue.lock(), &mut main.taken);
            main.count_taken();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Scheduler> Main<S> {
    fn count_taken(&mut self) {
        while let Some(Event { conn, kind }) = self.taken.pop_front() {
            self.balancer.count(conn, kind);
        }
        self.taken.shrink_to(KEPT);
    }
}

impl<S: Scheduler> Balancer<S> {
    /// A stale id is of a balancer that a closure has put away.
    #[inline]
    fn count(&mut self, mut conn: Conn, kind: Kind) {
        let _ = match kind {
            Kind::Activate => self.activate(&mut conn),
            Kind::Deactivate => self.deactivate(&mut conn),
            Kind::Release => self.release(conn),
        };
    }
}
