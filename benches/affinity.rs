//! Clients that come back, come first, push others out and run out of time, beside bare hash maps with the same hash.
//!
//! `hashbrown_u32` is a map from one word to another: two cache misses, and nothing of what a table has to know. `hashbrown` is
//! what one would write without the crate. Neither has a bound, shares addresses or drops what is over.
//!
//! After the measurements, bytes for a client and the longest single calls are printed: alone by
//! `cargo bench --bench affinity -- affinity/report`.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hash::BuildHasher;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant as Clock};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group};
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use svcplane::affinity::{Affinity, Scope};
use svcplane::time::Instant;

/// Run as a test, by a build that is not optimised, few clients do.
const SIZES: &[u32] = if cfg!(debug_assertions) { &[10_000] } else { &[1_000_000, 10_000_000] };
const BACKENDS: u32 = 100;
const TIMEOUT: Duration = Duration::from_secs(10_800);
const NOW: Instant = Instant::ZERO;

/// The hash that the table has, under a key.
#[derive(Clone, Copy)]
struct Keyed;

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(black_box(42), black_box(!42))
    }
}

/// Numbers that look random: cheap, and the same for all sides.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(bound)) >> 32) as u32
    }
}

/// The n-th client: a permutation of all addresses.
fn client(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1))
}

fn backend(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + n % BACKENDS), 80))
}

trait Side: Clone {
    const NAME: &str;

    fn new(clients: u32) -> Self;
    fn hit(&mut self, n: u32) -> bool;
    /// Looks up, and notes the same again: two calls on every side, one of them with the hash again.
    fn renew(&mut self, n: u32) -> bool;
    fn insert(&mut self, n: u32);
    /// Drops all, as their time is over.
    fn expire(&mut self);
    fn len(&self) -> usize;
    fn bytes(&self) -> usize;

    fn full(clients: u32) -> Self {
        let mut side = Self::new(clients);
        (0..clients).for_each(|n| side.insert(n));
        side
    }
}

#[derive(Clone)]
struct Ours(Affinity<SocketAddr>);

const SCOPE: Scope = Scope::new(1, TIMEOUT);

fn port(n: u32) -> SocketAddr {
    SocketAddr::from((client(n), 40_000))
}

impl Side for Ours {
    const NAME: &str = "ours";

    fn new(clients: u32) -> Self {
        Self(Affinity::new(clients as usize, 42))
    }
    fn hit(&mut self, n: u32) -> bool {
        self.0.lookup(SCOPE, port(n), NOW) == Some(&backend(n))
    }
    fn renew(&mut self, n: u32) -> bool {
        self.0.renew(SCOPE, port(n), NOW) == Some(&backend(n))
    }
    fn insert(&mut self, n: u32) {
        self.0.insert(SCOPE, port(n), backend(n), NOW);
    }
    fn expire(&mut self) {
        // A step at a time, as a caller does that has other work.
        while !self.0.is_empty() {
            self.0.sweep(NOW + TIMEOUT, 1024);
        }
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// The value is the millisecond in which it is over.
#[derive(Clone)]
struct Words(HashMap<u32, u32, Keyed>);

impl Side for Words {
    const NAME: &str = "hashbrown_u32";

    fn new(_: u32) -> Self {
        Self(HashMap::with_hasher(Keyed))
    }
    fn hit(&mut self, n: u32) -> bool {
        self.0.get(&client(n).to_bits()) == Some(&10_800_000)
    }
    fn renew(&mut self, n: u32) -> bool {
        let word = self.0.get_mut(&client(n).to_bits());
        word.map(|word| *word = black_box(10_800_000)).is_some()
    }
    fn insert(&mut self, n: u32) {
        self.0.insert(client(n).to_bits(), 10_800_000);
    }
    fn expire(&mut self) {
        self.0.retain(|_, over| *over > black_box(10_800_000));
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> usize {
        self.0.allocation_size()
    }
}

#[derive(Clone)]
struct Plain(HashMap<(u32, IpAddr), (SocketAddr, Instant), Keyed>);

impl Plain {
    fn key(n: u32) -> (u32, IpAddr) {
        (1, client(n).into())
    }
}

impl Side for Plain {
    const NAME: &str = "hashbrown";

    fn new(_: u32) -> Self {
        Self(HashMap::with_hasher(Keyed))
    }
    fn hit(&mut self, n: u32) -> bool {
        let found = self.0.get(&Self::key(n));
        found.is_some_and(|(addr, over)| *over > NOW && *addr == backend(n))
    }
    fn renew(&mut self, n: u32) -> bool {
        let Some(&(addr, _)) = self.0.get(&Self::key(n)) else { return false };
        self.0.insert(Self::key(n), (addr, NOW + TIMEOUT));
        true
    }
    fn insert(&mut self, n: u32) {
        self.0.insert(Self::key(n), (backend(n), NOW + TIMEOUT));
    }
    fn expire(&mut self) {
        self.0.retain(|_, (_, over)| *over > black_box(NOW + TIMEOUT));
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> usize {
        self.0.allocation_size()
    }
}

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn sides(c: &mut Criterion, name: &str, bench: &[fn(&mut Group<'_>, u32)]) {
    for &clients in SIZES {
        let mut group = c.benchmark_group(format!("affinity/{name}"));
        for bench in bench {
            bench(&mut group, clients);
        }
        group.finish();
    }
}

fn id<S: Side>(clients: u32) -> BenchmarkId {
    BenchmarkId::new(clients.to_string(), S::NAME)
}

fn ask<S: Side>(group: &mut Group<'_>, clients: u32, ask: fn(&mut S, u32) -> bool) {
    let mut state = None;
    group.bench_function(id::<S>(clients), |b| {
        // Only once, and not at all if it is not asked for.
        let (side, numbers) = state.get_or_insert_with(|| (S::full(clients), Numbers(1)));
        b.iter(|| assert!(ask(side, black_box(numbers.below(clients))), "a known client"));
    });
}

fn hit(c: &mut Criterion) {
    sides(
        c,
        "hit",
        &[
            |group, clients| ask(group, clients, Ours::hit),
            |group, clients| ask(group, clients, Words::hit),
            |group, clients| ask(group, clients, Plain::hit),
        ],
    );
}

fn renew(c: &mut Criterion) {
    sides(
        c,
        "renew",
        &[
            |group, clients| ask(group, clients, Ours::renew),
            |group, clients| ask(group, clients, Words::renew),
            |group, clients| ask(group, clients, Plain::renew),
        ],
    );
}

/// What one costs of all that are inserted from the first on: however few criterion asks for, the table is filled.
fn fill<S: Side>(group: &mut Group<'_>, clients: u32) {
    group.sample_size(10);
    group.bench_function(id::<S>(clients), |b| {
        b.iter_custom(|iterations| {
            let mut side = S::new(clients);
            let began = Clock::now();
            (0..clients).for_each(|n| side.insert(n));
            let spent = began.elapsed();
            assert_eq!(side.len(), clients as usize);
            scaled(spent, iterations, clients)
        });
    });
}

fn scaled(spent: Duration, iterations: u64, clients: u32) -> Duration {
    let nanos = spent.as_nanos() * u128::from(iterations) / u128::from(clients);
    Duration::from_nanos(u64::try_from(nanos).expect("less than centuries"))
}

fn insert(c: &mut Criterion) {
    sides(c, "insert", &[fill::<Ours>, fill::<Words>, fill::<Plain>]);
}

/// New clients in a full table, each in another's place.
fn push_out(group: &mut Group<'_>, clients: u32) {
    let mut state = None;
    group.bench_function(id::<Ours>(clients), |b| {
        let (side, next) = state.get_or_insert_with(|| (Ours::full(clients), clients));
        b.iter(|| {
            side.insert(black_box(*next));
            *next = next.wrapping_add(1);
        });
        assert_eq!(side.len(), clients as usize);
    });
}

fn insert_full(c: &mut Criterion) {
    sides(c, "insert_full", &[push_out]);
}

fn drop_all<S: Side>(group: &mut Group<'_>, clients: u32) {
    let mut full = None;
    group.sample_size(10);
    group.bench_function(id::<S>(clients), |b| {
        let full = full.get_or_insert_with(|| S::full(clients));
        b.iter_custom(|iterations| {
            let mut side = full.clone();
            let began = Clock::now();
            side.expire();
            let spent = began.elapsed();
            assert_eq!(side.len(), 0);
            scaled(spent, iterations, clients)
        });
    });
}

fn expire(c: &mut Criterion) {
    sides(c, "expire", &[drop_all::<Ours>, drop_all::<Words>, drop_all::<Plain>]);
}

/// Bytes for a client: when full to the bound, the least and the mean on the way there, and after twice as many others.
fn bytes<S: Side>(clients: u32) {
    let mut side = S::new(clients);
    let each = |side: &S| float(side.bytes()) / float(side.len());
    let step = clients / 256;
    let mut on_the_way = Vec::new();
    for n in 0..clients {
        side.insert(n);
        // Before that, it is not much that is wasted.
        if n >= clients / 16 && n % step == 0 {
            on_the_way.push(each(&side));
        }
    }
    let full = each(&side);
    let mean = on_the_way.iter().sum::<f64>() / float(on_the_way.len());
    let [least, most] = [f64::min, f64::max].map(|of| on_the_way.iter().copied().fold(full, of));
    eprint!(
        "bytes/{clients}/{:<15} full {full:6.1}  least {least:6.1}  most {most:6.1}  mean while growing {mean:6.1}",
        S::NAME
    );
    if S::NAME == Ours::NAME {
        (clients..3 * clients).for_each(|n| side.insert(n));
        eprint!("  after {} others {:6.1}", 2 * clients, each(&side));
    }
    eprintln!();
}

fn float(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("less than 4 GB"))
}

/// The longest calls. Each is made three times in the same state, and the shortest counts: what else the machine does seldom meets a call
/// three times.
fn pause<S: Side>(clients: u32) {
    eprint!("longest call/{clients}/{:<15}", S::NAME);
    print_longest(|| S::new(clients), 0..clients);
    if S::NAME == Ours::NAME {
        let full = S::full(clients);
        eprint!("longest call/{clients}/{:<15}", "ours, full");
        print_longest(|| full.clone(), clients..2 * clients);
    }
}

fn print_longest<S: Side>(side: impl Fn() -> S, clients: Range<u32>) {
    const TIMES: usize = 3;
    let mut nanos = vec![u32::MAX; clients.len()];
    for _ in 0..TIMES {
        let mut side = side();
        for (n, nanos) in clients.clone().zip(&mut nanos) {
            let began = Clock::now();
            side.insert(n);
            *nanos = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX).min(*nanos);
        }
    }
    nanos.sort_unstable();
    let at = |last: usize| Duration::from_nanos(nanos[nanos.len() - 1 - last].into());
    let (max, most) = (at(0), at(nanos.len() / 1_000_000));
    eprintln!("{max:>10.1?}, all but one in a million {most:>10.1?}");
}

fn report() {
    for &clients in SIZES {
        bytes::<Ours>(clients);
        bytes::<Words>(clients);
        bytes::<Plain>(clients);
    }
    for &clients in SIZES {
        pause::<Ours>(clients);
        pause::<Words>(clients);
        pause::<Plain>(clients);
    }
}

criterion_group!(benches, hit, renew, insert, insert_full, expire);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    let mut args = std::env::args().skip(1);
    // Criterion does not tell its filter: a word that is not an option.
    let reports = |arg: String| {
        arg == "--bench"
            || arg != "--test" && !arg.starts_with('-') && "affinity/report".contains(&arg)
    };
    if args.all(reports) {
        report();
    }
}
