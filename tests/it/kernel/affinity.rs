//! Clients keep to their endpoints: over connections and addresses, until the time is over, and whatever happens to other endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use svcplane::nftables::{ClientAffinity, Layout};

use super::lab::{CLUSTER_IP, EXTERNAL_IP, Lab, NODE, PORT, at, client, ip, pod, sticky};
use super::ready;

const LONG: Duration = Duration::from_secs(3_600);

fn frontends() -> [SocketAddr; 3] {
    [(CLUSTER_IP, 80), (EXTERNAL_IP, 80), (NODE, 30_080)]
        .map(|(to, port)| SocketAddr::new(ip(to), port))
}

/// Where each of so many clients goes, one after the other.
fn round(lab: &Lab, clients: u8, to: SocketAddr) -> BTreeMap<IpAddr, SocketAddr> {
    lab.block(async {
        let mut reached = BTreeMap::new();
        for from in (1..=clients).map(client) {
            reached.insert(from, lab.reach(from, to).await);
        }
        reached
    })
}

fn servers(reached: &BTreeMap<IpAddr, SocketAddr>) -> BTreeSet<SocketAddr> {
    reached.values().copied().collect()
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::new(pod(n), PORT)
}

#[test]
fn a_client_keeps_its_endpoint_at_every_address() {
    if !ready("a_client_keeps_its_endpoint_at_every_address") {
        return;
    }
    for (layout, hashed) in [(Layout::Flat, false), (Layout::Chains, false), (Layout::Flat, true)] {
        let mut lab = Lab::new(layout);
        if hashed {
            lab.config.affinity = ClientAffinity::Hashed;
        }
        let service = sticky(LONG);
        lab.load(&[(service.clone(), at(&service, [pod(1), pod(2), pod(3)]))]);
        let [first, rest @ ..] = frontends();
        let reached = round(&lab, 40, first);
        // Each of three is missed by 40 in 3 × (2/3)⁴⁰ of the runs: one in three million.
        assert_eq!(servers(&reached), [addr(1), addr(2), addr(3)].into());
        for to in [first].into_iter().chain(rest) {
            assert_eq!(round(&lab, 40, to), reached, "{layout:?} {hashed} {to}");
        }
    }
}

/// Here time is real, and the kernel's.
#[test]
fn the_time_starts_again_with_each_connection_and_then_is_over() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(1_200);
    if !ready("the_time_starts_again_with_each_connection_and_then_is_over") {
        return;
    }
    let labs = [Layout::Flat, Layout::Chains].map(|layout| {
        let mut lab = Lab::new(layout);
        let service = sticky(TIMEOUT);
        lab.load(&[(service.clone(), at(&service, [pod(1), pod(2)]))]);
        lab
    });
    let to = frontends()[0];
    let reached = labs.each_ref().map(|lab| round(lab, 24, to));
    let mut called = Instant::now();
    for _ in 0..2 {
        std::thread::sleep(PAUSE);
        let again = labs.each_ref().map(|lab| round(lab, 24, to));
        let slow = called.elapsed() >= TIMEOUT;
        called = Instant::now();
        assert!(slow || again == reached, "{again:?} after {reached:?}");
    }
    std::thread::sleep(TIMEOUT + Duration::from_millis(300));
    let anew = labs.each_ref().map(|lab| round(lab, 24, to));
    for (anew, before) in anew.iter().zip(&reached) {
        // All draw the same again in 2⁻²⁴ of the runs.
        assert_ne!(anew, before);
    }
}

#[test]
fn only_who_has_lost_its_endpoint_gets_another() {
    if !ready("only_who_has_lost_its_endpoint_gets_another") {
        return;
    }
    for layout in [Layout::Flat, Layout::Chains] {
        let mut lab = Lab::new(layout);
        let (service, to) = (sticky(LONG), frontends()[0]);
        let with = |pods: &[u8]| [(service.clone(), at(&service, pods.iter().map(|&n| pod(n))))];
        lab.load(&with(&[1, 2, 3]));
        let before = round(&lab, 40, to);

        lab.follow(&with(&[2, 3]));
        let after = round(&lab, 40, to);
        for (client, server) in &before {
            if *server == addr(1) {
                assert!([addr(2), addr(3)].contains(&after[client]), "{layout:?}: {client}");
            } else {
                assert_eq!(after[client], *server, "{layout:?}: {client}");
            }
        }
        assert_eq!(round(&lab, 40, to), after, "{layout:?}: pinned again");

        lab.follow(&with(&[1, 2, 3, 4]));
        assert_eq!(round(&lab, 40, to), after, "{layout:?}: newcomers take nobody over");
        // But for those who come anew.
        let all = (41..=60).map(client);
        let new: BTreeSet<SocketAddr> = lab.block(async {
            let mut new = BTreeSet::new();
            for from in all {
                new.insert(lab.reach(from, to).await);
            }
            new
        });
        assert!(new.contains(&addr(1)) || new.contains(&addr(4)), "{layout:?}: {new:?}");

        lab.follow(&with(&[]));
        lab.follow(&with(&[1, 2, 3, 4]));
        assert_eq!(servers(&round(&lab, 40, to)).len(), 4, "{layout:?}");
    }
}

#[test]
fn a_full_table_turns_nobody_away() {
    if !ready("a_full_table_turns_nobody_away") {
        return;
    }
    for layout in [Layout::Flat, Layout::Chains] {
        let mut lab = Lab::new(layout);
        lab.config.clients = 4;
        let (service, to) = (sticky(LONG), frontends()[0]);
        lab.load(&[(service.clone(), at(&service, [pod(1), pod(2), pod(3)]))]);
        let first = round(&lab, 4, to);
        round(&lab, 40, to);
        assert_eq!(round(&lab, 4, to), first, "{layout:?}: who came first is remembered");
        if layout == Layout::Flat {
            let (one, other) = (round(&lab, 40, to), round(&lab, 40, to));
            assert_ne!(one, other, "nobody else");
        }
    }
}
