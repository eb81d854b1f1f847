//! The clients: small slots in segments that grow one by one, so that no call waits for the growth of all.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash, Hasher};
use core::net::{IpAddr, SocketAddr};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::{Mode, Scope, seconds};

/// A call may have to wait until so many slots are moved. An average segment of a full table has 3,100 of the 3,584 for which 4,096
/// slots are enough: fewer would waste space, more would leave too little for the traces of removed ones.
const SEGMENT: usize = 3_100;

/// How many slots are compared for one to make room.
const SAMPLE: usize = 16;

/// A client as the table tells it from others.
pub(super) trait Key: Copy + Eq {
    /// The second in which the client was first noted, where there is room for it.
    type Since: Since;

    fn hash_with(self, keyed: Keyed) -> u64;

    /// The scope's number, and the client.
    fn parts(self) -> (u32, SocketAddr);
}

pub(super) trait Since: Copy {
    fn new(seconds: u32) -> Self;
    fn seconds(self) -> Option<u32>;
}

impl Since for () {
    fn new(_: u32) {}

    fn seconds(self) -> Option<u32> {
        None
    }
}

impl Since for u32 {
    fn new(seconds: u32) -> Self {
        seconds
    }

    fn seconds(self) -> Option<u32> {
        Some(self)
    }
}

/// Most clients: 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Narrow {
    scope: u32,
    client: u32,
}

/// IPv6 clients, and those whose port counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Wide {
    scope: u32,
    client: [u32; 4],
    port: u16,
}

/// A key with its hash, which is reckoned once in a call.
#[derive(Clone, Copy)]
pub(super) struct Hashed<K> {
    pub(super) key: K,
    hash: u64,
}

impl<K: Key> Hashed<K> {
    #[inline]
    fn new(key: K, keyed: Keyed) -> Self {
        Self { key, hash: key.hash_with(keyed) }
    }
}

/// The key of a client: the first where that is enough.
#[derive(Clone, Copy)]
pub(super) enum AnyKey {
    Narrow(Hashed<Narrow>),
    Wide(Hashed<Wide>),
}

impl AnyKey {
    /// Of a client under a scope's prefix; an IPv4-mapped one is its IPv4 address.
    #[inline]
    pub(super) fn new(scope: &Scope, client: SocketAddr, keyed: Keyed) -> Self {
        match client.ip().to_canonical() {
            IpAddr::V4(ip) if !scope.port && scope.limit.is_none() => {
                let host = 32_u32.saturating_sub(scope.v4_prefix.into());
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                let key = Narrow { scope: scope.id, client: u32::from(ip) & mask };
                Self::Narrow(Hashed::new(key, keyed))
            }
            ip => Self::Wide(Hashed::new(Wide::new(scope, ip, client.port()), keyed)),
        }
    }
}

impl Wide {
    fn new(scope: &Scope, ip: IpAddr, port: u16) -> Self {
        let (ip, host) = match ip {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped(), 32_u32.saturating_sub(scope.v4_prefix.into())),
            IpAddr::V6(ip) => (ip, 128_u32.saturating_sub(scope.v6_prefix.into())),
        };
        let ip = u128::from(ip) & u128::MAX.checked_shl(host).unwrap_or(0);
        Self {
            scope: scope.id,
            client: [96, 64, 32, 0].map(|shift| word(ip, shift)),
            port: if scope.port { port } else { 0 },
        }
    }
}

fn word(ip: u128, shift: u32) -> u32 {
    (ip >> shift & 0xffff_ffff) as u32
}

impl Key for Narrow {
    type Since = ();

    #[inline]
    fn hash_with(self, keyed: Keyed) -> u64 {
        let mut hasher = keyed.build_hasher();
        hasher.write_u64(u64::from(self.scope) << 32 | u64::from(self.client));
        hasher.finish()
    }

    fn parts(self) -> (u32, SocketAddr) {
        (self.scope, SocketAddr::from((self.client.to_be_bytes(), 0)))
    }
}

impl Key for Wide {
    type Since = u32;

    #[inline]
    fn hash_with(self, keyed: Keyed) -> u64 {
        let mut hasher = keyed.build_hasher();
        let Self { scope, client: [a, b, c, d], port } = self;
        hasher.write_u64(u64::from(scope) << 32 | u64::from(port));
        hasher.write_u64(u64::from(a) << 32 | u64::from(b));
        hasher.write_u64(u64::from(c) << 32 | u64::from(d));
        hasher.finish()
    }

    fn parts(self) -> (u32, SocketAddr) {
        let ip = self.client.iter().fold(0, |ip: u128, word| ip << 32 | u128::from(*word));
        let ip = IpAddr::V6(ip.into()).to_canonical();
        (self.scope, SocketAddr::new(ip, self.port))
    }
}

/// Where a client went: 8 bytes beside its key, or 12.
#[derive(Clone, Copy)]
pub(super) struct Slot<K: Key> {
    key: K,
    /// Milliseconds in five bytes, little-endian: 34 years.
    deadline: [u8; 5],
    /// A number of three bytes.
    value: [u8; 3],
    /// The second in which the client was first noted.
    since: K::Since,
}

const _: () = assert!(size_of::<Slot<Narrow>>() == 16);

/// What a slot holds, whatever its key.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) value: u32,
    pub(super) since: Option<u32>,
    pub(super) deadline: u64,
}

/// The last millisecond that a slot can hold.
const LAST: u64 = (1 << 40) - 1;

impl<K: Key> Slot<K> {
    fn new(key: K, value: u32, since: u32, deadline: u64) -> Self {
        let [a, b, c, _] = value.to_le_bytes();
        let mut slot =
            Self { key, deadline: [0; 5], value: [a, b, c], since: K::Since::new(since) };
        slot.set_deadline(deadline);
        slot
    }

    fn held(&self) -> Held {
        Held { value: self.value(), since: self.since.seconds(), deadline: self.deadline() }
    }

    fn deadline(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..5].copy_from_slice(&self.deadline);
        u64::from_le_bytes(bytes)
    }

    fn set_deadline(&mut self, millis: u64) {
        self.deadline.copy_from_slice(&millis.min(LAST).to_le_bytes()[..5]);
    }

    fn value(&self) -> u32 {
        let [a, b, c] = self.value;
        u32::from_le_bytes([a, b, c, 0])
    }

    fn set_value(&mut self, value: u32) {
        let [a, b, c, _] = value.to_le_bytes();
        self.value = [a, b, c];
    }
}

/// The hash's key.
#[derive(Clone, Copy)]
pub(super) struct Keyed(pub(super) u64, pub(super) u64);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// Where a slot is, good until the next insertion or removal.
#[derive(Clone, Copy)]
struct At {
    segment: usize,
    bucket: usize,
}

#[derive(Clone)]
pub(super) struct Table<K: Key> {
    keyed: Keyed,
    count: usize,
    /// None before the first client.
    segments: Vec<HashTable<Slot<K>>>,
    len: usize,
    /// Where the next sweep goes on.
    cursor: At,
}

impl<K: Key> Table<K> {
    pub(super) fn new(capacity: usize, keyed: Keyed) -> Self {
        Self {
            keyed,
            count: capacity.div_ceil(SEGMENT).max(1),
            segments: Vec::new(),
            len: 0,
            cursor: At { segment: 0, bucket: 0 },
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The segment of a hash: by bits that do not matter within it.
    #[inline]
    fn segment(&self, hash: u64) -> usize {
        let part = ((hash >> 24 & 0xffff_ffff) * self.count as u64) >> 32;
        usize::try_from(part).unwrap_or(0)
    }

    #[inline]
    fn find(&self, key: Hashed<K>, value: impl Fn(u32) -> bool) -> Option<At> {
        let Hashed { key, hash } = key;
        let segment = self.segment(hash);
        let same = |slot: &Slot<K>| slot.key == key && value(slot.value());
        let bucket = self.segments.get(segment)?.find_bucket_index(hash, same)?;
        Some(At { segment, bucket })
    }

    /// The value's number where a client went, if its time is not over and `good` says so.
    #[inline]
    pub(super) fn honour<V: Clone + Eq + Hash>(
        &mut self,
        key: Hashed<K>,
        scope: &Scope,
        values: &mut Values<V>,
        now: u64,
        good: impl FnOnce(&V) -> bool,
        renew: bool,
    ) -> Option<u32> {
        let at = self.find(key, |_| true)?;
        let slot = self.segments.get_mut(at.segment)?.get_bucket_mut(at.bucket)?;
        let number = slot.value();
        if slot.deadline() <= now {
            self.drop_at(at, values);
            return None;
        }
        if !values.get(number).is_some_and(good) {
            return None;
        }
        if renew {
            slot.set_deadline(scope.deadline(slot.since.seconds(), now));
        }
        Some(number)
    }

    /// Restarts the time of a client that is there, going to a value from now on; false if it is not there.
    pub(super) fn renew<V: Clone + Eq + Hash>(
        &mut self,
        key: Hashed<K>,
        scope: &Scope,
        value: &V,
        values: &mut Values<V>,
        now: u64,
    ) -> bool {
        let several = scope.mode == Mode::Recent;
        let found = self.find(key, |number| !several || values.get(number) == Some(value));
        let slot =
            found.and_then(|at| self.segments.get_mut(at.segment)?.get_bucket_mut(at.bucket));
        let Some(slot) = slot else { return false };
        if values.get(slot.value()) != Some(value) {
            // With no number left, it goes on where it went.
            let Some(number) = values.take(value.clone()) else { return true };
            values.give_back(slot.value());
            slot.set_value(number);
        }
        if slot.deadline() <= now {
            slot.since = K::Since::new(seconds(now));
        }
        slot.set_deadline(scope.deadline(slot.since.seconds(), now));
        true
    }

    /// Whether a client is noted to go to a value.
    pub(super) fn knows<V: Clone + Eq + Hash>(
        &self,
        key: Hashed<K>,
        value: &V,
        values: &Values<V>,
    ) -> bool {
        self.find(key, |number| values.get(number) == Some(value)).is_some()
    }

    /// What is held of a client.
    pub(super) fn all(&self, Hashed { key, hash }: Hashed<K>) -> impl Iterator<Item = Held> {
        let slots = self.segments.get(self.segment(hash)).map(|slots| slots.iter_hash(hash));
        slots.into_iter().flatten().filter(move |slot| slot.key == key).map(Slot::held)
    }

    /// Drops all that is held of a client.
    pub(super) fn forget<V: Clone + Eq + Hash>(
        &mut self,
        key: Hashed<K>,
        values: &mut Values<V>,
    ) -> Option<V> {
        let mut gone = None;
        while let Some(at) = self.find(key, |_| true) {
            gone = self.drop_at(at, values);
        }
        gone
    }

    fn drop_at<V: Clone + Eq + Hash>(&mut self, at: At, values: &mut Values<V>) -> Option<V> {
        let number = self.remove(at)?;
        let value = values.get(number).cloned();
        values.give_back(number);
        value
    }

    /// Adds a slot whose key and value are not there.
    pub(super) fn insert(&mut self, key: Hashed<K>, value: u32, since: u32, deadline: u64) {
        if self.segments.is_empty() {
            self.segments.resize_with(self.count, HashTable::new);
        }
        let Hashed { key, hash } = key;
        let (keyed, segment) = (self.keyed, self.segment(hash));
        let slot = Slot::new(key, value, since, deadline);
        let hash_of = |slot: &Slot<K>| slot.key.hash_with(keyed);
        let slots = &mut self.segments[segment];
        if slots.len() == slots.capacity() {
            tidy(slots, hash_of);
        }
        slots.insert_unique(hash, slot, hash_of);
        self.len += 1;
    }

    fn remove(&mut self, at: At) -> Option<u32> {
        let slots = self.segments.get_mut(at.segment)?;
        let (slot, _) = slots.get_bucket_entry(at.bucket).ok()?.remove();
        self.len -= 1;
        Some(slot.value())
    }

    /// Drops one to make room for a key, or for any: of some of a segment the one whose time is over first. The number of its
    /// value.
    pub(super) fn evict(&mut self, key: Option<Hashed<K>>) -> Option<u32> {
        let first = key.map_or(0, |key| self.segment(key.hash));
        let mut nearest = (first..self.segments.len()).chain(0..first);
        let segment =
            nearest.find(|&at| self.segments.get(at).is_some_and(|slots| !slots.is_empty()))?;
        let slots = &self.segments[segment];
        // Near where the key will be: what is looked at here is not looked for in memory again then.
        let own = key.map_or(0, |key| usize::try_from(key.hash & 0xffff).unwrap_or(0));
        let from = own % slots.num_buckets();
        let around = (from..slots.num_buckets()).chain(0..from);
        let occupied =
            around.filter_map(|bucket| Some((bucket, slots.get_bucket(bucket)?.deadline())));
        let (bucket, _) = occupied.take(SAMPLE).min_by_key(|(_, deadline)| *deadline)?;
        self.remove(At { segment, bucket })
    }

    /// Drops those whose time is over among the next slots, vacant ones included, but goes no further than the end of the table.
    /// How many of the limit are left.
    pub(super) fn sweep<V: Clone + Eq + Hash>(
        &mut self,
        now: u64,
        mut limit: usize,
        values: &mut Values<V>,
    ) -> usize {
        while let Some(slots) = self.segments.get(self.cursor.segment) {
            let buckets = slots.num_buckets();
            while limit > 0 && self.cursor.bucket < buckets {
                let at = self.cursor;
                self.cursor.bucket += 1;
                limit -= 1;
                let slot = self.segments[at.segment].get_bucket(at.bucket);
                if slot.is_some_and(|slot| slot.deadline() <= now) {
                    self.drop_at(at, values);
                }
            }
            if limit == 0 {
                return 0;
            }
            self.cursor = At { segment: self.cursor.segment + 1, bucket: 0 };
        }
        self.cursor = At { segment: 0, bucket: 0 };
        limit
    }

    /// Every client with what is held of it.
    pub(super) fn iter(&self) -> impl Iterator<Item = ((u32, SocketAddr), Held)> {
        let slots = self.segments.iter().flatten();
        slots.map(|slot| (slot.key.parts(), slot.held()))
    }

    /// The bytes that the table has allocated.
    pub(super) fn bytes(&self) -> usize {
        let slots: usize = self.segments.iter().map(HashTable::allocation_size).sum();
        slots + self.segments.capacity() * size_of::<HashTable<Slot<K>>>()
    }
}

/// Removed slots leave traces that use a segment up, and the hash table would then double, for good. It is built anew in its size
/// instead, if a sixteenth of it is free then: with less, that would be too often.
fn tidy<T>(slots: &mut HashTable<T>, hash_of: impl Fn(&T) -> u64) {
    let most = slots.num_buckets() / 8 * 7;
    if slots.len() + most / 16 < most {
        let mut tidied = HashTable::with_capacity(most);
        for slot in slots.drain() {
            tidied.insert_unique(hash_of(&slot), slot, &hash_of);
        }
        *slots = tidied;
    }
}

/// Values by number, each once.
#[derive(Clone)]
pub(super) struct Values<V> {
    counted: Vec<Counted<V>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    keyed: Keyed,
}

#[derive(Clone)]
struct Counted<V> {
    /// `None` while nobody went there.
    value: Option<V>,
    clients: usize,
}

/// Numbers have three bytes.
const MAX_VALUES: usize = 1 << 24;

impl<V: Clone + Eq + Hash> Values<V> {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { counted: Vec::new(), free: Vec::new(), index: HashTable::new(), keyed }
    }

    pub(super) fn get(&self, number: u32) -> Option<&V> {
        self.counted.get(number as usize)?.value.as_ref()
    }

    pub(super) fn find(&self, value: &V) -> Option<u32> {
        let same = |number: &u32| self.get(*number) == Some(value);
        self.index.find(self.keyed.hash_one(value), same).copied()
    }

    /// The number of a value, counted once more; `None` if there are 2²⁴ others.
    pub(super) fn take(&mut self, value: V) -> Option<u32> {
        if let Some(number) = self.find(&value) {
            self.counted[number as usize].clients += 1;
            return Some(number);
        }
        let hash = self.keyed.hash_one(&value);
        let new = Counted { value: Some(value), clients: 1 };
        let number = if let Some(number) = self.free.pop() {
            self.counted[number as usize] = new;
            number
        } else {
            let number = u32::try_from(self.counted.len())
                .ok()
                .filter(|_| self.counted.len() < MAX_VALUES)?;
            self.counted.push(new);
            number
        };
        let Self { counted, index, keyed, .. } = self;
        let hash_of = |number: &u32| {
            let value = counted[*number as usize].value.as_ref();
            value.map_or(0, |value| keyed.hash_one(value))
        };
        index.insert_unique(hash, number, hash_of);
        Some(number)
    }

    /// Counts it once less.
    pub(super) fn give_back(&mut self, number: u32) {
        let Some(counted) = self.counted.get_mut(number as usize) else { return };
        counted.clients = counted.clients.saturating_sub(1);
        if counted.clients > 0 {
            return;
        }
        let Some(value) = counted.value.take() else { return };
        let found = self.index.find_entry(self.keyed.hash_one(&value), |other| *other == number);
        if let Ok(found) = found {
            found.remove();
        }
        self.free.push(number);
    }
}
