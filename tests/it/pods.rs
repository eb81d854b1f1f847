//! Pods as their manifests have them: which of them are endpoints, under what hostname and on which ports.

use serde_json::{Value, from_value, json};
use svcplane::endpoints::{EndpointPort, EndpointSet};
use svcplane::k8s;
use svcplane::name::DnsLabel;
use svcplane::net::Protocol;
use svcplane::node::Nodes;
use svcplane::pod::Pod;
use svcplane::service::Service;

/// A pod with a label, an address and what `spec` and `status` add.
fn pod(namespace: &str, spec: &Value, status: &Value) -> Pod {
    let metadata = json!({ "namespace": namespace, "name": "pod", "labels": { "app": "x" } });
    let manifest = json!({ "metadata": metadata, "spec": spec, "status": status });
    let mut mirror: k8s::Pod = from_value(manifest).expect("a pod");
    mirror.set_defaults();
    mirror.convert().expect("a name").object
}

fn running(namespace: &str, spec: &Value) -> Pod {
    pod(namespace, spec, &json!({ "phase": "Running", "podIP": "1.2.3.4" }))
}

/// A Service that selects that label.
fn service(namespace: &str, name: &str, ports: &Value) -> Service {
    let mut mirror: k8s::Service = from_value(json!({
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "selector": { "app": "x" }, "ipFamilies": ["IPv4"], "ports": ports },
    }))
    .expect("a Service");
    mirror.set_defaults();
    mirror.convert().expect("a name").object
}

fn resolve(service: &Service, pod: &Pod) -> EndpointSet {
    EndpointSet::resolve(service, [pod], &Nodes::default())
}

/// Kubernetes endpointslice `util/controller_utils_test.go`, `TestShouldPodBeInEndpoints`, as for `EndpointSlices`:
/// terminating pods count.
#[test]
fn pods_that_count() {
    let (ip, none) = (json!("1.2.3.4"), json!([]));
    let both = json!([{ "ip": "1.2.3.4" }, { "ip": "1234::5678:0000:0000:9abc:def0" }]);
    for (name, restart, phase, pod_ip, pod_ips, expected) in [
        ("failed, never restarted", "Never", "Failed", &ip, &none, false),
        ("succeeded, never restarted", "Never", "Succeeded", &ip, &none, false),
        ("succeeded, restarted on failure", "OnFailure", "Succeeded", &ip, &none, false),
        ("no address", "Never", "Running", &json!(""), &none, false),
        ("failed, always restarted", "Always", "Failed", &ip, &none, false),
        ("pending", "Never", "Pending", &ip, &none, true),
        ("unknown", "OnFailure", "Unknown", &ip, &none, true),
        ("running", "Never", "Running", &ip, &none, true),
        ("two addresses", "Never", "Running", &json!(""), &both, true),
    ] {
        let spec = json!({ "restartPolicy": restart });
        let status = json!({ "phase": phase, "podIP": pod_ip, "podIPs": pod_ips });
        let set = resolve(&service("ns", "svc", &json!([])), &pod("ns", &spec, &status));
        assert_eq!(!set.is_empty(), expected, "{name}");
    }

    let mut terminating: k8s::Pod = (&running("ns", &json!({}))).into();
    terminating.metadata.deletion_timestamp = "2026-03-01T12:00:00Z".into();
    let terminating = terminating.convert().expect("a name").object;
    let set = resolve(&service("ns", "svc", &json!([])), &terminating);
    assert_eq!(set.endpoints().count(), 1, "terminating");
}

/// Kubernetes endpointslice `util/controller_utils_test.go`, `TestShouldSetHostname`.
#[test]
fn hostnames() {
    for (name, namespace, hostname, subdomain, service, expected) in [
        ("all matching", "ns", "foo", "svc-name", ("ns", "svc-name"), Some("foo")),
        ("hostname not set", "ns", "", "svc-name", ("ns", "svc-name"), None),
        ("different name and subdomain", "ns", "hostname", "subdomain", ("ns", "name"), None),
        ("different namespace", "ns1", "hostname", "svc-name", ("ns2", "svc-name"), None),
    ] {
        let pod = running(namespace, &json!({ "hostname": hostname, "subdomain": subdomain }));
        let set = resolve(&self::service(service.0, service.1, &json!([])), &pod);
        let found = set.endpoints().find_map(|endpoint| endpoint.hostname.as_ref());
        assert_eq!(found.map(DnsLabel::as_str), expected, "{name}");
    }
}

/// What it is, the target port, the ports of each container and of each init container, the number expected.
type PortRow = (&'static str, Value, Value, Value, Option<u16>);

/// Kubernetes endpointslice `utils_test.go`, `TestFindPort`.
#[test]
#[rustfmt::skip]
fn target_ports() {
    let tcp = |name: &str, number: u16| json!({ "name": name, "containerPort": number, "protocol": "TCP" });
    let udp = || json!({ "containerPort": 11, "protocol": "UDP" });
    let with = |field: &str, value: Value| {
        let mut port = tcp("p", 11);
        port[field] = value;
        json!([{ "ports": [port] }])
    };
    let sidecar = json!([{ "restartPolicy": "Always", "ports": [tcp("a", 80)] }]);
    let none = || json!([]);
    let rows: [PortRow; 14] = [
        ("a number, no ports", json!(93), json!([{}]), none(), Some(93)),
        ("a number, ports", json!(93), json!([{ "ports": [udp(), tcp("p", 22)] }]), none(), Some(93)),
        ("a name, no ports", json!("p"), json!([{}]), none(), None),
        ("a name of one container", json!("q"), json!([{ "ports": [udp(), tcp("p", 22), tcp("q", 33)] }]), none(),
            Some(33)),
        ("a name of the second container", json!("q"),
            json!([{ "ports": [udp(), tcp("p", 22)] }, { "ports": [tcp("q", 33)] }]), none(), Some(33)),
        ("two names, one number", json!("q"), json!([{ "ports": [tcp("p", 22), tcp("q", 22)] }]), none(), Some(22)),
        ("an unknown protocol", json!("p"), with("protocol", json!("snmp")), none(), None),
        ("the wrong protocol", json!("p"), with("protocol", json!("SCTP")), none(), None),
        ("a host port", json!("p"), with("hostPort", json!(81)), none(), Some(11)),
        ("an invalid host port", json!("p"), with("hostPort", json!(-1)), none(), Some(11)),
        ("a host address", json!("p"), with("hostIP", json!("1.2.3.4")), none(), Some(11)),
        ("a sidecar", json!("a"), json!([{}]), sidecar.clone(), Some(80)),
        ("an ordinary init container", json!("a"), json!([{}]), json!([{ "ports": [tcp("a", 80)] }]), None),
        ("a sidecar and two containers", json!("a"), json!([{ "ports": [tcp("a", 81)] }, { "ports": [tcp("a", 82)] }]),
            sidecar, Some(81)),
    ];
    for (name, target, containers, init_containers, expected) in rows {
        let service = service("ns", "svc", &json!([{ "port": 80, "targetPort": target }]));
        let pod = running("ns", &json!({ "containers": containers, "initContainers": init_containers }));
        let set = resolve(&service, &pod);
        let found = set.port("", Protocol::Tcp).map(|(addr, _)| addr.port()).next();
        assert_eq!(found, expected, "{name}");
    }
}

/// Kubernetes endpointslice `utils_test.go`, `TestGetEndpointPorts`.
#[test]
fn endpoint_ports() {
    let port = |name: &str, number: u16, app_protocol: Option<&str>| {
        let mut port = EndpointPort::new(number);
        port.name = Some(name.parse().expect("a label"));
        port.app_protocol = app_protocol.map(Into::into);
        port
    };
    let named =
        |name: &str, number: u16| json!({ "ports": [{ "name": name, "containerPort": number }] });
    let http = json!({ "name": "http", "port": 80, "targetPort": 80 });
    let custom = json!({ "name": "http", "port": 80, "targetPort": 80,
        "appProtocol": "example.com/custom-protocol" });
    let https =
        json!({ "name": "https", "port": 443, "targetPort": "https", "appProtocol": "https" });
    let by_name = json!({ "name": "http", "port": 80, "targetPort": "http" });
    let sidecar = json!({ "restartPolicy": "Always",
        "ports": [{ "name": "http", "containerPort": 8080 }] });
    for (name, ports, spec, expected) in [
        (
            "appProtocol of one port",
            json!([custom]),
            json!({ "containers": [{}] }),
            vec![port("http", 80, Some("example.com/custom-protocol"))],
        ),
        (
            "a number, and a name with appProtocol",
            json!([http, https]),
            json!({ "containers": [named("https", 443)] }),
            vec![port("http", 80, None), port("https", 443, Some("https"))],
        ),
        (
            "a sidecar and a container with one name",
            json!([by_name]),
            json!({ "initContainers": [sidecar], "containers": [named("http", 8081)] }),
            vec![port("http", 8081, None)],
        ),
    ] {
        let set = resolve(&service("ns", "svc", &ports), &running("ns", &spec));
        assert_eq!(*set.endpoints().next().expect("an endpoint").ports, *expected, "{name}");
    }
}
