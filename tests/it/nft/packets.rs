//! What becomes of packets: in the scenarios of `tests/data/flows/`, and in random clusters as the plan says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;

use proptest::prelude::*;
use svcplane::plan::Mode;

use super::walk::{End, Host};
use super::{cluster, configs, loaded, packets, planned};
use crate::flows::scenario::Scenario;

/// Everything that may become of a packet, in the words of the scenarios.
fn words(ends: &BTreeSet<End>) -> String {
    let mut backends: BTreeMap<SocketAddr, bool> = BTreeMap::new();
    let mut others = Vec::new();
    for end in ends {
        match *end {
            End::Backend(addr, masqueraded) => {
                let before = backends.insert(addr, masqueraded);
                assert!(before.is_none_or(|before| before == masqueraded), "{ends:?}");
            }
            End::Reject => others.push("reject"),
            End::Drop => others.push("drop"),
            End::Pass => others.push("none"),
        }
    }
    let mut texts: Vec<String> = backends.keys().map(ToString::to_string).collect();
    texts.extend(others.into_iter().map(str::to_owned));
    let all = !backends.is_empty() && backends.values().all(|masqueraded| *masqueraded);
    texts.join(" ") + if all { ", masqueraded" } else { "" }
}

#[test]
fn scenarios_have_the_expected_ends() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows");
    let (mut compared, mut forwarded) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.display();
        let file = File::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let recorded = serde_json::from_reader(BufReader::new(file));
        let recorded = recorded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let flows = Scenario::read(recorded).unwrap_or_else(|error| panic!("{name}: {error}"));
        let plan = flows.plan(Mode::Nftables);
        let host = Host::new(&flows.node);
        for config in configs() {
            let rules = loaded(&plan, &config);
            for (what, packet, expected) in flows.packets(Mode::Nftables) {
                let ends = rules.ends(config.table.as_str(), &host, &packet, 0);
                let got = words(&ends);
                let (layout, affinity) = (config.layout, config.affinity);
                assert_eq!(got, expected, "{name}: {layout:?}, {affinity:?}: {what}: {packet}");
                compared += 1;
                forwarded += usize::from(got.contains(':'));
            }
        }
    }
    assert!(compared >= 3 * 400 && forwarded >= 3 * 200, "{compared}, {forwarded} forwarded");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_route_is_the_plans(cluster in cluster(), packets in packets(150)) {
        let plan = cluster.plan();
        let host = Host::new(&cluster.node);
        for config in configs() {
            let rules = loaded(&plan, &config);
            for packet in &packets {
                let ends = rules.ends(config.table.as_str(), &host, packet, 0);
                let expected = planned(&plan, packet);
                let hashed = config.affinity;
                prop_assert_eq!(
                    ends, expected, "{:?} {:?}: {}: {}\n{}", config.layout, hashed, packet,
                    plan.explain(packet), svcplane::nftables::compile(&plan, &config)
                );
            }
        }
    }
}
