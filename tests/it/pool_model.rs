//! Several ranges as one, as they are documented to be, over plain maps, beside a pool.

use std::collections::BTreeMap;

use svcplane::ipam::{PoolError, PortPool, PortRange};
use svcplane::time::Instant;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Add(usize),
    Drain(usize),
    Remove(usize),
    Allocate(u16, u8),
    Check(u16, u8),
    Release(u16, u8),
    Learn(u16, u8),
    Propose(u64, Vec<u16>),
    Sweep,
    Wait(u64),
}

pub(crate) const RANGES: [(u16, u16); 4] = [(10, 13), (12, 17), (10, 20), (22, 22)];
pub(crate) const REST: u64 = 5;

#[derive(Debug, Default)]
pub(crate) struct Model {
    /// In the order of adding: which, and whether it is in use.
    ranges: Vec<(usize, bool)>,
    owned: BTreeMap<u16, u8>,
    /// Who had it, and until when it rests.
    resting: BTreeMap<u16, (u8, u64)>,
    now: u64,
}

fn holds(range: usize, item: u16) -> bool {
    (RANGES[range].0..=RANGES[range].1).contains(&item)
}

impl Model {
    fn sweep(&mut self) {
        let now = self.now;
        self.resting.retain(|_, (_, until)| *until > now);
    }

    fn in_use(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().filter(|(_, in_use)| *in_use).map(|(range, _)| *range)
    }

    fn check(&self, item: u16, owner: u8) -> Result<(), PoolError<u16, u8>> {
        match (self.owned.get(&item), self.resting.get(&item)) {
            (Some(other), _) if *other == owner => Ok(()),
            (Some(other), _) => Err(PoolError::Allocated { item, owner: *other }),
            (None, Some((other, until))) if *other != owner => {
                Err(PoolError::Resting { item, owner: *other, until: at(*until) })
            }
            _ if self.in_use().any(|range| holds(range, item)) => Ok(()),
            _ => {
                let text = |range: usize| format!("{}-{}", RANGES[range].0, RANGES[range].1);
                let ranges: Vec<String> = self.in_use().map(text).collect();
                let ranges = if ranges.is_empty() { "none".into() } else { ranges.join(", ") };
                Err(PoolError::NotInRange { item, ranges })
            }
        }
    }

    fn remove(&mut self, range: usize) -> Result<bool, usize> {
        let Some(place) = self.ranges.iter().position(|(other, _)| *other == range) else {
            return Ok(false);
        };
        self.ranges[place].1 = false;
        let others = |item| self.ranges.iter().any(|(r, _)| *r != range && holds(*r, item));
        let held = self.owned.keys().filter(|item| holds(range, **item) && !others(**item)).count();
        if held > 0 {
            return Err(held);
        }
        self.ranges.remove(place);
        Ok(true)
    }

    /// Does it to both, which have to agree.
    pub(crate) fn step(&mut self, pool: &mut PortPool<u8>, op: &Op) {
        let now = at(self.now);
        match *op {
            Op::Add(range) => {
                pool.add(PortRange::new(RANGES[range].0, RANGES[range].1, 1));
                match self.ranges.iter_mut().find(|(other, _)| *other == range) {
                    Some((_, in_use)) => *in_use = true,
                    None => self.ranges.push((range, true)),
                }
            }
            Op::Drain(range) => {
                let known = self.ranges.iter_mut().find(|(other, _)| *other == range);
                assert_eq!(pool.drain(Some(RANGES[range])), known.is_some());
                if let Some((_, in_use)) = known {
                    *in_use = false;
                }
            }
            Op::Remove(range) => {
                let got = pool.remove(Some(RANGES[range])).map(|removed| removed.is_some());
                assert_eq!(got, self.remove(range));
            }
            Op::Allocate(item, owner) => {
                self.sweep();
                let expected = self.check(item, owner);
                assert_eq!(pool.allocate(item, owner, now), expected.clone());
                if expected.is_ok() {
                    self.resting.remove(&item);
                    self.owned.insert(item, owner);
                }
            }
            Op::Check(item, owner) => {
                assert_eq!(pool.check(item, &owner), self.check(item, owner));
            }
            Op::Release(item, owner) => {
                self.sweep();
                let held = self.owned.get(&item) == Some(&owner);
                assert_eq!(pool.release(item, &owner, now), held);
                if held {
                    self.owned.remove(&item);
                    self.resting.insert(item, (owner, self.now + REST));
                }
            }
            Op::Learn(item, owner) => {
                self.resting.remove(&item);
                assert_eq!(pool.learn(item, owner), self.owned.insert(item, owner));
            }
            Op::Propose(seed, ref except) => {
                let got = pool.propose(seed, except, |_| true);
                assert_eq!(got, pool.propose(seed, except, |_| true));
                let free = |item: &u16| {
                    let taken = self.owned.contains_key(item) || self.resting.contains_key(item);
                    !taken && !except.contains(item)
                };
                let of = |range: usize| (RANGES[range].0..=RANGES[range].1).filter(free);
                let first = self.in_use().find(|range| of(*range).next().is_some());
                assert_eq!(got.is_some(), first.is_some());
                if let (Some(item), Some(range)) = (got, first) {
                    assert!(of(range).any(|other| other == item), "{item} of {range}");
                }
            }
            Op::Sweep => {
                self.sweep();
                pool.sweep(now);
            }
            Op::Wait(secs) => self.now += secs,
        }
        assert!(pool.iter().map(|(item, owner)| (item, *owner)).eq(self.owned.clone()));
        assert_eq!(pool.next_expiry(), self.resting.values().map(|(_, t)| at(*t)).min());
        let known = |item: u16| self.ranges.iter().any(|(range, _)| holds(*range, item));
        for item in 9..24 {
            assert_eq!(pool.contains(item), known(item), "{item}");
        }
    }
}

fn at(secs: u64) -> Instant {
    Instant::from_secs(secs)
}
