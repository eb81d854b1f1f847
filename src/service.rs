//! [`Service`]: what it selects, which ports it has, where it can be reached and under which policies.
//!
//! A value of this module is legal by construction: it comes from a stored object by
//! [`k8s::Service::convert`](crate::k8s::Service::convert), or is built here.
//!
//! ```
//! use svcplane::labels::Labels;
//! use svcplane::name::ObjectName;
//! use svcplane::service::{Service, ServicePort};
//!
//! let mut redis = Service::new(ObjectName::new("default", "redis")?);
//! redis.selector = Labels::from_iter([("app", "redis")]);
//! redis.ports = vec![ServicePort::new(6379)];
//! assert!(redis.selects("default", &Labels::from_iter([("app", "redis"), ("v", "7")])));
//! assert!(!redis.selects("other", &Labels::from_iter([("app", "redis")])));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: Kubernetes core/v1 `ServiceSpec`.
//! A plain value; [`Service::selects`] walks both sets of labels once.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use ipnet::IpNet;

use crate::labels::Labels;
use crate::name::{DnsLabel, ObjectName};
use crate::net::{IpFamily, Protocol};
use crate::time::Timestamp;

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// The object's uid; empty if it has none. Defaults to empty.
    pub uid: Arc<str>,
    /// When it was created; of two claims to one address the older wins. Defaults to unknown, the youngest.
    pub created: Option<Timestamp>,
    /// Since when it is being deleted. Defaults to not at all.
    pub deleted: Option<Timestamp>,
    /// Its own labels. Defaults to none.
    pub labels: Labels,
    /// Its annotations. Defaults to none.
    pub annotations: Labels,
    /// What kind of Service it is. Defaults to ClusterIP.
    pub kind: ServiceKind,
    /// Its virtual addresses. Defaults to not assigned.
    pub cluster_ips: ClusterIps,
    /// The address families, the primary one first; at most one of each. Defaults to none stated.
    pub ip_families: Vec<IpFamily>,
    /// How many families it wants. Defaults to not stated.
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// The labels of the pods that it selects. Without any it selects nothing, and its endpoints are managed by
    /// others. Defaults to none.
    pub selector: Labels,
    /// Its ports. Defaults to none.
    pub ports: Vec<ServicePort>,
    /// Addresses outside the cluster's care that nodes accept for it. Defaults to none.
    pub external_ips: Vec<IpAddr>,
    /// What a load balancer in front of it does. Defaults to nothing.
    pub load_balancer: LoadBalancer,
    /// Where connections from outside may go. Defaults to Cluster.
    pub external_traffic_policy: TrafficPolicy,
    /// Where connections to the cluster IP may go. Defaults to Cluster.
    pub internal_traffic_policy: TrafficPolicy,
    /// The node port that answers a load balancer's health checks. Defaults to none.
    pub health_check_node_port: Option<u16>,
    /// How long a client keeps to its backend after its last new connection, 1 to 86,400 s; `None` is no
    /// affinity. Defaults to `None`.
    pub client_ip_affinity: Option<Duration>,
    /// Whether its endpoints count as ready whatever the pods say. Defaults to false.
    pub publish_not_ready_addresses: bool,
    /// Which endpoints are preferred. Defaults to none.
    pub traffic_distribution: Option<TrafficDistribution>,
}

impl Service {
    /// A ClusterIP Service without ports or selector.
    pub fn new(name: ObjectName) -> Self {
        Self {
            name,
            uid: Arc::default(),
            created: None,
            deleted: None,
            labels: Labels::default(),
            annotations: Labels::default(),
            kind: ServiceKind::ClusterIp,
            cluster_ips: ClusterIps::Unassigned,
            ip_families: Vec::new(),
            ip_family_policy: None,
            selector: Labels::default(),
            ports: Vec::new(),
            external_ips: Vec::new(),
            load_balancer: LoadBalancer::default(),
            external_traffic_policy: TrafficPolicy::Cluster,
            internal_traffic_policy: TrafficPolicy::Cluster,
            health_check_node_port: None,
            client_ip_affinity: None,
            publish_not_ready_addresses: false,
            traffic_distribution: None,
        }
    }

    /// Whether a pod of this namespace with these labels is selected. Never, without a selector or for an
    /// ExternalName.
    pub fn selects(&self, namespace: &str, labels: &Labels) -> bool {
        !matches!(self.kind, ServiceKind::ExternalName(_))
            && self.name.namespace() == namespace
            && !self.selector.is_empty()
            && labels.contains_all(&self.selector)
    }

    /// Whether it has no virtual address on purpose (`clusterIP: None`).
    pub fn is_headless(&self) -> bool {
        self.cluster_ips == ClusterIps::Headless
    }

    /// Its virtual address of a family. A Service that states its families has none of another; of one that
    /// states none, the first address counts.
    pub fn cluster_ip(&self, family: IpFamily) -> Option<IpAddr> {
        let ips = self.cluster_ips.as_slice();
        let ips = match &*self.ip_families {
            [] => &ips[..ips.len().min(1)],
            stated if stated.contains(&family) => ips,
            _ => &[],
        };
        ips.iter().copied().find(|&ip| IpFamily::of(ip) == family)
    }

    /// Whether it can be reached by something other than a cluster IP.
    pub fn is_externally_accessible(&self) -> bool {
        self.ports.iter().any(|port| port.node_port.is_some())
            || !self.external_ips.is_empty()
            || self.load_balancer.virtual_ips().next().is_some()
    }
}

/// The kinds of Service.
#[expect(clippy::exhaustive_enums, reason = "the API has had these four since 1.7")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// Reached by a virtual address within the cluster (or headless).
    ClusterIp,
    /// And by a port on every node.
    NodePort,
    /// And by an external load balancer's address.
    LoadBalancer,
    /// An alias of a DNS name, kept as it was written; no address, no endpoints.
    ExternalName(Box<str>),
}

impl ServiceKind {
    /// The API's name: `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName(_) => "ExternalName",
        }
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The virtual addresses of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClusterIps {
    /// None yet (or never, for an ExternalName).
    #[default]
    Unassigned,
    /// None on purpose: clients are given the endpoints.
    Headless,
    /// One address, or one of each family; the first is the primary.
    Assigned(Vec<IpAddr>),
}

impl ClusterIps {
    /// The addresses; none if there are none.
    pub fn as_slice(&self) -> &[IpAddr] {
        match self {
            Self::Assigned(ips) => ips,
            Self::Unassigned | Self::Headless => &[],
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ServicePort {
    /// Its name, by which endpoints join it; `None` for the only, unnamed port. Defaults to `None`.
    pub name: Option<DnsLabel>,
    /// The transport. Defaults to TCP.
    pub protocol: Protocol,
    /// The port on the virtual addresses, 1 to 65535.
    pub port: u16,
    /// Which port of a pod it is. Defaults to the same number.
    pub target: TargetPort,
    /// The port on the nodes, 1 to 65535. Defaults to none.
    pub node_port: Option<u16>,
    /// The application's protocol, such as `kubernetes.io/h2c`. Defaults to not stated.
    pub app_protocol: Option<Box<str>>,
}

impl ServicePort {
    /// An unnamed TCP port whose target has the same number.
    pub const fn new(port: u16) -> Self {
        Self {
            name: None,
            protocol: Protocol::Tcp,
            port,
            target: TargetPort::Number(port),
            node_port: None,
            app_protocol: None,
        }
    }

    /// Its name as text, empty if it has none.
    pub fn name_str(&self) -> &str {
        self.name.as_ref().map_or("", DnsLabel::as_str)
    }
}

/// Which port of a pod a Service's port leads to.
#[expect(clippy::exhaustive_enums, reason = "a number or a name")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// This number, whether or not a container declares it.
    Number(u16),
    /// The container port with this name and the Service port's protocol; the number may differ per pod. A text
    /// that is no port name is found in no pod.
    Name(Box<str>),
}

/// How many address families a Service wants.
#[expect(clippy::exhaustive_enums, reason = "one, perhaps two, two")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Two where the cluster has them.
    PreferDualStack,
    /// Two, or none at all.
    RequireDualStack,
}

impl IpFamilyPolicy {
    /// The API's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SingleStack => "SingleStack",
            Self::PreferDualStack => "PreferDualStack",
            Self::RequireDualStack => "RequireDualStack",
        }
    }
}

/// Where connections may go.
#[expect(clippy::exhaustive_enums, reason = "the API has had these two since 1.5")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    /// To all endpoints.
    #[default]
    Cluster,
    /// Only to endpoints on the node where they arrive.
    Local,
}

impl TrafficPolicy {
    /// The API's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// Which endpoints are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrafficDistribution {
    /// Those in the client's zone (the older name of `PreferSameZone`).
    PreferClose,
    /// Those in the client's zone.
    PreferSameZone,
    /// Those on the client's node.
    PreferSameNode,
}

impl TrafficDistribution {
    /// The API's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreferClose => "PreferClose",
            Self::PreferSameZone => "PreferSameZone",
            Self::PreferSameNode => "PreferSameNode",
        }
    }
}

/// What a load balancer in front of a Service does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadBalancer {
    /// Where it accepts connections, from the Service's status. Defaults to none.
    pub ingress: Vec<Ingress>,
    /// The address that the Service asks for. Defaults to none in particular.
    pub requested_ip: Option<IpAddr>,
    /// Whose connections it forwards. None *of a family* means everybody's of that family, as kube-proxy has it:
    /// ranges of IPv4 alone leave an IPv6 address open. Defaults to none.
    pub source_ranges: Vec<IpNet>,
    /// Who implements it. Defaults to the cluster's default.
    pub class: Option<Box<str>>,
    /// Whether node ports are to be allocated for it. Defaults to not stated, which means yes.
    pub allocate_node_ports: Option<bool>,
}

impl LoadBalancer {
    /// The addresses whose packets reach the nodes unchanged, so that the nodes have to accept them.
    pub fn virtual_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.ingress.iter().filter(|ingress| ingress.mode == IpMode::Vip).filter_map(|i| i.ip)
    }
}

/// One way in to a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Ingress {
    /// Its address. Defaults to none.
    pub ip: Option<IpAddr>,
    /// Its DNS name. Defaults to none.
    pub hostname: Option<Box<str>>,
    /// What arrives at a node. Defaults to VIP.
    pub mode: IpMode,
}

/// What arrives at a node from a load balancer's address.
#[expect(clippy::exhaustive_enums, reason = "the address, or not the address")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IpMode {
    /// Packets still addressed to the load balancer.
    #[default]
    Vip,
    /// Packets readdressed to a node or pod.
    Proxy,
}

impl IpMode {
    /// The API's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vip => "VIP",
            Self::Proxy => "Proxy",
        }
    }
}
