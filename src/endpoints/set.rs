//! The set itself: statements about endpoints, filed by address.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::slice;

use super::{Endpoint, EndpointPort, LeftOut};
use crate::name::{NodeName, ObjectName};
use crate::net::Protocol;

/// The endpoints of one Service.
///
/// Several EndpointSlices may speak of one endpoint, as they do while it moves from one to another. It is one
/// endpoint if it has the same address, the same ports and the same object behind it: the same uid, where there
/// is none the same name, where there is no object no other difference. Of several statements about it the
/// best counts: a ready endpoint before one that serves before the rest (one that terminates first, as only that can
/// take connections), then the first slice by name.
///
/// Two endpoints with one address, such as pods that share their node's, are two; but a connection can
/// go there only once. So [`port`](Self::port) has each address and port once, by the same preference.
/// What has to stand back is told by [`duplicates`](Self::duplicates).
#[derive(Clone, Debug)]
pub struct EndpointSet {
    service: ObjectName,
    places: BTreeMap<IpAddr, Place>,
    pub(super) left_out: Vec<LeftOut>,
}

impl EndpointSet {
    /// A set of these endpoints, in any order.
    pub fn new<I: IntoIterator<Item = Endpoint>>(service: ObjectName, endpoints: I) -> Self {
        let stated = endpoints.into_iter().map(|e| Entry { endpoint: Arc::new(e), slice: None });
        Self::from_entries(service, stated.collect())
    }

    pub(super) const fn empty(service: ObjectName) -> Self {
        Self { service, places: BTreeMap::new(), left_out: Vec::new() }
    }

    pub(super) fn from_entries(service: ObjectName, mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        let mut places: Vec<(IpAddr, Place)> = Vec::new();
        for entry in entries {
            match places.last_mut() {
                Some((ip, place)) if *ip == entry.endpoint.ip => place.push_last(entry),
                _ => places.push((entry.endpoint.ip, Place::One(entry))),
            }
        }
        Self { service, places: places.into_iter().collect(), left_out: Vec::new() }
    }

    /// The statements of both sets, which are of one Service: in any order and however often, the result is the
    /// same.
    #[must_use]
    pub fn merged_with(mut self, other: &Self) -> Self {
        for entry in other.places.values().flat_map(Place::entries) {
            self.insert(entry.clone());
        }
        self.left_out.extend_from_slice(&other.left_out);
        self.left_out.sort_unstable();
        self.left_out.dedup();
        self
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        match self.places.get_mut(&entry.endpoint.ip) {
            Some(place) => place.insert(entry),
            None => {
                self.places.insert(entry.endpoint.ip, Place::One(entry));
            }
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        if let Some(place) = self.places.get_mut(&entry.endpoint.ip) {
            if place.remove(entry) {
                self.places.remove(&entry.endpoint.ip);
            }
        }
    }

    /// The Service whose endpoints they are.
    pub const fn service(&self) -> &ObjectName {
        &self.service
    }

    /// Whether there is no endpoint at all.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The endpoints, each once, by address and what is behind it.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.places.values().flat_map(Place::endpoints).map(|entry| &*entry.endpoint)
    }

    /// Selected pods that are not in the set and would be if something else were known, by name. Worth a
    /// warning, and another [`resolve`](Self::resolve) when that is.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Where one port of the Service leads, by the port's name (empty for an unnamed one) and protocol: every
    /// address and port once, sorted, with the best of the endpoints there. Endpoints for which the port did not
    /// resolve are not among them.
    pub fn port<'a>(
        &'a self,
        name: &'a str,
        protocol: Protocol,
    ) -> impl Iterator<Item = (SocketAddr, &'a Endpoint)> {
        self.port_seen_from(None, name, protocol)
    }

    /// The same from a node: of endpoints that are equally good, one on that node is the best.
    ///
    /// `DIFFERENCE`: kube-proxy takes the one on the node, whatever it can do.
    pub fn port_seen_from<'a>(
        &'a self,
        node: Option<&'a NodeName>,
        name: &'a str,
        protocol: Protocol,
    ) -> impl Iterator<Item = (SocketAddr, &'a Endpoint)> {
        self.places.iter().flat_map(move |(&ip, place)| {
            let (only, several) = match place {
                Place::One(entry) => (entry.at(name, protocol), Vec::new()),
                Place::Many(_) => (None, place.best(node, name, protocol)),
            };
            let found = only.into_iter().chain(several);
            found.map(move |(number, entry)| (SocketAddr::new(ip, number), &*entry.endpoint))
        })
    }

    /// The statements that stand back for better ones, as seen from a node: about one endpoint, or about several
    /// with one address and port. By address, then port.
    pub fn duplicates<'a>(
        &'a self,
        node: Option<&'a NodeName>,
    ) -> impl Iterator<Item = Duplicate<'a>> {
        let shared = self.places.values().filter(|place| matches!(place, Place::Many(_)));
        shared.flat_map(move |place| place.duplicates(node))
    }
}

/// Two sets are equal if they have the same endpoints, whichever slices say so.
impl PartialEq for EndpointSet {
    fn eq(&self, other: &Self) -> bool {
        self.service == other.service
            && self.left_out == other.left_out
            && self.endpoints().eq(other.endpoints())
    }
}

impl Eq for EndpointSet {}

/// What is said of an endpoint, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statement<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// The EndpointSlice that says so; `None` if none does.
    pub slice: Option<&'a ObjectName>,
}

/// A statement that stands back for a better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Duplicate<'a> {
    /// The port that both have; `None` if they have none at all.
    pub port: Option<&'a EndpointPort>,
    /// What counts.
    pub kept: Statement<'a>,
    /// What does not.
    pub hidden: Statement<'a>,
}

impl fmt::Display for Duplicate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.kept.endpoint.ip;
        match self.port {
            None => write!(f, "{ip}")?,
            Some(port) => write!(f, "{}/{}", SocketAddr::new(ip, port.port), port.protocol)?,
        }
        write!(f, ": {} hides {}", self.kept, self.hidden)
    }
}

impl fmt::Display for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint.target {
            None => f.write_str("the address")?,
            Some(target) => write!(f, "{target}")?,
        }
        self.slice.map_or(Ok(()), |slice| write!(f, " of EndpointSlice {slice}"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) slice: Option<ObjectName>,
}

impl Entry {
    /// The number of a port here.
    fn at(&self, name: &str, protocol: Protocol) -> Option<(u16, &Self)> {
        let mut ports = self.endpoint.ports.iter();
        let port = ports.find(|port| port.protocol == protocol && port.name_str() == name)?;
        Some((port.port, self))
    }

    /// Both are statements about one endpoint.
    fn same_endpoint(&self, other: &Self) -> bool {
        let (a, b) = (&*self.endpoint, &*other.endpoint);
        a.ip == b.ip && a.identity() == b.identity() && a.ports == b.ports
    }

    /// The better of two statements comes first.
    fn better(&self, other: &Self, node: Option<&NodeName>) -> Ordering {
        let (a, b) = (&*self.endpoint, &*other.endpoint);
        a.rank(node)
            .cmp(&b.rank(node))
            .then_with(|| self.slice.cmp(&other.slice))
            .then_with(|| a.cmp(b))
    }

    fn statement(&self) -> Statement<'_> {
        Statement { endpoint: &self.endpoint, slice: self.slice.as_ref() }
    }
}

impl Ord for Entry {
    /// By address, then endpoint; of one endpoint the best first.
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&*self.endpoint, &*other.endpoint);
        a.ip.cmp(&b.ip)
            .then_with(|| a.identity().cmp(&b.identity()))
            .then_with(|| a.ports.cmp(&b.ports))
            .then_with(|| self.better(other, None))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is stated about one address: one thing, as a rule. Otherwise several, sorted.
#[derive(Clone, Debug)]
enum Place {
    One(Entry),
    Many(Vec<Entry>),
}

impl Place {
    fn push_last(&mut self, entry: Entry) {
        match self {
            Self::One(first) => *self = Self::Many(alloc::vec![first.clone(), entry]),
            Self::Many(entries) => entries.push(entry),
        }
    }

    fn insert(&mut self, entry: Entry) {
        match self {
            Self::One(only) => match entry.cmp(only) {
                Ordering::Less => *self = Self::Many(alloc::vec![entry, only.clone()]),
                Ordering::Equal => {}
                Ordering::Greater => self.push_last(entry),
            },
            Self::Many(entries) => {
                if let Err(at) = entries.binary_search(&entry) {
                    entries.insert(at, entry);
                }
            }
        }
    }

    /// True if nothing is left.
    fn remove(&mut self, entry: &Entry) -> bool {
        match self {
            Self::One(only) => return only == entry,
            Self::Many(entries) => {
                if let Ok(at) = entries.binary_search(entry) {
                    entries.remove(at);
                }
                if let [only] = &**entries {
                    *self = Self::One(only.clone());
                }
            }
        }
        false
    }

    fn entries(&self) -> &[Entry] {
        match self {
            Self::One(only) => slice::from_ref(only),
            Self::Many(entries) => entries,
        }
    }

    /// The best statement about each endpoint.
    fn endpoints(&self) -> impl Iterator<Item = &Entry> {
        self.entries().chunk_by(Entry::same_endpoint).filter_map(<[Entry]>::first)
    }

    /// The best statement about each number that a port has here, by number.
    fn best(&self, node: Option<&NodeName>, name: &str, protocol: Protocol) -> Vec<(u16, &Entry)> {
        let mut found: Vec<_> =
            self.entries().iter().filter_map(|entry| entry.at(name, protocol)).collect();
        found.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.better(y, node)));
        found.dedup_by_key(|(number, _)| *number);
        found
    }

    fn duplicates<'a>(&'a self, node: Option<&NodeName>) -> Vec<Duplicate<'a>> {
        let hide = |port, kept: &'a Entry, hidden: &'a Entry| Duplicate {
            port,
            kept: kept.statement(),
            hidden: hidden.statement(),
        };
        let key = |port: &'a EndpointPort| (port.port, port.protocol, port.name_str());
        let mut stated: Vec<(&EndpointPort, &Entry)> = Vec::new();
        let mut duplicates = Vec::new();
        for same in self.entries().chunk_by(Entry::same_endpoint) {
            let [first, others @ ..] = same else { continue };
            if first.endpoint.ports.is_empty() {
                duplicates.extend(others.iter().map(|other| hide(None, first, other)));
            }
            for entry in same {
                // Of several ports with one name the first counts.
                let same_port = |a: &EndpointPort, b: &EndpointPort| {
                    a.name == b.name && a.protocol == b.protocol
                };
                let ports = entry.endpoint.ports.chunk_by(same_port).filter_map(<[_]>::first);
                stated.extend(ports.map(|port| (port, entry)));
            }
        }
        stated.sort_by(|(a, x), (b, y)| key(a).cmp(&key(b)).then_with(|| x.better(y, node)));
        for run in stated.chunk_by(|(a, _), (b, _)| key(a) == key(b)) {
            let [(port, kept), hidden @ ..] = run else { continue };
            duplicates.extend(hidden.iter().map(|(_, hidden)| hide(Some(*port), kept, hidden)));
        }
        duplicates
    }
}
