//! What the hashing algorithms share: how an address becomes a number, and a table that is dealt out.

use alloc::sync::Arc;
use core::net::{IpAddr, SocketAddr};

use super::{Backends, Place};

/// The address in 32 bits, as the kernel folds it.
pub(super) fn folded(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => {
            let words = u128::from(ip);
            let word = |shift: u32| (words >> shift & 0xffff_ffff) as u32;
            word(96) ^ word(64) ^ word(32) ^ word(0)
        }
    }
}

/// An end of a flow as the number that is hashed: the address, with the port if that is wanted.
pub(super) fn number(end: SocketAddr, port: bool) -> u32 {
    let port = if port { u32::from(end.port()) } else { 0 };
    folded(end.ip()).wrapping_add(port)
}

const VACANT: u32 = u32::MAX;

/// Slots dealt out to places. Built when it is asked, if the list has changed in a way that matters. Clones share the slots until
/// then.
#[derive(Clone, Debug)]
pub(super) struct Table {
    slots: Arc<[u32]>,
    stale: bool,
}

/// The slots while they are dealt out.
pub(super) struct Slots<'a>(&'a mut [u32]);

impl Table {
    pub(super) fn new(size: usize) -> Self {
        Self { slots: core::iter::repeat_n(VACANT, size).collect(), stale: false }
    }

    pub(super) fn forget(&mut self) {
        self.stale = true;
    }

    /// Deals the slots out again if the list has changed; `deal` finds them vacant.
    #[inline]
    pub(super) fn refresh(&mut self, deal: impl FnOnce(&mut Slots<'_>)) {
        if self.stale {
            self.deal_again(deal);
        }
    }

    #[cold]
    fn deal_again(&mut self, deal: impl FnOnce(&mut Slots<'_>)) {
        self.stale = false;
        let slots = Arc::make_mut(&mut self.slots);
        slots.fill(VACANT);
        deal(&mut Slots(slots));
    }

    /// The place that has a slot, and whether the backend there is usable; `None` for a vacant slot.
    pub(super) fn get(&self, backends: &Backends, slot: usize) -> Option<(Place, bool)> {
        let place = Some(self.slots[slot]).filter(|place| *place != VACANT)?;
        let place = backends.place_at(place as usize)?;
        Some((place, backends.get(place).is_some_and(super::Entry::usable)))
    }
}

impl Slots<'_> {
    pub(super) const fn set(&mut self, slot: usize, place: Place) {
        self.0[slot] = place.0;
    }

    pub(super) const fn is_vacant(&self, slot: usize) -> bool {
        self.0[slot] == VACANT
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

/// The 256 slots of `sh` and `dh`.
pub(super) const SLOTS: usize = 256;

/// The slot of a number: the top eight bits of a multiplicative hash.
const fn slot(number: u32) -> usize {
    (number.wrapping_mul(0x61c8_8647) >> 24) as usize
}

/// The backend of a number's slot. If it is not usable and there may be another, the slots from the double of the first on are
/// looked at, as the kernel does for `sh-fallback`.
#[inline]
pub(super) fn look_up(
    table: &Table,
    backends: &Backends,
    number: u32,
    fallback: bool,
) -> Option<Place> {
    let first = slot(number);
    match table.get(backends, first)? {
        (place, true) => Some(place),
        _ if fallback => look_further(table, backends, first),
        _ => None,
    }
}

#[cold]
fn look_further(table: &Table, backends: &Backends, first: usize) -> Option<Place> {
    for offset in 0..SLOTS {
        let (place, usable) = table.get(backends, (2 * first + offset) % SLOTS)?;
        if usable {
            return Some(place);
        }
    }
    None
}
