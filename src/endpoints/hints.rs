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

    /// Whether what one endpoint gets depends on what the others are.
    pub(super) fn is_of_all(self) -> bool {
        self == Self::Proportional
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

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use super::{Allocated, Share, Shares, spread, transfers};
    use crate::endpoints::{Conditions, Endpoint};
    use crate::node::{Node, Nodes, ZONE_LABEL};

    const ZONES: [&str; 3] = ["a", "b", "c"];

    /// What each of the zones a, b and c wants, in tenths of an endpoint, and the most that each may have.
    fn shares(desired: &[i128], maximum: u64) -> Shares {
        let share = |(zone, &desired): (&&str, _)| ((*zone).into(), Share { desired, maximum });
        Shares { zones: ZONES.iter().zip(desired).map(share).collect(), unit: 10 }
    }

    /// How many each of the zones has, but for those that have none.
    fn counts(zones: &[u64]) -> Allocated {
        let counts = ZONES.iter().zip(zones).filter(|(_, count)| **count > 0);
        counts.map(|(zone, count)| ((*zone).into(), *count)).collect()
    }

    /// A ready endpoint, in a zone (none if that is empty), with hints.
    fn endpoint(zone: &str, hints: &[&str]) -> Endpoint {
        let mut endpoint = Endpoint::new([10, 0, 0, 1].into());
        endpoint.zone = (!zone.is_empty()).then(|| zone.into());
        endpoint.hints.zones = hints.iter().map(|&zone| zone.into()).collect();
        endpoint
    }

    fn unready(zone: &str, hints: &[&str]) -> Endpoint {
        let conditions = Conditions { ready: false, ..Conditions::default() };
        Endpoint { conditions, ..endpoint(zone, hints) }
    }

    /// Kubernetes endpointslice `topologycache/utils_test.go`, `Test_getGivingAndReceivingZones`. Where less than nothing is
    /// allocated, everything is moved up until nothing is. The last two rows are not there.
    #[test]
    #[rustfmt::skip]
    fn zones_that_give_and_receive() {
        type Row = (&'static str, &'static [i128], &'static [u64], &'static [u64], &'static [u64]);
        let rows: [Row; 11] = [
            ("nothing", &[], &[], &[], &[]),
            ("no need", &[12, 11, 10], &[1, 1, 1], &[], &[]),
            ("own zone rather than a little better", &[51, 51, 58], &[16, 0, 0], &[10, 0, 0], &[0, 5, 5]),
            ("to the zone that lacks most", &[50, 56, 54], &[16, 0, 0], &[11, 0, 0], &[0, 6, 5]),
            ("from the zone that has most", &[50, 56, 54], &[0, 8, 8], &[0, 2, 3], &[5, 0, 0]),
            ("more than wanted", &[50, 50, 50], &[6, 6, 6], &[], &[]),
            ("less than nothing wanted", &[-50, -50, -50], &[6, 6, 6], &[], &[]),
            ("-4, -3, -2 allocated", &[90, 90, 90], &[0, 1, 2], &[], &[]),
            ("-40, 20, 20 allocated", &[450, 450, 450], &[0, 60, 60], &[0, 15, 15], &[30, 0, 0]),
            ("half an endpoint on one side, one on the other", &[5, 5, 10], &[1, 1, 0], &[1, 0, 0], &[0, 0, 1]),
            ("less than half an endpoint", &[46, 46, 12], &[5, 5, 0], &[], &[]),
        ];
        for (name, desired, have, giving, receiving) in rows {
            let found = transfers(&shares(desired, 0), &counts(have));
            assert_eq!(found, (counts(giving), counts(receiving)), "{name}");
        }
    }

    /// Kubernetes endpointslice `topologycache/utils_test.go`, `Test_getHintsByZone`, an endpoint without `ready` condition
    /// as one that is not. The last rows are not there.
    #[test]
    fn hints_that_stay() {
        type Row<'a> = (&'a str, &'a [Endpoint], usize, u64, [u64; 3], bool);
        let own = || endpoint("a", &["a"]);
        let mixed = [own(), endpoint("a", &["b"]), endpoint("b", &["b"])];
        let rows: [Row; 11] = [
            ("nothing", &[], 0, 0, [0, 0, 0], true),
            ("one", &[own()], 1, 3, [1, 0, 0], true),
            (
                "some not ready",
                &[own(), unready("a", &["a"]), unready("a", &[])],
                1,
                3,
                [1, 0, 0],
                true,
            ),
            ("several zones", &mixed, 3, 3, [1, 1, 1], true),
            ("a zone that there is not", &[endpoint("a", &["z"])], 1, 3, [1, 0, 0], false),
            ("no hints", &[endpoint("a", &[])], 1, 3, [0, 0, 0], false),
            ("too many", &[own(), own()], 1, 2, [1, 0, 0], false),
            ("just enough", &[own(), own()], 1, 3, [1, 0, 0], true),
            ("two zones for one", &[endpoint("a", &["a", "b"])], 2, 1, [0, 0, 0], true),
            ("the second has none", &[own(), endpoint("a", &[])], 1, 3, [0, 0, 0], false),
            ("one zone of two too often", &mixed, 3, 2, [0, 1, 0], false),
        ];
        for (name, endpoints, zones, maximum, before, stay) in rows {
            let mut allocated = counts(&before);
            let mut expected = allocated.clone();
            assert_eq!(
                shares(&[0; 3][..zones], maximum).keep(&mut allocated, endpoints),
                stay,
                "{name}"
            );
            let ready = endpoints.iter().filter(|endpoint| stay && endpoint.conditions.ready);
            for zone in ready.flat_map(|endpoint| &endpoint.hints.zones) {
                *expected.entry(Arc::clone(zone)).or_default() += 1;
            }
            assert_eq!(allocated, expected, "{name}");
        }
    }

    /// Kubernetes endpointslice `topologycache/utils_test.go`, `Test_redistributeHints`, from shares that ask for as much; what
    /// is allocated elsewhere counts. The last rows are not there.
    #[test]
    fn hints_to_other_zones() {
        type Row<'a> = (&'a str, &'a [i128], [u64; 3], &'a [&'a str], &'a [&'a str]);
        let rows: [Row; 6] = [
            ("nothing", &[], [0; 3], &[], &[]),
            ("one", &[0, 10], [0; 3], &["a"], &["b"]),
            ("from one zone to two", &[10, 10, 10], [0; 3], &["a", "a", "a"], &["b", "c", "a"]),
            ("one elsewhere already", &[10, 10, 10], [0, 1, 0], &["a", "a"], &["c", "a"]),
            ("too many elsewhere", &[10, 20], [2, 0, 0], &["a"], &["b"]),
            ("a zone that there is not", &[10, 10], [1, 0, 0], &["z"], &["b"]),
        ];
        for (name, desired, elsewhere, zones, hints) in rows {
            let mut endpoints: Vec<Endpoint> =
                zones.iter().map(|zone| endpoint(zone, &["stale"])).collect();
            let mut ready: Vec<&mut Endpoint> = endpoints.iter_mut().collect();
            assert!(spread(&shares(desired, 0), &mut counts(&elsewhere), &mut ready), "{name}");
            let found: Vec<&str> =
                endpoints.iter().map(|endpoint| &*endpoint.hints.zones[0]).collect();
            assert_eq!(found, hints, "{name}");
        }
        let (mut known, mut unknown) = (endpoint("a", &[]), endpoint("", &[]));
        let mut ready = [&mut known, &mut unknown];
        assert!(!spread(&shares(&[10, 10], 0), &mut Allocated::new(), &mut ready));
        assert_eq!(known.hints.zones.len(), 0);
    }

    /// CPUs by zone, endpoints; in thousandths, what each zone wants; the most that it may have. By hand from the rule: at
    /// least what it wants over 1.2, rounded up, and no less wanted than that.
    #[test]
    #[rustfmt::skip]
    fn shares_of_cpus() {
        type Row = (&'static [u32], usize, Option<[&'static [i128]; 2]>);
        let rows: [Row; 14] = [
            (&[], 9, None),
            (&[1, 1], 0, None),
            (&[1000], 9, None),
            (&[1, 1, 1], 2, None),
            (&[1, 1, 1], 3, Some([&[1000, 1000, 1000], &[1, 1, 1]])),
            (&[1, 1, 1], 4, None),
            (&[1, 1, 1], 9, Some([&[3000, 3000, 3000], &[3, 3, 3]])),
            // 6 / 1.2 is 5, and not a little more.
            (&[1, 1], 12, Some([&[6000, 6000], &[7, 7]])),
            (&[5000, 4500, 500], 20, Some([&[10_000, 9000, 1000], &[11, 10, 3]])),
            (&[5000, 4500, 500], 10, Some([&[5000, 4500, 1000], &[5, 4, 1]])),
            (&[45, 55], 2, Some([&[1000, 1100], &[1, 1]])),
            (&[45, 55], 3, None),
            (&[35, 35, 30], 10, Some([&[3500, 3500, 3000], &[4, 4, 4]])),
            (&[u32::MAX, 1], 1000, Some([&[999_999, 1000], &[999, 166]])),
        ];
        for (cpus, endpoints, expected) in rows {
            let nodes: Nodes = ZONES.iter().zip(cpus).map(|(zone, &cpu_millis)| {
                let labels = [(ZONE_LABEL, *zone)].into_iter().collect();
                Node { labels, cpu_millis, ready: true, ..Node::new(zone.parse().expect("a name")) }
            }).collect();
            let found = Shares::new(&nodes, endpoints).map(|shares| {
                let thousandths = |share: &Share| share.desired * 1000 / shares.unit;
                let zones = shares.zones.values();
                (zones.clone().map(thousandths).collect(), zones.map(|share| i128::from(share.maximum)).collect())
            });
            let expected = expected.map(|[desired, maximum]| (desired.to_vec(), maximum.to_vec()));
            assert_eq!(found, expected, "{cpus:?} {endpoints}");
        }
    }
}
