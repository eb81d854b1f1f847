//! What an update leaves out and keeps, and what it keeps and does not need.

use alloc::collections::BTreeSet;

use crate::service::{ClusterIps, LoadBalancer, Service, ServiceKind, TrafficPolicy};

/// Fills in what the old Service was given and the new one needs and does not mention.
pub(super) fn fill(old: &Service, new: &mut Service) {
    if has_cluster_ip(old) && has_cluster_ip(new) && new.cluster_ips == ClusterIps::Unassigned {
        new.cluster_ips = old.cluster_ips.clone();
    }
    if has_node_ports(old) && wants_node_ports(new) {
        let stated: BTreeSet<u16> = new.ports.iter().filter_map(|port| port.node_port).collect();
        for port in new.ports.iter_mut().filter(|port| port.node_port.is_none()) {
            let same = old.ports.iter().find(|old| old.name == port.name);
            // Two ports may have shared a number, and do so still.
            port.node_port =
                same.and_then(|old| old.node_port).filter(|number| !stated.contains(number));
        }
    }
    if needs_health_check(old) && needs_health_check(new) {
        let port = new.health_check_node_port.or(old.health_check_node_port);
        new.health_check_node_port = port;
    }
    if matches!(new.kind, ServiceKind::LoadBalancer) && new.load_balancer.ingress.is_empty() {
        new.load_balancer.ingress.clone_from(&old.load_balancer.ingress);
    }
}

/// Takes out what the old Service needed, the new one does not, and nobody changed.
pub(super) fn clear(old: &Service, new: &mut Service) {
    if has_cluster_ip(old) && !has_cluster_ip(new) {
        if new.cluster_ips == old.cluster_ips {
            new.cluster_ips = ClusterIps::Unassigned;
        }
        if new.ip_families == old.ip_families {
            new.ip_families.clear();
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if has_node_ports(old) && !has_node_ports(new) {
        let known: BTreeSet<u16> = old.ports.iter().filter_map(|port| port.node_port).collect();
        if new.ports.iter().filter_map(|port| port.node_port).all(|port| known.contains(&port)) {
            new.ports.iter_mut().for_each(|port| port.node_port = None);
        }
    }
    if needs_health_check(old)
        && !needs_health_check(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    let is_balanced = |service: &Service| matches!(service.kind, ServiceKind::LoadBalancer);
    if is_balanced(old) && !is_balanced(new) {
        let (was, is) = (&old.load_balancer, &mut new.load_balancer);
        if is.allocate_node_ports == was.allocate_node_ports {
            is.allocate_node_ports = None;
        }
        if is.class == was.class {
            is.class = None;
        }
    }
    if !is_balanced(new) {
        new.load_balancer.ingress = LoadBalancer::default().ingress;
    }
    if is_external(old)
        && !is_external(new)
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = TrafficPolicy::Cluster;
    }
}

fn has_cluster_ip(service: &Service) -> bool {
    !matches!(service.kind, ServiceKind::ExternalName(_))
}

pub(super) fn has_node_ports(service: &Service) -> bool {
    matches!(service.kind, ServiceKind::NodePort | ServiceKind::LoadBalancer)
}

/// Whether ports that state no node port get one.
pub(super) fn wants_node_ports(service: &Service) -> bool {
    match service.kind {
        ServiceKind::NodePort => true,
        ServiceKind::LoadBalancer => service.load_balancer.allocate_node_ports != Some(false),
        ServiceKind::ClusterIp | ServiceKind::ExternalName(_) => false,
    }
}

pub(super) fn needs_health_check(service: &Service) -> bool {
    matches!(service.kind, ServiceKind::LoadBalancer)
        && service.external_traffic_policy == TrafficPolicy::Local
}

/// As admission sees it: by type, or by external addresses.
fn is_external(service: &Service) -> bool {
    has_node_ports(service) || (has_cluster_ip(service) && !service.external_ips.is_empty())
}
