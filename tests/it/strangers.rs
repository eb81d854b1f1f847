//! Manifests and a node as strangers may write them.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use svcplane::endpoints::EndpointSet;
use svcplane::k8s;
use svcplane::plan::{LocalDetector, LocalNode, Mode, Plan};

/// What a field should hold, or what a stranger may write instead.
pub(crate) fn or_anything(good: &'static [&'static str]) -> BoxedStrategy<String> {
    let bad = "x; drop|x\" -j ACCEPT|a\nCOMMIT|-j ACCEPT|! a|--comment|a -X b|} }|\
        \nflush ruleset|a { b|@services|10.0.0.1 . tcp . 80 : drop|\"|a\\b|# no|$x|10.0.0.1/8|::1%lo|*|0x10|ä|\0|a\u{202e}|tcp\u{a0}|-1|01.2.3.4|::ffff:1.2.3.4|fe80::1%eth0";
    let bad: Vec<String> = bad.split('|').map(str::to_owned).collect();
    prop_oneof![
        12 => select(good).prop_map(str::to_owned),
        1 => select(bad),
        1 => any::<String>(),
    ]
    .boxed()
}

pub(crate) fn service() -> impl Strategy<Value = Value> {
    let name = || or_anything(&["a", "b", "a.b-c"]);
    let ip = || or_anything(&["10.96.0.1", "10.96.0.2", "fd00::1"]);
    let outer = || or_anything(&["1.2.3.4", "192.168.0.2", "2001:db8::1"]);
    let text = || any::<String>();
    (
        (name(), or_anything(&["ns"]), text(), text(), text()),
        (ip(), outer(), outer(), or_anything(&["203.0.113.0/24", "fd00::/16", " 10.0.0.1/32"])),
        (name(), or_anything(&["TCP", "UDP", "SCTP"]), name(), text()),
        (
            or_anything(&["Cluster", "Local"]),
            or_anything(&["Cluster", "Local"]),
            or_anything(&["None", "ClientIP"]),
            or_anything(&["LoadBalancer", "NodePort", "ClusterIP"]),
        ),
        (1_i32..70_000, 0_i32..70_000, -1_i32..100_000),
    )
        .prop_map(|(meta, ips, port, words, numbers)| {
            let (name, namespace, key, value, weights) = meta;
            let (cluster_ip, external, balancer, range) = ips;
            let (port_name, protocol, target, hostname) = port;
            let (internal, external_policy, affinity, kind) = words;
            let (number, node_port, timeout) = numbers;
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "name": name, "namespace": namespace, "labels": {&key: &value},
                    "annotations": {&key: &value, "svcplane/weights": weights, "svcplane/scheduler": value},
                },
                "spec": {
                    "type": kind, "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                    "externalIPs": [external], "loadBalancerSourceRanges": [range],
                    "sessionAffinity": affinity,
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}},
                    "internalTrafficPolicy": internal, "externalTrafficPolicy": external_policy,
                    "ports": [{
                        "name": port_name, "protocol": protocol, "port": number, "nodePort": node_port,
                        "targetPort": target,
                    }],
                },
                "status": {"loadBalancer": {"ingress": [{"ip": balancer, "hostname": hostname}]}},
            })
        })
}

pub(crate) fn slice() -> impl Strategy<Value = Value> {
    let text = || any::<String>();
    (
        or_anything(&["a", "b", "a.b-c"]),
        or_anything(&["10.0.0.1", "10.0.0.2", "fd00:1::1"]),
        (or_anything(&["a", "b", "a.b-c"]), or_anything(&["TCP", "UDP"])),
        or_anything(&["IPv4", "IPv6"]),
        (text(), or_anything(&["here", "there"]), text(), text(), 0_i32..70_000),
    )
        .prop_map(|(service, ip, (port, protocol), family, rest)| {
            let (hostname, node, zone, target, number) = rest;
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": "s", "namespace": "ns", "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": family,
                "endpoints": [{
                    "addresses": [ip], "hostname": hostname, "nodeName": node, "zone": zone,
                    "targetRef": {"kind": target, "name": target, "namespace": target},
                    "hints": {"forZones": [{"name": zone}]},
                }],
                "ports": [{"name": port, "port": number, "protocol": protocol}],
            })
        })
}

pub(crate) fn local_node() -> impl Strategy<Value = LocalNode> {
    let interface = or_anything(&["cni0", "br-1", "a+b@c"]);
    let parsed =
        (interface, any::<bool>()).prop_map(|(name, bridge)| match (name.parse(), bridge) {
            (Ok(name), true) => LocalDetector::Bridge(name),
            (Ok(name), false) => LocalDetector::InterfacePrefix(name),
            (Err(_), _) => LocalDetector::None,
        });
    (parsed, any::<String>(), any::<String>()).prop_map(|(pods, zone, proxy)| {
        let mut node = LocalNode::new("here".parse().expect("a name"));
        let addresses = ["192.168.0.2", "2001:db8::1"].map(str::parse::<IpAddr>);
        node.addresses = addresses.into_iter().map(|ip| ip.expect("an address")).collect();
        (node.pods, node.zone) = (pods, Some(zone.into()));
        node.proxy_name = (proxy.len() > 20).then(|| proxy.into());
        node
    })
}

/// The plan of what can be converted.
pub(crate) fn plan(node: &LocalNode, mode: Mode, services: Vec<Value>, slices: Vec<Value>) -> Plan {
    let convert = |value| serde_json::from_value::<k8s::Service>(value).ok()?.convert().ok();
    let services: Vec<_> = services.into_iter().filter_map(convert).collect();
    let convert = |value| serde_json::from_value::<k8s::EndpointSlice>(value).ok()?.convert().ok();
    let slices: Vec<_> = slices.into_iter().filter_map(convert).map(|s| s.object).collect();
    let served: Vec<_> = services
        .iter()
        .map(|service| {
            let name = &service.object.name;
            let own = slices.iter().filter(|slice| slice.service == *name);
            (&service.object, EndpointSet::merge(name.clone(), own))
        })
        .collect();
    Plan::new(node, mode, served.iter().map(|(service, set)| (*service, set)))
}
