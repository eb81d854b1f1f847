//! Picks that heed where each client went.

use core::net::SocketAddr;

use super::{Balancer, Conn};
use crate::affinity::{Affinity, Mode, Scope};
use crate::backend::{BackendId, Flow};
use crate::sched::{AnyScheduler, Backends, Place, Scheduler};
use crate::time::Instant;

/// A balancer with an affinity table lent to it: picks that heed and note where each client goes.
///
/// When a client's earlier choice is honoured is the scope's [mode](Mode); never if it is among those tried. Else the scheduler
/// picks, and the client is moved at once. The scheduler is not asked, and its state does not move, when an earlier choice
/// is honoured.
#[derive(Debug)]
pub struct Sticky<'a, S = AnyScheduler> {
    balancer: &'a mut Balancer<S>,
    table: &'a mut Affinity<SocketAddr>,
    scope: Scope,
}

impl<'a, S: Scheduler> Sticky<'a, S> {
    pub(super) fn new(
        balancer: &'a mut Balancer<S>,
        table: &'a mut Affinity<SocketAddr>,
        scope: Scope,
    ) -> Self {
        Self { balancer, table, scope }
    }

    /// As [`Balancer::pick`], going where the client went last if that is possible.
    pub fn pick(&mut self, flow: &Flow, now: Instant) -> Option<Conn> {
        self.balancer.expire(now);
        if let Some(place) = self.earlier(flow, now) {
            return self.balancer.connect(place);
        }
        let conn = self.balancer.pick(flow, now)?;
        if self.scope.picks_note() {
            self.table.insert(self.scope, flow.client, conn.addr, now);
        }
        Some(conn)
    }

    /// As [`Balancer::pick_except`], going where the client went last if that was not tried.
    pub fn pick_except(&mut self, flow: &Flow, tried: &[BackendId], now: Instant) -> Option<Conn> {
        self.balancer.set_excluded(tried, true);
        let conn = self.pick(flow, now);
        self.balancer.set_excluded(tried, false);
        conn
    }

    /// Where a client went before, if it may go there; its time starts anew.
    fn earlier(&mut self, flow: &Flow, now: Instant) -> Option<Place> {
        let Self { balancer, table, scope } = self;
        let renew = scope.picks_note();
        match scope.mode() {
            Mode::Strict => {
                let mut found = None;
                let good = |addr: &SocketAddr| {
                    found = balancer.find(*addr).and_then(|id| takes(&balancer.backends, id, now));
                    found.is_some()
                };
                table.honour(*scope, flow.client, now, good, renew)?;
                found
            }
            Mode::Recent => {
                let listed = |(addr, noted): (&SocketAddr, Instant)| {
                    let id = balancer.find(*addr)?;
                    let place = balancer.backends.place(id)?;
                    let since = balancer.backends.aside(id)?.listed_since;
                    let tried = balancer.backends.get(place)?.excluded;
                    (since <= noted && !tried).then_some((place, *addr))
                };
                let noted = table.noted(*scope, flow.client, now);
                let (place, addr) = noted.filter_map(listed).min()?;
                if renew {
                    table.insert(*scope, flow.client, addr, now);
                }
                Some(place)
            }
        }
    }
}

/// The place of a backend that may take a new connection of a client that was there before.
fn takes(backends: &Backends, id: BackendId, now: Instant) -> Option<Place> {
    let place = backends.place(id)?;
    let entry = backends.get(place)?;
    if entry.usable() {
        return Some(place);
    }
    let until = backends.aside(id)?.drains_until?;
    (entry.weight() == 0 && !entry.excluded && !entry.suspended && now < until).then_some(place)
}
