//! A range of ports.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use thiserror::Error;

use super::AllocateError;
use super::slots::{Slots, static_band};

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
    first: u16,
    /// Less than the first if there are no ports.
    last: u16,
    pub(super) slots: Slots,
}

impl PortRange {
    /// The ports `first..=last`, all free; no ports at all if `last` is less than `first`.
    pub fn new(first: u16, last: u16, seed: u64) -> Self {
        let (first, last) = if first <= last { (first, last) } else { (1, 0) };
        let size = (u64::from(last) + 1).saturating_sub(first.into());
        Self { first, last, slots: Slots::new(size, static_band(size, 32, 128), seed) }
    }

    /// Takes a given port, from either band.
    ///
    /// # Errors
    ///
    /// [`NotInRange`](AllocateError::NotInRange), [`Allocated`](AllocateError::Allocated).
    pub fn allocate(&mut self, port: u16) -> Result<(), AllocateError<u16>> {
        let slot = self.slot(port).ok_or_else(|| self.not_in_range(port))?;
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
        match self.slots.allocate_next() {
            Some(slot) => Ok(self.port(slot)),
            None => Err(AllocateError::Full { range: self.to_string() }),
        }
    }

    /// Gives a port back. False, and nothing done, if it was not taken.
    pub fn release(&mut self, port: u16) -> bool {
        self.slot(port).is_some_and(|slot| self.slots.release(slot))
    }

    /// A port that could be taken next, which stays free: for a plan that has to be written to a store, by
    /// compare-and-swap, before the port is taken here.
    ///
    /// It is what [`allocate_next`](Self::allocate_next) would give if the random start were the first draw
    /// from `seed` and the ports of `except`, the plan's others, were taken too. What is not of the range or
    /// not free does not matter there. `None` if nothing else is free.
    ///
    /// Costs a sort of `except`, and a search for each of its ports at most.
    pub fn propose(&self, seed: u64, except: &[u16]) -> Option<u16> {
        let except = except.iter().filter_map(|&port| self.slot(port));
        self.slots.propose(seed, except).map(|slot| self.port(slot))
    }

    /// Whether a port is taken.
    pub fn has(&self, port: u16) -> bool {
        self.slot(port).is_some_and(|slot| self.slots.has(slot))
    }

    /// Whether a port is one of this range, taken or not.
    pub fn contains(&self, port: u16) -> bool {
        self.slot(port).is_some()
    }

    /// The taken ports, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.slots.iter().map(|slot| self.port(slot))
    }

    /// The first and the last port; `None` if there is none.
    pub fn bounds(&self) -> Option<(u16, u16)> {
        (self.first <= self.last).then_some((self.first, self.last))
    }

    /// How many ports are free.
    pub fn free(&self) -> u64 {
        self.slots.free()
    }

    /// How many ports are taken.
    pub fn used(&self) -> u64 {
        self.slots.used()
    }

    /// The first and the last port; the last is less than the first if there are none.
    pub(super) const fn ends(&self) -> (u16, u16) {
        (self.first, self.last)
    }

    pub(super) fn not_in_range(&self, port: u16) -> AllocateError<u16> {
        let bounds = (self.first <= self.last).then_some((self.first, self.last));
        AllocateError::NotInRange { item: port, range: self.to_string(), bounds }
    }

    fn slot(&self, port: u16) -> Option<u64> {
        (self.first..=self.last).contains(&port).then(|| u64::from(port - self.first))
    }

    fn port(&self, slot: u64) -> u16 {
        self.first + u16::try_from(slot).unwrap_or(0) // the slot is in the range
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
        match parse(text) {
            Some((first, last)) => Ok(Self::new(first, last, 0)),
            None => Err(ParsePortRangeError { text: text.into() }),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ends(self.first, self.last).fmt(f)
    }
}

/// The first and the last port as text; the last is less than the first if there are none.
pub(super) struct Ends(pub(super) u16, pub(super) u16);

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, last) = self;
        if first > last { Ok(()) } else { write!(f, "{first}-{last}") }
    }
}

/// The first and the last port of a text; the last is less than the first if there are none.
pub(super) fn parse(text: &str) -> Option<(u16, u16)> {
    let text = text.trim();
    if text.is_empty() {
        return Some((1, 0));
    }
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
