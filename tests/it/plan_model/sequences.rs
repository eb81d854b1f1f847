//! Random plans that follow each other.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use svcplane::plan::{Mode, Plan};

use super::{Cluster, Served, clusters};

/// A Service as it is at first; with other endpoints and another affinity; with some of both endpoints and other ports, policies and
/// addresses.
fn versions(name: &'static str) -> impl Strategy<Value = [Served; 3]> {
    let affinity = || select(vec![None, None, Some(10), Some(20)]);
    let affinities = [affinity(), affinity(), affinity()];
    let some = prop::collection::vec(any::<bool>(), 5);
    (clusters::served(name), clusters::served(name), affinities, some).prop_map(
        |((service, endpoints), (other, others), affinities, some)| {
            let kept = endpoints.iter().chain(&others).zip(some.iter().cycle());
            let mixed = kept.filter(|(_, kept)| **kept).map(|(one, _)| one.clone()).collect();
            let mut versions = [(service.clone(), endpoints), (service, others), (other, mixed)];
            for ((service, _), affinity) in versions.iter_mut().zip(affinities) {
                service.client_ip_affinity = affinity.map(Duration::from_secs);
            }
            versions
        },
    )
}

/// Plans, mostly for one node, of which each has some of the same Services in one of their versions.
pub(crate) fn plans(mode: Mode, most: usize) -> impl Strategy<Value = Vec<Plan>> {
    let services = [versions("s0"), versions("s1"), versions("s2"), versions("s3"), versions("s4")];
    // Which version of which Service; and whether the node is another.
    let steps = prop::collection::vec(([0_usize..4, 0..4, 0..4, 0..4, 0..4], 0_u8..12), 2..=most);
    (services, [clusters::node(), clusters::node()], steps).prop_map(
        move |(services, nodes, steps)| {
            let plan = |(picks, node): ([usize; 5], u8)| {
                let picks = picks.into_iter().zip(&services);
                let services = picks.filter_map(|(version, of)| of.get(version).cloned()).collect();
                let node = nodes[usize::from(node == 0)].clone();
                Cluster { node, mode, services }.plan()
            };
            steps.into_iter().map(plan).collect()
        },
    )
}
