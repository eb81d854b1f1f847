//! A naive model of what becomes of packets, in which every question is a scan over the cluster's objects. Plans agree with it, over random
//! clusters, and the way from one plan to another ends where a plan made anew does.
//!
//! Source: the rules that kube-proxy writes in its modes iptables, nftables and ipvs, its `topology.go` (which endpoints) and
//! `nodeport_addresses.go` (where node ports are). The model's own words are `svcplane::plan`'s.

pub(crate) mod clusters;
#[cfg(feature = "serde")]
pub(crate) mod sequences;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use svcplane::endpoints::{Conditions, Endpoint, EndpointSet, HEADLESS_LABEL};
use svcplane::ipnet::IpNet;
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{
    FrontendKind, LocalDetector, LocalNode, Mode, NodePortAddresses, Origin, PROXY_NAME_LABEL,
    Packet, Plan, SCHEDULER_ANNOTATION, Verdict, WEIGHTS_ANNOTATION,
};
use svcplane::sched::Algorithm;
use svcplane::service::{IpMode, Service, ServiceKind, ServicePort, TrafficPolicy};
use svcplane::time::Timestamp;

use clusters::{cluster, mode, node, packet, packets_everywhere, served};

/// A Service with its endpoints, in any order.
pub(crate) type Served = (Service, Vec<Endpoint>);

#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) node: LocalNode,
    pub(crate) mode: Mode,
    pub(crate) services: Vec<Served>,
}

/// What becomes of a packet, in values that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Forward {
        service: ObjectName,
        port: String,
        kind: FrontendKind,
        policy: TrafficPolicy,
        /// In order: address, weight, whether masqueraded.
        backends: Vec<(SocketAddr, u32, bool)>,
        affinity: Option<Duration>,
        scheduler: Option<Algorithm>,
    },
    Reject,
    Drop,
    Accept(ObjectName, usize),
    Pass,
}

/// What a Service has to itself if it comes first.
#[derive(Clone, Copy)]
struct Claim<'a> {
    served: &'a Served,
    /// The port and what kind of address it is; `None` for the health check.
    port: Option<(&'a ServicePort, FrontendKind)>,
    family: IpFamily,
    ip: Option<IpAddr>,
    protocol: Protocol,
    number: u16,
}

impl Claim<'_> {
    fn is_same(&self, other: &Self) -> bool {
        (self.family, self.ip, self.protocol, self.number)
            == (other.family, other.ip, other.protocol, other.number)
    }
}

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

fn first_of(ips: &[IpAddr], family: IpFamily) -> Option<IpAddr> {
    ips.iter().copied().find(|ip| IpFamily::of(*ip) == family)
}

/// Its addresses at a load balancer that packets still carry when they arrive.
fn vips(service: &Service, family: IpFamily) -> Vec<IpAddr> {
    let ingress = service.load_balancer.ingress.iter().filter(|i| i.mode == IpMode::Vip);
    ingress.filter_map(|i| i.ip).filter(|ip| IpFamily::of(*ip) == family).collect()
}

fn external_ips(service: &Service, family: IpFamily) -> Vec<IpAddr> {
    let ips = service.external_ips.iter().copied();
    ips.filter(|ip| IpFamily::of(*ip) == family).collect()
}

fn cluster_ip(service: &Service, family: IpFamily) -> Option<IpAddr> {
    let ips = service.cluster_ips.as_slice();
    match &*service.ip_families {
        [] => first_of(&ips[..ips.len().min(1)], family),
        families => ips.iter().zip(families).find(|(_, of)| **of == family).map(|(ip, _)| *ip),
    }
}

fn accessible(service: &Service, port: &ServicePort, family: IpFamily) -> bool {
    port.node_port.is_some()
        || !vips(service, family).is_empty()
        || !external_ips(service, family).is_empty()
}

impl Cluster {
    pub(crate) fn plan(&self) -> Plan {
        self.plan_of(self.services.iter())
    }

    pub(crate) fn plan_of<'a>(&self, services: impl Iterator<Item = &'a Served>) -> Plan {
        let sets: Vec<(&Service, EndpointSet)> = services
            .map(|(s, list)| (s, EndpointSet::new(s.name.clone(), list.iter().cloned())))
            .collect();
        Plan::new(&self.node, self.mode, sets.iter().map(|(s, set)| (*s, set)))
    }

    /// The Services that a proxy serves, the oldest first.
    fn served(&self) -> Vec<&Served> {
        let mut served: Vec<&Served> = self
            .services
            .iter()
            .filter(|(s, _)| !matches!(s.kind, ServiceKind::ExternalName(_)))
            .filter(|(s, _)| !s.cluster_ips.as_slice().is_empty())
            .filter(|(s, _)| s.labels.get(HEADLESS_LABEL).is_none())
            .filter(|(s, _)| s.labels.get(PROXY_NAME_LABEL) == self.node.proxy_name.as_deref())
            .collect();
        // A time that is not known is after all others.
        let age = |s: &Service| s.created.map_or(i64::MAX, Timestamp::as_unix);
        served.sort_by_key(|(s, _)| (age(s), s.name.clone()));
        let mut known = BTreeSet::new();
        served.retain(|(s, _)| known.insert(s.name.clone()));
        served
    }

    /// All claims; of those to one thing the first counts.
    fn claims(&self) -> Vec<Claim<'_>> {
        let mut claims = Vec::new();
        for served in self.served() {
            let service = &served.0;
            let mut ports: Vec<&ServicePort> = service.ports.iter().collect();
            ports.sort_by_key(|p| (p.name.clone(), p.protocol));
            let mut known = BTreeSet::new();
            ports.retain(|p| known.insert((p.name.clone(), p.protocol)));
            for family in FAMILIES {
                let Some(own) = cluster_ip(service, family) else { continue };
                for port in &ports {
                    let mut add = |kind, ip, number| {
                        let (port, protocol) = (Some((*port, kind)), port.protocol);
                        claims.push(Claim { served, port, family, ip, protocol, number });
                    };
                    add(FrontendKind::ClusterIp, Some(own), port.port);
                    for ip in external_ips(service, family) {
                        add(FrontendKind::ExternalIp, Some(ip), port.port);
                    }
                    for ip in vips(service, family) {
                        add(FrontendKind::LoadBalancerIp, Some(ip), port.port);
                    }
                    if let Some(number) = port.node_port {
                        add(FrontendKind::NodePort, None, number);
                    }
                }
                let checked = service.kind == ServiceKind::LoadBalancer
                    && service.external_traffic_policy == TrafficPolicy::Local;
                if let (true, Some(number)) = (checked, service.health_check_node_port) {
                    let (port, protocol) = (None, Protocol::Tcp);
                    claims.push(Claim { served, port, family, ip: None, protocol, number });
                }
            }
        }
        claims
    }

    /// Claims in vain: address, transport, port, winner, loser.
    fn conflicts(&self) -> BTreeSet<(IpFamily, Option<IpAddr>, Protocol, u16, String, String)> {
        let claims = self.claims();
        let mut lost = BTreeSet::new();
        for (n, claim) in claims.iter().enumerate() {
            let Some(first) = claims[..n].iter().find(|c| c.is_same(claim)) else { continue };
            let port = |c: &Claim<'_>| c.port.map(|(p, _)| (p.name.clone(), p.protocol));
            // One address that a port has in two ways is no conflict.
            if first.served.0.name != claim.served.0.name || port(first) != port(claim) {
                let name = |c: &Claim<'_>| c.served.0.name.to_string();
                let Claim { family, ip, protocol, number, .. } = *claim;
                lost.insert((family, ip, protocol, number, name(first), name(claim)));
            }
        }
        lost
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback()
            || self.node.addresses.contains(&ip)
            || self.node.local_addresses.contains(&ip)
    }

    fn takes_node_ports(&self, ip: IpAddr) -> bool {
        let family = IpFamily::of(ip);
        let primary = first_of(&self.node.addresses, family) == Some(ip);
        let cidrs: Vec<&IpNet> = match &self.node.node_port_addresses {
            NodePortAddresses::Primary => return primary,
            NodePortAddresses::ModeDefault if self.mode == Mode::Nftables => return primary,
            NodePortAddresses::In(cidrs) => {
                cidrs.iter().filter(|net| IpFamily::of(net.addr()) == family).collect()
            }
            _ => Vec::new(),
        };
        let all = cidrs.is_empty() || cidrs.iter().any(|net| net.prefix_len() == 0);
        let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let localhost = self.node.localhost_node_ports
            && match self.mode {
                Mode::Iptables => ip.is_ipv4(),
                Mode::Userspace => true,
                _ => false,
            };
        // All is what the kernel says is local; otherwise only what an interface has.
        let has = self.node.addresses.contains(&ip)
            || self.node.local_addresses.contains(&ip)
            || ["127.0.0.1", "::1"].map(address).contains(&ip)
            || (all && ip.is_loopback());
        has && (all || cidrs.iter().any(|net| net.contains(&ip)))
            && (localhost || !ip.is_loopback())
            && !(self.mode == Mode::Ipvs && link_local)
    }

    /// Where one port leads in a family: of what is said of one address and port the best.
    fn candidates<'a>(
        &self,
        (_, endpoints): &'a Served,
        port: &ServicePort,
        family: IpFamily,
    ) -> Vec<(SocketAddr, &'a Endpoint)> {
        let worth = |e: &Endpoint| {
            let state = match e.conditions {
                Conditions { ready: true, .. } => 0,
                Conditions { serving: true, terminating: true, .. } => 1,
                Conditions { serving: true, .. } => 2,
                _ => 3,
            };
            (state, e.node.as_ref() != Some(&self.node.name), e.clone())
        };
        let mut found: Vec<(SocketAddr, &Endpoint)> = Vec::new();
        for endpoint in endpoints.iter().filter(|e| IpFamily::of(e.ip) == family) {
            let resolved =
                endpoint.ports.iter().find(|p| p.protocol == port.protocol && p.name == port.name);
            let Some(resolved) = resolved else { continue };
            let addr = SocketAddr::new(endpoint.ip, resolved.port);
            match found.iter_mut().find(|(known, _)| *known == addr) {
                None => found.push((addr, endpoint)),
                Some((_, known)) if worth(endpoint) < worth(known) => *known = endpoint,
                Some(_) => {}
            }
        }
        found.sort_by_key(|(addr, _)| addr.to_string());
        found
    }

    /// Those under a policy.
    fn choose<'a>(
        &self,
        candidates: &[(SocketAddr, &'a Endpoint)],
        policy: TrafficPolicy,
    ) -> Vec<(SocketAddr, &'a Endpoint)> {
        let here = |e: &Endpoint| e.node.as_ref() == Some(&self.node.name);
        let wanted = |e: &Endpoint| policy == TrafficPolicy::Cluster || here(e);
        let of = |test: &dyn Fn(&Endpoint) -> bool| -> Vec<(SocketAddr, &'a Endpoint)> {
            candidates.iter().copied().filter(|(_, e)| wanted(e) && test(e)).collect()
        };
        let ready = of(&|e| e.conditions.ready);
        if ready.is_empty() {
            return of(&|e| e.conditions.serving && e.conditions.terminating);
        }
        if policy == TrafficPolicy::Cluster {
            let node = |e: &Endpoint| e.hints.nodes.contains(&self.node.name);
            if ready.iter().all(|(_, e)| !e.hints.nodes.is_empty())
                && ready.iter().any(|(_, e)| node(e))
            {
                return ready.into_iter().filter(|(_, e)| node(e)).collect();
            }
            let zone = self.node.zone.as_deref().unwrap_or_default();
            let zone =
                |e: &Endpoint| !zone.is_empty() && e.hints.zones.iter().any(|z| **z == *zone);
            if ready.iter().all(|(_, e)| !e.hints.zones.is_empty())
                && ready.iter().any(|(_, e)| zone(e))
            {
                return ready.into_iter().filter(|(_, e)| zone(e)).collect();
            }
        }
        ready
    }

    /// Whether IPVS has the address on the node for a Service's sake.
    fn is_virtual(&self, ip: IpAddr) -> bool {
        self.claims().iter().any(|c| c.ip == Some(ip)) || self.is_cluster_ip(ip)
    }

    fn is_cluster_ip(&self, ip: IpAddr) -> bool {
        let served = self.served();
        served.iter().any(|(s, _)| FAMILIES.iter().any(|f| cluster_ip(s, *f) == Some(ip)))
    }

    fn origin(&self, packet: &Packet) -> Origin {
        let source = packet.source.to_canonical();
        let interface = packet.interface.map(|name| name.to_string());
        let pod = match &self.node.pods {
            LocalDetector::Cidrs(cidrs) => cidrs.iter().any(|net| net.contains(&source)),
            LocalDetector::Bridge(name) => interface == Some(name.to_string()),
            LocalDetector::InterfacePrefix(prefix) => {
                interface.is_some_and(|name| name.starts_with(prefix.as_str()))
            }
            _ => false,
        };
        if pod {
            Origin::Pod
        } else if self.is_own(source) || (self.mode == Mode::Ipvs && self.is_virtual(source)) {
            Origin::Node
        } else {
            Origin::Elsewhere
        }
    }

    fn is_admitted(&self, service: &Service, family: IpFamily, source: IpAddr) -> bool {
        let ranges = &service.load_balancer.source_ranges;
        let ranges: Vec<&IpNet> =
            ranges.iter().filter(|net| IpFamily::of(net.addr()) == family).collect();
        let within = |ip: IpAddr| ranges.iter().any(|net| net.contains(&ip));
        let node_is = first_of(&self.node.addresses, family).is_some_and(within);
        ranges.is_empty() || within(source) || (node_is && vips(service, family).contains(&source))
    }

    fn outcome(&self, packet: &Packet) -> Outcome {
        let ip = packet.destination.ip().to_canonical();
        let (number, protocol) = (packet.destination.port(), packet.protocol);
        let family = IpFamily::of(ip);
        let claims = self.claims();
        let find = |ip: Option<IpAddr>| {
            claims
                .iter()
                .find(|c| (c.family, c.ip, c.protocol, c.number) == (family, ip, protocol, number))
        };
        let at_node = || match find(None) {
            Some(claim @ Claim { port: Some(_), .. }) => self.takes_node_ports(ip).then_some(claim),
            check => check
                .filter(|_| self.is_own(ip) || (self.mode == Mode::Ipvs && self.is_virtual(ip))),
        };
        if let Some(claim) = find(Some(ip)).or_else(at_node) {
            return match claim.port {
                Some((port, kind)) => self.outcome_at(packet, claim, port, kind),
                None if matches!(self.mode, Mode::Iptables | Mode::Ipvs) => {
                    Outcome::Accept(claim.served.0.name.clone(), self.ready_here(claim))
                }
                None => Outcome::Pass,
            };
        }
        let in_cidr = self.node.service_cidrs.iter().any(|net| net.contains(&ip));
        match self.mode {
            Mode::Nftables | Mode::Ipvs if self.is_cluster_ip(ip) => Outcome::Reject,
            Mode::Nftables if in_cidr => Outcome::Drop,
            Mode::Ipvs if self.is_virtual(ip) && !self.is_own(ip) => Outcome::Reject,
            _ => Outcome::Pass,
        }
    }

    fn outcome_at(
        &self,
        packet: &Packet,
        claim: &Claim<'_>,
        port: &ServicePort,
        kind: FrontendKind,
    ) -> Outcome {
        use TrafficPolicy::{Cluster, Local};

        let (service, source) = (&claim.served.0, packet.source.to_canonical());
        let candidates = self.candidates(claim.served, port, claim.family);
        let any = !self.choose(&candidates, Cluster).is_empty();
        let before_dnat = matches!(self.mode, Mode::Nftables | Mode::Ipvs);
        if kind == FrontendKind::LoadBalancerIp
            && (any || before_dnat)
            && !self.is_admitted(service, claim.family, source)
        {
            return Outcome::Drop;
        }
        if !any {
            return Outcome::Reject;
        }
        let origin = self.origin(packet);
        let told_apart = match &self.node.pods {
            LocalDetector::None => false,
            LocalDetector::Cidrs(nets) => {
                nets.iter().any(|net| IpFamily::of(net.addr()) == claim.family)
            }
            _ => true,
        };
        let (policy, masquerade) = if kind == FrontendKind::ClusterIp {
            let not_a_pod = told_apart && origin != Origin::Pod;
            // In mode ipvs the node calls from the very address that it calls.
            let itself = self.mode == Mode::Ipvs && origin == Origin::Node;
            (service.internal_traffic_policy, self.node.masquerade_all || not_a_pod || itself)
        } else {
            let inside = self.mode != Mode::Ipvs && origin != Origin::Elsewhere;
            match service.external_traffic_policy {
                Cluster => (Cluster, true),
                Local if inside => (Cluster, origin == Origin::Node),
                Local => (Local, false),
            }
        };
        let none_here = policy == Local && self.choose(&candidates, Local).is_empty();
        let policy = match (none_here, self.mode) {
            (true, Mode::Ipvs) => Cluster,
            (true, _) => return Outcome::Drop,
            (false, _) => policy,
        };
        // Who calls itself is on this node, as far as is known.
        let may_be_here = candidates.iter().any(|(addr, endpoint)| {
            let elsewhere = endpoint.node.as_ref().is_some_and(|node| *node != self.node.name);
            addr.ip() == source && !elsewhere
        });
        let backends = self.choose(&candidates, policy).into_iter();
        let backends = backends.map(|(addr, endpoint)| {
            let weight = weight(service, endpoint);
            (addr, weight, masquerade || (may_be_here && addr.ip() == source))
        });
        Outcome::Forward {
            service: service.name.clone(),
            port: port.name_str().to_owned(),
            kind,
            policy,
            backends: backends.collect(),
            affinity: service.client_ip_affinity,
            scheduler: service.annotations.get(SCHEDULER_ANNOTATION).and_then(|t| t.parse().ok()),
        }
    }

    /// How many addresses on this node are ready.
    fn ready_here(&self, claim: &Claim<'_>) -> usize {
        let ports = claim.served.0.ports.iter();
        let found = ports.flat_map(|port| self.candidates(claim.served, port, claim.family));
        let here = found
            .filter(|(_, e)| e.conditions.ready && e.node.as_ref() == Some(&self.node.name))
            .map(|(addr, _)| addr.ip());
        here.collect::<BTreeSet<_>>().len()
    }
}

/// The weights that the generator writes are legal, each once.
fn weight(service: &Service, endpoint: &Endpoint) -> u32 {
    let items = service.annotations.get(WEIGHTS_ANNOTATION).unwrap_or_default();
    let items = || items.split(',').filter_map(|item| item.split_once('='));
    let of = |name: &str| items().find(|(known, _)| *known == name).map(|(_, w)| w);
    let by_name = endpoint.target.as_ref().and_then(|target| of(&target.name));
    let weight = by_name.or_else(|| of(&endpoint.ip.to_string()));
    weight.map_or(1, |weight| weight.parse().expect("a number"))
}

fn outcome_of(verdict: &Verdict<'_>, family: IpFamily) -> Outcome {
    match verdict {
        Verdict::Forward(route) => {
            let backends = route.backends.iter();
            Outcome::Forward {
                service: route.port.name.service.clone(),
                port: route.port.name.port.as_ref().map_or("", |p| p.as_str()).to_owned(),
                kind: route.frontend.kind,
                policy: route.policy,
                backends: backends.map(|b| (b.addr, b.weight, route.masquerades(b.addr))).collect(),
                affinity: route.port.client_ip_affinity,
                scheduler: route.port.scheduler,
            }
        }
        Verdict::Reject => Outcome::Reject,
        Verdict::Drop => Outcome::Drop,
        Verdict::Accept(health) => {
            let counts = health.local_endpoints.iter().find(|(of, _)| *of == family);
            Outcome::Accept(health.service.clone(), counts.expect("a family that it is in").1)
        }
        Verdict::Pass => Outcome::Pass,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn agree(cluster: &Cluster, plan: &Plan, packet: &Packet) -> Result<(), TestCaseError> {
    let family = IpFamily::of(packet.destination.ip().to_canonical());
    let verdict = plan.route(packet);
    let found = outcome_of(&verdict, family);
    let explanation = plan.explain(packet);
    prop_assert_eq!(&found, &cluster.outcome(packet), "{}:\n{}", packet, explanation);
    prop_assert_eq!(explanation.verdict, verdict);
    prop_assert!(!explanation.steps.is_empty());
    prop_assert!(explanation.steps.iter().all(|step| !step.is_empty()));
    let text = explanation.to_string();
    prop_assert_eq!(text.lines().count(), explanation.steps.len() + 1);
    prop_assert!(text.ends_with(&format!("\n=> {verdict}")), "{text}");
    Ok(())
}

/// Every route of both is the same.
fn same_routes(a: &Plan, b: &Plan) -> Result<(), TestCaseError> {
    for packet in packets_everywhere() {
        let [x, y] = [a, b].map(|plan| plan.route(&packet));
        prop_assert_eq!(x, y, "{}", packet);
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_route_is_the_models(
        cluster in cluster(),
        packets in prop::collection::vec((packet(), prop::option::of(any::<Index>())), 100),
    ) {
        let (plan, claims) = (cluster.plan(), cluster.claims());
        for (mut packet, aim) in packets {
            let aim = aim.filter(|_| !claims.is_empty()).map(|index| index.get(&claims));
            if let Some(claim) = aim {
                let ip = claim.ip.unwrap_or_else(|| packet.destination.ip());
                packet.destination = SocketAddr::new(ip, claim.number);
                packet.protocol = claim.protocol;
            }
            agree(&cluster, &plan, &packet)?;
        }
    }

    /// What is lost is listed, once; backends are there for the policies that use them and for no others.
    #[test]
    fn conflicts_and_targets_are_the_models(cluster in cluster()) {
        let plan = cluster.plan();
        let conflicts: Vec<_> = plan
            .conflicts()
            .map(|c| (c.family, c.ip, c.protocol, c.port, c.winner.to_string(), c.loser.to_string()))
            .collect();
        prop_assert_eq!(conflicts.len(), cluster.conflicts().len());
        prop_assert_eq!(conflicts.into_iter().collect::<BTreeSet<_>>(), cluster.conflicts());

        let all = cluster.served();
        for port in plan.ports() {
            let served = all.iter().find(|(s, _)| s.name == port.name.service).expect("it is served");
            let service = &served.0;
            let stated = service
                .ports
                .iter()
                .find(|p| p.name == port.name.port && p.protocol == port.name.protocol)
                .expect("it has the port");
            let candidates = cluster.candidates(served, stated, port.family);
            let policies = [service.internal_traffic_policy, service.external_traffic_policy];
            let outside = accessible(service, stated, port.family);
            let used = if outside { &policies[..] } else { &policies[..1] };
            let addrs = |policy| -> Vec<SocketAddr> {
                cluster.choose(&candidates, policy).into_iter().map(|(addr, _)| addr).collect()
            };
            let uses_local = used.contains(&TrafficPolicy::Local);
            let local = if uses_local { addrs(TrafficPolicy::Local) } else { Vec::new() };
            let falls_back = cluster.mode == Mode::Ipvs && local.is_empty();
            let uses_cluster = used.contains(&TrafficPolicy::Cluster) || outside || falls_back;
            let wide = if uses_cluster { addrs(TrafficPolicy::Cluster) } else { Vec::new() };
            for (policy, expected) in [(TrafficPolicy::Local, local), (TrafficPolicy::Cluster, wide)] {
                let found: Vec<_> = port.targets(policy).backends.iter().map(|b| b.addr).collect();
                prop_assert_eq!(found, expected, "{} {:?}", port.name, policy);
            }
        }
    }

    /// A plan is a function of its inputs as sets.
    #[test]
    fn order_changes_nothing((cluster, shuffled) in cluster().prop_flat_map(|cluster| {
        let lists = cluster.services.clone().into_iter().map(|(service, endpoints)| {
            (Just(service), Just(endpoints).prop_shuffle())
        });
        let services = lists.collect::<Vec<_>>().prop_shuffle();
        (Just(cluster), services)
    })) {
        let (plan, again) = (cluster.plan(), cluster.plan_of(shuffled.iter()));
        prop_assert_eq!(&plan, &again);
        same_routes(&plan, &again)?;
    }

    /// Each cluster has the same Services, in one of two versions or not at all, on one of two nodes.
    #[test]
    fn changes_lead_from_plan_to_plan(
        nodes in [node(), node()],
        modes in [mode(), mode()],
        services in (
            [served("s0"), served("s0")], [served("s1"), served("s1")], [served("s2"), served("s2")],
            [served("s3"), served("s3")], [served("s4"), served("s4")],
        ),
        picks in prop::collection::vec((prop::collection::vec(0_usize..3, 5), 0_usize..6), 3),
    ) {
        let versions = <[[Served; 2]; 5]>::from(services);
        let plans: Vec<Plan> = picks
            .iter()
            .map(|(picks, node)| {
                let services =
                    picks.iter().zip(&versions).filter_map(|(pick, of)| of.get(*pick)).cloned();
                let (node, mode) = (&nodes[usize::from(*node == 1)], modes[usize::from(*node == 2)]);
                Cluster { node: node.clone(), mode, services: services.collect() }.plan()
            })
            .collect();
        let [a, b, c] = &plans[..] else { unreachable!("three") };
        let [ab, bc, ac] = [(a, b), (b, c), (a, c)].map(|(old, new)| Plan::diff(old, new));
        prop_assert!(Plan::diff(a, &a.clone()).is_empty());
        prop_assert_eq!(ab.is_empty(), a == b);
        prop_assert_eq!(ab.concerns_node(), a.node() != b.node() || a.mode() != b.mode());

        let mut merged = ab.clone();
        merged.merge(bc.clone());
        prop_assert_eq!(&merged, &ac);

        let mut followed = a.clone();
        followed.apply(&ab);
        prop_assert_eq!(&followed, b);
        same_routes(&followed, b)?;
        let changed: BTreeSet<&ObjectName> = ab.services().map(|(name, _)| name).collect();
        for kept in a.services().filter(|s| !changed.contains(&s.name)) {
            let now = followed.service(&kept.name).expect("it is there still");
            prop_assert!(Arc::ptr_eq(kept, now), "{} was copied", kept.name);
        }
        for (name, change) in ab.services() {
            prop_assert_eq!(change.before.as_ref(), a.service(name));
            prop_assert_eq!(change.after.as_ref(), b.service(name));
            prop_assert_ne!(&change.before, &change.after);
        }
        followed.apply(&bc);
        prop_assert_eq!(&followed, c);
        same_routes(&followed, c)?;

        let mut at_once = a.clone();
        at_once.apply(&merged);
        prop_assert_eq!(&at_once, c);
        same_routes(&at_once, c)?;
    }
}
