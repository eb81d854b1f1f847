//! The maps and chains that Services share.

use core::fmt;
use core::net::IpAddr;

use super::{Kind, family_str};
use crate::net::{IpFamily, Protocol};
use crate::rules::Text;

/// A map or set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Map {
    /// All cluster IPs.
    ClusterIps,
    /// Addresses of load balancers that have source ranges.
    Firewalled,
    /// And those ranges.
    SourceRanges,
    /// Endpoints that may call themselves through this node.
    Hairpin,
    /// Where each frontend leads.
    Services(At),
    /// The same under the external policy Local, for pods and the node itself.
    Inside(At),
    /// And for everybody else.
    Outside(At),
    /// What is refused for want of endpoints.
    Refused(At),
    /// The endpoints of a transport's ports with so many slots.
    Slots(Side, At, Protocol, u32),
}

/// Where frontends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// At an address.
    Ip,
    /// At those of the node.
    Node,
}

/// Of two sets of endpoints that one frontend may have, which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// The one for most.
    Main,
    /// Those on the node, for who comes from elsewhere.
    Local,
}

impl Side {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Local => "local-",
        }
    }
}

impl At {
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Ip => "",
            Self::Node => "node-",
        }
    }

    /// What frontends are found by.
    pub(super) const fn key(self, family: IpFamily) -> &'static str {
        match (self, family) {
            (Self::Ip, IpFamily::V4) => "ip daddr . meta l4proto . th dport",
            (Self::Ip, IpFamily::V6) => "ip6 daddr . meta l4proto . th dport",
            (Self::Node, _) => "meta l4proto . th dport",
        }
    }

    /// The same, of one transport.
    pub(super) fn port_key(
        self,
        text: &mut Text,
        protocol: Protocol,
        family: IpFamily,
    ) -> &mut Text {
        if self == Self::Ip {
            text.str(family_str(family)).str(" daddr . ");
        }
        text.str(protocol.as_lower_str()).str(" dport")
    }
}

impl Map {
    /// Those that are always there.
    pub(super) const FIXED: [Self; 12] = [
        Self::ClusterIps,
        Self::Firewalled,
        Self::SourceRanges,
        Self::Hairpin,
        Self::Services(At::Ip),
        Self::Services(At::Node),
        Self::Inside(At::Ip),
        Self::Inside(At::Node),
        Self::Outside(At::Ip),
        Self::Outside(At::Node),
        Self::Refused(At::Ip),
        Self::Refused(At::Node),
    ];

    pub(super) const fn is_fixed(self) -> bool {
        !matches!(self, Self::Slots(..))
    }

    /// Whether several Services may have the same element.
    pub(super) const fn is_shared(self) -> bool {
        matches!(self, Self::ClusterIps | Self::Hairpin)
    }

    /// Such an element for an address.
    pub(super) fn shared_key(self, text: &mut Text, ip: IpAddr) {
        text.ip(ip);
        if self == Self::Hairpin {
            text.str(" . ").ip(ip);
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::ClusterIps | Self::Firewalled | Self::SourceRanges | Self::Hairpin => Kind::Set,
            _ => Kind::Map,
        }
    }

    /// Its type, a line each for what has to be said.
    pub(super) fn spec(self, text: &mut Text, family: IpFamily) {
        let ip = family_str(family);
        text.str("typeof ");
        match self {
            Self::ClusterIps => text.str(ip).str(" daddr"),
            Self::Firewalled => text.str(At::Ip.key(family)),
            Self::SourceRanges => {
                text.str(At::Ip.key(family)).str(" . ").str(ip).str(" saddr\nflags interval")
            }
            Self::Hairpin => text.str(ip).str(" saddr . ").str(ip).str(" daddr"),
            Self::Services(at) | Self::Inside(at) | Self::Outside(at) | Self::Refused(at) => {
                text.str(at.key(family)).str(" : verdict")
            }
            // Of one transport: nft 1.0.6 cannot read an endpoint of any, `th dport`, back from the kernel, and then refuses rules that
            // refer to the map.
            Self::Slots(_, at, protocol, slots) => {
                at.port_key(text, protocol, family).str(" . numgen random mod ").number(slots);
                text.str(" : ").str(ip).str(" daddr . ").str(protocol.as_lower_str()).str(" dport")
            }
        };
        text.str("\n");
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIps => f.write_str("cluster-ips"),
            Self::Firewalled => f.write_str("firewalled"),
            Self::SourceRanges => f.write_str("source-ranges"),
            Self::Hairpin => f.write_str("hairpin"),
            Self::Services(at) => write!(f, "{}services", at.prefix()),
            Self::Inside(at) => write!(f, "{}inside", at.prefix()),
            Self::Outside(at) => write!(f, "{}outside", at.prefix()),
            Self::Refused(at) => write!(f, "{}refused", at.prefix()),
            Self::Slots(side, at, protocol, slots) => {
                let (at, side) = (at.prefix(), side.prefix());
                write!(f, "{at}{side}slots-{}-{slots}", protocol.as_lower_str())
            }
        }
    }
}

/// The chain of all ports of a transport with so many slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    pub(super) masquerade: Masquerade,
    pub(super) side: Side,
    pub(super) at: At,
    pub(super) protocol: Protocol,
    /// The client's address says which slot.
    pub(super) hashed: bool,
    pub(super) slots: u32,
}

/// Who gets the node's address as source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Masquerade {
    Nobody,
    Everybody,
    /// All but pods.
    Others,
    /// The node itself.
    Node,
}

impl Masquerade {
    /// By whether pods, the node and others are masqueraded.
    pub(super) const fn of(pod: bool, node: bool, elsewhere: bool) -> Self {
        match (pod, node, elsewhere) {
            (true, _, _) => Self::Everybody,
            (false, _, true) => Self::Others,
            (false, true, false) => Self::Node,
            (false, false, false) => Self::Nobody,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "plain",
            Self::Everybody => "masqueraded",
            Self::Others => "cluster",
            Self::Node => "own",
        }
    }

    /// Marks packets, if any.
    pub(super) fn rule(self, rules: &mut Text) {
        rules.str(match self {
            Self::Nobody => "",
            Self::Everybody => "jump mark-for-masquerade\n",
            Self::Others => "jump mark-others\n",
            Self::Node => "jump mark-own\n",
        });
    }
}

impl Class {
    /// Where its rule finds endpoints.
    pub(super) const fn map(self) -> Map {
        Map::Slots(self.side, self.at, self.protocol, self.slots)
    }

    /// The rules, one a line.
    pub(super) fn rules(self, family: IpFamily) -> Text {
        let ip = family_str(family);
        let mut rules = Text::default();
        self.masquerade.rule(&mut rules);
        rules.str("dnat ").str(ip).str(" to ");
        self.at.port_key(&mut rules, self.protocol, family).str(" . ");
        if self.hashed {
            rules.str("jhash ").str(ip).str(" saddr mod ").number(self.slots).str(" seed 0x1");
        } else {
            rules.str("numgen random mod ").number(self.slots);
        }
        rules.str(" map @").display(self.map()).str("\n");
        rules
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hashed = if self.hashed { "hash-" } else { "" };
        let (at, side) = (self.at.prefix(), self.side.prefix());
        let (masquerade, protocol) = (self.masquerade.as_str(), self.protocol.as_lower_str());
        write!(f, "{at}{side}{masquerade}-{hashed}{protocol}-{}", self.slots)
    }
}
