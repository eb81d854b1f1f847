//! The chains in which Services are told apart, in both layouts.

use alloc::collections::BTreeMap;

use super::chains::{Chains, Table};
use super::tree::{Changed, Claims, Range, Root};
use super::{Config, Layout, filter, nat};
use crate::net::IpFamily;
use crate::plan::{Changes, Claim, Frontend, Plan, PortPlan, ServicePlan};
use crate::rules::Hashes;

/// What chains are written for.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) plan: &'a Plan,
    pub(super) family: IpFamily,
    pub(super) config: &'a Config,
}

/// The tables.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) filter: Table,
    pub(super) nat: Table,
    pub(super) mangle: Table,
}

impl<'a> Scope<'a> {
    /// All of them.
    pub(super) fn write_all(self, tables: &mut Tables) {
        match self.config.layout {
            Layout::Linear => {
                let linear = self.linear(self.plan.services().map(|service| &**service));
                for (nat, chains) in &linear {
                    tables.table(*nat).chains.append(chains);
                }
            }
            Layout::Tree => {
                for tree in Tree::ALL {
                    let chains = &mut tables.table(tree.is_nat()).chains;
                    let rules = |chains: &mut Chains, claim: Option<&Claim>| {
                        self.rules(tree, chains, claim);
                    };
                    self.root(tree).write(tree.claims(self.plan), chains, rules);
                }
            }
        }
    }

    /// Those that changes make others.
    pub(super) fn write_changed(self, changes: &Changes, tables: &mut Tables) {
        match self.config.layout {
            Layout::Linear => {
                let all = || changes.services().map(|(_, change)| change);
                let before = self.linear(all().filter_map(|change| change.before.as_deref()));
                let after = self.linear(all().filter_map(|change| change.after.as_deref()));
                if before == after {
                    return;
                }
                let linear = self.linear(self.plan.services().map(|service| &**service));
                for ((nat, chains), _) in
                    linear.iter().zip(before.iter().zip(&after)).filter(|(_, (a, b))| a != b)
                {
                    tables.table(*nat).chains.append(chains);
                }
            }
            Layout::Tree => {
                for tree in Tree::ALL {
                    let other = self.said_otherwise(tree, changes);
                    let (claims, table) = (tree.claims(self.plan), tables.table(tree.is_nat()));
                    let rules = |chains: &mut Chains, claim: Option<&Claim>| {
                        self.rules(tree, chains, claim);
                    };
                    self.root(tree).write_changed(claims, &other, table, rules);
                }
            }
        }
    }

    /// What Services add to the chains of the linear layout, and whether each is in the table `nat`.
    fn linear<'s>(self, services: impl Iterator<Item = &'s ServicePlan>) -> [(bool, Chains); 6] {
        let Self { plan, family, config } = self;
        let chains = |name| Chains::of(config.chain(name));
        let (mut services_nat, mut node_ports) = (chains("SERVICES"), chains("NODEPORTS"));
        let (mut refused, mut external) = (chains("SERVICES"), chains("EXTERNAL-SERVICES"));
        let (mut firewall, mut health) = (chains("PROXY-FIREWALL"), chains("NODEPORTS"));
        for service in services {
            for port in service.ports.iter().filter(|port| port.family == family) {
                let hash = Hashes::of(&port.name).port();
                for frontend in &port.frontends {
                    let nat =
                        if frontend.ip.is_some() { &mut services_nat } else { &mut node_ports };
                    nat::write_lead(nat, config, hash, port, frontend);
                    nat::write_return(nat, plan, port, frontend);
                    let chains = [&mut refused, &mut external, &mut firewall];
                    filter::refuse(chains, plan, port, frontend);
                }
            }
            let answers = |(answered, _): &(IpFamily, usize)| *answered == family;
            for check in service.health.iter().filter(|h| h.local_endpoints.iter().any(answers)) {
                filter::accept(&mut health, check);
            }
        }
        nat::lead_to_node_ports(&mut services_nat, plan, family, config);
        let filter = [refused, external, firewall, health].map(|chains| (false, chains));
        let [refused, external, firewall, health] = filter;
        [(true, services_nat), (true, node_ports), refused, external, firewall, health]
    }

    fn root(self, tree: Tree) -> Root<'a> {
        let (chain, kind) = match tree {
            Tree::Addresses => ("SERVICES", "IP"),
            Tree::NodePorts => ("NODEPORTS", "NP"),
            Tree::Health => ("NODEPORTS", "HC"),
        };
        let range = Range::whole(self.family, tree == Tree::Addresses);
        Root { range, chain: self.config.chain(chain), prefix: &self.config.prefix, kind }
    }

    /// What the leaves of a tree say of a claim, and what the first chain says behind the tree.
    fn rules(self, tree: Tree, chains: &mut Chains, claim: Option<&Claim>) {
        let Self { plan, family, config } = self;
        match (tree, claim) {
            (Tree::Addresses | Tree::NodePorts, Some(claim)) => {
                if let Some((port, frontend)) = plan.claimed(claim) {
                    self.write_frontend(chains, port, frontend);
                }
            }
            (Tree::Health, Some(claim)) => {
                if let Some(health) = plan.checked(claim) {
                    filter::accept(chains, health);
                }
            }
            (Tree::Addresses, None) => nat::lead_to_node_ports(chains, plan, family, config),
            (Tree::NodePorts | Tree::Health, None) => {}
        }
    }

    fn write_frontend(self, chains: &mut Chains, port: &PortPlan, frontend: &Frontend) {
        nat::write_lead(chains, self.config, Hashes::of(&port.name).port(), port, frontend);
        nat::write_refusal(chains, self.config, port, frontend);
    }

    /// The claims of a tree of which changes say something else.
    fn said_otherwise(self, tree: Tree, changes: &Changes) -> Changed {
        let mut said: BTreeMap<Claim, [Option<Chains>; 2]> = BTreeMap::new();
        for (_, change) in changes.services() {
            for (place, service) in [&change.before, &change.after].into_iter().enumerate() {
                let Some(service) = service else { continue };
                let of_tree = |(claim, frontend): &(Claim, Option<(u32, u32)>)| {
                    let (family, ip, ..) = claim;
                    *family == self.family && Tree::of(ip.is_some(), frontend.is_some()) == tree
                };
                for (claim, frontend) in service.claims().filter(of_tree) {
                    let mut chains = Chains::of(self.config.chain("SERVICES"));
                    if let Some((port, frontend)) = frontend {
                        let port = &service.ports[port as usize];
                        let frontend = &port.frontends[frontend as usize];
                        self.write_frontend(&mut chains, port, frontend);
                    } else if let Some(health) = &service.health {
                        filter::accept(&mut chains, health);
                    }
                    said.entry(claim).or_default()[place] = Some(chains);
                }
            }
        }
        let other = said.into_iter().filter(|(_, [before, after])| before != after);
        other.map(|(claim, [before, after])| (claim, (before.is_some(), after.is_some()))).collect()
    }
}

/// The trees over all claims.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tree {
    Addresses,
    NodePorts,
    Health,
}

impl Tree {
    const ALL: [Self; 3] = [Self::Addresses, Self::NodePorts, Self::Health];

    const fn of(has_address: bool, is_frontend: bool) -> Self {
        match (has_address, is_frontend) {
            (true, _) => Self::Addresses,
            (false, true) => Self::NodePorts,
            (false, false) => Self::Health,
        }
    }

    const fn is_nat(self) -> bool {
        !matches!(self, Self::Health)
    }

    const fn claims(self, plan: &Plan) -> Claims<'_> {
        Claims::new(match self {
            Self::Addresses | Self::NodePorts => plan.frontend_claims(),
            Self::Health => plan.health_claims(),
        })
    }
}

impl Tables {
    const fn table(&mut self, nat: bool) -> &mut Table {
        if nat { &mut self.nat } else { &mut self.filter }
    }
}
