//! The list of backends as schedulers see it, over a slab whose slots outlive their place in the list.

use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::backend::{Backend, BackendId};
use crate::bitset::Bitset;
use crate::time::Instant;

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
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub(crate) backend: Backend,
    pub(crate) active: u32,
    pub(crate) inactive: u32,
    /// It has had as many connections as it may have, and not few enough since.
    pub(crate) overloaded: bool,
    /// Held back from one pick, whatever its weight.
    pub(crate) excluded: bool,
    pub(crate) suspended: bool,
    pub(crate) share: u8,
}

impl Entry {
    /// The whole of a share.
    pub const FULL_SHARE: u8 = 16;

    /// A connection was counted: it may be the last for now. True if it is.
    pub(crate) const fn counted(&mut self) -> bool {
        let upper = self.backend.upper_threshold;
        let filled = upper > 0 && !self.overloaded && self.total() >= upper;
        self.overloaded |= filled;
        filled
    }

    /// A connection is counted no more: there may be room again. True if there is. Without a lower threshold, below three quarters
    /// of the upper one.
    pub(crate) const fn uncounted(&mut self) -> bool {
        if !self.overloaded {
            return false;
        }
        let (upper, lower) = (self.backend.upper_threshold, self.backend.lower_threshold);
        let relieved = if lower > 0 {
            self.total() < lower
        } else if upper > 0 {
            self.total() as u64 * 4 < upper as u64 * 3
        } else {
            true
        };
        self.overloaded = !relieved;
        relieved
    }

    const fn total(&self) -> u32 {
        self.active.saturating_add(self.inactive)
    }

    /// Its address.
    pub const fn addr(&self) -> SocketAddr {
        self.backend.addr
    }

    /// The backend as it was added, or edited last.
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Its weight.
    pub const fn weight(&self) -> u32 {
        self.backend.weight
    }

    /// Whether it has had as many connections as its upper threshold allows, and not few enough since.
    pub const fn overloaded(&self) -> bool {
        self.overloaded
    }

    /// Whether it is [suspended](crate::balancer::Balancer::suspend).
    pub const fn suspended(&self) -> bool {
        self.suspended
    }

    /// How much of its part it is to get while it starts slowly: 1 to [`FULL_SHARE`](Self::FULL_SHARE), which it is at all
    /// other times.
    pub const fn share(&self) -> u8 {
        self.share
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
        self.backend.weight > 0 && !self.excluded && !self.overloaded && !self.suspended
    }

    /// Its weight; 0 if no new connection may go to it.
    pub(super) const fn usable_weight(&self) -> u32 {
        if self.usable() { self.backend.weight } else { 0 }
    }
}

/// The list of backends, from head to tail.
///
/// A backend keeps its place until the list is renumbered, which happens when most places are vacant.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    slots: Vec<Slot>,
    /// What few calls ask for, of each slot.
    asides: Vec<Aside>,
    free: Vec<u32>,
    /// The slot at each place; [`VACANT`] where a backend has left.
    places: Vec<u32>,
    /// The places that are not vacant.
    listed: Bitset,
    /// How many backends, listed or not, start slowly.
    starting: usize,
    /// While the schedulers hear of new places: `places` as it was.
    former: Vec<u32>,
}

/// All that a pick, a count or a release looks at: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Slot {
    generation: u32,
    /// [`UNLISTED`] once it has left the list.
    place: u32,
    entry: Entry,
}

const _: () = assert!(size_of::<Slot>() == 64);

const UNLISTED: u32 = u32::MAX;
const VACANT: u32 = u32::MAX;

/// What is known of a slot beside its entry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Aside {
    /// The last weight above 0, or 0 if it was added with that.
    pub(crate) last_weight: u32,
    /// It waits to be looked at, as it was removed and perhaps revived.
    pub(crate) buried: bool,
    /// It was removed, and the last look found neither connection nor template.
    pub(crate) idle: bool,
    /// When its suspension ends.
    pub(crate) suspended_until: Option<Instant>,
    /// When its share grows next.
    pub(crate) grows_at: Option<Instant>,
    /// Clients that were there before may come until then.
    pub(crate) drains_until: Option<Instant>,
    /// When it was added last.
    pub(crate) listed_since: Instant,
    /// Templates that name it.
    pub(crate) persistent: u32,
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
        self.at(place).map(|slot| &slot.entry)
    }

    /// The place of the list's entry at an index, if a backend is there.
    pub fn place_at(&self, index: usize) -> Option<Place> {
        let slot = self.places.get(index)?;
        (*slot != VACANT).then(|| numbered(index))
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
            .filter_map(|place| Some((place, self.get(place)?)))
    }

    /// The handle of the backend at a place.
    pub fn id(&self, place: Place) -> Option<BackendId> {
        let index = *self.places.get(place.index())?;
        let generation = self.slots.get(index as usize)?.generation;
        Some(BackendId { index, generation })
    }

    /// Where a backend is; `None` once it has left the list, or for a stale id.
    pub fn place(&self, id: BackendId) -> Option<Place> {
        self.slot(id)?.place()
    }

    /// Whether any backend has less than its full [share](Entry::share).
    pub const fn any_starts_slowly(&self) -> bool {
        self.starting > 0
    }

    /// Where the backend is that was at a place before the list was renumbered. Known while
    /// [`Change::Renumbered`](super::Change::Renumbered) is told.
    pub fn renumbered(&self, former: Place) -> Option<Place> {
        self.slots.get(*self.former.get(former.index())? as usize)?.place()
    }

    /// The weight of the backend at a place when it last had one above 0; 0 if it was added with weight 0 and has had no other
    /// since, or if the place is vacant.
    pub fn last_weight(&self, place: Place) -> u32 {
        let aside = self.places.get(place.index()).and_then(|&slot| self.asides.get(slot as usize));
        aside.map_or(0, |aside| aside.last_weight)
    }

    /// A backend in the list or still referred to; `None` for a stale id.
    pub(crate) fn entry(&self, id: BackendId) -> Option<&Entry> {
        self.slot(id).map(|slot| &slot.entry)
    }

    pub(crate) fn entry_mut(&mut self, id: BackendId) -> Option<&mut Entry> {
        self.listed_mut(id).map(|(entry, _)| entry)
    }

    /// A backend with its place, if it has one.
    pub(crate) fn listed_mut(&mut self, id: BackendId) -> Option<(&mut Entry, Option<Place>)> {
        let slot = self.slots.get_mut(id.index as usize)?;
        let place = slot.place();
        (slot.generation == id.generation).then_some((&mut slot.entry, place))
    }

    /// The backend at a place with its handle.
    pub(crate) fn at_mut(&mut self, place: Place) -> Option<(BackendId, &mut Entry)> {
        let index = *self.places.get(place.index())?;
        let slot = self.slots.get_mut(index as usize)?;
        Some((BackendId { index, generation: slot.generation }, &mut slot.entry))
    }

    pub(crate) fn aside(&self, id: BackendId) -> Option<&Aside> {
        self.slot(id)?;
        self.asides.get(id.index as usize)
    }

    pub(crate) fn aside_mut(&mut self, id: BackendId) -> Option<&mut Aside> {
        self.slot(id)?;
        self.asides.get_mut(id.index as usize)
    }

    /// What a backend is told anew. A raised or lifted upper threshold ends an overload; nothing else of it does.
    pub(crate) fn set(&mut self, id: BackendId, backend: Backend, added: bool) {
        let Some(entry) = self.entry_mut(id) else { return };
        let upper = backend.upper_threshold;
        if upper == 0 || upper > entry.backend.upper_threshold {
            entry.overloaded = false;
        }
        entry.backend = backend;
        let Some(aside) = self.aside_mut(id) else { return };
        aside.drains_until = None;
        if added || backend.weight > 0 {
            aside.last_weight = backend.weight;
        }
    }

    /// A new slot for a backend, not yet in the list.
    pub(crate) fn create(&mut self, backend: Backend) -> BackendId {
        let entry = Entry {
            backend,
            active: 0,
            inactive: 0,
            overloaded: false,
            excluded: false,
            suspended: false,
            share: Entry::FULL_SHARE,
        };
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            (slot.place, slot.entry) = (UNLISTED, entry);
            self.asides[index as usize] = Aside::default();
            return BackendId { index, generation: slot.generation };
        }
        let index = numbered(self.slots.len()).0;
        self.slots.push(Slot { generation: 0, place: UNLISTED, entry });
        self.asides.push(Aside::default());
        BackendId { index, generation: 0 }
    }

    /// Puts a backend at the head of the list.
    pub(crate) fn link(&mut self, id: BackendId) -> Option<Place> {
        let place = numbered(self.places.len());
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.place = place.0;
        self.places.push(id.index);
        self.listed.grow(self.places.len());
        self.listed.insert(place.index());
        Some(place)
    }

    /// Takes a backend out of the list; its slot stays.
    pub(crate) fn unlink(&mut self, id: BackendId) -> Option<Place> {
        let place = self.place(id)?;
        self.slots[id.index as usize].place = UNLISTED;
        self.places[place.index()] = VACANT;
        self.listed.remove(place.index());
        Some(place)
    }

    /// Gives up the slot of a backend that is not in the list: its id is stale from now on.
    pub(crate) fn forget(&mut self, id: BackendId) {
        let Some(slot) = self.slots.get_mut(id.index as usize) else { return };
        if slot.generation != id.generation || slot.place != UNLISTED {
            return;
        }
        self.starting -= usize::from(slot.entry.share < Entry::FULL_SHARE);
        slot.entry.share = Entry::FULL_SHARE;
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
        let kept = self.places.iter().copied().filter(|&slot| slot != VACANT).collect();
        self.former = core::mem::replace(&mut self.places, kept);
        for (place, &slot) in self.places.iter().enumerate() {
            self.slots[slot as usize].place = numbered(place).0;
        }
        self.listed = Bitset::full(self.places.len());
        true
    }

    /// All have heard of the new places.
    pub(crate) fn forget_former_places(&mut self) {
        self.former = Vec::new();
    }

    /// Sets a backend's share of what it is to get.
    pub(crate) fn set_share(&mut self, id: BackendId, share: u8) {
        let Some(entry) = self.entry_mut(id) else { return };
        let starts = |share| usize::from(share < Entry::FULL_SHARE);
        let (before, now) = (starts(entry.share), starts(share));
        entry.share = share;
        self.starting = self.starting + now - before;
    }

    fn slot(&self, id: BackendId) -> Option<&Slot> {
        self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation)
    }

    fn at(&self, place: Place) -> Option<&Slot> {
        self.slots.get(*self.places.get(place.index())? as usize)
    }
}

impl Slot {
    const fn place(&self) -> Option<Place> {
        if self.place == UNLISTED { None } else { Some(Place(self.place)) }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a slot takes 64 bytes and places are at most twice as many: 2^32 do not fit in memory"
)]
const fn numbered(index: usize) -> Place {
    Place(index as u32)
}
