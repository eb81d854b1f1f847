//! Pod.

use alloc::vec::Vec;

use super::super::meta::is_true;
use super::super::{Container, ContainerPort, Pod};
use super::{Converted, object_name, optional, pairs, port_number, timestamp, understood};
use crate::field::{FieldError, Path, Report};
use crate::net::{Protocol, parse_ip};
use crate::pod::{self, Phase};

impl Pod {
    /// The domain object. What is absent means what [defaults](Self::set_defaults) would say.
    ///
    /// # Errors
    ///
    /// The name or namespace is not usable.
    pub fn convert(&self) -> Result<Converted<pod::Pod>, FieldError> {
        let report = &mut Report::default();
        let mut pod = pod::Pod::new(object_name(&self.metadata)?);
        pod.uid = self.metadata.uid.as_str().into();
        pod.labels = pairs(&self.metadata.labels);
        pod.deleted = timestamp(report, "deletionTimestamp", &self.metadata.deletion_timestamp);

        let root = Path::root("spec");
        let spec = &self.spec;
        let path = root.field("containers");
        let containers = spec.containers.iter().enumerate();
        pod.ports = containers.flat_map(|(i, c)| ports(report, &path.index(i), c)).collect();
        let path = root.field("initContainers");
        let sidecars = spec.init_containers.iter().enumerate();
        pod.sidecar_ports = sidecars
            .filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"))
            .flat_map(|(i, c)| ports(report, &path.index(i), c))
            .collect();
        pod.hostname = optional(report, &root.field("hostname"), &spec.hostname);
        pod.subdomain = optional(report, &root.field("subdomain"), &spec.subdomain);
        pod.node = optional(report, &root.field("nodeName"), &spec.node_name);

        let root = Path::root("status");
        let status = &self.status;
        if !status.phase.is_empty() {
            let expected = "expected Pending, Running, Succeeded, Failed or Unknown";
            let known = phase(&status.phase).ok_or(expected);
            let known = understood(report, &root.field("phase"), &status.phase, known);
            pod.phase = known.unwrap_or(Phase::Unknown);
        }
        let only = [super::super::PodIp { ip: status.pod_ip.clone() }];
        let (field, ips) = if status.pod_ips.is_empty() {
            ("podIP", only.as_slice())
        } else {
            ("podIPs", status.pod_ips.as_slice())
        };
        let list = root.field(field);
        for (i, pod_ip) in ips.iter().enumerate().filter(|(_, pod_ip)| !pod_ip.ip.is_empty()) {
            let entry = list.index(i);
            let path = if field == "podIP" { list } else { entry.field("ip") };
            pod.ips.extend(understood(report, &path, &pod_ip.ip, parse_ip(&pod_ip.ip)));
        }
        pod.ready = is_true(&status.conditions, "Ready");
        let conditions = root.field("conditions");
        if let Some((i, ready)) =
            status.conditions.iter().enumerate().find(|(_, condition)| condition.kind == "Ready")
        {
            let path = conditions.index(i);
            let path = path.field("lastTransitionTime");
            pod.ready_since = optional(report, &path, &ready.last_transition_time);
        }
        Ok(Converted::new(pod, core::mem::take(report)))
    }
}

pub(in super::super) fn phase(text: &str) -> Option<Phase> {
    [Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Unknown]
        .into_iter()
        .find(|phase| phase.as_str() == text)
}

fn ports(report: &mut Report, path: &Path<'_>, container: &Container) -> Vec<pod::ContainerPort> {
    let path = path.field("ports");
    let ports = container.ports.iter().enumerate();
    ports.filter_map(|(i, port)| convert_port(report, &path.index(i), port)).collect()
}

fn convert_port(
    report: &mut Report,
    path: &Path<'_>,
    port: &ContainerPort,
) -> Option<pod::ContainerPort> {
    let number = port_number(report, &path.field("containerPort"), port.container_port)?;
    let protocol = if port.protocol.is_empty() {
        Protocol::Tcp
    } else {
        understood(report, &path.field("protocol"), &port.protocol, port.protocol.parse())?
    };
    Some(pod::ContainerPort {
        name: optional(report, &path.field("name"), &port.name),
        protocol,
        port: number,
    })
}
