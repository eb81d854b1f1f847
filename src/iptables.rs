//! [`compile`]: a plan as input for `iptables-restore`, and [`delta`]: what of it changes.
//!
//! ```
//! use svcplane::iptables::{self, Config};
//! use svcplane::net::IpFamily;
//! use svcplane::plan::{LocalNode, Mode, Plan};
//! # use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
//! # use svcplane::name::ObjectName;
//! # use svcplane::service::{ClusterIps, Service, ServicePort};
//! # let mut service = Service::new(ObjectName::new("default", "redis")?);
//! # service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.10".parse()?]);
//! # service.ports = vec![ServicePort::new(6379)];
//! # let mut endpoint = Endpoint::new("10.0.0.7".parse()?);
//! # endpoint.ports = [EndpointPort::new(6379)].into();
//! # let endpoints = EndpointSet::new(service.name.clone(), [endpoint]);
//!
//! let node = LocalNode::new("node-1".parse()?);
//! let plan = Plan::new(&node, Mode::Iptables, [(&service, &endpoints)]);
//! let config = Config::default();
//! // For `iptables-restore --noflush --wait`; the rules that lead there are `iptables::jumps`.
//! let input = iptables::compile(&plan, IpFamily::V4, &config);
//! assert!(input.contains("-d 10.96.0.10 --dport 6379 -j SVCP-SVC-"));
//!
//! // Later one endpoint has gone: only its port's chains are written.
//! let without = EndpointSet::new(service.name.clone(), []);
//! let next = Plan::new(&node, Mode::Iptables, [(&service, &without)]);
//! let input = iptables::delta(&next, &Plan::diff(&plan, &next), IpFamily::V4, &config);
//! assert!(input.contains("\n-X SVCP-SEP-"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Layout.** Names of chains, and what they do, are kube-proxy's under a [prefix](Config::prefix) of one's own: with the prefix `KUBE` they are
//! the very same, and two writers of those on one host would fight. A chain `…-SVC-…` draws one of a port's endpoints, with
//! equal probabilities, `…-SVL-…` one on this node, `…-EXT-…` decides for whom which, `…-FW-…` holds the source ranges, `…-SEP-…` translates. How a
//! packet finds the chain of its port is the choice of a [`Layout`].
//!
//! **Change.** With `--noflush`, a chain that is named is emptied and filled anew, and others stay: a [`delta`] names the chains that changed, and
//! deletes what nothing leads to any more. Each of the two tables is committed at once.
//!
//! **Cost.** [`compile`] is linear in frontends and endpoints. A [`delta`] takes the time of the Services that changed and, in the tree, of the few
//! ranges around their addresses. The kernel's part is another matter: the legacy variant of iptables replaces its whole table for any change.
//!
//! **Affinity** is kept by the match `recent`, per endpoint, by each client's address; all addresses of a port share it. The kernel
//! module `xt_recent` remembers 100 addresses for each endpoint unless it is loaded with another `ip_list_tot`; the client that was seen
//! least recently makes room, and may go elsewhere next time. `kernel::Iptables::remembered_clients` says how many it is.
//!
//! `DIFFERENCE`: a node port is refused only where it is taken; kube-proxy refuses it at every address of the node. The node itself
//! is refused at external addresses, too. An address that is a Service's as well as the node's has no node ports, also without
//! endpoints. What is translated is not refused for where it goes. Weights other than equal ones are heeded.
//!
//! Source: kube-proxy's iptables mode, about 1.33.

mod beside;
mod chains;
mod filter;
mod nat;
mod saved;
mod shared;
mod tree;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::net::IpFamily;
use crate::plan::{Changes, Plan};
use crate::rules::Text;
pub use crate::rules::{ParsePrefixError, Prefix};
use chains::{ChainName, Chains};
use nat::Pods;
use shared::{Scope, Tables};

/// How rules are written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// What the names of chains begin with. Defaults to `SVCP`.
    pub prefix: Prefix,
    /// How packets find their Service. Defaults to [`Layout::Tree`].
    pub layout: Layout,
    /// The bit, 0 to 31, of a packet's mark that says that it is to be masqueraded. Defaults to 14, as in kube-proxy.
    pub masquerade_bit: u8,
    /// The bit of a packet's mark that says that it is to be refused, in the layout [`Tree`](Layout::Tree). Defaults to 15. Where
    /// it is the other bit as well, the next one is used.
    pub refuse_bit: u8,
    /// Whether masqueraded connections get random ports, which iptables from 1.6.2 on can do. Defaults to true.
    pub random_fully: bool,
    /// Whether forwarded packets that belong to no connection are dropped. They would not be translated back, and a client's reset
    /// would end a good connection. Not needed where the sysctl `nf_conntrack_tcp_be_liberal` is on. Defaults to true.
    pub drop_invalid: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: Prefix::default(),
            layout: Layout::Tree,
            masquerade_bit: 14,
            refuse_bit: 15,
            random_fully: true,
            drop_invalid: true,
        }
    }
}

impl Config {
    const fn mark(&self) -> u32 {
        1 << (self.masquerade_bit % 32)
    }

    const fn refused(&self) -> u32 {
        let refused = 1_u32 << (self.refuse_bit % 32);
        if refused == self.mark() { refused.rotate_left(1) } else { refused }
    }

    /// The mark of what is to be rejected. No refused packet is masqueraded, so that the bit for it is free to tell the two apart.
    fn reject(&self) -> Mark {
        Mark { value: self.refused(), mask: self.refused() | self.mark() }
    }

    fn drop(&self) -> Mark {
        Mark { value: self.refused() | self.mark(), mask: self.refused() | self.mark() }
    }

    fn chain(&self, kind: &str) -> ChainName {
        ChainName::new(&self.prefix, kind, b"")
    }
}

struct Mark {
    value: u32,
    mask: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}/{:#010x}", self.value, self.mask)
    }
}

/// How packets find their Service.
///
/// | | linear | tree |
/// | --- | --- | --- |
/// | a connection's first packet | is compared with every frontend | with some 40 rules, whatever the number of frontends |
/// | a change of endpoints writes | the chains of the port | the same |
/// | a change of frontends writes | the chains of all frontends | the few chains near its address |
/// | what is refused | is told by its address in `filter` | is marked in `nat`, and refused by its mark in `filter` |
///
/// `DIFFERENCE`: packets are marked by rules that see the first packet of a connection. In the tree, a flow that was let through
/// untranslated, before there was a Service at its destination, and that nobody answers, is not refused until the kernel forgets
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// One chain of all frontends, as in kube-proxy.
    Linear,
    /// Chains by the digits of the destination's address, transport and port: each leads on to at most 16 others, or to at most 16
    /// frontends.
    #[default]
    Tree,
}

/// A rule in a built-in chain that leads to ours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Jump {
    /// `filter`, `nat` or `mangle`.
    pub table: &'static str,
    /// The built-in chain.
    pub chain: &'static str,
    /// The rule, as arguments: to be looked for with `-C`, and inserted with `-I` if it is not there.
    pub rule: Vec<String>,
}

/// The rules that lead to our chains, in the order in which they are to be inserted, each before the last, once the
/// chains are there. [`replace`] inserts them.
pub fn jumps(plan: &Plan, family: IpFamily, config: &Config) -> Vec<Jump> {
    const NEW: &[&str] = &["-m", "conntrack", "--ctstate", "NEW"];
    let mut jumps = Vec::new();
    let mut jump = |table, chain, matches: &[&str], to: &str| {
        let mut rule: Vec<String> = matches.iter().map(ToString::to_string).collect();
        rule.extend(["-j".to_string(), alloc::format!("{}-{to}", config.prefix)]);
        jumps.push(Jump { table, chain, rule });
    };
    jump("filter", "INPUT", NEW, "EXTERNAL-SERVICES");
    jump("filter", "FORWARD", NEW, "EXTERNAL-SERVICES");
    jump("filter", "OUTPUT", NEW, "EXTERNAL-SERVICES");
    jump("filter", "INPUT", &[], "NODEPORTS");
    jump("filter", "FORWARD", NEW, "SERVICES");
    jump("filter", "OUTPUT", NEW, "SERVICES");
    jump("filter", "FORWARD", &[], "FORWARD");
    for chain in ["INPUT", "OUTPUT", "FORWARD"] {
        jump("filter", chain, NEW, "PROXY-FIREWALL");
    }
    jump("nat", "OUTPUT", &[], "SERVICES");
    jump("nat", "PREROUTING", &[], "SERVICES");
    jump("nat", "POSTROUTING", &[], "POSTROUTING");
    if filter::guards_loopback(plan, family) {
        jump("filter", "INPUT", &[], "FIREWALL");
        jump("filter", "OUTPUT", &[], "FIREWALL");
    }
    jumps
}

/// Whether the sysctl `net/ipv4/conf/all/route_localnet` has to be 1, so that IPv4's loopback addresses can have node ports. The
/// rules then keep other machines from those addresses.
pub fn needs_route_localnet(plan: &Plan) -> bool {
    filter::guards_loopback(plan, IpFamily::V4)
}

/// Input for `iptables-restore --noflush`, or for `ip6tables-restore`: all chains that there are, filled anew.
///
/// Chains that an earlier run left behind stay, and nothing leads to them any more; [`replace`] deletes them.
pub fn compile(plan: &Plan, family: IpFamily, config: &Config) -> String {
    whole(plan, family, config).into_input()
}

/// The same as [`compile`], with the rules that lead to our chains, the [`jumps`], and without what was left behind: chains of ours
/// that are no more are deleted, with all rules that lead to them.
///
/// `saved` is what `iptables-save`, or `ip6tables-save`, prints. Of that, lines that begin with a colon or an asterisk, or that
/// name our [prefix](Config::prefix), are enough.
pub fn replace(plan: &Plan, family: IpFamily, config: &Config, saved: &str) -> String {
    let mut tables = whole(plan, family, config);
    let jumps = jumps(plan, family, config);
    tables.settle(saved, &jumps, config);
    tables.into_input()
}

/// Input that puts the rules that go with IPVS in the place of whatever rules there are under the prefix: they go by the sets of
/// `ipvs::Sets`, which have to be there, and change with the node alone. `saved` is as for [`replace`].
///
/// Packets are marked for masquerading on their way to IPVS, those outside of source ranges dropped, those to other ports of
/// virtual servers' addresses rejected, health checks let in.
///
/// Source: kube-proxy's ipvs mode. `DIFFERENCE`: sets are by what is done, not by the kinds of addresses; what the node itself
/// sends outside of source ranges is dropped before IPVS has it, in the table `mangle`, not behind.
pub fn beside_ipvs(plan: &Plan, family: IpFamily, config: &Config, saved: &str) -> String {
    let (mut tables, jumps) = beside::rules(plan, family, config);
    tables.settle(saved, &jumps, config);
    tables.into_input()
}

/// Input that deletes all chains of ours and all rules that lead to them; empty if there are none. `saved` is as for [`replace`].
pub fn remove(config: &Config, saved: &str) -> String {
    let mut tables = Tables::default();
    tables.settle(saved, &[], config);
    tables.into_input()
}

fn whole(plan: &Plan, family: IpFamily, config: &Config) -> Tables {
    let mut tables = Tables::default();
    let pods = Pods::of(plan, family, config);
    filter::write_fixed(&mut tables.filter.chains, plan, family, config);
    nat::write_fixed(&mut tables.nat.chains, plan, family, config);
    Scope { plan, family, config }.write_all(&mut tables);
    for port in plan.ports().filter(|port| port.family == family) {
        nat::write_port(&mut tables.nat.chains, config, &pods, port);
    }
    tables
}

/// Input that leads from the rules for the plan before some changes to those for the plan after them, which is given; empty if
/// nothing changes in this family.
///
/// If the [node](Changes::concerns_node) is another, it writes all anew, and there may be other [`jumps`]. In the
/// [linear](Layout::Linear) layout, what changes a frontend writes the chain of all of them anew: a line or two for each. In the
/// [tree](Layout::Tree) its length is that of the change.
pub fn delta(plan: &Plan, changes: &Changes, family: IpFamily, config: &Config) -> String {
    if changes.concerns_node() {
        let mut before = plan.clone();
        before.apply(&changes.reversed());
        let mut tables = whole(plan, family, config);
        tables.bury(&whole(&before, family, config));
        return tables.into_input();
    }
    let mut tables = Tables::default();
    let pods = Pods::of(plan, family, config);
    let (mut before, mut after) = (Chains::default(), Chains::default());
    for (_, change) in changes.services() {
        for (service, chains) in [(&change.before, &mut before), (&change.after, &mut after)] {
            let ports = service.iter().flat_map(|service| &service.ports);
            for port in ports.filter(|port| port.family == family) {
                nat::write_port(chains, config, &pods, port);
            }
        }
    }
    Scope { plan, family, config }.write_changed(changes, &mut tables);
    tables.nat.change(&before, &after);
    tables.into_input()
}

impl Tables {
    /// Deletes the chains that were there before and are no more.
    fn bury(&mut self, before: &Self) {
        self.filter.bury(&before.filter.chains);
        self.nat.bury(&before.nat.chains);
    }

    fn settle(&mut self, saved: &str, jumps: &[Jump], config: &Config) {
        self.filter.settle(saved, "filter", jumps, &config.prefix);
        self.nat.settle(saved, "nat", jumps, &config.prefix);
        self.mangle.settle(saved, "mangle", jumps, &config.prefix);
    }

    fn into_input(self) -> String {
        let input = self.mangle.write("mangle", Text::default());
        self.nat.write("nat", self.filter.write("filter", input)).into_string()
    }
}
