//! Any bytes as operations on a balancer, beside the kernel's rules.

#![no_main]

use libfuzzer_sys::fuzz_target;
use svcplane::sched::{Algorithm, Flags};

use crate::model::{Both, Op, Wanted};

#[path = "../../tests/it/sched_model.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| {
    let Some(([kind, numbers], mut rest)) = bytes.split_first_chunk() else { return };
    let (algorithm, flags) = named(*kind);
    let numbers = u16::from(*numbers % 20).pow(2).max(1);
    let bytes = &mut rest;
    let mut both = Both::new(algorithm, flags);
    let first = byte(bytes).map_or(0, u16::from).min(numbers);
    let first = (0..first).map(|number| Wanted { number, ..wanted(numbers, bytes) });
    both.step(&Op::Set(first.collect()));
    while let Some(kind) = byte(bytes) {
        both.step(&op(kind, numbers, bytes));
    }
});

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn or_zero(bytes: &mut &[u8]) -> u8 {
    byte(bytes).unwrap_or_default()
}

fn word(bytes: &mut &[u8]) -> u32 {
    (0..4).fold(0, |word, _| word << 8 | u32::from(or_zero(bytes)))
}

fn named(byte: u8) -> (Algorithm, Flags) {
    let flags =
        Flags { port: byte & 0x40 != 0, fallback: byte & 0x80 != 0, head: byte & 0x20 == 0 };
    (Algorithm::ALL[usize::from(byte & 0x1f) % Algorithm::ALL.len()], flags)
}

fn number(numbers: u16, bytes: &mut &[u8]) -> u16 {
    let low = u16::from(or_zero(bytes));
    let high = if numbers > 256 { u16::from(or_zero(bytes)) } else { 0 };
    (high << 8 | low) % numbers
}

fn weight(bytes: &mut &[u8]) -> u32 {
    match or_zero(bytes) {
        small @ ..240 => u32::from(small) % 7,
        240..244 => 60 * u32::from(or_zero(bytes)),
        244..248 => (1 << 31) - u32::from(or_zero(bytes)),
        _ => word(bytes),
    }
}

fn wanted(numbers: u16, bytes: &mut &[u8]) -> Wanted {
    let (number, weight) = (number(numbers, bytes), weight(bytes));
    let (lower, upper) = match or_zero(bytes) {
        0..128 => (0, 0),
        thresholds => (u32::from(thresholds >> 4 & 3), u32::from(thresholds & 15)),
    };
    Wanted { number, weight, lower, upper }
}

/// Those that refer to connections, and picks, are the more likely.
fn op(kind: u8, numbers: u16, bytes: &mut &[u8]) -> Op {
    match kind % 34 {
        0..4 => Op::Add(wanted(numbers, bytes)),
        4 | 5 => Op::Edit(wanted(numbers, bytes)),
        6..8 => Op::Remove(number(numbers, bytes)),
        8 => Op::Churn(wanted(numbers, bytes), or_zero(bytes)),
        9 => {
            let count = or_zero(bytes) % 16;
            Op::Set((0..count).map(|_| wanted(numbers, bytes)).collect())
        }
        10 => {
            let (algorithm, flags) = named(or_zero(bytes));
            Op::Switch(algorithm, flags)
        }
        11 => Op::Pick(word(bytes), or_zero(bytes), (0..numbers).collect()),
        12 | 13 => {
            let count = or_zero(bytes) % 4;
            let tried = (0..count).map(|_| number(numbers, bytes)).collect();
            Op::Pick(word(bytes), or_zero(bytes), tried)
        }
        14..24 => Op::Pick(u32::from(or_zero(bytes)) * 0x0001_0003, kind >> 5, Vec::new()),
        24..27 => Op::Activate(or_zero(bytes).into()),
        27 => Op::Deactivate(or_zero(bytes).into()),
        28..32 => Op::Release(or_zero(bytes).into()),
        32 => Op::Suspend(number(numbers, bytes), or_zero(bytes)),
        _ => Op::Wait(or_zero(bytes)),
    }
}
