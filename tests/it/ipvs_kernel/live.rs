//! The kernel and the balancer, given the same connections and the same changes, one by one: each pick and all counts are the same.
//!
//! What happens is drawn from a seed, and as long as nothing ends by a timer there is only one way it can go. The shortest timer that runs is
//! that of connections which were reset: 10 s. A run that takes longer is cut off there.

mod run;
mod wire;

use svcplane::sched::Algorithm;

use super::ready;
use run::{Kind, Outcome, Setup, run};

/// Operations of a run.
const OPERATIONS: usize = 300;

fn replayed(kind: Kind) {
    let mut total = Outcome::default();
    for &algorithm in Algorithm::ALL {
        if svcplane::ipvs::SchedulerName::try_from(algorithm).is_err() {
            continue;
        }
        for seed in 0..kind.seeds() {
            let test = format!("{}-{algorithm}-{seed}", kind.name());
            let Some((netns, mut ipvs)) = ready(&test) else { return };
            wire::lay(&netns);
            if kind == Kind::Mark {
                wire::mark(&netns);
            }
            let setup = Setup { algorithm, kind, seed };
            let outcome = netns.run(|| run(&setup, &mut ipvs, OPERATIONS));
            for mismatch in &outcome.mismatches {
                println!("{test}: {mismatch}");
            }
            assert!(outcome.picks >= 50, "{test}: cut off after {} picks", outcome.picks);
            total.add(outcome);
        }
    }
    let Outcome { picks, refused, states, mismatches } = total;
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
