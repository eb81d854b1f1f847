//! Which endpoint goes into which EndpointSlice, and that little is written.

use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;

use proptest::prelude::*;
use proptest::sample::select;
use svcplane::endpoints::{
    Endpoint, EndpointPort, EndpointSet, EndpointSlice, Hints, Packing, SliceWrites,
};
use svcplane::k8s;
use svcplane::labels::Labels;
use svcplane::net::IpFamily;
use svcplane::node::{Node, Nodes};
use svcplane::pod::{ContainerPort, Pod};
use svcplane::service::{ClusterIps, Service, TargetPort, TrafficDistribution};
use svcplane::time::Timestamp;

use super::slices::{
    apply, counts, ips, lengths, name, pod, pods, service, slice, write, write_with,
};

/// What it is, how many endpoints the existing slices have, how many pods there are, what happens; how many slices are
/// created, updated and deleted, and how many endpoints they have then.
type Row = (
    &'static str,
    &'static [usize],
    u16,
    fn(&mut Service, &mut Vec<Pod>),
    (usize, usize, usize),
    &'static [usize],
);

fn check(rows: &[Row]) {
    for (name, existing, count, change, expected, expected_lengths) in rows {
        let (mut service, mut pods) = (service(), pods(*count));
        let mut rest = &pods[..];
        let mut slices = Vec::new();
        for (i, &length) in existing.iter().enumerate() {
            let (here, after) = rest.split_at(length);
            slices.push(slice(&service, &format!("svc-{i}"), here));
            rest = after;
        }
        change(&mut service, &mut pods);
        let writes = write(&service, &pods, &slices);
        assert_eq!(counts(&writes), *expected, "{name}");
        let after = apply(&slices, &writes);
        assert_eq!(lengths(&after), *expected_lengths, "{name}");
        assert!(write(&service, &pods, &after).is_empty(), "{name}: written twice");
    }
}

fn another_port(service: &mut Service, _: &mut Vec<Pod>) {
    service.ports[0].target = TargetPort::Number(81);
}

#[expect(clippy::ptr_arg, reason = "others take pods out")]
fn every_tenth_unready(_: &mut Service, pods: &mut Vec<Pod>) {
    pods.iter_mut().take(100).step_by(10).for_each(|pod| pod.ready = false);
}

/// Kubernetes endpointslice `reconciler_test.go`, in this order: `TestReconcileManyPods`,
/// `TestReconcileEndpointSlicesSomePreexisting`, `TestReconcileEndpointSlicesSomePreexistingWorseAllocation`,
/// `TestReconcileEndpointSlicesUpdating`, `TestReconcileEndpointSlicesServicesLabelsUpdating`,
/// `TestReconcileEndpointSlicesServicesReservedLabels`, `TestReconcileEndpointSlicesRecycling` and
/// `TestReconcileEndpointSlicesUpdatePacking`.
#[test]
#[rustfmt::skip]
fn scenarios() {
    check(&[
        ("no slices", &[], 250, |_, _| {}, (3, 0, 0), &[50, 100, 100]),
        ("62 and 61 of 250", &[62, 61], 250, |_, _| {}, (1, 1, 0), &[61, 89, 100]),
        ("74 and 74 of 300", &[74, 74], 300, |_, _| {}, (2, 0, 0), &[52, 74, 74, 100]),
        ("another port", &[100, 100, 50], 250, another_port, (0, 3, 0), &[50, 100, 100]),
        ("a label of the Service", &[100, 100, 50], 250,
            |service, _| service.labels = Labels::from_iter([("foo", "bar")]), (0, 3, 0), &[50, 100, 100]),
        ("reserved labels of the Service", &[100, 100, 50], 250,
            |service, _| service.labels = Labels::from_iter([
                ("kubernetes.io/service-name", "bad"), ("endpointslice.kubernetes.io/managed-by", "actor"),
                ("service.kubernetes.io/headless", "invalid"),
            ]),
            (0, 0, 0), &[50, 100, 100]),
        ("ten slices", &[30; 10], 300, |_, _| {}, (0, 0, 0), &[30; 10]),
        ("ten slices, another port", &[30; 10], 300, another_port, (0, 3, 7), &[100, 100, 100]),
        ("80 and 20, both written, and 15 more", &[80, 20], 115, every_tenth_unready, (0, 2, 0), &[20, 95]),
    ]);
}

/// What follows from the rule: what is written anyway is filled first, the fullest first; then the rest goes into the
/// slice that gets fullest, if it fits and is not itself a sliceful; else there are new slices.
#[test]
#[rustfmt::skip]
fn scenarios_by_rule() {
    check(&[
        ("20 and 80, both written, and 15 more", &[20, 80], 115, every_tenth_unready, (0, 2, 0), &[20, 95]),
        ("and 25 more", &[20, 80], 125, every_tenth_unready, (0, 2, 0), &[25, 100]),
        ("and 105 more", &[20, 80], 205, every_tenth_unready, (1, 2, 0), &[5, 100, 100]),
        ("written with room before not written with less", &[50, 90], 150,
            |_, pods| pods[0].ready = false, (0, 1, 0), &[60, 90]),
        ("written, then the fullest that fits", &[95, 60, 80], 255,
            |_, pods| pods[0].ready = false, (0, 2, 0), &[60, 95, 100]),
        ("an exact fit", &[40, 90, 60], 230, |_, _| {}, (0, 1, 0), &[40, 90, 100]),
        ("the closest", &[50, 70, 95], 235, |_, _| {}, (0, 1, 0), &[50, 90, 95]),
        ("no fit", &[95, 95], 200, |_, _| {}, (1, 0, 0), &[10, 95, 95]),
        ("99 into an empty slice", &[0], 99, |_, _| {}, (0, 1, 0), &[99]),
        ("100 into a new one", &[0], 100, |_, _| {}, (1, 0, 0), &[0, 100]),
        ("101: 100 new, one added", &[50], 151, |_, _| {}, (1, 1, 0), &[51, 100]),
        ("a pod goes", &[100, 50], 150, |_, pods| drop(pods.remove(0)), (0, 1, 0), &[50, 99]),
        ("one comes, one goes", &[100, 50], 151, |_, pods| drop(pods.remove(0)), (0, 1, 0), &[50, 100]),
        ("the last of a slice goes", &[100, 1], 101, |_, pods| drop(pods.pop()), (0, 0, 1), &[100]),
        ("the last of a slice goes, others come", &[100, 1], 151, |_, pods| drop(pods.remove(100)), (0, 1, 0),
            &[50, 100]),
        ("all go", &[100, 50], 150, |_, pods| pods.clear(), (0, 1, 1), &[0]),
        ("more than a slice may hold", &[150], 151, |_, _| {}, (1, 0, 0), &[1, 150]),
        ("more than a slice may hold, one goes", &[150], 151, |_, pods| drop(pods.remove(0)), (1, 1, 0), &[1, 149]),
        ("another family", &[100, 50], 150,
            |service, _| service.ip_families = vec![IpFamily::V6], (1, 0, 2), &[0]),
        ("a family more", &[100, 50], 150,
            |service, _| service.ip_families = vec![IpFamily::V4, IpFamily::V6], (1, 0, 0), &[0, 50, 100]),
    ]);
}

/// Of slices that are equally good the first by name is taken; a slice of another list of ports has its place taken
/// by name.
#[test]
fn the_first_by_name() {
    let both = pods(21);
    let slices = ["svc-b", "svc-a"]
        .map(|name| slice(&service(), name, &both[if name == "svc-a" { 0..10 } else { 10..20 }]));
    let writes = write(&service(), &both, &slices);
    assert_eq!(writes.updates.iter().map(|s| &s.name).collect::<Vec<_>>(), [&name("svc-a")]);
    let mut service = service();
    another_port(&mut service, &mut Vec::new());
    let writes = write(&service, &both, &slices);
    assert_eq!(writes.updates.iter().map(|s| &s.name).collect::<Vec<_>>(), [&name("svc-a")]);
    assert_eq!(writes.deletes, [name("svc-b")]);
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcileMaxEndpointsPerSlice`, for 250 pods; other values count
/// as the nearest of 1 to 1000.
#[test]
fn sizes_of_slices() {
    for (max, expected) in [
        (50, vec![50; 5]),
        (80, vec![10, 80, 80, 80]),
        (150, vec![100, 150]),
        (250, vec![250]),
        (500, vec![250]),
        (1, vec![1; 250]),
        (0, vec![1; 250]),
        (usize::MAX, vec![250]),
    ] {
        let mut packing = Packing::default();
        packing.max_endpoints = max;
        let writes = write_with(&service(), &pods(250), &Nodes::default(), &[], &packing);
        assert_eq!((lengths(&writes.creates), counts(&writes).1), (expected, 0), "{max}");
    }
    let mut packing = Packing::default();
    packing.max_endpoints = 1001;
    let writes = write_with(&service(), &pods(1001), &Nodes::default(), &[], &packing);
    assert_eq!(lengths(&writes.creates), [1, 1000]);
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcileEndpointSlicesReplaceDeprecated`: the family of a slice
/// does not change, so that slices of another address type make place for new ones.
#[test]
fn slices_of_other_types() {
    let pods = pods(130);
    for kind in ["IP", "FQDN", "IPv6", ""] {
        let existing = [(0, &pods[..80]), (1, &pods[80..])].map(|(i, pods)| {
            let slice = slice(&service(), &format!("svc-{i}"), pods);
            let mut mirror = k8s::EndpointSlice::from(&slice);
            mirror.address_type = kind.into();
            mirror.convert().expect("a name").object
        });
        let writes = write(&service(), &pods, &existing);
        assert_eq!(counts(&writes), (2, 0, 2), "{kind}");
        let after = apply(&existing, &writes);
        assert_eq!(lengths(&after), [30, 100], "{kind}");
        assert!(after.iter().all(|slice| slice.family == Some(IpFamily::V4)), "{kind}");
    }
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcileEndpointSlicesRecreation`: slices of an earlier Service
/// of the name go with it, and do not become the new one's.
#[test]
fn slices_of_earlier_services() {
    let existing = slice(&service(), "svc-0", &pods(1));
    assert!(write(&service(), &pods(1), from_ref(&existing)).is_empty());
    let mut foreign = existing.clone();
    foreign.owner.as_mut().expect("an owner").uid = "different".into();
    let mut nobodys = existing.clone();
    nobodys.owner = None;
    for other in [&foreign, &nobodys] {
        let writes = write(&service(), &pods(1), from_ref(other));
        assert_eq!((counts(&writes), &writes.deletes[0]), ((1, 0, 1), &other.name));
        let writes = write(&service(), &pods(1), &[other.clone(), existing_as("svc-1", &existing)]);
        assert_eq!((counts(&writes), &writes.deletes[0]), ((0, 0, 1), &other.name));
        assert_eq!(counts(&write(&service(), &[], from_ref(other))), (1, 0, 1));
    }
}

fn existing_as(name: &str, slice: &EndpointSlice) -> EndpointSlice {
    let mut slice = slice.clone();
    slice.name = self::name(name);
    slice
}

/// What is said twice, in one slice or in two, is said once.
#[test]
fn endpoints_said_twice() {
    let first = slice(&service(), "svc-0", &pods(2));
    let again = existing_as("svc-1", &first);
    let writes = write(&service(), &pods(2), &[first.clone(), again.clone()]);
    assert_eq!((counts(&writes), writes.deletes), ((0, 0, 1), vec![again.name]));

    let more = slice(&service(), "svc-1", &pods(3)[1..]);
    let writes = write(&service(), &pods(3), &[first.clone(), more]);
    assert_eq!((counts(&writes), lengths(&writes.updates)), ((0, 1, 0), vec![1]));

    let mut twice = first.clone();
    let endpoints: Vec<Endpoint> = [first.endpoints(), first.endpoints()].concat();
    twice.set_endpoints(first.ports().iter().cloned(), endpoints);
    let writes = write(&service(), &pods(2), &[twice]);
    assert_eq!((counts(&writes), lengths(&writes.updates)), ((0, 1, 0), vec![2]));
}

fn node(name: &str, zone: &str) -> Node {
    let mut node = Node::new(name.parse().expect("a name"));
    node.labels = Labels::from_iter([("topology.kubernetes.io/zone", zone)]);
    (node.ready, node.cpu_millis) = (true, 1000);
    node
}

/// Hints in proportion to CPUs that there cannot be, as an endpoint has no zone, are no reason to write; those of
/// before go.
#[test]
fn hints_that_cannot_be() {
    let nodes = Nodes::from_iter([node("a", "a"), node("b", "b")]);
    let mut service = service();
    service.annotations = Labels::from_iter([("service.kubernetes.io/topology-mode", "Auto")]);
    let mut packing = Packing::default();
    packing.max_endpoints = 2;
    let mut pods = pods(4);
    for (pod, node) in pods.iter_mut().zip(["a", "b", "a", "b"]) {
        pod.node = Some(node.parse().expect("a name"));
    }
    let hinted = write_with(&service, &pods, &nodes, &[], &packing).creates;
    pods[3].node = None;
    let writes = write_with(&service, &pods, &nodes, &hinted, &packing);
    assert_eq!(counts(&writes), (0, 2, 0));
    let bare = apply(&hinted, &writes);
    let hints = |endpoint: &Endpoint| endpoint.hints != Hints::default();
    assert!(hinted.iter().all(|slice| slice.endpoints().iter().all(hints)));
    assert!(!bare.iter().any(|slice| slice.endpoints().iter().any(hints)));
    assert!(write_with(&service, &pods, &nodes, &bare, &packing).is_empty());
    // A slice that is written has no reason to have others written.
    pods[0].ready = false;
    let writes = write_with(&service, &pods, &nodes, &bare, &packing);
    assert_eq!(counts(&writes), (0, 1, 0));
}

/// What is done to the pod, or where it is, and whether its endpoint is another from then on.
type EndpointRow = (&'static str, fn(&mut Pod, &mut Nodes), bool);

/// Kubernetes endpointslice `util/controller_utils_test.go`, `TestEndpointsEqualBeyondHash` (but for what is unstated):
/// the slice of an endpoint that differs is written, be it by its identity (addresses, hostname, name) or beyond that.
/// What it says is then what the pod says.
#[test]
fn endpoints_that_differ() {
    let rows: [EndpointRow; 15] = [
        ("nothing", |_, _| {}, false),
        ("labels", |pod, _| pod.labels = Labels::from_iter([("app", "x"), ("more", "y")]), false),
        ("the time of readiness", |pod, _| pod.ready_since = Some(Timestamp::default()), false),
        ("the node", |pod, _| pod.node = Some("node-2".parse().expect("a name")), true),
        (
            "the node and the zone",
            |pod, _| pod.node = Some("node-3".parse().expect("a name")),
            true,
        ),
        ("the zone", |_, nodes| drop(nodes.insert(node("node-1", "b"))), true),
        ("readiness", |pod, _| pod.ready = false, true),
        ("deletion", |pod, _| pod.deleted = Some(Timestamp::default()), true),
        ("the uid", |pod, _| pod.uid = "other".into(), true),
        ("the name", |pod, _| pod.name = name("other"), true),
        ("the hostname", |pod, _| pod.hostname = Some("other".parse().expect("a label")), true),
        ("the subdomain", |pod, _| pod.subdomain = None, true),
        ("the address", |pod, _| pod.ips = ips(&["10.1.0.1", "10.1.0.2"]), true),
        ("an address less", |pod, _| pod.ips.truncate(1), true),
        ("the order of addresses", |pod, _| pod.ips.reverse(), true),
    ];
    let nodes = [("node-1", "a"), ("node-2", "a"), ("node-3", "b")];
    let nodes: Nodes = nodes.map(|(name, zone)| node(name, zone)).into_iter().collect();
    let packing = Packing::default();
    let mut pods = pods(3);
    pods[1].ips = ips(&["10.2.0.1", "10.2.0.2"]);
    pods[1].node = Some("node-1".parse().expect("a name"));
    pods[1].hostname = Some("host".parse().expect("a label"));
    pods[1].subdomain = Some("svc".parse().expect("a label"));
    let existing = write_with(&service(), &pods, &nodes, &[], &packing).creates;
    for (name, change, expected) in rows {
        let mut pods = pods.clone();
        let mut nodes = nodes.clone();
        change(&mut pods[1], &mut nodes);
        let writes = write_with(&service(), &pods, &nodes, &existing, &packing);
        assert_eq!(counts(&writes), (0, usize::from(expected), 0), "{name}");
        let after = apply(&existing, &writes);
        let set = EndpointSet::resolve(&service(), &pods, &nodes);
        assert_eq!(EndpointSet::merge(service().name, &after), set, "{name}");
    }
}

/// A Service, its pods by number, and where they run.
#[derive(Clone, Debug)]
struct World {
    service: Service,
    pods: BTreeMap<u16, Pod>,
    nodes: Nodes,
    packing: Packing,
}

#[derive(Clone, Debug)]
enum Change {
    /// Number; ready, deleted, with a hostname, another of the name; addresses, named port, node.
    Pod(u16, [bool; 4], usize, Option<u16>, &'static str),
    Gone(u16),
    /// The zone of a node.
    Zone(&'static str),
    Label(Option<&'static str>),
    Target(TargetPort),
    Headless(bool),
    Published(bool),
    Families(Vec<IpFamily>),
    Distribution(Option<TrafficDistribution>),
    /// Hints in proportion to the zones' CPUs.
    Proportional(bool),
}

fn change() -> impl Strategy<Value = Change> {
    use TrafficDistribution::{PreferClose, PreferSameNode};
    let (v4, v6) = (IpFamily::V4, IpFamily::V6);
    let state =
        (0_u16..14, any::<[bool; 4]>(), 0_usize..7, select(vec![None, Some(8080), Some(8081)]));
    let node = select(vec!["", "n1", "n2", "lost"]);
    let number = [80, 81].map(TargetPort::Number);
    let target = [TargetPort::Name("http".into()), TargetPort::Name("none".into())];
    let families = vec![vec![], vec![v4], vec![v6], vec![v4, v6], vec![v6, v4]];
    prop_oneof![
        20 => (state, node).prop_map(|((number, flags, ips, port), node)| Change::Pod(number, flags, ips, port, node)),
        6 => (0_u16..14).prop_map(Change::Gone),
        1 => select(vec!["", "a", "b", "c"]).prop_map(Change::Zone),
        1 => select(vec![None, Some("a"), Some("b")]).prop_map(Change::Label),
        2 => select([number, target].concat()).prop_map(Change::Target),
        1 => any::<bool>().prop_map(Change::Headless),
        1 => any::<bool>().prop_map(Change::Published),
        1 => select(families).prop_map(Change::Families),
        1 => select(vec![None, Some(PreferClose), Some(PreferSameNode)]).prop_map(Change::Distribution),
        1 => any::<bool>().prop_map(Change::Proportional),
    ]
}

impl World {
    fn new(max_endpoints: usize) -> Self {
        let mut service = service();
        service.ports[0].target = TargetPort::Name("http".into());
        let mut packing = Packing::default();
        packing.max_endpoints = max_endpoints;
        let nodes = Nodes::from_iter([node("n1", "a"), node("n2", "b")]);
        Self { service, pods: BTreeMap::new(), nodes, packing }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.apply_one(change);
        }
    }

    fn apply_one(&mut self, change: Change) {
        let service = &mut self.service;
        match change {
            Change::Pod(number, [ready, deleted, named, other], addresses, port, node) => {
                let mut pod = pod(number);
                let [own, more] =
                    [1, 2].map(|i| [10, i, 0, u8::try_from(number).expect("few")].into());
                let v6 = ips(&[&format!("fd00::{number}")])[0];
                pod.ips = match addresses {
                    0 => vec![],
                    1 => vec![v6],
                    2 => vec![own, v6],
                    3 => vec![v6, own, more],
                    4 => ips(&["10.9.9.9"]),
                    _ => vec![own],
                };
                (pod.ready, pod.deleted) = (ready, deleted.then(Timestamp::default));
                pod.hostname = named.then(|| "host".parse().expect("a label"));
                pod.subdomain = Some("svc".parse().expect("a label"));
                pod.uid = format!("{number}-{other}").into();
                pod.node = (!node.is_empty()).then(|| node.parse().expect("a name"));
                pod.ports = port.map(ContainerPort::new).into_iter().collect();
                for port in &mut pod.ports {
                    port.name = Some("http".parse().expect("a port name"));
                }
                self.pods.insert(number, pod);
            }
            Change::Gone(number) => drop(self.pods.remove(&number)),
            Change::Zone(zone) => drop(self.nodes.insert(node("n1", zone))),
            Change::Label(value) => {
                service.labels = value.map(|value| ("label", value)).into_iter().collect();
            }
            Change::Target(target) => service.ports[0].target = target,
            Change::Headless(true) => service.cluster_ips = ClusterIps::Headless,
            Change::Headless(false) => {
                service.cluster_ips = ClusterIps::Assigned(ips(&["1.1.1.1"]));
            }
            Change::Published(published) => service.publish_not_ready_addresses = published,
            Change::Families(families) => service.ip_families = families,
            Change::Distribution(distribution) => service.traffic_distribution = distribution,
            Change::Proportional(wanted) => {
                let annotation = wanted.then_some(("service.kubernetes.io/topology-mode", "Auto"));
                service.annotations = annotation.into_iter().collect();
            }
        }
    }

    fn resolve<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) -> EndpointSet {
        EndpointSet::resolve(&self.service, pods, &self.nodes)
    }

    fn writes(&self, existing: &[EndpointSlice]) -> SliceWrites {
        let set = self.resolve(self.pods.values());
        SliceWrites::new(&self.service, &set, &self.nodes, existing, &self.packing)
    }
}

/// Slices that are not to be touched.
fn strangers() -> [EndpointSlice; 3] {
    let mut slices = ["svc-x", "svc-y", "svc-z"].map(|name| slice(&service(), name, &pods(3)));
    slices[0].managed_by = "somebody-else".into();
    slices[1].deleted = Some(Timestamp::default());
    slices[2].service = name("other");
    slices
}

/// Slices that are to go.
fn leftovers() -> [EndpointSlice; 2] {
    let mut slices = ["svc-1", "svc-2"].map(|name| slice(&service(), name, &pods(3)));
    slices[0].owner = None;
    slices[1].family = None;
    slices
}

fn without_hints(endpoints: &[Endpoint]) -> Vec<Endpoint> {
    let bare = |endpoint: &Endpoint| {
        let mut endpoint = endpoint.clone();
        endpoint.hints = Hints::default();
        endpoint
    };
    endpoints.iter().map(bare).collect()
}

type Group = (Option<IpFamily>, Vec<EndpointPort>);

/// Each slice that is written has a reason to be.
fn check_reasons(
    before: &[EndpointSlice],
    writes: &SliceWrites,
    max: usize,
) -> Result<(), TestCaseError> {
    prop_assert!(writes.updates.is_sorted_by_key(|slice| &slice.name));
    prop_assert!(writes.deletes.is_sorted());
    let mut grown: BTreeMap<Group, usize> = BTreeMap::new();
    for slice in &writes.updates {
        let old = before.iter().find(|old| old.name == slice.name);
        let old = old.expect("a slice that there is");
        // An empty slice stands for others that go, be it the same as before.
        let stands = slice.endpoints().is_empty() && !writes.deletes.is_empty();
        prop_assert!(slice != old || stands, "written for nothing: {slice:?}");
        let now: BTreeSet<&Endpoint> = slice.endpoints().iter().collect();
        let same = slice.ports() == old.ports()
            && slice.labels == old.labels
            && old.endpoints().iter().all(|endpoint| now.contains(endpoint));
        if same && !old.endpoints().is_empty() {
            let more = slice.endpoints().len() > old.endpoints().len();
            prop_assert!(more, "written for nothing: {slice:?}");
            *grown.entry((slice.family, slice.ports().to_vec())).or_default() += 1;
        }
    }
    prop_assert!(grown.values().all(|&count| count == 1), "filled where one would do: {grown:?}");
    let mut partial: BTreeMap<Group, usize> = BTreeMap::new();
    for slice in writes.creates.iter().filter(|slice| slice.endpoints().len() < max) {
        *partial.entry((slice.family, slice.ports().to_vec())).or_default() += 1;
    }
    prop_assert!(partial.values().all(|&count| count == 1), "new and not full: {partial:?}");
    Ok(())
}

/// What holds once all is written.
fn check_slices(world: &World, slices: &[EndpointSlice]) -> Result<(), TestCaseError> {
    let max = world.packing.max_endpoints;
    prop_assert!(lengths(slices).iter().all(|&length| length <= max), "{:?}", lengths(slices));
    for slice in slices {
        prop_assert_eq!(&slice.labels, &world.service.labels, "{:?}", slice.name);
        let exported = k8s::EndpointSlice::from(slice).convert().expect("a name");
        prop_assert_eq!((&exported.object, &*exported.warnings), (slice, &[][..]));
        prop_assert!(!slice.endpoints().is_empty() || slice.ports().is_empty(), "{slice:?}");
    }
    let set = world.resolve(world.pods.values());
    let mut resolved: Vec<Endpoint> = set.endpoints().cloned().collect();
    let stated: usize = lengths(slices).iter().sum();
    prop_assert_eq!(stated, resolved.len(), "an endpoint is in two slices, or in none");
    let merged = EndpointSet::merge(world.service.name.clone(), slices);
    let mut merged: Vec<Endpoint> = merged.endpoints().cloned().collect();
    if !world.service.annotations.is_empty() {
        (merged, resolved) = (without_hints(&merged), without_hints(&resolved));
    }
    prop_assert_eq!(merged, resolved);
    let again = world.writes(slices);
    prop_assert!(again.is_empty(), "written twice: {again:?}");
    Ok(())
}

proptest! {
    /// However pods and the Service change: once all is written, the slices together say what the pods say, each is
    /// of legal size, no endpoint is in two, there is nothing left to write, and no slice was written without need.
    #[test]
    fn slices_say_what_pods_say(
        first in prop::collection::vec(change(), 0..30),
        more in prop::collection::vec(prop::collection::vec(change(), 1..6), 0..10),
        max_endpoints in 1_usize..6,
    ) {
        let mut world = World::new(max_endpoints);
        let strangers = strangers();
        let mut slices: Vec<EndpointSlice> = strangers.iter().cloned().chain(leftovers()).collect();
        for (i, changes) in std::iter::once(first).chain(more).enumerate() {
            world.apply(changes);
            world.packing.trigger_time = (i % 2 == 1).then(Timestamp::default);
            let writes = world.writes(&slices);
            check_reasons(&slices, &writes, max_endpoints)?;
            let after = apply(&slices, &writes);
            let strange = |slice: &EndpointSlice| strangers.iter().any(|other| other.name == slice.name);
            let (others, own): (Vec<_>, Vec<_>) = after.into_iter().partition(strange);
            prop_assert_eq!(&others[..], &strangers[..]);
            check_slices(&world, &own)?;
            slices = own.into_iter().chain(others).collect();
        }
    }

    /// The same pods and slices in any order give the same writes.
    #[test]
    fn order_does_not_matter(
        changes in prop::collection::vec(change(), 0..40),
        more in prop::collection::vec(change(), 0..10),
        max_endpoints in 1_usize..6,
        keys in prop::collection::vec(any::<u32>(), 64),
    ) {
        let mut world = World::new(max_endpoints);
        world.apply(changes);
        let mut slices = apply(&[], &world.writes(&[]));
        slices.extend(strangers().into_iter().chain(leftovers()));
        world.apply(more);
        prop_assert!(slices.len() <= keys.len());
        let writes = world.writes(&slices);
        let mut pods: Vec<(u32, &Pod)> = keys.iter().copied().zip(world.pods.values()).collect();
        pods.sort_unstable_by_key(|(key, _)| *key);
        let set = world.resolve(pods.into_iter().map(|(_, pod)| pod));
        let mut existing: Vec<(u32, &EndpointSlice)> = keys.into_iter().zip(&slices).collect();
        existing.sort_unstable_by_key(|(key, _)| *key);
        let existing = existing.into_iter().map(|(_, slice)| slice);
        let shuffled = SliceWrites::new(&world.service, &set, &world.nodes, existing, &world.packing);
        prop_assert_eq!(shuffled, writes);
    }
}
