//! From manifests to a plan: addresses, node ports, endpoint sets. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use svcplane::endpoints::{EndpointSet, EndpointSlice, Endpoints, Packing, SliceWrites};
use svcplane::ipam::{IpRange, PortRange};
use svcplane::ipnet::IpNet;
use svcplane::name::{NodeName, ObjectName};
use svcplane::net::{IpFamily, Protocol};
use svcplane::node::{Node, Nodes};
use svcplane::plan::{LocalNode, Plan};
use svcplane::pod::Pod;
use svcplane::service::{ClusterIps, IpFamilyPolicy, Service, ServiceKind};

use crate::manifests::{Located, Manifests, Origin};

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

/// A fixed seed: the same manifests get the same addresses in every run.
const SEED: u64 = 1;

impl Cluster {
    /// Services that `previous` had keep the addresses and node ports that they were given there.
    pub(crate) fn new(
        manifests: Manifests,
        ranges: &Ranges,
        node: Option<NodeName>,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<String>> {
        let mut warnings = manifests.warnings;
        let services = assign(manifests.services, ranges, previous)?;
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
        let plan = Plan::new(&local, services.iter().zip(&endpoints));
        warnings.extend(plan.conflicts().iter().map(ToString::to_string));
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
        local.pod_cidrs.clone_from(&node.pod_cidrs);
    }
    local
}

struct Assigner {
    ranges: Vec<IpRange>,
    node_ports: PortRange,
    owners: BTreeMap<IpAddr, String>,
    port_owners: BTreeMap<u16, ObjectName>,
    ports: BTreeSet<(u16, Protocol)>,
    errors: Vec<String>,
}

/// Gives every Service its addresses and node ports: first those that ask for one, then those that have one,
/// then the rest.
fn assign(
    services: Vec<Located<Service>>,
    ranges: &Ranges,
    previous: Option<&Cluster>,
) -> Result<Vec<Service>, Vec<String>> {
    let mut ip_ranges: Vec<IpRange> = Vec::new();
    for &net in &ranges.cluster_ips {
        let same = |range: &IpRange| IpFamily::of(range.net().addr()) == IpFamily::of(net.addr());
        if let Some(first) = ip_ranges.iter().find(|range| same(range)) {
            let first: IpNet = first.net();
            return Err(vec![format!(
                "--cluster-ip-range: {net} and {first} are of one family: expected one range of each"
            )]);
        }
        ip_ranges.push(
            IpRange::new(net, SEED)
                .map_err(|error| vec![format!("--cluster-ip-range: {error}")])?,
        );
    }
    let mut assigner = Assigner {
        ranges: ip_ranges,
        node_ports: PortRange::new(ranges.node_ports.0, ranges.node_ports.1, SEED),
        owners: BTreeMap::new(),
        port_owners: BTreeMap::new(),
        ports: BTreeSet::new(),
        errors: Vec::new(),
    };
    for Located { origin, object } in &services {
        assigner.claim(origin, object);
    }
    let earlier: BTreeMap<&ObjectName, &Service> = previous
        .iter()
        .flat_map(|cluster| &cluster.services)
        .map(|service| (&service.name, service))
        .collect();
    let mut done = Vec::new();
    for Located { origin, mut object } in services {
        if let Some(earlier) = earlier.get(&object.name) {
            assigner.keep(&mut object, earlier);
        }
        done.push((origin, object));
    }
    for (origin, service) in &mut done {
        assigner.fill(origin, service);
    }
    if assigner.errors.is_empty() {
        let mut services: Vec<Service> = done.into_iter().map(|(_, service)| service).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(services)
    } else {
        Err(assigner.errors)
    }
}

impl Assigner {
    /// Takes what a Service asks for.
    fn claim(&mut self, origin: &Origin, service: &Service) {
        for (i, &ip) in service.cluster_ips.as_slice().iter().enumerate() {
            if let Err(why) = self.take_ip(ip, &service.name) {
                self.errors
                    .push(format!("{origin}: spec.clusterIPs[{i}]: invalid value \"{ip}\": {why}"));
            }
        }
        for (i, port) in service.ports.iter().enumerate() {
            if let Some(Err(why)) =
                port.node_port.map(|n| self.take_port(n, port.protocol, &service.name))
            {
                let number = port.node_port.unwrap_or(0);
                self.errors.push(format!(
                    "{origin}: spec.ports[{i}].nodePort: invalid value {number}: {why}"
                ));
            }
        }
    }

    fn take_ip(&mut self, ip: IpAddr, owner: &ObjectName) -> Result<(), String> {
        let nets = self.ranges.iter().map(|range| range.net().to_string());
        let nets = nets.collect::<Vec<_>>().join(", ");
        let Some(range) = self.ranges.iter_mut().find(|range| range.contains(ip)) else {
            return Err(format!(
                "expected an address in {nets}; --cluster-ip-range changes the range"
            ));
        };
        if range.allocate(ip).is_err() {
            let owner = self.owners.get(&ip).map_or("another Service", String::as_str);
            return Err(format!("the address belongs to {owner}"));
        }
        self.owners.insert(ip, owner.to_string());
        Ok(())
    }

    /// One Service may have a node port for several of its ports, with different protocols.
    fn take_port(
        &mut self,
        port: u16,
        protocol: Protocol,
        owner: &ObjectName,
    ) -> Result<(), String> {
        match self.port_owners.get(&port) {
            Some(first) if first != owner || self.ports.contains(&(port, protocol)) => {
                return Err(format!("the node port belongs to {first}"));
            }
            Some(_) => {}
            None => {
                let changes = "--node-port-range changes the range";
                self.node_ports.allocate(port).map_err(|error| format!("{error}; {changes}"))?;
                self.port_owners.insert(port, owner.clone());
            }
        }
        self.ports.insert((port, protocol));
        Ok(())
    }

    /// Gives a Service what it had, where it asks for nothing else and nobody has taken it since.
    fn keep(&mut self, service: &mut Service, earlier: &Service) {
        if needs_ip(service) {
            let ips = earlier.cluster_ips.as_slice();
            let free = |ip: &IpAddr| self.ranges.iter().any(|r| r.contains(*ip) && !r.has(*ip));
            if !ips.is_empty() && ips.iter().all(free) {
                for &ip in ips {
                    // It is free, so it is not refused.
                    let _ = self.take_ip(ip, &service.name);
                }
                service.cluster_ips = ClusterIps::Assigned(ips.to_vec());
            }
        }
        if needs_node_ports(service) {
            let name = service.name.clone();
            for port in service.ports.iter_mut().filter(|port| port.node_port.is_none()) {
                let same = earlier
                    .ports
                    .iter()
                    .find(|e| e.name == port.name && e.protocol == port.protocol);
                let had = same.and_then(|earlier| earlier.node_port);
                port.node_port = had.filter(|&n| self.take_port(n, port.protocol, &name).is_ok());
            }
        }
    }

    /// Gives a Service what it still lacks.
    fn fill(&mut self, origin: &Origin, service: &mut Service) {
        if needs_ip(service) {
            let mut ips = Vec::new();
            let families = self.ranges.iter().map(|range| IpFamily::of(range.net().addr()));
            if service.ip_family_policy == Some(IpFamilyPolicy::RequireDualStack)
                && families.collect::<BTreeSet<_>>().len() < 2
            {
                self.errors.push(format!(
                    "{origin}: spec.ipFamilyPolicy: RequireDualStack needs a range of each family; \
                     --cluster-ip-range adds one"
                ));
            }
            for family in wanted_families(service, &self.ranges) {
                let of_family = |range: &&mut IpRange| IpFamily::of(range.net().addr()) == family;
                let next = self.ranges.iter_mut().find(of_family).map(IpRange::allocate_next);
                match next {
                    Some(Ok(ip)) => ips.push(ip),
                    Some(Err(error)) => self.errors.push(format!(
                        "{origin}: spec.clusterIPs: {error}; --cluster-ip-range changes the range"
                    )),
                    None => self.errors.push(format!(
                        "{origin}: spec.ipFamilies: no {family} range to allocate from; \
                         --cluster-ip-range adds one"
                    )),
                }
            }
            service.cluster_ips = ClusterIps::Assigned(ips);
        }
        if needs_node_ports(service) {
            let name = service.name.clone();
            // TCP and UDP ports of one number share a node port, as clients expect of DNS.
            let mut given: BTreeMap<u16, u16> = service
                .ports
                .iter()
                .filter_map(|port| Some((port.port, port.node_port?)))
                .collect();
            for port in service.ports.iter_mut().filter(|port| port.node_port.is_none()) {
                let shared = given.get(&port.port).copied();
                let shared = shared.filter(|&n| self.take_port(n, port.protocol, &name).is_ok());
                port.node_port = shared.or_else(|| match self.node_ports.allocate_next() {
                    Ok(number) => {
                        self.port_owners.insert(number, name.clone());
                        self.ports.insert((number, port.protocol));
                        Some(number)
                    }
                    Err(error) => {
                        self.errors.push(format!("{origin}: spec.ports: {error}"));
                        None
                    }
                });
                given.extend(port.node_port.map(|number| (port.port, number)));
            }
        }
    }
}

fn needs_ip(service: &Service) -> bool {
    service.cluster_ips == ClusterIps::Unassigned
        && !matches!(service.kind, ServiceKind::ExternalName(_))
}

fn needs_node_ports(service: &Service) -> bool {
    match service.kind {
        ServiceKind::NodePort => true,
        ServiceKind::LoadBalancer => service.load_balancer.allocate_node_ports != Some(false),
        ServiceKind::ClusterIp | ServiceKind::ExternalName(_) => false,
    }
}

/// The families that a Service states, or that of the first range; for dual stack, those of all ranges.
fn wanted_families(service: &Service, ranges: &[IpRange]) -> Vec<IpFamily> {
    let mut families = service.ip_families.clone();
    let configured = ranges.iter().map(|range| IpFamily::of(range.net().addr()));
    let dual = !matches!(service.ip_family_policy, None | Some(IpFamilyPolicy::SingleStack));
    for family in configured {
        if families.is_empty() || (dual && !families.contains(&family)) {
            families.push(family);
        }
    }
    families
}
