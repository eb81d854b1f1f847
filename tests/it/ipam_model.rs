//! Ranges of addresses and ports under random operations, beside the set of what is taken; for tests and a fuzz target.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::net::IpAddr;

use ipnet::IpNet;
use svcplane::ipam::{
    AllocateError, Change, Delta, IpRange, PortRange, RangeAllocation, SnapshotError,
};

/// What ranges of addresses and of ports have in common. Slots are numbers of what can be allocated.
pub(crate) trait Subject: Clone {
    type Item: Copy + Debug + Display + PartialEq;

    /// The same range, with nothing taken.
    fn fresh(&self, seed: u64) -> Self;
    /// What has this number, also before 0 and behind the last.
    fn item(&self, slot: i128) -> Option<Self::Item>;
    fn slot(&self, item: Self::Item) -> i128;
    /// How a compact snapshot begins.
    fn header(&self) -> Vec<u8>;

    fn allocate(&mut self, item: Self::Item) -> Result<(), AllocateError<Self::Item>>;
    fn allocate_next(&mut self) -> Result<Self::Item, AllocateError<Self::Item>>;
    fn release(&mut self, item: Self::Item) -> bool;
    fn propose(&self, seed: u64, except: &[Self::Item]) -> Option<Self::Item>;
    fn has(&self, item: Self::Item) -> bool;
    fn contains(&self, item: Self::Item) -> bool;
    fn taken(&self) -> Vec<Self::Item>;
    fn free(&self) -> u64;
    fn used(&self) -> u64;
    fn snapshot(&self) -> Option<RangeAllocation>;
    fn restore(&mut self, snapshot: &RangeAllocation) -> Result<(), SnapshotError>;
    fn to_bytes(&self) -> Vec<u8>;
    fn restore_bytes(&mut self, bytes: &[u8]) -> Result<(), SnapshotError>;
    /// By way of its bytes.
    fn apply(&mut self, changes: Vec<Change<Self::Item>>) -> Result<(), AllocateError<Self::Item>>;
}

macro_rules! same_methods {
    ($item:ty) => {
        type Item = $item;

        fn allocate(&mut self, item: $item) -> Result<(), AllocateError<$item>> {
            self.range.allocate(item)
        }
        fn allocate_next(&mut self) -> Result<$item, AllocateError<$item>> {
            self.range.allocate_next()
        }
        fn release(&mut self, item: $item) -> bool {
            self.range.release(item)
        }
        fn propose(&self, seed: u64, except: &[$item]) -> Option<$item> {
            self.range.propose(seed, except)
        }
        fn has(&self, item: $item) -> bool {
            self.range.has(item)
        }
        fn contains(&self, item: $item) -> bool {
            self.range.contains(item)
        }
        fn taken(&self) -> Vec<$item> {
            self.range.iter().collect()
        }
        fn free(&self) -> u64 {
            self.range.free()
        }
        fn used(&self) -> u64 {
            self.range.used()
        }
        fn restore(&mut self, snapshot: &RangeAllocation) -> Result<(), SnapshotError> {
            self.range.restore(snapshot)
        }
        fn to_bytes(&self) -> Vec<u8> {
            self.range.to_bytes()
        }
        fn restore_bytes(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
            self.range.restore_bytes(bytes)
        }
        fn apply(&mut self, changes: Vec<Change<$item>>) -> Result<(), AllocateError<$item>> {
            let delta = Delta::from_iter(changes);
            let read = Delta::<$item>::from_bytes(&delta.to_bytes());
            assert_eq!(read.as_ref(), Ok(&delta));
            self.range.apply(&delta)
        }
    };
}

#[derive(Clone)]
pub(crate) struct Ips {
    pub(crate) range: IpRange,
    capped: bool,
}

impl Ips {
    pub(crate) fn new(cidr: &str, capped: bool, seed: u64) -> Self {
        let net: IpNet = cidr.parse().expect("a CIDR");
        let full = || IpRange::new(net, seed).expect("at least a /64");
        Self { range: if capped { IpRange::capped(net, seed) } else { full() }, capped }
    }
}

impl Subject for Ips {
    same_methods!(IpAddr);

    fn fresh(&self, seed: u64) -> Self {
        Self::new(&self.range.net().to_string(), self.capped, seed)
    }

    fn item(&self, slot: i128) -> Option<IpAddr> {
        match self.range.net().addr() {
            IpAddr::V4(ip) => {
                let ip = i128::from(u32::from(ip)) + slot + 1;
                Some(IpAddr::from(u32::try_from(ip).ok()?.to_be_bytes()))
            }
            IpAddr::V6(ip) => {
                let ip = u128::from(ip).checked_add_signed(slot)?.checked_add(1)?;
                Some(IpAddr::from(ip.to_be_bytes()))
            }
        }
    }

    fn slot(&self, item: IpAddr) -> i128 {
        match (self.range.net().addr(), item) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                i128::from(u32::from(ip)) - i128::from(u32::from(net)) - 1
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                i128::try_from(u128::from(ip) - u128::from(net)).expect("not that large") - 1
            }
            (net, item) => panic!("{item} of {net}"),
        }
    }

    fn header(&self) -> Vec<u8> {
        let length = self.range.net().prefix_len();
        match self.range.net().addr() {
            IpAddr::V4(ip) => [&[1, 4], &ip.octets()[..], &[length]].concat(),
            IpAddr::V6(ip) => [&[1, 6], &ip.octets()[..], &[length]].concat(),
        }
    }

    fn snapshot(&self) -> Option<RangeAllocation> {
        self.range.snapshot()
    }
}

#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) range: PortRange,
    first: u16,
    last: u16,
}

impl Ports {
    pub(crate) fn new(first: u16, last: u16, seed: u64) -> Self {
        Self { range: PortRange::new(first, last, seed), first, last }
    }
}

impl Subject for Ports {
    same_methods!(u16);

    fn fresh(&self, seed: u64) -> Self {
        Self::new(self.first, self.last, seed)
    }

    fn item(&self, slot: i128) -> Option<u16> {
        u16::try_from(i128::from(self.first) + slot).ok()
    }

    fn slot(&self, item: u16) -> i128 {
        i128::from(item) - i128::from(self.first)
    }

    fn header(&self) -> Vec<u8> {
        [&[1, 2], &self.first.to_be_bytes()[..], &self.last.to_be_bytes()].concat()
    }

    fn snapshot(&self) -> Option<RangeAllocation> {
        Some(self.range.snapshot())
    }
}

/// Bytes with their CRC-32, bit by bit.
pub(crate) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    });
    bytes.extend((!crc).to_be_bytes());
    bytes
}

/// A compact snapshot as documented, of runs (the first and the one behind the last) with something free between them.
pub(crate) fn compact(header: Vec<u8>, runs: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = header;
    let mut end = 0;
    for &(start, stop) in runs {
        for mut number in [start - end, stop - start] {
            while number > 0x7f {
                bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
                number >>= 7;
            }
            bytes.push(u8::try_from(number).unwrap());
        }
        end = stop;
    }
    sealed(bytes)
}

/// A range and what is taken of it.
pub(crate) struct Model<S> {
    pub subject: S,
    size: u64,
    /// Slots of the static band.
    band: u64,
    pub(crate) taken: BTreeSet<u64>,
}

impl<S: Subject> Model<S> {
    /// Of a range with nothing taken.
    pub(crate) fn new(subject: S, size: u64, band: u64) -> Self {
        Self { subject, size, band, taken: BTreeSet::new() }
    }

    /// One operation, of a kind and a number that are drawn from all there are.
    pub(crate) fn step(&mut self, kind: u8, value: u64) {
        match kind % 20 {
            0..=3 => self.allocate_next(),
            4..=6 => self.allocate(self.pick(value)),
            7..=9 => self.release(self.pick(value)),
            10 | 11 => self.propose(value),
            12 => self.through_bytes(value),
            13 => self.through_bitmap(value),
            14 => self.refuse_bytes(value),
            15..=17 => self.apply(value),
            _ => self.take_run(value),
        }
        let used = self.taken.len() as u64;
        assert_eq!((self.subject.used(), self.subject.free()), (used, self.size - used));
    }

    /// What is taken is what the model says, in order.
    pub(crate) fn check(&self) {
        let taken: Vec<i128> =
            self.subject.taken().into_iter().map(|item| self.subject.slot(item)).collect();
        assert!(taken.iter().copied().eq(self.taken.iter().map(|&slot| slot.into())), "{taken:?}");
        assert_eq!(self.subject.to_bytes(), compact(self.subject.header(), &self.runs()));
    }

    /// A slot near one of the places where something changes, or any; from -1 to one behind the last.
    fn pick(&self, value: u64) -> i128 {
        let (kind, value) = (value % 8, value / 8);
        let size = i128::from(self.size);
        let slot = match kind {
            0..=2 => i128::from(value % 80) - 1,
            3 => i128::from(self.band) + i128::from(value % 80) - 40,
            4 => size - i128::from(value % 80),
            5 => (1 << (value % 64)) + i128::from(value / 64 % 80) - 40,
            6 => {
                let around = self.taken.iter().nth(usize::try_from(value % 50).unwrap());
                i128::from(around.copied().unwrap_or(0)) + i128::from(value / 64 % 3) - 1
            }
            _ => i128::from(value) % (size + 1),
        };
        slot.clamp(-1, size)
    }

    /// The slot, if it is one of the range.
    fn own(&self, slot: i128) -> Option<u64> {
        u64::try_from(slot).ok().filter(|&slot| slot < self.size)
    }

    fn allocate_next(&mut self) {
        match self.subject.allocate_next() {
            Ok(item) => {
                let slot = self.own(self.subject.slot(item)).expect("one of the range");
                self.check_next(slot, &self.taken);
                self.taken.insert(slot);
            }
            Err(AllocateError::Full { .. }) => assert_eq!(self.taken.len() as u64, self.size),
            Err(error) => panic!("{error}"),
        }
    }

    /// The slot is free, and a static one only if there is no other.
    fn check_next(&self, slot: u64, taken: &BTreeSet<u64>) {
        assert!(!taken.contains(&slot), "{slot} is taken");
        let dynamic_full = || taken.range(self.band..).count() as u64 == self.size - self.band;
        assert!(slot >= self.band || dynamic_full(), "{slot} too early");
    }

    fn allocate(&mut self, slot: i128) {
        let Some(item) = self.subject.item(slot) else { return };
        let own = self.own(slot);
        assert_eq!(self.subject.contains(item), own.is_some(), "{item}");
        let taken = own.is_some_and(|slot| self.taken.contains(&slot));
        assert_eq!(self.subject.has(item), taken, "{item}");
        match (self.subject.allocate(item), own) {
            (Ok(()), Some(slot)) => assert!(self.taken.insert(slot), "{item} was taken"),
            (Err(AllocateError::Allocated { item: named }), Some(_)) => {
                assert!(taken && named == item, "{item}");
            }
            (Err(AllocateError::NotInRange { item: named, bounds, .. }), None) => {
                let last = i128::from(self.size) - 1;
                let bounds = bounds.map(|(a, b)| (self.subject.slot(a), self.subject.slot(b)));
                assert_eq!((named, bounds), (item, (self.size > 0).then_some((0, last))));
            }
            (other, _) => panic!("{item}: {other:?}"),
        }
    }

    fn release(&mut self, slot: i128) {
        let Some(item) = self.subject.item(slot) else { return };
        let taken = self.own(slot).is_some_and(|slot| self.taken.remove(&slot));
        assert_eq!(self.subject.release(item), taken, "{item}");
        assert!(!self.subject.has(item), "{item}");
    }

    /// What is proposed is what a range with that seed, and what is to be passed over taken, would take.
    fn propose(&self, value: u64) {
        let mut except = Vec::new();
        let mut other = self.subject.fresh(value);
        other.restore_bytes(&self.subject.to_bytes()).expect("a snapshot");
        let mut taken = self.taken.clone();
        for number in 0..value % 5 {
            let slot = match number % 2 {
                0 => self.subject.propose(value, &except).map(|item| self.subject.slot(item)),
                _ => Some(self.pick(value.rotate_left(8 * u32::try_from(number).unwrap()))),
            };
            let Some(slot) = slot else { continue };
            let Some(item) = self.subject.item(slot) else { continue };
            except.push(item);
            if other.allocate(item).is_ok() {
                taken.extend(self.own(slot));
            }
        }
        let proposed = self.subject.propose(value, &except);
        assert_eq!(proposed, other.allocate_next().ok(), "{except:?}");
        match proposed {
            Some(item) => self.check_next(self.own(self.subject.slot(item)).unwrap(), &taken),
            None => assert_eq!(taken.len() as u64, self.size, "{except:?}"),
        }
    }

    fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &slot in &self.taken {
            match runs.last_mut() {
                Some((_, end)) if *end == slot => *end += 1,
                _ => runs.push((slot, slot + 1)),
            }
        }
        runs
    }

    fn through_bytes(&mut self, value: u64) {
        let bytes = self.subject.to_bytes();
        assert_eq!(bytes, compact(self.subject.header(), &self.runs()));
        self.subject = self.subject.fresh(value);
        self.subject.allocate_next().ok();
        assert_eq!(self.subject.restore_bytes(&bytes), Ok(()));
        self.check();
    }

    fn through_bitmap(&mut self, value: u64) {
        let far = self.taken.last().is_some_and(|&slot| slot > 1 << 24);
        let Some(snapshot) = (!far).then(|| self.subject.snapshot()).flatten() else { return };
        let highest = self.taken.last().map_or(0, |slot| slot / 8 + 1);
        assert_eq!(snapshot.data.len() as u64, highest);
        let read = snapshot.data.iter().rev().zip(0_u64..).flat_map(|(&byte, at)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit)
        });
        assert!(read.eq(self.taken.iter().copied()));
        self.subject = self.subject.fresh(value);
        self.subject.allocate_next().ok();
        assert_eq!(self.subject.restore(&snapshot), Ok(()));
        self.check();
    }

    /// A changed byte, a missing end, and anything at all behind a good check.
    fn refuse_bytes(&mut self, value: u64) {
        let good = self.subject.to_bytes();
        let mut bad = good.clone();
        let at = usize::try_from(value >> 8).unwrap() % bad.len();
        let change = u8::try_from(value & 0xff).unwrap().max(1);
        bad[at] ^= change;
        assert!(self.subject.restore_bytes(&bad).is_err(), "byte {at} changed");
        assert!(self.subject.restore_bytes(&good[..at]).is_err(), "{at} bytes");
        assert_eq!(self.subject.to_bytes(), good);
        bad.truncate(good.len() - 4);
        bad.extend(&value.to_le_bytes()[..usize::from(change % 9)]);
        let mut other = self.subject.clone();
        let bad = sealed(bad);
        match other.restore_bytes(&bad) {
            Ok(()) => assert_eq!(other.to_bytes(), bad),
            Err(_) => assert_eq!(other.to_bytes(), good),
        }
    }

    fn apply(&mut self, value: u64) {
        let mut after = self.taken.clone();
        let (mut changes, mut good) = (Vec::new(), true);
        for number in 0..=value % 4 {
            let value = value.rotate_right(11 * u32::try_from(number).unwrap());
            let slot = self.pick(value);
            let Some(item) = self.subject.item(slot) else { continue };
            let own = self.own(slot);
            let taken = own.is_some_and(|slot| after.contains(&slot));
            // Mostly what can be done.
            let release = taken != (value % 16 == 0);
            good &= own.is_some() && release == taken;
            changes.push(if release { Change::Release(item) } else { Change::Allocate(item) });
            if let Some(slot) = own {
                if release {
                    after.remove(&slot)
                } else {
                    after.insert(slot)
                };
            }
        }
        let applied = self.subject.apply(changes.clone());
        assert_eq!(applied.is_ok(), good, "{changes:?}: {applied:?}");
        if good {
            self.taken = after;
        }
    }

    /// By a snapshot that somebody else wrote.
    fn take_run(&mut self, value: u64) {
        let Some(from) = self.own(self.pick(value)) else { return };
        if self.taken.len() > 10_000 {
            self.taken.clear();
        }
        let length = [3, 64, 200, 1_000, 4_096 + 64][usize::try_from(value >> 40).unwrap() % 5];
        let from = if value >> 60 & 1 == 1 { from & !0xfff } else { from };
        self.taken.extend(from..from.saturating_add(length).min(self.size));
        let bytes = compact(self.subject.header(), &self.runs());
        assert_eq!(self.subject.restore_bytes(&bytes), Ok(()));
    }
}
