//! Names, and how ports' shares are cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::name::ObjectName;
use svcplane::net::Protocol;
use svcplane::nftables::{self, Layout, TableName};
use svcplane::plan::{LocalNode, Mode, Plan, ServicePortName};
use svcplane::rules;
use svcplane::service::{ClusterIps, Service, ServicePort};

use crate::ends::cluster;
use crate::plan_model::Cluster;

use super::script::{Data, Led, Value};
use super::{config, configs, loaded};

fn service(name: &str, port: &str) -> Service {
    let mut service = Service::new(name.parse().expect("a name"));
    service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.1".parse().expect("an address")]);
    let mut named = ServicePort::new(80);
    named.name = (!port.is_empty()).then(|| port.parse().expect("a label"));
    service.ports = vec![named];
    service
}

fn port_name(name: &str, port: &str) -> ServicePortName {
    let service = service(name, port);
    ServicePortName::new(&service, &service.ports[0])
}

fn endpoint(ip: &str, number: u16, name: &str) -> Endpoint {
    let mut endpoint = Endpoint::new(ip.parse().expect("an address"));
    let mut port = EndpointPort::new(number);
    port.name = (!name.is_empty()).then(|| name.parse().expect("a label"));
    endpoint.ports = [port].into();
    endpoint
}

fn plan(service: &Service, endpoints: impl IntoIterator<Item = Endpoint>) -> Plan {
    let set = EndpointSet::new(service.name.clone(), endpoints);
    let node = LocalNode::new("here".parse().expect("a name"));
    Plan::new(&node, Mode::Nftables, [(service, &set)])
}

/// Source: kube-proxy's iptables tests.
#[test]
fn hashes_are_kube_proxys() {
    for (name, port, hash) in [
        ("ns1/svc1", "p80", "XPGD46QRK7WJZT7O"),
        ("ns2/svc2", "p80", "GNZBNJ2PO5MGZ6GT"),
        ("ns3/svc3", "p80", "X27LE4BHSL4DOUIK"),
        ("ns4/svc4", "p80", "4SW47YFZTEDKD3PK"),
        ("ns5/svc5", "p80", "NUKIZ6OKUXPJNT4C"),
        ("ns2/svc2", "p8080", "2VJB64SDSIJUP5T6"),
    ] {
        assert_eq!(rules::port_hash(&port_name(name, port)), hash, "{name}:{port}");
    }
    for (name, addr, hash) in [
        ("ns1/svc1", "10.180.0.1:80", "SXIVWICOYRO3J4NJ"),
        ("ns2/svc2", "10.180.0.2:80", "RS4RBKLTHTF2IUXJ"),
        ("ns3/svc3", "10.180.0.3:80", "OYPFS5VJICHGATKP"),
        ("ns4/svc4", "10.180.0.4:80", "UKSFD7AGPMPPLUHC"),
        ("ns4/svc4", "10.180.0.5:80", "C6EBXVWJJZMIWKLZ"),
        ("ns5/svc5", "10.180.0.3:80", "I77PXRDZVX7PMWMN"),
    ] {
        let addr: SocketAddr = addr.parse().expect("an address");
        assert_eq!(rules::endpoint_hash(&port_name(name, "p80"), addr), hash, "{name} {addr}");
    }
    let mut udp = port_name("ns1/svc1", "p80");
    udp.protocol = Protocol::Udp;
    assert_ne!(rules::port_hash(&udp), "XPGD46QRK7WJZT7O");
}

/// Source: kube-proxy's nftables tests.
#[test]
fn chains_have_kube_proxys_names() {
    let config = config(Layout::Chains, <_>::default());
    for (name, port, ips, chains) in [
        ("ns1/svc1", "p80", vec!["10.180.0.1"], vec!["ULMVA6XW", "5OJB2KTY"]),
        ("ns2/svc2", "p80", vec!["10.180.0.2"], vec!["42NFTM6N", "SGOXE6O3"]),
        ("ns3/svc3", "p80", vec!["10.180.0.3"], vec!["4AT6LBPK", "UEIP74TE"]),
        (
            "ns4/svc4",
            "p80",
            vec!["10.180.0.4", "10.180.0.5"],
            vec!["LAUZTJTB", "UNZV3OEC", "5RFCDDV7"],
        ),
    ] {
        let endpoints = ips.iter().map(|ip| endpoint(ip, 80, port));
        let script = nftables::compile(&plan(&service(name, port), endpoints), &config);
        let base = format!("{name}/tcp/{port}");
        assert!(script.contains(&format!("\nchain service-{}-{base} {{\n", chains[0])), "{script}");
        for (ip, hash) in ips.iter().zip(&chains[1..]) {
            let chain = format!("\nchain endpoint-{hash}-{base}__{ip}/80 {{\n");
            assert!(script.contains(&chain), "{script}");
        }
    }
}

/// Whatever names are, those of chains fit, are distinct, and say by their ends that they are cut.
#[test]
fn long_names_are_cut() {
    let long = |n: usize| "a".repeat(n);
    let name = ObjectName::new(&long(63), &long(253)).expect("legal");
    let mut long_service = service("ns/x", &long(63));
    long_service.name = name;
    long_service.client_ip_affinity = Some(core::time::Duration::MAX);
    let endpoints =
        [endpoint("10.0.0.1", 65_535, &long(63)), endpoint("10.0.0.2", 65_535, &long(63))];
    let config = config(Layout::Chains, <_>::default());
    let rules = loaded(&plan(&long_service, endpoints), &config);
    let table = rules.tables.values().next().expect("a table");
    let own: Vec<&String> = table.chains.keys().filter(|name| name.contains('/')).collect();
    assert_eq!(own.len(), 3, "{own:?}");
    for name in own {
        let (_, base) = name.split_once('-').expect("a prefix");
        assert!(base.len() == 240 && base.ends_with("..."), "{name}");
    }
    // One that just fits.
    let just = ObjectName::new(&long(63), &long(240 - 8 - 1 - 63 - 1 - 5)).expect("legal");
    let mut fitting = service("ns/x", "");
    fitting.name = just;
    let rules = loaded(&plan(&fitting, [endpoint("10.0.0.1", 80, "")]), &config);
    let table = rules.tables.values().next().expect("a table");
    let chain = table.chains.keys().find(|name| name.starts_with("service-")).expect("there");
    assert!(chain.ends_with("/tcp/") && chain.len() == "service-".len() + 240, "{chain}");
}

#[test]
fn an_address_in_a_name_has_no_colons() {
    let mut service = service("ns/six", "");
    service.cluster_ips = ClusterIps::Assigned(vec!["fd00::1".parse().expect("an address")]);
    let plan = plan(&service, [endpoint("fd00:1::2", 80, "")]);
    let script = nftables::compile(&plan, &config(Layout::Chains, <_>::default()));
    assert!(script.contains("-ns/six/tcp/__fd00.1..2/80 {\n"), "{script}");
}

#[test]
fn tables_have_names_that_can_be_written() {
    for good in ["svcplane", "a", "A-1_b", &"x".repeat(32)] {
        assert_eq!(good.parse::<TableName>().expect(good).as_str(), good);
    }
    for bad in ["", "1a", "-a", "_a", "a b", "a;b", "a\n", "a.b", "ä", "a{", &"x".repeat(33)] {
        assert!(bad.parse::<TableName>().is_err(), "{bad:?}");
    }
}

/// The number of slots that each backend has, by what the slots are of.
type Shares = BTreeMap<(Vec<Value>, String), BTreeMap<SocketAddr, usize>>;

fn shares(cluster: &Cluster) -> Vec<Shares> {
    let rules = loaded(&cluster.plan(), &configs()[0]);
    let of = |table: &super::ruleset::Contents| {
        let mut shares = Shares::new();
        for (name, set) in table.sets.iter().filter(|(name, _)| name.contains("slots-")) {
            let Data::Fields(_) = set.spec.data else { panic!("{name} leads to endpoints") };
            for (key, held) in &set.elements {
                let Led::Values(to) = &held.data else { panic!("{name}: {held:?}") };
                let [Value::Net(ip), Value::Number(port)] = to[..] else {
                    panic!("{name}: {to:?}")
                };
                let port = u16::try_from(port).expect("a port");
                let (slot, of) = key.split_last().expect("a key");
                let all: u64 = name.rsplit('-').next().and_then(|n| n.parse().ok()).expect(name);
                assert!(matches!(slot, Value::Number(n) if *n < all), "{name}: {key:?}");
                let backends = shares.entry((of.to_vec(), name.clone())).or_default();
                *backends.entry(SocketAddr::new(ip.addr(), port)).or_default() += 1;
            }
        }
        for ((_, name), backends) in &shares {
            let all: usize = name.rsplit('-').next().and_then(|n| n.parse().ok()).expect(name);
            assert_eq!(
                backends.values().sum::<usize>(),
                all,
                "each slot of {name} leads somewhere"
            );
        }
        shares
    };
    rules.tables.values().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Equal weights have equal parts; of others at most a fiftieth of all goes elsewhere than they say.
    #[test]
    fn slots_are_as_weights_say(mut cluster in cluster(Mode::Nftables)) {
        for (service, _) in &mut cluster.services {
            service.client_ip_affinity = None;
        }
        let plan = cluster.plan();
        for shares in shares(&cluster) {
            for ((key, name), backends) in shares {
                let weights: BTreeMap<SocketAddr, u32> = plan
                    .ports()
                    .flat_map(|port| [&port.cluster, &port.local])
                    .map(|targets| &targets.backends)
                    .filter(|found| found.iter().map(|b| b.addr).eq_sorted(backends.keys()))
                    .map(|found| found.iter().map(|b| (b.addr, b.weight)).collect())
                    .find(|weights: &BTreeMap<_, _>| is_near(&backends, weights))
                    .ok_or_else(|| TestCaseError::fail(format!("{key:?} {name}: {backends:?}")))?;
                if weights.values().all(|weight| Some(weight) == weights.values().next()) {
                    prop_assert!(backends.values().all(|slots| *slots == 1), "{backends:?}");
                }
            }
        }
    }
}

/// Whether the same addresses come, in any order.
trait Same: Iterator<Item = SocketAddr> + Sized {
    fn eq_sorted<'a>(self, others: impl Iterator<Item = &'a SocketAddr>) -> bool {
        let mut own: Vec<SocketAddr> = self.collect();
        own.sort_unstable();
        own.iter().eq(others)
    }
}

impl<I: Iterator<Item = SocketAddr>> Same for I {}

fn is_near(slots: &BTreeMap<SocketAddr, usize>, weights: &BTreeMap<SocketAddr, u32>) -> bool {
    let of = |n: usize| u32::try_from(n).map(f64::from).expect("few");
    let all = of(slots.values().sum());
    let weight: f64 = weights.values().map(|w| f64::from(*w)).sum();
    let misplaced: f64 = slots
        .iter()
        .map(|(addr, slots)| (of(*slots) / all - f64::from(weights[addr]) / weight).abs() / 2.0)
        .sum();
    misplaced <= 0.02 + 1e-9
}
