//! Which pods are endpoints, and in what state.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use svcplane::endpoints::{Conditions, Endpoint, EndpointSet, Explanation, Reason, Standing};
use svcplane::k8s;
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::node::{Node, Nodes};
use svcplane::pod::{ContainerPort, Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServiceKind, ServicePort, TargetPort};
use svcplane::time::Timestamp;

fn service() -> Service {
    let mut service = Service::new(ObjectName::new("ns", "svc").expect("a name"));
    service.selector = Labels::from_iter([("app", "x")]);
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort::new(80)];
    service
}

fn pod(name: &str, ip: &str) -> Pod {
    let mut pod = Pod::new(ObjectName::new("ns", name).expect("a name"));
    pod.labels = Labels::from_iter([("app", "x"), ("more", "y")]);
    pod.phase = Phase::Running;
    pod.ready = true;
    pod.ips = vec![ip.parse().expect("an address")];
    pod
}

fn resolve(service: &Service, pods: &[Pod]) -> EndpointSet {
    EndpointSet::resolve(service, pods, &Nodes::default())
}

fn all(set: &EndpointSet) -> Vec<&Endpoint> {
    set.endpoints().collect()
}

fn texts(set: &EndpointSet) -> Vec<String> {
    let addrs = set.port("", Protocol::Tcp).map(|(addr, _)| addr.to_string());
    addrs.collect()
}

/// Kubernetes endpointslice `util/controller_utils_test.go`, `TestShouldPodBeInEndpoints`, with terminating pods.
#[test]
fn pods_that_count() {
    let rows: &[(&str, Phase, &[&str], bool, bool)] = &[
        ("failed", Phase::Failed, &["1.2.3.4"], false, false),
        ("succeeded", Phase::Succeeded, &["1.2.3.4"], false, false),
        ("running without address", Phase::Running, &[], false, false),
        ("pending", Phase::Pending, &["1.2.3.4"], false, true),
        ("unknown", Phase::Unknown, &["1.2.3.4"], false, true),
        ("running", Phase::Running, &["1.2.3.4"], false, true),
        (
            "running with two addresses",
            Phase::Running,
            &["1.2.3.4", "1234::5678:0:0:9abc:def0"],
            false,
            true,
        ),
        ("running, being deleted", Phase::Running, &["1.2.3.4"], true, true),
    ];
    for (name, phase, ips, deleted, expected) in rows {
        for publish in [false, true] {
            let mut service = service();
            service.publish_not_ready_addresses = publish;
            let mut pod = pod("a", "0.0.0.0");
            pod.phase = *phase;
            pod.ips = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
            pod.deleted = deleted.then_some(Timestamp::default());
            let set = resolve(&service, &[pod]);
            assert_eq!(set.endpoints().count() == 1, *expected, "{name}, publish {publish}");
        }
    }
}

/// Kubernetes endpointslice `utils_test.go`, `TestPodToEndpoint`; the rows without a test there follow from the
/// rule ready = publish or (serving and not terminating).
#[test]
fn conditions() {
    let rows = [
        // ready pod, deleted, published: ready, serving, terminating
        (true, false, false, [true, true, false]),
        (true, false, true, [true, true, false]),
        (false, false, false, [false, false, false]),
        (false, false, true, [true, false, false]),
        (true, true, false, [false, true, true]),
        (false, true, false, [false, false, true]),
        (true, true, true, [true, true, true]),
        (false, true, true, [true, false, true]),
    ];
    for (pod_ready, deleted, publish, [ready, serving, terminating]) in rows {
        let mut service = service();
        service.publish_not_ready_addresses = publish;
        let mut pod = pod("a", "1.2.3.4");
        pod.ready = pod_ready;
        pod.deleted = deleted.then_some(Timestamp::default());
        let set = resolve(&service, &[pod]);
        let expected = Conditions { ready, serving, terminating };
        assert_eq!(all(&set)[0].conditions, expected, "{pod_ready} {deleted} {publish}");
    }
}

#[test]
fn only_selected_pods_of_the_namespace() {
    let mut other_namespace = pod("a", "1.1.1.1");
    other_namespace.name = ObjectName::new("other", "a").expect("a name");
    let mut other_label = pod("b", "1.1.1.2");
    other_label.labels = Labels::from_iter([("app", "y")]);
    let pods = [other_namespace, other_label, pod("c", "1.1.1.3")];
    assert_eq!(texts(&resolve(&service(), &pods)), ["1.1.1.3:80"]);

    let mut without = service();
    without.selector = Labels::default();
    assert!(resolve(&without, &pods).is_empty(), "no selector selects nothing");
    let mut external = service();
    external.kind = ServiceKind::ExternalName("example.com".into());
    assert!(resolve(&external, &pods).is_empty(), "an ExternalName has no endpoints");
}

/// Kubernetes endpointslice `utils_test.go`, `TestSupportedServiceAddressType`, and the addresses of the families.
#[test]
fn families() {
    let both = ["1.2.3.4", "fd08::1", "1.2.3.5"];
    let (v4, v6) = (IpFamily::V4, IpFamily::V6);
    let rows: &[(&[IpFamily], &[&str], &[&str])] = &[
        (&[], &["10.0.0.10"], &["1.2.3.4"]),
        (&[], &["2000::1"], &["fd08::1"]),
        (&[], &[], &["1.2.3.4", "fd08::1"]),
        (&[v4], &[], &["1.2.3.4"]),
        (&[v6], &[], &["fd08::1"]),
        (&[v4, v6], &[], &["1.2.3.4", "fd08::1"]),
        (&[v6, v4], &[], &["1.2.3.4", "fd08::1"]),
        (&[v4, v6], &["10.0.0.10"], &["1.2.3.4", "fd08::1"]),
    ];
    for (families, cluster_ips, expected) in rows {
        let mut service = service();
        service.ip_families = families.to_vec();
        if !cluster_ips.is_empty() {
            let ips = cluster_ips.iter().map(|ip| ip.parse().expect("an address")).collect();
            service.cluster_ips = ClusterIps::Assigned(ips);
        }
        let mut pod = pod("a", both[0]);
        pod.ips = both.iter().map(|ip| ip.parse().expect("an address")).collect();
        let set = resolve(&service, &[pod]);
        let ips: Vec<String> = set.endpoints().map(|e| e.ip.to_string()).collect();
        assert_eq!(ips, *expected, "{families:?} {cluster_ips:?}");
        for endpoint in set.endpoints().filter(|endpoint| endpoint.ip.is_ipv4()) {
            assert_eq!(
                endpoint.other_ips,
                ["1.2.3.5".parse::<std::net::IpAddr>().expect("an address")]
            );
        }
    }
}

/// Kubernetes endpointslice `util/controller_utils_test.go`, `TestShouldSetHostname`.
#[test]
fn hostnames() {
    let rows = [
        ("all matching", Some("host"), Some("svc"), true),
        ("no hostname", None, Some("svc"), false),
        ("other subdomain", Some("host"), Some("other"), false),
        ("no subdomain", Some("host"), None, false),
    ];
    for (name, hostname, subdomain, expected) in rows {
        let mut pod = pod("a", "1.2.3.4");
        pod.hostname = hostname.map(|text| text.parse().expect("a label"));
        pod.subdomain = subdomain.map(|text| text.parse().expect("a label"));
        let set = resolve(&service(), &[pod]);
        assert_eq!(all(&set)[0].hostname.is_some(), expected, "{name}");
    }
}

/// What it is, the target port, the containers' and the sidecars' ports, the number expected.
type PortRow = (&'static str, TargetPort, Vec<ContainerPort>, Vec<ContainerPort>, Option<u16>);

/// Kubernetes endpointslice `utils_test.go`, `TestFindPort`, all of TCP.
#[test]
fn target_ports() {
    let port = |name: &str, number: u16, protocol: Protocol| {
        let mut port = ContainerPort::new(number);
        port.name = (!name.is_empty()).then(|| name.parse().expect("a port name"));
        port.protocol = protocol;
        port
    };
    let tcp = |name, number| port(name, number, Protocol::Tcp);
    let named = |name: &str| TargetPort::Name(name.into());
    let rows: Vec<PortRow> = vec![
        ("a number, no ports", TargetPort::Number(93), vec![], vec![], Some(93)),
        (
            "a number, ports",
            TargetPort::Number(93),
            vec![tcp("", 11), tcp("p", 22)],
            vec![],
            Some(93),
        ),
        ("a name, no ports", named("p"), vec![], vec![], None),
        (
            "the name among several",
            named("q"),
            vec![port("", 11, Protocol::Udp), tcp("p", 22), tcp("q", 33)],
            vec![],
            Some(33),
        ),
        ("two names, one number", named("q"), vec![tcp("p", 22), tcp("q", 22)], vec![], Some(22)),
        ("the wrong protocol", named("q"), vec![port("q", 33, Protocol::Sctp)], vec![], None),
        ("only a sidecar has it", named("a"), vec![], vec![tcp("a", 80)], Some(80)),
        ("a text that is no port name", named("Not_A_Name"), vec![tcp("a", 80)], vec![], None),
        (
            "a sidecar and two containers have it",
            named("a"),
            vec![tcp("a", 81), tcp("a", 82)],
            vec![tcp("a", 80)],
            Some(81),
        ),
    ];
    for (name, target, ports, sidecar_ports, expected) in rows {
        let mut service = service();
        service.ports[0].target = target;
        let mut pod = pod("a", "1.2.3.4");
        (pod.ports, pod.sidecar_ports) = (ports, sidecar_ports);
        let set = resolve(&service, &[pod]);
        let found = set.port("", Protocol::Tcp).map(|(addr, _)| addr.port()).next();
        assert_eq!(found, expected, "{name}");
        // A port that does not resolve leaves the endpoint in place, for DNS.
        assert_eq!(set.endpoints().count(), 1, "{name}");
    }
}

/// The same through a manifest: an ordinary init container is never asked.
#[test]
fn init_containers_count_only_as_sidecars() {
    for (restart, expected) in [(Some("Always"), Some(80)), (None, None)] {
        let mut port = k8s::ContainerPort::default();
        (port.name, port.container_port) = ("a".into(), 80);
        let mut container = k8s::Container::default();
        (container.ports, container.restart_policy) = (vec![port], restart.map(Into::into));
        let mut mirror = k8s::Pod::from(&pod("a", "1.2.3.4"));
        mirror.spec.init_containers = vec![container];
        mirror.set_defaults();
        let pod = mirror.convert().expect("a name").object;
        assert_eq!(pod.port("a", Protocol::Tcp), expected, "{restart:?}");
    }
}

/// Kubernetes endpointslice `reconciler_test.go`, `TestReconcilerPodMissingNode`.
#[test]
fn a_pod_on_an_unknown_node_waits_unless_published() {
    let mut zoned = Node::new("node-1".parse().expect("a name"));
    zoned.labels = Labels::from_iter([("topology.kubernetes.io/zone", "a")]);
    let nodes = Nodes::from_iter([zoned]);
    let (mut here, mut lost) = (pod("here", "1.2.3.4"), pod("lost", "1.2.3.5"));
    here.node = Some("node-1".parse().expect("a name"));
    lost.node = Some("node-2".parse().expect("a name"));

    let set = EndpointSet::resolve(&service(), [&here, &lost], &nodes);
    assert_eq!(texts(&set), ["1.2.3.4:80"]);
    assert_eq!(all(&set)[0].zone.as_deref(), Some("a"));
    assert_eq!(set.left_out().len(), 1);
    assert_eq!(
        set.left_out()[0].to_string(),
        "pod ns/lost is left out: its node node-2 is not known"
    );

    let mut published = service();
    published.publish_not_ready_addresses = true;
    let set = EndpointSet::resolve(&published, [&here, &lost], &nodes);
    assert_eq!(texts(&set), ["1.2.3.4:80", "1.2.3.5:80"]);
    assert_eq!((all(&set)[1].zone.as_deref(), set.left_out()), (None, &[][..]));
}

/// Kubernetes `endpointslice_controller_test.go`, `TestSyncService`: no merging by address.
#[test]
fn two_pods_with_one_address_are_two_endpoints() {
    let mut unready = pod("b", "10.0.0.1");
    unready.ready = false;
    let set = resolve(&service(), &[pod("a", "10.0.0.1"), unready]);
    let ready: Vec<bool> = set.endpoints().map(|e| e.conditions.ready).collect();
    assert_eq!(ready, [true, false]);
}

/// The slices that mirror hand-written Endpoints say ready by the list, and nothing else.
#[test]
fn hand_written_endpoints() {
    let address = |ip: &str| {
        let mut address = k8s::EndpointAddress::default();
        address.ip = ip.into();
        address
    };
    let mut port = k8s::EndpointPort::default();
    port.port = 9376;
    let mut subset = k8s::EndpointSubset::default();
    subset.addresses = vec![address("1.2.3.4"), address("not an address")];
    subset.not_ready_addresses = vec![address("::ffff:1.2.3.05")];
    subset.ports = vec![port];
    let mut mirror = k8s::Endpoints::default();
    (mirror.metadata.namespace, mirror.metadata.name) = ("ns".into(), "svc".into());
    mirror.subsets = vec![subset];
    let converted = mirror.convert().expect("a name");
    let set = EndpointSet::from(&converted.object);
    let found: Vec<_> = set
        .port("", Protocol::Tcp)
        .map(|(addr, e)| (addr.to_string(), e.conditions.ready, e.conditions.serving))
        .collect();
    let expected = [("1.2.3.4:9376", true), ("1.2.3.5:9376", false)];
    assert_eq!(found, expected.map(|(addr, ready)| (addr.to_owned(), ready, true)));
    let warned: Vec<_> = converted.warnings.iter().map(svcplane::field::FieldError::path).collect();
    assert_eq!(warned, ["subsets[0].addresses[1].ip"]);
}

#[test]
fn explanations_name_everything_that_speaks_against_a_pod() {
    let mut service = service();
    service.ports[0].target = TargetPort::Name("web".into());
    service.ip_families = vec![IpFamily::V4, IpFamily::V6];
    let mut far = pod("far", "1.2.3.4");
    far.labels = Labels::from_iter([("tier", "x")]);
    far.node = Some("node-2".parse().expect("a name"));
    (far.phase, far.ready, far.deleted) = (Phase::Failed, false, Some(Timestamp::default()));
    let expected = "pod ns/far is not an endpoint of ns/svc
- selector: no label `app`, wanted `x`
- the pod is over: its phase is Failed
- the pod has no IPv6 address
- its node `node-2` is not known, and publishNotReadyAddresses is off
- not ready, and publishNotReadyAddresses is off
- being deleted, and publishNotReadyAddresses is off
- port `80/TCP`: `web` not found in any container";
    assert_eq!(Explanation::new(&service, &far, &Nodes::default()).to_string(), expected);

    service.selector = Labels::default();
    service.kind = ServiceKind::ExternalName("example.com".into());
    service.name = ObjectName::new("other", "svc").expect("a name");
    far.ips.clear();
    let reasons = Explanation::new(&service, &far, &Nodes::default()).reasons;
    let first = [Reason::ExternalName, Reason::OtherNamespace, Reason::NoSelector];
    assert_eq!(reasons[..3], first);
    assert!(reasons.contains(&Reason::NoAddress), "{reasons:?}");
}

proptest! {
    /// An explanation says what resolving does.
    #[test]
    fn explanations_agree_with_resolving(
        bits in prop::collection::vec(any::<bool>(), 9),
        phase in select(vec![Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Unknown]),
        ips in subsequence(vec!["1.2.3.4", "fd08::1"], 0..=2),
        families in subsequence(vec![IpFamily::V4, IpFamily::V6], 0..=2),
    ) {
        let mut service = service();
        service.ip_families = families;
        service.publish_not_ready_addresses = bits[0];
        if bits[1] {
            service.ports[0].target = TargetPort::Name("web".into());
        }
        if bits[2] {
            service.selector = Labels::from_iter([("app", "x"), ("more", "z")]);
        }
        let mut pod = pod("a", "0.0.0.0");
        pod.ips = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        (pod.phase, pod.ready, pod.deleted) = (phase, bits[3], bits[4].then(Timestamp::default));
        pod.node = bits[5].then(|| if bits[6] { "n1" } else { "n2" }.parse().expect("a name"));
        if bits[7] {
            let mut port = ContainerPort::new(8000);
            port.name = Some("web".parse().expect("a port name"));
            pod.ports = vec![port];
        }
        if bits[8] {
            pod.name = ObjectName::new("other", "a").expect("a name");
        }
        let nodes = Nodes::from_iter([Node::new("n1".parse().expect("a name"))]);
        let explanation = Explanation::new(&service, &pod, &nodes);
        let set = EndpointSet::resolve(&service, [&pod], &nodes);
        let expected = match set.endpoints().next() {
            None => Standing::Apart,
            Some(endpoint) if endpoint.conditions.ready => Standing::Ready,
            Some(_) => Standing::Unready,
        };
        prop_assert_eq!(explanation.standing, expected, "{}", explanation);
        let unresolved = explanation.reasons.iter().any(|r| matches!(r, Reason::NoPort { .. }));
        prop_assert_eq!(unresolved, bits[1] && !bits[7]);
        prop_assert_eq!(!explanation.reasons.is_empty() || expected == Standing::Ready, true);
    }

    /// The same pods in any order make the same set.
    #[test]
    fn order_does_not_matter(
        kinds in prop::collection::vec((0_u8..6, any::<bool>(), select(vec!["", "n1", "n2"])), 0..12),
        rotation in 0_usize..12,
        swaps in subsequence((0..12_usize).collect::<Vec<_>>(), 0..12),
    ) {
        let mut service = service();
        service.ports[0].target = TargetPort::Name("web".into());
        let nodes = Nodes::from_iter([Node::new("n1".parse().expect("a name"))]);
        let mut pods: Vec<Pod> = kinds
            .iter()
            .enumerate()
            .map(|(i, (kind, ready, node))| {
                let mut pod = pod(&format!("p{i}"), &format!("10.0.0.{kind}"));
                pod.ready = *ready;
                pod.node = (!node.is_empty()).then(|| node.parse().expect("a name"));
                let mut port = ContainerPort::new(8000 + u16::from(*kind % 2));
                port.name = Some("web".parse().expect("a port name"));
                pod.ports = vec![port];
                pod
            })
            .collect();
        let expected = EndpointSet::resolve(&service, &pods, &nodes);
        let count = pods.len().max(1);
        pods.rotate_left(rotation % count);
        for at in swaps.into_iter().filter(|at| at + 1 < count) {
            pods.swap(at, at + 1);
        }
        prop_assert_eq!(EndpointSet::resolve(&service, &pods, &nodes), expected);
    }
}
