//! What changes while there is traffic, and what is left when all is over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use svcplane::endpoints::EndpointSet;
use svcplane::kernel::{KernelError, Nft, Pacing, Script, Step, Syncer};
use svcplane::net::Protocol;
use svcplane::nftables::{self, Layout};
use svcplane::plan::WEIGHTS_ANNOTATION;
use svcplane::service::Service;
use svcplane::time::Instant;

use super::lab::{
    CLUSTER_IP, CLUSTER_IPV6, EXTERNAL_IP, Lab, PORT, at, client, ip, pod, pod_v6, reach_udp,
    service, sticky,
};
use super::netns::Netns;
use super::ready;

const BOTH: [Layout; 2] = [Layout::Flat, Layout::Chains];
const TCP_UDP: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

fn to(text: &str) -> SocketAddr {
    SocketAddr::new(ip(text), 80)
}

#[test]
fn connections_are_shared_out_by_weight() {
    if !ready("connections_are_shared_out_by_weight") {
        return;
    }
    for layout in BOTH {
        let mut lab = Lab::new(layout);
        let mut weighted = service("weighted", &[EXTERNAL_IP], &[Protocol::Tcp]);
        let weights = "10.180.0.1=3, 10.180.0.2=1";
        weighted.annotations = [(WEIGHTS_ANNOTATION, weights)].into_iter().collect();
        let equal = service("equal", &[CLUSTER_IP], &[Protocol::Tcp]);
        lab.load(&[
            (equal.clone(), at(&equal, (1..=3).map(pod))),
            (weighted.clone(), at(&weighted, (1..=2).map(pod))),
        ]);
        // Within five standard deviations, of 8.2 and 7.5.
        let (equal, weighted) = ([100, 100, 100], [225, 75, 0]);
        for (destination, expected) in [(CLUSTER_IP, equal), (EXTERNAL_IP, weighted)] {
            let mut counts: BTreeMap<SocketAddr, i32> = BTreeMap::new();
            lab.block(async {
                for _ in 0..300 {
                    *counts.entry(lab.reach(ip("10.0.0.2"), to(destination)).await).or_default() +=
                        1;
                }
            });
            for (n, expected) in (1..).zip(expected) {
                let got = counts.get(&SocketAddr::new(pod(n), PORT)).copied().unwrap_or(0);
                assert!((got - expected).abs() <= 41, "{layout:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn a_udp_client_goes_on_to_another_endpoint() {
    if !ready("a_udp_client_goes_on_to_another_endpoint") {
        return;
    }
    for layout in BOTH {
        let mut lab = Lab::new(layout);
        let service = service("dns", &[CLUSTER_IP, CLUSTER_IPV6], &TCP_UDP);
        let with = |n: std::ops::RangeInclusive<u8>| {
            let pods = n.clone().map(pod).chain(n.map(|n| pod_v6(n.into())));
            [(service.clone(), at(&service, pods))]
        };
        let is_first = |addr: SocketAddr| [pod(1), pod_v6(1)].contains(&addr.ip());
        lab.load(&[]);
        // A flow from before there was a Service goes where it was addressed.
        let early = lab.block(lab.udp(client(9), to(CLUSTER_IP)));
        assert_eq!(lab.block(reach_udp(&early)), to(CLUSTER_IP));
        lab.load(&with(1..=1));
        assert_eq!(lab.block(reach_udp(&early)), to(CLUSTER_IP), "{layout:?}: as it was tracked");
        assert_eq!(lab.conntrack.delete_stale(&lab.plan).expect("conntrack"), 1);
        assert!(is_first(lab.block(reach_udp(&early))), "{layout:?}");

        let old = ["10.0.0.2", "fd00:10::2"].map(ip);
        let clients = lab.block(async {
            let [v4, v6] = old;
            [lab.udp(v4, to(CLUSTER_IP)).await, lab.udp(v6, to(CLUSTER_IPV6)).await]
        });
        for client in &clients {
            assert!(is_first(lab.block(reach_udp(client))));
        }
        assert_eq!(lab.conntrack.udp_flows().expect("conntrack").len(), 2, "pairs, not entries");
        lab.follow(&with(1..=2));
        assert_eq!(lab.conntrack.delete_stale(&lab.plan).expect("conntrack"), 0, "all are alive");

        lab.follow(&with(2..=2));
        for client in &clients {
            assert!(is_first(lab.block(reach_udp(client))), "{layout:?}: still as it was tracked");
        }
        assert_eq!(lab.conntrack.delete_stale(&lab.plan).expect("conntrack"), 3);
        for client in clients.iter().chain([&early]) {
            let now = lab.block(reach_udp(client));
            assert!([pod(2), pod_v6(2)].contains(&now.ip()), "{layout:?}: {now}");
        }
        let flows = lab.conntrack.udp_flows().expect("conntrack");
        assert_eq!(lab.plan.stale_flows(flows.clone()).count(), 0);
        assert_eq!(lab.conntrack.delete(&flows[0]).expect("conntrack"), 2);
        assert_eq!(lab.conntrack.delete(&flows[0]).expect("none is no error"), 0);
    }
}

#[test]
fn no_change_refuses_a_live_service() {
    if !ready("no_change_refuses_a_live_service") {
        return;
    }
    for layout in BOTH {
        let mut lab = Lab::new(layout);
        let (plain, pinned) =
            (service("plain", &[EXTERNAL_IP], &[Protocol::Tcp]), sticky(Duration::from_secs(60)));
        let mut pinned = pinned;
        pinned.external_ips.clear();
        let state = |round: u8| {
            let (first, last) = (1 + round % 3, 2 + round % 3);
            let mut services = vec![
                (plain.clone(), at(&plain, (first..=last).map(pod))),
                (pinned.clone(), at(&pinned, (1..=first).map(pod))),
            ];
            if round % 2 == 0 {
                let other = service("other", &["172.30.0.77"], &TCP_UDP);
                services.push((other.clone(), at(&other, (1..=last).map(pod))));
            }
            services
        };
        lab.load(&state(0));
        let stop = AtomicBool::new(false);
        let topology = &lab.topology;
        let (nft, config) = (lab.nft.clone(), lab.config.clone());
        let plans: Vec<_> = (0..40).map(|round| lab.plan_of(&state(round))).collect();
        let calls = std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                let mut leftovers = Vec::new();
                for pair in plans.windows(2) {
                    let [old, new] = pair else { unreachable!("two") };
                    let delta =
                        nftables::delta(new, &svcplane::plan::Plan::diff(old, new), &config);
                    let applied = nft.apply(&delta.script);
                    leftovers.extend(delta.leftovers);
                    if let Err(error) = applied {
                        stop.store(true, Ordering::Relaxed);
                        panic!("{error}\n{}", delta.script);
                    }
                    std::thread::sleep(Duration::from_millis(15));
                }
                stop.store(true, Ordering::Relaxed);
                leftovers
            });
            let calls = lab.block(async {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    for (from, destination) in [(client(1), EXTERNAL_IP), (client(2), CLUSTER_IP)] {
                        let server = super::lab::reach(topology, from, to(destination)).await;
                        assert_ne!(server, to(destination), "{layout:?}: not translated");
                        calls += 1;
                    }
                }
                calls
            });
            let leftovers = changes.join().expect("changes");
            std::thread::sleep(Duration::from_secs(1));
            let last = plans.last().expect("some");
            nft.apply(&nftables::sweep(last, &config, &leftovers)).expect("a sweep");
            calls
        });
        println!("{layout:?}: {calls} connections during 39 changes");
        assert!(calls > 100, "{layout:?}: {calls}");
        assert_ne!(lab.block(lab.reach(client(1), to(EXTERNAL_IP))), to(EXTERNAL_IP));
    }
}

/// Sorts what is in braces and has no braces in it.
fn sorted_lists(text: &str) -> String {
    let parts = text.split_inclusive(['{', '}']).map(|part| {
        let Some(list) = part.strip_suffix('}').filter(|list| !list.is_empty()) else {
            return part.to_owned();
        };
        let mut elements: Vec<&str> = list.split(',').map(str::trim).collect();
        elements.sort_unstable();
        elements.join(", ") + "}"
    });
    parts.collect()
}

/// What is in the tables, apart from the order in which the kernel lists it.
pub(crate) fn listing(netns: &Netns) -> Vec<String> {
    let said = netns.run(|| Command::new("nft").args(["-s", "list", "ruleset"]).output());
    let text = String::from_utf8(said.expect("nft").stdout).expect("UTF-8");
    let mut table = String::new();
    let mut objects: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("table ") {
            line.clone_into(&mut table);
        } else if line.starts_with('\t') && !line.starts_with("\t\t") && line.trim() != "}" {
            objects.push(format!("{table}{line}"));
        } else if let Some(object) = objects.last_mut().filter(|_| line != "}") {
            object.push_str(line);
        }
    }
    for object in &mut objects {
        *object = sorted_lists(object);
    }
    objects.sort();
    objects
}

/// Some Services of four, with everything that may be other the next time.
pub(crate) fn state(seed: u32) -> Vec<(Service, EndpointSet)> {
    let draw = |n: u32, of: u32| (seed.wrapping_mul(2_654_435_761) >> (3 * n)) % of;
    let mut services = Vec::new();
    for (n, name) in (0..).zip(["a", "b", "c", "d"]) {
        let ips = [format!("172.30.0.{}", n + 1), format!("fd00:172:30::{}", n + 1)];
        let mut service = service(name, &[&ips[0], &ips[1]], &TCP_UDP);
        if draw(n, 2) == 0 {
            service.client_ip_affinity = Some(Duration::from_secs(60 + u64::from(draw(n, 3))));
        }
        if draw(n, 3) == 0 {
            service.ports[0].node_port = Some(30_000 + u16::try_from(n).expect("few"));
            service.external_ips = vec![ip(EXTERNAL_IP)];
        }
        let count = u8::try_from(draw(n + 1, 5)).expect("few");
        let endpoints = at(&service, (1..=count).map(pod).chain((1..=2).map(pod_v6)));
        if draw(n + 2, 5) > 0 {
            services.push((service, endpoints));
        }
    }
    services
}

/// Leads a kernel through plans as a program would, with a clock of its own. The first sync finds what an earlier run left.
#[test]
fn deltas_and_full_scripts_meet() {
    if !ready("deltas_and_full_scripts_meet") {
        return;
    }
    for layout in BOTH {
        let mut lab = Lab::new(layout);
        let earlier = "table ip svcplane {\n\
            set services { type ipv4_addr; elements = { 192.0.2.1 } }\n\
            chain prerouting { type filter hook prerouting priority -500; policy drop; }\n\
            chain service-gone { ip saddr @services drop; }\n}\n\
            table ip6 svcplane {\n}\ntable ip others {\nset theirs { type ipv4_addr; }\n}\n";
        lab.nft.apply(earlier).expect("the earlier run");
        let mut syncer = Syncer::new(lab.config.clone(), Pacing::default());
        syncer.services_listed();
        syncer.slices_listed();
        let mut now = Instant::from_secs(1);
        let (mut kinds, mut waited) = (BTreeMap::new(), 0);
        for seed in 0..25 {
            syncer.desire(lab.plan_of(&state(seed)));
            loop {
                let (kind, script) = match syncer.step(now) {
                    Step::Full(plan) => ("full", nftables::compile(&plan, &lab.config)),
                    Step::Delta { script: Script::Nftables(script), .. } => ("delta", script),
                    Step::Sweep { script: Script::Nftables(script) } => ("sweep", script),
                    Step::Flows(plan) => {
                        lab.conntrack.delete_stale(&plan).expect("conntrack");
                        syncer.done(now);
                        continue;
                    }
                    Step::Wait(Some(at)) if at < now + Duration::from_secs(600) => {
                        // Kernels before 6.2 need the time.
                        if waited == 0 {
                            std::thread::sleep(Duration::from_secs(1));
                        }
                        (now, waited) = (at, waited + 1);
                        continue;
                    }
                    _ => break,
                };
                lab.nft.apply(&script).unwrap_or_else(|error| panic!("{kind}: {error}\n{script}"));
                *kinds.entry(kind).or_insert(0) += 1;
                syncer.done(now);
            }
            let by_deltas = listing(&lab.topology.node);
            lab.load(&state(seed));
            let anew = listing(&lab.topology.node);
            let other = |these: &[String], those: &[String]| -> Vec<String> {
                these.iter().filter(|one| !those.contains(one)).cloned().collect()
            };
            let (more, less) = (other(&by_deltas, &anew), other(&anew, &by_deltas));
            assert_eq!(more, less, "{layout:?}: {seed}");
        }
        println!("{layout:?}: {kinds:?}, {waited} waits");
        assert_eq!(kinds["full"], 1);
        assert!(kinds["delta"] >= 20 && kinds["sweep"] >= 5, "{kinds:?}");

        assert!(lab.nft.is_loaded(&lab.config).expect("nft"));
        lab.nft.apply(&nftables::remove(&lab.config)).expect("a removal");
        lab.nft.apply(&nftables::remove(&lab.config)).expect("there is nothing to remove");
        assert!(!lab.nft.is_loaded(&lab.config).expect("nft"));
        let rest = listing(&lab.topology.node);
        assert_eq!(rest.len(), 1, "{rest:?}");
        assert!(rest[0].starts_with("table ip others {\tset theirs"), "{rest:?}");
        assert_eq!(lab.block(lab.reach(client(1), to(CLUSTER_IP))), to(CLUSTER_IP), "untouched");
    }
}

#[test]
fn a_refused_script_changes_nothing_and_names_its_line() {
    if !ready("a_refused_script_changes_nothing_and_names_its_line") {
        return;
    }
    let netns = Netns::new("refused");
    let mut nft = Nft::new();
    nft.netns = Some(netns.name());
    let script = "add table ip fine\nadd chain ip fine one\nadd rule ip fine one goto nowhere\n";
    for error in [nft.apply(script), nft.check(script)] {
        let error = error.expect_err("there is no such chain");
        let KernelError::Refused(refusal) = &error else { panic!("{error}") };
        assert_eq!(refusal.lines, [(3, "add rule ip fine one goto nowhere".to_owned())]);
        assert!(error.to_string().starts_with("nft refused (exit status: 1): "), "{error}");
    }
    assert!(listing(&netns).is_empty());
    nft.check("add table ip fine\n").expect("it could be loaded");
    assert!(listing(&netns).is_empty());
    assert!(nft.version().expect("a version") >= Nft::OLDEST);

    nft.netns = Some("no-such-namespace".parse().expect("a name"));
    assert!(matches!(nft.apply("add table ip fine\n"), Err(KernelError::Refused(_))));
}
