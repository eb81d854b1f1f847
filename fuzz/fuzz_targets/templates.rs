//! Any bytes as operations on a balancer with IPVS's persistence templates, beside the kernel's rules as they are worded.

#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use svcplane::affinity::VirtualService;
use svcplane::net::Protocol;

use crate::bytes::Bytes;
use crate::model::{Both, Op, Wanted};

#[path = "../bytes.rs"]
mod bytes;
#[path = "../../tests/it/templates_model.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let capacity = match bytes.byte() % 8 {
        7 => 60,
        few => usize::from(few) + 1,
    };
    let mut both = Both::new(capacity);
    while let Some(kind) = bytes.next() {
        both.step(&op(kind, &mut bytes));
    }
});

const fn service(protocol: Protocol, port: u16) -> VirtualService {
    VirtualService::Address { protocol, port }
}

const SERVICES: [VirtualService; 6] = [
    service(Protocol::Tcp, 80),
    service(Protocol::Udp, 80),
    service(Protocol::Tcp, 0),
    service(Protocol::Tcp, 21),
    VirtualService::Mark(1),
    VirtualService::Mark(2),
];
const MASKS: [[u8; 4]; 5] =
    [[255; 4], [255, 255, 255, 0], [255, 255, 0, 0], [255, 0, 0, 255], [0; 4]];

/// Picks and what refers to their connections are the more likely.
fn op(kind: u8, bytes: &mut Bytes<'_>) -> Op {
    match kind % 40 {
        0..3 => Op::Add(wanted(bytes)),
        3 => Op::Remove(bytes.byte() % 5),
        4 => Op::Suspend(bytes.byte() % 5, millis(bytes)),
        5 => Op::Service(bytes.one(&SERVICES)),
        6 if kind < 80 => Op::Persist(None),
        6 => {
            let millis = bytes.one(&[1_000, 2_000, 60_000, 61_000, 300_000]);
            let mask = Ipv4Addr::from(bytes.one(&MASKS));
            Op::Persist(Some((millis, mask, bytes.one(&[128, 126, 64, 63, 1, 0, 200]))))
        }
        7 => Op::Quiescent(kind > 127),
        8 => {
            let (client, address) = (bytes.byte(), kind >> 7);
            let tried = bytes.byte();
            let tried = (0..5).filter(|number| tried >> number & 1 == 1).collect();
            Op::Pick(client % 32, address, 80, tried)
        }
        9..24 => {
            let client = bytes.byte();
            let port = bytes.one(&[80, 80, 80, 21, 20, 443, 0]);
            Op::Pick(client % 4 + (client >> 3 & 28), kind >> 7, port, Vec::new())
        }
        24 | 25 => Op::Activate(bytes.byte().into()),
        26 => Op::Deactivate(bytes.byte().into()),
        27 | 28 => Op::Establish(bytes.byte().into()),
        29..34 => Op::Release(bytes.byte().into()),
        34..38 => Op::Wait(millis(bytes)),
        _ => Op::Expire,
    }
}

fn wanted(bytes: &mut Bytes<'_>) -> Wanted {
    let (first, second) = (bytes.byte(), bytes.byte());
    let upper = u32::from(second) % 5;
    let lower = (u32::from(second) >> 4).min(upper);
    Wanted { number: first % 5, weight: u32::from(first >> 3) % 3, lower, upper }
}

fn millis(bytes: &mut Bytes<'_>) -> u32 {
    match bytes.byte() {
        255 => 60_000,
        small @ ..128 => u32::from(small) * 20,
        great => u32::from(great - 127) * 1_600,
    }
}
