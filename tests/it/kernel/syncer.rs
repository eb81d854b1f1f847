//! What the syncer says when. No kernel, no clock.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use svcplane::kernel::{Pacing, Script, Step, Syncer};
use svcplane::net::Protocol;
use svcplane::nftables::{ClientAffinity, Config};
use svcplane::plan::{LocalNode, Mode, Plan};
use svcplane::service::Service;
use svcplane::time::Instant;

use super::lab::{CLUSTER_IP, at, pod, service};

fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

fn plan(services: &[(Service, u8)]) -> Plan {
    let node = LocalNode::new("test-node".parse().expect("a name"));
    let sets = services.iter().map(|(service, count)| at(service, (1..=*count).map(pod)));
    let sets: Vec<_> = sets.collect();
    Plan::new(&node, Mode::Nftables, services.iter().map(|(service, _)| service).zip(&sets))
}

fn of(count: u8) -> Plan {
    plan(&[(service("web", &[CLUSTER_IP], &[Protocol::Tcp]), count)])
}

fn of_udp(count: u8) -> Plan {
    plan(&[(service("dns", &[CLUSTER_IP], &[Protocol::Udp]), count)])
}

fn listed() -> Syncer {
    let mut syncer = Syncer::new(Config::default(), Pacing::default());
    syncer.services_listed();
    syncer.slices_listed();
    syncer
}

/// One that has loaded a plan at a time, flows included.
fn loaded(plan: Plan, now: Instant) -> Syncer {
    let mut syncer = listed();
    syncer.desire(plan);
    assert_eq!(word(&syncer.step(now)), "full");
    syncer.done(now);
    assert_eq!(word(&syncer.step(now)), "flows");
    syncer.done(now);
    syncer
}

fn word(step: &Step) -> String {
    match step {
        Step::Wait(None) => "wait".to_owned(),
        Step::Wait(Some(at)) => format!("wait until {}", at.as_nanos() / 1_000_000),
        Step::Full { .. } => "full".to_owned(),
        Step::Delta { .. } => "delta".to_owned(),
        Step::Sweep { .. } => "sweep".to_owned(),
        Step::Flows(_) => "flows".to_owned(),
        other => panic!("{other:?}"),
    }
}

/// The next step, which is done at once.
fn next(syncer: &mut Syncer, now: Instant) -> String {
    let word = word(&syncer.step(now));
    syncer.done(now);
    word
}

#[test]
fn nothing_is_written_before_all_is_listed() {
    let mut syncer = Syncer::new(Config::default(), Pacing::default());
    syncer.desire(of(1));
    assert_eq!(next(&mut syncer, secs(1)), "wait");
    syncer.slices_listed();
    assert_eq!(next(&mut syncer, secs(1)), "wait");
    syncer.services_listed();
    assert!(syncer.loaded().is_none());
    assert_eq!(next(&mut syncer, secs(1)), "full");
    assert!(syncer.loaded().is_some_and(|plan| **plan == of(1)));

    let mut undesired = listed();
    assert_eq!(next(&mut undesired, secs(1)), "wait");
}

#[test]
fn scripts_are_paced_and_what_changes_meanwhile_goes_into_one() {
    let mut syncer = loaded(of(1), secs(100));
    syncer.desire(of(2));
    assert_eq!(next(&mut syncer, secs(100)), "delta", "the second of two");
    syncer.desire(of(3));
    assert_eq!(next(&mut syncer, secs(100)), "wait until 101000");
    syncer.desire(of(4));
    let Step::Delta { script: Script::Nftables(script), services } = syncer.step(secs(101)) else {
        panic!("a delta")
    };
    assert_eq!(services, 1);
    assert!(
        script.contains("add map ip svcplane slots-tcp-4") && !script.contains("slots-tcp-3"),
        "{script}"
    );
    syncer.done(secs(101));
    syncer.desire(of(4));
    assert_eq!(next(&mut syncer, secs(101)), "sweep", "nothing else has changed");
    // A quiet time allows for two again, not more.
    for (count, expected) in [(1, "delta"), (2, "delta"), (3, "wait until 201000")] {
        syncer.desire(of(count));
        let mut step = next(&mut syncer, secs(200));
        while step == "sweep" {
            step = next(&mut syncer, secs(200));
        }
        assert_eq!(step, expected, "{count}");
    }
}

#[test]
fn what_ends_where_it_began_is_no_change() {
    let mut syncer = loaded(of(1), secs(100));
    syncer.desire(of(2));
    syncer.desire(of(1));
    assert_eq!(next(&mut syncer, secs(100)), "wait until 3700000");
}

#[test]
fn a_failure_is_followed_by_a_full_script() {
    let mut syncer = loaded(of(1), secs(100));
    syncer.desire(of(2));
    assert_eq!(word(&syncer.step(secs(110))), "delta");
    syncer.failed(secs(111));
    assert!(syncer.loaded().is_none());
    assert_eq!(next(&mut syncer, secs(111)), "wait until 141000");
    syncer.desire(of(2));
    assert_eq!(next(&mut syncer, secs(112)), "wait until 141000", "nothing else is desired");
    assert_eq!(word(&syncer.step(secs(141))), "full");
    // Not to say how it went is to say that it failed.
    assert_eq!(word(&syncer.step(secs(142))), "wait until 172000");
    syncer.desire(of(3));
    assert_eq!(next(&mut syncer, secs(143)), "full", "what is new is attempted at once");
    assert_eq!(next(&mut syncer, secs(143)), "flows");
    assert_eq!(next(&mut syncer, secs(143)), "wait until 3743000");
}

#[test]
fn leftovers_are_swept_after_a_second_unless_they_are_in_use_again() {
    let mut syncer = loaded(of(1), secs(100));
    syncer.desire(of(2));
    assert_eq!(next(&mut syncer, secs(110)), "delta");
    assert_eq!(next(&mut syncer, secs(110)), "wait until 111000");
    let Step::Sweep { script: Script::Nftables(script) } = syncer.step(secs(111)) else {
        panic!("a sweep")
    };
    assert!(script.contains("delete map ip svcplane slots-tcp-1"), "{script}");
    syncer.failed(secs(111));
    assert_eq!(next(&mut syncer, secs(111)), "wait until 141000", "who knows what is there");
    assert_eq!(next(&mut syncer, secs(141)), "full");
    assert_eq!(next(&mut syncer, secs(141)), "flows");

    for count in [3, 2] {
        syncer.desire(of(count));
        assert_eq!(next(&mut syncer, secs(150)), "delta");
    }
    let Step::Sweep { script: Script::Nftables(script) } = syncer.step(secs(151)) else {
        panic!("a sweep")
    };
    assert!(script.contains("slots-tcp-3") && !script.contains("slots-tcp-2"), "{script}");
}

#[test]
fn flows_are_looked_at_after_a_udp_port_has_changed() {
    let mut syncer = loaded(of(1), secs(100));
    syncer.desire(of(2));
    assert_eq!(next(&mut syncer, secs(110)), "delta");
    assert_eq!(next(&mut syncer, secs(111)), "sweep", "TCP only");

    let mut syncer = loaded(of_udp(1), secs(100));
    for (count, now) in [(2, 110), (0, 120)] {
        syncer.desire(of_udp(count));
        assert_eq!(next(&mut syncer, secs(now)), "delta");
        let Step::Flows(plan) = syncer.step(secs(now)) else { panic!("flows") };
        assert_eq!(*plan, of_udp(count));
        syncer.done(secs(now));
        assert_eq!(next(&mut syncer, secs(now + 1)), "sweep");
    }
    syncer.desire(plan(&[]));
    assert_eq!(next(&mut syncer, secs(130)), "delta");
    assert_eq!(word(&syncer.step(secs(130))), "flows");
    syncer.failed(secs(130));
    assert!(syncer.loaded().is_some(), "the rules are as they were");
    assert_eq!(next(&mut syncer, secs(131)), "wait until 160000");
    assert_eq!(next(&mut syncer, secs(160)), "flows");
}

#[test]
fn once_an_hour_all_is_written_anew_unless_that_cost_clients_their_endpoints() {
    let mut syncer = loaded(of(1), secs(100));
    assert_eq!(next(&mut syncer, secs(3_699)), "wait until 3700000");
    assert_eq!(next(&mut syncer, secs(3_700)), "full");

    let mut never = Pacing::default();
    never.full_every = None;
    let mut sticky = service("web", &[CLUSTER_IP], &[Protocol::Tcp]);
    sticky.client_ip_affinity = Some(Duration::from_secs(10_800));
    let mut hashed = Config::default();
    hashed.affinity = ClientAffinity::Hashed;
    let (config, hourly) = (Config::default(), Pacing::default());
    for (config, pacing, plan, expected) in [
        (config.clone(), never, of(1), "wait"),
        (config, hourly.clone(), plan(&[(sticky.clone(), 2)]), "wait"),
        (hashed, hourly, plan(&[(sticky, 2)]), "wait until 3700000"),
    ] {
        let mut syncer = Syncer::new(config, pacing);
        syncer.services_listed();
        syncer.slices_listed();
        syncer.desire(plan);
        assert_eq!(next(&mut syncer, secs(100)), "full");
        assert_eq!(next(&mut syncer, secs(100)), "flows");
        assert_eq!(next(&mut syncer, secs(100)), expected);
    }
}

#[test]
fn another_node_is_a_full_script() {
    let mut syncer = loaded(of(1), secs(100));
    let mut node = LocalNode::new("test-node".parse().expect("a name"));
    node.masquerade_all = true;
    syncer.desire(Plan::empty(node, Mode::Nftables));
    assert_eq!(next(&mut syncer, secs(110)), "full");
}

fn two(web: u8, dns: u8) -> Plan {
    let web = (service("web", &[CLUSTER_IP], &[Protocol::Tcp]), web);
    let dns = (service("dns", &["10.96.0.11"], &[Protocol::Udp]), dns);
    let served: Vec<_> = [web, dns].into_iter().filter(|(_, count)| *count < 5).collect();
    plan(&served)
}

proptest! {
    /// Told of changes it says what it says when it is told of plans, whatever fails and is said in between.
    #[test]
    fn changes_lead_where_plans_lead(
        actions in vec((0_u8..6, 0_u8..6, 0_u8..6, 0_u64..1_500), 1..30),
    ) {
        let (mut by_plans, mut by_changes) = (listed(), listed());
        let mut now = secs(100);
        let mut present = two(1, 1);
        for syncer in [&mut by_plans, &mut by_changes] {
            syncer.desire(present.clone());
        }
        for (action, web, dns, wait) in actions {
            now += Duration::from_millis(wait);
            let steps = [&mut by_plans, &mut by_changes].map(|syncer| match action {
                0..=2 => {
                    let step = syncer.step(now);
                    match action {
                        0 => syncer.failed(now),
                        1 => syncer.done(now),
                        // What was not answered counts as failed.
                        _ => {}
                    }
                    Some(step)
                }
                _ => None,
            });
            match &steps {
                [Some(Step::Full(a)), Some(Step::Full(b))]
                | [Some(Step::Flows(a)), Some(Step::Flows(b))] => prop_assert_eq!(a, b),
                [
                    Some(Step::Delta { script: a, services: x }),
                    Some(Step::Delta { script: b, services: y }),
                ] => prop_assert_eq!((a, x), (b, y)),
                [Some(Step::Sweep { script: a }), Some(Step::Sweep { script: b })] => {
                    prop_assert_eq!(a, b);
                }
                [Some(a), Some(b)] => prop_assert_eq!(word(a), word(b)),
                _ => {
                    let next = two(web, dns);
                    by_changes.follow(&Plan::diff(&present, &next));
                    by_plans.desire(next.clone());
                    present = next;
                }
            }
            prop_assert_eq!(by_plans.loaded(), by_changes.loaded());
        }
    }
}
