//! Node.

use super::super::Node;
use super::super::meta::is_true;
use super::{Converted, pairs, understood};
use crate::field::{FieldError, Path, Report};
use crate::net::{parse_cidr, parse_ip};
use crate::node;

impl Node {
    /// The domain object.
    ///
    /// # Errors
    ///
    /// The name is not usable.
    pub fn convert(&self) -> Result<Converted<node::Node>, FieldError> {
        let report = &mut Report::default();
        let root = Path::root("metadata");
        let name = self.metadata.name.parse().map_err(|error: crate::name::NameError| {
            FieldError::text(&root.field("name"), &self.metadata.name, &error)
        })?;
        let mut node = node::Node::new(name);
        node.labels = pairs(&self.metadata.labels);

        let root = Path::root("spec");
        let (list, only) = (root.field("podCIDRs"), root.field("podCIDR"));
        if self.spec.pod_cidrs.is_empty() && !self.spec.pod_cidr.is_empty() {
            let cidr = &self.spec.pod_cidr;
            node.pod_cidrs.extend(understood(report, &only, cidr, parse_cidr(cidr)));
        }
        for (i, cidr) in self.spec.pod_cidrs.iter().enumerate() {
            node.pod_cidrs.extend(understood(report, &list.index(i), cidr, parse_cidr(cidr)));
        }

        let root = Path::root("status");
        for (i, address) in self.status.addresses.iter().enumerate() {
            if matches!(address.kind.as_str(), "InternalIP" | "ExternalIP") {
                let list = root.field("addresses");
                let entry = list.index(i);
                let (path, text) = (entry.field("address"), &address.address);
                node.addresses.extend(understood(report, &path, text, parse_ip(text)));
            }
        }
        if let Some(cpu) = self.status.allocatable.get("cpu") {
            let millis = cpu.millis().ok_or("expected an amount such as 4 or 3920m");
            let list = root.field("allocatable");
            let millis = understood(report, &list.key("cpu"), &cpu.as_str(), millis);
            node.cpu_millis = u32::try_from(millis.unwrap_or(0)).unwrap_or(u32::MAX);
        }
        node.ready = is_true(&self.status.conditions, "Ready");
        Ok(Converted::new(node, core::mem::take(report)))
    }
}
