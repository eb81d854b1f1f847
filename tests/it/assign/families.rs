//! The matrix of addresses, policies and families.

use std::collections::BTreeMap;

use super::{check, families_text, outcome, pools, service};
use svcplane::assign::Assignment;

/// Columns: no families, [4], [6], [4,6], [6,4].
const FAMILIES: [&str; 5] = ["", "4", "6", "46", "64"];

/// Addresses, policies (`-` is unset), then what comes of each of the families: policy and families, or `E`.
const DUAL: &str = "
    none              -  S4  S4  S6  E   E
    none              S  S4  S4  S6  E   E
    none              P  P46 P46 P64 P46 P64
    none              R  R46 R46 R64 R46 R64
    10.0.0.1          -S S4  S4  E   E   E
    10.0.0.1          P  P46 P46 E   P46 E
    10.0.0.1          R  R46 R46 E   R46 E
    2000::1           -S S6  E   S6  E   E
    2000::1           P  P64 E   P64 E   P64
    2000::1           R  R64 E   R64 E   R64
    10.0.0.1,2000::1  -S E   E   E   E   E
    10.0.0.1,2000::1  P  P46 P46 E   P46 E
    10.0.0.1,2000::1  R  R46 R46 E   R46 E
    2000::1,10.0.0.1  -S E   E   E   E   E
    2000::1,10.0.0.1  P  P64 E   P64 E   P64
    2000::1,10.0.0.1  R  R64 E   R64 E   R64
    None              -S S4  S4  S6  E   E
    None              P  P46 P46 P64 P46 P64
    None              R  R46 R46 R64 R46 R64
    detached          -  R46 R46 R64 R46 R64
    detached          S  S4  S4  S6  E   E
    detached          P  P46 P46 P64 P46 P64
    detached          R  R46 R46 R64 R46 R64
";

/// Where nothing names a family, IPv6 is the default.
const DUAL_V6: &str = "
    none              -  S6  S4  S6  E   E
    none              S  S6  S4  S6  E   E
    none              P  P64 P46 P64 P46 P64
    none              R  R64 R46 R64 R46 R64
    None              -S S6  S4  S6  E   E
    None              P  P64 P46 P64 P46 P64
    None              R  R64 R46 R64 R46 R64
    detached          -  R64 R46 R64 R46 R64
    detached          S  S6  S4  S6  E   E
    detached          P  P64 P46 P64 P46 P64
    detached          R  R64 R46 R64 R46 R64
";

const SINGLE_V4: &str = "
    none              -S S4  S4  E   E   E
    none              P  P4  P4  E   E   E
    none              R  E   E   E   E   E
    10.0.0.1          -S S4  S4  E   E   E
    10.0.0.1          P  P4  P4  E   E   E
    10.0.0.1          R  E   E   E   E   E
    2000::1           -SPR E E   E   E   E
    10.0.0.1,2000::1  -SPR E E   E   E   E
    2000::1,10.0.0.1  -SPR E E   E   E   E
    None              -S S4  S4  E   E   E
    None              P  P4  P4  E   E   E
    None              R  E   E   E   E   E
    detached          -R R46 R46 R64 R46 R64
    detached          S  S4  S4  S6  E   E
    detached          P  P46 P46 P64 P46 P64
";

const SINGLE_V6: &str = "
    none              -S S6  E   S6  E   E
    none              P  P6  E   P6  E   E
    none              R  E   E   E   E   E
    10.0.0.1          -SPR E E   E   E   E
    2000::1           -S S6  E   S6  E   E
    2000::1           P  P6  E   P6  E   E
    2000::1           R  E   E   E   E   E
    10.0.0.1,2000::1  -SPR E E   E   E   E
    2000::1,10.0.0.1  -SPR E E   E   E   E
    None              -S S6  E   S6  E   E
    None              P  P6  E   P6  E   E
    None              R  E   E   E   E   E
    detached          -R R64 R46 R64 R46 R64
    detached          S  S6  S4  S6  E   E
    detached          P  P64 P46 P64 P46 P64
";

type Key = (&'static str, char, &'static str);

fn cells(table: &'static str) -> BTreeMap<Key, &'static str> {
    let mut cells = BTreeMap::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.len(), 2 + FAMILIES.len(), "{line}");
        for policy in words[1].chars() {
            for (families, cell) in FAMILIES.iter().zip(&words[2..]) {
                let policy = if policy == 'R' { 'R' } else { policy };
                let replaced = cells.insert((words[0], policy, *families), *cell);
                assert_eq!(replaced, None, "{line} is there twice");
            }
        }
    }
    cells
}

/// Kubernetes `pkg/registry/core/service/storage/storage_test.go`, `TestCreateInitIPFields`.
#[test]
fn the_matrix() {
    let mut dual_v6 = cells(DUAL);
    dual_v6.extend(cells(DUAL_V6));
    let clusters =
        [("46", cells(DUAL)), ("64", dual_v6), ("4", cells(SINGLE_V4)), ("6", cells(SINGLE_V6))];
    let mut failures = Vec::new();
    for (cluster, cells) in clusters {
        assert_eq!(cells.len(), 7 * 4 * 5, "{cluster}: every cell");
        for ((ips, policy, families), expected) in cells {
            let stated = match ips {
                "none" => "",
                "None" => "ip=None",
                "detached" => "detached ip=None",
                ips => &format!("ip={ips}"),
            };
            let new = format!("{policy}{families} {stated}");
            let got = outcome(cluster, None, &new);
            let expected = if expected == "E" {
                "!".to_owned()
            } else {
                let stated: Vec<&str> =
                    ips.split(',').filter(|ip| ip.contains(['.', ':'])).collect();
                let count = expected.len() - 1;
                let drawn = (1..=count - stated.len()).map(|n| format!("?{n}"));
                let given: Vec<String> =
                    stated.iter().map(ToString::to_string).chain(drawn).collect();
                match ips {
                    "None" => format!("{expected} ip=None"),
                    "detached" => format!("detached {expected} ip=None"),
                    _ => format!("{expected} ip={}", given.join(",")),
                }
            };
            // Of an error, that there is one: which is another test's.
            if got != expected && !(expected == "!" && got.starts_with('!')) {
                failures.push(format!("{cluster}: {new}: {expected}, got {got}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Kubernetes `pkg/registry/core/service/storage/storage_test.go`, `TestCreateInitIPFields`: addresses that are drawn
/// are of the families, in their order.
#[test]
fn addresses_are_of_their_families() {
    for (cluster, new) in [("46", "P"), ("64", "P"), ("46", "R64"), ("64", "R46"), ("46", "S6")] {
        let assigned = Assignment::new(None, &service(new), &pools(cluster), 1).expect("a plan");
        let service = assigned.service;
        let of = |ip: &std::net::IpAddr| if ip.is_ipv4() { '4' } else { '6' };
        let digits: String = service.cluster_ips.as_slice().iter().map(of).collect();
        assert_eq!(digits, families_text(&service)[1..], "{cluster} {new}");
    }
}

/// Kubernetes `pkg/registry/core/service/storage/storage_test.go`, `TestCreateInitIPFields`: what is said of a mistake.
#[rustfmt::skip]
#[test]
fn mistakes_name_their_field() {
    check(&[
        ("46", "", "S46",                       "! spec.ipFamilyPolicy"),
        ("46", "", "-64",                       "! spec.ipFamilyPolicy"),
        ("46", "", "S ip=10.0.0.1,2000::1",     "! spec.ipFamilyPolicy"),
        ("46", "", "P4 ip=2000::1",             "! spec.clusterIPs[0]"),
        ("46", "", "P ip=10.0.0.1,10.0.0.2",    "! spec.clusterIPs[1]"),
        ("4",  "", "S6",                        "! spec.ipFamilies[0]"),
        ("4",  "", "P46",                       "! spec.ipFamilies[1]"),
        ("4",  "", "P64",                       "! spec.ipFamilies[0]"),
        ("4",  "", "R",                         "! spec.ipFamilyPolicy"),
        ("4",  "", "R6",                        "! spec.ipFamilies[0] spec.ipFamilyPolicy"),
        ("4",  "", "-4 ip=None",                "S4 ip=None"),
        ("4",  "", "S ip=2000::1",              "! spec.clusterIPs[0]"),
        ("4",  "", "P ip=10.0.0.1,2000::1",     "! spec.clusterIPs[1]"),
        ("4",  "", "S6 ip=None",                "! spec.ipFamilies[0]"),
        ("46", "", "S ip=10.0.0.9",             "! spec.clusterIPs[0]"),
        ("46", "", "P ip=10.0.0.1,2000::9",     "! spec.clusterIPs[1]"),
        ("46", "", "P ip=10.0.0.9,2000::9",     "! spec.clusterIPs[0] spec.clusterIPs[1]"),
        ("46", "", "S ip=10.0.0.0",             "! spec.clusterIPs[0]"),
        ("46", "", "S ip=10.0.0.255",           "! spec.clusterIPs[0]"),
        ("46", "", "S ip=10.0.1.1",             "! spec.clusterIPs[0]"),
        ("",   "", "S",                         "! spec.ipFamilies"),
        // An ExternalName has none of it.
        ("46", "", "External",                  "External"),
        // Mistakes of all kinds at once.
        ("46", "", "NodePort S ip=10.0.0.9 a/TCP/1/30009 b/TCP/2/30001 c/TCP/3/30001",
            "! spec.clusterIPs[0] spec.ports[0].nodePort spec.ports[2].nodePort"),
        ("4",  "", "NodePort R a/TCP/1/30009",  "! spec.ipFamilyPolicy spec.ports[0].nodePort"),
        ("46", "", "a/TCP/1/30001 hc=30002",    "! spec.healthCheckNodePort spec.ports[0].nodePort"),
    ]);
}
