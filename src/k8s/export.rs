//! The way back: domain objects as mirrors, to be written or compared. Converting what comes out gives the
//! same domain object, without warnings.

mod endpoints;

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{
    ClientIpConfig, Condition, Container, ContainerPort, IntOrString, LoadBalancerIngress,
    LoadBalancerStatus, Node, NodeAddress, NodeSpec, NodeStatus, ObjectMeta, Pod, PodIp, PodSpec,
    PodStatus, Service, ServicePort, ServiceSpec, ServiceStatus, SessionAffinityConfig,
};
use crate::labels::Labels;
use crate::name::ObjectName;
use crate::service::{ClusterIps, IpMode, ServiceKind, TargetPort, TrafficPolicy};
use crate::{node, pod, service};

impl From<&service::Service> for Service {
    fn from(service: &service::Service) -> Self {
        let ips = match &service.cluster_ips {
            ClusterIps::Headless => alloc::vec!["None".to_owned()],
            ips => texts(ips.as_slice()),
        };
        let mut spec = ServiceSpec {
            ports: service.ports.iter().map(Into::into).collect(),
            selector: map(&service.selector),
            cluster_ip: ips.first().cloned().unwrap_or_default(),
            cluster_ips: ips,
            kind: service.kind.to_string(),
            external_ips: texts(&service.external_ips),
            session_affinity: "None".to_owned(),
            load_balancer_ip: text(service.load_balancer.requested_ip),
            load_balancer_source_ranges: texts(&service.load_balancer.source_ranges),
            health_check_node_port: service.health_check_node_port.map_or(0, Into::into),
            publish_not_ready_addresses: service.publish_not_ready_addresses,
            ip_families: texts(&service.ip_families),
            ip_family_policy: service.ip_family_policy.map(|policy| policy.as_str().to_owned()),
            allocate_load_balancer_node_ports: service.load_balancer.allocate_node_ports,
            load_balancer_class: owned(service.load_balancer.class.as_deref()),
            internal_traffic_policy: Some(service.internal_traffic_policy.as_str().to_owned()),
            traffic_distribution: service.traffic_distribution.map(|d| d.as_str().to_owned()),
            ..ServiceSpec::default()
        };
        if let ServiceKind::ExternalName(name) = &service.kind {
            spec.external_name = name.to_string();
        }
        let stated = service.external_traffic_policy != TrafficPolicy::Cluster;
        if stated || spec.is_externally_accessible() {
            service.external_traffic_policy.as_str().clone_into(&mut spec.external_traffic_policy);
        }
        if let Some(timeout) = service.client_ip_affinity {
            let timeout_seconds = Some(i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX));
            let client_ip = Some(ClientIpConfig { timeout_seconds });
            "ClientIP".clone_into(&mut spec.session_affinity);
            spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
        }
        let mut metadata = meta(&service.name, &service.uid, &service.labels);
        metadata.annotations = map(&service.annotations);
        metadata.creation_timestamp = text(service.created);
        metadata.deletion_timestamp = text(service.deleted);
        let ingress = service.load_balancer.ingress.iter().map(Into::into).collect();
        let status = ServiceStatus { load_balancer: LoadBalancerStatus { ingress } };
        Self { metadata, spec, status }
    }
}

impl From<&service::ServicePort> for ServicePort {
    fn from(port: &service::ServicePort) -> Self {
        Self {
            name: port.name_str().to_owned(),
            protocol: port.protocol.to_string(),
            app_protocol: owned(port.app_protocol.as_deref()),
            port: port.port.into(),
            target_port: Some(match &port.target {
                TargetPort::Number(number) => IntOrString::Int((*number).into()),
                TargetPort::Name(name) => IntOrString::String(name.to_string()),
            }),
            node_port: port.node_port.map_or(0, Into::into),
        }
    }
}

impl From<&service::Ingress> for LoadBalancerIngress {
    fn from(ingress: &service::Ingress) -> Self {
        Self {
            ip: text(ingress.ip),
            hostname: owned(ingress.hostname.as_deref()).unwrap_or_default(),
            ip_mode: (ingress.ip.is_some() || ingress.mode != IpMode::Vip)
                .then(|| ingress.mode.as_str().to_owned()),
        }
    }
}

impl From<&pod::Pod> for Pod {
    /// The ports of all containers are those of one, those of all sidecars of another.
    fn from(pod: &pod::Pod) -> Self {
        let container = |ports: &[pod::ContainerPort], restart: Option<&str>| Container {
            ports: ports.iter().map(Into::into).collect(),
            restart_policy: owned(restart),
            ..Container::default()
        };
        let mut spec = PodSpec {
            containers: alloc::vec![container(&pod.ports, None)],
            node_name: text(pod.node.as_ref()),
            hostname: text(pod.hostname.as_ref()),
            subdomain: text(pod.subdomain.as_ref()),
            ..PodSpec::default()
        };
        if !pod.sidecar_ports.is_empty() {
            spec.init_containers = alloc::vec![container(&pod.sidecar_ports, Some("Always"))];
        }
        let status = PodStatus {
            phase: pod.phase.as_str().to_owned(),
            conditions: alloc::vec![Condition {
                last_transition_time: text(pod.ready_since),
                ..ready(pod.ready)
            }],
            pod_ip: text(pod.ips.first()),
            pod_ips: pod.ips.iter().map(|ip| PodIp { ip: ip.to_string() }).collect(),
        };
        let mut metadata = meta(&pod.name, &pod.uid, &pod.labels);
        metadata.deletion_timestamp = text(pod.deleted);
        Self { metadata, spec, status }
    }
}

impl From<&pod::ContainerPort> for ContainerPort {
    fn from(port: &pod::ContainerPort) -> Self {
        Self {
            name: text(port.name.as_ref()),
            container_port: port.port.into(),
            protocol: port.protocol.to_string(),
        }
    }
}

impl From<&node::Node> for Node {
    /// The addresses are all of type `InternalIP`.
    fn from(node: &node::Node) -> Self {
        let pod_cidrs = texts(&node.pod_cidrs);
        let internal =
            |ip: &IpAddr| NodeAddress { kind: "InternalIP".to_owned(), address: ip.to_string() };
        Self {
            metadata: ObjectMeta {
                name: node.name.to_string(),
                labels: map(&node.labels),
                ..ObjectMeta::default()
            },
            spec: NodeSpec {
                pod_cidr: pod_cidrs.first().cloned().unwrap_or_default(),
                pod_cidrs,
                ..NodeSpec::default()
            },
            status: NodeStatus {
                addresses: node.addresses.iter().map(internal).collect(),
                conditions: alloc::vec![ready(node.ready)],
                allocatable: (node.cpu_millis != 0)
                    .then(|| {
                        let cpu = alloc::format!("{}m", node.cpu_millis);
                        ("cpu".to_owned(), cpu.as_str().into())
                    })
                    .into_iter()
                    .collect(),
            },
        }
    }
}

fn meta(name: &ObjectName, uid: &str, labels: &Labels) -> ObjectMeta {
    ObjectMeta {
        namespace: name.namespace().to_owned(),
        name: name.name().to_owned(),
        uid: uid.to_owned(),
        labels: map(labels),
        ..ObjectMeta::default()
    }
}

fn ready(ready: bool) -> Condition {
    let status = if ready { "True" } else { "False" };
    Condition { kind: "Ready".to_owned(), status: status.to_owned(), ..Condition::default() }
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn owned(value: Option<&str>) -> Option<String> {
    value.map(ToOwned::to_owned)
}
