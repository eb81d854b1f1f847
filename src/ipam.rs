//! Allocators over one range: addresses for Services ([`IpRange`]), node ports ([`PortRange`]).
//!
//! ```
//! use svcplane::ipam::{AllocateError, IpRange};
//!
//! let mut range = IpRange::new("10.96.0.0/16".parse()?, 7)?;
//! range.allocate("10.96.0.10".parse()?)?; // the DNS service's fixed address
//! let ip = range.allocate_next()?; // any other
//! assert_eq!(range.used(), 2);
//!
//! let taken = range.allocate(ip);
//! assert!(matches!(taken, Err(AllocateError::Allocated { .. })));
//! assert!(range.release(ip));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A range is cut into a lower *static* band, which requests for a given address should use, and an upper
//! *dynamic* band, from which the next free one is taken first (KEP-3070, KEP-3668): a random start in the
//! upper band, the next free from there with wrap; when that band is full, the same in the lower. The
//! random start comes from a seed; the same calls on the same seed give the same addresses, everywhere
//! and for ever.
//!
//! What is taken outlives the program as a [`RangeAllocation`], as Kubernetes keeps it, or in fewer bytes
//! ([`IpRange::to_bytes`]), and changes since then as a [`Delta`]:
//!
//! ```
//! use core::net::IpAddr;
//! use svcplane::ipam::{Change, Delta, IpRange};
//!
//! let mut range = IpRange::new("fd00:96::/64".parse()?, 7)?;
//! let first = range.allocate_next()?;
//! let kept = range.to_bytes();
//! let second = range.allocate_next()?;
//! let since = Delta::from_iter([Change::Allocate(second), Change::Release(first)]).to_bytes();
//!
//! let mut again = IpRange::new("fd00:96::/64".parse()?, 7)?;
//! again.restore_bytes(&kept)?;
//! again.apply(&Delta::<IpAddr>::from_bytes(&since)?)?;
//! assert!(again.iter().eq([second]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: Kubernetes `ipallocator`, `portallocator`, `allocator`. Up to 2²⁴ slots a call is O(levels of a 64-ary
//! bitmap), at any fill, and memory is one bit per address. A larger range is a 64-ary tree of what is taken,
//! in an ordered map for each of its at most 11 levels: a call is a few look-ups in these.

mod bitmap;
mod bytes;
mod delta;
mod pool;
mod ports;
mod range;
mod slots;
mod snapshot;
mod sparse;

pub use delta::{Change, Delta};
pub use pool::{IpPool, Pool, PoolError, PortPool, Range};
pub use ports::{ParsePortRangeError, PortRange};
pub use range::{IpRange, RangeTooLarge};
pub use snapshot::{RangeAllocation, SnapshotError};

use alloc::string::String;
use core::fmt;

use thiserror::Error;

/// Why an allocation or a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AllocateError<T: fmt::Display> {
    /// Nothing is free.
    #[error("range {range} is full")]
    Full {
        /// The range, as text.
        range: String,
    },
    /// The address or port is not an allocatable one of the range.
    #[error("{item} is not in the range {range}: expected {}", Bounds(.bounds))]
    NotInRange {
        /// What was asked for.
        item: T,
        /// The range, as text.
        range: String,
        /// The first and the last that can be allocated; `None` if nothing can.
        bounds: Option<(T, T)>,
    },
    /// The address or port is taken.
    #[error("{item} is already allocated")]
    Allocated {
        /// What was asked for.
        item: T,
    },
    /// The address or port to release is not taken.
    #[error("{item} is not allocated")]
    NotAllocated {
        /// What was to be released.
        item: T,
    },
}

struct Bounds<'a, T>(&'a Option<(T, T)>);

impl<T: fmt::Display> fmt::Display for Bounds<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((first, last)) => write!(f, "{first} to {last}"),
            None => f.write_str("nothing, it is too small to allocate from"),
        }
    }
}
