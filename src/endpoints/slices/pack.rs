//! Which endpoint goes into which slice, with the fewest writes.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::name::Names;
use super::{EndpointSlice, Packing, RESERVED_LABELS, SliceWrites, TRIGGER_TIME};
use crate::endpoints::hints::{Allocated, Shares, Wish, spread};
use crate::endpoints::resolve::families;
use crate::endpoints::{Endpoint, EndpointPort, EndpointSet, Hints, Reference};
use crate::labels::Labels;
use crate::net::IpFamily;
use crate::node::Nodes;
use crate::service::{ClusterIps, Service};

type Ports = Arc<[EndpointPort]>;

pub(super) struct Packer<'a> {
    service: &'a Service,
    nodes: &'a Nodes,
    packing: &'a Packing,
    max: usize,
    /// What the Service's slices inherit.
    labels: Labels,
}

impl<'a> Packer<'a> {
    pub(super) fn new(service: &'a Service, nodes: &'a Nodes, packing: &'a Packing) -> Self {
        let own = service.labels.iter().filter(|(key, _)| !RESERVED_LABELS.contains(key));
        let (max, labels) = (packing.max_endpoints.clamp(1, 1000), own.collect());
        Self { service, nodes, packing, max, labels }
    }

    pub(super) fn writes(
        &self,
        set: &'a EndpointSet,
        existing: &[&'a EndpointSlice],
    ) -> SliceWrites {
        let taken = existing.iter().map(|slice| &slice.name);
        let mut names = Names::new(&self.service.name, self.packing.seed, taken);
        let managed = |slice: &&&EndpointSlice| {
            slice.service == self.service.name
                && slice.managed_by == self.packing.managed_by
                && slice.deleted.is_none()
        };
        let mut own: Vec<&EndpointSlice> = existing.iter().filter(managed).copied().collect();
        own.sort_by(|a, b| a.name.cmp(&b.name));
        own.dedup_by(|a, b| a.name == b.name);

        let mut writes = SliceWrites::default();
        let families = families(self.service);
        let foreign =
            |slice: &&&EndpointSlice| !slice.family.is_some_and(|f| families.contains(&f));
        writes.deletes.extend(own.iter().filter(foreign).map(|slice| slice.name.clone()));
        for &family in families {
            let own = own.iter().copied().filter(|slice| slice.family == Some(family));
            let wanted = set.endpoints().filter(|endpoint| IpFamily::of(endpoint.ip) == family);
            self.family(family, wanted, own, &mut names, &mut writes);
        }
        writes.sort();
        writes
    }

    fn family(
        &self,
        family: IpFamily,
        wanted: impl Iterator<Item = &'a Endpoint>,
        existing: impl Iterator<Item = &'a EndpointSlice>,
        names: &mut Names,
        writes: &mut SliceWrites,
    ) {
        let mut groups: BTreeMap<&Ports, (Vec<&Endpoint>, Vec<Draft<'a>>)> = BTreeMap::new();
        for endpoint in wanted {
            groups.entry(&endpoint.ports).or_default().0.push(endpoint);
        }
        let mut drafts = Vec::new();
        for slice in existing {
            match groups.get_mut(&slice.ports) {
                Some((_, here)) if self.owns(slice) => here.push(Draft::of(slice)),
                _ => drafts.push(Draft { fate: Fate::Delete, ..Draft::of(slice) }),
            }
        }
        for (ports, (wanted, existing)) in groups {
            self.group(ports, wanted, existing, &mut drafts);
        }
        if drafts.iter().all(|draft| draft.fate == Fate::Delete) {
            match &mut *drafts {
                [only] if only.slice.is_some_and(|slice| self.is_placeholder(slice)) => {
                    only.fate = Fate::Keep;
                }
                _ => drafts.push(Draft::new(Arc::new([]))),
            }
        }
        self.hint(&mut drafts);
        self.write(family, drafts, names, writes);
    }

    /// One list of ports: what is wanted with it and the slices that have it.
    fn group(
        &self,
        ports: &'a Ports,
        mut wanted: Vec<&'a Endpoint>,
        mut slices: Vec<Draft<'a>>,
        drafts: &mut Vec<Draft<'a>>,
    ) {
        wanted.sort_by(|a, b| by_identity(a, b));
        wanted.dedup_by(|a, b| by_identity(a, b).is_eq());
        let mut taken = alloc::vec![false; wanted.len()];
        let mut expected = 0;
        for draft in &mut slices {
            let Some(slice) = draft.slice else { continue };
            let mut changed = false;
            for endpoint in &slice.endpoints {
                // They are in order as a rule: the next one is tried first.
                let next = wanted.get(expected).is_some_and(|w| by_identity(w, endpoint).is_eq());
                let at = if next {
                    Ok(expected)
                } else {
                    wanted.binary_search_by(|w| by_identity(w, endpoint))
                };
                match at {
                    Ok(at) if !taken[at] => {
                        taken[at] = true;
                        expected = at + 1;
                        changed |= !same_but_hints(wanted[at], endpoint);
                        draft.endpoints.push(wanted[at]);
                    }
                    _ => changed = true,
                }
            }
            draft.fate = match (changed, draft.endpoints.is_empty()) {
                (true, true) => Fate::Delete,
                (true, false) => Fate::Write,
                (false, _) if slice.labels != self.labels => Fate::Write,
                (false, _) => Fate::Keep,
            };
        }
        let left = taken.into_iter().zip(wanted).rev().filter(|(taken, _)| !taken);
        let mut left: Vec<&Endpoint> = left.map(|(_, endpoint)| endpoint).collect();

        let mut written: Vec<&mut Draft<'_>> =
            slices.iter_mut().filter(|draft| draft.fate == Fate::Write).collect();
        written.sort_by_key(|draft| core::cmp::Reverse(draft.endpoints.len()));
        for draft in written {
            draft.fill(&mut left, self.max);
        }
        while !left.is_empty() {
            let kept = slices.iter_mut().filter(|draft| draft.fate == Fate::Keep);
            // The room that would be left; the least is best.
            let room = |draft: &Draft<'_>| self.max.checked_sub(draft.endpoints.len() + left.len());
            let fitting = kept.filter_map(|draft| Some((room(draft)?, draft)));
            let best = fitting.min_by_key(|(room, _)| *room).filter(|_| left.len() < self.max);
            if let Some((_, draft)) = best {
                draft.fate = Fate::Write;
                draft.fill(&mut left, self.max);
            } else {
                let mut draft = Draft::new(Arc::clone(ports));
                draft.fill(&mut left, self.max);
                slices.push(draft);
            }
        }
        drafts.append(&mut slices);
    }

    /// Decides what hints are written, and writes slices that would have to say something else.
    fn hint(&self, drafts: &mut [Draft<'_>]) {
        let wish = Wish::of(self.service);
        let proportional = wish == Wish::Proportional;
        for draft in &mut *drafts {
            match (draft.fate, draft.slice) {
                (Fate::Write, _) => draft.write_out(),
                (Fate::Keep, Some(slice)) if !proportional => {
                    // The hints of endpoints that are not ready matter only where there should be none.
                    let stale = |(wanted, endpoint): (&&Endpoint, &Endpoint)| {
                        (wanted.conditions.ready || wish == Wish::Nothing)
                            && wanted.hints != endpoint.hints
                    };
                    if draft.endpoints.iter().zip(&slice.endpoints).any(stale) {
                        draft.write_out();
                    }
                }
                _ => {}
            }
        }
        if proportional && !self.share(drafts) {
            for draft in drafts {
                let hinted = |slice: &EndpointSlice| {
                    slice.endpoints.iter().any(|endpoint| endpoint.hints != Hints::default())
                };
                if draft.fate == Fate::Keep && draft.slice.is_some_and(hinted) {
                    draft.write_out();
                }
                draft.written.iter_mut().for_each(|endpoint| endpoint.hints = Hints::default());
            }
        }
    }

    /// Hints in proportion to the zones' CPUs. Those of slices that stay as they are stay too, as long as they fit.
    /// False if there can be none.
    fn share(&self, drafts: &mut [Draft<'_>]) -> bool {
        let ready = drafts.iter().flat_map(|draft| &draft.endpoints);
        let ready = ready.filter(|endpoint| endpoint.conditions.ready).count();
        let Some(shares) = Shares::new(self.nodes, ready) else { return false };
        let mut allocated = Allocated::new();
        for draft in &mut *drafts {
            if let (Fate::Keep, Some(slice)) = (draft.fate, draft.slice) {
                if !shares.keep(&mut allocated, &slice.endpoints) {
                    draft.write_out();
                }
            }
        }
        let mut written: Vec<&mut Endpoint> = Vec::new();
        for endpoint in drafts.iter_mut().flat_map(|draft| &mut draft.written) {
            endpoint.hints = Hints::default();
            if endpoint.conditions.ready {
                written.push(endpoint);
            }
        }
        written.sort_unstable();
        spread(&shares, &mut allocated, &mut written)
    }

    fn write(
        &self,
        family: IpFamily,
        drafts: Vec<Draft<'_>>,
        names: &mut Names,
        writes: &mut SliceWrites,
    ) {
        let (mut creates, mut deletes) = (Vec::new(), Vec::new());
        for draft in drafts {
            match (draft.fate, draft.slice) {
                (Fate::Keep, _) | (Fate::Delete, None) => {}
                // Hints that were spread anew may have come out the same.
                (Fate::Write, Some(slice))
                    if slice.labels == self.labels && slice.endpoints == draft.written => {}
                (Fate::Write, Some(slice)) => {
                    let annotations = slice.annotations.iter();
                    let annotations = annotations.filter(|(key, _)| *key != TRIGGER_TIME).collect();
                    writes.updates.push(EndpointSlice {
                        annotations: self.trigger_time().merged_with(&annotations),
                        owner: slice.owner.clone(),
                        ..self.slice(slice, family, draft.ports, draft.written)
                    });
                }
                (Fate::Write, None) => creates.push(draft),
                (Fate::Delete, Some(slice)) => deletes.push(slice),
            }
        }
        for slice in deletes {
            let draft = if self.owns(slice) { creates.pop() } else { None };
            match draft {
                Some(draft) => {
                    writes.updates.push(self.slice(slice, family, draft.ports, draft.written));
                }
                None => writes.deletes.push(slice.name.clone()),
            }
        }
        if self.service.deleted.is_some() {
            return;
        }
        for draft in creates {
            let Some(name) = names.next() else { return };
            let blank = EndpointSlice::new(name, self.service.name.clone(), family);
            writes.creates.push(self.slice(&blank, family, draft.ports, draft.written));
        }
    }

    /// A slice of the Service in the place of another.
    fn slice(
        &self,
        place: &EndpointSlice,
        family: IpFamily,
        ports: Ports,
        endpoints: Vec<Endpoint>,
    ) -> EndpointSlice {
        EndpointSlice {
            name: place.name.clone(),
            uid: place.uid.clone(),
            generation: place.generation,
            service: self.service.name.clone(),
            managed_by: self.packing.managed_by.clone(),
            headless: self.is_headless(),
            labels: self.labels.clone(),
            annotations: self.trigger_time(),
            owner: Some(Reference::new("Service", &self.service.name, &self.service.uid)),
            deleted: None,
            family: Some(family),
            ports,
            endpoints,
        }
    }

    fn trigger_time(&self) -> Labels {
        let time = self.packing.trigger_time.iter();
        time.map(|time| (TRIGGER_TIME, alloc::format!("{time}"))).collect()
    }

    fn is_headless(&self) -> bool {
        !matches!(self.service.cluster_ips, ClusterIps::Assigned(_))
    }

    fn owns(&self, slice: &EndpointSlice) -> bool {
        slice.owner.as_ref().is_some_and(|owner| owner.uid == self.service.uid)
    }

    fn is_placeholder(&self, slice: &EndpointSlice) -> bool {
        slice.is_empty() && slice.labels == self.labels && slice.headless == self.is_headless()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    Write,
    Delete,
}

/// A slice in the making.
struct Draft<'a> {
    /// The one that there is.
    slice: Option<&'a EndpointSlice>,
    fate: Fate,
    ports: Ports,
    endpoints: Vec<&'a Endpoint>,
    /// The endpoints again, with the hints that they are to have.
    written: Vec<Endpoint>,
}

impl<'a> Draft<'a> {
    fn new(ports: Ports) -> Self {
        Self { slice: None, fate: Fate::Write, ports, endpoints: Vec::new(), written: Vec::new() }
    }

    fn of(slice: &'a EndpointSlice) -> Self {
        Self { slice: Some(slice), fate: Fate::Keep, ..Self::new(Arc::clone(&slice.ports)) }
    }

    fn fill(&mut self, left: &mut Vec<&'a Endpoint>, max: usize) {
        let room = max.saturating_sub(self.endpoints.len()).min(left.len());
        self.endpoints.extend(left.drain(left.len() - room..).rev());
    }

    fn write_out(&mut self) {
        self.fate = Fate::Write;
        self.written = self.endpoints.iter().copied().cloned().collect();
    }
}

/// The order of endpoints that a slice does not have twice: addresses, hostname, the name of what is behind.
fn by_identity(a: &Endpoint, b: &Endpoint) -> Ordering {
    fn name(endpoint: &Endpoint) -> Option<(&str, &str)> {
        endpoint.target.as_ref().map(|target| (&*target.namespace, &*target.name))
    }
    (a.ip, &a.other_ips, &a.hostname)
        .cmp(&(b.ip, &b.other_ips, &b.hostname))
        .then_with(|| name(a).cmp(&name(b)))
}

fn same_but_hints(a: &Endpoint, b: &Endpoint) -> bool {
    a.conditions == b.conditions && a.node == b.node && a.zone == b.zone && a.target == b.target
}
