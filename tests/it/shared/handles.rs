//! Several handles on one balancer: each picks by itself where picks depend on no counts, and nobody can tell from the counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::Balancer;
use svcplane::sched::{Algorithm, Backends, Change, Flags, Place, RoundRobin, Scheduler};
use svcplane::sync::{Lease, SharedBalancer};
use svcplane::time::Instant;

use super::{NOW, addr, flow, shared, total};

/// As many handles on a balancer, each of which has picked before.
fn handles(algorithm: Algorithm, backends: u16, count: usize) -> Vec<SharedBalancer> {
    let handles = vec![shared(algorithm, backends); count];
    warm_up(&handles);
    handles
}

fn warm_up(handles: &[SharedBalancer]) {
    for handle in handles {
        // More often than it takes to make a copy worth while.
        drop(picks(handle, handle.with(|balancer| balancer.len()) / 8 + 2));
    }
}

fn picks(handle: &SharedBalancer, count: usize) -> Vec<Lease> {
    (0..count).filter_map(|_| handle.pick(&flow(1), NOW)).collect()
}

fn addrs(leases: &[Lease]) -> Vec<SocketAddr> {
    leases.iter().map(Lease::addr).collect()
}

/// How many connections each of the listed backends has.
fn loads(balancer: &SharedBalancer) -> BTreeMap<SocketAddr, u32> {
    balancer.with(|balancer| {
        balancer.iter().map(|(_, e)| (e.addr(), e.active() + e.inactive())).collect()
    })
}

/// Whether one handle can be used while another has the balancer.
fn is_free(
    busy: &SharedBalancer,
    other: &SharedBalancer,
    now: Instant,
    patience: Duration,
) -> bool {
    let (done, was_done) = mpsc::channel();
    thread::scope(|scope| {
        busy.with(|_| {
            scope.spawn(move || {
                let mut lease = other.pick(&flow(1), now).expect("a backend");
                lease.established();
                drop(lease);
                let _ = done.send(());
            });
            was_done.recv_timeout(patience).is_ok()
        })
    })
}

const SOON: Duration = Duration::from_millis(20);
const IN_THE_END: Duration = Duration::from_secs(20);

#[test]
fn picks_that_depend_on_no_counts_wait_for_nobody() {
    let mut free = Vec::new();
    for &algorithm in Algorithm::ALL {
        let handles = handles(algorithm, 20, 2);
        let expected = !["lc", "wlc", "sed", "nq", "p2c"].contains(&algorithm.as_str());
        let patience = if expected { IN_THE_END } else { SOON };
        assert_eq!(is_free(&handles[0], &handles[1], NOW, patience), expected, "{algorithm}");
        free.extend(expected.then_some(algorithm));
        assert_eq!(total(&handles[0]), (0, 0));
    }
    assert_eq!(free.len(), 7);
    // Neither does one in the list that is unusable, or has not its whole part yet.
    let handles = handles(Algorithm::RoundRobin, 3, 2);
    handles[0].with(|balancer| {
        balancer.set_slow_start(Duration::from_secs(60));
        let id = balancer.find(addr(0)).expect("listed");
        balancer.suspend(id, NOW + Duration::from_secs(60)).expect("listed");
        balancer.add(addr(7).into(), NOW);
        balancer.add(Backend::new(addr(8)).with_weight(0), NOW);
    });
    warm_up(&handles);
    assert!(is_free(&handles[0], &handles[1], NOW, IN_THE_END));
    // One that can be overloaded makes counts matter.
    handles[0].add(Backend::new(addr(9)).with_thresholds(0, 1000), NOW);
    warm_up(&handles);
    assert!(!is_free(&handles[0], &handles[1], NOW, SOON));
}

#[test]
fn a_removed_backend_is_looked_after_by_one_pick() {
    let handles = handles(Algorithm::RoundRobin, 3, 2);
    handles[0].set_backends([addr(0).into()], NOW);
    warm_up(&handles);
    let later = NOW + Duration::from_secs(120);
    drop(handles[1].pick(&flow(1), later));
    assert_eq!(handles[0].next_expiry(), Some(later + Duration::from_secs(120)));
    assert!(is_free(&handles[0], &handles[1], later, IN_THE_END));
}

#[test]
fn a_removed_backend_is_picked_by_no_handle() {
    for name in ["rr", "wrr", "random", "mh", "lc"] {
        let balancer = shared(name.parse().expect("known"), 8);
        // Odd while one is gone, and the port of that.
        let (version, gone) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        // Picks that were made while one was gone.
        let (watched, done) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        let work = |balancer: SharedBalancer, mut client: u16| {
            let mut held = VecDeque::new();
            while done.load(SeqCst) == 0 {
                client = client.wrapping_add(7);
                let (before, without) = (version.load(SeqCst), gone.load(SeqCst));
                let lease = balancer.pick(&flow(client), NOW).expect("a backend");
                if before % 2 == 1 && version.load(SeqCst) == before {
                    assert_ne!(usize::from(lease.addr().port()), without, "{name}");
                    watched.fetch_add(1, SeqCst);
                }
                held.push_back(lease);
                drop(held.drain(..held.len().saturating_sub(50)));
            }
        };
        thread::scope(|scope| {
            let workers = (0..3).map(|client| {
                let balancer = balancer.clone();
                scope.spawn(move || work(balancer, client))
            });
            let workers: Vec<_> = workers.collect();
            for n in (0..8).cycle().take(100) {
                let id = balancer.with(|balancer| balancer.find(addr(n))).expect("listed");
                balancer.remove(id, NOW).expect("listed");
                gone.store(addr(n).port().into(), SeqCst);
                let before = watched.load(SeqCst);
                version.fetch_add(1, SeqCst);
                while watched.load(SeqCst) == before
                    && !workers.iter().any(ScopedJoinHandle::is_finished)
                {
                    thread::yield_now();
                }
                version.fetch_add(1, SeqCst);
                balancer.add(addr(n).into(), NOW);
            }
            done.store(1, SeqCst);
        });
        assert_eq!(total(&balancer), (0, 0), "{name}");
    }
}

#[test]
fn a_removed_backend_is_remembered_until_its_last_lease_is_gone() {
    let mut handles = handles(Algorithm::SourceHashing, 1, 3);
    let mut leases: Vec<Lease> = handles.iter().flat_map(|handle| picks(handle, 2)).collect();
    let id = leases[0].backend();
    handles[0].remove(id, NOW).expect("listed");
    handles.truncate(2);
    let mut now = NOW;
    while let Some(lease) = leases.pop() {
        for _ in 0..3 {
            now += Duration::from_secs(240);
            handles[0].expire(now);
            let open = handles[1].with(|b| b.get(id).map(|e| e.active() + e.inactive()));
            assert_eq!(open, u32::try_from(leases.len() + 1).ok());
        }
        drop(lease);
    }
    let known = |handle: &SharedBalancer| handle.with(|balancer| balancer.get(id).is_some());
    handles[0].expire(now + Duration::from_secs(119));
    assert!(known(&handles[1]), "the grace time");
    // The picks of handles are enough for it to end, whoever makes them.
    handles[0].add(addr(1).into(), now);
    warm_up(&handles);
    for handle in &handles {
        assert!(handle.pick(&flow(1), now + Duration::from_secs(120)).is_some());
    }
    assert!(known(&handles[1]));
    assert!(handles[1].pick(&flow(1), now + Duration::from_secs(360)).is_some());
    assert!(!known(&handles[0]));
    let again = handles[0].add(addr(0).into(), now);
    assert_ne!(again, id);
}

#[test]
fn a_suspension_holds_and_ends_for_all_handles() {
    let handles = handles(Algorithm::RoundRobin, 2, 3);
    let sick = handles[0].with(|balancer| balancer.find(addr(0))).expect("listed");
    let until = NOW + Duration::from_secs(10);
    handles[1].suspend(sick, until).expect("listed");
    for handle in handles.iter().cycle().take(12) {
        let lease = handle.pick(&flow(1), NOW + Duration::from_secs(9)).expect("a backend");
        assert_eq!(lease.addr(), addr(1));
    }
    for handle in &handles {
        let leases: Vec<_> = (0..4).filter_map(|_| handle.pick(&flow(1), until)).collect();
        assert_eq!(BTreeSet::from_iter(addrs(&leases)).len(), 2);
    }
}

#[test]
fn thresholds_hold_whoever_picks() {
    let handles = handles(Algorithm::Random, 2, 3);
    let mut held: Vec<Lease> = handles.iter().flat_map(|handle| picks(handle, 1)).collect();
    for n in 0..2 {
        handles[0].add(Backend::new(addr(n)).with_thresholds(10, 10), NOW);
    }
    held.extend(handles.iter().cycle().take(100).filter_map(|handle| handle.pick(&flow(1), NOW)));
    assert_eq!(loads(&handles[0]), BTreeMap::from([(addr(0), 10), (addr(1), 10)]));
    drop(held.pop());
    assert!(handles[1].pick(&flow(1), NOW).is_some());
    for n in 0..2 {
        handles[1].add(addr(n).into(), NOW);
    }
    held.extend(handles.iter().flat_map(|handle| picks(handle, 50)));
    assert_eq!(total(&handles[0]), (0, 19 + 150));
}

#[test]
fn a_threshold_counts_what_was_picked_while_it_was_set() {
    let handles = handles(Algorithm::RoundRobin, 1, 2);
    let id = handles[0].with(|balancer| balancer.find(addr(0))).expect("listed");
    let held = handles[0].with(|balancer| {
        balancer.edit(id, |backend| backend.with_thresholds(2, 4)).expect("listed");
        picks(&handles[1], 5)
    });
    assert_eq!(held.len(), 5);
    assert!(handles.iter().all(|handle| handle.pick(&flow(1), NOW).is_none()));
}

#[test]
fn each_handle_goes_round_in_turn_and_all_together_nearly_so() {
    for flags in [Flags::default(), Flags::KERNEL] {
        let balancer = Balancer::with_flags(Algorithm::RoundRobin, flags, 7);
        let handles = vec![SharedBalancer::new(balancer); 4];
        handles[0].set_backends((0..10).map(|n| addr(n).into()), NOW);
        let mut held: Vec<Vec<Lease>> = handles.iter().map(|handle| picks(handle, 2)).collect();
        for n in [3, 11, 25, 38] {
            for (handle, held) in handles.iter().zip(&mut held) {
                let leases = picks(handle, n);
                for pair in addrs(&leases).windows(2) {
                    let step = i32::from(pair[0].port()) - i32::from(pair[1].port());
                    assert!(step == 1 || step == -9, "in turn: {pair:?}");
                }
                held.extend(leases);
            }
            let loads = loads(&handles[0]);
            let (least, most) = (loads.values().min(), loads.values().max());
            assert!(most <= least.map(|least| least + 5).as_ref(), "{loads:?}");
        }
        drop(held);

        // Changes make handles begin anew: not over and over with the same.
        let mut held = Vec::new();
        for _ in 0..50 {
            let id = handles[0].with(|balancer| balancer.find(addr(3))).expect("listed");
            handles[0].edit(id, |backend| backend).expect("listed");
            held.extend(handles.iter().flat_map(|handle| picks(handle, 4)));
        }
        let loads = loads(&handles[0]);
        assert_eq!(loads.values().sum::<u32>(), 800);
        assert!(loads.values().all(|load| (76..=84).contains(load)), "{loads:?}");
    }
}

#[test]
fn weights_are_heeded_by_all_handles_together() {
    for name in ["wrr", "wrandom"] {
        let handles = handles(name.parse().expect("known"), 3, 3);
        handles[0].set_backends((0..3).map(|n| Backend::new(addr(n)).with_weight(1 << n)), NOW);
        let held: Vec<_> = handles.iter().map(|handle| picks(handle, 700)).collect();
        let loads = loads(&handles[0]);
        let tolerance = if name == "wrr" { 4 } else { 100 };
        for (n, expected) in [(0, 300), (1, 600), (2, 1200)] {
            assert!(loads[&addr(n)].abs_diff(expected) <= tolerance, "{name}: {loads:?}");
        }
        drop(held);
    }
}

#[test]
fn lots_differ_from_handle_to_handle_and_follow_from_the_seed() {
    let run = || {
        let handles = handles(Algorithm::Random, 100, 2);
        handles.iter().map(|handle| addrs(&picks(handle, 50))).collect::<Vec<_>>()
    };
    let lots = run();
    for (one, other) in [(&lots[0], &lots[1]), (&lots[1], &lots[0])] {
        // Not even the same some draws later.
        assert!(one.windows(10).all(|draws| draws != &other[..10]));
    }
    assert_eq!(lots, run());
}

#[test]
fn another_algorithm_or_flag_is_every_handles() {
    let handles = handles(Algorithm::SourceHashing, 50, 2);
    let port = |client: u16| {
        let choose = |handle: &SharedBalancer| {
            handle.pick(&flow(client), NOW).map(|lease| lease.addr()).expect("a backend")
        };
        let [a, b] = [0, 1].map(|n| choose(&handles[n]));
        assert_eq!(a, b);
        a
    };
    let one: BTreeSet<_> = (0..20).map(port).collect();
    assert_eq!(one.len(), 1, "one client");
    let flags = Flags { port: true, ..Flags::default() };
    handles[0].with(|balancer| balancer.set_algorithm(Algorithm::SourceHashing, flags, 7));
    let many: BTreeSet<_> = (0..20).map(port).collect();
    assert!(many.len() > 10, "the port counts");

    handles[0].with(|b| b.set_algorithm(Algorithm::LeastConnection, Flags::default(), 7));
    let _held: Vec<_> = handles.iter().cycle().take(500).flat_map(|h| picks(h, 1)).collect();
    assert!(loads(&handles[1]).values().all(|&load| load == 10));
}

#[test]
fn leases_of_a_balancer_that_was_replaced_do_nothing() {
    let handles = handles(Algorithm::RoundRobin, 2, 2);
    let mut before: Vec<Lease> = handles.iter().flat_map(|handle| picks(handle, 4)).collect();
    let [a, b] = [0, 1].map(|n| handles[n].clone());
    let during = handles[0].with(|balancer| {
        let during = picks(&handles[1], 3);
        assert_eq!(during.len(), 3);
        // With the same addresses, in the same order: their ids are the same.
        *balancer = Balancer::new(Algorithm::RoundRobin, 7);
        balancer.set_backends((0..2).map(|n| addr(n).into()), NOW);
        during
    });
    let mut after: Vec<Lease> = [&a, &b, &a, &b].iter().flat_map(|h| picks(h, 1)).collect();
    let ids = |leases: &[Lease]| {
        leases.iter().map(|lease| (lease.backend(), lease.addr())).collect::<BTreeSet<_>>()
    };
    assert!(ids(&after).is_subset(&ids(&before)));
    before[0].established();
    before[1].closing();
    drop((before, during));
    assert_eq!(total(&handles[1]), (0, 4));
    after.iter_mut().for_each(Lease::established);
    assert_eq!(total(&handles[0]), (4, 0));
    // A clone is another one, too; one that is put back is not.
    handles[1].with(|balancer| {
        let was = std::mem::replace(balancer, Balancer::new(Algorithm::Random, 7));
        *balancer = was;
    });
    drop(after.pop());
    assert_eq!(total(&handles[0]), (3, 0));
    handles[0].with(|balancer| *balancer = balancer.clone());
    drop(after);
    assert_eq!(total(&handles[0]), (3, 0));
    let last = handles.iter().flat_map(|handle| picks(handle, 3)).collect::<Vec<_>>();
    assert_eq!(total(&handles[0]), (3, 6));
    drop(last);
    assert_eq!(total(&handles[0]), (3, 0));
    // Who comes now is one of the last's.
    let late = picks(&handles[0].clone(), 5);
    assert_eq!(total(&handles[0]), (3, 5));
    drop(late);
    assert_eq!(total(&handles[0]), (3, 0));
}

#[test]
fn two_balancers_may_change_places() {
    let [a, b] = [1, 2].map(|n| handles(Algorithm::RoundRobin, n, 2));
    let leases = [picks(&a[1], 2), picks(&b[1], 2)];
    a[0].with(|a| b[0].with(|b| std::mem::swap(a, b)));
    assert_eq!(BTreeSet::from_iter(addrs(&picks(&a[1], 4))).len(), 2);
    assert_eq!(BTreeSet::from_iter(addrs(&picks(&b[1], 4))).len(), 1);
    drop(leases);
    assert_eq!([total(&a[0]), total(&b[0])], [(0, 2); 2], "as they were when they changed places");
}

#[test]
fn a_slot_that_was_given_to_another_backend_counts_that_ones_connections() {
    let handles = handles(Algorithm::RoundRobin, 1, 2);
    let (first, second) = (handles[1].pick(&flow(1), NOW), handles[1].pick(&flow(1), NOW));
    let id = first.as_ref().map(Lease::backend).expect("a backend");
    drop((first, second));
    let mut stale = handles[0].with(|balancer| {
        // The balancer hears of these when it has forgotten the backend.
        let meanwhile = picks(&handles[1], 3);
        balancer.remove(id, NOW).expect("listed");
        for minutes in [2, 4, 6] {
            balancer.expire(NOW + Duration::from_secs(60 * minutes));
        }
        assert!(balancer.get(id).is_none());
        balancer.add(addr(1).into(), NOW);
        meanwhile
    });
    assert_eq!(total(&handles[0]), (0, 0));
    let mut held = picks(&handles[1], 2);
    assert_eq!(total(&handles[0]), (0, 2));
    // The former's first, and last.
    stale[0].established();
    held.extend(picks(&handles[1], 1));
    drop(stale);
    held[2].established();
    assert_eq!((held[2].addr(), held[2].backend() == id), (addr(1), false));
    assert_eq!(total(&handles[0]), (1, 2));
    drop(held);
    assert_eq!(total(&handles[0]), (0, 0));
}

#[test]
fn connections_that_a_closure_picked_count_as_they_are() {
    let handles = handles(Algorithm::RoundRobin, 2, 2);
    let mut busy = handles[1]
        .pick_with(|balancer| {
            let mut conn = balancer.pick(&flow(1), NOW)?;
            balancer.activate(&mut conn).expect("its own");
            Some(conn)
        })
        .expect("a backend");
    assert_eq!(total(&handles[0]), (1, 0));
    busy.established();
    assert_eq!(total(&handles[0]), (1, 0));
    busy.closing();
    assert_eq!(total(&handles[0]), (0, 1));

    let mut other = Balancer::new(Algorithm::RoundRobin, 7);
    other.set_backends((50..60).map(|n| addr(n).into()), NOW);
    let mut foreign: Vec<_> =
        (0..10).filter_map(|_| handles[1].pick_with(|_| other.pick(&flow(1), NOW))).collect();
    foreign.iter_mut().for_each(Lease::established);
    assert_eq!((foreign.len(), total(&handles[0])), (10, (0, 1)));
    drop(foreign);
    assert_eq!(total(&handles[0]), (0, 1));
    drop(busy);
    assert_eq!(total(&handles[0]), (0, 0));
}

#[test]
fn handles_come_and_go_and_their_leases_count_on() {
    let balancer = shared(Algorithm::Random, 5);
    let mut leases: Vec<Lease> = Vec::new();
    for n in 0..200 {
        let handle = balancer.clone();
        leases.extend(picks(&handle, n % 4));
        if let Some(lease) = leases.get_mut(n) {
            lease.established();
        }
        if n % 3 == 1 {
            drop(leases.remove(0));
        }
    }
    let active = leases.iter().filter(|lease| format!("{lease:?}").contains("Established")).count();
    let counts = total(&balancer);
    assert_eq!(usize::try_from(counts.0).expect("few"), active);
    assert_eq!(usize::try_from(counts.0 + counts.1).expect("few"), leases.len());
    // Also while a closure has the balancer.
    let handle = balancer.with(|_| balancer.clone());
    leases.extend(picks(&handle, 3));
    balancer.with(|_| drop(handle));
    // One that nobody has any more still has something to count, while its place is looked for.
    let handle = balancer.clone();
    let released = picks(&handle, 20);
    assert_eq!(total(&balancer).1, counts.1 + 3 + 20);
    drop((released, handle));
    drop(vec![balancer.clone(); 1000]);
    assert_eq!(total(&balancer), (counts.0, counts.1 + 3));
    drop(leases);
    assert_eq!(total(&balancer), (0, 0));
}

/// Round robin that knows how many there are of it.
#[derive(Debug)]
struct Known(RoundRobin, Arc<()>);

impl Scheduler for Known {
    fn changed(&mut self, backends: &Backends, change: Change) {
        self.0.changed(backends, change);
    }

    fn pick(&mut self, backends: &Backends, flow: &Flow) -> Option<Place> {
        self.0.pick(backends, flow)
    }

    fn another(&mut self, backends: &Backends) -> Option<Self> {
        Some(Self(self.0.another(backends)?, Arc::clone(&self.1)))
    }
}

#[test]
fn copies_are_made_for_handles_that_pick_and_go_with_them() {
    let known = Arc::new(());
    let scheduler = Known(RoundRobin::new(Flags::KERNEL, 0), Arc::clone(&known));
    let copies = || Arc::strong_count(&known) - 2;
    let one = SharedBalancer::new(Balancer::with_scheduler(scheduler));
    one.set_backends((0..80).map(|n| addr(n).into()), NOW);
    let pick = |handle: &SharedBalancer<Known>| handle.pick(&flow(1), NOW).expect("a backend");
    for _ in 0..100 {
        drop(pick(&one));
    }
    assert_eq!(copies(), 0, "one handle alone needs none");
    let mut others = vec![one.clone(); 3];
    for _ in 0..11 {
        drop(pick(&others[0]));
    }
    assert_eq!(copies(), 0, "a few picks are not worth one");
    let lease = pick(&others[0]);
    assert_eq!(copies(), 1);
    for handle in others.iter().chain([&one]).cycle().take(100) {
        drop(pick(handle));
    }
    assert_eq!(copies(), 4);
    others.truncate(2);
    assert_eq!(copies(), 3);
    others.remove(0);
    assert_eq!((copies(), lease.addr().ip()), (2, addr(0).ip()), "leases need none");
    one.add(addr(99).into(), NOW);
    assert_eq!(copies(), 0, "what was copied is no more");
    others.clear();
    for _ in 0..100 {
        drop(pick(&one));
    }
    assert_eq!(copies(), 0, "alone again");
}

#[test]
fn sticky_picks_and_others_count_together() {
    let handles = handles(Algorithm::RoundRobin, 3, 2);
    let table = Mutex::new(Affinity::new(10, 7));
    let scope = Scope::new(1, Duration::from_secs(10));
    let first = handles[0].with_affinity(&table, scope).pick(&flow(1), NOW).expect("a backend");
    let mut held = Vec::new();
    for handle in handles.iter().cycle().take(20) {
        let sticky = handle.with_affinity(&table, scope).pick(&flow(1), NOW).expect("a backend");
        assert_eq!(sticky.addr(), first.addr());
        held.push(sticky);
        held.extend(picks(handle, 3));
        held.iter_mut().step_by(3).for_each(Lease::established);
        drop(held.swap_remove(held.len() / 2));
        let (active, inactive) = total(&handles[1]);
        assert_eq!((active + inactive) as usize, held.len() + 1);
    }
    handles[1].remove(first.backend(), NOW).expect("listed");
    let moved = handles[0].with_affinity(&table, scope).pick(&flow(1), NOW).expect("a backend");
    assert_ne!(moved.addr(), first.addr());
    drop((held, first, moved));
    assert_eq!(total(&handles[0]), (0, 0));
}
