//! [`EndpointSet`]: the endpoints of one Service, whichever way they became known.
//!
//! ```
//! use svcplane::endpoints::EndpointSet;
//! use svcplane::labels::Labels;
//! use svcplane::name::ObjectName;
//! use svcplane::net::Protocol;
//! use svcplane::node::Nodes;
//! use svcplane::pod::{Phase, Pod};
//! use svcplane::service::{Service, ServicePort};
//!
//! let mut service = Service::new(ObjectName::new("default", "redis")?);
//! service.selector = Labels::from_iter([("app", "redis")]);
//! service.ports = vec![ServicePort::new(6379)];
//!
//! let mut pod = Pod::new(ObjectName::new("default", "redis-0")?);
//! pod.labels = Labels::from_iter([("app", "redis")]);
//! pod.ips = vec!["10.0.0.7".parse()?];
//! pod.phase = Phase::Running;
//! pod.ready = true;
//!
//! let set = EndpointSet::resolve(&service, [&pod], &Nodes::default());
//! let (addr, endpoint) = set.port("", Protocol::Tcp).next().unwrap();
//! assert_eq!(addr.to_string(), "10.0.0.7:6379");
//! assert!(endpoint.conditions.ready);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A set is sorted, so that the same endpoints in any order make the same set. It holds endpoints that are
//! not ready as well: which of them traffic goes to is decided in [`plan`](crate::plan). Two endpoints
//! with one address are both kept, as EndpointSlices keep them.
//!
//! Source: Kubernetes EndpointSlice controller (`endpointslice` library). O(pods + endpoints · log endpoints).

mod explain;
mod resolve;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

pub use explain::{Explanation, Reason, Standing};

use crate::name::{DnsLabel, NodeName, ObjectName};
use crate::net::Protocol;

/// The endpoints of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSet {
    service: ObjectName,
    endpoints: Vec<Endpoint>,
    left_out: Vec<LeftOut>,
}

impl EndpointSet {
    /// A set of these endpoints, in any order.
    pub fn new<I: IntoIterator<Item = Endpoint>>(service: ObjectName, endpoints: I) -> Self {
        let mut endpoints: Vec<Endpoint> = endpoints.into_iter().collect();
        endpoints.sort_unstable();
        Self { service, endpoints, left_out: Vec::new() }
    }

    /// The Service whose endpoints they are.
    pub const fn service(&self) -> &ObjectName {
        &self.service
    }

    /// The endpoints, by address.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Selected pods that are not in the set and would be if something else were known, by name. Worth a
    /// warning, and another [`resolve`](Self::resolve) when that is.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Where one port of the Service leads, by the port's name (empty for an unnamed one) and protocol: the
    /// addresses with the endpoints that they are of, sorted by address. Endpoints for which the port did not
    /// resolve are not among them.
    pub fn port<'a>(
        &'a self,
        name: &'a str,
        protocol: Protocol,
    ) -> impl Iterator<Item = (SocketAddr, &'a Endpoint)> {
        self.endpoints.iter().filter_map(move |endpoint| {
            let port = endpoint
                .ports
                .iter()
                .find(|port| port.protocol == protocol && port.name_str() == name)?;
            Some((SocketAddr::new(endpoint.ip, port.port), endpoint))
        })
    }
}

/// One endpoint: an address that ports of a Service lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Endpoint {
    /// Its address, the only one that traffic goes to.
    pub ip: IpAddr,
    /// Its other addresses of the same family; DNS gives them out too. Defaults to none.
    pub other_ips: Vec<IpAddr>,
    /// What the Service's ports are here, sorted; shared by the endpoints that agree. Defaults to none.
    pub ports: Arc<[EndpointPort]>,
    /// What state it is in. Defaults to ready and serving.
    pub conditions: Conditions,
    /// Its hostname under the Service's DNS name. Defaults to none.
    pub hostname: Option<DnsLabel>,
    /// The node that it is on. Defaults to unknown.
    pub node: Option<NodeName>,
    /// The zone of that node. Defaults to unknown.
    pub zone: Option<Arc<str>>,
    /// The object behind it. Defaults to none.
    pub target: Option<Target>,
}

impl Endpoint {
    /// A ready endpoint without ports.
    pub fn new(ip: IpAddr) -> Self {
        Self {
            ip,
            other_ips: Vec::new(),
            ports: Arc::new([]),
            conditions: Conditions::default(),
            hostname: None,
            node: None,
            zone: None,
            target: None,
        }
    }
}

/// What one port of a Service is at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct EndpointPort {
    /// The name of the Service's port. Defaults to none.
    pub name: Option<DnsLabel>,
    /// The transport. Defaults to TCP.
    pub protocol: Protocol,
    /// The number, 1 to 65535.
    pub port: u16,
    /// The application's protocol. Defaults to not stated.
    pub app_protocol: Option<Box<str>>,
}

impl EndpointPort {
    /// An unnamed TCP port.
    pub const fn new(port: u16) -> Self {
        Self { name: None, protocol: Protocol::Tcp, port, app_protocol: None }
    }

    /// The name as text, empty if there is none.
    pub fn name_str(&self) -> &str {
        self.name.as_ref().map_or("", DnsLabel::as_str)
    }
}

/// The state of an endpoint, in the three words that EndpointSlices have for it.
#[expect(
    clippy::exhaustive_structs,
    reason = "every combination is legal and the API has these three"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conditions {
    /// It may take new connections: serving and not terminating, or published whatever its state.
    pub ready: bool,
    /// It answers, terminating or not.
    pub serving: bool,
    /// It is being deleted.
    pub terminating: bool,
}

impl Default for Conditions {
    /// What an EndpointSlice that states nothing means: ready, serving, not terminating.
    fn default() -> Self {
        Self { ready: true, serving: true, terminating: false }
    }
}

/// The object behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Target {
    /// Its kind, mostly `Pod`.
    pub kind: Box<str>,
    /// Its namespace; empty for objects of the whole cluster, such as nodes.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its uid; empty if unknown.
    pub uid: Box<str>,
}

impl Target {
    /// A pod.
    pub fn pod(name: &ObjectName, uid: &str) -> Self {
        Self {
            kind: "Pod".into(),
            namespace: name.namespace().into(),
            name: name.name().into(),
            uid: uid.into(),
        }
    }
}

/// A selected pod that is not among the endpoints, for a reason that may pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct LeftOut {
    /// The pod.
    pub pod: ObjectName,
    /// Its node, of which nothing is known.
    pub unknown_node: NodeName,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} is left out: its node {} is not known", self.pod, self.unknown_node)
    }
}
