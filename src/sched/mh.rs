//! `mh`: Maglev hashing.
//!
//! A table of 4093 slots. Every backend walks the slots in an order of its own, made from its address and port, and takes in turn
//! as many vacant ones as its weight says. The client's address (with its port, if flagged) chooses the slot. When a backend goes,
//! few clients of the others move.
//!
//! A backend of weight 0 keeps its slots, which is the point: its clients go elsewhere only while it is quiesced, and no
//! other client moves. The table is dealt out again, with the ways of those that stay kept, by the first pick after a change that
//! can matter to it.
//!
//! Source: the kernel's default table size, and its hash on 64-bit machines (SipHash-1-3).

use core::hash::Hasher;
use core::net::SocketAddr;

use alloc::vec::Vec;

use siphasher::sip::SipHasher13;

use super::hash::{Slots, Table, number};
use super::{Backends, Change, Flags, Place, Scheduler};
use crate::backend::Flow;
use crate::bitset::Bitset;

const SLOTS: u32 = 4093;
const FIRST_KEY: u64 = 2_654_435_761;
const SECOND_KEY: u64 = 2_654_446_892;
/// Six bits of weight are told apart: half of the twelve that count the slots.
const WEIGHT_BITS: u32 = 6;

/// `mh`: by the client's address, with little disruption.
#[derive(Clone, Debug)]
pub struct MaglevHashing {
    pub(super) flags: Flags,
    table: Table,
    /// Of each place, as far as it was asked for: it costs two hashes.
    members: Vec<Option<Member>>,
}

impl MaglevHashing {
    /// With these flags.
    pub fn new(flags: Flags) -> Self {
        Self { flags, table: Table::new(SLOTS as usize), members: Vec::new() }
    }
}

/// The low 32 bits of the kernel's hash of a number.
fn hash(key: u64, number: u32) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&number.to_le_bytes());
    (hasher.finish() & 0xffff_ffff) as u32
}

/// A backend's way through the slots: where it begins, and how far each step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    at: u32,
    skip: u32,
}

impl Path {
    fn new(addr: SocketAddr) -> Self {
        let number = number(addr, true);
        let (at, skip) = (hash(FIRST_KEY, number), hash(SECOND_KEY, number));
        Self { at: at % SLOTS, skip: skip % (SLOTS - 1) + 1 }
    }

    /// Takes the next vacant slot; there is one.
    fn take(&mut self, slots: &mut Slots<'_>, place: Place) {
        while !slots.is_vacant(self.at as usize) {
            self.at += self.skip;
            if self.at >= SLOTS {
                self.at -= SLOTS;
            }
        }
        slots.set(self.at as usize, place);
    }
}

/// What the table was dealt out by.
#[derive(Clone, Copy, Debug)]
struct Member {
    path: Path,
    weight: u32,
}

struct Walk {
    place: Place,
    path: Path,
    turns: u32,
}

impl MaglevHashing {
    /// Deals the slots out if the list has changed in a way that matters.
    fn refresh(&mut self, backends: &Backends) {
        let Self { table, members, .. } = self;
        table.refresh(|slots| deal(slots, members, backends));
    }

    /// Where a flow may go, in the order of preference: the backend of its slot, then those that the fallback comes to, each once
    /// and only if it is usable. A backend with few slots may not come up.
    pub fn choices<'a>(
        &'a mut self,
        backends: &'a Backends,
        flow: &Flow,
    ) -> impl Iterator<Item = Place> + 'a {
        self.refresh(backends);
        let mut seen = Bitset::<4>::default();
        probes(number(flow.client, self.flags.port)).filter_map(move |slot| {
            let (place, usable) = self.table.get(backends, slot)?;
            let new = usable && !seen.contains(place.index());
            seen.set(place.index(), true);
            new.then_some(place)
        })
    }
}

/// The slot of a number, and those that are looked at if that has no usable backend.
fn probes(number: u32) -> impl Iterator<Item = usize> {
    let slot = move |plus: u32| hash(FIRST_KEY, number.wrapping_add(plus)) % SLOTS;
    let first = slot(0);
    let others = (0..SLOTS).map(move |offset| slot((offset + first) % SLOTS));
    core::iter::once(first).chain(others).map(|slot| slot as usize)
}

fn deal(slots: &mut Slots<'_>, members: &mut Vec<Option<Member>>, backends: &Backends) {
    let weights = || backends.iter().map(|(place, _)| backends.last_weight(place));
    let gcd = weights().fold(0, super::gcd).max(1);
    let greatest = weights().max().unwrap_or(0) / gcd;
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(WEIGHT_BITS);
    members.resize(backends.places(), None);
    let mut walks: Vec<Walk> = backends
        .iter()
        .map(|(place, entry)| (place, entry.addr(), backends.last_weight(place)))
        .map(|(place, addr, weight)| {
            let member = &mut members[place.index()];
            let path = member.map_or_else(|| Path::new(addr), |member| member.path);
            *member = Some(Member { path, weight });
            Walk { place, path, turns: ((weight / gcd) >> shift).max(u32::from(weight > 0)) }
        })
        .filter(|walk| walk.turns > 0)
        .collect();
    // Those behind get no slot, but their weights have counted.
    walks.truncate(SLOTS as usize);
    let mut vacant = slots.len();
    while vacant > 0 && !walks.is_empty() {
        for walk in &mut walks {
            for _ in 0..walk.turns {
                if vacant == 0 {
                    return;
                }
                walk.path.take(slots, walk.place);
                vacant -= 1;
            }
        }
    }
}

impl Scheduler for MaglevHashing {
    fn changed(&mut self, backends: &Backends, change: Change) {
        match change {
            Change::Counted(_) | Change::Updated(_) => return,
            Change::Edited(place) => {
                let member = self.members.get(place.index()).copied().flatten();
                if member.is_some_and(|member| member.weight == backends.last_weight(place)) {
                    return;
                }
            }
            Change::Added(place) | Change::Removed(place) => {
                if let Some(member) = self.members.get_mut(place.index()) {
                    *member = None;
                }
            }
            Change::Renumbered => self.members.clear(),
        }
        self.table.forget();
    }

    fn pick(&mut self, backends: &Backends, flow: &Flow) -> Option<Place> {
        self.refresh(backends);
        let number = number(flow.client, self.flags.port);
        let first = (hash(FIRST_KEY, number) % SLOTS) as usize;
        let (place, usable) = self.table.get(backends, first)?;
        if usable || !self.flags.fallback {
            return Some(place).filter(|_| usable);
        }
        let usable = |slot| self.table.get(backends, slot).filter(|(_, usable)| *usable);
        probes(number).find_map(usable).map(|(place, _)| place)
    }

    /// The two share the table.
    fn another(&mut self, backends: &Backends) -> Option<Self> {
        self.refresh(backends);
        Some(Self { flags: self.flags, table: self.table.clone(), members: Vec::new() })
    }
}
