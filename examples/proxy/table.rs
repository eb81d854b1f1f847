//! What `kubectl get svc` and `kubectl describe svc` would show, and where the proxy listens.

use std::fmt::Write;
use std::net::IpAddr;

use svcplane::endpoints::EndpointSet;
use svcplane::sched::Algorithm;
use svcplane::service::{Service, ServiceKind};

use crate::cluster::Cluster;
use crate::listeners::Listening;
use crate::shared::Counts;

/// The Services, one a line.
pub(crate) fn services(cluster: &Cluster, default: Algorithm) -> String {
    let head = [
        "NAMESPACE",
        "NAME",
        "TYPE",
        "CLUSTER-IP",
        "EXTERNAL-IP",
        "PORT(S)",
        "AFFINITY",
        "SCHEDULER",
        "ENDPOINTS",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (service, set) in cluster.catalog.services() {
        rows.push(vec![
            service.name.namespace().to_owned(),
            service.name.name().to_owned(),
            service.kind.to_string(),
            cluster_ip(service),
            external_ip(service),
            or_none(service.ports.iter().map(port)),
            affinity(service),
            scheduler(cluster, service).unwrap_or(default).to_string(),
            endpoints(service, set),
        ]);
    }
    aligned(&rows)
}

fn scheduler(cluster: &Cluster, service: &Service) -> Option<Algorithm> {
    cluster.plan().service(&service.name)?.ports.first()?.scheduler
}

/// The sockets, one a line.
pub(crate) fn listening(sockets: &[Listening]) -> String {
    let head = ["LISTENING ON", "SERVICE PORT", "BACKENDS", "NOTE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for socket in sockets {
        rows.push(vec![
            socket
                .bound
                .map_or_else(|| "-".to_owned(), |addr| format!("{addr}/{}", socket.protocol)),
            socket.name.to_string(),
            socket.backends.to_string(),
            socket.note.clone(),
        ]);
    }
    aligned(&rows)
}

/// The backends with their connections, one a line and so many of each route.
pub(crate) fn backends(routes: &[Counts]) -> String {
    const SHOWN: usize = 20;
    let head = ["SERVICE PORT", "SCHEDULER", "BACKEND", "WEIGHT", "ACTIVE", "INACTIVE", "NOTE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for Counts { route, algorithm, backends } in routes {
        for (entry, listed) in backends.iter().take(SHOWN) {
            rows.push(vec![
                route.clone(),
                algorithm.to_string(),
                entry.addr().to_string(),
                entry.weight().to_string(),
                entry.active().to_string(),
                entry.inactive().to_string(),
                if *listed { String::new() } else { "removed".to_owned() },
            ]);
        }
        if backends.len() > SHOWN {
            rows.push(vec![route.clone(), String::new(), format!("+{}", backends.len() - SHOWN)]);
        }
    }
    aligned(&rows)
}

fn cluster_ip(service: &Service) -> String {
    if service.is_headless() {
        return "None".to_owned();
    }
    or_none(service.cluster_ips.as_slice().iter().map(IpAddr::to_string))
}

fn external_ip(service: &Service) -> String {
    let name = match &service.kind {
        ServiceKind::ExternalName(name) => Some(format!("CNAME {name}")),
        _ => None,
    };
    let ingress = service.load_balancer.ingress.iter().filter_map(|ingress| {
        ingress
            .ip
            .map(|ip| ip.to_string())
            .or_else(|| ingress.hostname.as_deref().map(str::to_owned))
    });
    or_none(
        name.into_iter().chain(ingress).chain(service.external_ips.iter().map(IpAddr::to_string)),
    )
}

fn port(port: &svcplane::service::ServicePort) -> String {
    match port.node_port {
        Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    }
}

fn affinity(service: &Service) -> String {
    match service.client_ip_affinity {
        Some(timeout) => format!("ClientIP {}s", timeout.as_secs()),
        None => "None".to_owned(),
    }
}

/// The ready endpoints of each port, the first three of them by name.
fn endpoints(service: &Service, set: &EndpointSet) -> String {
    const SHOWN: usize = 3;
    let of_port = |port: &svcplane::service::ServicePort| {
        let ready: Vec<String> = set
            .port(port.name_str(), port.protocol)
            .filter(|(_, endpoint)| endpoint.conditions.ready)
            .map(|(addr, _)| addr.to_string())
            .collect();
        let mut text =
            if service.ports.len() > 1 { format!("{}=", port.name_str()) } else { String::new() };
        text.push_str(&ready[..ready.len().min(SHOWN)].join(","));
        if ready.len() > SHOWN {
            let _ = write!(text, "+{}", ready.len() - SHOWN);
        } else if ready.is_empty() {
            text.push_str("<none>");
        }
        text
    };
    let texts: Vec<String> = service.ports.iter().map(of_port).collect();
    if texts.is_empty() { "<none>".to_owned() } else { texts.join(" ") }
}

fn or_none(texts: impl Iterator<Item = String>) -> String {
    let text = texts.collect::<Vec<_>>().join(",");
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
    text
}
