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
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Layout.** Chains, their order and their names are kube-proxy's under a [prefix](Config::prefix) of one's own: with the prefix `KUBE` they are
//! the very same, and two writers of those on one host would fight. A chain `…-SVC-…` draws one of a port's endpoints, with
//! equal probabilities, `…-SVL-…` one on this node, `…-EXT-…` decides for whom which, `…-FW-…` holds the source ranges, `…-SEP-…` translates.
//!
//! **Change.** With `--noflush`, a chain that is named is emptied and filled anew, and others stay: a [`delta`] names the chains through
//! which all packets go and those of the Services that changed, and deletes what nothing leads to any more. Each of the two tables is
//! committed at once.
//!
//! **Affinity** is kept by the match `recent`, per endpoint, by each client's address; all addresses of a port share it. The kernel
//! module `xt_recent` remembers 100 addresses for each endpoint unless it is loaded with another `ip_list_tot`; the client that was seen
//! least recently makes room, and may go elsewhere next time.
//!
//! `DIFFERENCE`: a node port is refused only where it is taken; kube-proxy refuses it at every address of the node. An address that is a Service's
//! as well as the node's has no node ports, also without endpoints. What is translated is not refused for where it goes. Weights other than equal ones are heeded.
//!
//! Source: kube-proxy's iptables mode, about 1.33.

mod filter;
mod nat;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use thiserror::Error;

use crate::net::IpFamily;
use crate::plan::{Changes, Plan, ServicePlan};
use crate::rules::Text;
use nat::Pods;

/// How rules are written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// What the names of chains begin with. Defaults to `SVCP`.
    pub prefix: Prefix,
    /// The bit, 0 to 31, of a packet's mark that says that it is to be masqueraded. Defaults to 14, as in kube-proxy.
    pub masquerade_bit: u8,
    /// Whether masqueraded connections get random ports, which iptables from 1.6.2 on can do. Defaults to true.
    pub random_fully: bool,
    /// Whether forwarded packets that belong to no connection are dropped. They would not be translated back, and a client's reset would end a
    /// good connection. Not needed where the sysctl `nf_conntrack_tcp_be_liberal` is on. Defaults to true.
    pub drop_invalid: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: Prefix("SVCP".into()),
            masquerade_bit: 14,
            random_fully: true,
            drop_invalid: true,
        }
    }
}

impl Config {
    const fn mark(&self) -> u32 {
        1 << (self.masquerade_bit % 32)
    }
}

/// What the names of chains begin with: 1 to 7 upper-case letters and digits, a letter first. The kernel takes names of 28 bytes, of which the
/// rest needs 21.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// The prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The text is no prefix of chain names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a prefix of chain names: 1 to 7 upper-case letters and digits, a letter first")]
#[non_exhaustive]
pub struct ParsePrefixError;

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let legal = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        let well_formed = text.starts_with(|c: char| c.is_ascii_uppercase());
        if !well_formed || text.len() > 7 || !text.chars().all(legal) {
            return Err(ParsePrefixError);
        }
        Ok(Self(text.into()))
    }
}

/// A rule in a built-in chain that leads to ours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Jump {
    /// `filter` or `nat`.
    pub table: &'static str,
    /// The built-in chain.
    pub chain: &'static str,
    /// The rule, as arguments: to be looked for with `-C`, and inserted with `-I` if it is not there.
    pub rule: Vec<String>,
}

/// The rules that lead to our chains, in the order in which they are to be inserted, each before the last, once the
/// chains are there.
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
/// Chains that an earlier run left behind stay, and nothing leads to them any more.
pub fn compile(plan: &Plan, family: IpFamily, config: &Config) -> String {
    let mut own = Own::default();
    let pods = Pods::of(plan, family, config);
    for service in plan.services() {
        own.write(config, &pods, service, family);
    }
    write(plan, family, config, &own, &BTreeSet::new())
}

/// Input that leads from the rules for the plan before some changes to those for the plan after them, which is given; empty if nothing
/// changes. The chains through which all packets go are among it whole: its length grows with the Services, by a line or two each.
pub fn delta(plan: &Plan, changes: &Changes, family: IpFamily, config: &Config) -> String {
    if changes.is_empty() {
        return String::new();
    }
    if changes.concerns_node() {
        return compile(plan, family, config);
    }
    let (mut before, mut after) = (Own::default(), Own::default());
    let pods = Pods::of(plan, family, config);
    for (_, change) in changes.services() {
        if let Some(service) = &change.before {
            before.write(config, &pods, service, family);
        }
        if let Some(service) = &change.after {
            after.write(config, &pods, service, family);
        }
    }
    let dead = before.chains.keys().filter(|name| !after.chains.contains_key(*name));
    let dead: BTreeSet<String> = dead.cloned().collect();
    after.chains.retain(|name, rules| before.chains.get(name) != Some(rules));
    write(plan, family, config, &after, &dead)
}

/// The chains that belong to ports.
#[derive(Default)]
struct Own {
    chains: BTreeMap<String, Text>,
}

impl Own {
    fn write(&mut self, config: &Config, pods: &Pods, service: &ServicePlan, family: IpFamily) {
        for port in service.ports.iter().filter(|port| port.family == family) {
            nat::write_port(&mut self.chains, config, pods, port);
        }
    }
}

fn write(
    plan: &Plan,
    family: IpFamily,
    config: &Config,
    own: &Own,
    dead: &BTreeSet<String>,
) -> String {
    let mut input = Text::default();
    let mut table = |name: &str, chains: &[(String, Text)]| {
        input.str("*").str(name).str("\n");
        for (chain, _) in chains {
            input.str(":").str(chain).str(" - [0:0]\n");
        }
        let own = own.chains.iter().filter(|_| name == "nat");
        let dead = dead.iter().filter(|_| name == "nat");
        for chain in own.clone().map(|(chain, _)| chain).chain(dead.clone()) {
            input.str(":").str(chain).str(" - [0:0]\n");
        }
        for (chain, rules) in chains.iter().map(|(a, b)| (a, b)).chain(own) {
            for rule in rules.as_str().lines() {
                input.str("-A ").str(chain).str(" ").str(rule).str("\n");
            }
        }
        for chain in dead {
            input.str("-X ").str(chain).str("\n");
        }
        input.str("COMMIT\n");
    };
    table("filter", &filter::chains(plan, family, config));
    table("nat", &nat::chains(plan, family, config));
    input.into_string()
}
