//! Which entries of connection tracking have to go.

use core::net::SocketAddr;

use super::Plan;
use crate::net::Protocol;

/// An entry of the kernel's connection tracking, as far as a plan cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConntrackFlow {
    /// The transport.
    pub protocol: Protocol,
    /// Where the client sends to (the original direction's destination).
    pub destination: SocketAddr,
    /// Who answers (the reply direction's source): the endpoint, or the same as the destination if that was not translated.
    pub reply_source: SocketAddr,
}

impl ConntrackFlow {
    /// An entry.
    pub const fn new(
        protocol: Protocol,
        destination: SocketAddr,
        reply_source: SocketAddr,
    ) -> Self {
        Self { protocol, destination, reply_source }
    }
}

impl Plan {
    /// The entries that have to be deleted *after* the plan was carried out, since they keep clients from what it says: a UDP
    /// client that goes on sending from its port refreshes its entry for ever. To be given all there are, at each change of a UDP
    /// port; entries of other transports end by themselves and are never among them.
    ///
    /// An entry is stale if it is for a Service's port and none of its endpoints that serve answers: one that has gone,
    /// or that never was, as there was no Service when the entry was made. Policies do not matter: a flow may stay
    /// where it is. An entry that was translated, for an address of the [service CIDRs](super::LocalNode::service_cidrs) that is no
    /// Service's any more, is stale as well; at other addresses that is not known.
    ///
    /// Source: kube-proxy's `conntrack` package. `DIFFERENCE`: there, an endpoint that is ready and does not serve is left as well;
    /// nothing is deleted for a Service without any endpoint that serves, so that its clients stay pinned; a node port is looked
    /// for at any address in the world, here at those that take node ports; and the endpoint's port is not compared.
    ///
    /// ```
    /// # use svcplane::plan::{ConntrackFlow, LocalNode, Mode, Plan};
    /// # use svcplane::net::Protocol;
    /// # let mut node = LocalNode::new("node-1".parse()?);
    /// # node.service_cidrs = vec!["10.96.0.0/12".parse()?];
    /// # let plan = Plan::empty(node, Mode::Nftables);
    /// let flow = ConntrackFlow::new(Protocol::Udp, "10.96.0.10:53".parse()?, "10.0.0.7:53".parse()?);
    /// assert_eq!(plan.stale_flows([flow]).next(), Some(flow)); // there is no such Service
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stale_flows<I>(&self, flows: I) -> impl Iterator<Item = ConntrackFlow>
    where
        I: IntoIterator<Item = ConntrackFlow>,
    {
        flows.into_iter().filter(|flow| self.is_stale(flow))
    }

    fn is_stale(&self, flow: &ConntrackFlow) -> bool {
        if flow.protocol != Protocol::Udp {
            return false;
        }
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let (destination, answers) = (canonical(flow.destination), canonical(flow.reply_source));
        let ip = destination.ip();
        let found = self.target(flow.protocol, ip, destination.port());
        match found.and_then(|target| Some((target, target.frontend?))) {
            Some((target, (port, _))) => {
                target.service.ports[port as usize].serving.binary_search(&answers).is_err()
            }
            None => {
                answers != destination
                    && self.node.service_cidrs.iter().any(|net| net.contains(&ip))
            }
        }
    }
}
