//! Hand-written Endpoints as EndpointSlices: which are mirrored, into how many slices, and what those say.

use std::collections::BTreeMap;

use proptest::prelude::*;
use svcplane::endpoints::{
    Conditions, Endpoint, EndpointSet, EndpointSlice, Endpoints, Packing, Reference, SliceWrites,
};
use svcplane::k8s;
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::service::{Service, ServiceKind};
use svcplane::time::Timestamp;

use super::subsets;

const HEADLESS: &str = "service.kubernetes.io/headless";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

fn name(name: &str) -> ObjectName {
    ObjectName::new("ns", name).expect("a name")
}

fn endpoints(subsets: &[&str]) -> Endpoints {
    let mut endpoints = Endpoints::new(name("svc"));
    endpoints.uid = "uid".into();
    endpoints.subsets = subsets.iter().map(|text| subsets::subset(text)).collect();
    endpoints
}

/// A slice that mirrors a subset of one family, in any order; of IPv4 if there are no addresses.
fn slice(slice: &str, subset: &str) -> EndpointSlice {
    let subset = subsets::subset(subset);
    let endpoint = |ready: bool| {
        move |address: &svcplane::endpoints::Address| {
            let mut endpoint = Endpoint::new(address.ip);
            endpoint.conditions = Conditions { ready, ..Conditions::default() };
            endpoint.target.clone_from(&address.target);
            endpoint
        }
    };
    let endpoints: Vec<Endpoint> = subset
        .addresses
        .iter()
        .map(endpoint(true))
        .chain(subset.not_ready.iter().map(endpoint(false)))
        .collect();
    let family = endpoints.first().map_or(IpFamily::V4, |endpoint| IpFamily::of(endpoint.ip));
    let mut slice = EndpointSlice::new(name(slice), name("svc"), family);
    slice.managed_by = Packing::mirroring().managed_by;
    slice.owner = Some(Reference::new("Endpoints", &name("svc"), "uid"));
    slice.set_endpoints(subset.ports, endpoints);
    slice
}

fn mirror(endpoints: &Endpoints, existing: &[EndpointSlice], packing: &Packing) -> SliceWrites {
    let service = Service::new(name("svc"));
    SliceWrites::mirror(&name("svc"), Some(&service), Some(endpoints), existing, packing)
}

fn applied(existing: &[EndpointSlice], writes: &SliceWrites) -> Vec<EndpointSlice> {
    let mut slices: BTreeMap<&ObjectName, &EndpointSlice> =
        existing.iter().map(|slice| (&slice.name, slice)).collect();
    slices.extend(writes.updates.iter().chain(&writes.creates).map(|slice| (&slice.name, slice)));
    slices.retain(|name, _| !writes.deletes.contains(name));
    slices.into_values().cloned().collect()
}

/// What a slice says, as the subset that it mirrors: ports by name and number, endpoints in their order.
fn text(slice: &EndpointSlice) -> String {
    let ready = |endpoint: &Endpoint| if endpoint.conditions.ready { "" } else { "!" };
    let endpoints = slice.endpoints().iter();
    let endpoints = endpoints.map(|endpoint| format!("{}{} ", ready(endpoint), endpoint.ip));
    let ports = slice.ports().iter().map(|port| format!(" {}", port.port));
    endpoints.chain([":".to_owned()]).chain(ports).collect()
}

fn texts(slices: &[EndpointSlice]) -> Vec<String> {
    slices.iter().map(text).collect()
}

fn names(slices: &[EndpointSlice]) -> Vec<&str> {
    slices.iter().map(|slice| slice.name.name()).collect()
}

/// Kubernetes `pkg/controller/endpointslicemirroring/endpointslicemirroring_controller_test.go`, `TestShouldMirror`;
/// then the Service. Where nothing is mirrored, what was mirrored goes.
#[test]
fn what_is_mirrored() {
    let standard = || Some(endpoints(&["10.0.0.1 : 80"]));
    let labelled = |value: &str| {
        let mut endpoints = standard();
        let labels = &mut endpoints.as_mut().expect("Endpoints").labels;
        *labels = Labels::from_iter([(SKIP, value)]);
        endpoints
    };
    let leader = |value: &str| {
        let mut endpoints = standard();
        let annotations = &mut endpoints.as_mut().expect("Endpoints").annotations;
        *annotations = Labels::from_iter([(LEADER, value)]);
        endpoints
    };
    let plain = || Some(Service::new(name("svc")));
    let service = |change: fn(&mut Service)| {
        let mut service = Service::new(name("svc"));
        change(&mut service);
        Some(service)
    };
    let selecting = service(|service| service.selector = Labels::from_iter([("a", "b")]));
    let external = service(|s| s.kind = ServiceKind::ExternalName("example.com".into()));
    for (title, endpoints, service, mirrored) in [
        ("standard", standard(), plain(), true),
        ("skip-mirror=true", labelled("true"), plain(), false),
        ("skip-mirror=invalid", labelled("invalid"), plain(), true),
        ("skip-mirror=True", labelled("True"), plain(), true),
        ("an empty skip-mirror", labelled(""), plain(), true),
        ("a leader election", leader(""), plain(), false),
        ("a leader", leader("{}"), plain(), false),
        ("no Service", standard(), None, false),
        ("a selector", standard(), selecting, false),
        ("an ExternalName", standard(), external, true),
        ("no Endpoints", None, plain(), false),
        ("neither", None, None, false),
    ] {
        let mut other_service = slice("other-service", "10.0.0.1 : 80");
        other_service.service = name("other");
        let mut other_manager = slice("other-manager", "10.0.0.1 : 80");
        other_manager.managed_by = Packing::default().managed_by;
        let mut gone = slice("gone", "10.0.0.1 : 80");
        gone.deleted = Some(Timestamp::default());
        let right = slice("right", "10.0.0.1 : 80");
        let existing = [other_service, gone, right, slice("wrong", "10.0.0.2 : 81"), other_manager];
        let (service, endpoints) = (service.as_ref(), endpoints.as_ref());
        let packing = Packing::mirroring();
        let writes = SliceWrites::mirror(&name("svc"), service, endpoints, &existing, &packing);
        let deleted: Vec<&str> = writes.deletes.iter().map(ObjectName::name).collect();
        assert_eq!(deleted, if mirrored { &["wrong"][..] } else { &["right", "wrong"] }, "{title}");
        let changed = endpoints.is_some_and(|endpoints| !endpoints.labels.is_empty());
        let updated = if mirrored && changed { &["right"][..] } else { &[] };
        assert_eq!(names(&writes.updates), updated, "{title}");
        assert_eq!(writes.creates, [], "{title}");
        let writes = SliceWrites::mirror(&name("svc"), service, endpoints, [], &packing);
        assert_eq!(writes.creates.len(), usize::from(mirrored), "{title}");
    }
}

/// Kubernetes `pkg/controller/endpointslicemirroring/endpointslicemirroring_controller_test.go`, `TestSyncEndpoints`.
#[test]
fn looks_at_endpoints() {
    let many = |count: usize| {
        let ips: Vec<String> =
            (0..count).map(|i| format!("10.0.{}.{}", i / 255, i % 255)).collect();
        format!("{} : 80", ips.join(" "))
    };
    let (service, selecting) = (Some(Service::new(name("svc"))), {
        let mut service = Service::new(name("svc"));
        service.selector = Labels::from_iter([("foo", "bar")]);
        Some(service)
    });
    let one = || "10.0.0.1 : 80".to_owned();
    let mut others = slice("svc-1", " : ");
    others.managed_by = "something-else".into();
    let none = Vec::new;
    for (title, service, skip, subset, existing, written, slices, skipped) in [
        ("no addresses", &service, None, " : 80".into(), none(), 0, 0, 0),
        ("skip label true", &service, Some("true"), one(), none(), 0, 0, 0),
        ("skip label false", &service, Some("false"), one(), none(), 1, 1, 0),
        ("missing Service", &None, None, one(), none(), 0, 0, 0),
        ("Service with selector", &selecting, None, one(), none(), 0, 0, 0),
        ("to be cleaned up", &service, None, " : 80".into(), vec![slice("svc-1", " : ")], 1, 0, 0),
        ("managed by others", &service, None, " : 80".into(), vec![others], 0, 1, 0),
        ("1000 addresses", &service, None, many(1000), none(), 1, 1, 0),
        ("1001 addresses", &service, None, many(1001), none(), 1, 1, 1),
    ] {
        let mut endpoints = endpoints(&[&subset]);
        endpoints.labels = skip.map(|value| (SKIP, value)).into_iter().collect();
        let packing = Packing::mirroring();
        let writes = SliceWrites::mirror(
            &name("svc"),
            service.as_ref(),
            Some(&endpoints),
            &existing,
            &packing,
        );
        let count = writes.creates.len() + writes.updates.len() + writes.deletes.len();
        let after = applied(&existing, &writes).len();
        assert_eq!((count, after, writes.skipped), (written, slices, skipped), "{title}");
        assert_eq!(writes.is_empty(), written == 0, "{title}");
    }
}

/// What it is, the subsets, how many addresses of each, the slices that there are, creates, updates, deletes, how
/// many addresses are skipped.
type Row<'a> = (&'a str, &'a [&'a str], usize, &'a [EndpointSlice], [usize; 3], usize);

/// Kubernetes `pkg/controller/endpointslicemirroring/reconciler_test.go`, `TestReconcile`, as far as the subsets make the
/// difference; hostnames and nodes as uids. The last rows are not there.
#[test]
#[rustfmt::skip]
fn subsets_as_slices() {
    const TWO: &[&str] = &["10.0.0.1/1 10.0.0.2/2 : http=80 https=443/UDP", "10.0.1.1/1 10.0.1.2/2 10.0.1.3/3 : http=3000 https=3001/UDP"];
    let existing = |subset: &str| [slice("svc-1", subset)];
    let twice = [slice("svc-1", "10.0.0.9 : 80"), slice("svc-2", "10.0.0.1 : 80")];
    let rows: [Row; 33] = [
        ("no subsets", &[], 1000, &[], [0, 0, 0], 0),
        ("no addresses", &[" : http=80"], 1000, &[], [0, 0, 0], 0),
        ("one", &["10.0.0.1/1 : http=80"], 1000, &[], [1, 0, 0], 0),
        ("two, other port and address", &["10.0.0.1/1 : http=80", "10.0.0.2/2 : https=443"], 1000, &[], [2, 0, 0], 0),
        ("two, other port", &["10.0.0.1/1 : http=80", "10.0.0.1/1 : https=443"], 1000, &[], [1, 0, 0], 0),
        ("two, other address", &["10.0.0.1/1 : http=80", "10.0.0.2/2 : http=80"], 1000, &[], [1, 0, 0], 0),
        ("the same is there", &["10.0.0.1/1 : http=80"], 1000, &existing("10.0.0.1/1 : http=80"), [0, 0, 0], 0),
        ("two ports, two addresses", &["10.0.0.1/1 10.0.0.2/2 : http=80 https=443/UDP"], 1000, &[], [1, 0, 0], 0),
        ("not ready", &["!10.0.0.1/1 !10.0.0.2/2 : http=80 https=443/UDP"], 1000, &[], [1, 0, 0], 0),
        ("ready and not", &["10.1.1.1 10.1.1.2 !10.0.0.1 !10.0.0.2 : http=80 https=443/UDP"], 1000, &[], [1, 0, 0], 0),
        ("two with several ports", TWO, 1000, &[], [2, 0, 0], 0),
        ("an empty slice is there", TWO, 1000, &existing(" : http=80 https=443/UDP"), [1, 1, 0], 0),
        ("some addresses are there", TWO, 1000, &existing("10.0.0.2/2 10.0.0.3/3 : http=80 https=443/UDP"), [1, 1, 0], 0),
        ("one of two is there", TWO, 1000, &existing("10.0.0.1/1 10.0.0.2/2 : http=80 https=443/UDP"), [1, 0, 0], 0),
        ("both families", &["2001:db8::1 10.0.0.2 : http=80", "10.0.1.1 10.0.1.2 2001:db8::2 : http=3000"], 1000, &[], [4, 0, 0], 0),
        ("IPv6", &["2001:db8::1 2001:db8::2 : http=80", "2001:db8::3 : http=3000"], 1000, &[], [2, 0, 0], 0),
        ("one too large", TWO, 2, &[], [2, 0, 0], 1),
        ("one for both families", &["10.0.0.1 10.0.0.2 2001:db8::1 : 80"], 2, &[], [1, 0, 0], 1),
        ("ready ones first", &["10.0.0.3 !10.0.0.1 !10.0.0.2 : 80"], 2, &existing("10.0.0.3 !10.0.0.1 : 80"), [0, 0, 0], 1),
        ("one address twice is one", &["10.0.0.1 10.0.0.1 10.0.0.2 : 80"], 2, &[], [1, 0, 0], 0),
        ("ready and not is not", &["10.0.0.1 : 80", "!10.0.0.1 : 80"], 1000, &existing("!10.0.0.1 : 80"), [0, 0, 0], 0),
        ("no ports", &["10.0.0.1 : "], 1000, &existing("10.0.0.1 : "), [0, 0, 0], 0),
        ("another order", &["10.0.0.1 10.0.0.2 : 81 80"], 1000, &existing("10.0.0.2 10.0.0.1 : 80 81"), [0, 0, 0], 0),
        ("one more", &["10.0.0.1 10.0.0.2 : 80"], 1000, &existing("10.0.0.1 : 80"), [0, 1, 0], 0),
        ("one less", &["10.0.0.1 : 80"], 1000, &existing("10.0.0.1 10.0.0.2 : 80"), [0, 1, 0], 0),
        ("no more ready", &["!10.0.0.1 : 80"], 1000, &existing("10.0.0.1 : 80"), [0, 1, 0], 0),
        ("another target", &["10.0.0.1/1 : 80"], 1000, &existing("10.0.0.1/2 : 80"), [0, 1, 0], 0),
        ("two slices for one, the second is right", &["10.0.0.1 : 80"], 1000, &twice, [0, 1, 1], 0),
        ("two slices for one, the first is right", &["10.0.0.9 : 80"], 1000, &twice, [0, 0, 1], 0),
        ("none of them", &["10.0.0.1 : 80"], 1000, &existing("fd00::1 : 80"), [1, 0, 1], 0),
        ("other ports take its place", &["10.0.0.1 : 81"], 1000, &existing("10.0.0.1 : 80"), [0, 1, 0], 0),
        ("the largest size", &["10.0.0.1 10.0.0.2 : 80"], usize::MAX, &[], [1, 0, 0], 0),
        ("the smallest size", &["10.0.0.1 10.0.0.2 : 80"], 0, &[], [1, 0, 0], 1),
    ];
    for (title, subsets, max, existing, expected, skipped) in rows {
        let mut packing = Packing::mirroring();
        packing.max_endpoints = max;
        let endpoints = endpoints(subsets);
        let writes = mirror(&endpoints, existing, &packing);
        let found = [writes.creates.len(), writes.updates.len(), writes.deletes.len()];
        assert_eq!((found, writes.skipped), (expected, skipped), "{title}");
        let after = applied(existing, &writes);
        assert_eq!(mirror(&endpoints, &after, &packing).creates, [], "{title}: twice");
        assert!(mirror(&endpoints, &after, &packing).is_empty(), "{title}: twice");
        if skipped == 0 {
            assert_eq!(EndpointSet::merge(name("svc"), &after), EndpointSet::from(&endpoints), "{title}");
        }
    }
    let writes = mirror(&endpoints(&["10.0.0.3 !10.0.0.10 !10.0.0.2 fd00::1 : 80"]), &[], &Packing::mirroring());
    assert_eq!(texts(&writes.creates), ["!10.0.0.2 10.0.0.3 !10.0.0.10 : 80", "fd00::1 : 80"]);
}

/// Kubernetes `pkg/controller/endpointslicemirroring/reconciler_test.go`, `TestReconcile`: what the objects say otherwise.
/// The last rows are not there.
#[test]
#[rustfmt::skip]
fn a_slice_that_says_something_else() {
    type Change = fn(&mut Endpoints, &mut EndpointSlice);
    let rows: [(&str, Change, bool); 17] = [
        ("nothing", |_, _| {}, false),
        ("another owner", |_, s| s.owner = Some(Reference::new("Endpoints", &name("svc"), "earlier")), true),
        ("no owner", |_, s| s.owner = None, false),
        ("an annotation more", |_, s| s.annotations = Labels::from_iter([("foo", "bar")]), true),
        ("a label less", |e, s| {
            e.labels = Labels::from_iter([("foo", "bar")]);
            s.annotations = Labels::from_iter([("foo", "bar")]);
        }, true),
        ("last-applied-configuration", |e, _| e.annotations = Labels::from_iter([(LAST_APPLIED, "{}")]), false),
        ("an empty last-applied-configuration", |e, _| e.annotations = Labels::from_iter([(LAST_APPLIED, "")]), false),
        ("that and another", |e, _| e.annotations = Labels::from_iter([(LAST_APPLIED, "{}"), ("foo", "bar")]), true),
        ("that in the slice", |_, s| s.annotations = Labels::from_iter([(LAST_APPLIED, "{}")]), true),
        ("the trigger time", |e, _| e.annotations = Labels::from_iter([(TRIGGER_TIME, "date")]), false),
        ("that in the slice", |_, s| s.annotations = Labels::from_iter([(TRIGGER_TIME, "date")]), true),
        ("the same annotation", |e, s| {
            e.annotations = Labels::from_iter([("foo", "bar")]);
            s.annotations = Labels::from_iter([("foo", "bar")]);
        }, false),
        ("a label more", |_, s| s.labels = Labels::from_iter([("foo", "bar")]), true),
        ("the same label", |e, s| {
            e.labels = Labels::from_iter([("foo", "bar")]);
            s.labels = Labels::from_iter([("foo", "bar")]);
        }, false),
        ("reserved labels", |e, _| e.labels = Labels::from_iter([
            ("kubernetes.io/service-name", "other"), ("endpointslice.kubernetes.io/managed-by", "me"),
        ]), false),
        ("headless", |e, _| e.labels = Labels::from_iter([(HEADLESS, "")]), true),
        ("no more headless", |_, s| s.headless = true, true),
    ];
    for (title, change, written) in rows {
        let (mut endpoints, mut slice) = (endpoints(&["10.0.0.1/1 : http=80"]), slice("svc-1", "10.0.0.1/1 : http=80"));
        (slice.uid, slice.generation) = ("slice-uid".into(), 7);
        change(&mut endpoints, &mut slice);
        let existing = [slice];
        let writes = mirror(&endpoints, &existing, &Packing::mirroring());
        assert_eq!((writes.creates.len(), writes.deletes.len()), (0, 0), "{title}");
        assert_eq!(names(&writes.updates), if written { &["svc-1"][..] } else { &[] }, "{title}");
        let after = applied(&existing, &writes);
        assert_eq!((&*after[0].uid, after[0].generation), ("slice-uid", 7), "{title}");
        assert!(mirror(&endpoints, &after, &Packing::mirroring()).is_empty(), "{title}: twice");
    }

    let mut deleted = endpoints(&["10.0.0.1 : 80", "10.0.0.2 : 81"]);
    deleted.deleted = Some(Timestamp::default());
    assert!(mirror(&deleted, &[], &Packing::mirroring()).is_empty(), "nothing new for what is being deleted");
    let existing = [slice("svc-1", "10.0.0.3 : 80"), slice("svc-2", "fd00::1 : 80")];
    let writes = mirror(&deleted, &existing, &Packing::mirroring());
    let found = (writes.creates.len(), writes.updates.len(), writes.deletes.len());
    assert_eq!(found, (0, 1, 1), "updates and deletes still");
}

/// Kubernetes `pkg/controller/endpointslicemirroring/utils_test.go`, `TestNewEndpointSlice`; then the labels that are the
/// machinery's.
#[test]
fn what_a_slice_says() {
    const FOO: (&str, &str) = ("foo", "bar");
    const FOO2: (&str, &str) = ("foo2", "bar2");
    for (labels, annotations, expected_labels, expected_annotations) in [
        (vec![], vec![], vec![], vec![]),
        (vec![], vec![FOO], vec![], vec![FOO]),
        (vec![FOO], vec![], vec![FOO], vec![]),
        (vec![FOO], vec![FOO2], vec![FOO], vec![FOO2]),
        (vec![FOO], vec![FOO2, (TRIGGER_TIME, "date")], vec![FOO], vec![FOO2]),
        (vec![FOO], vec![FOO2, (LAST_APPLIED, "{}")], vec![FOO], vec![FOO2]),
        (vec![("kubernetes.io/service-name", "bad"), FOO], vec![], vec![FOO], vec![]),
        (vec![("endpointslice.kubernetes.io/managed-by", "me")], vec![], vec![], vec![]),
        (vec![(HEADLESS, "")], vec![], vec![(HEADLESS, "")], vec![]),
    ] {
        let mut endpoints = endpoints(&["10.0.0.1 : foo=80"]);
        endpoints.labels = labels.iter().copied().collect();
        endpoints.annotations = annotations.iter().copied().collect();
        let writes = mirror(&endpoints, &[], &Packing::mirroring());
        let [slice] = &*writes.creates else { panic!("{labels:?} {annotations:?}") };
        assert!(slice.name.name().starts_with("svc-") && slice.name.namespace() == "ns");
        assert_eq!(slice.owner, Some(Reference::new("Endpoints", &name("svc"), "uid")));
        assert_eq!(slice.family, Some(IpFamily::V4));
        assert_eq!(slice.ports(), endpoints.subsets[0].ports);

        let written = k8s::EndpointSlice::from(slice).metadata;
        let own = [
            ("kubernetes.io/service-name", "svc"),
            ("endpointslice.kubernetes.io/managed-by", "endpointslicemirroring-controller.k8s.io"),
        ];
        let pairs = |map: &BTreeMap<String, String>| map.clone().into_iter().collect::<Labels>();
        let expected = expected_labels.into_iter().chain(own);
        assert_eq!(pairs(&written.labels), expected.collect(), "{labels:?}");
        let expected = expected_annotations.into_iter().collect();
        assert_eq!(pairs(&written.annotations), expected, "{annotations:?}");
        let [owner] = &*written.owner_references else { panic!("one owner") };
        let owner =
            (&*owner.api_version, &*owner.kind, owner.controller, owner.block_owner_deletion);
        assert_eq!(owner, ("v1", "Endpoints", Some(true), Some(true)));
    }
}

/// Kubernetes `pkg/controller/endpointslicemirroring/utils_test.go`, `TestAddressToEndpoint`, but for what is said of
/// serving and terminating; from the manifest, with an address to be written anew.
#[test]
fn what_an_endpoint_says() {
    let mut address = k8s::EndpointAddress::default();
    (address.ip, address.hostname) = ("010.001.2.3".into(), "foo".into());
    address.node_name = Some("node-abc".into());
    let mut target = k8s::ObjectReference::default();
    (target.kind, target.namespace, target.name) = ("Pod".into(), "default".into(), "foo".into());
    address.target_ref = Some(target.clone());
    let mut not_ready = k8s::EndpointAddress::default();
    not_ready.ip = "1234::5678:0000:0000:9abc:def0".into();
    let mut subset = k8s::EndpointSubset::default();
    (subset.addresses, subset.not_ready_addresses) = (vec![address], vec![not_ready]);
    let mut endpoints = k8s::Endpoints::default();
    (endpoints.metadata.namespace, endpoints.metadata.name) = ("ns".into(), "svc".into());
    endpoints.subsets = vec![subset];

    let converted = endpoints.convert().expect("a name").object;
    let writes = mirror(&converted, &[], &Packing::mirroring());
    let written: Vec<k8s::SliceEndpoint> =
        writes.creates.iter().flat_map(|slice| k8s::EndpointSlice::from(slice).endpoints).collect();
    let mut expected = k8s::SliceEndpoint::default();
    expected.addresses = vec!["10.1.2.3".into()];
    expected.hostname = Some("foo".into());
    (expected.node_name, expected.target_ref) = (Some("node-abc".into()), Some(target));
    (expected.conditions.ready, expected.conditions.serving) = (Some(true), Some(true));
    expected.conditions.terminating = Some(false);
    let mut other = k8s::SliceEndpoint::default();
    other.addresses = vec!["1234::5678:0:0:9abc:def0".into()];
    (other.conditions.ready, other.conditions.serving) = (Some(false), Some(true));
    other.conditions.terminating = Some(false);
    assert_eq!(written, [expected, other]);
}

/// Kubernetes `pkg/controller/endpointslicemirroring/reconciler_helpers_test.go`, `TestRecycleSlices`, by the lists of
/// ports: `foo` are those that are new, `bar` those that are no more wanted, `baz` what is to be written anyway.
#[test]
fn slices_take_the_places_of_others() {
    for (title, subsets, existing, created, updated, deleted) in [
        ("nothing", &[][..], &[][..], 0, &[][..], &[][..]),
        ("1 create, 1 delete", &["10.1.2.3 : 1"], &[("bar", "10.2.3.4 : 2")], 0, &["bar"], &[]),
        (
            "1 create, 1 update, 1 delete",
            &["10.1.2.3 : 1", "10.2.3.4 : 3"],
            &[("bar", "10.3.4.5 : 2"), ("baz", "10.2.3.5 : 3")],
            0,
            &["bar", "baz"],
            &[],
        ),
        (
            "2 creates, 1 delete",
            &["10.1.2.3 : 1", "10.3.4.5 : 3"],
            &[("bar", "10.2.3.4 : 2")],
            1,
            &["bar"],
            &[],
        ),
        (
            "1 create, 2 deletes",
            &["10.1.2.3 : 1"],
            &[("bar1", "10.2.3.4 : 2"), ("bar2", "10.3.4.5 : 3")],
            0,
            &["bar1"],
            &["bar2"],
        ),
        (
            "1 create and 1 delete of each family",
            &["10.1.2.3 2001:db8::1 : 1"],
            &[("bar-v4", "10.2.2.3 : 2"), ("bar-v6", "2001:db8::2 : 2")],
            0,
            &["bar-v4", "bar-v6"],
            &[],
        ),
        (
            "the other family",
            &["10.1.2.3 : 1"],
            &[("bar-v6", "2001:db8::2 : 2")],
            1,
            &[],
            &["bar-v6"],
        ),
    ] {
        let endpoints = endpoints(subsets);
        let existing: Vec<EndpointSlice> =
            existing.iter().map(|(name, text)| slice(name, text)).collect();
        let writes = mirror(&endpoints, &existing, &Packing::mirroring());
        assert_eq!(writes.creates.len(), created, "{title}");
        assert_eq!(names(&writes.updates), updated, "{title}");
        let deletes: Vec<&str> = writes.deletes.iter().map(ObjectName::name).collect();
        assert_eq!(deletes, deleted, "{title}");
        let after = EndpointSet::merge(name("svc"), &applied(&existing, &writes));
        assert_eq!(after, EndpointSet::from(&endpoints), "{title}");
    }
    let mut of_names = slice("of-names", " : ");
    of_names.family = None;
    let writes = mirror(&endpoints(&["10.1.2.3 : 1"]), &[of_names], &Packing::mirroring());
    assert_eq!(
        (writes.creates.len(), writes.deletes.len()),
        (1, 1),
        "a slice of names is no place"
    );
}

fn any_texts() -> impl Strategy<Value = Vec<String>> {
    let address = prop::sample::select(vec![
        "10.0.0.1",
        "!10.0.0.1",
        "10.0.0.2/u",
        "!10.0.0.3/v",
        "fd00::1",
        "!fd00::2",
    ]);
    let ports = prop::collection::vec(prop::sample::select(vec!["80", "81", "a=80"]), 0..3);
    let subset = (prop::collection::vec(address, 0..5), ports)
        .prop_map(|(addresses, ports)| format!("{} : {}", addresses.join(" "), ports.join(" ")));
    prop::collection::vec(subset, 0..5)
}

proptest! {
    /// Whatever was mirrored before: one slice for each list of ports and family, which say what the Endpoints say, under
    /// names that there were or that are new; and nothing to write then.
    #[test]
    fn mirrors_say_the_same(history in prop::collection::vec(any_texts(), 1..4), seed in 0_u64..3) {
        let mut existing: Vec<EndpointSlice> = Vec::new();
        for subsets in history {
            let endpoints = endpoints(&subsets.iter().map(String::as_str).collect::<Vec<_>>());
            let mut packing = Packing::mirroring();
            packing.seed = seed;
            let writes = mirror(&endpoints, &existing, &packing);
            for slice in &writes.creates {
                prop_assert!(existing.iter().all(|other| other.name != slice.name));
            }
            for name in writes.updates.iter().map(|slice| &slice.name).chain(&writes.deletes) {
                prop_assert!(existing.iter().any(|other| other.name == *name));
            }
            let after = applied(&existing, &writes);
            prop_assert_eq!(EndpointSet::merge(name("svc"), &after), EndpointSet::from(&endpoints));
            let mut groups: Vec<_> = after.iter().map(|slice| (slice.family, slice.ports())).collect();
            groups.sort_unstable();
            let count = groups.len();
            groups.dedup();
            prop_assert_eq!(groups.len(), count);
            prop_assert!(after.iter().all(|slice| !slice.endpoints().is_empty()));
            for slice in &after {
                let family = |endpoint: &Endpoint| Some(IpFamily::of(endpoint.ip)) == slice.family;
                prop_assert!(slice.endpoints().iter().all(family));
            }
            prop_assert!(mirror(&endpoints, &after, &packing).is_empty());
            existing = after;
        }
    }
}
