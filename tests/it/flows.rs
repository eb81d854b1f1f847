//! What becomes of packets, in `tests/data/flows/`, as the replay example compares it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use svcplane::plan::Mode;

#[path = "../../examples/common/node.rs"]
mod node;
#[path = "../../examples/replay/flows.rs"]
pub(crate) mod scenario;

/// What a replay says; here it is asked packet by packet.
#[derive(Default)]
pub(crate) struct Outcome {
    compared: String,
    /// Input, expected, got.
    mismatches: Vec<[String; 3]>,
}

impl Outcome {
    fn compare(&mut self, input: &str, expected: String, got: String) {
        if expected != got {
            self.mismatches.push([input.to_owned(), expected, got]);
        }
    }
}

/// Every packet of every scenario has the verdict that is expected in each mode, and every verdict occurs in each mode that has it.
#[test]
fn scenarios_have_the_expected_verdicts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows");
    let (mut files, mut ipvs) = (0, 0);
    let mut seen: BTreeMap<Mode, BTreeMap<String, usize>> = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.display();
        let open = || File::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let recorded: serde_json::Value = serde_json::from_reader(BufReader::new(open()))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        files += 1;
        ipvs +=
            usize::from(path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ipvs-")));
        let flows = scenario::Scenario::read(recorded.clone())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut compared = 0;
        for &mode in Mode::ALL {
            let plan = flows.plan(mode);
            for (what, packet, expected) in flows.packets(mode) {
                let got = scenario::verdict(&plan, &packet);
                let why = plan.explain(&packet);
                assert_eq!(got, expected, "{name}: {mode}: {what}: {packet}:\n{why}");
                compared += 1;
                let word = if expected.contains(':') { "forward" } else { &*expected };
                *seen.entry(mode).or_default().entry(word.to_owned()).or_default() += 1;
            }
        }
        assert!(compared > 0, "{name}: {}: no packets", flows.name);
        let replayed = scenario::replay(recorded).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(replayed.mismatches.is_empty(), "{name}: {:#?}", replayed.mismatches);
        assert!(replayed.compared.ends_with(&format!(": {compared} packets")), "{name}");
    }
    assert!(files >= 100 && ipvs >= 5, "{files} files, {ipvs} of mode ipvs");
    for (mode, words) in [
        (Mode::Iptables, &["accept", "drop", "forward", "none", "reject"][..]),
        (Mode::Nftables, &["drop", "forward", "none", "reject"]),
        (Mode::Ipvs, &["accept", "drop", "forward", "none", "reject"]),
        (Mode::Userspace, &["drop", "forward", "none", "reject"]),
    ] {
        let seen = &seen[&mode];
        assert!(seen.keys().eq(words), "{mode}: {seen:?}");
        assert!(seen.values().sum::<usize>() >= 60, "{mode}: {seen:?}");
    }
}
