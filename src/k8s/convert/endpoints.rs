//! Endpoints.

use alloc::vec::Vec;

use super::super::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference};
use super::{Converted, object_name, optional, pairs, port_number, timestamp, understood};
use crate::endpoints::{self, Address, Reference, Subset};
use crate::field::{FieldError, Path, Report};
use crate::net::parse_ip;

impl Endpoints {
    /// The domain object. Addresses and ports that are none are left out.
    ///
    /// They are a Service's endpoints only if it has no selector: whether to ask is the caller's business.
    ///
    /// # Errors
    ///
    /// The name or namespace is not usable.
    pub fn convert(&self) -> Result<Converted<endpoints::Endpoints>, FieldError> {
        let report = &mut Report::default();
        let mut endpoints = endpoints::Endpoints::new(object_name(&self.metadata)?);
        endpoints.uid = self.metadata.uid.as_str().into();
        endpoints.deleted =
            timestamp(report, "deletionTimestamp", &self.metadata.deletion_timestamp);
        endpoints.labels = pairs(&self.metadata.labels);
        endpoints.annotations = pairs(&self.metadata.annotations);
        let root = Path::root("subsets");
        for (i, subset) in self.subsets.iter().enumerate() {
            endpoints.subsets.push(convert_subset(report, &root.index(i), subset));
        }
        Ok(Converted::new(endpoints, core::mem::take(report)))
    }
}

fn convert_subset(report: &mut Report, path: &Path<'_>, subset: &EndpointSubset) -> Subset {
    let mut converted = Subset::default();
    for (field, addresses, list) in [
        ("addresses", &subset.addresses, &mut converted.addresses),
        ("notReadyAddresses", &subset.not_ready_addresses, &mut converted.not_ready),
    ] {
        let path = path.field(field);
        for (i, address) in addresses.iter().enumerate() {
            list.extend(convert_address(report, &path.index(i), address));
        }
    }
    let list = path.field("ports");
    let ports = subset.ports.iter().enumerate();
    let ports: Vec<endpoints::EndpointPort> =
        ports.filter_map(|(i, port)| convert_port(report, &list.index(i), port)).collect();
    converted.ports = ports;
    converted
}

fn convert_port(
    report: &mut Report,
    path: &Path<'_>,
    port: &EndpointPort,
) -> Option<endpoints::EndpointPort> {
    let number = port_number(report, &path.field("port"), port.port)?;
    let mut converted = endpoints::EndpointPort::new(number);
    if !port.name.is_empty() {
        converted.name =
            Some(understood(report, &path.field("name"), &port.name, port.name.parse())?);
    }
    if !port.protocol.is_empty() {
        let protocol = port.protocol.parse();
        converted.protocol = understood(report, &path.field("protocol"), &port.protocol, protocol)?;
    }
    converted.app_protocol = port.app_protocol.as_deref().map(Into::into);
    Some(converted)
}

fn convert_address(
    report: &mut Report,
    path: &Path<'_>,
    address: &EndpointAddress,
) -> Option<Address> {
    let ip = understood(report, &path.field("ip"), &address.ip, parse_ip(&address.ip))?;
    let mut converted = Address::new(ip);
    converted.hostname = optional(report, &path.field("hostname"), &address.hostname);
    let node = address.node_name.as_deref().unwrap_or("");
    converted.node = optional(report, &path.field("nodeName"), node);
    converted.target = address.target_ref.as_ref().map(Into::into);
    Some(converted)
}

impl From<&ObjectReference> for Reference {
    fn from(reference: &ObjectReference) -> Self {
        Self {
            kind: reference.kind.as_str().into(),
            namespace: reference.namespace.as_str().into(),
            name: reference.name.as_str().into(),
            uid: reference.uid.as_str().into(),
        }
    }
}
