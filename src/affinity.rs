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
//! let client = "192.0.2.7".parse()?;
//!
//! table.insert(web, client, "10.0.0.1:80", Instant::ZERO);
//! assert_eq!(table.lookup(web, client, Instant::from_secs(10_799)), Some(&"10.0.0.1:80"));
//! assert_eq!(table.lookup(web, client, Instant::from_secs(10_800)), None);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! Entries end when their time is over, found so at a lookup or a [`sweep`](Affinity::sweep); each
//! insertion renews the time (a sliding window over new connections, as kube-proxy has it). When the table
//! is full, the client that has gone longest without a new connection makes room. The hash is keyed, so
//! that clients cannot aim at one bucket. Every call is O(1), but for the growth of the table.

use alloc::vec::Vec;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::net::IpAddr;
use core::time::Duration;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::time::Instant;

/// Whose clients: all the picks that share a scope share a client's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    id: u32,
    timeout: Duration,
}

impl Scope {
    /// A scope by a number that the caller gives to each service port, service or group. An entry lasts
    /// `timeout` from its last insertion.
    pub const fn new(id: u32, timeout: Duration) -> Self {
        Self { id, timeout }
    }
}

/// A bounded table of clients and where they went.
#[derive(Clone)]
pub struct Affinity<V> {
    capacity: usize,
    keys: (u64, u64),
    index: HashTable<u32>,
    entries: Vec<Entry<V>>,
    free: Vec<u32>,
    /// Ends of the list by time of insertion: next to be evicted, and newest.
    oldest: u32,
    newest: u32,
    /// Where the next sweep goes on; [`NONE`] is at the oldest.
    cursor: u32,
}

#[derive(Clone)]
struct Entry<V> {
    key: Key,
    /// `None` while the entry is on the free list.
    value: Option<V>,
    deadline: Instant,
    older: u32,
    newer: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    scope: u32,
    client: IpAddr,
}

const NONE: u32 = u32::MAX;

impl<V> Affinity<V> {
    /// An empty table for at most `capacity` clients (at least 1, at most 2³²−2), with a hash keyed by `seed`.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            capacity: capacity.clamp(1, NONE as usize - 1),
            keys: (seed, !seed),
            index: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            cursor: NONE,
        }
    }

    /// Where a client went, if its time is not over; an entry whose time is over is dropped. An
    /// IPv4-mapped client is its IPv4 address.
    pub fn lookup(&mut self, scope: Scope, client: IpAddr, now: Instant) -> Option<&V> {
        let at = self.find(Key::new(scope, client))?;
        if self.entries[at as usize].deadline <= now {
            self.drop_entry(at);
            return None;
        }
        self.entries[at as usize].value.as_ref()
    }

    /// Notes where a client goes, and (re)starts its time. When the table is full, the client that was
    /// noted longest ago is forgotten.
    pub fn insert(&mut self, scope: Scope, client: IpAddr, value: V, now: Instant) {
        let key = Key::new(scope, client);
        let deadline = now + scope.timeout;
        let at = if let Some(at) = self.find(key) {
            self.detach(at);
            at
        } else {
            if self.len() >= self.capacity {
                self.drop_entry(self.oldest);
            }
            self.vacancy(key)
        };
        let entry = &mut self.entries[at as usize];
        (entry.value, entry.deadline) = (Some(value), deadline);
        self.attach_newest(at);
    }

    /// Forgets a client; where it went, if it was there (its time may be over).
    pub fn remove(&mut self, scope: Scope, client: IpAddr) -> Option<V> {
        let at = self.find(Key::new(scope, client))?;
        self.drop_entry(at)
    }

    /// Looks at up to `limit` entries, from where the last sweep ended towards the newest and then again from the
    /// oldest, and drops those whose time is over. How many were dropped. Never needed for right answers; it frees
    /// places before clients whose time is not over have to make room.
    pub fn sweep(&mut self, now: Instant, limit: usize) -> usize {
        let mut dropped = 0;
        for _ in 0..limit.min(self.len()) {
            let at = if self.cursor == NONE { self.oldest } else { self.cursor };
            let Some(entry) = self.entries.get(at as usize) else { break };
            self.cursor = entry.newer;
            if entry.deadline <= now {
                self.drop_entry(at);
                dropped += 1;
            }
        }
        dropped
    }

    /// How many clients there are, those whose time is over but was not noticed included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no client.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The greatest number of clients.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    fn find(&self, key: Key) -> Option<u32> {
        self.index.find(self.hash(key), |&at| self.entries[at as usize].key == key).copied()
    }

    fn hash(&self, key: Key) -> u64 {
        Keyed(self.keys).hash_one(key)
    }

    /// A place for a key, entered in the index, without value and not in the list.
    fn vacancy(&mut self, key: Key) -> u32 {
        let entry = Entry { key, value: None, deadline: Instant::ZERO, older: NONE, newer: NONE };
        let at = if let Some(at) = self.free.pop() {
            self.entries[at as usize] = entry;
            at
        } else {
            // Fits: the capacity is less than NONE.
            let at = u32::try_from(self.entries.len()).unwrap_or(NONE);
            self.entries.push(entry);
            at
        };
        let keyed = Keyed(self.keys);
        let entries = &self.entries;
        self.index
            .insert_unique(keyed.hash_one(key), at, |&at| keyed.hash_one(entries[at as usize].key));
        at
    }

    fn drop_entry(&mut self, at: u32) -> Option<V> {
        let key = self.entries.get(at as usize)?.key;
        if let Ok(found) = self.index.find_entry(self.hash(key), |&other| other == at) {
            found.remove();
        }
        self.detach(at);
        self.free.push(at);
        self.entries[at as usize].value.take()
    }

    fn detach(&mut self, at: u32) {
        let Entry { older, newer, .. } = self.entries[at as usize];
        if self.cursor == at {
            self.cursor = newer;
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    fn attach_newest(&mut self, at: u32) {
        let older = core::mem::replace(&mut self.newest, at);
        let entry = &mut self.entries[at as usize];
        (entry.older, entry.newer) = (older, NONE);
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = at,
            None => self.oldest = at,
        }
    }
}

impl<V> fmt::Debug for Affinity<V> {
    /// Neither the clients nor the hash's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Affinity")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl Key {
    fn new(scope: Scope, client: IpAddr) -> Self {
        Self { scope: scope.id, client: client.to_canonical() }
    }
}

struct Keyed((u64, u64));

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0.0, self.0.1)
    }
}
