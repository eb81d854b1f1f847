//! The source's shape: imports go down only, files stay small, one style of module files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the crate's root and the layer that it is in. A module may use modules of lower layers.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["time", "net", "name", "field", "bitset", "draw"]),
    (1, &["labels", "ipam", "backend"]),
    (2, &["sched", "affinity"]),
    (3, &["balancer", "service", "pod", "node"]),
    (4, &["endpoints", "assign", "sync"]),
    (5, &["k8s", "dns", "env", "plan"]),
    (6, &["rules"]),
    (7, &["catalog", "iptables", "ipvs", "nftables"]),
    (8, &["kernel"]),
    (9, &["guide"]),
];

fn sources() -> Vec<PathBuf> {
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_none_or(|extension| extension != "md") {
                files.push(path); // chapters of the documentation are no source
            }
        }
    }
    files.sort();
    assert!(files.len() > 20, "src was not found");
    files
}

/// `src/plan/route.rs` belongs to `plan`.
fn module(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let relative = path.strip_prefix(src).expect("below src");
    let first = relative.components().next().expect("a name").as_os_str();
    Path::new(first).file_stem().expect("a stem").to_str().expect("UTF-8").to_owned()
}

/// The modules named after `crate::` in code (not in comments), groups included.
fn mentions(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let code = code.join("\n");
    let mut names = Vec::new();
    for (at, marker) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + marker.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                    _ if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            names.push(name);
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    let first = |name: &String| name.trim().split("::").next().unwrap_or("").to_owned();
    names.iter().map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn groups_and_comments_are_understood() {
    let text = "use crate::{node, pod::Pod, service::{self, Service}};\n// crate::plan\nlet x = crate::net::a();";
    assert_eq!(mentions(text), ["node", "pod", "service", "net"]);
}

#[test]
fn imports_go_to_lower_layers_only() {
    let layers: BTreeMap<&str, u8> =
        LAYERS.iter().flat_map(|(layer, names)| names.iter().map(|&name| (name, *layer))).collect();
    let mut seen = BTreeSet::new();
    for path in sources() {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let Some(&layer) = layers.get(own.as_str()) else {
            panic!("{}: module `{own}` has no layer in this test", path.display());
        };
        let text = fs::read_to_string(&path).expect("a source file");
        for used in mentions(&text) {
            if used == own {
                continue;
            }
            let Some(&lower) = layers.get(used.as_str()) else {
                panic!("{}: `crate::{used}` has no layer in this test", path.display());
            };
            assert!(
                lower < layer,
                "{}: `{own}` (layer {layer}) uses `{used}` (layer {lower})",
                path.display()
            );
        }
        seen.insert(own);
    }
    let missing: Vec<_> = layers.keys().filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "no source for {missing:?}");
}

#[test]
fn files_are_small_and_modules_are_named_files() {
    for path in sources() {
        assert_ne!(path.file_name().expect("a name"), "mod.rs", "{}", path.display());
        let text = fs::read_to_string(&path).expect("a source file");
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        assert!(lines <= 600, "{} has {lines} lines before its tests: two ideas?", path.display());
    }
}

#[test]
fn the_root_has_no_logic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = fs::read_to_string(root).expect("the root");
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let fine = ["#!", "#[cfg(", "extern crate ", "pub mod ", "mod ", "pub use ", "//"];
        assert!(fine.iter().any(|start| line.starts_with(start)), "logic in the root: {line}");
    }
}
