//! Step one: what the API server fills in before it looks at an object.
//!
//! Source: Kubernetes `SetDefaults_*` and the Service strategy's normalisation. Calling twice changes nothing.

use alloc::string::String;

use super::{
    ClientIpConfig, ContainerPort, EndpointSlice, Endpoints, IntOrString, Pod, Service,
    SessionAffinityConfig,
};

/// Seconds that a client keeps to its backend unless stated.
const AFFINITY_SECONDS: i32 = 10_800;

impl Service {
    /// Fills in what is not stated: type, protocols, target ports, affinity, traffic policies, `ipMode`; and
    /// `clusterIPs` from `clusterIP`, as on creation. Addresses and node ports are not given out here.
    pub fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        default_to(&mut spec.kind, "ClusterIP");
        default_to(&mut spec.session_affinity, "None");
        for port in &mut spec.ports {
            default_to(&mut port.protocol, "TCP");
            let unset = match &port.target_port {
                None | Some(IntOrString::Int(0)) => true,
                Some(IntOrString::String(name)) => name.is_empty(),
                Some(IntOrString::Int(_)) => false,
            };
            if unset {
                port.target_port = Some(IntOrString::Int(port.port));
            }
        }
        match spec.session_affinity.as_str() {
            "None" => spec.session_affinity_config = None,
            "ClientIP" => {
                spec.session_affinity_config
                    .get_or_insert_with(SessionAffinityConfig::default)
                    .client_ip
                    .get_or_insert_with(ClientIpConfig::default)
                    .timeout_seconds
                    .get_or_insert(AFFINITY_SECONDS);
            }
            _ => {}
        }
        let balanced = spec.kind == "LoadBalancer";
        let clustered = balanced || matches!(spec.kind.as_str(), "ClusterIP" | "NodePort");
        if clustered && spec.internal_traffic_policy.is_none() {
            spec.internal_traffic_policy = Some("Cluster".into());
        }
        if spec.is_externally_accessible() {
            default_to(&mut spec.external_traffic_policy, "Cluster");
        }
        if balanced {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
            for ingress in &mut self.status.load_balancer.ingress {
                if !ingress.ip.is_empty() && ingress.ip_mode.is_none() {
                    ingress.ip_mode = Some("VIP".into());
                }
            }
        }
        if spec.cluster_ips.is_empty() && !spec.cluster_ip.is_empty() {
            spec.cluster_ips.push(spec.cluster_ip.clone());
        }
    }
}

impl Service {
    /// Brings `clusterIP` and `clusterIPs` of an update of `old` in line, for clients that know the former only. To be done
    /// before [`set_defaults`](Self::set_defaults).
    ///
    /// Where the plural is left out and the singular is as it was, the plural is as it was; where the plural is as it was and the
    /// singular is not, the plural follows: it is cleared, or holds the new singular alone.
    ///
    /// Source: Kubernetes `pkg/registry/core/service/storage/normalize.go`.
    pub fn normalize_cluster_ips(&mut self, old: &Self) {
        let (new, old) = (&mut self.spec, &old.spec);
        if new.cluster_ip == old.cluster_ip {
            if new.cluster_ips.is_empty() {
                new.cluster_ips.clone_from(&old.cluster_ips);
            }
        } else if new.cluster_ips == old.cluster_ips {
            let singular = Some(&new.cluster_ip).filter(|ip| !ip.is_empty());
            new.cluster_ips = singular.into_iter().cloned().collect();
        }
    }
}

impl super::ServiceSpec {
    /// As the API server sees it, whether or not addresses and ports are given out yet.
    pub(super) fn is_externally_accessible(&self) -> bool {
        matches!(self.kind.as_str(), "NodePort" | "LoadBalancer")
            || (self.kind == "ClusterIP" && !self.external_ips.is_empty())
    }
}

impl Pod {
    /// Fills in what is not stated: the protocols of container ports, the phase, and `podIP` and `podIPs`
    /// from one another.
    pub fn set_defaults(&mut self) {
        let containers = self.spec.containers.iter_mut().chain(&mut self.spec.init_containers);
        for ContainerPort { protocol, .. } in containers.flat_map(|c| &mut c.ports) {
            default_to(protocol, "TCP");
        }
        default_to(&mut self.status.phase, "Pending");
        let status = &mut self.status;
        if status.pod_ips.is_empty() && !status.pod_ip.is_empty() {
            status.pod_ips.push(super::PodIp { ip: status.pod_ip.clone() });
        } else if let (true, Some(first)) = (status.pod_ip.is_empty(), status.pod_ips.first()) {
            status.pod_ip.clone_from(&first.ip);
        }
    }
}

impl Endpoints {
    /// Fills in what is not stated: the protocols of ports.
    pub fn set_defaults(&mut self) {
        for port in self.subsets.iter_mut().flat_map(|subset| &mut subset.ports) {
            default_to(&mut port.protocol, "TCP");
        }
    }
}

impl EndpointSlice {
    /// Fills in what is not stated: names (empty) and protocols of ports.
    pub fn set_defaults(&mut self) {
        for port in &mut self.ports {
            port.name.get_or_insert_with(String::new);
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
    }
}

fn default_to(text: &mut String, value: &str) {
    if text.is_empty() {
        text.push_str(value);
    }
}
