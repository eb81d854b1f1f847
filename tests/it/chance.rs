//! What is left to a seed: where picks begin, which of equals comes first, and the algorithms that draw lots.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use svcplane::backend::{Backend, BackendId};
use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::{Algorithm, Entry, Flags};
use svcplane::time::Instant;

use crate::change::{at, release, touch};
use crate::sched_model::{addr, flow};

const NOW: Instant = Instant::ZERO;
const HEAD: Flags = Flags { port: false, fallback: true, head: true };

fn hashing(algorithm: Algorithm) -> bool {
    matches!(algorithm.as_str(), "sh" | "dh" | "mh")
}

fn by_lot(algorithm: Algorithm) -> bool {
    matches!(algorithm.as_str(), "random" | "wrandom" | "p2c")
}

fn balancer(algorithm: Algorithm, weights: &[u32]) -> Balancer {
    let mut balancer = Balancer::new(algorithm, 7);
    for (n, &weight) in (0..).zip(weights) {
        balancer.add(Backend::new(addr(n)).with_weight(weight), NOW);
    }
    balancer
}

/// Begins anew with another seed: with another algorithm in between, as the same would go on.
fn reseed(balancer: &mut Balancer, algorithm: Algorithm, flags: Flags, seed: u64) {
    let other = Algorithm::ALL.iter().find(|&&other| other != algorithm).expect("there are others");
    balancer.set_algorithm(*other, flags, seed);
    balancer.set_algorithm(algorithm, flags, seed);
}

/// How often each of the backends 0 to `count` was picked.
fn counts(picks: impl Iterator<Item = Option<SocketAddr>>, count: u16) -> Vec<u32> {
    let mut counts = vec![0; usize::from(count)];
    for picked in picks {
        let picked = picked.expect("one is usable");
        let at = (0..count).position(|n| addr(n) == picked).expect("one of them");
        counts[at] += 1;
    }
    counts
}

/// Chi-square of the counts against their weights: no more than six standard deviations over its mean. What has no weight has no count.
fn fits(counts: &[u32], weights: &[u32], case: &str) {
    assert_eq!(counts.len(), weights.len());
    let sum = |of: &[u32]| of.iter().copied().map(f64::from).sum::<f64>();
    let (drawn, total) = (sum(counts), sum(weights));
    let (mut chi, mut freedom) = (0.0, -1.0);
    for (&count, &weight) in counts.iter().zip(weights) {
        if weight == 0 {
            assert_eq!(count, 0, "{case}: {counts:?} for {weights:?}");
            continue;
        }
        let expected = drawn * f64::from(weight) / total;
        assert!(expected >= 5.0, "{case}: too few were drawn to tell");
        chi += (f64::from(count) - expected).powi(2) / expected;
        freedom += 1.0;
    }
    let bound = freedom + 6.0 * (2.0_f64 * freedom).sqrt();
    assert!(chi <= bound, "{case}: {counts:?} for {weights:?}, {chi} > {bound}");
}

/// With many seeds each backend is the first of some balancers, none of many more than its part; so it is while all start slowly.
#[test]
fn seeds_spread_first_picks() {
    for &algorithm in Algorithm::ALL.iter().filter(|&&algorithm| !hashing(algorithm)) {
        for (count, seeds) in [(2, 1_000), (3, 1_000), (5, 1_000), (17, 1_000), (100, 5_000)] {
            for window in [Duration::ZERO, Duration::from_secs(60)] {
                let mut balancer = Balancer::new(algorithm, 0);
                balancer.set_slow_start(window);
                balancer.set_backends((0..count).map(|n| addr(n).into()), NOW);
                let first = (0..seeds).map(|seed| {
                    reseed(&mut balancer, algorithm, Flags::default(), seed);
                    touch(&mut balancer, &flow(1, 1), NOW)
                });
                let counts = counts(first, count);
                let part = f64::from(u32::try_from(seeds).unwrap()) / f64::from(count);
                let most = f64::from(*counts.iter().max().unwrap());
                assert!(
                    counts.iter().all(|&first| first > 0),
                    "{algorithm} {count} {window:?}: {counts:?}"
                );
                assert!(most <= 1.6 * part, "{algorithm} {count} {window:?}: {counts:?}");
            }
        }
    }
}

/// A hundred picks, every third of which is held for a while.
fn played(balancer: &mut Balancer) -> Vec<SocketAddr> {
    let mut held = Vec::new();
    let picks = (0..100_u32).map(|n| {
        let mut conn = balancer.pick(&flow(n, n.to_le_bytes()[0]), NOW).expect("usable");
        let addr = conn.addr();
        if n % 3 == 0 {
            balancer.activate(&mut conn).expect("its own");
            held.push(conn);
        } else {
            balancer.release(conn).expect("its own");
        }
        addr
    });
    let picks = picks.collect();
    release(balancer, held);
    picks
}

/// Picks follow from the seed and the calls before; a hashing algorithm's from none, and nobody's at the head but by lot.
#[test]
fn the_same_seed_is_the_same_picks() {
    let weights = [3, 1, 5, 5, 1, 5, 1, 5, 4];
    for &algorithm in Algorithm::ALL {
        for flags in [Flags::default(), HEAD] {
            let of = |seed: u64| {
                let new = || {
                    let mut new = Balancer::with_flags(algorithm, flags, seed);
                    let all = (0..).zip(weights).map(|(n, w)| Backend::new(addr(n)).with_weight(w));
                    new.set_backends(all, NOW);
                    played(&mut new)
                };
                assert_eq!(new(), new(), "{algorithm} {seed}");
                let mut again = balancer(algorithm, &weights);
                let [first, second] = [(); 2].map(|()| {
                    reseed(&mut again, algorithm, flags, seed);
                    played(&mut again)
                });
                assert_eq!(first, second, "{algorithm} {seed}");
                first
            };
            let all: BTreeSet<_> = [0, 1, 2, 3, 4, 5, 1 << 32, 1 << 63, u64::MAX].map(of).into();
            let fixed = hashing(algorithm) || flags.head && !by_lot(algorithm);
            assert!(if fixed { all.len() == 1 } else { all.len() > 3 }, "{algorithm} {flags:?}");
        }
    }
}

/// The kernel's start, whatever the seed: from head to tail. So it is for all algorithms that the kernel has and that do not hash.
#[test]
fn at_the_head_equals_come_in_list_order() {
    for &algorithm in Algorithm::ALL.iter().filter(|&&one| !hashing(one) && !by_lot(one)) {
        for seed in 0..50 {
            let mut balancer = Balancer::with_flags(algorithm, HEAD, seed);
            balancer.set_backends((0..40).map(|n| addr(n).into()), NOW);
            for n in (0..40).rev() {
                let mut conn = balancer.pick(&flow(1, 1), NOW).expect("usable");
                assert_eq!(conn.addr(), addr(n), "{algorithm} {seed}");
                balancer.activate(&mut conn).expect("its own");
            }
        }
    }
}

/// From any start, also after a change amid a cycle, as many picks as a cycle has are shared out exactly, and so is the next cycle.
#[test]
fn whole_cycles_are_exact_by_weight() {
    let rows: &[&[u32]] = &[
        &[1],
        &[1, 1, 1],
        &[4, 3, 2],
        &[6, 4, 2],
        &[1, 0, 7],
        &[30, 20, 10, 70],
        &[5, 1, 1, 1, 1, 1, 1],
    ];
    for weights in rows {
        let divisor =
            (1..=70).rev().find(|d| weights.iter().all(|weight| weight % d == 0)).unwrap();
        let parts: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
        let cycle = usize::try_from(parts.iter().sum::<u32>()).unwrap();
        let count = u16::try_from(weights.len()).unwrap();
        let mut starts = BTreeSet::new();
        for seed in 0..60 {
            let mut balancer = balancer(Algorithm::WeightedRoundRobin, weights);
            reseed(&mut balancer, Algorithm::WeightedRoundRobin, Flags::default(), seed);
            let picks = |balancer: &mut Balancer, times: usize| -> Vec<_> {
                (0..times).map(|_| touch(balancer, &flow(1, 1), NOW)).collect()
            };
            for _ in 0..3 {
                let all = picks(&mut balancer, cycle);
                starts.extend(all[0]);
                assert_eq!(counts(all.into_iter(), count), parts, "{weights:?} {seed}");
            }
            picks(&mut balancer, usize::try_from(seed).unwrap() % cycle);
            let id = balancer.find(addr(0)).expect("added");
            balancer.edit(id, |same| same).expect("listed");
            for _ in 0..3 {
                let all = picks(&mut balancer, cycle);
                assert_eq!(
                    counts(all.into_iter(), count),
                    parts,
                    "{weights:?} {seed}, after an edit"
                );
            }
        }
        let top = weights.iter().filter(|weight| *weight == weights.iter().max().unwrap());
        assert_eq!(
            starts.len(),
            top.count(),
            "{weights:?}: each of the greatest is first for some"
        );
    }
}

/// Those that are not usable, for whatever reason, are never drawn; the others as often as each other, or as their weights say, also when they
/// are usable again.
#[test]
fn who_is_not_usable_is_not_drawn() {
    for algorithm in [Algorithm::Random, Algorithm::WeightedRandom, Algorithm::PowerOfTwoChoices] {
        let weights: Vec<u32> = (0..16).map(|n| if n == 5 { 0 } else { n % 4 + 1 }).collect();
        let mut balancer = balancer(algorithm, &weights);
        let ids: Vec<BackendId> = (0..16).filter_map(|n| balancer.find(addr(n))).collect();
        // One connection is the most: that is held.
        balancer.edit(ids[2], |backend| backend.with_thresholds(1, 1)).expect("listed");
        let others: Vec<_> = ids.iter().copied().filter(|id| *id != ids[2]).collect();
        let held = balancer.pick_except(&flow(1, 1), &others, NOW).expect("the one left");
        balancer.suspend(ids[9], at(10)).expect("known");
        balancer.remove(ids[12], NOW).expect("listed");
        let draw = |balancer: &mut Balancer, tried: &[BackendId], now| {
            let picks = (0..20_000).map(|_| {
                let conn = balancer.pick_except(&flow(1, 1), tried, now)?;
                let addr = conn.addr();
                balancer.release(conn).expect("its own");
                Some(addr)
            });
            counts(picks, 16)
        };
        let expected = |out: &[usize]| -> Vec<u32> {
            let weight = |n: usize| {
                if algorithm == Algorithm::Random { weights[n].min(1) } else { weights[n] }
            };
            (0..16).map(|n| if out.contains(&n) { 0 } else { weight(n) }).collect()
        };
        let tried = [ids[0], ids[15], ids[0]];
        fits(
            &draw(&mut balancer, &tried, NOW),
            &expected(&[0, 2, 5, 9, 12, 15]),
            algorithm.as_str(),
        );
        fits(&draw(&mut balancer, &[], at(10)), &expected(&[2, 5, 12]), algorithm.as_str());
        balancer.release(held).expect("its own");
        balancer.add(Backend::new(addr(12)).with_weight(1), at(10));
        fits(&draw(&mut balancer, &[], at(10)), &expected(&[5]), algorithm.as_str());
    }
}

/// By weight, of one class and of very different ones; the heavier ones are left out one by one, as else none of the others would be seen.
#[test]
fn lots_are_drawn_by_weight() {
    let rows: &[&[u32]] = &[
        &[1, 2, 3, 7, 1_000, 0x7fff_ffff],
        &[0x7fff_ffff, 0x7fff_ffff, 0x7fff_fffe, 0x4000_0000, 0x3fff_ffff],
        &[4, 5, 6, 7],
        &[1, 1, 1],
        &[128, 255, 255, 128],
        &[1, 0, 0, 3],
        &[u32::MAX, 0x3fff_ffff],
    ];
    for algorithm in [Algorithm::WeightedRandom, Algorithm::PowerOfTwoChoices] {
        for weights in rows {
            let weights: Vec<u32> =
                weights.iter().map(|weight| (*weight).min(0x7fff_ffff)).collect();
            let mut balancer = balancer(algorithm, &weights);
            let mut left = weights.clone();
            while left.iter().any(|weight| *weight > 0) {
                let tried: Vec<BackendId> = (0..)
                    .zip(&left)
                    .filter(|(_, weight)| **weight == 0)
                    .filter_map(|(n, _)| balancer.find(addr(n)))
                    .collect();
                let picks = (0..10_000).map(|_| {
                    let conn = balancer.pick_except(&flow(1, 1), &tried, NOW)?;
                    let addr = conn.addr();
                    balancer.release(conn).expect("its own");
                    Some(addr)
                });
                let counts = counts(picks, u16::try_from(left.len()).unwrap());
                let (most, sum) =
                    (*left.iter().max().unwrap(), left.iter().copied().map(u64::from).sum::<u64>());
                let rare = |weight: u32| u64::from(weight) * 10_000 < 5 * sum;
                // Of those too rare to tell there are few.
                let rest = counts.iter().zip(&left).filter(|(_, weight)| rare(**weight));
                assert!(
                    rest.map(|(count, _)| count).sum::<u32>() <= 20,
                    "{algorithm} {left:?}: {counts:?}"
                );
                let kept = |of: &[u32]| -> Vec<u32> {
                    of.iter()
                        .zip(&left)
                        .filter(|(_, weight)| !rare(**weight))
                        .map(|(one, _)| *one)
                        .collect()
                };
                fits(&kept(&counts), &kept(&left), algorithm.as_str());
                left.iter_mut().filter(|weight| **weight == most).for_each(|weight| *weight = 0);
            }
        }
    }
}

/// Weights as they are set one after the other, 0 for a removal: what is drawn goes by the last.
#[test]
fn lots_heed_edits_and_removals() {
    let rows: &[&[&[u32]]] = &[
        // The greatest of a class leaves it: the others are not to suffer from that.
        &[&[4, 5, 6, 7], &[4, 5, 6, 0], &[4, 5, 0, 0], &[4, 5, 6, 7]],
        &[&[4, 4, 7], &[4, 4, 8], &[4, 4, 3], &[5, 4, 3]],
        &[&[1, 1, 1, 1], &[1, 0, 1, 1], &[0, 0, 1, 1], &[9, 0, 1, 1]],
        &[&[1_000, 1], &[1, 1], &[1, 3], &[0x7fff_ffff, 0x7fff_ffff], &[2, 6]],
        &[&[63, 32, 33], &[64, 32, 33], &[65, 64, 127], &[0, 64, 127], &[1, 64, 64]],
    ];
    for algorithm in [Algorithm::Random, Algorithm::WeightedRandom] {
        for steps in rows {
            for remove in [true, false] {
                let mut balancer = balancer(algorithm, steps[0]);
                // Many places that are vacant, so that the list is renumbered now and then.
                for n in 0..u16::from(remove) * 100 {
                    let id = balancer.add(addr(1_000 + n).into(), NOW);
                    balancer.remove(id, NOW).expect("listed");
                }
                for weights in &steps[..] {
                    for (n, &weight) in (0..).zip(*weights) {
                        let listed = balancer.find(addr(n)).filter(|&id| balancer.is_listed(id));
                        match listed {
                            Some(id) if weight == 0 && remove => {
                                balancer.remove(id, NOW).expect("listed");
                            }
                            Some(id) => {
                                balancer.edit(id, |b| b.with_weight(weight)).expect("listed");
                            }
                            None if weight == 0 => {}
                            None => {
                                balancer.add(Backend::new(addr(n)).with_weight(weight), NOW);
                            }
                        }
                    }
                    let picks = (0..12_000).map(|_| touch(&mut balancer, &flow(1, 1), NOW));
                    let found = counts(picks, u16::try_from(weights.len()).unwrap());
                    let weights: Vec<u32> = match algorithm {
                        Algorithm::Random => {
                            weights.iter().map(|weight| (*weight).min(1)).collect()
                        }
                        _ => weights.to_vec(),
                    };
                    // A thousandth of twelve thousand is enough to tell.
                    fits(&found, &weights, &format!("{algorithm} {remove}"));
                }
            }
        }
    }
}

/// Connections held by fifty backends, after many came and went at random: the greatest number less the least.
fn spread(algorithm: Algorithm) -> u32 {
    let mut balancer = balancer(algorithm, &[1; 50]);
    let mut conns: Vec<Conn> = Vec::new();
    let mut state = 12_345_u64;
    let (mut sum, mut looks) = (0, 0);
    for n in 0..20_000 {
        conns.extend(balancer.pick(&flow(1, 1), NOW));
        if conns.len() > 2_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).unwrap() % conns.len();
            balancer.release(conns.swap_remove(at)).expect("its own");
        }
        if n > 4_000 && n % 100 == 0 {
            let held = || balancer.iter().map(|(_, entry)| entry.inactive());
            sum += held().max().unwrap() - held().min().unwrap();
            looks += 1;
        }
    }
    sum / looks
}

/// Forty each: by lot they are some 28 apart (4.5 standard deviations of 6.3), by the better of two far less.
#[test]
fn the_better_of_two_is_nearly_even() {
    let (random, two) = (spread(Algorithm::Random), spread(Algorithm::PowerOfTwoChoices));
    assert!((20..=36).contains(&random), "{random}");
    assert!((1..=9).contains(&two), "{two}");
}

/// The two that are drawn differ, also where one outweighs all others by far: a loaded one is never picked beside an idle one, and who is
/// picked instead is drawn by weight. A lone one is picked all the same.
#[test]
fn two_different_ones_are_drawn() {
    for weights in [
        &[0x7fff_ffff, 1, 1][..],
        &[1_000_000, 1],
        &[1, 1],
        &[1, 2, 1],
        &[3, 1, 2, 5],
        &[7],
        &[7, 0],
    ] {
        let mut balancer = balancer(Algorithm::PowerOfTwoChoices, weights);
        let first = balancer.find(addr(0)).expect("added");
        let others: Vec<_> = balancer.iter().map(|(id, _)| id).filter(|id| *id != first).collect();
        let _held = balancer.pick_except(&flow(1, 1), &others, NOW).expect("the first");
        let picks = (0..3_000).map(|_| touch(&mut balancer, &flow(1, 1), NOW));
        let found = counts(picks, u16::try_from(weights.len()).unwrap());
        let mut expected = weights.to_vec();
        if weights[1..].iter().any(|weight| *weight > 0) {
            expected[0] = 0;
        }
        fits(&found, &expected, "p2c");
    }
    // Loads per weight are compared exactly: who has the most is never picked, the others are when drawn without anybody less loaded.
    for (held, least, most) in
        [([1, 1, 1], 2, 0), ([1, 3, 5], 0, 1), ([1, 1, 5], 1, 2), ([2, 3, 7], 1, 0)]
    {
        let weights = [1, 2, 4];
        let mut balancer = balancer(Algorithm::PowerOfTwoChoices, &weights);
        let ids: Vec<BackendId> = (0..3).filter_map(|n| balancer.find(addr(n))).collect();
        let mut conns = Vec::new();
        for (id, times) in ids.iter().zip(held) {
            let others: Vec<BackendId> = ids.iter().copied().filter(|other| other != id).collect();
            conns
                .extend((0..times).filter_map(|_| balancer.pick_except(&flow(1, 1), &others, NOW)));
        }
        let picks = (0..3_000).map(|_| touch(&mut balancer, &flow(1, 1), NOW));
        // Drawn at all, in 630ths: first, or second after one of the others.
        let drawn = |n: usize| -> u32 {
            let others = (0..3).filter(|&other| other != n).map(|other| weights[other]);
            let later = others.map(|weight| weight * weights[n] * 90 / (7 - weight));
            weights[n] * 90 + later.sum::<u32>()
        };
        let mut expected = [630 - drawn(least); 3];
        (expected[least], expected[most]) = (drawn(least), 0);
        fits(&counts(picks, 3), &expected, "p2c");
    }
}

proptest! {
    /// The least load per weight while weights go from all alike to one that differs and back, and the list from many to few, so
    /// that it is renumbered, and to many again. At the kernel's start, the first from the head of equals.
    #[test]
    fn the_least_is_found_however_weights_change(
        sizes in prop::collection::vec(1_u16..200, 1..6),
        steps in prop::collection::vec((any::<u16>(), 0_u32..9, prop::sample::select(&[1_u32, 1, 2, 3, 0x7fff_ffff][..])), 1..60),
        common in 1_u32..4,
        algorithm in prop::sample::select(&[
            Algorithm::WeightedLeastConnection, Algorithm::ShortestExpectedDelay, Algorithm::LeastConnection,
        ][..]),
        head in any::<bool>(),
    ) {
        let mut balancer = Balancer::with_flags(algorithm, Flags { head, ..Flags::default() }, 7);
        let mut conns: Vec<Conn> = Vec::new();
        for size in sizes {
            // Those that stay are put back to the common weight.
            balancer.set_backends((0..size).map(|n| Backend::new(addr(n)).with_weight(common)), at(0));
            for &(which, kind, weight) in &steps {
                let id = balancer.find(addr(which % size)).expect("listed");
                match kind {
                    0 => balancer.edit(id, |backend| backend.with_weight(weight)).expect("listed"),
                    1 => balancer.edit(id, |backend| backend.with_weight(common)).expect("listed"),
                    2 if which % 7 == 0 => balancer.edit(id, |b| b.with_weight(0)).expect("listed"),
                    3 | 4 if !conns.is_empty() => {
                        let conn = conns.swap_remove(usize::from(which) % conns.len());
                        balancer.release(conn).expect("its own");
                    }
                    _ => {}
                }
                let cost = |entry: &Entry| match algorithm {
                    Algorithm::ShortestExpectedDelay => (entry.active() + 1, entry.weight()),
                    Algorithm::LeastConnection => (entry.active() * 256 + entry.inactive(), 1),
                    _ => (entry.active() * 256 + entry.inactive(), entry.weight()),
                };
                let less = |a: (u32, u32), b: (u32, u32)| {
                    u64::from(a.0) * u64::from(b.1) < u64::from(b.0) * u64::from(a.1)
                };
                let usable = balancer.iter().filter(|(_, entry)| entry.usable());
                let least = usable.map(|(id, entry)| (id, cost(entry)));
                let least = least.reduce(|best, one| if less(one.1, best.1) { one } else { best });
                let Some(mut conn) = balancer.pick(&flow(1, 1), at(0)) else {
                    prop_assert!(least.is_none());
                    continue;
                };
                let (first, least) = least.expect("one was picked");
                prop_assert!(!head || conn.backend() == first);
                let entry = balancer.get(conn.backend()).expect("listed");
                // As it was before it was counted.
                let counted = cost(&Entry::clone(entry));
                let before = match algorithm {
                    Algorithm::ShortestExpectedDelay => counted,
                    _ => (counted.0 - 1, counted.1),
                };
                prop_assert!(!less(least, before), "{before:?} is picked, {least:?} is less");
                if which % 3 > 0 {
                    balancer.activate(&mut conn).expect("its own");
                }
                conns.push(conn);
            }
        }
    }
}
