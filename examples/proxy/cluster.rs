//! From manifests to a plan: addresses, node ports, endpoint sets. No I/O.

use std::collections::BTreeMap;

use svcplane::endpoints::{EndpointSet, EndpointSlice, Endpoints, Packing, SliceWrites};
use svcplane::ipnet::IpNet;
use svcplane::name::{NodeName, ObjectName};
use svcplane::node::{Node, Nodes};
use svcplane::plan::{LocalDetector, LocalNode, Mode, Plan};
use svcplane::pod::Pod;
use svcplane::service::Service;

use crate::assigned::assigned;
use crate::manifests::{Located, Manifests};

/// What addresses and node ports come from.
pub(crate) struct Ranges {
    pub(crate) cluster_ips: Vec<IpNet>,
    pub(crate) node_ports: (u16, u16),
}

/// Everything that follows from one reading of the manifests.
pub(crate) struct Cluster {
    pub(crate) services: Vec<Service>,
    /// In the order of `services`.
    pub(crate) endpoints: Vec<EndpointSet>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) plan: Plan,
    pub(crate) warnings: Vec<String>,
}

impl Cluster {
    /// Services that `previous` had keep the addresses and node ports that they were given there.
    pub(crate) fn new(
        manifests: Manifests,
        ranges: &Ranges,
        node: Option<NodeName>,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<String>> {
        let mut warnings = manifests.warnings;
        let earlier = previous.map_or(&[][..], |cluster| &cluster.services);
        let services = assigned(manifests.services, ranges, earlier, &mut warnings)?;
        let nodes = nodes(&manifests.nodes, &manifests.pods);
        let local = local_node(node, &nodes);
        let pods: Vec<Pod> = manifests.pods.into_iter().map(|pod| pod.object).collect();
        let known = Known {
            pods: &pods,
            nodes: &nodes,
            endpoints: manifests.endpoints.iter().map(|e| (&e.object.name, &e.object)).collect(),
            slices: manifests.slices.iter().map(|slice| &slice.object).collect(),
        };
        let endpoints: Vec<EndpointSet> =
            services.iter().map(|service| known.endpoints(service, &mut warnings)).collect();
        for set in &endpoints {
            let left_out = set.left_out().iter();
            warnings.extend(left_out.map(|left_out| format!("{}: {left_out}", set.service())));
            let duplicates = set.duplicates(Some(&local.name));
            warnings.extend(duplicates.map(|duplicate| format!("{}: {duplicate}", set.service())));
        }
        let plan = Plan::new(&local, Mode::Userspace, services.iter().zip(&endpoints));
        warnings.extend(plan.conflicts().map(ToString::to_string));
        warnings.extend(plan.warnings().map(ToString::to_string));
        Ok(Self { services, endpoints, pods, plan, warnings })
    }
}

/// What endpoints are made from.
struct Known<'a> {
    pods: &'a [Pod],
    nodes: &'a Nodes,
    endpoints: BTreeMap<&'a ObjectName, &'a Endpoints>,
    slices: Vec<&'a EndpointSlice>,
}

impl Known<'_> {
    /// The pods that a Service selects, or what its Endpoints say if it selects none by nature; and what EndpointSlices
    /// say, but for those that a cluster made from the same pods or Endpoints.
    fn endpoints(&self, service: &Service, warnings: &mut Vec<String>) -> EndpointSet {
        let name = &service.name;
        let resolved = EndpointSet::resolve(service, self.pods, self.nodes);
        let endpoints = self.endpoints.get(name).copied();
        let mirroring = Packing::mirroring();
        let mirrored = SliceWrites::mirror(name, Some(service), endpoints, [], &mirroring);
        if mirrored.skipped > 0 {
            warnings.push(format!(
                "{name}: {} addresses are too many for one subset",
                mirrored.skipped
            ));
        }
        let mut made_here = Vec::new();
        if !resolved.is_empty() || !resolved.left_out().is_empty() {
            made_here.push(Packing::default().managed_by);
        }
        if endpoints.is_some() {
            made_here.push(mirroring.managed_by);
        }
        let stated = self.slices.iter().filter(|slice| !made_here.contains(&slice.managed_by));
        let stated = stated.copied().chain(&mirrored.creates);
        resolved.merged_with(&EndpointSet::merge(name.clone(), stated))
    }
}

/// The nodes of the manifests, and a bare one for each other node that a pod names: here nothing but the
/// manifests says which nodes there are.
fn nodes(nodes: &[Located<Node>], pods: &[Located<Pod>]) -> Nodes {
    let mut known: Nodes = nodes.iter().map(|node| node.object.clone()).collect();
    for name in pods.iter().filter_map(|pod| pod.object.node.as_ref()) {
        if known.lookup(name.as_str()).is_none() {
            known.insert(Node::new(name.clone()));
        }
    }
    known
}

fn local_node(name: Option<NodeName>, nodes: &Nodes) -> LocalNode {
    let only = || {
        let mut nodes = nodes.iter();
        nodes.next().filter(|_| nodes.next().is_none()).map(|node| node.name.clone())
    };
    let name = name.or_else(only);
    let name = name.unwrap_or_else(|| "localhost".parse().expect("a legal node name"));
    let mut local = LocalNode::new(name);
    if let Some(node) = nodes.lookup(local.name.as_str()) {
        local.addresses.clone_from(&node.addresses);
        local.zone = node.zone().map(Into::into);
        local.pods = LocalDetector::Cidrs(node.pod_cidrs.clone());
    }
    local
}
