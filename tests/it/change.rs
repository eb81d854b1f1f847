//! What is done to a backend while a balancer runs: suspension, edits, removal, and the timers of these.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{Backend, BackendId, Flow};
use svcplane::balancer::{Balancer, Conn, StaleId};
use svcplane::sched::{Algorithm, Entry, Flags, Scheduler};
use svcplane::time::Instant;

use crate::sched_model::{addr, flow};

const SEC: Duration = Duration::from_secs(1);
const SCOPE: Scope = Scope::new(1, Duration::from_secs(1_000_000));

/// The balancer with backends 0 to `count`, and their ids.
pub(crate) fn balancer(algorithm: Algorithm, count: u16) -> (Balancer, Vec<BackendId>) {
    let mut balancer = Balancer::new(algorithm, 7);
    let ids = (0..count).map(|n| balancer.add(addr(n).into(), Instant::ZERO)).collect();
    (balancer, ids)
}

pub(crate) fn at(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

/// Picks and releases at once.
pub(crate) fn touch(balancer: &mut Balancer, flow: &Flow, now: Instant) -> Option<SocketAddr> {
    let conn = balancer.pick(flow, now)?;
    let addr = conn.addr();
    balancer.release(conn).expect("its own connection");
    Some(addr)
}

pub(crate) fn release<S: Scheduler>(
    balancer: &mut Balancer<S>,
    conns: impl IntoIterator<Item = Conn>,
) {
    for conn in conns {
        balancer.release(conn).expect("its own connections");
    }
}

pub(crate) fn suspended(balancer: &Balancer, id: BackendId) -> bool {
    balancer.get(id).expect("known").suspended()
}

pub(crate) fn share(balancer: &Balancer, id: BackendId) -> u8 {
    balancer.get(id).expect("known").share()
}

/// All deadlines that an idle balancer comes to when it does what it asks for.
pub(crate) fn deadlines(balancer: &mut Balancer) -> Vec<Instant> {
    let mut all = Vec::new();
    while let Some(next) = balancer.next_expiry() {
        all.push(next);
        balancer.expire(next);
        assert!(all.len() < 100, "{all:?}");
    }
    all
}

/// Nothing happens a nanosecond before; whatever call comes first does it.
#[test]
fn a_suspension_ends_with_any_call_that_is_given_the_time() {
    type Call = fn(&mut Balancer, Instant);
    let flow = flow(1, 1);
    let calls: &[(&str, Call)] = &[
        ("expire", |balancer, now| balancer.expire(now)),
        ("pick", |balancer, now| {
            touch(balancer, &self::flow(1, 1), now);
        }),
        ("pick_except", |balancer, now| {
            let conn = balancer.pick_except(&self::flow(1, 1), &[], now);
            release(balancer, conn);
        }),
        ("add", |balancer, now| {
            balancer.add(addr(9).into(), now);
        }),
        ("remove", |balancer, now| {
            let other = balancer.iter().map(|(id, _)| id).find(|&id| !suspended(balancer, id));
            balancer.remove(other.expect("two others at first"), now).expect("listed");
        }),
        ("set_backends", |balancer, now| {
            let same: Vec<Backend> = balancer.iter().map(|(_, entry)| entry.backend()).collect();
            balancer.set_backends(same, now);
        }),
        ("sticky pick", |balancer, now| {
            let mut table = Affinity::new(9, 9);
            table.insert(SCOPE, self::flow(1, 1).client, addr(2), now);
            let conn = balancer.with_affinity(&mut table, SCOPE).pick(&self::flow(1, 1), now);
            release(balancer, conn);
        }),
    ];
    let until = at(100);
    for (name, call) in calls {
        let (mut balancer, ids) = balancer(Algorithm::RoundRobin, 3);
        balancer.suspend(ids[1], until).expect("known");
        assert_eq!(balancer.next_expiry(), Some(until), "{name}");
        let before = Instant::from_nanos(until.as_nanos() - 1);
        call(&mut balancer, before);
        assert!(suspended(&balancer, ids[1]), "{name}, a nanosecond early");
        assert!((0..9).all(|_| touch(&mut balancer, &flow, before) != Some(addr(1))), "{name}");
        call(&mut balancer, until);
        assert!(!suspended(&balancer, ids[1]), "{name}");
        assert!((0..9).any(|_| touch(&mut balancer, &flow, until) == Some(addr(1))), "{name}");
    }
}

/// Until when it is suspended, call by call, and when it ends in the end. There is one timer whatever was said.
#[test]
fn a_suspension_is_what_was_said_last() {
    let rows: &[(&[u64], u64)] = &[
        (&[10], 10),
        (&[10, 20], 20),
        (&[20, 10], 10),
        (&[10, 10], 10),
        (&[30, 10, 20], 20),
        // A past time ends it at once.
        (&[30, 0], 5),
        (&[0], 5),
        (&[5], 5),
    ];
    for (untils, end) in rows {
        let (mut balancer, ids) = balancer(Algorithm::LeastConnection, 2);
        balancer.expire(at(5));
        for &until in *untils {
            balancer.suspend(ids[0], at(until)).expect("known");
            assert!(
                suspended(&balancer, ids[0]),
                "{untils:?}: only a call that has the time ends it"
            );
        }
        assert_eq!(
            balancer.next_expiry().map(|next| next.max(at(5))),
            Some(at(*end)),
            "{untils:?}"
        );
        for secs in 5..40 {
            balancer.expire(at(secs));
            assert_eq!(suspended(&balancer, ids[0]), secs < *end, "{untils:?} at {secs}");
        }
        assert_eq!(balancer.next_expiry(), None, "{untils:?}");
    }
    let (mut balancer, ids) = balancer(Algorithm::LeastConnection, 2);
    for n in 0..10_000 {
        balancer.suspend(ids[0], at(1_000 + n * 7_919 % 10_000)).expect("known");
    }
    assert_eq!(deadlines(&mut balancer), [at(1_000 + 9_999 * 7_919 % 10_000)]);
}

#[test]
fn a_removed_backend_keeps_its_suspension() {
    // Suspended at 0 and removed at 10, or the other way; added at another time.
    for (before, back, until) in
        [(true, 20, 100), (false, 20, 100), (true, 60, 50), (false, 60, 50), (true, 50, 50)]
    {
        let case = format!("{before} {back} {until}");
        let (mut balancer, ids) = balancer(Algorithm::RoundRobin, 2);
        if before {
            balancer.suspend(ids[0], at(until)).expect("known");
        }
        balancer.remove(ids[0], at(10)).expect("listed");
        if !before {
            balancer.suspend(ids[0], at(until)).expect("a removed one is known");
        }
        assert!(suspended(&balancer, ids[0]), "{case}");
        assert_eq!(balancer.add(addr(0).into(), at(back)), ids[0], "{case}");
        assert_eq!(suspended(&balancer, ids[0]), back < until, "{case}");
        let seen: BTreeSet<_> =
            (0..4).map(|_| touch(&mut balancer, &flow(1, 1), at(back))).collect();
        assert_eq!(seen.contains(&Some(addr(0))), back >= until, "{case}");
        balancer.expire(at(back.max(until)));
        assert!(!suspended(&balancer, ids[0]), "{case}");
    }
}

/// Its slot is used again by another, which has nothing of it.
#[test]
fn a_forgotten_backend_leaves_no_timer() {
    for window in [Duration::ZERO, SEC, Duration::MAX] {
        let mut balancer = Balancer::new(Algorithm::LeastConnection, 7);
        balancer.set_slow_start(window);
        let id = balancer.add(addr(0).into(), at(1));
        balancer.suspend(id, Instant::MAX).expect("known");
        balancer.remove(id, at(1)).expect("listed");
        let last = *deadlines(&mut balancer).last().expect("it was removed");
        assert_eq!((last, balancer.find(addr(0))), (at(1 + 240), None), "{window:?}");
        for stale in
            [balancer.suspend(id, at(900)), balancer.edit(id, |b| b), balancer.remove(id, last)]
        {
            assert!(matches!(stale, Err(StaleId { id: named, .. }) if named == id), "{window:?}");
        }
        assert_eq!((balancer.next_expiry(), balancer.removed().count()), (None, 0), "{window:?}");

        balancer.set_slow_start(Duration::ZERO);
        let next = balancer.add(addr(1).into(), last);
        assert_eq!((suspended(&balancer, next), share(&balancer, next)), (false, 16));
        assert_eq!(balancer.next_expiry(), None, "{window:?}");
        balancer.remove(next, last).expect("listed");
        assert_eq!(balancer.removed().count(), 1, "{window:?}");
        assert_eq!(deadlines(&mut balancer), [120, 240].map(|secs| last + secs * SEC));
        assert_eq!(balancer.find(addr(1)), None, "{window:?}");
    }
}

#[test]
fn a_sticky_client_moves_away_from_a_suspended_backend() {
    let (mut balancer, ids) = balancer(Algorithm::RoundRobin, 3);
    let (mut table, flow) = (Affinity::new(9, 9), flow(1, 1));
    let mut pick = |balancer: &mut Balancer, secs| {
        let conn = balancer.with_affinity(&mut table, SCOPE).pick(&flow, at(secs));
        conn.map(|conn| {
            let id = conn.backend();
            balancer.release(conn).expect("its own");
            id
        })
    };
    let first = pick(&mut balancer, 0).expect("three are usable");
    assert_eq!(pick(&mut balancer, 1), Some(first));
    balancer.suspend(first, at(10)).expect("known");
    let second = pick(&mut balancer, 2).expect("two are usable");
    assert_ne!(second, first);
    assert_eq!(pick(&mut balancer, 20), Some(second), "moved for good");
    for &id in &ids {
        balancer.suspend(id, at(50)).expect("known");
    }
    assert_eq!(pick(&mut balancer, 49), None);
    assert_eq!(pick(&mut balancer, 50), Some(second));
}

/// Whichever of three are suspended, picks go to the others, for whatever client; without fallback a hashing algorithm may find none.
fn honours(algorithm: Algorithm) {
    for flags in [Flags::default(), Flags::KERNEL] {
        let mut balancer = Balancer::with_flags(algorithm, flags, 7);
        let ids: Vec<_> = (0..3).map(|n| balancer.add(addr(n).into(), at(0))).collect();
        for mask in 0_u64..8 {
            let (now, case) = (at(10 * mask), format!("{algorithm} {flags:?} {mask:03b}"));
            let of = |n: &u16| mask >> n & 1 == 1;
            for n in (0..3).filter(of) {
                balancer.suspend(ids[usize::from(n)], now + SEC).expect("known");
            }
            let mut seen = BTreeSet::new();
            for client in 0..200 {
                let conn = balancer.pick(&flow(client, client.to_le_bytes()[0]), now);
                let conn = conn.map(|mut conn| {
                    // What is held makes the others of equals come up.
                    balancer.activate(&mut conn).expect("its own");
                    conn.addr()
                });
                assert!(conn.is_some() || mask == 7 || !flags.fallback, "{case}");
                seen.extend(conn);
            }
            let others: BTreeSet<_> = (0..3).filter(|n| !of(n)).map(addr).collect();
            assert_eq!(seen, others, "{case}");
            balancer.expire(now + SEC);
        }
    }
}

/// Backends that all start slowly, or come back slowly, are picked nonetheless, and each at some time.
fn picks_while_all_start_slowly(algorithm: Algorithm) {
    for count in [1, 2, 17] {
        let mut balancer = Balancer::new(algorithm, 7);
        for window in [SEC, Duration::MAX] {
            balancer.set_slow_start(window);
            balancer.set_backends((0..count).map(|n| addr(n).into()), at(0));
            let mut seen = BTreeSet::new();
            for client in 0..600 {
                let conn = balancer.pick(&flow(client, client.to_le_bytes()[0]), at(0));
                let mut conn = conn.unwrap_or_else(|| panic!("{algorithm} {count} {client}"));
                balancer.activate(&mut conn).expect("its own");
                seen.insert(conn.addr());
            }
            assert_eq!(seen.len(), usize::from(count), "{algorithm}");
            assert!(balancer.iter().all(|(_, entry)| entry.share() == 1), "{algorithm}");
            balancer.set_backends([], at(0));
        }
    }
}

/// The greatest weights, times and thresholds, and so many backends that structures have several levels: nothing overflows, and one is picked.
fn bears_extremes(algorithm: Algorithm) {
    let mut balancer = Balancer::new(algorithm, u64::MAX);
    let backend = |n: u16| {
        let weight = [u32::MAX, 1, 1 << 31, 0, 0x7fff_fffe][usize::from(n % 5)];
        Backend::new(addr(n)).with_weight(weight).with_thresholds(u32::MAX, u32::MAX)
    };
    let nano = Duration::from_nanos(1);
    for (window, count, now) in [
        (Duration::MAX, 500, Instant::ZERO),
        (nano, 3, at(1)),
        (nano, 40, Instant::MAX),
        (Duration::MAX, 5, Instant::MAX),
        (Duration::ZERO, 300, Instant::ZERO),
    ] {
        balancer.set_slow_start(window);
        balancer.set_backends((0..count).map(backend), now);
        for (n, until) in (1..count).zip([Instant::MAX, Instant::ZERO, now].into_iter().cycle()) {
            let id = balancer.find(addr(n)).expect("listed");
            balancer.suspend(id, until).expect("known");
        }
        for client in 0..300 {
            let flow = flow(client, client.to_le_bytes()[0]);
            let Some(mut conn) = balancer.pick(&flow, now) else {
                // All slots may be those of few.
                assert!(matches!(algorithm.as_str(), "sh" | "dh"), "{algorithm} {now:?}");
                continue;
            };
            balancer.activate(&mut conn).expect("its own");
            if client % 2 == 0 {
                balancer.release(conn).expect("its own");
            }
        }
        balancer.expire(Instant::MAX);
    }
}

macro_rules! suite {
    ($($kernel:ident $name:ident $rule:ident;)*) => {
        $(
            #[test]
            fn $kernel() {
                honours(Algorithm::$name);
                picks_while_all_start_slowly(Algorithm::$name);
                bears_extremes(Algorithm::$name);
            }
        )*
    };
}

mod every_algorithm {
    use super::*;

    each_algorithm!(suite);
}

/// Thresholds given to four held connections of an upper threshold of 4: whether it is overloaded then, and how many releases it
/// takes until it is no more. Source: Linux IPVS, 6.1: an edit ends an overload if the upper threshold is lifted or raised, and begins none.
#[test]
fn thresholds_are_edited() {
    type Row = ((u32, u32), (u32, u32), bool, usize);
    let rows: &[Row] = &[
        ((0, 4), (0, 4), true, 2),
        ((3, 4), (3, 4), true, 2),
        ((2, 4), (2, 4), true, 3),
        ((1, 4), (1, 4), true, 4),
        ((4, 4), (4, 4), true, 1),
        ((0, 3), (0, 3), true, 2),
        ((0, 1), (0, 1), true, 4),
        ((0, 5), (0, 5), false, 0),
        ((5, 5), (5, 5), false, 0),
        ((0, u32::MAX), (0, u32::MAX), false, 0),
        ((0, 0), (0, 0), false, 0),
        // A lower one above the upper one is taken as that.
        ((9, 4), (4, 4), true, 1),
        ((u32::MAX, 4), (4, 4), true, 1),
        ((9, 0), (0, 0), false, 0),
    ];
    for &((lower, upper), set, overloaded, releases) in rows {
        let case = format!("{lower} {upper}");
        let mut balancer = Balancer::new(Algorithm::LeastConnection, 7);
        let id = balancer.add(Backend::new(addr(0)).with_thresholds(0, 4), at(0));
        let mut conns: Vec<Conn> =
            (0..4).filter_map(|_| balancer.pick(&flow(1, 1), at(0))).collect();
        assert!(balancer.get(id).is_some_and(Entry::overloaded));
        balancer.edit(id, |backend| backend.with_thresholds(lower, upper)).expect("listed");
        let entry = balancer.get(id).expect("listed");
        let backend = entry.backend();
        assert_eq!((backend.lower_threshold, backend.upper_threshold), set, "{case}");
        assert_eq!((entry.overloaded(), entry.inactive()), (overloaded, 4), "{case}");
        let mut taken = 0;
        while balancer.get(id).is_some_and(Entry::overloaded) {
            assert!(touch(&mut balancer, &flow(1, 1), at(0)).is_none(), "{case}");
            balancer.release(conns.pop().expect("relieved without any")).expect("its own");
            taken += 1;
        }
        assert_eq!(taken, releases, "{case}");
        assert!(touch(&mut balancer, &flow(1, 1), at(0)).is_some(), "{case}");
    }
    // The first threshold begins nothing, but the next connection is the last.
    let (mut balancer, ids) = balancer(Algorithm::LeastConnection, 1);
    let held: Vec<Conn> = (0..4).filter_map(|_| balancer.pick(&flow(1, 1), at(0))).collect();
    balancer.edit(ids[0], |backend| backend.with_thresholds(0, 2)).expect("listed");
    assert_eq!(held.len() + usize::from(balancer.pick(&flow(1, 1), at(0)).is_some()), 5);
    assert!(balancer.pick(&flow(1, 1), at(0)).is_none());
}

#[test]
fn an_edit_gets_what_is_set_and_keeps_the_address() {
    let (mut balancer, ids) = balancer(Algorithm::WeightedRoundRobin, 2);
    let mut other = Backend::new(addr(7)).with_weight(u32::MAX).with_thresholds(9, 8);
    balancer.edit(ids[1], |_| other).expect("listed");
    (other.addr, other.weight, other.lower_threshold) = (addr(1), 0x7fff_ffff, 8);
    assert_eq!(balancer.get(ids[1]).map(Entry::backend), Some(other));
    assert_eq!((balancer.find(addr(1)), balancer.find(addr(7))), (Some(ids[1]), None));
    let seen = |backend: Backend| {
        assert_eq!(backend, other, "what the closure is given");
        backend.with_weight(0)
    };
    balancer.edit(ids[1], seen).expect("listed");
    let listed: Vec<_> = balancer.iter().map(|(id, entry)| (id, entry.weight())).collect();
    assert_eq!(listed, [(ids[1], 0), (ids[0], 1)], "in its place");
    balancer.remove(ids[1], at(0)).expect("listed");
    let stale = balancer.edit(ids[1], |backend| backend);
    assert!(matches!(stale, Err(StaleId { id, .. }) if id == ids[1]));
}

#[test]
fn the_removed_are_told_with_their_counts() {
    let (mut balancer, ids) = balancer(Algorithm::RoundRobin, 5);
    let mut conns: Vec<Conn> = (0..10).filter_map(|_| balancer.pick(&flow(1, 1), at(0))).collect();
    conns.iter_mut().step_by(3).for_each(|conn| balancer.activate(conn).expect("its own"));
    let removed = |balancer: &Balancer| -> BTreeMap<BackendId, (u32, u32)> {
        let all = balancer.removed().map(|(id, entry)| (id, (entry.active(), entry.inactive())));
        let (count, map) = (balancer.removed().count(), all.collect::<BTreeMap<_, _>>());
        assert_eq!(count, map.len(), "each once");
        map
    };
    let counts = |balancer: &Balancer, ids: &[BackendId]| -> BTreeMap<BackendId, (u32, u32)> {
        let entry = |id| balancer.get(id).expect("known");
        ids.iter().map(|&id| (id, (entry(id).active(), entry(id).inactive()))).collect()
    };
    assert!(removed(&balancer).is_empty());
    for id in [ids[3], ids[1], ids[4]] {
        balancer.remove(id, at(10)).expect("listed");
        balancer.suspend(id, at(50)).expect("known");
    }
    assert_eq!(removed(&balancer), counts(&balancer, &[ids[1], ids[3], ids[4]]));
    assert_eq!(removed(&balancer).values().map(|(a, b)| a + b).sum::<u32>(), 6);
    // Revived, and revived and removed again.
    balancer.add(addr(3).into(), at(20));
    balancer.add(addr(1).into(), at(20));
    balancer.remove(ids[1], at(21)).expect("listed");
    assert_eq!(removed(&balancer), counts(&balancer, &[ids[1], ids[4]]));
    // Those with connections stay for as long as they have some.
    balancer.expire(at(100_000));
    assert_eq!(removed(&balancer), counts(&balancer, &[ids[1], ids[4]]));
    let (of_4, rest): (Vec<_>, Vec<_>) = conns.into_iter().partition(|c| c.backend() == ids[4]);
    release(&mut balancer, of_4);
    assert_eq!(removed(&balancer)[&ids[4]], (0, 0));
    balancer.expire(at(200_000));
    balancer.expire(at(300_000));
    assert_eq!(removed(&balancer), counts(&balancer, &[ids[1]]));
    assert_eq!(rest.len(), 8);
}

/// Revived after a look that found it idle, and removed again just before the next: the grace time is a whole one.
#[test]
fn a_grace_time_begins_with_each_removal() {
    let (mut balancer, ids) = balancer(Algorithm::RoundRobin, 1);
    balancer.remove(ids[0], at(0)).expect("listed");
    balancer.expire(at(120));
    assert_eq!(balancer.next_expiry(), Some(at(240)));
    balancer.add(addr(0).into(), at(130));
    balancer.remove(ids[0], at(235)).expect("listed");
    assert_eq!(deadlines(&mut balancer), [at(240), at(360)]);
    assert_eq!(balancer.find(addr(0)), None);
}

/// One-packet scheduling: each datagram is picked for and released at once. Nothing stays counted, while the overload tests run.
fn one_packet(algorithm: Algorithm) {
    for upper in 0..3 {
        let mut balancer = Balancer::new(algorithm, 7);
        let one = |n| Backend::new(addr(n)).with_thresholds(0, upper);
        balancer.set_backends((0..3).map(one), at(0));
        let held = (upper == 2).then(|| balancer.pick(&flow(1, 1), at(0)).expect("usable"));
        for client in 0..300 {
            let flow = flow(client, client.to_le_bytes()[0]);
            let counts = |balancer: &Balancer| -> Vec<_> {
                let counts = |entry: &Entry| (entry.active(), entry.inactive(), entry.overloaded());
                balancer.iter().map(|(_, entry)| counts(entry)).collect()
            };
            let before = counts(&balancer);
            let conn = balancer.pick(&flow, at(0)).expect("usable");
            let id = conn.backend();
            let full = upper == 1 || held.as_ref().is_some_and(|held| held.backend() == id);
            assert_eq!(balancer.get(id).map(Entry::overloaded), Some(full), "{algorithm} {upper}");
            balancer.release(conn).expect("its own");
            // Three quarters of 2: the one held keeps nobody out.
            assert_eq!(counts(&balancer), before, "{algorithm} {upper}");
        }
        if upper > 0 {
            // Once all are full there is none, for whatever client.
            let conns: Vec<_> = (0..3000)
                .filter_map(|client| balancer.pick(&flow(client, client.to_le_bytes()[0]), at(0)))
                .collect();
            let room = usize::try_from(3 * upper).expect("few") - usize::from(held.is_some());
            assert_eq!(conns.len(), room, "{algorithm} {upper}");
            release(&mut balancer, conns);
            assert!(touch(&mut balancer, &flow(1, 1), at(0)).is_some(), "{algorithm} {upper}");
        }
    }
}

#[test]
fn one_packet_scheduling_counts_nothing() {
    for &algorithm in Algorithm::ALL {
        one_packet(algorithm);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(u16),
    Remove(u16),
    /// For so many microseconds, or until long ago.
    Suspend(u16, Option<u64>),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0_u16..4).prop_map(Op::Add),
        2 => (0_u16..4).prop_map(Op::Remove),
        3 => (0_u16..4, prop::option::of(0_u64..300)).prop_map(|(n, micros)| Op::Suspend(n, micros)),
        6 => (0_u64..200).prop_map(Op::Wait),
    ]
}

/// When its suspension ends and when it began to start slowly, by themselves.
#[derive(Clone, Copy, Default)]
struct Told {
    listed: bool,
    until: Option<u64>,
    began: Option<u64>,
}

proptest! {
    /// Suspensions and slow starts of several backends, against times noted down. Nothing is forgotten: that takes minutes.
    #[test]
    fn timers_agree_with_times_noted_down(
        ops in prop::collection::vec(op(), 1..60),
        window in prop_oneof![Just(0_u64), 1_u64..500],
    ) {
        let mut balancer = Balancer::new(Algorithm::RoundRobin, 7);
        balancer.set_slow_start(Duration::from_micros(window));
        let step = window * 1_000 / 15;
        let mut told = BTreeMap::<u16, Told>::new();
        let mut now = 1_000_000_000;
        for op in ops {
            match op {
                Op::Add(n) => {
                    balancer.add(addr(n).into(), Instant::from_nanos(now));
                    let told = told.entry(n).or_default();
                    if !told.listed {
                        told.listed = true;
                        told.began = Some(now).filter(|_| window > 0);
                    }
                }
                Op::Remove(n) => {
                    let id = balancer.find(addr(n));
                    let removed = id.is_some_and(|id| balancer.remove(id, Instant::from_nanos(now)).is_ok());
                    let listed = told.get_mut(&n).is_some_and(|told| std::mem::take(&mut told.listed));
                    prop_assert_eq!(removed, listed);
                }
                Op::Suspend(n, micros) => {
                    let until = micros.map_or(0, |micros| now + micros * 1_000);
                    let id = balancer.find(addr(n));
                    let known = id.is_some_and(|id| balancer.suspend(id, Instant::from_nanos(until)).is_ok());
                    prop_assert_eq!(known, told.contains_key(&n));
                    told.entry(n).and_modify(|told| told.until = Some(until));
                }
                Op::Wait(micros) => now += micros * 1_000,
            }
            balancer.expire(Instant::from_nanos(now));
            for (&n, told) in &mut told {
                if told.until.is_some_and(|until| until <= now) {
                    told.until = None;
                    told.began = Some(now).filter(|_| window > 0);
                }
                let grown = told.began.map_or(15, |began| (now - began) / step.max(1));
                let entry = balancer.get(balancer.find(addr(n)).expect("known")).expect("known");
                prop_assert_eq!(entry.suspended(), told.until.is_some());
                prop_assert_eq!(u64::from(entry.share()), grown.min(15) + 1);
                prop_assert_eq!(entry.usable(), told.until.is_none());
            }
            let live = told.values().filter(|told| told.until.is_some() || told.began.is_some()).count();
            prop_assert!(balancer.next_expiry().is_none_or(|next| next > Instant::from_nanos(now)));
            prop_assert!(live > 0 || told.is_empty() || balancer.next_expiry().is_none_or(|next| next >= at(121)));
        }
    }
}
