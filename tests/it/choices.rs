//! The order in which `mh` prefers backends for a flow, and its table where there are more of them than slots.

use std::collections::BTreeSet;

use svcplane::backend::{Backend, BackendId, Flow};
use svcplane::balancer::Balancer;
use svcplane::sched::{Algorithm, Flags, MaglevHashing};
use svcplane::time::Instant;

use crate::change::{at, touch};
use crate::sched_model::{addr, flow};

const NOW: Instant = Instant::ZERO;

/// All that can be picked of a flow, by asking again and again without those that were.
fn exhausted(balancer: &mut Balancer<MaglevHashing>, flow: &Flow) -> Vec<BackendId> {
    let mut tried: Vec<BackendId> = Vec::new();
    while let Some(conn) = balancer.pick_except(flow, &tried, NOW) {
        tried.push(conn.backend());
        balancer.release(conn).expect("its own");
    }
    tried
}

/// The choices are what picks come to that leave out those tried, the first being the pick; each once, and usable. Without fallback the
/// pick is the first choice or none.
#[test]
fn choices_are_the_picks_to_come() {
    for (count, weight) in [(0_u16, 1_u32), (1, 1), (2, 3), (3, 0), (17, 1), (100, 60)] {
        for flags in [Flags::default(), Flags { port: true, ..Flags::default() }] {
            let mut balancer = Balancer::with_scheduler(MaglevHashing::new(flags));
            let mut strict =
                Balancer::with_scheduler(MaglevHashing::new(Flags { fallback: false, ..flags }));
            for balancer in [&mut balancer, &mut strict] {
                for n in 0..count {
                    let weight = u32::from(n) * weight % 61 + 1;
                    let backend = Backend::new(addr(n))
                        .with_weight(weight)
                        .with_thresholds(0, u32::from(n % 7 == 3));
                    let id = balancer.add(backend, NOW);
                    match n % 7 {
                        1 => balancer.edit(id, |backend| backend.with_weight(0)).expect("listed"),
                        2 => balancer.suspend(id, at(1)).expect("known"),
                        5 => balancer.remove(id, NOW).expect("listed"),
                        _ => {}
                    }
                }
                // Some of those of a threshold are full.
                for client in 0..20 {
                    let _held = balancer.pick(&flow(1_000 + client, 1), NOW);
                }
            }
            for client in 0..60 {
                let case = format!("{count} {weight} {flags:?} {client}");
                let flow = flow(client, 1);
                let counted = |balancer: &Balancer<MaglevHashing>| -> u32 {
                    balancer.iter().map(|(_, entry)| entry.inactive()).sum()
                };
                let before = counted(&balancer);
                let choices: Vec<_> =
                    balancer.choices(&flow).map(|(id, entry)| (id, entry.usable())).collect();
                assert!(choices.iter().all(|(_, usable)| *usable), "{case}");
                assert_eq!(counted(&balancer), before, "{case}: nothing is counted");
                let choices: Vec<BackendId> = choices.into_iter().map(|(id, _)| id).collect();
                let distinct: BTreeSet<_> = choices.iter().collect();
                assert_eq!(distinct.len(), choices.len(), "{case}: each once");
                assert_eq!(exhausted(&mut balancer, &flow), choices, "{case}");
                let usable = balancer.iter().filter(|(_, entry)| entry.usable()).count();
                assert!(
                    count >= 100 || choices.len() == usable,
                    "{case}: so few have slots enough"
                );

                let first = strict.choices(&flow).next().map(|(id, _)| id);
                let picked = exhausted(&mut strict, &flow);
                assert!(picked.is_empty() || picked.as_slice() == first.as_slice(), "{case}");
            }
        }
    }
}

/// A change is heeded by the choices that follow it at once.
#[test]
fn choices_follow_changes() {
    let mut balancer = Balancer::with_scheduler(MaglevHashing::new(Flags::default()));
    balancer.set_backends((0..5).map(|n| addr(n).into()), NOW);
    let flow = flow(3, 3);
    let ids = |balancer: &mut Balancer<MaglevHashing>| -> Vec<BackendId> {
        balancer.choices(&flow).map(|(id, _)| id).collect()
    };
    let all = ids(&mut balancer);
    assert_eq!(all.len(), 5);
    balancer.suspend(all[0], at(1)).expect("known");
    assert_eq!(ids(&mut balancer), all[1..], "the others keep their order");
    balancer.edit(all[2], |backend| backend.with_weight(0)).expect("listed");
    assert_eq!(ids(&mut balancer), [all[1], all[3], all[4]]);
    balancer.remove(all[4], NOW).expect("listed");
    assert_eq!(ids(&mut balancer).len(), 2);
}

/// More backends than slots: those behind have none, but what divides all weights is found among them as well, whenever that was set.
#[test]
fn weights_count_without_slots() {
    let mut kept = Balancer::new(Algorithm::MaglevHashing, 7);
    let last = kept.add(Backend::new(addr(0)).with_weight(2), NOW);
    assert!(touch(&mut kept, &flow(1, 1), NOW).is_some());
    for n in 1..4_200 {
        kept.add(Backend::new(addr(n)).with_weight(2), NOW);
    }
    for weight in [3, 2] {
        kept.edit(last, |backend| backend.with_weight(weight)).expect("listed");
        let mut new = Balancer::new(Algorithm::MaglevHashing, 7);
        let all: Vec<Backend> = kept.iter().map(|(_, entry)| entry.backend()).collect();
        new.set_backends(all.into_iter().rev(), NOW);
        for client in 0..200 {
            let flow = flow(client, 1);
            assert_eq!(touch(&mut kept, &flow, NOW), touch(&mut new, &flow, NOW), "{weight}");
        }
    }
}
