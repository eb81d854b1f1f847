//! Changes of a range, to be kept beside a snapshot instead of another one.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use super::AllocateError;
use super::bytes::{Reader, seal, unseal};
use super::ports::PortRange;
use super::range::IpRange;
use super::snapshot::SnapshotError;

/// One change of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change<T> {
    /// It was free and is taken.
    Allocate(T),
    /// It was taken and is free.
    Release(T),
}

/// Changes of a range, in their order: of addresses (`Delta<IpAddr>`) or ports (`Delta<u16>`).
///
/// ```
/// use svcplane::ipam::{Change, Delta, PortRange};
///
/// let mut ports = PortRange::default();
/// let mut copy = ports.clone();
/// let port = ports.allocate_next()?;
/// let bytes = Delta::from_iter([Change::Allocate(port)]).to_bytes();
/// copy.apply(&Delta::<u16>::from_bytes(&bytes)?)?;
/// assert!(copy.has(port));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delta<T> {
    /// First to last.
    pub changes: Vec<Change<T>>,
}

impl Delta<IpAddr> {
    /// A byte of version; for each change a byte, 4 or 6 for the family and 128 more for a release, and the
    /// address; the CRC-32 of all that, big-endian. 11 bytes for a change of an IPv4 address alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode(|ip, release, bytes| match ip {
            IpAddr::V4(ip) => {
                bytes.push(4 | release);
                bytes.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes.push(6 | release);
                bytes.extend(ip.octets());
            }
        })
    }

    /// The changes that [`to_bytes`](Self::to_bytes) was of.
    ///
    /// # Errors
    ///
    /// [`Malformed`](SnapshotError::Malformed).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        const EXPECTED: &str = "4 or 6, or 128 more";
        Self::decode(bytes, EXPECTED, |kind, reader| match kind {
            4 => reader.array::<4>("an IPv4 address").map(IpAddr::from),
            6 => reader.array::<16>("an IPv6 address").map(IpAddr::from),
            _ => Err(reader.malformed_before(1, EXPECTED)),
        })
    }
}

impl Delta<u16> {
    /// A byte of version; for each change a 2, or a 130 for a release, and the port, big-endian; the CRC-32 of all that,
    /// big-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode(|port, release, bytes| {
            bytes.push(2 | release);
            bytes.extend(port.to_be_bytes());
        })
    }

    /// The changes that [`to_bytes`](Self::to_bytes) was of.
    ///
    /// # Errors
    ///
    /// [`Malformed`](SnapshotError::Malformed).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        const EXPECTED: &str = "2, or 128 more";
        Self::decode(bytes, EXPECTED, |kind, reader| match kind {
            2 => reader.array("a port").map(u16::from_be_bytes),
            _ => Err(reader.malformed_before(1, EXPECTED)),
        })
    }
}

impl<T: Copy> Delta<T> {
    fn encode(&self, item: impl Fn(T, u8, &mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = alloc::vec![VERSION];
        for &change in &self.changes {
            match change {
                Change::Allocate(it) => item(it, 0, &mut bytes),
                Change::Release(it) => item(it, RELEASE, &mut bytes),
            }
        }
        seal(bytes)
    }

    fn decode(
        bytes: &[u8],
        expected: &'static str,
        item: impl Fn(u8, &mut Reader<'_>) -> Result<T, SnapshotError>,
    ) -> Result<Self, SnapshotError> {
        let mut reader = unseal(bytes, VERSION)?;
        let mut changes = Vec::new();
        while !reader.is_empty() {
            let kind = reader.byte(expected)?;
            let it = item(kind & !RELEASE, &mut reader)?;
            let release = kind & RELEASE != 0;
            changes.push(if release { Change::Release(it) } else { Change::Allocate(it) });
        }
        Ok(Self { changes })
    }
}

impl<T> Default for Delta<T> {
    fn default() -> Self {
        Self { changes: Vec::new() }
    }
}

impl<T> FromIterator<Change<T>> for Delta<T> {
    fn from_iter<I: IntoIterator<Item = Change<T>>>(changes: I) -> Self {
        Self { changes: changes.into_iter().collect() }
    }
}

impl IpRange {
    /// Makes all changes, or none if one cannot be made.
    ///
    /// # Errors
    ///
    /// Of the first such change: [`NotInRange`](AllocateError::NotInRange), [`Allocated`](AllocateError::Allocated), or
    /// [`NotAllocated`](AllocateError::NotAllocated) of a release.
    pub fn apply(&mut self, delta: &Delta<IpAddr>) -> Result<(), AllocateError<IpAddr>> {
        all_or_nothing(&delta.changes, |change| match change {
            Change::Allocate(ip) => self.allocate(ip),
            Change::Release(ip) if self.release(ip) => Ok(()),
            Change::Release(ip) if self.contains(ip) => {
                Err(AllocateError::NotAllocated { item: ip })
            }
            Change::Release(ip) => Err(self.not_in_range(ip)),
        })
    }
}

impl PortRange {
    /// Makes all changes, or none if one cannot be made.
    ///
    /// # Errors
    ///
    /// Of the first such change: [`NotInRange`](AllocateError::NotInRange), [`Allocated`](AllocateError::Allocated), or
    /// [`NotAllocated`](AllocateError::NotAllocated) of a release.
    pub fn apply(&mut self, delta: &Delta<u16>) -> Result<(), AllocateError<u16>> {
        all_or_nothing(&delta.changes, |change| match change {
            Change::Allocate(port) => self.allocate(port),
            Change::Release(port) if self.release(port) => Ok(()),
            Change::Release(port) if self.contains(port) => {
                Err(AllocateError::NotAllocated { item: port })
            }
            Change::Release(port) => Err(self.not_in_range(port)),
        })
    }
}

/// The first byte of a delta.
const VERSION: u8 = 1;
/// What a release has in its byte besides.
const RELEASE: u8 = 0x80;

fn all_or_nothing<T: Copy + fmt::Display>(
    changes: &[Change<T>],
    mut make: impl FnMut(Change<T>) -> Result<(), AllocateError<T>>,
) -> Result<(), AllocateError<T>> {
    for (made, &change) in changes.iter().enumerate() {
        let Err(error) = make(change) else { continue };
        for &change in changes[..made].iter().rev() {
            // What was just made can be unmade.
            let _ = make(match change {
                Change::Allocate(it) => Change::Release(it),
                Change::Release(it) => Change::Allocate(it),
            });
        }
        return Err(error);
    }
    Ok(())
}
