//! The zone: what there is, filed by name and by address.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::net::IpAddr;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use super::entry::{Entry, Kind, Pointer, Target};
use super::name::dashed;
use super::{
    Config, MAX_NAME, MAX_TTL, Name, NameBuf, PodMode, Record, RecordData, SCHEMA_TTL,
    SCHEMA_VERSION, Soa, Warning,
};
use crate::endpoints::EndpointSet;
use crate::name::ObjectName;
use crate::pod::Pod;
use crate::service::Service;

/// A cluster's zone: names to records, and addresses to names.
#[derive(Clone, Debug)]
pub struct Zone {
    pub(super) origin: NameBuf,
    pub(super) config: Config,
    pub(super) apex: Apex,
    /// The places of the reverse zones, each the name of a whole label.
    pub(super) reverse_zones: Vec<ReverseZone>,
    services: BTreeMap<ObjectName, Arc<Entry>>,
    /// The same by the two labels that tell them apart.
    index: HashTable<Arc<Entry>>,
    /// By label.
    namespaces: BTreeMap<Box<[u8]>, Namespace>,
    pods: BTreeMap<ObjectName, Vec<IpAddr>>,
    /// What an address is called, those first that count: a Service's own before its endpoints.
    pointers: BTreeMap<IpAddr, Vec<Pointer>>,
    serial: u32,
    synced: bool,
}

/// Names that the zone itself has.
#[derive(Clone, Debug)]
pub(super) struct Apex {
    pub(super) name_server: NameBuf,
    mailbox: NameBuf,
    version: NameBuf,
}

#[derive(Clone, Debug)]
pub(super) struct ReverseZone {
    pub(super) net: IpNet,
    pub(super) name: NameBuf,
}

/// A namespace exists as long as something is in it, or it was said to.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    declared: bool,
    objects: usize,
    /// `namespace.pod.zone`
    pod_tail: Arc<[u8]>,
    /// How many pods have an address, and the label it is.
    pub(super) pod_ips: BTreeMap<IpAddr, (u32, Box<[u8]>)>,
}

impl Zone {
    /// A zone with this name, such as `cluster.local`, in which there is nothing yet.
    pub fn new(origin: NameBuf, mut config: Config) -> Self {
        config.ttl = config.ttl.min(MAX_TTL);
        config.servers.sort_unstable();
        config.servers.dedup();
        let origin = origin.lowered();
        let own = |labels: &[&[u8]]| {
            let name = NameBuf::from_labels(labels.iter().copied()).ok();
            name.and_then(|name| name.followed_by(origin.name())).unwrap_or(origin)
        };
        let apex = Apex {
            name_server: own(&[b"ns", b"dns"]),
            mailbox: own(&[b"hostmaster"]),
            version: own(&[b"dns-version"]),
        };
        let mut reverse_zones: Vec<ReverseZone> =
            config.reverse.iter().flat_map(|&net| reverse_zones(net)).collect();
        // The closest one of several counts.
        reverse_zones.sort_by_key(|zone| (core::cmp::Reverse(zone.net.prefix_len()), zone.net));
        reverse_zones.dedup_by_key(|zone| zone.net);
        Self {
            origin,
            apex,
            reverse_zones,
            services: BTreeMap::new(),
            index: HashTable::new(),
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            pointers: BTreeMap::new(),
            serial: config.serial,
            synced: true,
            config,
        }
    }

    /// Takes a Service with its endpoints as they are now. Whether the zone has changed by it.
    ///
    /// O(e · log e) for its e endpoints; names of other Services are not touched.
    pub fn upsert(&mut self, service: &Service, endpoints: &EndpointSet) -> bool {
        let entry = Arc::new(Entry::new(service, endpoints, &self.origin, &self.config));
        let known = self.services.get(&service.name).cloned();
        if known.as_ref() == Some(&entry) {
            return false;
        }
        if known.is_none() {
            self.enter(service.name.namespace());
        }
        let before = known.map(|known| known.pointers());
        self.file_pointers(before.unwrap_or_default(), &entry);
        self.file(&entry);
        self.services.insert(service.name.clone(), entry);
        self.serial = self.serial.wrapping_add(1);
        true
    }

    /// Takes a Service out, with its endpoints. Whether it was there.
    pub fn remove(&mut self, service: &ObjectName) -> bool {
        let Some(known) = self.services.remove(service) else { return false };
        self.unfile(&known);
        for (ip, pointer) in known.pointers() {
            self.unpoint(ip, &pointer);
        }
        self.leave(service.namespace());
        self.serial = self.serial.wrapping_add(1);
        true
    }

    /// Takes a pod as it is now: its namespace exists, and with [`PodMode::Verified`] its addresses have names there. Those of
    /// pods that are over or being deleted have not. Whether the zone has changed by it.
    pub fn upsert_pod(&mut self, pod: &Pod) -> bool {
        let over = pod.phase.is_terminal() || pod.deleted.is_some();
        let mut ips = Vec::new();
        if self.config.pods == PodMode::Verified && !over {
            ips.extend_from_slice(&pod.ips);
            ips.sort_unstable();
            ips.dedup();
        }
        let known = self.pods.insert(pod.name.clone(), ips.clone());
        if known.as_ref() == Some(&ips) {
            return false;
        }
        let namespace = pod.name.namespace();
        if known.is_none() {
            self.enter(namespace);
        }
        self.forget_pod_ips(namespace, &known.unwrap_or_default());
        if let Some(namespace) = self.namespaces.get_mut(&*label(namespace)) {
            for ip in ips {
                namespace.pod_ips.entry(ip).or_insert_with(|| (0, label(&dashed(ip)))).0 += 1;
            }
        }
        self.serial = self.serial.wrapping_add(1);
        true
    }

    /// Takes a pod out. Whether it was there.
    pub fn remove_pod(&mut self, pod: &ObjectName) -> bool {
        let Some(ips) = self.pods.remove(pod) else { return false };
        self.forget_pod_ips(pod.namespace(), &ips);
        self.leave(pod.namespace());
        self.serial = self.serial.wrapping_add(1);
        true
    }

    /// Says that a namespace exists, or no longer. One with a Service or a pod of this zone exists anyhow. A text that is no RFC
    /// 1123 label is no namespace.
    pub fn declare_namespace(&mut self, name: &str, exists: bool) {
        if crate::name::check_dns1123_label(name).is_err() {
            return;
        }
        let known = self.namespaces.get(&*label(name)).is_some_and(|known| known.declared);
        if known == exists {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        self.enter(name);
        if let Some(namespace) = self.namespaces.get_mut(&*label(name)) {
            namespace.declared = exists;
        }
        self.leave(name);
    }

    /// Says whether all objects are known. As long as they are not, a name that would not exist is answered with
    /// [`ServFail`](super::Code::ServFail). Defaults to true.
    pub const fn set_synced(&mut self, synced: bool) {
        self.synced = synced;
    }

    pub(super) const fn synced(&self) -> bool {
        self.synced
    }

    /// The zone's name.
    pub fn origin(&self) -> Name<'_> {
        self.origin.name()
    }

    /// Which state of the zone this is: one more after each change.
    pub const fn serial(&self) -> u32 {
        self.serial
    }

    /// How many Services there are.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// What is not told of Services, by their names.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> {
        self.services.iter().filter_map(|(service, entry)| {
            Some(Warning { service: service.clone(), ignored: entry.ignored? })
        })
    }

    /// All records under the zone's name that the specification knows: the zone's own, those of the Services by name, those of
    /// pods.
    ///
    /// Not among them is what is made up when asked for: SRV records of a name without a port, and pods' with
    /// [`PodMode::Insecure`]. What the reverse zones hold is told by [`pointers`](Self::pointers).
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let services = self.services.values().flat_map(|entry| self.records_of(entry));
        let namespaces = self.namespaces.values().filter(|_| self.config.pods == PodMode::Verified);
        let pods = namespaces.flat_map(|namespace| {
            namespace.pod_ips.iter().map(|(&ip, (_, label))| {
                let name = Name::joined(label, &namespace.pod_tail);
                self.record(name, address(ip))
            })
        });
        let pods = pods.filter(|record| record.name.wire_len() <= MAX_NAME);
        self.own_records().chain(services).chain(pods)
    }

    /// What the reverse zones hold: which address is called what, by address. The name of the record is
    /// [`NameBuf::reverse`].
    pub fn pointers(&self) -> impl Iterator<Item = (IpAddr, Name<'_>)> {
        let ours = |ip: &IpAddr| self.reverse_zones.iter().any(|zone| zone.net.contains(ip));
        let all = self.pointers.keys().filter(move |ip| ours(ip));
        all.flat_map(|&ip| self.called(ip).iter().map(move |pointer| (ip, pointer.name())))
    }

    fn own_records(&self) -> impl Iterator<Item = Record<'_>> {
        let server = self.apex.name_server.name();
        let zone = [
            self.soa(self.origin()),
            self.record(self.origin(), RecordData::Ns(server)),
            Record::new(self.apex.version.name(), SCHEMA_TTL, RecordData::Txt(SCHEMA_VERSION)),
        ];
        let servers = self.config.servers.iter();
        zone.into_iter().chain(servers.map(move |&ip| self.record(server, address(ip))))
    }

    fn records_of<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = Record<'a>> {
        let there = match entry.kind {
            Kind::Virtual | Kind::Headless => Some(entry),
            Kind::Nameless | Kind::Absent | Kind::External(_) => None,
        };
        let alias = match &entry.kind {
            Kind::External(Some(target)) => {
                let target = Name::joined(&[], target);
                Some(self.record(entry.name(), RecordData::Cname(target)))
            }
            _ => None,
        };
        let records = there.into_iter().flat_map(move |entry| {
            let v4 = entry.addresses.v4.iter().map(|&ip| RecordData::A(ip));
            let v6 = entry.addresses.v6.iter().map(|&ip| RecordData::Aaaa(ip));
            let own = v4.chain(v6).map(|data| self.record(entry.name(), data));
            let hosts = entry.hosts.iter().flat_map(move |host| {
                let v4 = entry.host_v4(host).iter().map(|&ip| RecordData::A(ip));
                let v6 = entry.host_v6(host).iter().map(|&ip| RecordData::Aaaa(ip));
                v4.chain(v6).map(move |data| self.record(entry.host_name(host), data))
            });
            let told = entry.ports.iter().filter_map(|port| Some((port, port.labels()?)));
            let ports = told.flat_map(move |(port, labels)| {
                let name = Name::joined(labels, &entry.fqdn);
                let data = move |target: &Target| srv(entry, *target, port.found.weight);
                port.found.targets.iter().map(move |target| self.record(name, data(target)))
            });
            own.chain(hosts).chain(ports)
        });
        alias.into_iter().chain(records)
    }

    pub(super) const fn record<'a>(&self, name: Name<'a>, data: RecordData<'a>) -> Record<'a> {
        Record::new(name, self.config.ttl, data)
    }

    /// What this or a reverse zone says of itself.
    pub(super) fn soa<'a>(&'a self, of: Name<'a>) -> Record<'a> {
        self.record(
            of,
            RecordData::Soa(Soa {
                name_server: self.apex.name_server.name(),
                mailbox: self.apex.mailbox.name(),
                serial: self.serial,
                refresh: 7_200,
                retry: 1_800,
                expire: 86_400,
                minimum: self.config.ttl,
            }),
        )
    }

    /// A Service by two labels in lower case, each behind its length.
    pub(super) fn find(&self, key: &[u8]) -> Option<&Entry> {
        let entry = self.index.find(self.hash(key), |entry| entry.has_key(key))?;
        Some(entry)
    }

    /// A namespace that exists, by its label in lower case, behind its length.
    pub(super) fn namespace(&self, label: &[u8]) -> Option<&Namespace> {
        self.namespaces.get(label)
    }

    /// What an address is called: the first Service with it as its own, or else all endpoints with it.
    pub(super) fn called(&self, ip: IpAddr) -> &[Pointer] {
        match self.pointers.get(&ip).map_or(&[][..], |pointers| pointers) {
            [first @ Pointer { host: None, .. }, ..] => core::slice::from_ref(first),
            endpoints => endpoints,
        }
    }

    /// Whether any address of a range is called something.
    pub(super) fn any_called(&self, range: IpNet) -> bool {
        let (first, last) = (range.network(), range.broadcast());
        self.pointers.range(first..=last).next().is_some()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.config.seed, !self.config.seed);
        hasher.write(key);
        hasher.finish()
    }

    fn file(&mut self, entry: &Arc<Entry>) {
        if entry.kind == Kind::Nameless {
            return;
        }
        let seed = self.config.seed;
        let key = |entry: &Entry| {
            let mut hasher = SipHasher13::new_with_keys(seed, !seed);
            hasher.write(entry.key());
            hasher.finish()
        };
        let same = |other: &Arc<Entry>| other.fqdn == entry.fqdn;
        match self.index.entry(key(entry), same, |entry| key(entry)) {
            Slot::Occupied(mut slot) => *slot.get_mut() = Arc::clone(entry),
            Slot::Vacant(slot) => drop(slot.insert(Arc::clone(entry))),
        }
    }

    fn unfile(&mut self, entry: &Arc<Entry>) {
        if entry.kind == Kind::Nameless {
            return;
        }
        let hash = self.hash(entry.key());
        if let Ok(slot) = self.index.find_entry(hash, |other| other.fqdn == entry.fqdn) {
            slot.remove();
        }
    }

    /// Files what other addresses are called than before.
    fn file_pointers(&mut self, before: Vec<(IpAddr, Pointer)>, entry: &Entry) {
        let mut before = before.into_iter().peekable();
        for now in entry.pointers() {
            while let Some((ip, gone)) = before.next_if(|known| *known < now) {
                self.unpoint(ip, &gone);
            }
            if before.next_if_eq(&now).is_none() {
                let (ip, pointer) = now;
                let called = self.pointers.entry(ip).or_default();
                if let Err(at) = called.binary_search(&pointer) {
                    called.insert(at, pointer);
                }
            }
        }
        for (ip, gone) in before {
            self.unpoint(ip, &gone);
        }
    }

    fn unpoint(&mut self, ip: IpAddr, pointer: &Pointer) {
        let Some(called) = self.pointers.get_mut(&ip) else { return };
        if let Ok(at) = called.binary_search(pointer) {
            called.remove(at);
        }
        if called.is_empty() {
            self.pointers.remove(&ip);
        }
    }

    /// One object more in a namespace.
    fn enter(&mut self, name: &str) {
        let own = label(name);
        let origin = &self.origin;
        let namespace = self.namespaces.entry(own).or_insert_with_key(|own| {
            let parts = [own, &b"\x03pod"[..], origin.labels_on_wire()];
            Namespace { pod_tail: parts.concat().into(), ..Namespace::default() }
        });
        namespace.objects += 1;
    }

    /// One object less.
    fn leave(&mut self, name: &str) {
        let own = label(name);
        if let Some(namespace) = self.namespaces.get_mut(&own) {
            namespace.objects -= 1;
            if namespace.objects == 0 && !namespace.declared {
                self.namespaces.remove(&own);
            }
        }
    }

    fn forget_pod_ips(&mut self, namespace: &str, ips: &[IpAddr]) {
        let Some(namespace) = self.namespaces.get_mut(&*label(namespace)) else { return };
        for ip in ips {
            if let Some((pods, _)) = namespace.pod_ips.get_mut(ip) {
                *pods -= 1;
                if *pods == 0 {
                    namespace.pod_ips.remove(ip);
                }
            }
        }
    }
}

pub(super) fn srv(entry: &Entry, target: Target, weight: u16) -> RecordData<'_> {
    let host = entry.hosts.get(target.host as usize);
    let name = host.map_or_else(|| entry.name(), |host| entry.host_name(host));
    RecordData::Srv { weight, port: target.port, target: name }
}

const fn address<'a>(ip: IpAddr) -> RecordData<'a> {
    match ip {
        IpAddr::V4(ip) => RecordData::A(ip),
        IpAddr::V6(ip) => RecordData::Aaaa(ip),
    }
}

/// A legal label in lower case, behind its length.
fn label(text: &str) -> Box<[u8]> {
    let len = u8::try_from(text.len()).unwrap_or(0); // at most 63
    [&[len], text.as_bytes()].concat().into()
}

/// The zones of whole labels that a range is made of.
fn reverse_zones(net: IpNet) -> impl Iterator<Item = ReverseZone> {
    let bits = if net.addr().is_ipv4() { 8 } else { 4 };
    let whole = net.prefix_len().next_multiple_of(bits).min(net.max_prefix_len());
    let parts = net.trunc().subnets(whole).into_iter().flatten();
    parts.map(move |net| {
        let reverse = NameBuf::reverse(net.addr());
        let cut = (net.max_prefix_len() - net.prefix_len()) / bits;
        let labels = reverse.name().labels().skip(cut.into());
        ReverseZone { net, name: NameBuf::from_labels(labels).unwrap_or(reverse) }
    })
}
