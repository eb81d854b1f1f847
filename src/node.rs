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

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::labels::Labels;
use crate::name::NodeName;

/// The label that holds a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

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
        }
    }

    /// Its zone; `None` if the label is missing or empty.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE_LABEL).filter(|zone| !zone.is_empty())
    }
}

/// The nodes that are known, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes(BTreeMap<NodeName, Node>);

impl Nodes {
    /// Adds a node or replaces the one of the same name, which is returned.
    pub fn insert(&mut self, node: Node) -> Option<Node> {
        self.0.insert(node.name.clone(), node)
    }

    /// Takes a node out.
    pub fn remove(&mut self, name: &str) -> Option<Node> {
        self.0.remove(name)
    }

    /// The node of a name.
    pub fn lookup(&self, name: &str) -> Option<&Node> {
        self.0.get(name)
    }

    /// The nodes, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.0.values()
    }
}

impl FromIterator<Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        Self(nodes.into_iter().map(|node| (node.name.clone(), node)).collect())
    }
}
