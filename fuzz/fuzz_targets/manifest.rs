//! Any bytes as a manifest in JSON, through all three steps and back: no panic, and the way back is the identity. What comes of it
//! together: the same whatever the order, and nothing to write once it is written; a pod is told each variable once.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use svcplane::endpoints::{EndpointSet, EndpointSlice, Endpoints, Merged, Packing, SliceWrites};
use svcplane::env::{self, Budget, Environment, Var};
use svcplane::k8s::{self, Object};
use svcplane::name::ObjectName;
use svcplane::node::Nodes;
use svcplane::plan::{LocalNode, Mode, Plan};
use svcplane::pod::Pod;
use svcplane::service::Service;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = serde_json::from_slice::<Object>(bytes) else { return };
    let mut world = World::default();
    world.take(object);
    world.mirrored();
    world.legacy();
    world.environment();
    let sets: Vec<EndpointSet> =
        world.services.values().map(|service| world.endpoints_of(service)).collect();
    let node = LocalNode::new("node".parse().expect("a legal name"));
    for &mode in Mode::ALL {
        let plan = Plan::new(&node, mode, world.services.values().zip(&sets));
        let back = Plan::new(&node, mode, world.services.values().rev().zip(sets.iter().rev()));
        assert_eq!(plan, back);
    }
});

/// The object again by way of its mirror.
macro_rules! back {
    ($mirror:ident, $object:expr) => {{
        let object = $object;
        let again = k8s::$mirror::from(&object).convert().expect("a legal name");
        assert_eq!(again.object, object);
        object
    }};
}

type Slices = BTreeMap<ObjectName, EndpointSlice>;

#[derive(Default)]
struct World {
    services: BTreeMap<ObjectName, Service>,
    pods: BTreeMap<ObjectName, Pod>,
    nodes: Nodes,
    endpoints: BTreeMap<ObjectName, Endpoints>,
    slices: Slices,
}

impl World {
    fn take(&mut self, object: Object) {
        match object {
            Object::Service(mut mirror) => {
                mirror.set_defaults();
                let _ = mirror.validate();
                if let Ok(converted) = mirror.convert() {
                    let service = back!(Service, converted.object);
                    self.services.insert(service.name.clone(), service);
                }
            }
            Object::Pod(mut mirror) => {
                mirror.set_defaults();
                let _ = mirror.validate();
                if let Ok(converted) = mirror.convert() {
                    let pod = back!(Pod, converted.object);
                    self.pods.insert(pod.name.clone(), pod);
                }
            }
            Object::Node(mirror) => {
                let _ = mirror.validate();
                if let Ok(converted) = mirror.convert() {
                    self.nodes.insert(back!(Node, converted.object));
                }
            }
            Object::Endpoints(mut mirror) => {
                mirror.set_defaults();
                let _ = mirror.validate();
                if let Ok(converted) = mirror.convert() {
                    let endpoints = back!(Endpoints, converted.object);
                    self.endpoints.insert(endpoints.name.clone(), endpoints);
                }
            }
            Object::EndpointSlice(mut mirror) => {
                mirror.set_defaults();
                let _ = mirror.validate();
                if let Ok(converted) = mirror.convert() {
                    let slice = back!(EndpointSlice, converted.object);
                    self.slices.insert(slice.name.clone(), slice);
                }
            }
            Object::List(list) => list.items.into_iter().for_each(|object| self.take(object)),
            _ => {}
        }
    }

    /// What pods and slices say of a Service; its slices are written and looked at until nothing is to be written.
    fn endpoints_of(&self, service: &Service) -> EndpointSet {
        let resolved = EndpointSet::resolve(service, self.pods.values(), &self.nodes);
        let stated = EndpointSet::merge(service.name.clone(), self.slices.values());
        let mut merged = Merged::new(service.name.clone());
        for slice in self.slices.values().rev() {
            merged.insert(slice);
        }
        assert_eq!(*merged.set(), stated);
        let set = resolved.clone().merged_with(&stated);
        assert_eq!(stated.merged_with(&resolved), set);
        for slice in self.slices.values() {
            merged.remove(&slice.name);
        }
        assert!(merged.set().is_empty());
        for node in [None, Some(&"node".parse().expect("a legal name"))] {
            for duplicate in set.duplicates(node) {
                assert_ne!(duplicate.kept, duplicate.hidden, "{duplicate}");
            }
        }

        let mut packing = Packing::default();
        packing.max_endpoints = 2;
        let write = |slices: &Slices| {
            SliceWrites::new(service, &set, &self.nodes, slices.values(), &packing)
        };
        settles(self.slices.clone(), write);
        set
    }

    /// The slices that mirror each Endpoints say what these say.
    fn mirrored(&self) {
        for (name, endpoints) in &self.endpoints {
            let packing = Packing::mirroring();
            let write = |slices: &Slices| {
                let service = self.services.get(name);
                SliceWrites::mirror(name, service, Some(endpoints), slices.values(), &packing)
            };
            settles(self.slices.clone(), write);
            let service = Service::new(name.clone());
            let writes = SliceWrites::mirror(name, Some(&service), Some(endpoints), [], &packing);
            if !writes.is_empty() && writes.skipped == 0 {
                let merged = EndpointSet::merge(name.clone(), &writes.creates);
                assert_eq!(merged, EndpointSet::from(endpoints));
            }
        }
    }

    /// What a pod is told: variables of Services that it sees, each once, whatever the order.
    fn environment(&self) {
        let services = self.services.values();
        let all = env::vars(services.clone());
        for (namespace, links) in [("default", true), ("default", false), ("other", true)] {
            let environment = Environment::new(namespace, links, services.clone());
            assert_eq!(environment, Environment::new(namespace, links, services.clone().rev()));
            let vars = environment.vars();
            let names: BTreeSet<&str> = vars.iter().map(Var::name).collect();
            assert_eq!(names.len(), vars.len());
            assert!(vars.iter().all(|var| all.contains(var)));
            let bytes = vars.iter().map(|var| var.as_str().len() + 9).sum();
            let Budget { vars: count, bytes: budget, .. } = environment.budget();
            assert_eq!((count, budget), (vars.len(), bytes));
            let own = vars.first().map(|var| Var::new(var.name(), "own"));
            let behind = environment.behind(own.clone());
            assert!(own.is_none_or(|own| behind.contains(&own)) && behind.len() == vars.len());
        }
    }

    /// The older objects, in canonical form once and for all.
    fn legacy(&self) {
        let resolve =
            |service: &Service| Endpoints::resolve(service, self.pods.values(), service.created);
        let resolved = self.services.values().filter_map(resolve);
        for mut endpoints in resolved.chain(self.endpoints.values().cloned()) {
            let before = endpoints.clone();
            endpoints.repack();
            assert!(endpoints.is_said_by(&before) && before.is_said_by(&endpoints));
            let once = endpoints.clone();
            endpoints.repack();
            assert_eq!(endpoints, once);
            endpoints.truncate();
            back!(Endpoints, endpoints);
        }
    }
}

/// Writes until there is nothing to write.
fn settles(mut slices: Slices, write: impl Fn(&Slices) -> SliceWrites) {
    for _ in 0..8 {
        let writes = write(&slices);
        if writes.is_empty() {
            return;
        }
        for slice in writes.creates {
            let before = slices.insert(slice.name.clone(), back!(EndpointSlice, slice));
            assert!(before.is_none(), "a name that is taken");
        }
        for slice in writes.updates {
            let before = slices.insert(slice.name.clone(), back!(EndpointSlice, slice));
            assert!(before.is_some(), "nothing to update");
        }
        for name in writes.deletes {
            assert!(slices.remove(&name).is_some(), "nothing to delete");
        }
    }
    panic!("there is always something to write");
}
