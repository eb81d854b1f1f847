//! Topology hints: whether there are any, and whose clients each endpoint is meant for.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use svcplane::endpoints::{Endpoint, EndpointSet, EndpointSlice, Packing, Reference, SliceWrites};
use svcplane::k8s;
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::node::{Node, Nodes, ZONE_LABEL};
use svcplane::pod::{Phase, Pod};
use svcplane::service::{Service, ServicePort, TrafficDistribution};

const MODE: &str = "service.kubernetes.io/topology-mode";
const OLDER: &str = "service.kubernetes.io/topology-aware-hints";
const ZONES: [&str; 3] = ["a", "b", "c"];

fn service() -> Service {
    let mut service = Service::new(ObjectName::new("ns", "svc").expect("a name"));
    service.uid = "svc-uid".into();
    service.selector = Labels::from_iter([("app", "x")]);
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort::new(80)];
    service
}

fn auto() -> Service {
    with(service(), |service| service.annotations = Labels::from_iter([(MODE, "Auto")]))
}

fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

/// A ready node; without zone if that is empty.
fn node(name: &str, zone: &str, cpu_millis: u32) -> Node {
    let mut node = Node::new(name.parse().expect("a name"));
    let zone = Some(zone).filter(|zone| !zone.is_empty());
    node.labels = zone.into_iter().map(|zone| (ZONE_LABEL, zone)).collect();
    (node.ready, node.cpu_millis) = (true, cpu_millis);
    node
}

/// The pod of a number, ready, on a node; on none if that is empty.
fn pod(number: usize, node: &str) -> Pod {
    let mut pod = Pod::new(ObjectName::new("ns", &format!("pod-{number:03}")).expect("a name"));
    pod.labels = Labels::from_iter([("app", "x")]);
    (pod.phase, pod.ready) = (Phase::Running, true);
    pod.ips = vec![[10, 0, 0, u8::try_from(number).expect("a small number")].into()];
    pod.node = (!node.is_empty()).then(|| node.parse().expect("a name"));
    pod
}

/// Nodes that are named as their zones, with so much CPU, and so many pods on each.
fn cluster(zones: &[(&str, u32, usize)]) -> (Nodes, Vec<Pod>) {
    let nodes = zones.iter().map(|(zone, cpu, _)| node(zone, zone, *cpu)).collect();
    let homes = zones.iter().flat_map(|(zone, _, pods)| std::iter::repeat_n(zone, *pods));
    (nodes, homes.enumerate().map(|(i, zone)| pod(i, zone)).collect())
}

/// A hint as text: zones joined by commas, nodes after an `@` each.
fn hint(endpoint: &Endpoint) -> String {
    let zones: Vec<&str> = endpoint.hints.zones.iter().map(|zone| &**zone).collect();
    let nodes = endpoint.hints.nodes.iter().map(|node| format!("@{node}"));
    std::iter::once(zones.join(",")).chain(nodes).collect()
}

fn set_hint(endpoint: &mut Endpoint, text: &str) {
    let mut parts = text.split('@');
    let zones = parts.next().expect("zones").split(',').filter(|zone| !zone.is_empty());
    endpoint.hints.zones = zones.map(Into::into).collect();
    endpoint.hints.nodes = parts.map(|node| node.parse().expect("a name")).collect();
}

/// A slice of the Service's that is there: some of the endpoints, by the last numbers of their addresses, with hints.
fn slice(name: &str, set: &EndpointSet, endpoints: &[(usize, &str)]) -> EndpointSlice {
    let (name, service) = (ObjectName::new("ns", name).expect("a name"), service());
    let mut slice = EndpointSlice::new(name, service.name.clone(), IpFamily::V4);
    slice.managed_by = Packing::default().managed_by;
    slice.owner = Some(Reference::new("Service", &service.name, &service.uid));
    let find = |(number, hint): &(usize, &str)| {
        let wanted = set.endpoints().find(|endpoint| endpoint.ip == pod(*number, "").ips[0]);
        let mut endpoint = wanted.expect("an endpoint").clone();
        set_hint(&mut endpoint, hint);
        endpoint
    };
    let endpoints: Vec<Endpoint> = endpoints.iter().map(find).collect();
    slice.set_endpoints(endpoints[0].ports.to_vec(), endpoints);
    slice
}

fn write(
    service: &Service,
    set: &EndpointSet,
    nodes: &Nodes,
    existing: &[EndpointSlice],
    max: usize,
) -> SliceWrites {
    let mut packing = Packing::default();
    packing.max_endpoints = max;
    SliceWrites::new(service, set, nodes, existing, &packing)
}

/// What there is after the writing.
fn applied(existing: &[EndpointSlice], writes: &SliceWrites) -> Vec<EndpointSlice> {
    let mut slices: BTreeMap<&ObjectName, &EndpointSlice> =
        existing.iter().map(|slice| (&slice.name, slice)).collect();
    slices.extend(writes.updates.iter().chain(&writes.creates).map(|slice| (&slice.name, slice)));
    slices.retain(|name, _| !writes.deletes.contains(name));
    slices.into_values().cloned().collect()
}

fn names(slices: &[EndpointSlice]) -> Vec<&str> {
    slices.iter().map(|slice| slice.name.name()).collect()
}

/// How many endpoints have each hint, `-` for none.
fn counts<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for endpoint in endpoints {
        let hint = Some(hint(endpoint)).filter(|hint| !hint.is_empty());
        *counts.entry(hint.unwrap_or_else(|| "-".into())).or_default() += 1;
    }
    counts
}

fn of(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(zone, count)| ((*zone).to_owned(), *count)).collect()
}

fn cross_zone<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> usize {
    let hinted = endpoints.into_iter().filter(|endpoint| !endpoint.hints.zones.is_empty());
    hinted.filter(|endpoint| !endpoint.zone.iter().eq(&endpoint.hints.zones)).count()
}

fn resolved(service: &Service, pods: &[Pod], nodes: &Nodes) -> BTreeMap<String, usize> {
    counts(EndpointSet::resolve(service, pods, nodes).endpoints())
}

/// Kubernetes endpointslice `utils_test.go`, `Test_hintsEnabled`; and what is not there: the empty value.
#[test]
fn annotations() {
    let (nodes, pods) = cluster(&[("a", 1000, 1), ("b", 1000, 1)]);
    let rows: [(&[(&str, &str)], bool); 17] = [
        (&[], false),
        (&[("topology-hints", "enabled")], false),
        (&[(OLDER, "enabled")], false),
        (&[(OLDER, "aUto")], false),
        (&[(OLDER, "auto")], true),
        (&[(OLDER, "Auto")], true),
        (&[(OLDER, "disabled")], false),
        (&[(OLDER, "")], false),
        (&[(MODE, "enabled")], false),
        (&[(MODE, "aUto")], false),
        (&[(MODE, "auto")], true),
        (&[(MODE, "Auto")], true),
        (&[(MODE, "disabled")], false),
        (&[(MODE, "")], false),
        (&[(MODE, "disabled"), (OLDER, "auto")], true),
        (&[(MODE, "auto"), (OLDER, "disabled")], false),
        (&[(MODE, "auto"), (OLDER, "")], false),
    ];
    for (annotations, enabled) in rows {
        let mut service = service();
        service.annotations = annotations.iter().copied().collect();
        let expected = of(if enabled { &[("a", 1), ("b", 1)] } else { &[("-", 2)] });
        assert_eq!(resolved(&service, &pods, &nodes), expected, "{annotations:?}");
    }
}

/// From the manifest: an endpoint in a zone, one on a node without zone, one on no node, one that is not ready.
#[test]
fn traffic_distribution() {
    let nodes = Nodes::from_iter([node("n1", "a", 1000), node("n2", "", 1000)]);
    let unready = with(pod(3, "n1"), |pod| pod.ready = false);
    let pods = [pod(0, "n1"), pod(1, "n2"), pod(2, ""), unready];
    for (text, hints, warnings) in [
        (None, ["", ""], 0),
        (Some(""), ["", ""], 0),
        (Some("PreferClose"), ["a", ""], 0),
        (Some("PreferSameZone"), ["a", ""], 0),
        (Some("PreferSameNode"), ["a@n1", "@n2"], 0),
        (Some("preferclose"), ["", ""], 1),
        (Some("Unknown"), ["", ""], 1),
    ] {
        let mut mirror = k8s::Service::from(&service());
        mirror.spec.traffic_distribution = text.map(Into::into);
        let converted = mirror.convert().expect("a name");
        assert_eq!(converted.warnings.len(), warnings, "{text:?}");
        let set = EndpointSet::resolve(&converted.object, &pods, &nodes);
        let found: Vec<String> = set.endpoints().map(hint).collect();
        assert_eq!(found, [hints[0], hints[1], "", ""], "{text:?}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    /// To be written for another reason.
    Drifted,
    Unchanged,
}

/// An endpoint: its zone, whether it is ready, the hint that it has, the one that it is to have.
type EndpointRow = (&'static str, bool, &'static str, &'static str);
/// What it is, the distribution, how many go into a slice, the slices, which of those that there are get written.
type SlicesRow = (
    &'static str,
    Option<TrafficDistribution>,
    usize,
    &'static [(State, &'static [EndpointRow])],
    &'static [usize],
);

/// Kubernetes endpointslice `trafficdist/trafficdist_test.go`, `TestReconcileHints`; then nodes, and what
/// endpoints that are not ready are the cause of.
#[test]
#[rustfmt::skip]
fn hints_of_existing_slices() {
    use State::{Drifted, New, Unchanged};
    const CLOSE: Option<TrafficDistribution> = Some(TrafficDistribution::PreferClose);
    const ZONE: Option<TrafficDistribution> = Some(TrafficDistribution::PreferSameZone);
    const NODE: Option<TrafficDistribution> = Some(TrafficDistribution::PreferSameNode);
    let rows: [SlicesRow; 18] = [
        ("zone hints are set", CLOSE, 2, &[
            (New, &[("a", true, "", "a"), ("b", true, "", "b")]),
            (New, &[("a", true, "", "a"), ("b", true, "", "b")]),
            (Drifted, &[("a", true, "", "a"), ("a", true, "", "a")]),
            (Drifted, &[("b", true, "", "b"), ("c", true, "", "c")]),
        ], &[2, 3]),
        ("wrong hints are corrected", CLOSE, 1, &[
            (Drifted, &[("a", true, "b", "a")]),
            (Unchanged, &[("b", true, "c", "b")]),
            (Unchanged, &[("c", true, "", "c")]),
        ], &[0, 1, 2]),
        ("no zones, no hints", CLOSE, 2, &[
            (New, &[("", true, "", ""), ("", true, "", "")]),
            (Drifted, &[("", true, "", ""), ("", true, "", "")]),
        ], &[1]),
        ("not ready, without hint", CLOSE, 1, &[(Unchanged, &[("b", false, "", "")])], &[]),
        ("none wanted", None, 1, &[
            (Drifted, &[("a", true, "a", "")]),
            (Unchanged, &[("b", true, "b", "")]),
        ], &[0, 1]),
        ("right", CLOSE, 2, &[(Unchanged, &[("a", true, "a", "a"), ("b", true, "b", "b")])], &[]),
        ("one right, one wrong", CLOSE, 2, &[(Unchanged, &[("a", true, "a", "a"), ("b", true, "a", "b")])], &[0]),
        ("the right zone and another", CLOSE, 1, &[(Unchanged, &[("a", true, "a,b", "a")])], &[0]),
        ("a hint without zone", CLOSE, 1, &[(Unchanged, &[("", true, "a", "")])], &[0]),
        ("nodes", NODE, 2, &[(New, &[("a", true, "", "a@na"), ("", true, "", "@nx")])], &[]),
        ("node missing", NODE, 1, &[(Unchanged, &[("a", true, "a", "a@na")])], &[0]),
        ("node right", NODE, 1, &[(Unchanged, &[("a", true, "a@na", "a@na")])], &[]),
        ("node wrong", NODE, 1, &[(Unchanged, &[("a", true, "a@nb", "a@na")])], &[0]),
        ("node not wanted", ZONE, 1, &[(Unchanged, &[("a", true, "a@na", "a")])], &[0]),
        ("not ready, with hint", CLOSE, 1, &[(Unchanged, &[("a", false, "b", "b")])], &[]),
        ("not ready, none wanted", None, 1, &[(Unchanged, &[("a", false, "a", "")])], &[0]),
        ("not ready, new", NODE, 2, &[(New, &[("a", false, "", ""), ("b", true, "", "b@nb")])], &[]),
        ("not ready, written for another", CLOSE, 2, &[
            (Unchanged, &[("a", false, "", ""), ("b", true, "", "b")]),
        ], &[0]),
    ];
    let nodes = [node("nx", "", 1000), node("na", "a", 1000), node("nb", "b", 1000), node("nc", "c", 1000)];
    let nodes = Nodes::from_iter(nodes);
    for (name, distribution, max, slices, written) in rows {
        let mut service = service();
        service.traffic_distribution = distribution;
        let rows: Vec<&EndpointRow> = slices.iter().flat_map(|(_, rows)| *rows).collect();
        let pods = rows.iter().enumerate().map(|(i, (zone, ready, ..))| {
            let home = format!("n{}", if zone.is_empty() { "x" } else { zone });
            with(pod(i, &home), |pod| pod.ready = *ready)
        });
        let set = EndpointSet::resolve(&service, &pods.collect::<Vec<_>>(), &nodes);
        let (mut existing, mut first) = (Vec::new(), 0);
        for (i, (state, rows)) in slices.iter().enumerate() {
            let endpoints: Vec<(usize, &str)> = (first..).zip(rows.iter().map(|(_, _, has, _)| *has)).collect();
            first += rows.len();
            if *state != New {
                let mut slice = slice(&format!("s{i}"), &set, &endpoints);
                slice.labels = (*state == Drifted).then_some(("old", "")).into_iter().collect();
                existing.push(slice);
            }
        }
        let writes = write(&service, &set, &nodes, &existing, max);
        let expected: Vec<String> = written.iter().map(|i| format!("s{i}")).collect();
        assert_eq!(names(&writes.updates), expected, "{name}");
        let after = applied(&existing, &writes);
        let mut found: Vec<&Endpoint> = after.iter().flat_map(EndpointSlice::endpoints).collect();
        found.sort_by_key(|endpoint| endpoint.ip);
        let found: Vec<String> = found.into_iter().map(hint).collect();
        assert_eq!(found, rows.iter().map(|(.., wanted)| *wanted).collect::<Vec<_>>(), "{name}");
        assert!(write(&service, &set, &nodes, &after, max).is_empty(), "{name}: twice");
    }
}

/// A node: its zone, its CPU, whether it is ready, whether it is of the control plane.
type NodeRow = (&'static str, u32, bool, bool);

/// Kubernetes endpointslice `topologycache/topologycache_test.go`, `TestSetNodes`; then nodes that do not tell zone
/// or CPU. Twenty endpoints, all in zone a, show what comes of it.
#[test]
#[rustfmt::skip]
fn cpus_of_nodes() {
    type Counts<T> = &'static [(&'static str, T)];
    type Row = (&'static str, &'static [NodeRow], Option<Counts<u64>>, Counts<usize>);
    let rows: [Row; 14] = [
        ("no nodes", &[], Some(&[]), &[("-", 20)]),
        ("one node", &[("a", 1000, true, false)], Some(&[("a", 1000)]), &[("-", 20)]),
        ("one zone", &[("a", 1000, true, false), ("a", 1000, true, false)], Some(&[("a", 2000)]), &[("-", 20)]),
        ("two zones", &[("a", 1000, true, false), ("b", 1000, true, false)],
            Some(&[("a", 1000), ("b", 1000)]), &[("a", 10), ("b", 10)]),
        ("two zones, one not ready", &[("a", 1000, false, false), ("b", 1000, true, false)],
            Some(&[("b", 1000)]), &[("-", 20)]),
        ("two zones, one of the control plane", &[("a", 1000, true, false), ("b", 1000, true, true)],
            Some(&[("a", 1000)]), &[("-", 20)]),
        ("two zones, one more node not ready",
            &[("a", 1000, true, false), ("b", 1000, true, false), ("b", 1000, false, false)],
            Some(&[("a", 1000), ("b", 1000)]), &[("a", 10), ("b", 10)]),
        ("two zones, one more node of the control plane",
            &[("a", 1000, true, false), ("b", 1000, true, false), ("b", 1000, true, true)],
            Some(&[("a", 1000), ("b", 1000)]), &[("a", 10), ("b", 10)]),
        ("three zones, several nodes", &[
            ("a", 1000, true, false), ("a", 1000, true, false), ("a", 1000, true, false), ("a", 2000, true, false),
            ("b", 3000, true, false), ("b", 1500, true, false), ("c", 500, true, false),
        ], Some(&[("a", 5000), ("b", 4500), ("c", 500)]), &[("a", 10), ("b", 9), ("c", 1)]),
        ("a node without zone", &[("a", 1000, true, false), ("b", 1000, true, false), ("", 1000, true, false)],
            None, &[("-", 20)]),
        ("a node without CPU", &[("a", 1000, true, false), ("b", 1000, true, false), ("b", 0, true, false)],
            None, &[("-", 20)]),
        ("neither, not ready", &[("a", 1000, true, false), ("b", 1000, true, false), ("", 0, false, false)],
            Some(&[("a", 1000), ("b", 1000)]), &[("a", 10), ("b", 10)]),
        ("neither, of the control plane", &[("a", 1000, true, false), ("b", 1000, true, false), ("", 0, true, true)],
            Some(&[("a", 1000), ("b", 1000)]), &[("a", 10), ("b", 10)]),
        ("a large and a small zone", &[("a", u32::MAX, true, false), ("b", 1, true, false)],
            Some(&[("a", 4_294_967_295), ("b", 1)]), &[("a", 20)]),
    ];
    for (name, list, sums, hints) in rows {
        for role in ["control-plane", "master"] {
            let mut nodes = Nodes::default();
            for (i, (zone, cpu, ready, control_plane)) in list.iter().enumerate() {
                let mut node = node(&format!("n{i}"), zone, *cpu);
                node.ready = *ready;
                if *control_plane {
                    let label = format!("node-role.kubernetes.io/{role}");
                    node.labels = node.labels.merged_with(&Labels::from_iter([(label, "")]));
                }
                nodes.insert(node);
            }
            let found = nodes.cpus_by_zone().map(|sums| sums.iter().map(|(zone, sum)| (&**zone, *sum)).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), sums, "{name}");
            nodes.insert(with(node("home", "a", 1000), |home| home.ready = false));
            let pods: Vec<Pod> = (0..20).map(|i| pod(i, "home")).collect();
            assert_eq!(resolved(&auto(), &pods, &nodes), of(hints), "{name}");
        }
    }
}

/// What it is, the CPU of each zone, the pods by zone (in capitals if they are not ready), the hints.
type AddRow = (&'static str, [u32; 3], &'static str, &'static [(&'static str, usize)]);

/// Kubernetes endpointslice `topologycache/topologycache_test.go`, `TestAddHints`, its endpoints without `ready`
/// condition as not ready ones; the last row over slices that there are and new ones. Then endpoints without zone.
#[test]
#[rustfmt::skip]
fn hints_in_proportion() {
    let rows: [AddRow; 13] = [
        ("empty", [0, 0, 0], "", &[]),
        ("no ratios", [0, 0, 0], "a", &[("-", 1)]),
        ("two endpoints, three zones", [30, 40, 30], "ab", &[("-", 2)]),
        ("two endpoints, two zones", [45, 55, 0], "ab", &[("a", 1), ("b", 1)]),
        ("two ready, two not", [45, 55, 0], "abBB", &[("a", 1), ("b", 1), ("-", 2)]),
        ("three zones", [35, 35, 30], "abccaaabca", &[("a", 4), ("b", 3), ("c", 3)]),
        ("three endpoints, three zones, all in c", [1, 1, 1], "ccc", &[("a", 1), ("b", 1), ("c", 1)]),
        ("four endpoints, three equal zones", [1, 1, 1], "aacc", &[("-", 4)]),
        ("nine endpoints, three equal zones", [1, 1, 1], "aaaabbbcc", &[("a", 3), ("b", 3), ("c", 3)]),
        ("not ready ones do not count", [1, 1, 1], "abA", &[("-", 3)]),
        ("a ready one without zone", [1, 1, 0], "ab-", &[("-", 3)]),
        ("one without zone that is not ready", [1, 1, 0], "ab_", &[("a", 1), ("b", 1), ("-", 1)]),
        ("in a zone without nodes", [1, 1, 0], "abbc", &[("a", 2), ("b", 2)]),
    ];
    for (name, cpus, pods, hints) in rows {
        let workers = ZONES.iter().zip(cpus).filter(|(_, cpu)| *cpu > 0).map(|(zone, cpu)| node(zone, zone, cpu));
        let homes = ["a", "b", "c", ""]
            .map(|zone| with(node(&format!("home{zone}"), zone, 0), |home| home.ready = false));
        let nodes: Nodes = workers.chain(homes).collect();
        let pods: Vec<Pod> = pods.chars().enumerate().map(|(i, zone)| {
            let home = format!("home{}", zone.to_ascii_lowercase()).replace(['-', '_'], "");
            with(pod(i, &home), |pod| pod.ready = zone.is_ascii_lowercase() || zone == '-')
        }).collect();
        let set = EndpointSet::resolve(&auto(), &pods, &nodes);
        assert_eq!(counts(set.endpoints()), of(hints), "{name}");
        let existing = if pods.len() == 10 {
            [slice("s0", &set, &[(5, ""), (6, "")]), slice("s1", &set, &[(7, ""), (8, ""), (9, "")])].into()
        } else {
            Vec::new()
        };
        let after = applied(&existing, &write(&auto(), &set, &nodes, &existing, 3));
        assert_eq!(counts(after.iter().flat_map(EndpointSlice::endpoints)), of(hints), "{name}");
    }
}

/// Zones of ten nodes each with a pod on every one, 0 to 9 in zone a and so on.
fn thirty(cpu_millis: u32) -> (Nodes, Vec<Pod>) {
    let name = |i: usize| format!("n{i}");
    let nodes = (0..30).map(|i| node(&name(i), ZONES[i / 10], cpu_millis)).collect();
    (nodes, (0..30).map(|i| pod(i, &name(i))).collect())
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcileTopology`. Where it has no topology cache, the nodes
/// here have no CPU.
#[test]
fn slices_of_zones() {
    let ab: &[(usize, &str)] = &[(7, ""), (8, ""), (16, ""), (17, ""), (18, "")];
    let ac: &[(usize, &str)] = &[(5, ""), (6, ""), (25, ""), (26, "")];
    let c: &[(usize, &str)] = &[(27, ""), (28, ""), (29, "")];
    for (name, cpu, annotation, existing, hints, foreign, updates) in [
        ("nothing known of nodes", 0, "auto", &[c][..], of(&[("-", 3)]), 0, 0),
        ("three in one zone", 100, "auto", &[c], of(&[("a", 1), ("b", 1), ("c", 1)]), 2, 1),
        ("four in two zones", 100, "auto", &[ac], of(&[("-", 4)]), 0, 0),
        ("two slices", 100, "Auto", &[ac, ab], of(&[("a", 3), ("b", 3), ("c", 3)]), 1, 2),
        ("disabled", 100, "disabled", &[ac, ab], of(&[("-", 9)]), 0, 0),
    ] {
        let service = with(service(), |service| {
            service.annotations = Labels::from_iter([(OLDER, annotation)]);
        });
        let (nodes, pods) = thirty(cpu);
        let wanted = |i: &usize| existing.concat().iter().any(|(number, _)| number == i);
        let pods: Vec<Pod> = (0..30).filter(wanted).map(|i| pods[i].clone()).collect();
        let set = EndpointSet::resolve(&service, &pods, &nodes);
        let existing = existing.iter().enumerate();
        let existing: Vec<EndpointSlice> =
            existing.map(|(i, numbers)| slice(&format!("s{i}"), &set, numbers)).collect();
        let writes = write(&service, &set, &nodes, &existing, 100);
        let written = (writes.creates.len(), writes.updates.len(), writes.deletes.len());
        assert_eq!(written, (0, updates, 0), "{name}");
        let after = applied(&existing, &writes);
        let endpoints = after.iter().flat_map(EndpointSlice::endpoints);
        assert_eq!((counts(endpoints.clone()), cross_zone(endpoints)), (hints, foreign), "{name}");
    }
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcile_TrafficDistribution`, but for its feature gate.
#[test]
fn the_annotation_before_the_field() {
    let (nodes, pods) = cluster(&[("a", 100, 1), ("b", 100, 3), ("c", 100, 2)]);
    let close = Some(TrafficDistribution::PreferClose);
    for (distribution, annotation, hints, foreign) in [
        (close, "Disabled", &[("a", 1), ("b", 3), ("c", 2)][..], 0),
        (close, "Auto", &[("a", 2), ("b", 2), ("c", 2)], 1),
        (None, "", &[("-", 6)], 0),
        (None, "Auto", &[("a", 2), ("b", 2), ("c", 2)], 1),
    ] {
        let service = with(service(), |service| {
            service.traffic_distribution = distribution;
            service.annotations = Labels::from_iter([(OLDER, annotation)]);
        });
        let set = EndpointSet::resolve(&service, &pods, &nodes);
        let writes = write(&service, &set, &nodes, &[], 100);
        assert_eq!((writes.creates.len(), writes.updates.len()), (1, 0), "{annotation}");
        for endpoints in
            [set.endpoints().cloned().collect(), writes.creates[0].endpoints().to_vec()]
        {
            let found = (counts(&endpoints), cross_zone(&endpoints));
            assert_eq!(found, (of(hints), foreign), "{distribution:?} {annotation}");
        }
    }
}

/// Twelve endpoints in two equal zones, in slices of four. Each zone has at least five, so at most seven.
#[test]
fn slices_whose_hints_fit_stay() {
    type Row = (&'static str, [[&'static str; 4]; 3], &'static [&'static str]);
    let (nodes, pods) = cluster(&[("a", 1000, 6), ("b", 1000, 6)]);
    let set = EndpointSet::resolve(&auto(), &pods, &nodes);
    let slices = |hints: [[&str; 4]; 3]| -> Vec<EndpointSlice> {
        let of = |(i, hints): (usize, &[&str; 4])| {
            let endpoints: Vec<_> = (4 * i..).zip(hints.iter().copied()).collect();
            slice(&format!("s{i}"), &set, &endpoints)
        };
        hints.iter().enumerate().map(of).collect()
    };
    let (aa, ab, bb) = (["a"; 4], ["a", "a", "b", "b"], ["b"; 4]);
    let rows: [Row; 8] = [
        ("own zones", [aa, ab, bb], &[]),
        ("other zones, in number right", [bb, ab, aa], &[]),
        ("seven and five", [aa, ["a", "a", "a", "b"], bb], &[]),
        ("eight of one zone", [aa, aa, bb], &["s1"]),
        ("one of every zone", [["a,b", "a", "b", "b"], ["b", "b", "a", "a"], ab], &[]),
        ("a hint is missing", [aa, ["a", "a", "b", ""], bb], &["s1"]),
        ("a zone that is not known", [aa, ab, ["b", "b", "b", "z"]], &["s2"]),
        ("everything wrong", [["z"; 4], ["z"; 4], ["", "b", "b", "b"]], &["s0", "s1", "s2"]),
    ];
    for (name, hints, written) in rows {
        let existing = slices(hints);
        let writes = write(&auto(), &set, &nodes, &existing, 4);
        assert_eq!(names(&writes.updates), written, "{name}");
        assert!(writes.creates.is_empty() && writes.deletes.is_empty(), "{name}");
        let after = applied(&existing, &writes);
        assert!(write(&auto(), &set, &nodes, &after, 4).is_empty(), "{name}: twice");
    }

    // One endpoint more: it goes into a slice of its own, the others stay.
    let existing = slices([bb, ab, aa]);
    let more: Vec<Pod> = pods.iter().cloned().chain([pod(12, "a")]).collect();
    let set = EndpointSet::resolve(&auto(), &more, &nodes);
    let writes = write(&auto(), &set, &nodes, &existing, 4);
    assert_eq!((writes.creates.len(), writes.updates.len()), (1, 0));
    assert_eq!(counts(writes.creates[0].endpoints()), of(&[("a", 1)]));
}

/// A ready endpoint without zone, or nodes that tell too little: hints that are there go, in all slices that have any.
#[test]
fn hints_that_cannot_be_go() {
    let (mut nodes, mut pods) = cluster(&[("a", 1000, 2), ("b", 1000, 2)]);
    let set = EndpointSet::resolve(&auto(), &pods, &nodes);
    let hints: [&[(usize, &str)]; 3] = [&[(0, "a"), (1, "a")], &[(2, ""), (3, "")], &[(4, "")]];
    let removed = |pods: &[Pod], nodes: &Nodes| {
        let set = EndpointSet::resolve(&auto(), pods, nodes);
        let hints = hints.iter().take(pods.len().div_ceil(2)).enumerate();
        let existing: Vec<EndpointSlice> =
            hints.map(|(i, hints)| slice(&format!("s{i}"), &set, hints)).collect();
        let writes = write(&auto(), &set, nodes, &existing, 2);
        let after = applied(&existing, &writes);
        assert_eq!(
            counts(after.iter().flat_map(EndpointSlice::endpoints)),
            of(&[("-", pods.len())])
        );
        names(&writes.updates).concat()
    };
    assert_eq!(counts(set.endpoints()), of(&[("a", 2), ("b", 2)]));
    pods.push(pod(4, ""));
    assert_eq!(removed(&pods, &nodes), "s0");
    pods.pop();
    nodes.insert(node("more", "", 1000));
    assert_eq!(removed(&pods, &nodes), "s0");
    nodes.remove("more");
    nodes.remove("b");
    nodes.insert(node("b", "a", 1000));
    assert_eq!(removed(&pods, &nodes), "s0");
}

/// Where CPUs decide, the hints that a set has do not.
#[test]
fn hints_of_the_set() {
    let (nodes, pods) = cluster(&[("a", 1000, 1), ("b", 1000, 1)]);
    let set = EndpointSet::resolve(&service(), &pods, &nodes);
    let hinted = set.endpoints().map(|endpoint| with(endpoint.clone(), |e| set_hint(e, "z")));
    let hinted = EndpointSet::new(set.service().clone(), hinted);
    for (service, nodes, hints) in [
        (service(), &nodes, &[("z", 2)][..]),
        (auto(), &nodes, &[("a", 1), ("b", 1)]),
        (auto(), &Nodes::default(), &[("-", 2)]),
    ] {
        let writes = write(&service, &hinted, nodes, &[], 100);
        assert_eq!(counts(writes.creates[0].endpoints()), of(hints), "{hints:?}");
    }
}

#[test]
fn each_family_for_itself() {
    let (nodes, mut pods) = cluster(&[("a", 1000, 3), ("b", 1000, 1)]);
    pods[0].ips.push("fd00::1".parse().expect("an address"));
    let service = with(auto(), |service| service.ip_families = vec![IpFamily::V6, IpFamily::V4]);
    let set = EndpointSet::resolve(&service, &pods, &nodes);
    let (v4, v6): (Vec<_>, Vec<_>) = set.endpoints().partition(|endpoint| endpoint.ip.is_ipv4());
    assert_eq!((counts(v4), counts(v6)), (of(&[("a", 2), ("b", 2)]), of(&[("-", 1)])));
    let writes = write(&service, &set, &nodes, &[], 100);
    let found: Vec<_> = writes.creates.iter().map(|slice| counts(slice.endpoints())).collect();
    assert_eq!(found, [of(&[("-", 1)]), of(&[("a", 2), ("b", 2)])]);
}

/// The same pod twice is one endpoint, and no reason for hints.
#[test]
fn pods_count_once() {
    let (nodes, pods) = cluster(&[("a", 1000, 1), ("b", 1000, 0)]);
    let twice = [pods[0].clone(), pods[0].clone()];
    assert_eq!(resolved(&auto(), &twice, &nodes), of(&[("-", 1)]));
}

/// A pod: its zone (the last one has no nodes), whether it is ready.
fn any_pods() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((0_usize..4, prop::bool::weighted(0.8)), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Hints are all there or none is; each ready endpoint has one zone. What is written says all there is to say: at
    /// a later look, soon nothing is written, and never what is there already.
    #[test]
    fn hints_settle(
        cpus in prop::array::uniform3(0_u32..5),
        (first, second) in (any_pods(), any_pods()),
        max in 1_usize..6,
        mode in prop::sample::select(vec!["", "Auto"]),
    ) {
        let zones = || ["a", "b", "c", "d"].into_iter().zip(cpus.into_iter().chain([0]));
        let nodes = zones().map(|(zone, cpu)| {
            with(node(zone, zone, cpu * 1000), |node| node.ready = cpu > 0)
        });
        let nodes: Nodes = nodes.collect();
        let service = with(service(), |service| {
            service.annotations = Labels::from_iter([(MODE, mode)]);
            service.traffic_distribution = Some(TrafficDistribution::PreferSameZone);
        });
        let mut existing: Vec<EndpointSlice> = Vec::new();
        for pods in [first, second] {
            let pods: Vec<Pod> = (0..).zip(&pods).map(|(i, (zone, ready))| {
                with(pod(i, ["a", "b", "c", "d"][*zone]), |pod| pod.ready = *ready)
            }).collect();
            let set = EndpointSet::resolve(&service, &pods, &nodes);
            for looks in 1.. {
                let writes = write(&service, &set, &nodes, &existing, max);
                let after = applied(&existing, &writes);
                let endpoints = || after.iter().flat_map(EndpointSlice::endpoints);
                let hinted = endpoints().filter(|endpoint| !hint(endpoint).is_empty()).count();
                let ready = endpoints().filter(|endpoint| endpoint.conditions.ready);
                prop_assert!(hinted == 0 || hinted == ready.clone().count(), "{:?}", counts(endpoints()));
                prop_assert!(hinted == 0 || ready.clone().all(|endpoint| endpoint.hints.zones.len() == 1));
                let unhinted = set.endpoints().all(|endpoint| hint(endpoint).is_empty());
                prop_assert_eq!(hinted == 0, unhinted, "the set's and the slices'");
                prop_assert_eq!(writes.is_empty(), after == existing);
                if writes.is_empty() {
                    break;
                }
                prop_assert!(looks < 5, "{:?}", names(&writes.updates));
                existing = after;
            }
        }
    }

    /// The sums over the nodes are what adding them up gives.
    #[test]
    fn nodes_come_and_go(
        changes in prop::collection::vec((0_u8..4, 0_usize..4, 0_u32..3, any::<bool>(), any::<bool>()), 0..16),
    ) {
        let mut nodes = Nodes::default();
        let mut model: BTreeMap<String, Node> = BTreeMap::new();
        for (name, zone, cpu, ready, remove) in changes {
            let name = format!("n{name}");
            let node = with(node(&name, ["", "a", "b", "c"][zone], cpu), |node| node.ready = ready);
            if remove {
                prop_assert_eq!(nodes.remove(&name), model.remove(&name));
            } else {
                prop_assert_eq!(nodes.insert(node.clone()), model.insert(name, node));
            }
            let mut sums: Option<BTreeMap<Arc<str>, u64>> = Some(BTreeMap::new());
            for node in model.values().filter(|node| node.ready) {
                let told = node.zone().filter(|_| node.cpu_millis > 0);
                sums = sums.zip(told).map(|(mut sums, zone)| {
                    *sums.entry(zone.into()).or_default() += u64::from(node.cpu_millis);
                    sums
                });
            }
            prop_assert_eq!(nodes.cpus_by_zone(), sums.as_ref());
            prop_assert_eq!(&nodes, &model.values().cloned().collect());
            prop_assert!(nodes.iter().eq(model.values()));
        }
    }
}
