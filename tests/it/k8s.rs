//! Kubernetes objects: as they are written, what is filled in, and what becomes of them.

use proptest::prelude::*;
use svcplane::field::FieldErrorKind;
use svcplane::k8s::{
    ClientIpConfig, Condition, Container, ContainerPort, EndpointAddress, EndpointHints,
    EndpointPort, EndpointSlice, EndpointSubset, Endpoints, ForNode, ForZone, IntOrString,
    LoadBalancerIngress, Node, NodeAddress, ObjectMeta, ObjectReference, OwnerReference, Pod,
    PodIp, Service, ServicePort, SessionAffinityConfig, SliceEndpoint, SlicePort,
};
use svcplane::service::ServiceKind;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.into()).collect()
}

fn client_ip(timeout: Option<i32>) -> SessionAffinityConfig {
    let mut client_ip = ClientIpConfig::default();
    client_ip.timeout_seconds = timeout;
    let mut config = SessionAffinityConfig::default();
    config.client_ip = Some(client_ip);
    config
}

fn ingress(ip: &str) -> LoadBalancerIngress {
    let mut ingress = LoadBalancerIngress::default();
    ingress.ip = ip.into();
    ingress
}

/// Kubernetes apimachinery `pkg/util/intstr/intstr_test.go`, `TestParse`: a decimal of 32 bits is a number. The others:
/// Go's `strconv.ParseInt`.
#[test]
fn int_or_string_of_text() {
    for (text, expected) in [
        ("0", Some(0)),
        ("2147483647", Some(i32::MAX)),
        ("-2147483648", Some(i32::MIN)),
        ("2147483648", None),
        ("-2147483649", None),
        ("80", Some(80)),
        ("+80", Some(80)),
        ("0080", Some(80)),
        ("", None),
        ("http", None),
        ("80%", None),
        (" 80", None),
        ("8_0", None),
        ("0x50", None),
        ("+-1", None),
        ("8.0", None),
    ] {
        let expected = expected.map_or_else(|| text.into(), IntOrString::Int);
        assert_eq!(text.parse(), Ok(expected), "{text:?}");
    }
}

/// A Service with one port, and what its defaults are expected to be.
type DefaultsRow = (&'static str, fn(&mut Service), fn(&Service) -> bool);

// Kubernetes `pkg/apis/core/v1/defaults.go`, SetDefaults_Service, and the Service strategy.
#[rustfmt::skip]
const DEFAULTS: &[DefaultsRow] = &[
    ("type", |_| {}, |s| s.spec.kind == "ClusterIP"),
    ("affinity", |_| {}, |s| s.spec.session_affinity == "None"),
    ("protocol", |_| {}, |s| s.spec.ports[0].protocol == "TCP"),
    ("protocol kept", |s| s.spec.ports[0].protocol = "UDP".into(),
        |s| s.spec.ports[0].protocol == "UDP"),
    ("target nil", |_| {}, |s| s.spec.ports[0].target_port == Some(80.into())),
    ("target 0", |s| s.spec.ports[0].target_port = Some(0.into()),
        |s| s.spec.ports[0].target_port == Some(80.into())),
    ("target \"\"", |s| s.spec.ports[0].target_port = Some("".into()),
        |s| s.spec.ports[0].target_port == Some(80.into())),
    ("target kept", |s| s.spec.ports[0].target_port = Some("http".into()),
        |s| s.spec.ports[0].target_port == Some("http".into())),
    ("internal policy", |_| {}, |s| s.spec.internal_traffic_policy.as_deref() == Some("Cluster")),
    ("internal policy, NodePort", |s| s.spec.kind = "NodePort".into(),
        |s| s.spec.internal_traffic_policy.as_deref() == Some("Cluster")),
    ("internal policy, LoadBalancer", |s| s.spec.kind = "LoadBalancer".into(),
        |s| s.spec.internal_traffic_policy.as_deref() == Some("Cluster")),
    ("internal policy, ExternalName", |s| s.spec.kind = "ExternalName".into(),
        |s| s.spec.internal_traffic_policy.is_none()),
    ("external policy, ClusterIP", |_| {}, |s| s.spec.external_traffic_policy.is_empty()),
    ("external policy, external IPs", |s| s.spec.external_ips = texts(&["1.2.3.4"]),
        |s| s.spec.external_traffic_policy == "Cluster"),
    ("external policy, NodePort", |s| s.spec.kind = "NodePort".into(),
        |s| s.spec.external_traffic_policy == "Cluster"),
    ("external policy, LoadBalancer", |s| s.spec.kind = "LoadBalancer".into(),
        |s| s.spec.external_traffic_policy == "Cluster"),
    ("allocate, LoadBalancer", |s| s.spec.kind = "LoadBalancer".into(),
        |s| s.spec.allocate_load_balancer_node_ports == Some(true)),
    ("allocate, NodePort", |s| s.spec.kind = "NodePort".into(),
        |s| s.spec.allocate_load_balancer_node_ports.is_none()),
    ("affinity config wiped", |s| s.spec.session_affinity_config = Some(client_ip(Some(90))),
        |s| s.spec.session_affinity_config.is_none()),
    ("affinity config", |s| s.spec.session_affinity = "ClientIP".into(),
        |s| s.spec.session_affinity_config == Some(client_ip(Some(10_800)))),
    (
        "affinity timeout",
        |s| {
            s.spec.session_affinity = "ClientIP".into();
            s.spec.session_affinity_config = Some(client_ip(None));
        },
        |s| s.spec.session_affinity_config == Some(client_ip(Some(10_800))),
    ),
    (
        "affinity timeout kept",
        |s| {
            s.spec.session_affinity = "ClientIP".into();
            s.spec.session_affinity_config = Some(client_ip(Some(0)));
        },
        |s| s.spec.session_affinity_config == Some(client_ip(Some(0))),
    ),
    (
        "ipMode",
        |s| {
            s.spec.kind = "LoadBalancer".into();
            s.status.load_balancer.ingress = vec![ingress("1.2.3.4"), ingress("")];
        },
        |s| {
            let modes = s.status.load_balancer.ingress.iter().map(|i| i.ip_mode.as_deref());
            modes.eq([Some("VIP"), None])
        },
    ),
    ("clusterIPs", |s| s.spec.cluster_ip = "None".into(), |s| s.spec.cluster_ips == ["None"]),
    ("clusterIP is not filled in", |s| s.spec.cluster_ips = texts(&["10.0.0.1"]),
        |s| s.spec.cluster_ip.is_empty()),
];

#[test]
fn defaults() {
    for (name, tweak, holds) in DEFAULTS {
        let mut service = Service::default();
        service.spec.ports = vec![ServicePort::default()];
        service.spec.ports[0].port = 80;
        tweak(&mut service);
        service.set_defaults();
        assert!(holds(&service), "{name}: {:#?}", service.spec);
    }
}

#[cfg(feature = "serde")]
mod json {
    use serde::Deserialize as _;
    use serde_json::{Value, from_value, json, to_value};
    use svcplane::k8s::{
        EndpointSlice, Endpoints, IntOrString, List, Node, Object, Pod, Service, ServicePort,
    };

    fn object(value: &Value) -> Object {
        from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
    }

    /// What `kubectl get service redis -o json` prints.
    fn redis() -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": "{\"apiVersion\":\"v1\"}\n"
                },
                "creationTimestamp": "2026-03-01T12:00:00Z",
                "labels": { "app": "redis" },
                "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }],
                "name": "redis",
                "namespace": "default",
                "resourceVersion": "4711",
                "uid": "5e7e5e4f-7b0e-4f0d-a9d5-0d5f1f3d3c1a"
            },
            "spec": {
                "allocateLoadBalancerNodePorts": true,
                "clusterIP": "10.96.12.34",
                "clusterIPs": ["10.96.12.34"],
                "externalIPs": null,
                "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [
                    { "name": "redis", "nodePort": 31234, "port": 6379, "protocol": "TCP",
                      "targetPort": "redis" },
                    { "name": "metrics", "port": 9121, "protocol": "TCP", "targetPort": 9121,
                      "appProtocol": null }
                ],
                "selector": { "app": "redis" },
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 600 } },
                "somethingNewer": { "deep": [1, 2.5, null] },
                "type": "LoadBalancer"
            },
            "status": {
                "conditions": [],
                "loadBalancer": { "ingress": [{ "ip": "192.0.2.7", "ipMode": "VIP", "ports": [] }] }
            }
        })
    }

    #[test]
    fn a_service_as_kubectl_prints_it() {
        let mut service: Service = from_value(redis()).unwrap();
        let stored = service.clone();
        service.set_defaults();
        assert_eq!(service, stored);
        assert_eq!(service.validate(), []);
        let converted = service.convert().unwrap();
        assert_eq!(converted.warnings, []);
        let redis = converted.object;
        assert_eq!(redis.name.to_string(), "default/redis");
        assert_eq!(&*redis.uid, "5e7e5e4f-7b0e-4f0d-a9d5-0d5f1f3d3c1a");
        assert_eq!(redis.created.unwrap().to_string(), "2026-03-01T12:00:00Z");
        assert_eq!(
            redis.cluster_ips.as_slice(),
            ["10.96.12.34".parse::<core::net::IpAddr>().unwrap()]
        );
        assert_eq!(redis.ports.len(), 2);
        assert_eq!(redis.ports[0].node_port, Some(31234));
        assert_eq!(redis.client_ip_affinity.unwrap().as_secs(), 600);
        assert_eq!(redis.load_balancer.virtual_ips().count(), 1);
        assert!(redis.external_ips.is_empty());
    }

    #[test]
    fn null_absent_and_empty_are_the_same() {
        let empty: Service = from_value(json!({})).unwrap();
        for text in [
            json!({ "metadata": null, "spec": null, "status": null }),
            json!({ "spec": { "ports": null, "selector": null, "clusterIP": null, "type": null } }),
            json!({ "spec": { "ports": [], "selector": {}, "healthCheckNodePort": null } }),
            json!({ "status": { "loadBalancer": {} }, "metadata": { "labels": null } }),
        ] {
            assert_eq!(from_value::<Service>(text.clone()).unwrap(), empty, "{text}");
        }
        assert_eq!(to_value(&empty).unwrap(), json!({}));
    }

    #[test]
    fn field_names_are_those_of_the_api() {
        let node = json!({
            "metadata": { "name": "n", "deletionTimestamp": "2026-03-01T12:00:00Z" },
            "spec": { "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"],
                      "taints": [{ "key": "k", "effect": "NoSchedule" }] },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }],
                        "conditions": [{ "type": "Ready", "status": "True" }] }
        });
        let pod = json!({
            "metadata": { "generateName": "p-", "namespace": "ns" },
            "spec": { "nodeName": "n", "hostNetwork": true, "hostname": "h", "subdomain": "s",
                      "initContainers": [{ "name": "i", "restartPolicy": "Always" }],
                      "containers": [{ "name": "c", "ports": [
                          { "name": "http", "containerPort": 80, "protocol": "TCP" }] }] },
            "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }] }
        });
        let endpoints = json!({
            "metadata": { "name": "e" },
            "subsets": [{ "ports": [{ "port": 80 }], "notReadyAddresses": [
                { "ip": "10.0.0.1", "nodeName": "n", "targetRef": { "kind": "Pod", "name": "p" } }] }]
        });
        assert_eq!(to_value(from_value::<Node>(node.clone()).unwrap()).unwrap(), node);
        assert_eq!(to_value(from_value::<Pod>(pod.clone()).unwrap()).unwrap(), pod);
        assert_eq!(
            to_value(from_value::<Endpoints>(endpoints.clone()).unwrap()).unwrap(),
            endpoints
        );
        let mut redis = redis();
        for (at, field) in [
            ("/metadata", "managedFields"),
            ("/spec", "externalIPs"),
            ("/spec", "somethingNewer"),
            ("/spec/ports/1", "appProtocol"),
            ("/status", "conditions"),
            ("/status/loadBalancer/ingress/0", "ports"),
        ] {
            redis.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(field).unwrap();
        }
        assert_eq!(to_value(object(&redis)).unwrap(), redis);
    }

    fn items(object: Object) -> Vec<Object> {
        match object {
            Object::List(list) => list.items,
            other => panic!("not a list: {other:?}"),
        }
    }

    #[test]
    fn lists_of_any_kind() {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": "s" }, "endpoints": [{ "addresses": ["10.0.0.1"] }], "ports": null
        });
        let mixed = items(object(&json!({
            "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" },
            "items": [
                redis(), slice,
                { "apiVersion": "v1", "kind": "ConfigMap", "data": { "spec": "x" } },
                { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" } },
                { "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" } },
                { "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "e" } },
            ]
        })));
        assert!(
            matches!(
                &mixed[..],
                [
                    Object::Service(service), Object::EndpointSlice(slice), Object::Other,
                    Object::Pod(pod), Object::Node(node), Object::Endpoints(endpoints),
                ] if service.spec.ports.len() == 2 && slice.address_type == "IPv4"
                    && [&pod.metadata.name, &node.metadata.name, &endpoints.metadata.name]
                        == ["p", "n", "e"]
            ),
            "{mixed:#?}"
        );

        let typed = items(object(&json!({
            "apiVersion": "v1", "kind": "ServiceList", "metadata": {},
            "items": [{ "metadata": { "name": "a" } }, { "metadata": { "name": "b" } }]
        })));
        let names: Vec<_> = typed
            .iter()
            .map(|item| match item {
                Object::Service(service) => service.metadata.name.as_str(),
                other => panic!("not a Service: {other:?}"),
            })
            .collect();
        assert_eq!(names, ["a", "b"]);
        for list in ["PodList", "EndpointsList", "NodeList", "ServiceList", "List"] {
            for empty in [json!([]), json!(null)] {
                let list = json!({ "apiVersion": "v1", "kind": list, "items": empty });
                assert_eq!(items(object(&list)), [], "{list}");
            }
        }
    }

    #[test]
    fn other_groups_are_other() {
        let mut failures = Vec::new();
        for text in [
            json!({
                "apiVersion": "serving.knative.dev/v1", "kind": "Service",
                "metadata": { "name": "hello", "namespace": "default" },
                "spec": {
                    "template": { "spec": { "containers": [{ "image": "ghcr.io/knative/hello" }] } },
                    "traffic": [{ "latestRevision": true, "percent": 100 }]
                },
                "status": { "address": { "url": "http://hello.default.svc.cluster.local" } }
            }),
            json!({ "apiVersion": "example.com/v1", "kind": "Service", "spec": { "ports": "http" } }),
            json!({ "apiVersion": "example.com/v1", "kind": "Pod", "spec": ["a"], "status": "up" }),
            json!({ "apiVersion": "example.com/v1", "kind": "NodeList", "items": "none" }),
            json!({ "apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice" }),
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "spec": { "replicas": 3 } }),
            json!({ "kind": "Service", "metadata": { "name": "no-version" } }),
        ] {
            let got = from_value::<Object>(text.clone());
            if !matches!(got, Ok(Object::Other)) {
                failures.push(format!("{got:?}: {text}"));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(from_value::<Object>(json!({ "apiVersion": "v1" })).is_err(), "no kind");
    }

    #[test]
    fn objects_are_written_with_their_kind() {
        let mut list = List::default();
        list.items =
            vec![object(&redis()), Object::EndpointSlice(EndpointSlice::default()), Object::Other];
        let written = to_value(Object::List(list.clone())).unwrap();
        assert_eq!(written["kind"], "List");
        assert_eq!(written["items"][1]["apiVersion"], "discovery.k8s.io/v1");
        assert_eq!(object(&written), Object::List(list));
    }

    #[test]
    fn yaml_documents() {
        let text = r#"
kind: Service
apiVersion: v1
metadata: { namespace: default, name: web }
spec:
  clusterIP: None
  selector: {app: web, version: "1"}
  ports:
  - {name: a, port: 80, targetPort: 8080}
  - {name: b, port: 81, targetPort: "8080"}
  - {name: c, port: 82, targetPort: http}
  externalIPs: ~
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
spec: {routes: []}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: node-1}
"#;
        let documents: Vec<_> = serde_norway::Deserializer::from_str(text)
            .map(|document| Object::deserialize(document).unwrap())
            .collect();
        let [Object::Service(service), Object::Other, Object::List(list)] = &documents[..] else {
            panic!("{documents:#?}")
        };
        let targets: Vec<_> = service.spec.ports.iter().map(|p| p.target_port.clone()).collect();
        assert_eq!(targets, [Some(8080.into()), Some("8080".into()), Some("http".into())]);
        assert_eq!(service.spec.cluster_ip, "None");
        assert_eq!(service.spec.selector["version"], "1");
        assert!(matches!(&list.items[..], [Object::Node(node)] if node.metadata.name == "node-1"));
    }

    /// Kubernetes apimachinery `pkg/util/intstr/intstr_test.go`, `TestIntOrStringUnmarshalJSON` and
    /// `TestIntOrStringMarshalJSON`: the JSON type decides.
    #[test]
    fn int_or_string() {
        for (text, value) in [
            (json!(123), 123.into()),
            (json!("123"), IntOrString::from("123")),
            (json!(0), 0.into()),
            (json!(8080), 8080.into()),
            (json!(i32::MAX), i32::MAX.into()),
            (json!(i32::MIN), i32::MIN.into()),
            (json!("8080"), IntOrString::from("8080")),
            (json!("http"), "http".into()),
            (json!(""), "".into()),
        ] {
            assert_eq!(from_value::<IntOrString>(text.clone()).unwrap(), value, "{text}");
            assert_eq!(to_value(&value).unwrap(), text);
            let mut port = ServicePort::default();
            port.target_port = Some(value);
            let written = to_value(&port).unwrap();
            assert_eq!(written, json!({ "targetPort": text }));
            assert_eq!(from_value::<ServicePort>(written).unwrap(), port);
        }
        for text in [json!(2_147_483_648_i64), json!(-2_147_483_649_i64), json!(80.5), json!(true)]
        {
            assert!(from_value::<IntOrString>(text.clone()).is_err(), "{text}");
        }
        let null = json!({ "targetPort": null });
        assert_eq!(from_value::<ServicePort>(null).unwrap(), ServicePort::default());
    }

    proptest::proptest! {
        #[test]
        fn written_and_read_again(
            service in super::service(), pod in super::pod(), node in super::node(),
            endpoints in super::endpoints(), slice in super::slice(),
        ) {
            macro_rules! same {
                ($object:expr, $type:ty) => {
                    let text = serde_json::to_string(&$object).unwrap();
                    assert_eq!(serde_json::from_str::<$type>(&text).unwrap(), $object, "{text}");
                };
            }
            same!(service, Service);
            same!(pod, Pod);
            same!(node, Node);
            same!(endpoints, Endpoints);
            same!(slice, EndpointSlice);
            let service = Object::Service(Box::new(service));
            same!(service, Object);
        }
    }
}

fn good_service() -> Service {
    let mut service = Service::default();
    service.metadata.namespace = "default".into();
    service.metadata.name = "web".into();
    for (name, number) in [("http", 80), ("https", 443)] {
        let mut port = ServicePort::default();
        port.name = name.into();
        port.port = number;
        port.node_port = 30_000 + number;
        port.target_port = Some(name.into());
        service.spec.ports.push(port);
    }
    service.spec.kind = "LoadBalancer".into();
    service.spec.cluster_ip = "10.0.0.1".into();
    service.spec.cluster_ips = texts(&["10.0.0.1", "fd00::1"]);
    service.spec.ip_families = texts(&["IPv4", "IPv6"]);
    service.spec.external_ips = texts(&["192.0.2.1", "192.0.2.2"]);
    service.spec.load_balancer_source_ranges = texts(&["192.0.2.0/24", "2001:db8::/32"]);
    service.status.load_balancer.ingress = vec![ingress("192.0.2.9"), ingress("192.0.2.10")];
    service
}

/// A field's path, how it is spoilt, and the same object without it.
type Spoilt<T> = (&'static str, fn(&mut T), fn(&mut T));

macro_rules! check_spoilt {
    ($good:expr, $rows:expr) => {
        let mut failures = Vec::new();
        for (path, spoil, remove) in $rows {
            let (mut spoilt, mut without) = ($good, $good);
            spoil(&mut spoilt);
            remove(&mut without);
            let without = without.convert().unwrap();
            assert_eq!(without.warnings, [], "{path}: the object without it");
            let converted = spoilt.convert().unwrap_or_else(|error| panic!("{path}: {error}"));
            let got: Vec<_> = converted.warnings.iter().map(|w| (w.path(), w.kind())).collect();
            if got != [(path, FieldErrorKind::Ignored)] || converted.object != without.object {
                failures.push(format!("{path}: {converted:#?}"));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    };
}

#[rustfmt::skip]
#[test]
fn one_bad_field_of_a_service_port() {
    let rows: [Spoilt<Service>; 5] = [
        ("spec.ports[0].port", |s| s.spec.ports[0].port = 65_536, |s| drop(s.spec.ports.remove(0))),
        ("spec.ports[1].name", |s| s.spec.ports[1].name = "HTTPS".into(),
            |s| drop(s.spec.ports.pop())),
        ("spec.ports[1].protocol", |s| s.spec.ports[1].protocol = "QUIC".into(),
            |s| drop(s.spec.ports.pop())),
        ("spec.ports[0].targetPort", |s| s.spec.ports[0].target_port = Some((-1).into()),
            |s| s.spec.ports[0].target_port = Some("-1".into())),
        ("spec.ports[0].nodePort", |s| s.spec.ports[0].node_port = 70_000,
            |s| s.spec.ports[0].node_port = 0),
    ];
    check_spoilt!(good_service(), rows);
}

#[rustfmt::skip]
#[test]
fn one_bad_address_of_a_service() {
    let rows: [Spoilt<Service>; 7] = [
        ("spec.clusterIPs[1]", |s| s.spec.cluster_ips[1] = "fd00::1%eth0".into(),
            |s| drop(s.spec.cluster_ips.pop())),
        ("spec.clusterIP", |s| { s.spec.cluster_ips.clear(); s.spec.cluster_ip = "10.0.0".into(); },
            |s| { s.spec.cluster_ips.clear(); s.spec.cluster_ip.clear(); }),
        ("spec.ipFamilies[1]", |s| s.spec.ip_families[1] = "IPv5".into(),
            |s| drop(s.spec.ip_families.pop())),
        ("spec.externalIPs[0]", |s| s.spec.external_ips[0] = "a.example".into(),
            |s| drop(s.spec.external_ips.remove(0))),
        ("spec.loadBalancerSourceRanges[0]",
            |s| s.spec.load_balancer_source_ranges[0] = "1.2.3.4/33".into(),
            |s| drop(s.spec.load_balancer_source_ranges.remove(0))),
        ("status.loadBalancer.ingress[1].ip",
            |s| s.status.load_balancer.ingress[1].ip = "192.0.2.10:80".into(),
            |s| s.status.load_balancer.ingress[1].ip.clear()),
        ("status.loadBalancer.ingress[0].ipMode",
            |s| s.status.load_balancer.ingress[0].ip_mode = Some("Nat".into()), |_| {}),
    ];
    check_spoilt!(good_service(), rows);
}

#[rustfmt::skip]
#[test]
fn one_bad_setting_of_a_service() {
    let rows: [Spoilt<Service>; 10] = [
        ("metadata.creationTimestamp", |s| s.metadata.creation_timestamp = "yesterday".into(),
            |_| {}),
        ("metadata.deletionTimestamp", |s| s.metadata.deletion_timestamp = "2026".into(), |_| {}),
        ("spec.type", |s| s.spec.kind = "Gateway".into(), |s| s.spec.kind.clear()),
        ("spec.ipFamilyPolicy", |s| s.spec.ip_family_policy = Some("Dual".into()), |_| {}),
        ("spec.externalTrafficPolicy", |s| s.spec.external_traffic_policy = "Zone".into(), |_| {}),
        ("spec.internalTrafficPolicy", |s| s.spec.internal_traffic_policy = Some("local".into()),
            |_| {}),
        ("spec.healthCheckNodePort", |s| s.spec.health_check_node_port = -1, |_| {}),
        ("spec.sessionAffinity", |s| s.spec.session_affinity = "Cookie".into(), |_| {}),
        (
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            |s| {
                s.spec.session_affinity = "ClientIP".into();
                s.spec.session_affinity_config = Some(client_ip(Some(86_401)));
            },
            |s| s.spec.session_affinity = "ClientIP".into(),
        ),
        ("spec.trafficDistribution", |s| s.spec.traffic_distribution = Some("Near".into()), |_| {}),
    ];
    check_spoilt!(good_service(), rows);
}

fn good_pod() -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = "default".into();
    pod.metadata.name = "web-0".into();
    let mut container = Container::default();
    for (name, number) in [("http", 80), ("https", 443)] {
        let mut port = ContainerPort::default();
        port.name = name.into();
        port.container_port = number;
        container.ports.push(port);
    }
    pod.spec.containers = vec![container.clone()];
    container.restart_policy = Some("Always".into());
    pod.spec.init_containers = vec![Container::default(), container];
    pod.status.pod_ips = vec![PodIp::default(), PodIp::default()];
    pod.status.pod_ips[0].ip = "10.0.0.1".into();
    pod.status.pod_ips[1].ip = "fd00::1".into();
    pod
}

#[rustfmt::skip]
#[test]
fn one_bad_field_of_a_pod() {
    let rows: [Spoilt<Pod>; 10] = [
        ("metadata.deletionTimestamp", |p| p.metadata.deletion_timestamp = "now".into(), |_| {}),
        ("spec.containers[0].ports[1].containerPort",
            |p| p.spec.containers[0].ports[1].container_port = 0,
            |p| drop(p.spec.containers[0].ports.pop())),
        ("spec.initContainers[1].ports[0].protocol",
            |p| p.spec.init_containers[1].ports[0].protocol = "tcp".into(),
            |p| drop(p.spec.init_containers[1].ports.remove(0))),
        ("spec.containers[0].ports[0].name",
            |p| p.spec.containers[0].ports[0].name = "longer-than-15-bytes".into(),
            |p| p.spec.containers[0].ports[0].name.clear()),
        ("spec.hostname", |p| p.spec.hostname = "a.b".into(), |_| {}),
        ("spec.subdomain", |p| p.spec.subdomain = "_".into(), |_| {}),
        ("spec.nodeName", |p| p.spec.node_name = "node 1".into(), |_| {}),
        ("status.phase", |p| p.status.phase = "Evicted".into(),
            |p| p.status.phase = "Unknown".into()),
        ("status.podIPs[1].ip", |p| p.status.pod_ips[1].ip = "fd00::/64".into(),
            |p| drop(p.status.pod_ips.pop())),
        ("status.podIP", |p| { p.status.pod_ips.clear(); p.status.pod_ip = "10.0.0".into(); },
            |p| p.status.pod_ips.clear()),
    ];
    check_spoilt!(good_pod(), rows);
}

fn good_node() -> Node {
    let mut node = Node::default();
    node.metadata.name = "node-1".into();
    node.spec.pod_cidrs = texts(&["10.1.0.0/24", "fd00:1::/64"]);
    for address in ["192.0.2.1", "192.0.2.2"] {
        let mut entry = NodeAddress::default();
        entry.kind = "InternalIP".into();
        entry.address = address.into();
        node.status.addresses.push(entry);
    }
    node
}

#[rustfmt::skip]
#[test]
fn one_bad_field_of_a_node() {
    let rows: [Spoilt<Node>; 3] = [
        ("spec.podCIDRs[1]", |n| n.spec.pod_cidrs[1] = "fd00::/129".into(),
            |n| drop(n.spec.pod_cidrs.pop())),
        ("spec.podCIDR", |n| { n.spec.pod_cidrs.clear(); n.spec.pod_cidr = "10.0.0.0".into(); },
            |n| n.spec.pod_cidrs.clear()),
        ("status.addresses[0].address", |n| n.status.addresses[0].address = "node-1.example".into(),
            |n| drop(n.status.addresses.remove(0))),
    ];
    check_spoilt!(good_node(), rows);
}

fn good_endpoints() -> Endpoints {
    let mut endpoints = Endpoints::default();
    endpoints.metadata.namespace = "default".into();
    endpoints.metadata.name = "web".into();
    let mut subset = EndpointSubset::default();
    for number in [80, 443] {
        let mut port = EndpointPort::default();
        port.name = format!("p{number}");
        port.port = number;
        subset.ports.push(port);
    }
    for ip in ["10.0.0.1", "10.0.0.2"] {
        let mut address = EndpointAddress::default();
        address.ip = ip.into();
        subset.addresses.push(address);
    }
    subset.not_ready_addresses = subset.addresses.split_off(1);
    endpoints.subsets = vec![subset];
    endpoints
}

#[rustfmt::skip]
#[test]
fn one_bad_field_of_endpoints() {
    fn first(endpoints: &mut Endpoints) -> &mut EndpointAddress {
        &mut endpoints.subsets[0].addresses[0]
    }
    let rows: [Spoilt<Endpoints>; 6] = [
        ("subsets[0].ports[1].port", |e| e.subsets[0].ports[1].port = -1,
            |e| drop(e.subsets[0].ports.pop())),
        ("subsets[0].ports[0].name", |e| e.subsets[0].ports[0].name = "a_b".into(),
            |e| drop(e.subsets[0].ports.remove(0))),
        ("subsets[0].ports[1].protocol", |e| e.subsets[0].ports[1].protocol = "ICMP".into(),
            |e| drop(e.subsets[0].ports.pop())),
        ("subsets[0].notReadyAddresses[0].ip", |e| e.subsets[0].not_ready_addresses[0].ip.clear(),
            |e| drop(e.subsets[0].not_ready_addresses.pop())),
        ("subsets[0].addresses[0].hostname", |e| first(e).hostname = "-".into(), |_| {}),
        ("subsets[0].addresses[0].nodeName", |e| first(e).node_name = Some("*".into()), |_| {}),
    ];
    check_spoilt!(good_endpoints(), rows);
}

#[test]
fn only_a_bad_name_does_not_convert() {
    let long = "a".repeat(254);
    for (namespace, name, path) in [
        ("", "web", "metadata.namespace"),
        ("a.b", "web", "metadata.namespace"),
        ("Default", "Web", "metadata.namespace"),
        ("default", "", "metadata.name"),
        ("default", "a/b", "metadata.name"),
        ("default", &long, "metadata.name"),
    ] {
        let mut meta = ObjectMeta::default();
        meta.namespace = namespace.into();
        meta.name = name.into();
        let (mut service, mut pod, mut endpoints) = (good_service(), good_pod(), good_endpoints());
        service.metadata = meta.clone();
        pod.metadata = meta.clone();
        endpoints.metadata = meta;
        let errors = [
            service.convert().unwrap_err(),
            pod.convert().unwrap_err(),
            endpoints.convert().unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.path(), path, "{namespace:?} {name:?}: {error}");
        }
    }
    for name in ["", "Node", "a/b"] {
        let mut node = good_node();
        node.metadata.name = name.into();
        assert_eq!(node.convert().unwrap_err().path(), "metadata.name", "{name:?}");
    }
    let mut service = good_service();
    service.metadata.name = "1.web".into();
    assert_eq!(service.convert().unwrap().warnings, [], "a name of another object's form");
}

/// Choices, taken one by one; once they are used up, always the first of what there is.
struct Choices(std::vec::IntoIter<u8>);

const IPS: &[&str] = &[
    "10.0.0.1",
    "fd00::1",
    "",
    "None",
    "010.0.0.02",
    "::ffff:1.2.3.4",
    "1.2.3.400",
    "[::1]",
    "FD00::A",
];
const CIDRS: &[&str] =
    &["10.0.0.0/8", "", "1.2.3.4/24", " fd00::1/64 ", "::ffff:1.2.3.4/120", "10/8"];
const NUMBERS: &[i32] = &[0, 1, 80, 65_535, 65_536, -1, i32::MAX, i32::MIN];
const LABELS: &[&str] =
    &["", "http", "a-1", "UPPER", "-a", "12345", "sixteen-bytes-xx", "a.b", "ä", "a/b"];
const PROTOCOLS: &[&str] = &["", "TCP", "UDP", "SCTP", "tcp"];
const POLICIES: &[&str] = &["", "Cluster", "Local", "Zone"];
const TIMES: &[&str] = &[
    "",
    "2026-03-01T12:00:00Z",
    "2026-03-01t12:00:00.5+02:00",
    "0000-01-01T00:00:00+23:59",
    "9999-12-31T23:59:60-23:59",
    "yesterday",
];

impl Choices {
    fn index(&mut self, len: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % len
    }

    fn text(&mut self, pool: &[&str]) -> String {
        pool[self.index(pool.len())].into()
    }

    fn maybe(&mut self, pool: &[&str]) -> Option<String> {
        self.flag().then(|| self.text(pool))
    }

    fn number(&mut self) -> i32 {
        NUMBERS[self.index(NUMBERS.len())]
    }

    fn flag(&mut self) -> bool {
        self.index(2) == 1
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.index(4)).map(|_| item(self)).collect()
    }

    fn texts(&mut self, pool: &[&str]) -> Vec<String> {
        self.list(|c| c.text(pool))
    }

    fn meta(&mut self) -> ObjectMeta {
        let mut meta = ObjectMeta::default();
        meta.namespace = self.text(&["default", "default", "kube-system", "Bad"]);
        meta.name = self.text(&["web", "web", "a.1", "Bad"]);
        meta.uid = self.text(LABELS);
        meta.creation_timestamp = self.text(TIMES);
        meta.deletion_timestamp = self.text(TIMES);
        meta.labels = self.list(|c| (c.text(LABELS), c.text(LABELS))).into_iter().collect();
        meta.annotations = self.list(|c| (c.text(LABELS), c.text(LABELS))).into_iter().collect();
        meta
    }

    fn target(&mut self) -> IntOrString {
        if self.flag() { self.text(LABELS).as_str().into() } else { self.number().into() }
    }

    fn service_port(&mut self) -> ServicePort {
        let mut port = ServicePort::default();
        port.name = self.text(LABELS);
        port.protocol = self.text(PROTOCOLS);
        port.port = self.number();
        port.target_port = self.flag().then(|| self.target());
        port.node_port = self.number();
        port.app_protocol = self.maybe(LABELS);
        port
    }

    fn ingress(&mut self) -> LoadBalancerIngress {
        let mut ingress = ingress(&self.text(IPS));
        ingress.hostname = self.text(LABELS);
        ingress.ip_mode = self.maybe(&["VIP", "Proxy", "", "Nat"]);
        ingress
    }

    fn affinity(&mut self) -> SessionAffinityConfig {
        let mut config = SessionAffinityConfig::default();
        if self.flag() {
            config = client_ip(self.flag().then(|| self.number()));
        }
        config
    }

    fn service(&mut self) -> Service {
        let mut service = Service::default();
        service.metadata = self.meta();
        let spec = &mut service.spec;
        spec.kind = self.text(&["", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "X"]);
        spec.ports = self.list(Self::service_port);
        spec.selector = self.list(|c| (c.text(LABELS), c.text(LABELS))).into_iter().collect();
        spec.cluster_ip = self.text(IPS);
        spec.cluster_ips = self.texts(IPS);
        spec.external_ips = self.texts(IPS);
        spec.session_affinity = self.text(&["", "None", "ClientIP", "Cookie"]);
        spec.session_affinity_config = self.flag().then(|| self.affinity());
        spec.load_balancer_ip = self.text(IPS);
        spec.load_balancer_source_ranges = self.texts(CIDRS);
        spec.external_name = self.text(LABELS);
        spec.external_traffic_policy = self.text(POLICIES);
        spec.internal_traffic_policy = self.maybe(POLICIES);
        spec.health_check_node_port = self.number();
        spec.publish_not_ready_addresses = self.flag();
        spec.ip_families = self.texts(&["IPv4", "IPv6", "", "IPv5"]);
        spec.ip_family_policy = self.maybe(&["SingleStack", "PreferDualStack", "", "Dual"]);
        spec.allocate_load_balancer_node_ports = self.flag().then(|| self.flag());
        spec.load_balancer_class = self.maybe(LABELS);
        spec.traffic_distribution = self.maybe(&["PreferClose", "PreferSameNode", "", "Near"]);
        service.status.load_balancer.ingress = self.list(Self::ingress);
        service
    }

    fn container(&mut self) -> Container {
        let mut container = Container::default();
        container.name = self.text(LABELS);
        container.ports = self.list(|c| {
            let mut port = ContainerPort::default();
            port.name = c.text(LABELS);
            port.container_port = c.number();
            port.protocol = c.text(PROTOCOLS);
            port
        });
        container.restart_policy = self.maybe(&["Always", "OnFailure", ""]);
        container
    }

    fn conditions(&mut self) -> Vec<Condition> {
        self.list(|c| {
            let mut condition = Condition::default();
            condition.kind = c.text(&["Ready", "Initialized", ""]);
            condition.status = c.text(&["True", "False", "Unknown", "true"]);
            condition
        })
    }

    fn pod(&mut self) -> Pod {
        let mut pod = Pod::default();
        pod.metadata = self.meta();
        pod.spec.containers = self.list(Self::container);
        pod.spec.init_containers = self.list(Self::container);
        pod.spec.node_name = self.text(LABELS);
        pod.spec.hostname = self.text(LABELS);
        pod.spec.subdomain = self.text(LABELS);
        pod.spec.host_network = self.flag();
        pod.status.phase = self.text(&["", "Pending", "Running", "Failed", "Unknown", "Lost"]);
        pod.status.conditions = self.conditions();
        pod.status.pod_ip = self.text(IPS);
        pod.status.pod_ips = self.list(|c| {
            let mut ip = PodIp::default();
            ip.ip = c.text(IPS);
            ip
        });
        pod
    }

    fn node(&mut self) -> Node {
        let mut node = Node::default();
        node.metadata = self.meta();
        node.spec.pod_cidr = self.text(CIDRS);
        node.spec.pod_cidrs = self.texts(CIDRS);
        node.status.addresses = self.list(|c| {
            let mut address = NodeAddress::default();
            address.kind = c.text(&["InternalIP", "ExternalIP", "Hostname", ""]);
            address.address = c.text(IPS);
            address
        });
        node.status.conditions = self.conditions();
        let cpu = self.maybe(&["4", "3920m", "1n", "99e9", "-1", "", "x"]);
        let cpu = cpu.map(|cpu| ("cpu".to_owned(), cpu.as_str().into()));
        node.status.allocatable = cpu.into_iter().collect();
        node
    }

    fn address(&mut self) -> EndpointAddress {
        let mut address = EndpointAddress::default();
        address.ip = self.text(IPS);
        address.hostname = self.text(LABELS);
        address.node_name = self.maybe(LABELS);
        address.target_ref = self.flag().then(|| self.reference());
        address
    }

    fn reference(&mut self) -> ObjectReference {
        let mut reference = ObjectReference::default();
        reference.kind = self.text(&["Pod", "Node", ""]);
        reference.namespace = self.text(&["default", "", "Bad"]);
        (reference.name, reference.uid) = (self.text(LABELS), self.text(LABELS));
        reference
    }

    fn hints(&mut self) -> EndpointHints {
        let mut hints = EndpointHints::default();
        hints.for_zones = self.list(|c| {
            let mut zone = ForZone::default();
            zone.name = c.text(LABELS);
            zone
        });
        hints.for_nodes = self.list(|c| {
            let mut node = ForNode::default();
            node.name = c.text(LABELS);
            node
        });
        hints
    }

    fn endpoints(&mut self) -> Endpoints {
        let mut endpoints = Endpoints::default();
        endpoints.metadata = self.meta();
        endpoints.subsets = self.list(|c| {
            let mut subset = EndpointSubset::default();
            subset.addresses = c.list(Self::address);
            subset.not_ready_addresses = c.list(Self::address);
            subset.ports = c.list(|c| {
                let mut port = EndpointPort::default();
                port.name = c.text(LABELS);
                port.port = c.number();
                port.protocol = c.text(PROTOCOLS);
                port.app_protocol = c.maybe(LABELS);
                port
            });
            subset
        });
        endpoints
    }

    fn slice(&mut self) -> EndpointSlice {
        let mut slice = EndpointSlice::default();
        slice.metadata = self.meta();
        let labels = [
            ("kubernetes.io/service-name", &["web", "web", "Bad"][..]),
            ("endpointslice.kubernetes.io/managed-by", &["", "me"]),
            ("service.kubernetes.io/headless", &["", "x"]),
        ];
        for (label, values) in labels {
            if self.index(4) < 3 {
                slice.metadata.labels.insert(label.into(), self.text(values));
            }
        }
        slice.metadata.generation = self.number().into();
        slice.metadata.owner_references = self.list(|c| {
            let mut owner = OwnerReference::default();
            owner.kind = c.text(&["Service", "Endpoints"]);
            (owner.name, owner.uid) = (c.text(LABELS), c.text(LABELS));
            owner.controller = c.flag().then(|| c.flag());
            owner
        });
        slice.address_type = self.text(&["IPv4", "IPv6", "FQDN", "", "IP"]);
        slice.endpoints = self.list(|c| {
            let mut endpoint = SliceEndpoint::default();
            endpoint.addresses = c.texts(IPS);
            endpoint.conditions.ready = c.flag().then(|| c.flag());
            endpoint.conditions.serving = c.flag().then(|| c.flag());
            endpoint.conditions.terminating = c.flag().then(|| c.flag());
            endpoint.hostname = c.maybe(LABELS);
            endpoint.node_name = c.maybe(LABELS);
            endpoint.zone = c.maybe(LABELS);
            endpoint.target_ref = c.flag().then(|| c.reference());
            endpoint.hints = c.flag().then(|| c.hints());
            endpoint
        });
        slice.ports = self.list(|c| {
            let mut port = SlicePort::default();
            port.name = c.maybe(LABELS);
            port.protocol = c.maybe(PROTOCOLS);
            port.port = c.flag().then(|| c.number());
            port.app_protocol = c.maybe(LABELS);
            port
        });
        slice
    }
}

/// What Kubernetes would not let in together, or would not leave unsaid, is still kept.
#[rustfmt::skip]
#[test]
fn exports_lose_nothing() {
    type Row = (&'static str, fn(&mut Service));
    let rows: [Row; 5] = [
        ("allocateLoadBalancerNodePorts not stated", |s| s.spec.kind = "LoadBalancer".into()),
        ("externalTrafficPolicy of a ClusterIP",
            |s| { s.spec.external_traffic_policy = "Local".into(); }),
        ("externalTrafficPolicy of an ExternalName", |s| {
            s.spec.kind = "ExternalName".into();
            s.spec.external_traffic_policy = "Local".into();
        }),
        ("internalTrafficPolicy of an ExternalName", |s| {
            s.spec.kind = "ExternalName".into();
            s.spec.internal_traffic_policy = Some("Local".into());
        }),
        ("ipMode of an ingress without an address", |s| {
            let mut named = ingress("");
            named.hostname = "lb.example".into();
            named.ip_mode = Some("Proxy".into());
            s.status.load_balancer.ingress = vec![named];
        }),
    ];
    let mut lost = Vec::new();
    for (name, tweak) in rows {
        let mut service = Service::default();
        service.metadata.namespace = "default".into();
        service.metadata.name = "web".into();
        tweak(&mut service);
        let first = service.convert().unwrap();
        let second = Service::from(&first.object).convert().unwrap();
        if second != first {
            lost.push(name);
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

macro_rules! strategies {
    ($($kind:ident: $type:ty),*) => { $(
        pub(super) fn $kind() -> impl Strategy<Value = $type> {
            prop::collection::vec(any::<u8>(), 0..240)
                .prop_map(|bytes| Choices(bytes.into_iter()).$kind())
        }
    )* };
}

strategies!(service: Service, pod: Pod, node: Node, endpoints: Endpoints, slice: EndpointSlice);

macro_rules! check_round_trip {
    ($mirror:expr, $type:ty) => {
        if let Ok(first) = $mirror.convert() {
            let exported = <$type>::from(&first.object);
            let second = exported.convert().unwrap();
            prop_assert_eq!(&second.warnings, &[], "{:#?}", exported);
            prop_assert_eq!(second.object, first.object, "{:#?}", exported);
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_a_service_exports_converts_to_itself(mirror in service()) {
        check_round_trip!(mirror, Service);
    }

    #[test]
    fn what_a_pod_exports_converts_to_itself(mirror in pod()) {
        check_round_trip!(mirror, Pod);
    }

    #[test]
    fn what_a_node_exports_converts_to_itself(mirror in node()) {
        check_round_trip!(mirror, Node);
    }

    #[test]
    fn what_endpoints_export_converts_to_itself(mirror in endpoints()) {
        check_round_trip!(mirror, Endpoints);
    }

    #[test]
    fn what_a_slice_exports_converts_to_itself(mirror in slice()) {
        check_round_trip!(mirror, EndpointSlice);
    }

    #[test]
    fn defaults_twice_are_defaults_once(
        service in service(), pod in pod(), endpoints in endpoints(), slice in slice(),
    ) {
        macro_rules! check {
            ($mirror:expr) => {
                let mut once = $mirror;
                once.set_defaults();
                let mut twice = once.clone();
                twice.set_defaults();
                prop_assert_eq!(twice, once);
            };
        }
        check!(service);
        check!(pod);
        check!(endpoints);
        check!(slice);
    }

    #[test]
    fn absent_means_the_default(mut service in service(), mut pod in pod()) {
        let before = (service.convert().map(|c| c.object), pod.convert().map(|c| c.object));
        service.set_defaults();
        pod.set_defaults();
        let after = (service.convert().map(|c| c.object), pod.convert().map(|c| c.object));
        let stated = |mut converted: svcplane::service::Service| {
            if converted.kind == ServiceKind::LoadBalancer {
                converted.load_balancer.allocate_node_ports.get_or_insert(true);
            }
            converted
        };
        prop_assert_eq!(before.0.map(stated), after.0);
        prop_assert_eq!(before.1, after.1);
    }

    #[test]
    fn nothing_panics(
        service in service(), pod in pod(), node in node(), endpoints in endpoints(),
        slice in slice(),
    ) {
        let mut defaulted = (service.clone(), pod.clone(), endpoints.clone(), slice.clone());
        defaulted.0.set_defaults();
        defaulted.1.set_defaults();
        defaulted.2.set_defaults();
        defaulted.3.set_defaults();
        for mistakes in [
            service.validate(), pod.validate(), node.validate(), endpoints.validate(),
            slice.validate(), defaulted.0.validate(), defaulted.1.validate(),
            defaulted.2.validate(), defaulted.3.validate(),
        ] {
            for mistake in mistakes {
                prop_assert!(mistake.to_string().starts_with(mistake.path()), "{}", mistake);
                prop_assert_ne!(mistake.kind(), FieldErrorKind::Ignored, "{}", mistake);
            }
        }
        let warnings = [
            service.convert().map(|c| c.warnings), pod.convert().map(|c| c.warnings),
            node.convert().map(|c| c.warnings), endpoints.convert().map(|c| c.warnings),
            slice.convert().map(|c| c.warnings),
        ];
        for warning in warnings.into_iter().flatten().flatten() {
            prop_assert_eq!(warning.kind(), FieldErrorKind::Ignored, "{}", warning);
        }
    }
}
