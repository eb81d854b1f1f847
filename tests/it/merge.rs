//! What EndpointSlices say together, in any order, all at once or one by one; and what is said twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use svcplane::endpoints::{
    Conditions, Duplicate, Endpoint, EndpointPort, EndpointSet, EndpointSlice, Merged, Reference,
    Statement,
};
use svcplane::labels::Labels;
use svcplane::name::{NodeName, ObjectName};
use svcplane::net::{IpFamily, Protocol};
use svcplane::node::Nodes;
use svcplane::plan::{LocalNode, Mode, Plan};
use svcplane::pod::{Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServicePort, TrafficPolicy};

fn name(name: &str) -> ObjectName {
    ObjectName::new("ns", name).expect("a name")
}

fn node(name: &str) -> NodeName {
    name.parse().expect("a name")
}

/// A port as text, `a=80/UDP`; unnamed and of TCP if nothing else is said.
fn port(text: &str) -> EndpointPort {
    let (name, number) = text.split_once('=').unwrap_or(("", text));
    let (number, protocol) = number.split_once('/').unwrap_or((number, "TCP"));
    let mut port = EndpointPort::new(number.parse().expect("a number"));
    port.name = (!name.is_empty()).then(|| name.parse().expect("a label"));
    port.protocol = protocol.parse().expect("a protocol");
    port
}

/// An endpoint as text: address, state (ready if nothing is said), `@` and its node, `pod` or `pod/uid`.
fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let mut endpoint =
        Endpoint::new(words.next().and_then(|ip| ip.parse().ok()).expect("an address"));
    for word in words {
        let state = match word {
            "published" => (true, true, true),
            "draining" => (false, true, true),
            "serving" => (false, true, false),
            "unready" => (false, false, false),
            "going" => (false, false, true),
            _ => {
                if let Some(name) = word.strip_prefix('@') {
                    endpoint.node = Some(node(name));
                } else {
                    let (pod, uid) = word.split_once('/').unwrap_or((word, ""));
                    endpoint.target = Some(Reference::new("Pod", &name(pod), uid));
                }
                continue;
            }
        };
        let (ready, serving, terminating) = state;
        endpoint.conditions = Conditions { ready, serving, terminating };
    }
    endpoint
}

fn slice(slice: &str, ports: &[&str], endpoints: &[&str]) -> EndpointSlice {
    let endpoints: Vec<Endpoint> = endpoints.iter().map(|text| endpoint(text)).collect();
    let family = endpoints.first().map_or(IpFamily::V4, |endpoint| IpFamily::of(endpoint.ip));
    let mut slice = EndpointSlice::new(name(slice), name("svc"), family);
    slice.set_endpoints(ports.iter().map(|text| port(text)), endpoints);
    slice
}

fn merge<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> EndpointSet {
    EndpointSet::merge(name("svc"), slices)
}

/// What it is, the slices (name, ports, endpoints), the node that looks, how many endpoints there are, where each of the
/// ports `a` and `b` and an unnamed one leads and to which pod, what stands back.
type Row = (
    &'static str,
    &'static [(&'static str, &'static [&'static str], &'static [&'static str])],
    &'static str,
    usize,
    &'static [&'static str],
    &'static [&'static str],
);

/// What is said of a duplicate: where, what counts and what does not, each by pod (`-` for none) and slice.
fn sentence(text: &str) -> String {
    let statement = |word: &str| {
        let (pod, slice) = word.split_once('.').expect("a pod and a slice");
        let pod = if pod == "-" { "the address".into() } else { format!("Pod ns/{pod}") };
        format!("{pod} of EndpointSlice ns/{slice}")
    };
    let words: Vec<&str> = text.split(' ').collect();
    format!("{} {} hides {}", words[0], statement(words[1]), statement(words[2]))
}

const PORT: &[&str] = &["80"];

#[rustfmt::skip]
const SEVERAL: &[Row] = &[
    ("one uid in two slices", &[("s2", PORT, &["10.0.0.1 x/1"]), ("s1", PORT, &["10.0.0.1 x/1"])],
        "", 1, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s1 x.s2"]),
    ("one uid, ready in one", &[("s1", PORT, &["10.0.0.1 unready x/1"]), ("s2", PORT, &["10.0.0.1 x/1"])],
        "", 1, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s2 x.s1"]),
    ("one uid, two names", &[("s1", PORT, &["10.0.0.1 y/1"]), ("s2", PORT, &["10.0.0.1 x/1"])],
        "", 1, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s1 x.s2"]),
    ("one name without uid", &[("s1", PORT, &["10.0.0.1 x"]), ("s2", PORT, &["10.0.0.1 x"])],
        "", 1, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s1 x.s2"]),
    ("one name with and without uid", &[("s1", PORT, &["10.0.0.1 x/1"]), ("s2", PORT, &["10.0.0.1 x"])],
        "", 2, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s1 x.s2"]),
    ("two names without uid", &[("s1", PORT, &["10.0.0.1 x"]), ("s2", PORT, &["10.0.0.1 y"])],
        "", 2, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s1 y.s2"]),
    ("nothing behind", &[("s1", PORT, &["10.0.0.1"]), ("s2", PORT, &["10.0.0.1"])],
        "", 1, &["10.0.0.1:80 -"], &["10.0.0.1:80/TCP: -.s1 -.s2"]),
    ("something and nothing behind", &[("s1", PORT, &["10.0.0.1"]), ("s2", PORT, &["10.0.0.1 x/1"])],
        "", 2, &["10.0.0.1:80 -"], &["10.0.0.1:80/TCP: -.s1 x.s2"]),
    ("the same in one slice", &[("s1", PORT, &["10.0.0.1 x/1", "10.0.0.1 x/1"])], "", 1, &["10.0.0.1:80 x"], &[]),
    ("two pods in one slice", &[("s1", PORT, &["10.0.0.1 unready x/1", "10.0.0.1 y/2"])],
        "", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s1 x.s1"]),
    ("ready before draining", &[("s1", PORT, &["10.0.0.1 draining x/1"]), ("s2", PORT, &["10.0.0.1 y/2"])],
        "", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s2 x.s1"]),
    ("ready before draining on the node", &[("s1", PORT, &["10.0.0.1 draining @n1 x/1"]), ("s2", PORT, &["10.0.0.1 @n2 y/2"])],
        "n1", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s2 x.s1"]),
    ("draining before serving", &[("s1", PORT, &["10.0.0.1 serving x/1"]), ("s2", PORT, &["10.0.0.1 draining y/2"])],
        "", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s2 x.s1"]),
    ("serving before the rest", &[("s1", PORT, &["10.0.0.1 going x/1"]), ("s2", PORT, &["10.0.0.1 serving y/2"])],
        "", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s2 x.s1"]),
    ("the rest", &[("s1", PORT, &["10.0.0.1 going x/1"]), ("s2", PORT, &["10.0.0.1 unready y/2"])],
        "", 2, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s1 y.s2"]),
    ("ready twice", &[("s1", PORT, &["10.0.0.1 published x/1"]), ("s2", PORT, &["10.0.0.1 y/2"])],
        "", 2, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s1 y.s2"]),
    ("ready twice, one local", &[("s1", PORT, &["10.0.0.1 published @n1 x/1"]), ("s2", PORT, &["10.0.0.1 @n2 y/2"])],
        "n2", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s2 x.s1"]),
    ("ready and local", &[("s1", PORT, &["10.0.0.1 @n1 x/1"]), ("s2", PORT, &["10.0.0.1 @n2 y/2"])],
        "n2", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s2 x.s1"]),
    ("seen from nowhere", &[("s1", PORT, &["10.0.0.1 @n1 x/1"]), ("s2", PORT, &["10.0.0.1 @n2 y/2"])],
        "", 2, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s1 y.s2"]),
    ("seen from elsewhere", &[("s1", PORT, &["10.0.0.1 x/1"]), ("s2", PORT, &["10.0.0.1 @n2 y/2"])],
        "n3", 2, &["10.0.0.1:80 x"], &["10.0.0.1:80/TCP: x.s1 y.s2"]),
    ("unready and local", &[("s1", PORT, &["10.0.0.1 unready x/1"]), ("s2", PORT, &["10.0.0.1 unready @n2 y/2"])],
        "n2", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s2 x.s1"]),
    ("three", &[("s1", PORT, &["10.0.0.1 unready x/1"]), ("s2", PORT, &["10.0.0.1 y/2"]), ("s3", PORT, &["10.0.0.1 y/2"])],
        "", 2, &["10.0.0.1:80 y"], &["10.0.0.1:80/TCP: y.s2 y.s3", "10.0.0.1:80/TCP: y.s2 x.s1"]),
    ("one uid, a port more", &[("s1", &["a=80"], &["10.0.0.1 x/1"]), ("s2", &["a=80", "b=81"], &["10.0.0.1 x/1"])],
        "", 2, &["10.0.0.1:80 x", "10.0.0.1:81 x"], &["10.0.0.1:80/TCP: x.s1 x.s2"]),
    ("one uid, another number", &[("s1", &["a=80"], &["10.0.0.1 x/1"]), ("s2", &["a=81"], &["10.0.0.1 x/1"])],
        "", 2, &["10.0.0.1:80 x", "10.0.0.1:81 x"], &[]),
    ("two pods, two ports", &[("s1", &["a=80"], &["10.0.0.1 x/1"]), ("s2", &["b=80"], &["10.0.0.1 y/2"])],
        "", 2, &["10.0.0.1:80 x", "10.0.0.1:80 y"], &[]),
    ("two pods, two transports", &[("s1", &["a=80"], &["10.0.0.1 x/1"]), ("s2", &["a=80/UDP"], &["10.0.0.1 y/2"])],
        "", 2, &["10.0.0.1:80 x"], &[]),
    ("two pods with two ports", &[("s1", &["a=80", "b=81"], &["10.0.0.1 x/1"]), ("s2", &["a=80", "b=81"], &["10.0.0.1 y/2"])],
        "", 2, &["10.0.0.1:80 x", "10.0.0.1:81 x"], &["10.0.0.1:80/TCP: x.s1 y.s2", "10.0.0.1:81/TCP: x.s1 y.s2"]),
    ("IPv6", &[("s1", PORT, &["fd00::1 x/1"]), ("s2", PORT, &["fd00::1 y/2"])],
        "", 2, &["[fd00::1]:80 x"], &["[fd00::1]:80/TCP: x.s1 y.s2"]),
    ("one uid without ports", &[("s1", &[], &["10.0.0.1 unready x/1"]), ("s2", &[], &["10.0.0.1 x/1"])],
        "", 1, &[], &["10.0.0.1: x.s2 x.s1"]),
    ("two pods without ports", &[("s1", &[], &["10.0.0.1 x/1"]), ("s2", &[], &["10.0.0.1 y/2"])], "", 2, &[], &[]),
    ("one name with two numbers", &[("s1", &["a=81", "a=80"], &["10.0.0.1 x/1"])], "", 1, &["10.0.0.1:80 x"], &[]),
    ("the second of them elsewhere", &[("s1", &["a=80", "a=81"], &["10.0.0.1 x/1"]), ("s2", &["a=81"], &["10.0.0.1 y/2"])],
        "", 2, &["10.0.0.1:80 x", "10.0.0.1:81 y"], &[]),
];

#[test]
fn several_statements() {
    for (title, slices, from, count, routes, duplicates) in SEVERAL {
        let slices: Vec<EndpointSlice> =
            slices.iter().map(|(name, ports, list)| slice(name, ports, list)).collect();
        let from = (!from.is_empty()).then(|| node(from));
        for set in [merge(&slices), merge(slices.iter().rev())] {
            assert_eq!(set.endpoints().count(), *count, "{title}");
            let found = ["", "a", "b"].into_iter().flat_map(|port| {
                let routes = set.port_seen_from(from.as_ref(), port, Protocol::Tcp);
                let routes = routes.map(|(addr, endpoint)| {
                    let target = endpoint.target.as_ref().map_or("-", |target| &*target.name);
                    format!("{addr} {target}")
                });
                routes.collect::<Vec<_>>()
            });
            assert_eq!(found.collect::<Vec<_>>(), *routes, "{title}");
            let found: Vec<String> =
                set.duplicates(from.as_ref()).map(|duplicate| duplicate.to_string()).collect();
            assert_eq!(
                found,
                duplicates.iter().map(|text| sentence(text)).collect::<Vec<_>>(),
                "{title}"
            );
        }
    }
    let set = EndpointSet::new(
        name("svc"),
        ["10.0.0.1 unready", "10.0.0.1"].map(|text| {
            let mut endpoint = endpoint(text);
            endpoint.ports = [port("80")].into();
            endpoint
        }),
    );
    let found: Vec<String> = set.duplicates(None).map(|duplicate| duplicate.to_string()).collect();
    assert_eq!(found, ["10.0.0.1:80/TCP: the address hides the address"], "of no slice");
}

/// Pods that share their nodes' address: each node sends to its own, if that is as good.
#[test]
fn each_node_to_its_own() {
    let mut service = Service::new(name("svc"));
    service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.1".parse().expect("an address")]);
    service.ports = vec![ServicePort::new(80)];
    service.internal_traffic_policy = TrafficPolicy::Local;
    for (first, second, expected) in [
        ("10.0.0.1 @n1 x/1", "10.0.0.1 @n2 y/2", [true, true, false]),
        ("10.0.0.1 @n1 x/1", "10.0.0.1 draining @n2 y/2", [true, false, false]),
        ("10.0.0.1 draining @n1 x/1", "10.0.0.1 draining @n2 y/2", [true, true, false]),
        ("10.0.0.1 draining @n1 x/1", "10.0.0.1 serving @n2 y/2", [true, false, false]),
        ("10.0.0.1 unready @n1 x/1", "10.0.0.1 serving @n2 y/2", [false, false, false]),
    ] {
        let set = merge(&[slice("s1", &["80"], &[first]), slice("s2", &["80"], &[second])]);
        let local = ["n1", "n2", "n3"].map(|name| {
            let plan = Plan::new(&LocalNode::new(node(name)), Mode::Userspace, [(&service, &set)]);
            plan.ports().any(|port| !port.local.backends.is_empty())
        });
        assert_eq!(local, expected, "{first}, {second}");
    }
}

#[test]
fn slices_of_other_services() {
    let mut other = slice("s1", &["80"], &["10.0.0.1"]);
    other.service = name("other");
    let own = slice("s2", &["80"], &["10.0.0.2"]);
    let set = merge(&[other.clone(), own.clone()]);
    assert_eq!((set.service(), set.endpoints().count()), (&name("svc"), 1));

    let mut merged = Merged::new(name("svc"));
    assert!(!merged.insert(&other), "never its own");
    assert!(merged.insert(&own) && !merged.insert(&own));
    assert!(!merged.insert(&slice("empty", &[], &[])), "nothing said");
    assert_eq!(merged.slices(), 2);
    other.name = own.name.clone();
    assert!(merged.insert(&other), "moved away");
    assert!(merged.set().is_empty() && merged.slices() == 1);
    assert!(!merged.remove(&own.name), "not there");
    assert!(!merged.remove(&name("empty")), "nothing lost");
    assert_eq!(EndpointSet::from(merged), merge([]));
}

/// Pods that are left out are left out of the whole, once.
#[test]
fn left_out_pods() {
    let mut service = Service::new(name("svc"));
    service.selector = Labels::from_iter([("app", "x")]);
    let resolve = |pods: &[&str]| {
        let pods: Vec<Pod> = pods
            .iter()
            .map(|pod| {
                let mut pod = Pod::new(name(pod));
                pod.labels = Labels::from_iter([("app", "x")]);
                (pod.phase, pod.node) = (Phase::Running, Some(node("lost")));
                pod.ips = vec!["10.0.0.1".parse().expect("an address")];
                pod
            })
            .collect();
        EndpointSet::resolve(&service, &pods, &Nodes::default())
    };
    let (ab, cb) = (resolve(&["b", "a"]), resolve(&["c", "b"]));
    let both = ab.clone().merged_with(&cb);
    let names: Vec<&str> = both.left_out().iter().map(|left_out| left_out.pod.name()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(cb.merged_with(&ab), both);
    assert_ne!(both, merge([]), "though there are no endpoints");
}

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const PORTS: [&str; 5] = ["80", "a=80", "a=81", "b=80", "a=80/UDP"];

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let state = select(vec!["", " published", " draining", " serving", " unready", " going"]);
    let home = select(vec!["", " @n1", " @n2"]);
    let target = select(vec!["", " x/1", " y/1", " y/2", " x", " y"]);
    let ip = select(vec!["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    (ip, state, home, target, any::<bool>()).prop_map(|(ip, state, home, target, hint)| {
        let mut endpoint = endpoint(&format!("{ip}{state}{home}{target}"));
        endpoint.hints.zones = hint.then(|| "z".into()).into_iter().collect();
        endpoint
    })
}

/// One of four slices of the Service.
fn any_slice() -> impl Strategy<Value = EndpointSlice> {
    let ports = prop::collection::vec(select(PORTS.to_vec()), 0..3);
    (0_u8..4, ports, prop::collection::vec(any_endpoint(), 0..5)).prop_map(
        |(number, ports, endpoints)| {
            let mut slice = slice(&format!("s{number}"), &[], &[]);
            slice.set_endpoints(ports.iter().map(|text| port(text)), endpoints);
            slice
        },
    )
}

/// The naive model: everything that is said, each thing once, and by which slice.
type Said<'a> = (&'a Endpoint, &'a ObjectName);

fn said<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> BTreeSet<Said<'a>> {
    let of = |slice: &'a EndpointSlice| slice.endpoints().iter().map(|e| (e, &slice.name));
    slices.into_iter().flat_map(of).collect()
}

fn stated(statement: Statement<'_>) -> Said<'_> {
    (statement.endpoint, statement.slice.expect("a slice"))
}

/// The best of what is said.
fn best<'a>(said: &[Said<'a>], from: Option<&NodeName>) -> Said<'a> {
    let key = |(endpoint, slice): &Said<'a>| {
        let Conditions { ready, serving, terminating } = endpoint.conditions;
        let state = match (ready, serving, terminating) {
            (true, ..) => 0,
            (false, true, true) => 1,
            (false, true, false) => 2,
            (false, false, _) => 3,
        };
        let local = from.is_some() && endpoint.node.as_ref() == from;
        (state, !local, (*slice).clone(), (*endpoint).clone())
    };
    *said.iter().min_by_key(|said| key(said)).expect("something said")
}

/// What makes two endpoints one: the address, the uid, or if there is none the name, the ports.
type Identity<'a> = (SocketAddr, String, &'a [EndpointPort]);

fn identity(endpoint: &Endpoint) -> Identity<'_> {
    let target = endpoint.target.as_ref().map_or_else(String::new, |target| {
        if target.uid.is_empty() {
            format!("name {}", target.name)
        } else {
            format!("uid {}", target.uid)
        }
    });
    (SocketAddr::new(endpoint.ip, 0), target, &endpoint.ports)
}

fn grouped<'a, K: Ord>(
    said: &BTreeSet<Said<'a>>,
    mut keys: impl FnMut(&'a Endpoint) -> Vec<K>,
) -> BTreeMap<K, Vec<Said<'a>>> {
    let mut groups: BTreeMap<K, Vec<Said<'a>>> = BTreeMap::new();
    for said in said {
        for key in keys(said.0) {
            groups.entry(key).or_default().push(*said);
        }
    }
    groups
}

/// The numbers of an endpoint's ports, the first of each name and transport.
fn numbers(endpoint: &Endpoint) -> Vec<(SocketAddr, Protocol, &str)> {
    let mut seen = BTreeSet::new();
    let ports = endpoint.ports.iter().filter(|port| seen.insert((port.name_str(), port.protocol)));
    ports.map(|p| (SocketAddr::new(endpoint.ip, p.port), p.protocol, p.name_str())).collect()
}

/// What stands back: where, what counts, what does not.
type Hidden<'a> = (Option<(SocketAddr, Protocol, &'a str)>, Said<'a>, Said<'a>);

fn hidden<'a>(said: &BTreeSet<Said<'a>>, from: Option<&NodeName>) -> BTreeSet<Hidden<'a>> {
    let mut hidden = BTreeSet::new();
    let mut hide = |at, group: &[Said<'a>], from| {
        let kept = best(group, from);
        hidden.extend(group.iter().filter(|said| **said != kept).map(|said| (at, kept, *said)));
    };
    for (at, group) in grouped(said, numbers) {
        hide(Some(at), &group, from);
    }
    let portless =
        |e: &'a Endpoint| if e.ports.is_empty() { vec![identity(e)] } else { Vec::new() };
    for group in grouped(said, portless).values() {
        hide(None, group, None);
    }
    hidden
}

fn check(set: &EndpointSet, said: &BTreeSet<Said<'_>>) -> Result<(), TestCaseError> {
    let expected = grouped(said, |endpoint| vec![identity(endpoint)]);
    let expected: BTreeSet<&Endpoint> =
        expected.values().map(|group| best(group, None).0).collect();
    let found: Vec<&Endpoint> = set.endpoints().collect();
    prop_assert!(found.is_sorted_by_key(|endpoint| endpoint.ip));
    prop_assert_eq!(found.len(), expected.len());
    prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    prop_assert_eq!(set.is_empty(), said.is_empty());

    for from in [None, Some(node("n1")), Some(node("n2")), Some(node("n3"))] {
        let from = from.as_ref();
        for (name, protocol) in
            ["", "a", "b"].into_iter().flat_map(|n| [(n, Protocol::Tcp), (n, Protocol::Udp)])
        {
            let here = |e| {
                numbers(e).into_iter().filter(|(_, p, n)| (*p, *n) == (protocol, name)).collect()
            };
            let expected = grouped(said, here);
            let expected: Vec<_> =
                expected.iter().map(|((addr, ..), group)| (*addr, best(group, from).0)).collect();
            prop_assert_eq!(set.port_seen_from(from, name, protocol).collect::<Vec<_>>(), expected);
        }
        let found: Vec<Duplicate> = set.duplicates(from).collect();
        let place = |duplicate: &Duplicate<'_>| {
            (duplicate.kept.endpoint.ip, duplicate.port.map(|port| port.port))
        };
        prop_assert!(found.is_sorted_by_key(place));
        let hides: Vec<_> = found
            .iter()
            .map(|d| {
                let at = d.port.map(|p| {
                    (SocketAddr::new(d.kept.endpoint.ip, p.port), p.protocol, p.name_str())
                });
                (at, stated(d.kept), stated(d.hidden))
            })
            .collect();
        let expected = hidden(said, from);
        prop_assert_eq!(hides.len(), expected.len());
        prop_assert!(hides.into_iter().collect::<BTreeSet<_>>() == expected, "{:#?}", found);
    }
    Ok(())
}

/// All that can be told from a set.
fn seen(set: &EndpointSet) -> (String, String) {
    let nodes = NODES.map(node);
    let from = || nodes.iter().map(Some).chain([None]);
    let routes = from().flat_map(|from| {
        let ports = ["", "a", "b"].into_iter();
        ports
            .flat_map(move |name| set.port_seen_from(from, name, Protocol::Tcp).collect::<Vec<_>>())
    });
    let duplicates: Vec<_> = from().map(|from| set.duplicates(from).collect::<Vec<_>>()).collect();
    (
        format!("{:?} {:?}", set.endpoints().collect::<Vec<_>>(), routes.collect::<Vec<_>>()),
        format!("{duplicates:?}"),
    )
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Box<EndpointSlice>),
    /// A slice that is there says one thing less (or the first again), perhaps another more.
    Edit(Index, Option<Index>, Box<Option<Endpoint>>),
    /// A slice that is there, but of another Service now.
    Relabel(Index),
    Remove(Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_slice().prop_map(|slice| Step::Insert(Box::new(slice))),
        4 => (any::<Index>(), any::<Option<Index>>(), prop::option::of(any_endpoint()))
            .prop_map(|(slice, less, more)| Step::Edit(slice, less, Box::new(more))),
        1 => any::<Index>().prop_map(Step::Relabel),
        2 => any::<Index>().prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn merging_agrees_with_the_model(slices in prop::collection::btree_map(0_u8..6, any_slice(), 0..6)) {
        let slices: Vec<EndpointSlice> = slices.into_iter().map(|(number, mut slice)| {
            slice.name = name(&format!("s{number}"));
            slice
        }).collect();
        check(&merge(&slices), &said(&slices))?;
    }

    #[test]
    fn order_and_repetition_do_not_matter(
        (slices, shuffled) in prop::collection::vec(any_slice(), 0..6)
            .prop_flat_map(|slices| (Just(slices.clone()), Just(slices).prop_shuffle())),
        cuts in (any::<Index>(), any::<Index>()),
    ) {
        // One name may say several things here: what counts is each statement.
        let all = merge(&slices);
        let expected = seen(&all);
        prop_assert_eq!(seen(&merge(&shuffled)), expected.clone());
        prop_assert_eq!(seen(&merge(slices.iter().chain(&shuffled))), expected.clone());
        let (first, second) = (cuts.0.index(slices.len() + 1), cuts.1.index(slices.len() + 1));
        let (first, second) = (first.min(second), first.max(second));
        let (a, b, c) = (merge(&slices[..first]), merge(&slices[first..second]), merge(&slices[second..]));
        let left = a.clone().merged_with(&b).merged_with(&c);
        let right = a.clone().merged_with(&b.clone().merged_with(&c));
        let back = c.clone().merged_with(&b).merged_with(&a);
        for other in [&left, &right, &back, &all.clone().merged_with(&all), &all.clone().merged_with(&b)] {
            prop_assert_eq!(seen(other), expected.clone());
            prop_assert_eq!(other, &all);
        }
    }

    #[test]
    fn slices_come_and_go(steps in prop::collection::vec(any_step(), 0..12)) {
        let mut merged = Merged::new(name("svc"));
        let mut slices: BTreeMap<ObjectName, EndpointSlice> = BTreeMap::new();
        for step in steps {
            let before = slices.clone();
            let changed = match step {
                Step::Insert(slice) => {
                    let changed = merged.insert(&slice);
                    slices.insert(slice.name.clone(), *slice);
                    changed
                }
                Step::Edit(index, less, more) => {
                    let name = name(&format!("s{}", index.index(4)));
                    let slice = slices.entry(name).or_insert_with_key(|name| {
                        let mut slice = slice("s0", &["80"], &["10.0.0.1", "10.0.0.2"]);
                        slice.name = name.clone();
                        slice
                    });
                    let mut endpoints = slice.endpoints().to_vec();
                    match less {
                        Some(index) if !endpoints.is_empty() => drop(endpoints.remove(index.index(endpoints.len()))),
                        _ => endpoints.extend(endpoints.first().cloned()),
                    }
                    slice.set_endpoints(slice.ports().to_vec(), endpoints.into_iter().chain(*more));
                    merged.insert(slice)
                }
                Step::Relabel(index) => {
                    let name = name(&format!("s{}", index.index(4)));
                    let mut slice = slices.remove(&name).unwrap_or_else(|| slice("s0", &["80"], &["10.0.0.1"]));
                    (slice.name, slice.service) = (name, self::name("other"));
                    merged.insert(&slice)
                }
                Step::Remove(index) => {
                    let name = name(&format!("s{}", index.index(4)));
                    slices.remove(&name);
                    merged.remove(&name)
                }
            };
            let said = said(slices.values());
            prop_assert_eq!(changed, said != self::said(before.values()));
            prop_assert_eq!(merged.slices(), slices.len());
            check(merged.set(), &said)?;
            let whole = merge(slices.values());
            prop_assert_eq!(merged.set(), &whole);
            prop_assert_eq!(seen(merged.set()), seen(&whole));
        }
    }
}
