//! Slow starts: exact shares at exact times, and what each algorithm makes of them.

use std::time::Duration;

use svcplane::backend::Backend;
use svcplane::balancer::Balancer;
use svcplane::sched::Algorithm;
use svcplane::time::Instant;

use crate::change::{at, balancer, deadlines, share, suspended, touch};
use crate::sched_model::{addr, flow};

const SEC: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);
/// A step each second.
const WINDOW: Duration = Duration::from_secs(15);

/// The share so many nanoseconds after the start, by the one late call or by a call at each deadline; with it the next deadline.
#[test]
fn shares_grow_in_even_steps() {
    let start = at(100);
    let odd = Duration::from_nanos(10_000_000_007);
    for window in [WINDOW, odd, 15 * NANO, 16 * NANO, 29 * NANO, Duration::from_secs(86_400)] {
        let step = u64::try_from((window / 15).as_nanos()).expect("not so long");
        for (late, steps, nanos) in [true, false].into_iter().flat_map(|late| {
            (0..20).flat_map(move |steps| [0, step / 2, step - 1].map(|nanos| (late, steps, nanos)))
        }) {
            let case = format!("{window:?}, {steps} steps and {nanos} ns, {late}");
            let mut balancer = Balancer::new(Algorithm::RoundRobin, 7);
            balancer.set_slow_start(window);
            let id = balancer.add(addr(5).into(), start);
            assert_eq!(share(&balancer, id), 1, "{case}");
            let after = |steps| Instant::from_nanos(start.as_nanos() + steps * step);
            let now = after(steps) + Duration::from_nanos(nanos);
            while let Some(next) = balancer.next_expiry().filter(|next| !late && *next <= now) {
                balancer.expire(next);
            }
            balancer.expire(now);
            let expected = u8::try_from(steps + 1).expect("few").min(16);
            assert_eq!(share(&balancer, id), expected, "{case}");
            let next = Some(after(steps + 1)).filter(|_| expected < 16);
            assert_eq!(balancer.next_expiry(), next, "{case}");
            balancer.expire(start);
            assert_eq!(share(&balancer, id), expected, "{case}: time does not go back");
        }
    }
}

/// No window is no slow start, one too short for steps is over with the next call, and the longest never ends.
#[test]
fn windows_at_the_extremes() {
    let rows = [
        (Duration::ZERO, at(5), 16, 16),
        (NANO, at(5), 1, 16),
        (14 * NANO, at(5), 1, 16),
        (Duration::MAX, at(5), 1, 1),
        (Duration::from_nanos(u64::MAX), at(5), 1, 1),
        // Whatever is done then is late.
        (NANO, Instant::MAX, 1, 16),
        (SEC, Instant::MAX, 1, 16),
    ];
    for (window, start, first, then) in rows {
        let mut balancer = Balancer::new(Algorithm::LeastConnection, 7);
        balancer.set_slow_start(window);
        let id = balancer.add(addr(0).into(), start);
        assert_eq!(share(&balancer, id), first, "{window:?}");
        assert_eq!(balancer.next_expiry().is_some(), first < 16, "{window:?}");
        // At the end of time each call does one step: no deadline is later.
        for _ in 0..16 {
            balancer.expire(start + SEC);
            assert!(touch(&mut balancer, &flow(1, 1), start + SEC).is_some(), "{window:?}");
        }
        assert_eq!(share(&balancer, id), then, "{window:?}");
        assert_eq!(balancer.next_expiry().is_some(), then < 16, "{window:?}");
        for _ in 0..16 {
            balancer.suspend(id, Instant::MAX).expect("known");
            balancer.expire(Instant::MAX);
        }
        assert!(!suspended(&balancer, id), "{window:?}: ends at the end of time");
    }
}

/// A share begins anew with every return: from the trash, and from a suspension, however late its end is seen.
#[test]
fn who_comes_back_starts_slowly_again() {
    let (mut balancer, ids) = balancer(Algorithm::RoundRobin, 2);
    let id = ids[0];
    balancer.set_slow_start(WINDOW);
    assert_eq!(share(&balancer, id), 16, "who was there is not slowed");
    balancer.add(addr(0).into(), at(1));
    balancer.edit(id, |backend| backend.with_weight(3)).expect("listed");
    assert_eq!((share(&balancer, id), balancer.next_expiry()), (16, None), "an edit is no return");

    balancer.remove(id, at(1)).expect("listed");
    balancer.add(addr(0).into(), at(2));
    balancer.expire(at(6));
    assert_eq!(share(&balancer, id), 5);
    balancer.remove(id, at(6)).expect("listed");
    balancer.add(addr(0).into(), at(7));
    assert_eq!((share(&balancer, id), balancer.next_expiry()), (1, Some(at(8))));
    balancer.expire(at(9));
    assert_eq!((share(&balancer, id), balancer.next_expiry()), (3, Some(at(10))));

    balancer.suspend(id, at(40)).expect("known");
    balancer.expire(at(39));
    assert_eq!(share(&balancer, id), 16);
    balancer.expire(at(50));
    assert_eq!((share(&balancer, id), suspended(&balancer, id)), (1, false));
    assert_eq!(balancer.next_expiry(), Some(at(51)));
    // A ramp in a ramp.
    balancer.expire(at(60));
    balancer.suspend(id, at(61)).expect("known");
    balancer.expire(at(61));
    assert_eq!((share(&balancer, id), balancer.next_expiry()), (1, Some(at(62))));
    // The look at the trash of the first removal is due at 121.
    let rest = deadlines(&mut balancer);
    assert_eq!(rest, (62..=76).chain([121]).map(at).collect::<Vec<_>>());

    // Without a window it is whole at once, also when it left half-way.
    balancer.remove(id, at(200)).expect("listed");
    balancer.add(addr(0).into(), at(200));
    assert_eq!(share(&balancer, id), 1);
    balancer.set_slow_start(Duration::ZERO);
    balancer.remove(id, at(200)).expect("listed");
    balancer.add(addr(0).into(), at(200));
    assert_eq!((share(&balancer, id), balancer.next_expiry()), (16, Some(at(320))));
}

/// One backend beside three: by weight, at each step of the window. Each time it gets its share's part of its part, within five standard
/// deviations of what is drawn.
#[test]
fn a_slow_start_by_turns_or_by_lot() {
    use Algorithm::{Random, RoundRobin, WeightedRandom, WeightedRoundRobin};
    for (algorithm, weights, own) in [
        (RoundRobin, [1, 1, 1], 1),
        (RoundRobin, [5, 1, 9], 3),
        (WeightedRoundRobin, [1, 1, 1], 1),
        (WeightedRoundRobin, [2, 4, 1], 3),
        (Random, [5, 1, 9], 3),
        (WeightedRandom, [2, 4, 1], 3),
        (WeightedRandom, [1, 1, 1], 1),
    ] {
        let mut balancer = Balancer::new(algorithm, 7);
        for (n, weight) in (0..).zip(weights) {
            balancer.add(Backend::new(addr(n)).with_weight(weight), at(0));
        }
        balancer.set_slow_start(WINDOW);
        let new = balancer.add(Backend::new(addr(9)).with_weight(own), at(0));
        let weighted = algorithm.as_str().starts_with('w');
        let (others, own) = if weighted { (weights.iter().sum(), own) } else { (3, 1) };
        for step in 0..=15 {
            const PICKS: u32 = 3_000;
            let picks = (0..PICKS).filter_map(|_| touch(&mut balancer, &flow(1, 1), at(step)));
            let got = picks.filter(|picked| *picked == addr(9)).count();
            let part = f64::from(share(&balancer, new)) / 16.0;
            assert!((part * 16.0 - 1.0 - f64::from(u32::try_from(step).unwrap())).abs() < 0.01);
            let part = part * f64::from(own);
            let p = part / (part + f64::from(others));
            let (mean, variance) = (f64::from(PICKS) * p, f64::from(PICKS) * p * (1.0 - p));
            let off = (f64::from(u32::try_from(got).unwrap()) - mean).abs();
            assert!(
                off <= 5.0 * variance.sqrt(),
                "{algorithm} {weights:?} {step}: {got}, not {mean}"
            );
        }
    }
}

/// One that is established beside thirty new ones: it gets its sixteen parts of forty-six, though most lots fall on the others.
#[test]
fn one_beside_many_that_start_slowly() {
    use Algorithm::{Random, WeightedRandom};
    for algorithm in [Random, WeightedRandom] {
        let (mut balancer, _) = balancer(algorithm, 1);
        balancer.set_slow_start(WINDOW);
        for n in 1..=30 {
            balancer.add(addr(n).into(), at(0));
        }
        let picks = (0..4_600).filter_map(|_| touch(&mut balancer, &flow(1, 1), at(0)));
        let got = picks.filter(|picked| *picked == addr(0)).count();
        // Five standard deviations of 32.
        assert!((1_440..=1_760).contains(&got), "{algorithm}: {got}");
    }
}

/// A new backend beside three of 160 active connections takes ten for each sixteenth of its share, per weight, before any other gets one. So
/// do those that count inactive ones.
#[test]
fn a_slow_start_by_connections() {
    use Algorithm::{LeastConnection as Lc, ShortestExpectedDelay as Sed};
    use Algorithm::{NeverQueue as Nq, WeightedLeastConnection as Wlc};
    for (algorithm, weight, active) in
        [(Lc, 1, true), (Lc, 7, true), (Lc, 1, false), (Wlc, 1, true), (Wlc, 2, true)]
            .into_iter()
            .chain([(Wlc, 1, false), (Sed, 1, true), (Sed, 3, true), (Nq, 1, true), (Nq, 2, true)])
    {
        for step in 0..=15_u32 {
            let case = format!("{algorithm} {weight} {active} {step}");
            let (mut balancer, _) = balancer(algorithm, 3);
            let hold = |balancer: &mut Balancer| {
                let mut conn = balancer.pick(&flow(1, 1), at(step.into())).expect("usable");
                if active {
                    balancer.activate(&mut conn).expect("its own");
                }
                conn.backend()
            };
            (0..480).for_each(|_| {
                hold(&mut balancer);
            });
            balancer.set_slow_start(WINDOW);
            let new = balancer.add(Backend::new(addr(9)).with_weight(weight), at(0));
            let taken = (0..1_000).take_while(|_| hold(&mut balancer) == new).count();
            let counted = if algorithm == Lc { 1 } else { weight };
            let room = usize::try_from(10 * (step + 1) * counted).expect("few");
            // Level, the seed says which is first. sed counts the one to come, of the others as well.
            let most = room + usize::try_from(counted).expect("few");
            assert!((room - 1..=most).contains(&taken), "{case}: {taken}");
        }
    }
}

/// A share that grows is heeded at once, with no other change: each step makes room for ten more.
#[test]
fn each_step_makes_room() {
    use Algorithm::{LeastConnection, ShortestExpectedDelay, WeightedLeastConnection};
    for algorithm in [LeastConnection, WeightedLeastConnection, ShortestExpectedDelay] {
        let (mut balancer, _) = balancer(algorithm, 3);
        let hold = |balancer: &mut Balancer, secs| {
            let mut conn = balancer.pick(&flow(1, 1), at(secs)).expect("usable");
            balancer.activate(&mut conn).expect("its own");
            conn.backend()
        };
        for _ in 0..480 {
            hold(&mut balancer, 0);
        }
        balancer.set_slow_start(WINDOW);
        let new = balancer.add(addr(9).into(), at(0));
        for secs in 0..=15 {
            let taken = (0..1_000).take_while(|_| hold(&mut balancer, secs) == new).count();
            // The others have grown by up to a connection for each step before.
            assert!((8..=13).contains(&taken), "{algorithm} at {secs}: {taken}");
        }
    }
}

/// In the long run `p2c` keeps the loads per share level.
#[test]
fn a_slow_start_of_two_choices() {
    for step in [0, 1, 3, 7, 11, 15] {
        let (mut balancer, _) = balancer(Algorithm::PowerOfTwoChoices, 4);
        let hold = |balancer: &mut Balancer| {
            let mut conn = balancer.pick(&flow(1, 1), at(step)).expect("usable");
            balancer.activate(&mut conn).expect("its own");
        };
        (0..640).for_each(|_| hold(&mut balancer));
        balancer.set_slow_start(WINDOW);
        let new = balancer.add(addr(9).into(), at(0));
        (0..2_000).for_each(|_| hold(&mut balancer));
        let part = f64::from(u32::try_from(step + 1).unwrap()) / 16.0;
        let level = 2_640.0 / (4.0 + part);
        for (id, entry) in balancer.iter() {
            let expected = if id == new { level * part } else { level };
            let off = (f64::from(entry.active()) - expected).abs();
            assert!(off <= 4.0, "{step}: {} is not {expected}", entry.active());
        }
    }
}

/// Clients of a hashing algorithm go where they went without it, and `nq` takes an idle one whatever its share.
#[test]
fn who_does_not_heed_a_slow_start() {
    use Algorithm::{DestinationHashing, MaglevHashing, NeverQueue, SourceHashing};
    for algorithm in [SourceHashing, DestinationHashing, MaglevHashing] {
        let (mut slow, mut whole) = (Balancer::new(algorithm, 7), Balancer::new(algorithm, 7));
        slow.set_slow_start(SEC);
        for n in 0..9 {
            slow.add(addr(n).into(), at(0));
            whole.add(addr(n).into(), at(0));
        }
        for client in 0..500 {
            let flow = flow(client, client.to_le_bytes()[0]);
            let picks = [&mut slow, &mut whole].map(|balancer| touch(balancer, &flow, at(0)));
            assert_eq!(picks[0], picks[1], "{algorithm} {client}");
        }
    }
    let (mut balancer, _) = balancer(NeverQueue, 3);
    for expected in [false, false, false, true] {
        if expected {
            balancer.set_slow_start(SEC);
            balancer.add(addr(9).into(), at(0));
        }
        let mut conn = balancer.pick(&flow(1, 1), at(0)).expect("usable");
        assert_eq!(conn.addr() == addr(9), expected);
        balancer.activate(&mut conn).expect("its own");
    }
}
