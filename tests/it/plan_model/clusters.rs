//! Random small clusters: few addresses and ports, so that they meet.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use svcplane::endpoints::{Conditions, Endpoint, EndpointPort, HEADLESS_LABEL, Reference};
use svcplane::ipnet::IpNet;
use svcplane::name::{NodeName, ObjectName};
use svcplane::net::Protocol;
use svcplane::plan::{
    LocalDetector, LocalNode, Mode, NodePortAddresses, PROXY_NAME_LABEL, Packet,
    SCHEDULER_ANNOTATION, WEIGHTS_ANNOTATION,
};
use svcplane::service::{
    ClusterIps, Ingress, IpMode, Service, ServiceKind, ServicePort, TrafficPolicy,
};
use svcplane::time::Timestamp;

use super::{Cluster, FAMILIES, Served, address};

/// The same of each family.
const CLUSTER_IPS: [&str; 2] =
    ["172.30.0.1 172.30.0.2 172.30.0.3", "fd00:172:30::1 fd00:172:30::2 fd00:172:30::3"];
/// Elsewhere, on the node, a cluster IP, in the service CIDR.
const OUTER_IPS: &str = "1.2.3.4 5.6.7.8 192.168.0.2 172.30.0.2 172.30.0.8 2001:db8:9::4 2001:db8::1 \
    fd00:172:30::2 fd00:172:30::8";
const NODE_IPS: &str =
    "192.168.0.2 192.168.1.2 169.254.7.7 2001:db8::1 2001:db8:1::2 fe80::1 127.0.0.5";
const BESIDE: &str = "127.0.0.1 127.0.0.5 ::1 172.30.0.9 fd00:172:30::9 203.0.113.9 10.0.0.1";
const SOURCES: &str = "10.0.0.1 10.0.0.2 10.9.9.9 192.168.0.2 192.168.1.2 127.0.0.1 203.0.113.2 1.2.3.4 5.6.7.8 2001:db8:9::4 \
    172.30.0.2 fd00:10::1 2001:db8::1 ::1 2600:5200::1 fd00:172:30::2";
const RANGES: &str = "192.168.0.0/24 192.168.1.0/24 203.0.113.0/25 10.0.0.0/29 0.0.0.0/0 2001:db8::/64 fd00:10::/64 \
    2600:5200::/32";
const NODE_PORT_CIDRS: &str =
    "192.168.0.0/16 192.168.1.0/24 127.0.0.0/8 0.0.0.0/0 2001:db8::/64 ::/0 fe80::/10 ::1/128";
const POD_CIDRS: &str = "10.0.0.0/8 fd00:10::/64 192.168.1.0/24";
const INTERFACES: &str = "cni0 cni01 veth7 eth0";
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const PORTS: [u16; 8] = [80, 81, 82, 3000, 3001, 3002, 3003, 3004];

const ENDPOINT_IPS: &str =
    "10.0.0.1 10.0.0.2 10.0.0.10 192.168.0.2 fd00:10::1 fd00:10::2 2001:db8::1";

/// A packet to some address and port that somebody may claim, or beside.
pub(crate) fn packet() -> BoxedStrategy<Packet> {
    let port = select(&PORTS[..]);
    let protocol = prop_oneof![3 => Just(Protocol::Tcp), 1 => select(&PROTOCOLS[..])];
    let interface = prop::option::of(word(INTERFACES));
    (word(&destinations()), port, protocol, word(SOURCES), interface, 0_u8..8)
        .prop_map(|(destination, port, protocol, source, interface, mapped)| {
            let (mut source, mut destination) = (address(&source), address(&destination));
            for (ip, bit) in [(&mut source, 1), (&mut destination, 2)] {
                if let (IpAddr::V4(v4), true) = (*ip, mapped == bit) {
                    *ip = v4.to_ipv6_mapped().into();
                }
            }
            let mut packet = Packet::new(protocol, source, SocketAddr::new(destination, port));
            packet.interface = interface.map(|name| name.parse().expect("a name"));
            packet
        })
        .boxed()
}

/// To every address and port there is, from a few.
pub(crate) fn packets_everywhere() -> Vec<Packet> {
    let sources = ["10.0.0.2", "192.168.0.2", "203.0.113.2"];
    let mut packets = Vec::new();
    for ip in destinations().split(' ') {
        for (n, port) in PORTS.into_iter().enumerate() {
            for protocol in PROTOCOLS {
                let source = sources[(n + packets.len()) % sources.len()];
                let destination = SocketAddr::new(address(ip), port);
                packets.push(Packet::new(protocol, address(source), destination));
            }
        }
    }
    packets
}

fn destinations() -> String {
    [CLUSTER_IPS[0], CLUSTER_IPS[1], OUTER_IPS, NODE_IPS, BESIDE].join(" ")
}

fn word(words: &str) -> impl Strategy<Value = String> + use<> {
    select(words.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a CIDR")).collect()
}

fn some_of(words: &'static str, most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(words.split(' ').collect::<Vec<_>>(), 0..=most).prop_shuffle()
}

pub(crate) fn node() -> BoxedStrategy<LocalNode> {
    let detector = prop_oneof![
        Just(LocalDetector::None),
        some_of(POD_CIDRS, 3).prop_map(|texts| LocalDetector::Cidrs(nets(&texts))),
        Just(LocalDetector::Bridge("cni0".parse().expect("a name"))),
        Just(LocalDetector::InterfacePrefix("cni".parse().expect("a name"))),
    ];
    let reach = prop_oneof![
        Just(NodePortAddresses::ModeDefault),
        Just(NodePortAddresses::Primary),
        some_of(NODE_PORT_CIDRS, 3).prop_map(|texts| NodePortAddresses::In(nets(&texts))),
    ];
    let cidrs =
        select(vec![vec![], vec!["172.30.0.0/16"], vec!["172.30.0.0/16", "fd00:172:30::/112"]]);
    let zone = select(vec![None, Some(""), Some("a"), Some("b")]);
    let names = prop_oneof![4 => Just(None), 1 => Just(Some("mine"))];
    // The first five may be a primary address.
    let addresses =
        subsequence(NODE_IPS.split(' ').take(5).collect::<Vec<_>>(), 0..=5).prop_shuffle();
    (
        addresses,
        some_of(NODE_IPS, 4),
        cidrs,
        detector,
        any::<bool>(),
        reach,
        any::<bool>(),
        zone,
        names,
    )
        .prop_map(|(addresses, local, cidrs, pods, all, reach, localhost, zone, proxy)| {
            let mut node = LocalNode::new("here".parse().expect("a name"));
            node.addresses = addresses.into_iter().map(address).collect();
            node.local_addresses = local.into_iter().map(address).collect();
            node.service_cidrs = nets(&cidrs);
            (node.pods, node.node_port_addresses) = (pods, reach);
            (node.masquerade_all, node.localhost_node_ports) = (all, localhost);
            (node.zone, node.proxy_name) = (zone.map(Into::into), proxy.map(Into::into));
            node
        })
        .boxed()
}

fn port() -> impl Strategy<Value = ServicePort> {
    let name = select(vec![None, None, Some("a"), Some("b")]);
    let protocol = prop_oneof![3 => Just(Protocol::Tcp), 1 => select(&PROTOCOLS[..])];
    (name, protocol, 80_u16..82, prop::option::of(3000_u16..3003)).prop_map(
        |(name, protocol, number, node_port)| {
            let mut port = ServicePort::new(number);
            port.name = name.map(|name| name.parse().expect("a label"));
            (port.protocol, port.node_port) = (protocol, node_port);
            port
        },
    )
}

fn endpoint() -> BoxedStrategy<Endpoint> {
    let ip = word(ENDPOINT_IPS);
    let state = select(vec![
        0b110_u8, 0b110, 0b110, 0b011, 0b011, 0b010, 0b001, 0b000, 0b101, 0b100, 0b111,
    ]);
    let on = select(vec![None, Some("here"), Some("here"), Some("there")]);
    let nodes = select(vec![vec![], vec!["here"], vec!["there"], vec!["there", "here"]]);
    let zones = select(vec![Vec::<&str>::new(), vec!["a"], vec!["b"], vec!["a", "b"], vec![""]]);
    let target = prop::option::of(select(vec!["pod-0", "pod-1"]));
    // Which of the named and unnamed ports it has, and of what number.
    (ip, state, on, nodes, zones, target, 0_u8..12, any::<bool>())
        .prop_map(|(ip, state, on, nodes, zones, target, lacks, other)| {
            let mut endpoint = Endpoint::new(address(&ip));
            endpoint.conditions = Conditions {
                ready: state & 4 > 0,
                serving: state & 2 > 0,
                terminating: state & 1 > 0,
            };
            endpoint.node = on.map(|name| name.parse().expect("a name"));
            let name = |text: &str| -> NodeName { text.parse().expect("a name") };
            endpoint.hints.nodes = nodes.into_iter().map(name).collect();
            endpoint.hints.zones = zones.into_iter().map(Into::into).collect();
            endpoint.target = target.map(|target| {
                Reference::new("Pod", &ObjectName::new("ns", target).expect("a name"), "")
            });
            let mut ports = Vec::new();
            for name in [None, Some("a"), Some("b")] {
                for protocol in PROTOCOLS {
                    let mut port = EndpointPort::new(if other { 8081 } else { 8080 });
                    port.name = name.map(|name| name.parse().expect("a label"));
                    port.protocol = protocol;
                    ports.push(port);
                }
            }
            if usize::from(lacks) < ports.len() {
                ports.remove(lacks.into());
            }
            ports.sort();
            endpoint.ports = ports.into();
            endpoint
        })
        .boxed()
}

fn service(name: &'static str) -> BoxedStrategy<Service> {
    let policy = || select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let kind = prop_oneof![
        3 => Just(ServiceKind::LoadBalancer),
        3 => Just(ServiceKind::NodePort),
        1 => Just(ServiceKind::ExternalName("example.com".into())),
    ];
    let families = select(vec![vec![0], vec![0], vec![1], vec![0, 1], vec![1, 0], vec![9, 0, 1]]);
    let ips = (families, 0_usize..3, 0_u8..12);
    let mode = prop_oneof![4 => Just(IpMode::Vip), 1 => Just(IpMode::Proxy)];
    let ingress = prop::collection::vec((word(OUTER_IPS), mode), 0..3);
    let labels = prop_oneof![
        8 => Just(None),
        1 => Just(Some((PROXY_NAME_LABEL, "mine"))),
        1 => Just(Some((PROXY_NAME_LABEL, ""))),
        1 => Just(Some((HEADLESS_LABEL, "false"))),
    ];
    let affinity = prop::option::weighted(0.2, Just(Duration::from_secs(10)));
    let weights = select(vec!["", "", "pod-0=3", "10.0.0.1=7,pod-1=2", "10.0.0.2=65535,pod-0=9"]);
    let scheduler = select(vec!["", "lc", "nonsense"]);
    (
        (prop::collection::vec(port(), 0..4), ips, kind, policy(), policy()),
        (some_of(OUTER_IPS, 2), ingress, some_of(RANGES, 2)),
        (prop::option::of(3002_u16..3004), prop::option::of(0_i64..3)),
        (labels, affinity, weights, scheduler),
    )
        .prop_map(move |((ports, ips, kind, internal, external), outer, times, rest)| {
            let mut service = Service::new(ObjectName::new("ns", name).expect("a name"));
            let (families, n, unusual) = ips;
            // Nine stands for none stated.
            let stated: Vec<usize> = families.iter().copied().filter(|f| *f < 2).collect();
            if !families.contains(&9) {
                service.ip_families = stated.iter().map(|f| FAMILIES[*f]).collect();
            }
            service.cluster_ips = match unusual {
                0 => ClusterIps::Headless,
                1 => ClusterIps::Unassigned,
                _ => ClusterIps::Assigned(
                    stated
                        .iter()
                        .map(|f| address(CLUSTER_IPS[*f].split(' ').nth(n).expect("one of three")))
                        .collect(),
                ),
            };
            (service.ports, service.kind) = (ports, kind);
            service.internal_traffic_policy = internal;
            service.external_traffic_policy = external;
            let (external_ips, ingress, ranges) = outer;
            service.external_ips = external_ips.into_iter().map(address).collect();
            let ingress = ingress.into_iter().map(|(ip, mode)| {
                let mut ingress = Ingress::default();
                (ingress.ip, ingress.mode) = (Some(address(&ip)), mode);
                ingress
            });
            service.load_balancer.ingress = ingress.collect();
            service.load_balancer.source_ranges = nets(&ranges);
            service.health_check_node_port = times.0;
            service.created = times.1.map(Timestamp::from_unix);
            let (label, affinity, weights, scheduler) = rest;
            service.labels = label.into_iter().collect();
            service.client_ip_affinity = affinity;
            let texts = [(WEIGHTS_ANNOTATION, weights), (SCHEDULER_ANNOTATION, scheduler)];
            service.annotations = texts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
            service
        })
        .boxed()
}

pub(crate) fn served(name: &'static str) -> BoxedStrategy<Served> {
    (service(name), prop::collection::vec(endpoint(), 0..6)).boxed()
}

pub(crate) fn mode() -> impl Strategy<Value = Mode> {
    select(Mode::ALL)
}

/// No two Services of one name are equally old: of those the first counts, so that their order matters.
pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    let services = (served("s0"), served("s1"), served("s2"), served("s3"), served("s0"));
    (node(), mode(), services, 0_usize..=5).prop_map(|(node, mode, all, count)| {
        let (a, b, c, d, mut again) = all;
        again.0.created = Some(Timestamp::from_unix(3));
        let mut services = vec![a, b, c, d, again];
        services.truncate(count);
        Cluster { node, mode, services }
    })
}
