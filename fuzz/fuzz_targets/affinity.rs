//! Any bytes as operations on an affinity table, beside a map.

#![no_main]

use libfuzzer_sys::fuzz_target;

use crate::bytes::Bytes;
use crate::model::{Both, Op};

#[path = "../bytes.rs"]
mod bytes;
#[path = "../../tests/it/affinity_model.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let capacity = match bytes.byte() % 16 {
        15 => 1000,
        few => usize::from(few) + 1,
    };
    let mut both = Both::new(capacity);
    while let Some(kind) = bytes.next() {
        both.step(&op(kind, &mut bytes));
    }
    both.finish();
});

fn op(kind: u8, bytes: &mut Bytes<'_>) -> Op {
    let mut client = || (u32::from(kind >> 6), bytes.byte() % 40);
    match kind % 18 {
        0..4 => {
            let (scope, client) = client();
            Op::Lookup(scope, client)
        }
        4..7 => {
            let (scope, client) = client();
            Op::Renew(scope, client)
        }
        7..13 => {
            let (scope, client) = client();
            Op::Insert(scope, client, bytes.byte().into())
        }
        13 => {
            let (scope, client) = client();
            Op::Remove(scope, client)
        }
        14 => Op::Sweep(bytes.byte().into()),
        15 | 16 => Op::Wait(u64::from(bytes.byte()) % 30),
        _ => Op::Move(bytes.word().into()),
    }
}
