//! Bytes as a small cluster and what happens to it: few names, addresses and ports, so that they meet. Zeros when there are no more.
//! Used by a fuzz target, too.

use std::net::IpAddr;
use std::time::Duration;

use svcplane::catalog::{EndpointSource, Event, Key, Kind, Object};
use svcplane::endpoints::{
    Address, Conditions, Endpoint, EndpointPort, EndpointSlice, Endpoints, HEADLESS_LABEL,
    Reference, Subset,
};
use svcplane::labels::Labels;
use svcplane::name::{NodeName, ObjectName};
use svcplane::net::{IpFamily, Protocol};
use svcplane::node::{Node, ZONE_LABEL};
use svcplane::plan::{
    LocalDetector, LocalNode, Mode, NodePortAddresses, PROXY_NAME_LABEL, Packet, WEIGHTS_ANNOTATION,
};
use svcplane::pod::{ContainerPort, Phase, Pod};
use svcplane::service::{
    ClusterIps, Ingress, Service, ServiceKind, ServicePort, TargetPort, TrafficDistribution,
    TrafficPolicy,
};
use svcplane::time::{Instant, Timestamp};

use super::model::{Made, Model, Step};

pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

/// Which fields of an object are made anew: all of a new one, some of one that there is.
struct Fields(u16);

const SERVICES: [(&str, &str); 5] =
    [("a", "s0"), ("a", "s1"), ("a", "s2"), ("b", "s0"), ("b", "s1")];
const SLICES: [(&str, &str); 5] = [("a", "t0"), ("a", "t1"), ("a", "t2"), ("b", "t0"), ("b", "t1")];
const PODS: [(&str, &str); 6] =
    [("a", "p0"), ("a", "p1"), ("a", "p2"), ("a", "p3"), ("b", "p0"), ("b", "p1")];
const NODES: [&str; 3] = ["here", "there", "yonder"];
const CLUSTER_IPS: [&str; 4] = ["10.96.0.1", "10.96.0.2", "fd00:96::1", "fd00:96::2"];
const OUTER_IPS: [&str; 4] = ["1.2.3.4", "10.96.0.2", "192.168.0.2", "2001:db8:9::4"];
const NODE_IPS: [&str; 3] = ["192.168.0.2", "192.168.1.2", "2001:db8::1"];
const POD_IPS: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.10", "fd00:10::1", "fd00:10::2"];
const PORTS: [u16; 6] = [80, 81, 3000, 3001, 3002, 8080];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const MANAGERS: [&str; 4] = [
    "",
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
    "example.com/others",
];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn node_name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

impl Fields {
    fn has(&self, n: u16) -> bool {
        self.0 >> n & 1 == 1
    }
}

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

    fn ips(&mut self, of: &[&str]) -> Vec<IpAddr> {
        self.some(of).into_iter().map(ip).collect()
    }

    /// One in so many.
    fn seldom(&mut self, many: usize) -> bool {
        self.next() % many == many - 1
    }

    fn name(&mut self, of: &[(&str, &str)]) -> ObjectName {
        let (namespace, name) = self.one(of);
        ObjectName::new(namespace, name).expect("a name")
    }

    fn service_name(&mut self) -> ObjectName {
        self.name(&SERVICES)
    }

    fn fields(&mut self, known: bool) -> Fields {
        let bits = self.next();
        if known && bits % 8 > 0 {
            return Fields(
                1 << (bits / 8 % 16) | if bits & 1 > 0 { 0 } else { 1 << (bits / 2 % 16) },
            );
        }
        Fields(u16::MAX)
    }

    pub(crate) fn labels(&mut self) -> Labels {
        let labels: [&[(&str, &str)]; 6] = [
            &[("app", "x")],
            &[("app", "y")],
            &[("app", "x"), ("tier", "1")],
            &[("app", "x"), ("tier", "2")],
            &[("tier", "1")],
            &[],
        ];
        self.one(&labels).iter().copied().collect()
    }

    pub(crate) fn made(&mut self) -> Made {
        let bits = self.next();
        Made {
            node: self.node(),
            mode: self.one(Mode::ALL),
            pods: [None, Some(EndpointSource::Slices), Some(EndpointSource::Pods)]
                [[2, 2, 2, 1, 0][bits % 5]],
            zone: [None, Some(true), Some(false)][bits / 5 % 3],
            pools: bits / 15 % 2 > 0,
        }
    }

    fn node(&mut self) -> LocalNode {
        let bits = self.next();
        let mut node = LocalNode::new(node_name(NODES[usize::from(bits & 7 == 7)]));
        node.addresses = if bits & 8 > 0 { Vec::new() } else { NODE_IPS.map(ip).to_vec() };
        node.zone = [None, Some("z0"), Some("z1"), None][bits >> 4 & 3].map(Into::into);
        node.proxy_name = (bits >> 6 == 3).then(|| "mine".into());
        node.service_cidrs = vec!["10.96.0.0/16".parse().expect("a CIDR")];
        let bits = self.next();
        node.masquerade_all = bits & 1 > 0;
        node.localhost_node_ports = bits & 2 > 0;
        if bits & 4 > 0 {
            node.pods = LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
        }
        if bits & 8 > 0 {
            node.node_port_addresses = NodePortAddresses::Primary;
        }
        node
    }

    fn service(&mut self, model: &Model) -> Service {
        let name = self.service_name();
        let known = model.services.get(&name);
        let fields = self.fields(known.is_some());
        let mut service = known.cloned().unwrap_or_else(|| Service::new(name));
        if fields.has(0) || fields.has(13) {
            service.selector = if self.seldom(4) { Labels::default() } else { self.labels() };
        }
        if fields.has(1) || fields.has(15) {
            let external = ServiceKind::ExternalName("example.com".into());
            let (balancer, node_port) = (ServiceKind::LoadBalancer, ServiceKind::NodePort);
            let kinds = [balancer.clone(), node_port.clone(), ServiceKind::ClusterIp, balancer];
            service.kind = if self.seldom(9) { external } else { self.one(&kinds) };
        }
        if fields.has(2) || fields.has(14) {
            let bits = self.next();
            let (v4, v6) = (CLUSTER_IPS[bits & 1], CLUSTER_IPS[2 + (bits >> 1 & 1)]);
            let texts: &[&str] = match bits >> 2 & 3 {
                0 => &[v4],
                1 => &[v6],
                2 => &[v4, v6],
                _ => &[v6, v4],
            };
            let ips: Vec<IpAddr> = texts.iter().copied().map(ip).collect();
            service.ip_families = ips.iter().map(|&ip| IpFamily::of(ip)).collect();
            service.cluster_ips = match bits >> 4 {
                15 => ClusterIps::Unassigned,
                13 | 14 => ClusterIps::Headless,
                _ => ClusterIps::Assigned(ips),
            };
            if bits >> 4 == 12 {
                service.ip_families.clear();
            }
        }
        if fields.has(3) {
            service.ports = (0..[1, 2, 3, 0][self.next() % 4]).map(|_| self.port()).collect();
        }
        if fields.has(4) {
            service.external_ips = self.ips(&OUTER_IPS);
        }
        if fields.has(5) {
            let ingress = self.ips(&OUTER_IPS).into_iter().map(|ip| {
                let mut ingress = Ingress::default();
                ingress.ip = Some(ip);
                ingress
            });
            service.load_balancer.ingress = ingress.collect();
        }
        if fields.has(6) {
            let bits = self.next();
            let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            service.external_traffic_policy = policy(bits & 1 > 0);
            service.internal_traffic_policy = policy(bits & 2 > 0);
            service.health_check_node_port = [None, Some(3000), Some(3002), None][bits >> 2 & 3];
            service.publish_not_ready_addresses = bits & 0x30 == 0x30;
        }
        if fields.has(7) {
            let time = self.one(&[Some(1), None, Some(1), Some(2), None]);
            service.created = time.map(Timestamp::from_unix);
        }
        if fields.has(8) {
            let bits = self.next();
            service.traffic_distribution = [
                None,
                None,
                Some(TrafficDistribution::PreferSameZone),
                Some(TrafficDistribution::PreferSameNode),
            ][bits & 3];
            let auto = (bits & 4 > 0).then_some(("service.kubernetes.io/topology-mode", "Auto"));
            let weights = (bits & 0x18 == 0x18).then_some((WEIGHTS_ANNOTATION, "10.0.0.1=3,p1=0"));
            service.annotations = auto.into_iter().chain(weights).collect();
        }
        if fields.has(9) {
            let labels = [
                None,
                None,
                None,
                None,
                Some((PROXY_NAME_LABEL, "mine")),
                Some((HEADLESS_LABEL, "")),
            ];
            service.labels = self.one(&labels).into_iter().collect();
        }
        if fields.has(10) {
            service.client_ip_affinity = self.seldom(4).then_some(Duration::from_secs(10));
        }
        service
    }

    fn port(&mut self) -> ServicePort {
        let bits = self.next();
        let mut port = ServicePort::new([80, 81][bits & 1]);
        port.name = [None, Some("a"), Some("b"), None][bits >> 1 & 3]
            .map(|name| name.parse().expect("a label"));
        port.protocol = PROTOCOLS[[0, 0, 0, 1, 1, 2, 0, 0][bits >> 3 & 7]];
        port.target =
            if bits & 64 > 0 { TargetPort::Name("web".into()) } else { TargetPort::Number(8080) };
        port.node_port = self.one(&[None, Some(3000), Some(3001), None]);
        port
    }

    fn pod(&mut self, model: &Model) -> Pod {
        let name = self.name(&PODS);
        let known = model.pods.get(&name);
        let fields = self.fields(known.is_some());
        let mut pod = known.cloned().unwrap_or_else(|| Pod::new(name));
        if fields.has(0) || fields.has(8) {
            pod.labels = self.labels();
        }
        if fields.has(1) || fields.has(9) || fields.has(10) {
            pod.ready = self.next() % 4 < 3;
        }
        if fields.has(2) || fields.has(11) {
            let node = self.one(&[Some(0), Some(1), Some(2), None]);
            pod.node = node.map(|n: usize| node_name(NODES[n]));
        }
        if fields.has(3) || fields.has(12) {
            let bits = self.next();
            let lists: [&[usize]; 8] = [&[0], &[1], &[2], &[0, 3], &[1, 4], &[4], &[], &[0, 1]];
            pod.ips = lists[bits % 8].iter().map(|&n| ip(POD_IPS[n])).collect();
        }
        if fields.has(4) {
            let phases = [Phase::Running, Phase::Running, Phase::Pending, Phase::Failed];
            pod.phase = self.one(&phases);
        }
        if fields.has(5) || fields.has(13) {
            pod.deleted = self.seldom(3).then(|| Timestamp::from_unix(9));
        }
        if fields.has(6) {
            let bits = self.next();
            pod.hostname = (bits & 1 > 0).then(|| "host".parse().expect("a label"));
            let subdomain = [None, Some("s0"), Some("s1")][bits >> 1 & 1];
            pod.subdomain = subdomain.map(|name| name.parse().expect("a label"));
            let uid = ["", "0", "1", ""][bits >> 2 & 3];
            pod.uid =
                if uid.is_empty() { uid.into() } else { format!("{}-{uid}", pod.name).into() };
        }
        if fields.has(7) {
            pod.ports =
                self.one(&[Some(8081), Some(8082), None]).into_iter().map(container).collect();
        }
        pod
    }

    fn slice(&mut self, model: &Model) -> EndpointSlice {
        let name = self.name(&SLICES);
        let known = model.slices.get(&name);
        let fields = self.fields(known.is_some());
        let namespace = name.namespace().to_owned();
        let of = |n: usize| ObjectName::new(&namespace, ["s0", "s1", "s2"][n % 3]).expect("a name");
        let known = known.cloned();
        let mut slice = known.unwrap_or_else(|| EndpointSlice::new(name, of(0), IpFamily::V4));
        if fields.has(0) || fields.has(8) {
            slice.service = of(self.next());
        }
        if fields.has(1) || fields.has(9) {
            slice.managed_by = self.one(&MANAGERS).into();
        }
        if fields.has(2) {
            slice.headless = self.seldom(4);
        }
        if fields.has(3) {
            let mine = self.seldom(4).then_some((PROXY_NAME_LABEL, "mine"));
            slice.labels = mine.into_iter().collect();
        }
        if fields.has(4) || fields.0 & 0xe000 > 0 {
            let count = self.next() % 5;
            let ports: Vec<EndpointPort> =
                (0..[1, 2, 1, 0][self.next() % 4]).map(|_| self.endpoint_port()).collect();
            let endpoints: Vec<Endpoint> = (0..count).map(|_| self.endpoint(&namespace)).collect();
            slice.set_endpoints(ports, endpoints);
        }
        if fields.has(5) {
            slice.generation = [0, 1, 2][self.next() % 3];
        }
        slice
    }

    fn endpoint_port(&mut self) -> EndpointPort {
        let bits = self.next();
        let mut port = EndpointPort::new([8080, 8081][bits & 1]);
        port.name = [None, Some("a"), Some("b"), None][bits >> 1 & 3]
            .map(|name| name.parse().expect("a label"));
        port.protocol = PROTOCOLS[[0, 0, 0, 1, 1, 2, 0, 0][bits >> 3 & 7]];
        port
    }

    fn endpoint(&mut self, namespace: &str) -> Endpoint {
        let mut endpoint = Endpoint::new(ip(self.one(&POD_IPS)));
        let bits = self.next();
        let states = [0b110, 0b110, 0b110, 0b011, 0b010, 0b000, 0b001, 0b111];
        let state = states[bits & 7];
        endpoint.conditions =
            Conditions { ready: state & 4 > 0, serving: state & 2 > 0, terminating: state & 1 > 0 };
        endpoint.node =
            [None, Some(0), Some(0), Some(1)][bits >> 3 & 3].map(|n| node_name(NODES[n]));
        endpoint.target = [None, Some("p0"), Some("p1"), None][bits >> 5 & 3].map(|pod| {
            Reference::new("Pod", &ObjectName::new(namespace, pod).expect("a name"), "")
        });
        if bits & 128 > 0 {
            endpoint.hints.zones = vec!["z0".into()];
        }
        endpoint
    }

    /// Now and then as Kubernetes' older controller would write it of the pods: so that they say the same.
    fn endpoints(&mut self, model: &Model) -> Endpoints {
        let name = self.service_name();
        let bits = self.next();
        let service = model.services.get(&name).filter(|_| bits & 1 > 0);
        let resolved = service.and_then(|service| {
            let mut service = service.clone();
            if service.selector.is_empty() {
                service.selector = self.labels();
            }
            Endpoints::resolve(&service, model.pods.values(), None)
        });
        if let Some(resolved) = resolved {
            return resolved;
        }
        let mut endpoints = Endpoints::new(name);
        endpoints.deleted = (bits & 0xe == 0xe).then(|| Timestamp::from_unix(9));
        if bits & 0x70 == 0x70 {
            endpoints.labels =
                [("endpointslice.kubernetes.io/skip-mirror", "true")].into_iter().collect();
        }
        for _ in 0..self.next() % 3 {
            let mut subset = Subset::default();
            subset.addresses = self.ips(&POD_IPS).into_iter().map(Address::new).collect();
            subset.not_ready = self.ips(&POD_IPS).into_iter().map(Address::new).collect();
            subset.ports = vec![self.endpoint_port()];
            endpoints.subsets.push(subset);
        }
        endpoints
    }

    fn cluster_node(&mut self, model: &Model) -> Node {
        let name = node_name(self.one(&NODES));
        let known = model.nodes.get(&name);
        let fields = self.fields(known.is_some());
        let mut node = known.cloned().unwrap_or_else(|| Node::new(name));
        if fields.0 & 0x1111 > 0 {
            let zones = [Some("z0"), Some("z1"), None, Some("z0")];
            node.labels = self.one(&zones).map(|zone| (ZONE_LABEL, zone)).into_iter().collect();
        }
        if fields.0 & 0x2222 > 0 {
            node.ready = self.next() % 4 < 3;
        }
        if fields.0 & 0x4444 > 0 {
            node.cpu_millis = self.one(&[1000, 2000, 1000, 0]);
        }
        node
    }

    fn object(&mut self, kind: Kind, model: &Model) -> Object {
        match kind {
            Kind::Service => self.service(model).into(),
            Kind::EndpointSlice => self.slice(model).into(),
            Kind::Endpoints => self.endpoints(model).into(),
            Kind::Pod => self.pod(model).into(),
            _ => self.cluster_node(model).into(),
        }
    }

    fn key(&mut self) -> Key {
        match self.next() % 8 {
            0 | 1 => Key::Service(self.service_name()),
            2 | 3 => Key::EndpointSlice(self.name(&SLICES)),
            4 => Key::Endpoints(self.service_name()),
            5 | 6 => Key::Pod(self.name(&PODS)),
            _ => Key::Node(node_name(self.one(&NODES))),
        }
    }

    pub(crate) fn event(&mut self, model: &Model) -> Event {
        let kind = match self.next() % 32 {
            0..=8 => Kind::Service,
            9..=14 => Kind::EndpointSlice,
            15..=22 => Kind::Pod,
            23 | 24 => Kind::Endpoints,
            25..=27 => Kind::Node,
            _ => return Event::Delete(self.key()),
        };
        Event::Upsert(self.object(kind, model))
    }

    pub(crate) fn step(&mut self, model: &Model) -> Step {
        match self.next() % 32 {
            0..=22 => Step::One(self.event(model)),
            23..=25 => {
                // What is edited is as it is after the events before.
                let mut after = model.clone();
                let mut events = Vec::new();
                for _ in 0..=self.next() % 6 {
                    let event = self.event(&after);
                    after.take(Step::One(event.clone()));
                    events.push(event);
                }
                Step::Batch(events)
            }
            26 => {
                let kind = self.one(Kind::ALL);
                let known = model.objects().into_iter().filter(|o| o.key().kind() == kind);
                let mut objects: Vec<Object> = known.collect();
                let bits = self.next();
                let mut n = 0;
                objects.retain(|_| {
                    n += 1;
                    bits >> (n % 8) & 1 == 0
                });
                for _ in 0..self.next() % 3 {
                    objects.push(self.object(kind, model));
                }
                Step::Resync(kind, objects)
            }
            27 => Step::Node(self.node()),
            28 | 29 => {
                let sources = [None, Some(EndpointSource::Pods), Some(EndpointSource::Slices)];
                Step::Source(self.service_name(), self.one(&sources))
            }
            30 if self.next() % 2 == 0 => Step::Zone(self.next() % 2 == 0),
            30 => Step::Pools,
            _ => Step::Now(Instant::from_secs(self.next() as u64)),
        }
    }
}

fn container(number: u16) -> ContainerPort {
    let mut port = ContainerPort::new(number);
    port.name = Some("web".parse().expect("a name"));
    port
}

/// To every address and port that somebody may have, and beside.
pub(crate) fn packets() -> Vec<Packet> {
    let sources =
        [["10.0.0.1", "192.168.0.2", "203.0.113.2"], ["fd00:10::1", "2001:db8::1", "::1"]];
    let beside = ["127.0.0.1", "10.96.0.9", "10.0.0.2", "::1"];
    let mut packets = Vec::new();
    for destination in
        [&CLUSTER_IPS[..], &OUTER_IPS, &NODE_IPS, &beside].concat().into_iter().map(ip)
    {
        for port in PORTS {
            for protocol in PROTOCOLS {
                let of_family = sources[usize::from(destination.is_ipv6())];
                let source = ip(of_family[packets.len() % 3]);
                packets.push(Packet::new(protocol, source, (destination, port).into()));
            }
        }
    }
    packets
}
