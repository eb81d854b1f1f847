//! The mirror of core/v1 `Node`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::meta::{Condition, ObjectMeta};
use super::quantity::Quantity;

mirror! {
    /// A node.
    pub struct Node {
        /// Names, labels, annotations.
        metadata: ObjectMeta,
        /// What is wanted.
        spec: NodeSpec,
        /// What is.
        status: NodeStatus,
    }

    /// What is wanted of a node.
    pub struct NodeSpec {
        /// The primary range of its pods' addresses.
        pod_cidr as "podCIDR": String,
        /// The ranges of its pods' addresses, the primary one first.
        pod_cidrs as "podCIDRs": Vec<String>,
        /// What keeps pods away from it.
        taints: Vec<Taint>,
    }

    /// Something that keeps pods away from a node.
    pub struct Taint {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
        effect: String,
    }

    /// What a node is.
    pub struct NodeStatus {
        /// Its addresses and names.
        addresses: Vec<NodeAddress>,
        /// What holds, such as `Ready`.
        conditions: Vec<Condition>,
        /// What its pods can have, by resource: `cpu`, `memory` and others.
        allocatable: BTreeMap<String, Quantity>,
    }

    /// An address or name of a node.
    pub struct NodeAddress {
        /// `InternalIP`, `ExternalIP`, `Hostname`, `InternalDNS` or `ExternalDNS`.
        kind as "type": String,
        /// The address or name.
        address: String,
    }
}
