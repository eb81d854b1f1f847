//! [`Node`] and [`Nodes`]: where pods run.
//!
//! ```
//! use svcplane::labels::Labels;
//! use svcplane::node::{Node, Nodes};
//!
//! let mut node = Node::new("node-1".parse()?);
//! node.labels = Labels::from_iter([("topology.kubernetes.io/zone", "a")]);
//! let nodes = Nodes::from_iter([node]);
//! assert_eq!(nodes.lookup("node-1").and_then(|node| node.zone()), Some("a"));
//! # Ok::<(), svcplane::name::NameError>(())
//! ```
//!
//! Source: Kubernetes core/v1 `Node`.
//! To find a node is O(log n).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::labels::Labels;
use crate::name::NodeName;

/// The label that holds a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The labels of nodes that run the cluster itself and take no ordinary pods.
const CONTROL_PLANE_LABELS: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its labels. Defaults to none.
    pub labels: Labels,
    /// Its addresses, internal and external. Defaults to none.
    pub addresses: Vec<IpAddr>,
    /// The ranges that its pods' addresses come from. Defaults to none.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether its `Ready` condition is true. Defaults to false.
    pub ready: bool,
    /// The CPU that its pods can have, in thousandths of a core; 0 is unknown. Defaults to 0.
    pub cpu_millis: u32,
}

impl Node {
    /// A node that is not ready and has neither labels nor addresses.
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            labels: Labels::default(),
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            ready: false,
            cpu_millis: 0,
        }
    }

    /// Its zone; `None` if the label is missing or empty.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE_LABEL).filter(|zone| !zone.is_empty())
    }
}

/// The nodes that are known, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    by_name: BTreeMap<NodeName, Node>,
    /// Of the workers that tell their zone and CPU.
    cpus_by_zone: BTreeMap<Arc<str>, u64>,
    /// Workers that do not.
    untold: usize,
}

impl Nodes {
    /// Adds a node or replaces the one of the same name, which is returned.
    pub fn insert(&mut self, node: Node) -> Option<Node> {
        let before = self.remove(node.name.as_str());
        if is_worker(&node) {
            match (node.zone(), node.cpu_millis) {
                (None, _) | (_, 0) => self.untold += 1,
                (Some(zone), cpu) => {
                    let cpu = u64::from(cpu);
                    match self.cpus_by_zone.get_mut(zone) {
                        Some(sum) => *sum += cpu,
                        None => drop(self.cpus_by_zone.insert(zone.into(), cpu)),
                    }
                }
            }
        }
        self.by_name.insert(node.name.clone(), node);
        before
    }

    /// Takes a node out.
    pub fn remove(&mut self, name: &str) -> Option<Node> {
        let node = self.by_name.remove(name)?;
        if is_worker(&node) {
            match (node.zone(), node.cpu_millis) {
                (None, _) | (_, 0) => self.untold -= 1,
                (Some(zone), cpu) => {
                    if let Some(sum) = self.cpus_by_zone.get_mut(zone) {
                        *sum -= u64::from(cpu);
                        if *sum == 0 {
                            self.cpus_by_zone.remove(zone);
                        }
                    }
                }
            }
        }
        Some(node)
    }

    /// The node of a name.
    pub fn lookup(&self, name: &str) -> Option<&Node> {
        self.by_name.get(name)
    }

    /// The nodes, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.by_name.values()
    }

    /// How much CPU the ready nodes of each zone have for pods, in thousandths of a core, without those of the
    /// control plane; `None` as long as one of them does not tell its zone or its CPU.
    pub fn cpus_by_zone(&self) -> Option<&BTreeMap<Arc<str>, u64>> {
        (self.untold == 0).then_some(&self.cpus_by_zone)
    }
}

fn is_worker(node: &Node) -> bool {
    node.ready && !CONTROL_PLANE_LABELS.iter().any(|label| node.labels.contains_key(label))
}

impl FromIterator<Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        let mut known = Self::default();
        nodes.into_iter().for_each(|node| drop(known.insert(node)));
        known
    }
}
