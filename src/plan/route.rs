//! A plan's executable meaning.

use core::net::{IpAddr, SocketAddr};

use super::{Action, Frontend, Plan, PortPlan};
use crate::backend::Backend;
use crate::net::{IpFamily, Protocol};
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
}

impl Packet {
    /// A packet.
    pub const fn new(protocol: Protocol, source: IpAddr, destination: SocketAddr) -> Self {
        Self { protocol, source, destination }
    }
}

/// What becomes of a packet.
#[expect(clippy::exhaustive_enums, reason = "a caller has to do something in each case")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes to one of these backends.
    Forward(Route<'a>),
    /// The client is refused: connection reset or port unreachable.
    Reject,
    /// Nothing is answered.
    Drop,
    /// No Service has to do with it.
    Pass,
}

/// Where a flow may go. Balancers are kept by `port.name`, `port.family` and `policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route<'a> {
    /// The port of a Service that it is a flow of.
    pub port: &'a PortPlan,
    /// The policy under which it goes.
    pub policy: TrafficPolicy,
    /// The backends, at least one.
    pub backends: &'a [Backend],
}

impl Plan {
    /// What becomes of the first packet of a flow.
    pub fn route(&self, packet: &Packet) -> Verdict<'_> {
        let source = packet.source.to_canonical();
        let (ip, port) = (packet.destination.ip().to_canonical(), packet.destination.port());
        // An address that is a Service's as well as the node's is the Service's first.
        let family = IpFamily::of(ip);
        let claimed = self.index.get(&(family, Some(ip), packet.protocol, port)).or_else(|| {
            let node_port = self.takes_node_ports(ip);
            self.index.get(&(family, None, packet.protocol, port)).filter(|_| node_port)
        });
        let Some(&(p, f)) = claimed else { return Verdict::Pass };
        let (plan, frontend) = (&self.ports[p], &self.ports[p].frontends[f]);
        let action = if self.is_pod(source) {
            frontend.from_pod
        } else if self.is_own(source) {
            frontend.from_node
        } else {
            frontend.from_elsewhere
        };
        match action {
            Action::Reject => Verdict::Reject,
            _ if !self.admits(frontend, source) => Verdict::Drop,
            Action::Drop => Verdict::Drop,
            Action::Forward(policy) => {
                Verdict::Forward(Route { port: plan, policy, backends: plan.backends(policy) })
            }
        }
    }

    /// Whether a source may use a frontend. If the ranges hold the node itself, a packet from the load
    /// balancer's own address is let in too: the kernel may choose that as the source on this node.
    fn admits(&self, frontend: &Frontend, source: IpAddr) -> bool {
        let within = |ip: IpAddr| frontend.source_ranges.iter().any(|net| net.contains(&ip));
        frontend.source_ranges.is_empty()
            || within(source)
            || (frontend.ip == Some(source) && self.node.addresses.iter().any(|&ip| within(ip)))
    }

    fn is_pod(&self, source: IpAddr) -> bool {
        self.node.pod_cidrs.iter().any(|net| net.contains(&source))
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.node.addresses.contains(&ip)
    }

    /// `DIFFERENCE`: the loopback addresses of both families take node ports; in kube-proxy's iptables mode only
    /// IPv4's does.
    fn takes_node_ports(&self, ip: IpAddr) -> bool {
        let listed = &self.node.node_port_addresses;
        self.is_own(ip) && (listed.is_empty() || listed.iter().any(|net| net.contains(&ip)))
    }
}
