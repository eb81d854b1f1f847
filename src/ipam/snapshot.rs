//! What is taken, to be kept and put back: as Kubernetes keeps it, and as few bytes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::bytes::{Reader, seal, unseal, write_number};
use super::ports::{self, Ends, PortRange};
use super::range::IpRange;
use super::slots::Slots;

/// The state of a range as Kubernetes' bitmap allocators keep it: an object of kind `RangeAllocation`.
///
/// ```
/// use svcplane::ipam::IpRange;
///
/// let mut range = IpRange::new("192.168.1.0/24".parse()?, 7)?;
/// range.allocate("192.168.1.1".parse()?)?;
/// range.allocate("192.168.1.9".parse()?)?;
/// let kept = range.snapshot().ok_or("too large")?;
/// assert_eq!((&*kept.range, &*kept.data), ("192.168.1.0/24", &[0x01, 0x01][..]));
///
/// let mut again = IpRange::new("192.168.1.0/24".parse()?, 7)?;
/// again.restore(&kept)?;
/// assert!(again.iter().eq(range.iter()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeAllocation {
    /// The range as text: a CIDR, or `FIRST-LAST` of ports.
    pub range: String,
    /// A number with bit `i` set if the `i`th address or port that can be allocated is taken: big-endian, no
    /// leading zeros, no bytes at all for 0.
    pub data: Vec<u8>,
}

impl RangeAllocation {
    /// The parts of one that was read elsewhere.
    pub fn new(range: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self { range: range.into(), data: data.into() }
    }
}

/// Why a snapshot was not restored, or bytes not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It was taken of another range.
    #[error("snapshot of range {found:?}: expected {expected:?}")]
    MismatchedRange {
        /// The range to restore.
        expected: String,
        /// The range that the snapshot names.
        found: String,
    },
    /// It has something taken that the range does not have.
    #[error("snapshot of range {range} has number {index} taken: expected less than {size}")]
    OutOfRange {
        /// The range, as text.
        range: String,
        /// The place, from 0 on, of the first that is beyond.
        index: u64,
        /// How many the range has.
        size: u64,
    },
    /// The bytes are no snapshot or no delta.
    #[error("malformed at byte {at}: expected {expected}")]
    Malformed {
        /// How many bytes before it were good.
        at: usize,
        /// What would have been.
        expected: &'static str,
    },
}

impl IpRange {
    /// What is taken, as Kubernetes' bitmap allocator keeps it; `None` if that has other addresses of the prefix,
    /// which is so for IPv6 prefixes shorter than /112 and IPv4 ones shorter than /2, unless the range is a
    /// [`capped`](Self::capped) one.
    ///
    /// Its bytes reach up to the last taken address, 2 MiB for a /8, 128 MiB for a /2.
    pub fn snapshot(&self) -> Option<RangeAllocation> {
        self.is_capped().then(|| RangeAllocation::new(self.net().to_string(), bits(&self.slots)))
    }

    /// Takes the addresses of a snapshot and gives all others back; the random starts go on as before. A range
    /// that is not [`capped`](Self::capped) takes a snapshot of one that is: so a cluster changes to the
    /// larger one.
    ///
    /// `DIFFERENCE`: Kubernetes does not look whether all the bits are of the range, and counts those that are not.
    ///
    /// # Errors
    ///
    /// [`MismatchedRange`](SnapshotError::MismatchedRange) and [`OutOfRange`](SnapshotError::OutOfRange); nothing is
    /// changed then.
    pub fn restore(&mut self, snapshot: &RangeAllocation) -> Result<(), SnapshotError> {
        let same = |net: IpNet| net.trunc() == self.net();
        check_range(&self.net(), &snapshot.range, snapshot.range.parse().is_ok_and(same))?;
        restore_bits(&mut self.slots, snapshot)
    }

    /// What is taken, in few bytes, for a range of any size: the prefix and the lengths of runs.
    ///
    /// A byte of version, one of the family (4 or 6), the address, the prefix length; then by turns how many are free and
    /// how many are taken, as LEB128; the CRC-32 of all that, big-endian. Two ranges with the same prefix and the
    /// same addresses taken give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![VERSION];
        match self.net().addr() {
            IpAddr::V4(ip) => {
                bytes.push(4);
                bytes.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes.push(6);
                bytes.extend(ip.octets());
            }
        }
        bytes.push(self.net().prefix_len());
        write_runs(&mut bytes, &self.slots);
        seal(bytes)
    }

    /// Takes the addresses of a snapshot by [`to_bytes`](Self::to_bytes) and gives all others back; the
    /// random starts go on as before. Of a capped range it can be restored in one that is not, and the other way
    /// round if it has them all.
    ///
    /// # Errors
    ///
    /// Every [`SnapshotError`]; nothing is changed then.
    pub fn restore_bytes(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let mut reader = unseal(bytes, VERSION)?;
        let expected = "family 4 or 6";
        let addr = match reader.byte(expected)? {
            4 => IpAddr::from(reader.array::<4>("an IPv4 address")?),
            6 => IpAddr::from(reader.array::<16>("an IPv6 address")?),
            _ => return Err(reader.malformed_before(1, expected)),
        };
        let expected = "a prefix length";
        let net = IpNet::new(addr, reader.byte(expected)?);
        let net = net.map_err(|_| reader.malformed_before(1, expected))?;
        check_range(&self.net(), &net, net == self.net())?;
        restore_runs(&mut self.slots, &net, &mut reader)
    }
}

impl PortRange {
    /// What is taken, as Kubernetes' allocator keeps it.
    pub fn snapshot(&self) -> RangeAllocation {
        RangeAllocation::new(self.to_string(), bits(&self.slots))
    }

    /// Takes the ports of a snapshot and gives all others back; the random starts go on as before.
    ///
    /// `DIFFERENCE`: Kubernetes does not look whether all the bits are of the range, and counts those that are not.
    ///
    /// # Errors
    ///
    /// [`MismatchedRange`](SnapshotError::MismatchedRange) and [`OutOfRange`](SnapshotError::OutOfRange); nothing is
    /// changed then.
    pub fn restore(&mut self, snapshot: &RangeAllocation) -> Result<(), SnapshotError> {
        let same = ports::parse(&snapshot.range) == Some(self.ends());
        check_range(self, &snapshot.range, same)?;
        restore_bits(&mut self.slots, snapshot)
    }

    /// What is taken, in few bytes: the range and the lengths of runs.
    ///
    /// A byte of version, a 2, the first and the last port, big-endian; then by turns how many are free and how many are
    /// taken, as LEB128; the CRC-32 of all that, big-endian. Two ranges of the same ports with the same ones
    /// taken give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (first, last) = self.ends();
        let mut bytes = alloc::vec![VERSION, 2];
        bytes.extend(first.to_be_bytes());
        bytes.extend(last.to_be_bytes());
        write_runs(&mut bytes, &self.slots);
        seal(bytes)
    }

    /// Takes the ports of a snapshot by [`to_bytes`](Self::to_bytes) and gives all others back; the
    /// random starts go on as before.
    ///
    /// # Errors
    ///
    /// Every [`SnapshotError`]; nothing is changed then.
    pub fn restore_bytes(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let mut reader = unseal(bytes, VERSION)?;
        let expected = "2, for ports";
        if reader.byte(expected)? != 2 {
            return Err(reader.malformed_before(1, expected));
        }
        let mut port = || reader.array("a port").map(u16::from_be_bytes);
        let ends = (port()?, port()?);
        let range = Ends(ends.0, ends.1);
        check_range(self, &range, ends == self.ends())?;
        restore_runs(&mut self.slots, &range, &mut reader)
    }
}

/// The first byte of a compact snapshot.
const VERSION: u8 = 1;

fn check_range(
    expected: &dyn fmt::Display,
    found: &dyn fmt::Display,
    same: bool,
) -> Result<(), SnapshotError> {
    let (expected, found) = (expected.to_string(), found.to_string());
    if same { Ok(()) } else { Err(SnapshotError::MismatchedRange { expected, found }) }
}

/// The number with the taken slots' bits set, big-endian and as short as can be.
fn bits(slots: &Slots) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slot in slots.iter() {
        // A range whose bitmap is taken has at most 2^30 slots.
        let at = usize::try_from(slot / 8).unwrap_or(0);
        if at >= bytes.len() {
            bytes.resize(at + 1, 0);
        }
        bytes[at] |= 1 << (slot % 8);
    }
    bytes.reverse();
    bytes
}

fn restore_bits(slots: &mut Slots, snapshot: &RangeAllocation) -> Result<(), SnapshotError> {
    let size = slots.size();
    let bytes = snapshot.data.iter().rev().zip((0_u64..).step_by(8));
    let taken = bytes.flat_map(|(&byte, first)| {
        (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| first + bit)
    });
    slots.replace(taken.map(|index| {
        let range = || snapshot.range.clone();
        let out_of_range = || SnapshotError::OutOfRange { range: range(), index, size };
        (index < size).then_some(index..index + 1).ok_or_else(out_of_range)
    }))
}

fn write_runs(bytes: &mut Vec<u8>, slots: &Slots) {
    let mut end = 0;
    for run in slots.runs() {
        write_number(bytes, run.start - end);
        write_number(bytes, run.end - run.start);
        end = run.end;
    }
}

fn restore_runs(
    slots: &mut Slots,
    range: &dyn fmt::Display,
    reader: &mut Reader<'_>,
) -> Result<(), SnapshotError> {
    let size = slots.size();
    let mut at = 0;
    slots.replace(core::iter::from_fn(|| {
        (!reader.is_empty()).then(|| {
            let least = u64::from(at > 0);
            let free = reader.number("how many are free, at least one between runs", least)?;
            let taken = reader.number("how many are taken, at least one", 1)?;
            let start = u128::from(at) + u128::from(free);
            let Some(end) =
                u64::try_from(start + u128::from(taken)).ok().filter(|&end| end <= size)
            else {
                let index = u64::try_from(start).unwrap_or(u64::MAX).max(size);
                return Err(SnapshotError::OutOfRange { range: range.to_string(), index, size });
            };
            at = end;
            Ok(end - taken..end)
        })
    }))
}
