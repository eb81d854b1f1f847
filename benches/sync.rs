//! A balancer that threads share, beside one in a mutex.
//!
//! Connections are held: each iteration picks and activates one, and closes another at random, three calls. The threads start
//! together and divide the iterations among them, so the time is that of all threads for one connection: with two threads it
//! would at best be half of what it is with one.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Barrier, Mutex, MutexGuard};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::{Algorithm, Flags};
use svcplane::sync::{Lease, SharedBalancer};
use svcplane::time::Instant;

const NOW: Instant = Instant::ZERO;
const BACKENDS: u32 = 100;
/// By each thread.
const HELD: usize = 256;

fn balancer(algorithm: Algorithm) -> Balancer {
    let mut balancer = Balancer::with_flags(algorithm, Flags::KERNEL, 7);
    let addr = |n: u32| SocketAddr::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 80);
    balancer.set_backends((0..BACKENDS).map(|n| Backend::new(addr(n))), NOW);
    balancer
}

fn flow(client: u32) -> Flow {
    let client = SocketAddr::new(IpAddr::from(client.to_be_bytes()), 40_000);
    Flow::new(client, SocketAddr::from(([10, 96, 0, 1], 80)))
}

/// Numbers that look random: cheap, and the same for both sides.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 32).expect("32 bits")
    }
}

/// What a thread does with the balancer.
trait Shared: Clone + Send + Sync {
    type Conn: Send;

    fn open(&self, flow: &Flow) -> Self::Conn;
    fn close(&self, conn: Self::Conn);
    fn open_connections(&self) -> usize;
}

fn open_connections(balancer: &Balancer) -> usize {
    balancer.iter().map(|(_, entry)| (entry.active() + entry.inactive()) as usize).sum()
}

impl Shared for SharedBalancer {
    type Conn = Lease;

    fn open(&self, flow: &Flow) -> Lease {
        let mut lease = self.pick(flow, NOW).expect("a backend");
        lease.established();
        lease
    }

    fn close(&self, lease: Lease) {
        drop(lease);
    }

    fn open_connections(&self) -> usize {
        self.with(|balancer| open_connections(balancer))
    }
}

/// What one would write without the crate's help. Its connections do not release themselves.
#[derive(Clone)]
struct Locked(Arc<Mutex<Balancer>>);

impl Locked {
    fn lock(&self) -> MutexGuard<'_, Balancer> {
        self.0.lock().expect("no panic")
    }
}

impl Shared for Locked {
    type Conn = Conn;

    fn open(&self, flow: &Flow) -> Conn {
        let mut conn = self.lock().pick(flow, NOW).expect("a backend");
        self.lock().activate(&mut conn).expect("a good id");
        conn
    }

    fn close(&self, conn: Conn) {
        self.lock().release(conn).expect("a good id");
    }

    fn open_connections(&self) -> usize {
        open_connections(&self.lock())
    }
}

/// What one would write so that connections release themselves.
#[derive(Clone)]
struct Guarded(Arc<Mutex<Balancer>>);

struct Guard {
    balancer: Arc<Mutex<Balancer>>,
    conn: Option<Conn>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.balancer.lock().expect("no panic").release(conn).expect("a good id");
        }
    }
}

impl Shared for Guarded {
    type Conn = Guard;

    fn open(&self, flow: &Flow) -> Guard {
        let conn = self.0.lock().expect("no panic").pick(flow, NOW).expect("a backend");
        let mut guard = Guard { balancer: Arc::clone(&self.0), conn: Some(conn) };
        if let Some(conn) = &mut guard.conn {
            self.0.lock().expect("no panic").activate(conn).expect("a good id");
        }
        guard
    }

    fn close(&self, guard: Guard) {
        drop(guard);
    }

    fn open_connections(&self) -> usize {
        open_connections(&self.0.lock().expect("no panic"))
    }
}

/// How long the slowest of the threads took.
fn run<B: Shared>(balancer: &B, threads: u32, iterations: u64) -> Duration {
    let barrier = Barrier::new(threads as usize);
    let share = iterations.div_ceil(threads.into());
    let worker = |thread: u32| {
        let (balancer, mut numbers) = (balancer.clone(), Numbers(thread.into()));
        let mut open = || {
            let client = numbers.next();
            (balancer.open(black_box(&flow(client))), client as usize % HELD)
        };
        let mut conns: Vec<B::Conn> = (0..HELD).map(|_| open().0).collect();
        barrier.wait();
        let began = std::time::Instant::now();
        for _ in 0..share {
            let (conn, at) = open();
            balancer.close(std::mem::replace(&mut conns[at], conn));
        }
        let took = began.elapsed();
        for conn in conns {
            balancer.close(conn);
        }
        took
    };
    let took = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || worker(thread))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).max()
    });
    assert_eq!(balancer.open_connections(), 0);
    took.unwrap_or_default()
}

fn sync(c: &mut Criterion) {
    for name in ["rr", "lc", "sh", "random"] {
        let algorithm: Algorithm = name.parse().expect("a known name");
        for threads in [1, 2] {
            let mut group = c.benchmark_group(format!("sync/{algorithm}"));
            let case = format!("{threads}_threads");
            let ours = SharedBalancer::new(balancer(algorithm));
            group.bench_function(BenchmarkId::new(&case, "ours"), |b| {
                b.iter_custom(|iterations| run(&ours, threads, iterations));
            });
            let mutex = Locked(Arc::new(Mutex::new(balancer(algorithm))));
            group.bench_function(BenchmarkId::new(&case, "mutex"), |b| {
                b.iter_custom(|iterations| run(&mutex, threads, iterations));
            });
            let guarded = Guarded(Arc::new(Mutex::new(balancer(algorithm))));
            group.bench_function(BenchmarkId::new(&case, "mutex_guard"), |b| {
                b.iter_custom(|iterations| run(&guarded, threads, iterations));
            });
            group.finish();
        }
    }
}

criterion_group!(benches, sync);
criterion_main!(benches);
