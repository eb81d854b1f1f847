//! The node whose view a plan is, and the data plane that is to carry it out.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use super::PROXY_NAME_LABEL;
use crate::endpoints::{EndpointSlice, HEADLESS_LABEL};
use crate::labels::Labels;
use crate::name::NodeName;
use crate::net::{InterfaceName, IpFamily, SpecialAddress, special_address};
use crate::node::Node;
use crate::service::{Service, ServiceKind};

/// What carries a plan out. Modes differ in this, and in nothing else:
///
/// | | [`Iptables`](Self::Iptables) | [`Nftables`](Self::Nftables) | [`Ipvs`](Self::Ipvs) | [`Userspace`](Self::Userspace) |
/// | --- | --- | --- | --- | --- |
/// | node ports by [default](NodePortAddresses::ModeDefault) | at all local addresses | at the first address of each family | at all but link-local ones of IPv6 | at all local addresses |
/// | node ports at loopback addresses, if [wanted](LocalNode::localhost_node_ports) | IPv4's | never | never | both families' |
/// | the health-check node port | accepted | left to the administrator | accepted, at virtual addresses too | the program's own |
/// | a port that a cluster IP does not have | passes | rejected | rejected, at each virtual address | passes |
/// | an address of the service CIDRs that no Service has | passes | dropped | passes | passes |
/// | source ranges, while there are no endpoints | nobody is dropped: all are rejected | heeded | heeded | nobody is dropped |
/// | policy `Local` without local endpoints | dropped | dropped | all endpoints are taken | dropped |
/// | the node at a cluster IP, if [pods are not told apart](LocalDetector::None) | keeps its address | keeps its address | masqueraded | keeps its address |
/// | pods and the node at an external address under policy `Local` | as at the cluster IP | as at the cluster IP | local endpoints, as everybody | as at the cluster IP |
///
/// Source: kube-proxy, the nftables mode's list of intentional differences and the rules of each mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// iptables rules.
    Iptables,
    /// nftables rules.
    Nftables,
    /// IPVS virtual servers, with addresses bound to the node.
    Ipvs,
    /// A program that accepts connections itself.
    #[default]
    Userspace,
}

impl Mode {
    /// Every mode.
    pub const ALL: &[Self] = &[Self::Iptables, Self::Nftables, Self::Ipvs, Self::Userspace];

    /// Its name, as kube-proxy's option has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
            Self::Userspace => "userspace",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No mode has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown mode: expected iptables, nftables, ipvs or userspace")]
#[non_exhaustive]
pub struct UnknownMode;

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Self::ALL.iter().copied().find(|mode| mode.as_str() == text).ok_or(UnknownMode)
    }
}

/// The node that a plan is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalNode {
    /// Its name, by which endpoints are local.
    pub name: NodeName,
    /// Its zone, the label [`topology.kubernetes.io/zone`](crate::node::ZONE_LABEL). Defaults to unknown.
    pub zone: Option<Arc<str>>,
    /// Its addresses; the first of a family is the primary one. Defaults to none.
    pub addresses: Vec<IpAddr>,
    /// What other addresses its interfaces have. The loopback ones are always its own and need not be listed. Defaults to none.
    pub local_addresses: Vec<IpAddr>,
    /// Where cluster IPs come from. Defaults to unknown.
    pub service_cidrs: Vec<IpNet>,
    /// How its pods' traffic is told from other traffic. Defaults to not at all.
    pub pods: LocalDetector,
    /// Whether everybody who calls a cluster IP gets this node's address as source, pods included. Defaults to false.
    pub masquerade_all: bool,
    /// Which of its addresses take node ports. Defaults to what the mode has.
    pub node_port_addresses: NodePortAddresses,
    /// Whether loopback addresses take node ports, in the modes and families that can. Defaults to true.
    pub localhost_node_ports: bool,
    /// The value of [`PROXY_NAME_LABEL`] of the Services that are this proxy's. Defaults to `None`: those without the label.
    pub proxy_name: Option<Box<str>>,
}

impl LocalNode {
    /// A node with loopback addresses only.
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            zone: None,
            addresses: Vec::new(),
            local_addresses: Vec::new(),
            service_cidrs: Vec::new(),
            pods: LocalDetector::None,
            masquerade_all: false,
            node_port_addresses: NodePortAddresses::ModeDefault,
            localhost_node_ports: true,
            proxy_name: None,
        }
    }

    /// What a Node object says of it: name, zone, addresses, and its pod CIDRs to tell its pods by.
    pub fn of(node: &Node) -> Self {
        let mut local = Self::new(node.name.clone());
        local.zone = node.zone().map(Into::into);
        local.addresses.clone_from(&node.addresses);
        if !node.pod_cidrs.is_empty() {
            local.pods = LocalDetector::Cidrs(node.pod_cidrs.clone());
        }
        local
    }

    /// Whether a Service is this proxy's business: it is meant for a proxy of its [name](Self::proxy_name), and does not have
    /// [`HEADLESS_LABEL`], whatever the value. A plan heeds that by itself.
    pub fn watches(&self, service: &Service) -> bool {
        self.is_meant(&service.labels) && !service.labels.contains_key(HEADLESS_LABEL)
    }

    /// Whether a plan has anything to do for a Service: it is watched, has an address, and is no alias.
    pub(crate) fn serves(&self, service: &Service) -> bool {
        !matches!(service.kind, ServiceKind::ExternalName(_))
            && !service.cluster_ips.as_slice().is_empty()
            && self.watches(service)
    }

    /// The same of an EndpointSlice. Others have to be left out of what an [`EndpointSet`](crate::endpoints::EndpointSet) is merged
    /// from.
    pub fn watches_slice(&self, slice: &EndpointSlice) -> bool {
        self.is_meant(&slice.labels) && !slice.headless
    }

    fn is_meant(&self, labels: &Labels) -> bool {
        labels.get(PROXY_NAME_LABEL) == self.proxy_name.as_deref()
    }

    /// Its primary address of a family.
    pub fn primary_address(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|&ip| IpFamily::of(ip) == family)
    }

    /// Whether an address is one of its own: listed, or a loopback one.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(&ip) || self.local_addresses.contains(&ip)
    }

    /// Where node ports of a family are, in a mode.
    pub fn node_port_reach(&self, mode: Mode, family: IpFamily) -> NodePortReach {
        let loopback = self.localhost_node_ports
            && match mode {
                Mode::Iptables => family == IpFamily::V4,
                Mode::Userspace => true,
                Mode::Nftables | Mode::Ipvs => false,
            };
        let of_family = |ip: &IpAddr| IpFamily::of(*ip) == family;
        let primary = || self.primary_address(family).into_iter().collect();
        let cidrs: Vec<&IpNet> = match &self.node_port_addresses {
            NodePortAddresses::ModeDefault if mode == Mode::Nftables => {
                return NodePortReach::Listed(primary());
            }
            NodePortAddresses::Primary => return NodePortReach::Listed(primary()),
            NodePortAddresses::ModeDefault => Vec::new(),
            NodePortAddresses::In(cidrs) => {
                cidrs.iter().filter(|net| of_family(&net.addr())).collect()
            }
        };
        let all = cidrs.is_empty() || cidrs.iter().any(|net| net.prefix_len() == 0);
        if all && mode != Mode::Ipvs {
            return NodePortReach::Local { loopback };
        }
        let localhost: IpAddr = match family {
            IpFamily::V4 => Ipv4Addr::LOCALHOST.into(),
            IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        let own = self.addresses.iter().chain(&self.local_addresses).chain([&localhost]);
        let within = |ip: &IpAddr| all || cidrs.iter().any(|net| net.contains(ip));
        let takes = |ip: &IpAddr| {
            let link_local =
                ip.is_ipv6() && special_address(*ip) == Some(SpecialAddress::LinkLocal);
            within(ip) && (loopback || !ip.is_loopback()) && !(mode == Mode::Ipvs && link_local)
        };
        let mut listed: Vec<IpAddr> = own.copied().filter(of_family).filter(takes).collect();
        listed.sort_unstable();
        listed.dedup();
        NodePortReach::Listed(listed)
    }
}

/// Which of a node's addresses take node ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodePortAddresses {
    /// What the [mode](Mode) has where nothing is said.
    #[default]
    ModeDefault,
    /// The first address of each family.
    Primary,
    /// All within these; in a family of which none is here, or one of length 0, all of them.
    In(Vec<IpNet>),
}

/// Where node ports of one family are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodePortReach {
    /// At every address that the node has.
    Local {
        /// And at the loopback ones.
        loopback: bool,
    },
    /// At these addresses, sorted.
    Listed(Vec<IpAddr>),
}

impl NodePortReach {
    /// Whether node ports are at an address of a node.
    pub fn contains(&self, node: &LocalNode, ip: IpAddr) -> bool {
        match self {
            Self::Local { loopback } => node.is_own(ip) && (*loopback || !ip.is_loopback()),
            Self::Listed(ips) => ips.binary_search(&ip).is_ok(),
        }
    }
}

/// How the traffic of a node's own pods is told from other traffic.
///
/// Pods keep their address when they call a cluster IP, everybody else does not; and under the external policy `Local`, pods are
/// treated at external addresses as at the cluster IP. Of what is not told apart nothing of this holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalDetector {
    /// It is not told apart.
    #[default]
    None,
    /// By its source: the cluster's pod CIDRs, or this node's. Says nothing of a family of which none is here.
    Cidrs(Vec<IpNet>),
    /// By the bridge that it comes in from.
    Bridge(InterfaceName),
    /// By how the name of the interface begins that it comes in from.
    InterfacePrefix(InterfaceName),
}

impl LocalDetector {
    /// Whether traffic of a family can be told apart.
    pub fn detects(&self, family: IpFamily) -> bool {
        match self {
            Self::None => false,
            Self::Cidrs(cidrs) => cidrs.iter().any(|net| IpFamily::of(net.addr()) == family),
            Self::Bridge(_) | Self::InterfacePrefix(_) => true,
        }
    }

    /// Whether a packet with this source that came in from an interface is a pod's. `None` is a packet that the node itself made.
    pub fn is_pod(&self, source: IpAddr, interface: Option<InterfaceName>) -> bool {
        match self {
            Self::None => false,
            Self::Cidrs(cidrs) => cidrs.iter().any(|net| net.contains(&source)),
            Self::Bridge(bridge) => interface == Some(*bridge),
            Self::InterfacePrefix(prefix) => {
                interface.is_some_and(|name| name.as_str().starts_with(prefix.as_str()))
            }
        }
    }
}
