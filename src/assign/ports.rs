//! Node ports, and the one for health checks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::inherit::{has_node_ports, needs_health_check, wants_node_ports};
use super::{Claim, Draft};
use crate::field::Path;
use crate::service::Service;

/// A port that leaves its node port open has the first that is stated for its number in another protocol.
fn share(service: &mut Service) {
    let mut stated: BTreeMap<u16, u16> = BTreeMap::new();
    for port in &service.ports {
        if let Some(number) = port.node_port {
            stated.entry(port.port).or_insert(number);
        }
    }
    for port in &mut service.ports {
        port.node_port = port.node_port.or_else(|| stated.get(&port.port).copied());
    }
}

impl Draft<'_> {
    pub(super) fn node_ports(&mut self, service: &mut Service) {
        let root = Path::root("spec");
        let list = root.field("ports");
        if has_node_ports(service) {
            if self.old.is_none() && wants_node_ports(service) {
                share(service);
            }
            self.stated(service, &list);
            if wants_node_ports(service) {
                self.missing(service, &list);
            }
        } else {
            for (i, port) in service.ports.iter().enumerate() {
                if port.node_port.is_some() {
                    let detail = "only a Service of type NodePort or LoadBalancer has one";
                    self.report.forbidden(&list.index(i).field("nodePort"), detail);
                }
            }
        }
        let path = root.field("healthCheckNodePort");
        match (needs_health_check(service), service.health_check_node_port) {
            (false, None) => {}
            (false, Some(_)) => {
                let detail = "only a LoadBalancer with externalTrafficPolicy Local has one";
                self.report.forbidden(&path, detail);
            }
            (true, Some(number)) => {
                if service.ports.iter().any(|port| port.node_port == Some(number)) {
                    self.report.duplicate(&path, &number, "it is a nodePort of this Service");
                } else {
                    self.take(Claim::NodePort(number), service, &path);
                }
            }
            (true, None) => service.health_check_node_port = self.draw(service, &path),
        }
    }

    /// The numbers that the Service states. One number serves several protocols.
    fn stated(&mut self, service: &Service, list: &Path<'_>) {
        let mut seen = BTreeSet::new();
        for (i, port) in service.ports.iter().enumerate() {
            let Some(number) = port.node_port else { continue };
            let entry = list.index(i);
            let path = entry.field("nodePort");
            if seen.insert((port.protocol, number)) {
                self.take(Claim::NodePort(number), service, &path);
            } else {
                let detail = "an earlier port of this protocol has it";
                self.report.duplicate(&path, &number, detail);
            }
        }
    }

    /// The numbers that it leaves open.
    fn missing(&mut self, service: &mut Service, list: &Path<'_>) {
        let created = self.old.is_none();
        let mut drawn: BTreeMap<u16, u16> = BTreeMap::new();
        for i in 0..service.ports.len() {
            let port = &service.ports[i];
            if port.node_port.is_some() {
                continue;
            }
            let number = port.port;
            let same = drawn.get(&number).copied().filter(|_| created);
            let entry = list.index(i);
            let given = same.or_else(|| self.draw(service, &entry.field("nodePort")));
            drawn.extend(given.map(|given| (number, given)));
            service.ports[i].node_port = given;
        }
    }

    fn draw(&mut self, service: &Service, path: &Path<'_>) -> Option<u16> {
        // Those that the Service has stated may be free in the pool still.
        let mut except: Vec<u16> = service.ports.iter().filter_map(|port| port.node_port).collect();
        except.extend(service.health_check_node_port);
        let seed = self.next_seed();
        let number = self.pools.node_ports.propose(seed, &except, |_| true);
        match number {
            Some(number) => self.takes.push(Claim::NodePort(number)),
            None => self.report.unavailable(path, "no node port is free"),
        }
        number
    }
}
