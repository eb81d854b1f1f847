//! EndpointSlice.

use alloc::vec::Vec;

use super::super::{EndpointHints, EndpointSlice, ObjectMeta, SliceEndpoint, SlicePort};
use super::{Converted, object_name, optional, pairs, port_number, timestamp, understood};
use crate::endpoints::{
    self, Conditions, Endpoint, EndpointPort, HEADLESS_LABEL, Hints, MANAGED_BY_LABEL,
    RESERVED_LABELS, Reference, SERVICE_NAME_LABEL,
};
use crate::field::{FieldError, Path, Report};
use crate::name::ObjectName;
use crate::net::{IpFamily, UnknownName, parse_ip};

impl EndpointSlice {
    /// The domain object. What is absent means what [defaults](Self::set_defaults) would say; of conditions that are
    /// absent, that the endpoint is ready, serves and does not terminate.
    ///
    /// Ports without number (which mean all ports) and endpoints without a usable address are left out, and so are all
    /// endpoints of a slice of names (`FQDN`).
    ///
    /// `DIFFERENCE`: a port without name is an unnamed one; kube-proxy passes it over, but never meets it, as the API server
    /// fills the name in.
    ///
    /// # Errors
    ///
    /// The name or namespace is not usable, or the label `kubernetes.io/service-name` names no Service.
    pub fn convert(&self) -> Result<Converted<endpoints::EndpointSlice>, FieldError> {
        let report = &mut Report::default();
        let meta = &self.metadata;
        let name = object_name(meta)?;
        let kind = &self.address_type;
        let family: Result<IpFamily, UnknownName> = kind.parse();
        // Of a slice of names only the endpoints are left out.
        let family = if kind == "FQDN" && self.endpoints.is_empty() {
            None
        } else {
            understood(report, &Path::root("addressType"), kind, family)
        };
        let mut slice =
            endpoints::EndpointSlice::new(name, service(meta)?, family.unwrap_or(IpFamily::V4));
        slice.family = family;
        slice.uid = meta.uid.as_str().into();
        slice.generation = meta.generation;
        let label = |key: &str| meta.labels.get(key).map(alloc::string::String::as_str);
        slice.managed_by = label(MANAGED_BY_LABEL).unwrap_or("").into();
        slice.headless = label(HEADLESS_LABEL).is_some();
        let labels = meta.labels.iter().filter(|(key, _)| !RESERVED_LABELS.contains(&key.as_str()));
        slice.labels = labels.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        slice.annotations = pairs(&meta.annotations);
        let owner = meta.owner_references.iter().find(|owner| owner.controller == Some(true));
        slice.owner = owner.map(|owner| Reference {
            kind: owner.kind.as_str().into(),
            namespace: meta.namespace.as_str().into(),
            name: owner.name.as_str().into(),
            uid: owner.uid.as_str().into(),
        });
        slice.deleted = timestamp(report, "deletionTimestamp", &meta.deletion_timestamp);

        let root = Path::root("ports");
        let ports = self.ports.iter().enumerate();
        let ports: Vec<EndpointPort> =
            ports.filter_map(|(i, port)| convert_port(report, &root.index(i), port)).collect();
        let root = Path::root("endpoints");
        let endpoints = self.endpoints.iter().enumerate();
        let endpoints: Vec<Endpoint> = endpoints
            .filter_map(|(i, e)| convert_endpoint(report, &root.index(i), e, family?))
            .collect();
        slice.set_endpoints(ports, endpoints);
        Ok(Converted::new(slice, core::mem::take(report)))
    }
}

fn service(meta: &ObjectMeta) -> Result<ObjectName, FieldError> {
    let name = meta.labels.get(SERVICE_NAME_LABEL).map_or("", alloc::string::String::as_str);
    ObjectName::new(&meta.namespace, name).map_err(|error| {
        let root = Path::root("metadata");
        FieldError::text(&root.field("labels").key(SERVICE_NAME_LABEL), name, &error)
    })
}

fn convert_port(report: &mut Report, path: &Path<'_>, port: &SlicePort) -> Option<EndpointPort> {
    let Some(number) = port.port else {
        report.ignored(path, &"", "a port without number means all ports, which no Service has");
        return None;
    };
    let mut converted = EndpointPort::new(port_number(report, &path.field("port"), number)?);
    if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
        converted.name = Some(understood(report, &path.field("name"), &name, name.parse())?);
    }
    if let Some(protocol) = port.protocol.as_deref().filter(|name| !name.is_empty()) {
        converted.protocol =
            understood(report, &path.field("protocol"), &protocol, protocol.parse())?;
    }
    converted.app_protocol = port.app_protocol.as_deref().map(Into::into);
    Some(converted)
}

fn convert_endpoint(
    report: &mut Report,
    path: &Path<'_>,
    endpoint: &SliceEndpoint,
    family: IpFamily,
) -> Option<Endpoint> {
    let list = path.field("addresses");
    let mut ips = Vec::new();
    for (i, text) in endpoint.addresses.iter().enumerate() {
        let path = list.index(i);
        let Some(ip) = understood(report, &path, text, parse_ip(text)) else { continue };
        if IpFamily::of(ip) == family {
            ips.push(ip);
        } else {
            report.ignored(&path, text, &alloc::format!("expected an {family} address"));
        }
    }
    if endpoint.addresses.is_empty() {
        report.ignored(&list, &"", "expected at least one address");
    }
    let mut ips = ips.into_iter();
    let mut converted = Endpoint::new(ips.next()?);
    converted.other_ips = ips.collect();
    let stated = &endpoint.conditions;
    converted.conditions = Conditions {
        ready: stated.ready.unwrap_or(true),
        serving: stated.serving.unwrap_or(true),
        terminating: stated.terminating.unwrap_or(false),
    };
    let hostname = endpoint.hostname.as_deref().unwrap_or("");
    converted.hostname = optional(report, &path.field("hostname"), hostname);
    let node = endpoint.node_name.as_deref().unwrap_or("");
    converted.node = optional(report, &path.field("nodeName"), node);
    converted.zone = endpoint.zone.as_deref().filter(|zone| !zone.is_empty()).map(Into::into);
    converted.target = endpoint.target_ref.as_ref().map(Into::into);
    if let Some(hints) = &endpoint.hints {
        converted.hints = convert_hints(report, &path.field("hints"), hints);
    }
    Some(converted)
}

fn convert_hints(report: &mut Report, path: &Path<'_>, hints: &EndpointHints) -> Hints {
    let list = path.field("forNodes");
    let nodes = hints.for_nodes.iter().enumerate();
    let nodes = nodes.filter_map(|(i, node)| {
        let entry = list.index(i);
        optional(report, &entry.field("name"), &node.name)
    });
    let nodes = nodes.collect();
    let zones = hints.for_zones.iter().map(|zone| zone.name.as_str());
    let zones = zones.filter(|zone| !zone.is_empty()).map(Into::into).collect();
    Hints { zones, nodes }
}
