//! Any bytes as a small cluster and what happens to it: a catalog next to the plain maps of the crate's tests, from which everything is
//! computed anew. Endpoint sets, plan, changes, pools and balancers after each step; rules, routes, zone, index, and the same objects in
//! other orders in the end.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/it/catalog/bytes.rs"]
mod bytes;
#[path = "../../tests/it/catalog/check.rs"]
mod check;
#[path = "../../tests/it/catalog/model.rs"]
mod model;

use bytes::Bytes;
use check::Pair;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let mut pair = Pair::new(bytes.made());
    let asked = [bytes.labels(), bytes.labels()];
    while !bytes.0.is_empty() {
        let step = bytes.step(&pair.model);
        pair.take(&step);
    }
    pair.check(&asked);
    pair.check_order(|n| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
});
