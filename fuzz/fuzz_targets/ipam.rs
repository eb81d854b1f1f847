//! Any bytes as operations on a range, beside the set of what is taken, and as a snapshot and a delta.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use svcplane::ipam::{Delta, RangeAllocation};

use crate::model::{Ips, Model, Ports, Subject, sealed};

#[path = "../../tests/it/ipam_model.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| {
    let Some(([kind, seed, size], operations)) = bytes.split_first_chunk() else { return };
    let (seed, size) = (u64::from(*seed), u16::from(*size));
    match kind % 10 {
        0 => run(Ips::new("10.0.0.0/26", false, seed), 62, 16, operations),
        1 => run(Ips::new("10.0.0.0/29", true, seed), 6, 0, operations),
        2 => run(Ips::new("10.0.0.0/18", false, seed), 16_382, 256, operations),
        3 => run(Ips::new("fd00::/56", true, seed), 65_535, 256, operations),
        4 => run(Ips::new("fd00::/120", false, seed), 255, 16, operations),
        5 => run(Ips::new("0.0.0.0/0", false, seed), (1 << 32) - 2, 0, operations),
        6 => run(Ips::new("fd00::/64", false, seed), u64::MAX, 256, operations),
        7 => run(Ips::new("fd00::/100", false, seed), (1 << 28) - 1, 256, operations),
        8 if size > 0 => {
            let band = if size <= 16 { 0 } else { 16 };
            run(Ports::new(30_000, 29_999 + size, seed), size.into(), band, operations);
        }
        _ => read(operations),
    }
});

/// An operation is a byte for its kind, whose upper bit says whether eight bytes or one are its number.
fn run<S: Subject>(subject: S, size: u64, band: u64, mut operations: &[u8]) {
    let mut model = Model::new(subject, size, band);
    while let Some((&kind, rest)) = operations.split_first() {
        let length = if kind & 0x80 == 0 { 1 } else { 8 };
        let (number, rest) = rest.split_at(length.min(rest.len()));
        let value = number.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        model.step(kind & 0x7f, value);
        operations = rest;
    }
    model.check();
}

/// What is read says the same when it is written, with a good check and without.
fn read(bytes: &[u8]) {
    let header = |subject: &dyn Fn() -> Vec<u8>| sealed([subject(), bytes.to_vec()].concat());
    let (sparse, dense) = (Ips::new("fd00::/64", false, 1), Ips::new("10.0.0.0/16", false, 1));
    let ports = Ports::new(30_000, 32_767, 1);
    restore(sparse.clone(), &header(&|| sparse.header()));
    restore(dense.clone(), &header(&|| dense.header()));
    restore(ports.clone(), &header(&|| ports.header()));
    for bytes in [sealed(bytes.to_vec()), bytes.to_vec()] {
        restore(sparse.clone(), &bytes);
        restore(dense.clone(), &bytes);
        restore(ports.clone(), &bytes);
        if let Ok(delta) = Delta::<IpAddr>::from_bytes(&bytes) {
            assert_eq!(delta.to_bytes(), bytes);
        }
        if let Ok(delta) = Delta::<u16>::from_bytes(&bytes) {
            assert_eq!(delta.to_bytes(), bytes);
        }
    }
    let mut dense = dense;
    let first = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    if dense.restore(&RangeAllocation::new("10.0.0.0/16", bytes)).is_ok() {
        assert_eq!(dense.snapshot().expect("covered").data, &bytes[first..]);
    } else {
        assert_eq!(dense.used(), 0);
    }
}

fn restore<S: Subject>(mut subject: S, bytes: &[u8]) {
    match subject.restore_bytes(bytes) {
        Ok(()) => {
            assert_eq!(subject.to_bytes(), bytes);
            if let Ok(item) = subject.allocate_next() {
                assert!(subject.release(item));
            }
            assert_eq!(subject.to_bytes(), bytes);
        }
        Err(_) => assert_eq!(subject.used(), 0),
    }
}
