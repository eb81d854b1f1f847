//! A range of IP addresses.

use alloc::string::ToString;
use core::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::AllocateError;
use super::bitmap::{Bitmap, static_band};

/// The range has more than 2²⁴ IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("range {range} is too large: expected an IPv4 prefix of at least 8 bits")]
#[non_exhaustive]
pub struct RangeTooLarge {
    /// The range that was asked for.
    pub range: IpNet,
}

/// The addresses of one prefix, each free or taken.
///
/// The network address is never allocated, nor is an IPv4 broadcast address: a /24 has 254, a /31 and
/// a /32 none. Of an IPv6 prefix the first 65,535 after the network address can be allocated, the
/// all-ones address included, as in Kubernetes' bitmap allocator.
#[derive(Clone, Debug)]
pub struct IpRange {
    net: IpNet,
    slots: Bitmap,
}

impl IpRange {
    /// An empty range. Bits of `net` beyond its length are cut off.
    ///
    /// `DIFFERENCE`: Kubernetes allocates from shorter IPv4 prefixes than /8 too.
    ///
    /// # Errors
    ///
    /// An IPv4 prefix shorter than /8.
    pub fn new(net: IpNet, seed: u64) -> Result<Self, RangeTooLarge> {
        let host_bits = net.max_prefix_len() - net.prefix_len();
        let (size, unusable) = match net {
            IpNet::V4(_) if host_bits > 24 => return Err(RangeTooLarge { range: net.trunc() }),
            IpNet::V4(_) => (1_u64 << host_bits, 2),
            IpNet::V6(_) => (1_u64 << host_bits.min(16), 1),
        };
        let usable = usize::try_from(size.saturating_sub(unusable)).unwrap_or(0);
        let slots = Bitmap::new(usable, static_band(size, 16, 256), seed);
        Ok(Self { net: net.trunc(), slots })
    }

    /// Takes a given address, from either band.
    ///
    /// # Errors
    ///
    /// [`NotInRange`](AllocateError::NotInRange) also for the network and broadcast addresses;
    /// [`Allocated`](AllocateError::Allocated).
    pub fn allocate(&mut self, ip: IpAddr) -> Result<(), AllocateError<IpAddr>> {
        let Some(slot) = self.slot(ip) else {
            return Err(AllocateError::NotInRange {
                item: ip,
                range: self.net.to_string(),
                bounds: self
                    .slots
                    .size()
                    .checked_sub(1)
                    .map(|last| (self.address(0), self.address(last))),
            });
        };
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
    pub fn free(&self) -> usize {
        self.slots.free()
    }

    /// How many addresses are taken.
    pub fn used(&self) -> usize {
        self.slots.size() - self.slots.free()
    }

    /// The prefix.
    pub const fn net(&self) -> IpNet {
        self.net
    }

    fn slot(&self, ip: IpAddr) -> Option<usize> {
        let offset = match (self.net, ip) {
            (IpNet::V4(net), IpAddr::V4(ip)) => {
                u128::from(u32::from(ip).checked_sub(net.network().into())?)
            }
            (IpNet::V6(net), IpAddr::V6(ip)) => u128::from(ip).checked_sub(net.network().into())?,
            _ => return None,
        };
        let slot = usize::try_from(offset.checked_sub(1)?).ok()?;
        (slot < self.slots.size()).then_some(slot)
    }

    fn address(&self, slot: usize) -> IpAddr {
        // The slot is in the range, so neither sum can go past its last address.
        match self.net {
            IpNet::V4(net) => {
                let offset = u32::try_from(slot + 1).unwrap_or(0);
                IpAddr::V4(u32::from(net.network()).wrapping_add(offset).into())
            }
            IpNet::V6(net) => {
                let offset = slot as u128 + 1;
                IpAddr::V6(u128::from(net.network()).wrapping_add(offset).into())
            }
        }
    }
}
