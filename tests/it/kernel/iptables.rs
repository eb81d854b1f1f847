//! iptables in both variants and both layouts: deltas, what is left when all is over, affinity, and which variant a machine uses.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use svcplane::endpoints::EndpointSet;
use svcplane::iptables::{self, Config, Layout};
use svcplane::kernel::{Iptables, KernelError, Pacing, Script, Step, Syncer, Variant};
use svcplane::net::{IpFamily, Protocol};
use svcplane::nftables;
use svcplane::plan::{Mode, Plan};
use svcplane::service::Service;
use svcplane::time::Instant;

use super::change::state;
use super::lab::{CLUSTER_IP, EXTERNAL_IP, Lab, PORT, at, client, ip, pod, service, sticky};
use super::netns::Netns;
use super::ready;

const ALL: [(Variant, Layout); 4] = [
    (Variant::Nft, Layout::Tree),
    (Variant::Nft, Layout::Linear),
    (Variant::Legacy, Layout::Tree),
    (Variant::Legacy, Layout::Linear),
];

fn set_up(variant: Variant, layout: Layout) -> (Lab, Iptables, Config) {
    let lab = Lab::new(nftables::Layout::Flat);
    let mut config = Config::default();
    config.layout = layout;
    let mut tools = Iptables::new(variant);
    tools.netns = Some(lab.topology.node.name());
    (lab, tools, config)
}

fn plan_of(lab: &Lab, services: &[(Service, EndpointSet)]) -> Plan {
    let services = services.iter().map(|(service, endpoints)| (service, endpoints));
    Plan::new(lab.plan.node(), Mode::Iptables, services)
}

fn follow(tools: &Iptables, config: &Config, before: &Plan, after: &Plan) {
    let changes = Plan::diff(before, after);
    for family in [IpFamily::V4, IpFamily::V6] {
        let input = iptables::delta(after, &changes, family, config);
        tools.apply(family, &input).unwrap_or_else(|error| panic!("{error}\n{input}"));
    }
}

/// The rules of each chain of each table, in order.
fn listing(netns: &Netns, variant: Variant) -> BTreeMap<String, Vec<String>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for family in ["iptables", "ip6tables"] {
        let tool = match variant {
            Variant::Nft => format!("{family}-nft-save"),
            _ => format!("{family}-legacy-save"),
        };
        let said = netns.run(|| Command::new(&tool).output()).expect("iptables-save");
        let text = String::from_utf8(said.stdout).expect("UTF-8");
        let mut table = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if let Some(chain) = line.strip_prefix(':') {
                let chain = chain.split(' ').next().expect("a name");
                chains.entry(format!("{family} {table} {chain}")).or_default();
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let (chain, rule) = rule.split_once(' ').expect("a chain and a rule");
                let chain = format!("{family} {table} {chain}");
                chains.entry(chain).or_default().push(rule.to_owned());
            }
        }
    }
    chains
}

/// Leads a kernel through plans as a program would. There is something of an earlier run, and something of others.
#[test]
fn deltas_and_full_loads_meet() {
    if !ready("deltas_and_full_loads_meet") {
        return;
    }
    for (variant, layout) in ALL {
        let (lab, tools, config) = set_up(variant, layout);
        let node = &lab.topology.node;
        let theirs = "*filter\n:THEIRS - [0:0]\n-A THEIRS -s 192.0.2.9/32 -j DROP\n-A INPUT -j THEIRS\nCOMMIT\n\
                      *nat\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n";
        tools.apply(IpFamily::V4, theirs).expect("what others have");
        let untouched = listing(node, variant);
        // The second of the jumps is in a wrong place, and another is not needed any more.
        let earlier = "*nat\n:SVCP-SVC-AAAAAAAAAAAAAAAA - [0:0]\n:SVCP-IP-0a6 - [0:0]\n:SVCP-SERVICES - [0:0]\n\
                       -A SVCP-SERVICES -j SVCP-SVC-AAAAAAAAAAAAAAAA\n-A SVCP-IP-0a6 -j SVCP-SVC-AAAAAAAAAAAAAAAA\n\
                       -A OUTPUT -j SVCP-SERVICES\n-A INPUT -s 192.0.2.1 -j SVCP-IP-0a6\nCOMMIT\n\
                       *filter\n:SVCP-SERVICES - [0:0]\n-A SVCP-SERVICES -s 203.0.113.0/24 -j DROP\n-A INPUT -j SVCP-SERVICES\nCOMMIT\n";
        tools.apply(IpFamily::V4, earlier).expect("the earlier run");

        let mut syncer = Syncer::new(config.clone(), Pacing::default());
        syncer.services_listed();
        syncer.slices_listed();
        let mut now = Instant::from_secs(1);
        let mut kinds = BTreeMap::new();
        for seed in 0..12 {
            let plan = Arc::new(plan_of(&lab, &state(seed)));
            syncer.desire(Arc::clone(&plan));
            loop {
                let kind = match syncer.step(now) {
                    Step::Full(plan) => {
                        tools.replace(&plan, &config).unwrap_or_else(|error| panic!("{error}"));
                        "full"
                    }
                    Step::Delta { script: Script::Iptables { v4, v6 }, .. } => {
                        for (family, input) in [(IpFamily::V4, &v4), (IpFamily::V6, &v6)] {
                            let done = tools.apply(family, input);
                            done.unwrap_or_else(|error| panic!("{error}\n{input}"));
                        }
                        "delta"
                    }
                    Step::Flows(plan) => {
                        lab.conntrack.delete_stale(&plan).expect("conntrack");
                        "flows"
                    }
                    Step::Wait(Some(at)) if at < now + Duration::from_secs(600) => {
                        now = at;
                        continue;
                    }
                    Step::Wait(_) => break,
                    other => panic!("{other:?}"),
                };
                *kinds.entry(kind).or_insert(0) += 1;
                syncer.done(now);
            }
            let by_deltas = listing(node, variant);
            tools.replace(&plan, &config).expect("a full load");
            assert_eq!(by_deltas, listing(node, variant), "{variant:?} {layout:?}: {seed}");
        }
        println!("{variant:?} {layout:?}: {kinds:?}");
        assert!(kinds["full"] == 1 && kinds["delta"] >= 10, "{kinds:?}");
        let first = |chain: &str| listing(node, variant)[chain][0].clone();
        assert!(first("iptables filter FORWARD").contains("SVCP-PROXY-FIREWALL"));

        tools.remove(&config).expect("a removal");
        tools.remove(&config).expect("there is nothing to remove");
        let mut rest = listing(node, variant);
        // Chains and tables that were not there before they were asked for.
        rest.retain(|chain, rules| untouched.contains_key(chain) || !rules.is_empty());
        assert_eq!(rest, untouched, "{variant:?} {layout:?}");
        let to = SocketAddr::new(ip(CLUSTER_IP), 80);
        assert_eq!(lab.block(lab.reach(client(1), to)), to, "untouched");
    }
}

#[test]
fn clients_keep_to_their_endpoints_through_changes() {
    if !ready("clients_keep_to_their_endpoints_through_changes") {
        return;
    }
    for (variant, layout) in ALL {
        let (lab, tools, config) = set_up(variant, layout);
        let service = sticky(Duration::from_secs(3_600));
        let with = |pods: &[u8]| {
            plan_of(&lab, &[(service.clone(), at(&service, pods.iter().map(|&n| pod(n))))])
        };
        let round = |to: (&str, u16)| -> BTreeMap<IpAddr, SocketAddr> {
            let to = SocketAddr::new(ip(to.0), to.1);
            lab.block(async {
                let mut reached = BTreeMap::new();
                for from in (1..=40).map(client) {
                    reached.insert(from, lab.reach(from, to).await);
                }
                reached
            })
        };
        let (all, less) = (with(&[1, 2, 3]), with(&[2, 3]));
        tools.replace(&all, &config).expect("a full load");
        let before = round((CLUSTER_IP, 80));
        for to in [(EXTERNAL_IP, 80), (super::lab::NODE, 30_080)] {
            assert_eq!(round(to), before, "{variant:?} {layout:?}: all addresses share it");
        }
        tools.replace(&all, &config).expect("a full load");
        assert_eq!(round((CLUSTER_IP, 80)), before, "{variant:?} {layout:?}: kept");
        follow(&tools, &config, &all, &less);
        let after = round((CLUSTER_IP, 80));
        let gone = SocketAddr::new(pod(1), PORT);
        for (client, server) in &before {
            let now = after[client];
            assert!(now == *server || (*server == gone && now != gone), "{client}: {server} {now}");
        }
        follow(&tools, &config, &less, &with(&[1, 2, 3, 4]));
        assert_eq!(round((CLUSTER_IP, 80)), after, "{variant:?} {layout:?}: newcomers take none");
    }
    assert!(Iptables::remembered_clients().is_some_and(|clients| clients > 0), "it is loaded");
}

#[test]
fn no_delta_refuses_a_live_service() {
    if !ready("no_delta_refuses_a_live_service") {
        return;
    }
    for (variant, layout) in ALL {
        let (lab, tools, config) = set_up(variant, layout);
        let plain = service("plain", &[CLUSTER_IP], &[Protocol::Tcp]);
        let state = |round: u8| {
            let (first, last) = (1 + round % 3, 2 + round % 3);
            let mut services = vec![(plain.clone(), at(&plain, (first..=last).map(pod)))];
            // Around it addresses come and go, so that the tree takes another shape.
            for n in 0..(round % 5) * 7 {
                let other = format!("172.30.0.{}", 50 + n);
                let other = service(&format!("other-{n}"), &[&other], &[Protocol::Tcp]);
                services.push((other.clone(), at(&other, (1..=n % 3).map(pod))));
            }
            plan_of(&lab, &services)
        };
        let plans: Vec<Plan> = (0..25).map(state).collect();
        tools.replace(&plans[0], &config).expect("a full load");
        let stop = AtomicBool::new(false);
        let calls = std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                for pair in plans.windows(2) {
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        follow(&tools, &config, &pair[0], &pair[1]);
                    }));
                    if done.is_err() {
                        break;
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
            let calls = lab.block(async {
                let (mut calls, to) = (0, SocketAddr::new(ip(CLUSTER_IP), 80));
                while !stop.load(Ordering::Relaxed) {
                    let server = lab.reach(client(1), to).await;
                    assert_ne!(server, to, "{variant:?} {layout:?}: not translated");
                    calls += 1;
                }
                calls
            });
            changes.join().expect("changes");
            calls
        });
        println!("{variant:?} {layout:?}: {calls} connections during 24 changes");
        assert!(calls > 20, "{calls}");
    }
}

#[test]
fn the_variant_in_use_is_found() {
    if !ready("the_variant_in_use_is_found") {
        return;
    }
    let netns = Netns::new("variant");
    let name = netns.name();
    let found = || {
        let tools = Iptables::detect(Some(&name)).expect("iptables");
        assert_eq!(tools.families, [IpFamily::V4, IpFamily::V6]);
        assert!(tools.supported().expect("a version") >= Iptables::OLDEST);
        tools.variant
    };
    assert_eq!(found(), Variant::System, "there are no rules");
    netns.tool("ip6tables-legacy", &["-A", "INPUT", "-j", "ACCEPT"], "");
    assert_eq!(found(), Variant::Legacy);
    for _ in 0..2 {
        netns.tool("iptables-nft", &["-A", "INPUT", "-j", "ACCEPT"], "");
    }
    assert_eq!(found(), Variant::Nft);
    netns.tool("iptables-legacy", &["-t", "mangle", "-N", "KUBE-IPTABLES-HINT"], "");
    assert_eq!(found(), Variant::Legacy);

    let mut tools = Iptables::new(Variant::Legacy);
    tools.netns = Some(name.clone());
    let error = tools.apply(IpFamily::V6, "*nat\n:X - [0:0]\n-A X -j NOWHERE\nCOMMIT\n");
    let Err(KernelError::Refused(refusal)) = error else { panic!("{error:?}") };
    assert_eq!(refusal.lines, [(3, "-A X -j NOWHERE".to_owned())], "{}", refusal.stderr);
}
