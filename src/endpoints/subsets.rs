//! The older object of a Service's endpoints: addresses in subsets that have their ports in common.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::resolve::{hostname, resolve_ports};
use super::slices::TRIGGER_TIME;
use super::{Conditions, Endpoint, EndpointPort, EndpointSet, HEADLESS_LABEL, Reference};
use crate::labels::Labels;
use crate::name::{DnsLabel, NodeName, ObjectName};
use crate::net::IpFamily;
use crate::pod::Pod;
use crate::service::{ClusterIps, Service, ServiceKind};
use crate::time::Timestamp;

/// The annotation of Endpoints that do not hold all addresses.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// How many addresses one object may hold.
const CAPACITY: usize = 1000;

/// The endpoints of a Service in their older form, core/v1 `Endpoints`, of one address family only.
///
/// ```
/// use svcplane::endpoints::Endpoints;
/// use svcplane::labels::Labels;
/// use svcplane::name::ObjectName;
/// use svcplane::pod::{Phase, Pod};
/// use svcplane::service::{Service, ServicePort};
///
/// let mut service = Service::new(ObjectName::new("default", "redis")?);
/// service.selector = Labels::from_iter([("app", "redis")]);
/// service.ports = vec![ServicePort::new(6379)];
/// let mut pod = Pod::new(ObjectName::new("default", "redis-0")?);
/// pod.labels = Labels::from_iter([("app", "redis")]);
/// pod.ips = vec!["10.0.0.7".parse()?];
/// pod.phase = Phase::Running;
/// pod.ready = true;
///
/// let endpoints = Endpoints::resolve(&service, [&pod], None).ok_or("no selector")?;
/// assert_eq!(endpoints.subsets[0].addresses[0].ip.to_string(), "10.0.0.7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Kubernetes' endpoints controller and `pkg/api/v1/endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoints {
    /// Namespace and name, the Service's.
    pub name: ObjectName,
    /// The object's uid; empty if it has none. Defaults to empty.
    pub uid: Arc<str>,
    /// Since when it is being deleted. Defaults to not at all.
    pub deleted: Option<Timestamp>,
    /// Its labels. Defaults to none.
    pub labels: Labels,
    /// Its annotations. Defaults to none.
    pub annotations: Labels,
    /// The addresses. Defaults to none.
    pub subsets: Vec<Subset>,
}

/// Addresses with the ports of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subset {
    /// Those that are ready. Defaults to none.
    pub addresses: Vec<Address>,
    /// Those that are not. Defaults to none.
    pub not_ready: Vec<Address>,
    /// The ports. Defaults to none.
    pub ports: Vec<EndpointPort>,
}

/// An address of a subset.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Its hostname under the Service's DNS name. Defaults to none.
    pub hostname: Option<DnsLabel>,
    /// The node that it is on. Defaults to unknown.
    pub node: Option<NodeName>,
    /// The object behind it. Defaults to none.
    pub target: Option<Reference>,
}

/// What makes two addresses the same, and how they are sorted: the text and the uid of the object behind; empty if
/// there is none.
type Key = (String, Arc<str>);

impl Address {
    /// An address of which nothing else is known.
    pub const fn new(ip: IpAddr) -> Self {
        Self { ip, hostname: None, node: None, target: None }
    }

    fn key(&self) -> Key {
        let uid = self.target.as_ref().map(|target| target.uid.clone());
        (self.ip.to_string(), uid.unwrap_or_default())
    }
}

impl Endpoints {
    /// Endpoints without addresses.
    pub fn new(name: ObjectName) -> Self {
        Self {
            name,
            uid: Arc::default(),
            deleted: None,
            labels: Labels::default(),
            annotations: Labels::default(),
            subsets: Vec::new(),
        }
    }

    /// What the endpoints controller would write for a Service; `None` if it would write nothing, as the Service has no
    /// selector or is an ExternalName.
    ///
    /// A pod counts unless it is over or has no address of the family: the Service's first one, that of its
    /// cluster IP if it states none, that of the pod's first address if the Service is headless. A pod that is being
    /// deleted counts only if the Service publishes addresses that are not ready, and then as a ready one.
    /// A pod none of whose ports resolve is missing, other than in an [`EndpointSet`]. Above 1000 addresses the
    /// object is [truncated](Self::truncate).
    ///
    /// `trigger_time` is what the annotation `endpoints.kubernetes.io/last-change-trigger-time` is to say.
    ///
    /// `DIFFERENCE`: addresses are written in their canonical form, not as the pod has them.
    pub fn resolve<'a, I>(
        service: &Service,
        pods: I,
        trigger_time: Option<Timestamp>,
    ) -> Option<Self>
    where
        I: IntoIterator<Item = &'a Pod>,
    {
        if service.selector.is_empty() || matches!(service.kind, ServiceKind::ExternalName(_)) {
            return None;
        }
        let mut pods: Vec<&Pod> = pods.into_iter().collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        let published = service.publish_not_ready_addresses;
        let headless = service.cluster_ips == ClusterIps::Headless;
        let mut subsets = Vec::new();
        for pod in pods {
            let counts = service.selects(pod.name.namespace(), &pod.labels)
                && !pod.phase.is_terminal()
                && (pod.deleted.is_none() || published);
            let ip = family(service, pod)
                .and_then(|family| pod.ips.iter().copied().find(|&ip| IpFamily::of(ip) == family));
            let (true, Some(ip)) = (counts, ip) else { continue };
            let ports = resolve_ports(service, pod);
            let portless = headless && service.ports.is_empty();
            if ports.is_empty() && !portless {
                continue;
            }
            let address = Address {
                ip,
                hostname: hostname(service, pod),
                node: pod.node.clone(),
                target: Some(Reference::new("Pod", &pod.name, &pod.uid)),
            };
            let mut subset = Subset { ports, ..Subset::default() };
            let ready = published || pod.ready;
            if ready { &mut subset.addresses } else { &mut subset.not_ready }.push(address);
            subsets.push(subset);
        }
        let own = service.labels.iter().filter(|(key, _)| *key != HEADLESS_LABEL);
        let mark = matches!(service.cluster_ips, ClusterIps::Headless | ClusterIps::Unassigned);
        let mark = mark.then_some((HEADLESS_LABEL, ""));
        let trigger_time = trigger_time.map(|time| (TRIGGER_TIME, time.to_string()));
        let mut endpoints = Self {
            labels: own.chain(mark).collect(),
            annotations: trigger_time.into_iter().collect(),
            subsets,
            ..Self::new(service.name.clone())
        };
        endpoints.repack();
        endpoints.truncate();
        Some(endpoints)
    }

    /// Brings the subsets into their canonical form: the same statements in any order and however cut give the same
    /// subsets, but for what several records of one address say differently: there the first counts.
    ///
    /// Ports that the same addresses have, ready or not alike, are in one subset. An address (by its text and its
    /// target's uid) that is both ready and not for a port is not.
    /// Addresses are sorted by text, those without target first, then by uid; ports and subsets by name.
    ///
    /// `DIFFERENCE`: Kubernetes sorts ports and subsets by a hash of Go's making.
    pub fn repack(&mut self) {
        let mut records: BTreeMap<Key, Address> = BTreeMap::new();
        // `None` stands for the ports of addresses without any.
        let mut by_port: BTreeMap<Option<EndpointPort>, BTreeMap<Key, bool>> = BTreeMap::new();
        for subset in core::mem::take(&mut self.subsets) {
            let ready = subset.addresses.into_iter().map(|address| (address, true));
            let not_ready = subset.not_ready.into_iter().map(|address| (address, false));
            let mut keys = Vec::new();
            for (address, ready) in ready.chain(not_ready) {
                keys.push((address.key(), ready));
                records.entry(address.key()).or_insert(address);
            }
            if keys.is_empty() {
                continue;
            }
            let portless = subset.ports.is_empty().then_some(None);
            for port in subset.ports.into_iter().map(Some).chain(portless) {
                let addresses = by_port.entry(port).or_default();
                for (key, ready) in &keys {
                    *addresses.entry(key.clone()).or_insert(true) &= ready;
                }
            }
        }
        let mut by_addresses: BTreeMap<BTreeMap<Key, bool>, Vec<EndpointPort>> = BTreeMap::new();
        for (port, addresses) in by_port {
            by_addresses.entry(addresses).or_default().extend(port);
        }
        for (addresses, ports) in by_addresses {
            let mut subset = Subset { ports, ..Subset::default() };
            for (key, ready) in addresses {
                let record = records.get(&key).cloned();
                if ready { &mut subset.addresses } else { &mut subset.not_ready }.extend(record);
            }
            self.subsets.push(subset);
        }
        self.subsets.sort_by(|a, b| a.ports.cmp(&b.ports));
    }

    /// Cuts the object down to the 1000 addresses that it may hold, and says so in the annotation
    /// `endpoints.kubernetes.io/over-capacity`; or takes the annotation away.
    ///
    /// Ready addresses stay if they fit. Of what does not, each subset keeps its share, rounded up as long
    /// as there is room.
    ///
    /// `DIFFERENCE`: subsets that lose all their addresses go, as they would not be valid.
    pub fn truncate(&mut self) {
        let ready: usize = self.subsets.iter().map(|subset| subset.addresses.len()).sum();
        let not_ready: usize = self.subsets.iter().map(|subset| subset.not_ready.len()).sum();
        let over = ready + not_ready > CAPACITY;
        let others = self.annotations.iter().filter(|(key, _)| *key != OVER_CAPACITY);
        self.annotations = others.chain(over.then_some((OVER_CAPACITY, "truncated"))).collect();
        if over {
            let for_ready = ready.min(CAPACITY);
            cut(self.subsets.iter_mut().map(|subset| &mut subset.addresses), ready, for_ready);
            let rest = CAPACITY - for_ready;
            cut(self.subsets.iter_mut().map(|subset| &mut subset.not_ready), not_ready, rest);
            self.subsets
                .retain(|subset| !subset.addresses.is_empty() || !subset.not_ready.is_empty());
        }
    }

    pub(super) fn canonical(&self) -> Self {
        let mut canonical = self.clone();
        canonical.repack();
        canonical
    }

    /// Whether an object that is there says the same already: the subsets (in whatever order), the labels but for
    /// `service.kubernetes.io/headless`, and whether it is truncated. Then the controller does not write.
    pub fn is_said_by(&self, current: &Self) -> bool {
        let labels = |endpoints: &Self| -> Labels {
            endpoints.labels.iter().filter(|(key, _)| *key != HEADLESS_LABEL).collect()
        };
        self.canonical().subsets == current.canonical().subsets
            && labels(self) == labels(current)
            && self.annotations.get(OVER_CAPACITY) == current.annotations.get(OVER_CAPACITY)
    }
}

impl From<&Endpoints> for EndpointSet {
    /// What its mirrored EndpointSlices would say, had they room for all: an address is ready or not by the list that it
    /// is in (not, if it is in both), and serves.
    fn from(endpoints: &Endpoints) -> Self {
        let Endpoints { name, subsets, .. } = endpoints.canonical();
        Self::new(name, subsets.iter().flat_map(Subset::endpoints))
    }
}

impl Subset {
    /// The addresses of a canonical subset as endpoints, those that are ready first.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        let ports: Arc<[EndpointPort]> = self.ports.as_slice().into();
        let ready = self.addresses.iter().map(|address| (address, true));
        let not_ready = self.not_ready.iter().map(|address| (address, false));
        ready.chain(not_ready).map(move |(address, ready)| Endpoint {
            ports: Arc::clone(&ports),
            conditions: Conditions { ready, ..Conditions::default() },
            hostname: address.hostname.clone(),
            node: address.node.clone(),
            target: address.target.clone(),
            ..Endpoint::new(address.ip)
        })
    }
}

/// The one family that a pod is looked for in.
fn family(service: &Service, pod: &Pod) -> Option<IpFamily> {
    let stated = service.ip_families.first().copied();
    let assigned = || service.cluster_ips.as_slice().first().copied().map(IpFamily::of);
    let pods = || pod.ips.first().copied().map(IpFamily::of);
    stated.or_else(assigned).or_else(pods)
}

/// Shortens lists of `total` addresses together to `limit`, each to its share.
fn cut<'a>(lists: impl Iterator<Item = &'a mut Vec<Address>>, total: usize, limit: usize) {
    let mut room = limit;
    for list in lists {
        let share = if total == 0 { 0 } else { (list.len() * limit).div_ceil(total) };
        list.truncate(share.min(room));
        room -= list.len();
    }
}
