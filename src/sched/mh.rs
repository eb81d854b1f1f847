//! `mh`: Maglev hashing.
//!
//! A table of 4093 slots. Every backend walks the slots in an order of its own, made from its address and port, and takes in turn as many
//! vacant ones as its weight says. The client's address (with its port, if flagged) chooses the slot. When a backend goes, few
//! clients of the others move.
//!
//! A backend of weight 0 keeps its slots, which is the point: its clients go elsewhere only while it is quiesced, and no
//! other client moves.
//!
//! Source: the kernel's default table size, and its hash on 64-bit machines (SipHash-1-3).

use core::hash::Hasher;
use core::net::SocketAddr;

use alloc::vec::Vec;

use siphasher::sip::SipHasher13;

use super::hash::{Table, number};
use super::{Backends, Change, Flags, Place, Scheduler};
use crate::backend::Flow;

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
}

impl MaglevHashing {
    /// With these flags.
    pub fn new(flags: Flags) -> Self {
        Self { flags, table: Table::new(SLOTS as usize) }
    }
}

/// The low 32 bits of the kernel's hash of a number.
fn hash(key: u64, number: u32) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&number.to_le_bytes());
    (hasher.finish() & 0xffff_ffff) as u32
}

/// One backend's way through the slots.
struct Walk {
    place: Place,
    turns: u32,
    at: u32,
    skip: u32,
}

impl Walk {
    fn new(place: Place, addr: SocketAddr, turns: u32) -> Self {
        let number = number(addr, Flags { port: true, fallback: false });
        let (at, skip) = (hash(FIRST_KEY, number), hash(SECOND_KEY, number));
        Self { place, turns, at: at % SLOTS, skip: skip % (SLOTS - 1) + 1 }
    }

    /// Takes the next vacant slot; there is one.
    fn take(&mut self, table: &mut Table) {
        while !table.is_vacant(self.at as usize) {
            self.at = (self.at + self.skip) % SLOTS;
        }
        table.set(self.at as usize, self.place);
    }
}

fn deal(table: &mut Table, backends: &Backends) {
    let weights = || backends.iter().map(|(_, entry)| entry.last_weight());
    let gcd = weights().fold(0, super::gcd).max(1);
    let greatest = weights().max().unwrap_or(0) / gcd;
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(WEIGHT_BITS);
    let mut walks: Vec<Walk> = backends
        .iter()
        .filter(|(_, entry)| entry.last_weight() > 0)
        .take(SLOTS as usize)
        .map(|(place, entry)| {
            let turns = ((entry.last_weight() / gcd) >> shift).max(1);
            Walk::new(place, entry.addr(), turns)
        })
        .collect();
    let mut vacant = table.len();
    while vacant > 0 && !walks.is_empty() {
        for walk in &mut walks {
            for _ in 0..walk.turns {
                if vacant == 0 {
                    return;
                }
                walk.take(table);
                vacant -= 1;
            }
        }
    }
}

impl Scheduler for MaglevHashing {
    fn changed(&mut self, _: &Backends, change: Change) {
        if !matches!(change, Change::Updated(_)) {
            self.table.forget();
        }
    }

    fn pick(&mut self, backends: &Backends, flow: &Flow) -> Option<Place> {
        self.table.refresh(|table| deal(table, backends));
        let number = number(flow.client, self.flags);
        let first = hash(FIRST_KEY, number) % SLOTS;
        let (place, usable) = self.table.get(backends, first as usize)?;
        if usable || !self.flags.fallback {
            return Some(place).filter(|_| usable);
        }
        for offset in 0..SLOTS {
            let number = number.wrapping_add((offset + first) % SLOTS);
            let slot = hash(FIRST_KEY, number) % SLOTS;
            if let Some((place, true)) = self.table.get(backends, slot as usize) {
                return Some(place);
            }
        }
        None
    }
}
