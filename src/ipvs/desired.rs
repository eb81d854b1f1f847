//! What a plan wants of IPVS.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{
    Command, Forwarding, ListedReal, RealKey, RealServer, SchedulerFlags, SchedulerName, Seconds,
    VirtualKey, VirtualServer, Weight,
};
use crate::net::{InterfaceName, IpFamily};
use crate::plan::{Action, Frontend, NodePortReach, Plan, PortPlan, ServicePlan};
use crate::rules::Prefix;
use crate::sched::Algorithm;

/// How a plan is carried out by IPVS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The scheduler of Services that ask for none by the annotation [`svcplane/scheduler`](crate::plan::SCHEDULER_ANNOTATION), or
    /// for one that no kernel has. Defaults to `rr`, as in kube-proxy.
    pub scheduler: SchedulerName,
    /// What the names of the sets and tables begin with that go with it. Defaults to `SVCP`.
    pub prefix: Prefix,
    /// The interface that has the virtual servers' addresses. Defaults to `svcp-ipvs0`.
    pub interface: InterfaceName,
    /// The bit, 0 to 31, of a packet's mark that says that it is to be masqueraded. Defaults to 14, as in kube-proxy.
    pub masquerade_bit: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler: SchedulerName::ROUND_ROBIN,
            prefix: Prefix::default(),
            interface: InterfaceName::SVCP_IPVS0,
            masquerade_bit: 14,
        }
    }
}

/// The virtual servers that a plan wants, with their real servers, and the addresses that the node is to have for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub(super) servers: BTreeMap<VirtualKey, DesiredServer>,
    pub(super) addresses: BTreeSet<IpAddr>,
}

/// A virtual server as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DesiredServer {
    /// What it is.
    pub server: VirtualServer,
    /// Its real servers, by address. If there are none, the kernel refuses clients: `ICMP port unreachable`.
    pub reals: BTreeMap<RealKey, RealServer>,
}

impl DesiredServer {
    fn new(key: VirtualKey, port: &PortPlan, frontend: &Frontend, config: &Config) -> Self {
        let server = virtual_server(key, port, config);
        Self { server, reals: real_servers(port, frontend) }
    }
}

impl Desired {
    /// The virtual servers, by key.
    pub fn servers(&self) -> impl ExactSizeIterator<Item = (&VirtualKey, &DesiredServer)> {
        self.servers.iter()
    }

    /// One of the virtual servers.
    pub fn server(&self, key: &VirtualKey) -> Option<&DesiredServer> {
        self.servers.get(key)
    }

    /// The addresses that the node is to have on an interface of its own, sorted: IPVS takes what is delivered to the node itself.
    /// Each with the whole address as prefix.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = IpAddr> {
        self.addresses.iter().copied()
    }

    /// What makes all of it where there is nothing. Of a virtual server's real servers the last is added first, since each goes to
    /// the head of the kernel's list.
    pub fn commands(&self) -> Vec<Command> {
        let of_server = |(key, desired): (&VirtualKey, &DesiredServer)| {
            let key = *key;
            let reals: Vec<Command> =
                desired.reals.values().rev().map(|real| Command::AddReal(key, *real)).collect();
            core::iter::once(Command::AddVirtual(desired.server)).chain(reals)
        };
        self.servers.iter().flat_map(of_server).collect()
    }
}

/// What IPVS has, as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    pub(super) servers: BTreeMap<VirtualKey, ActualServer>,
}

/// A virtual server as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActualServer {
    /// What it is.
    pub server: VirtualServer,
    /// Its real servers, by address.
    pub reals: BTreeMap<RealKey, ListedReal>,
}

impl Actual {
    /// Notes a virtual server that the kernel [lists](Command::ListVirtual), with the real servers that it
    /// [lists](Command::ListReal) of it. One that is noted again is replaced.
    pub fn insert(&mut self, server: VirtualServer, reals: impl IntoIterator<Item = ListedReal>) {
        let reals = reals.into_iter().map(|real| (real.server.key, real)).collect();
        self.servers.insert(server.key(), ActualServer { server, reals });
    }

    /// The virtual servers, by key.
    pub fn servers(&self) -> impl ExactSizeIterator<Item = (&VirtualKey, &ActualServer)> {
        self.servers.iter()
    }
}

/// What a plan wants of IPVS. The plan should be one for [`Mode::Ipvs`](crate::plan::Mode::Ipvs).
///
/// There is a virtual server for each frontend, and for a node port one at each of the node's addresses that take them, but for
/// loopback ones. Where two have an address and port, that of the Service's own address counts. Real servers are masqueraded to,
/// with the weights of the plan.
///
/// ```
/// use svcplane::ipvs::{self, Config};
/// use svcplane::plan::{LocalNode, Mode, Plan};
/// # use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
/// # use svcplane::name::ObjectName;
/// # use svcplane::service::{ClusterIps, Service, ServicePort};
/// # let mut service = Service::new(ObjectName::new("default", "redis")?);
/// # service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.10".parse()?]);
/// # service.ports = vec![ServicePort::new(6379)];
/// # let mut endpoint = Endpoint::new("10.0.0.7".parse()?);
/// # endpoint.ports = [EndpointPort::new(6379)].into();
/// # let endpoints = EndpointSet::new(service.name.clone(), [endpoint]);
///
/// let node = LocalNode::new("node-1".parse()?);
/// let plan = Plan::new(&node, Mode::Ipvs, [(&service, &endpoints)]);
/// let desired = ipvs::compile(&plan, &Config::default());
/// let lines: Vec<String> = desired.commands().iter().map(ToString::to_string).collect();
/// assert_eq!(lines, ["-A -t 10.96.0.10:6379 -s rr", "-a -t 10.96.0.10:6379 -r 10.0.0.7:6379 -m -w 1"]);
/// assert_eq!(desired.addresses().collect::<Vec<_>>(), service.cluster_ips.as_slice());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `DIFFERENCE`: weights are the plan's; kube-proxy's are 1. Virtual servers of node ports are there for all three transports
/// alike.
///
/// Source: kube-proxy's ipvs mode.
pub fn compile(plan: &Plan, config: &Config) -> Desired {
    let mut desired = Desired::default();
    desired.addresses.extend(addresses(plan));
    let of_ports = |node_ports: bool| {
        let ports = plan.ports();
        ports.flat_map(move |port| {
            let frontends = port.frontends.iter();
            frontends.filter(move |f| f.ip.is_none() == node_ports).map(move |f| (port, f))
        })
    };
    for (port, frontend) in of_ports(false).chain(of_ports(true)) {
        for ip in places(plan, port, frontend) {
            let addr = core::net::SocketAddr::new(ip, frontend.port);
            let key = VirtualKey::new(port.name.protocol, addr);
            let server = || DesiredServer::new(key, port, frontend, config);
            desired.servers.entry(key).or_insert_with(server);
        }
    }
    desired
}

/// One of the virtual servers that a plan wants.
pub(super) fn wanted(plan: &Plan, key: VirtualKey, config: &Config) -> Option<DesiredServer> {
    let VirtualKey::Address { protocol, ip, port } = key else { return None };
    let claimed = |at| plan.claimed(&(IpFamily::of(ip), at, protocol, port));
    let at_node =
        || claimed(None).filter(|(port, on_node)| places(plan, port, on_node).contains(&ip));
    let (port, frontend) = claimed(Some(ip)).or_else(at_node)?;
    Some(DesiredServer::new(key, port, frontend, config))
}

/// The addresses that the node is to have, but for those that are its own anyway.
pub(super) fn addresses(plan: &Plan) -> impl Iterator<Item = IpAddr> {
    plan.services().flat_map(|service| bound(service)).filter(|ip| !plan.node().is_own(*ip))
}

/// The addresses of a Service that the node is to have.
pub(super) fn bound(service: &ServicePlan) -> impl Iterator<Item = IpAddr> {
    let of_ports = service.ports.iter().flat_map(|port| &port.frontends);
    service.cluster_ips.iter().copied().chain(of_ports.filter_map(|frontend| frontend.ip))
}

/// Where a frontend is.
pub(super) fn places(plan: &Plan, port: &PortPlan, frontend: &Frontend) -> Vec<IpAddr> {
    if let Some(ip) = frontend.ip {
        return alloc::vec![ip];
    }
    let node = plan.node();
    let mut places: Vec<IpAddr> = match plan.node_port_reach(port.family) {
        NodePortReach::Listed(ips) => ips.clone(),
        NodePortReach::Local { .. } => {
            let own = node.addresses.iter().chain(&node.local_addresses).copied();
            own.filter(|ip| IpFamily::of(*ip) == port.family).collect()
        }
    };
    places.retain(|ip| !ip.is_loopback());
    places.sort_unstable();
    places.dedup();
    places
}

fn virtual_server(key: VirtualKey, port: &PortPlan, config: &Config) -> VirtualServer {
    let wanted = port.scheduler.and_then(|algorithm| SchedulerName::try_from(algorithm).ok());
    let scheduler = wanted.unwrap_or(config.scheduler);
    let mut server = VirtualServer::new(key, scheduler);
    if scheduler.as_str() == Algorithm::MaglevHashing.as_str() {
        // As kube-proxy does: clients behind one address are spread by their ports.
        server.flags = SchedulerFlags { port: true, ..server.flags };
    }
    match port.client_ip_affinity {
        Some(timeout) => server.persistent(Seconds::from(timeout)),
        None => server,
    }
}

fn real_servers(port: &PortPlan, frontend: &Frontend) -> BTreeMap<RealKey, RealServer> {
    // One virtual server is for everybody: where origins differ, that of strangers counts.
    let actions = [frontend.from_elsewhere, frontend.from_node, frontend.from_pod];
    let policy = actions.into_iter().find_map(|action| match action {
        Action::Forward { policy, .. } => Some(policy),
        Action::Reject | Action::Drop => None,
    });
    let backends = policy.iter().flat_map(|&policy| &port.targets(policy).backends);
    let real = |addr, weight| {
        RealServer::new(addr, Forwarding::Masquerade).with_weight(Weight::saturating(weight))
    };
    backends
        .map(|backend| (RealKey::from(backend.addr), real(backend.addr, backend.weight)))
        .collect()
}
