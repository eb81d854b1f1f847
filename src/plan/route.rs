//! A plan's executable meaning.

use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Action, Frontend, FrontendKind, Health, Mode, Plan, PortPlan, ServicePlan, Target};
use crate::backend::Backend;
use crate::net::{InterfaceName, IpFamily, Protocol};
use crate::service::TrafficPolicy;

/// The first packet of a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Packet {
    /// The transport.
    pub protocol: Protocol,
    /// Who sends it.
    pub source: IpAddr,
    /// Where it is addressed to.
    pub destination: SocketAddr,
    /// The interface that it came in from; `None` for one that the node itself made, or if unknown. Only a
    /// [`LocalDetector`](super::LocalDetector) by interface looks at it. Defaults to `None`.
    pub interface: Option<InterfaceName>,
}

impl Packet {
    /// A packet of unknown interface.
    pub const fn new(protocol: Protocol, source: IpAddr, destination: SocketAddr) -> Self {
        Self { protocol, source, destination, interface: None }
    }
}

impl fmt::Display for Packet {
    /// `192.0.2.7 to 10.96.0.10:80/TCP`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}/{}", self.source, self.destination, self.protocol)?;
        self.interface.map_or(Ok(()), |interface| write!(f, " from interface {interface}"))
    }
}

/// Where a packet comes from, as far as a Service cares.
#[expect(clippy::exhaustive_enums, reason = "every data plane tells these three apart")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A pod, as the [`LocalDetector`](super::LocalDetector) tells.
    Pod,
    /// The node itself: the source is one of its own addresses.
    Node,
    /// Anywhere else.
    Elsewhere,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pod => "a pod",
            Self::Node => "the node itself",
            Self::Elsewhere => "elsewhere",
        })
    }
}

/// What becomes of a packet.
#[expect(clippy::exhaustive_enums, reason = "a caller has to do something in each case")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes to one of the backends.
    Forward(Route<'a>),
    /// The client is refused: connection reset or port unreachable.
    Reject,
    /// Nothing is answered.
    Drop,
    /// It is for the health check of this Service, on the node itself, and let through.
    Accept(&'a Health),
    /// No Service has to do with it.
    Pass,
}

/// Where a flow may go. Balancers are kept by `port.name`, `port.family` and `policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route<'a> {
    /// The port of a Service that it is a flow of.
    pub port: &'a PortPlan,
    /// What the client called.
    pub frontend: &'a Frontend,
    /// The policy under which it goes.
    pub policy: TrafficPolicy,
    /// The backends, at least one.
    pub backends: &'a [Backend],
    /// Whether it gets the node's address as source, whichever backend it goes to. See [`masquerades`](Self::masquerades).
    pub masquerade: bool,
    source: IpAddr,
}

impl Route<'_> {
    /// Whether the flow gets the node's address as source if it goes to a backend: it has to if that is the client itself, which
    /// would otherwise answer itself directly and not know the answer.
    ///
    /// `DIFFERENCE`: not if the backend is known to be on another node, from where it could not have called through this one.
    pub fn masquerades(&self, backend: SocketAddr) -> bool {
        let is_client = backend.ip() == self.source;
        self.masquerade || (is_client && self.port.here.binary_search(&self.source).is_ok())
    }
}

/// What a packet meets.
pub(super) enum Met<'a> {
    Frontend {
        service: &'a Arc<ServicePlan>,
        port: &'a PortPlan,
        frontend: &'a Frontend,
        origin: Origin,
        admitted: bool,
    },
    HealthCheck(&'a Health),
    /// An address of a Service, which has no such port.
    UnusedPort,
    /// An address that Services may get, and none has.
    Unallocated(&'a IpNet),
    Nothing,
}

impl Plan {
    /// What becomes of the first packet of a flow.
    pub fn route(&self, packet: &Packet) -> Verdict<'_> {
        self.verdict(packet, &self.meet(packet))
    }

    pub(super) fn verdict<'a>(&'a self, packet: &Packet, met: &Met<'a>) -> Verdict<'a> {
        match *met {
            Met::Frontend { admitted: false, .. } => Verdict::Drop,
            Met::Frontend { port, frontend, origin, .. } => match frontend.action(origin) {
                Action::Reject => Verdict::Reject,
                Action::Drop => Verdict::Drop,
                Action::Forward { policy, masquerade } => Verdict::Forward(Route {
                    port,
                    frontend,
                    policy,
                    backends: &port.targets(policy).backends,
                    masquerade,
                    source: packet.source.to_canonical(),
                }),
            },
            Met::HealthCheck(health) => match self.mode {
                Mode::Iptables | Mode::Ipvs => Verdict::Accept(health),
                Mode::Nftables | Mode::Userspace => Verdict::Pass,
            },
            Met::UnusedPort => match self.mode {
                Mode::Nftables | Mode::Ipvs => Verdict::Reject,
                Mode::Iptables | Mode::Userspace => Verdict::Pass,
            },
            Met::Unallocated(_) if self.mode == Mode::Nftables => Verdict::Drop,
            Met::Unallocated(_) | Met::Nothing => Verdict::Pass,
        }
    }

    pub(super) fn meet(&self, packet: &Packet) -> Met<'_> {
        let source = packet.source.to_canonical();
        let ip = packet.destination.ip().to_canonical();
        if let Some(target) = self.target(packet.protocol, ip, packet.destination.port()) {
            let service = &target.service;
            let Some((p, f)) = target.frontend else {
                return service.health.as_ref().map_or(Met::Nothing, Met::HealthCheck);
            };
            let port = &service.ports[p as usize];
            let frontend = &port.frontends[f as usize];
            let (origin, admitted) =
                (self.origin(source, packet.interface), frontend.admits(source));
            return Met::Frontend { service, port, frontend, origin, admitted };
        }
        let uses = self.addresses.get(&ip).copied().unwrap_or_default();
        let virtual_here = self.mode == Mode::Ipvs && !self.node.is_own(ip);
        if uses.as_cluster_ip > 0 || (uses.is_virtual() && virtual_here) {
            return Met::UnusedPort;
        }
        let cidr = self.node.service_cidrs.iter().find(|net| net.contains(&ip));
        cidr.map_or(Met::Nothing, Met::Unallocated)
    }

    /// Who has an address and port. One that is a Service's as well as the node's is the Service's first.
    pub(super) fn target(&self, protocol: Protocol, ip: IpAddr, port: u16) -> Option<&Target> {
        let family = IpFamily::of(ip);
        self.index.get(&(family, Some(ip), protocol, port)).or_else(|| {
            let target = self.index.get(&(family, None, protocol, port))?;
            let here = match target.frontend {
                Some(_) => self.node_port_reach(family).contains(&self.node, ip),
                None => self.node.is_own(ip) || self.is_bound(ip),
            };
            here.then_some(target)
        })
    }

    /// Whether a Service has an address as its cluster IP.
    pub fn is_cluster_ip(&self, ip: IpAddr) -> bool {
        self.addresses.get(&ip).is_some_and(|uses| uses.as_cluster_ip > 0)
    }

    /// Whether an address is that of a backend that is not known to be on another node.
    pub fn is_backend_here(&self, ip: IpAddr) -> bool {
        self.addresses.get(&ip).is_some_and(|uses| uses.as_backend > 0)
    }

    /// Whether an address is a Service's, as its cluster IP or otherwise.
    #[cfg(feature = "ipvs")]
    pub(crate) fn is_virtual(&self, ip: IpAddr) -> bool {
        self.addresses.get(&ip).is_some_and(|uses| uses.is_virtual())
    }

    /// Whether an address is a Service's that IPVS has on the node, which takes packets to it and may call from it.
    fn is_bound(&self, ip: IpAddr) -> bool {
        let uses = self.addresses.get(&ip).copied().unwrap_or_default();
        self.mode == Mode::Ipvs && uses.is_virtual()
    }

    /// Where a packet with this source comes from that came in from an interface.
    pub fn origin(&self, source: IpAddr, interface: Option<InterfaceName>) -> Origin {
        if self.node.pods.is_pod(source, interface) {
            Origin::Pod
        } else if self.node.is_own(source) || self.is_bound(source) {
            Origin::Node
        } else {
            Origin::Elsewhere
        }
    }
}

impl Frontend {
    /// `cluster IP 10.96.0.10:80/TCP`, `node port 30080/TCP`
    pub(super) fn describe(&self, protocol: Protocol) -> impl fmt::Display + use<> {
        let (kind, ip, port) = (self.kind, self.ip, self.port);
        Described { kind, ip, port, protocol }
    }
}

struct Described {
    kind: FrontendKind,
    ip: Option<IpAddr>,
    port: u16,
    protocol: Protocol,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, port, protocol, .. } = self;
        match self.ip {
            Some(ip) => write!(f, "{kind} {}/{protocol}", SocketAddr::new(ip, *port)),
            None => write!(f, "{kind} {port}/{protocol}"),
        }
    }
}
