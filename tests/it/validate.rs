//! Validation against the tables of Kubernetes' own tests: how many mistakes, and where.

use svcplane::field::{FieldError, FieldErrorKind};
use svcplane::k8s::{
    ClientIpConfig, Container, ContainerPort, EndpointAddress, EndpointHints, EndpointPort,
    EndpointSlice, EndpointSubset, Endpoints, ForZone, IntOrString, LoadBalancerIngress, Node,
    NodeAddress, Pod, PodIp, Service, ServicePort, SessionAffinityConfig, SliceEndpoint, SlicePort,
};

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// What is done to a valid object, and the paths of the errors that it has from then on.
type Row<T> = (&'static str, fn(&mut T), &'static [&'static str]);

fn check<T>(base: fn() -> T, validate: fn(&T) -> Vec<FieldError>, rows: &[Row<T>]) {
    let mut failures = Vec::new();
    for (name, tweak, expected) in rows {
        let mut object = base();
        tweak(&mut object);
        let errors = validate(&object);
        let mut paths: Vec<&str> = errors.iter().map(FieldError::path).collect();
        let mut expected = expected.to_vec();
        paths.sort_unstable();
        expected.sort_unstable();
        if paths != expected {
            failures.push(format!("{name}: expected {expected:?}, got {errors:#?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check_service(rows: &[Row<Service>]) {
    check(service, Service::validate, rows);
}

fn service() -> Service {
    let mut service = Service::default();
    service.metadata.namespace = "valid".into();
    service.metadata.name = "valid".into();
    service.spec.selector = [("key".into(), "val".into())].into();
    service.spec.session_affinity = "None".into();
    service.spec.kind = "ClusterIP".into();
    service.spec.ports = vec![port("p", "TCP", 8675, 0)];
    service.spec.internal_traffic_policy = Some("Cluster".into());
    service
}

fn port(name: &str, protocol: &str, number: i32, node_port: i32) -> ServicePort {
    let mut port = ServicePort::default();
    port.name = name.into();
    port.protocol = protocol.into();
    port.port = number;
    port.target_port = Some(number.into());
    port.node_port = node_port;
    port
}

fn add_port(s: &mut Service, name: &str, protocol: &str, number: i32, node_port: i32) {
    s.spec.ports.push(port(name, protocol, number, node_port));
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.into()).collect()
}

fn balanced(s: &mut Service) {
    s.spec.kind = "LoadBalancer".into();
    s.spec.external_traffic_policy = "Cluster".into();
    s.spec.allocate_load_balancer_node_ports = Some(true);
}

fn on_nodes(s: &mut Service) {
    s.spec.kind = "NodePort".into();
    s.spec.external_traffic_policy = "Cluster".into();
}

fn alias(s: &mut Service, name: &str) {
    s.spec.kind = "ExternalName".into();
    s.spec.external_name = name.into();
}

fn cluster_ips(s: &mut Service, ips: &[&str]) {
    s.spec.cluster_ip = ips[0].into();
    s.spec.cluster_ips = texts(ips);
}

fn families(s: &mut Service, policy: &str, families: &[&str]) {
    s.spec.ip_family_policy = Some(policy.into()).filter(|policy: &String| !policy.is_empty());
    s.spec.ip_families = texts(families);
}

fn external_ips(s: &mut Service, ips: &[&str]) {
    s.spec.external_traffic_policy = "Cluster".into();
    s.spec.external_ips = texts(ips);
}

fn annotate(s: &mut Service, key: &str, value: &str) {
    s.metadata.annotations.insert(key.into(), value.into());
}

fn client_ip(timeout: Option<i32>) -> SessionAffinityConfig {
    let mut client_ip = ClientIpConfig::default();
    client_ip.timeout_seconds = timeout;
    let mut config = SessionAffinityConfig::default();
    config.client_ip = Some(client_ip);
    config
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate`: metadata, selector, type.
#[rustfmt::skip]
#[test]
fn service_metadata() {
    check_service(&[
        ("valid", |_| {}, &[]),
        ("missing namespace", |s| s.metadata.namespace.clear(), &["metadata.namespace"]),
        ("invalid namespace", |s| s.metadata.namespace = "-123".into(), &["metadata.namespace"]),
        ("missing name", |s| s.metadata.name.clear(), &["metadata.name"]),
        ("invalid name", |s| s.metadata.name = "-123".into(), &["metadata.name"]),
        ("too long name", |s| s.metadata.name = "a".repeat(64), &["metadata.name"]),
        ("longest name", |s| s.metadata.name = "a".repeat(63), &[]),
        ("invalid generateName", |s| s.metadata.generate_name = "-123".into(),
            &["metadata.generateName"]),
        ("too long generateName", |s| s.metadata.generate_name = "a".repeat(64),
            &["metadata.generateName"]),
        ("generateName with a dash", |s| s.metadata.generate_name = "web-".into(), &[]),
        (
            "invalid label",
            |s| {
                let key = "NoUppercaseOrSpecialCharsLike=Equals";
                s.metadata.labels.insert(key.into(), "bar".into());
            },
            &["metadata.labels[NoUppercaseOrSpecialCharsLike=Equals]"],
        ),
        ("invalid annotation", |s| annotate(s, "NoSpecialCharsLike=Equals", "bar"),
            &["metadata.annotations[NoSpecialCharsLike=Equals]"]),
        (
            "topology annotations are mismatched",
            |s| {
                annotate(s, TOPOLOGY_HINTS, "original");
                annotate(s, TOPOLOGY_MODE, "different");
            },
            &["metadata.annotations[service.kubernetes.io/topology-mode]"],
        ),
        ("nil selector", |s| s.spec.selector.clear(), &[]),
        ("invalid selector",
            |s| { s.spec.selector.insert("NoSpecialCharsLike=Equals".into(), "bar".into()); },
            &["spec.selector[NoSpecialCharsLike=Equals]"]),
        ("missing type", |s| s.spec.kind.clear(), &["spec.type"]),
    ]);
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate`: ports.
#[rustfmt::skip]
#[test]
fn service_ports() {
    check_service(&[
        ("missing ports", |s| s.spec.ports.clear(), &["spec.ports"]),
        ("empty port[0] name", |s| s.spec.ports[0].name.clear(), &[]),
        ("empty port[1] name", |s| add_port(s, "", "TCP", 12345, 0), &["spec.ports[1].name"]),
        ("empty multi-port port[0] name",
            |s| { s.spec.ports[0].name.clear(); add_port(s, "p", "TCP", 12345, 0); },
            &["spec.ports[0].name"]),
        ("invalid port name", |s| s.spec.ports[0].name = "INVALID".into(), &["spec.ports[0].name"]),
        ("dup port name", |s| add_port(s, "p", "TCP", 12345, 0), &["spec.ports[1].name"]),
        ("missing protocol", |s| s.spec.ports[0].protocol.clear(), &["spec.ports[0].protocol"]),
        ("invalid protocol", |s| s.spec.ports[0].protocol = "INVALID".into(),
            &["spec.ports[0].protocol"]),
        ("missing port", |s| s.spec.ports[0].port = 0, &["spec.ports[0].port"]),
        ("invalid port", |s| s.spec.ports[0].port = 65536, &["spec.ports[0].port"]),
        ("invalid TargetPort int", |s| s.spec.ports[0].target_port = Some(65536.into()),
            &["spec.ports[0].targetPort"]),
        (
            "valid 2",
            |s| {
                s.spec.ports[0].protocol = "UDP".into();
                s.spec.ports[0].target_port = Some(12345.into());
            },
            &[],
        ),
        ("valid 3", |s| s.spec.ports[0].target_port = Some("http".into()), &[]),
        ("all-digit targetPort name", |s| s.spec.ports[0].target_port = Some("12345".into()),
            &["spec.ports[0].targetPort"]),
        (
            "invalid duplicate ports (with same protocol)",
            |s| {
                add_port(s, "q", "TCP", 12345, 0);
                add_port(s, "r", "TCP", 12345, 0);
                s.spec.ports[2].target_port = Some(80.into());
            },
            &["spec.ports[2]"],
        ),
        (
            "valid duplicate ports (with different protocols)",
            |s| {
                add_port(s, "q", "TCP", 12345, 0);
                add_port(s, "r", "UDP", 12345, 0);
                add_port(s, "s", "SCTP", 12345, 0);
            },
            &[],
        ),
        ("valid appProtocol", |s| s.spec.ports[0].app_protocol = Some("HTTP".into()), &[]),
        ("valid custom appProtocol",
            |s| s.spec.ports[0].app_protocol = Some("example.com/protocol".into()), &[]),
        (
            "invalid appProtocol",
            |s| {
                let text = "example.com/protocol_with{invalid}[characters]";
                s.spec.ports[0].app_protocol = Some(text.into());
            },
            &["spec.ports[0].appProtocol"],
        ),
    ]);
}

/// Kubernetes apimachinery `pkg/util/validation/validation_test.go`, `TestIsValidPortNum`.
#[test]
fn port_numbers() {
    let legal = [1, 2, 1000, 16_384, 32_768, 65_535].map(|number| (number, &[][..]));
    let wrong = [0, -1, 65_536, 100_000].map(|number| (number, &["spec.ports[0].port"][..]));
    for (number, expected) in legal.into_iter().chain(wrong) {
        let mut service = service();
        service.spec.ports[0].port = number;
        let errors = service.validate();
        let paths: Vec<&str> = errors.iter().map(FieldError::path).collect();
        assert_eq!(paths, expected, "{number}");
    }
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate`: headless, `ExternalName`.
#[rustfmt::skip]
#[test]
fn service_headless_and_external_name() {
    check_service(&[
        ("missing ports but headless", |s| { s.spec.ports.clear(); cluster_ips(s, &["None"]); },
            &[]),
        ("valid cluster ip - none", |s| cluster_ips(s, &["None"]), &[]),
        ("valid port headless", |s| headless_port(s, 11722.into()), &[]),
        ("invalid port headless 1", |s| headless_port(s, 11721.into()), &[]),
        ("invalid port headless 2", |s| headless_port(s, "target".into()), &[]),
        ("LoadBalancer type cannot have None ClusterIP",
            |s| { balanced(s); cluster_ips(s, &["None"]); }, &["spec.clusterIPs[0]"]),
        ("invalid node port with clusterIP None",
            |s| { on_nodes(s); add_port(s, "q", "TCP", 1, 1); cluster_ips(s, &["None"]); },
            &["spec.clusterIPs[0]"]),
        (
            "valid, headless-no-selector + multi family",
            |s| {
                families(s, "RequireDualStack", &["IPv4", "IPv6"]);
                cluster_ips(s, &["None"]);
                s.spec.selector.clear();
            },
            &[],
        ),
        ("valid ExternalName", |s| alias(s, "foo.bar.example.com"), &[]),
        ("valid ExternalName (trailing dot)", |s| alias(s, "foo.bar.example.com."), &[]),
        ("valid ExternalName without ports",
            |s| { alias(s, "foo.bar.example.com"); s.spec.ports.clear(); }, &[]),
        ("invalid ExternalName clusterIP (valid IP)",
            |s| { alias(s, "foo.bar.example.com"); cluster_ips(s, &["1.2.3.4"]); },
            &["spec.clusterIPs"]),
        ("invalid ExternalName clusterIP (None)",
            |s| { alias(s, "foo.bar.example.com"); cluster_ips(s, &["None"]); },
            &["spec.clusterIPs"]),
        ("invalid ExternalName families",
            |s| { alias(s, "foo.bar.example.com"); families(s, "SingleStack", &["IPv4"]); },
            &["spec.ipFamilies", "spec.ipFamilyPolicy"]),
        ("invalid ExternalName (not a DNS name)", |s| alias(s, "-123"), &["spec.externalName"]),
        ("missing externalName", |s| alias(s, ""), &["spec.externalName"]),
        ("internalTrafficPolicy nil when type is ExternalName",
            |s| { alias(s, "foo.bar.com"); s.spec.internal_traffic_policy = None; }, &[]),
    ]);
}

fn headless_port(s: &mut Service, target: IntOrString) {
    cluster_ips(s, &["None"]);
    s.spec.ports[0].port = 11722;
    s.spec.ports[0].target_port = Some(target);
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate`: node ports, external IPs.
#[rustfmt::skip]
#[test]
fn service_node_ports_and_external_ips() {
    check_service(&[
        ("valid type - nodeport", on_nodes, &[]),
        ("valid nodeport, given", |s| { on_nodes(s); add_port(s, "q", "TCP", 12345, 12345); }, &[]),
        ("valid nodeport, not given", |s| { on_nodes(s); add_port(s, "q", "TCP", 1, 0); }, &[]),
        ("duplicate nodeports",
            |s| { on_nodes(s); add_port(s, "q", "TCP", 1, 1); add_port(s, "r", "TCP", 2, 1); },
            &["spec.ports[2].nodePort"]),
        (
            "duplicate nodeports (different protocols)",
            |s| {
                on_nodes(s);
                add_port(s, "q", "TCP", 1, 1);
                add_port(s, "r", "UDP", 2, 1);
                add_port(s, "s", "SCTP", 3, 1);
            },
            &[],
        ),
        ("invalid cluster service with NodePort", |s| add_port(s, "q", "TCP", 12345, 12345),
            &["spec.ports[1].nodePort"]),
        ("valid publicIPs", |s| external_ips(s, &["1.2.3.4"]), &[]),
        ("ordinary multicast", |s| external_ips(s, &["239.1.1.1"]), &[]),
        ("invalid publicIPs localhost", |s| external_ips(s, &["127.0.0.1"]),
            &["spec.externalIPs[0]"]),
        ("invalid publicIPs unspecified", |s| external_ips(s, &["1.2.3.4", "0.0.0.0"]),
            &["spec.externalIPs[1]"]),
        ("invalid publicIPs host", |s| external_ips(s, &["myhost.mydomain"]),
            &["spec.externalIPs[0]"]),
        ("externalTrafficPolicy is required on ClusterIP service with externalIPs",
            |s| s.spec.external_ips = texts(&["1.2.3.4"]), &["spec.externalTrafficPolicy"]),
    ]);
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate`: load balancers.
#[rustfmt::skip]
#[test]
fn service_load_balancers() {
    const RANGES: &str =
        "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]";
    fn annotated(s: &mut Service, ranges: &str) {
        balanced(s);
        annotate(s, SOURCE_RANGES, ranges);
    }
    fn ranges(s: &mut Service, ranges: &[&str]) {
        balanced(s);
        s.spec.load_balancer_source_ranges = texts(ranges);
    }
    fn class(s: &mut Service, class: &str) {
        s.spec.load_balancer_class = Some(class.into());
    }
    fn ingress(s: &mut Service, ip: &str, hostname: &str, mode: Option<&str>) {
        balanced(s);
        let mut ingress = LoadBalancerIngress::default();
        ingress.ip = ip.into();
        ingress.hostname = hostname.into();
        ingress.ip_mode = mode.map(Into::into);
        s.status.load_balancer.ingress = vec![ingress];
    }
    check_service(&[
        ("valid", balanced, &[]),
        ("UDP", |s| { balanced(s); s.spec.ports[0].protocol = "UDP".into(); }, &[]),
        ("mixed protocols", |s| { balanced(s); add_port(s, "q", "UDP", 12345, 0); }, &[]),
        ("with NodePort", |s| { balanced(s); add_port(s, "q", "TCP", 12345, 12345); }, &[]),
        ("kubelet's port", |s| { balanced(s); add_port(s, "kubelet", "TCP", 10250, 0); }, &[]),
        ("allocate false",
            |s| { balanced(s); s.spec.allocate_load_balancer_node_ports = Some(false); }, &[]),
        ("missing allocate", |s| { balanced(s); s.spec.allocate_load_balancer_node_ports = None; },
            &["spec.allocateLoadBalancerNodePorts"]),
        ("allocate on ClusterIP", |s| s.spec.allocate_load_balancer_node_ports = Some(true),
            &["spec.allocateLoadBalancerNodePorts"]),
        ("range annotation", |s| annotated(s, "1.2.3.0/24,  5.6.0.0/16"), &[]),
        ("empty range annotation", |s| annotated(s, ""), &[]),
        ("whitespace-only range annotation", |s| annotated(s, "  "), &[]),
        ("range annotation, hostname", |s| annotated(s, "foo.bar"), &[RANGES]),
        ("range annotation, bad CIDR", |s| annotated(s, "1.2.3.4/33"), &[RANGES]),
        ("range annotation, not LB", |s| annotate(s, SOURCE_RANGES, "1.2.3.0/24"), &[RANGES]),
        ("empty range annotation, not LB", |s| annotate(s, SOURCE_RANGES, ""), &[RANGES]),
        ("ranges", |s| ranges(s, &["1.2.3.0/24", "5.6.0.0/16"]), &[]),
        ("ranges with whitespace", |s| ranges(s, &["1.2.3.0/24  ", " 5.6.0.0/16"]), &[]),
        ("empty range", |s| ranges(s, &["   "]), &["spec.loadBalancerSourceRanges[0]"]),
        ("range, hostname", |s| ranges(s, &["foo.bar"]), &["spec.loadBalancerSourceRanges[0]"]),
        ("range, bad CIDR", |s| ranges(s, &["1.2.3.4/33"]), &["spec.loadBalancerSourceRanges[0]"]),
        ("ranges, not LB",
            |s| s.spec.load_balancer_source_ranges = texts(&["1.2.3.0/24", "5.6.0.0/16"]),
            &["spec.loadBalancerSourceRanges"]),
        ("bad annotation ignored with good field",
            |s| { annotated(s, "foo.bar"); ranges(s, &["1.2.3.0/24"]); }, &[]),
        ("class", |s| { balanced(s); class(s, "test.com/test-load-balancer-class"); }, &[]),
        ("bad class", |s| { balanced(s); class(s, "Bad/LoadBalancerClass"); },
            &["spec.loadBalancerClass"]),
        ("class, not LB", |s| class(s, "test.com/class"), &["spec.loadBalancerClass"]),
        ("ingress", |s| ingress(s, "1.2.3.4", "", Some("Proxy")), &[]),
        ("ingress ip", |s| ingress(s, "1.2.3.400", "", Some("VIP")),
            &["status.loadBalancer.ingress[0].ip"]),
        ("ingress hostname", |s| ingress(s, "", "_.example.com", None),
            &["status.loadBalancer.ingress[0].hostname"]),
        ("ingress mode", |s| ingress(s, "1.2.3.4", "", Some("Nat")),
            &["status.loadBalancer.ingress[0].ipMode"]),
    ]);
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate` and
/// `TestValidateServiceExternalTrafficPolicy`: traffic policies.
#[rustfmt::skip]
#[test]
fn service_policies() {
    fn external(s: &mut Service, policy: &str, health_check: i32) {
        s.spec.external_traffic_policy = policy.into();
        s.spec.health_check_node_port = health_check;
    }
    fn internal(s: &mut Service, policy: Option<&str>) {
        s.spec.internal_traffic_policy = policy.map(Into::into);
    }
    fn distribution(s: &mut Service, wish: &str) {
        s.spec.traffic_distribution = Some(wish.into());
    }
    const EXTERNAL: &str = "spec.externalTrafficPolicy";
    const HEALTH: &str = "spec.healthCheckNodePort";
    check_service(&[
        ("invalid externalTraffic", |s| { balanced(s); external(s, "invalid", 0); }, &[EXTERNAL]),
        ("negative healthCheckNodePort", |s| { balanced(s); external(s, "Local", -1); }, &[HEALTH]),
        ("healthCheckNodePort", |s| { balanced(s); external(s, "Local", 31100); }, &[]),
        ("too large", |s| { balanced(s); external(s, "Local", 65536); }, &[HEALTH]),
        ("Cluster with check", |s| { balanced(s); external(s, "Cluster", 34567); }, &[HEALTH]),
        ("NodePort Local", |s| { on_nodes(s); external(s, "Local", 0); }, &[]),
        ("NodePort with check", |s| { on_nodes(s); external(s, "Local", 34567); }, &[HEALTH]),
        ("ClusterIP with both", |s| external(s, "Local", 34567), &[EXTERNAL, HEALTH]),
        ("ExternalName", |s| { alias(s, "foo.bar"); external(s, "Local", 0); }, &[EXTERNAL]),
        ("required on NodePort", |s| { on_nodes(s); external(s, "", 0); }, &[EXTERNAL]),
        ("required on LoadBalancer", |s| { balanced(s); external(s, "", 0); }, &[EXTERNAL]),
        ("nil internalTraffic", |s| internal(s, None), &["spec.internalTrafficPolicy"]),
        ("bad internalTraffic", |s| internal(s, Some("invalid")), &["spec.internalTrafficPolicy"]),
        ("internalTraffic Local", |s| internal(s, Some("Local")), &[]),
        ("PreferClose", |s| distribution(s, "PreferClose"), &[]),
        ("PreferSameZone", |s| distribution(s, "PreferSameZone"), &[]),
        ("PreferSameNode", |s| distribution(s, "PreferSameNode"), &[]),
        ("distribution Random", |s| distribution(s, "Random"), &["spec.trafficDistribution"]),
    ]);
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate`: families, which the allocators
/// look at again.
#[test]
fn service_families() {
    const REQUIRE: &str = "RequireDualStack";
    check_service(&[
        ("bad family", |s| families(s, "", &["not-a-valid-ip-family"]), &["spec.ipFamilies[0]"]),
        ("bad second", |s| families(s, REQUIRE, &["IPv4", "not-valid"]), &["spec.ipFamilies[1]"]),
        ("three", |s| families(s, REQUIRE, &["IPv4", "IPv6", "IPv4"]), &["spec.ipFamilies[2]"]),
        ("same twice", |s| families(s, REQUIRE, &["IPv6", "IPv6"]), &["spec.ipFamilies[1]"]),
        ("SingleStack, two families", |s| families(s, "SingleStack", &["IPv4", "IPv6"]), &[]),
        ("prefer, two", |s| families(s, "PreferDualStack", &["IPv4", "IPv6"]), &[]),
        ("SingleStack, v4", |s| families(s, "SingleStack", &["IPv4"]), &[]),
        ("SingleStack, v6", |s| families(s, "SingleStack", &["IPv6"]), &[]),
        ("prefer, v4", |s| families(s, "PreferDualStack", &["IPv4"]), &[]),
        ("prefer, v6", |s| families(s, "PreferDualStack", &["IPv6"]), &[]),
        ("require, v4", |s| families(s, REQUIRE, &["IPv4"]), &[]),
        ("require, v6", |s| families(s, REQUIRE, &["IPv6"]), &[]),
        ("v4", |s| families(s, "", &["IPv4"]), &[]),
        ("v6", |s| families(s, "", &["IPv6"]), &[]),
        ("v4, v6", |s| families(s, REQUIRE, &["IPv4", "IPv6"]), &[]),
        ("v6, v4", |s| families(s, REQUIRE, &["IPv6", "IPv4"]), &[]),
        ("dual stack, none stated", |s| families(s, REQUIRE, &[]), &[]),
        ("bad policy", |s| families(s, "Dual", &[]), &["spec.ipFamilyPolicy"]),
    ]);
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate`: cluster IPs.
#[rustfmt::skip]
#[test]
fn service_cluster_ips() {
    fn stated(s: &mut Service, policy: &str, ips: &[&str], stated: &[&str]) {
        cluster_ips(s, ips);
        families(s, policy, stated);
    }
    fn required(s: &mut Service, ips: &[&str]) {
        stated(s, "RequireDualStack", ips, &[]);
    }
    fn dual(s: &mut Service, ips: &[&str]) {
        stated(s, "RequireDualStack", ips, &["IPv4", "IPv6"]);
    }
    fn singular(s: &mut Service, ips: &[&str]) {
        s.spec.cluster_ip = "10.0.0.10".into();
        s.spec.cluster_ips = texts(ips);
    }
    const FIRST: &str = "spec.clusterIPs[0]";
    const SECOND: &str = "spec.clusterIPs[1]";
    const ALL: &str = "spec.clusterIPs";
    const BOTH: [&str; 2] = ["10.0.0.1", "2001::1"];
    check_service(&[
        ("valid cluster ip - empty", |s| s.spec.ports[0].target_port = Some("http".into()), &[]),
        ("invalid cluster ip", |s| cluster_ips(s, &["invalid"]), &[FIRST]),
        ("garbage single ip", |s| cluster_ips(s, &["garbage-ip"]), &[FIRST]),
        ("garbage", |s| required(s, &["garbage-ip", "garbage-second-ip"]), &[FIRST, SECOND]),
        ("garbage first", |s| required(s, &["garbage-ip", "2001::1"]), &[FIRST]),
        ("garbage second", |s| required(s, &["2001::1", "garbage-ip"]), &[SECOND]),
        ("NONE + IP", |s| required(s, &["None", "2001::1"]), &[FIRST]),
        ("IP + NONE", |s| required(s, &["2001::1", "None"]), &[SECOND]),
        ("EMPTY + IP", |s| required(s, &["", "2001::1"]), &["spec.clusterIP", FIRST]),
        ("IP + EMPTY", |s| required(s, &["2001::1", ""]), &[SECOND]),
        ("same family v6", |s| dual(s, &["2001::1", "2001::4"]), &[FIRST, ALL]),
        ("same family v4", |s| dual(s, &["10.0.0.1", "10.0.0.10"]), &[SECOND, ALL]),
        ("three", |s| dual(s, &["10.0.0.1", "2001::1", "10.0.0.10"]), &[ALL]),
        ("two, SingleStack", |s| stated(s, "SingleStack", &BOTH, &["IPv4", "IPv6"]), &[]),
        ("two, PreferDualStack, [4]", |s| stated(s, "PreferDualStack", &BOTH, &["IPv4"]), &[]),
        ("two, RequireDualStack, [4]", |s| stated(s, "RequireDualStack", &BOTH, &["IPv4"]), &[]),
        ("v4 as v6", |s| stated(s, "", &["10.0.0.1"], &["IPv6"]), &[FIRST]),
        ("v6 as v4", |s| stated(s, "", &["2001::1"], &["IPv4"]), &[FIRST]),
        ("single", |s| stated(s, "SingleStack", &["10.0.0.1"], &[]), &[]),
        ("single v6 + family", |s| stated(s, "SingleStack", &["2001::1"], &["IPv6"]), &[]),
        ("one, [4,6]", |s| dual(s, &["10.0.0.1"]), &[]),
        ("two, [4,6]", |s| dual(s, &BOTH), &[]),
        ("two, [6,4]",
            |s| stated(s, "RequireDualStack", &["2001::1", "10.0.0.1"], &["IPv6", "IPv4"]), &[]),
        ("two (6,4)", |s| required(s, &["2001::1", "10.0.0.1"]), &[]),
        ("two (4,6)", |s| required(s, &BOTH), &[]),
        ("clusterIP differs, two", |s| singular(s, &BOTH), &[ALL]),
        ("clusterIP differs, one", |s| singular(s, &["10.0.0.1"]), &[ALL]),
        ("clusterIP without clusterIPs", |s| singular(s, &[]), &[ALL]),
    ]);
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateServiceCreate` and
/// `TestValidateOrSetClientIPAffinityConfig`: affinity.
#[rustfmt::skip]
#[test]
fn service_affinity() {
    fn affinity(s: &mut Service, kind: &str, config: Option<SessionAffinityConfig>) {
        s.spec.session_affinity = kind.into();
        s.spec.session_affinity_config = config;
    }
    fn timeout(s: &mut Service, timeout: i32) {
        affinity(s, "ClientIP", Some(client_ip(Some(timeout))));
    }
    const CONFIG: &str = "spec.sessionAffinityConfig";
    const CLIENT_IP: &str = "spec.sessionAffinityConfig.clientIP";
    const TIMEOUT: &str = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    check_service(&[
        ("missing session affinity", |s| affinity(s, "", None), &["spec.sessionAffinity"]),
        ("unknown session affinity", |s| affinity(s, "Cookie", None), &["spec.sessionAffinity"]),
        ("None with config", |s| affinity(s, "None", Some(client_ip(Some(90)))), &[CONFIG]),
        ("timeout 1", |s| timeout(s, 1), &[]),
        ("timeout 10800", |s| timeout(s, 10_800), &[]),
        ("timeout 86399", |s| timeout(s, 86_399), &[]),
        ("timeout 86400", |s| timeout(s, 86_400), &[]),
        ("timeout 86401", |s| timeout(s, 86_401), &[TIMEOUT]),
        ("timeout -1", |s| timeout(s, -1), &[TIMEOUT]),
        ("timeout 0", |s| timeout(s, 0), &[TIMEOUT]),
        ("nil config", |s| affinity(s, "ClientIP", None), &[CONFIG]),
        ("nil clientIP", |s| affinity(s, "ClientIP", Some(SessionAffinityConfig::default())),
            &[CLIENT_IP]),
        ("nil timeout", |s| affinity(s, "ClientIP", Some(client_ip(None))), &[TIMEOUT]),
    ]);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let mut service = service();
    service.metadata.name = "Web".into();
    service.spec.kind = "Balancer".into();
    service.spec.ports[0].port = 0;
    service.spec.ports[0].protocol = "tcp".into();
    service.spec.session_affinity = "Cookie".into();
    let got: Vec<_> = service
        .validate()
        .iter()
        .map(|e| (e.path().to_owned(), e.kind(), e.value().to_owned()))
        .collect();
    let expected = [
        ("metadata.name", FieldErrorKind::Invalid, "\"Web\""),
        ("spec.type", FieldErrorKind::NotSupported, "\"Balancer\""),
        ("spec.ports[0].port", FieldErrorKind::Invalid, "0"),
        ("spec.ports[0].protocol", FieldErrorKind::NotSupported, "\"tcp\""),
        ("spec.sessionAffinity", FieldErrorKind::NotSupported, "\"Cookie\""),
    ];
    let expected = expected.map(|(path, kind, value)| (path.to_owned(), kind, value.to_owned()));
    assert_eq!(got, expected);
}

fn endpoints() -> Endpoints {
    let mut endpoints = Endpoints::default();
    endpoints.metadata.namespace = "namespace".into();
    endpoints.metadata.name = "mysvc".into();
    endpoints.subsets = vec![subset("10.10.1.1", &[("a", 8675)])];
    endpoints
}

fn subset(ip: &str, ports: &[(&str, i32)]) -> EndpointSubset {
    let mut address = EndpointAddress::default();
    address.ip = ip.into();
    let mut subset = EndpointSubset::default();
    subset.addresses = vec![address];
    for &(name, number) in ports {
        let mut port = EndpointPort::default();
        port.name = name.into();
        port.port = number;
        port.protocol = "TCP".into();
        subset.ports.push(port);
    }
    subset
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateEndpointsCreate`, and what
/// `TestValidateEndpointsUpdate` says of new node names and `appProtocol`: where the mistakes are.
#[rustfmt::skip]
#[test]
fn endpoints_rows() {
    fn ip(e: &mut Endpoints, ip: &str) {
        e.subsets[0].addresses[0].ip = ip.into();
    }
    const IP: &str = "subsets[0].addresses[0].ip";
    const APP_PROTOCOL: &str = "subsets[0].ports[0].appProtocol";
    check(
        endpoints,
        Endpoints::validate,
        &[
            ("two subsets", |e| e.subsets.push(subset("10.10.2.2", &[("b", 93), ("c", 76)])), &[]),
            ("no subsets", |e| e.subsets.clear(), &[]),
            ("one unnamed port", |e| e.subsets[0] = subset("10.10.1.1", &[("", 8675)]), &[]),
            ("no ports", |e| e.subsets[0] = subset("10.10.1.1", &[]), &[]),
            ("port names may repeat", |e| e.subsets[0] = subset("10.1.1.1", &[("a", 1), ("a", 2)]),
                &[]),
            ("appProtocol", |e| e.subsets[0].ports[0].app_protocol = Some("HTTP".into()), &[]),
            ("new appProtocol", |e| e.subsets[0].ports[0].app_protocol = Some("https".into()), &[]),
            ("no namespace", |e| e.metadata.namespace.clear(), &["metadata.namespace"]),
            ("no name", |e| e.metadata.name.clear(), &["metadata.name"]),
            ("invalid namespace", |e| e.metadata.namespace = "no@#invalid.;chars\"allowed".into(),
                &["metadata.namespace"]),
            ("invalid name", |e| e.metadata.name = "-_Invliad^&Characters".into(),
                &["metadata.name"]),
            ("no addresses", |e| e.subsets[0].addresses.clear(), &["subsets[0]"]),
            ("brackets", |e| ip(e, "[2001:0db8:85a3:0042:1000:8a2e:0370:7334]"), &[IP]),
            ("no IP", |e| ip(e, ""), &[IP]),
            ("loopback", |e| ip(e, "127.0.0.1"), &[IP]),
            ("link-local", |e| ip(e, "169.254.169.254"), &[IP]),
            ("link-local multicast", |e| ip(e, "224.0.0.1"), &[IP]),
            ("link-local v6", |e| ip(e, "fe80::1"), &[IP]),
            ("link-local multicast v6", |e| ip(e, "ff12::1"), &[IP]),
            ("broadcast", |e| ip(e, "255.255.255.255"), &[]),
            ("two ports, one unnamed",
                |e| e.subsets[0] = subset("10.10.1.1", &[("", 8675), ("b", 309)]),
                &["subsets[0].ports[0].name"]),
            ("port 66000", |e| e.subsets[0].ports[0].port = 66000, &["subsets[0].ports[0].port"]),
            ("port 0", |e| e.subsets[0].ports[0].port = 0, &["subsets[0].ports[0].port"]),
            ("bad appProtocol",
                |e| e.subsets[0].ports[0].app_protocol = Some("lots-of[invalid]-{chars}".into()),
                &[APP_PROTOCOL]),
            ("tilde appProtocol", |e| e.subsets[0].ports[0].app_protocol = Some("~https".into()),
                &[APP_PROTOCOL]),
            ("node name like an IP",
                |e| e.subsets[0].addresses[0].node_name = Some("10.10.1.1".into()), &[]),
            ("illegal node name",
                |e| e.subsets[0].addresses[0].node_name = Some("illegal*.nodename".into()),
                &["subsets[0].addresses[0].nodeName"]),
            (
                "hostname in the other list",
                |e| {
                    let subset = &mut e.subsets[0];
                    std::mem::swap(&mut subset.addresses, &mut subset.not_ready_addresses);
                    subset.not_ready_addresses[0].hostname = "a.b".into();
                },
                &["subsets[0].notReadyAddresses[0].hostname"],
            ),
        ],
    );
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateEndpointsCreate`: what kind of mistake it is.
#[rustfmt::skip]
#[test]
fn endpoints_kinds() {
    use FieldErrorKind::{Invalid, NotSupported, Required};

    type Row = (&'static str, fn(&mut Endpoints), FieldErrorKind);
    fn ip(e: &mut Endpoints, ip: &str) {
        e.subsets[0].addresses[0].ip = ip.into();
    }
    fn port(e: &mut Endpoints) -> &mut EndpointPort {
        &mut e.subsets[0].ports[0]
    }
    let rows: &[Row] = &[
        ("missing namespace", |e| e.metadata.namespace.clear(), Required),
        ("missing name", |e| e.metadata.name.clear(), Required),
        ("invalid namespace", |e| e.metadata.namespace = "no@#invalid.;chars\"allowed".into(), Invalid),
        ("invalid name", |e| e.metadata.name = "-_Invliad^&Characters".into(), Invalid),
        ("empty addresses", |e| e.subsets[0].addresses.clear(), Required),
        ("invalid IP", |e| ip(e, "[2001:0db8:85a3:0042:1000:8a2e:0370:7334]"), Invalid),
        ("multiple ports, one without name", |e| e.subsets[0] = subset("10.10.1.1", &[("", 8675), ("b", 309)]), Required),
        ("invalid port number", |e| port(e).port = 66_000, Invalid),
        ("invalid protocol", |e| port(e).protocol = "Protocol".into(), NotSupported),
        ("address missing IP", |e| ip(e, ""), Invalid),
        ("port missing number", |e| port(e).port = 0, Invalid),
        ("port missing protocol", |e| port(e).protocol.clear(), Required),
        ("address is loopback", |e| ip(e, "127.0.0.1"), Invalid),
        ("address is link-local", |e| ip(e, "169.254.169.254"), Invalid),
        ("address is link-local multicast", |e| ip(e, "224.0.0.1"), Invalid),
        ("invalid appProtocol", |e| port(e).app_protocol = Some("lots-of[invalid]-{chars}".into()), Invalid),
    ];
    for (name, tweak, expected) in rows {
        let mut endpoints = endpoints();
        tweak(&mut endpoints);
        let errors = endpoints.validate();
        let kinds: Vec<FieldErrorKind> = errors.iter().map(FieldError::kind).collect();
        assert_eq!(kinds, [*expected], "{name}: {errors:?}");
    }
}

#[test]
fn endpoints_protocols_are_defaulted() {
    let mut endpoints = endpoints();
    endpoints.subsets[0].ports[0].protocol.clear();
    endpoints.set_defaults();
    assert_eq!(endpoints.validate(), []);
}

fn slice() -> EndpointSlice {
    let mut slice = EndpointSlice::default();
    slice.metadata.namespace = "world".into();
    slice.metadata.name = "hello".into();
    slice.address_type = "IPv4".into();
    slice.ports = vec![slice_port("http")];
    let mut endpoint = SliceEndpoint::default();
    endpoint.addresses = texts(&["10.1.2.3"]);
    slice.endpoints = vec![endpoint];
    slice
}

fn slice_port(name: &str) -> SlicePort {
    let mut port = SlicePort::default();
    port.name = Some(name.into());
    port.protocol = Some("TCP".into());
    port
}

fn addresses(slice: &mut EndpointSlice, kind: &str, addresses: &[&str]) {
    slice.address_type = kind.into();
    slice.endpoints[0].addresses = texts(addresses);
}

/// Kubernetes `pkg/apis/discovery/validation/validation_test.go`, `TestValidateEndpointSlice`: endpoints.
#[rustfmt::skip]
#[test]
fn slice_endpoints() {
    const FIRST: &str = "endpoints[0].addresses[0]";
    const SECOND: &str = "endpoints[0].addresses[1]";
    fn zones(slice: &mut EndpointSlice, names: &[&str]) {
        let mut hints = EndpointHints::default();
        for &name in names {
            let mut zone = ForZone::default();
            zone.name = name.into();
            hints.for_zones.push(zone);
        }
        slice.endpoints[0].hints = Some(hints);
    }
    check(
        slice,
        EndpointSlice::validate,
        &[
            ("good-slice", |s| s.endpoints[0].hostname = Some("valid-123".into()), &[]),
            ("good-ipv6", |s| addresses(s, "IPv6", &["a00:100::4"]), &[]),
            ("good-fqdns",
                |s| addresses(s, "FQDN", &["foo.example.com", "example.com", "a-b.example.com"]),
                &[]),
            ("good-fqdns, trailing dot", |s| addresses(s, "FQDN", &["example.com."]), &[]),
            ("bad-fqdns", |s| addresses(s, "FQDN", &["foo.*", "FOO.example.com"]),
                &[FIRST, SECOND]),
            ("bad-fqdns, one label", |s| addresses(s, "FQDN", &["localhost"]), &[FIRST]),
            ("bad-fqdns, empty", |s| addresses(s, "FQDN", &[""]), &[FIRST]),
            ("bad-fqdns, a long label",
                |s| addresses(s, "FQDN", &[&format!("{}.example.com", "a".repeat(64))]), &[FIRST]),
            ("bad-ipv4", |s| addresses(s, "IPv4", &["123.456.789.012", "2001::8"]),
                &[FIRST, SECOND]),
            ("bad-ipv6", |s| addresses(s, "IPv6", &["1.2.3.4", "2001:4860:defg"]),
                &[FIRST, SECOND]),
            ("special-ipv4", |s| addresses(s, "IPv4", &["127.0.0.1"]), &[FIRST]),
            ("special-ipv6", |s| addresses(s, "IPv6", &["fe80::9656:d028:8652:66b6"]), &[FIRST]),
            ("no-endpoint-addresses", |s| addresses(s, "IPv4", &[]), &["endpoints[0].addresses"]),
            ("max-addresses", |s| addresses(s, "IPv4", &["10.0.0.1"; 100]), &[]),
            ("too-many-addresses", |s| addresses(s, "IPv4", &["10.0.0.1"; 101]),
                &["endpoints[0].addresses"]),
            ("max-endpoints", |s| s.endpoints = vec![s.endpoints[0].clone(); 1000], &[]),
            ("too-many-endpoints", |s| s.endpoints = vec![s.endpoints[0].clone(); 1001],
                &["endpoints"]),
            ("no address type", |s| s.address_type.clear(), &["addressType"]),
            ("deprecated address type", |s| s.address_type = "IP".into(), &["addressType"]),
            ("bad-hostname", |s| s.endpoints[0].hostname = Some("--INVALID".into()),
                &["endpoints[0].hostname"]),
            ("bad node name", |s| s.endpoints[0].node_name = Some("illegal*.nodename".into()),
                &["endpoints[0].nodeName"]),
            ("eight zones", |s| zones(s, &["a", "b", "c", "d", "e", "f", "g", "h"]), &[]),
            ("zone twice", |s| zones(s, &["a", "a"]), &["endpoints[0].hints.forZones[1].name"]),
            ("bad zone", |s| zones(s, &["zone*"]), &["endpoints[0].hints.forZones[0].name"]),
            ("nine zones", |s| zones(s, &["a", "b", "c", "d", "e", "f", "g", "h", "i"]),
                &["endpoints[0].hints.forZones"]),
        ],
    );
}

/// Kubernetes `pkg/apis/discovery/validation/validation_test.go`, `TestValidateEndpointSlice`: ports, metadata.
#[rustfmt::skip]
#[test]
fn slice_ports_and_metadata() {
    fn names(slice: &mut EndpointSlice, names: &[&str]) {
        slice.ports = names.iter().map(|name| slice_port(name)).collect();
    }
    check(
        slice,
        EndpointSlice::validate,
        &[
            ("nothing in it", |s| { s.ports.clear(); s.endpoints.clear(); }, &[]),
            ("empty-port-name", |s| names(s, &["", "http"]), &[]),
            ("long-port-name", |s| s.ports[0].name = Some("a".repeat(63)), &[]),
            ("bad-port-name-length", |s| s.ports[0].name = Some("a".repeat(64)),
                &["ports[0].name"]),
            ("bad-port-name-caps", |s| names(s, &["aCapital"]), &["ports[0].name"]),
            ("bad-port-name-chars", |s| names(s, &["almost_valid"]), &["ports[0].name"]),
            ("duplicate-port-name", |s| names(s, &["", ""]), &["ports[1].name"]),
            ("every port", |s| s.ports[0].port = None, &[]),
            ("port 0", |s| s.ports[0].port = Some(0), &["ports[0].port"]),
            ("no protocol", |s| s.ports[0].protocol = None, &["ports[0].protocol"]),
            ("bad protocol", |s| s.ports[0].protocol = Some("foo".into()), &["ports[0].protocol"]),
            ("bad-app-protocol", |s| s.ports[0].app_protocol = Some("--".into()),
                &["ports[0].appProtocol"]),
            ("max-ports", |s| s.ports = (0..20_000).map(|n| slice_port(&format!("p{n}"))).collect(),
                &[]),
            ("too-many-ports",
                |s| s.ports = (0..20_001).map(|n| slice_port(&format!("p{n}"))).collect(),
                &["ports"]),
            ("bad-meta", |s| s.metadata.name = "*&^".into(), &["metadata.name"]),
            ("empty-everything", |s| *s = EndpointSlice::default(),
                &["metadata.namespace", "metadata.name", "addressType"]),
            ("defaults", |s| { s.ports = vec![SlicePort::default()]; s.set_defaults(); }, &[]),
        ],
    );
}

fn pod() -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = "ns".into();
    pod.metadata.name = "abc".into();
    let mut container = Container::default();
    container.ports = vec![container_port("http", 80)];
    pod.spec.containers = vec![container.clone()];
    pod.spec.init_containers = vec![container];
    pod.status.phase = "Running".into();
    pod.status.pod_ip = "10.0.0.1".into();
    pod.status.pod_ips = vec![PodIp::default(), PodIp::default()];
    pod.status.pod_ips[0].ip = "10.0.0.1".into();
    pod.status.pod_ips[1].ip = "fd00::1".into();
    pod
}

fn container_port(name: &str, number: i32) -> ContainerPort {
    let mut port = ContainerPort::default();
    port.name = name.into();
    port.container_port = number;
    port.protocol = "TCP".into();
    port
}

/// The fields of a pod that matter here, by the rules of `validateContainerPorts` and `validatePodIPs`.
#[rustfmt::skip]
#[test]
fn pod_rows() {
    fn first(pod: &mut Pod) -> &mut ContainerPort {
        &mut pod.spec.containers[0].ports[0]
    }
    check(
        pod,
        Pod::validate,
        &[
            ("valid", |_| {}, &[]),
            ("no namespace", |p| p.metadata.namespace.clear(), &["metadata.namespace"]),
            ("name is a subdomain", |p| p.metadata.name = "a.b.1".into(), &[]),
            ("port 0", |p| first(p).container_port = 0,
                &["spec.containers[0].ports[0].containerPort"]),
            ("port 65536 of an init container",
                |p| p.spec.init_containers[0].ports[0].container_port = 65_536,
                &["spec.initContainers[0].ports[0].containerPort"]),
            ("no protocol", |p| first(p).protocol.clear(),
                &["spec.containers[0].ports[0].protocol"]),
            ("long port name", |p| first(p).name = "a".repeat(16),
                &["spec.containers[0].ports[0].name"]),
            ("digits as port name", |p| first(p).name = "80".into(),
                &["spec.containers[0].ports[0].name"]),
            ("port name twice in a container",
                |p| p.spec.containers[0].ports.push(container_port("http", 81)),
                &["spec.containers[0].ports[1].name"]),
            ("port name in two containers",
                |p| p.spec.containers.push(p.spec.containers[0].clone()), &[]),
            ("hostname", |p| p.spec.hostname = "a.b".into(), &["spec.hostname"]),
            ("subdomain", |p| p.spec.subdomain = "A".into(), &["spec.subdomain"]),
            ("node name", |p| p.spec.node_name = "node_1".into(), &["spec.nodeName"]),
            ("phase", |p| p.status.phase = "Evicted".into(), &["status.phase"]),
            ("podIPs", |p| p.status.pod_ips[1].ip = "10.0.0".into(), &["status.podIPs[1].ip"]),
            ("podIP", |p| p.status.pod_ip = "10.0.0.9".into(), &["status.podIP"]),
            ("defaults", |p| { p.status.pod_ip.clear(); p.set_defaults(); }, &[]),
        ],
    );
}

fn node() -> Node {
    let mut node = Node::default();
    node.metadata.name = "abc".into();
    node.spec.pod_cidrs = texts(&["192.168.0.0/16"]);
    let mut address = NodeAddress::default();
    address.kind = "InternalIP".into();
    address.address = "192.0.2.1".into();
    node.status.addresses = vec![address];
    node
}

/// Kubernetes `pkg/apis/core/validation/validation_test.go`, `TestValidateNode`; that addresses are checked is this
/// crate's own.
#[rustfmt::skip]
#[test]
fn node_rows() {
    check(
        node,
        Node::validate,
        &[
            ("valid", |_| {}, &[]),
            ("zero-length Name", |n| n.metadata.name.clear(), &["metadata.name"]),
            ("invalid-labels",
                |n| { n.metadata.labels.insert("Special=Equals".into(), "b".into()); },
                &["metadata.labels[Special=Equals]"]),
            ("dual-stack", |n| n.spec.pod_cidrs.push("fd00::/64".into()), &[]),
            ("invalid-pod-cidr", |n| n.spec.pod_cidrs = texts(&["192.168.0.0"]),
                &["spec.podCIDRs[0]"]),
            ("duplicate-pod-cidr", |n| n.spec.pod_cidrs = texts(&["10.0.0.1/16", "10.0.0.1/16"]),
                &["spec.podCIDRs"]),
            ("address", |n| n.status.addresses[0].address = "something".into(),
                &["status.addresses[0].address"]),
            (
                "name",
                |n| {
                    n.status.addresses[0].kind = "Hostname".into();
                    n.status.addresses[0].address = "something".into();
                },
                &[],
            ),
        ],
    );
}
