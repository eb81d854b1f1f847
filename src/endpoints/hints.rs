//! Topology hints: which zone's or node's clients an endpoint is meant for.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Endpoint, Hints};
use crate::net::IpFamily;
use crate::node::Nodes;
use crate::service::{Service, TrafficDistribution};

/// The annotation that asks for hints in proportion to the zones' CPUs.
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// Its older name, which takes precedence.
const TOPOLOGY_AWARE_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// How a Service's endpoints are to be hinted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Its own zone for each endpoint.
    SameZone,
    /// And its own node.
    SameNode,
    /// Each zone as many endpoints as its share of the CPUs.
    Proportional,
}

impl Wish {
    pub(super) fn of(service: &Service) -> Self {
        let annotation = |key| service.annotations.get(key);
        let stated = annotation(TOPOLOGY_AWARE_HINTS).or_else(|| annotation(TOPOLOGY_MODE));
        if matches!(stated, Some("Auto" | "auto")) {
            return Self::Proportional;
        }
        match service.traffic_distribution {
            None => Self::Nothing,
            Some(TrafficDistribution::PreferClose | TrafficDistribution::PreferSameZone) => {
                Self::SameZone
            }
            Some(TrafficDistribution::PreferSameNode) => Self::SameNode,
        }
    }

    /// What one ready endpoint gets whatever the others are.
    fn own(self, endpoint: &Endpoint) -> Hints {
        let zones = endpoint.zone.iter().filter(|_| self != Self::Nothing);
        let nodes = endpoint.node.iter().filter(|_| self == Self::SameNode);
        Hints { zones: zones.cloned().collect(), nodes: nodes.cloned().collect() }
    }
}

/// Gives hints to all the endpoints that a Service has, none of which has any.
pub(super) fn assign(service: &Service, nodes: &Nodes, endpoints: &mut Vec<Endpoint>) {
    let wish = Wish::of(service);
    if wish != Wish::Proportional {
        for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.conditions.ready) {
            endpoint.hints = wish.own(endpoint);
        }
        return;
    }
    // Whose turn it is follows from what they are, not from the order of the pods.
    endpoints.sort_unstable();
    endpoints.dedup();
    for family in [IpFamily::V4, IpFamily::V6] {
        let of_family = |endpoint: &&mut Endpoint| {
            endpoint.conditions.ready && IpFamily::of(endpoint.ip) == family
        };
        let mut ready: Vec<&mut Endpoint> = endpoints.iter_mut().filter(of_family).collect();
        if let Some(shares) = Shares::new(nodes, ready.len()) {
            spread(&shares, &mut BTreeMap::new(), &mut ready);
        }
    }
}

/// How many endpoints each zone is to get.
pub(super) struct Shares {
    zones: BTreeMap<Arc<str>, Share>,
    /// All the CPUs: the unit of `Share::desired`.
    unit: i128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// So many endpoints times `unit`.
    desired: i128,
    maximum: u64,
}

/// How many endpoints of each zone's clients there are.
pub(super) type Allocated = BTreeMap<Arc<str>, u64>;

impl Shares {
    /// `None` if the endpoints cannot be shared out: a node tells too little, there is one zone only, there are
    /// more zones than endpoints, or some zone would be overloaded by more than a fifth.
    pub(super) fn new(nodes: &Nodes, endpoints: usize) -> Option<Self> {
        let cpus = nodes.cpus_by_zone()?;
        let total = endpoints as u64;
        if cpus.len() < 2 || cpus.len() > endpoints {
            return None;
        }
        let unit: i128 = cpus.values().map(|&cpu| i128::from(cpu)).sum();
        let mut zones = BTreeMap::new();
        let mut minimums = 0;
        for (zone, &cpu) in cpus {
            let desired = i128::from(cpu) * i128::from(total);
            // A zone may get a fifth more traffic than its share: desired / 1.2, rounded up.
            let minimum = (desired * 5 + unit * 6 - 1) / (unit * 6);
            let desired = desired.max(minimum * unit);
            let minimum = u64::try_from(minimum).ok()?;
            minimums += minimum;
            zones.insert(Arc::clone(zone), Share { desired, maximum: minimum });
        }
        let spare = total.checked_sub(minimums)?;
        for share in zones.values_mut() {
            share.maximum += spare;
        }
        Some(Self { zones, unit })
    }

    /// Counts hints that are there already. False, and nothing counted, if they cannot stay: one is missing, names a zone
    /// that has no share, or brings a zone above the most that it may have.
    pub(super) fn keep(&self, allocated: &mut Allocated, endpoints: &[Endpoint]) -> bool {
        let mut counts: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.conditions.ready) {
            if endpoint.hints.zones.is_empty() {
                return false;
            }
            for zone in &endpoint.hints.zones {
                *counts.entry(zone).or_default() += 1;
            }
        }
        let fits = |(zone, count): (&&Arc<str>, &u64)| {
            let before = allocated.get(*zone).copied().unwrap_or(0);
            self.zones.get(*zone).is_some_and(|share| before + count <= share.maximum)
        };
        let all = counts.iter().all(fits);
        if all {
            for (zone, count) in counts {
                *allocated.entry(Arc::clone(zone)).or_default() += count;
            }
        }
        all
    }
}

/// Hints ready endpoints: each to its own zone, then as many to others as the shares ask for. Endpoints without
/// a zone forbid it: then there are no hints at all, and the answer is false.
pub(super) fn spread(
    shares: &Shares,
    allocated: &mut Allocated,
    ready: &mut [&mut Endpoint],
) -> bool {
    if ready.iter().any(|endpoint| endpoint.zone.is_none()) {
        return false;
    }
    for endpoint in &mut *ready {
        endpoint.hints = Wish::SameZone.own(endpoint);
        let zone = endpoint.zone.iter().cloned();
        zone.for_each(|zone| *allocated.entry(zone).or_default() += 1);
    }
    let (mut giving, mut receiving) = transfers(shares, allocated);
    for endpoint in ready {
        let give = endpoint.zone.as_ref().and_then(|zone| giving.get_mut(zone));
        let receive = receiving.iter_mut().find(|(_, count)| **count > 0);
        let (Some(give @ 1..), Some((zone, receive))) = (give, receive) else { continue };
        endpoint.hints.zones = alloc::vec![Arc::clone(zone)];
        *give -= 1;
        *receive -= 1;
    }
    true
}

/// How many endpoints zones give away and receive: one at a time from the zone with the most too many to the one
/// that lacks most, as long as half an endpoint is to be gained on both sides and a whole one on either.
fn transfers(shares: &Shares, allocated: &Allocated) -> (Allocated, Allocated) {
    let unit = shares.unit;
    let have = |zone| i128::from(allocated.get(zone).copied().unwrap_or(0)) * unit;
    let (mut surplus, mut deficit) = (BTreeMap::new(), BTreeMap::new());
    for (zone, share) in &shares.zones {
        surplus.insert(zone, have(zone) - share.desired);
        deficit.insert(zone, share.desired - have(zone));
    }
    for zone in allocated.keys().filter(|zone| !shares.zones.contains_key(*zone)) {
        surplus.insert(zone, have(zone));
    }
    let (mut giving, mut receiving) = (Allocated::new(), Allocated::new());
    while let (Some((from, give)), Some((to, receive))) = (most(&mut surplus), most(&mut deficit)) {
        if (*give < unit && *receive < unit) || *give * 2 < unit || *receive * 2 < unit {
            break;
        }
        *give -= unit;
        *receive -= unit;
        *giving.entry(Arc::clone(from)).or_default() += 1;
        *receiving.entry(Arc::clone(to)).or_default() += 1;
    }
    (giving, receiving)
}

/// The zone with the most; of several, the first by name.
fn most<'a, 'z>(
    zones: &'a mut BTreeMap<&'z Arc<str>, i128>,
) -> Option<(&'z Arc<str>, &'a mut i128)> {
    zones.iter_mut().rev().max_by_key(|(_, count)| **count).map(|(zone, count)| (*zone, count))
}
