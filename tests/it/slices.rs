//! EndpointSlices: what is in them, what they are called and labelled, and when they are written at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::slice::from_ref;

use svcplane::endpoints::{
    EndpointPort, EndpointSet, EndpointSlice, Packing, Reference, SliceWrites,
};
use svcplane::field::FieldError;
use svcplane::k8s;
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::node::{Node, Nodes};
use svcplane::pod::{ContainerPort, Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServicePort, TargetPort};
use svcplane::time::Timestamp;

pub(crate) const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::new("ns", name).expect("a name")
}

/// A Service with one port and no cluster IP.
pub(crate) fn service() -> Service {
    let mut service = Service::new(name("svc"));
    service.uid = "svc-uid".into();
    service.selector = Labels::from_iter([("app", "x")]);
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort::new(80)];
    service
}

pub(crate) fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// A ready pod with an address of its own.
pub(crate) fn pod(number: u16) -> Pod {
    let mut pod = Pod::new(name(&format!("pod-{number}")));
    pod.labels = Labels::from_iter([("app", "x")]);
    (pod.phase, pod.ready) = (Phase::Running, true);
    let [high, low] = number.to_be_bytes();
    pod.ips = vec![[10, 0, high, low].into()];
    pod
}

pub(crate) fn pods(count: u16) -> Vec<Pod> {
    (0..count).map(pod).collect()
}

/// The slice that holds these pods, with the ports that the first pod of all has.
pub(crate) fn slice(service: &Service, name: &str, pods: &[Pod]) -> EndpointSlice {
    let nodes = Nodes::default();
    let mut slice =
        EndpointSlice::new(self::name(name), service.name.clone(), service.ip_families[0]);
    slice.managed_by = CONTROLLER.into();
    slice.headless = service.cluster_ips.as_slice().is_empty();
    slice.labels = service.labels.clone();
    slice.owner = Some(Reference::new("Service", &service.name, &service.uid));
    let first = EndpointSet::resolve(service, [&pod(0)], &nodes);
    let ports = first.endpoints().next().map_or(&[][..], |endpoint| &endpoint.ports);
    let set = EndpointSet::resolve(service, pods, &nodes);
    slice.set_endpoints(ports.iter().cloned(), set.endpoints().cloned());
    slice
}

pub(crate) fn write(service: &Service, pods: &[Pod], existing: &[EndpointSlice]) -> SliceWrites {
    write_with(service, pods, &Nodes::default(), existing, &Packing::default())
}

pub(crate) fn write_with(
    service: &Service,
    pods: &[Pod],
    nodes: &Nodes,
    existing: &[EndpointSlice],
    packing: &Packing,
) -> SliceWrites {
    let set = EndpointSet::resolve(service, pods, nodes);
    SliceWrites::new(service, &set, nodes, existing, packing)
}

/// How many slices are created, updated and deleted.
pub(crate) fn counts(writes: &SliceWrites) -> (usize, usize, usize) {
    (writes.creates.len(), writes.updates.len(), writes.deletes.len())
}

/// The slices that there are once all is written.
pub(crate) fn apply(existing: &[EndpointSlice], writes: &SliceWrites) -> Vec<EndpointSlice> {
    let mut slices: BTreeMap<_, _> =
        existing.iter().map(|slice| (slice.name.clone(), slice.clone())).collect();
    for slice in &writes.creates {
        let before = slices.insert(slice.name.clone(), slice.clone());
        assert_eq!(before, None, "{} is created, and there is one", slice.name);
    }
    for slice in &writes.updates {
        let before = slices.insert(slice.name.clone(), slice.clone());
        assert!(before.is_some(), "{} is updated, and there is none", slice.name);
    }
    for name in &writes.deletes {
        assert!(slices.remove(name).is_some(), "{name} is deleted, and there is none");
    }
    slices.into_values().collect()
}

/// The numbers of endpoints, sorted.
pub(crate) fn lengths(slices: &[EndpointSlice]) -> Vec<usize> {
    let mut lengths: Vec<usize> = slices.iter().map(|slice| slice.endpoints().len()).collect();
    lengths.sort_unstable();
    lengths
}

/// The labels of the object.
fn labels(slice: &EndpointSlice) -> Vec<(String, String)> {
    k8s::EndpointSlice::from(slice).metadata.labels.into_iter().collect()
}

/// The labels of a slice of the Service, with those that it has from the Service.
fn expected_labels(headless: bool, own: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut labels = vec![(SERVICE_NAME, "svc"), (MANAGED_BY, CONTROLLER)];
    labels.extend(headless.then_some((HEADLESS, "")));
    labels.extend(own);
    labels.sort_unstable();
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn cluster_ips(headless: bool) -> ClusterIps {
    if headless { ClusterIps::Headless } else { ClusterIps::Assigned(ips(&["1.1.1.1"])) }
}

fn node(name: &str, zone: &str) -> Node {
    let mut node = Node::new(name.parse().expect("a name"));
    node.labels = Labels::from_iter([("topology.kubernetes.io/zone", zone)]);
    node
}

fn created(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Kubernetes endpointslice `utils_test.go`, `TestSupportedServiceAddressType`, as far as there is a selector: each
/// family has a slice, be it an empty one.
#[test]
fn families() {
    let (v4, v6) = (IpFamily::V4, IpFamily::V6);
    let assigned = |ip: &str| ClusterIps::Assigned(ips(&[ip]));
    for (name, families, cluster_ips, expected) in [
        ("IPv4 address, no families", vec![], assigned("10.0.0.10"), vec![v4]),
        ("IPv6 address, no families", vec![], assigned("2000::1"), vec![v6]),
        ("IPv4", vec![v4], ClusterIps::Unassigned, vec![v4]),
        ("IPv6", vec![v6], ClusterIps::Unassigned, vec![v6]),
        ("IPv4 and IPv6", vec![v4, v6], ClusterIps::Unassigned, vec![v4, v6]),
        ("IPv6 and IPv4", vec![v6, v4], ClusterIps::Unassigned, vec![v6, v4]),
        ("headless, no families", vec![], ClusterIps::Headless, vec![v4, v6]),
        ("headless, both", vec![v4, v6], ClusterIps::Headless, vec![v4, v6]),
        ("nothing stated", vec![], ClusterIps::Unassigned, vec![v4, v6]),
        ("a family and another's address", vec![v6], assigned("10.0.0.10"), vec![v6]),
    ] {
        let mut service = service();
        (service.ip_families, service.cluster_ips) = (families, cluster_ips);
        let writes = write(&service, &[], &[]);
        let found: Vec<_> = writes.creates.iter().filter_map(|slice| slice.family).collect();
        assert_eq!(found, expected, "{name}");
    }
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcile1Pod`: one pod with an address of each family.
#[test]
fn one_pod() {
    let (v4, v6) = (IpFamily::V4, IpFamily::V6);
    let assigned = |texts: &[&str]| ClusterIps::Assigned(ips(texts));
    let none = || ClusterIps::Unassigned;
    let own: &[(&str, &str)] = &[("foo", "bar")];
    let bad = &[(SERVICE_NAME, "bad"), (MANAGED_BY, "actor"), (HEADLESS, "invalid")];
    let (ipv4, ipv6) = ("1.2.3.4", "1234::5678:0:0:9abc:def0");
    let mut mirror = k8s::Pod::from(&pod(1));
    mirror.status.pod_ips = vec![k8s::PodIp::default(), k8s::PodIp::default()];
    mirror.status.pod_ips[0].ip = ipv4.into();
    mirror.status.pod_ips[1].ip = "1234::5678:0000:0000:9abc:def0".into();
    mirror.spec.hostname = "example-hostname".into();
    mirror.spec.node_name = "node-1".into();
    let pod = mirror.convert().expect("a name").object;
    let nodes = Nodes::from_iter([node("node-1", "us-central1-a")]);
    let mut packing = Packing::default();
    packing.trigger_time = Some(created("2026-03-01T12:00:00Z"));
    for (name, families, cluster_ips, service_labels, headless, expected) in [
        ("no family", vec![], assigned(&["10.0.0.10"]), &[][..], false, vec![ipv4]),
        ("ipv4", vec![v4], none(), &[], true, vec![ipv4]),
        ("ipv4, cluster IP", vec![v4], assigned(&["1.1.1.1"]), &[], false, vec![ipv4]),
        ("ipv4, labels", vec![v4], none(), own, true, vec![ipv4]),
        ("ipv4, bad labels", vec![v4], none(), bad, true, vec![ipv4]),
        ("ipv6", vec![v6], none(), &[], true, vec![ipv6]),
        (
            "ipv6, cluster IP",
            vec![v6],
            assigned(&["1234::5678:0:0:9abc:def1"]),
            &[],
            false,
            vec![ipv6],
        ),
        (
            "dual stack",
            vec![v4, v6],
            assigned(&["10.0.0.10", "2000::1"]),
            &[],
            false,
            vec![ipv4, ipv6],
        ),
    ] {
        let mut service = service();
        (service.ip_families, service.cluster_ips) = (families, cluster_ips);
        service.labels = service_labels.iter().copied().collect();
        let writes = write_with(&service, from_ref(&pod), &nodes, &[], &packing);
        assert_eq!(counts(&writes), (expected.len(), 0, 0), "{name}");
        for (slice, ip) in writes.creates.iter().zip(expected) {
            let own = if service_labels == own { own } else { &[] };
            assert_eq!(labels(slice), expected_labels(headless, own), "{name}");
            let trigger_time = slice.annotations.get(TRIGGER_TIME);
            assert_eq!(trigger_time, Some("2026-03-01T12:00:00Z"), "{name}");
            let mirror = k8s::EndpointSlice::from(slice);
            assert_eq!(mirror.address_type, if ip == ipv4 { "IPv4" } else { "IPv6" }, "{name}");
            let [endpoint] = &*mirror.endpoints else { panic!("{name}: {:?}", mirror.endpoints) };
            assert_eq!(endpoint.addresses, [ip], "{name}");
            let stated = &endpoint.conditions;
            let conditions = (stated.ready, stated.serving, stated.terminating);
            assert_eq!(conditions, (Some(true), Some(true), Some(false)), "{name}");
            assert_eq!(endpoint.zone.as_deref(), Some("us-central1-a"), "{name}");
            assert_eq!(endpoint.node_name.as_deref(), Some("node-1"), "{name}");
            assert_eq!((&endpoint.hostname, &endpoint.hints), (&None, &None), "{name}");
            let target = endpoint.target_ref.as_ref().expect("a target");
            let target = [&*target.kind, &*target.namespace, &*target.name, &*target.uid];
            assert_eq!(target, ["Pod", "ns", "pod-1", ""], "{name}");
        }
    }
}

/// Kubernetes endpointslice `utils_test.go`, `TestPodToEndpoint`; the last row follows from ready = published or
/// (serving and not terminating).
#[test]
#[rustfmt::skip]
fn endpoints_of_pods() {
    let own: &[&str] = &["1.2.3.5"];
    let two: &[&str] = &["1.2.3.4", "1234::5678:0:0:9abc:def0"];
    let zoned = || Nodes::from_iter([node("node-1", "us-central1-a")]);
    let bare = || Nodes::from_iter([Node::new("node-1".parse().expect("a name"))]);
    let zone = Some("us-central1-a");
    for (name, ready, deleted, publish, pod_ips, nodes, hostname, conditions, address, zone) in [
        ("ready", true, false, false, own, bare(), None, [true, true, false], own[0], None),
        ("ready, published", true, false, true, own, bare(), None, [true, true, false], own[0], None),
        ("unready", false, false, false, own, bare(), None, [false, false, false], own[0], None),
        ("unready, published", false, false, true, own, bare(), None, [true, false, false], own[0], None),
        ("a zone", true, false, false, own, zoned(), None, [true, true, false], own[0], zone),
        ("two addresses", true, false, false, two, zoned(), None, [true, true, false], two[0], zone),
        ("a hostname", true, false, false, own, zoned(), Some("example-hostname"), [true, true, false], own[0], zone),
        ("ready, deleted", true, true, false, own, bare(), None, [false, true, true], own[0], None),
        ("unready, deleted", false, true, false, own, bare(), None, [false, false, true], own[0], None),
        ("ready, deleted, published", true, true, true, own, bare(), None, [true, true, true], own[0], None),
    ] {
        let mut service = service();
        service.publish_not_ready_addresses = publish;
        let mut pod = pod(1);
        pod.uid = "pod-uid".into();
        pod.node = Some("node-1".parse().expect("a name"));
        (pod.ready, pod.deleted, pod.ips) = (ready, deleted.then(Timestamp::default), ips(pod_ips));
        pod.hostname = hostname.map(|text: &str| text.parse().expect("a label"));
        pod.subdomain = Some("svc".parse().expect("a label"));
        let writes = write_with(&service, &[pod], &nodes, &[], &Packing::default());
        let mirror = k8s::EndpointSlice::from(&writes.creates[0]);
        let [endpoint] = &*mirror.endpoints else { panic!("{name}: {:?}", mirror.endpoints) };
        assert_eq!(endpoint.addresses, [address], "{name}");
        let stated = &endpoint.conditions;
        assert_eq!([stated.ready, stated.serving, stated.terminating], conditions.map(Some), "{name}");
        assert_eq!(endpoint.hostname.as_deref(), hostname, "{name}");
        assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("node-1"), zone), "{name}");
        let target = endpoint.target_ref.as_ref().expect("a target");
        let target = [&*target.kind, &*target.namespace, &*target.name, &*target.uid];
        assert_eq!(target, ["Pod", "ns", "pod-1", "pod-uid"], "{name}");
    }
}

/// All addresses of a family are one endpoint's, in their order; a pod without one is not in that family's slices.
#[test]
fn addresses_by_family() {
    let mut service = service();
    service.ip_families = vec![IpFamily::V4, IpFamily::V6];
    let (mut both, mut one) = (pod(1), pod(2));
    both.ips = ips(&["fd00::2", "10.0.0.9", "fd00::1", "10.0.0.8"]);
    one.ips = ips(&["10.0.0.7"]);
    let writes = write(&service, &[both, one], &[]);
    let found: Vec<Vec<Vec<String>>> = writes
        .creates
        .iter()
        .map(k8s::EndpointSlice::from)
        .map(|slice| slice.endpoints.into_iter().map(|endpoint| endpoint.addresses).collect())
        .collect();
    assert_eq!(
        found,
        [vec![vec!["10.0.0.7"], vec!["10.0.0.9", "10.0.0.8"]], vec![vec!["fd00::2", "fd00::1"]]]
    );
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcile1EndpointSlicePublishNotReadyAddresses`.
#[test]
fn published_endpoints_are_ready() {
    let mut service = service();
    service.publish_not_ready_addresses = true;
    let mut pods = pods(50);
    pods.iter_mut().step_by(3).for_each(|pod| pod.ready = false);
    let writes = write(&service, &pods, &[]);
    assert_eq!((counts(&writes), lengths(&writes.creates)), ((1, 0, 0), vec![50]));
    assert!(writes.creates[0].endpoints().iter().all(|endpoint| endpoint.conditions.ready));
    assert_eq!(writes.creates[0].endpoints().iter().filter(|e| !e.conditions.serving).count(), 17);
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcilerPodMissingNode`: two pods on two nodes.
#[test]
fn missing_nodes() {
    let mut both = pods(2);
    for (i, pod) in both.iter_mut().enumerate() {
        pod.node = Some(format!("node-{i}").parse().expect("a name"));
    }
    let mut published = service();
    published.publish_not_ready_addresses = true;
    let existing = [slice(&published, "svc-0", &both)];
    assert_eq!(lengths(&existing), [2]);
    for (name, publish, nodes, existing, expected, left_out, endpoints) in [
        ("create", false, &["node-0"][..], &[][..], (1, 0, 0), 1, 1),
        ("create, published", true, &["node-0"], &[], (1, 0, 0), 0, 2),
        ("update", false, &["node-0"], &existing, (0, 1, 0), 1, 1),
        ("update, published", true, &["node-0"], &existing, (0, 0, 0), 0, 2),
        ("update, published, no nodes", true, &[], &existing, (0, 0, 0), 0, 2),
        ("update, no nodes", false, &[], &existing, (0, 1, 0), 2, 0),
    ] {
        let mut service = service();
        service.publish_not_ready_addresses = publish;
        let nodes = nodes.iter().map(|name| Node::new(name.parse().expect("a name")));
        let nodes: Nodes = nodes.collect();
        let set = EndpointSet::resolve(&service, &both, &nodes);
        assert_eq!(set.left_out().len(), left_out, "{name}");
        let writes = SliceWrites::new(&service, &set, &nodes, existing, &Packing::default());
        assert_eq!(counts(&writes), expected, "{name}");
        let slices = apply(existing, &writes);
        assert_eq!(lengths(&slices), [endpoints], "{name}");
        assert_eq!(slices[0].ports().is_empty(), endpoints == 0, "{name}");
    }
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcileEndpointSlicesNamedPorts`: a named port is another
/// number on every fifth pod.
#[test]
fn named_ports() {
    let mut service = service();
    service.ports[0].target = TargetPort::Name("http".into());
    let mut pods = pods(300);
    for (pod, number) in pods.iter_mut().zip((8080..8085).cycle()) {
        let mut port = ContainerPort::new(number);
        port.name = Some("http".parse().expect("a port name"));
        pod.ports = vec![port];
    }
    let writes = write(&service, &pods, &[]);
    assert_eq!((counts(&writes), lengths(&writes.creates)), ((5, 0, 0), vec![60; 5]));
    let ports: Vec<&[EndpointPort]> = writes.creates.iter().map(EndpointSlice::ports).collect();
    let expected: Vec<_> = (8080..8085).map(|number| [EndpointPort::new(number)]).collect();
    assert_eq!(ports, expected);
}

/// A port that no container has is missing for that pod only; without any, the pod is in a slice without ports.
#[test]
fn ports_that_do_not_resolve() {
    let mut service = service();
    let named = |name: &str, target: TargetPort| {
        let mut port = ServicePort::new(80);
        (port.name, port.target) = (Some(name.parse().expect("a label")), target);
        port
    };
    service.ports = vec![named("web", TargetPort::Name("http".into()))];
    let mut pods = pods(3);
    let mut port = ContainerPort::new(8080);
    port.name = Some("http".parse().expect("a port name"));
    pods[0].ports = vec![port];
    let found = |service: &Service| -> Vec<(Vec<String>, usize)> {
        let port = |port: &EndpointPort| format!("{}:{}", port.name_str(), port.port);
        let slices = write(service, &pods, &[]).creates;
        let ports = |slice: &EndpointSlice| slice.ports().iter().map(port).collect();
        slices.iter().map(|slice| (ports(slice), slice.endpoints().len())).collect()
    };
    assert_eq!(found(&service), [(vec![], 2), (vec!["web:8080".into()], 1)]);
    service.ports.push(named("admin", TargetPort::Number(81)));
    let both = vec!["admin:81".to_owned(), "web:8080".to_owned()];
    assert_eq!(found(&service), [(vec!["admin:81".to_owned()], 2), (both, 1)]);
}

/// A Service without ports has slices without ports, and the second look finds nothing to do: that the API server
/// says `null` where there is none is the same (Kubernetes endpointslice `reconciler_test.go`). Nor does the order of
/// ports matter.
#[test]
fn ports_are_a_set() {
    let mut headless = service();
    headless.cluster_ips = ClusterIps::Headless;
    headless.ports = Vec::new();
    let first = write(&headless, &pods(3), &[]);
    assert_eq!((counts(&first), first.creates[0].ports()), ((1, 0, 0), &[][..]));
    let mirror = k8s::EndpointSlice::from(&first.creates[0]);
    assert!(mirror.ports.is_empty());
    let read = mirror.convert().expect("a name").object;
    assert!(write(&headless, &pods(3), &[read]).is_empty());

    let mut service = service();
    service.ports = (80..84).map(ServicePort::new).collect();
    for (i, port) in service.ports.iter_mut().enumerate() {
        port.name = Some(format!("p{i}").parse().expect("a label"));
    }
    let first = write(&service, &pods(3), &[]);
    let mut mirror = k8s::EndpointSlice::from(&first.creates[0]);
    mirror.ports.rotate_left(1);
    service.ports.reverse();
    let read = mirror.convert().expect("a name").object;
    assert!(write(&service, &pods(3), &[read]).is_empty());
}

/// Kubernetes endpointslice `utils_test.go`, `TestNewEndpointSlice`.
#[test]
fn new_slices() {
    let foo: &[(&str, &str)] = &[("foo", "bar")];
    let two: &[(&str, &str)] = &[("foo", "bar"), ("foo2", "bar2")];
    let evil: &[(&str, &str)] = &[(SERVICE_NAME, "bad"), (MANAGED_BY, "actor"), ("foo", "bar")];
    for (name, labelled, headless, annotated, expected) in [
        ("no labels", &[][..], false, &[][..], &[][..]),
        ("a label", foo, false, &[], foo),
        ("headless, a label", foo, true, &[], foo),
        ("two labels", two, false, &[], two),
        ("reserved labels", evil, false, &[], foo),
        ("annotations", &[], false, foo, &[]),
    ] {
        let mut service = service();
        service.labels = labelled.iter().copied().collect();
        service.annotations = annotated.iter().copied().collect();
        service.cluster_ips = cluster_ips(headless);
        let writes = write(&service, &[], &[]);
        let [slice] = &*writes.creates else { panic!("{name}: {writes:?}") };
        assert_eq!(labels(slice), expected_labels(headless, expected), "{name}");
        let mirror = k8s::EndpointSlice::from(slice);
        let meta = &mirror.metadata;
        assert_eq!((&*meta.namespace, meta.annotations.len()), ("ns", 0), "{name}");
        let [owner] = &*meta.owner_references else { panic!("{name}: {meta:?}") };
        let found = [&*owner.api_version, &*owner.kind, &*owner.name, &*owner.uid];
        assert_eq!(found, ["v1", "Service", "svc", "svc-uid"], "{name}");
        let flags = (owner.controller, owner.block_owner_deletion);
        assert_eq!(flags, (Some(true), Some(true)), "{name}");
        assert_eq!((&*mirror.address_type, mirror.endpoints.len()), ("IPv4", 0), "{name}");
    }
}

/// A Service's name and a dash, unless they would be too long; what is made of it is at most 63 bytes long.
#[test]
fn names_of_new_slices() {
    let subdomain = |length: usize| format!("{}a", "a.".repeat(length / 2));
    for (service_name, prefix) in [
        ("svc".to_owned(), "svc-".to_owned()),
        ("a".repeat(63), "a".repeat(63) + "-"),
        (subdomain(251), subdomain(251) + "-"),
        (subdomain(253), subdomain(253)),
    ] {
        let mut service = service();
        service.name = name(&service_name);
        service.ports = vec![ServicePort::new(80)];
        assert_eq!(EndpointSlice::generate_name(&service.name), prefix);
        let mut packing = Packing::default();
        packing.max_endpoints = 1;
        let mut seen = BTreeSet::new();
        for seed in 0..3 {
            packing.seed = seed;
            let writes = write_with(&service, &pods(100), &Nodes::default(), &[], &packing);
            let again = write_with(&service, &pods(100), &Nodes::default(), &[], &packing);
            assert_eq!(writes, again, "a seed gives the same names");
            for slice in &writes.creates {
                let begin = &prefix[..prefix.len().min(58)];
                let suffix = slice.name.name().strip_prefix(begin).expect("the prefix");
                let legal = |c| "bcdfghjklmnpqrstvwxz2456789".contains(c);
                assert!(suffix.len() == 5 && suffix.chars().all(legal), "{}", slice.name);
                assert!(slice.name.name().len() <= 63, "{}", slice.name);
                assert_eq!(slice.name.namespace(), "ns");
                seen.insert(slice.name.clone());
            }
        }
        assert_eq!(seen.len(), 300, "other seeds give other names");
    }
}

/// Whoever's slice has a name, a new one gets another.
#[test]
fn names_are_not_given_twice() {
    let taken = write(&service(), &pods(1), &[]).creates.remove(0);
    for (who, change) in [
        ("another manager", (|slice| slice.managed_by = "other".into()) as fn(&mut EndpointSlice)),
        ("one being deleted", |slice| slice.deleted = Some(Timestamp::default())),
        ("one of no family", |slice| slice.family = None),
        ("another owner", |slice| slice.owner = None),
        ("another Service", |slice| slice.service = name("other")),
    ] {
        let mut existing = taken.clone();
        change(&mut existing);
        let writes = write(&service(), &pods(1), &[existing]);
        assert_eq!(writes.creates.len(), 1, "{who}");
        assert_ne!(writes.creates[0].name, taken.name, "{who}");
    }
}

/// Kubernetes endpointslice `utils_test.go`, `TestSetEndpointSliceLabels`: which labels differ enough for a slice to be
/// written, and those of a slice that is written anyway.
#[test]
fn labels_of_slices() {
    let foo: &[(&str, &str)] = &[("foo", "bar")];
    let flag: &[(&str, &str)] = &[(HEADLESS, "")];
    let evil: &[(&str, &str)] =
        &[(SERVICE_NAME, "bad"), (MANAGED_BY, "actor"), (HEADLESS, "invalid")];
    let evil_foo: &[(&str, &str)] = &[(SERVICE_NAME, "bad"), (MANAGED_BY, "actor"), ("foo", "bar")];
    let none: &[(&str, &str)] = &[];
    for (name, headless, of_service, of_slice, expected, written) in [
        ("no labels", false, none, none, none, false),
        ("headless, a label, none on the slice", true, foo, none, foo, true),
        ("headless, no labels", true, none, none, none, false),
        ("a cluster IP and the headless label", false, flag, none, none, false),
        ("was headless, has the headless label", false, flag, flag, none, false),
        ("was headless", false, none, flag, none, false),
        ("headless, the same label on both", true, foo, foo, foo, false),
        ("a label, none on the slice", false, foo, none, foo, true),
        ("no label, one on the slice", false, none, foo, none, true),
        ("the headless label on the slice", false, none, flag, none, false),
        ("reserved labels", false, evil, none, none, false),
        ("reserved labels and another", false, evil_foo, none, foo, true),
        ("another value", false, foo, &[("foo", "baz")], foo, true),
    ] {
        let mut service = service();
        service.cluster_ips = cluster_ips(headless);
        let mut mirror = k8s::EndpointSlice::from(&slice(&service, "svc-0", &pods(2)));
        let own = of_slice.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        mirror.metadata.labels.remove(HEADLESS);
        mirror.metadata.labels.extend(own);
        let existing = [mirror.convert().expect("a name").object];
        service.labels = of_service.iter().copied().collect();
        let writes = write(&service, &pods(2), &existing);
        assert_eq!(counts(&writes), (0, usize::from(written), 0), "{name}");
        let anyway = write(&service, &pods(1), &existing);
        assert_eq!(counts(&anyway), (0, 1, 0), "{name}");
        for slice in writes.updates.iter().chain(&anyway.updates) {
            assert_eq!(labels(slice), expected_labels(headless, expected), "{name}");
        }
    }
}

/// What is done to a placeholder, and how many slices are then created, updated and deleted.
type PlaceholderRow = (&'static str, fn(&mut k8s::EndpointSlice), (usize, usize, usize));

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcileEmpty`, `TestReconcile1EndpointSlice` and
/// `TestPlaceHolderSliceCompare`: a family without endpoints has one empty slice.
#[test]
#[rustfmt::skip]
fn placeholders() {
    fn full() -> k8s::EndpointSlice {
        (&slice(&service(), "svc-0", &pods(1))).into()
    }
    let first = write(&service(), &[], &[]);
    assert_eq!(counts(&first), (1, 0, 0));
    let placeholder = &first.creates[0];
    assert!(placeholder.name.name().starts_with("svc-"));
    assert_eq!((placeholder.ports(), placeholder.endpoints()), (&[][..], &[][..]));
    let rows: [PlaceholderRow; 10] = [
        ("the same", |_| {}, (0, 0, 0)),
        ("another name", |s| s.metadata.name = "other".into(), (0, 0, 0)),
        ("another time", |s| s.metadata.creation_timestamp = "2026-03-01T12:00:00Z".into(), (0, 0, 0)),
        ("annotations", |s| drop(s.metadata.annotations.insert("a".into(), "b".into())), (0, 0, 0)),
        ("a label", |s| drop(s.metadata.labels.insert("bar".into(), "baz".into())), (0, 1, 0)),
        ("no headless label", |s| drop(s.metadata.labels.remove(HEADLESS)), (0, 1, 0)),
        ("another family", |s| s.address_type = "IPv6".into(), (1, 0, 1)),
        ("another namespace", |s| s.metadata.namespace = "other".into(), (1, 0, 0)),
        ("ports", |s| s.ports = full().ports, (0, 1, 0)),
        ("endpoints", |s| s.endpoints = full().endpoints, (0, 1, 0)),
    ];
    for (name, change, expected) in rows {
        let mut mirror = k8s::EndpointSlice::from(placeholder);
        change(&mut mirror);
        let existing = [mirror.convert().expect("a name").object];
        let writes = write(&service(), &[], &existing);
        assert_eq!(counts(&writes), expected, "{name}");
        let own = |slice: &EndpointSlice| slice.service == service().name;
        let after: Vec<_> = apply(&existing, &writes).into_iter().filter(own).collect();
        assert_eq!(lengths(&after), [0], "{name}");
        assert!(after[0].ports().is_empty(), "{name}");
        assert!(write(&service(), &[], &after).is_empty(), "{name}: written twice");
    }
    let two = [slice(&service(), "svc-0", &[]), slice(&service(), "svc-1", &[])];
    let writes = write(&service(), &[], &two);
    assert_eq!((counts(&writes), writes.deletes), ((0, 1, 1), vec![name("svc-1")]), "two");
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcilerFinalizeSvcDeletionTimestamp`: a Service that is being
/// deleted gets no new slices; slices to be created take the places of those to be deleted all the same.
#[test]
fn services_being_deleted() {
    let mut other = service();
    other.ports[0].target = TargetPort::Number(81);
    let mut pods = pods(150);
    pods[0].ready = false;
    let ready: Vec<Pod> = (0..100).map(pod).collect();
    let changed = slice(&service(), "svc-0", &ready);
    let obsolete = slice(&other, "svc-1", &ready[..1]);
    let both = [changed.clone(), obsolete];
    for (name, deleted, pods, existing, expected) in [
        ("create and update", false, &pods[..], &both[..1], (1, 1, 0)),
        ("create and update, deleted", true, &pods, &both[..1], (0, 1, 0)),
        ("create, update and delete", false, &pods, &both, (0, 2, 0)),
        ("create, update and delete, deleted", true, &pods, &both, (0, 2, 0)),
        ("update and delete, deleted", true, &pods[..100], &both, (0, 1, 1)),
        ("nothing", false, &ready, &both[..1], (0, 0, 0)),
    ] {
        let mut service = service();
        service.deleted = deleted.then(Timestamp::default);
        assert_eq!(counts(&write(&service, pods, existing)), expected, "{name}");
    }
}

/// An update keeps what is not the writer's; a slice in another's place has nothing of it but the name.
#[test]
fn what_a_written_slice_keeps() {
    let mut existing = slice(&service(), "svc-0", &pods(2));
    existing.uid = "slice-uid".into();
    existing.generation = 7;
    let before = [("own", "kept"), (TRIGGER_TIME, "2025-01-01T00:00:00Z")];
    existing.annotations = Labels::from_iter(before);
    let mut packing = Packing::default();
    let nodes = Nodes::default();
    let mut other = service();
    other.ports[0].target = TargetPort::Number(81);
    for (trigger, service, kept) in [
        (None, service(), &[("own", "kept")][..]),
        (Some("2026-03-01T12:00:00Z"), service(), &[("own", "kept")]),
        (None, other.clone(), &[]),
        (Some("2026-03-01T12:00:00Z"), other, &[]),
    ] {
        packing.trigger_time = trigger.map(created);
        let writes = write_with(&service, &pods(1), &nodes, &[existing.clone()], &packing);
        assert_eq!(counts(&writes), (0, 1, 0));
        let written = &writes.updates[0];
        let identity = (&written.name, &*written.uid, written.generation, &written.owner);
        assert_eq!(identity, (&existing.name, "slice-uid", 7, &existing.owner));
        let trigger = trigger.map(|time| (TRIGGER_TIME, time));
        let expected: Labels = kept.iter().copied().chain(trigger).collect();
        assert_eq!(written.annotations, expected);
        assert_eq!(written.ports()[0].port, service_port(&service));
    }
}

fn service_port(service: &Service) -> u16 {
    let set = EndpointSet::resolve(service, [&pod(0)], &Nodes::default());
    let port = set.port("", Protocol::Tcp).next().map(|(addr, _)| addr.port());
    port.expect("an endpoint")
}

/// A field's path, how it is spoilt, and the same object without it.
type Spoilt = (&'static str, fn(&mut k8s::EndpointSlice), fn(&mut k8s::EndpointSlice));

/// What of a stored slice cannot be understood is left out with a warning.
#[test]
#[rustfmt::skip]
fn one_bad_field() {
    fn first(slice: &mut k8s::EndpointSlice) -> &mut k8s::SliceEndpoint {
        &mut slice.endpoints[0]
    }
    let rows: [Spoilt; 15] = [
        ("addressType", |s| s.address_type = "FQDN".into(), |s| {
            s.address_type = "FQDN".into();
            s.endpoints.clear();
        }),
        ("addressType", |s| s.address_type = "IP".into(), |s| {
            s.address_type = "FQDN".into();
            s.endpoints.clear();
        }),
        ("metadata.deletionTimestamp", |s| s.metadata.deletion_timestamp = "now".into(), |_| {}),
        ("ports[1]", |s| s.ports[1].port = None, |s| drop(s.ports.pop())),
        ("ports[1].port", |s| s.ports[1].port = Some(65_536), |s| drop(s.ports.pop())),
        ("ports[0].name", |s| s.ports[0].name = Some("a_b".into()), |s| drop(s.ports.remove(0))),
        ("ports[0].protocol", |s| s.ports[0].protocol = Some("tcp".into()), |s| drop(s.ports.remove(0))),
        ("endpoints[0].addresses", |s| first(s).addresses.clear(), |s| drop(s.endpoints.remove(0))),
        ("endpoints[0].addresses[0]", |s| first(s).addresses[0] = "fd00::1".into(), |s| drop(s.endpoints.remove(0))),
        ("endpoints[0].addresses[1]", |s| first(s).addresses.push("1.2.3.400".into()), |_| {}),
        ("endpoints[0].hostname", |s| first(s).hostname = Some("-".into()), |_| {}),
        ("endpoints[0].nodeName", |s| first(s).node_name = Some("*".into()), |_| {}),
        ("endpoints[0].hints.forNodes[0].name", |s| {
            let mut node = k8s::ForNode::default();
            node.name = "*".into();
            first(s).hints.get_or_insert_default().for_nodes.push(node);
        }, |_| {}),
        ("", |s| s.ports[0].protocol = Some(String::new()), |_| {}),
        ("", |s| s.ports[1].name = None, |s| s.ports[1].name = Some(String::new())),
    ];
    for (path, spoil, remove) in rows {
        let mut good = k8s::EndpointSlice::from(&slice(&service(), "svc-0", &pods(2)));
        good.ports[0].name = Some("web".into());
        good.ports.push(good.ports[0].clone());
        (good.ports[1].port, good.ports[1].name) = (Some(443), Some("admin".into()));
        let [mut spoilt, mut without] = [good.clone(), good];
        spoil(&mut spoilt);
        remove(&mut without);
        let [spoilt, without] = [spoilt, without].map(|slice| slice.convert().expect("a name"));
        assert_eq!(spoilt.object, without.object, "{path}");
        let warned: Vec<&str> = spoilt.warnings.iter().map(FieldError::path).collect();
        assert_eq!((warned.join(","), &*without.warnings), (path.to_owned(), &[][..]));
    }
}

/// Conditions that are absent are good news, and the owner is the one that is in control. Nothing but the labels that
/// there are is written; ports have a name, be it an empty one.
#[test]
fn what_is_absent() {
    let mut mirror = k8s::EndpointSlice::from(&slice(&service(), "svc-0", &pods(2)));
    mirror.endpoints[0].conditions = k8s::EndpointConditions::default();
    mirror.metadata.owner_references.insert(0, k8s::OwnerReference::default());
    let mut found = mirror.convert().expect("a name").object;
    assert_eq!(found, slice(&service(), "svc-0", &pods(2)));
    assert!(write(&service(), &pods(2), from_ref(&found)).is_empty());
    mirror.metadata.owner_references.truncate(1);
    assert_eq!(mirror.convert().expect("a name").object.owner, None);

    (found.managed_by, found.headless) = ("".into(), false);
    assert_eq!(labels(&found), [(SERVICE_NAME.to_owned(), "svc".to_owned())]);
    assert_eq!(k8s::EndpointSlice::from(&found).ports[0].name.as_deref(), Some(""));
}

/// A slice that names no Service is no Service's.
#[test]
fn slices_without_a_service() {
    for service in [None, Some(""), Some("Web"), Some("a/b")] {
        let mut mirror = k8s::EndpointSlice::from(&slice(&self::service(), "svc-0", &[]));
        mirror.metadata.labels.remove(SERVICE_NAME);
        let label = service.map(|name| (SERVICE_NAME.to_owned(), name.to_owned()));
        mirror.metadata.labels.extend(label);
        let path = "metadata.labels[kubernetes.io/service-name]";
        assert_eq!(mirror.convert().expect_err("no name").path(), path, "{service:?}");
    }
}
