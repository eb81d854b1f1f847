//! A node, its pods, and the rest of the world.
//!
//! ```text
//!   pods ── eth0 ······ cni0 ── node ── eth0 ······ eth0 ── world
//! ```
//!
//! The node is the kernel under test and routes between the other two. These hold any number of addresses, all of which speak to each other
//! through the node only, also within one of them: what they send goes to the node by a rule that comes before the table of local addresses. So any
//! source and any destination is real, a pod that calls itself included.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use super::netns::Netns;

/// Which addresses are where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    /// The node's own; the loopback ones need not be listed. What is masqueraded gets the first of its family.
    pub(crate) node: Vec<IpAddr>,
    pub(crate) pods: BTreeSet<IpAddr>,
    pub(crate) world: BTreeSet<IpAddr>,
    /// Those that the node gets with the rules.
    pub(crate) virtual_ips: BTreeSet<IpAddr>,
}

pub(crate) struct Topology {
    pub(crate) node: Netns,
    pub(crate) pods: Netns,
    pub(crate) world: Netns,
    addresses: Addresses,
}

impl Topology {
    pub(crate) fn new(mut addresses: Addresses) -> Self {
        addresses.node.retain(|ip| !ip.is_loopback());
        addresses.virtual_ips.retain(|ip| !addresses.node.contains(ip));
        let own = addresses.node.iter().chain(&addresses.virtual_ips);
        let own: BTreeSet<IpAddr> = own.copied().collect();
        addresses.pods.retain(|ip| !ip.is_loopback() && !own.contains(ip));
        let pods = addresses.pods.clone();
        addresses.world.retain(|ip| !ip.is_loopback() && !own.contains(ip) && !pods.contains(ip));
        let [node, pods, world] = ["node", "pods", "world"].map(Netns::new);
        let topology = Self { node, pods, world, addresses };
        topology.set_parameters();
        topology.connect();
        topology
    }

    /// Who has an address.
    pub(crate) fn home(&self, ip: IpAddr) -> &Netns {
        if self.is_node(ip) || self.addresses.virtual_ips.contains(&ip) {
            &self.node
        } else if self.addresses.pods.contains(&ip) {
            &self.pods
        } else {
            assert!(self.addresses.world.contains(&ip), "{ip} is nowhere");
            &self.world
        }
    }

    pub(crate) fn is_node(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.node.contains(&ip)
    }

    fn set_parameters(&self) {
        // No addresses but those that are given.
        let everywhere = [("ipv6/conf/default/addr_gen_mode", "1")];
        // Errors are sent as often as they happen, and nobody is sent elsewhere.
        #[rustfmt::skip]
        let router = [
            ("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/icmp_ratelimit", "0"), ("ipv4/icmp_ratemask", "0"), ("ipv6/icmp/ratelimit", "0"), ("ipv6/icmp/ratemask", "255"),
            ("ipv4/conf/all/send_redirects", "0"), ("ipv4/conf/default/send_redirects", "0"),
            // Servers are there before the addresses that the node gets with the rules.
            ("ipv4/ip_nonlocal_bind", "1"), ("ipv6/ip_nonlocal_bind", "1"),
        ];
        // What comes from the node may have a source that is here.
        let edge = [("ipv4/conf/all/accept_local", "1")];
        self.node.set(&everywhere);
        self.node.set(&router);
        for one in [&self.pods, &self.world] {
            one.set(&everywhere);
            one.set(&edge);
        }
    }

    fn connect(&self) {
        let (mut v4, mut v6) = (String::from("link set lo up\n"), String::new());
        let sides = [("cni0", "01", &self.pods), ("eth0", "02", &self.world)];
        for (link, id, peer) in sides {
            let (near, far) = (format!("02:00:00:00:{id}:01"), format!("02:00:00:00:{id}:02"));
            let peer = peer.name();
            line(
                &mut v4,
                &format!(
                    "link add name {link} address {near} type veth peer name eth0 address {far} netns {peer}\n\
                     link set {link} up\n\
                     neigh add 169.254.0.2 lladdr {far} dev {link} nud permanent"
                ),
            );
            line(&mut v6, &format!("neigh add fe80::2 lladdr {far} dev {link} nud permanent"));
        }
        for ip in &self.addresses.node {
            let (to, rest) = by_family(*ip, &mut v4, &mut v6);
            line(to, &format!("addr add {ip}{rest} dev eth0"));
        }
        line(&mut v4, "route add default via 169.254.0.2 dev eth0 onlink");
        line(&mut v6, "route add default via fe80::2 dev eth0 onlink");
        for ip in &self.addresses.pods {
            let via = if ip.is_ipv4() { "169.254.0.2" } else { "fe80::2" };
            let (to, _) = by_family(*ip, &mut v4, &mut v6);
            line(to, &format!("route add {ip} via {via} dev cni0 onlink"));
        }
        self.node.configure(&v4, &v6);
        for (_, id, edge) in sides {
            let addresses = if id == "01" { &self.addresses.pods } else { &self.addresses.world };
            connect_edge(edge, id, addresses);
        }
    }
}

fn connect_edge(edge: &Netns, id: &str, addresses: &BTreeSet<IpAddr>) {
    let (mut v4, mut v6) = (String::from("link set lo up\nlink set eth0 up\n"), String::new());
    for ip in addresses {
        let (to, rest) = by_family(*ip, &mut v4, &mut v6);
        line(to, &format!("addr add {ip}{rest} dev lo"));
    }
    for (commands, node) in [(&mut v4, "169.254.0.1"), (&mut v6, "fe80::1")] {
        line(
            commands,
            &format!(
                "neigh add {node} lladdr 02:00:00:00:{id}:01 dev eth0 nud permanent\n\
                 route add default via {node} dev eth0 onlink table 50\n\
                 rule add pref 100 lookup local\n\
                 rule del pref 0\n\
                 rule add pref 50 iif lo lookup 50"
            ),
        );
    }
    edge.configure(&v4, &v6);
}

/// The commands of an address's family, and how the address ends in them. Without `nodad` one of IPv6 is not there at once.
fn by_family<'a>(
    ip: IpAddr,
    v4: &'a mut String,
    v6: &'a mut String,
) -> (&'a mut String, &'static str) {
    if ip.is_ipv4() { (v4, "/32") } else { (v6, "/128 nodad") }
}

fn line(commands: &mut String, line: &str) {
    writeln!(commands, "{line}").expect("a String");
}
