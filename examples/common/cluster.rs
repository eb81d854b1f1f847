//! From manifests to a catalog: addresses, node ports, where endpoints come from. No I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;

use svcplane::catalog::{Catalog, Changes, EndpointSource, Kind};
use svcplane::endpoints::{Endpoints, Packing, SliceWrites};
use svcplane::ipnet::IpNet;
use svcplane::labels::Selector;
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

/// What the manifests say, and what follows from that.
pub(crate) struct Cluster {
    pub(crate) catalog: Catalog,
    pub(crate) warnings: Vec<String>,
}

impl Cluster {
    /// A first reading, and all that is in it as changes.
    pub(crate) fn new(
        manifests: Manifests,
        setup: &Setup,
        mode: Mode,
    ) -> Result<(Self, Changes), Vec<String>> {
        let node = setup.local_node(&Nodes::default());
        let catalog = Catalog::new(node, mode).with_pods(EndpointSource::Slices);
        let mut cluster = Self { catalog, warnings: Vec::new() };
        let changes = cluster.follow(manifests, setup)?;
        Ok((cluster, changes))
    }

    /// Takes another reading; nothing of it, if there is any mistake in it. Services that were there keep the addresses and node ports
    /// that they were given.
    pub(crate) fn follow(
        &mut self,
        manifests: Manifests,
        setup: &Setup,
    ) -> Result<Changes, Vec<String>> {
        let Self { catalog, .. } = self;
        let mut warnings = manifests.warnings;
        let earlier: Vec<Service> =
            catalog.services().map(|(service, _)| service.clone()).collect();
        let services = assigned(manifests.services, setup, &earlier, &mut warnings)?;
        let nodes = nodes(&manifests.nodes, &manifests.pods);
        let endpoints: BTreeMap<ObjectName, &Endpoints> =
            manifests.endpoints.iter().map(|e| (e.object.name.clone(), &e.object)).collect();
        warnings.extend(services.iter().filter_map(|service| skipped(service, &endpoints)));

        let mut changes = catalog.set_node(setup.local_node(&nodes));
        changes.merge(catalog.resync(Kind::Node, nodes.iter().cloned()));
        changes.merge(catalog.resync(Kind::Pod, objects(manifests.pods)));
        for service in &services {
            let source = source(catalog, service, endpoints.contains_key(&service.name));
            changes.merge(catalog.set_source(&service.name, Some(source)));
        }
        changes.merge(catalog.resync(Kind::Endpoints, objects(manifests.endpoints)));
        changes.merge(catalog.resync(Kind::EndpointSlice, objects(manifests.slices)));
        changes.merge(catalog.resync(Kind::Service, services));

        let plan = catalog.plan();
        for (service, set) in catalog.services() {
            let duplicates = set.duplicates(Some(&plan.node().name)).map(|one| one.to_string());
            let told = set.left_out().iter().map(ToString::to_string).chain(duplicates);
            warnings.extend(told.map(|warning| format!("{}: {warning}", service.name)));
        }
        warnings.extend(plan.conflicts().map(ToString::to_string));
        warnings.extend(plan.warnings().map(ToString::to_string));
        self.warnings = warnings;
        Ok(changes)
    }

    pub(crate) const fn plan(&self) -> &Plan {
        self.catalog.plan()
    }
}

fn objects<T>(located: Vec<Located<T>>) -> impl Iterator<Item = T> {
    located.into_iter().map(|located| located.object)
}

/// Manifests may hold what a cluster's controllers would make EndpointSlices of, or these slices, or both.
fn source(catalog: &Catalog, service: &Service, has_endpoints: bool) -> EndpointSource {
    let selects = || {
        let selector = Selector::from(&service.selector);
        catalog.selectors().is_some_and(|index| {
            !index.objects_matching(service.name.namespace(), &selector).is_empty()
        })
    };
    let made_here = if service.selector.is_empty() { has_endpoints } else { selects() };
    if made_here { EndpointSource::Pods } else { EndpointSource::Slices }
}

/// A warning, if not all addresses of a Service's Endpoints are taken.
fn skipped(service: &Service, endpoints: &BTreeMap<ObjectName, &Endpoints>) -> Option<String> {
    let endpoints = endpoints.get(&service.name).copied();
    let (name, packing) = (&service.name, Packing::mirroring());
    let skipped = SliceWrites::mirror(name, Some(service), endpoints, [], &packing).skipped;
    (skipped > 0).then(|| format!("{name}: {skipped} addresses are too many for one subset"))
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
