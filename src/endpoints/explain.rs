//! Why a pod is, or is not, an endpoint of a Service.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::resolve::{conditions, families};
use crate::name::{NodeName, ObjectName};
use crate::net::IpFamily;
use crate::node::Nodes;
use crate::pod::{Phase, Pod};
use crate::service::{Service, ServiceKind, TargetPort};

/// What a pod is to a Service, and everything that speaks against its being more.
///
/// ```
/// use svcplane::endpoints::{Explanation, Standing};
/// use svcplane::labels::Labels;
/// use svcplane::name::ObjectName;
/// use svcplane::node::Nodes;
/// use svcplane::pod::Pod;
/// use svcplane::service::Service;
///
/// let mut service = Service::new(ObjectName::new("default", "redis")?);
/// service.selector = Labels::from_iter([("app", "redis"), ("role", "log-store")]);
/// let mut pod = Pod::new(ObjectName::new("default", "redis-0")?);
/// pod.labels = Labels::from_iter([("app", "redis"), ("role", "cache")]);
/// pod.ips = vec!["10.0.0.7".parse()?];
///
/// let explanation = Explanation::new(&service, &pod, &Nodes::default());
/// assert_eq!(explanation.standing, Standing::Apart);
/// assert_eq!(
///     explanation.to_string(),
///     "pod default/redis-0 is not an endpoint of default/redis\n\
///      - selector: label `role` is `cache`, wanted `log-store`\n\
///      - not ready, and publishNotReadyAddresses is off"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The Service.
    pub service: ObjectName,
    /// The pod.
    pub pod: ObjectName,
    /// What the pod is to the Service.
    pub standing: Standing,
    /// Everything that speaks against its being a ready endpoint with all ports, not only the first.
    pub reasons: Vec<Reason>,
}

/// What a pod is to a Service.
#[expect(clippy::exhaustive_enums, reason = "an endpoint or not, ready or not")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No endpoint.
    Apart,
    /// An endpoint that takes no new connections as long as there are others.
    Unready,
    /// An endpoint that takes new connections.
    Ready,
}

/// Something that speaks against a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The Service is an ExternalName, which has no endpoints.
    ExternalName,
    /// The pod is in another namespace.
    OtherNamespace,
    /// The Service has no selector: its endpoints are managed by others.
    NoSelector,
    /// A label is not what the selector wants.
    Label {
        /// Its key.
        key: Box<str>,
        /// The value that the selector wants.
        wanted: Box<str>,
        /// The pod's value.
        found: Option<Box<str>>,
    },
    /// The pod is over.
    Terminal(Phase),
    /// The pod has no address at all.
    NoAddress,
    /// The pod has no address of a family that the Service has.
    NoAddressOf(IpFamily),
    /// The pod's node is not known, and `publishNotReadyAddresses` is off.
    UnknownNode(NodeName),
    /// The pod is not ready, and `publishNotReadyAddresses` is off.
    NotReady,
    /// The pod is being deleted, and `publishNotReadyAddresses` is off.
    Terminating,
    /// A named target port is no port of the pod: the port is missing for this pod.
    NoPort {
        /// The Service's port, by name or number.
        port: Box<str>,
        /// The name that no container has for that protocol.
        target: Box<str>,
    },
}

impl Explanation {
    /// Looks at one pod as [`EndpointSet::resolve`](super::EndpointSet::resolve) does. O(labels + ports).
    pub fn new(service: &Service, pod: &Pod, nodes: &Nodes) -> Self {
        let mut reasons = Vec::new();
        unselected(service, pod, &mut reasons);
        if pod.phase.is_terminal() {
            reasons.push(Reason::Terminal(pod.phase));
        }
        let family = |family: IpFamily| pod.ips.iter().any(|&ip| IpFamily::of(ip) == family);
        let missing = families(service).iter().filter(|&&f| !family(f));
        let missing: Vec<Reason> = missing.map(|&f| Reason::NoAddressOf(f)).collect();
        let homeless = missing.len() == families(service).len();
        let known = pod.node.as_ref().filter(|name| nodes.lookup(name.as_str()).is_none());
        let unknown_node = known.filter(|_| !service.publish_not_ready_addresses);
        let apart = !reasons.is_empty() || homeless || unknown_node.is_some();
        if pod.ips.is_empty() {
            reasons.push(Reason::NoAddress);
        } else if homeless || !service.ip_families.is_empty() {
            // A Service that states no families takes what there is.
            reasons.extend(missing);
        }
        reasons.extend(unknown_node.cloned().map(Reason::UnknownNode));
        let ready = conditions(service, pod).ready;
        if !ready && !pod.ready {
            reasons.push(Reason::NotReady);
        }
        if !ready && pod.deleted.is_some() {
            reasons.push(Reason::Terminating);
        }
        for port in &service.ports {
            if let TargetPort::Name(target) = &port.target {
                if pod.port(target, port.protocol).is_none() {
                    let name = port.name.as_ref().map(|name| name.as_str().into());
                    let number = || alloc::format!("{}/{}", port.port, port.protocol).into();
                    let (port, target) = (name.unwrap_or_else(number), target.clone());
                    reasons.push(Reason::NoPort { port, target });
                }
            }
        }
        let standing = match (apart, ready) {
            (true, _) => Standing::Apart,
            (false, false) => Standing::Unready,
            (false, true) => Standing::Ready,
        };
        Self { service: service.name.clone(), pod: pod.name.clone(), standing, reasons }
    }
}

/// Why the Service does not select the pod, if it does not.
fn unselected(service: &Service, pod: &Pod, reasons: &mut Vec<Reason>) {
    if matches!(service.kind, ServiceKind::ExternalName(_)) {
        reasons.push(Reason::ExternalName);
    }
    if service.name.namespace() != pod.name.namespace() {
        reasons.push(Reason::OtherNamespace);
    }
    if service.selector.is_empty() {
        reasons.push(Reason::NoSelector);
    }
    for (key, wanted) in service.selector.iter() {
        let found = pod.labels.get(key);
        if found != Some(wanted) {
            let (key, wanted) = (key.into(), wanted.into());
            reasons.push(Reason::Label { key, wanted, found: found.map(Into::into) });
        }
    }
}

impl fmt::Display for Explanation {
    /// A sentence, and a line for each reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standing = match self.standing {
            Standing::Apart => "is not an endpoint",
            Standing::Unready => "is an endpoint that is not ready",
            Standing::Ready => "is a ready endpoint",
        };
        write!(f, "pod {} {standing} of {}", self.pod, self.service)?;
        self.reasons.iter().try_for_each(|reason| write!(f, "\n- {reason}"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OFF: &str = "and publishNotReadyAddresses is off";
        match self {
            Self::ExternalName => {
                f.write_str("the Service is an ExternalName: it has no endpoints")
            }
            Self::OtherNamespace => f.write_str("the pod is in another namespace"),
            Self::NoSelector => {
                f.write_str("the Service has no selector: its endpoints are managed by others")
            }
            Self::Label { key, wanted, found: Some(found) } => {
                write!(f, "selector: label `{key}` is `{found}`, wanted `{wanted}`")
            }
            Self::Label { key, wanted, found: None } => {
                write!(f, "selector: no label `{key}`, wanted `{wanted}`")
            }
            Self::Terminal(phase) => write!(f, "the pod is over: its phase is {}", phase.as_str()),
            Self::NoAddress => f.write_str("the pod has no address"),
            Self::NoAddressOf(family) => write!(f, "the pod has no {family} address"),
            Self::UnknownNode(node) => write!(f, "its node `{node}` is not known, {OFF}"),
            Self::NotReady => write!(f, "not ready, {OFF}"),
            Self::Terminating => write!(f, "being deleted, {OFF}"),
            Self::NoPort { port, target } => {
                write!(f, "port `{port}`: `{target}` not found in any container")
            }
        }
    }
}
