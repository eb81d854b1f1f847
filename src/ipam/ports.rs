//! A range of ports.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use thiserror::Error;

use super::AllocateError;
use super::bitmap::{Bitmap, static_band};

/// The text is not a port range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid port range {text:?}: expected N, FIRST-LAST or BASE+OFFSET within 0 to 65535")]
#[non_exhaustive]
pub struct ParsePortRangeError {
    /// The offending text.
    pub text: String,
}

/// The ports from a first to a last one, each free or taken.
///
/// Reads as kube-apiserver's `--service-node-port-range` does; [`Default`] is 30000-32767 with seed 0.
///
/// ```
/// use svcplane::ipam::PortRange;
///
/// let mut ports: PortRange = "30000-32767".parse()?;
/// ports.allocate(30_080)?;
/// let next = ports.allocate_next()?;
/// assert!(next >= 30_086); // the dynamic band
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PortRange {
    /// The ports; none if the last is less than the first.
    first: u16,
    last: u16,
    slots: Bitmap,
}

impl PortRange {
    /// The ports `first..=last`, all free; no ports at all if `last` is less than `first`.
    pub fn new(first: u16, last: u16, seed: u64) -> Self {
        let size = usize::from(last).checked_sub(first.into()).map_or(0, |span| span + 1);
        Self { first, last, slots: Bitmap::new(size, static_band(size as u64, 32, 128), seed) }
    }

    /// Takes a given port, from either band.
    ///
    /// # Errors
    ///
    /// [`NotInRange`](AllocateError::NotInRange), [`Allocated`](AllocateError::Allocated).
    pub fn allocate(&mut self, port: u16) -> Result<(), AllocateError<u16>> {
        let Some(slot) = self.slot(port) else {
            return Err(AllocateError::NotInRange {
                item: port,
                range: self.to_string(),
                bounds: (self.first <= self.last).then_some((self.first, self.last)),
            });
        };
        if self.slots.allocate(slot) {
            Ok(())
        } else {
            Err(AllocateError::Allocated { item: port })
        }
    }

    /// Takes the next free port.
    ///
    /// # Errors
    ///
    /// [`Full`](AllocateError::Full).
    pub fn allocate_next(&mut self) -> Result<u16, AllocateError<u16>> {
        let slot = self.slots.allocate_next().and_then(|slot| u16::try_from(slot).ok());
        match slot {
            Some(slot) => Ok(self.first + slot),
            None => Err(AllocateError::Full { range: self.to_string() }),
        }
    }

    /// Gives a port back. False, and nothing done, if it was not taken.
    pub fn release(&mut self, port: u16) -> bool {
        self.slot(port).is_some_and(|slot| self.slots.release(slot))
    }

    /// Whether a port is taken.
    pub fn has(&self, port: u16) -> bool {
        self.slot(port).is_some_and(|slot| self.slots.has(slot))
    }

    /// How many ports are free.
    pub fn free(&self) -> usize {
        self.slots.free()
    }

    /// How many ports are taken.
    pub fn used(&self) -> usize {
        self.slots.size() - self.slots.free()
    }

    fn slot(&self, port: u16) -> Option<usize> {
        (self.first..=self.last).contains(&port).then(|| usize::from(port - self.first))
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self::new(30_000, 32_767, 0)
    }
}

impl FromStr for PortRange {
    type Err = ParsePortRangeError;

    /// `N`, `FIRST-LAST` (inclusive) or `BASE+OFFSET`, blanks around it ignored; seed 0. An empty text is a range
    /// without ports.
    fn from_str(text: &str) -> Result<Self, ParsePortRangeError> {
        if text.trim().is_empty() {
            return Ok(Self::new(1, 0, 0));
        }
        parse(text.trim())
            .map(|(first, last)| Self::new(first, last, 0))
            .ok_or_else(|| ParsePortRangeError { text: text.into() })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first > self.last { Ok(()) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

fn parse(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (first, last) = if let Some((first, last)) = text.split_once('-') {
        (number(first)?, number(last)?)
    } else if let Some((base, offset)) = text.split_once('+') {
        let base = number(base)?;
        (base, base.checked_add(number(offset)?)?)
    } else {
        (number(text)?, number(text)?)
    };
    (first <= last).then_some((first, last))
}
