//! [`Balancer`]: backends, their connection counts, and a choice among them.
//!
//! ```
//! use std::net::SocketAddr;
//! use svcplane::backend::Flow;
//! use svcplane::balancer::Balancer;
//! use svcplane::sched::Algorithm;
//! use svcplane::time::Instant;
//!
//! // The seed makes instances of a program begin with different backends: any number that differs will do.
//! let seed = std::process::id().into();
//! let mut balancer = Balancer::new(Algorithm::RoundRobin, seed);
//! let (a, b): (SocketAddr, SocketAddr) = ("10.0.0.1:8080".parse()?, "10.0.0.2:8080".parse()?);
//! balancer.set_backends([a.into(), b.into()], Instant::ZERO);
//!
//! // A pick counts as a connection until it is released.
//! let flow = Flow::new("192.0.2.7:40000".parse()?, "10.96.0.10:80".parse()?);
//! let now = Instant::from_secs(1);
//! let mut conn = balancer.pick(&flow, now).ok_or("no backend")?;
//! balancer.activate(&mut conn)?; // the handshake has begun
//! let busy = conn.backend();
//! assert_eq!(balancer.get(busy).unwrap().active(), 1);
//!
//! // Connecting failed? Ask again without those tried.
//! let other = balancer.pick_except(&flow, &[busy], now).ok_or("no other backend")?;
//! assert_ne!(other.addr(), conn.addr());
//!
//! balancer.release(conn)?;
//! balancer.release(other)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Change.** [`add`](Balancer::add), [`edit`](Balancer::edit) and [`remove`](Balancer::remove) are one
//! kernel event each; [`set_backends`](Balancer::set_backends) is the difference made of them. A backend that
//! stays keeps its counts, its clients and its place. A removed one gets nothing new, but its connections go
//! on and can be released; adding its address again revives it with its counts, at the head of the list. Its
//! id goes stale once no connection refers to it and a grace time of 120 to 240 s has passed.
//!
//! **Counting.** As in the kernel, a new connection is *inactive* until [`activate`](Balancer::activate)
//! (TCP: at the SYN) and again after [`deactivate`](Balancer::deactivate) (at the first FIN or RST); UDP stays
//! inactive. For one-packet scheduling, where each datagram is picked for alone, release the connection at once.
//! [`iter`](Balancer::iter) and [`removed`](Balancer::removed) have the counts for metrics. Source: Linux IPVS, 6.1.
//!
//! **Health.** [`suspend`](Balancer::suspend) keeps new connections from a backend until a time, as after failures that the
//! caller saw; with [`set_slow_start`](Balancer::set_slow_start) it gets its part little by little when it comes back, as a
//! new one does.
//!
//! **Cost.** A pick, and each report of a connection, takes a few loads, and a level more of a tree or bitset for many backends: see [`sched`](crate::sched). So does
//! a change of one backend, but that the tables of `sh`, `dh` and `mh` are dealt out anew by the next pick, once for all changes before it.
//! [`change`](Balancer::change) is O(change), [`set_backends`](Balancer::set_backends) O(backends).

mod persistent;
#[cfg(feature = "sync")]
mod shared;
mod sticky;
mod timers;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::hash::BuildHasherDefault;
use core::net::SocketAddr;
use core::time::Duration;

use hashbrown::{HashMap, HashSet};
use siphasher::sip::SipHasher13;
use thiserror::Error;

use crate::affinity::{Affinity, Scope};
use crate::backend::{Backend, BackendChange, BackendId, Flow};
use crate::sched::{
    Algorithm, AnyScheduler, Backends, Change, Entry, Flags, MaglevHashing, Place, Scheduler,
};
use crate::time::Instant;

pub use persistent::{Controlled, Persistent, StaleConnection};
pub use sticky::Sticky;
use timers::Timer;

/// A set of backends and the scheduler that picks among them.
#[derive(Clone, Debug)]
pub struct Balancer<S = AnyScheduler> {
    backends: Backends,
    scheduler: S,
    /// Every backend that has a slot, listed or not.
    by_addr: HashMap<SocketAddr, BackendId, AddrHasher>,
    timers: BTreeSet<(Instant, BackendId, Timer)>,
    /// When the first timer ends; no pick looks further.
    next: Instant,
    slow_start: Duration,
    #[cfg(feature = "sync")]
    mark: shared::Mark,
}

type AddrHasher = BuildHasherDefault<SipHasher13>;

const GRACE: Duration = Duration::from_secs(120);
/// The kernel's weights are signed 32-bit numbers.
const MAX_WEIGHT: u32 = i32::MAX as u32;

/// What the kernel would take: it refuses the rest.
fn legal(backend: Backend) -> Backend {
    let lower_threshold = backend.lower_threshold.min(backend.upper_threshold);
    Backend { weight: backend.weight.min(MAX_WEIGHT), lower_threshold, ..backend }
}

/// A connection that a pick counted. To be [released](Balancer::release) when it is over; dropping it
/// leaves it counted for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the connection stays counted until it is given to `Balancer::release`"]
pub struct Conn {
    backend: BackendId,
    addr: SocketAddr,
    active: bool,
}

impl Conn {
    /// The backend's address.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The backend's handle.
    pub const fn backend(&self) -> BackendId {
        self.backend
    }
}

#[cfg(feature = "sync")]
impl Conn {
    pub(crate) const fn is_active(&self) -> bool {
        self.active
    }
}

/// The id belongs to no backend of this balancer any more, or never did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "stale backend id {id:?}: expected one of this balancer that is listed, has connections or was removed recently"
)]
#[non_exhaustive]
pub struct StaleId {
    /// The id that was given.
    pub id: BackendId,
}

impl Balancer {
    /// A balancer without backends. The seed says where the algorithm begins and which of equals it takes first; balancers with
    /// different seeds spread their first picks.
    pub fn new(algorithm: Algorithm, seed: u64) -> Self {
        Self::with_flags(algorithm, Flags::default(), seed)
    }

    /// A balancer without backends. With [`Flags::KERNEL`] it picks what a kernel would.
    pub fn with_flags(algorithm: Algorithm, flags: Flags, seed: u64) -> Self {
        Self::with_scheduler(AnyScheduler::new(algorithm, flags, seed))
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.scheduler.algorithm()
    }

    /// Goes on with another algorithm, which starts afresh; backends and their counts stay. The same algorithm goes on
    /// as it was: of what is given, only the flags [`port`](Flags::port) and [`fallback`](Flags::fallback) are taken up.
    pub fn set_algorithm(&mut self, algorithm: Algorithm, flags: Flags, seed: u64) {
        if self.algorithm() == algorithm {
            self.scheduler.set_flags(flags);
            #[cfg(feature = "sync")]
            self.mark.outdate();
            return;
        }
        self.scheduler = AnyScheduler::new(algorithm, flags, seed);
        self.tell(Change::Renumbered);
    }
}

impl Balancer<MaglevHashing> {
    /// Where a flow may go, in the order of preference: each usable backend at most once, the first being what
    /// [`pick`](Self::pick) picks. Nothing is counted.
    ///
    /// See [`MaglevHashing::choices`]; with any algorithm, [`pick_except`](Self::pick_except) goes on to the next choice.
    pub fn choices(&mut self, flow: &Flow) -> impl Iterator<Item = (BackendId, &Entry)> {
        let backends = &self.backends;
        let places = self.scheduler.choices(backends, flow);
        places.filter_map(|place| Some((backends.id(place)?, backends.get(place)?)))
    }
}

impl<S: Scheduler> Balancer<S> {
    /// A balancer without backends that uses a scheduler of the caller's own, which has to be as new.
    pub fn with_scheduler(scheduler: S) -> Self {
        Self {
            backends: Backends::default(),
            scheduler,
            by_addr: HashMap::default(),
            timers: BTreeSet::new(),
            next: Instant::MAX,
            slow_start: Duration::ZERO,
            #[cfg(feature = "sync")]
            mark: shared::Mark::default(),
        }
    }

    /// Lets backends that are added from now on, or come back from a [suspension](Self::suspend), start slowly: they get a
    /// sixteenth of their part at first and the whole of it after this time, growing in even steps. Zero, the default, is the whole
    /// at once. Those that are starting go on at the new pace.
    ///
    /// What a sixteenth is depends on the algorithm. `rr`, `wrr`, `random` and `wrandom` pass over the backend fifteen times of
    /// sixteen; `lc`, `wlc`, `sed` and `p2c` count its connections sixteenfold, so that it does not draw every new one until it has
    /// as many as the others. `nq` still takes an idle one first. `sh`, `dh` and `mh` do not heed it, as clients would move.
    pub fn set_slow_start(&mut self, window: Duration) {
        self.slow_start = window;
    }

    /// Adds a backend at the head of the list. One that is listed already is [edited](Self::edit) in its
    /// place; one that was removed not long ago comes back with its counts, and with its suspension.
    pub fn add(&mut self, backend: Backend, now: Instant) -> BackendId {
        self.expire(now);
        let backend = legal(backend);
        let known = self.by_addr.get(&backend.addr).copied();
        if let Some(id) = known.filter(|&id| self.set(id, backend)) {
            return id;
        }
        let revived = known.filter(|&id| self.backends.entry(id).is_some());
        let id = revived.unwrap_or_else(|| self.backends.create(backend));
        self.backends.set(id, backend, true);
        self.by_addr.insert(backend.addr, id);
        if let Some(aside) = self.backends.aside_mut(id) {
            aside.listed_since = now;
        }
        self.start_slowly(id, now);
        self.link(id);
        id
    }

    /// Sets a backend's weight and thresholds to what `change` makes of them; its place, counts and clients stay, and so does its
    /// address. The scheduler hears of it even when nothing is other than it was.
    ///
    /// ```
    /// # use svcplane::{balancer::Balancer, sched::Algorithm, time::Instant};
    /// # let mut balancer = Balancer::new(Algorithm::LeastConnection, 7);
    /// # let id = balancer.add("10.0.0.1:80".parse::<std::net::SocketAddr>()?.into(), Instant::ZERO);
    /// balancer.edit(id, |backend| backend.with_weight(0))?; // nothing new: let it drain
    /// assert_eq!(balancer.get(id).map(|entry| entry.usable()), Some(false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StaleId`], also when the backend was removed.
    pub fn edit(
        &mut self,
        id: BackendId,
        change: impl FnOnce(Backend) -> Backend,
    ) -> Result<(), StaleId> {
        let place = self.backends.place(id).ok_or(StaleId { id })?;
        let entry = self.backends.get(place).ok_or(StaleId { id })?;
        let backend = Backend { addr: entry.addr(), ..change(entry.backend) };
        self.set(id, legal(backend));
        Ok(())
    }

    /// Takes a backend out of the list. Its open connections stay counted.
    ///
    /// # Errors
    ///
    /// [`StaleId`], also when the backend was removed before.
    pub fn remove(&mut self, id: BackendId, now: Instant) -> Result<(), StaleId> {
        self.expire(now);
        let place = self.backends.unlink(id).ok_or(StaleId { id })?;
        self.tell(Change::Removed(place));
        if let Some(aside) = self.backends.aside_mut(id) {
            aside.idle = false;
            // One that was revived since it was removed last may still wait for its look.
            if !core::mem::replace(&mut aside.buried, true) {
                self.arm(now + GRACE, id, Timer::Look);
            }
        }
        Ok(())
    }

    /// Keeps new connections from a backend until a time, or until that is set anew; a time that is past ends it with the next call
    /// that is given the time. Its open connections go on. For passive health: the caller has seen it fail.
    ///
    /// While all backends are suspended, nothing is picked. A caller who would rather try one than none suspends the
    /// last one not.
    ///
    /// # Errors
    ///
    /// [`StaleId`]. One that was removed not long ago is suspended all the same.
    pub fn suspend(&mut self, id: BackendId, until: Instant) -> Result<(), StaleId> {
        let aside = self.backends.aside_mut(id).ok_or(StaleId { id })?;
        if let Some(earlier) = aside.suspended_until.replace(until) {
            self.timers.remove(&(earlier, id, Timer::Resume));
        }
        self.arm(until, id, Timer::Resume);
        if let Some(entry) = self.backends.entry_mut(id) {
            entry.suspended = true;
        }
        self.updated(id);
        Ok(())
    }

    /// Makes the backends these: removes those not given, edits those whose weight differs, adds the new ones
    /// in the given order (so that the last is walked first). The rest is not touched. Of several for one
    /// address the first counts.
    pub fn set_backends<I>(&mut self, backends: I, now: Instant)
    where
        I: IntoIterator<Item = Backend>,
    {
        self.expire(now);
        let mut wanted: HashSet<SocketAddr, AddrHasher> = HashSet::default();
        let backends: Vec<Backend> =
            backends.into_iter().filter(|backend| wanted.insert(backend.addr)).collect();
        let gone: Vec<BackendId> = self
            .iter()
            .filter(|(_, entry)| !wanted.contains(&entry.addr()))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            // The id was listed a moment ago.
            let _ = self.remove(id, now);
        }
        for backend in backends {
            let listed = self.find(backend.addr).filter(|&id| self.is_listed(id));
            let present = listed.and_then(|id| self.get(id)).map(|entry| entry.backend);
            if present != Some(legal(backend)) {
                self.add(backend, now);
            }
        }
    }

    /// Carries changes out, one after the other. O(change), where [`set_backends`](Self::set_backends) looks at all there are: a
    /// balancer that has followed all changes of a list since it had none is as one that was given the list each time.
    ///
    /// ```
    /// # use svcplane::{backend::BackendChange, balancer::Balancer, sched::Algorithm, time::Instant};
    /// # let mut balancer = Balancer::new(Algorithm::RoundRobin, 7);
    /// let addr = "10.0.0.1:80".parse()?;
    /// balancer.change([BackendChange::Set(std::net::SocketAddr::into(addr))], Instant::ZERO);
    /// assert!(balancer.find(addr).is_some());
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn change<I>(&mut self, changes: I, now: Instant)
    where
        I: IntoIterator<Item = BackendChange>,
    {
        self.expire(now);
        for change in changes {
            match change {
                BackendChange::Set(backend) => drop(self.add(backend, now)),
                BackendChange::Remove(addr) => {
                    if let Some(id) = self.find(addr) {
                        // One that is removed already stays so.
                        let _ = self.remove(id, now);
                    }
                }
            }
        }
    }

    /// Picks a backend for a new connection and counts it as inactive. `None` if no backend is usable; the
    /// kernel then refuses the client.
    #[inline]
    pub fn pick(&mut self, flow: &Flow, now: Instant) -> Option<Conn> {
        self.expire(now);
        let place = self.scheduler.pick(&self.backends, flow)?;
        self.connect(place)
    }

    /// Picks among the backends other than `tried`, as after a failed attempt to connect. Stale ids in
    /// `tried` exclude nothing. O(tried) besides the pick.
    ///
    /// To the algorithm, those tried are not usable for the moment. So a hashing one with
    /// [`fallback`](Flags::fallback) off, whose choice is among them, finds none.
    pub fn pick_except(&mut self, flow: &Flow, tried: &[BackendId], now: Instant) -> Option<Conn> {
        self.set_excluded(tried, true);
        let conn = self.pick(flow, now);
        self.set_excluded(tried, false);
        conn
    }

    /// Lets a backend run dry: its weight is 0 from now on, so that it gets no new clients, but those whom an affinity table has
    /// sent there may go on coming until a time. Any later edit ends that.
    ///
    /// # Errors
    ///
    /// [`StaleId`], also when the backend was removed.
    pub fn drain(&mut self, id: BackendId, until: Instant) -> Result<(), StaleId> {
        self.edit(id, |backend| backend.with_weight(0))?;
        if let Some(aside) = self.backends.aside_mut(id) {
            aside.drains_until = Some(until);
        }
        Ok(())
    }

    /// Lends an affinity table to the picks made through the value returned.
    pub fn with_affinity<'a>(
        &'a mut self,
        table: &'a mut Affinity<SocketAddr>,
        scope: Scope,
    ) -> Sticky<'a, S> {
        Sticky::new(self, table, scope)
    }

    /// Counts a connection as active. Nothing changes if it is.
    ///
    /// # Errors
    ///
    /// [`StaleId`] for a connection of another balancer, as far as id and address tell.
    pub fn activate(&mut self, conn: &mut Conn) -> Result<(), StaleId> {
        self.set_active(conn, true)
    }

    /// Counts a connection as inactive again. Nothing changes if it is.
    ///
    /// # Errors
    ///
    /// [`StaleId`] for a connection of another balancer, as far as id and address tell.
    pub fn deactivate(&mut self, conn: &mut Conn) -> Result<(), StaleId> {
        self.set_active(conn, false)
    }

    /// Counts a connection no more.
    ///
    /// # Errors
    ///
    /// [`StaleId`] for a connection of another balancer, as far as id and address tell.
    #[expect(clippy::needless_pass_by_value, reason = "a connection can be released once")]
    pub fn release(&mut self, conn: Conn) -> Result<(), StaleId> {
        let (entry, place) = self.counted_in(&conn)?;
        let count = if conn.active { &mut entry.active } else { &mut entry.inactive };
        *count = count.saturating_sub(1);
        let relieved = entry.uncounted();
        if let Some(place) = place {
            let change = if relieved { Change::Updated(place) } else { Change::Counted(place) };
            self.scheduler.changed(&self.backends, change);
        }
        Ok(())
    }

    /// Does what it is time for: forgets removed backends, ends suspensions, lets shares grow. Every call that is given the time
    /// does it too; this one is for balancers that are idle. [`next_expiry`](Self::next_expiry) says when it is worth a call.
    #[inline]
    pub fn expire(&mut self, now: Instant) {
        if now >= self.next {
            self.run_timers(now);
        }
    }

    /// When [`expire`](Self::expire) may have something to do next.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.timers.first().map(|(deadline, ..)| *deadline)
    }

    /// The handle of the backend with an address, listed or removed not long ago.
    pub fn find(&self, addr: SocketAddr) -> Option<BackendId> {
        self.by_addr.get(&addr).copied()
    }

    /// A backend with its counts, listed or removed not long ago.
    pub fn get(&self, id: BackendId) -> Option<&Entry> {
        self.backends.entry(id)
    }

    /// Whether a backend is listed: added and not removed since.
    pub fn is_listed(&self, id: BackendId) -> bool {
        self.backends.place(id).is_some()
    }

    /// The listed backends with their counts, from head to tail.
    pub fn iter(&self) -> impl Iterator<Item = (BackendId, &Entry)> {
        self.backends.iter().filter_map(|(place, entry)| Some((self.backends.id(place)?, entry)))
    }

    /// The removed backends that are remembered, with their counts, in no particular order.
    pub fn removed(&self) -> impl Iterator<Item = (BackendId, &Entry)> {
        let looks = self.timers.iter().filter(|(.., timer)| *timer == Timer::Look);
        let removed = looks.map(|(_, id, _)| *id).filter(|&id| !self.is_listed(id));
        removed.filter_map(|id| Some((id, self.get(id)?)))
    }

    /// How many backends are listed.
    pub const fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether no backend is listed.
    pub const fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    fn link(&mut self, id: BackendId) {
        if self.backends.renumber() {
            self.tell(Change::Renumbered);
            self.backends.forget_former_places();
        }
        if let Some(place) = self.backends.link(id) {
            self.tell(Change::Added(place));
        }
    }

    /// Edits a backend that is listed; false if it is not.
    fn set(&mut self, id: BackendId, backend: Backend) -> bool {
        let Some(place) = self.backends.place(id) else { return false };
        self.backends.set(id, backend, false);
        self.tell(Change::Edited(place));
        true
    }

    fn set_excluded(&mut self, ids: &[BackendId], excluded: bool) {
        for &id in ids {
            let Some((entry, place)) = self.backends.listed_mut(id) else { continue };
            entry.excluded = excluded;
            // For one pick only: it is no change of the list.
            if let Some(place) = place {
                self.scheduler.changed(&self.backends, Change::Updated(place));
            }
        }
    }

    fn set_active(&mut self, conn: &mut Conn, active: bool) -> Result<(), StaleId> {
        let (entry, place) = self.counted_in(conn)?;
        if conn.active == active {
            return Ok(());
        }
        conn.active = active;
        let (from, to) = if active {
            (&mut entry.inactive, &mut entry.active)
        } else {
            (&mut entry.active, &mut entry.inactive)
        };
        *from = from.saturating_sub(1);
        *to = to.saturating_add(1);
        if let Some(place) = place {
            self.scheduler.changed(&self.backends, Change::Counted(place));
        }
        Ok(())
    }

    /// The backend that a connection is counted in, and its place if it is listed.
    fn counted_in(&mut self, conn: &Conn) -> Result<(&mut Entry, Option<Place>), StaleId> {
        let own = self.backends.listed_mut(conn.backend);
        own.filter(|(entry, _)| entry.addr() == conn.addr).ok_or(StaleId { id: conn.backend })
    }

    #[inline]
    fn connect(&mut self, place: Place) -> Option<Conn> {
        let (backend, entry) = self.backends.at_mut(place)?;
        entry.inactive = entry.inactive.saturating_add(1);
        let filled = entry.counted();
        let addr = entry.addr();
        let change = if filled { Change::Updated(place) } else { Change::Counted(place) };
        self.scheduler.changed(&self.backends, change);
        Some(Conn { backend, addr, active: false })
    }

    fn updated(&mut self, id: BackendId) {
        if let Some(place) = self.backends.place(id) {
            self.tell(Change::Updated(place));
        }
    }

    /// Tells the scheduler of a change that is not of counts or for one pick only.
    fn tell(&mut self, change: Change) {
        #[cfg(feature = "sync")]
        self.mark.outdate();
        self.scheduler.changed(&self.backends, change);
    }
}
