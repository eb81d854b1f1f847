//! The same scripts in a real kernel, if there is `nft` and the right to a network namespace of its own: deltas and sweeps are taken, and
//! end where a full script does.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use svcplane::nftables;
use svcplane::plan::{Mode, Plan};

use crate::plan_model::sequences::plans;

use super::configs;

/// Runs a shell's script in a network namespace that ends with it.
fn in_a_namespace(script: &str, folder: &Path) -> std::io::Result<Output> {
    Command::new("unshare").args(["-n", "sh", "-c", script]).current_dir(folder).output()
}

/// What a kernel lists, in an order of our own: each set and chain with its lines, elements sorted.
fn listed(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut objects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut path: Vec<String> = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(of) = line.strip_prefix("elements = {") {
            let mut all = of.to_owned();
            while !all.ends_with('}') {
                all.push_str(lines.next().expect("an end"));
            }
            let elements = all.trim_end_matches('}').split(',').map(|e| e.trim().to_owned());
            let mut elements: Vec<String> = elements.collect();
            elements.sort_unstable();
            objects.entry(path.join(" ")).or_default().append(&mut elements);
        } else if let Some(of) = line.strip_suffix(" {") {
            path.push(of.to_owned());
            objects.entry(path.join(" ")).or_default();
        } else if line == "}" {
            path.pop();
        } else if !line.is_empty() {
            objects.entry(path.join(" ")).or_default().push(line.to_owned());
        }
    }
    objects
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nft-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn a_kernel_takes_every_script() {
    let folder = folder();
    if !in_a_namespace("nft list ruleset", &folder).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no nft, or not allowed to make a network namespace");
        return;
    }
    let mut runner = TestRunner::deterministic();
    // Kernels before 6.2 let go of chains only after a while.
    let load = "load() { nft -f $1 2>/dev/null || { sleep 2; nft -f $1; }; }";
    let mut scripts = format!("set -e\n{load}\n");
    let mut files = 0;
    let mut step = |script: &str, text: &mut String| {
        if !script.is_empty() {
            fs::write(folder.join(format!("{files}.nft")), script).expect("a file");
            writeln!(text, "load {files}.nft").expect("a String takes whatever is written to it");
            files += 1;
        }
    };
    let mut sequences = 0;
    for _ in 0..12 {
        let plans = plans(Mode::Nftables, 4).new_tree(&mut runner).expect("a sequence").current();
        for config in configs() {
            let mut before = Plan::empty(plans[0].node().clone(), Mode::Nftables);
            let mut leftovers = Vec::new();
            step(&nftables::compile(&before, &config), &mut scripts);
            for plan in &plans {
                let changes = Plan::diff(&before, plan);
                let delta = nftables::delta(plan, &changes, &config);
                if changes.concerns_node() {
                    leftovers.clear();
                }
                leftovers.extend(delta.leftovers);
                step(&delta.script, &mut scripts);
                before = plan.clone();
            }
            step(&nftables::sweep(&before, &config, &leftovers), &mut scripts);
            scripts.push_str("echo '== deltas'; nft list ruleset\n");
            step(&nftables::compile(&before, &config), &mut scripts);
            scripts.push_str("echo '== full'; nft list ruleset\n");
            sequences += 1;
        }
    }
    let output = in_a_namespace(&scripts, &folder).expect("it ran before");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {err}", folder.display());
    let mut compared = 0;
    for both in out.split("== deltas\n").skip(1) {
        let (deltas, full) = both.split_once("== full\n").expect("both");
        assert_eq!(listed(deltas), listed(full));
        compared += usize::from(listed(full).len() > 40);
    }
    assert_eq!(compared, sequences);
    fs::remove_dir_all(folder).expect("it is ours");
}
