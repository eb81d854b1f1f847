//! [`Plan`]: what one node does with every packet, decided once, before any data plane.
//!
//! ```
//! use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
//! use svcplane::name::ObjectName;
//! use svcplane::net::Protocol;
//! use svcplane::plan::{LocalNode, Packet, Plan, Verdict};
//! use svcplane::service::{ClusterIps, Service, ServicePort};
//!
//! let mut service = Service::new(ObjectName::new("default", "redis")?);
//! service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.10".parse()?]);
//! service.ports = vec![ServicePort::new(6379)];
//! let mut endpoint = Endpoint::new("10.0.0.7".parse()?);
//! endpoint.ports = [EndpointPort::new(6379)].into();
//! let endpoints = EndpointSet::new(service.name.clone(), [endpoint]);
//!
//! let node = LocalNode::new("node-1".parse()?);
//! let plan = Plan::new(&node, [(&service, &endpoints)]);
//! let packet = Packet::new(Protocol::Tcp, "10.0.0.9".parse()?, "10.96.0.10:6379".parse()?);
//! let Verdict::Forward(route) = plan.route(&packet) else { panic!("not forwarded") };
//! assert_eq!(route.backends[0].addr, "10.0.0.7:6379".parse()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Readiness, terminating endpoints, traffic policies, source ranges, families, and whether to refuse or to
//! stay silent are all decided here. A plan is a function of its inputs as a set: their order changes nothing.
//! When two Services claim one address and port, the older has it (by creation time, then name) and the other
//! is listed in [`Plan::conflicts`].
//!
//! Of several endpoints with one address and port one counts, as
//! [`EndpointSet::port_seen_from`] chooses.
//!
//! Source: kube-proxy (services, endpoint selection, iptables semantics). Building is O(n log n) in ports and
//! endpoints; [`Plan::route`] is a search in an ordered map.

mod policy;
mod route;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use ipnet::IpNet;

use crate::backend::Backend;
use crate::endpoints::{EndpointSet, HEADLESS_LABEL};
use crate::name::{DnsLabel, NodeName, ObjectName};
use crate::net::{IpFamily, Protocol};
use crate::service::{Service, ServiceKind, ServicePort, TrafficPolicy};

pub use route::{Packet, Route, Verdict};

/// A Service with this label is left to another proxy, whatever the value.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// The node that a plan is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalNode {
    /// Its name, by which endpoints are local.
    pub name: NodeName,
    /// Its addresses. The loopback ones are always its own and need not be listed. Defaults to none.
    pub addresses: Vec<IpAddr>,
    /// Where its pods' addresses come from. Defaults to none.
    pub pod_cidrs: Vec<IpNet>,
    /// Which of its addresses take node ports; an empty list is all of them. Defaults to empty.
    pub node_port_addresses: Vec<IpNet>,
}

impl LocalNode {
    /// A node with loopback addresses only.
    pub const fn new(name: NodeName) -> Self {
        Self { name, addresses: Vec::new(), pod_cidrs: Vec::new(), node_port_addresses: Vec::new() }
    }
}

/// One port of one Service: what endpoints, rules and counters are known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct ServicePortName {
    /// The Service.
    pub service: ObjectName,
    /// The port's name; `None` for an unnamed one.
    pub port: Option<DnsLabel>,
    /// The transport. Not part of the text form.
    pub protocol: Protocol,
}

impl ServicePortName {
    /// The name of a port.
    pub fn new(service: &Service, port: &ServicePort) -> Self {
        Self { service: service.name.clone(), port: port.name.clone(), protocol: port.protocol }
    }
}

impl fmt::Display for ServicePortName {
    /// `namespace/name:port`, or `namespace/name` for an unnamed port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            Some(port) => write!(f, "{}:{port}", self.service),
            None => write!(f, "{}", self.service),
        }
    }
}

/// What is done for one port of one Service in one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortPlan {
    /// The port.
    pub name: ServicePortName,
    /// The address family.
    pub family: IpFamily,
    /// How long a client keeps to its backend; `None` is no affinity.
    pub client_ip_affinity: Option<Duration>,
    /// The backends for traffic that may go anywhere, in the order of their text (`10.0.0.10:80` before
    /// `10.0.0.1:80`), as kube-proxy has them.
    pub cluster: Vec<Backend>,
    /// The backends for traffic that has to stay on the node, in the same order.
    pub local: Vec<Backend>,
    /// Where the port can be reached, by kind and address.
    pub frontends: Vec<Frontend>,
}

impl PortPlan {
    /// The backends under a policy.
    pub fn backends(&self, policy: TrafficPolicy) -> &[Backend] {
        match policy {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        }
    }
}

/// One address and port at which a Service's port can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frontend {
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// The address; `None` for a node port, which is at every node address that takes node ports.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Whose connections are taken; everybody's if empty.
    pub source_ranges: Vec<IpNet>,
    /// What is done with connections that come from pods.
    pub from_pod: Action,
    /// What is done with connections that come from the node itself.
    pub from_node: Action,
    /// What is done with all others.
    pub from_elsewhere: Action,
}

/// What kind of address a frontend is.
#[expect(clippy::exhaustive_enums, reason = "the API has had these four since 1.1")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    /// A virtual address of the Service.
    ClusterIp,
    /// An address from `externalIPs`.
    ExternalIp,
    /// An address of the load balancer.
    LoadBalancerIp,
    /// A port on the node.
    NodePort,
}

/// What is done with a new connection.
#[expect(clippy::exhaustive_enums, reason = "every data plane has to say what each becomes")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes to one of the backends under this policy, of which there is at least one.
    Forward(TrafficPolicy),
    /// It is refused at once: there is no endpoint anywhere.
    Reject,
    /// It is met with silence: another node may have endpoints.
    Drop,
}

/// A claim to an address and port that another Service has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Conflict {
    /// The address family.
    pub family: IpFamily,
    /// The address; `None` for a node port.
    pub ip: Option<IpAddr>,
    /// The transport.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Who has it.
    pub winner: ServicePortName,
    /// Who claimed it in vain.
    pub loser: ServicePortName,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "{}/{}", SocketAddr::new(ip, self.port), self.protocol)?,
            None => write!(f, "{} node port {}/{}", self.family, self.port, self.protocol)?,
        }
        write!(f, " of {} belongs to {}, which comes first", self.loser, self.winner)
    }
}

/// What one node does with every packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    node: LocalNode,
    ports: Vec<PortPlan>,
    conflicts: Vec<Conflict>,
    /// Where in `ports` a claim is met, and by which of the frontends.
    index: BTreeMap<Claim, (usize, usize)>,
}

/// An address (any node address of the family for `None`), transport and port.
type Claim = (IpFamily, Option<IpAddr>, Protocol, u16);

impl Plan {
    /// The plan for a node, from the Services with their endpoints. Services that no proxy serves (headless, of
    /// type ExternalName, without an address yet, with [`PROXY_NAME_LABEL`] or [`HEADLESS_LABEL`]) are passed over.
    /// Of several mentions of one Service the oldest counts, of equally old ones the first.
    pub fn new<'a, I>(node: &LocalNode, services: I) -> Self
    where
        I: IntoIterator<Item = (&'a Service, &'a EndpointSet)>,
    {
        let mut served: Vec<(&Service, &EndpointSet)> =
            services.into_iter().filter(|(service, _)| is_served(service)).collect();
        // False before true: a known time is before an unknown one.
        served.sort_by(|(a, _), (b, _)| {
            let age = |service: &Service| (service.created.is_none(), service.created);
            a.name.cmp(&b.name).then(age(a).cmp(&age(b)))
        });
        served.dedup_by_key(|(service, _)| &service.name);
        served.sort_by_key(|(service, _)| {
            (service.created.is_none(), service.created, &service.name)
        });

        let mut plans = BTreeMap::new();
        let mut owners: BTreeMap<Claim, ServicePortName> = BTreeMap::new();
        let mut conflicts = Vec::new();
        for (service, endpoints) in served {
            for port in &service.ports {
                for family in [IpFamily::V4, IpFamily::V6] {
                    let Some(mut plan) = policy::plan_port(node, service, port, family, endpoints)
                    else {
                        continue;
                    };
                    plan.frontends.retain(|frontend| {
                        let (ip, protocol) = (frontend.ip, port.protocol);
                        let winner = owners
                            .entry((family, ip, protocol, frontend.port))
                            .or_insert_with(|| plan.name.clone());
                        let won = *winner == plan.name;
                        if !won {
                            let (winner, loser) = (winner.clone(), plan.name.clone());
                            let port = frontend.port;
                            conflicts.push(Conflict { family, ip, protocol, port, winner, loser });
                        }
                        won
                    });
                    plans.entry((plan.name.clone(), family)).or_insert(plan);
                }
            }
        }
        conflicts.sort_unstable();
        conflicts.dedup();

        let ports: Vec<PortPlan> = plans.into_values().collect();
        let mut index = BTreeMap::new();
        for (p, plan) in ports.iter().enumerate() {
            for (f, frontend) in plan.frontends.iter().enumerate() {
                index
                    .entry((plan.family, frontend.ip, plan.name.protocol, frontend.port))
                    .or_insert((p, f));
            }
        }
        Self { node: node.clone(), ports, conflicts, index }
    }

    /// What is done for each port, by name and family.
    pub fn ports(&self) -> &[PortPlan] {
        &self.ports
    }

    /// Claims that were not met because an older Service has the address and port.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }
}

fn is_served(service: &Service) -> bool {
    !matches!(service.kind, ServiceKind::ExternalName(_))
        && !service.cluster_ips.as_slice().is_empty()
        && ![PROXY_NAME_LABEL, HEADLESS_LABEL].iter().any(|key| service.labels.contains_key(key))
}
