//! [`Catalog`]: a cluster's objects as they come and go, and what one node does with every packet, at the cost of the change.
//!
//! ```
//! use svcplane::catalog::{Catalog, Key};
//! use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSlice};
//! use svcplane::name::ObjectName;
//! use svcplane::net::{IpFamily, Protocol};
//! use svcplane::plan::{LocalNode, Mode, Packet, Verdict};
//! use svcplane::service::{ClusterIps, Service, ServicePort};
//!
//! let mut catalog = Catalog::new(LocalNode::new("node-1".parse()?), Mode::Nftables);
//!
//! let name = ObjectName::new("default", "redis")?;
//! let mut service = Service::new(name.clone());
//! service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.10".parse()?]);
//! service.ports = vec![ServicePort::new(6379)];
//! catalog.apply(service);
//!
//! let slice = ObjectName::new("default", "redis-x7k2p")?;
//! let mut slice = EndpointSlice::new(slice, name.clone(), IpFamily::V4);
//! slice.set_endpoints([EndpointPort::new(6379)], [Endpoint::new("10.0.0.7".parse()?)]);
//! let changes = catalog.apply(slice.clone());
//!
//! // What is other than before, for rules, balancers, DNS:
//! let (changed, change) = changes.plan.services().next().unwrap();
//! assert_eq!(changed, &name);
//! for route in change.routes() {
//!     for backend in route.backends() { /* Balancer::change */ }
//! }
//! // And what is done now:
//! let packet = Packet::new(Protocol::Tcp, "10.0.0.9".parse()?, "10.96.0.10:6379".parse()?);
//! assert!(matches!(catalog.plan().route(&packet), Verdict::Forward(_)));
//!
//! assert!(catalog.apply(slice).is_empty()); // the same again
//! catalog.apply(Key::Service(name));
//! assert_eq!(catalog.plan().route(&packet), Verdict::Pass);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is told of a change
//!
//! | Who | What |
//! | --- | --- |
//! | balancers | [`ServiceChange::routes`](crate::plan::ServiceChange::routes) and [`RouteChange::backends`](crate::plan::RouteChange::backends), for [`Balancer::change`](crate::balancer::Balancer::change) |
//! | rules | `nftables::delta`, `iptables::delta` and `ipvs::delta` of [`Catalog::plan`] and [`Changes::plan`]; `kernel::Syncer::follow` |
//! | DNS | [`Catalog::with_zone`]; or for a zone of one's own [`Changes::services`] with [`Catalog::service`] and [`Catalog::endpoints`], [`Changes::pods`] with [`Catalog::pod`] |
//! | health checks | [`ServicePlan::health`](crate::plan::ServicePlan::health) of each Service that is treated otherwise |
//! | connection tracking | [`Plan::stale_flows`] of [`Catalog::plan`], after a change of a UDP port |
//!
//! # Bursts
//!
//! What comes at once is best applied at once: [`Catalog::apply_all`] plans each Service once, however many of its objects are
//! among the events. A consumer that is slower than the changes [merges](Changes::merge) those that wait: what is merged leads to the same end,
//! and what came and went meanwhile is no change at all. So what waits is never more than the Services that there are.
//!
//! ```
//! # use svcplane::catalog::{Catalog, Changes, Event};
//! # use svcplane::plan::{LocalNode, Mode};
//! # let mut catalog = Catalog::new(LocalNode::new("node-1".parse()?), Mode::Nftables);
//! # let batches: [Vec<Event>; 2] = [vec![], vec![]];
//! # let consumer_is_ready = || true;
//! let mut waiting = Changes::default();
//! for batch in batches {
//!     waiting.merge(catalog.apply_all(batch));
//!     if consumer_is_ready() {
//!         let changes = std::mem::take(&mut waiting);
//!         // nftables::delta(catalog.plan(), &changes.plan, &config), and so on
//!     }
//! }
//! # Ok::<(), svcplane::name::NameError>(())
//! ```
//!
//! # Lists
//!
//! After a watch was interrupted, its source gives a new list: [`Catalog::resync`] takes it as all there is of a kind, and tells what
//! is other than it was. A [`snapshot`](Catalog::snapshot) is such a list of everything.
//!
//! **Cost.** An event costs what it says itself, and for each Service that it concerns a plan of that Service alone: O(e log e) for its e
//! endpoints. A pod is found among selectors by its labels, see [`labels::Index`](crate::labels::Index). A Service that comes, goes or
//! changes its addresses concerns those that claim the same ones, and none else.
//!
//! The end does not depend on the order in which objects came: it is [`Plan::new`] of the Services and their endpoints, the
//! [`Zone`] of all of them. There is neither clock nor chance in it.

mod changes;
mod event;
mod pods;
mod pools;
mod record;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::hash::BuildHasherDefault;

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use crate::assign::Pools;
use crate::dns::Zone;
use crate::endpoints::{EndpointSet, EndpointSlice, depends_on_all};
use crate::labels::{Index, Selector};
use crate::name::ObjectName;
use crate::node::Nodes;
use crate::plan::{Claims, LocalNode, Mode, Plan};
use crate::pod::Pod;
use crate::service::{Service, ServiceKind};
use crate::time::Instant;

pub use changes::Changes;
pub use event::{Event, Key, Kind, Object};
pub use record::EndpointSource;

use changes::Touched;
use pods::Pods;
use pools::Account;
use record::{Counts, Record};

type Sip = BuildHasherDefault<SipHasher13>;

/// A cluster's objects, and what follows from them for one node.
#[derive(Clone, Debug)]
pub struct Catalog {
    plan: Plan,
    claims: Claims,
    services: HashMap<ObjectName, Box<Record>, Sip>,
    /// Which Service each EndpointSlice is of.
    slices: HashMap<ObjectName, ObjectName, Sip>,
    pods: Option<Box<Pods>>,
    zone: Option<Box<Zone>>,
    account: Option<Box<Account>>,
    now: Instant,
}

impl Catalog {
    /// An empty one, for a node. Endpoints come from EndpointSlices, whoever writes them, as in kube-proxy; pods, Endpoints and nodes are not kept.
    pub fn new(node: LocalNode, mode: Mode) -> Self {
        Self {
            plan: Plan::empty(node, mode),
            claims: Claims::default(),
            services: HashMap::default(),
            slices: HashMap::default(),
            pods: None,
            zone: None,
            account: None,
            now: Instant::ZERO,
        }
    }

    /// Keeps pods, nodes and Endpoints as well, so that endpoints can come from them: those of all Services for which nothing else is
    /// [said](Self::set_source), if `source` is [`Pods`](EndpointSource::Pods). To be called before there are objects; what came before is not kept.
    #[must_use]
    pub fn with_pods(mut self, source: EndpointSource) -> Self {
        self.pods = Some(Box::new(Pods {
            source,
            sources: BTreeMap::new(),
            by_name: HashMap::default(),
            by_node: HashMap::default(),
            nodes: Nodes::default(),
            index: Index::default(),
            entangled: BTreeSet::new(),
        }));
        self
    }

    /// Keeps a DNS zone up to date, in which all Services are. Pods are in it only [if they are kept](Self::with_pods).
    #[must_use]
    pub fn with_zone(mut self, mut zone: Zone) -> Self {
        for record in self.services.values() {
            if let Some(service) = &record.service {
                zone.upsert(service, record.merged.set());
            }
        }
        for pod in self.pods.iter().flat_map(|kept| kept.by_name.values()) {
            zone.upsert_pod(pod);
        }
        self.zone = Some(Box::new(zone));
        self
    }

    /// Keeps account of the addresses and node ports that Services state: of several that state one the oldest has it, as in the plan. What nobody
    /// states any more rests from [now](Self::set_now) on. What was given out before its Service's event stays given out.
    #[must_use]
    pub fn with_pools(mut self, pools: Pools) -> Self {
        let mut account = Account::new(pools);
        for service in self.known_services() {
            account.replace(None, Some(service), self.now);
        }
        self.account = Some(Box::new(account));
        self
    }

    /// Takes one event. What it changes.
    pub fn apply(&mut self, event: impl Into<Event>) -> Changes {
        let mut touched = Touched::default();
        self.take(event.into(), &mut touched);
        self.settle(touched)
    }

    /// Takes several events, one after the other, and plans each Service once. What they change together.
    pub fn apply_all<I>(&mut self, events: I) -> Changes
    where
        I: IntoIterator,
        I::Item: Into<Event>,
    {
        let mut touched = Touched::default();
        for event in events {
            self.take(event.into(), &mut touched);
        }
        self.settle(touched)
    }

    /// Takes all objects of a kind that there are: those that are not listed are gone. What that changes; what is as it was is no
    /// change. Objects of other kinds are taken as by [`apply_all`](Self::apply_all). O(objects).
    pub fn resync<I>(&mut self, kind: Kind, objects: I) -> Changes
    where
        I: IntoIterator,
        I::Item: Into<Object>,
    {
        let mut touched = Touched::default();
        let mut gone: BTreeSet<Key> = self.keys(kind).collect();
        for object in objects {
            let object = object.into();
            gone.remove(&object.key());
            self.take(Event::Upsert(object), &mut touched);
        }
        for key in gone {
            self.take(Event::Delete(key), &mut touched);
        }
        self.settle(touched)
    }

    /// Has the node be another: its addresses, its zone or its settings have changed. O(everything), if it has.
    ///
    /// No Node's events do this by themselves, as most of what a [`LocalNode`] says is not in them.
    pub fn set_node(&mut self, node: LocalNode) -> Changes {
        if node == *self.plan.node() {
            return Changes::default();
        }
        let empty = Plan::empty(node, self.plan.mode());
        let before = core::mem::replace(&mut self.plan, empty);
        let mut touched = Touched::default();
        let names: Vec<ObjectName> = self.services.keys().cloned().collect();
        self.claims = Claims::default();
        for name in &names {
            let Some(record) = self.services.get_mut(name) else { continue };
            if let Some(service) = &record.service {
                self.claims.replace(self.plan.node(), self.plan.mode(), None, Some(service));
                touched.services.insert(name.clone(), false);
            }
            if self.recount(name) {
                touched.itself(name.clone());
            }
        }
        let mut changes = self.settle(touched);
        changes.plan = Plan::diff(&before, &self.plan);
        changes
    }

    /// Says where the endpoints of a Service come from, now or when there is one of this name; `None` is where all others' do. Nothing
    /// without [pods](Self::with_pods).
    pub fn set_source(&mut self, service: &ObjectName, source: Option<EndpointSource>) -> Changes {
        let Some(kept) = &mut self.pods else { return Changes::default() };
        match source {
            Some(source) => drop(kept.sources.insert(service.clone(), source)),
            None => drop(kept.sources.remove(service)),
        }
        let mut touched = Touched::default();
        if self.services.contains_key(service) {
            self.reselect(service, &mut touched);
        }
        self.settle(touched)
    }

    /// Says what time it is, for the [pools](Self::with_pools): what is given back rests from then on.
    pub const fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// What the node does with every packet.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A Service.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)?.service.as_ref()
    }

    /// The endpoints of a Service; those of its EndpointSlices are known before it is. `None` if nothing is known of it.
    pub fn endpoints(&self, service: &ObjectName) -> Option<&EndpointSet> {
        Some(self.services.get(service)?.merged.set())
    }

    /// The Services with their endpoints, by name. O(n log n).
    pub fn services(&self) -> impl ExactSizeIterator<Item = (&Service, &EndpointSet)> {
        let known = self.services.values();
        let known = known.filter_map(|known| Some((known.service.as_ref()?, known.merged.set())));
        let mut known: Vec<(&Service, &EndpointSet)> = known.collect();
        known.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        known.into_iter()
    }

    /// A pod, if they are [kept](Self::with_pods).
    pub fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        Some(self.pods.as_ref()?.by_name.get(name)?)
    }

    /// The pods that are [kept](Self::with_pods), by name. O(n log n).
    pub fn pods(&self) -> impl ExactSizeIterator<Item = &Pod> {
        let kept = self.pods.iter().flat_map(|kept| kept.by_name.values());
        let mut pods: Vec<&Pod> = kept.map(|pod| &**pod).collect();
        pods.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        pods.into_iter()
    }

    /// The nodes, if they are [kept](Self::with_pods).
    pub fn nodes(&self) -> Option<&Nodes> {
        Some(&self.pods.as_ref()?.nodes)
    }

    /// Which Services select which pods, if they are [kept](Self::with_pods): of the Services, those whose endpoints come from pods.
    pub fn selectors(&self) -> Option<&Index<ObjectName, ObjectName>> {
        Some(&self.pods.as_ref()?.index)
    }

    /// The DNS zone, if there [is one](Self::with_zone).
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.as_deref()
    }

    /// The DNS zone, to say of it what no object does: that [a namespace exists](Zone::declare_namespace), whether
    /// [all is known](Zone::set_synced).
    pub fn zone_mut(&mut self) -> Option<&mut Zone> {
        self.zone.as_deref_mut()
    }

    /// The account of addresses and node ports, if there [is one](Self::with_pools).
    pub fn pools(&self) -> Option<&Pools> {
        Some(&self.account.as_ref()?.pools)
    }

    /// The account of addresses and node ports, to give some out before the Service's event comes.
    pub fn pools_mut(&mut self) -> Option<&mut Pools> {
        Some(&mut self.account.as_mut()?.pools)
    }

    /// All objects that are kept, by kind and name: a catalog that is made in the same way and takes them, in any order, is as this one is.
    /// What [`set_source`](Self::set_source) said is not among them. The endpoints of EndpointSlices are sorted, and each is there once.
    pub fn snapshot(&self) -> Vec<Object> {
        let mut objects: Vec<Object> = self.known_services().cloned().map(Object::from).collect();
        for record in self.services.values() {
            objects.extend(record.slices().map(Object::from));
            objects.extend(record.endpoints.clone().map(Object::from));
        }
        if let Some(kept) = &self.pods {
            objects.extend(kept.by_name.values().map(|pod| Object::from(Pod::clone(pod))));
            objects.extend(kept.nodes.iter().cloned().map(Object::from));
        }
        objects.sort_by_cached_key(Object::key);
        objects
    }

    fn known_services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().filter_map(|record| record.service.as_ref())
    }

    fn keys(&self, kind: Kind) -> Box<dyn Iterator<Item = Key> + '_> {
        let kept = self.pods.iter();
        match kind {
            Kind::Service => {
                Box::new(self.known_services().map(|service| Key::Service(service.name.clone())))
            }
            Kind::EndpointSlice => Box::new(self.slices.keys().cloned().map(Key::EndpointSlice)),
            Kind::Endpoints => {
                let stated = self.services.values().filter_map(|record| record.endpoints.as_ref());
                Box::new(stated.map(|endpoints| Key::Endpoints(endpoints.name.clone())))
            }
            Kind::Pod => Box::new(kept.flat_map(|kept| kept.by_name.keys().cloned().map(Key::Pod))),
            Kind::Node => {
                let nodes = kept.flat_map(|kept| kept.nodes.iter());
                Box::new(nodes.map(|node| Key::Node(node.name.clone())))
            }
        }
    }

    fn take(&mut self, event: Event, touched: &mut Touched) {
        match event {
            Event::Upsert(Object::Service(service)) => {
                let name = service.name.clone();
                self.take_service(&name, Some(*service), touched);
            }
            Event::Delete(Key::Service(name)) => self.take_service(&name, None, touched),
            Event::Upsert(Object::EndpointSlice(slice)) => self.take_slice(*slice, touched),
            Event::Delete(Key::EndpointSlice(name)) => self.remove_slice(&name, touched),
            Event::Upsert(Object::Endpoints(endpoints)) if self.pods.is_some() => {
                let record = record(&mut self.services, &endpoints.name);
                let name = endpoints.name.clone();
                record.endpoints = Some(*endpoints);
                self.remirror(&name, touched);
            }
            Event::Delete(Key::Endpoints(name)) => {
                if let Some(record) = self.services.get_mut(&name) {
                    record.endpoints = None;
                    self.remirror(&name, touched);
                }
            }
            Event::Upsert(Object::Pod(pod)) => {
                let name = pod.name.clone();
                self.take_pod(&name, Some(pod), touched);
            }
            Event::Delete(Key::Pod(name)) => self.take_pod(&name, None, touched),
            Event::Upsert(Object::Node(node)) => {
                let name = node.name.clone();
                self.take_node(&name, Some(*node), touched);
            }
            Event::Delete(Key::Node(name)) => self.take_node(&name, None, touched),
            Event::Upsert(Object::Endpoints(_)) => {}
        }
    }

    fn take_service(&mut self, name: &ObjectName, service: Option<Service>, touched: &mut Touched) {
        let known = record(&mut self.services, name);
        if known.service == service {
            self.drop_if_empty(name);
            return;
        }
        let before = core::mem::replace(&mut known.service, service);
        let after = known.service.as_ref();
        let (node, mode) = (self.plan.node(), self.plan.mode());
        touched.beside(self.claims.replace(node, mode, before.as_ref(), after));
        if let Some(account) = &mut self.account {
            account.replace(before.as_ref(), after, self.now);
        }
        touched.itself(name.clone());
        self.reselect(name, touched);
    }

    /// Makes the endpoints of a Service anew: it is another, or they come from elsewhere.
    fn reselect(&mut self, name: &ObjectName, touched: &mut Touched) {
        if let Some(kept) = &mut self.pods {
            let service = self.services.get(name).and_then(|record| record.service.as_ref());
            let selecting = service.filter(|service| {
                kept.source(name) == EndpointSource::Pods
                    && !matches!(service.kind, ServiceKind::ExternalName(_))
                    && !service.selector.is_empty()
            });
            kept.entangled.remove(name);
            if let Some(service) = selecting {
                let selector = Selector::from(&service.selector);
                kept.index.insert_selector(name.namespace(), name.clone(), selector);
                if depends_on_all(service) {
                    kept.entangled.insert(name.clone());
                }
                touched.selections.insert(name.clone());
            } else {
                kept.index.remove_selector(name);
                // Before its Endpoints count, which may say the same.
                if self.services.get_mut(name).is_some_and(|record| record.merged.take_no_pods()) {
                    touched.itself(name.clone());
                }
            }
        }
        self.remirror(name, touched);
        if self.recount(name) {
            touched.itself(name.clone());
        }
    }

    fn take_slice(&mut self, mut slice: EndpointSlice, touched: &mut Touched) {
        let name = slice.name.clone();
        let service = slice.service.clone();
        if self.slices.get(&name).is_some_and(|earlier| *earlier != service) {
            self.remove_slice(&name, touched);
        }
        self.slices.insert(name.clone(), service.clone());
        let counts = Counts::new(&self.plan, self.pods.as_deref(), &service);
        let record = record(&mut self.services, &service);
        let counts = counts.slice(record.service.as_ref(), &slice);
        let endpoints = slice.take_endpoints();
        record.headers.insert(name.clone(), slice);
        if record.merged.take_slice(&name, endpoints, counts) {
            touched.itself(service);
        }
    }

    fn remove_slice(&mut self, name: &ObjectName, touched: &mut Touched) {
        let Some(service) = self.slices.remove(name) else { return };
        let Some(record) = self.services.get_mut(&service) else { return };
        record.headers.remove(name);
        if record.merged.remove(name) {
            touched.itself(service);
        } else {
            self.drop_if_empty(&service);
        }
    }

    /// Has those slices of a Service count that are to. Whether its endpoints are others by that.
    fn recount(&mut self, name: &ObjectName) -> bool {
        let counts = Counts::new(&self.plan, self.pods.as_deref(), name);
        let Some(record) = self.services.get_mut(name) else { return false };
        let Record { service, headers, merged, .. } = &mut **record;
        let mut changed = false;
        for (slice, header) in headers {
            changed |= merged.count_slice(slice, counts.slice(service.as_ref(), header));
        }
        changed
    }

    /// Takes what a Service's Endpoints say, if they count.
    fn remirror(&mut self, name: &ObjectName, touched: &mut Touched) {
        let Some(kept) = &self.pods else { return };
        let source = kept.source(name);
        let Some(record) = self.services.get_mut(name) else { return };
        let mirrored = record.mirrored(source);
        if record.merged.take_endpoints(mirrored) {
            touched.itself(name.clone());
        } else {
            self.drop_if_empty(name);
        }
    }

    /// Plans what was touched.
    fn settle(&mut self, mut touched: Touched) -> Changes {
        for name in core::mem::take(&mut touched.selections) {
            if self.select(&name) {
                touched.itself(name);
            }
        }
        let mut changes = Changes { pods: touched.pods, ..Changes::default() };
        for (name, itself) in touched.services {
            let record = self.services.get(&name);
            let known = record.and_then(|record| Some((record.service.as_ref()?, &record.merged)));
            if let Some((service, merged)) = known {
                self.plan.replan(&self.claims, service, merged.set(), &mut changes.plan);
                if let Some(zone) = self.zone.as_mut().filter(|_| itself) {
                    zone.upsert(service, merged.set());
                }
            } else {
                self.plan.withdraw(&name, &mut changes.plan);
                if let Some(zone) = &mut self.zone {
                    zone.remove(&name);
                }
            }
            self.drop_if_empty(&name);
            if itself {
                changes.services.insert(name);
            }
        }
        changes
    }

    fn drop_if_empty(&mut self, name: &ObjectName) {
        if self.services.get(name).is_some_and(|record| record.is_empty()) {
            self.services.remove(name);
        }
    }
}

fn record<'a>(
    services: &'a mut HashMap<ObjectName, Box<Record>, Sip>,
    name: &ObjectName,
) -> &'a mut Record {
    services.entry_ref(name).or_insert_with(|| Box::new(Record::new(name.clone())))
}
