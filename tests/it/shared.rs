//! The balancer for many threads: its counts are exact when calls are over, and leases can be dropped anywhere.

mod handles;
mod model;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::Balancer;
use svcplane::sched::{Algorithm, Backends, Change, Flags, LeastConnection, Place, Scheduler};
use svcplane::sync::{Lease, SharedBalancer};
use svcplane::time::Instant;

const NOW: Instant = Instant::ZERO;

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + n))
}

fn flow(client: u16) -> Flow {
    let client = SocketAddr::from(([192, 0, 2, 1], client));
    Flow::new(client, SocketAddr::from(([10, 96, 0, 1], 80)))
}

fn shared(algorithm: Algorithm, backends: u16) -> SharedBalancer {
    let balancer = SharedBalancer::new(Balancer::new(algorithm, 7));
    balancer.set_backends((0..backends).map(|n| addr(n).into()), NOW);
    balancer
}

/// Active and inactive connections of all backends, removed ones included.
fn total<S: Scheduler>(balancer: &SharedBalancer<S>) -> (u32, u32) {
    balancer.with(|balancer| {
        let all = balancer.iter().chain(balancer.removed());
        all.fold((0, 0), |(a, i), (_, entry)| (a + entry.active(), i + entry.inactive()))
    })
}

#[test]
fn handles_and_leases_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<SharedBalancer>();
    crosses::<Lease>();
}

#[test]
fn a_lease_goes_through_its_stages_once() {
    let balancer = shared(Algorithm::LeastConnection, 2);
    let mut lease = balancer.pick(&flow(1), NOW).expect("a backend");
    assert_eq!(total(&balancer), (0, 1));
    for _ in 0..2 {
        lease.established();
        assert_eq!(total(&balancer), (1, 0));
    }
    for _ in 0..2 {
        lease.closing();
        assert_eq!(total(&balancer), (0, 1));
    }
    lease.established();
    assert_eq!(total(&balancer), (0, 1), "closing comes last");
    drop(lease);
    assert_eq!(total(&balancer), (0, 0));

    let mut refused = balancer.pick(&flow(1), NOW).expect("a backend");
    refused.closing();
    refused.established();
    assert_eq!(total(&balancer), (0, 1), "it was never there");
}

#[test]
fn within_a_closure_leases_can_be_used_and_dropped() {
    let balancer = shared(Algorithm::LeastConnection, 3);
    let mut leases: Vec<Lease> = (0..3000).filter_map(|n| balancer.pick(&flow(n), NOW)).collect();
    let last = balancer.with(|locked| {
        leases.iter_mut().for_each(Lease::established);
        leases.iter_mut().skip(1000).for_each(Lease::closing);
        let last = leases.pop();
        leases.clear();
        let (_, entry) = locked.iter().next().expect("listed");
        assert_eq!(entry.inactive(), 1000, "counted when the closure returns");
        last
    });
    assert_eq!(total(&balancer), (0, 1));
    drop(last);
    assert_eq!(total(&balancer), (0, 0));
    // The first pick after it goes on as if nothing had been put off.
    let picked: Vec<_> = (0..3).filter_map(|n| balancer.pick(&flow(n), NOW)).collect();
    let counts = balancer.with(|b| b.iter().map(|(_, entry)| entry.inactive()).collect::<Vec<_>>());
    assert_eq!((picked.len(), counts), (3, vec![1, 1, 1]));
}

#[test]
fn a_lease_outlives_the_handle_and_its_backend() {
    let balancer = shared(Algorithm::RoundRobin, 1);
    let mut lease = balancer.pick(&flow(1), NOW).expect("a backend");
    balancer.remove(lease.backend(), NOW).expect("listed");
    assert!(balancer.pick(&flow(1), NOW).is_none());
    lease.established();
    assert_eq!(total(&balancer), (1, 0), "removed, and still counted");
    let mut other = shared(Algorithm::RoundRobin, 1).pick(&flow(1), NOW).expect("a backend");
    other.established();
    assert_eq!(other.addr(), addr(0));
    drop(other);

    balancer.expire(NOW + Duration::from_secs(100_000));
    drop(lease);
    for _ in 0..2 {
        let due = balancer.next_expiry().expect("a removed backend is due");
        balancer.expire(due);
    }
    assert_eq!(balancer.next_expiry(), None, "nothing refers to it");
}

#[test]
fn a_lease_of_a_balancer_that_was_replaced_does_nothing() {
    let balancer = shared(Algorithm::RoundRobin, 1);
    let mut lease = balancer.pick(&flow(1), NOW).expect("a backend");
    balancer.with(|balancer| *balancer = Balancer::new(Algorithm::RoundRobin, 7));
    lease.established();
    drop(lease);
    assert_eq!(total(&balancer), (0, 0));
}

#[test]
fn a_panic_under_the_lock_stops_nobody() {
    let balancer = shared(Algorithm::LeastConnection, 2);
    let mut kept = balancer.pick(&flow(1), NOW).expect("a backend");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _dropped_with_the_lock = balancer.pick(&flow(2), NOW).expect("a backend");
        balancer.with(|balancer| -> () {
            balancer.add(addr(9).into(), NOW);
            panic!("in the closure");
        });
    }));
    assert!(panicked.is_err());
    kept.established();
    assert_eq!(total(&balancer), (1, 0));
    drop(kept);
    assert_eq!(total(&balancer), (0, 0));
    let leases: Vec<_> = (0..3).filter_map(|n| balancer.pick(&flow(n), NOW)).collect();
    assert_eq!(leases.len(), 3);
    assert!(leases.iter().any(|lease| lease.addr() == addr(9)), "added before the panic");
}

/// Least connections, but panics when asked of a certain port, and at two active with three inactive connections.
#[derive(Debug)]
struct Fragile(LeastConnection);

impl Scheduler for Fragile {
    fn changed(&mut self, backends: &Backends, change: Change) {
        self.0.changed(backends, change);
        if let Change::Counted(place) = change {
            let entry = backends.get(place).expect("counted");
            assert!((entry.active(), entry.inactive()) != (2, 3), "fragile");
        }
    }

    fn pick(&mut self, backends: &Backends, flow: &Flow) -> Option<Place> {
        assert!(flow.client.port() != 13, "fragile");
        self.0.pick(backends, flow)
    }
}

#[test]
fn a_scheduler_that_panics_ends_neither_the_process_nor_the_counting() {
    let fragile = Fragile(LeastConnection::new(Flags::KERNEL, 0));
    let balancer = SharedBalancer::new(Balancer::with_scheduler(fragile));
    balancer.add(addr(0).into(), NOW);
    let mut leases: Vec<_> = (0..6).filter_map(|_| balancer.pick(&flow(1), NOW)).collect();
    leases.iter_mut().take(2).for_each(Lease::established);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        // To count this release at once would be a panic during a panic.
        let _dropped_while_unwinding = leases.pop();
        balancer.pick(&flow(13), NOW).is_some()
    }));
    assert!(panicked.is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| total(&balancer))).is_err());
    assert_eq!(total(&balancer), (2, 3));
    leases.clear();

    // It panics at the first of two backends for which something was put off: both are counted all the same.
    balancer.add(addr(1).into(), NOW);
    let mut leases: Vec<_> = (0..10).filter_map(|_| balancer.pick(&flow(1), NOW)).collect();
    leases.sort_by_key(Lease::addr);
    balancer.with(|_| [0, 1, 5].map(|at| leases[at].established()));
    assert!(catch_unwind(AssertUnwindSafe(|| total(&balancer))).is_err());
    assert_eq!(total(&balancer), (3, 7));
}

#[test]
fn sticky_picks_heed_and_note_the_client() {
    let balancer = shared(Algorithm::RoundRobin, 3);
    let table = Mutex::new(Affinity::new(10, 7));
    let scope = Scope::new(1, Duration::from_secs(10));
    let first = balancer.with_affinity(&table, scope).pick(&flow(1), NOW).expect("a backend");
    for _ in 0..5 {
        let next = balancer.with_affinity(&table, scope).pick(&flow(1), NOW).expect("a backend");
        assert_eq!(next.addr(), first.addr());
    }
    let tried = [first.backend()];
    let sticky = balancer.with_affinity(&table, scope);
    let other = sticky.pick_except(&flow(1), &tried, NOW).expect("another backend");
    assert_ne!(other.addr(), first.addr());
    let next = balancer.with_affinity(&table, scope).pick(&flow(1), NOW).expect("a backend");
    assert_eq!(next.addr(), other.addr(), "moved");
    drop((first, next, other));
    assert_eq!(total(&balancer), (0, 0));
}

/// Numbers that look random, other ones for each thread.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 40).expect("24 bits") % bound
    }
}

/// Picks, uses, hands over and drops leases; those that it has in the end.
fn busy(
    balancer: &SharedBalancer,
    thread: usize,
    inbox: &mpsc::Receiver<Lease>,
    peers: &[mpsc::Sender<Lease>],
) -> Vec<Lease> {
    let mut numbers = Numbers(thread as u64);
    let mut leases = Vec::new();
    for round in 0..4000 {
        match numbers.below(12) {
            0..=4 => leases.extend(balancer.pick(&flow(round), NOW)),
            5 => {
                let tried: Vec<_> = leases.iter().take(2).map(Lease::backend).collect();
                leases.extend(balancer.pick_except(&flow(round), &tried, NOW));
            }
            6 if !leases.is_empty() => {
                let at = numbers.below(leases.len());
                leases[at].established();
            }
            7 if !leases.is_empty() => {
                let at = numbers.below(leases.len());
                leases[at].closing();
            }
            8 if !leases.is_empty() => {
                let mut lease = leases.swap_remove(numbers.below(leases.len()));
                lease.established();
                // Whoever has ended drops what it is sent.
                let _ = peers[numbers.below(peers.len())].send(lease);
            }
            9 => leases.extend(inbox.try_recv()),
            10 if round % 16 == 0 => {
                let kept = balancer.with(|_| leases.split_off(leases.len() / 2));
                balancer.with(|_| leases = kept);
            }
            _ if !leases.is_empty() => drop(leases.swap_remove(numbers.below(leases.len()))),
            _ => {}
        }
    }
    leases.extend(inbox.try_iter());
    leases
}

#[test]
fn counts_are_exact_whatever_threads_did() {
    for &algorithm in Algorithm::ALL {
        let balancer = shared(algorithm, 8);
        let (threads, start) = (4, Barrier::new(5));
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel()).unzip();
        let mut left: Vec<Lease> = thread::scope(|scope| {
            let workers: Vec<_> = inboxes
                .into_iter()
                .enumerate()
                .map(|(n, inbox)| {
                    let (balancer, peers, start) = (balancer.clone(), senders.clone(), &start);
                    scope.spawn(move || {
                        start.wait();
                        let mut leases = busy(&balancer, n, &inbox, &peers);
                        start.wait();
                        leases.extend((0..40).filter_map(|n| balancer.pick(&flow(n), NOW)));
                        (leases, inbox)
                    })
                })
                .collect();
            drop(senders);
            start.wait();
            let mut numbers = Numbers(99);
            for round in 0..2000 {
                let n = u16::try_from(numbers.below(8)).expect("small");
                let id = balancer.with(|balancer| balancer.find(addr(n)));
                match (numbers.below(4), id) {
                    (0, Some(id)) => drop(balancer.remove(id, NOW)),
                    (1, Some(id)) => drop(balancer.edit(id, |b| b.with_weight(round % 3))),
                    (2, _) => balancer.set_backends((0..n).map(|n| addr(n).into()), NOW),
                    _ => drop(balancer.add(addr(n).into(), NOW)),
                }
            }
            balancer.set_backends((0..8).map(|n| addr(n).into()), NOW);
            start.wait();
            let ended: Vec<_> =
                workers.into_iter().map(|worker| worker.join().expect("no panic")).collect();
            ended.into_iter().flat_map(|(leases, inbox)| leases.into_iter().chain(inbox)).collect()
        });

        assert!(left.len() > 100, "threads end with open connections: {}", left.len());
        let (active, inactive) = total(&balancer);
        assert_eq!(active + inactive, u32::try_from(left.len()).expect("few"), "{algorithm}");
        for id in left.iter().map(Lease::backend).collect::<std::collections::BTreeSet<_>>() {
            let open = left.iter().filter(|lease| lease.backend() == id).count();
            let counted =
                balancer.with(|b| b.get(id).map(|entry| entry.active() + entry.inactive()));
            assert_eq!(counted, u32::try_from(open).ok(), "{algorithm}");
        }
        left.iter_mut().for_each(Lease::established);
        let closing = left.iter().filter(|lease| format!("{lease:?}").contains("Closing")).count();
        assert_eq!(total(&balancer).1, u32::try_from(closing).expect("few"), "{algorithm}");
        left.clear();
        assert_eq!(total(&balancer), (0, 0), "{algorithm}");
    }
}

#[test]
fn a_pick_sees_the_releases_that_happened_before_it() {
    let balancer = shared(Algorithm::LeastConnection, 0);
    balancer.add(Backend::new(addr(0)).with_thresholds(1, 1), NOW);
    let other = balancer.clone();
    // The lock is taken over and over, so that releases find it taken.
    let done = std::sync::atomic::AtomicBool::new(false);
    let (done, order) = (&done, std::sync::atomic::Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(order) {
                other.with(|balancer| assert_eq!(balancer.len(), 1));
            }
        });
        let (to, from) = mpsc::sync_channel::<Lease>(0);
        let (released, seen) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for lease in from {
                drop(lease);
                let _ = released.send(());
            }
        });
        for n in 0..500 {
            let Some(lease) = balancer.pick(&flow(n), NOW) else {
                done.store(true, order);
                panic!("at {n}: the only place was given back");
            };
            to.send(lease).expect("a receiver");
            seen.recv().expect("a sender");
        }
        done.store(true, order);
    });
}
