//! Pods and Nodes, as far as the mirrors go.

use alloc::vec::Vec;

use super::{metadata, named, one_of, parsed, port_number, protocol, text};
use crate::field::{FieldError, Path, Report};
use crate::k8s::{Container, Node, Pod};
use crate::name::{check_dns1123_label, check_dns1123_subdomain, check_port_name};
use crate::net::{IpFamily, parse_cidr, parse_ip};

impl Pod {
    /// Every mistake in the fields that this crate heeds, of a pod with its [defaults](Self::set_defaults) set.
    /// Status is checked like the rest.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut report = Report::default();
        metadata(&mut report, &self.metadata, check_dns1123_subdomain);
        let root = Path::root("spec");
        let spec = &self.spec;
        containers(&mut report, &root.field("containers"), &spec.containers);
        containers(&mut report, &root.field("initContainers"), &spec.init_containers);
        for (field, value, check) in [
            ("nodeName", &spec.node_name, check_dns1123_subdomain as super::Check),
            ("hostname", &spec.hostname, check_dns1123_label),
            ("subdomain", &spec.subdomain, check_dns1123_label),
        ] {
            if !value.is_empty() {
                text(&mut report, &root.field(field), value, check);
            }
        }
        let root = Path::root("status");
        let expected = "Pending, Running, Succeeded, Failed or Unknown";
        one_of(&mut report, &root.field("phase"), &self.status.phase, expected, |phase| {
            crate::k8s::convert::phase(phase).is_some()
        });
        let path = root.field("podIPs");
        let families = self.status.pod_ips.iter().enumerate().filter_map(|(i, ip)| {
            let ip = parsed(&mut report, &path.index(i).field("ip"), &ip.ip, parse_ip)?;
            Some(IpFamily::of(ip))
        });
        let families: Vec<IpFamily> = families.collect();
        one_of_each_family(&mut report, &path, &families);
        let first = self.status.pod_ips.first().map_or("", |first| first.ip.as_str());
        if self.status.pod_ip != first {
            let detail = "has to be the first of podIPs";
            report.invalid(&root.field("podIP"), &self.status.pod_ip, detail);
        }
        report.into_errors()
    }
}

fn one_of_each_family(report: &mut Report, path: &Path<'_>, families: &[IpFamily]) {
    let count = |family| families.iter().filter(|&&f| f == family).count();
    if count(IpFamily::V4) > 1 || count(IpFamily::V6) > 1 {
        report.too_many(path, families.len(), "expected at most one of each address family");
    }
}

fn containers(report: &mut Report, path: &Path<'_>, containers: &[Container]) {
    for (i, container) in containers.iter().enumerate() {
        let path = path.index(i);
        let ports = path.field("ports");
        for (i, port) in container.ports.iter().enumerate() {
            let path = ports.index(i);
            port_number(report, &path.field("containerPort"), port.container_port);
            protocol(report, &path.field("protocol"), &port.protocol);
            if !port.name.is_empty() {
                text(report, &path.field("name"), &port.name, check_port_name);
                let earlier = &container.ports[..i];
                if earlier.iter().any(|other| other.name == port.name) {
                    let detail = "an earlier port of the container has this name";
                    report.duplicate(&path.field("name"), &port.name, detail);
                }
            }
        }
    }
}

impl Node {
    /// Every mistake in the fields that this crate heeds. Status is checked like the rest; addresses only where
    /// their type says that they are IP addresses.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut report = Report::default();
        named(&mut report, &self.metadata, check_dns1123_subdomain);
        let root = Path::root("spec");
        let path = root.field("podCIDRs");
        let families = self.spec.pod_cidrs.iter().enumerate().filter_map(|(i, cidr)| {
            let net = parsed(&mut report, &path.index(i), cidr, parse_cidr)?;
            Some(IpFamily::of(net.addr()))
        });
        let families: Vec<IpFamily> = families.collect();
        one_of_each_family(&mut report, &path, &families);
        let root = Path::root("status");
        for (i, address) in self.status.addresses.iter().enumerate() {
            if matches!(address.kind.as_str(), "InternalIP" | "ExternalIP") {
                let addresses = root.field("addresses");
                let path = addresses.index(i);
                parsed(&mut report, &path.field("address"), &address.address, parse_ip);
            }
        }
        report.into_errors()
    }
}
