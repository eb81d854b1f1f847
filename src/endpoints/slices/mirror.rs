//! EndpointSlices that repeat what hand-written Endpoints say.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::name::Names;
use super::{EndpointSlice, Packing, RESERVED_LABELS, SliceWrites, TRIGGER_TIME};
use crate::endpoints::{Endpoint, EndpointPort, Endpoints, HEADLESS_LABEL, Reference};
use crate::labels::Labels;
use crate::name::ObjectName;
use crate::net::IpFamily;
use crate::service::Service;

/// The label, with the value `true`, of Endpoints that are not to be repeated.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The annotation of Endpoints that are no endpoints but a lock.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl SliceWrites {
    /// Compares the slices that there are with those that repeat a Service's hand-written Endpoints, as Kubernetes' mirroring
    /// controller does; [`Packing::mirroring`] is how it packs.
    ///
    /// `service` is the Service of that name and `endpoints` the Endpoints, if there are such. Without either, with a
    /// selector, or if the Endpoints bear the label `endpointslice.kubernetes.io/skip-mirror: "true"` or are a leader
    /// election's, nothing is mirrored and slices that were mirrored go.
    ///
    /// There is one slice for each family and list of ports of the Endpoints in [canonical form](Endpoints::repack), with
    /// their labels and annotations. Of each list of ports at most `max_endpoints` addresses are mirrored, ready ones first;
    /// [`skipped`](Self::skipped) says how many are not. Endpoints that are being deleted get no new slices.
    ///
    /// `DIFFERENCE`: the slices say outright that endpoints serve and do not terminate, where Kubernetes leaves both
    /// unstated, which means the same.
    pub fn mirror<'a, I>(
        name: &ObjectName,
        service: Option<&Service>,
        endpoints: Option<&Endpoints>,
        existing: I,
        packing: &Packing,
    ) -> Self
    where
        I: IntoIterator<Item = &'a EndpointSlice>,
    {
        let existing: Vec<&EndpointSlice> = existing.into_iter().collect();
        let managed = |slice: &&&EndpointSlice| {
            slice.service == *name
                && slice.managed_by == packing.managed_by
                && slice.deleted.is_none()
        };
        let mut own: Vec<&EndpointSlice> = existing.iter().filter(managed).copied().collect();
        own.sort_by(|a, b| a.name.cmp(&b.name));
        let wanted = service.is_some_and(|service| service.selector.is_empty());
        let Some(endpoints) = endpoints.filter(|endpoints| wanted && is_mirrored(endpoints)) else {
            let deletes = own.into_iter().map(|slice| slice.name.clone()).collect();
            return Self { deletes, ..Self::default() };
        };
        let names = existing.iter().map(|slice| &slice.name);
        let names = Names::new(name, packing.seed, names);
        Mirror::new(endpoints, packing).writes(own, names)
    }
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.labels.get(SKIP_MIRROR) != Some("true") && !endpoints.annotations.contains_key(LEADER)
}

struct Mirror<'a> {
    endpoints: &'a Endpoints,
    packing: &'a Packing,
    labels: Labels,
    annotations: Labels,
}

impl<'a> Mirror<'a> {
    fn new(endpoints: &'a Endpoints, packing: &'a Packing) -> Self {
        let labels = endpoints.labels.iter().filter(|(key, _)| !RESERVED_LABELS.contains(key));
        let annotations = endpoints.annotations.iter();
        let annotations =
            annotations.filter(|(key, _)| ![TRIGGER_TIME, LAST_APPLIED].contains(key));
        Self { endpoints, packing, labels: labels.collect(), annotations: annotations.collect() }
    }

    fn writes(&self, existing: Vec<&EndpointSlice>, mut names: Names) -> SliceWrites {
        let mut writes = SliceWrites::default();
        let mut groups = self.groups(&mut writes.skipped);
        let mut spare = Vec::new();
        for slice in existing {
            // The first slice of a group stays in its place; what else there is, goes.
            let group = slice.family.and_then(|family| {
                groups.remove(&(family, Arc::clone(&slice.ports))).map(|group| (family, group))
            });
            let Some((family, wanted)) = group else {
                spare.push(slice);
                continue;
            };
            let desired = self.slice(slice, family, Arc::clone(&slice.ports), wanted);
            if !same(slice, &desired) {
                writes.updates.push(desired);
            }
        }
        let mut creates: Vec<_> = groups.into_iter().collect();
        for slice in spare {
            let at = creates.iter().rposition(|((family, _), _)| slice.family == Some(*family));
            if let Some(((family, ports), wanted)) = at.map(|at| creates.remove(at)) {
                writes.updates.push(self.slice(slice, family, ports, wanted));
            } else {
                writes.deletes.push(slice.name.clone());
            }
        }
        if self.endpoints.deleted.is_some() {
            creates.clear();
        }
        for ((family, ports), wanted) in creates {
            let Some(name) = names.next() else { break };
            let blank = EndpointSlice::new(name, self.endpoints.name.clone(), family);
            writes.creates.push(self.slice(&blank, family, ports, wanted));
        }
        writes.sort();
        writes
    }

    /// The endpoints of each slice, sorted.
    fn groups(
        &self,
        skipped: &mut usize,
    ) -> BTreeMap<(IpFamily, Arc<[EndpointPort]>), Vec<Endpoint>> {
        let max = self.packing.max_endpoints.clamp(1, 1000);
        let mut groups: BTreeMap<_, Vec<Endpoint>> = BTreeMap::new();
        // In canonical form each list of ports is that of one subset.
        for subset in self.endpoints.canonical().subsets {
            let mut endpoints: Vec<Endpoint> = subset.endpoints().collect();
            *skipped += endpoints.len().saturating_sub(max);
            endpoints.truncate(max);
            endpoints.sort_unstable();
            for endpoint in endpoints {
                let key = (IpFamily::of(endpoint.ip), Arc::clone(&endpoint.ports));
                groups.entry(key).or_default().push(endpoint);
            }
        }
        groups
    }

    fn slice(
        &self,
        place: &EndpointSlice,
        family: IpFamily,
        ports: Arc<[EndpointPort]>,
        endpoints: Vec<Endpoint>,
    ) -> EndpointSlice {
        EndpointSlice {
            uid: place.uid.clone(),
            generation: place.generation,
            managed_by: self.packing.managed_by.clone(),
            headless: self.endpoints.labels.contains_key(HEADLESS_LABEL),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            owner: Some(Reference::new("Endpoints", &self.endpoints.name, &self.endpoints.uid)),
            ports,
            endpoints,
            ..EndpointSlice::new(place.name.clone(), self.endpoints.name.clone(), family)
        }
    }
}

/// Whether a slice says what it should, in any order.
fn same(slice: &EndpointSlice, desired: &EndpointSlice) -> bool {
    let sorted = |slice: &EndpointSlice| {
        let mut endpoints: Vec<Endpoint> = slice.endpoints.clone();
        endpoints.sort_unstable();
        endpoints
    };
    slice.labels == desired.labels
        && slice.headless == desired.headless
        && (slice.owner.is_none() || slice.owner == desired.owner)
        && slice.annotations == desired.annotations
        && sorted(slice) == desired.endpoints
}
