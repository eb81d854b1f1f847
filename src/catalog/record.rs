//! What is known of one Service.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::pods::Pods;
use crate::endpoints::{
    CONTROLLER, Endpoint, EndpointSlice, Endpoints, MIRRORING_CONTROLLER, Merged, Packing,
    SliceWrites,
};
use crate::name::ObjectName;
use crate::plan::{LocalNode, Plan};
use crate::service::Service;

/// Where the endpoints of a Service come from.
#[expect(clippy::exhaustive_enums, reason = "either others make endpoints of pods, or this does")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EndpointSource {
    /// From its EndpointSlices, whoever writes them, as kube-proxy has it.
    #[default]
    Slices,
    /// From the pods that it selects, or, if it has no selector, from its Endpoints, as Kubernetes' controllers make
    /// EndpointSlices of them; and from the EndpointSlices that others than these controllers write.
    Pods,
}

impl EndpointSource {
    /// Whether a slice says something that is not known otherwise.
    pub(super) fn takes(self, slice: &EndpointSlice) -> bool {
        self == Self::Slices || ![CONTROLLER, MIRRORING_CONTROLLER].contains(&&*slice.managed_by)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) service: Option<Service>,
    pub(super) endpoints: Option<Endpoints>,
    /// Its EndpointSlices, without their endpoints.
    pub(super) headers: BTreeMap<ObjectName, EndpointSlice>,
    pub(super) merged: Merged,
}

impl Record {
    pub(super) const fn new(name: ObjectName) -> Self {
        let (service, endpoints) = (None, None);
        Self { service, endpoints, headers: BTreeMap::new(), merged: Merged::new(name) }
    }

    /// Whether nothing is known of it.
    pub(super) fn is_empty(&self) -> bool {
        self.service.is_none() && self.endpoints.is_none() && self.headers.is_empty()
    }

    /// Its EndpointSlices as they came, but for the order of their endpoints.
    pub(super) fn slices(&self) -> impl Iterator<Item = EndpointSlice> {
        self.headers.iter().map(|(name, header)| {
            let mut slice = header.clone();
            slice.put_endpoints(self.merged.slice(name).cloned().collect());
            slice
        })
    }

    /// What its Endpoints come to.
    pub(super) fn mirrored(&self, source: EndpointSource) -> Vec<Endpoint> {
        let name = self.merged.set().service();
        let endpoints = self.endpoints.as_ref().filter(|_| source == EndpointSource::Pods);
        let mirroring = Packing::mirroring();
        let writes = SliceWrites::mirror(name, self.service.as_ref(), endpoints, [], &mirroring);
        writes.creates.iter().flat_map(EndpointSlice::endpoints).cloned().collect()
    }
}

/// Which slices of a Service count.
pub(super) struct Counts<'a> {
    node: &'a LocalNode,
    source: EndpointSource,
}

impl<'a> Counts<'a> {
    pub(super) fn new(plan: &'a Plan, pods: Option<&Pods>, service: &ObjectName) -> Self {
        let source = pods.map_or(EndpointSource::Slices, |kept| kept.source(service));
        Self { node: plan.node(), source }
    }

    pub(super) fn slice(&self, service: Option<&Service>, slice: &EndpointSlice) -> bool {
        let served = service.is_some_and(|service| self.node.serves(service));
        self.source.takes(slice) && (!served || self.node.watches_slice(slice))
    }
}
