//! A naive catalog: plain maps of objects, from which everything is computed anew whenever it is asked for. It knows what the documents
//! of `catalog` promise, and nothing of how that is kept. Used by a fuzz target, too.

use std::collections::{BTreeMap, BTreeSet};

use svcplane::assign::{self, Claim, Pools};
use svcplane::catalog::{Catalog, EndpointSource, Event, Key, Kind, Object};
use svcplane::dns::{self, NameBuf, PodMode, Zone};
use svcplane::endpoints::{
    Endpoint, EndpointSet, EndpointSlice, Endpoints, HEADLESS_LABEL, LeftOut, Packing, SliceWrites,
};
use svcplane::labels::{Labels, Selector};
use svcplane::name::{NodeName, ObjectName};
use svcplane::net::IpFamily;
use svcplane::node::{Node, Nodes};
use svcplane::plan::{LocalNode, Mode, PROXY_NAME_LABEL, Plan};
use svcplane::pod::Pod;
use svcplane::service::{Service, ServiceKind};
use svcplane::time::Instant;

/// How a catalog is made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) node: LocalNode,
    pub(crate) mode: Mode,
    pub(crate) pods: Option<EndpointSource>,
    /// Whether a zone calls endpoints as their pods.
    pub(crate) zone: Option<bool>,
    pub(crate) pools: bool,
}

/// One call of a catalog.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    One(Event),
    Batch(Vec<Event>),
    Resync(Kind, Vec<Object>),
    Node(LocalNode),
    Source(ObjectName, Option<EndpointSource>),
    Now(Instant),
    /// Attaches a zone, if there is none.
    Zone(bool),
    /// Attaches pools, if there are none.
    Pools,
}

/// Something that an endpoint set is made of: a slice, or none, and what it says.
type Statement = (Option<ObjectName>, Endpoint);

/// What a Service is, as far as changes tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    service: Option<Service>,
    stated: BTreeSet<Statement>,
    left_out: Vec<LeftOut>,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) made: Made,
    pub(crate) services: BTreeMap<ObjectName, Service>,
    pub(crate) slices: BTreeMap<ObjectName, EndpointSlice>,
    pub(crate) endpoints: BTreeMap<ObjectName, Endpoints>,
    pub(crate) pods: BTreeMap<ObjectName, Pod>,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    pub(crate) sources: BTreeMap<ObjectName, EndpointSource>,
}

impl Made {
    pub(crate) fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::new(self.node.clone(), self.mode);
        if let Some(source) = self.pods {
            catalog = catalog.with_pods(source);
        }
        if let Some(pod_names) = self.zone {
            catalog = catalog.with_zone(zone(pod_names));
        }
        if self.pools {
            catalog = catalog.with_pools(pools());
        }
        catalog
    }
}

fn zone(pod_names: bool) -> Zone {
    let mut config = dns::Config::default();
    config.pods = PodMode::Verified;
    config.endpoint_pod_names = pod_names;
    let origin: NameBuf = "cluster.local".parse().expect("a name");
    Zone::new(origin, config)
}

fn pools() -> Pools {
    Pools::new(&[IpFamily::V4, IpFamily::V6], std::time::Duration::from_secs(60))
}

impl Step {
    /// Has a catalog do it. What that changes.
    pub(crate) fn take(self, catalog: &mut Catalog) -> svcplane::catalog::Changes {
        match self {
            Self::One(event) => return catalog.apply(event),
            Self::Batch(events) => return catalog.apply_all(events),
            Self::Resync(kind, objects) => return catalog.resync(kind, objects),
            Self::Node(node) => return catalog.set_node(node),
            Self::Source(service, source) => return catalog.set_source(&service, source),
            Self::Now(now) => catalog.set_now(now),
            Self::Zone(pod_names) if catalog.zone().is_none() => {
                *catalog = catalog.clone().with_zone(zone(pod_names));
            }
            Self::Pools if catalog.pools().is_none() => {
                *catalog = catalog.clone().with_pools(pools());
            }
            Self::Zone(_) | Self::Pools => {}
        }
        svcplane::catalog::Changes::default()
    }
}

impl Model {
    pub(crate) fn new(made: Made) -> Self {
        Self {
            made,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::One(event) => self.apply(event),
            Step::Batch(events) => events.into_iter().for_each(|event| self.apply(event)),
            Step::Resync(kind, objects) => {
                let listed: BTreeSet<Key> = objects.iter().map(Object::key).collect();
                for object in objects {
                    self.apply(Event::Upsert(object));
                }
                let known = self.objects().into_iter().map(|object| object.key());
                for key in known.filter(|key| key.kind() == kind && !listed.contains(key)) {
                    self.apply(Event::Delete(key));
                }
            }
            Step::Node(node) => self.made.node = node,
            Step::Source(service, source) if self.made.pods.is_some() => match source {
                Some(source) => drop(self.sources.insert(service, source)),
                None => drop(self.sources.remove(&service)),
            },
            Step::Zone(pod_names) => {
                self.made.zone.get_or_insert(pod_names);
            }
            Step::Pools => self.made.pools = true,
            Step::Source(..) | Step::Now(_) => {}
        }
    }

    fn apply(&mut self, event: Event) {
        let pods = self.made.pods.is_some();
        match event {
            Event::Upsert(Object::Service(service)) => {
                self.services.insert(service.name.clone(), *service);
            }
            Event::Upsert(Object::EndpointSlice(slice)) => {
                self.slices.insert(slice.name.clone(), *slice);
            }
            Event::Upsert(Object::Endpoints(endpoints)) if pods => {
                self.endpoints.insert(endpoints.name.clone(), *endpoints);
            }
            Event::Upsert(Object::Pod(pod)) if pods => {
                self.pods.insert(pod.name.clone(), *pod);
            }
            Event::Upsert(Object::Node(node)) if pods => {
                self.nodes.insert(node.name.clone(), *node);
            }
            Event::Delete(Key::Service(name)) => drop(self.services.remove(&name)),
            Event::Delete(Key::EndpointSlice(name)) => drop(self.slices.remove(&name)),
            Event::Delete(Key::Endpoints(name)) => drop(self.endpoints.remove(&name)),
            Event::Delete(Key::Pod(name)) => drop(self.pods.remove(&name)),
            Event::Delete(Key::Node(name)) => drop(self.nodes.remove(&name)),
            _ => {}
        }
    }

    /// Every object, as a snapshot has it.
    pub(crate) fn objects(&self) -> Vec<Object> {
        let mut objects: Vec<Object> = Vec::new();
        objects.extend(self.services.values().cloned().map(Object::from));
        for slice in self.slices.values() {
            let mut slice = slice.clone();
            let endpoints: BTreeSet<Endpoint> = slice.endpoints().iter().cloned().collect();
            slice.set_endpoints(slice.ports().to_vec(), endpoints);
            objects.push(slice.into());
        }
        objects.extend(self.endpoints.values().cloned().map(Object::from));
        objects.extend(self.pods.values().cloned().map(Object::from));
        objects.extend(self.nodes.values().cloned().map(Object::from));
        objects
    }

    pub(crate) fn source(&self, service: &ObjectName) -> EndpointSource {
        let source = self.sources.get(service).copied().or(self.made.pods);
        source.unwrap_or(EndpointSource::Slices)
    }

    /// Every name of a Service of which something is known.
    pub(crate) fn names(&self) -> BTreeSet<ObjectName> {
        let of_slices = self.slices.values().map(|slice| &slice.service);
        let names = self.services.keys().chain(self.endpoints.keys()).chain(of_slices);
        names.cloned().collect()
    }

    /// The slices of a Service that count, the pods' endpoints and what its Endpoints say.
    fn parts(&self, name: &ObjectName) -> (Vec<&EndpointSlice>, EndpointSet, Vec<Endpoint>) {
        let service = self.services.get(name);
        let pods = self.source(name) == EndpointSource::Pods;
        let own =
            |labels: &Labels| labels.get(PROXY_NAME_LABEL) == self.made.node.proxy_name.as_deref();
        let served = service.is_some_and(|service| {
            !matches!(service.kind, ServiceKind::ExternalName(_))
                && !service.cluster_ips.as_slice().is_empty()
                && own(&service.labels)
                && !service.labels.contains_key(HEADLESS_LABEL)
        });
        let controllers =
            ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
        let slices = self.slices.values().filter(|slice| {
            slice.service == *name
                && !(pods && controllers.contains(&&*slice.managed_by))
                && (!served || (own(&slice.labels) && !slice.headless))
        });
        let nodes: Nodes = self.nodes.values().cloned().collect();
        let selected = match service {
            Some(service) if pods => EndpointSet::resolve(service, self.pods.values(), &nodes),
            _ => EndpointSet::new(name.clone(), []),
        };
        let endpoints = self.endpoints.get(name).filter(|_| pods);
        let mirror = SliceWrites::mirror(name, service, endpoints, [], &Packing::mirroring());
        let mirrored = mirror.creates.iter().flat_map(EndpointSlice::endpoints).cloned().collect();
        (slices.collect(), selected, mirrored)
    }

    pub(crate) fn set(&self, name: &ObjectName) -> EndpointSet {
        let (slices, selected, mirrored) = self.parts(name);
        let merged = EndpointSet::merge(name.clone(), slices);
        selected.merged_with(&merged).merged_with(&EndpointSet::new(name.clone(), mirrored))
    }

    pub(crate) fn state(&self, name: &ObjectName) -> State {
        let (slices, selected, mirrored) = self.parts(name);
        let own = selected.endpoints().cloned().chain(mirrored).map(|endpoint| (None, endpoint));
        let others = slices.into_iter().flat_map(|slice| {
            slice.endpoints().iter().map(|endpoint| (Some(slice.name.clone()), endpoint.clone()))
        });
        State {
            service: self.services.get(name).cloned(),
            stated: own.chain(others).collect(),
            left_out: selected.left_out().to_vec(),
        }
    }

    pub(crate) fn states(&self) -> BTreeMap<ObjectName, State> {
        self.names().into_iter().map(|name| (name.clone(), self.state(&name))).collect()
    }

    pub(crate) fn sets(&self) -> BTreeMap<ObjectName, EndpointSet> {
        self.names().into_iter().map(|name| (name.clone(), self.set(&name))).collect()
    }

    pub(crate) fn plan(&self, sets: &BTreeMap<ObjectName, EndpointSet>) -> Plan {
        let services = self.services.iter().map(|(name, service)| (service, &sets[name]));
        Plan::new(&self.made.node, self.made.mode, services)
    }

    pub(crate) fn zone(&self, sets: &BTreeMap<ObjectName, EndpointSet>) -> Option<Zone> {
        let mut zone = zone(self.made.zone?);
        for (name, service) in &self.services {
            zone.upsert(service, &sets[name]);
        }
        for pod in self.pods.values() {
            zone.upsert_pod(pod);
        }
        Some(zone)
    }

    /// The Services whose selector an index has.
    fn selecting(&self) -> impl Iterator<Item = (&ObjectName, &Service)> {
        self.services.iter().filter(|(name, service)| {
            self.source(name) == EndpointSource::Pods
                && !service.selector.is_empty()
                && !matches!(service.kind, ServiceKind::ExternalName(_))
        })
    }

    /// What an index says of these labels.
    pub(crate) fn check_index(&self, catalog: &Catalog, asked: &[Labels]) {
        let Some(index) = catalog.selectors() else {
            return assert!(self.made.pods.is_none());
        };
        assert_eq!(index.selectors(), self.selecting().count());
        assert_eq!(index.objects(), self.pods.len());
        let all = self.pods.values().map(|pod| &pod.labels).chain(asked);
        for labels in all {
            for namespace in ["a", "b"] {
                let services = self.selecting().filter(|(_, s)| s.selects(namespace, labels));
                let names: Vec<&ObjectName> = services.map(|(name, _)| name).collect();
                assert_eq!(index.selectors_matching(namespace, labels), names, "{labels:?}");
                let selector = Selector::from(labels);
                let pods = self.pods.values().filter(|pod| {
                    pod.name.namespace() == namespace && selector.matches(&pod.labels)
                });
                let names: Vec<&ObjectName> = pods.map(|pod| &pod.name).collect();
                assert_eq!(index.objects_matching(namespace, &selector), names, "{selector}");
            }
        }
    }

    /// Who has what, by the pools.
    pub(crate) fn check_pools(&self, catalog: &Catalog) {
        let Some(pools) = catalog.pools() else { return assert!(!self.made.pools) };
        let mut services: Vec<&Service> = self.services.values().collect();
        // Of unknown age is the youngest.
        services.sort_by_key(|service| (service.created.is_none(), service.created, &service.name));
        let mut owners: BTreeMap<Claim, &ObjectName> = BTreeMap::new();
        for service in services {
            for claim in assign::claims(service) {
                owners.entry(claim).or_insert(&service.name);
            }
        }
        for (claim, owner) in &owners {
            assert_eq!(pools.owner(*claim), Some(*owner), "{claim}");
        }
        let (ips, ports) = (pools.cluster_ips.iter().len(), pools.node_ports.iter().len());
        assert_eq!(ips + ports, owners.len(), "nothing else is anybody's");
    }
}
