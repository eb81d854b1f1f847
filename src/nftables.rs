//! [`compile`]: a plan as an nftables ruleset, and [`delta`]: what of it changes.
//!
//! ```
//! use svcplane::nftables::{self, Config};
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
//! let config = Config::default();
//! let empty = Plan::empty(node.clone(), Mode::Nftables);
//! let script = nftables::compile(&empty, &config);
//! assert!(script.contains("table ip svcplane")); // for `nft -f -`, as one transaction
//!
//! let plan = Plan::new(&node, Mode::Nftables, [(&service, &endpoints)]);
//! let delta = nftables::delta(&plan, &Plan::diff(&empty, &plan), &config);
//! assert!(delta.script.contains("add element ip svcplane services { 10.96.0.10 . tcp . 6379 : goto plain-tcp-1 }"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Layout.** What the kernel needs to commit a ruleset follows the number of chains, rules and maps, not that of elements. So the default
//! layout, [`Layout::Flat`], has few of the former: the map `services` leads from an address, transport and port to a chain for all ports of the
//! transport with as many endpoints, which has one rule: a slot, drawn at random, leads through the map `slots-tcp-N` to the endpoint. Endpoints of
//! equal weight get exactly equal parts; of other weights too, or at most a fiftieth of the connections goes elsewhere than they say. A port with
//! affinity has a chain and a map of its clients. [`Layout::Chains`] has a chain for each port and each endpoint, as kube-proxy has it.
//!
//! **Change.** What is written for a Service is a function of its present plan, and each script is one transaction: no packet sees a part of it, and
//! what a delta leaves behind is what a full script would have written. Only chains and maps that nothing refers to any more
//! stay at first: kernels before 6.2 refuse to delete a chain together with what led to it. [`Delta::leftovers`] names them for [`sweep`], a
//! second or more later.
//!
//! **Affinity.** A client's endpoint is kept in a map with a timeout that starts again with each new connection. It is a pin on an endpoint, not on a
//! slot: other endpoints that come and go move nobody, and a pin on an endpoint that has gone is drawn anew with the next
//! connection. While the map is full, new clients go anywhere. The endpoint is kept in the packet's priority while the rules run, which
//! the first packet of a connection loses. With [`ClientAffinity::Hashed`] nothing is kept: the client's address says where it goes.
//!
//! The plan has to be one of [`Mode::Nftables`](crate::plan::Mode::Nftables); of another it is as much as rules can say. The
//! scripts need nft 1.0.6 and Linux 5.13, and touch only the tables of the [configured name](Config::table).
//!
//! Source: kube-proxy's nftables mode, whose flow through the hooks this is.
//!
//! **Cost.** [`compile`] is O(n log n) in endpoints, and so is [`sweep`]; [`delta`] is in the endpoints of the Services that changed.

mod affinity;
mod base;
mod chains;
mod flat;
mod object;
mod parts;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use thiserror::Error;

use crate::backend::Backend;
use crate::net::IpFamily;
use crate::plan::{Changes, Plan, PortPlan, ServicePlan};
use crate::rules::{Slots, Text};
use object::{Class, Map};
use parts::Parts;

/// How rules are written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The name of the tables, one in the family `ip` and one in `ip6`. Defaults to `svcplane`.
    pub table: TableName,
    /// How they are laid out. Defaults to flat.
    pub layout: Layout,
    /// How a client keeps to its endpoint. Defaults to stateful.
    pub affinity: ClientAffinity,
    /// How many clients of one port are remembered at a time, at least 1. Defaults to 65,536.
    pub clients: u32,
    /// The bit, 0 to 31, of a packet's mark that says that it is to be masqueraded. Defaults to 14, as in kube-proxy.
    pub masquerade_bit: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            table: TableName("svcplane".into()),
            layout: Layout::Flat,
            affinity: ClientAffinity::Stateful,
            clients: 65_536,
            masquerade_bit: 14,
        }
    }
}

impl Config {
    const fn mark(&self) -> u32 {
        1 << (self.masquerade_bit % 32)
    }
}

/// How rules are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// Maps for all Services and a chain for each number of endpoints.
    #[default]
    Flat,
    /// A chain for each port and each endpoint.
    Chains,
}

/// How a client keeps to its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientAffinity {
    /// Its endpoint is remembered until the timeout after its last new connection.
    #[default]
    Stateful,
    /// Its address says which endpoint. No timeout, nothing to remember; most clients move when endpoints come and go. In
    /// [`Layout::Flat`] only.
    Hashed,
}

/// The name of tables: 1 to 32 letters, digits, `-` and `_`, a letter first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName(Box<str>);

impl TableName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The text is not the name of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected the name of a table: 1 to 32 letters, digits, - and _, a letter first")]
#[non_exhaustive]
pub struct ParseTableNameError;

impl FromStr for TableName {
    type Err = ParseTableNameError;

    fn from_str(text: &str) -> Result<Self, ParseTableNameError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let well_formed = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if !well_formed || text.len() > 32 || !text.chars().all(legal) {
            return Err(ParseTableNameError);
        }
        Ok(Self(text.into()))
    }
}

/// What leads from the rules for one plan to those for another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delta {
    /// One transaction for `nft -f -`; empty if no rule changes.
    pub script: String,
    /// What the script left without use, for a later [`sweep`]. Whoever loads a full script forgets what it has of these.
    pub leftovers: Vec<Leftover>,
}

/// A chain or map that nothing may refer to any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    family: IpFamily,
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Chain,
    Map,
    Set,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Map => "map",
            Self::Set => "set",
        }
    }
}

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

const fn family_str(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    }
}

/// A script that puts the rules for a plan in the place of whatever is in the tables, as one transaction. Clients' affinity is
/// lost.
///
/// Cost: O(n log n) in endpoints.
pub fn compile(plan: &Plan, config: &Config) -> String {
    let mut script = Text::default();
    for family in FAMILIES {
        let mut written = Whole::default();
        for service in plan.services() {
            write_service(&mut written, config, service, family);
        }
        replace_table(&mut script, config, family);
        script
            .str("table ")
            .str(family_str(family))
            .str(" ")
            .str(config.table.as_str())
            .str(" {\n");
        base::declare(&mut script, plan, config, family);
        written.write_to(&mut script, family);
        script.str("}\n");
    }
    script.into_string()
}

/// A script that removes everything that [`compile`] and [`delta`] have written under a configuration's name, if anything.
pub fn remove(config: &Config) -> String {
    let mut script = Text::default();
    for family in FAMILIES {
        replace_table(&mut script, config, family);
    }
    script.into_string()
}

fn replace_table(script: &mut Text, config: &Config, family: IpFamily) {
    // Adding makes sure that there is something to delete.
    for verb in ["add table ", "delete table "] {
        script.str(verb).str(family_str(family)).str(" ").str(config.table.as_str()).str("\n");
    }
}

/// A script that leads from the rules for the plan before some changes to those for the plan after them, which is given: one
/// transaction, whose length is that of what these Services have in the rules. If the node itself has changed it is a full one.
///
/// ```
/// # use svcplane::nftables::{self, Config};
/// # use svcplane::plan::{Changes, LocalNode, Mode, Plan};
/// # let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Nftables);
/// let delta = nftables::delta(&plan, &Changes::default(), &Config::default());
/// assert!(delta.script.is_empty());
/// # Ok::<(), svcplane::name::NameError>(())
/// ```
pub fn delta(plan: &Plan, changes: &Changes, config: &Config) -> Delta {
    if changes.concerns_node() {
        return Delta { script: compile(plan, config), leftovers: Vec::new() };
    }
    let mut script = Text::default();
    let mut leftovers = Vec::new();
    for family in FAMILIES {
        let (mut before, mut after) = (Parts::default(), Parts::default());
        for (_, change) in changes.services() {
            if let Some(service) = &change.before {
                write_service(&mut before, config, service, family);
            }
            if let Some(service) = &change.after {
                write_service(&mut after, config, service, family);
            }
        }
        before.keep_shared(&after, plan);
        parts::write_delta(&mut script, &mut leftovers, config, family, &before, &after);
    }
    leftovers.sort_unstable();
    leftovers.dedup();
    Delta { script: script.into_string(), leftovers }
}

/// A script that deletes those leftovers that a plan has no use for, a second or more after the deltas that left them behind;
/// empty if it has use for all. The plan has to be that of the rules that are loaded.
pub fn sweep(plan: &Plan, config: &Config, leftovers: &[Leftover]) -> String {
    let mut script = Text::default();
    for family in FAMILIES {
        let mut used = Parts::default();
        for service in plan.services() {
            write_service(&mut used, config, service, family);
        }
        let used = used.names();
        let mut unused: Vec<&Leftover> = leftovers
            .iter()
            .filter(|old| old.family == family && !used.contains(&(old.kind, old.name.clone())))
            .collect();
        // Chains first, as they refer to maps.
        unused.sort_unstable();
        unused.dedup();
        for Leftover { kind, name, .. } in &unused {
            if *kind == Kind::Chain {
                command(&mut script, "flush", *kind, config, family, name).str("\n");
            }
        }
        for Leftover { kind, name, .. } in unused {
            command(&mut script, "delete", *kind, config, family, name).str("\n");
        }
    }
    script.into_string()
}

fn command<'a>(
    script: &'a mut Text,
    verb: &str,
    kind: Kind,
    config: &Config,
    family: IpFamily,
    name: &str,
) -> &'a mut Text {
    script.str(verb).str(" ").str(kind.as_str()).str(" ").str(family_str(family));
    script.str(" ").str(config.table.as_str()).str(" ").str(name)
}

fn write_service(sink: &mut impl Sink, config: &Config, service: &ServicePlan, family: IpFamily) {
    for &ip in service.cluster_ips.iter().filter(|&&ip| IpFamily::of(ip) == family) {
        sink.shared(Map::ClusterIps, ip);
    }
    for port in service.ports.iter().filter(|port| port.family == family) {
        write_port(sink, config, port);
    }
}

fn write_port(sink: &mut impl Sink, config: &Config, port: &PortPlan) {
    match config.layout {
        Layout::Flat => flat::write_port(sink, config, port),
        Layout::Chains => chains::write_port(sink, config, port),
    }
}

/// Takes what is written for a port.
trait Sink {
    /// An element of a map or set; a set has no values.
    fn element(&mut self, map: Map, key: impl FnOnce(&mut Text), value: impl FnOnce(&mut Text));

    /// An element of a set of addresses that several Services may have.
    fn shared(&mut self, map: Map, ip: IpAddr);

    /// Where each slot of a frontend leads.
    fn slots(&mut self, map: Map, key: &Text, slots: &Slots, backends: &[Backend]);

    /// A chain that ports share.
    fn class(&mut self, class: Class);

    /// A chain of the port's own, with its rules, one a line.
    fn chain(&mut self, name: String, rules: Text);

    /// A map or set of the port's own that fills by itself.
    fn dynamic(&mut self, kind: Kind, name: String, spec: Text);
}

/// All that is in a table beside the base chains.
#[derive(Default)]
struct Whole {
    elements: BTreeMap<Map, Text>,
    /// What several Services may have: cluster IPs, and endpoints that may call themselves.
    cluster_ips: Vec<IpAddr>,
    hairpin: Vec<IpAddr>,
    classes: BTreeSet<Class>,
    chains: BTreeMap<String, Text>,
    dynamic: BTreeMap<String, (Kind, Text)>,
}

impl Sink for Whole {
    #[inline]
    fn element(&mut self, map: Map, key: impl FnOnce(&mut Text), value: impl FnOnce(&mut Text)) {
        let text = self.elements.entry(map).or_default();
        text.str(if text.is_empty() { "" } else { ",\n" });
        key(text);
        if map.kind() == Kind::Map {
            value(text.str(" : "));
        }
    }

    fn shared(&mut self, map: Map, ip: IpAddr) {
        match map {
            Map::ClusterIps => self.cluster_ips.push(ip),
            _ => self.hairpin.push(ip),
        }
    }

    #[inline]
    fn slots(&mut self, map: Map, key: &Text, slots: &Slots, backends: &[Backend]) {
        let text = self.elements.entry(map).or_default();
        for (slot, place) in slots.iter() {
            text.str(if text.is_empty() { "" } else { ",\n" });
            text.slot(key, slot, backends[place].addr);
        }
    }

    fn class(&mut self, class: Class) {
        self.classes.insert(class);
    }

    fn chain(&mut self, name: String, rules: Text) {
        self.chains.insert(name, rules);
    }

    fn dynamic(&mut self, kind: Kind, name: String, spec: Text) {
        self.dynamic.insert(name, (kind, spec));
    }
}

impl Whole {
    fn write_to(&mut self, script: &mut Text, family: IpFamily) {
        for map in Map::FIXED {
            self.elements.entry(map).or_default();
        }
        for (map, ips) in
            [(Map::ClusterIps, &mut self.cluster_ips), (Map::Hairpin, &mut self.hairpin)]
        {
            ips.sort_unstable_by_key(|&ip| as_number(ip));
            ips.dedup();
            let text = self.elements.entry(map).or_default();
            for &ip in &*ips {
                map.shared_key(text.str(if text.is_empty() { "" } else { ",\n" }), ip);
            }
        }
        for (map, elements) in &self.elements {
            script.str(map.kind().as_str()).str(" ").display(map).str(" {\n");
            map.spec(script, family);
            if !elements.is_empty() {
                script.str("elements = { ").text(elements).str(" }\n");
            }
            script.str("}\n");
        }
        for (name, (kind, spec)) in &self.dynamic {
            script.str(kind.as_str()).str(" ").str(name).str(" {\n").text(spec).str("}\n");
        }
        for class in &self.classes {
            script.str("chain ").display(class).str(" {\n");
            script.text(&class.rules(family)).str("}\n");
        }
        for (name, rules) in &self.chains {
            script.str("chain ").str(name).str(" {\n").text(rules).str("}\n");
        }
    }
}

fn as_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
