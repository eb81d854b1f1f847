//! [`Balancer`]: backends, their connection counts, and a choice among them.
//!
//! ```
//! use std::net::SocketAddr;
//! use svcplane::backend::Flow;
//! use svcplane::balancer::Balancer;
//! use svcplane::sched::Algorithm;
//! use svcplane::time::Instant;
//!
//! let mut balancer = Balancer::new(Algorithm::RoundRobin);
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
//! inactive. Source: Linux IPVS, 6.1.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::BuildHasherDefault;
use core::net::SocketAddr;
use core::time::Duration;

use hashbrown::{HashMap, HashSet};
use siphasher::sip::SipHasher13;
use thiserror::Error;

use crate::affinity::{Affinity, Scope};
use crate::backend::{Backend, BackendId, Flow};
use crate::sched::{Algorithm, AnyScheduler, Backends, Change, Entry, Flags, Place, Scheduler};
use crate::time::Instant;

/// A set of backends and the scheduler that picks among them.
#[derive(Clone, Debug)]
pub struct Balancer<S = AnyScheduler> {
    backends: Backends,
    scheduler: S,
    /// Every backend that has a slot, listed or not.
    by_addr: HashMap<SocketAddr, BackendId, AddrHasher>,
    /// Removed backends in the order of their deadlines.
    graveyard: VecDeque<Grave>,
}

type AddrHasher = BuildHasherDefault<SipHasher13>;

#[derive(Clone, Copy, Debug)]
struct Grave {
    id: BackendId,
    deadline: Instant,
}

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
    /// A balancer without backends.
    pub fn new(algorithm: Algorithm) -> Self {
        Self::with_scheduler(algorithm.into())
    }

    /// Goes on with another algorithm, which starts afresh; backends and their counts stay. The same algorithm goes on
    /// as it was, from now on with these flags.
    pub fn set_algorithm(&mut self, algorithm: Algorithm, flags: Flags) {
        if self.scheduler.algorithm() == algorithm {
            self.scheduler.set_flags(flags);
            return;
        }
        self.scheduler = AnyScheduler::new(algorithm, flags);
        self.scheduler.changed(&self.backends, Change::Renumbered);
    }
}

impl<S: Scheduler> Balancer<S> {
    /// A balancer without backends that uses a scheduler of the caller's own, which has to be as new.
    pub fn with_scheduler(scheduler: S) -> Self {
        Self {
            backends: Backends::default(),
            scheduler,
            by_addr: HashMap::default(),
            graveyard: VecDeque::new(),
        }
    }

    /// Adds a backend at the head of the list. One that is listed already is [edited](Self::edit) in its
    /// place; one that was removed not long ago comes back with its counts.
    pub fn add(&mut self, backend: Backend, now: Instant) -> BackendId {
        self.expire(now);
        let backend = legal(backend);
        let known = self.by_addr.get(&backend.addr).copied();
        if let Some(id) = known.filter(|&id| self.set(id, backend)) {
            return id;
        }
        let revived = known.filter(|&id| self.backends.entry(id).is_some());
        let id = revived.unwrap_or_else(|| self.backends.create(backend));
        if let Some(entry) = self.backends.entry_mut(id) {
            entry.set(backend, true);
        }
        self.by_addr.insert(backend.addr, id);
        self.link(id);
        id
    }

    /// Sets a backend's weight; its place, counts and clients stay. The scheduler hears of it even when the
    /// weight is what it was.
    ///
    /// # Errors
    ///
    /// [`StaleId`], also when the backend was removed.
    pub fn edit(&mut self, id: BackendId, weight: u32) -> Result<(), StaleId> {
        let backend = self.backends.entry(id).map(|entry| entry.backend.with_weight(weight));
        let set = backend.is_some_and(|backend| self.set(id, legal(backend)));
        if set { Ok(()) } else { Err(StaleId { id }) }
    }

    /// Takes a backend out of the list. Its open connections stay counted.
    ///
    /// # Errors
    ///
    /// [`StaleId`], also when the backend was removed before.
    pub fn remove(&mut self, id: BackendId, now: Instant) -> Result<(), StaleId> {
        self.expire(now);
        let place = self.backends.unlink(id).ok_or(StaleId { id })?;
        self.scheduler.changed(&self.backends, Change::Removed(place));
        if let Some(entry) = self.backends.entry_mut(id) {
            entry.idle = false;
            // One that was revived since it was removed last may still wait for its look.
            if !core::mem::replace(&mut entry.buried, true) {
                self.graveyard.push_back(Grave { id, deadline: now + GRACE });
            }
        }
        Ok(())
    }

    /// Makes the backends these: removes those not given, edits those whose weight differs, adds the new ones
    /// in the given order (so that the last is walked first). The rest is not touched. Of several for one
    /// address the first counts.
    pub fn set_backends<I>(&mut self, backends: I, now: Instant)
    where
        I: IntoIterator<Item = Backend>,
    {
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

    /// Picks a backend for a new connection and counts it as inactive. `None` if no backend is usable; the
    /// kernel then refuses the client.
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

    /// Lends an affinity table to the picks made through the value returned.
    pub fn with_affinity<'a>(
        &'a mut self,
        table: &'a mut Affinity<SocketAddr>,
        scope: Scope,
    ) -> Sticky<'a, S> {
        Sticky { balancer: self, table, scope }
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
        let id = conn.backend;
        let own = self.backends.entry_mut(id).filter(|entry| entry.addr() == conn.addr);
        let entry = own.ok_or(StaleId { id })?;
        let count = if conn.active { &mut entry.active } else { &mut entry.inactive };
        *count = count.saturating_sub(1);
        entry.uncounted();
        self.updated(id);
        Ok(())
    }

    /// Forgets removed backends whose time is over. Every call that is given the time does it too; this one
    /// is for balancers that are idle. [`next_expiry`](Self::next_expiry) says when it is worth a call.
    pub fn expire(&mut self, now: Instant) {
        for _ in 0..self.graveyard.len() {
            let Some(&grave) = self.graveyard.front().filter(|grave| grave.deadline <= now) else {
                return;
            };
            self.graveyard.pop_front();
            let listed = self.is_listed(grave.id);
            let Some(entry) = self.backends.entry_mut(grave.id) else { continue };
            if listed {
                entry.buried = false;
                continue;
            }
            let busy = entry.active > 0 || entry.inactive > 0;
            if entry.idle && !busy {
                let addr = entry.addr();
                self.by_addr.remove(&addr);
                self.backends.forget(grave.id);
            } else {
                // One more grace time from the first look that finds no connection, as the kernel's trash has it.
                entry.idle = !busy;
                self.graveyard.push_back(Grave { deadline: now + GRACE, ..grave });
            }
        }
    }

    /// When [`expire`](Self::expire) may have something to do next.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.graveyard.front().map(|grave| grave.deadline)
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
            self.scheduler.changed(&self.backends, Change::Renumbered);
        }
        if let Some(place) = self.backends.link(id) {
            self.scheduler.changed(&self.backends, Change::Added(place));
        }
    }

    /// Edits a backend that is listed; false if it is not.
    fn set(&mut self, id: BackendId, backend: Backend) -> bool {
        let Some(place) = self.backends.place(id) else { return false };
        if let Some(entry) = self.backends.entry_mut(id) {
            entry.set(backend, false);
        }
        self.scheduler.changed(&self.backends, Change::Edited(place));
        true
    }

    fn set_excluded(&mut self, ids: &[BackendId], excluded: bool) {
        for &id in ids {
            if let Some(entry) = self.backends.entry_mut(id) {
                entry.excluded = excluded;
                self.updated(id);
            }
        }
    }

    fn set_active(&mut self, conn: &mut Conn, active: bool) -> Result<(), StaleId> {
        let id = conn.backend;
        let own = self.backends.entry_mut(id).filter(|entry| entry.addr() == conn.addr);
        let entry = own.ok_or(StaleId { id })?;
        if conn.active != active {
            conn.active = active;
            let (from, to) = if active {
                (&mut entry.inactive, &mut entry.active)
            } else {
                (&mut entry.active, &mut entry.inactive)
            };
            *from = from.saturating_sub(1);
            *to = to.saturating_add(1);
            self.updated(id);
        }
        Ok(())
    }

    fn connect(&mut self, place: Place) -> Option<Conn> {
        let backend = self.backends.id(place)?;
        let entry = self.backends.entry_mut(backend)?;
        entry.inactive = entry.inactive.saturating_add(1);
        entry.counted();
        let addr = entry.addr();
        self.scheduler.changed(&self.backends, Change::Updated(place));
        Some(Conn { backend, addr, active: false })
    }

    fn updated(&mut self, id: BackendId) {
        if let Some(place) = self.backends.place(id) {
            self.scheduler.changed(&self.backends, Change::Updated(place));
        }
    }
}

/// A balancer with an affinity table lent to it: picks that heed and note where each client goes.
///
/// A client's earlier choice is honoured only while that backend may take new connections: listed, of weight
/// above 0, not among those tried. Else the scheduler picks and the client is moved at once. The
/// scheduler is not asked, and its state does not move, when an earlier choice is honoured.
#[derive(Debug)]
pub struct Sticky<'a, S = AnyScheduler> {
    balancer: &'a mut Balancer<S>,
    table: &'a mut Affinity<SocketAddr>,
    scope: Scope,
}

impl<S: Scheduler> Sticky<'_, S> {
    /// As [`Balancer::pick`], going where the client went last if that is possible.
    pub fn pick(&mut self, flow: &Flow, now: Instant) -> Option<Conn> {
        let conn = match self.earlier(flow, now) {
            Some(place) => self.balancer.connect(place),
            None => self.balancer.pick(flow, now),
        }?;
        self.table.insert(self.scope, flow.client.ip(), conn.addr, now);
        Some(conn)
    }

    /// As [`Balancer::pick_except`], going where the client went last if that was not tried.
    pub fn pick_except(&mut self, flow: &Flow, tried: &[BackendId], now: Instant) -> Option<Conn> {
        self.balancer.set_excluded(tried, true);
        let conn = self.pick(flow, now);
        self.balancer.set_excluded(tried, false);
        conn
    }

    fn earlier(&mut self, flow: &Flow, now: Instant) -> Option<Place> {
        self.balancer.expire(now);
        let addr = *self.table.lookup(self.scope, flow.client.ip(), now)?;
        let place = self.balancer.backends.place(self.balancer.find(addr)?)?;
        self.balancer.backends.get(place)?.usable().then_some(place)
    }
}
