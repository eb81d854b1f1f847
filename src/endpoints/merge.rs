//! From EndpointSlices to endpoints.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;

use super::set::Entry;
use super::{Endpoint, EndpointSet, EndpointSlice, LeftOut};
use crate::name::ObjectName;

impl EndpointSet {
    /// What these EndpointSlices say together. Those of other Services are passed over.
    pub fn merge<'a, I>(service: ObjectName, slices: I) -> Self
    where
        I: IntoIterator<Item = &'a EndpointSlice>,
    {
        let of_service = slices.into_iter().filter(|slice| slice.service == service);
        let entries = of_service.flat_map(|slice| {
            let entry = |endpoint: &Endpoint| Entry {
                endpoint: Arc::new(endpoint.clone()),
                slice: Some(slice.name.clone()),
            };
            slice.endpoints().iter().map(entry)
        });
        let entries = entries.collect();
        Self::from_entries(service, entries)
    }
}

/// The EndpointSlices of one Service, merged as they come and go.
///
/// ```
/// use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSlice, Merged};
/// use svcplane::name::ObjectName;
/// use svcplane::net::{IpFamily, Protocol};
///
/// let service = ObjectName::new("default", "redis")?;
/// let mut slice = EndpointSlice::new(ObjectName::new("default", "redis-x7k2p")?, service.clone(), IpFamily::V4);
/// slice.set_endpoints([EndpointPort::new(6379)], [Endpoint::new("10.0.0.7".parse()?)]);
///
/// let mut merged = Merged::new(service);
/// assert!(merged.insert(&slice));
/// assert!(!merged.insert(&slice)); // nothing new
/// let (addr, _) = merged.set().port("", Protocol::Tcp).next().unwrap();
/// assert_eq!(addr.to_string(), "10.0.0.7:6379");
/// assert!(merged.remove(&slice.name));
/// assert!(merged.set().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The order in which slices come does not matter. A change costs what the slice holds: O(e · log e) to compare it with what
/// it said before, and O(log n) for each endpoint that differs, among n of the Service.
#[derive(Clone, Debug)]
pub struct Merged {
    set: EndpointSet,
    /// What each says, sorted.
    stated: BTreeMap<Source, Stated>,
}

/// Who says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// The Service's Endpoints.
    Endpoints,
    Pod(ObjectName),
    Slice(ObjectName),
}

#[derive(Clone, Debug)]
struct Stated {
    endpoints: Box<[Arc<Endpoint>]>,
    /// Whether it is in the set.
    counts: bool,
}

impl Source {
    fn entry(&self, endpoint: Arc<Endpoint>) -> Entry {
        let slice = if let Self::Slice(name) = self { Some(name.clone()) } else { None };
        Entry { endpoint, slice }
    }
}

impl Merged {
    /// Nothing yet.
    pub const fn new(service: ObjectName) -> Self {
        Self { set: EndpointSet::empty(service), stated: BTreeMap::new() }
    }

    /// Takes a slice as it is now, in place of the one of its name. Whether the set has changed by it. A slice of
    /// another Service is taken out: it was moved there.
    pub fn insert(&mut self, slice: &EndpointSlice) -> bool {
        if slice.service != *self.set.service() {
            return self.remove(&slice.name);
        }
        let stated = slice.endpoints().iter().collect();
        self.state(Source::Slice(slice.name.clone()), stated, true, |new: &Endpoint| new.clone())
    }

    /// Takes what a slice of the Service says now; it may be kept without counting.
    pub(crate) fn take_slice(
        &mut self,
        name: &ObjectName,
        endpoints: Vec<Endpoint>,
        counts: bool,
    ) -> bool {
        self.state(Source::Slice(name.clone()), endpoints, counts, |new| new)
    }

    /// Takes what the Service's Endpoints say now.
    pub(crate) fn take_endpoints(&mut self, endpoints: Vec<Endpoint>) -> bool {
        self.take_or_remove(Source::Endpoints, endpoints)
    }

    /// Takes what a pod is now: nothing, if it is no endpoint.
    pub(crate) fn take_pod(
        &mut self,
        pod: &ObjectName,
        endpoints: Vec<Endpoint>,
        left_out: Option<LeftOut>,
    ) -> bool {
        let stated = self.take_or_remove(Source::Pod(pod.clone()), endpoints);
        let known = &mut self.set.left_out;
        let name = |left_out: &LeftOut| left_out.pod.cmp(pod);
        match (known.binary_search_by(name), left_out) {
            (Ok(at), Some(left_out)) if known[at] == left_out => stated,
            (Ok(at), Some(left_out)) => {
                known[at] = left_out;
                true
            }
            (Ok(at), None) => {
                known.remove(at);
                true
            }
            (Err(at), Some(left_out)) => {
                known.insert(at, left_out);
                true
            }
            (Err(_), None) => stated,
        }
    }

    /// Forgets all pods.
    pub(crate) fn take_no_pods(&mut self) -> bool {
        let pods: Vec<ObjectName> = self.pods().cloned().collect();
        for pod in &pods {
            self.take_pod(pod, Vec::new(), None);
        }
        !pods.is_empty()
    }

    fn take_or_remove(&mut self, source: Source, endpoints: Vec<Endpoint>) -> bool {
        if endpoints.is_empty() {
            return self.withdraw(&source);
        }
        self.state(source, endpoints, true, |new| new)
    }

    /// Takes a slice out. Whether the set has changed by it.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        self.withdraw(&Source::Slice(name.clone()))
    }

    /// The pods of which something is said.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &ObjectName> {
        let stated = self.stated.keys().filter_map(|source| match source {
            Source::Pod(pod) => Some(pod),
            Source::Endpoints | Source::Slice(_) => None,
        });
        stated.chain(self.set.left_out.iter().map(|left_out| &left_out.pod))
    }

    /// Has a slice count, or not. Whether the set has changed by it.
    pub(crate) fn count_slice(&mut self, name: &ObjectName, counts: bool) -> bool {
        self.count(&Source::Slice(name.clone()), counts)
    }

    fn count(&mut self, source: &Source, counts: bool) -> bool {
        let Some(stated) = self.stated.get_mut(source) else { return false };
        if stated.counts == counts {
            return false;
        }
        stated.counts = counts;
        for endpoint in &stated.endpoints {
            let entry = source.entry(Arc::clone(endpoint));
            if counts { self.set.insert(entry) } else { self.set.remove(&entry) }
        }
        !stated.endpoints.is_empty()
    }

    /// What a slice says, sorted.
    pub(crate) fn slice(&self, name: &ObjectName) -> impl Iterator<Item = &Endpoint> {
        let stated = self.stated.get(&Source::Slice(name.clone()));
        stated.into_iter().flat_map(|stated| &stated.endpoints).map(|endpoint| &**endpoint)
    }

    fn withdraw(&mut self, source: &Source) -> bool {
        let Some(Stated { endpoints, counts }) = self.stated.remove(source) else { return false };
        let changed = counts && !endpoints.is_empty();
        for endpoint in endpoints.into_iter().filter(|_| counts) {
            self.set.remove(&source.entry(endpoint));
        }
        changed
    }

    fn state<E: Borrow<Endpoint>>(
        &mut self,
        source: Source,
        mut stated: Vec<E>,
        counts: bool,
        own: impl Fn(E) -> Endpoint,
    ) -> bool {
        // What is not in the set as it was need not be compared with what it is now.
        let other = self.stated.get(&source).is_some_and(|stated| stated.counts != counts);
        let counted = other && self.withdraw(&source);
        stated.sort_unstable_by(|a, b| a.borrow().cmp(b.borrow()));
        stated.dedup_by(|a, b| (*a).borrow() == (*b).borrow());
        let before = self.stated.remove(&source);
        let before = before.map(|before| before.endpoints).unwrap_or_default();
        let mut before = before.into_iter().peekable();
        let mut now = Vec::with_capacity(stated.len());
        let mut changed = false;
        for endpoint in stated {
            let mut same = None;
            while let Some(earlier) = before.peek() {
                let order = (**earlier).cmp(endpoint.borrow());
                if order.is_gt() {
                    break;
                }
                let Some(earlier) = before.next() else { break };
                if order.is_eq() {
                    same = Some(earlier);
                    break;
                }
                changed = true;
                if counts {
                    self.set.remove(&source.entry(earlier));
                }
            }
            if let Some(same) = same {
                now.push(same);
                continue;
            }
            changed = true;
            let endpoint = Arc::new(own(endpoint));
            now.push(Arc::clone(&endpoint));
            if counts {
                self.set.insert(source.entry(endpoint));
            }
        }
        for gone in before {
            changed = true;
            if counts {
                self.set.remove(&source.entry(gone));
            }
        }
        self.stated.insert(source, Stated { endpoints: now.into(), counts });
        counted || (changed && counts)
    }

    /// The endpoints that the slices state together.
    pub const fn set(&self) -> &EndpointSet {
        &self.set
    }

    /// How many slices there are, empty ones included.
    pub fn slices(&self) -> usize {
        let is_slice = |source: &&Source| matches!(source, Source::Slice(_));
        self.stated.keys().filter(is_slice).count()
    }
}

impl From<Merged> for EndpointSet {
    fn from(merged: Merged) -> Self {
        merged.set
    }
}
