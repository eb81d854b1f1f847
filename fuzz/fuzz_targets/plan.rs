//! Any bytes as a cluster: a line for each object in JSON, or else a small cluster in which every byte decides something. Plans in two
//! modes, packets at every claimed address and beside, stale flows, and the way from one plan to another: no panic, explanations that come
//! to what routes do, and changes that lead where they should. Rules for each plan and each change, in which no text has come through unchecked;
//! for IPVS, commands that leave nothing to do.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use svcplane::endpoints::{EndpointSet, EndpointSlice};
use svcplane::iptables;
use svcplane::ipvs::{self, Actual, Desired, ListedReal};
use svcplane::k8s::Object;
use svcplane::net::{IpFamily, Protocol};
use svcplane::nftables;
use svcplane::plan::{
    Changes, ConntrackFlow, LocalDetector, LocalNode, Mode, NodePortAddresses, Packet, Plan,
    Verdict,
};
use svcplane::service::Service;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let node = node(&mut bytes);
    let modes = [bytes.one(Mode::ALL), bytes.one(Mode::ALL)];
    let mut objects = Vec::new();
    if bytes.0.contains(&b'{') {
        let lines = bytes.0.split(|byte| *byte == b'\n');
        objects.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
    } else {
        while !bytes.0.is_empty() && objects.len() < 24 {
            let object =
                if bytes.next() % 2 == 0 { service(&mut bytes) } else { slice(&mut bytes) };
            objects.push(serde_json::from_value(object).expect("of the right types"));
        }
    }
    let (mut services, mut slices) = (Vec::new(), Vec::new());
    objects.into_iter().for_each(|object| take(object, &mut services, &mut slices));
    let sets: Vec<EndpointSet> =
        services.iter().map(|s| EndpointSet::merge(s.name.clone(), &slices)).collect();
    let all: Vec<(&Service, &EndpointSet)> = services.iter().zip(&sets).collect();
    let plan = Plan::new(&node, modes[0], all.iter().copied());
    let fewer = Plan::new(&node, modes[0], all.iter().skip(1).copied());
    let other = Plan::new(&node, modes[1], all.iter().rev().skip(1).copied());
    for plan in [&plan, &other] {
        look(plan);
        rules(plan, None);
        virtual_servers(plan);
    }
    rules(&fewer, Some(&Plan::diff(&plan, &fewer)));
    leads(&plan, &fewer);
    leads(&fewer, &other);
    leads(&other, &plan);
    let mut merged = Plan::diff(&plan, &fewer);
    merged.merge(Plan::diff(&fewer, &other));
    assert_eq!(merged, Plan::diff(&plan, &other));
});

/// What is written for a plan, or for changes that have led to it.
fn rules(plan: &Plan, changes: Option<&Changes>) {
    let legal = |c: char| c.is_ascii_alphanumeric() || " .:/,_-@{}\"!=&|*;[]+<>~\n".contains(c);
    let check = |text: String| assert!(text.chars().all(legal), "{text}");
    for layout in [nftables::Layout::Flat, nftables::Layout::Chains] {
        let mut config = nftables::Config::default();
        config.layout = layout;
        let Some(changes) = changes else {
            check(nftables::compile(plan, &config));
            continue;
        };
        let delta = nftables::delta(plan, changes, &config);
        check(delta.script);
        check(nftables::sweep(plan, &config, &delta.leftovers));
    }
    for layout in [iptables::Layout::Tree, iptables::Layout::Linear] {
        let mut config = iptables::Config::default();
        config.layout = layout;
        for family in [IpFamily::V4, IpFamily::V6] {
            check(match changes {
                None => iptables::compile(plan, family, &config),
                Some(changes) => iptables::delta(plan, changes, family, &config),
            });
        }
    }
}

/// What is as it is wanted is left alone; from nothing to it and from it to nothing all is named once.
fn virtual_servers(plan: &Plan) {
    let desired = ipvs::compile(plan, &ipvs::Config::default());
    let mut actual = Actual::default();
    for (_, wanted) in desired.servers() {
        actual.insert(wanted.server, wanted.reals.values().copied().map(ListedReal::new));
    }
    assert_eq!(ipvs::reconcile(&desired, &actual, &[]), []);
    let reals = desired.servers().map(|(_, wanted)| wanted.reals.len()).sum::<usize>();
    let added = ipvs::reconcile(&desired, &Actual::default(), &[]);
    assert_eq!(added.len(), desired.servers().len() + reals);
    assert_eq!(added.len(), desired.commands().len());
    let deleted = ipvs::reconcile(&Desired::default(), &actual, &[]);
    assert_eq!(deleted.len(), desired.servers().len());
}

/// Bytes, and zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        (*first).into()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.next() % of.len()].clone()
    }

    fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        let bits = self.next();
        (0..of.len()).filter(|n| bits >> n & 1 == 1).map(|n| of[n].clone()).collect()
    }
}

fn take(object: Object, services: &mut Vec<Service>, slices: &mut Vec<EndpointSlice>) {
    match object {
        Object::Service(mirror) => {
            services.extend(mirror.convert().ok().map(|converted| converted.object));
        }
        Object::EndpointSlice(mirror) => {
            slices.extend(mirror.convert().ok().map(|converted| converted.object));
        }
        Object::List(list) => list.items.into_iter().for_each(|o| take(o, services, slices)),
        _ => {}
    }
}

const ADDRESSES: [&str; 10] = [
    "172.30.0.1",
    "172.30.0.2",
    "fd00:172:30::1",
    "fd00:172:30::2",
    "192.168.0.2",
    "2001:db8::1",
    "1.2.3.4",
    "2001:db8:9::4",
    "127.0.0.1",
    "::ffff:1.2.3.4",
];
const ENDPOINTS: [&str; 5] = ["10.0.0.1", "10.0.0.10", "192.168.0.2", "fd00:10::1", "fd00:10::2"];
const NETS: [&str; 8] = [
    "10.0.0.0/8",
    "192.168.0.0/24",
    "0.0.0.0/0",
    "172.30.0.0/16",
    "fd00:10::/64",
    "::/0",
    "127.0.0.0/8",
    "fd00:172:30::/112",
];
const NAMES: [&str; 3] = ["a", "b", "c"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

fn node(bytes: &mut Bytes<'_>) -> LocalNode {
    let nets = |bytes: &mut Bytes<'_>| -> Vec<IpNet> {
        bytes.some(&NETS).iter().map(|net| net.parse().expect("a CIDR")).collect()
    };
    let mut node = LocalNode::new("node".parse().expect("a legal name"));
    let bits = bytes.next();
    node.masquerade_all = bits & 1 > 0;
    node.localhost_node_ports = bits & 2 > 0;
    node.zone = (bits & 4 > 0).then(|| "zone".into());
    if bits & 8 > 0 {
        node.addresses =
            ["192.168.0.2", "2001:db8::1"].map(|ip| ip.parse().expect("an address")).into();
    }
    node.local_addresses = vec!["fe80::1".parse().expect("an address")];
    node.service_cidrs = nets(bytes);
    node.pods = match bits >> 4 & 3 {
        0 => LocalDetector::None,
        1 => LocalDetector::Bridge("cni0".parse().expect("a name")),
        2 => LocalDetector::InterfacePrefix("cni".parse().expect("a name")),
        _ => LocalDetector::Cidrs(nets(bytes)),
    };
    node.node_port_addresses = match bits >> 6 {
        0 => NodePortAddresses::ModeDefault,
        1 => NodePortAddresses::Primary,
        _ => NodePortAddresses::In(nets(bytes)),
    };
    node
}

fn service(bytes: &mut Bytes<'_>) -> Value {
    let name = bytes.one(&NAMES);
    let ips = bytes.some(&ADDRESSES[..4]);
    let families: Vec<&str> =
        ips.iter().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).collect();
    let ports: Vec<Value> = (0..bytes.next() % 4)
        .map(|_| {
            let (name, protocol) = (bytes.one(&["", "x", "y"]), bytes.one(&PROTOCOLS));
            let (port, node_port) = (80 + bytes.next() % 2, bytes.one(&[0, 3000, 3001, 3002]));
            json!({"name": name, "protocol": protocol, "port": port, "nodePort": node_port})
        })
        .collect();
    let created = bytes.one(&["2024-05-01T10:00:00Z", "2024-05-01T10:00:01Z"]);
    let ingress: Vec<Value> = bytes
        .some(&ADDRESSES[..8])
        .into_iter()
        .map(|ip| json!({"ip": ip, "ipMode": "VIP"}))
        .collect();
    let annotations = json!({
        "svcplane/weights": bytes.one(&["", "10.0.0.1=3", "pod=65535,10.0.0.1=0", "=,,1=1=1"]),
        "svcplane/scheduler": bytes.one(&["lc", "mh", "?"]),
    });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "ns", "creationTimestamp": created, "annotations": annotations},
        "spec": {
            "type": bytes.one(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
            "clusterIP": ips.first().copied().unwrap_or(bytes.one(&["None", ""])),
            "clusterIPs": ips,
            "ipFamilies": families,
            "ports": ports,
            "externalIPs": bytes.some(&ADDRESSES[2..]),
            "internalTrafficPolicy": bytes.one(&POLICIES),
            "externalTrafficPolicy": bytes.one(&POLICIES),
            "loadBalancerSourceRanges": bytes.some(&NETS),
            "healthCheckNodePort": bytes.one(&[0, 3001, 3002]),
            "sessionAffinity": bytes.one(&["None", "ClientIP"]),
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    })
}

fn slice(bytes: &mut Bytes<'_>) -> Value {
    let (name, number) = (bytes.one(&NAMES), bytes.next());
    let v6 = number & 1 > 0;
    let ips = if v6 { &ENDPOINTS[3..] } else { &ENDPOINTS[..3] };
    let endpoints: Vec<Value> = (0..bytes.next() % 5)
        .map(|_| {
            let bits = bytes.next();
            let (zones, nodes) = (bytes.some(&["zone", "other"]), bytes.some(&["node", "other"]));
            let zones: Vec<Value> = zones.iter().map(|name| json!({"name": name})).collect();
            let nodes: Vec<Value> = nodes.iter().map(|name| json!({"name": name})).collect();
            json!({
                "addresses": [bytes.one(ips)],
                "conditions": {"ready": bits & 1 > 0, "serving": bits & 2 > 0, "terminating": bits & 4 > 0},
                "nodeName": if bits & 8 > 0 { "node" } else { "other" },
                "hints": {"forZones": zones, "forNodes": nodes},
                "targetRef": {"kind": "Pod", "namespace": "ns", "name": "pod"},
            })
        })
        .collect();
    let ports: Vec<Value> = (0..bytes.next() % 4)
        .map(|_| {
            let (name, protocol) = (bytes.one(&["", "x", "y"]), bytes.one(&PROTOCOLS));
            json!({"name": name, "protocol": protocol, "port": bytes.one(&[80, 8080])})
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{number}"),
            "namespace": "ns",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": if v6 { "IPv6" } else { "IPv4" },
        "endpoints": endpoints,
        "ports": ports,
    })
}

/// The packets to what a plan claims, and beside it, from its own addresses and others.
fn packets(plan: &Plan) -> Vec<Packet> {
    let mut places: Vec<(IpAddr, u16)> = Vec::new();
    let mut ips: Vec<IpAddr> = plan.node().addresses.clone();
    ips.extend([Ipv4Addr::LOCALHOST.into(), IpAddr::from(Ipv6Addr::LOCALHOST)]);
    for service in plan.services() {
        ips.extend(&service.cluster_ips);
        let checks = service.health.iter().map(|health| health.port);
        let frontends = || service.ports.iter().flat_map(|port| &port.frontends);
        let at_node = frontends().filter(|f| f.ip.is_none()).map(|f| f.port).chain(checks);
        places.extend(at_node.flat_map(|port| ips.iter().map(move |ip| (*ip, port))));
        places.extend(frontends().filter_map(|f| Some((f.ip?, f.port))));
    }
    places.extend(ips.iter().map(|ip| (*ip, 9)));
    places.extend(plan.node().service_cidrs.iter().map(|net| (net.addr(), 9)));
    places.truncate(64);
    let mut packets = Vec::new();
    for (n, (ip, port)) in places.into_iter().enumerate() {
        for port in [port, port.wrapping_add(1)] {
            let sources = [None, Some("10.0.0.1"), Some("fd00:10::1"), Some("203.0.113.2")];
            let source = sources[packets.len() / 2 % sources.len()];
            let source = source.map_or(ip, |text| text.parse().expect("an address"));
            let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][n % 3];
            let mut packet = Packet::new(protocol, source, SocketAddr::new(ip, port));
            packets.push(packet);
            packet.protocol = Protocol::Tcp;
            packet.interface = (n % 2 == 0).then(|| "cni0".parse().expect("a name"));
            packets.push(packet);
        }
    }
    packets
}

fn look(plan: &Plan) {
    for packet in packets(plan) {
        let verdict = plan.route(&packet);
        let explanation = plan.explain(&packet);
        assert_eq!(explanation.verdict, verdict, "{packet}");
        assert!(explanation.to_string().ends_with(&verdict.to_string()), "{packet}");
        let Verdict::Forward(route) = verdict else { continue };
        assert!(!route.backends.is_empty(), "{packet}");
        let to = packet.destination;
        let flows = route
            .backends
            .iter()
            .map(|backend| ConntrackFlow::new(Protocol::Udp, to, backend.addr));
        let stale = plan.stale_flows(flows).count();
        assert!(stale == 0 || route.port.name.protocol != Protocol::Udp, "{packet}");
    }
    for service in plan.services() {
        for (family, health) in [IpFamily::V4, IpFamily::V6].iter().zip(&service.health) {
            let body: Value =
                serde_json::from_str(&health.answer(*family, true).body).expect("JSON");
            assert_eq!(body["service"]["name"], service.name.name());
        }
    }
    for text in plan.warnings().map(ToString::to_string) {
        assert!(!text.is_empty());
    }
    for text in plan.conflicts().map(ToString::to_string) {
        assert!(!text.is_empty());
    }
}

/// Taking changes up comes to the plan that they lead to, in its routes too.
fn leads(old: &Plan, new: &Plan) {
    let changes: Changes = Plan::diff(old, new);
    assert_eq!(changes.is_empty(), old == new);
    let mut followed = old.clone();
    followed.apply(&changes);
    assert_eq!(followed, *new);
    for packet in packets(new).iter().chain(&packets(old)) {
        assert_eq!(followed.route(packet), new.route(packet), "{packet}");
    }
}
