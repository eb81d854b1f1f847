//! What may change in a Service, by what admission says of updates.

use svcplane::field::FieldError;
use svcplane::k8s;

/// A Service of a kind with addresses and families, valid with its defaults set.
fn service(kind: &str, ips: &[&str], families: &[&str]) -> k8s::Service {
    let mut service = k8s::Service::default();
    (service.metadata.namespace, service.metadata.name) = ("ns".into(), "svc".into());
    let spec = &mut service.spec;
    spec.kind = kind.into();
    spec.cluster_ip = ips.first().copied().unwrap_or("").into();
    spec.cluster_ips = ips.iter().map(ToString::to_string).collect();
    spec.ip_families = families.iter().map(ToString::to_string).collect();
    if kind == "ExternalName" {
        spec.external_name = "example.com".into();
    }
    let mut port = k8s::ServicePort::default();
    port.port = 80;
    spec.ports = vec![port];
    service.set_defaults();
    service
}

fn paths(new: &k8s::Service, old: &k8s::Service) -> Vec<String> {
    new.validate_update(old).iter().map(FieldError::path).map(str::to_owned).collect()
}

const V4: &str = "10.0.0.1";
const V6: &str = "2001::1";

/// A kind, its addresses and families.
type Side = (&'static str, &'static [&'static str], &'static [&'static str]);
/// What it is, before, after, the policy after, the paths of the errors.
type Row = (&'static str, Side, Side, Option<&'static str>, &'static [&'static str]);
type Change = fn(&mut k8s::Service);

/// Kubernetes `pkg/apis/core/validation`, `ValidateServiceUpdate` and the upgrade and downgrade of families.
const ROWS: &[Row] = &[
    (
        "nothing changes",
        ("ClusterIP", &[V4], &["IPv4"]),
        ("ClusterIP", &[V4], &["IPv4"]),
        None,
        &[],
    ),
    ("not assigned before", ("ClusterIP", &[], &[]), ("ClusterIP", &[V4], &["IPv4"]), None, &[]),
    (
        "another primary address",
        ("ClusterIP", &[V4], &["IPv4"]),
        ("NodePort", &["10.0.0.2"], &["IPv4"]),
        None,
        &["spec.clusterIPs[0]"],
    ),
    (
        "another primary family",
        ("ClusterIP", &[V4], &["IPv4"]),
        ("ClusterIP", &[V6], &["IPv6"]),
        None,
        &["spec.clusterIPs[0]", "spec.ipFamilies[0]"],
    ),
    (
        "the address is taken away",
        ("ClusterIP", &[V4], &["IPv4"]),
        ("ClusterIP", &[], &["IPv4"]),
        None,
        &["spec.clusterIPs[0]"],
    ),
    (
        "a second comes",
        ("ClusterIP", &[V4], &["IPv4"]),
        ("ClusterIP", &[V4, V6], &["IPv4", "IPv6"]),
        Some("PreferDualStack"),
        &[],
    ),
    (
        "the second goes, single stack",
        ("ClusterIP", &[V4, V6], &["IPv4", "IPv6"]),
        ("ClusterIP", &[V4], &["IPv4"]),
        Some("SingleStack"),
        &[],
    ),
    (
        "the second goes, dual stack",
        ("ClusterIP", &[V4, V6], &["IPv4", "IPv6"]),
        ("ClusterIP", &[V4], &["IPv4"]),
        Some("PreferDualStack"),
        &["spec.ipFamilyPolicy", "spec.ipFamilyPolicy"],
    ),
    (
        "the first goes",
        ("ClusterIP", &[V4, V6], &["IPv4", "IPv6"]),
        ("ClusterIP", &[V6], &["IPv6"]),
        Some("SingleStack"),
        &["spec.clusterIPs[0]", "spec.ipFamilies[0]"],
    ),
    (
        "another second",
        ("ClusterIP", &[V4, V6], &["IPv4", "IPv6"]),
        ("ClusterIP", &[V4, "2001::2"], &["IPv4", "IPv6"]),
        None,
        &["spec.clusterIPs[1]"],
    ),
    ("to an external name", ("ClusterIP", &[V4], &["IPv4"]), ("ExternalName", &[], &[]), None, &[]),
    (
        "from an external name",
        ("ExternalName", &[], &[]),
        ("ClusterIP", &[V6], &["IPv6"]),
        None,
        &[],
    ),
    (
        "headless, other families",
        ("ClusterIP", &["None"], &["IPv4"]),
        ("ClusterIP", &["None"], &["IPv6", "IPv4"]),
        None,
        &[],
    ),
    (
        "to headless",
        ("ClusterIP", &[V4], &["IPv4"]),
        ("ClusterIP", &["None"], &["IPv6"]),
        None,
        &["spec.clusterIPs[0]"],
    ),
    (
        "from headless",
        ("ClusterIP", &["None"], &["IPv4"]),
        ("ClusterIP", &[V6], &["IPv6"]),
        None,
        &["spec.clusterIPs[0]"],
    ),
];

#[test]
fn addresses_and_families() {
    for (name, before, after, policy, expected) in ROWS {
        let old = service(before.0, before.1, before.2);
        let mut new = service(after.0, after.1, after.2);
        new.spec.ip_family_policy = policy.map(str::to_owned);
        assert_eq!(paths(&new, &old), *expected, "{name}");
    }
}

#[test]
fn names_and_the_load_balancer() {
    let base = || {
        let mut service = service("LoadBalancer", &[V4], &["IPv4"]);
        service.spec.external_traffic_policy = "Local".into();
        service.spec.health_check_node_port = 31_000;
        service.spec.load_balancer_class = Some("example.com/a".into());
        service
    };
    let rows: &[(&[&str], Change)] = &[
        (&[], |_| {}),
        (&["metadata.name"], |s| s.metadata.name = "other".into()),
        (&["metadata.namespace"], |s| s.metadata.namespace = "other".into()),
        (&["metadata.uid"], |s| s.metadata.uid = "2".into()),
        (&["spec.healthCheckNodePort"], |s| s.spec.health_check_node_port = 31_001),
        (&[], |s| {
            s.spec.external_traffic_policy = "Cluster".into();
            s.spec.health_check_node_port = 0;
        }),
        (&["spec.loadBalancerClass"], |s| s.spec.load_balancer_class = None),
        (&["spec.loadBalancerClass"], |s| {
            s.spec.load_balancer_class = Some("example.com/b".into());
        }),
        (&[], |s| *s = service("ClusterIP", &[V4], &["IPv4"])),
        (&[], |s| {
            s.spec.selector.insert("app".into(), "other".into());
            s.spec.ports[0].port = 81;
            s.spec.session_affinity = "ClientIP".into();
            s.set_defaults();
        }),
        // What is wrong with a new Service is wrong with an update.
        (&["spec.ports[0].port"], |s| s.spec.ports[0].port = 0),
    ];
    for (i, (expected, change)) in rows.iter().enumerate() {
        let mut old = base();
        old.metadata.uid = "1".into();
        let mut new = base();
        change(&mut new);
        assert_eq!(paths(&new, &old), *expected, "row {i}");
    }
}
