//! Service.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use alloc::vec::Vec;

use super::super::{IntOrString, LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use super::{Converted, object_name, optional, pairs, port_number, timestamp, understood};
use crate::field::{FieldError, Path, Report};
use crate::net::{parse_cidr, parse_ip};
use crate::service::{
    self, ClusterIps, Ingress, IpFamilyPolicy, IpMode, LoadBalancer, ServiceKind, TargetPort,
    TrafficDistribution, TrafficPolicy,
};

impl Service {
    /// The domain object. What is absent means what [defaults](Self::set_defaults) would say.
    ///
    /// A port that has no usable number, protocol or name is left out; so is every address that is none. A target
    /// port that is none leads nowhere. Source ranges that are none are left out too: when no other is left,
    /// everybody is let in, as by kube-proxy.
    ///
    /// `DIFFERENCE`: an affinity timeout out of range counts as the default, 10,800 s; kube-proxy takes it as it is.
    ///
    /// # Errors
    ///
    /// The name or namespace is not usable.
    pub fn convert(&self) -> Result<Converted<service::Service>, FieldError> {
        let report = &mut Report::default();
        let root = Path::root("spec");
        let spec = &self.spec;
        let mut service = service::Service::new(object_name(&self.metadata)?);
        service.uid = self.metadata.uid.as_str().into();
        service.created = timestamp(report, "creationTimestamp", &self.metadata.creation_timestamp);
        service.deleted = timestamp(report, "deletionTimestamp", &self.metadata.deletion_timestamp);
        service.labels = pairs(&self.metadata.labels);
        service.annotations = pairs(&self.metadata.annotations);
        let ports = root.field("ports");
        for (i, port) in spec.ports.iter().enumerate() {
            service.ports.extend(convert_port(report, &ports.index(i), port));
        }
        service.selector = pairs(&spec.selector);
        service.kind = kind(report, &root, spec);
        service.cluster_ips = cluster_ips(report, &root, spec);
        let families = root.field("ipFamilies");
        for (i, family) in spec.ip_families.iter().enumerate() {
            let family = optional(report, &families.index(i), family);
            service.ip_families.extend(family.filter(|f| !service.ip_families.contains(f)));
        }
        let policy = spec.ip_family_policy.as_deref().unwrap_or("");
        service.ip_family_policy = named(
            report,
            &root.field("ipFamilyPolicy"),
            policy,
            &[
                IpFamilyPolicy::SingleStack,
                IpFamilyPolicy::PreferDualStack,
                IpFamilyPolicy::RequireDualStack,
            ],
        );
        service.external_ips = addresses(report, &root.field("externalIPs"), &spec.external_ips);
        service.load_balancer = load_balancer(report, self);
        policies(report, &root, spec, &mut service);
        service.publish_not_ready_addresses = spec.publish_not_ready_addresses;
        Ok(Converted::new(service, core::mem::take(report)))
    }
}

fn convert_port(
    report: &mut Report,
    path: &Path<'_>,
    port: &ServicePort,
) -> Option<service::ServicePort> {
    let number = port_number(report, &path.field("port"), port.port)?;
    let mut converted = service::ServicePort::new(number);
    if !port.name.is_empty() {
        converted.name =
            Some(understood(report, &path.field("name"), &port.name, port.name.parse())?);
    }
    if !port.protocol.is_empty() {
        let protocol = port.protocol.parse();
        converted.protocol = understood(report, &path.field("protocol"), &port.protocol, protocol)?;
    }
    converted.target = match &port.target_port {
        None | Some(IntOrString::Int(0)) => TargetPort::Number(number),
        Some(IntOrString::String(name)) if name.is_empty() => TargetPort::Number(number),
        Some(IntOrString::String(name)) => TargetPort::Name(name.as_str().into()),
        // A number that is no port leads nowhere, as does the text of it.
        Some(IntOrString::Int(target)) => port_number(report, &path.field("targetPort"), *target)
            .map_or_else(
                || TargetPort::Name(alloc::format!("{target}").into()),
                TargetPort::Number,
            ),
    };
    if port.node_port != 0 {
        converted.node_port = port_number(report, &path.field("nodePort"), port.node_port);
    }
    converted.app_protocol = port.app_protocol.as_deref().map(Into::into);
    Some(converted)
}

fn kind(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) -> ServiceKind {
    match spec.kind.as_str() {
        "" | "ClusterIP" => ServiceKind::ClusterIp,
        "NodePort" => ServiceKind::NodePort,
        "LoadBalancer" => ServiceKind::LoadBalancer,
        "ExternalName" => ServiceKind::ExternalName(spec.external_name.as_str().into()),
        other => {
            let expected = "expected ClusterIP, NodePort, LoadBalancer or ExternalName";
            report.ignored(&root.field("type"), &other, expected);
            ServiceKind::ClusterIp
        }
    }
}

fn cluster_ips(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) -> ClusterIps {
    let first = spec.cluster_ips.first().unwrap_or(&spec.cluster_ip);
    if first == "None" {
        return ClusterIps::Headless;
    }
    let ips = if spec.cluster_ips.is_empty() {
        address(report, &root.field("clusterIP"), &spec.cluster_ip).into_iter().collect()
    } else {
        addresses(report, &root.field("clusterIPs"), &spec.cluster_ips)
    };
    if ips.is_empty() { ClusterIps::Unassigned } else { ClusterIps::Assigned(ips) }
}

fn addresses(report: &mut Report, path: &Path<'_>, texts: &[alloc::string::String]) -> Vec<IpAddr> {
    let texts = texts.iter().enumerate();
    texts.filter_map(|(i, text)| address(report, &path.index(i), text)).collect()
}

fn address(report: &mut Report, path: &Path<'_>, text: &str) -> Option<IpAddr> {
    if text.is_empty() { None } else { understood(report, path, &text, parse_ip(text)) }
}

fn load_balancer(report: &mut Report, service: &Service) -> LoadBalancer {
    let spec = &service.spec;
    let root = Path::root("spec");
    let path = root.field("loadBalancerSourceRanges");
    let ranges = spec.load_balancer_source_ranges.iter().enumerate();
    let source_ranges = ranges
        .filter_map(|(i, text)| understood(report, &path.index(i), text, parse_cidr(text.trim())))
        .collect();
    let status = Path::root("status");
    let balancer = status.field("loadBalancer");
    let path = balancer.field("ingress");
    let ingress = service.status.load_balancer.ingress.iter().enumerate();
    let ingress =
        ingress.map(|(i, ingress)| convert_ingress(report, &path.index(i), ingress)).collect();
    let requested_ip = address(report, &root.field("loadBalancerIP"), &spec.load_balancer_ip);
    LoadBalancer {
        ingress,
        requested_ip,
        source_ranges,
        class: spec.load_balancer_class.as_deref().map(Into::into),
        allocate_node_ports: spec.allocate_load_balancer_node_ports,
    }
}

fn convert_ingress(report: &mut Report, path: &Path<'_>, ingress: &LoadBalancerIngress) -> Ingress {
    let mode = ingress.ip_mode.as_deref().unwrap_or("");
    Ingress {
        ip: address(report, &path.field("ip"), &ingress.ip),
        hostname: Some(ingress.hostname.as_str()).filter(|name| !name.is_empty()).map(Into::into),
        mode: named(report, &path.field("ipMode"), mode, &[IpMode::Vip, IpMode::Proxy])
            .unwrap_or_default(),
    }
}

fn policies(
    report: &mut Report,
    root: &Path<'_>,
    spec: &ServiceSpec,
    service: &mut service::Service,
) {
    let both = [TrafficPolicy::Cluster, TrafficPolicy::Local];
    let path = root.field("externalTrafficPolicy");
    service.external_traffic_policy =
        named(report, &path, &spec.external_traffic_policy, &both).unwrap_or_default();
    let path = root.field("internalTrafficPolicy");
    let policy = spec.internal_traffic_policy.as_deref().unwrap_or("");
    service.internal_traffic_policy = named(report, &path, policy, &both).unwrap_or_default();
    if spec.health_check_node_port != 0 {
        let path = root.field("healthCheckNodePort");
        service.health_check_node_port = port_number(report, &path, spec.health_check_node_port);
    }
    service.client_ip_affinity = affinity(report, root, spec);
    let wish = spec.traffic_distribution.as_deref().unwrap_or("");
    service.traffic_distribution = named(
        report,
        &root.field("trafficDistribution"),
        wish,
        &[
            TrafficDistribution::PreferClose,
            TrafficDistribution::PreferSameZone,
            TrafficDistribution::PreferSameNode,
        ],
    );
}

fn affinity(report: &mut Report, root: &Path<'_>, spec: &ServiceSpec) -> Option<Duration> {
    const DEFAULT: u64 = 10_800;
    match spec.session_affinity.as_str() {
        "" | "None" => return None,
        "ClientIP" => {}
        other => {
            report.ignored(&root.field("sessionAffinity"), &other, "expected None or ClientIP");
            return None;
        }
    }
    let client_ip = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let seconds = match client_ip.and_then(|client_ip| client_ip.timeout_seconds) {
        None => DEFAULT,
        Some(stated) => {
            let seconds = u64::try_from(stated).ok().filter(|s| (1..=86_400).contains(s));
            seconds.unwrap_or_else(|| {
                let config = root.field("sessionAffinityConfig");
                let client_ip = config.field("clientIP");
                let detail = "expected 1 to 86400; 10800 is taken instead";
                report.ignored(&client_ip.field("timeoutSeconds"), &stated, detail);
                DEFAULT
            })
        }
    };
    Some(Duration::from_secs(seconds))
}

/// A value of a small set, by its name in the API; absent if empty, or, with a warning, if unknown.
fn named<T: Copy + ApiName>(
    report: &mut Report,
    path: &Path<'_>,
    text: &str,
    values: &[T],
) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    let known = values.iter().copied().find(|value| value.api_name() == text);
    if known.is_none() {
        report.ignored(path, &text, &alloc::format!("expected {}", OneOf(values)));
    }
    known
}

/// A value with a name in the API.
pub(in crate::k8s) trait ApiName {
    fn api_name(&self) -> &'static str;
}

macro_rules! api_names {
    ($($type:ty),*) => { $(
        impl ApiName for $type {
            fn api_name(&self) -> &'static str {
                self.as_str()
            }
        }
    )* };
}

api_names!(IpFamilyPolicy, TrafficPolicy, TrafficDistribution, IpMode);

struct OneOf<'a, T>(&'a [T]);

impl<T: ApiName> fmt::Display for OneOf<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, value) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}", value.api_name())?;
        }
        Ok(())
    }
}
