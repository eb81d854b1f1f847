//! Several ranges as one, with owners, and a rest for what was given back.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

use super::{IpRange, PortRange};
use crate::time::Instant;

/// A pool of addresses.
pub type IpPool<O> = Pool<IpRange, O>;
/// A pool of ports.
pub type PortPool<O> = Pool<PortRange, O>;

/// What a pool is made of: [`IpRange`], [`PortRange`]. Nothing else can be.
pub trait Range: sealed::Sealed + fmt::Display {
    /// An address, a port.
    type Item: Copy + Ord + fmt::Display + fmt::Debug;
    /// What tells one range from another.
    type Key: Copy + Eq + fmt::Debug;
    #[doc(hidden)]
    fn key(&self) -> Self::Key;
    #[doc(hidden)]
    fn holds(&self, item: Self::Item) -> bool;
    #[doc(hidden)]
    fn has(&self, item: Self::Item) -> bool;
    #[doc(hidden)]
    fn take(&mut self, item: Self::Item) -> bool;
    #[doc(hidden)]
    fn give_back(&mut self, item: Self::Item);
    #[doc(hidden)]
    fn any_free(&self, seed: u64, except: &[Self::Item]) -> Option<Self::Item>;
}

mod sealed {
    #[expect(unnameable_types, reason = "what seals a trait cannot be named")]
    pub trait Sealed {}
    impl Sealed for super::IpRange {}
    impl Sealed for super::PortRange {}
}

impl Range for IpRange {
    type Item = IpAddr;
    type Key = IpNet;

    fn key(&self) -> IpNet {
        self.net()
    }

    fn holds(&self, ip: IpAddr) -> bool {
        self.contains(ip)
    }

    fn has(&self, ip: IpAddr) -> bool {
        Self::has(self, ip)
    }

    fn take(&mut self, ip: IpAddr) -> bool {
        // An error of a range that does not hold it would be made for nothing.
        self.contains(ip) && self.allocate(ip).is_ok()
    }

    fn give_back(&mut self, ip: IpAddr) {
        self.release(ip);
    }

    fn any_free(&self, seed: u64, except: &[IpAddr]) -> Option<IpAddr> {
        self.propose(seed, except)
    }
}

impl Range for PortRange {
    type Item = u16;
    type Key = Option<(u16, u16)>;

    fn key(&self) -> Option<(u16, u16)> {
        self.bounds()
    }

    fn holds(&self, port: u16) -> bool {
        self.contains(port)
    }

    fn has(&self, port: u16) -> bool {
        Self::has(self, port)
    }

    fn take(&mut self, port: u16) -> bool {
        self.contains(port) && self.allocate(port).is_ok()
    }

    fn give_back(&mut self, port: u16) {
        self.release(port);
    }

    fn any_free(&self, seed: u64, except: &[u16]) -> Option<u16> {
        self.propose(seed, except)
    }
}

/// Why a pool refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PoolError<T: fmt::Display, O: fmt::Display> {
    /// No range that is in use holds it.
    #[error("{item} is in no range that is in use: expected one of {ranges}")]
    NotInRange {
        /// What was asked for.
        item: T,
        /// The ranges that are in use, as text.
        ranges: String,
    },
    /// It is taken.
    #[error("{item} is already allocated to {owner}")]
    Allocated {
        /// What was asked for.
        item: T,
        /// Who has it.
        owner: O,
    },
    /// It is taken, and by whom is not known: a range was restored and its owners not yet learnt.
    #[error("{item} is already allocated, to whom is not known")]
    Unowned {
        /// What was asked for.
        item: T,
    },
    /// It was given back a short while ago.
    #[error("{item} was given back by {owner} and rests")]
    Resting {
        /// What was asked for.
        item: T,
        /// Who had it, and can have it again.
        owner: O,
        /// When anybody can.
        until: Instant,
    },
}

/// Ranges used together, as the `ServiceCIDR`s of a cluster are: who has what, by owner.
///
/// ```
/// use std::time::Duration;
/// use svcplane::ipam::{IpPool, IpRange};
/// use svcplane::time::Instant;
///
/// let mut pool = IpPool::new(Duration::from_secs(60));
/// pool.add(IpRange::new("10.96.0.0/28".parse()?, 7)?);
/// let ip = pool.propose(1, &[], |_| true).ok_or("full")?;
/// pool.allocate(ip, "default/redis", Instant::ZERO)?;
/// assert_eq!(pool.owner(ip), Some(&"default/redis"));
///
/// // Given back, it rests: nobody else gets it for a minute.
/// assert!(pool.release(ip, &"default/redis", Instant::ZERO));
/// assert!(pool.allocate(ip, "default/other", Instant::from_secs(59)).is_err());
/// assert!(pool.allocate(ip, "default/other", Instant::from_secs(60)).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Ranges may overlap: what is taken is taken in all of them. A range that is [drained](Self::drain) gives out nothing
/// more and keeps what it gave. Growing is [adding](Self::add) a range; nobody moves.
///
/// Source: Kubernetes `ipallocator/cidrallocator.go`; the rest is ours.
#[derive(Clone, Debug)]
pub struct Pool<R: Range, O> {
    ranges: Vec<Member<R>>,
    owners: BTreeMap<R::Item, O>,
    rest: Duration,
    resting: BTreeMap<R::Item, (Instant, O)>,
    /// What rests, in the order in which it will be free. An item that was taken again meanwhile may be
    /// in it as well.
    queue: VecDeque<(Instant, R::Item)>,
}

#[derive(Clone, Debug)]
struct Member<R> {
    range: R,
    draining: bool,
}

impl<R: Range, O: Clone + Eq + fmt::Display> Pool<R, O> {
    /// A pool without ranges. What is given back rests for `rest` before others can have it; zero is not at
    /// all.
    pub const fn new(rest: Duration) -> Self {
        Self {
            ranges: Vec::new(),
            owners: BTreeMap::new(),
            rest,
            resting: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Adds a range. What is taken in the pool already is taken in it too; what only the range knows to be taken has
    /// no owner and stays taken until an owner is [learnt](Self::learn). A range that is there already is in use again if it was
    /// drained; the new one is dropped.
    pub fn add(&mut self, mut range: R) {
        if let Some(same) = self.ranges.iter_mut().find(|m| m.range.key() == range.key()) {
            same.draining = false;
            return;
        }
        for item in self.owners.keys().chain(self.resting.keys()) {
            range.take(*item);
        }
        self.ranges.push(Member { range, draining: false });
    }

    /// Takes a range out of use: nothing is given out of it any more, and what it gave stays. False if there is
    /// no such range.
    pub fn drain(&mut self, key: R::Key) -> bool {
        let member = self.ranges.iter_mut().find(|member| member.range.key() == key);
        member.map(|member| member.draining = true).is_some()
    }

    /// Takes a range away. If anything is held that only this range holds, it stays, and so does the range, drained: the
    /// answer is then how much.
    ///
    /// # Errors
    ///
    /// So many items are still held.
    pub fn remove(&mut self, key: R::Key) -> Result<Option<R>, usize> {
        let Some(at) = self.ranges.iter().position(|member| member.range.key() == key) else {
            return Ok(None);
        };
        self.ranges[at].draining = true;
        let others = |item| {
            let mut others = self.ranges.iter().enumerate().filter(|(i, _)| *i != at);
            others.any(|(_, member)| member.range.holds(item))
        };
        let held = self.owners.keys().copied();
        let held = held.filter(|&item| self.ranges[at].range.holds(item) && !others(item)).count();
        if held > 0 { Err(held) } else { Ok(Some(self.ranges.remove(at).range)) }
    }

    /// Gives an item to an owner; nothing changes if it has it already.
    ///
    /// # Errors
    ///
    /// It is in no range that is in use, somebody else has it, or it rests after somebody else had it.
    pub fn allocate(
        &mut self,
        item: R::Item,
        owner: O,
        now: Instant,
    ) -> Result<(), PoolError<R::Item, O>> {
        self.sweep(now);
        self.check(item, &owner)?;
        self.resting.remove(&item);
        self.mark(item, owner);
        Ok(())
    }

    /// Whether [`allocate`](Self::allocate) would give the item to the owner, but for items whose rest is over and that
    /// were not [swept](Self::sweep).
    ///
    /// # Errors
    ///
    /// As `allocate`.
    pub fn check(&self, item: R::Item, owner: &O) -> Result<(), PoolError<R::Item, O>> {
        if let Some(other) = self.owners.get(&item) {
            return if other == owner {
                Ok(())
            } else {
                Err(PoolError::Allocated { item, owner: other.clone() })
            };
        }
        if let Some((until, other)) = self.resting.get(&item).filter(|(_, other)| other != owner) {
            return Err(PoolError::Resting { item, owner: other.clone(), until: *until });
        }
        let mut in_use = self.in_use();
        if in_use.any(|range| range.holds(item)) {
            let mut ranges = self.ranges.iter();
            let rests = self.resting.contains_key(&item);
            return if !rests && ranges.any(|member| member.range.has(item)) {
                Err(PoolError::Unowned { item })
            } else {
                Ok(())
            };
        }
        let ranges: Vec<String> = self.in_use().map(|range| alloc::format!("{range}")).collect();
        let ranges = if ranges.is_empty() { "none".into() } else { ranges.join(", ") };
        Err(PoolError::NotInRange { item, ranges })
    }

    /// Notes that an owner has an item, whatever the pool says: what another replica did, or what is found in a
    /// store. Who had it before.
    pub fn learn(&mut self, item: R::Item, owner: O) -> Option<O> {
        self.resting.remove(&item);
        self.mark(item, owner)
    }

    /// The next item that is free, from a random start made from `seed`; `None` if there is none. Nothing is taken by it. Items
    /// in `except` are passed over, and ranges that `wanted` does not want. Ranges are asked in the order in which
    /// they were added.
    pub fn propose(
        &self,
        seed: u64,
        except: &[R::Item],
        wanted: impl Fn(&R) -> bool,
    ) -> Option<R::Item> {
        self.in_use().filter(|range| wanted(range)).find_map(|range| range.any_free(seed, except))
    }

    /// Gives an item back, to rest. False, and nothing done, if the owner does not have it.
    pub fn release(&mut self, item: R::Item, owner: &O, now: Instant) -> bool {
        self.sweep(now);
        if self.owners.get(&item) != Some(owner) {
            return false;
        }
        if let Some(owner) = self.owners.remove(&item) {
            if self.rest.is_zero() {
                self.ranges.iter_mut().for_each(|member| member.range.give_back(item));
            } else {
                let until = now + self.rest;
                self.resting.insert(item, (until, owner));
                self.queue.push_back((until, item));
            }
        }
        true
    }

    /// Makes free what has rested long enough. Other calls that take `now` do so too.
    pub fn sweep(&mut self, now: Instant) {
        while let Some(&(until, item)) = self.queue.front() {
            let rests = self.rests(until, item);
            if rests && until > now {
                return;
            }
            self.queue.pop_front();
            if rests {
                self.resting.remove(&item);
                self.ranges.iter_mut().for_each(|member| member.range.give_back(item));
            }
        }
    }

    /// Whether an entry of the queue is not of a rest that has ended early.
    fn rests(&self, until: Instant, item: R::Item) -> bool {
        self.resting.get(&item).is_some_and(|(rests_until, _)| *rests_until == until)
    }

    /// When there is something to sweep again.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.queue.iter().find(|(until, item)| self.rests(*until, *item)).map(|(until, _)| *until)
    }

    /// Who has an item.
    pub fn owner(&self, item: R::Item) -> Option<&O> {
        self.owners.get(&item)
    }

    /// What is taken, and by whom, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (R::Item, &O)> {
        self.owners.iter().map(|(item, owner)| (*item, owner))
    }

    /// The ranges that give out items, in the order in which they were added.
    pub fn in_use(&self) -> impl Iterator<Item = &R> {
        self.ranges.iter().filter(|member| !member.draining).map(|member| &member.range)
    }

    /// Whether any range holds an item, in use or not.
    pub fn contains(&self, item: R::Item) -> bool {
        self.ranges.iter().any(|member| member.range.holds(item))
    }

    fn mark(&mut self, item: R::Item, owner: O) -> Option<O> {
        for member in &mut self.ranges {
            member.range.take(item);
        }
        self.owners.insert(item, owner)
    }
}
