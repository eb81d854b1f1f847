//! The same input through the tools of both variants into a real kernel, if they are there and this process may have a
//! network namespace of its own: what they take and refuse the interpreter takes and refuses, and what is there in the
//! end is what the interpreter has.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use svcplane::iptables;
use svcplane::net::IpFamily;
use svcplane::plan::{Mode, Plan};

use crate::plan_model::sequences::plans;

use super::tables::Tables;
use super::{FAMILIES, configs};

const VARIANTS: [&str; 2] = ["nft", "legacy"];

/// Runs a shell's script in a network namespace that ends with it.
fn in_a_namespace(script: &str, folder: &Path) -> std::io::Result<Output> {
    Command::new("unshare").args(["-n", "sh", "-c", script]).current_dir(folder).output()
}

fn tool(family: IpFamily, variant: &str, what: &str) -> String {
    let name = if family == IpFamily::V4 { "iptables" } else { "ip6tables" };
    format!("{name}-{variant}-{what}")
}

/// A folder of its own, if there is what a test needs.
fn ready(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = folder.join(format!("ipt-{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let saves = FAMILIES.map(|family| {
        VARIANTS.map(|variant| format!("{} -t nat", tool(family, variant, "save"))).join(" && ")
    });
    if in_a_namespace(&saves.join(" && "), &folder).is_ok_and(|output| output.status.success()) {
        return Some(folder);
    }
    eprintln!("skipped: no iptables, or not allowed to make a network namespace");
    fs::remove_dir_all(&folder).expect("it was made");
    None
}

type Listed = BTreeMap<String, Vec<String>>;

/// The rules of each chain as `iptables-save` prints them, without what is the same in all.
fn listed(text: &str) -> Listed {
    let mut chains = Listed::new();
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().expect("a name");
            chains.entry(format!("{table} {name}")).or_default();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rule) = rule.split_once(' ').expect("a chain and a rule");
            let mut rule = rule.replace('"', "");
            for same in [
                " --mask 255.255.255.255 --rsource",
                " --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource",
                " --reject-with icmp-port-unreachable",
                " --reject-with icmp6-port-unreachable",
            ] {
                rule = rule.replace(same, "");
            }
            chains.entry(format!("{table} {chain}")).or_default().push(rule);
        }
    }
    // Those that the tools of one variant make only when they are asked for.
    chains.retain(|name, rules| !rules.is_empty() || name.contains("SVCP-"));
    chains
}

#[test]
fn a_kernel_has_in_the_end_what_the_interpreter_has() {
    let Some(folder) = ready("ends") else { return };
    let mut runner = TestRunner::deterministic();
    let mut script = "set -e\n".to_owned();
    let mut expected: Vec<Listed> = Vec::new();
    let mut files = 0;
    for _ in 0..6 {
        let plans = plans(Mode::Iptables, 5).new_tree(&mut runner).expect("a sequence").current();
        for (config, family) in configs().iter().flat_map(|c| FAMILIES.map(|f| (c, f))) {
            let mut tables = Tables::new(family);
            let empty = Plan::empty(plans[0].node().clone(), Mode::Iptables);
            let mut inputs = vec![iptables::replace(&empty, family, config, &tables.saved())];
            let mut before = &empty;
            for plan in &plans {
                let changes = Plan::diff(before, plan);
                inputs.push(iptables::delta(plan, &changes, family, config));
                before = plan;
            }
            for input in &inputs {
                tables.apply(input).unwrap_or_else(|error| panic!("{error}\n{input}"));
            }
            let again = iptables::replace(&plans[0], family, config, &tables.saved());
            tables.apply(&again).unwrap_or_else(|error| panic!("{error}\n{again}"));
            inputs.push(again);
            inputs.insert(0, "*filter\nCOMMIT\n*nat\nCOMMIT\n".to_owned());
            for variant in VARIANTS {
                for (n, input) in inputs.iter().enumerate() {
                    fs::write(folder.join(format!("{files}")), input).expect("a file");
                    let noflush = if n == 0 { "" } else { " --noflush" };
                    let restore = tool(family, variant, "restore");
                    writeln!(script, "{restore}{noflush} < {files}").expect("a String takes it");
                    files += 1;
                }
                let save = tool(family, variant, "save");
                let clear =
                    format!("{} < {}", tool(family, variant, "restore"), files - inputs.len());
                writeln!(script, "echo '== {variant}'; {save}; {clear}")
                    .expect("a String takes it");
                expected.push(listed(&tables.saved()));
            }
        }
    }
    let output = in_a_namespace(&script, &folder).expect("it ran before");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\nin {}", folder.display());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let found: Vec<Listed> = text.split("== ").skip(1).map(listed).collect();
    assert_eq!(found.len(), expected.len());
    assert!(expected.iter().flat_map(BTreeMap::values).flatten().count() > 1_000);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    fs::remove_dir_all(&folder).expect("it was made");
}

/// Lines of the table `nat` that are taken, and such that are refused.
const TAKEN: &[&str] = &[
    ":A - [0:0]|:B - [0:0]|-A A -j B|:A - [0:0]|-X B",
    ":A - [0:0]|-A A -i -j -j RETURN|-A A -i a++ -j RETURN|-A A ! -i +a -j RETURN",
    ":A - [0:0]|-A A -i abcdefghijklmno -j RETURN|-A A -i abcdefghijklmn+ -j RETURN",
    ":ABCDEFGHIJKLMNOPQRSTUVWXYZ-8 - [0:0]|-X ABCDEFGHIJKLMNOPQRSTUVWXYZ-8",
    ":A - [0:0]|-I OUTPUT -j A|-I OUTPUT -m mark --mark 0x1/0x1 -j A|-D OUTPUT -j A",
    ":A - [0:0]|-A A -m recent --name A --rcheck --seconds 86400 --reap -j RETURN",
    ":A - [0:0]|-A A -d 10.0.0.0/8 -p tcp -j RETURN|-A A -p udp -m udp --dport 16:31 -j RETURN",
    ":A - [0:0]|-A A -p tcp -j DNAT --to-destination 10.0.0.1:80 -m tcp --dport 1:1|-A OUTPUT -j A",
    ":A - [0:0]|-A A -m statistic --mode random --probability 0.0000000000",
    ":A - [0:0]|-A A -j MARK --set-xmark 0x1/0xf|-A A -j MARK --or-mark 0x1",
];
const REFUSED: &[&str] = &[
    ":A - [0:0]|:B - [0:0]|-A A -j B|-X B",
    ":A - [0:0]|-A A -j RETURN|-X A",
    "-X A",
    ":A - [0:0]|-A A -j B",
    ":A - [0:0]|-A A -j OUTPUT",
    ":A - [0:0]|-A B -j A",
    ":A - [0:0]|:B - [0:0]|-A A -j B|-A B -j A|-A OUTPUT -j A",
    ":ABCDEFGHIJKLMNOPQRSTUVWXYZ-28 - [0:0]",
    ":A - [0:0]|-A A -i abcdefghijklmnop -j RETURN",
    ":A - [0:0]|-A A -i abcdefghijklmno+ -j RETURN",
    ":A - [0:0]|-A A -m recent --name A --rcheck --seconds 0 --reap -j RETURN",
    ":A - [0:0]|-A A -m recent --name A --rcheck --reap -j RETURN",
    ":A - [0:0]|-A A -j DROP",
    ":A - [0:0]|-A A -j REJECT|-A OUTPUT -j A",
    ":A - [0:0]|-A A -p tcp -j DNAT --to-destination 10.0.0.1:80|-A POSTROUTING -j A",
    ":A - [0:0]|-A A -j DNAT --to-destination 10.0.0.1:80",
    ":A - [0:0]|-A A -j DNAT --to-destination 10.0.0.1:80 -p tcp",
    ":A - [0:0]|-A A -j MASQUERADE|-A PREROUTING -j A",
    ":A - [0:0]|-A A -d fd00::1 -j RETURN",
    ":A - [0:0]|-A A -p tcp -m udp --dport 80 -j RETURN",
    ":A - [0:0]|-A A -p tcp --dport 16:31:2 -m tcp -j RETURN",
    ":A - [0:0]|-A A -m nothing -j RETURN",
    ":A - [0:0]|-A A -j MARK --no-mark 0x1",
    ":A - [0:0]|-D A -j RETURN",
    ":A - [0:0]|-A A -m statistic --mode random --probability 1.0000000001 -j RETURN",
];

#[test]
fn the_tools_refuse_what_the_interpreter_refuses() {
    let Some(folder) = ready("takes") else { return };
    let mut script = String::new();
    let all = TAKEN.iter().map(|input| (input, true));
    for (n, (input, taken)) in all.chain(REFUSED.iter().map(|input| (input, false))).enumerate() {
        let input = format!("*nat\n{}\nCOMMIT\n", input.replace('|', "\n"));
        let applied = Tables::new(IpFamily::V4).apply(&input);
        assert_eq!(applied.is_ok(), taken, "{applied:?}\n{input}");
        fs::write(folder.join(format!("{n}")), &input).expect("a file");
        for restore in VARIANTS.map(|variant| tool(IpFamily::V4, variant, "restore")) {
            let clear = format!("printf '*nat\\nCOMMIT\\n' | {restore}");
            let load = format!("{restore} --noflush < {n} && echo true {n} || echo false {n}");
            writeln!(script, "{clear}; {load} {restore}; {clear}").expect("a String takes it");
        }
    }
    let output = in_a_namespace(&script, &folder).expect("it ran before");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), VARIANTS.len() * (TAKEN.len() + REFUSED.len()));
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number: usize = words[1].parse().expect("a number");
        let input = fs::read_to_string(folder.join(words[1])).expect("it was written");
        assert_eq!(words[0] == "true", number < TAKEN.len(), "{line}:\n{input}");
    }
    fs::remove_dir_all(&folder).expect("it was made");
}
