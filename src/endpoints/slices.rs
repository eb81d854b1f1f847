//! EndpointSlices, and what has to be written so that they say what an endpoint set says.

mod mirror;
mod name;
mod pack;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    Endpoint, EndpointPort, EndpointSet, HEADLESS_LABEL, MANAGED_BY_LABEL, Reference,
    SERVICE_NAME_LABEL,
};
use crate::labels::Labels;
use crate::name::ObjectName;
use crate::net::IpFamily;
use crate::node::Nodes;
use crate::service::{Service, ServiceKind};
use crate::time::Timestamp;

/// The labels that say what a slice is: a Service's own labels cannot overrule them.
pub(crate) const RESERVED_LABELS: [&str; 3] =
    [SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL];
/// Who Kubernetes' own EndpointSlice controller is, in the label `endpointslice.kubernetes.io/managed-by`.
pub(crate) const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// And who repeats hand-written Endpoints.
pub(crate) const MIRRORING_CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// Since when what a slice says has waited to be said.
pub(super) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// An EndpointSlice: some of the endpoints of a Service, with their ports in common.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: ObjectName,
    /// The object's uid; empty if it has none. Defaults to empty.
    pub uid: Arc<str>,
    /// How often it was changed, as the API server counts. Defaults to 0.
    pub generation: i64,
    /// The Service that it is of, by the label `kubernetes.io/service-name`; its namespace is the slice's.
    pub service: ObjectName,
    /// Who writes it, by the label `endpointslice.kubernetes.io/managed-by`; empty if nobody says so. Defaults to
    /// empty.
    pub managed_by: Box<str>,
    /// Whether it has the label `service.kubernetes.io/headless`. Defaults to false.
    pub headless: bool,
    /// Its other labels. Defaults to none.
    pub labels: Labels,
    /// Its annotations. Defaults to none.
    pub annotations: Labels,
    /// The object that it goes away with: its Service, or its Endpoints if it mirrors them. Defaults to none.
    pub owner: Option<Reference>,
    /// Since when it is being deleted. Defaults to not at all.
    pub deleted: Option<Timestamp>,
    /// The family of its addresses; `None` if they are of another type, such as names.
    pub family: Option<IpFamily>,
    ports: Arc<[EndpointPort]>,
    endpoints: Vec<Endpoint>,
}

impl EndpointSlice {
    /// An empty slice of nobody's.
    pub fn new(name: ObjectName, service: ObjectName, family: IpFamily) -> Self {
        Self {
            name,
            uid: Arc::default(),
            generation: 0,
            service,
            managed_by: Box::default(),
            headless: false,
            labels: Labels::default(),
            annotations: Labels::default(),
            owner: None,
            deleted: None,
            family: Some(family),
            ports: Arc::new([]),
            endpoints: Vec::new(),
        }
    }

    /// Replaces ports and endpoints. The endpoints get these ports, whatever they had.
    pub fn set_endpoints<P, E>(&mut self, ports: P, endpoints: E)
    where
        P: IntoIterator<Item = EndpointPort>,
        E: IntoIterator<Item = Endpoint>,
    {
        let mut ports: Vec<EndpointPort> = ports.into_iter().collect();
        ports.sort_unstable();
        self.ports = ports.into();
        self.endpoints = endpoints.into_iter().collect();
        for endpoint in &mut self.endpoints {
            endpoint.ports = Arc::clone(&self.ports);
        }
    }

    /// The ports of each endpoint, sorted.
    pub fn ports(&self) -> &[EndpointPort] {
        &self.ports
    }

    /// The endpoints, in their order. Each has the slice's ports.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Takes the endpoints out, and leaves the rest.
    pub(crate) fn take_endpoints(&mut self) -> Vec<Endpoint> {
        core::mem::take(&mut self.endpoints)
    }

    /// Puts endpoints in that were taken out.
    pub(crate) fn put_endpoints(&mut self, endpoints: Vec<Endpoint>) {
        self.endpoints = endpoints;
    }

    /// The beginning of the names of a Service's slices, which the API server completes: the Service's name and a
    /// dash, if that much is legal.
    pub fn generate_name(service: &ObjectName) -> alloc::string::String {
        name::prefix(service.name())
    }

    fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.endpoints.is_empty()
    }
}

/// How endpoints are packed into slices.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packing {
    /// At most so many endpoints in a slice, 1 to 1000 (other values count as the nearest of these). Defaults to
    /// 100, as in Kubernetes.
    pub max_endpoints: usize,
    /// Who writes the slices; those of others are left alone. Defaults to Kubernetes' own controller,
    /// `endpointslice-controller.k8s.io`.
    pub managed_by: Box<str>,
    /// What the annotation `endpoints.kubernetes.io/last-change-trigger-time` of written slices is to say: when
    /// what caused the writing came to be. Defaults to nothing, which removes it.
    pub trigger_time: Option<Timestamp>,
    /// What the random part of new slices' names is made from; another for each writing. Defaults to 0.
    pub seed: u64,
}

impl Packing {
    /// How Kubernetes repeats hand-written Endpoints: 1000 endpoints in a slice, under the name
    /// `endpointslicemirroring-controller.k8s.io`.
    pub fn mirroring() -> Self {
        Self { max_endpoints: 1000, managed_by: MIRRORING_CONTROLLER.into(), ..Self::default() }
    }
}

impl Default for Packing {
    fn default() -> Self {
        Self { max_endpoints: 100, managed_by: CONTROLLER.into(), trigger_time: None, seed: 0 }
    }
}

/// What has to be written so that a Service's EndpointSlices say what its endpoint set says, with as few writes as
/// Kubernetes' controller makes do with. Creates come first, deletes last, so that no endpoint is missing in between.
///
/// ```
/// use svcplane::endpoints::{EndpointSet, Packing, SliceWrites};
/// use svcplane::labels::Labels;
/// use svcplane::name::ObjectName;
/// use svcplane::net::IpFamily;
/// use svcplane::node::Nodes;
/// use svcplane::pod::{Phase, Pod};
/// use svcplane::service::{Service, ServicePort};
///
/// let mut service = Service::new(ObjectName::new("default", "redis")?);
/// service.selector = Labels::from_iter([("app", "redis")]);
/// service.ip_families = vec![IpFamily::V4];
/// service.ports = vec![ServicePort::new(6379)];
/// let pods: Vec<Pod> = (0..250)
///     .map(|i| {
///         let mut pod = Pod::new(ObjectName::new("default", &format!("redis-{i}")).unwrap());
///         pod.labels = Labels::from_iter([("app", "redis")]);
///         pod.ips = vec![[10, 0, 0, i].into()];
///         pod.phase = Phase::Running;
///         pod
///     })
///     .collect();
/// let nodes = Nodes::default();
/// let mut set = EndpointSet::resolve(&service, &pods, &nodes);
/// let writes = SliceWrites::new(&service, &set, &nodes, [], &Packing::default());
/// let sizes: Vec<usize> = writes.creates.iter().map(|slice| slice.endpoints().len()).collect();
/// assert_eq!(sizes, [100, 100, 50]);
///
/// // One pod goes: one slice is written again.
/// set = EndpointSet::resolve(&service, &pods[1..], &nodes);
/// let more = SliceWrites::new(&service, &set, &nodes, &writes.creates, &Packing::default());
/// assert_eq!((more.creates.len(), more.updates.len(), more.deletes.len()), (0, 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SliceWrites {
    /// Slices that are to be, with names that none of the existing ones has.
    pub creates: Vec<EndpointSlice>,
    /// Existing slices as they are to be from now on, by name.
    pub updates: Vec<EndpointSlice>,
    /// Slices that are to be no more, by name.
    pub deletes: Vec<ObjectName>,
    /// How many addresses are in no slice as there are too many of them (only when mirroring).
    pub skipped: usize,
}

impl SliceWrites {
    /// Compares the slices that there are with those that a set asks for.
    ///
    /// `existing` may hold any slices: those of other Services, those that others manage and those that are being
    /// deleted are left alone. A Service without selector, or an ExternalName, has its slices from others: nothing is
    /// written. Slices that another Service of the same name left behind (by the owner's uid) go, as do those of
    /// families that the Service does not have. A family without endpoints has one empty slice.
    ///
    /// Per family and list of ports, slices keep the endpoints that they have and that are still wanted. What has to be
    /// written anyway is filled first, the fullest first; then, if the rest fits into one slice that could stay as
    /// it is, into the one that gets fullest; else there are new slices. Slices to be created take the places of slices
    /// to be deleted. Nothing is moved together for its own sake. A Service that is being deleted gets no new slices.
    ///
    /// Labels other than those of the machinery itself come from the Service; if they differ, the slice is written.
    /// [Hints](super::Hints) are those of the set, but in proportion to CPUs (annotation `Auto`) they stay as
    /// long as they fit, so that one endpoint more does not change them all.
    ///
    /// `DIFFERENCE`: which of several endpoints goes where is by address; in Kubernetes it is by chance. An endpoint whose
    /// addresses change their order is written again; in Kubernetes it is not. One whose conditions are not stated, but
    /// would be what they mean then, is not; in Kubernetes it is.
    ///
    /// O(endpoints · log endpoints), mostly comparisons in order.
    pub fn new<'a, I>(
        service: &Service,
        set: &EndpointSet,
        nodes: &Nodes,
        existing: I,
        packing: &Packing,
    ) -> Self
    where
        I: IntoIterator<Item = &'a EndpointSlice>,
    {
        if service.selector.is_empty() || matches!(service.kind, ServiceKind::ExternalName(_)) {
            return Self::default();
        }
        let existing: Vec<&EndpointSlice> = existing.into_iter().collect();
        pack::Packer::new(service, nodes, packing).writes(set, &existing)
    }

    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.creates.is_empty() && self.updates.is_empty() && self.deletes.is_empty()
    }

    fn sort(&mut self) {
        self.updates.sort_by(|a, b| a.name.cmp(&b.name));
        self.deletes.sort_unstable();
    }
}
