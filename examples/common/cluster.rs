//! From manifests to a plan: addresses, node ports, endpoint sets. No I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;

use svcplane::endpoints::{EndpointSet, EndpointSlice, Endpoints, Packing, SliceWrites};
use svcplane::ipnet::IpNet;
use svcplane::name::{NodeName, ObjectName};
use svcplane::node::{Node, Nodes};
use svcplane::plan::{LocalNode, Mode, Plan};
use svcplane::pod::Pod;
use svcplane::service::Service;

use crate::assigned::assigned;
use crate::manifests::{Located, Manifests};
use crate::node::NodeFile;

/// What the examples that read a cluster's manifests can be told.
#[derive(clap::Args)]
pub(crate) struct Setup {
    /// Manifests: files, folders (their .yaml, .yml and .json files), or - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Where cluster IPs come from that no manifest states; once, or once for each address family
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/12")]
    pub(crate) cluster_ip_range: Vec<IpNet>,
    /// Where node ports come from
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767", value_parser = port_range)]
    pub(crate) node_port_range: (u16, u16),
    /// The node that this is, for endpoints that are local [default: the only Node there is, or localhost]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<NodeName>,
    /// This node as JSON or YAML, instead of what a Node says: name, zone, addresses, localAddresses, serviceCIDRs,
    /// localDetector: {clusterCIDRs}, masqueradeAll, nodePortAddresses, localhostNodePorts
    #[arg(long, value_name = "FILE", value_parser = read_node, conflicts_with = "node_name")]
    pub(crate) node: Option<LocalNode>,
}

fn read_node(path: &str) -> Result<LocalNode, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let file: NodeFile = serde_norway::from_str(&text).map_err(|error| error.to_string())?;
    file.local_node()
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').ok_or("expected FIRST-LAST, such as 30000-32767")?;
    let port = |text: &str| text.parse::<u16>().map_err(|error| format!("{text:?}: {error}"));
    let (first, last) = (port(first)?, port(last)?);
    if first == 0 || last < first {
        return Err("expected a first port from 1 and a last that is not less".to_owned());
    }
    Ok((first, last))
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
        setup: &Setup,
        mode: Mode,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<String>> {
        let mut warnings = manifests.warnings;
        let earlier = previous.map_or(&[][..], |cluster| &cluster.services);
        let services = assigned(manifests.services, setup, earlier, &mut warnings)?;
        let nodes = nodes(&manifests.nodes, &manifests.pods);
        let local = setup.local_node(&nodes);
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
        let plan = Plan::new(&local, mode, services.iter().zip(&endpoints));
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

impl Setup {
    fn local_node(&self, nodes: &Nodes) -> LocalNode {
        if let Some(node) = &self.node {
            return node.clone();
        }
        let only = || {
            let mut nodes = nodes.iter();
            nodes.next().filter(|_| nodes.next().is_none()).map(|node| node.name.clone())
        };
        let name = self.node_name.clone().or_else(only);
        let name = name.unwrap_or_else(|| "localhost".parse().expect("a legal node name"));
        let known = nodes.lookup(name.as_str());
        let mut local = known.map_or_else(|| LocalNode::new(name.clone()), LocalNode::of);
        local.service_cidrs.clone_from(&self.cluster_ip_range);
        local
    }
}
