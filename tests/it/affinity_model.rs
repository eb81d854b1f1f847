//! The affinity table as it is documented to be, a map, beside the table.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use svcplane::affinity::{Affinity, Exported, Scope};
use svcplane::time::Instant;

/// What is known of a client.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    value: u64,
    since: Instant,
    deadline: Instant,
}

/// What the table is documented to be: entries by scope and client as the scope tells clients apart.
#[derive(Default)]
struct Model(BTreeMap<(u32, SocketAddr), Known>);

impl Model {
    fn live(&self, key: (u32, SocketAddr), now: Instant) -> Option<u64> {
        self.0.get(&key).filter(|known| known.deadline > now).map(|known| known.value)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Lookup(u32, u8),
    Renew(u32, u8),
    Insert(u32, u8, u64),
    Remove(u32, u8),
    Sweep(usize),
    Wait(u64),
    /// Into another table, with another epoch.
    Move(u64),
}

/// A table beside the model.
pub(crate) struct Both {
    table: Affinity<u64>,
    model: Model,
    capacity: usize,
    now: Instant,
    /// How far what the clock of the caller shows is ahead of the model's, in seconds.
    shift: u64,
}

impl Both {
    pub(crate) fn new(capacity: usize) -> Self {
        let (table, model) = (Affinity::new(capacity, 7), Model::default());
        Self { table, model, capacity, now: Instant::ZERO, shift: 0 }
    }

    fn shown(&self) -> Instant {
        self.now + Duration::from_secs(self.shift)
    }

    /// Does it to both, which have to agree.
    pub(crate) fn step(&mut self, op: &Op) {
        let (now, at) = (self.now, self.shown());
        let Self { table, model, .. } = self;
        match *op {
            Op::Lookup(s, c) => {
                let found = table.lookup(scope(s), end(c), at).copied();
                assert_eq!(found, model.live(seen(s, c), now));
            }
            Op::Renew(s, c) => {
                let found = table.renew(scope(s), end(c), at).copied();
                assert_eq!(found, model.live(seen(s, c), now));
                if found.is_some() {
                    let known = model.0.get_mut(&seen(s, c)).expect("it is live");
                    known.deadline = deadline(s, known.since, now);
                }
            }
            Op::Insert(s, c, value) => self.insert(s, c, value),
            Op::Remove(s, c) => {
                let gone = table.remove(scope(s), end(c));
                if let Some(value) = model.live(seen(s, c), now) {
                    assert_eq!(gone, Some(value));
                }
                model.0.remove(&seen(s, c));
            }
            Op::Sweep(limit) => {
                let before = table.len();
                assert_eq!(table.sweep(at, limit), before - table.len());
            }
            Op::Wait(secs) => self.now += Duration::from_secs(secs),
            Op::Move(other) => {
                let exported: Vec<_> = table.export(at).collect();
                self.shift = other;
                let mut next = Affinity::new(self.capacity, 99);
                next.import(exported.iter().copied(), self.shown());
                let sorted = |mut entries: Vec<Exported<u64>>| {
                    entries.sort_by_key(|entry| (entry.scope, entry.client));
                    entries
                };
                assert_eq!(sorted(next.export(self.shown()).collect()), sorted(exported));
                self.table = next;
            }
        }
        // Those whose time is over may be there, no others.
        let live = self.live();
        assert!(live <= self.table.len() && self.table.len() <= self.capacity);
        assert_eq!(self.table.export(self.shown()).count(), live);
    }

    fn live(&self) -> usize {
        self.model.0.values().filter(|known| known.deadline > self.now).count()
    }

    fn insert(&mut self, s: u32, c: u8, value: u64) {
        let (now, at) = (self.now, self.shown());
        let Self { table, model, capacity, .. } = self;
        let full = table.len() == *capacity;
        table.insert(scope(s), end(c), value, at);
        let key = seen(s, c);
        let earlier = model.0.get(&key).filter(|known| known.deadline > now);
        let since = earlier.map_or(now, |known| known.since);
        let deadline = deadline(s, since, now);
        let known = earlier.is_some();
        model.0.insert(key, Known { value, since, deadline });
        // At most one makes room: of so few all are compared, and none would end before it.
        let mut copy = table.clone();
        let mut lost = |(id, client): (u32, SocketAddr), known: &Known| {
            known.deadline > now && copy.lookup(scope(id), client, at).is_none()
        };
        let lost: Vec<_> =
            model.0.iter().filter(|(key, known)| lost(**key, known)).map(|(key, _)| *key).collect();
        assert!(lost.is_empty() || full && !known && lost.len() == 1, "{lost:?}");
        for gone in lost {
            let known = model.0.remove(&gone).expect("it was known");
            let kind = |(id, client): &(u32, SocketAddr)| client.is_ipv4() && *id < 2;
            let alike = |one: &&(u32, SocketAddr)| **one != key && kind(one) == kind(&key);
            let live = model.0.iter().filter(|(_, known)| known.deadline > now);
            let others: Vec<_> = live.filter(|(one, _)| alike(one)).collect();
            assert!(others.is_empty() || alike(&&gone), "one of another kind");
            assert!(others.iter().all(|(_, other)| other.deadline >= known.deadline));
        }
    }

    /// A sweep of all slots leaves nobody whose time is over.
    pub(crate) fn finish(mut self) {
        self.table.sweep(self.shown(), 100_000);
        assert_eq!(self.table.len(), self.live());
        self.table.sweep(Instant::MAX, 100_000);
        assert!(self.table.is_empty());
    }
}

/// Each scope has a timeout of its own, so that deadlines are not in the order of insertion; the third has a limit, the last tells
/// networks apart, and ports.
pub(crate) fn scope(id: u32) -> Scope {
    let timeout = Duration::from_secs([10, 60, 7, 20][id as usize]);
    let scope = Scope::new(id, timeout);
    match id {
        2 => scope.with_limit(LIMIT),
        3 => scope.with_prefixes(30, 126).with_port(),
        _ => scope,
    }
}

fn deadline(id: u32, since: Instant, now: Instant) -> Instant {
    let idle = now + Duration::from_secs([10, 60, 7, 20][id as usize]);
    if id == 2 { idle.min(since + LIMIT) } else { idle }
}

pub(crate) const LIMIT: Duration = Duration::from_secs(25);

/// IPv4 and IPv6 clients with two ports.
pub(crate) fn end(n: u8) -> SocketAddr {
    let ip = match n % 3 {
        0 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n / 3)]),
        _ => IpAddr::from([192, 0, 2, n / 3]),
    };
    SocketAddr::new(ip, 4000 + u16::from(n % 2))
}

/// The client as its scope sees it.
fn seen(id: u32, n: u8) -> (u32, SocketAddr) {
    let end = end(n);
    let masked = match (id, end.ip()) {
        (3, IpAddr::V4(ip)) => IpAddr::from((u32::from(ip) & !3).to_be_bytes()),
        (3, IpAddr::V6(ip)) => IpAddr::from((u128::from(ip) & !3).to_be_bytes()),
        (_, ip) => ip,
    };
    (id, SocketAddr::new(masked, if id == 3 { end.port() } else { 0 }))
}
