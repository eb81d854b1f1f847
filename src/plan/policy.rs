//! Which endpoints traffic goes to, and what becomes of it where there are none.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{Action, Frontend, FrontendKind, LocalNode, PortPlan, ServicePortName};
use crate::backend::Backend;
use crate::endpoints::{Endpoint, EndpointSet};
use crate::net::IpFamily;
use crate::service::{Service, ServicePort, TrafficPolicy};

/// The plan for one port in one family; `None` if the Service has no address of the family.
pub(super) fn plan_port(
    node: &LocalNode,
    service: &Service,
    port: &ServicePort,
    family: IpFamily,
    endpoints: &EndpointSet,
) -> Option<PortPlan> {
    let cluster_ip = service.cluster_ip(family)?;
    let chosen = choose(node, service, port, family, endpoints);
    let internal = chosen.action(service.internal_traffic_policy);
    let from_elsewhere = chosen.action(service.external_traffic_policy);
    // Traffic of the node and of pods to an external address is short-circuited to all endpoints.
    let inside = chosen.action(TrafficPolicy::Cluster);

    let frontend = |kind, ip, port| Frontend {
        kind,
        ip,
        port,
        source_ranges: Vec::new(),
        from_pod: inside,
        from_node: inside,
        from_elsewhere,
    };
    let mut frontends = alloc::vec![Frontend {
        from_pod: internal,
        from_node: internal,
        from_elsewhere: internal,
        ..frontend(FrontendKind::ClusterIp, Some(cluster_ip), port.port)
    }];
    let of_family = |ip: &_| IpFamily::of(*ip) == family;
    for ip in service.external_ips.iter().copied().filter(of_family) {
        frontends.push(frontend(FrontendKind::ExternalIp, Some(ip), port.port));
    }
    let ranges = &service.load_balancer.source_ranges;
    let ranges: Vec<_> =
        ranges.iter().copied().filter(|net| IpFamily::of(net.addr()) == family).collect();
    for ip in service.load_balancer.virtual_ips().filter(of_family) {
        frontends.push(Frontend {
            source_ranges: ranges.clone(),
            ..frontend(FrontendKind::LoadBalancerIp, Some(ip), port.port)
        });
    }
    if let Some(node_port) = port.node_port {
        frontends.push(frontend(FrontendKind::NodePort, None, node_port));
    }
    frontends.sort_by_key(|frontend| (frontend.kind, frontend.ip, frontend.port));
    let mut seen = BTreeSet::new();
    frontends.retain(|frontend| seen.insert((frontend.ip, frontend.port)));

    Some(PortPlan {
        name: ServicePortName::new(service, port),
        family,
        client_ip_affinity: service.client_ip_affinity,
        cluster: chosen.cluster,
        local: chosen.local,
        frontends,
    })
}

/// The endpoints of one port that traffic may go to.
struct Chosen {
    cluster: Vec<Backend>,
    local: Vec<Backend>,
    /// Some endpoint could take traffic, here or elsewhere.
    any: bool,
}

impl Chosen {
    fn action(&self, policy: TrafficPolicy) -> Action {
        let backends = match policy {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        };
        match (self.any, backends.is_empty()) {
            (false, _) => Action::Reject,
            (true, true) => Action::Drop,
            (true, false) => Action::Forward(policy),
        }
    }
}

fn choose(
    node: &LocalNode,
    service: &Service,
    port: &ServicePort,
    family: IpFamily,
    endpoints: &EndpointSet,
) -> Chosen {
    let is_local = |endpoint: &Endpoint| endpoint.node.as_ref() == Some(&node.name);
    let ready = |endpoint: &Endpoint| endpoint.conditions.ready;
    let draining =
        |endpoint: &Endpoint| endpoint.conditions.serving && endpoint.conditions.terminating;
    let here: Vec<(SocketAddr, &Endpoint)> = endpoints
        .port_seen_from(Some(&node.name), port.name_str(), port.protocol)
        .filter(|(addr, _)| IpFamily::of(addr.ip()) == family)
        .collect();
    // Those that are ready; failing that, those that still serve while they go.
    let select = |within: &dyn Fn(&Endpoint) -> bool| -> Vec<Backend> {
        let of = |state: &dyn Fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
            let wanted = here.iter().filter(|(_, endpoint)| within(endpoint) && state(endpoint));
            wanted.map(|(addr, _)| *addr).collect()
        };
        let mut addrs = of(&ready);
        if addrs.is_empty() {
            addrs = of(&draining);
        }
        addrs.sort_by_cached_key(ToString::to_string);
        addrs.into_iter().map(Backend::new).collect()
    };
    let external = service.is_externally_accessible();
    let local_policy = |policy| policy == TrafficPolicy::Local;
    let uses_cluster = !local_policy(service.internal_traffic_policy) || external;
    let uses_local = local_policy(service.internal_traffic_policy)
        || (local_policy(service.external_traffic_policy) && external);
    Chosen {
        cluster: if uses_cluster { select(&|_| true) } else { Vec::new() },
        local: if uses_local { select(&is_local) } else { Vec::new() },
        any: here.iter().any(|(_, endpoint)| ready(endpoint) || draining(endpoint)),
    }
}
