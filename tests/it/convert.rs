//! EndpointSlices and Endpoints as mirrors and as domain objects: what is understood, what is left out, and back.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use svcplane::endpoints::{
    Conditions, Endpoint, EndpointPort, EndpointSet, HEADLESS_LABEL, Hints, MANAGED_BY_LABEL,
    Packing, Reference, SERVICE_NAME_LABEL, SliceWrites,
};
use svcplane::field::{FieldError, FieldErrorKind};
use svcplane::k8s::{
    EndpointHints, EndpointSlice, Endpoints, ForNode, ForZone, Node, ObjectReference,
    OwnerReference, SliceEndpoint, SlicePort,
};
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::service::Service;

use super::k8s;

fn endpoint(addresses: &[&str]) -> SliceEndpoint {
    let mut endpoint = SliceEndpoint::default();
    endpoint.addresses = addresses.iter().map(|&address| address.into()).collect();
    endpoint
}

fn port(name: &str, number: i32) -> SlicePort {
    let mut port = SlicePort::default();
    (port.name, port.port) = (Some(name.into()), Some(number));
    port.protocol = Some("TCP".into());
    port
}

fn hints<T: AsRef<str>>(zones: &[T], nodes: &[T]) -> EndpointHints {
    let mut hints = EndpointHints::default();
    for zone in zones {
        let mut hint = ForZone::default();
        hint.name = zone.as_ref().into();
        hints.for_zones.push(hint);
    }
    for node in nodes {
        let mut hint = ForNode::default();
        hint.name = node.as_ref().into();
        hints.for_nodes.push(hint);
    }
    hints
}

/// A slice as the API server has it, with everything that is read.
fn good() -> EndpointSlice {
    let mut slice = EndpointSlice::default();
    let meta = &mut slice.metadata;
    (meta.namespace, meta.name, meta.uid) = ("ns".into(), "web-x7k2p".into(), "uid".into());
    meta.generation = 7;
    let labels =
        [(SERVICE_NAME_LABEL, "web"), (MANAGED_BY_LABEL, "me"), (HEADLESS_LABEL, ""), ("a", "b")];
    meta.labels = labels.map(|(key, value)| (key.into(), value.into())).into();
    meta.annotations = [("c".into(), "d".into())].into();
    let mut owner = OwnerReference::default();
    (owner.api_version, owner.kind) = ("v1".into(), "Service".into());
    (owner.name, owner.uid) = ("web".into(), "owner".into());
    (owner.controller, owner.block_owner_deletion) = (Some(true), Some(true));
    meta.owner_references = vec![owner];
    slice.address_type = "IPv4".into();
    let mut first = endpoint(&["10.0.0.1", "10.0.0.2"]);
    first.conditions.ready = Some(false);
    (first.conditions.serving, first.conditions.terminating) = (Some(true), Some(true));
    first.hostname = Some("host".into());
    (first.node_name, first.zone) = (Some("node".into()), Some("a".into()));
    let mut target = ObjectReference::default();
    (target.kind, target.namespace) = ("Pod".into(), "ns".into());
    (target.name, target.uid) = ("pod".into(), "pod-uid".into());
    first.target_ref = Some(target);
    first.hints = Some(hints(&["a", "b"], &["node"]));
    let mut second = endpoint(&["10.0.0.3"]);
    second.conditions.ready = Some(true);
    (second.conditions.serving, second.conditions.terminating) = (Some(true), Some(false));
    slice.endpoints = vec![first, second];
    let mut https = port("https", 443);
    (https.protocol, https.app_protocol) = (Some("UDP".into()), Some("h3".into()));
    slice.ports = vec![port("http", 80), https];
    slice
}

fn converted(slice: &EndpointSlice) -> svcplane::endpoints::EndpointSlice {
    let converted = slice.convert().expect("a name");
    assert_eq!(converted.warnings, []);
    converted.object
}

#[test]
fn a_slice() {
    let slice = converted(&good());
    let name = |name| ObjectName::new("ns", name).expect("a name");
    assert_eq!((&slice.name, &slice.service), (&name("web-x7k2p"), &name("web")));
    assert_eq!((&*slice.uid, slice.generation, &*slice.managed_by), ("uid", 7, "me"));
    assert_eq!((slice.headless, slice.deleted, slice.family), (true, None, Some(IpFamily::V4)));
    assert_eq!(slice.labels, Labels::from_iter([("a", "b")]));
    assert_eq!(slice.annotations, Labels::from_iter([("c", "d")]));
    assert_eq!(slice.owner, Some(Reference::new("Service", &name("web"), "owner")));
    let (mut http, mut https) = (EndpointPort::new(80), EndpointPort::new(443));
    http.name = Some("http".parse().expect("a label"));
    (https.name, https.protocol) = (Some("https".parse().expect("a label")), Protocol::Udp);
    https.app_protocol = Some("h3".into());
    assert_eq!(slice.ports(), [http, https]);
    let [first, second] = slice.endpoints() else { panic!("two endpoints") };
    let mut expected = Endpoint::new("10.0.0.1".parse().expect("an address"));
    expected.other_ips = vec!["10.0.0.2".parse().expect("an address")];
    expected.ports = slice.ports().into();
    expected.conditions = Conditions { ready: false, serving: true, terminating: true };
    expected.hostname = Some("host".parse().expect("a label"));
    (expected.node, expected.zone) = (Some("node".parse().expect("a name")), Some("a".into()));
    expected.target = Some(Reference::new("Pod", &name("pod"), "pod-uid"));
    expected.hints.zones = vec!["a".into(), "b".into()];
    expected.hints.nodes = vec!["node".parse().expect("a name")];
    assert_eq!(*first, expected);
    let mut expected = Endpoint::new("10.0.0.3".parse().expect("an address"));
    expected.ports = slice.ports().into();
    assert_eq!(*second, expected);

    assert_eq!(EndpointSlice::from(&slice), good(), "and back");
    let mut deleted = good();
    deleted.metadata.deletion_timestamp = "2026-03-01T12:00:00Z".into();
    assert!(converted(&deleted).deleted.is_some());
    assert_eq!(EndpointSlice::from(&converted(&deleted)), deleted);
}

/// What may be absent, and what that means.
#[test]
#[rustfmt::skip]
fn what_is_absent() {
    type Change = fn(&mut EndpointSlice);
    type Check = fn(&svcplane::endpoints::EndpointSlice) -> bool;
    let rows: [(&str, Change, Check); 20] = [
        ("ready", |s| s.endpoints[0].conditions.ready = None,
            |s| s.endpoints()[0].conditions == Conditions { ready: true, serving: true, terminating: true }),
        ("serving", |s| s.endpoints[0].conditions.serving = None,
            |s| s.endpoints()[0].conditions == Conditions { ready: false, serving: true, terminating: true }),
        ("terminating", |s| s.endpoints[0].conditions.terminating = None,
            |s| s.endpoints()[0].conditions == Conditions { ready: false, serving: true, terminating: false }),
        ("all conditions", |s| s.endpoints[0].conditions = svcplane::k8s::EndpointConditions::default(),
            |s| s.endpoints()[0].conditions == Conditions::default()),
        ("hostname", |s| s.endpoints[0].hostname = None, |s| s.endpoints()[0].hostname.is_none()),
        ("an empty hostname", |s| s.endpoints[0].hostname = Some(String::new()), |s| s.endpoints()[0].hostname.is_none()),
        ("node", |s| s.endpoints[0].node_name = None, |s| s.endpoints()[0].node.is_none()),
        ("an empty node", |s| s.endpoints[0].node_name = Some(String::new()), |s| s.endpoints()[0].node.is_none()),
        ("zone", |s| s.endpoints[0].zone = None, |s| s.endpoints()[0].zone.is_none()),
        ("an empty zone", |s| s.endpoints[0].zone = Some(String::new()), |s| s.endpoints()[0].zone.is_none()),
        ("target", |s| s.endpoints[0].target_ref = None, |s| s.endpoints()[0].target.is_none()),
        ("hints", |s| s.endpoints[0].hints = None, |s| s.endpoints()[0].hints == Hints::default()),
        ("empty hints", |s| s.endpoints[0].hints = Some(hints(&[""], &[""])), |s| s.endpoints()[0].hints == Hints::default()),
        ("a port's name", |s| s.ports[0].name = None, |s| s.ports()[0].name.is_none() && s.ports()[0].port == 80),
        ("an empty name", |s| s.ports[0].name = Some(String::new()), |s| s.ports()[0].name.is_none()),
        ("a port's transport", |s| s.ports[1].protocol = None, |s| s.ports()[1].protocol == Protocol::Tcp),
        ("labels", |s| { s.metadata.labels.retain(|key, _| key == SERVICE_NAME_LABEL); },
            |s| s.managed_by.is_empty() && !s.headless && s.labels.is_empty()),
        ("owners", |s| s.metadata.owner_references.clear(), |s| s.owner.is_none()),
        ("an owner that manages", |s| s.metadata.owner_references[0].controller = None, |s| s.owner.is_none()),
        ("ports and endpoints", |s| { s.ports.clear(); s.endpoints.clear(); },
            |s| s.ports().is_empty() && s.endpoints().is_empty()),
    ];
    for (title, change, holds) in rows {
        let mut slice = good();
        change(&mut slice);
        let domain = converted(&slice);
        assert!(holds(&domain), "{title}: {domain:#?}");
        assert_eq!(converted(&EndpointSlice::from(&domain)), domain, "{title}: and back");
    }

    let mut labelled = good();
    labelled.metadata.labels.insert(HEADLESS_LABEL.into(), "with a value".into());
    assert!(converted(&labelled).headless);
    let mut second = good();
    let owner = OwnerReference::default();
    second.metadata.owner_references.insert(0, owner);
    assert_eq!(converted(&second).owner, converted(&good()).owner, "the one that manages");
}

/// A field's path, how it is spoilt, and the same object without it.
type Spoilt<T> = (&'static str, fn(&mut T), fn(&mut T));

#[test]
#[rustfmt::skip]
fn one_bad_field_of_a_slice() {
    let rows: [Spoilt<EndpointSlice>; 22] = [
        ("addressType", |s| s.address_type = "FQDN".into(), |s| { s.address_type = "FQDN".into(); s.endpoints.clear(); }),
        ("addressType", |s| s.address_type = "IP".into(), |s| { s.address_type = "FQDN".into(); s.endpoints.clear(); }),
        ("addressType", |s| s.address_type.clear(), |s| { s.address_type = "FQDN".into(); s.endpoints.clear(); }),
        ("metadata.deletionTimestamp", |s| s.metadata.deletion_timestamp = "yesterday".into(), |_| {}),
        ("ports[0]", |s| s.ports[0].port = None, |s| drop(s.ports.remove(0))),
        ("ports[1].port", |s| s.ports[1].port = Some(0), |s| drop(s.ports.pop())),
        ("ports[1].port", |s| s.ports[1].port = Some(-1), |s| drop(s.ports.pop())),
        ("ports[1].port", |s| s.ports[1].port = Some(65_536), |s| drop(s.ports.pop())),
        ("ports[0].name", |s| s.ports[0].name = Some("A_b".into()), |s| drop(s.ports.remove(0))),
        ("ports[0].protocol", |s| s.ports[0].protocol = Some("tcp".into()), |s| drop(s.ports.remove(0))),
        ("endpoints[0].addresses[0]", |s| s.endpoints[0].addresses[0] = "fd00::1".into(), |s| drop(s.endpoints[0].addresses.remove(0))),
        ("endpoints[0].addresses[1]", |s| s.endpoints[0].addresses[1] = "web.example".into(), |s| drop(s.endpoints[0].addresses.pop())),
        ("endpoints[0].addresses[1]", |s| s.endpoints[0].addresses[1].clear(), |s| drop(s.endpoints[0].addresses.pop())),
        ("endpoints[1].addresses[0]", |s| s.endpoints[1].addresses[0] = "fd00::1".into(), |s| drop(s.endpoints.pop())),
        ("endpoints[1].addresses[0]", |s| s.endpoints[1].addresses[0] = "10.0.0.256".into(), |s| drop(s.endpoints.pop())),
        ("endpoints[1].addresses", |s| s.endpoints[1].addresses.clear(), |s| drop(s.endpoints.pop())),
        ("endpoints[0].hostname", |s| s.endpoints[0].hostname = Some("a.b".into()), |s| s.endpoints[0].hostname = None),
        ("endpoints[0].nodeName", |s| s.endpoints[0].node_name = Some("*".into()), |s| s.endpoints[0].node_name = None),
        ("endpoints[0].hints.forNodes[0].name", |s| s.endpoints[0].hints = Some(hints(&["a"], &["*", "node"])),
            |s| s.endpoints[0].hints = Some(hints(&["a"], &["node"]))),
        ("endpoints[0].hints.forNodes[1].name", |s| s.endpoints[0].hints = Some(hints(&[], &["node", "N"])),
            |s| s.endpoints[0].hints = Some(hints(&[], &["node"]))),
        ("endpoints[1].addresses[1]", |s| s.endpoints[1].addresses.push("::ffff:10.0.0.9/32".into()), |_| {}),
        ("endpoints[0].addresses[2]", |s| s.endpoints[0].addresses.push("10.0.0.1:80".into()), |_| {}),
    ];
    for (path, spoil, remove) in rows {
        let (mut spoilt, mut without) = (good(), good());
        spoil(&mut spoilt);
        remove(&mut without);
        let found = spoilt.convert().expect("a name");
        let warned: Vec<_> = found.warnings.iter().map(|w| (w.path(), w.kind())).collect();
        assert_eq!(warned, [(path, FieldErrorKind::Ignored)], "{path}");
        assert_eq!(found.object, without.convert().expect("a name").object, "{path}");
    }

    for kind in ["FQDN", "IP", ""] {
        let mut named = good();
        named.address_type = kind.into();
        let named = named.convert().expect("a name").object;
        assert_eq!((named.family, named.ports().len()), (None, 2), "{kind}");
        assert_eq!(EndpointSlice::from(&named).address_type, "FQDN", "{kind}");
    }

    let mut lenient = good();
    lenient.endpoints[0].addresses = vec!["010.000.000.01".into(), "::ffff:10.0.0.2".into()];
    assert_eq!(converted(&lenient), converted(&good()), "as kube-proxy reads them");
    lenient.address_type = "IPv6".into();
    let found = lenient.convert().expect("a name");
    let warned: Vec<&str> = found.warnings.iter().map(FieldError::path).collect();
    assert_eq!(warned, ["endpoints[0].addresses[0]", "endpoints[0].addresses[1]", "endpoints[1].addresses[0]"]);
    assert_eq!(found.object.endpoints(), []);
}

#[test]
fn what_a_slice_cannot_do_without() {
    type Change = fn(&mut EndpointSlice);
    let label = "metadata.labels[kubernetes.io/service-name]";
    let rows: [(Change, &str, FieldErrorKind); 6] = [
        (|s| drop(s.metadata.labels.remove(SERVICE_NAME_LABEL)), label, FieldErrorKind::Required),
        (
            |s| drop(s.metadata.labels.insert(SERVICE_NAME_LABEL.into(), String::new())),
            label,
            FieldErrorKind::Required,
        ),
        (
            |s| drop(s.metadata.labels.insert(SERVICE_NAME_LABEL.into(), "Web".into())),
            label,
            FieldErrorKind::Invalid,
        ),
        (|s| s.metadata.name.clear(), "metadata.name", FieldErrorKind::Required),
        (|s| s.metadata.namespace = "a.b".into(), "metadata.namespace", FieldErrorKind::Invalid),
        (
            |s| {
                s.metadata.namespace.clear();
                s.metadata.labels.clear();
            },
            "metadata.namespace",
            FieldErrorKind::Required,
        ),
    ];
    for (change, path, kind) in rows {
        let mut slice = good();
        change(&mut slice);
        let error = slice.convert().expect_err("no slice of a Service");
        assert_eq!((error.path(), error.kind()), (path, kind), "{error}");
    }
    let mut slice = good();
    slice.metadata.labels.clear();
    let error = slice.convert().expect_err("no slice of a Service");
    assert_eq!(
        error.to_string(),
        "metadata.labels[kubernetes.io/service-name]: required value: must not be empty"
    );
}

/// A subset without usable ports or addresses stays one, an address in both lists stays in both.
#[test]
fn endpoints_stay_as_they_are() {
    let mut mirror = Endpoints::default();
    (mirror.metadata.namespace, mirror.metadata.name) = ("ns".into(), "svc".into());
    mirror.metadata.deletion_timestamp = "2026-03-01T12:00:00Z".into();
    let mut address = svcplane::k8s::EndpointAddress::default();
    address.ip = "10.0.0.1".into();
    let mut port = svcplane::k8s::EndpointPort::default();
    (port.port, port.protocol) = (80, "TCP".into());
    let mut subset = svcplane::k8s::EndpointSubset::default();
    (subset.addresses, subset.not_ready_addresses) = (vec![address.clone()], vec![address]);
    subset.ports = vec![port.clone(), port];
    mirror.subsets = vec![subset, svcplane::k8s::EndpointSubset::default()];
    let converted = mirror.convert().expect("a name");
    assert_eq!(converted.warnings, []);
    assert!(converted.object.deleted.is_some());
    assert_eq!(Endpoints::from(&converted.object), mirror);
}

/// Mostly one of the first, sometimes one of the others.
fn mostly(
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> impl Strategy<Value = String> {
    prop_oneof![12 => select(good), 1 => select(bad)].prop_map(str::to_owned)
}

fn any_endpoint() -> impl Strategy<Value = SliceEndpoint> {
    let address =
        mostly(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], &["fd00::1", "010.0.0.01", "", "x"]);
    let addresses = prop_oneof![9 => vec(address, 1..3), 1 => Just(Vec::new())];
    let conditions =
        (option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>()));
    let names = (
        option::of(mostly(&["host-1", "host-2"], &["", "-", "a.b"])),
        option::of(mostly(&["node-1", "node.2"], &["", "*"])),
        option::of(mostly(&["a", "b"], &["", "a zone"])),
    );
    let target = option::of((
        select(&["Pod", ""][..]),
        select(&["x", "y", ""][..]),
        select(&["", "1", "2"][..]),
    ));
    let zones = vec(mostly(&["a", "b"], &["", "a zone"]), 0..3);
    let wanted = option::of((zones, vec(mostly(&["node-1", "node.2"], &["", "*"]), 0..3)));
    (addresses, conditions, names, target, wanted).prop_map(
        |(addresses, conditions, names, target, wanted)| {
            let mut endpoint = SliceEndpoint::default();
            endpoint.addresses = addresses;
            (
                endpoint.conditions.ready,
                endpoint.conditions.serving,
                endpoint.conditions.terminating,
            ) = conditions;
            (endpoint.hostname, endpoint.node_name, endpoint.zone) = names;
            endpoint.target_ref = target.map(|(kind, name, uid)| {
                let mut reference = ObjectReference::default();
                (reference.kind, reference.name, reference.uid) =
                    (kind.into(), name.into(), uid.into());
                reference
            });
            endpoint.hints = wanted.map(|(zones, nodes)| hints(&zones, &nodes));
            endpoint
        },
    )
}

fn any_port() -> impl Strategy<Value = SlicePort> {
    let name = option::of(mostly(&["", "http", "a-1"], &["A", "a.b"]));
    let protocol = option::of(mostly(&["TCP", "UDP", "SCTP"], &["", "tcp"]));
    let number = prop_oneof![12 => (1..=65_535).prop_map(Some), 1 => select(&[None, Some(0), Some(65_536), Some(-1)][..])];
    (name, protocol, number, option::of(select(&["", "h3"][..]))).prop_map(
        |(name, protocol, number, app)| {
            let mut port = SlicePort::default();
            (port.name, port.protocol, port.port) = (name, protocol, number);
            port.app_protocol = app.map(Into::into);
            port
        },
    )
}

fn any_slice() -> impl Strategy<Value = EndpointSlice> {
    let names = (
        mostly(&["default", "kube-system"], &["", "A"]),
        mostly(&["web-a", "web-b", "a.1"], &["", "A"]),
        option::weighted(0.95, mostly(&["web", "a.1"], &["", "A"])),
    );
    let labels = btree_map(
        select(&[MANAGED_BY_LABEL, HEADLESS_LABEL, "a"][..]),
        select(&["", "x"][..]),
        0..3,
    );
    let times = mostly(&["", "2026-03-01T12:00:00Z"], &["yesterday"]);
    let owner = (option::of(any::<bool>()), select(&["", "1"][..]));
    let family = mostly(&["IPv4", "IPv4", "IPv6"], &["FQDN", "", "IP"]);
    let rest = (labels, times, vec(owner, 0..3), any::<i64>());
    (names, rest, family, vec(any_endpoint(), 0..4), vec(any_port(), 0..3)).prop_map(
        |(
            (namespace, name, service),
            (labels, deleted, owners, generation),
            family,
            endpoints,
            ports,
        )| {
            let mut slice = EndpointSlice::default();
            let meta = &mut slice.metadata;
            (meta.namespace, meta.name, meta.generation) = (namespace, name, generation);
            meta.deletion_timestamp = deleted;
            meta.labels =
                labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            meta.annotations = meta.labels.clone();
            meta.labels.extend(service.map(|service| (SERVICE_NAME_LABEL.into(), service)));
            for (controller, uid) in owners {
                let mut owner = OwnerReference::default();
                (owner.controller, owner.uid) = (controller, uid.into());
                meta.owner_references.push(owner);
            }
            (slice.address_type, slice.endpoints, slice.ports) = (family, endpoints, ports);
            slice
        },
    )
}

/// Once through and back: the same object, and no warning.
macro_rules! check_round_trip {
    ($mirror:expr, $type:ty) => {
        if let Ok(first) = $mirror.convert() {
            let back = <$type>::from(&first.object);
            let second = back.convert().expect("a name");
            let warned: Vec<&str> = second.warnings.iter().map(FieldError::path).collect();
            prop_assert!(warned.is_empty(), "{warned:?}: {back:#?}");
            prop_assert_eq!(&second.object, &first.object, "{:#?}", back);
            prop_assert_eq!(<$type>::from(&second.object), back);
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_a_slice_exports_converts_to_itself(mirror in any_slice()) {
        check_round_trip!(mirror, EndpointSlice);
    }

    #[test]
    fn what_endpoints_export_converts_to_themselves(mirror in k8s::endpoints()) {
        check_round_trip!(mirror, Endpoints);
    }

    #[test]
    fn absent_means_the_default(mut slice in any_slice(), mut endpoints in k8s::endpoints()) {
        let before = (slice.convert().map(|c| c.object), endpoints.convert().map(|c| c.object));
        slice.set_defaults();
        endpoints.set_defaults();
        let after = (slice.convert().map(|c| c.object), endpoints.convert().map(|c| c.object));
        prop_assert_eq!(before, after);
    }

    /// What has no mistakes is read without warnings, but for names, ports without number and times.
    #[test]
    fn what_is_valid_is_understood(mut slice in any_slice(), mut endpoints in k8s::endpoints()) {
        let read = |warning: &&FieldError| {
            let path = warning.path();
            !path.starts_with("metadata") && path != "addressType" && !path.ends_with(']')
        };
        slice.set_defaults();
        if let (true, Ok(converted)) = (slice.validate().is_empty(), slice.convert()) {
            prop_assert_eq!(converted.warnings.iter().find(read), None);
        }
        endpoints.set_defaults();
        if let (true, Ok(converted)) = (endpoints.validate().is_empty(), endpoints.convert()) {
            prop_assert_eq!(converted.warnings.iter().find(read), None);
        }
    }

    /// Any slices, merged and written: nothing panics, and what the mirrors of any Endpoints say is what they say.
    #[test]
    fn slices_of_any_kind(
        slices in vec(any_slice(), 0..4),
        endpoints in k8s::endpoints(),
        nodes in vec(k8s::node(), 0..3),
        service in k8s::service(),
    ) {
        let slices: Vec<_> = slices.iter().filter_map(|slice| Some(slice.convert().ok()?.object)).collect();
        let nodes = nodes.iter().filter_map(|node: &Node| Some(node.convert().ok()?.object)).collect();
        let Ok(service) = service.convert().map(|converted| converted.object) else { return Ok(()) };
        let set = EndpointSet::merge(service.name.clone(), &slices);
        let writes = SliceWrites::new(&service, &set, &nodes, &slices, &Packing::default());
        prop_assert!(writes.creates.iter().all(|slice| slice.service == service.name));

        let Ok(endpoints) = endpoints.convert().map(|converted| converted.object) else { return Ok(()) };
        let plain = Service::new(endpoints.name.clone());
        let packing = Packing::mirroring();
        let writes = SliceWrites::mirror(&endpoints.name, Some(&plain), Some(&endpoints), &slices, &packing);
        for slice in writes.creates.iter().chain(&writes.updates) {
            let again = EndpointSlice::from(slice).convert().expect("a name");
            prop_assert_eq!(&again.warnings, &[]);
            prop_assert_eq!(&again.object, slice);
        }
        let writes = SliceWrites::mirror(&endpoints.name, Some(&plain), Some(&endpoints), [], &packing);
        if endpoints.deleted.is_none() {
            let merged = EndpointSet::merge(endpoints.name.clone(), &writes.creates);
            prop_assert_eq!(merged, EndpointSet::from(&endpoints));
        }
    }
}
