//! The rules that go with IPVS: that a kernel takes them, whole and by deltas. Whether they do what they should is seen where there is IPVS.

use std::collections::BTreeSet;
use std::process::Command;

use svcplane::iptables::{self, beside_ipvs};
use svcplane::ipvs::{Config, Sets, nftables, nftables_delta, nftables_remove};
use svcplane::kernel::{Iptables, Nft, Variant};
use svcplane::net::IpFamily;
use svcplane::plan::{LocalDetector, LocalNode, Mode, Plan};

use crate::ends::scenarios;

use super::change::{listing, state};
use super::lab::Lab;
use super::netns::Netns;
use super::ready;

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

#[test]
fn every_scenarios_rules_are_taken() {
    if !ready("every_scenarios_rules_are_taken") {
        return;
    }
    let netns = Netns::new("ipvs-rules");
    let mut nft = Nft::new();
    nft.netns = Some(netns.name());
    let mut checked = 0;
    for (name, scenario) in scenarios() {
        let plan = scenario.plan(Mode::Ipvs);
        let script = nftables(&plan, &Config::default());
        nft.check(&script).unwrap_or_else(|error| panic!("{name}: {error}\n{script}"));
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

/// No interface's name is longer than this beginning of one: there is no room for what stands for the rest.
#[test]
fn the_longest_beginning_of_a_name_is_taken() {
    if !ready("the_longest_beginning_of_a_name_is_taken") {
        return;
    }
    let netns = Netns::new("ipvs-prefix");
    let (mut nft, mut tools) = (Nft::new(), Iptables::new(Variant::Nft));
    nft.netns = Some(netns.name());
    tools.netns = Some(netns.name());
    for name in ["veth", "fourteen-bytes", "fifteen-of-them"] {
        let mut node = LocalNode::new("here".parse().expect("a name"));
        node.pods = LocalDetector::InterfacePrefix(name.parse().expect("a name"));
        let plan = |mode| Plan::empty(node.clone(), mode);
        let own = svcplane::nftables::compile(&plan(Mode::Nftables), &<_>::default());
        for script in [own, nftables(&plan(Mode::Ipvs), &Config::default())] {
            nft.check(&script).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(script.contains(name));
        }
        let replaced = tools.replace(&plan(Mode::Iptables), &iptables::Config::default());
        replaced.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn deltas_of_sets_lead_where_whole_ones_do() {
    if !ready("deltas_of_sets_lead_where_whole_ones_do") {
        return;
    }
    let lab = Lab::new(svcplane::nftables::Layout::Flat);
    let (node, config) = (&lab.topology.node, Config::default());
    let plan_of = |seed: u32| {
        let services = state(seed);
        let services = services.iter().map(|(service, endpoints)| (service, endpoints));
        Plan::new(lab.plan.node(), Mode::Ipvs, services)
    };
    let saved = || -> BTreeSet<String> {
        let said = node.run(|| Command::new("ipset").arg("save").output()).expect("ipset");
        let text = String::from_utf8(said.stdout).expect("UTF-8");
        // How large a set's table has grown, and its seed, are its own affair.
        let line = |line: &str| line.split(" hashsize").next().unwrap_or(line).to_owned();
        text.lines().map(line).collect()
    };
    let mut before = plan_of(0);
    lab.nft.apply(&nftables(&before, &config)).expect("a whole script");
    for family in FAMILIES {
        let sets = Sets::new(&before, family);
        node.tool("ipset", &["restore"], &sets.ipset(&config.prefix));
    }
    for seed in 1..12 {
        let after = plan_of(seed);
        let script = nftables_delta(&before, &after, &config);
        lab.nft.apply(&script).unwrap_or_else(|error| panic!("{error}\n{script}"));
        for family in FAMILIES {
            let (old, new) = (Sets::new(&before, family), Sets::new(&after, family));
            node.tool("ipset", &["restore"], &new.ipset_delta(&old, &config.prefix));
            assert_eq!(new.ipset_delta(&new, &config.prefix), "");
        }
        let by_deltas = (listing(node), saved());
        lab.nft.apply(&nftables(&after, &config)).expect("a whole script");
        for family in FAMILIES {
            node.tool("ipset", &["restore"], &Sets::new(&after, family).ipset(&config.prefix));
        }
        assert_eq!(by_deltas, (listing(node), saved()), "{seed}");
        assert_eq!(nftables_delta(&after, &after, &config), "");
        before = after;
    }

    for variant in [Variant::Nft, Variant::Legacy] {
        let mut tools = Iptables::new(variant);
        tools.netns = Some(node.name());
        let config = iptables::Config::default();
        for family in FAMILIES {
            let input = beside_ipvs(&before, family, &config, "");
            tools.apply(family, &input).unwrap_or_else(|error| panic!("{error}\n{input}"));
        }
        tools.remove(&config).expect("a removal");
    }
    for family in FAMILIES {
        node.tool("ipset", &["restore"], &Sets::ipset_remove(&config.prefix, family));
    }
    assert!(saved().is_empty(), "{:?}", saved());
    lab.nft.apply(&nftables_remove(&config)).expect("a removal");
    assert!(listing(node).iter().all(|object| !object.contains("svcp-ipvs")));
}
