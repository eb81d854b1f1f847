//! Picks of a new connection's backend, beside a scan of all as the kernel does it.
//!
//! Connections are held: each iteration picks and activates one, and closes another at random.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

#[path = "pick/scan.rs"]
mod scan;

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::{Algorithm, Flags};
use svcplane::time::Instant;

use scan::Scan;

const NOW: Instant = Instant::ZERO;

/// Run as a test, by a build that is not optimised, few backends do.
const SIZES: &[u32] = if cfg!(debug_assertions) { &[3, 100] } else { &[3, 100, 10_000, 1_000_000] };

/// Backends of one weight for the algorithms that do not heed it, of 1 to 4 for the others.
fn backends(algorithm: Algorithm, count: u32) -> impl Iterator<Item = Backend> {
    let weighted = !matches!(algorithm.as_str(), "rr" | "lc" | "sh" | "dh" | "random");
    (0..count).map(move |n| {
        let addr = SocketAddr::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 80);
        Backend::new(addr).with_weight(if weighted { n % 4 + 1 } else { 1 })
    })
}

fn balancer(algorithm: Algorithm, count: u32) -> Balancer {
    let mut balancer = Balancer::with_flags(algorithm, Flags::KERNEL, 7);
    balancer.set_backends(backends(algorithm, count), NOW);
    balancer
}

fn flow(client: u32) -> Flow {
    let client = SocketAddr::new(IpAddr::from(client.to_be_bytes()), 40_000);
    Flow::new(client, SocketAddr::from(([10, 96, 0, 1], 80)))
}

/// Where 32 random bits fall in `0..bound`.
fn part(random: u32, bound: usize) -> usize {
    usize::try_from((u64::from(random) * bound as u64) >> 32).expect("less than the bound")
}

/// Numbers that look random: cheap, and the same for both sides.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 32).expect("32 bits")
    }

    fn below(&mut self, bound: usize) -> usize {
        part(self.next(), bound)
    }
}

fn open(balancer: &mut Balancer, numbers: &mut Numbers) -> Conn {
    let flow = flow(numbers.next());
    let mut conn = balancer.pick(black_box(&flow), NOW).expect("a backend");
    balancer.activate(&mut conn).expect("a good id");
    conn
}

struct Held {
    balancer: Balancer,
    conns: Vec<Conn>,
    numbers: Numbers,
}

impl Held {
    fn new(algorithm: Algorithm, backends: u32, held: usize) -> Self {
        let (mut balancer, mut numbers) = (balancer(algorithm, backends), Numbers(1));
        let conns = (0..held).map(|_| open(&mut balancer, &mut numbers)).collect();
        Self { balancer, conns, numbers }
    }
}

fn pick(c: &mut Criterion) {
    for &algorithm in Algorithm::ALL {
        let mut group = c.benchmark_group(format!("pick/{algorithm}"));
        for &count in SIZES {
            let held = (2 * count as usize).clamp(64, 1 << 20);
            let mut ours = None;
            group.bench_function(BenchmarkId::new(count.to_string(), "ours"), |b| {
                // Only once, and not at all if it is not asked for.
                let Held { balancer, conns, numbers } =
                    ours.get_or_insert_with(|| Held::new(algorithm, count, held));
                b.iter(|| {
                    let conn = open(balancer, numbers);
                    let closed = std::mem::replace(&mut conns[numbers.below(held)], conn);
                    balancer.release(closed).expect("a good id");
                });
            });
            drop(ours);
            group.sample_size(if count > 10_000 { 10 } else { 100 });
            let mut scanned = None;
            group.bench_function(BenchmarkId::new(count.to_string(), "scan"), |b| {
                let (scan, conns, numbers) = scanned.get_or_insert_with(|| {
                    let mut scan = Scan::new(algorithm, backends(algorithm, count));
                    // Filling them by scans would take hours: they are spread evenly.
                    let conns: Vec<usize> =
                        (0..held).map(|n| scan.hold(n % count as usize)).collect();
                    (scan, conns, Numbers(1))
                });
                b.iter(|| {
                    let at = scan.pick(black_box(&flow(numbers.next())), numbers.next());
                    let conn = scan.hold(at);
                    let closed = std::mem::replace(&mut conns[numbers.below(held)], conn);
                    scan.release(closed);
                });
            });
            group.sample_size(100);
        }
        group.finish();
    }
}

/// A pick by itself, which is what has to be short in a proxy's critical section: the connection is released outside of what is measured.
fn alone(c: &mut Criterion) {
    const BATCH: u32 = 512;
    for name in ["rr", "sh", "dh", "mh", "lc", "random", "p2c"] {
        let algorithm: Algorithm = name.parse().expect("a known name");
        for count in [3, 10_000] {
            let mut balancer = balancer(algorithm, count);
            let mut conns: Vec<Conn> = Vec::new();
            let flows: Vec<Flow> = (0..BATCH).map(|n| flow(n.wrapping_mul(0x9e37_79b1))).collect();
            c.bench_function(&format!("pick_alone/{algorithm}/{count}/ours"), |b| {
                b.iter_custom(|iterations| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..iterations {
                        let began = std::time::Instant::now();
                        for flow in &flows {
                            conns.push(balancer.pick(black_box(flow), NOW).expect("a backend"));
                        }
                        spent += began.elapsed();
                        for conn in conns.drain(..) {
                            balancer.release(conn).expect("a good id");
                        }
                    }
                    spent / BATCH
                });
            });
        }
    }
}

/// Dealing out Maglev's table: all of it from nothing, and again after one backend has come or gone.
fn maglev(c: &mut Criterion) {
    for count in [3, 100, 1_000, 4_000] {
        c.bench_function(&format!("maglev/build/{count}"), |b| {
            let all: Vec<Backend> = backends(Algorithm::MaglevHashing, count).collect();
            b.iter(|| {
                let mut balancer = Balancer::new(Algorithm::MaglevHashing, 7);
                balancer.set_backends(all.iter().copied(), NOW);
                balancer.pick(&flow(1), NOW).map(|conn| conn.addr())
            });
        });
        c.bench_function(&format!("maglev/change_one/{count}"), |b| {
            let mut balancer = balancer(Algorithm::MaglevHashing, count);
            let one = Backend::new(([192, 0, 2, 1], 80).into());
            let mut present = false;
            b.iter(|| {
                present = !present;
                if present {
                    balancer.add(one, NOW);
                } else {
                    let id = balancer.find(one.addr).expect("added the last time");
                    balancer.remove(id, NOW).expect("a good id");
                }
                let conn = balancer.pick(&flow(1), NOW).expect("a backend");
                balancer.release(conn).expect("a good id");
            });
        });
        c.bench_function(&format!("maglev/quiesce_one/{count}"), |b| {
            let mut balancer = balancer(Algorithm::MaglevHashing, count);
            let id = balancer.iter().next().expect("a backend").0;
            let mut weight = 0;
            b.iter(|| {
                weight = 1 - weight;
                balancer.edit(id, |backend| backend.with_weight(weight)).expect("a good id");
                let conn = balancer.pick(&flow(1), NOW).expect("a backend");
                balancer.release(conn).expect("a good id");
            });
        });
    }
}

/// Picks for clients that come back.
fn sticky(c: &mut Criterion) {
    const CLIENTS: u32 = 1 << 16;
    let mut balancer = balancer(Algorithm::RoundRobin, 100);
    let mut table = Affinity::new(CLIENTS as usize, 1);
    let scope = Scope::new(0, Duration::from_secs(10_800));
    let mut client = 0;
    c.bench_function("pick/sticky/65536/ours", |b| {
        b.iter(|| {
            client = (client + 40_503) % CLIENTS;
            let conn = balancer.with_affinity(&mut table, scope).pick(&flow(client), NOW);
            let conn = conn.expect("a backend");
            let addr = conn.addr();
            balancer.release(conn).expect("a good id");
            addr
        });
    });
    assert!(table.len() <= table.capacity());
}

criterion_group!(benches, pick, alone, maglev, sticky);
criterion_main!(benches);
