//! Endpoints and EndpointSlices.

use alloc::borrow::ToOwned;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::super::{
    EndpointAddress, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice,
    EndpointSubset, Endpoints, ForNode, ForZone, ObjectReference, OwnerReference, SliceEndpoint,
    SlicePort,
};
use super::{map, meta, text};
use crate::endpoints::{self, HEADLESS_LABEL, MANAGED_BY_LABEL, SERVICE_NAME_LABEL};

impl From<&endpoints::EndpointSlice> for EndpointSlice {
    /// Ports have a name, an empty one if they are unnamed, and all conditions are stated. A slice of no family is one of
    /// names (`FQDN`).
    fn from(slice: &endpoints::EndpointSlice) -> Self {
        let mut metadata = meta(&slice.name, &slice.uid, &slice.labels);
        metadata.generation = slice.generation;
        metadata.annotations = map(&slice.annotations);
        metadata.deletion_timestamp = text(slice.deleted);
        let managed_by = Some(&*slice.managed_by).filter(|name| !name.is_empty());
        let special = [
            Some((SERVICE_NAME_LABEL, slice.service.name())),
            managed_by.map(|name| (MANAGED_BY_LABEL, name)),
            slice.headless.then_some((HEADLESS_LABEL, "")),
        ];
        let special = special.into_iter().flatten();
        metadata.labels.extend(special.map(|(key, value)| (key.to_owned(), value.to_owned())));
        metadata.owner_references = slice.owner.iter().map(owner).collect();
        Self {
            metadata,
            address_type: slice.family.map_or("FQDN", crate::net::IpFamily::as_str).to_owned(),
            endpoints: slice.endpoints().iter().map(Into::into).collect(),
            ports: slice.ports().iter().map(slice_port).collect(),
        }
    }
}

impl From<&endpoints::Endpoint> for SliceEndpoint {
    fn from(endpoint: &endpoints::Endpoint) -> Self {
        let ips = core::iter::once(&endpoint.ip).chain(&endpoint.other_ips);
        let endpoints::Conditions { ready, serving, terminating } = endpoint.conditions;
        let hints = EndpointHints {
            for_zones: endpoint
                .hints
                .zones
                .iter()
                .map(|zone| ForZone { name: zone.to_string() })
                .collect(),
            for_nodes: endpoint
                .hints
                .nodes
                .iter()
                .map(|node| ForNode { name: node.to_string() })
                .collect(),
        };
        Self {
            addresses: ips.map(ToString::to_string).collect(),
            conditions: EndpointConditions {
                ready: Some(ready),
                serving: Some(serving),
                terminating: Some(terminating),
            },
            hostname: endpoint.hostname.as_ref().map(ToString::to_string),
            target_ref: endpoint.target.as_ref().map(Into::into),
            node_name: endpoint.node.as_ref().map(ToString::to_string),
            zone: endpoint.zone.as_ref().map(ToString::to_string),
            hints: Some(hints).filter(|hints| *hints != EndpointHints::default()),
        }
    }
}

impl From<&endpoints::Endpoints> for Endpoints {
    fn from(endpoints: &endpoints::Endpoints) -> Self {
        let mut metadata = meta(&endpoints.name, &endpoints.uid, &endpoints.labels);
        metadata.annotations = map(&endpoints.annotations);
        metadata.deletion_timestamp = text(endpoints.deleted);
        Self { metadata, subsets: endpoints.subsets.iter().map(Into::into).collect() }
    }
}

impl From<&endpoints::Subset> for EndpointSubset {
    fn from(subset: &endpoints::Subset) -> Self {
        let addresses = |list: &[endpoints::Address]| -> Vec<EndpointAddress> {
            list.iter().map(Into::into).collect()
        };
        Self {
            addresses: addresses(&subset.addresses),
            not_ready_addresses: addresses(&subset.not_ready),
            ports: subset.ports.iter().map(Into::into).collect(),
        }
    }
}

impl From<&endpoints::Address> for EndpointAddress {
    fn from(address: &endpoints::Address) -> Self {
        Self {
            ip: address.ip.to_string(),
            hostname: text(address.hostname.as_ref()),
            node_name: address.node.as_ref().map(ToString::to_string),
            target_ref: address.target.as_ref().map(Into::into),
        }
    }
}

impl From<&endpoints::EndpointPort> for EndpointPort {
    fn from(port: &endpoints::EndpointPort) -> Self {
        Self {
            name: text(port.name.as_ref()),
            port: port.port.into(),
            protocol: port.protocol.to_string(),
            app_protocol: port.app_protocol.as_ref().map(ToString::to_string),
        }
    }
}

impl From<&endpoints::Reference> for ObjectReference {
    fn from(reference: &endpoints::Reference) -> Self {
        Self {
            kind: reference.kind.to_string(),
            namespace: reference.namespace.to_string(),
            name: reference.name.to_string(),
            uid: reference.uid.to_string(),
        }
    }
}

fn slice_port(port: &endpoints::EndpointPort) -> SlicePort {
    SlicePort {
        name: Some(port.name_str().to_owned()),
        protocol: Some(port.protocol.to_string()),
        port: Some(port.port.into()),
        app_protocol: port.app_protocol.as_ref().map(ToString::to_string),
    }
}

fn owner(owner: &endpoints::Reference) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: owner.kind.to_string(),
        name: owner.name.to_string(),
        uid: owner.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
