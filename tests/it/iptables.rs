//! Input for iptables-restore: kube-proxy's names, its rules for the scenario that its own tests print whole, and what a delta touches.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use svcplane::iptables::{Config, Layout, compile, delta, jumps};
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{Mode, Plan, ServicePortName};
use svcplane::rules::{endpoint_hash, port_hash};
use svcplane::service::{Service, ServicePort};

use crate::flows::scenario::Scenario;

fn kube() -> Config {
    let mut config = Config::default();
    config.prefix = "KUBE".parse().expect("a prefix");
    config.layout = Layout::Linear;
    config
}

fn port(service: &str, port: &str, protocol: Protocol) -> ServicePortName {
    let (namespace, name) = service.split_once('/').expect("namespace/name");
    let service = Service::new(ObjectName::new(namespace, name).expect("a name"));
    let mut of = ServicePort::new(80);
    of.name = (!port.is_empty()).then(|| port.parse().expect("a label"));
    of.protocol = protocol;
    ServicePortName::new(&service, &of)
}

/// kube-proxy's `TestChainNames` and names seen in real clusters.
#[test]
fn names_are_kube_proxys() {
    use Protocol::{Sctp, Tcp, Udp};
    for (service, name, protocol, hash) in [
        ("ns1/svc1", "p80", Tcp, "XPGD46QRK7WJZT7O"),
        ("ns2/svc2", "p80", Tcp, "GNZBNJ2PO5MGZ6GT"),
        ("ns5/svc5", "p80", Tcp, "NUKIZ6OKUXPJNT4C"),
        ("ns2/svc2", "p8080", Tcp, "2VJB64SDSIJUP5T6"),
        ("default/kubernetes", "https", Tcp, "NPX46M4PTMTKRN6Y"),
        ("kube-system/kube-dns", "dns", Udp, "TCOU7JCQXEZGVUNU"),
        ("kube-system/kube-dns", "dns-tcp", Tcp, "ERIFXISQEP7F7OF4"),
        ("default/nginx", "", Tcp, "2CMXP7HKUVJN7L6M"),
        ("ns1/svc1", "p80", Udp, "OJWW7NSBVZTDHXNW"),
        ("ns1/svc1", "p80", Sctp, "GFCIFIA5VTFSTMSM"),
    ] {
        assert_eq!(port_hash(&port(service, name, protocol)), hash, "{service}:{name}");
    }
    for (service, name, addr, hash) in [
        ("ns1/svc1", "p80", "10.180.0.1:80", "SXIVWICOYRO3J4NJ"),
        ("ns4/svc4", "p80", "10.180.0.5:80", "C6EBXVWJJZMIWKLZ"),
        ("ns2/svc2", "p8080", "10.0.2.1:8080", "UHEGFW77JX3KXTOV"),
        ("ns3/svc3", "p8081", "203.0.113.4:8081", "RUVVH7YV3PHQBDOS"),
        ("ns1/svc1", "p80", "[fd00:10:180::1]:80", "OGYCNMB4EMRUSJ6N"),
    ] {
        let addr: SocketAddr = addr.parse().expect("an address");
        assert_eq!(endpoint_hash(&port(service, name, Tcp), addr), hash, "{service}:{name} {addr}");
    }
}

fn scenario(name: &str) -> Scenario {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows").join(name);
    let text = fs::read_to_string(&file).expect("a file");
    Scenario::read(serde_json::from_str(&text).expect("JSON")).expect("a scenario")
}

/// The rules of each chain in their order, without comments.
fn rules(input: &str) -> BTreeMap<String, Vec<String>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = "";
    for line in input.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, mut rule) = rule.split_once(' ').expect("a chain and a rule");
            if let Some(comment) = rule.strip_prefix("-m comment --comment \"") {
                rule = comment.split_once("\" ").expect("more than a comment").1;
            }
            let chain = format!("{table} {chain}");
            chains.entry(chain).or_default().push(rule.to_owned());
        }
    }
    chains
}

/// kube-proxy's `TestOverallIPTablesRules`, but for packets that it counts, for a rule without target in KUBE-FW, and for what keeps
/// translated packets from being refused.
#[test]
fn the_overall_scenario_is_kube_proxys() {
    let plan = scenario("overall.json").plan(Mode::Iptables);
    let found = rules(&compile(&plan, IpFamily::V4, &kube()));
    let mut expected: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut table = "";
    for line in OVERALL.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else {
            let (chain, rule) = line.split_once(' ').expect("a chain and a rule");
            expected.entry(format!("{table} KUBE-{chain}")).or_default().insert(rule);
        }
    }
    let unordered: BTreeMap<String, BTreeSet<&str>> = found
        .iter()
        .map(|(chain, rules)| (chain.clone(), rules.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(unordered, expected);
    // Where the order matters.
    let of = |chain: &str| found[&format!("nat KUBE-{chain}")].clone();
    assert_eq!(
        of("SERVICES").last().expect("a rule"),
        "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
    );
    assert_eq!(of("SVC-4SW47YFZTEDKD3PK")[0], SVC4_MARK);
    assert_eq!(of("SVC-4SW47YFZTEDKD3PK")[2], "-j KUBE-SEP-C6EBXVWJJZMIWKLZ");
    assert!(of("SVC-NUKIZ6OKUXPJNT4C")[1].starts_with("-m recent"));
    assert!(of("EXT-GNZBNJ2PO5MGZ6GT")[0].starts_with("-s 10.0.0.0/8"));
    assert_eq!(of("SEP-I77PXRDZVX7PMWMN")[0], "-s 10.180.0.3 -j KUBE-MARK-MASQ");
}

const SVC4_MARK: &str = "-m tcp -p tcp -d 172.30.0.44 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ";

const OVERALL: &str = "
*filter
NODEPORTS -m tcp -p tcp --dport 30000 -j ACCEPT
SERVICES -m conntrack --ctstate DNAT -j RETURN
SERVICES -m tcp -p tcp -d 172.30.0.46 --dport 80 -j REJECT
EXTERNAL-SERVICES -m conntrack --ctstate DNAT -j RETURN
EXTERNAL-SERVICES -m tcp -p tcp -d 192.168.99.22 --dport 80 -j DROP
EXTERNAL-SERVICES -m tcp -p tcp -d 1.2.3.4 --dport 80 -j DROP
EXTERNAL-SERVICES -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 3001 -j DROP
PROXY-FIREWALL -m conntrack --ctstate DNAT -j RETURN
PROXY-FIREWALL -m tcp -p tcp -d 5.6.7.8 --dport 80 -j DROP
FIREWALL -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
FORWARD -m conntrack --ctstate INVALID -j DROP
FORWARD -m mark --mark 0x00004000/0x00004000 -j ACCEPT
FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
*nat
NODEPORTS -m tcp -p tcp --dport 3001 -j KUBE-EXT-GNZBNJ2PO5MGZ6GT
NODEPORTS -m tcp -p tcp --dport 3003 -j KUBE-EXT-X27LE4BHSL4DOUIK
NODEPORTS -m tcp -p tcp --dport 3002 -j KUBE-EXT-NUKIZ6OKUXPJNT4C
SERVICES -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
SERVICES -m tcp -p tcp -d 172.30.0.42 --dport 80 -j KUBE-SVC-GNZBNJ2PO5MGZ6GT
SERVICES -m tcp -p tcp -d 192.168.99.22 --dport 80 -j KUBE-EXT-GNZBNJ2PO5MGZ6GT
SERVICES -m tcp -p tcp -d 1.2.3.4 --dport 80 -j KUBE-EXT-GNZBNJ2PO5MGZ6GT
SERVICES -m tcp -p tcp -d 172.30.0.43 --dport 80 -j KUBE-SVC-X27LE4BHSL4DOUIK
SERVICES -m tcp -p tcp -d 172.30.0.44 --dport 80 -j KUBE-SVC-4SW47YFZTEDKD3PK
SERVICES -m tcp -p tcp -d 192.168.99.33 --dport 80 -j KUBE-EXT-4SW47YFZTEDKD3PK
SERVICES -m tcp -p tcp -d 172.30.0.45 --dport 80 -j KUBE-SVC-NUKIZ6OKUXPJNT4C
SERVICES -m tcp -p tcp -d 5.6.7.8 --dport 80 -j KUBE-FW-NUKIZ6OKUXPJNT4C
SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN
POSTROUTING -j MARK --xor-mark 0x00004000
POSTROUTING -j MASQUERADE --random-fully
MARK-MASQ -j MARK --or-mark 0x00004000
EXT-GNZBNJ2PO5MGZ6GT -s 10.0.0.0/8 -j KUBE-SVC-GNZBNJ2PO5MGZ6GT
EXT-GNZBNJ2PO5MGZ6GT -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
EXT-GNZBNJ2PO5MGZ6GT -m addrtype --src-type LOCAL -j KUBE-SVC-GNZBNJ2PO5MGZ6GT
EXT-X27LE4BHSL4DOUIK -j KUBE-MARK-MASQ
EXT-X27LE4BHSL4DOUIK -j KUBE-SVC-X27LE4BHSL4DOUIK
EXT-4SW47YFZTEDKD3PK -j KUBE-MARK-MASQ
EXT-4SW47YFZTEDKD3PK -j KUBE-SVC-4SW47YFZTEDKD3PK
EXT-NUKIZ6OKUXPJNT4C -j KUBE-MARK-MASQ
EXT-NUKIZ6OKUXPJNT4C -j KUBE-SVC-NUKIZ6OKUXPJNT4C
FW-NUKIZ6OKUXPJNT4C -s 203.0.113.0/25 -j KUBE-EXT-NUKIZ6OKUXPJNT4C
SVC-XPGD46QRK7WJZT7O -m tcp -p tcp -d 172.30.0.41 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
SVC-XPGD46QRK7WJZT7O -j KUBE-SEP-SXIVWICOYRO3J4NJ
SVC-GNZBNJ2PO5MGZ6GT -m tcp -p tcp -d 172.30.0.42 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
SVC-GNZBNJ2PO5MGZ6GT -j KUBE-SEP-RS4RBKLTHTF2IUXJ
SVC-X27LE4BHSL4DOUIK -m tcp -p tcp -d 172.30.0.43 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
SVC-X27LE4BHSL4DOUIK -j KUBE-SEP-OYPFS5VJICHGATKP
SVC-4SW47YFZTEDKD3PK -m tcp -p tcp -d 172.30.0.44 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
SVC-4SW47YFZTEDKD3PK -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-UKSFD7AGPMPPLUHC
SVC-4SW47YFZTEDKD3PK -j KUBE-SEP-C6EBXVWJJZMIWKLZ
SVC-NUKIZ6OKUXPJNT4C -m tcp -p tcp -d 172.30.0.45 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
SVC-NUKIZ6OKUXPJNT4C -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --rcheck --seconds 10800 --reap -j KUBE-SEP-I77PXRDZVX7PMWMN
SVC-NUKIZ6OKUXPJNT4C -j KUBE-SEP-I77PXRDZVX7PMWMN
SEP-SXIVWICOYRO3J4NJ -s 10.180.0.1 -j KUBE-MARK-MASQ
SEP-SXIVWICOYRO3J4NJ -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80
SEP-RS4RBKLTHTF2IUXJ -s 10.180.0.2 -j KUBE-MARK-MASQ
SEP-RS4RBKLTHTF2IUXJ -m tcp -p tcp -j DNAT --to-destination 10.180.0.2:80
SEP-OYPFS5VJICHGATKP -s 10.180.0.3 -j KUBE-MARK-MASQ
SEP-OYPFS5VJICHGATKP -m tcp -p tcp -j DNAT --to-destination 10.180.0.3:80
SEP-UKSFD7AGPMPPLUHC -s 10.180.0.4 -j KUBE-MARK-MASQ
SEP-UKSFD7AGPMPPLUHC -m tcp -p tcp -j DNAT --to-destination 10.180.0.4:80
SEP-C6EBXVWJJZMIWKLZ -s 10.180.0.5 -j KUBE-MARK-MASQ
SEP-C6EBXVWJJZMIWKLZ -m tcp -p tcp -j DNAT --to-destination 10.180.0.5:80
SEP-I77PXRDZVX7PMWMN -s 10.180.0.3 -j KUBE-MARK-MASQ
SEP-I77PXRDZVX7PMWMN -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --set -m tcp -p tcp -j DNAT --to-destination 10.180.0.3:80
";

/// A delta names the chains through which all packets go, those that changed, and those that go; nothing else.
#[test]
fn deltas_name_what_changed() {
    let mut scenario = scenario("overall.json");
    let before = scenario.plan(Mode::Iptables);
    let gone = scenario.services.remove(3);
    assert_eq!(gone.0.name.to_string(), "ns4/svc4");
    let after = scenario.plan(Mode::Iptables);
    let changes = Plan::diff(&before, &after);
    let input = delta(&after, &changes, IpFamily::V4, &kube());
    let own = |line: &&str| {
        line.starts_with(':')
            && line.contains("SVC-") | line.contains("SEP-") | line.contains("EXT-")
    };
    let named: Vec<&str> = input.lines().filter(own).collect();
    assert_eq!(
        named,
        [
            ":KUBE-EXT-4SW47YFZTEDKD3PK - [0:0]",
            ":KUBE-SEP-C6EBXVWJJZMIWKLZ - [0:0]",
            ":KUBE-SEP-UKSFD7AGPMPPLUHC - [0:0]",
            ":KUBE-SVC-4SW47YFZTEDKD3PK - [0:0]",
        ]
    );
    let deleted: Vec<&str> = input.lines().filter(|line| line.starts_with("-X")).collect();
    assert_eq!(
        deleted,
        [
            "-X KUBE-EXT-4SW47YFZTEDKD3PK",
            "-X KUBE-SEP-C6EBXVWJJZMIWKLZ",
            "-X KUBE-SEP-UKSFD7AGPMPPLUHC",
            "-X KUBE-SVC-4SW47YFZTEDKD3PK",
        ]
    );
    assert!(!input.contains("172.30.0.44"));
    // And back: they are filled again, and nothing is deleted.
    let back = delta(&before, &Plan::diff(&after, &before), IpFamily::V4, &kube());
    let (found, whole) = (rules(&back), rules(&compile(&before, IpFamily::V4, &kube())));
    for chain in
        ["nat KUBE-SVC-4SW47YFZTEDKD3PK", "nat KUBE-EXT-4SW47YFZTEDKD3PK", "nat KUBE-SERVICES"]
    {
        assert_eq!(found[chain], whole[chain], "{chain}");
    }
    assert!(!found.contains_key("nat KUBE-SVC-XPGD46QRK7WJZT7O") && !back.contains("\n-X "));
    assert_eq!(delta(&after, &Plan::diff(&after, &after), IpFamily::V4, &kube()), "");
}

/// kube-proxy's order of jumps, but for the last of those in OUTPUT: what is inserted last comes first.
#[test]
fn jumps_come_in_kube_proxys_order() {
    let plan = scenario("overall.json").plan(Mode::Iptables);
    let of = |family, table: &str, chain: &str| {
        let mut targets: Vec<String> = jumps(&plan, family, &kube())
            .into_iter()
            .filter(|jump| (jump.table, jump.chain) == (table, chain))
            .filter_map(|jump| jump.rule.last().cloned())
            .collect();
        targets.reverse();
        targets.join(" ").replace("KUBE-", "")
    };
    assert_eq!(
        of(IpFamily::V4, "filter", "INPUT"),
        "FIREWALL PROXY-FIREWALL NODEPORTS EXTERNAL-SERVICES"
    );
    assert_eq!(of(IpFamily::V6, "filter", "INPUT"), "PROXY-FIREWALL NODEPORTS EXTERNAL-SERVICES");
    assert_eq!(
        of(IpFamily::V4, "filter", "FORWARD"),
        "PROXY-FIREWALL FORWARD SERVICES EXTERNAL-SERVICES"
    );
    assert_eq!(
        of(IpFamily::V4, "filter", "OUTPUT"),
        "FIREWALL PROXY-FIREWALL SERVICES EXTERNAL-SERVICES"
    );
    assert_eq!(of(IpFamily::V6, "nat", "POSTROUTING"), "POSTROUTING");
}
