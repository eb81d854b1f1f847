//! The list of backends as schedulers see it, over a slab whose slots outlive their place in the list.

use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::backend::{Backend, BackendId};
use crate::bitset::Bitset;

/// A position in the list. The head, where new backends go, has the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub(super) u32);

impl Place {
    /// The position as an index, less than [`Backends::places`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One backend with what the balancer knows of it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub(crate) backend: Backend,
    pub(crate) active: u32,
    pub(crate) inactive: u32,
    /// The last weight above 0, or 0 if it was added with that.
    pub(crate) last_weight: u32,
    /// Held back from one pick, whatever its weight.
    pub(crate) excluded: bool,
    /// It has had as many connections as it may have, and not few enough since.
    pub(crate) overloaded: bool,
    /// It waits to be looked at, as it was removed and perhaps revived.
    pub(crate) buried: bool,
    /// It was removed, and the last look found no connection.
    pub(crate) idle: bool,
}

impl Entry {
    /// A connection was counted: it may be the last for now.
    pub(crate) const fn counted(&mut self) {
        let upper = self.backend.upper_threshold;
        if upper > 0 && self.total() >= upper {
            self.overloaded = true;
        }
    }

    /// A connection is counted no more: there may be room again. Without a lower threshold, below three quarters
    /// of the upper one.
    pub(crate) const fn uncounted(&mut self) {
        let (upper, lower) = (self.backend.upper_threshold, self.backend.lower_threshold);
        let relieved = if lower > 0 {
            self.total() < lower
        } else if upper > 0 {
            self.total() as u64 * 4 < upper as u64 * 3
        } else {
            true
        };
        if relieved {
            self.overloaded = false;
        }
    }

    /// What it is told anew. A raised or lifted upper threshold ends an overload; nothing else of it does.
    pub(crate) fn set(&mut self, backend: Backend, added: bool) {
        let upper = backend.upper_threshold;
        if upper == 0 || upper > self.backend.upper_threshold {
            self.overloaded = false;
        }
        if added || backend.weight > 0 {
            self.last_weight = backend.weight;
        }
        self.backend = backend;
    }

    const fn total(&self) -> u32 {
        self.active.saturating_add(self.inactive)
    }

    /// Its address.
    pub const fn addr(&self) -> SocketAddr {
        self.backend.addr
    }

    /// Its weight.
    pub const fn weight(&self) -> u32 {
        self.backend.weight
    }

    /// Its weight when it last had one above 0; 0 if it was added with weight 0 and has had no other since.
    pub const fn last_weight(&self) -> u32 {
        self.last_weight
    }

    /// Whether it has had as many connections as its upper threshold allows, and not few enough since.
    pub const fn overloaded(&self) -> bool {
        self.overloaded
    }

    /// Connections that are open: the handshake begun, not yet closed by either side.
    pub const fn active(&self) -> u32 {
        self.active
    }

    /// Connections that are new, closing, or of a protocol without such states (UDP).
    pub const fn inactive(&self) -> u32 {
        self.inactive
    }

    /// Whether a new connection may go to it.
    pub const fn usable(&self) -> bool {
        self.backend.weight > 0 && !self.excluded && !self.overloaded
    }
}

/// The list of backends, from head to tail.
///
/// A backend keeps its place until the list is renumbered, which happens when most places are vacant.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The slot at each place; stale where a backend has left.
    places: Vec<u32>,
    /// The places that are not vacant.
    listed: Bitset,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    place: Option<Place>,
    entry: Entry,
}

impl Backends {
    /// How many backends are in the list.
    pub const fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether no backend is in the list.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many places there are, vacant ones included.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// The backend at a place.
    pub fn get(&self, place: Place) -> Option<&Entry> {
        self.listed.contains(place.index()).then(|| &self.at(place).entry)
    }

    /// The place of the list's entry at an index, if a backend is there.
    pub fn place_at(&self, index: usize) -> Option<Place> {
        self.listed.contains(index).then(|| numbered(index))
    }

    /// The next entry towards the head.
    pub fn before(&self, place: Place) -> Option<Place> {
        self.listed.next(place.index() + 1).map(numbered)
    }

    /// The next entry towards the tail.
    pub fn after(&self, place: Place) -> Option<Place> {
        self.listed.prev(place.index().checked_sub(1)?).map(numbered)
    }

    /// The head of the list.
    pub fn head(&self) -> Option<Place> {
        self.listed.prev(usize::MAX).map(numbered)
    }

    /// The entries with their places, from head to tail.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &Entry)> {
        core::iter::successors(self.head(), |&place| self.after(place))
            .map(|place| (place, &self.at(place).entry))
    }

    /// The handle of the backend at a place.
    pub fn id(&self, place: Place) -> Option<BackendId> {
        self.listed.contains(place.index()).then(|| self.id_at(self.places[place.index()]))
    }

    /// Where a backend is; `None` once it has left the list, or for a stale id.
    pub fn place(&self, id: BackendId) -> Option<Place> {
        self.slot(id)?.place
    }

    /// A backend in the list or still referred to; `None` for a stale id.
    pub(crate) fn entry(&self, id: BackendId) -> Option<&Entry> {
        self.slot(id).map(|slot| &slot.entry)
    }

    pub(crate) fn entry_mut(&mut self, id: BackendId) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(id.index as usize)?;
        (slot.generation == id.generation).then_some(&mut slot.entry)
    }

    /// A new slot for a backend, not yet in the list.
    pub(crate) fn create(&mut self, backend: Backend) -> BackendId {
        let entry = Entry {
            backend,
            active: 0,
            inactive: 0,
            last_weight: 0,
            excluded: false,
            overloaded: false,
            buried: false,
            idle: false,
        };
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            (slot.place, slot.entry) = (None, entry);
            return self.id_at(index);
        }
        let index = self.slots.len();
        self.slots.push(Slot { generation: 0, place: None, entry });
        self.id_at(numbered(index).0)
    }

    /// Puts a backend at the head of the list.
    pub(crate) fn link(&mut self, id: BackendId) -> Option<Place> {
        let place = numbered(self.places.len());
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.place = Some(place);
        self.places.push(id.index);
        self.listed.grow(self.places.len());
        self.listed.insert(place.index());
        Some(place)
    }

    /// Takes a backend out of the list; its slot stays.
    pub(crate) fn unlink(&mut self, id: BackendId) -> Option<Place> {
        let place = self.place(id)?;
        self.slots[id.index as usize].place = None;
        self.listed.remove(place.index());
        Some(place)
    }

    /// Gives up the slot of a backend that is not in the list: its id is stale from now on.
    pub(crate) fn forget(&mut self, id: BackendId) {
        let Some(slot) = self.slots.get_mut(id.index as usize) else { return };
        if slot.generation != id.generation || slot.place.is_some() {
            return;
        }
        // A slot whose generations are used up is retired, so that no id ever comes round again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            if next < u32::MAX {
                self.free.push(id.index);
            }
        }
    }

    /// Closes the gaps if most places are vacant. True if it did: every place may be another then.
    pub(crate) fn renumber(&mut self) -> bool {
        if self.places.len() < 2 * self.len() + 64 {
            return false;
        }
        let mut kept = Vec::with_capacity(self.len());
        let mut from = 0;
        while let Some(index) = self.listed.next(from) {
            let slot = self.places[index];
            self.slots[slot as usize].place = Some(numbered(kept.len()));
            kept.push(slot);
            from = index + 1;
        }
        self.listed = Bitset::with_capacity(kept.len());
        for place in 0..kept.len() {
            self.listed.insert(place);
        }
        self.places = kept;
        true
    }

    fn slot(&self, id: BackendId) -> Option<&Slot> {
        self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation)
    }

    fn at(&self, place: Place) -> &Slot {
        &self.slots[self.places[place.index()] as usize]
    }

    fn id_at(&self, index: u32) -> BackendId {
        BackendId { index, generation: self.slots[index as usize].generation }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a slot takes 64 bytes and places are at most twice as many: 2^32 do not fit in memory"
)]
const fn numbered(index: usize) -> Place {
    Place(index as u32)
}
