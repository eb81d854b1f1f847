//! The older Endpoints: which addresses they have, their canonical form, their size, and when they are written.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::sample::select;
use svcplane::endpoints::{Address, EndpointPort, EndpointSet, Endpoints, Reference, Subset};
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::pod::{ContainerPort, Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServiceKind, ServicePort, TargetPort};
use svcplane::time::Timestamp;

const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const HEADLESS: &str = "service.kubernetes.io/headless";

fn name(name: &str) -> ObjectName {
    ObjectName::new("ns", name).expect("a name")
}

fn service() -> Service {
    let mut service = Service::new(name("svc"));
    service.selector = Labels::from_iter([("app", "x")]);
    service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.1".parse().expect("an address")]);
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort::new(80)];
    service
}

fn pod(pod: &str, ips: &[&str]) -> Pod {
    let mut pod = Pod::new(name(pod));
    pod.uid = pod.name.name().into();
    pod.labels = Labels::from_iter([("app", "x")]);
    (pod.phase, pod.ready) = (Phase::Running, true);
    pod.ips = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
    pod
}

fn resolve(service: &Service, pods: &[Pod]) -> Endpoints {
    Endpoints::resolve(service, pods, None).expect("a selector")
}

/// An address as text: `!` if it is not ready, the address, `/` and the uid of what is behind, `=` and its name.
fn address(text: &str) -> (bool, Address) {
    let (ready, text) = text.strip_prefix('!').map_or((true, text), |text| (false, text));
    let (text, target) =
        text.split_once('=').map_or((text, None), |(ip, name)| (ip, Some((name, ""))));
    let (ip, target) =
        text.split_once('/').map_or((text, target), |(ip, uid)| (ip, Some(("", uid))));
    let mut address = Address::new(ip.parse().expect("an address"));
    address.target = target.map(|(target, uid)| {
        let mut reference = Reference::new("Pod", &name("x"), uid);
        reference.name = target.into();
        reference
    });
    (ready, address)
}

/// A subset as text: addresses, a colon, ports with or without name (`http=80`), of TCP but for `53/UDP`.
pub(super) fn subset(text: &str) -> Subset {
    let (addresses, ports) = text.split_once(" : ").unwrap_or((text, ""));
    let mut subset = Subset::default();
    for (ready, address) in addresses.split_whitespace().map(address) {
        if ready { &mut subset.addresses } else { &mut subset.not_ready }.push(address);
    }
    subset.ports = ports.split_whitespace().map(port).collect();
    subset
}

fn port(text: &str) -> EndpointPort {
    let (name, number) = text.split_once('=').unwrap_or(("", text));
    let (number, protocol) = number.split_once('/').unwrap_or((number, "TCP"));
    let mut port = EndpointPort::new(number.parse().expect("a number"));
    port.protocol = protocol.parse().expect("a protocol");
    port.name = (!name.is_empty()).then(|| name.parse().expect("a label"));
    port
}

fn endpoints(subsets: &[&str]) -> Endpoints {
    let mut endpoints = Endpoints::new(name("svc"));
    endpoints.subsets = subsets.iter().map(|text| subset(text)).collect();
    endpoints
}

fn repacked(mut endpoints: Endpoints) -> Endpoints {
    endpoints.repack();
    endpoints
}

/// The subsets as they are.
fn texts(endpoints: &Endpoints) -> Vec<String> {
    let target = |address: &Address| match &address.target {
        None => String::new(),
        Some(target) if target.name.is_empty() => format!("/{}", target.uid),
        Some(target) => format!("={}", target.name),
    };
    let words = |subset: &Subset| -> String {
        let ready = subset.addresses.iter().map(|a| format!("{}{} ", a.ip, target(a)));
        let not = subset.not_ready.iter().map(|a| format!("!{}{} ", a.ip, target(a)));
        let ports = subset.ports.iter().map(|port| match &port.name {
            None => format!(" {}", port.port),
            Some(name) => format!(" {name}={}", port.port),
        });
        ready.chain(not).chain([":".to_owned()]).chain(ports).collect()
    };
    endpoints.subsets.iter().map(words).collect()
}

/// Kubernetes `pkg/api/v1/endpoints/util_test.go`, `TestPackSubsets`; addresses without ports as in newer versions, which
/// keep them. The last rows are not there.
#[test]
#[rustfmt::skip]
fn canonical_form() {
    let rows: [(&str, &[&str], &[&str]); 41] = [
        ("empty everything", &[" : "], &[]),
        ("empty addresses", &[" : 111"], &[]),
        ("empty ports", &["1.2.3.4 : "], &["1.2.3.4 :"]),
        ("empty ports, not ready", &["!1.2.3.4 : "], &["!1.2.3.4 :"]),
        ("one ip, one port", &["1.2.3.4 : 111"], &["1.2.3.4 : 111"]),
        ("one ip, one port, IPv6", &["beef::1:2:3:4 : 111"], &["beef::1:2:3:4 : 111"]),
        ("one ip not ready", &["!1.2.3.4 : 111"], &["!1.2.3.4 : 111"]),
        ("one uid", &["1.2.3.4/uid-1 : 111"], &["1.2.3.4/uid-1 : 111"]),
        ("one uid not ready", &["!1.2.3.4/uid-1 : 111"], &["!1.2.3.4/uid-1 : 111"]),
        ("empty uid", &["1.2.3.4/ : 111"], &["1.2.3.4/ : 111"]),
        ("empty uid not ready", &["!1.2.3.4/ : 111"], &["!1.2.3.4/ : 111"]),
        ("two ips", &["1.2.3.4 5.6.7.8 : 111"], &["1.2.3.4 5.6.7.8 : 111"]),
        ("two ips, one not ready", &["1.2.3.4 !5.6.7.8 : 111"], &["1.2.3.4 !5.6.7.8 : 111"]),
        ("one ip, ready and not", &["1.2.3.4 !1.2.3.4 : 111"], &["!1.2.3.4 : 111"]),
        ("two ports", &["1.2.3.4 : 111 222"], &["1.2.3.4 : 111 222"]),
        ("one ip twice", &["1.2.3.4 1.2.3.4 : 111"], &["1.2.3.4 : 111"]),
        ("one ip twice, IPv6", &["beef::1 beef::1 : 111"], &["beef::1 : 111"]),
        ("one ip twice, two targets", &["1.2.3.4=foo 1.2.3.4=bar : 111"], &["1.2.3.4=foo : 111"]),
        ("one ip, two targets, one not ready", &["1.2.3.4=foo !1.2.3.4=bar : 111"], &["!1.2.3.4=foo : 111"]),
        ("one port twice", &["1.2.3.4 : 111 111"], &["1.2.3.4 : 111"]),
        ("two sets, one ip, one port", &["1.2.3.4 : 111", "1.2.3.4 : 111"], &["1.2.3.4 : 111"]),
        ("two sets, one ip ready and not", &["1.2.3.4 : 111", "!1.2.3.4 : 111"], &["!1.2.3.4 : 111"]),
        ("two sets, one ip, two ports", &["1.2.3.4 : 111", "1.2.3.4 : 222"], &["1.2.3.4 : 111 222"]),
        ("two sets, one uid, two ports", &["1.2.3.4/uid-1 : 111", "1.2.3.4/uid-1 : 222"], &["1.2.3.4/uid-1 : 111 222"]),
        ("two sets, one uid ready and not, two ports", &["1.2.3.4/uid-1 : 111", "!1.2.3.4/uid-1 : 222"],
            &["1.2.3.4/uid-1 : 111", "!1.2.3.4/uid-1 : 222"]),
        ("two sets, two ips, one port", &["1.2.3.4 : 111", "5.6.7.8 : 111"], &["1.2.3.4 5.6.7.8 : 111"]),
        ("two sets, one ip, two uids", &["1.2.3.4/uid-1 : 111", "1.2.3.4/uid-2 : 111"], &["1.2.3.4/uid-1 1.2.3.4/uid-2 : 111"]),
        ("two sets, with and without uid", &["1.2.3.4 : 111", "1.2.3.4/uid-2 : 111"], &["1.2.3.4 1.2.3.4/uid-2 : 111"]),
        ("wrong order", &["5.6.7.8 : 111", "5.6.7.8/uid-1 : 111", "1.2.3.4/uid-1 : 111", "1.2.3.4 : 111"],
            &["1.2.3.4 1.2.3.4/uid-1 5.6.7.8 5.6.7.8/uid-1 : 111"]),
        ("wrong order, some not ready", &["5.6.7.8 : 111", "!5.6.7.8/uid-1 : 111", "!1.2.3.4/uid-1 : 111", "!1.2.3.4 : 111"],
            &["5.6.7.8 !1.2.3.4 !1.2.3.4/uid-1 !5.6.7.8/uid-1 : 111"]),
        ("two sets, two ips, two ports", &["1.2.3.4 : 111", "5.6.7.8 : 222"], &["1.2.3.4 : 111", "5.6.7.8 : 222"]),
        ("jumbled", &["1.2.3.4 : 111", "1.2.3.5 : 222", "1.2.3.6 : 111", "1.2.3.5 : 333"],
            &["1.2.3.4 1.2.3.6 : 111", "1.2.3.5 : 222 333"]),
        ("jumbled, some not ready", &["1.2.3.4 : 111", "!1.2.3.5 : 222", "1.2.3.6 : 111", "!1.2.3.5 : 333"],
            &["1.2.3.4 1.2.3.6 : 111", "!1.2.3.5 : 222 333"]),
        ("no target, then one without uid", &["1.2.3.4 : 111", "1.2.3.4=foo : 111"], &["1.2.3.4 : 111"]),
        ("one without uid, then none", &["1.2.3.4=foo 1.2.3.4 : 111"], &["1.2.3.4=foo : 111"]),
        ("the first record elsewhere", &["1.2.3.4=foo : 111", "!1.2.3.4=bar : 222"], &["1.2.3.4=foo : 111", "!1.2.3.4=foo : 222"]),
        ("by text", &["10.0.0.9 10.0.0.10 : 111"], &["10.0.0.10 10.0.0.9 : 111"]),
        ("by text over families", &["beef::1 1.2.3.4 : 111"], &["1.2.3.4 beef::1 : 111"]),
        ("with and without ports", &["1.2.3.4 : ", "1.2.3.4 : 111", "1.2.3.5 : "], &["1.2.3.4 1.2.3.5 :", "1.2.3.4 : 111"]),
        ("the same without ports", &["1.2.3.4 : 111", "1.2.3.4 : "], &["1.2.3.4 : 111"]),
        ("named ports", &["1.2.3.5 : b=1 a=2", "1.2.3.4 : 3"], &["1.2.3.4 : 3", "1.2.3.5 : a=2 b=1"]),
    ];
    for (name, given, expected) in rows {
        let once = repacked(endpoints(given));
        assert_eq!(texts(&once), expected, "{name}");
        assert_eq!(repacked(once.clone()), once, "{name}: twice");
    }
    let udp = repacked(endpoints(&["1.2.3.4 : 53/UDP", "1.2.3.5 : 53"]));
    assert_eq!(udp.subsets, endpoints(&["1.2.3.5 : 53", "1.2.3.4 : 53/UDP"]).subsets);
    let mut http = endpoints(&["1.2.3.4 : 80", "1.2.3.5 : 80"]);
    http.subsets[1].ports[0].app_protocol = Some("http".into());
    assert_eq!(texts(&repacked(http)), ["1.2.3.4 : 80", "1.2.3.5 : 80"], "two application protocols");
}

/// Kubernetes `pkg/controller/endpoint/endpoints_controller_test.go`, `TestTruncateEndpoints`. The last rows are by hand from
/// the rule: each subset its share, rounded up as long as there is room; one of which nothing stays goes.
#[test]
fn truncation() {
    type Row<'a> = (&'a [usize], &'a [usize], &'a [usize], &'a [usize], bool);
    let rows: [Row; 13] = [
        (&[], &[], &[], &[], false),
        (
            &[50, 100, 100, 100, 100],
            &[50, 100, 100, 100, 100],
            &[50, 100, 100, 100, 100],
            &[50, 100, 100, 100, 100],
            false,
        ),
        (&[100; 5], &[100; 5], &[100; 5], &[100; 5], false),
        (
            &[90, 110, 50, 10, 20],
            &[101, 200, 200, 201, 298],
            &[90, 110, 50, 10, 20],
            &[73, 144, 144, 145, 214],
            true,
        ),
        (
            &[205, 400, 402, 400, 693],
            &[100, 200, 200, 200, 300],
            &[98, 191, 192, 191, 328],
            &[0; 5],
            true,
        ),
        (&[1100], &[0], &[1000], &[0], true),
        (&[500], &[600], &[500], &[500], true),
        (&[1000], &[1], &[1000], &[0], true),
        (&[1000], &[0], &[1000], &[0], false),
        (&[0, 1], &[1000, 0], &[0, 1], &[999, 0], true),
        (&[1, 1, 1998], &[0; 3], &[1, 1, 998], &[0; 3], true),
        (&[999, 2], &[5, 5], &[999, 1], &[0, 0], true),
        (&[1100, 0], &[0, 5], &[1000], &[0], true),
    ];
    for (ready, not_ready, kept, kept_not_ready, truncated) in rows {
        let ip = |i: usize| {
            let low = u32::try_from(i).expect("a small number");
            Address::new(Ipv4Addr::from(0x0a00_0000 + low).into())
        };
        let mut endpoints = endpoints(&[]);
        endpoints.annotations = Labels::from_iter([(OVER_CAPACITY, "old"), ("other", "stays")]);
        for (&ready, &not_ready) in ready.iter().zip(not_ready) {
            let mut subset = Subset::default();
            subset.addresses = (0..ready).map(ip).collect();
            subset.not_ready = (0..not_ready).map(ip).collect();
            endpoints.subsets.push(subset);
        }
        let whole = endpoints.subsets.clone();
        endpoints.truncate();
        let sizes: Vec<_> =
            endpoints.subsets.iter().map(|s| (s.addresses.len(), s.not_ready.len())).collect();
        let expected: Vec<_> = kept.iter().copied().zip(kept_not_ready.iter().copied()).collect();
        assert_eq!(sizes, expected, "{ready:?} {not_ready:?}");
        for (subset, whole) in endpoints.subsets.iter().zip(&whole) {
            assert!(whole.addresses.starts_with(&subset.addresses), "{ready:?}");
            assert!(whole.not_ready.starts_with(&subset.not_ready), "{ready:?}");
        }
        let mark = truncated.then_some((OVER_CAPACITY, "truncated"));
        let expected: Labels = mark.into_iter().chain([("other", "stays")]).collect();
        assert_eq!(endpoints.annotations, expected, "{ready:?} {not_ready:?}");
    }
}

/// Kubernetes `pkg/controller/endpoint/endpoints_controller_test.go`, `TestSyncServiceAddresses`.
#[test]
#[rustfmt::skip]
fn pods_that_count() {
    use Phase::{Failed, Pending, Running, Succeeded, Unknown};
    for (published, phase, ready, deleted, expected) in [
        (false, Running, true, false, (1, 0)),
        (false, Running, true, true, (0, 0)),
        (false, Unknown, true, false, (1, 0)),
        (false, Unknown, true, true, (0, 0)),
        (false, Pending, true, false, (1, 0)),
        (false, Pending, true, true, (0, 0)),
        (false, Unknown, false, false, (0, 1)),
        (false, Pending, false, false, (0, 1)),
        (false, Failed, false, false, (0, 0)),
        (false, Succeeded, false, false, (0, 0)),
        (true, Running, false, false, (1, 0)),
        (true, Running, false, true, (1, 0)),
        (true, Unknown, false, false, (1, 0)),
        (true, Unknown, false, true, (1, 0)),
        (true, Pending, false, false, (1, 0)),
        (true, Pending, false, true, (1, 0)),
        (true, Failed, false, false, (0, 0)),
        (true, Succeeded, false, false, (0, 0)),
    ] {
        let mut service = service();
        service.publish_not_ready_addresses = published;
        let mut pod = pod("pod", &["10.1.1.1"]);
        (pod.phase, pod.ready, pod.deleted) = (phase, ready, deleted.then(Timestamp::default));
        let endpoints = resolve(&service, &[pod]);
        let found = endpoints.subsets.iter().fold((0, 0), |(ready, not_ready), subset| {
            (ready + subset.addresses.len(), not_ready + subset.not_ready.len())
        });
        assert_eq!(found, expected, "{phase:?}, ready {ready}, deleted {deleted}, published {published}");
    }
}

/// One family only: the first that is stated, else the cluster IP's, else that of the pod's first address.
#[test]
fn one_family() {
    type Row<'a> = (&'a [IpFamily], Option<&'a str>, &'a [&'a str], Option<&'a str>);
    let (v4, v6) = (IpFamily::V4, IpFamily::V6);
    let (pod4, pod6): (&[&str], &[&str]) = (&["10.0.0.1", "fd00::1"], &["fd00::1", "10.0.0.1"]);
    let rows: [Row; 10] = [
        (&[v4], None, pod6, Some("10.0.0.1")),
        (&[v6, v4], None, pod4, Some("fd00::1")),
        (&[v6], Some("10.96.0.1"), pod4, Some("fd00::1")),
        (&[], Some("10.96.0.1"), pod6, Some("10.0.0.1")),
        (&[], Some("fd96::1"), pod4, Some("fd00::1")),
        (&[], None, pod4, Some("10.0.0.1")),
        (&[], None, pod6, Some("fd00::1")),
        (&[v6], None, &["10.0.0.1"], None),
        (&[v4], None, &["10.0.0.2", "10.0.0.1"], Some("10.0.0.2")),
        (&[], None, &[], None),
    ];
    for (families, cluster_ip, ips, expected) in rows {
        let mut service = service();
        service.ip_families = families.to_vec();
        let cluster_ip = cluster_ip.map(|ip| vec![ip.parse().expect("an address")]);
        for unassigned in [ClusterIps::Headless, ClusterIps::Unassigned] {
            service.cluster_ips = cluster_ip.clone().map_or(unassigned, ClusterIps::Assigned);
            let endpoints = resolve(&service, &[pod("pod", ips)]);
            let found = endpoints.subsets.iter().flat_map(|subset| &subset.addresses);
            let found: Vec<String> = found.map(|address| address.ip.to_string()).collect();
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(found, expected, "{families:?} {cluster_ip:?} {ips:?}");
        }
    }
}

/// What each of two pods, of which one has a port `web`, is under which ports.
#[test]
fn ports_of_pods() {
    let mut web = ContainerPort::new(8080);
    web.name = Some("web".parse().expect("a port name"));
    let (mut with, without) = (pod("with", &["10.0.0.1"]), pod("without", &["10.0.0.2"]));
    with.ports = vec![web];
    let pods = [with, without];
    let named = |name: &str, number: u16, target: TargetPort| {
        let mut port = ServicePort::new(number);
        port.name = (!name.is_empty()).then(|| name.parse().expect("a label"));
        port.target = target;
        port
    };
    let (web, number) = (|| TargetPort::Name("web".into()), TargetPort::Number(9090));
    let two = vec![named("http", 80, web()), named("admin", 90, number.clone())];
    let rows: [(&str, ClusterIps, Vec<ServicePort>, &[&str]); 6] = [
        (
            "a number",
            ClusterIps::Headless,
            vec![named("", 80, number)],
            &["10.0.0.1/with 10.0.0.2/without : 9090"],
        ),
        ("a name", service().cluster_ips, vec![named("", 80, web())], &["10.0.0.1/with : 8080"]),
        (
            "both",
            service().cluster_ips,
            two,
            &["10.0.0.1/with 10.0.0.2/without : admin=9090", "10.0.0.1/with : http=8080"],
        ),
        ("none, headless", ClusterIps::Headless, vec![], &["10.0.0.1/with 10.0.0.2/without :"]),
        ("none, unassigned", ClusterIps::Unassigned, vec![], &[]),
        ("none", service().cluster_ips, vec![], &[]),
    ];
    for (name, cluster_ips, ports, expected) in rows {
        let mut service = service();
        (service.cluster_ips, service.ports) = (cluster_ips, ports);
        let mut endpoints = resolve(&service, &pods);
        let addresses = endpoints.subsets.iter_mut().flat_map(|subset| &mut subset.addresses);
        addresses
            .filter_map(|address| address.target.as_mut())
            .for_each(|target| target.name = "".into());
        assert_eq!(texts(&endpoints), expected, "{name}");
    }
}

#[test]
fn what_an_address_says() {
    let mut pod = pod("pod", &["10.0.0.1"]);
    pod.node = Some("node".parse().expect("a name"));
    pod.hostname = Some("host".parse().expect("a label"));
    pod.subdomain = Some("svc".parse().expect("a label"));
    let endpoints = resolve(&service(), &[pod.clone()]);
    let mut expected = Address::new("10.0.0.1".parse().expect("an address"));
    expected.hostname = pod.hostname.clone();
    expected.node = pod.node.clone();
    expected.target = Some(Reference::new("Pod", &pod.name, "pod"));
    assert_eq!(endpoints.subsets[0].addresses, [expected]);
    assert_eq!((endpoints.name, endpoints.uid), (name("svc"), "".into()));

    pod.subdomain = Some("other".parse().expect("a label"));
    assert_eq!(resolve(&service(), &[pod]).subsets[0].addresses[0].hostname, None);
    let mut other = self::pod("other", &["10.0.0.2"]);
    other.name = ObjectName::new("other", "other").expect("a name");
    assert_eq!(resolve(&service(), &[other]).subsets, []);
}

/// Only selectors are resolved; labels are the Service's, but the headless one says what it is; annotations are the
/// controller's.
#[test]
fn what_the_object_says() {
    let pods = [pod("pod", &["10.0.0.1"])];
    let mut without = service();
    without.selector = Labels::default();
    assert_eq!(Endpoints::resolve(&without, &pods, None), None);
    let mut external = service();
    external.kind = ServiceKind::ExternalName("example.com".into());
    assert_eq!(Endpoints::resolve(&external, &pods, None), None);

    let (a, mark): ([(&str, &str); 1], _) = ([("a", "b")], (HEADLESS, ""));
    for (cluster_ips, own, expected) in [
        (service().cluster_ips, vec![], vec![]),
        (service().cluster_ips, a.to_vec(), a.to_vec()),
        (service().cluster_ips, vec![a[0], (HEADLESS, "x")], a.to_vec()),
        (ClusterIps::Headless, a.to_vec(), vec![a[0], mark]),
        (ClusterIps::Headless, vec![(HEADLESS, "x")], vec![mark]),
        (ClusterIps::Unassigned, vec![], vec![mark]),
    ] {
        let mut service = service();
        service.cluster_ips = cluster_ips;
        service.labels = own.into_iter().collect();
        service.annotations = Labels::from_iter([("not", "copied")]);
        let endpoints = resolve(&service, &pods);
        assert_eq!(endpoints.labels, Labels::from_iter(expected), "{service:?}");
        assert_eq!(endpoints.annotations, Labels::default());
    }

    let time = "2026-03-01T12:00:00Z";
    let timed = Endpoints::resolve(&service(), &pods, Some(time.parse().expect("a time")));
    let key = "endpoints.kubernetes.io/last-change-trigger-time";
    assert_eq!(timed.expect("a selector").annotations, Labels::from_iter([(key, time)]));

    let ips: Vec<String> = (0..1001).map(|i| format!("10.0.{}.{}", i / 256, i % 256)).collect();
    let many: Vec<Pod> = ips.iter().map(|ip| pod(&format!("p{ip}"), &[ip])).collect();
    let endpoints = resolve(&service(), &many);
    assert_eq!(endpoints.subsets[0].addresses.len(), 1000);
    assert_eq!(endpoints.annotations.get(OVER_CAPACITY), Some("truncated"));
    assert_eq!(resolve(&service(), &many[1..]).annotations, Labels::default());
}

/// What is there is left alone if it says the same, in whatever order.
#[test]
fn writes_that_are_not_needed() {
    type Change = fn(&mut Endpoints);
    let given = ["1.2.3.4/a !1.2.3.5/b : a=1 b=2", "1.2.3.6/c : c=3"];
    let wanted = repacked(endpoints(&given));
    let rows: [(&str, Change, bool); 15] = [
        ("nothing", |_| {}, true),
        (
            "the order of subsets and ports",
            |e| {
                e.subsets.reverse();
                e.subsets[1].ports.reverse();
            },
            true,
        ),
        (
            "subsets cut in two",
            |e| {
                let mut half = e.subsets[0].clone();
                half.ports.truncate(1);
                e.subsets[0].ports.remove(0);
                e.subsets.push(half);
            },
            true,
        ),
        ("the headless label", |e| e.labels = Labels::from_iter([(HEADLESS, "")]), true),
        ("other annotations", |e| e.annotations = Labels::from_iter([("a", "b")]), true),
        ("the uid of the object", |e| e.uid = "x".into(), true),
        ("a label", |e| e.labels = Labels::from_iter([("a", "b")]), false),
        (
            "over capacity",
            |e| e.annotations = Labels::from_iter([(OVER_CAPACITY, "truncated")]),
            false,
        ),
        (
            "an address more",
            |e| e.subsets[1].addresses.push(Address::new([1, 2, 3, 7].into())),
            false,
        ),
        ("an address less", |e| e.subsets[0].not_ready.clear(), false),
        ("another pod", |e| e.subsets[1] = subset("1.2.3.6/d : c=3"), false),
        ("not ready", |e| e.subsets[1] = subset("!1.2.3.6/c : c=3"), false),
        (
            "another node",
            |e| e.subsets[1].addresses[0].node = Some("n".parse().expect("a name")),
            false,
        ),
        ("another port", |e| e.subsets[1].ports[0].port = 4, false),
        ("no port", |e| e.subsets[1].ports.clear(), false),
    ];
    for (name, change, said) in rows {
        let mut current = wanted.clone();
        change(&mut current);
        assert_eq!(wanted.is_said_by(&current), said, "{name}");
        assert_eq!(current.is_said_by(&wanted), said, "{name}, the other way round");
    }
}

/// The same statements, as far as each says: an address with its uid, a port, whether it is ready there.
type Statements = BTreeMap<(String, String, String), bool>;

fn statements(endpoints: &Endpoints) -> Statements {
    let mut found = Statements::new();
    for subset in &endpoints.subsets {
        let ready = subset.addresses.iter().map(|address| (address, true));
        let not_ready = subset.not_ready.iter().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready) {
            let uid = address.target.as_ref().map_or("", |target| &*target.uid);
            let mut ports: Vec<String> = subset
                .ports
                .iter()
                .map(|port| format!("{}/{}", port.port, port.protocol))
                .collect();
            if ports.is_empty() {
                ports.push("none".into());
            }
            for port in ports {
                *found.entry((address.ip.to_string(), uid.into(), port)).or_insert(true) &= ready;
            }
        }
    }
    found
}

fn any_subset() -> impl Strategy<Value = Subset> {
    let address = select(vec!["1.2.3.4", "1.2.3.4/u", "1.2.3.5/u", "1.2.3.5/v", "::1"]);
    let marked = (any::<bool>(), address)
        .prop_map(|(ready, text)| if ready { text.into() } else { format!("!{text}") });
    let ports = prop::collection::vec(select(vec!["80", "81", "90"]), 0..3);
    (prop::collection::vec(marked, 0..4), ports).prop_map(|(addresses, ports)| {
        subset(&format!("{} : {}", addresses.join(" "), ports.join(" ")))
    })
}

proptest! {
    /// Statements stay; each port is in one subset, each list of addresses too; order and cutting do not matter.
    #[test]
    fn canonical_forms_say_the_same(
        (subsets, shuffled) in prop::collection::vec(any_subset(), 0..6)
            .prop_flat_map(|subsets| (Just(subsets.clone()), Just(subsets).prop_shuffle())),
    ) {
        let of = |subsets: Vec<Subset>| {
            let mut endpoints = endpoints(&[]);
            endpoints.subsets = subsets;
            endpoints
        };
        let given = of(subsets.clone());
        let canonical = repacked(given.clone());
        let expected = statements(&given);
        // No port is none only where there are no others: with any, the address is said to be there anyway.
        let same = |(key, ready): (&(String, String, String), &bool)| expected.get(key) == Some(ready);
        let found = statements(&canonical);
        prop_assert!(found.iter().all(same), "{:?}", texts(&canonical));
        let lost: Vec<_> = expected.keys().filter(|key| !found.contains_key(*key)).collect();
        prop_assert!(lost.iter().all(|(ip, uid, port)| {
            port == "none" && found.keys().any(|(i, u, _)| (i, u) == (ip, uid))
        }), "{:?}", lost);

        let mut ports: Vec<_> = canonical.subsets.iter().flat_map(|subset| &subset.ports).collect();
        let count = ports.len();
        ports.dedup();
        prop_assert_eq!(ports.len(), count);
        let addresses = |subset: &Subset| (subset.addresses.clone(), subset.not_ready.clone());
        for (i, subset) in canonical.subsets.iter().enumerate() {
            prop_assert!(!subset.addresses.is_empty() || !subset.not_ready.is_empty());
            prop_assert!(canonical.subsets[..i].iter().all(|other| addresses(other) != addresses(subset)));
        }
        prop_assert_eq!(&repacked(of(shuffled.clone())), &canonical);
        prop_assert_eq!(&repacked(canonical.clone()), &canonical);
        prop_assert!(given.is_said_by(&of(shuffled.clone())));
        prop_assert_eq!(EndpointSet::from(&of(shuffled)), EndpointSet::from(&given));

        // What is ready in the set is what is ready in the statements.
        let set = EndpointSet::from(&given);
        for ((ip, uid, port), ready) in &found {
            let stated = set.endpoints().filter(|endpoint| {
                let target = endpoint.target.as_ref().map_or("", |target| &*target.uid);
                let mut ports = endpoint.ports.iter().map(|p| format!("{}/{}", p.port, p.protocol));
                endpoint.ip.to_string() == *ip && target == uid
                    && (ports.any(|p| p == *port) || (endpoint.ports.is_empty() && port == "none"))
            });
            let stated: Vec<bool> = stated.map(|endpoint| endpoint.conditions.ready).collect();
            prop_assert_eq!(stated, [*ready], "{} {} {}", ip, uid, port);
        }
    }
}
