//! Endpoints.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use super::{Converted, object_name, optional, port_number, understood};
use crate::endpoints::{self, Conditions, Endpoint, EndpointSet, Target};
use crate::field::{FieldError, Path, Report};
use crate::net::parse_ip;

impl Endpoints {
    /// The endpoints as a set, with what its mirrored EndpointSlices would say: an address is ready or not by
    /// the list that it is in, and serves; an address that is none is left out. Each subset's addresses have
    /// that subset's ports.
    ///
    /// They are a Service's endpoints only if it has no selector: whether to ask is the caller's business.
    ///
    /// # Errors
    ///
    /// The name or namespace is not usable.
    pub fn convert(&self) -> Result<Converted<EndpointSet>, FieldError> {
        let report = &mut Report::default();
        let name = object_name(&self.metadata)?;
        let root = Path::root("subsets");
        let mut endpoints = Vec::new();
        for (i, subset) in self.subsets.iter().enumerate() {
            convert_subset(report, &root.index(i), subset, &mut endpoints);
        }
        Ok(Converted::new(EndpointSet::new(name, endpoints), core::mem::take(report)))
    }
}

fn convert_subset(
    report: &mut Report,
    path: &Path<'_>,
    subset: &EndpointSubset,
    endpoints: &mut Vec<Endpoint>,
) {
    let list = path.field("ports");
    let numbered = subset.ports.iter().enumerate();
    let mut ports: Vec<endpoints::EndpointPort> =
        numbered.filter_map(|(i, port)| convert_port(report, &list.index(i), port)).collect();
    ports.sort_unstable();
    let ports: Arc<[_]> = ports.into();
    for (field, addresses, ready) in [
        ("addresses", &subset.addresses, true),
        ("notReadyAddresses", &subset.not_ready_addresses, false),
    ] {
        let list = path.field(field);
        for (i, address) in addresses.iter().enumerate() {
            let endpoint = convert_address(report, &list.index(i), address);
            endpoints.extend(endpoint.map(|endpoint| Endpoint {
                ports: Arc::clone(&ports),
                conditions: Conditions { ready, ..Conditions::default() },
                ..endpoint
            }));
        }
    }
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
) -> Option<Endpoint> {
    let ip = understood(report, &path.field("ip"), &address.ip, parse_ip(&address.ip))?;
    let mut endpoint = Endpoint::new(ip);
    endpoint.hostname = optional(report, &path.field("hostname"), &address.hostname);
    let node = address.node_name.as_deref().unwrap_or("");
    endpoint.node = optional(report, &path.field("nodeName"), node);
    endpoint.target = address.target_ref.as_ref().map(|reference| Target {
        kind: reference.kind.as_str().into(),
        namespace: reference.namespace.as_str().into(),
        name: reference.name.as_str().into(),
        uid: reference.uid.as_str().into(),
    });
    Some(endpoint)
}
