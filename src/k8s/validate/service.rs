//! A Service.

use alloc::collections::BTreeSet;
use alloc::format;
use core::net::IpAddr;

use super::{
    app_protocol, labels, metadata, one_of, ordinary_ip, parsed, port_number, protocol, text,
};
use crate::field::{FieldError, Path, Report};
use crate::k8s::{IntOrString, Service, ServicePort, ServiceSpec};
use crate::labels::check_key;
use crate::name::{
    check_dns1035_label, check_dns1123_label, check_dns1123_subdomain, check_port_name,
};
use crate::net::{IpFamily, parse_cidr, parse_ip};

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY: [&str; 2] =
    ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];

impl Service {
    /// Every mistake that admission would find in a new Service with its [defaults](Self::set_defaults) set.
    ///
    /// Addresses and node ports may be given or left to be allocated. `DIFFERENCE`: so may
    /// `healthCheckNodePort`, which the API server allocates before it validates; and a `nodePort` that is no
    /// port number is refused here, not only by the allocator.
    pub fn validate(&self) -> alloc::vec::Vec<FieldError> {
        let mut report = Report::default();
        metadata(&mut report, &self.metadata, check_dns1035_label);
        let annotations = &self.metadata.annotations;
        if let (Some(mode), Some(hints)) =
            (annotations.get(TOPOLOGY[0]), annotations.get(TOPOLOGY[1]))
        {
            if mode != hints {
                let root = Path::root("metadata");
                let detail = format!("must equal the annotation {}", TOPOLOGY[1]);
                report.invalid(&root.field("annotations").key(TOPOLOGY[0]), mode, &detail);
            }
        }
        let root = Path::root("spec");
        let spec = &self.spec;
        one_of(
            &mut report,
            &root.field("type"),
            &spec.kind,
            "ClusterIP, NodePort, LoadBalancer or ExternalName",
            |kind| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName"),
        );
        ports(&mut report, &root, spec);
        labels(&mut report, &root.field("selector"), &spec.selector);
        session_affinity(&mut report, &root, spec);
        external_name(&mut report, &root, spec);
        external_ips(&mut report, &root, spec);
        load_balancer(&mut report, &root, self);
        traffic_policies(&mut report, &root, spec);
        cluster_ips(&mut report, &root, spec);
        report.into_errors()
    }
}

impl ServiceSpec {
    pub(super) fn is_headless(&self) -> bool {
        self.cluster_ips.len() == 1 && self.cluster_ips[0] == "None"
    }
}

fn ports(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) {
    let path = root.field("ports");
    if spec.ports.is_empty() && !spec.is_headless() && spec.kind != "ExternalName" {
        report.required(&path, "expected at least one port");
    }
    let (mut names, mut claims, mut node_claims) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, port) in spec.ports.iter().enumerate() {
        let path = path.index(i);
        let name = path.field("name");
        if port.name.is_empty() {
            if spec.ports.len() > 1 {
                report.required(&name, "every one of several ports needs a name");
            }
        } else {
            text(report, &name, &port.name, check_dns1123_label);
            if !names.insert(&port.name) {
                report.duplicate(&name, &port.name, "an earlier port has this name");
            }
        }
        single_port(report, &path, port);
        if port.node_port != 0 {
            let path = path.field("nodePort");
            if spec.kind == "ClusterIP" {
                report.forbidden(&path, "may not be set when the type is ClusterIP");
            } else {
                port_number(report, &path, port.node_port);
            }
            if !node_claims.insert((&port.protocol, port.node_port)) {
                let detail = "an earlier port has this node port and protocol";
                report.duplicate(&path, &port.node_port, detail);
            }
        }
        if !claims.insert((&port.protocol, port.port)) {
            let detail = "an earlier port has this number and protocol";
            report.duplicate(&path, &format!("{}/{}", port.port, port.protocol), detail);
        }
    }
}

fn single_port(report: &mut Report, path: &Path<'_>, port: &ServicePort) {
    port_number(report, &path.field("port"), port.port);
    protocol(report, &path.field("protocol"), &port.protocol);
    let target = path.field("targetPort");
    match &port.target_port {
        // Its default is the port, whose number is reported already.
        Some(IntOrString::Int(number)) if *number == port.port => {}
        Some(IntOrString::Int(number)) => port_number(report, &target, *number),
        Some(IntOrString::String(name)) => text(report, &target, name, check_port_name),
        None => report.required(&target, "expected a port number or name"),
    }
    app_protocol(report, &path.field("appProtocol"), port.app_protocol.as_deref());
}

fn session_affinity(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) {
    let known = |text: &str| matches!(text, "None" | "ClientIP");
    let path = root.field("sessionAffinity");
    one_of(report, &path, &spec.session_affinity, "None or ClientIP", known);
    let path = root.field("sessionAffinityConfig");
    let config = spec.session_affinity_config.as_ref();
    if spec.session_affinity == "None" && config.is_some() {
        report.forbidden(&path, "may not be set when sessionAffinity is None");
    }
    if spec.session_affinity != "ClientIP" {
        return;
    }
    let Some(config) = config else {
        return report.required(&path, "expected when sessionAffinity is ClientIP");
    };
    let path = path.field("clientIP");
    let Some(client_ip) = &config.client_ip else {
        return report.required(&path, "expected when sessionAffinity is ClientIP");
    };
    let path = path.field("timeoutSeconds");
    match client_ip.timeout_seconds {
        None => report.required(&path, "expected 1 to 86400"),
        Some(1..=86_400) => {}
        Some(seconds) => report.invalid(&path, &seconds, "expected 1 to 86400"),
    }
}

fn external_name(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) {
    if spec.kind != "ExternalName" {
        return;
    }
    let unset = "may not be set when the type is ExternalName";
    let cluster_ip = !spec.cluster_ip.is_empty() && spec.cluster_ip != "None";
    if !spec.cluster_ips.is_empty() || cluster_ip {
        report.forbidden(&root.field("clusterIPs"), unset);
    }
    if !spec.ip_families.is_empty() {
        report.forbidden(&root.field("ipFamilies"), unset);
    }
    if spec.ip_family_policy.is_some() {
        report.forbidden(&root.field("ipFamilyPolicy"), unset);
    }
    let name = spec.external_name.strip_suffix('.').unwrap_or(&spec.external_name);
    text(report, &root.field("externalName"), name, check_dns1123_subdomain);
}

fn external_ips(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) {
    for (i, ip) in spec.external_ips.iter().enumerate() {
        ordinary_ip(report, &root.field("externalIPs").index(i), ip);
    }
}

fn load_balancer(report: &mut Report, root: &Path<'_>, service: &Service) {
    let spec = &service.spec;
    let balanced = spec.kind == "LoadBalancer";
    let only = "may only be set when the type is LoadBalancer";
    let cidr = "expected a CIDR such as 192.0.2.0/24";

    let path = root.field("loadBalancerSourceRanges");
    for (i, range) in spec.load_balancer_source_ranges.iter().enumerate() {
        if balanced && parse_cidr(range.trim()).is_err() {
            report.invalid(&path.index(i), range, cidr);
        }
    }
    if !balanced && !spec.load_balancer_source_ranges.is_empty() {
        report.forbidden(&path, only);
    }
    if let Some(list) = service.metadata.annotations.get(SOURCE_RANGES) {
        let metadata = Path::root("metadata");
        let annotations = metadata.field("annotations");
        let path = annotations.key(SOURCE_RANGES);
        let mut ranges = list.split(',').map(str::trim);
        if !balanced {
            report.forbidden(&path, only);
        } else if spec.load_balancer_source_ranges.is_empty()
            && !list.trim().is_empty()
            && !ranges.all(|range| parse_cidr(range).is_ok())
        {
            report.invalid(&path, list, "expected CIDRs separated by commas");
        }
    }

    let path = root.field("allocateLoadBalancerNodePorts");
    match spec.allocate_load_balancer_node_ports {
        None if balanced => report.required(&path, "expected true or false"),
        Some(_) if !balanced => report.forbidden(&path, only),
        _ => {}
    }
    let path = root.field("loadBalancerClass");
    match spec.load_balancer_class.as_deref() {
        Some(_) if !balanced => report.forbidden(&path, only),
        Some(class) => text(report, &path, class, check_key),
        None => {}
    }
    let status = Path::root("status");
    let path = status.field("loadBalancer");
    for (i, ingress) in service.status.load_balancer.ingress.iter().enumerate() {
        let ingresses = path.field("ingress");
        let path = ingresses.index(i);
        if !ingress.ip.is_empty() {
            parsed(report, &path.field("ip"), &ingress.ip, parse_ip);
        }
        if !ingress.hostname.is_empty() {
            let hostname = &ingress.hostname;
            text(report, &path.field("hostname"), hostname, check_dns1123_subdomain);
            if parse_ip(hostname).is_ok() {
                report.invalid(
                    &path.field("hostname"),
                    hostname,
                    "expected a name, not an address",
                );
            }
        }
        let mode = ingress.ip_mode.as_deref();
        if let Some(mode) = mode.filter(|mode| !matches!(*mode, "VIP" | "Proxy")) {
            report.unsupported(&path.field("ipMode"), mode, "VIP or Proxy");
        } else if mode.is_some() && ingress.ip.is_empty() {
            report.forbidden(&path.field("ipMode"), "may only be set with ip");
        }
    }
}

fn traffic_policies(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) {
    const EXPECTED: &str = "Cluster or Local";
    let known = |text: &str| matches!(text, "Cluster" | "Local");
    let path = root.field("externalTrafficPolicy");
    if spec.is_externally_accessible() {
        one_of(report, &path, &spec.external_traffic_policy, EXPECTED, known);
    } else if !spec.external_traffic_policy.is_empty() {
        let detail =
            "may only be set when the Service has node ports, a load balancer or external IPs";
        report.forbidden(&path, detail);
    }
    let path = root.field("healthCheckNodePort");
    let wanted = spec.kind == "LoadBalancer" && spec.external_traffic_policy == "Local";
    match spec.health_check_node_port {
        0 => {}
        port if wanted => port_number(report, &path, port),
        _ => report.forbidden(
            &path,
            "may only be set when the type is LoadBalancer and externalTrafficPolicy is Local",
        ),
    }
    let path = root.field("internalTrafficPolicy");
    let needed = matches!(spec.kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer");
    match spec.internal_traffic_policy.as_deref() {
        None if !needed => {}
        policy => one_of(report, &path, policy.unwrap_or(""), EXPECTED, known),
    }
    if let Some(wish) = spec.traffic_distribution.as_deref() {
        let known =
            |text: &str| matches!(text, "PreferClose" | "PreferSameZone" | "PreferSameNode");
        let path = root.field("trafficDistribution");
        one_of(report, &path, wish, "PreferClose, PreferSameZone or PreferSameNode", known);
    }
}

fn cluster_ips(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) {
    if spec.kind == "ExternalName" {
        return;
    }
    let path = root.field("ipFamilies");
    let mut seen = BTreeSet::new();
    for (i, family) in spec.ip_families.iter().enumerate() {
        one_of(report, &path.index(i), family, "IPv4 or IPv6", |f| f.parse::<IpFamily>().is_ok());
        if !seen.insert(family) {
            report.duplicate(&path.index(i), family, "an earlier entry is this family");
        }
    }
    if let Some(policy) = spec.ip_family_policy.as_deref() {
        let expected = "SingleStack, PreferDualStack or RequireDualStack";
        let known =
            |text: &str| matches!(text, "SingleStack" | "PreferDualStack" | "RequireDualStack");
        one_of(report, &root.field("ipFamilyPolicy"), policy, expected, known);
    }
    if spec.is_headless() && matches!(spec.kind.as_str(), "NodePort" | "LoadBalancer") {
        let detail = format!("may not be None when the type is {}", spec.kind);
        report.invalid(&root.field("clusterIPs").index(0), &"None", &detail);
    }
    addresses(report, root, spec);
}

fn addresses(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) {
    let ips = &spec.cluster_ips;
    let path = root.field("clusterIPs");
    match ips.first() {
        None if spec.cluster_ip.is_empty() => return,
        None => return report.required(&path, "expected when clusterIP is set"),
        Some(_) if spec.cluster_ip.is_empty() => {
            report.required(&root.field("clusterIP"), "expected when clusterIPs is set");
        }
        Some(first) if *first != spec.cluster_ip => {
            report.invalid(&path, ips, "the first has to be the value of clusterIP");
        }
        Some(_) => {}
    }
    let mut legal = true;
    let mut families = BTreeSet::new();
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == "None" {
            if ips.len() > 1 {
                report.invalid(&path.index(0), ip, "None has to be the only value");
                legal = false;
            }
            continue;
        }
        match family(report, &path.index(i), ip) {
            Some(family) => {
                families.insert(family);
            }
            None => legal = false,
        }
    }
    if ips.len() > 2 {
        report.too_many(&path, ips.len(), "expected at most 2");
    }
    if !legal || spec.is_headless() {
        return;
    }
    if ips.len() > 1 && families.len() < 2 {
        report.invalid(&path, ips, "expected at most one address of each family");
    }
    for (i, (ip, stated)) in ips.iter().zip(&spec.ip_families).enumerate() {
        let actual = parse_ip(ip).map(IpFamily::of);
        if let (Ok(actual), Ok(stated)) = (actual, stated.parse::<IpFamily>()) {
            if actual != stated {
                let detail = format!("expected an {stated} address, as ipFamilies[{i}] says");
                report.invalid(&path.index(i), ip, &detail);
            }
        }
    }
}

fn family(report: &mut Report, path: &Path<'_>, ip: &str) -> Option<IpFamily> {
    let ip: Option<IpAddr> = parsed(report, path, ip, parse_ip);
    ip.map(IpFamily::of)
}
