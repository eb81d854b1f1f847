//! Picks of a new connection's backend.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::Balancer;
use svcplane::sched::Algorithm;
use svcplane::time::Instant;

fn balancer(algorithm: Algorithm, backends: u32) -> Balancer {
    let mut balancer = Balancer::new(algorithm, 7);
    let addr = |n: u32| SocketAddr::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 80);
    balancer.set_backends((0..backends).map(|n| Backend::new(addr(n))), Instant::ZERO);
    balancer
}

fn flow(client: u32) -> Flow {
    let client = SocketAddr::new(IpAddr::from(client.to_be_bytes()), 40_000);
    Flow::new(client, SocketAddr::from(([10, 96, 0, 1], 80)))
}

/// Pick, activate, release: one connection after another.
fn pick(c: &mut Criterion) {
    for &algorithm in Algorithm::ALL {
        let mut group = c.benchmark_group(format!("pick/{algorithm}"));
        for backends in [3, 100, 10_000, 1_000_000] {
            let mut balancer = balancer(algorithm, backends);
            let flow = flow(1);
            group.bench_function(BenchmarkId::new(backends.to_string(), "ours"), |b| {
                b.iter(|| {
                    let mut conn =
                        balancer.pick(black_box(&flow), Instant::ZERO).expect("a backend");
                    balancer.activate(&mut conn).expect("a good id");
                    let addr = conn.addr();
                    balancer.release(conn).expect("a good id");
                    addr
                });
            });
            let held: u32 =
                balancer.iter().map(|(_, entry)| entry.active() + entry.inactive()).sum();
            assert_eq!(held, 0, "every connection was released");
        }
        group.finish();
    }
}

/// The same for clients that come back.
fn sticky(c: &mut Criterion) {
    const CLIENTS: u32 = 1 << 16;
    let mut balancer = balancer(Algorithm::RoundRobin, 100);
    let mut table = Affinity::new(CLIENTS as usize, 1);
    let scope = Scope::new(0, Duration::from_secs(10_800));
    let mut client = 0;
    c.bench_function("pick/sticky/65536/ours", |b| {
        b.iter(|| {
            client = (client + 40_503) % CLIENTS;
            let conn = balancer.with_affinity(&mut table, scope).pick(&flow(client), Instant::ZERO);
            let conn = conn.expect("a backend");
            let addr = conn.addr();
            balancer.release(conn).expect("a good id");
            addr
        });
    });
    assert!(table.len() <= table.capacity());
}

criterion_group!(benches, pick, sticky);
criterion_main!(benches);
