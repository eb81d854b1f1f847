//! Any bytes as operations on several ranges of ports as one, beside plain maps.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use svcplane::ipam::PortPool;

use crate::bytes::Bytes;
use crate::model::{Model, Op, RANGES, REST};

#[path = "../bytes.rs"]
mod bytes;
#[path = "../../tests/it/pool_model.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let mut pool = PortPool::new(Duration::from_secs(REST));
    let mut model = Model::default();
    while let Some(kind) = bytes.next() {
        model.step(&mut pool, &op(kind, &mut bytes));
    }
});

fn op(kind: u8, bytes: &mut Bytes<'_>) -> Op {
    let range = usize::from(kind >> 6) % RANGES.len();
    let owner = (kind >> 5) % 3;
    let mut item = || u16::from(bytes.byte()) % 15 + 9;
    match kind % 20 {
        0 | 1 => Op::Add(range),
        2 => Op::Drain(range),
        3 => Op::Remove(range),
        4..8 => Op::Allocate(item(), owner),
        8 => Op::Check(item(), owner),
        9..13 => Op::Release(item(), owner),
        13 => Op::Learn(item(), owner),
        14 | 15 => {
            let except = (0..kind >> 6).map(|_| item()).collect();
            Op::Propose(bytes.word().into(), except)
        }
        16 => Op::Sweep,
        _ => Op::Wait(u64::from(bytes.byte()) % 4),
    }
}
