//! Endpoints and EndpointSlices.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{app_protocol, metadata, one_of, ordinary_ip, port_number, protocol, text};
use crate::field::{FieldError, Path, Report};
use crate::k8s::{EndpointSlice, Endpoints, SliceEndpoint};
use crate::labels::check_value;
use crate::name::{check_dns1123_label, check_dns1123_subdomain};
use crate::net::{IpFamily, parse_ip};

impl Endpoints {
    /// Every mistake that admission would find, with the [defaults](Self::set_defaults) set.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut report = Report::default();
        metadata(&mut report, &self.metadata, check_dns1123_subdomain);
        let root = Path::root("subsets");
        for (i, subset) in self.subsets.iter().enumerate() {
            let path = root.index(i);
            if subset.addresses.is_empty() && subset.not_ready_addresses.is_empty() {
                report.required(&path, "expected addresses or notReadyAddresses");
            }
            let lists = [
                ("addresses", &subset.addresses),
                ("notReadyAddresses", &subset.not_ready_addresses),
            ];
            for (field, addresses) in lists {
                for (i, address) in addresses.iter().enumerate() {
                    let list = path.field(field);
                    let path = list.index(i);
                    ordinary_ip(&mut report, &path.field("ip"), &address.ip);
                    hostname_and_node(
                        &mut report,
                        &path,
                        Some(&address.hostname).filter(|name| !name.is_empty()),
                        address.node_name.as_ref(),
                    );
                }
            }
            for (i, port) in subset.ports.iter().enumerate() {
                let list = path.field("ports");
                let path = list.index(i);
                if !port.name.is_empty() {
                    text(&mut report, &path.field("name"), &port.name, check_dns1123_label);
                } else if subset.ports.len() > 1 {
                    let detail = "every one of several ports needs a name";
                    report.required(&path.field("name"), detail);
                }
                port_number(&mut report, &path.field("port"), port.port);
                protocol(&mut report, &path.field("protocol"), &port.protocol);
                let wish = port.app_protocol.as_deref();
                app_protocol(&mut report, &path.field("appProtocol"), wish);
            }
        }
        report.into_errors()
    }
}

impl EndpointSlice {
    /// Every mistake that admission would find, with the [defaults](Self::set_defaults) set.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut report = Report::default();
        metadata(&mut report, &self.metadata, check_dns1123_subdomain);
        let path = Path::root("addressType");
        one_of(&mut report, &path, &self.address_type, "IPv4, IPv6 or FQDN", |kind| {
            matches!(kind, "IPv4" | "IPv6" | "FQDN")
        });
        let root = Path::root("endpoints");
        if self.endpoints.len() > 1000 {
            report.too_many(&root, self.endpoints.len(), "expected at most 1000");
        }
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            slice_endpoint(&mut report, &root.index(i), endpoint, &self.address_type);
        }
        let root = Path::root("ports");
        if self.ports.len() > 20_000 {
            report.too_many(&root, self.ports.len(), "expected at most 20000");
        }
        let mut names = BTreeSet::new();
        for (i, port) in self.ports.iter().enumerate() {
            let path = root.index(i);
            let name = port.name.as_deref().unwrap_or("");
            if !name.is_empty() {
                text(&mut report, &path.field("name"), name, check_dns1123_label);
            }
            if !names.insert(name) {
                report.duplicate(&path.field("name"), &name, "an earlier port has this name");
            }
            if let Some(number) = port.port {
                port_number(&mut report, &path.field("port"), number);
            }
            let transport = port.protocol.as_deref().unwrap_or("");
            protocol(&mut report, &path.field("protocol"), transport);
            app_protocol(&mut report, &path.field("appProtocol"), port.app_protocol.as_deref());
        }
        report.into_errors()
    }
}

fn slice_endpoint(report: &mut Report, path: &Path<'_>, endpoint: &SliceEndpoint, kind: &str) {
    let addresses = path.field("addresses");
    match endpoint.addresses.len() {
        0 => report.required(&addresses, "expected at least one address"),
        n if n > 100 => report.too_many(&addresses, n, "expected at most 100"),
        _ => {}
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        let path = addresses.index(i);
        if kind == "FQDN" {
            fully_qualified(report, &path, address);
        } else if let Ok(stated) = kind.parse::<IpFamily>() {
            match parse_ip(address) {
                Ok(ip) if IpFamily::of(ip) != stated => {
                    let detail = alloc::format!("expected an {stated} address");
                    report.invalid(&path, address, &detail);
                }
                _ => ordinary_ip(report, &path, address),
            }
        }
    }
    hostname_and_node(report, path, endpoint.hostname.as_ref(), endpoint.node_name.as_ref());
    let Some(hints) = &endpoint.hints else { return };
    let path = path.field("hints");
    let zones = path.field("forZones");
    if hints.for_zones.len() > 8 {
        report.too_many(&zones, hints.for_zones.len(), "expected at most 8");
    }
    let mut seen = BTreeSet::new();
    for (i, zone) in hints.for_zones.iter().enumerate() {
        let entry = zones.index(i);
        let path = entry.field("name");
        text(report, &path, &zone.name, check_value);
        if !seen.insert(&zone.name) {
            report.duplicate(&path, &zone.name, "an earlier hint names this zone");
        }
    }
    let nodes = path.field("forNodes");
    if hints.for_nodes.len() > 8 {
        report.too_many(&nodes, hints.for_nodes.len(), "expected at most 8");
    }
    for (i, node) in hints.for_nodes.iter().enumerate() {
        let entry = nodes.index(i);
        text(report, &entry.field("name"), &node.name, check_dns1123_subdomain);
    }
}

/// A domain name of at least two labels, with or without a dot at its end.
fn fully_qualified(report: &mut Report, path: &Path<'_>, name: &str) {
    let trimmed = name.strip_suffix('.').unwrap_or(name);
    if let Err(error) = check_dns1123_subdomain(trimmed) {
        report.text(path, trimmed, &error);
    } else if let Some(Err(error)) =
        trimmed.split('.').map(check_dns1123_label).find(Result::is_err)
    {
        report.invalid(path, &name, &alloc::format!("label: {error}"));
    } else if !trimmed.contains('.') {
        report.invalid(path, &name, "expected at least two labels joined by a dot");
    }
}

fn hostname_and_node(
    report: &mut Report,
    path: &Path<'_>,
    hostname: Option<&alloc::string::String>,
    node: Option<&alloc::string::String>,
) {
    if let Some(hostname) = hostname {
        text(report, &path.field("hostname"), hostname, check_dns1123_label);
    }
    if let Some(node) = node {
        text(report, &path.field("nodeName"), node, check_dns1123_subdomain);
    }
}
