//! Ranges at every fill: time for a release with an allocation, and memory.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::alloc::System;
use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use svcplane::ipam::IpRange;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Of the taken ones so many are released in turn: few enough for their list to stay in cache.
const SAMPLE: usize = 4_096;
/// Taken addresses in ten thousand.
const FILLS: [(&str, u64); 4] = [("0", 0), ("50", 5_000), ("99", 9_900), ("99.99", 9_999)];

/// What is measured.
trait Range {
    type Item: Copy;

    fn free(&self) -> u64;
    fn allocate_next(&mut self) -> Self::Item;
    fn release(&mut self, item: Self::Item);
}

impl Range for IpRange {
    type Item = IpAddr;

    fn free(&self) -> u64 {
        self.free()
    }
    fn allocate_next(&mut self) -> IpAddr {
        self.allocate_next().expect("a free one")
    }
    fn release(&mut self, ip: IpAddr) {
        assert!(self.release(ip));
    }
}

/// The plain one: from a random start word by word to the next that is not full, around at the end.
struct Linear {
    taken: Vec<u64>,
    free: u64,
    random: Random,
}

impl Linear {
    fn new(size: usize) -> Self {
        Self { taken: vec![0; size / 64], free: size as u64, random: Random(1) }
    }
}

impl Range for Linear {
    type Item = usize;

    fn free(&self) -> u64 {
        self.free
    }
    fn allocate_next(&mut self) -> usize {
        let start = self.random.below(self.taken.len() * 64);
        let mut word = start / 64;
        let mut free = !self.taken[word] & u64::MAX << (start % 64);
        while free == 0 {
            word = (word + 1) % self.taken.len();
            free = !self.taken[word];
        }
        let bit = free.trailing_zeros() as usize;
        self.taken[word] |= 1 << bit;
        self.free -= 1;
        word * 64 + bit
    }
    fn release(&mut self, slot: usize) {
        assert!(self.taken[slot / 64] >> (slot % 64) & 1 == 1);
        self.taken[slot / 64] &= !(1 << (slot % 64));
        self.free += 1;
    }
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((u128::from(self.0) * bound as u128) >> 64).expect("below a usize")
    }
}

fn range(cidr: &str) -> IpRange {
    IpRange::new(cidr.parse().expect("a CIDR"), 7).expect("not too large")
}

/// Takes so many, and gives some of them at random.
fn fill<R: Range>(range: &mut R, count: u64) -> Vec<R::Item> {
    let mut sample = Vec::new();
    let mut random = Random(3);
    for taken in 0..count.max(1) {
        let item = range.allocate_next();
        if sample.len() < SAMPLE {
            sample.push(item);
        } else {
            let at = random.below(usize::try_from(taken).expect("few"));
            if let Some(place) = sample.get_mut(at) {
                *place = item;
            }
        }
    }
    sample
}

fn case<R: Range>(c: &mut Criterion, percent: &str, name: &str, mut range: R, count: u64) {
    let mut sample = fill(&mut range, count);
    let free = range.free();
    let mut at = 0;
    let mut group = c.benchmark_group("ipam/allocate_release");
    group.bench_function(BenchmarkId::new(percent, name), |b| {
        b.iter(|| {
            at = if at + 1 < sample.len() { at + 1 } else { 0 };
            range.release(black_box(sample[at]));
            sample[at] = range.allocate_next();
        });
    });
    group.finish();
    assert_eq!(range.free(), free);
}

/// One is released and another allocated.
fn allocate_release(c: &mut Criterion) {
    for (percent, fill) in FILLS {
        let of = |size: u64| size * fill / 10_000;
        let (four, six) = (range("10.96.0.0/12"), range("fd00:96::/108"));
        let (in_four, in_six) = (of(four.free()), of(six.free()));
        case(c, percent, "ipv4_12", four, in_four);
        case(c, percent, "ipv6_108", six, in_six);
        case(c, percent, "linear", Linear::new(1 << 20), of(1 << 20));
    }
    for (taken, count) in [("1_taken", 1), ("10000_taken", 10_000), ("1000000_taken", 1_000_000)] {
        case(c, taken, "ipv6_64", range("fd00:96::/64"), count);
    }
}

/// What a range holds on to, printed.
fn memory(_: &mut Criterion) {
    for (cidr, counts) in [
        ("10.96.0.0/12", [0, 10_000, 1_000_000]),
        ("fd00:96::/108", [0, 10_000, 1_000_000]),
        ("fd00:96::/64", [0, 10_000, 1_000_000]),
    ] {
        for count in counts {
            let region = Region::new(ALLOCATOR);
            let mut range = range(cidr);
            for _ in 0..count {
                range.allocate_next().expect("a free one");
            }
            let change = region.change();
            let bytes = change.bytes_allocated - change.bytes_deallocated;
            println!("memory of {cidr} with {count} taken: {bytes} bytes");
            assert!(bytes < 140_000 || bytes < count * 50, "{cidr}: {bytes} bytes");
            assert_eq!(range.used(), count as u64);
        }
    }
}

criterion_group!(benches, memory, allocate_release);
criterion_main!(benches);
