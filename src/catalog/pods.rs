//! Endpoints from pods.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::record::Record;
use super::{Catalog, EndpointSource, Sip, Touched};
use crate::labels::{Index, Selector};
use crate::name::{NodeName, ObjectName};
use crate::node::{Node, Nodes};
use crate::pod::Pod;

/// What endpoints are made from, where they do not come from EndpointSlices.
#[derive(Clone, Debug)]
pub(super) struct Pods {
    pub(super) source: EndpointSource,
    /// Where a Service's endpoints come from otherwise.
    pub(super) sources: BTreeMap<ObjectName, EndpointSource>,
    pub(super) by_name: HashMap<ObjectName, Box<Pod>, Sip>,
    pub(super) by_node: HashMap<NodeName, BTreeSet<ObjectName>, Sip>,
    pub(super) nodes: Nodes,
    /// The Services and the pods.
    pub(super) index: Index<ObjectName, ObjectName>,
    /// The Services of which each endpoint depends on all.
    pub(super) entangled: BTreeSet<ObjectName>,
}

impl Pods {
    pub(super) fn source(&self, service: &ObjectName) -> EndpointSource {
        self.sources.get(service).copied().unwrap_or(self.source)
    }
}

impl Catalog {
    pub(super) fn take_pod(
        &mut self,
        name: &ObjectName,
        pod: Option<Box<Pod>>,
        touched: &mut Touched,
    ) {
        let Some(kept) = &mut self.pods else { return };
        let before = kept.by_name.get(name).map(|pod| &**pod);
        let after = pod.as_deref();
        if before == after {
            return;
        }
        let (old, new) = (before.map(|pod| &pod.labels), after.map(|pod| &pod.labels));
        let relabelled = old != new;
        let mut services: BTreeSet<ObjectName> = BTreeSet::new();
        for labels in old.into_iter().chain(new.filter(|_| relabelled)) {
            let matching = kept.index.selectors_matching(name.namespace(), labels);
            services.extend(matching.into_iter().cloned());
        }
        match new {
            Some(labels) if relabelled => {
                kept.index.insert_object(name.namespace(), name.clone(), labels);
            }
            Some(_) => {}
            None => drop(kept.index.remove_object(name)),
        }
        let (old, new) =
            (before.and_then(|pod| pod.node.as_ref()), after.and_then(|pod| pod.node.as_ref()));
        if old != new {
            if let Some((node, pods)) = old.and_then(|on| Some((on, kept.by_node.get_mut(on)?))) {
                pods.remove(name);
                if pods.is_empty() {
                    kept.by_node.remove(node);
                }
            }
            if let Some(node) = new {
                kept.by_node.entry(node.clone()).or_default().insert(name.clone());
            }
        }
        if let Some(zone) = &mut self.zone {
            match after {
                Some(pod) => drop(zone.upsert_pod(pod)),
                None => drop(zone.remove_pod(name)),
            }
        }
        match pod {
            Some(pod) => drop(kept.by_name.insert(name.clone(), pod)),
            None => drop(kept.by_name.remove(name)),
        }
        touched.pods.insert(name.clone());
        for service in services {
            self.restate(service, name, touched);
        }
    }

    /// Looks at one pod again that a Service selects, or did.
    fn restate(&mut self, name: ObjectName, pod: &ObjectName, touched: &mut Touched) {
        let Some(kept) = &self.pods else { return };
        if kept.entangled.contains(&name) || touched.selections.contains(&name) {
            touched.selections.insert(name);
            return;
        }
        let Some(record) = self.services.get_mut(&name) else { return };
        let Record { service: Some(service), merged, .. } = &mut **record else { return };
        let now = kept.by_name.get(pod).map(|pod| &**pod);
        if merged.take_one_pod(service, pod, now, &kept.nodes) {
            touched.itself(name);
        }
    }

    pub(super) fn take_node(&mut self, name: &NodeName, node: Option<Node>, touched: &mut Touched) {
        let Some(kept) = &mut self.pods else { return };
        if kept.nodes.lookup(name.as_str()) == node.as_ref() {
            return;
        }
        let cpus = kept.nodes.cpus_by_zone().cloned();
        let known = node.is_some();
        let zone = node.as_ref().and_then(Node::zone).map(ToOwned::to_owned);
        let before = match node {
            Some(node) => kept.nodes.insert(node),
            None => kept.nodes.remove(name.as_str()),
        };
        if kept.nodes.cpus_by_zone() != cpus.as_ref() {
            touched.selections.extend(kept.entangled.iter().cloned());
        }
        if before.is_some() == known && before.as_ref().and_then(Node::zone) == zone.as_deref() {
            return;
        }
        let pods: Vec<ObjectName> = kept.by_node.get(name).into_iter().flatten().cloned().collect();
        for pod in pods {
            let Some(kept) = &self.pods else { return };
            let Some(labels) = kept.by_name.get(&pod).map(|pod| &pod.labels) else { continue };
            let services = kept.index.selectors_matching(pod.namespace(), labels);
            let services: Vec<ObjectName> = services.into_iter().cloned().collect();
            for service in services {
                self.restate(service, &pod, touched);
            }
        }
    }

    /// Looks at all pods again that a Service selects. Whether its endpoints are others.
    pub(super) fn select(&mut self, name: &ObjectName) -> bool {
        let Some(kept) = &self.pods else { return false };
        let Some(record) = self.services.get_mut(name) else { return false };
        let service = match &record.service {
            Some(service) if kept.source(name) == EndpointSource::Pods => service,
            _ => return record.merged.take_no_pods(),
        };
        let selector = Selector::from(&service.selector);
        let selected = kept.index.objects_matching(name.namespace(), &selector);
        let pods = selected.into_iter().filter_map(|pod| Some(&**kept.by_name.get(pod)?));
        record.merged.take_pods(service, pods, &kept.nodes)
    }
}
