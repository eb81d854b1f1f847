//! What a controller that writes EndpointSlices has to remember between two looks at the world.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use super::EndpointSlice;
use crate::name::ObjectName;
use crate::pod::Pod;
use crate::service::Service;
use crate::time::Timestamp;

/// What a change of a pod means for Services: which of them have to look at their endpoints again.
///
/// Source: Kubernetes endpointslice `util/controller_utils.go`.
#[expect(clippy::exhaustive_structs, reason = "every combination is legal, and there are no more")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodChange {
    /// It may be selected by other Services, or its hostname count under another.
    pub labels: bool,
    /// As an endpoint it is another: addresses, readiness, whether it is being deleted, whether it is over.
    pub endpoint: bool,
}

impl PodChange {
    /// Compares two states of one pod. What else may differ, such as the node's name, never does without one of these.
    ///
    /// `DIFFERENCE`: a pod that ends is another endpoint even if it was not ready before; Kubernetes notices that only with
    /// the next change.
    pub fn between(old: &Pod, new: &Pod) -> Self {
        let name = |pod: &Pod| (pod.hostname.clone(), pod.subdomain.clone());
        Self {
            labels: old.labels != new.labels || name(old) != name(new),
            endpoint: old.ready != new.ready
                || old.ips != new.ips
                || old.deleted != new.deleted
                || old.phase.is_terminal() != new.phase.is_terminal(),
        }
    }

    /// The Services that have to look again, of those that select the old state and those that select the new
    /// one ([`labels::Index`](crate::labels::Index) tells): all of them if the endpoint is another, only those that
    /// gain or lose the pod if just its labels differ, none if nothing does.
    pub fn services<T: Ord>(self, old: BTreeSet<T>, new: BTreeSet<T>) -> BTreeSet<T> {
        let mut services = BTreeSet::new();
        if self.labels || self.endpoint {
            let mut old = old;
            for service in new {
                let both = old.remove(&service);
                if self.endpoint || !both {
                    services.insert(service);
                }
            }
            services.extend(old);
        }
        services
    }
}

/// What a controller wrote last, so that it does not take an older state of the slices for the present one.
///
/// Source: Kubernetes endpointslice `util/endpointslice_tracker.go`.
#[derive(Clone, Debug, Default)]
pub struct SliceTracker {
    /// By Service and the slice's uid; `None` is expected to be gone.
    slices: BTreeMap<ObjectName, BTreeMap<Arc<str>, Option<i64>>>,
}

impl SliceTracker {
    /// A slice was written, or seen in its newest state.
    pub fn update(&mut self, slice: &EndpointSlice) {
        let slices = self.slices.entry(slice.service.clone()).or_default();
        slices.insert(slice.uid.clone(), Some(slice.generation));
    }

    /// A slice was deleted here, and will be seen to go.
    pub fn expect_deletion(&mut self, slice: &EndpointSlice) {
        let slices = self.slices.entry(slice.service.clone()).or_default();
        slices.insert(slice.uid.clone(), None);
    }

    /// A slice is seen to be gone. False if that was not expected: then its Service has to be looked at again.
    ///
    /// `DIFFERENCE`: a slice that was never heard of is not expected to go; Kubernetes does not look again.
    pub fn deleted(&mut self, slice: &EndpointSlice) -> bool {
        let Some(slices) = self.slices.get_mut(&slice.service) else { return false };
        let expected = slices.remove(&slice.uid);
        if slices.is_empty() {
            self.slices.remove(&slice.service);
        }
        expected == Some(None)
    }

    /// A slice is seen that is newer than what was written last, or was not to be seen any more: its Service has to be
    /// looked at again.
    pub fn is_news(&self, slice: &EndpointSlice) -> bool {
        let known = self.slices.get(&slice.service).and_then(|slices| slices.get(&slice.uid));
        known.is_none_or(|written| written.is_none_or(|written| slice.generation > written))
    }

    /// These slices of a Service are not the present ones: one is older than what was written, should be gone, or
    /// is missing. Nothing may be decided from them; newer ones will come.
    pub fn is_stale<'a, I>(&self, service: &ObjectName, slices: I) -> bool
    where
        I: IntoIterator<Item = &'a EndpointSlice>,
    {
        let Some(known) = self.slices.get(service) else { return false };
        let mut missing: BTreeSet<&str> =
            known.iter().filter(|(_, g)| g.is_some()).map(|(uid, _)| &**uid).collect();
        let mut old = |slice: &EndpointSlice| {
            missing.remove(&*slice.uid);
            let known = known.get(&slice.uid);
            known.is_some_and(|known| known.is_none_or(|written| written > slice.generation))
        };
        slices.into_iter().any(&mut old) || !missing.is_empty()
    }

    /// The Service is gone.
    pub fn forget(&mut self, service: &ObjectName) {
        self.slices.remove(service);
    }
}

/// When what is to be written came to be, for [`Packing::trigger_time`](super::Packing::trigger_time).
///
/// Source: Kubernetes endpointslice `util/trigger_time_tracker.go`.
#[derive(Clone, Debug, Default)]
pub struct TriggerTimes {
    services: BTreeMap<ObjectName, Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    created: Option<Timestamp>,
    /// Since when each pod has been ready, or not.
    pods: BTreeMap<ObjectName, Timestamp>,
}

impl TriggerTimes {
    /// Looks at a Service and the pods that it selects: when the first of the changes since the last look happened. At the
    /// first look, that is when the Service was created. `None` if nothing is newer.
    pub fn next<'a, I>(&mut self, service: &Service, pods: I) -> Option<Timestamp>
    where
        I: IntoIterator<Item = &'a Pod>,
    {
        let pods = pods.into_iter();
        let pods: BTreeMap<ObjectName, Timestamp> =
            pods.filter_map(|pod| Some((pod.name.clone(), pod.ready_since?))).collect();
        let created = service.created;
        let now = Seen { created, pods };
        let Some(before) = self.services.insert(service.name.clone(), now.clone()) else {
            return created;
        };
        let changed = now.pods.iter().filter(|(name, since)| Some(*since) > before.pods.get(*name));
        let changed = changed.map(|(_, since)| *since).min();
        let recreated = created.filter(|_| created > before.created);
        changed.into_iter().chain(recreated).min()
    }

    /// The Service is gone.
    pub fn forget(&mut self, service: &ObjectName) {
        self.services.remove(service);
    }
}
