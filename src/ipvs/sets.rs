//! What IPVS does not do itself: masquerading, source ranges, refusals. A small fixed ruleset, and sets that say to which packets
//! it applies.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use super::desired::{addresses, places};
use crate::net::{IpFamily, Protocol};
use crate::plan::{Action, Frontend, Plan, PortPlan};
use crate::rules::disjoint;

/// The sets of one family by which packets are told apart.
///
/// | set | what is in it | what becomes of packets |
/// | --- | --- | --- |
/// | `FRONTENDS` | every virtual server | others' translation does not get them |
/// | `MASQ-ALL` | those where everybody is masqueraded | |
/// | `MASQ-OTHERS` | those where all but pods are masqueraded | |
/// | `MASQ-NODE` | those where the node itself is masqueraded | |
/// | `LOOP-BACK` | endpoints that are on this node, or may be | from there to there, they are masqueraded |
/// | `RANGED` | those with source ranges | dropped, unless `SOURCES` has where they come from |
/// | `SOURCES` | those, each with a range | |
/// | `IPS` | the addresses that the node has for virtual servers | refused at other ports |
/// | `HEALTH` | the health-check node ports | let in |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    pub(super) family: IpFamily,
    /// In the order of [`NAMES`].
    pub(super) sets: [BTreeSet<Entry>; 9],
}

/// The names of the sets, and what is in them, as `ipset` has it.
pub(super) const NAMES: [(&str, &str); 9] = [
    ("FRONTENDS", "hash:ip,port"),
    ("MASQ-ALL", "hash:ip,port"),
    ("MASQ-OTHERS", "hash:ip,port"),
    ("MASQ-NODE", "hash:ip,port"),
    ("LOOP-BACK", "hash:ip,port,ip"),
    ("RANGED", "hash:ip,port"),
    ("SOURCES", "hash:ip,port,net"),
    ("IPS", "hash:ip"),
    ("HEALTH", "bitmap:port"),
];
const FRONTENDS: usize = 0;
const ALL: usize = 1;
const OTHERS: usize = 2;
const NODE: usize = 3;
const LOOP_BACK: usize = 4;
const RANGED: usize = 5;
const SOURCES: usize = 6;
const IPS: usize = 7;
const HEALTH: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entry {
    Place(IpAddr, Protocol, u16),
    /// With where packets come from.
    From(IpAddr, Protocol, u16, IpNet),
    Ip(IpAddr),
    Port(u16),
}

impl Sets {
    /// The sets that go with the virtual servers of a plan, [`compile`](super::compile).
    ///
    /// ```
    /// use svcplane::ipvs::Sets;
    /// use svcplane::net::IpFamily;
    /// use svcplane::plan::{LocalNode, Mode, Plan};
    ///
    /// let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Ipvs);
    /// let sets = Sets::new(&plan, IpFamily::V4);
    /// // For `ipset restore`, before the rules of `ipvs::iptables`.
    /// let input = sets.ipset(&"SVCP".parse()?);
    /// assert!(input.starts_with("create SVCP-FRONTENDS hash:ip,port family inet"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(plan: &Plan, family: IpFamily) -> Self {
        let mut sets = Self { family, sets: Default::default() };
        let ips = addresses(plan).filter(|ip| IpFamily::of(*ip) == family);
        sets.sets[IPS].extend(ips.map(Entry::Ip));
        let of_family = |port: &&PortPlan| port.family == family;
        // A Service's own address has what it has, whatever node ports there are.
        for node_ports in [false, true] {
            for port in plan.ports().filter(of_family) {
                let frontends = port.frontends.iter().filter(|f| f.ip.is_none() == node_ports);
                frontends.for_each(|frontend| sets.add(plan, port, frontend));
            }
        }
        for port in plan.ports().filter(of_family) {
            for backend in port.cluster.backends.iter().chain(&port.local.backends) {
                if port.here.binary_search(&backend.addr.ip()).is_ok() {
                    let (ip, number) = (backend.addr.ip(), backend.addr.port());
                    let entry = Entry::From(ip, port.name.protocol, number, ip.into());
                    sets.sets[LOOP_BACK].insert(entry);
                }
            }
        }
        let checks = plan.services().filter_map(|service| service.health.as_ref());
        let answered = |(of, _): &(IpFamily, usize)| *of == family;
        let checks = checks.filter(|check| check.local_endpoints.iter().any(answered));
        sets.sets[HEALTH].extend(checks.map(|check| Entry::Port(check.port)));
        sets
    }

    fn add(&mut self, plan: &Plan, port: &PortPlan, frontend: &Frontend) {
        for ip in places(plan, port, frontend) {
            let place = Entry::Place(ip, port.name.protocol, frontend.port);
            if !self.sets[FRONTENDS].insert(place) {
                continue;
            }
            let masquerades = |action| matches!(action, Action::Forward { masquerade: true, .. });
            let origins = [frontend.from_pod, frontend.from_elsewhere, frontend.from_node];
            let sets = origins.into_iter().zip([ALL, OTHERS, NODE]);
            if let Some((_, set)) = sets.into_iter().find(|(action, _)| masquerades(*action)) {
                self.sets[set].insert(place);
            }
            if !frontend.source_ranges.is_empty() {
                self.sets[RANGED].insert(place);
                let nets = disjoint(&frontend.source_ranges);
                let from = |net| Entry::From(ip, port.name.protocol, frontend.port, net);
                self.sets[SOURCES].extend(nets.into_iter().flat_map(storable).map(from));
            }
        }
    }
}

/// A range as sets can hold it: all addresses are two halves.
fn storable(net: IpNet) -> Vec<IpNet> {
    if net.prefix_len() > 0 {
        return alloc::vec![net];
    }
    net.subnets(1).map_or_else(|_| Vec::new(), Iterator::collect)
}
