//! A range of IP addresses.

use alloc::string::ToString;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::AllocateError;
use super::slots::{Slots, static_band};

/// The range has more addresses than can be counted: an IPv6 prefix shorter than /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("range {range} is too large: expected an IPv6 prefix of at least 64 bits")]
#[non_exhaustive]
pub struct RangeTooLarge {
    /// The range that was asked for.
    pub range: IpNet,
}

/// The addresses of one prefix, each free or taken.
///
/// The network address is never allocated, nor is an IPv4 broadcast address: a /24 has 254, a /31 and
/// a /32 none, an IPv6 /112 has 65,535, its all-ones address included.
///
/// Memory is one bit per address for ranges of up to 2²⁴; of a larger one, what is taken counts: at most some 50
/// bytes for an address by itself, next to nothing for one in a run.
#[derive(Clone, Debug)]
pub struct IpRange {
    net: IpNet,
    pub(super) slots: Slots,
}

impl IpRange {
    /// An empty range over all addresses of a prefix, as Kubernetes' allocator over `IPAddress` objects has it.
    /// Bits of `net` beyond its length are cut off.
    ///
    /// # Errors
    ///
    /// An IPv6 prefix shorter than /64.
    pub fn new(net: IpNet, seed: u64) -> Result<Self, RangeTooLarge> {
        let size = match (net, u32::from(net.max_prefix_len() - net.prefix_len())) {
            (IpNet::V4(_), host_bits) => (1_u64 << host_bits).saturating_sub(2),
            (IpNet::V6(_), 65..) => return Err(RangeTooLarge { range: net.trunc() }),
            // As many as there are ones in the host part; a /64 has u64::MAX.
            (IpNet::V6(_), host_bits) => u64::MAX.checked_shr(64 - host_bits).unwrap_or(0),
        };
        Ok(Self::with_size(net, size, seed))
    }

    /// An empty range over the addresses that Kubernetes' older bitmap allocator has: those of [`new`](Self::new),
    /// but the first 65,535 of an IPv6 prefix, which may be of any length, and none of a /0 or a /1.
    pub fn capped(net: IpNet, seed: u64) -> Self {
        Self::with_size(net, capped_size(net), seed)
    }

    fn with_size(net: IpNet, size: u64, seed: u64) -> Self {
        let slots = Slots::new(size, static_band(cidr_size(net), 16, 256), seed);
        Self { net: net.trunc(), slots }
    }

    /// Takes a given address, from either band.
    ///
    /// # Errors
    ///
    /// [`NotInRange`](AllocateError::NotInRange) also for the network and broadcast addresses;
    /// [`Allocated`](AllocateError::Allocated).
    pub fn allocate(&mut self, ip: IpAddr) -> Result<(), AllocateError<IpAddr>> {
        let slot = self.slot(ip).ok_or_else(|| self.not_in_range(ip))?;
        if self.slots.allocate(slot) { Ok(()) } else { Err(AllocateError::Allocated { item: ip }) }
    }

    /// Takes the next free address.
    ///
    /// # Errors
    ///
    /// [`Full`](AllocateError::Full).
    pub fn allocate_next(&mut self) -> Result<IpAddr, AllocateError<IpAddr>> {
        match self.slots.allocate_next() {
            Some(slot) => Ok(self.address(slot)),
            None => Err(AllocateError::Full { range: self.net.to_string() }),
        }
    }

    /// Gives an address back. False, and nothing done, if it was not taken.
    pub fn release(&mut self, ip: IpAddr) -> bool {
        self.slot(ip).is_some_and(|slot| self.slots.release(slot))
    }

    /// An address that could be taken next, which stays free: for a plan that has to be written to a store, by
    /// compare-and-swap, before the address is taken here.
    ///
    /// It is what [`allocate_next`](Self::allocate_next) would give if the random start were the first draw
    /// from `seed` and the addresses of `except`, the plan's others, were taken too. What is not of the range
    /// or not free does not matter there. `None` if nothing else is free.
    ///
    /// Costs a sort of `except`, and a search for each of its addresses at most.
    pub fn propose(&self, seed: u64, except: &[IpAddr]) -> Option<IpAddr> {
        let except = except.iter().filter_map(|&ip| self.slot(ip));
        self.slots.propose(seed, except).map(|slot| self.address(slot))
    }

    /// Whether an address is taken.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.slot(ip).is_some_and(|slot| self.slots.has(slot))
    }

    /// Whether an address can be allocated from this range at all, taken or not.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.slot(ip).is_some()
    }

    /// The taken addresses, ascending.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.slots.iter().map(|slot| self.address(slot))
    }

    /// How many addresses are free.
    pub fn free(&self) -> u64 {
        self.slots.free()
    }

    /// How many addresses are taken.
    pub fn used(&self) -> u64 {
        self.slots.used()
    }

    /// The prefix.
    pub const fn net(&self) -> IpNet {
        self.net
    }

    pub(super) fn not_in_range(&self, ip: IpAddr) -> AllocateError<IpAddr> {
        let last = self.slots.size().checked_sub(1);
        let bounds = last.map(|last| (self.address(0), self.address(last)));
        AllocateError::NotInRange { item: ip, range: self.net.to_string(), bounds }
    }

    /// Whether these are the addresses that Kubernetes' bitmap has of the prefix.
    pub(super) fn is_capped(&self) -> bool {
        self.slots.size() == capped_size(self.net)
    }

    fn slot(&self, ip: IpAddr) -> Option<u64> {
        let offset = match (self.net, ip) {
            (IpNet::V4(net), IpAddr::V4(ip)) => {
                u64::from(u32::from(ip).checked_sub(net.addr().into())?)
            }
            (IpNet::V6(net), IpAddr::V6(ip)) => {
                u64::try_from(u128::from(ip).checked_sub(net.addr().into())?).ok()?
            }
            _ => return None,
        };
        offset.checked_sub(1).filter(|&slot| slot < self.slots.size())
    }

    fn address(&self, slot: u64) -> IpAddr {
        // The slot is in the range, so neither sum can go past its last address.
        match self.net {
            IpNet::V4(net) => {
                let offset = u32::try_from(slot + 1).unwrap_or(0);
                IpAddr::V4(u32::from(net.addr()).wrapping_add(offset).into())
            }
            IpNet::V6(net) => {
                let offset = u128::from(slot) + 1;
                IpAddr::V6(u128::from(net.addr()).wrapping_add(offset).into())
            }
        }
    }
}

/// As Kubernetes' `RangeSize` counts: nothing in the largest two of either family.
fn cidr_size(net: IpNet) -> u64 {
    match net.max_prefix_len() - net.prefix_len() {
        _ if net.prefix_len() <= 1 => 0,
        host_bits @ ..63 => 1 << host_bits,
        _ => i64::MAX.unsigned_abs(),
    }
}

fn capped_size(net: IpNet) -> u64 {
    match net {
        IpNet::V4(_) => cidr_size(net).saturating_sub(2),
        IpNet::V6(_) => cidr_size(net).min(1 << 16).saturating_sub(1),
    }
}

impl fmt::Display for IpRange {
    /// The prefix: `10.96.0.0/16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.net, f)
    }
}
