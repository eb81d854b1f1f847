//! From a Service and pods to endpoints, as the EndpointSlice controller goes about it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::net::IpAddr;

use super::{
    Conditions, Endpoint, EndpointPort, EndpointSet, Hints, LeftOut, Merged, Reference, hints,
};
use crate::name::ObjectName;
use crate::net::IpFamily;
use crate::node::Nodes;
use crate::pod::Pod;
use crate::service::{Service, ServicePort, TargetPort};

impl EndpointSet {
    /// The endpoints that a Service has by its selector.
    ///
    /// `pods` may hold any pods; those of other namespaces and labels are passed over. A pod is an endpoint, in
    /// each of the Service's address families that it has an address of, unless it is over (`Succeeded`,
    /// `Failed`). It is *ready* if it serves and is not being deleted, or if the Service publishes addresses
    /// that are not ready. A port that does not resolve for a pod is missing for that pod only.
    ///
    /// Ready endpoints get the hints that the Service asks for: by `trafficDistribution` those of their own zone
    /// (and node), or, with the annotation `service.kubernetes.io/topology-mode: Auto` (or the older
    /// `topology-aware-hints`), so that each zone has as many as its share of the CPUs. The latter needs
    /// [two zones or more](Nodes::cpus_by_zone) and enough endpoints that none is overloaded by more than a fifth;
    /// otherwise there are no hints.
    ///
    /// `DIFFERENCE`: endpoints in a zone without a ready worker are for the clients of other zones, too; in Kubernetes
    /// they keep the hint of their own.
    ///
    /// A pod on a node that `nodes` does not have is [left out](EndpointSet::left_out), unless the Service
    /// publishes addresses that are not ready; then it has no zone.
    ///
    /// `DIFFERENCE`: a pod that names no node is an endpoint without zone. Kubernetes would leave it out, as
    /// no node has an empty name; but there a pod without node never has an address.
    pub fn resolve<'a, I>(service: &Service, pods: I, nodes: &Nodes) -> Self
    where
        I: IntoIterator<Item = &'a Pod>,
    {
        let mut alike = Alike::default();
        let (mut endpoints, mut left_out) = (Vec::new(), Vec::new());
        for pod in pods {
            match endpoints_of(service, pod, nodes, &mut alike) {
                Ok(of_pod) => endpoints.extend(of_pod),
                Err(unknown) => left_out.push(unknown),
            }
        }
        hints::assign(service, nodes, &mut endpoints);
        left_out.sort_unstable();
        let mut set = Self::new(service.name.clone(), endpoints);
        set.left_out = left_out;
        set
    }
}

impl Merged {
    /// Has the pods be these, of all that are known, that the Service selects.
    pub(crate) fn take_pods<'a, I>(&mut self, service: &Service, pods: I, nodes: &Nodes) -> bool
    where
        I: IntoIterator<Item = &'a Pod>,
    {
        let mut alike = Alike::default();
        let mut gone: BTreeSet<ObjectName> = self.pods().cloned().collect();
        let mut stated: BTreeMap<&str, (&ObjectName, Vec<Endpoint>)> = BTreeMap::new();
        let mut changed = false;
        for pod in pods {
            gone.remove(&pod.name);
            match endpoints_of(service, pod, nodes, &mut alike) {
                Ok(endpoints) => drop(stated.insert(pod.name.name(), (&pod.name, endpoints))),
                Err(unknown) => changed |= self.take_pod(&pod.name, Vec::new(), Some(unknown)),
            }
        }
        if hints::Wish::of(service).is_of_all() {
            let mut all: Vec<Endpoint> = Vec::new();
            for (_, endpoints) in stated.values_mut() {
                all.append(endpoints);
            }
            hints::assign(service, nodes, &mut all);
            for endpoint in all {
                let pod = endpoint.target.as_ref().and_then(|pod| stated.get_mut(&*pod.name));
                if let Some((_, endpoints)) = pod {
                    endpoints.push(endpoint);
                }
            }
        } else {
            for (_, endpoints) in stated.values_mut() {
                hints::assign(service, nodes, endpoints);
            }
        }
        for (pod, endpoints) in stated.into_values() {
            changed |= self.take_pod(pod, endpoints, None);
        }
        for pod in gone {
            changed |= self.take_pod(&pod, Vec::new(), None);
        }
        changed
    }

    /// Takes one of the pods as it is now, selected or not (`None`, if it is not any more). Not for a Service
    /// whose endpoints' hints depend on [all of them](depends_on_all).
    pub(crate) fn take_one_pod(
        &mut self,
        service: &Service,
        name: &ObjectName,
        pod: Option<&Pod>,
        nodes: &Nodes,
    ) -> bool {
        let Some(pod) = pod else { return self.take_pod(name, Vec::new(), None) };
        // What others have most likely is alike.
        let mut alike = Alike::default();
        if let Some(other) = self.set().endpoints().next() {
            alike.ports.insert(Arc::clone(&other.ports));
            alike.zones.extend(other.zone.clone());
            if let Some(target) = &other.target {
                alike.namespace = Some(Arc::clone(&target.namespace));
                alike.kind = Some(Arc::clone(&target.kind)).filter(|kind| **kind == *"Pod");
            }
        }
        match endpoints_of(service, pod, nodes, &mut alike) {
            Ok(mut endpoints) => {
                hints::assign(service, nodes, &mut endpoints);
                self.take_pod(name, endpoints, None)
            }
            Err(unknown) => self.take_pod(name, Vec::new(), Some(unknown)),
        }
    }
}

/// Whether what one endpoint is depends on the others that a Service has.
pub(crate) fn depends_on_all(service: &Service) -> bool {
    hints::Wish::of(service).is_of_all()
}

/// What endpoints have in common, each once.
#[derive(Default)]
struct Alike {
    ports: BTreeSet<Arc<[EndpointPort]>>,
    zones: BTreeSet<Arc<str>>,
    kind: Option<Arc<str>>,
    namespace: Option<Arc<str>>,
}

/// The endpoints that one pod is, without hints: none, if it is none.
fn endpoints_of(
    service: &Service,
    pod: &Pod,
    nodes: &Nodes,
    alike: &mut Alike,
) -> Result<Vec<Endpoint>, LeftOut> {
    let eligible = service.selects(pod.name.namespace(), &pod.labels)
        && !pod.phase.is_terminal()
        && !pod.ips.is_empty();
    if !eligible {
        return Ok(Vec::new());
    }
    let node = pod.node.as_ref().map(|name| (name, nodes.lookup(name.as_str())));
    if let (Some((name, None)), false) = (node, service.publish_not_ready_addresses) {
        return Err(LeftOut { pod: pod.name.clone(), unknown_node: name.clone() });
    }
    let zone = node.and_then(|(_, node)| node?.zone());
    let zone = zone.map(|zone| shared(&mut alike.zones, zone));
    let ports = shared(&mut alike.ports, resolve_ports(service, pod));
    let kind = alike.kind.get_or_insert_with(|| "Pod".into());
    let namespace = alike.namespace.get_or_insert_with(|| service.name.namespace().into());
    let target = Reference {
        kind: Arc::clone(kind),
        namespace: Arc::clone(namespace),
        name: pod.name.name().into(),
        uid: Arc::clone(&pod.uid),
    };
    let endpoint = |&family: &IpFamily| {
        let mut ips = pod.ips.iter().copied().filter(|&ip| IpFamily::of(ip) == family);
        Some(Endpoint {
            ip: ips.next()?,
            other_ips: ips.collect::<Vec<IpAddr>>(),
            ports: Arc::clone(&ports),
            conditions: conditions(service, pod),
            hostname: hostname(service, pod),
            node: pod.node.clone(),
            zone: zone.clone(),
            target: Some(target.clone()),
            hints: Hints::default(),
        })
    };
    Ok(families(service).iter().filter_map(endpoint).collect())
}

/// The families that a Service's endpoints are looked for in: those stated, else the cluster IP's, else both.
pub(in crate::endpoints) fn families(service: &Service) -> &[IpFamily] {
    match (&*service.ip_families, service.cluster_ips.as_slice()) {
        ([], []) => &[IpFamily::V4, IpFamily::V6],
        ([], [IpAddr::V4(_), ..]) => &[IpFamily::V4],
        ([], [IpAddr::V6(_), ..]) => &[IpFamily::V6],
        (stated, _) => stated,
    }
}

pub(super) fn conditions(service: &Service, pod: &Pod) -> Conditions {
    let (serving, terminating) = (pod.ready, pod.deleted.is_some());
    let ready = service.publish_not_ready_addresses || (serving && !terminating);
    Conditions { ready, serving, terminating }
}

/// A pod's hostname counts under the Service that it names as its subdomain.
pub(super) fn hostname(service: &Service, pod: &Pod) -> Option<crate::name::DnsLabel> {
    let here = pod.subdomain.as_ref().is_some_and(|name| name.as_str() == service.name.name());
    pod.hostname.clone().filter(|_| here)
}

pub(super) fn resolve_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let resolve = |port: &ServicePort| {
        let number = match &port.target {
            TargetPort::Number(number) => *number,
            TargetPort::Name(name) => pod.port(name, port.protocol)?,
        };
        Some(EndpointPort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: number,
            app_protocol: port.app_protocol.clone(),
        })
    };
    let mut ports: Vec<EndpointPort> = service.ports.iter().filter_map(resolve).collect();
    ports.sort_unstable();
    ports
}

/// One allocation for all that is alike.
fn shared<T, U>(known: &mut BTreeSet<Arc<T>>, value: U) -> Arc<T>
where
    T: Ord + ?Sized,
    U: Borrow<T> + Into<Arc<T>>,
{
    if let Some(same) = known.get(value.borrow()) {
        return Arc::clone(same);
    }
    let first: Arc<T> = value.into();
    known.insert(Arc::clone(&first));
    first
}
