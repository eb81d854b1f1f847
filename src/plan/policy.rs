//! Where a Service can be reached, and what becomes of connections there.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::topology::Candidates;
use super::{
    Action, Claim, Frontend, FrontendKind, Health, LocalNode, Mode, PortPlan, SCHEDULER_ANNOTATION,
    ServicePlan, ServicePortName, WEIGHTS_ANNOTATION, Warning, WarningKind,
};
use crate::endpoints::{Endpoint, EndpointSet};
use crate::net::{IpFamily, parse_ip};
use crate::sched::Algorithm;
use crate::service::{Service, ServiceKind, ServicePort, TrafficPolicy};

/// The plan for one Service, with all that it claims.
pub(super) fn plan_service(
    node: &LocalNode,
    mode: Mode,
    service: &Service,
    endpoints: &EndpointSet,
) -> ServicePlan {
    let mut planner = Planner { node, mode, service, endpoints, kinds: Vec::new() };
    let families = [IpFamily::V4, IpFamily::V6].map(|family| {
        let ip = service.cluster_ip(family)?;
        Some((family, ip))
    });
    let families: Vec<(IpFamily, IpAddr)> = families.into_iter().flatten().collect();
    planner.note_other_families(&families);

    let scheduler = planner.scheduler();
    let weights = planner.weights();
    let mut ports: Vec<&ServicePort> = service.ports.iter().collect();
    let key = |port: &ServicePort| (port.name.clone(), port.protocol);
    ports.sort_by_key(|port| key(port));
    ports.dedup_by_key(|port| key(port));
    let mut plans = Vec::with_capacity(ports.len() * families.len());
    let mut ready_here: BTreeMap<IpFamily, BTreeSet<IpAddr>> = BTreeMap::new();
    for port in ports {
        for &(family, cluster_ip) in &families {
            let candidates = planner.candidates(port, family);
            let here = candidates.endpoints.iter().filter(|(_, endpoint)| {
                endpoint.node.as_ref() == Some(&node.name) && endpoint.conditions.ready
            });
            let here = here.map(|(addr, _)| addr.ip());
            ready_here.entry(family).or_default().extend(here);
            if let Some(without) = candidates.without_hints() {
                let port = port.name_str().into();
                planner.kinds.push(WarningKind::Hints { port, without: without.ip });
            }
            let mut plan = planner.port(port, family, cluster_ip, &candidates, &weights);
            plan.scheduler = scheduler;
            plans.push(plan);
        }
    }

    let health = service.health_check_node_port.filter(|&port| {
        let checked = service.kind == ServiceKind::LoadBalancer
            && service.external_traffic_policy == TrafficPolicy::Local;
        if !checked {
            planner.kinds.push(WarningKind::HealthCheckNodePort(port));
        }
        checked
    });
    let health = health.map(|port| Health {
        service: service.name.clone(),
        port,
        local_endpoints: families
            .iter()
            .map(|(family, _)| (*family, ready_here.get(family).map_or(0, BTreeSet::len)))
            .collect(),
    });

    let mut kinds = planner.kinds;
    kinds.sort_unstable();
    kinds.dedup();
    let warning = |kind| Warning { service: service.name.clone(), kind };
    ServicePlan {
        name: service.name.clone(),
        cluster_ips: families.into_iter().map(|(_, ip)| ip).collect(),
        ports: plans,
        health,
        conflicts: Vec::new(),
        warnings: kinds.into_iter().map(warning).collect(),
    }
}

/// All that a Service claims: the same whatever its endpoints are.
pub(super) fn claims(node: &LocalNode, mode: Mode, service: &Service) -> BTreeSet<Claim> {
    let endpoints = EndpointSet::new(service.name.clone(), []);
    let planned = plan_service(node, mode, service, &endpoints);
    planned.claims().map(|(claim, _)| claim).collect()
}

struct Planner<'a> {
    node: &'a LocalNode,
    mode: Mode,
    service: &'a Service,
    endpoints: &'a EndpointSet,
    kinds: Vec<WarningKind>,
}

impl<'a> Planner<'a> {
    fn note_other_families(&mut self, families: &[(IpFamily, IpAddr)]) {
        let service = self.service;
        let served = |ip: &IpAddr| families.iter().any(|(family, _)| *family == IpFamily::of(*ip));
        let externals = service.external_ips.iter().map(|ip| (FrontendKind::ExternalIp, *ip));
        let balancers =
            service.load_balancer.virtual_ips().map(|ip| (FrontendKind::LoadBalancerIp, ip));
        for (kind, ip) in externals.chain(balancers).filter(|(_, ip)| !served(ip)) {
            self.kinds.push(WarningKind::Address(kind, ip));
        }
        let ranges = &service.load_balancer.source_ranges;
        let of = |family: IpFamily| move |ip: IpAddr| IpFamily::of(ip) == family && served(&ip);
        for family in [IpFamily::V4, IpFamily::V6] {
            let reached = service.load_balancer.virtual_ips().any(of(family));
            let mut within = ranges.iter().filter(|net| IpFamily::of(net.addr()) == family);
            if reached && !ranges.is_empty() && within.clone().next().is_none() {
                self.kinds.push(WarningKind::Unrestricted(family));
            } else if !reached && service.load_balancer.virtual_ips().next().is_some() {
                self.kinds.extend(within.by_ref().map(|net| WarningKind::SourceRange(*net)));
            }
        }
    }

    fn scheduler(&mut self) -> Option<Algorithm> {
        let text = self.service.annotations.get(SCHEDULER_ANNOTATION)?;
        let algorithm = text.trim().parse().ok();
        if algorithm.is_none() {
            self.kinds.push(WarningKind::Scheduler(text.into()));
        }
        algorithm
    }

    fn weights(&mut self) -> Weights<'a> {
        let mut weights = Weights::default();
        let text = self.service.annotations.get(WEIGHTS_ANNOTATION).unwrap_or_default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let weight = item.split_once('=').and_then(|(name, weight)| {
                let weight = weight.trim().parse::<u16>().ok().filter(|&weight| weight > 0)?;
                Some((name.trim(), u32::from(weight)))
            });
            match weight {
                Some((name, weight)) if weights.insert(name, weight) => {}
                _ => self.kinds.push(WarningKind::Weight(item.into())),
            }
        }
        weights
    }

    fn candidates(&self, port: &'a ServicePort, family: IpFamily) -> Candidates<'a> {
        let name = Some(&self.node.name);
        let seen = self.endpoints.port_seen_from(name, port.name_str(), port.protocol);
        let of_family = |(addr, _): &(SocketAddr, &Endpoint)| IpFamily::of(addr.ip()) == family;
        Candidates { node: self.node, endpoints: seen.filter(of_family).collect() }
    }

    fn port(
        &self,
        port: &ServicePort,
        family: IpFamily,
        cluster_ip: IpAddr,
        candidates: &Candidates<'_>,
        weights: &Weights<'_>,
    ) -> PortPlan {
        use TrafficPolicy::Local;

        let Self { node, mode, service, .. } = *self;
        let of_family = |ip: &IpAddr| IpFamily::of(*ip) == family;
        let external_ips = service.external_ips.iter().copied().filter(of_family);
        let vips: Vec<IpAddr> = service.load_balancer.virtual_ips().filter(of_family).collect();
        let (internal, external) =
            (service.internal_traffic_policy, service.external_traffic_policy);
        let accessible =
            port.node_port.is_some() || !vips.is_empty() || external_ips.clone().next().is_some();

        let weight = |endpoint: &Endpoint| weights.of(endpoint);
        let uses_local = internal == Local || (external == Local && accessible);
        let local = if uses_local { candidates.local(weight) } else { <_>::default() };
        // IPVS takes all endpoints where none is on the node.
        let instead = mode == Mode::Ipvs && local.backends.is_empty();
        let uses_cluster = internal != Local || accessible || instead;
        let cluster = if uses_cluster { candidates.cluster(weight) } else { <_>::default() };

        let any = candidates.any();
        let action = |policy, masquerade| match policy {
            _ if !any => Action::Reject,
            Local if !local.backends.is_empty() => Action::Forward { policy, masquerade },
            Local if !instead => Action::Drop,
            _ => Action::Forward { policy: TrafficPolicy::Cluster, masquerade },
        };
        let told_apart = node.pods.detects(family);
        let all = node.masquerade_all;
        let cluster_frontend = Frontend {
            kind: FrontendKind::ClusterIp,
            ip: Some(cluster_ip),
            port: port.port,
            source_ranges: Arc::default(),
            from_pod: action(internal, all),
            // With IPVS the address is on the node itself, which then calls from that very address: it has to be changed.
            // `DIFFERENCE`: kube-proxy does so only where it calls from a virtual address.
            from_node: action(internal, all || told_apart || mode == Mode::Ipvs),
            from_elsewhere: action(internal, all || told_apart),
        };
        let outer = |kind, ip, port| {
            let (from_pod, from_node, from_elsewhere) = match external {
                TrafficPolicy::Cluster => {
                    let to_any = action(external, true);
                    (to_any, to_any, to_any)
                }
                Local if mode == Mode::Ipvs => {
                    let stays = action(external, false);
                    (stays, stays, stays)
                }
                // Who is inside anyway is spared the detour: it is as if it had called the cluster IP.
                Local => (
                    action(TrafficPolicy::Cluster, false),
                    action(TrafficPolicy::Cluster, true),
                    action(external, false),
                ),
            };
            let source_ranges = Arc::default();
            Frontend { kind, ip, port, source_ranges, from_pod, from_node, from_elsewhere }
        };

        let mut frontends = alloc::vec![cluster_frontend];
        frontends
            .extend(external_ips.map(|ip| outer(FrontendKind::ExternalIp, Some(ip), port.port)));
        let heeded = any || matches!(mode, Mode::Nftables | Mode::Ipvs);
        let ranges = if heeded { self.source_ranges(family, &vips) } else { Arc::default() };
        frontends.extend(vips.iter().map(|&ip| Frontend {
            source_ranges: Arc::clone(&ranges),
            ..outer(FrontendKind::LoadBalancerIp, Some(ip), port.port)
        }));
        frontends.extend(port.node_port.map(|number| outer(FrontendKind::NodePort, None, number)));
        frontends.sort_by_key(|frontend| (frontend.kind, frontend.ip, frontend.port));
        let mut seen = BTreeSet::new();
        frontends.retain(|frontend| seen.insert((frontend.ip, frontend.port)));

        PortPlan {
            name: ServicePortName::new(service, port),
            family,
            client_ip_affinity: service.client_ip_affinity,
            scheduler: None,
            here: candidates.here(cluster.backends.iter().chain(&local.backends)),
            cluster,
            local,
            serving: candidates.serving(),
            frontends,
        }
    }

    fn source_ranges(&self, family: IpFamily, vips: &[IpAddr]) -> Arc<[IpNet]> {
        let ranges = self.service.load_balancer.source_ranges.iter().copied();
        let mut ranges: Vec<IpNet> =
            ranges.filter(|net| IpFamily::of(net.addr()) == family).collect();
        let primary = self.node.primary_address(family);
        if primary.is_some_and(|ip| ranges.iter().any(|net| net.contains(&ip))) {
            ranges.extend(vips.iter().map(|&ip| IpNet::from(ip)));
        }
        ranges.sort_unstable();
        ranges.dedup();
        ranges.into()
    }
}

/// The weights that are not 1.
#[derive(Default)]
struct Weights<'a> {
    by_ip: BTreeMap<IpAddr, u32>,
    by_name: BTreeMap<&'a str, u32>,
}

impl<'a> Weights<'a> {
    /// False if there is no name, or one that has a weight already.
    fn insert(&mut self, name: &'a str, weight: u32) -> bool {
        match parse_ip(name) {
            Ok(ip) => is_new(self.by_ip.entry(ip), weight),
            Err(_) => !name.is_empty() && is_new(self.by_name.entry(name), weight),
        }
    }

    /// By the object behind the endpoint, or else by its address.
    fn of(&self, endpoint: &Endpoint) -> u32 {
        let target = || endpoint.target.as_ref();
        let by_name = if self.by_name.is_empty() { None } else { target() }
            .and_then(|target| self.by_name.get(&*target.name));
        by_name.or_else(|| self.by_ip.get(&endpoint.ip)).copied().unwrap_or(1)
    }
}

/// Puts a value where there is none; false if there is one, which stays.
fn is_new<K: Ord>(entry: Entry<'_, K, u32>, value: u32) -> bool {
    let Entry::Vacant(vacant) = entry else { return false };
    vacant.insert(value);
    true
}
