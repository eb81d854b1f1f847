//! A catalog next to the [model](Model), step by step. Used by a fuzz target, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use svcplane::backend::{Backend, Flow};
use svcplane::balancer::Balancer;
use svcplane::catalog::{Catalog, Changes, Kind, Object};
use svcplane::dns::Zone;
use svcplane::endpoints::{Duplicate, EndpointSet};
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::plan::{Plan, RouteChange, ServicePortName};
use svcplane::sched::Algorithm;
use svcplane::service::TrafficPolicy;
use svcplane::time::Instant;
use svcplane::{iptables, ipvs, nftables};

use super::bytes::packets;
use super::model::{Made, Model, Step};

/// Whom a route's balancer is of.
type RouteKey = (ServicePortName, IpFamily, TrafficPolicy);

/// A catalog, what it should be, and who follows it.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) catalog: Catalog,
    pub(crate) model: Model,
    /// One that was told of changes, and one that was given lists.
    balancers: HashMap<RouteKey, [Balancer; 2]>,
    /// What IPVS is to have, delta by delta.
    desired: ipvs::Desired,
}

impl Pair {
    pub(crate) fn new(made: Made) -> Self {
        let catalog = made.catalog();
        let desired = ipvs::Desired::default();
        Self { catalog, model: Model::new(made), balancers: HashMap::new(), desired }
    }

    /// Takes a step, and looks at what is said of it and at what there is then.
    pub(crate) fn take(&mut self, step: &Step) -> Changes {
        let before = self.catalog.plan().clone();
        let states = self.model.states();
        let pods = self.model.pods.clone();
        let sets_up = matches!(step, Step::Zone(_) | Step::Pools);
        let several = matches!(step, Step::Batch(_) | Step::Resync(..));
        let serial = self.catalog.zone().map(Zone::serial);
        self.model.take(step.clone());
        let changes = step.clone().take(&mut self.catalog);

        let sets = self.model.sets();
        self.check_sets(&sets);
        let plan = self.model.plan(&sets);
        assert_eq!(*self.catalog.plan(), plan, "{step:?}");
        assert_eq!(changes.plan, Plan::diff(&before, &plan), "{step:?}");
        let now = self.model.states();
        let names: BTreeSet<&ObjectName> = states.keys().chain(now.keys()).collect();
        let differ = names.into_iter().filter(|name| {
            states.get(name).cloned().unwrap_or_default()
                != now.get(name).cloned().unwrap_or_default()
        });
        let differ: BTreeSet<ObjectName> = differ.cloned().collect();
        if several {
            // What came and went again may be told of.
            assert!(changes.services.is_superset(&differ), "{differ:?} {changes:?}");
        } else {
            assert_eq!(changes.services, differ, "{step:?}");
        }
        let now = &self.model.pods;
        let differ_pods =
            pods.keys().chain(now.keys()).filter(|pod| pods.get(*pod) != now.get(*pod));
        let differ_pods: BTreeSet<ObjectName> = differ_pods.cloned().collect();
        if several {
            assert!(changes.pods.is_superset(&differ_pods), "{differ_pods:?} {changes:?}");
        } else {
            assert_eq!(changes.pods, differ_pods, "{step:?}");
        }
        self.desired.apply(&ipvs::delta(&plan, &changes.plan, &ipvs::Config::default()));
        assert_eq!(self.desired, ipvs::compile(&plan, &ipvs::Config::default()), "{step:?}");
        if changes.is_empty() && !sets_up && differ.is_empty() {
            let pods = matches!(step, Step::One(_)) || several;
            assert!(pods || serial == self.catalog.zone().map(Zone::serial));
        }
        self.model.check_pools(&self.catalog);
        self.follow(&changes);

        // The same again is nothing.
        let serial = self.catalog.zone().map(Zone::serial);
        if !several {
            assert!(step.clone().take(&mut self.catalog).is_empty(), "{step:?}");
            assert_eq!(serial, self.catalog.zone().map(Zone::serial), "{step:?}");
        }
        changes
    }

    fn check_sets(&self, sets: &BTreeMap<ObjectName, EndpointSet>) {
        let node = &self.model.made.node.name;
        for (name, set) in sets {
            let found = self.catalog.endpoints(name).expect("something is known of it");
            assert_eq!(found, set);
            let duplicates =
                |set| -> Vec<Duplicate<'_>> { EndpointSet::duplicates(set, Some(node)).collect() };
            assert_eq!(duplicates(found), duplicates(set));
        }
        let known = self.catalog.services();
        let expected = self.model.services.iter().map(|(name, service)| (service, &sets[name]));
        assert!(known.eq(expected));
    }

    /// Balancers that are told of changes are as those that are given all there is.
    fn follow(&mut self, changes: &Changes) {
        for route in changes.plan.services().flat_map(|(_, change)| change.routes()) {
            let RouteChange { port, family, policy, after, .. } = route;
            let key = (port.clone(), family, policy);
            let balancers = self.balancers.entry(key).or_insert_with(|| {
                [Balancer::new(Algorithm::RoundRobin, 7), Balancer::new(Algorithm::RoundRobin, 7)]
            });
            let wanted = after.map_or(&[][..], |port| &port.targets(policy).backends);
            balancers[0].change(route.backends(), Instant::ZERO);
            balancers[1].set_backends(wanted.iter().copied(), Instant::ZERO);
            let flow = Flow::new(
                "192.0.2.1:1000".parse().expect("an address"),
                "192.0.2.2:80".parse().expect("an address"),
            );
            let [told, listed] = balancers;
            for _ in 0..3 {
                let picks = [&mut *told, listed].map(|balancer| {
                    let conn = balancer.pick(&flow, Instant::ZERO)?;
                    let addr = conn.addr();
                    balancer.release(conn).expect("its own");
                    Some(addr)
                });
                assert_eq!(picks[0], picks[1]);
            }
        }
    }

    fn check_balancers(&self) {
        let mut routes = 0;
        for port in self.catalog.plan().ports() {
            for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
                routes += 1;
                let key = (port.name.clone(), port.family, policy);
                for balancer in &self.balancers[&key] {
                    let mut wanted: Vec<Backend> = port.targets(policy).backends.clone();
                    let mut listed: Vec<Backend> =
                        balancer.iter().map(|(_, entry)| entry.backend()).collect();
                    wanted.sort_by_key(|backend| backend.addr);
                    listed.sort_by_key(|backend| backend.addr);
                    assert_eq!(listed, wanted, "{key:?}");
                }
            }
        }
        let listed = self.balancers.values().filter(|[told, _]| !told.is_empty()).count();
        assert!(listed <= routes, "those of ports that are gone have nothing");
    }

    /// Everything else that there is.
    pub(crate) fn check(&self, asked: &[Labels]) {
        let sets = self.model.sets();
        let plan = self.model.plan(&sets);
        same_behaviour(self.catalog.plan(), &plan);
        self.check_balancers();
        self.model.check_index(&self.catalog, asked);
        same_zone(self.catalog.zone(), self.model.zone(&sets).as_ref());
        assert_eq!(self.catalog.snapshot(), self.model.objects());
        for (name, pod) in &self.model.pods {
            assert_eq!(self.catalog.pod(name), Some(pod));
        }
    }

    /// A new catalog with the same objects, which come in the order of a permutation: all at once, one by one, kind by kind.
    pub(crate) fn check_order(&self, order: impl Fn(usize) -> u64) {
        let sets = self.model.sets();
        let mut objects: Vec<(usize, Object)> =
            self.model.objects().into_iter().enumerate().collect();
        objects.sort_by_key(|(n, _)| order(*n));
        let objects: Vec<Object> = objects.into_iter().map(|(_, object)| object).collect();
        let new = || {
            let mut catalog = self.model.made.catalog();
            for (service, source) in &self.model.sources {
                assert!(catalog.set_source(service, Some(*source)).is_empty());
            }
            catalog
        };
        let [mut at_once, mut one_by_one, mut by_kind] = [new(), new(), new()];
        let empty = at_once.plan().clone();
        let changes = at_once.apply_all(objects.clone());
        assert_eq!(changes.plan, Plan::diff(&empty, at_once.plan()));
        let mut merged = Changes::default();
        for object in objects.clone() {
            merged.merge(one_by_one.apply(object));
        }
        assert_eq!(merged.plan, changes.plan);
        for kind in Kind::ALL {
            let of_kind = objects.iter().filter(|object| object.key().kind() == *kind).cloned();
            by_kind.resync(*kind, of_kind);
        }
        for other in [at_once, one_by_one, by_kind] {
            assert_eq!(other.snapshot(), self.catalog.snapshot());
            same_behaviour(other.plan(), self.catalog.plan());
            same_zone(other.zone(), self.catalog.zone());
            let pair = Self { catalog: other, ..self.clone() };
            pair.check_sets(&sets);
            pair.model.check_index(&pair.catalog, &[]);
        }
        // And nothing is left when all is gone.
        let mut catalog = self.catalog.clone();
        for kind in Kind::ALL {
            catalog.resync(*kind, Vec::<Object>::new());
        }
        assert!(catalog.snapshot().is_empty());
        assert_eq!(catalog.services().len(), 0);
        let empty = Plan::empty(catalog.plan().node().clone(), catalog.plan().mode());
        same_behaviour(catalog.plan(), &empty);
        assert!(self.model.names().iter().all(|name| catalog.endpoints(name).is_none()));
        let zone = catalog.zone().map(|zone| (zone.records().count(), zone.pointers().count()));
        let fresh = self.model.made.catalog();
        assert_eq!(zone, fresh.zone().map(|zone| (zone.records().count(), 0)));
        let index = catalog.selectors().map(|index| (index.selectors(), index.objects()));
        assert_eq!(index, fresh.selectors().map(|_| (0, 0)));
    }
}

/// Two plans do the same with every packet, and the same is written for them.
pub(crate) fn same_behaviour(plan: &Plan, other: &Plan) {
    assert_eq!(plan, other);
    for packet in packets() {
        assert_eq!(plan.route(&packet), other.route(&packet), "{packet}");
        let here = |plan: &Plan| plan.is_backend_here(packet.source);
        assert_eq!(here(plan), here(other), "{packet}");
    }
    for layout in [nftables::Layout::Flat, nftables::Layout::Chains] {
        let mut config = nftables::Config::default();
        config.layout = layout;
        assert_eq!(nftables::compile(plan, &config), nftables::compile(other, &config));
    }
    for layout in [iptables::Layout::Tree, iptables::Layout::Linear] {
        let mut config = iptables::Config::default();
        config.layout = layout;
        for family in [IpFamily::V4, IpFamily::V6] {
            let text = |plan| iptables::compile(plan, family, &config);
            assert_eq!(text(plan), text(other));
        }
    }
    let config = ipvs::Config::default();
    assert_eq!(ipvs::compile(plan, &config), ipvs::compile(other, &config));
    for family in [IpFamily::V4, IpFamily::V6] {
        assert_eq!(ipvs::Sets::new(plan, family), ipvs::Sets::new(other, family));
    }
}

fn same_zone(zone: Option<&Zone>, other: Option<&Zone>) {
    assert_eq!(zone.is_some(), other.is_some());
    let (Some(zone), Some(other)) = (zone, other) else { return };
    // The serial number is of each zone's own history.
    assert!(zone.records().skip(1).eq(other.records().skip(1)));
    assert!(zone.pointers().eq(other.pointers()));
    assert!(zone.warnings().eq(other.warnings()));
    assert_eq!(zone.services(), other.services());
}
