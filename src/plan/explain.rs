//! Why a packet fares as it does, for a person.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::route::Met;
use super::{
    Action, Frontend, FrontendKind, Mode, NodePortReach, Origin, Packet, Plan, PortPlan,
    ServicePlan, Verdict,
};
use crate::net::IpFamily;
use crate::service::TrafficPolicy;

/// What becomes of a packet, and why. Written out, a line for each step and one for the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation<'a> {
    /// The steps of the decision, in words.
    pub steps: Vec<String>,
    /// What it comes to: always that of [`Plan::route`].
    pub verdict: Verdict<'a>,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in (1..).zip(&self.steps) {
            writeln!(f, "{n}. {step}")?;
        }
        write!(f, "=> {}", self.verdict)
    }
}

impl fmt::Display for Verdict<'_> {
    /// `forward to 10.0.0.1:80 or 10.0.0.2:80, masqueraded`, `reject`, `drop`, `accept`, `pass`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = match self {
            Verdict::Forward(route) => route,
            Verdict::Reject => return f.write_str("reject"),
            Verdict::Drop => return f.write_str("drop"),
            Verdict::Accept(_) => return f.write_str("accept"),
            Verdict::Pass => return f.write_str("pass"),
        };
        f.write_str("forward to ")?;
        for (n, backend) in route.backends.iter().enumerate() {
            let between = if n == 0 { "" } else { " or " };
            write!(f, "{between}{}", backend.addr)?;
            if backend.weight != 1 {
                write!(f, " (weight {})", backend.weight)?;
            }
            if !route.masquerade && route.masquerades(backend.addr) {
                f.write_str(" (itself: masqueraded)")?;
            }
        }
        f.write_str(if route.masquerade { ", masqueraded" } else { "" })
    }
}

impl Plan {
    /// What becomes of the first packet of a flow, and why.
    pub fn explain(&self, packet: &Packet) -> Explanation<'_> {
        let met = self.meet(packet);
        let verdict = self.verdict(packet, &met);
        let mut steps = Vec::new();
        match met {
            Met::Frontend { service, port, frontend, origin, admitted } => {
                steps.push(self.found(port, frontend, packet));
                steps.push(self.whence(origin, packet));
                self.explain_frontend(&mut steps, service, port, frontend, origin, admitted);
                if let Verdict::Forward(route) = verdict {
                    steps.push(self.source_step(route.frontend, origin, route.masquerade));
                }
            }
            Met::HealthCheck(health) => {
                let (port, service) = (health.port, &health.service);
                steps.push(format!("{port}/TCP on this node is the health check of {service}"));
                steps.push(match self.mode {
                    Mode::Iptables | Mode::Ipvs => "the node's firewall lets it in".into(),
                    mode => format!("in mode {mode} whether it gets in is left to others"),
                });
            }
            Met::UnusedPort => {
                steps.push(self.unused_port(packet));
                steps.push(format!(
                    "in mode {} {}",
                    self.mode,
                    match verdict {
                        Verdict::Reject => "whoever calls such a port is refused",
                        _ => "such a port is left alone",
                    }
                ));
            }
            Met::Unallocated(cidr) => {
                let ip = packet.destination.ip().to_canonical();
                steps.push(format!(
                    "{ip} is in the service CIDR {cidr}, and no Service's cluster IP"
                ));
                steps.push(format!(
                    "in mode {} {}",
                    self.mode,
                    match verdict {
                        Verdict::Drop => "such an address is met with silence",
                        _ => "such an address is left alone",
                    }
                ));
            }
            Met::Nothing => steps.push(self.nothing(packet)),
        }
        Explanation { steps, verdict }
    }

    fn found(&self, port: &PortPlan, frontend: &Frontend, packet: &Packet) -> String {
        let what = frontend.describe(port.name.protocol);
        if frontend.kind != FrontendKind::NodePort {
            return format!("{what} is {}", port.name);
        }
        let ip = packet.destination.ip().to_canonical();
        let reach = match self.node_port_reach(port.family) {
            NodePortReach::Local { .. } => "an address of this node",
            NodePortReach::Listed(_) => "one of the addresses that take node ports",
        };
        format!("{what} is {}; {ip} is {reach}", port.name)
    }

    fn whence(&self, origin: Origin, packet: &Packet) -> String {
        let source = packet.source.to_canonical();
        let mut step = format!(
            "{source} is {}{origin}",
            if origin == Origin::Elsewhere { "from " } else { "" }
        );
        if origin != Origin::Pod && !self.node.pods.detects(IpFamily::of(source)) {
            step += " (pods are not told apart)";
        }
        step
    }

    fn explain_frontend(
        &self,
        steps: &mut Vec<String>,
        service: &ServicePlan,
        port: &PortPlan,
        frontend: &Frontend,
        origin: Origin,
        admitted: bool,
    ) {
        if !frontend.source_ranges.is_empty() {
            let ranges: Vec<String> =
                frontend.source_ranges.iter().map(ToString::to_string).collect();
            let is = if admitted { "is" } else { "is not" };
            steps.push(format!(
                "it {is} in the source ranges of {}: {}",
                service.name,
                ranges.join(", ")
            ));
        }
        if !admitted {
            return;
        }
        let external = frontend.kind != FrontendKind::ClusterIp;
        let action = frontend.action(origin);
        let inside = external && origin != Origin::Elsewhere;
        let policy = match action {
            Action::Reject => {
                steps.push(format!(
                    "{} has no endpoints that are ready, or serve while they terminate",
                    port.name
                ));
                return;
            }
            Action::Drop => {
                let kind = if external { "external" } else { "internal" };
                steps.push(format!(
                    "the {kind} traffic policy is Local, and {} has no such endpoints on {}; other nodes may",
                    port.name, self.node.name
                ));
                return;
            }
            Action::Forward { policy, .. } => policy,
        };
        let local_outside = matches!(
            frontend.from_elsewhere,
            Action::Drop | Action::Forward { policy: TrafficPolicy::Local, .. }
        );
        if inside && policy == TrafficPolicy::Cluster && local_outside {
            steps.push(
                "the external traffic policy is Local, but does not bind who is inside".to_string(),
            );
        }
        let targets = port.targets(policy);
        let count = targets.backends.len();
        let s = if count == 1 { "" } else { "s" };
        let policy = policy.as_str();
        steps.push(format!("traffic policy {policy}: {count} endpoint{s}, {}", targets.basis));
        if let Some(timeout) = port.client_ip_affinity {
            steps.push(format!("a client keeps to its endpoint for {} s", timeout.as_secs()));
        }
        if let Some(scheduler) = port.scheduler {
            steps.push(format!("the Service asks for scheduler {scheduler}"));
        }
    }

    fn source_step(&self, frontend: &Frontend, origin: Origin, masquerade: bool) -> String {
        let why = match (frontend.kind, masquerade) {
            (FrontendKind::ClusterIp, true) if self.node.masquerade_all => {
                "everybody is masqueraded at a cluster IP"
            }
            (FrontendKind::ClusterIp, true) => {
                "it is not a pod, and answers have to come back here"
            }
            (_, true) if origin == Origin::Node => "the node called from one of its own addresses",
            (_, true) => "the endpoint may be on another node, and answers have to come back here",
            (_, false) => "it keeps its source address",
        };
        let done = if masquerade { "masqueraded: " } else { "" };
        format!("{done}{why}")
    }

    fn unused_port(&self, packet: &Packet) -> String {
        let (ip, port) = (packet.destination.ip().to_canonical(), packet.destination.port());
        let mut owners = Vec::new();
        for service in self.services.values() {
            let mut ports = Vec::new();
            for known in &service.ports {
                let here = known.frontends.iter().filter(|f| f.ip == Some(ip));
                ports.extend(here.map(|f| format!("{}/{}", f.port, known.name.protocol)));
            }
            if service.cluster_ips.contains(&ip) || !ports.is_empty() {
                let ports = if ports.is_empty() { "none".into() } else { ports.join(", ") };
                owners.push(format!("{} (which has {ports})", service.name));
            }
        }
        let owners = owners.join(" and of ");
        format!("{ip} is an address of {owners}, but {port}/{} is not there", packet.protocol)
    }

    fn nothing(&self, packet: &Packet) -> String {
        let (ip, port) = (packet.destination.ip().to_canonical(), packet.destination.port());
        let family = IpFamily::of(ip);
        let nobody = format!("no Service has {}/{}", packet.destination, packet.protocol);
        let Some(target) = self.index.get(&(family, None, packet.protocol, port)) else {
            return nobody;
        };
        let what = if target.frontend.is_some() { "a node port" } else { "a health check" };
        let why = match (self.node.is_own(ip), self.node_port_reach(family)) {
            (false, _) => format!("{ip} is not an address of this node"),
            (true, NodePortReach::Local { .. }) => {
                format!("loopback addresses take no {family} node ports in mode {}", self.mode)
            }
            (true, NodePortReach::Listed(ips)) if ips.is_empty() => {
                format!("no {family} address takes node ports")
            }
            (true, NodePortReach::Listed(ips)) => {
                let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
                format!("node ports are at {} only", ips.join(", "))
            }
        };
        format!("{nobody}; {port} is {what} of {}, but {why}", target.service.name)
    }
}
