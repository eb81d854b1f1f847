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
//! A set comes from pods ([`EndpointSet::resolve`]), from [`EndpointSlice`]s that others made
//! ([`EndpointSet::merge`], or one by one through [`Merged`]), or from the older [`Endpoints`]. It is sorted, so that
//! the same statements in any order make the same set, and holds endpoints that are not ready as well: which of
//! them traffic goes to is decided in [`plan`](crate::plan). The other way, [`SliceWrites`] says which EndpointSlices
//! to create, update and delete so that they say what a set says.
//!
//! Source: Kubernetes EndpointSlice controller (`endpointslice` library). O(pods + endpoints · log endpoints).

mod explain;
mod hints;
mod merge;
mod resolve;
mod set;
mod slices;
mod subsets;
mod tracker;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

pub use explain::{Explanation, Reason, Standing};
pub use merge::Merged;
pub(crate) use resolve::depends_on_all;
pub use set::{Duplicate, EndpointSet, Statement};
pub(crate) use slices::{CONTROLLER, MIRRORING_CONTROLLER, RESERVED_LABELS};
pub use slices::{EndpointSlice, Packing, SliceWrites};
pub use subsets::{Address, Endpoints, Subset};
pub use tracker::{PodChange, SliceTracker, TriggerTimes};

use crate::name::{DnsLabel, NodeName, ObjectName};
use crate::net::Protocol;

/// The label by which an EndpointSlice belongs to a Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The label that says who writes an EndpointSlice.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// The label, with any value, of the Endpoints and EndpointSlices of Services without a virtual address. A Service that
/// carries it itself is passed over by proxies.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// One endpoint: an address that ports of a Service lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Endpoint {
    /// Its address, the only one that traffic goes to.
    pub ip: IpAddr,
    /// Its other addresses of the same family; DNS gives them out too. Defaults to none.
    pub other_ips: Vec<IpAddr>,
    /// What the Service's ports are here, sorted; shared by the endpoints that agree. Of several with one name and
    /// transport the first counts. Defaults to none.
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
    pub target: Option<Reference>,
    /// Who should prefer it. Defaults to everybody alike.
    pub hints: Hints,
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
            hints: Hints::default(),
        }
    }

    /// What tells it from others with its address: the uid of the object behind it, failing that the object's
    /// name, failing that nothing.
    fn identity(&self) -> (&str, Option<(&str, &str, &str)>) {
        match &self.target {
            None => ("", None),
            Some(target) if target.uid.is_empty() => {
                ("", Some((&target.kind, &target.namespace, &target.name)))
            }
            Some(target) => (&target.uid, None),
        }
    }

    /// How much it can do for connections that arrive at a node, the less the more: it is ready, it serves while
    /// it goes, it serves; then whether it is on that node.
    fn rank(&self, node: Option<&NodeName>) -> (u8, bool) {
        let Conditions { ready, serving, terminating } = self.conditions;
        let state = match (ready, serving, terminating) {
            (true, ..) => 0,
            (false, true, true) => 1,
            (false, true, false) => 2,
            (false, false, _) => 3,
        };
        let local = node.is_some() && node == self.node.as_ref();
        (state, !local)
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

/// Whose clients an endpoint is meant for. Empty lists say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Hints {
    /// Those in these zones. Defaults to none.
    pub zones: Vec<Arc<str>>,
    /// Those on these nodes. Defaults to none.
    pub nodes: Vec<NodeName>,
}

/// A reference to an object: what is behind an endpoint, who owns a slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Reference {
    /// Its kind, mostly `Pod`.
    pub kind: Arc<str>,
    /// Its namespace; empty for objects of the whole cluster, such as nodes.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid; empty if unknown.
    pub uid: Arc<str>,
}

impl Reference {
    /// A reference to a namespaced object.
    pub fn new(kind: &str, name: &ObjectName, uid: &str) -> Self {
        Self {
            kind: kind.into(),
            namespace: name.namespace().into(),
            name: name.name().into(),
            uid: uid.into(),
        }
    }
}

impl fmt::Display for Reference {
    /// `Pod default/redis-0`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{} {}{slash}{}", self.kind, self.namespace, self.name)
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
