//! What a catalog has in memory after days of churn: no more than after the first of them.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::alloc::System;

use criterion::{Criterion, criterion_group, criterion_main};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[path = "../tests/it/catalog/week.rs"]
mod week;

use week::Week;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Some 100,000 events in seven days of virtual time, with the same cluster every midnight.
fn memory(_: &mut Criterion) {
    let mut week = Week::new();
    let bytes: Vec<usize> = (0..7)
        .map(|_| {
            week.day(15_000);
            live()
        })
        .collect();
    week.check();
    println!("week/memory: {} events, {bytes:?} bytes at midnight", week.events);
    // A hash table may have taken its last step since: it is the twofold of what is in it, and no more.
    let (second, last) = (bytes[1], bytes[6]);
    assert!(last <= second + second / 10, "{bytes:?}");
}

criterion_group!(benches, memory);
criterion_main!(benches);
