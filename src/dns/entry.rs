//! What a Service is called, and what its names say: made anew from the Service and its endpoints whenever they change.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::{Deref, Range};

use super::name::{MAX_NAME, dashed};
use super::{Config, Ignored, Name, NameBuf};
use crate::endpoints::{Endpoint, EndpointPort, EndpointSet};
use crate::net::Protocol;
use crate::service::{Service, ServiceKind};

/// The names of one Service. Labels are in lower case, each behind its length.
///
/// In this order: an answer is a look at few lines of memory that nobody has looked at for long, and what most are about stands
/// first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Entry {
    key: Key,
    pub(super) kind: Kind,
    /// What is found under the Service's own name.
    pub(super) addresses: Addresses,
    pub(super) services: Targets,
    /// The Service's own name, without the root.
    pub(super) fqdn: Arc<[u8]>,
    /// The endpoints by name, and what is found under each.
    pub(super) hosts: Box<[Host]>,
    host_addresses: Addresses,
    host_targets: Box<[Target]>,
    /// The ports with names, by name and protocol.
    pub(super) ports: Box<[Port]>,
    pub(super) ignored: Option<Ignored>,
}

/// How much of the Service's own name is the Service and its namespace, and that much of it, if it is not long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    len: u8,
    short: [u8; 31],
}

/// A slice, as a rule of one, which is then where the slice is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Few<T> {
    One(T),
    Many(Box<[T]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without any name: what it is called is no name, or too long for one.
    Nameless,
    /// With virtual addresses, or to have some.
    Virtual,
    /// Without, and with endpoints.
    Headless,
    /// The same without endpoints: there is no such name. So it is for others, if empty Services are ignored.
    Absent,
    /// An alias, if its target is a name: its labels in the letters that it was written in.
    External(Option<Box<[u8]>>),
}

/// What an address is called: a Service, or one of its endpoints. Ordered so that a Service comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pointer {
    pub(super) host: Option<Arc<[u8]>>,
    pub(super) service: Arc<[u8]>,
}

impl Pointer {
    pub(super) fn name(&self) -> Name<'_> {
        Name::joined(self.host.as_deref().unwrap_or_default(), &self.service)
    }
}

/// Sorted, without repetitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Few<Ipv4Addr>,
    pub(super) v6: Few<Ipv6Addr>,
}

/// Where SRV records lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    /// Sorted, without repetitions.
    pub(super) targets: Few<Target>,
    pub(super) weight: u16,
}

/// An endpoint's port, or the Service's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// The place among the hosts; [`OWN`] for the Service itself.
    pub(super) host: u32,
    pub(super) port: u16,
}

pub(super) const OWN: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) label: Arc<[u8]>,
    v4: Range<u32>,
    v6: Range<u32>,
    targets: Range<u32>,
    pub(super) weight: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// The two labels before the Service's name: `_http._tcp`.
    labels: Box<[u8]>,
    /// False if the name is too long for a label with its underscore, or the whole for a name: then it can be asked for without
    /// the underscore, if at all.
    is_name: bool,
    pub(super) found: Targets,
}

impl Entry {
    pub(super) fn new(
        service: &Service,
        endpoints: &EndpointSet,
        origin: &NameBuf,
        config: &Config,
    ) -> Self {
        let Some((fqdn, key)) = own_name(service, origin) else {
            return Self::nameless();
        };
        let key = Key::new(&fqdn[..key]);
        let mut entry = Self { fqdn: fqdn.into(), key, ignored: None, ..Self::nameless() };
        if let ServiceKind::ExternalName(target) = &service.kind {
            let name = external(target);
            entry.ignored = name.is_none().then_some(Ignored::ExternalName);
            entry.kind = Kind::External(name.map(|name| name.labels_on_wire().into()));
            return entry;
        }
        let rows = rows(endpoints, entry.fqdn.len(), config.endpoint_pod_names);
        let headless = service.is_headless();
        entry.kind = match (headless, rows.is_empty()) {
            (true, true) => Kind::Absent,
            (true, false) => Kind::Headless,
            (false, true) if config.ignore_empty_services => Kind::Absent,
            (false, _) => Kind::Virtual,
        };
        entry.set_hosts(&rows);
        if headless {
            entry.addresses = Addresses::of(rows.iter().map(|row| row.ip).collect());
            entry.set_endpoint_ports(&rows);
        } else {
            entry.addresses = Addresses::of(service.cluster_ips.as_slice().to_vec());
            entry.set_own_ports(service);
        }
        entry
    }

    fn nameless() -> Self {
        Self {
            fqdn: Arc::default(),
            key: Key::default(),
            kind: Kind::Nameless,
            addresses: Addresses::default(),
            services: Targets::default(),
            hosts: Box::default(),
            host_addresses: Addresses::default(),
            host_targets: Box::default(),
            ports: Box::default(),
            ignored: Some(Ignored::Name),
        }
    }

    fn set_hosts(&mut self, rows: &[Row<'_>]) {
        let (mut v4, mut v6, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        let mut hosts = Vec::new();
        for (n, rows) in (0..).zip(rows.chunk_by(Row::same_host)) {
            let Some(first) = rows.first() else { continue };
            let starts = (v4.len(), v6.len(), targets.len());
            let addresses = Addresses::of(rows.iter().map(|row| row.ip).collect());
            v4.extend_from_slice(&addresses.v4);
            v6.extend_from_slice(&addresses.v6);
            let numbers = rows.iter().flat_map(|row| ports(row.ports)).map(|port| port.port);
            let mut own: Vec<Target> = numbers.map(|port| Target { host: n, port }).collect();
            own.sort_unstable();
            own.dedup();
            targets.append(&mut own);
            hosts.push(Host {
                label: Arc::clone(&first.label),
                v4: range(starts.0, v4.len()),
                v6: range(starts.1, v6.len()),
                targets: range(starts.2, targets.len()),
                weight: weight(rows.iter().map(Row::asked_for).sum()),
            });
        }
        self.hosts = hosts.into();
        self.host_addresses = Addresses { v4: v4.into(), v6: v6.into() };
        self.host_targets = targets.into();
    }

    /// The ports of a headless Service: each endpoint's.
    fn set_endpoint_ports(&mut self, rows: &[Row<'_>]) {
        let count = rows.iter().map(Row::asked_for).sum();
        self.services =
            Targets { targets: self.host_targets.to_vec().into(), weight: weight(count) };
        let mut named = Vec::new();
        for (host, rows) in (0..).zip(rows.chunk_by(Row::same_host)) {
            for port in rows.iter().flat_map(|row| ports(row.ports)) {
                let Some(name) = &port.name else { continue };
                named.push((name.as_str(), port.protocol, Target { host, port: port.port }));
            }
        }
        self.set_ports(named);
    }

    /// The ports of a Service with virtual addresses: its own.
    fn set_own_ports(&mut self, service: &Service) {
        let ips = self.addresses.v4.len() + self.addresses.v6.len();
        let own = |port: u16| Target { host: OWN, port };
        let all = service.ports.iter().flat_map(|port| (0..ips).map(move |_| port));
        self.services = Targets::of(all.clone().map(|port| own(port.port)).collect());
        let named = all
            .filter_map(|port| Some((port.name.as_ref()?.as_str(), port.protocol, own(port.port))));
        let named = named.collect();
        self.set_ports(named);
    }

    fn set_ports(&mut self, mut named: Vec<(&str, Protocol, Target)>) {
        named.sort_unstable();
        let same =
            |a: &(&str, Protocol, Target), b: &(&str, Protocol, Target)| (a.0, a.1) == (b.0, b.1);
        let ports = named.chunk_by(same).filter_map(|rows| {
            let &(name, protocol, _) = rows.first()?;
            let mut labels = Vec::with_capacity(name.len() + 7);
            let is_label = push_label(&mut labels, &["_", name]);
            if !is_label {
                labels.extend_from_slice(&[64, b'_']);
                labels.extend_from_slice(name.as_bytes());
            }
            push_label(&mut labels, &["_", protocol.as_lower_str()]);
            Some(Port {
                is_name: is_label && labels.len() + self.fqdn.len() < MAX_NAME,
                labels: labels.into(),
                found: Targets::of(rows.iter().map(|row| row.2).collect()),
            })
        });
        self.ports = ports.collect();
    }

    /// The Service's own name.
    pub(super) fn name(&self) -> Name<'_> {
        Name::joined(&[], &self.fqdn)
    }

    pub(super) fn host_name<'a>(&'a self, host: &'a Host) -> Name<'a> {
        Name::joined(&host.label, &self.fqdn)
    }

    /// An endpoint by its label, which is in lower case and behind its length.
    pub(super) fn host(&self, label: &[u8]) -> Option<&Host> {
        let at = self.hosts.binary_search_by(|host| (*host.label).cmp(label)).ok()?;
        self.hosts.get(at)
    }

    pub(super) fn host_v4(&self, host: &Host) -> &[Ipv4Addr] {
        part(&self.host_addresses.v4, &host.v4)
    }

    pub(super) fn host_v6(&self, host: &Host) -> &[Ipv6Addr] {
        part(&self.host_addresses.v6, &host.v6)
    }

    pub(super) fn host_targets(&self, host: &Host) -> &[Target] {
        part(&self.host_targets, &host.targets)
    }

    /// A port by two labels in lower case, with or without underscores.
    pub(super) fn port(&self, name: &[u8], protocol: &[u8]) -> Option<&Port> {
        let bare = |label: &'_ [u8]| -> usize { usize::from(label.first() == Some(&b'_')) };
        let asked = (&name[bare(name)..], &protocol[bare(protocol)..]);
        self.ports.iter().find(|port| {
            let (name, protocol) = port.parts();
            (&name[2..], &protocol[2..]) == asked
        })
    }

    /// Whether there are names under this label (`_tcp`), if none for itself.
    pub(super) fn has_ports_under(&self, label: &[u8]) -> bool {
        self.ports.iter().any(|port| port.is_name && port.parts().1 == label)
    }

    /// The Service and its namespace.
    pub(super) fn key(&self) -> &[u8] {
        &self.fqdn[..self.key.len.into()]
    }

    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        usize::from(self.key.len) == key.len()
            && self.key.short.get(..key.len()).unwrap_or_else(|| self.key()) == key
    }

    /// What the reverse zones say: which address leads to the Service itself, and which to which endpoint. Sorted.
    pub(super) fn pointers(&self) -> Vec<(IpAddr, Pointer)> {
        let called = |host: Option<&Host>| Pointer {
            host: host.map(|host| Arc::clone(&host.label)),
            service: Arc::clone(&self.fqdn),
        };
        let mut pointers = Vec::new();
        match self.kind {
            Kind::Nameless | Kind::External(_) | Kind::Absent => return pointers,
            Kind::Virtual => pointers.extend(self.addresses.iter().map(|ip| (ip, called(None)))),
            Kind::Headless => {}
        }
        for host in &self.hosts {
            let v4 = self.host_v4(host).iter().map(|&ip| IpAddr::V4(ip));
            let ips = v4.chain(self.host_v6(host).iter().map(|&ip| IpAddr::V6(ip)));
            pointers.extend(ips.map(|ip| (ip, called(Some(host)))));
        }
        pointers.sort_unstable();
        pointers
    }
}

impl Addresses {
    fn of(mut ips: Vec<IpAddr>) -> Self {
        ips.sort_unstable();
        ips.dedup();
        let first_v6 = ips.partition_point(IpAddr::is_ipv4);
        let (v4, v6) = ips.split_at(first_v6);
        let v4 = v4.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let v6 = v6.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
        Self { v4: v4.collect::<Vec<_>>().into(), v6: v6.collect::<Vec<_>>().into() }
    }

    fn iter(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.iter().map(|&ip| IpAddr::V4(ip));
        v4.chain(self.v6.iter().map(|&ip| IpAddr::V6(ip)))
    }
}

impl Key {
    fn new(key: &[u8]) -> Self {
        let mut short = [0; 31];
        if let Some(short) = short.get_mut(..key.len()) {
            short.copy_from_slice(key);
        }
        Self { len: u8::try_from(key.len()).unwrap_or(0), short } // at most 128
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut many: Vec<T>) -> Self {
        match (many.pop(), many.is_empty()) {
            (Some(one), true) => Self::One(one),
            (last, _) => {
                many.extend(last);
                Self::Many(many.into())
            }
        }
    }
}

impl Port {
    /// The two labels as a name has them before the Service's, if it has.
    pub(super) fn labels(&self) -> Option<&[u8]> {
        self.is_name.then_some(&*self.labels)
    }

    /// Each behind its length: `_http` and `_tcp`.
    fn parts(&self) -> (&[u8], &[u8]) {
        self.labels.split_at(usize::from(self.labels[0]) + 1)
    }
}

impl Targets {
    fn of(mut targets: Vec<Target>) -> Self {
        let weight = weight(targets.len());
        targets.sort_unstable();
        targets.dedup();
        Self { targets: targets.into(), weight }
    }
}

/// A ready address of an endpoint.
struct Row<'a> {
    label: Arc<[u8]>,
    ip: IpAddr,
    ports: &'a [EndpointPort],
}

impl Row<'_> {
    fn same_host(&self, other: &Self) -> bool {
        self.label == other.label
    }

    /// How often it counts in the weight of records that are asked for without a port.
    fn asked_for(&self) -> usize {
        ports(self.ports).count().max(1)
    }
}

/// Of several ports with one name and transport the first counts.
fn ports(ports: &[EndpointPort]) -> impl Iterator<Item = &EndpointPort> {
    let same = |a: &EndpointPort, b: &EndpointPort| (&a.name, a.protocol) == (&b.name, b.protocol);
    ports.chunk_by(same).filter_map(<[_]>::first)
}

/// By label, then address.
fn rows(endpoints: &EndpointSet, fqdn: usize, pod_names: bool) -> Vec<Row<'_>> {
    let ready = endpoints.endpoints().filter(|endpoint| endpoint.conditions.ready);
    let mut rows = Vec::new();
    for endpoint in ready {
        for &ip in core::iter::once(&endpoint.ip).chain(&endpoint.other_ips) {
            let mut label = Vec::new();
            // One that is too long for a name is not given out by any name.
            if push_label(&mut label, &[&host_label(endpoint, ip, pod_names)])
                && label.len() + fqdn < MAX_NAME
            {
                rows.push(Row { label: label.into(), ip, ports: &endpoint.ports });
            }
        }
    }
    rows.sort_by(|a, b| (&a.label, a.ip).cmp(&(&b.label, b.ip)));
    rows
}

fn host_label(endpoint: &Endpoint, ip: IpAddr, pod_names: bool) -> String {
    let pod = endpoint.target.as_ref().filter(|target| pod_names && is_label(&target.name));
    match (&endpoint.hostname, pod) {
        (Some(hostname), _) => hostname.as_str().to_owned(),
        (None, Some(pod)) => (*pod.name).to_owned(),
        (None, None) => dashed(ip),
    }
}

/// `service.namespace.svc.zone`, and how much of it is the first two labels.
fn own_name(service: &Service, origin: &NameBuf) -> Option<(Vec<u8>, usize)> {
    if !is_label(service.name.name()) {
        return None;
    }
    let mut name = Vec::with_capacity(64);
    let mut fits = push_label(&mut name, &[service.name.name()]);
    fits &= push_label(&mut name, &[service.name.namespace()]);
    let key = name.len();
    fits &= push_label(&mut name, &["svc"]);
    name.extend_from_slice(origin.labels_on_wire());
    (fits && name.len() < MAX_NAME).then_some((name, key))
}

/// The target of an ExternalName; an address is none.
fn external(target: &str) -> Option<NameBuf> {
    let name: NameBuf = target.parse().ok()?;
    let is_address = crate::net::parse_ip(target.strip_suffix('.').unwrap_or(target)).is_ok();
    (!is_address && name.name().wire_len() > 1).then_some(name)
}

fn is_label(text: &str) -> bool {
    crate::name::check_dns1123_label(text).is_ok()
}

/// Whether it could be.
fn push_label(labels: &mut Vec<u8>, parts: &[&str]) -> bool {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let Some(len) = u8::try_from(len).ok().filter(|len| (1..=63).contains(len)) else {
        return false;
    };
    labels.push(len);
    for part in parts {
        labels.extend_from_slice(part.as_bytes());
    }
    true
}

/// The SRV weight of each of so many.
fn weight(count: usize) -> u16 {
    u16::try_from(100 / count.max(1)).unwrap_or(1).max(1)
}

fn range(from: usize, to: usize) -> Range<u32> {
    let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    place(from)..place(to)
}

fn part<'a, T>(all: &'a [T], range: &Range<u32>) -> &'a [T] {
    all.get(range.start as usize..range.end as usize).unwrap_or_default()
}
