//! When a controller of EndpointSlices acts, and what it remembers in between.

use std::collections::BTreeSet;

use svcplane::endpoints::{
    Endpoint, EndpointSlice, Packing, PodChange, SliceTracker, TriggerTimes,
};
use svcplane::k8s;
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::node::Nodes;
use svcplane::pod::Pod;
use svcplane::service::{Service, ServiceKind, ServicePort};
use svcplane::time::Timestamp;

use super::slices::{apply, counts, lengths, name, pod, pods, service, slice, write, write_with};

const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// So many seconds after the beginning of 2019.
fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_546_300_800 + seconds)
}

/// Writes for a Service without slices, when its pods are looked at for the first time.
fn first_sync(service: &Service, pods: &[Pod]) -> EndpointSlice {
    let mut packing = Packing::default();
    packing.trigger_time = TriggerTimes::default().next(service, pods);
    let mut writes = write_with(service, pods, &Nodes::default(), &[], &packing);
    assert_eq!(counts(&writes), (1, 0, 0));
    writes.creates.remove(0)
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncServiceWithSelector` and `TestSyncServicePodSelection`.
#[test]
fn services_with_selector() {
    let mut service = service();
    service.created = Some(time(0));
    let empty = first_sync(&service, &[]);
    assert_eq!((empty.ports(), empty.endpoints()), (&[][..], &[][..]));
    assert_eq!(empty.annotations.get(TRIGGER_TIME), Some("2019-01-01T00:00:00Z"));

    let mut other = pod(2);
    other.labels = Labels::from_iter([("app", "y")]);
    let one = first_sync(&service, &[pod(1), other]);
    let [endpoint] = one.endpoints() else { panic!("{one:?}") };
    assert_eq!(endpoint.target.as_ref().map(|target| &*target.name), Some("pod-1"));
    assert_eq!(one.annotations.get(TRIGGER_TIME), Some("2019-01-01T00:00:00Z"));
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncServiceNoSelector` and `TestServiceExternalNameTypeSync`:
/// others' slices, and those that were written before, are left alone.
#[test]
fn services_whose_slices_others_write() {
    let existing = [slice(&service(), "svc-0", &pods(3)), slice(&service(), "svc-1", &[])];
    let (mut without, mut external) = (service(), service());
    without.selector = Labels::default();
    external.kind = ServiceKind::ExternalName("example.com".into());
    let mut both = external.clone();
    both.selector = Labels::default();
    let mut bare = both.clone();
    bare.ports = Vec::new();
    for service in [without, external, both, bare] {
        for existing in [&[][..], &existing] {
            assert!(write(&service, &pods(1), existing).is_empty(), "{service:?}");
        }
    }
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncServicePendingDeletion`.
#[test]
fn a_service_being_deleted_gets_no_slice() {
    let mut service = service();
    service.deleted = Some(time(0));
    assert!(write(&service, &[], &[]).is_empty());
    assert!(write(&service, &pods(3), &[]).is_empty());
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncServiceEndpointSlicePendingDeletion`.
#[test]
fn slices_being_deleted_are_no_slices() {
    let mut slices = apply(&[], &write(&service(), &[], &[]));
    let mut going = slice(&service(), "slice-1", &pods(1));
    going.deleted = Some(time(0));
    slices.push(going);
    assert!(write(&service(), &[], &slices).is_empty());
    // What is in one has to be in another.
    let writes = write(&service(), &pods(1), &slices);
    assert_eq!((counts(&writes), &writes.updates[0].name), ((0, 1, 0), &slices[0].name));
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncServiceEndpointSliceLabelSelection`: five slices, of which
/// two are the controller's own.
#[test]
fn slices_of_others() {
    let five = |pods: &[Pod]| {
        let slices = ["matching-1", "matching-2", "partial", "other-1", "other-2"];
        let mut slices = slices.map(|name| slice(&service(), name, pods));
        slices[2].managed_by = "".into();
        slices[3].service = name("something-else");
        slices[4].managed_by = "something-else".into();
        slices
    };
    for pods in [&[][..], &pods(1)] {
        let existing = five(pods);
        let writes = write(&service(), &[], &existing);
        assert_eq!(counts(&writes), (0, 1, 1));
        assert_eq!(
            (&writes.updates[0].name, &writes.deletes[0]),
            (&name("matching-1"), &name("matching-2"))
        );
        assert_eq!(lengths(&writes.updates), [0]);
        let mut packing = Packing::default();
        packing.managed_by = "something-else".into();
        let writes = write_with(&service(), &[], &Nodes::default(), &existing, &packing);
        assert_eq!((counts(&writes), &writes.updates[0].name), ((0, 1, 0), &name("other-2")));
    }
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncServiceMissing`: what is known of a Service that is gone is
/// forgotten, and nothing else.
#[test]
fn services_that_are_gone() {
    let (mut gone, mut still) = (service(), service());
    (gone.created, still.created, still.name) = (Some(time(0)), Some(time(0)), name("still"));
    let (mut times, mut tracker) = (TriggerTimes::default(), SliceTracker::default());
    for service in [&gone, &still] {
        assert_eq!(times.next(service, []), Some(time(0)));
        tracker.update(&slice(service, "slice", &[]));
    }
    times.forget(&gone.name);
    tracker.forget(&gone.name);
    assert_eq!((times.next(&gone, []), times.next(&still, [])), (Some(time(0)), None));
    assert_eq!(
        (tracker.is_stale(&gone.name, []), tracker.is_stale(&still.name, [])),
        (false, true)
    );
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncServiceStaleInformer`.
#[test]
fn stale_caches() {
    for (name, cached, written, expected) in [
        ("the cache is behind", 10, 12, true),
        ("as written", 10, 10, false),
        ("the cache is ahead", 10, 1, false),
    ] {
        let mut slice = slice(&service(), "matching-1", &[]);
        let mut tracker = SliceTracker::default();
        slice.generation = written;
        tracker.update(&slice);
        slice.generation = cached;
        assert_eq!(tracker.is_stale(&service().name, [&slice]), expected, "{name}");
    }
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncService`: three ports, a ready pod and another. The row of
/// IPv6 has the address in canonical form, as newer versions write it.
#[test]
fn one_sync() {
    const PORTS: [(&str, u16, Protocol); 3] = [
        ("sctp-example", 3456, Protocol::Sctp),
        ("tcp-example", 80, Protocol::Tcp),
        ("udp-example", 161, Protocol::Udp),
    ];
    const FIRST: &str = "10.0.0.1 pod-0: ready serving";
    let two: &[&str] = &["10.0.0.2", "fd08::5678:0000:0000:9abc:def0"];
    let (other, same): (&[&str], &[&str]) = (&["10.0.0.2"], &["10.0.0.1"]);
    for (name, ips, ready, deleted, expected) in [
        ("IPv4", two, true, false, &[FIRST, "10.0.0.2 pod-1: ready serving"][..]),
        ("IPv6", two, true, false, &["fd08::5678:0:0:9abc:def0 pod-1: ready serving"]),
        ("terminating", other, true, true, &[FIRST, "10.0.0.2 pod-1: serving terminating"]),
        ("terminating, not ready", other, false, true, &[FIRST, "10.0.0.2 pod-1: terminating"]),
        ("one address, one ready", same, false, false, &[FIRST, "10.0.0.1 pod-1:"]),
        ("one address, both ready", same, true, false, &[FIRST, "10.0.0.1 pod-1: ready serving"]),
    ] {
        let mut service = service();
        service.created = Some(time(0));
        service.ip_families = vec![if name == "IPv6" { IpFamily::V6 } else { IpFamily::V4 }];
        let port = |(name, number, protocol): (&str, u16, Protocol)| {
            let mut port = ServicePort::new(number);
            (port.name, port.protocol) = (Some(name.parse().expect("a label")), protocol);
            port
        };
        service.ports = PORTS.into_iter().rev().map(port).collect();
        let mut mirrors = [0, 1].map(|number| k8s::Pod::from(&pod(number)));
        set_ips(&mut mirrors[0], same);
        set_ips(&mut mirrors[1], ips);
        let mut pods = mirrors.map(|pod| pod.convert().expect("a name").object);
        (pods[1].ready, pods[1].deleted) = (ready, deleted.then_some(time(1)));
        let slice = first_sync(&service, &pods);
        assert_eq!(slice.annotations.get(TRIGGER_TIME), Some("2019-01-01T00:00:00Z"), "{name}");
        let ports = slice.ports().iter().map(|port| (port.name_str(), port.port, port.protocol));
        assert!(ports.eq(PORTS), "{name}: {:?}", slice.ports());
        let found: Vec<String> = slice.endpoints().iter().map(endpoint_text).collect();
        assert_eq!(found, expected, "{name}");
    }
}

fn endpoint_text(endpoint: &Endpoint) -> String {
    let written = k8s::SliceEndpoint::from(endpoint);
    let target = written.target_ref.expect("a target");
    let mut text = format!("{} {}:", written.addresses.join(" "), target.name);
    let stated = written.conditions;
    for (condition, word) in [
        (stated.ready, " ready"),
        (stated.serving, " serving"),
        (stated.terminating, " terminating"),
    ] {
        if condition.expect("a condition") {
            text.push_str(word);
        }
    }
    text
}

/// Kubernetes endpointslice `util/controller_utils_test.go`, `TestDetermineNeededServiceUpdates`.
#[test]
fn services_to_look_at_again() {
    for (name, old, new, differing, all) in [
        ("no change", "abc", "abc", "", "abc"),
        ("all others", "abc", "def", "abcdef", "abcdef"),
        ("none any more", "abc", "", "abc", "abc"),
        ("none before", "", "abc", "abc", "abc"),
        ("one gone, one come", "abc", "bcd", "ad", "abcd"),
        ("none", "", "", "", ""),
    ] {
        let set = |names: &str| names.chars().collect::<BTreeSet<char>>();
        for (labels, endpoint, expected) in
            [(true, false, differing), (true, true, all), (false, true, all), (false, false, "")]
        {
            let change = PodChange { labels, endpoint };
            let found = change.services(set(old), set(new));
            assert_eq!(found, set(expected), "{name}: {change:?}");
        }
    }
}

/// What is done to the old and to the new pod.
type PodRow = (&'static str, fn(&mut k8s::Pod, &mut k8s::Pod), bool, bool);

fn set_ips(pod: &mut k8s::Pod, ips: &[&str]) {
    pod.status.pod_ip = ips[0].into();
    let entry = |ip: &&str| {
        let mut entry = k8s::PodIp::default();
        entry.ip = (*ip).into();
        entry
    };
    pod.status.pod_ips = ips.iter().map(entry).collect();
}

/// Kubernetes endpointslice `util/controller_utils_test.go`, `Test_podChanged`. The last rows: hostnames count as
/// labels do; the end of a pod that was not ready.
#[test]
#[rustfmt::skip]
fn changes_of_pods() {
    let rows: [PodRow; 22] = [
        ("nothing", |_, _| {}, false, false),
        ("the node's name", |_, new| new.spec.node_name = "changed".into(), false, false),
        ("the resource version", |_, new| new.metadata.resource_version = "changed".into(), false, false),
        ("an IPv4 address comes", |_, new| set_ips(new, &["1.2.3.4"]), true, false),
        ("another IPv4 address", |old, new| { set_ips(old, &["1.2.3.4"]); set_ips(new, &["2.3.4.5"]); }, true, false),
        ("an IPv6 address comes", |_, new| set_ips(new, &["fd00:10:96::1"]), true, false),
        ("another IPv6 address",
            |old, new| { set_ips(old, &["fd00:10:96::1"]); set_ips(new, &["fd00:10:96::2"]); }, true, false),
        ("a second address comes",
            |old, new| { set_ips(old, &["1.2.3.4"]); set_ips(new, &["1.2.3.4", "fd00:10:96::1"]); }, true, false),
        ("another second address",
            |old, new| { set_ips(old, &["1.2.3.4", "fd00:10:96::1"]); set_ips(new, &["1.2.3.4", "fd00:10:96::2"]); },
            true, false),
        ("the second address goes",
            |old, new| { set_ips(old, &["1.2.3.4", "fd00:10:96::1"]); set_ips(new, &["1.2.3.4"]); }, true, false),
        ("ready", |_, new| new.status.conditions[0].status = "True".into(), true, false),
        ("deleted", |_, new| new.metadata.deletion_timestamp = "2026-03-01T12:00:00Z".into(), true, false),
        ("a label comes", |_, new| drop(new.metadata.labels.insert("label".into(), "new".into())), false, true),
        ("another label", |old, new| {
            old.metadata.labels.insert("label".into(), "old".into());
            new.metadata.labels.insert("label".into(), "new".into());
        }, false, true),
        ("a label goes", |old, _| drop(old.metadata.labels.insert("label".into(), "old".into())), false, true),
        ("labels and readiness", |old, new| {
            old.metadata.labels.clear();
            new.status.conditions[0].status = "True".into();
        }, true, true),
        ("a hostname", |_, new| new.spec.hostname = "host".into(), false, true),
        ("a subdomain", |_, new| new.spec.subdomain = "sub".into(), false, true),
        ("pending, then running", |old, _| old.status.phase = "Pending".into(), false, false),
        ("over", |_, new| new.status.phase = "Succeeded".into(), true, false),
        ("over in another way", |old, new| {
            old.status.phase = "Succeeded".into();
            new.status.phase = "Failed".into();
        }, false, false),
        ("another condition", |_, new| new.status.conditions[0].last_transition_time = "2026-03-01T12:00:00Z".into(),
            false, false),
    ];
    for (name, change, endpoint, labels) in rows {
        let mut old = k8s::Pod::default();
        (old.metadata.namespace, old.metadata.name) = ("ns".into(), "pod".into());
        old.metadata.labels = [("foo".into(), "bar".into())].into();
        old.status.phase = "Running".into();
        let mut ready = k8s::Condition::default();
        (ready.kind, ready.status) = ("Ready".into(), "False".into());
        old.status.conditions = vec![ready];
        let mut new = old.clone();
        change(&mut old, &mut new);
        let [old, new] = [old, new].map(|pod| pod.convert().expect("a name").object);
        let expected = PodChange { labels, endpoint };
        assert_eq!(PodChange::between(&old, &new), expected, "{name}");
        assert_eq!(PodChange::between(&new, &old), expected, "{name}, back");
    }
}

/// One look at a Service that was created at a time and at pods that have been ready since other times, and what is
/// expected of it; or the Service is gone.
enum Look {
    At(i64, &'static [(u16, i64)], Option<i64>),
    Gone,
}

/// Kubernetes endpointslice `util/trigger_time_tracker_test.go`: `TestNewServiceNoPods`, `TestNewServiceExistingPods`,
/// `TestPodsAdded`, `TestPodsUpdated`, `TestPodsUpdatedNoOp` (and, as the ports differ in each look,
/// `TestServiceUpdatedNoPodChange`), `TestPodDeletedThenAdded` and `TestServiceDeletedThenAdded`. The last three rows
/// follow from the rule: the first of what is newer.
#[test]
fn trigger_times() {
    use Look::{At, Gone};
    let three = &[(1, 1), (2, 2), (3, 3)];
    let two = &[(1, 1), (2, 2)];
    let rows: &[(&str, &[Look])] = &[
        ("new", &[At(2, &[], Some(2))]),
        ("new, with pods", &[At(3, &[(1, 0), (2, 1), (3, 5)], Some(3))]),
        ("pods added", &[At(0, &[], Some(0)), At(0, &[(1, 2), (2, 1)], Some(1))]),
        ("pods updated", &[At(0, three, Some(0)), At(0, &[(1, 5), (2, 4), (3, 3)], Some(4))]),
        ("the same pods", &[At(0, three, Some(0)), At(0, three, None)]),
        (
            "a pod goes and comes",
            &[At(0, two, Some(0)), At(0, &[(1, 1)], None), At(0, &[(1, 1), (2, 4)], Some(4))],
        ),
        ("the Service goes and comes", &[At(0, two, Some(0)), Gone, At(3, two, Some(3))]),
        ("another Service of the name", &[At(0, two, Some(0)), At(3, &[(1, 4)], Some(3))]),
        ("an older pod", &[At(0, two, Some(0)), At(0, &[(1, 0), (2, 2)], None)]),
        (
            "older, then as before",
            &[At(0, two, Some(0)), At(0, &[(1, 0)], None), At(0, two, Some(1))],
        ),
    ];
    for (name, looks) in rows {
        let mut times = TriggerTimes::default();
        for (i, look) in looks.iter().enumerate() {
            let mut service = service();
            service.ports = vec![ServicePort::new(80 + u16::try_from(i).expect("few"))];
            match look {
                Gone => times.forget(&service.name),
                At(created, pods, expected) => {
                    service.created = Some(time(*created));
                    let pods = pods.iter().map(|&(number, since)| {
                        let mut pod = pod(number);
                        pod.ready_since = Some(time(since));
                        pod
                    });
                    let found = times.next(&service, &pods.collect::<Vec<_>>());
                    assert_eq!(found, expected.map(time), "{name}, look {i}");
                }
            }
        }
    }
}

/// Namespace, Service, uid and generation.
fn tracked(namespace: &str, service: &str, uid: &str, generation: i64) -> EndpointSlice {
    let [name, service] =
        ["example-1", service].map(|name| ObjectName::new(namespace, name).expect("a name"));
    let mut slice = EndpointSlice::new(name, service, IpFamily::V4);
    (slice.uid, slice.generation) = (uid.into(), generation);
    slice
}

fn original() -> EndpointSlice {
    tracked("ns1", "svc1", "original", 1)
}

/// Kubernetes endpointslice `util/endpointslice_tracker_test.go`, `TestEndpointSliceTrackerUpdate`. The last row: an
/// older state of a slice is no news.
#[test]
fn slices_that_are_news() {
    for (name, seen, expected) in [
        ("the same slice", original(), false),
        ("another namespace", tracked("ns2", "svc1", "diff-ns", 1), true),
        ("another Service", tracked("ns1", "svc2", "diff-svc", 1), true),
        ("a newer generation", tracked("ns1", "svc1", "original", 2), true),
        ("another slice", tracked("ns1", "svc1", "other", 1), true),
        ("an older generation", tracked("ns1", "svc1", "original", 0), false),
    ] {
        let mut tracker = SliceTracker::default();
        tracker.update(&original());
        assert_eq!(tracker.is_news(&seen), expected, "{name}");
    }
}

/// Kubernetes endpointslice `util/endpointslice_tracker_test.go`, `TestEndpointSliceTrackerStaleSlices`.
#[test]
fn slices_that_are_stale() {
    let (slice, newer) = (original(), tracked("ns1", "svc1", "original", 2));
    let mut empty = SliceTracker::default();
    empty.update(&slice);
    assert!(!empty.deleted(&slice));
    let [mut written, mut rewritten, mut deleted] = [(); 3].map(|()| SliceTracker::default());
    written.update(&slice);
    rewritten.update(&newer);
    deleted.expect_deletion(&slice);
    for (name, tracker, seen, expected) in [
        ("nothing known", &SliceTracker::default(), &[][..], false),
        ("nothing left", &empty, &[], false),
        ("as written", &written, &[&slice], false),
        ("older than written", &rewritten, &[&slice], true),
        ("newer than written", &written, &[&newer], false),
        ("should be gone", &deleted, &[&slice], true),
        ("is gone", &deleted, &[], false),
        ("missing", &written, &[], true),
    ] {
        let service = ObjectName::new("ns1", "svc1").expect("a name");
        assert_eq!(tracker.is_stale(&service, seen.iter().copied()), expected, "{name}");
        let other = ObjectName::new("ns1", "svc2").expect("a name");
        assert!(!tracker.is_stale(&other, seen.iter().copied()), "{name}, another Service");
    }
}

/// Kubernetes endpointslice `util/endpointslice_tracker_test.go`, `TestEndpointSliceTrackerDeletion`: which slice is
/// expected to go, which one is seen, whether that is news, and whether it was expected that the original one goes.
/// That a slice goes that was never heard of is not expected.
#[test]
fn deletions_that_are_expected() {
    let slice = original;
    let namespace = || tracked("ns2", "svc1", "diff-ns", 1);
    let service = || tracked("ns1", "svc2", "diff-svc", 1);
    let generation = || tracked("ns1", "svc1", "original", 2);
    for (name, going, seen, news, expected) in [
        ("the same slice", slice(), slice(), true, true),
        ("another namespace", namespace(), namespace(), true, false),
        ("another namespace, the original seen", namespace(), slice(), false, false),
        ("another Service", service(), service(), true, false),
        ("another Service, the original seen", service(), slice(), false, false),
        ("another generation", generation(), generation(), true, true),
        ("another generation, the original seen", generation(), slice(), true, true),
    ] {
        let mut tracker = SliceTracker::default();
        tracker.update(&slice());
        tracker.expect_deletion(&going);
        assert_eq!(tracker.is_news(&seen), news, "{name}");
        assert_eq!(tracker.deleted(&slice()), expected, "{name}");
        assert!(tracker.is_news(&slice()), "{name}");
        assert!(!tracker.deleted(&slice()), "{name}, twice");
    }
}

/// Kubernetes endpointslice `util/endpointslice_tracker_test.go`, `TestEndpointSliceTrackerDeleteService`.
#[test]
fn services_that_are_forgotten() {
    for (namespace, service, news) in
        [("ns1", "svc1", true), ("ns2", "svc1", false), ("ns1", "svc2", false)]
    {
        let mut tracker = SliceTracker::default();
        tracker.update(&original());
        tracker.forget(&ObjectName::new(namespace, service).expect("a name"));
        assert_eq!(tracker.is_news(&original()), news, "{namespace}/{service}");
    }
}
