//! The kernel and the balancer, given the same connections and the same changes, one by one: each pick and all counts are the same.
//!
//! What happens is drawn from a seed, and as long as nothing ends by a timer there is only one way it can go. The shortest timer that runs is
//! that of connections which were reset: 10 s. What a slow machine has not done by then, it does from a new start.

mod run;
mod wire;

use svcplane::sched::Algorithm;

use super::ready;
use run::{Kind, Outcome, Setup, run};

/// Operations with a seed.
const OPERATIONS: usize = 300;
/// Starts with a seed: enough for a machine that does five operations in the time of each.
const STARTS: u64 = 60;

fn replayed(kind: Kind) {
    let mut total = Outcome::default();
    for &algorithm in Algorithm::ALL {
        if svcplane::ipvs::SchedulerName::try_from(algorithm).is_err() {
            continue;
        }
        for seed in 0..kind.seeds() {
            let test = format!("{}-{algorithm}-{seed}", kind.name());
            let mut outcome = Outcome::default();
            for start in 0..STARTS {
                let Some((netns, mut ipvs)) = ready(&test) else { return };
                wire::lay(&netns);
                if kind == Kind::Mark {
                    wire::mark(&netns);
                }
                let setup = Setup { algorithm, kind, seed: seed + 1000 * start };
                let left = OPERATIONS - outcome.operations;
                outcome.add(netns.run(|| run(&setup, &mut ipvs, left)));
                if outcome.operations == OPERATIONS || !outcome.mismatches.is_empty() {
                    break;
                }
            }
            for mismatch in &outcome.mismatches {
                println!("{test}: {mismatch}");
            }
            let Outcome { operations, picks, .. } = outcome;
            assert!(
                operations == OPERATIONS && picks >= 50 || !outcome.mismatches.is_empty(),
                "{test}: {operations} operations with {picks} picks in {STARTS} starts"
            );
            total.add(outcome);
        }
    }
    let Outcome { picks, refused, states, mismatches, .. } = total;
    println!(
        "{}: picks compared {picks} ({refused} of them none), states compared {states}, mismatches {}",
        kind.name(),
        mismatches.len()
    );
    assert_eq!(mismatches.len(), 0);
}

#[test]
fn tcp() {
    replayed(Kind::Tcp);
}

#[test]
fn tcp_over_ipv6() {
    replayed(Kind::TcpV6);
}

#[test]
fn udp() {
    replayed(Kind::Udp);
}

#[test]
fn datagrams_each_by_itself() {
    replayed(Kind::OnePacket);
}

#[test]
fn marked_packets_to_many_addresses() {
    replayed(Kind::Mark);
}

#[test]
fn clients_that_come_back() {
    replayed(Kind::Persistent);
}
