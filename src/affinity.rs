//! ClientIP affinity: where a client went last, for a while.
//!
//! The table belongs to the caller, who lends it to a balancer for each pick
//! ([`Balancer::with_affinity`](crate::balancer::Balancer::with_affinity)); several balancers that share
//! the clients of one service share one table. It can also be used alone:
//!
//! ```
//! use std::time::Duration;
//! use svcplane::affinity::{Affinity, Scope};
//! use svcplane::time::Instant;
//!
//! let mut table = Affinity::new(100_000, 42); // at most so many clients; the seed should be secret
//! let web = Scope::new(1, Duration::from_secs(10_800));
//! let client = "192.0.2.7:40000".parse()?;
//!
//! table.insert(web, client, "10.0.0.1:80", Instant::ZERO);
//! let again = "192.0.2.7:40001".parse()?; // another connection of the same client
//! assert_eq!(table.lookup(web, again, Instant::from_secs(10_799)), Some(&"10.0.0.1:80"));
//! assert_eq!(table.lookup(web, again, Instant::from_secs(10_800)), None);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! **Time.** An entry ends when its scope's timeout is over, counted from the last insertion (a sliding window over new
//! connections, as kube-proxy has it), or from the first if the scope has a [limit](Scope::with_limit). That is found at a lookup, by a
//! [`sweep`](Affinity::sweep), or by the few slots that every new client's insertion sweeps. Times are kept to the millisecond.
//!
//! **Space.** An IPv4 client takes 16 bytes and one for the hash table, which is at most seven eighths full; an IPv6 client, or one
//! whose port counts or whose time has a limit, takes 37. Where a client goes is kept once for all clients that go there. When the table is full, the client out of
//! some sixteen near each other whose time would be over first makes room. Every call is O(1), and the table grows in parts of a few
//! thousand clients: no call waits for more. The hash is keyed by the seed, so that clients cannot aim at one bucket.
//!
//! **What the field means by it.** With a timeout T:
//!
//! | who | a client stays until | a backend that may take nothing new |
//! | --- | --- | --- |
//! | [`Mode::Strict`] | T after its last new connection | is left at once, unless it [drains](crate::balancer::Balancer::drain) |
//! | kube-proxy's iptables, [`Mode::Recent`] | T after its last new connection; the backend's list goes with it | keeps its clients while it is listed |
//! | kube-proxy's nftables | as iptables, by sets | the same |
//! | kube-proxy's userspace mode | T after its last new connection | is not listed |
//! | IPVS, [`Templates`] | T after its last new connection, or 60 s after its connections | keeps its clients, unless told otherwise |

mod table;
mod templates;

use core::fmt;
use core::hash::Hash;
use core::net::SocketAddr;
use core::time::Duration;

use crate::time::Instant;
use table::{AnyKey, Held, Keyed, Narrow, Table, Values, Wide};

pub use templates::{
    Persistence, StaleTemplate, Template, TemplateId, TemplateKey, Templates, VirtualAddress,
    VirtualService,
};

/// Whose clients, and for how long: all the picks that share a scope share a client's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub(crate) id: u32,
    /// In milliseconds, as the limit.
    timeout: u64,
    limit: Option<u64>,
    v4_prefix: u8,
    v6_prefix: u8,
    port: bool,
    mode: Mode,
    noted_by_caller: bool,
}

/// When an entry is honoured by a pick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// While the backend may take new connections, or [drains](crate::balancer::Balancer::drain). A client that has to move is
    /// moved for good.
    #[default]
    Strict,
    /// As kube-proxy's iptables rules with the `recent` match: while the backend is listed, whatever its weight and load. A client
    /// that was at several is at the one listed longest; leaving the list ends all of a backend's entries, also if it comes back.
    Recent,
}

impl Scope {
    /// A scope by a number that the caller gives to each service port, service or group. An entry lasts
    /// `timeout`, in whole milliseconds, from its last insertion.
    pub const fn new(id: u32, timeout: Duration) -> Self {
        Self {
            id,
            timeout: whole_millis(timeout),
            limit: None,
            v4_prefix: 32,
            v6_prefix: 128,
            port: false,
            mode: Mode::Strict,
            noted_by_caller: false,
        }
    }

    /// No entry lasts longer than this from its first insertion on, to the second. A scope is given its limit, prefixes and ports
    /// once: with others, clients are not found where they were.
    #[must_use]
    pub const fn with_limit(self, limit: Duration) -> Self {
        Self { limit: Some(whole_millis(limit)), ..self }
    }

    /// Clients are the networks of these prefix lengths, of IPv4 and of IPv6; more bits than an address has are all of them.
    /// Defaults to single addresses.
    #[must_use]
    pub const fn with_prefixes(self, v4: u8, v6: u8) -> Self {
        Self { v4_prefix: v4, v6_prefix: v6, ..self }
    }

    /// Clients of one address and different ports are different ones, as for a protocol whose sessions keep their port.
    #[must_use]
    pub const fn with_port(self) -> Self {
        Self { port: true, ..self }
    }

    /// Honours entries in another way.
    #[must_use]
    pub const fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Picks note nothing: the caller [inserts](Affinity::insert) the client when it knows that its connection has succeeded.
    /// Defaults to every pick.
    #[must_use]
    pub const fn noted_by_caller(self) -> Self {
        Self { noted_by_caller: true, ..self }
    }

    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) const fn picks_note(&self) -> bool {
        !self.noted_by_caller
    }
}

/// An entry as it leaves a table and enters another, for fail-over: ages, not instants, as the other's epoch differs.
#[expect(clippy::exhaustive_structs, reason = "a record for callers to carry")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exported<V> {
    /// The number of its [`Scope`].
    pub scope: u32,
    /// The client, or the first address of its network; port 0 where ports do not count.
    pub client: SocketAddr,
    /// Where it went.
    pub value: V,
    /// How long it lasts yet if it does not come back.
    pub remaining: Duration,
    /// How long ago the client was first noted, to the second, as far as a [limit](Scope::with_limit) or the kind of client made
    /// the table keep it.
    pub age: Option<Duration>,
}

/// A bounded table of clients and where they went.
#[derive(Clone)]
pub struct Affinity<V> {
    capacity: usize,
    /// The first instant that the table has heard of, from which it counts.
    epoch: Option<Instant>,
    keyed: Keyed,
    narrow: Table<Narrow>,
    wide: Table<Wide>,
    values: Values<V>,
    /// Which of the two tables the next sweep goes on in.
    sweeps_wide: bool,
}

/// How many slots an insertion sweeps.
const SWEPT: usize = 4;

impl<V: Clone + Eq + Hash> Affinity<V> {
    /// An empty table for at most `capacity` clients (at least 1, at most 2³²−2) and 2²⁴ places where they go, with a hash keyed
    /// by `seed`.
    pub fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.clamp(1, u32::MAX as usize - 1);
        let keyed = Keyed(seed, !seed);
        Self {
            capacity,
            epoch: None,
            keyed,
            narrow: Table::new(capacity, keyed),
            wide: Table::new(capacity, keyed),
            values: Values::new(keyed),
            sweeps_wide: false,
        }
    }

    /// Where a client went, if its time is not over; an entry whose time is over is dropped. An
    /// IPv4-mapped client is its IPv4 address.
    pub fn lookup(&mut self, scope: Scope, client: SocketAddr, now: Instant) -> Option<&V> {
        self.honour(scope, client, now, |_| true, false)
    }

    /// The same, and its time starts anew, as for a new connection that goes there.
    pub fn renew(&mut self, scope: Scope, client: SocketAddr, now: Instant) -> Option<&V> {
        self.honour(scope, client, now, |_| true, true)
    }

    /// Notes where a client goes, and (re)starts its time. In a full table another client makes room.
    pub fn insert(&mut self, scope: Scope, client: SocketAddr, value: V, now: Instant) {
        let now = self.millis(now);
        let key = AnyKey::new(&scope, client, self.keyed);
        let known = match key {
            AnyKey::Narrow(key) => self.narrow.renew(key, &scope, &value, &mut self.values, now),
            AnyKey::Wide(key) => self.wide.renew(key, &scope, &value, &mut self.values, now),
        };
        if !known {
            self.sweep_at(now, SWEPT);
            let since = seconds(now);
            self.add(key, value, since, scope.deadline(Some(since), now));
        }
    }

    /// Forgets a client; where it went, if it was there (its time may be over).
    pub fn remove(&mut self, scope: Scope, client: SocketAddr) -> Option<V> {
        match AnyKey::new(&scope, client, self.keyed) {
            AnyKey::Narrow(key) => self.narrow.forget(key, &mut self.values),
            AnyKey::Wide(key) => self.wide.forget(key, &mut self.values),
        }
    }

    /// Looks at up to `limit` slots of the table, from where the last sweep ended and then again from the
    /// first, and drops the entries whose time is over. How many were dropped. Never needed for right answers; it frees
    /// places before clients whose time is not over have to make room.
    pub fn sweep(&mut self, now: Instant, limit: usize) -> usize {
        let now = self.millis(now);
        self.sweep_at(now, limit)
    }

    /// How many clients there are, those whose time is over but was not noticed included. In [`Mode::Recent`] a client counts as
    /// often as there are backends where it was.
    pub const fn len(&self) -> usize {
        self.narrow.len() + self.wide.len()
    }

    /// Whether there is no client.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The greatest number of clients.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many bytes the table has allocated for clients.
    pub fn bytes(&self) -> usize {
        self.narrow.bytes() + self.wide.bytes()
    }

    /// The entries whose time is not over, in no particular order.
    pub fn export(&self, now: Instant) -> impl Iterator<Item = Exported<V>> {
        let now = millis(self.epoch.unwrap_or(now), now);
        let exported = move |(scope, client), slot: Held| {
            let remaining = slot.deadline.checked_sub(now).filter(|remaining| *remaining > 0)?;
            let age = slot.since.map(|since| seconds(now).saturating_sub(since));
            Some(Exported {
                scope,
                client,
                value: self.values.get(slot.value)?.clone(),
                remaining: Duration::from_millis(remaining),
                age: age.map(|age| Duration::from_secs(age.into())),
            })
        };
        let slots = self.narrow.iter().chain(self.wide.iter());
        slots.filter_map(move |(client, slot)| exported(client, slot))
    }

    /// Takes entries in. One that is there already, or whose time is over, is passed over; an age of more than a year counts as a
    /// year.
    pub fn import(&mut self, entries: impl IntoIterator<Item = Exported<V>>, now: Instant) {
        let now = self.millis(now);
        for Exported { scope, client, value, remaining, age } in entries {
            let limit = age.map(|_| u64::MAX);
            let scope = Scope { port: client.port() != 0, limit, ..Scope::new(scope, remaining) };
            let key = AnyKey::new(&scope, client, self.keyed);
            let known = match key {
                AnyKey::Narrow(key) => self.narrow.knows(key, &value, &self.values),
                AnyKey::Wide(key) => self.wide.knows(key, &value, &self.values),
            };
            let age = u32::try_from(age.unwrap_or_default().as_secs()).unwrap_or(u32::MAX);
            let since = seconds(now).saturating_sub(age);
            if !known && !remaining.is_zero() {
                self.add(key, value, since, scope.deadline(Some(since), now));
            }
        }
    }

    /// Where a client went, if its time is not over and `good` says so; its time is renewed if that is asked for.
    #[inline]
    pub(crate) fn honour(
        &mut self,
        scope: Scope,
        client: SocketAddr,
        now: Instant,
        good: impl FnOnce(&V) -> bool,
        renew: bool,
    ) -> Option<&V> {
        let now = self.millis(now);
        let values = &mut self.values;
        let number = match AnyKey::new(&scope, client, self.keyed) {
            AnyKey::Narrow(key) => self.narrow.honour(key, &scope, values, now, good, renew),
            AnyKey::Wide(key) => self.wide.honour(key, &scope, values, now, good, renew),
        };
        self.values.get(number?)
    }

    /// All the places where a client went, each with the instant of its last insertion if the timeout was the same then.
    pub(crate) fn noted(
        &mut self,
        scope: Scope,
        client: SocketAddr,
        now: Instant,
    ) -> impl Iterator<Item = (&V, Instant)> {
        let (millis, epoch) = (self.millis(now), self.epoch.unwrap_or(now));
        let values = &self.values;
        let (narrow, wide) = match AnyKey::new(&scope, client, self.keyed) {
            AnyKey::Narrow(key) => (Some(self.narrow.all(key)), None),
            AnyKey::Wide(key) => (None, Some(self.wide.all(key))),
        };
        let slots = narrow.into_iter().flatten().chain(wide.into_iter().flatten());
        slots.filter(move |slot| slot.deadline > millis).filter_map(move |slot| {
            let noted = Duration::from_millis(slot.deadline.saturating_sub(BEFORE));
            let since = noted.saturating_sub(Duration::from_millis(scope.timeout));
            Some((values.get(slot.value)?, epoch + since))
        })
    }

    /// Adds a client that is not there; another makes room if need be.
    fn add(&mut self, key: AnyKey, value: V, since: u32, deadline: u64) {
        if self.len() >= self.capacity {
            let near = match key {
                AnyKey::Narrow(key) => self.narrow.evict(Some(key)),
                AnyKey::Wide(key) => self.wide.evict(Some(key)),
            };
            let any = near.or_else(|| self.narrow.evict(None)).or_else(|| self.wide.evict(None));
            if let Some(number) = any {
                self.values.give_back(number);
            }
        }
        let Some(number) = self.values.take(value) else { return };
        match key {
            AnyKey::Narrow(key) => self.narrow.insert(key, number, since, deadline),
            AnyKey::Wide(key) => self.wide.insert(key, number, since, deadline),
        }
    }

    fn sweep_at(&mut self, now: u64, limit: usize) -> usize {
        let before = self.len();
        let mut left = limit;
        // From one into the other and back, each at most once round.
        for _ in 0..3 {
            left = if self.sweeps_wide {
                self.wide.sweep(now, left, &mut self.values)
            } else {
                self.narrow.sweep(now, left, &mut self.values)
            };
            if left == 0 {
                break;
            }
            self.sweeps_wide = !self.sweeps_wide;
        }
        before - self.len()
    }

    fn millis(&mut self, now: Instant) -> u64 {
        millis(*self.epoch.get_or_insert(now), now)
    }
}

/// So much before a table's first instant can be told, in milliseconds: a year and a month.
const BEFORE: u64 = 1 << 35;

fn millis(epoch: Instant, now: Instant) -> u64 {
    BEFORE + now.as_nanos().saturating_sub(epoch.as_nanos()) / 1_000_000
}

/// Fits for 136 years, of which the milliseconds of a slot have 34.
fn seconds(millis: u64) -> u32 {
    u32::try_from(millis / 1000).unwrap_or(u32::MAX)
}

impl Scope {
    /// When an entry ends that was first noted in one second and last in one millisecond.
    fn deadline(&self, since: Option<u32>, now: u64) -> u64 {
        let idle = now.saturating_add(self.timeout);
        let limit = |(limit, since): (u64, u32)| limit.saturating_add(u64::from(since) * 1000);
        idle.min(self.limit.zip(since).map_or(u64::MAX, limit))
    }
}

const fn whole_millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis() as u64)
}

impl<V> fmt::Debug for Affinity<V> {
    /// Neither the clients nor the hash's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Affinity")
            .field("len", &(self.narrow.len() + self.wide.len()))
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
