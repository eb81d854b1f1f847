//! [`Plan`]: what one node does with every packet, decided once, before any data plane.
//!
//! ```
//! use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
//! use svcplane::name::ObjectName;
//! use svcplane::net::Protocol;
//! use svcplane::plan::{LocalNode, Mode, Packet, Plan, Verdict};
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
//! let plan = Plan::new(&node, Mode::Nftables, [(&service, &endpoints)]);
//! let packet = Packet::new(Protocol::Tcp, "10.0.0.9".parse()?, "10.96.0.10:6379".parse()?);
//! let Verdict::Forward(route) = plan.route(&packet) else { panic!("not forwarded") };
//! assert_eq!(route.backends[0].addr, "10.0.0.7:6379".parse()?);
//! println!("{}", plan.explain(&packet)); // why
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Readiness, terminating endpoints, traffic policies, topology, source ranges, families, masquerading, and whether to refuse or to
//! stay silent are all decided here; [`Mode`] has the few things in which data planes differ. A plan is a function of its inputs as
//! a set: their order changes nothing. When two Services claim one address and port, the older has it (by creation time, then name)
//! and the other is listed in [`Plan::conflicts`]. What was ignored, and why, is in [`Plan::warnings`].
//!
//! Of several endpoints with one address and port one counts, as
//! [`EndpointSet::port_seen_from`] chooses.
//!
//! **Change.** [`Plan::diff`] finds the Services of which the plan is another, [`Changes::merge`] makes one of several, and
//! [`Plan::apply`] takes them up. The rest of a plan stays where it is: a [`ServicePlan`] is shared, never copied.
//!
//! Source: kube-proxy (services, endpoint selection, the rules of each mode). Building is O(n log n) in ports and endpoints;
//! [`Plan::route`] looks two addresses up in a hash table.

mod changes;
mod claims;
mod conntrack;
mod explain;
mod health;
mod node;
mod policy;
mod route;
mod topology;
mod warning;

use alloc::collections::BTreeMap;
#[cfg(feature = "iptables")]
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::BuildHasherDefault;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use crate::backend::Backend;
use crate::endpoints::EndpointSet;
use crate::name::{DnsLabel, ObjectName};
use crate::net::{IpFamily, Protocol};
use crate::sched::Algorithm;
use crate::service::{Service, ServicePort, TrafficPolicy};

pub use changes::{Changes, RouteChange, ServiceChange};
pub(crate) use claims::Claims;
pub use conntrack::ConntrackFlow;
pub use explain::Explanation;
pub use health::{Health, HealthAnswer};
pub use node::{LocalDetector, LocalNode, Mode, NodePortAddresses, NodePortReach, UnknownMode};
pub use route::{Origin, Packet, Route, Verdict};
pub use topology::Basis;
pub use warning::{Warning, WarningKind};

/// The label that says which proxy a Service is for, see [`LocalNode::proxy_name`].
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// The annotation of a Service that names its scheduling [`Algorithm`], as `lc`. A data plane that has only some heeds it as it
/// can.
pub const SCHEDULER_ANNOTATION: &str = "svcplane/scheduler";

/// The annotation of a Service that gives some of its endpoints a weight other than 1: the name of the object behind it, or its
/// address, and a number from 1 to 65535, as in `redis-0=3, 10.0.0.7=2`.
pub const WEIGHTS_ANNOTATION: &str = "svcplane/weights";

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

/// What is done for one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServicePlan {
    /// The Service.
    pub name: ObjectName,
    /// Its virtual addresses, at most one of each family, IPv4 first.
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports, by name, transport and family; those of a family in which it has a virtual address.
    pub ports: Vec<PortPlan>,
    /// What its health-check node port is to answer, if it has one.
    pub health: Option<Health>,
    /// Its claims that were not met because an older Service has the address and port.
    pub conflicts: Vec<Conflict>,
    /// What was ignored.
    pub warnings: Vec<Warning>,
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
    /// The algorithm that the Service [asks for](SCHEDULER_ANNOTATION); `None` is the data plane's own choice.
    pub scheduler: Option<Algorithm>,
    /// The backends for traffic that may go anywhere. Empty if no policy of the Service lets traffic do that.
    pub cluster: Targets,
    /// The backends for traffic that has to stay on the node. Empty if no policy of the Service asks for that.
    pub local: Targets,
    /// Where open UDP flows may go on to: every endpoint that serves, whatever the policies, sorted by address.
    pub serving: Vec<SocketAddr>,
    /// The addresses of the backends that are not known to be on another node, sorted: only they can call through this node, and so
    /// be sent back to themselves.
    pub here: Vec<IpAddr>,
    /// Where the port can be reached, by kind and address.
    pub frontends: Vec<Frontend>,
}

impl PortPlan {
    /// The backends under a policy.
    pub const fn targets(&self, policy: TrafficPolicy) -> &Targets {
        match policy {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        }
    }
}

/// Where traffic under a policy goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Targets {
    /// The backends, in the order of their text (`10.0.0.10:80` before `10.0.0.1:80`), as kube-proxy has them. Of the weights one
    /// is above 0.
    pub backends: Vec<Backend>,
    /// Why it is these.
    pub basis: Basis,
}

/// One address and port at which a Service's port can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frontend {
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// The address; `None` for a node port, which is at every address of [`Plan::node_port_reach`].
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Whose connections are taken; everybody's if empty. Those of others are dropped, whatever the actions say. If the ranges of
    /// the Service hold the node's primary address, the load balancer's addresses are among them: the kernel may choose one as
    /// source on this node.
    pub source_ranges: Arc<[IpNet]>,
    /// What is done with connections that come from pods, as far as they can be [told apart](LocalDetector).
    pub from_pod: Action,
    /// What is done with connections that come from the node itself.
    pub from_node: Action,
    /// What is done with all others.
    pub from_elsewhere: Action,
}

impl Frontend {
    /// What is done with connections of an origin that the [source ranges](Self::source_ranges) let in.
    pub const fn action(&self, origin: Origin) -> Action {
        match origin {
            Origin::Pod => self.from_pod,
            Origin::Node => self.from_node,
            Origin::Elsewhere => self.from_elsewhere,
        }
    }

    /// Whether a source's connections are taken.
    pub fn admits(&self, source: IpAddr) -> bool {
        self.source_ranges.is_empty() || self.source_ranges.iter().any(|net| net.contains(&source))
    }
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

impl fmt::Display for FrontendKind {
    /// `cluster IP`, `external IP`, `load balancer IP`, `node port`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ClusterIp => "cluster IP",
            Self::ExternalIp => "external IP",
            Self::LoadBalancerIp => "load balancer IP",
            Self::NodePort => "node port",
        })
    }
}

/// What is done with a new connection.
#[expect(clippy::exhaustive_enums, reason = "every data plane has to say what each becomes")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes to one of the backends.
    Forward {
        /// Those under this policy, of which there is at least one.
        policy: TrafficPolicy,
        /// Whether it gets the node's address as source, so that the answers come back through the node. One that comes back to the
        /// very pod that sent it does so in any case.
        masquerade: bool,
    },
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
    pub winner: ObjectName,
    /// Who claimed it in vain.
    pub loser: ObjectName,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "{}/{}", SocketAddr::new(ip, self.port), self.protocol)?,
            None => write!(f, "{} node port {}/{}", self.family, self.port, self.protocol)?,
        }
        if self.loser == self.winner {
            return write!(f, " is claimed twice by {}: the first of its ports has it", self.loser);
        }
        write!(f, " of {} belongs to {}, which comes first", self.loser, self.winner)
    }
}

/// What one node does with every packet.
#[derive(Clone, Debug)]
pub struct Plan {
    node: Arc<LocalNode>,
    mode: Mode,
    services: BTreeMap<ObjectName, Arc<ServicePlan>>,
    /// Where each claim is met.
    index: HashMap<Claim, Target, ClaimHasher>,
    /// The claims of frontends, and those of health checks.
    #[cfg(feature = "iptables")]
    claims: [BTreeSet<Claim>; 2],
    /// What addresses Services have, with how many frontends each is of; and of how many ports it is a backend
    /// [here](PortPlan::here).
    addresses: HashMap<IpAddr, Uses, ClaimHasher>,
    /// By family.
    node_ports: [NodePortReach; 2],
}

/// An address (those that take node ports for `None`), transport and port.
pub(crate) type Claim = (IpFamily, Option<IpAddr>, Protocol, u16);

/// The addresses are those of stored objects, the lookups those of anybody: no client can choose what collides.
type ClaimHasher = BuildHasherDefault<SipHasher13>;

/// The frontend of a port; or the health check, which has no port.
#[derive(Clone, Debug)]
struct Target {
    service: Arc<ServicePlan>,
    frontend: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uses {
    as_cluster_ip: u32,
    otherwise: u32,
    as_backend: u32,
}

impl Uses {
    /// Whether it is an address of a Service.
    const fn is_virtual(self) -> bool {
        self.as_cluster_ip > 0 || self.otherwise > 0
    }
}

impl Plan {
    /// The plan for a node, from the Services with their endpoints. Services that no proxy serves (headless, of
    /// type ExternalName, without an address yet) or that this node does not [watch](LocalNode::watches) are passed over.
    /// Of several mentions of one Service the oldest counts, of equally old ones the first.
    pub fn new<'a, I>(node: &LocalNode, mode: Mode, services: I) -> Self
    where
        I: IntoIterator<Item = (&'a Service, &'a EndpointSet)>,
    {
        let mut served: Vec<(&Service, &EndpointSet)> =
            services.into_iter().filter(|(service, _)| node.serves(service)).collect();
        served.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name).then(age(a).cmp(&age(b))));
        served.dedup_by_key(|(service, _)| &service.name);
        served.sort_by_key(|(service, _)| (age(service), &service.name));

        let mut owners: HashMap<Claim, ObjectName, ClaimHasher> = HashMap::default();
        let mut plan = Self::empty(node.clone(), mode);
        for (service, endpoints) in served {
            let mut planned = policy::plan_service(node, mode, service, endpoints);
            planned.settle_claims(|claim| match owners.entry(claim) {
                Entry::Occupied(owner) => Some(owner.get().clone()),
                Entry::Vacant(vacant) => {
                    vacant.insert(service.name.clone());
                    None
                }
            });
            plan.set(&service.name, Some(Arc::new(planned)));
        }
        plan
    }

    /// A plan without Services.
    pub fn empty(node: LocalNode, mode: Mode) -> Self {
        let node_ports =
            [IpFamily::V4, IpFamily::V6].map(|family| node.node_port_reach(mode, family));
        Self {
            node: Arc::new(node),
            mode,
            services: BTreeMap::new(),
            index: HashMap::default(),
            #[cfg(feature = "iptables")]
            claims: Default::default(),
            addresses: HashMap::default(),
            node_ports,
        }
    }

    /// The node that it is for.
    pub fn node(&self) -> &LocalNode {
        &self.node
    }

    /// What carries it out.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Where node ports of a family are.
    pub const fn node_port_reach(&self, family: IpFamily) -> &NodePortReach {
        match family {
            IpFamily::V4 => &self.node_ports[0],
            IpFamily::V6 => &self.node_ports[1],
        }
    }

    /// What is done for each Service, by name.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<ServicePlan>> {
        self.services.values()
    }

    /// What is done for one Service; `None` if it is not served.
    pub fn service(&self, name: &ObjectName) -> Option<&Arc<ServicePlan>> {
        self.services.get(name)
    }

    /// What is done for each port, by name and family.
    pub fn ports(&self) -> impl Iterator<Item = &PortPlan> {
        self.services.values().flat_map(|service| &service.ports)
    }

    /// Claims that were not met because an older Service has the address and port, by the loser's name.
    pub fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.services.values().flat_map(|service| &service.conflicts)
    }

    /// What was ignored, by the Service's name.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.services.values().flat_map(|service| &service.warnings)
    }

    /// What the health-check node port of a Service is to answer; `None` if it has none.
    pub fn health(&self, service: &ObjectName) -> Option<&Health> {
        self.services.get(service)?.health.as_ref()
    }

    /// The claims of frontends, in order.
    #[cfg(feature = "iptables")]
    pub(crate) const fn frontend_claims(&self) -> &BTreeSet<Claim> {
        &self.claims[0]
    }

    /// The claims of health checks, in order.
    #[cfg(feature = "iptables")]
    pub(crate) const fn health_claims(&self) -> &BTreeSet<Claim> {
        &self.claims[1]
    }

    /// Whose frontend a claim is.
    #[cfg(feature = "iptables")]
    pub(crate) fn claimed(&self, claim: &Claim) -> Option<(&PortPlan, &Frontend)> {
        let target = self.index.get(claim)?;
        let (port, frontend) = target.frontend?;
        let port = &target.service.ports[port as usize];
        Some((port, &port.frontends[frontend as usize]))
    }

    /// Whose health check a claim is.
    #[cfg(feature = "iptables")]
    pub(crate) fn checked(&self, claim: &Claim) -> Option<&Health> {
        let target = self.index.get(claim)?;
        target.service.health.as_ref().filter(|_| target.frontend.is_none())
    }

    /// Puts a Service's plan in the place of what was done for it.
    fn set(&mut self, name: &ObjectName, planned: Option<Arc<ServicePlan>>) {
        if let Some(before) = self.services.remove(name) {
            self.unfile(&before);
        }
        if let Some(planned) = planned {
            self.file(&planned);
            self.services.insert(name.clone(), planned);
        }
    }

    fn file(&mut self, planned: &Arc<ServicePlan>) {
        for (claim, frontend) in planned.claims() {
            let target = Target { service: Arc::clone(planned), frontend };
            self.index.insert(claim, target);
            #[cfg(feature = "iptables")]
            {
                let [frontends, checks] = &mut self.claims;
                let (whose, other) =
                    if frontend.is_some() { (frontends, checks) } else { (checks, frontends) };
                other.remove(&claim);
                whose.insert(claim);
            }
        }
        for (ip, uses) in planned.addresses() {
            let known = self.addresses.entry(ip).or_default();
            known.as_cluster_ip += uses.as_cluster_ip;
            known.otherwise += uses.otherwise;
            known.as_backend += uses.as_backend;
        }
    }

    fn unfile(&mut self, planned: &Arc<ServicePlan>) {
        for (claim, _) in planned.claims() {
            // Whoever won it since has it.
            if self.index.get(&claim).is_some_and(|target| Arc::ptr_eq(&target.service, planned)) {
                self.index.remove(&claim);
                #[cfg(feature = "iptables")]
                self.claims.iter_mut().for_each(|claims| _ = claims.remove(&claim));
            }
        }
        for (ip, uses) in planned.addresses() {
            let Some(known) = self.addresses.get_mut(&ip) else { continue };
            known.as_cluster_ip -= uses.as_cluster_ip;
            known.otherwise -= uses.otherwise;
            known.as_backend -= uses.as_backend;
            if *known == Uses::default() {
                self.addresses.remove(&ip);
            }
        }
    }
}

/// Plans are equal if they are for one node in one mode and do the same for the same Services.
impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && self.mode == other.mode && self.services == other.services
    }
}

impl Eq for Plan {}

impl ServicePlan {
    /// Its claims that were met, with the places of port and frontend.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (Claim, Option<(u32, u32)>)> {
        let frontends = (0..).zip(&self.ports).flat_map(|(p, port)| {
            (0..)
                .zip(&port.frontends)
                .map(move |(f, frontend)| (port.claim(frontend), Some((p, f))))
        });
        frontends.chain(self.health_claims().map(|claim| (claim, None)))
    }

    fn health_claims(&self) -> impl Iterator<Item = Claim> {
        self.health.iter().flat_map(|health| {
            let families = health.local_endpoints.iter();
            families.map(|&(family, _)| (family, None, Protocol::Tcp, health.port))
        })
    }

    fn addresses(&self) -> impl Iterator<Item = (IpAddr, Uses)> {
        let cluster_ip = Uses { as_cluster_ip: 1, ..Uses::default() };
        let otherwise = Uses { otherwise: 1, ..Uses::default() };
        let backend = Uses { as_backend: 1, ..Uses::default() };
        let of_ports = self.ports.iter().flat_map(move |port| {
            let frontends = port.frontends.iter();
            let others = frontends.filter(|frontend| frontend.kind != FrontendKind::ClusterIp);
            let others = others.filter_map(|frontend| frontend.ip).map(move |ip| (ip, otherwise));
            others.chain(port.here.iter().map(move |&ip| (ip, backend)))
        });
        self.cluster_ips.iter().map(move |&ip| (ip, cluster_ip)).chain(of_ports)
    }

    /// Gives up the claims that somebody else has; `taken` says who, and otherwise takes them.
    fn settle_claims(&mut self, mut taken: impl FnMut(Claim) -> Option<ObjectName>) {
        let Self { name, ports, health, conflicts, .. } = self;
        let mut settle = |claim: Claim| {
            let Some(winner) = taken(claim) else { return true };
            let (family, ip, protocol, port) = claim;
            let loser = name.clone();
            conflicts.push(Conflict { family, ip, protocol, port, winner, loser });
            false
        };
        for port in ports {
            let mut frontends = core::mem::take(&mut port.frontends);
            frontends.retain(|frontend| settle(port.claim(frontend)));
            port.frontends = frontends;
        }
        if let Some(check) = health {
            let port = check.port;
            check
                .local_endpoints
                .retain(|&(family, _)| settle((family, None, Protocol::Tcp, port)));
            if check.local_endpoints.is_empty() {
                *health = None;
            }
        }
        conflicts.sort_unstable();
        conflicts.dedup();
    }
}

impl PortPlan {
    const fn claim(&self, frontend: &Frontend) -> Claim {
        (self.family, frontend.ip, self.name.protocol, frontend.port)
    }
}

/// A known time is before an unknown one.
pub(crate) const fn age(service: &Service) -> (bool, Option<crate::time::Timestamp>) {
    (service.created.is_none(), service.created)
}
