//! Picks as the kernel's persistent services make them.

use core::net::SocketAddr;

use thiserror::Error;

use super::{Balancer, Conn, StaleId};
use crate::affinity::{Persistence, StaleTemplate, TemplateId, TemplateKey, Templates};
use crate::backend::{BackendId, Flow};
use crate::sched::{AnyScheduler, Change, Place, Scheduler};
use crate::time::Instant;

/// Timers that a pick or a release sees to at most. A pick makes one template, so that these keep up.
const FEW: usize = 64;
/// Timers that a call for their sake sees to at most.
const MANY: usize = 1024;

impl<S: Scheduler> Balancer<S> {
    /// Lends a table of persistence templates to the picks made through the value returned: the kernel's ClientIP affinity, to the
    /// letter. [`with_affinity`](Self::with_affinity) is simpler and takes less memory.
    ///
    /// `None` is persistence switched off: picks neither heed nor make templates; those that are there stay until their timers end,
    /// and are heeded again if it is switched on before.
    ///
    /// The table keeps handles of this balancer's backends, and the balancer counts its templates: lend it to no other, and keep it
    /// as long as the balancer. Different services that send clients to these backends may share it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use svcplane::affinity::{Persistence, Templates, VirtualService};
    /// use svcplane::backend::Flow;
    /// use svcplane::balancer::Balancer;
    /// use svcplane::net::Protocol;
    /// use svcplane::sched::Algorithm;
    /// use svcplane::time::Instant;
    ///
    /// let mut balancer = Balancer::new(Algorithm::RoundRobin, 7);
    /// for addr in ["10.0.0.1:8080", "10.0.0.2:8080"] {
    ///     balancer.add(addr.parse::<std::net::SocketAddr>()?.into(), Instant::ZERO);
    /// }
    /// // At most so many clients; the seed should be secret.
    /// let mut templates = Templates::new(100_000, 42);
    /// let web = VirtualService::Address { protocol: Protocol::Tcp, port: 80 };
    /// let persistence = Persistence::new(web, Duration::from_secs(360));
    /// let mut persistent = balancer.with_templates(&mut templates, persistence);
    ///
    /// let flow = Flow::new("192.0.2.7:40000".parse()?, "10.96.0.10:80".parse()?);
    /// let mut first = persistent.pick(&flow, Instant::ZERO).ok_or("no backend")?;
    /// persistent.activate(&mut first)?; // the handshake has begun
    /// persistent.established(&mut first)?; // and is done
    ///
    /// let flow = Flow::new("192.0.2.7:40001".parse()?, "10.96.0.10:80".parse()?);
    /// let second = persistent.pick(&flow, Instant::from_secs(300)).ok_or("no backend")?;
    /// assert_eq!(second.addr(), first.addr());
    ///
    /// persistent.release(first, Instant::from_secs(301))?;
    /// persistent.release(second, Instant::from_secs(302))?;
    /// assert_eq!(persistent.next_expiry(), Some(Instant::from_secs(300 + 360)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_templates<'a>(
        &'a mut self,
        templates: &'a mut Templates,
        persistence: impl Into<Option<Persistence>>,
    ) -> Persistent<'a, S> {
        Persistent { balancer: self, templates, persistence: persistence.into() }
    }

    /// How many templates name a backend, `PersistConn` of the kernel; 0 for a stale id. They do not count towards thresholds. A
    /// removed backend is remembered as long as there is one.
    pub fn persistent(&self, id: BackendId) -> u32 {
        self.backends.aside(id).map_or(0, |aside| aside.persistent)
    }
}

/// A balancer with a table of persistence templates lent to it: picks as a kernel makes them for a persistent service.
///
/// A client whose template is good goes where it says; the scheduler is not asked, and its state does not move. It is good while
/// its backend is listed; overload and weight 0 do not matter, unless [`expire_quiescent`](Persistence::expire_quiescent) says so.
/// If there is no good one, the scheduler picks, and a template is made. One that is not good is invalidated, even if the scheduler
/// then finds nothing.
///
/// A template is bound to its backend as a connection is: an overload is looked for when it is made, and the end of one when it is
/// gone.
///
/// What the kernel has no word for: a backend that is [suspended](Balancer::suspend), or among those tried, makes a template not
/// good.
///
/// For one-packet scheduling, release each connection at once.
#[derive(Debug)]
pub struct Persistent<'a, S = AnyScheduler> {
    balancer: &'a mut Balancer<S>,
    templates: &'a mut Templates,
    persistence: Option<Persistence>,
}

/// A connection with the template that controls it, if one does. To be [released](Persistent::release) when it is over; dropping it
/// leaves it counted, and its template there, for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the connection stays counted until it is given to `Persistent::release`"]
pub struct Controlled {
    conn: Conn,
    template: Option<TemplateId>,
}

impl Controlled {
    /// The backend's address.
    pub const fn addr(&self) -> SocketAddr {
        self.conn.addr()
    }

    /// The backend's handle.
    pub const fn backend(&self) -> BackendId {
        self.conn.backend()
    }

    /// The template that it was made through; `None` if persistence was off or the table full.
    pub const fn template(&self) -> Option<TemplateId> {
        self.template
    }
}

/// What a connection refers to is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StaleConnection {
    /// Its backend is none of this balancer.
    #[error(transparent)]
    Backend(#[from] StaleId),
    /// Its template is none of this table.
    #[error(transparent)]
    Template(#[from] StaleTemplate),
}

impl<S: Scheduler> Persistent<'_, S> {
    /// Picks a backend for a new connection and counts it as inactive; its template's timer starts anew. `None` if it has no good
    /// template and no backend is usable.
    pub fn pick(&mut self, flow: &Flow, now: Instant) -> Option<Controlled> {
        self.run_timers(now, FEW);
        let Some(persistence) = self.persistence else {
            let conn = self.balancer.pick(flow, now)?;
            return Some(Controlled { conn, template: None });
        };
        let key = persistence.key(flow);
        let (template, place) = if let Some((id, place)) = self.earlier(&key, &persistence, now) {
            (Some(id), place)
        } else {
            let place = self.balancer.scheduler.pick(&self.balancer.backends, flow)?;
            let backend = self.balancer.backends.id(place)?;
            (self.bind(key, backend, &persistence, now), place)
        };
        let conn = self.balancer.connect(place)?;
        if let Some(id) = template {
            self.templates.control(id, now);
        }
        Some(Controlled { conn, template })
    }

    /// Picks among the backends other than `tried`, as after a failed attempt to connect; a client whose template names one of them
    /// is moved. Otherwise as [`Balancer::pick_except`].
    pub fn pick_except(
        &mut self,
        flow: &Flow,
        tried: &[BackendId],
        now: Instant,
    ) -> Option<Controlled> {
        self.balancer.set_excluded(tried, true);
        let connection = self.pick(flow, now);
        self.balancer.set_excluded(tried, false);
        connection
    }

    /// Counts a connection as active. Nothing changes if it is.
    ///
    /// # Errors
    ///
    /// [`StaleId`] for a connection of another balancer, as far as id and address tell.
    pub fn activate(&mut self, connection: &mut Controlled) -> Result<(), StaleId> {
        self.balancer.activate(&mut connection.conn)
    }

    /// Counts a connection as active, and notes in its template that one was [established](crate::affinity::Template::is_assured).
    /// For TCP, when the handshake is done; UDP never is.
    ///
    /// # Errors
    ///
    /// [`StaleConnection`] for a connection of another balancer or table, as far as ids and address tell; the other of the two
    /// hears of it all the same.
    pub fn established(&mut self, connection: &mut Controlled) -> Result<(), StaleConnection> {
        let assured = connection.template.map_or(Ok(()), |id| self.templates.assure(id));
        self.balancer.activate(&mut connection.conn)?;
        Ok(assured?)
    }

    /// Counts a connection as inactive again. Nothing changes if it is.
    ///
    /// # Errors
    ///
    /// [`StaleId`] for a connection of another balancer, as far as id and address tell.
    pub fn deactivate(&mut self, connection: &mut Controlled) -> Result<(), StaleId> {
        self.balancer.deactivate(&mut connection.conn)
    }

    /// Counts a connection no more. Its template's timer runs on: if it ended before now, the connection was there and put it off.
    ///
    /// # Errors
    ///
    /// [`StaleConnection`] for a connection of another balancer or table, as far as ids and address tell; the other of the two is
    /// released all the same.
    pub fn release(&mut self, connection: Controlled, now: Instant) -> Result<(), StaleConnection> {
        // What ends just now ends after it.
        if let Some(before) = now.as_nanos().checked_sub(1) {
            self.run_timers(Instant::from_nanos(before), FEW);
        }
        let uncontrolled = connection.template.map_or(Ok(()), |id| self.templates.uncontrol(id));
        self.balancer.release(connection.conn)?;
        Ok(uncontrolled?)
    }

    /// Does what it is time for, in the table and in the [balancer](Balancer::expire): ends templates, or puts them off by 60 s if
    /// connections through them are there. Every call that is given the time does some of it: picks are right without this, and
    /// [counts](Balancer::persistent) after it.
    ///
    /// It sees to 1024 templates a call at most: there is more to do as long as [`next_expiry`](Self::next_expiry) is not later
    /// than now.
    pub fn expire(&mut self, now: Instant) {
        self.run_timers(now, MANY);
    }

    /// When [`expire`](Self::expire) may have something to do next.
    pub fn next_expiry(&self) -> Option<Instant> {
        let ends = [self.templates.next_expiry(), self.balancer.next_expiry()];
        ends.into_iter().flatten().min()
    }

    fn run_timers(&mut self, now: Instant, limit: usize) {
        for _ in 0..limit {
            let Some(id) = self.templates.first_due(now) else { break };
            self.run_timer(id, now);
        }
        self.balancer.expire(now);
    }

    fn run_timer(&mut self, id: TemplateId, now: Instant) {
        if let Some(backend) = self.templates.run_timer(id, now) {
            self.unbind(backend);
        }
    }

    /// A client's template with the place that it names, if it is good.
    fn earlier(
        &mut self,
        key: &TemplateKey,
        persistence: &Persistence,
        now: Instant,
    ) -> Option<(TemplateId, Place)> {
        let id = self.templates.find(key)?;
        // Its timer may wait behind others.
        self.run_timer(id, now);
        let backend = self.templates.get(id)?.backend();
        let backends = &self.balancer.backends;
        let place = backends.place(backend).filter(|&place| {
            backends.get(place).is_some_and(|entry| {
                let quiescent = persistence.expire_quiescent && entry.weight() == 0;
                !quiescent && !entry.suspended && !entry.excluded
            })
        });
        if place.is_none() {
            self.templates.invalidate(id);
        }
        Some((id, place?))
    }

    /// Makes a template, if there is room.
    fn bind(
        &mut self,
        key: TemplateKey,
        backend: BackendId,
        persistence: &Persistence,
        now: Instant,
    ) -> Option<TemplateId> {
        let (room, dropped) = self.templates.make_room();
        if let Some(dropped) = dropped {
            self.unbind(dropped);
        }
        if !room {
            return None;
        }
        let backends = &mut self.balancer.backends;
        if let Some(aside) = backends.aside_mut(backend) {
            aside.persistent = aside.persistent.saturating_add(1);
        }
        if let Some((entry, Some(place))) = backends.listed_mut(backend) {
            if entry.counted() {
                self.balancer.scheduler.changed(&self.balancer.backends, Change::Updated(place));
            }
        }
        Some(self.templates.insert(key, backend, persistence.timeout, now))
    }

    /// A template is gone.
    fn unbind(&mut self, backend: BackendId) {
        let backends = &mut self.balancer.backends;
        if let Some(aside) = backends.aside_mut(backend) {
            aside.persistent = aside.persistent.saturating_sub(1);
        }
        let Some((entry, place)) = backends.listed_mut(backend) else { return };
        let relieved = entry.uncounted();
        if let Some(place) = place.filter(|_| relieved) {
            self.balancer.scheduler.changed(&self.balancer.backends, Change::Updated(place));
        }
    }
}
