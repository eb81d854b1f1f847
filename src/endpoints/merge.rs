//! From EndpointSlices to endpoints.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::set::Entry;
use super::{Endpoint, EndpointSet, EndpointSlice};
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
    /// What each slice says, sorted.
    slices: BTreeMap<ObjectName, Vec<Arc<Endpoint>>>,
}

impl Merged {
    /// Nothing yet.
    pub const fn new(service: ObjectName) -> Self {
        Self { set: EndpointSet::empty(service), slices: BTreeMap::new() }
    }

    /// Takes a slice as it is now, in place of the one of its name. Whether the set has changed by it. A slice of
    /// another Service is taken out: it was moved there.
    pub fn insert(&mut self, slice: &EndpointSlice) -> bool {
        if slice.service != *self.set.service() {
            return self.remove(&slice.name);
        }
        let mut stated: Vec<&Endpoint> = slice.endpoints().iter().collect();
        stated.sort_unstable();
        stated.dedup();
        let before = self.slices.remove(&slice.name).unwrap_or_default();
        let mut before = before.into_iter().peekable();
        let mut now = Vec::with_capacity(stated.len());
        let mut changed = false;
        for endpoint in stated {
            while let Some(gone) = before.next_if(|earlier| **earlier < *endpoint) {
                self.set.remove(&Entry { endpoint: gone, slice: Some(slice.name.clone()) });
                changed = true;
            }
            if let Some(same) = before.next_if(|earlier| **earlier == *endpoint) {
                now.push(same);
                continue;
            }
            let endpoint = Arc::new(endpoint.clone());
            now.push(Arc::clone(&endpoint));
            self.set.insert(Entry { endpoint, slice: Some(slice.name.clone()) });
            changed = true;
        }
        for gone in before {
            self.set.remove(&Entry { endpoint: gone, slice: Some(slice.name.clone()) });
            changed = true;
        }
        self.slices.insert(slice.name.clone(), now);
        changed
    }

    /// Takes a slice out. Whether the set has changed by it.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        let Some(endpoints) = self.slices.remove(name) else { return false };
        let changed = !endpoints.is_empty();
        for endpoint in endpoints {
            self.set.remove(&Entry { endpoint, slice: Some(name.clone()) });
        }
        changed
    }

    /// The endpoints that the slices state together.
    pub const fn set(&self) -> &EndpointSet {
        &self.set
    }

    /// How many slices there are, empty ones included.
    pub fn slices(&self) -> usize {
        self.slices.len()
    }
}

impl From<Merged> for EndpointSet {
    fn from(merged: Merged) -> Self {
        merged.set
    }
}
