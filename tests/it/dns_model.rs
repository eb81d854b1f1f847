//! A naive DNS server: every question is a scan over all objects, in texts. A zone that has come by any updates to what it knows
//! agrees with it. Any bytes are such updates and questions, so that the fuzz target is made of the same.
//!
//! Source: Kubernetes DNS specification 1.1.0; for what that leaves open, what `CoreDNS`' plugin `kubernetes` does (`findServices`,
//! `findPods`, `serviceRecordForIP`, and the records made of that).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use svcplane::dns::{Code, Config, Name, NameBuf, PodMode, RecordType, Zone};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet, Reference};
use svcplane::name::ObjectName;
use svcplane::net::Protocol;
use svcplane::pod::{Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServiceKind, ServicePort};
use svcplane::time::Timestamp;

pub(crate) const ZONE: &str = "cluster.local";
const KINDS: [RecordType; 10] = [
    RecordType::A,
    RecordType::Aaaa,
    RecordType::Srv,
    RecordType::Cname,
    RecordType::Ptr,
    RecordType::Txt,
    RecordType::Ns,
    RecordType::Soa,
    RecordType::Other(15),
    RecordType::Other(255),
];

/// What there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) services: BTreeMap<ObjectName, (Service, Vec<Endpoint>)>,
    pub(crate) pods: BTreeMap<ObjectName, Pod>,
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) config: Config,
}

/// An answer in values that can be compared: records as texts, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) code: Code,
    pub(crate) answers: Vec<String>,
    pub(crate) authority: Vec<String>,
    pub(crate) additional: Vec<String>,
}

/// What an address and port is found by.
struct Found {
    name: String,
    ip: IpAddr,
    /// `None` where there is no port at all.
    port: Option<u16>,
}

impl World {
    /// A zone that has heard of all this, object by object.
    pub(crate) fn zone(&self) -> Zone {
        let mut zone = Zone::new(ZONE.parse().expect("a name"), self.config.clone());
        for (service, endpoints) in self.services.values() {
            zone.upsert(service, &set(service, endpoints));
        }
        for pod in self.pods.values() {
            zone.upsert_pod(pod);
        }
        for name in &self.namespaces {
            zone.declare_namespace(name, true);
        }
        zone
    }

    fn ttl(&self) -> u32 {
        self.config.ttl.min(3_600)
    }

    fn namespace_exists(&self, name: &str) -> bool {
        self.namespaces.contains(name)
            || self.services.keys().chain(self.pods.keys()).any(|object| object.namespace() == name)
    }

    /// What there is under a Service's name: `None` if the name does not exist.
    fn find(
        &self,
        (namespace, name): (&str, &str),
        host: Option<&str>,
        port: Option<(&str, &str)>,
    ) -> Option<Vec<Found>> {
        let object = ObjectName::new(namespace, name).ok()?;
        let (service, endpoints) = self.services.get(&object)?;
        let own = format!("{name}.{namespace}.svc.{ZONE}.");
        let ready: Vec<&Endpoint> = endpoints.iter().filter(|e| e.conditions.ready).collect();
        if let ServiceKind::ExternalName(_) = service.kind {
            return (host.is_none() && port.is_none()).then(Vec::new);
        }
        if self.config.ignore_empty_services && !service.is_headless() && ready.is_empty() {
            return None;
        }
        let matches = |name: &str, protocol: Protocol| {
            port.is_none_or(|(wanted, transport)| {
                wanted == name && transport == protocol.as_str().to_lowercase() && !name.is_empty()
            })
        };
        let mut found = Vec::new();
        if host.is_none() && !service.is_headless() {
            let ports = service.ports.iter().filter(|port| matches(port.name_str(), port.protocol));
            let mut ports: Vec<Option<u16>> = ports.map(|port| Some(port.port)).collect();
            if service.ports.is_empty() && port.is_none() {
                ports.push(None);
            }
            let mut ips: Vec<IpAddr> = service.cluster_ips.as_slice().to_vec();
            ips.sort_unstable();
            ips.dedup();
            for &port in &ports {
                found.extend(ips.iter().map(|&ip| Found { name: own.clone(), ip, port }));
            }
            let exists = !found.is_empty() || (ips.is_empty() && port.is_none());
            return exists.then_some(found);
        }
        for endpoint in ready {
            for &ip in [endpoint.ip].iter().chain(&endpoint.other_ips) {
                let label = self.host(endpoint, ip);
                if host.is_some_and(|host| host != label) {
                    continue;
                }
                let name = format!("{label}.{own}");
                let mut seen = BTreeSet::new();
                for listed in &*endpoint.ports {
                    if seen.insert((listed.name_str(), listed.protocol))
                        && matches(listed.name_str(), listed.protocol)
                    {
                        found.push(Found { name: name.clone(), ip, port: Some(listed.port) });
                    }
                }
                if endpoint.ports.is_empty() && port.is_none() {
                    found.push(Found { name, ip, port: None });
                }
            }
        }
        (!found.is_empty()).then_some(found)
    }

    fn host(&self, endpoint: &Endpoint, ip: IpAddr) -> String {
        if let Some(hostname) = &endpoint.hostname {
            return hostname.to_string();
        }
        let pod = endpoint.target.as_ref().map(|target| &*target.name);
        if let Some(pod) = pod.filter(|name| name.len() < 64 && !name.contains('.')) {
            if self.config.endpoint_pod_names {
                return pod.to_owned();
            }
        }
        let mut text = ip.to_string().replace(['.', ':'], "-");
        if ip.is_ipv6() && text.ends_with('-') {
            text.push('0');
        }
        text
    }

    /// The labels of the ports' names of a Service, as SRV records have them.
    fn ports(&self, (namespace, name): (&str, &str)) -> BTreeSet<(String, String)> {
        let Ok(object) = ObjectName::new(namespace, name) else { return BTreeSet::new() };
        let Some((service, endpoints)) = self.services.get(&object) else { return BTreeSet::new() };
        let of_service = service.ports.iter().map(|port| (port.name_str(), port.protocol));
        let of_endpoints = endpoints.iter().flat_map(|endpoint| &*endpoint.ports);
        let of_endpoints = of_endpoints.map(|port| (port.name_str(), port.protocol));
        let all = of_service.chain(of_endpoints).filter(|(name, _)| !name.is_empty());
        let all = all.map(|(name, protocol)| (name.to_owned(), protocol.as_str().to_lowercase()));
        let found = |(port, protocol): &(String, String)| {
            let found = self.find((namespace, name), None, Some((port, protocol)));
            found.is_some_and(|found| !found.is_empty())
        };
        all.filter(found).collect()
    }

    fn soa(&self, zone: &Zone, owner: &str) -> String {
        let (serial, ttl) = (zone.serial(), self.ttl());
        format!(
            "{owner} {ttl} IN SOA ns.dns.{ZONE}. hostmaster.{ZONE}. {serial} 7200 1800 86400 {ttl}"
        )
    }

    /// The answer to a question, in lower case. The zone is only asked for its serial number.
    pub(crate) fn answer(&self, zone: &Zone, question: &str, kind: RecordType) -> Told {
        let mut told = Told {
            code: Code::NoError,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        };
        let mut name = question.to_owned();
        let mut seen = BTreeSet::new();
        loop {
            let alias = self
                .alias(&name)
                .filter(|_| [RecordType::A, RecordType::Aaaa, RecordType::Cname].contains(&kind));
            let Some(target) = alias else { break };
            if !seen.insert(name.clone()) {
                return told;
            }
            told.answers.push(format!("{name} {} IN CNAME {target}", self.ttl()));
            if kind == RecordType::Cname {
                return told;
            }
            name = target.to_lowercase();
        }
        let ends = |suffix: &str| name == suffix || name.ends_with(&format!(".{suffix}"));
        let under_zone = format!("{ZONE}.");
        let mut apex = under_zone.clone();
        let found = if ends(&under_zone) {
            self.inside(&name, kind)
        } else if ends("in-addr.arpa.") || ends("ip6.arpa.") {
            apex = String::from(if ends("ip6.arpa.") { "ip6.arpa." } else { "in-addr.arpa." });
            self.reverse(&name, kind)
        } else {
            if told.answers.is_empty() {
                told.code = Code::Refused;
            }
            return told;
        };
        let Some((answers, additional)) = found else {
            told.code = Code::NxDomain;
            told.authority.push(self.soa(zone, &apex));
            told.answers.sort();
            return told;
        };
        if (name == under_zone || name == apex) && kind == RecordType::Soa {
            told.answers.push(self.soa(zone, &name));
        } else if answers.is_empty() {
            told.authority.push(self.soa(zone, &apex));
        }
        told.answers.extend(answers);
        told.additional.extend(additional);
        told.answers.sort();
        told.additional.sort();
        told
    }

    /// Where an ExternalName's own name leads.
    fn alias(&self, name: &str) -> Option<String> {
        let (service, _) = self.services.values().find(|(service, _)| {
            format!("{}.{}.svc.{ZONE}.", service.name.name(), service.name.namespace()) == name
        })?;
        let ServiceKind::ExternalName(target) = &service.kind else { return None };
        if target.is_empty() || target.parse::<IpAddr>().is_ok() || target.contains("..") {
            return None;
        }
        Some(format!("{}.", target.trim_end_matches('.')))
    }

    /// The records of a kind under a name of the zone, and what goes with them; `None` if there is no such name.
    fn inside(&self, name: &str, kind: RecordType) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
        let ttl = self.ttl();
        let own = name.strip_suffix(&format!("{ZONE}.")).expect("in the zone");
        let labels: Vec<&str> = own.trim_end_matches('.').split('.').rev().collect();
        let nothing = (BTreeSet::new(), BTreeSet::new());
        let servers = || {
            let servers = self.config.servers.iter();
            servers.map(|&ip| address(&format!("ns.dns.{ZONE}."), ttl, ip)).collect()
        };
        let of_kind = |records: BTreeSet<String>| -> BTreeSet<String> {
            records.into_iter().filter(|r| r.contains(&format!(" IN {kind} "))).collect()
        };
        let (service, host, port) = match *labels {
            [""] if kind == RecordType::Ns => {
                return Some(([format!("{name} {ttl} IN NS ns.dns.{ZONE}.")].into(), servers()));
            }
            ["dns-version"] if kind == RecordType::Txt => {
                let text = format!("{name} 28800 IN TXT \"1.1.0\"");
                return Some(([text].into(), BTreeSet::new()));
            }
            ["" | "dns" | "svc" | "pod" | "dns-version"] => return Some(nothing),
            ["dns", "ns"] => return Some((of_kind(servers()), BTreeSet::new())),
            ["svc", namespace] => return self.namespace_exists(namespace).then_some(nothing),
            ["svc", namespace, name] => ((namespace, name), None, None),
            ["svc", namespace, name, host] => {
                let ports = self.ports((namespace, name));
                if ports.iter().any(|(_, protocol)| format!("_{protocol}") == host) {
                    return Some(nothing);
                }
                ((namespace, name), Some(host), None)
            }
            ["svc", namespace, name, protocol, port] => {
                let bare = |label: &'_ str| label.strip_prefix('_').unwrap_or(label).to_owned();
                ((namespace, name), None, Some((bare(port), bare(protocol))))
            }
            ["pod", ref under @ ..] => {
                let ips = self.pod(under)?.into_iter();
                let ips: BTreeSet<String> = ips.map(|ip| address(name, ttl, ip)).collect();
                return Some((of_kind(ips), BTreeSet::new()));
            }
            _ => return None,
        };
        let asked = port.as_ref().map(|(port, protocol)| (&**port, &**protocol));
        let found = self.find(service, host, asked)?;
        if kind == RecordType::Srv {
            let weight = (100 / found.len().max(1)).max(1);
            let (mut records, mut additional) = (BTreeSet::new(), BTreeSet::new());
            for target in &found {
                let Some(port) = target.port else { continue };
                records.insert(format!("{name} {ttl} IN SRV 0 {weight} {port} {}", target.name));
                // All addresses of the target, whichever have this port.
                for kind in [RecordType::A, RecordType::Aaaa] {
                    additional.extend(self.inside(&target.name, kind)?.0);
                }
            }
            return Some((records, additional));
        }
        if port.is_some() {
            return Some(nothing);
        }
        let records = found.iter().map(|found| address(name, ttl, found.ip)).collect();
        Some((of_kind(records), BTreeSet::new()))
    }

    /// The addresses that a pod's name stands for, by the labels under `pod`: one, or none for a name that has only others under
    /// it.
    fn pod(&self, labels: &[&str]) -> Option<Vec<IpAddr>> {
        let exists =
            self.namespace_exists(labels.first()?) && self.config.pods != PodMode::Disabled;
        let [namespace, label] = *labels else {
            return (labels.len() == 1 && exists).then(Vec::new);
        };
        let v4 = label.matches('-').count() == 3 && !label.contains("--");
        let text = label.replace('-', if v4 { "." } else { ":" });
        let ip: IpAddr = text.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4() == v4)?;
        let lives = |pod: &&Pod| !pod.phase.is_terminal() && pod.deleted.is_none();
        let there = self.config.pods == PodMode::Insecure
            || self
                .pods
                .values()
                .filter(lives)
                .any(|pod| pod.name.namespace() == namespace && pod.ips.contains(&ip));
        (exists && there).then(|| vec![ip])
    }

    /// What each address is called.
    pub(crate) fn pointers(&self) -> BTreeSet<(IpAddr, String)> {
        let (mut own, mut others) = (BTreeMap::new(), BTreeSet::new());
        for (name, (service, endpoints)) in &self.services {
            let fqdn = format!("{}.{}.svc.{ZONE}.", name.name(), name.namespace());
            if self.find((name.namespace(), name.name()), None, None).is_none()
                || matches!(service.kind, ServiceKind::ExternalName(_))
            {
                continue;
            }
            for &ip in service.cluster_ips.as_slice() {
                // As the zone sorts names: labels behind their lengths.
                let key = (name.name().len(), name.name().to_owned(), name.namespace().to_owned());
                let first = own.entry(ip).or_insert_with(|| (key.clone(), fqdn.clone()));
                if key < first.0 {
                    *first = (key, fqdn.clone());
                }
            }
            for endpoint in endpoints.iter().filter(|endpoint| endpoint.conditions.ready) {
                for &ip in [endpoint.ip].iter().chain(&endpoint.other_ips) {
                    others.insert((ip, format!("{}.{fqdn}", self.host(endpoint, ip))));
                }
            }
        }
        let others = others.into_iter().filter(|(ip, _)| !own.contains_key(ip)).collect::<Vec<_>>();
        own.into_iter().map(|(ip, (_, fqdn))| (ip, fqdn)).chain(others).collect()
    }

    fn reverse(
        &self,
        name: &str,
        kind: RecordType,
    ) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
        let ttl = self.ttl();
        if name == "in-addr.arpa." || name == "ip6.arpa." {
            let servers = self.config.servers.iter();
            let servers = servers.map(|&ip| address(&format!("ns.dns.{ZONE}."), ttl, ip));
            return Some(if kind == RecordType::Ns {
                ([format!("{name} {ttl} IN NS ns.dns.{ZONE}.")].into(), servers.collect())
            } else {
                (BTreeSet::new(), BTreeSet::new())
            });
        }
        let all: Vec<(String, String)> = self
            .pointers()
            .into_iter()
            .map(|(ip, target)| (arpa(ip), format!("{name} {ttl} IN PTR {target}")))
            .collect();
        let under = format!(".{name}");
        if !all.iter().any(|(owner, _)| owner == name || owner.ends_with(&under)) {
            return None;
        }
        let own = all.into_iter().filter(|(owner, _)| owner == name && kind == RecordType::Ptr);
        Some((own.map(|(_, record)| record).collect(), BTreeSet::new()))
    }

    /// The record set of the specification.
    pub(crate) fn records(&self, zone: &Zone) -> BTreeSet<String> {
        let mut names = BTreeSet::from([format!("{ZONE}."), format!("dns-version.{ZONE}.")]);
        names.insert(format!("ns.dns.{ZONE}."));
        let mut records = BTreeSet::new();
        let mut with_ports = BTreeSet::new();
        for (name, (_, endpoints)) in &self.services {
            let fqdn = format!("{}.{}.svc.{ZONE}.", name.name(), name.namespace());
            for (port, protocol) in self.ports((name.namespace(), name.name())) {
                with_ports.insert(format!("_{port}._{protocol}.{fqdn}"));
            }
            for endpoint in endpoints {
                for &ip in [endpoint.ip].iter().chain(&endpoint.other_ips) {
                    names.insert(format!("{}.{fqdn}", self.host(endpoint, ip)));
                }
            }
            names.insert(fqdn);
        }
        let pods = self.pods.values().filter(|_| self.config.pods == PodMode::Verified);
        for (pod, ip) in pods.flat_map(|pod| pod.ips.iter().map(move |ip| (pod, ip))) {
            let mut label = ip.to_string().replace(['.', ':'], "-");
            if ip.is_ipv6() && label.ends_with('-') {
                label.push('0');
            }
            names.insert(format!("{label}.{}.pod.{ZONE}.", pod.name.namespace()));
        }
        for name in &names {
            let own = KINDS.iter().filter(|kind| **kind != RecordType::Srv);
            for told in own.map(|&kind| self.answer(zone, name, kind)) {
                // An alias is told with what it leads to, which is another name's.
                let own = told.answers.into_iter();
                records.extend(own.filter(|r| r.starts_with(&format!("{name} "))));
            }
        }
        for name in &with_ports {
            records.extend(self.answer(zone, name, RecordType::Srv).answers);
        }
        records
    }
}

pub(crate) fn set(service: &Service, endpoints: &[Endpoint]) -> EndpointSet {
    EndpointSet::new(service.name.clone(), endpoints.iter().cloned())
}

fn address(name: &str, ttl: u32, ip: IpAddr) -> String {
    format!("{name} {ttl} IN {} {ip}", if ip.is_ipv4() { "A" } else { "AAAA" })
}

/// The name of an address in the reverse zones.
pub(crate) fn arpa(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(ip) => {
            let digits: Vec<char> = ip
                .segments()
                .iter()
                .flat_map(|s| format!("{s:04x}").chars().collect::<Vec<_>>())
                .collect();
            let nibbles: String = digits.iter().rev().flat_map(|digit| [*digit, '.']).collect();
            format!("{nibbles}ip6.arpa.")
        }
    }
}

/// What a zone tells, in the model's form.
pub(crate) fn told(zone: &Zone, name: Name<'_>, kind: RecordType, turn: u64) -> Told {
    let answer = zone.answer(name, kind, turn);
    let sorted = |records: &mut dyn Iterator<Item = String>| {
        let mut records: Vec<String> = records.collect();
        records.sort();
        records
    };
    Told {
        code: answer.code(),
        answers: sorted(&mut answer.answers().map(|record| record.to_string())),
        authority: sorted(&mut answer.authority().map(|record| record.to_string())),
        additional: sorted(&mut answer.additional().map(|record| record.to_string())),
    }
}

/// Bytes as decisions; zeros when they are used up.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.next()) % of.len()].clone()
    }

    fn bit(&mut self) -> bool {
        self.next() % 2 > 0
    }
}

const IPS: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "172.16.0.9",
    "fd00::1",
    "fd00::2",
    "fd00:0:0:1::",
    "::1:0:0",
];
const NAMES: [&str; 4] = ["a", "b", "long-name-2", "_tcp"];
const NAMESPACES: [&str; 3] = ["x", "y", "empty"];
const HOSTS: [&str; 4] = ["h-0", "h-1", "10-0-0-1", "tcp"];
const PORT_NAMES: [&str; 3] = ["http", "p", "tcp"];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const TARGETS: [&str; 9] = [
    "example.com",
    "Example.COM.",
    "10.0.0.1",
    "a.x.svc.cluster.local",
    "b.x.svc.cluster.local",
    "nobody.x.svc.Cluster.Local.",
    "a..b",
    "h-0.a.x.svc.cluster.local",
    "x.svc.cluster.local",
];
/// Labels that names of questions are made of.
const LABELS: [&str; 26] = [
    "a",
    "b",
    "long-name-2",
    "x",
    "y",
    "empty",
    "nobody",
    "svc",
    "pod",
    "dns",
    "ns",
    "dns-version",
    "h-0",
    "h-1",
    "10-0-0-1",
    "fd00--1",
    "fd00-0-0-1--0",
    "_http",
    "http",
    "_p",
    "_tcp",
    "_udp",
    "tcp",
    "Svc",
    "10",
    "0",
];

fn object(bytes: &mut Bytes<'_>) -> ObjectName {
    let name = bytes.one(&NAMES[..3]);
    ObjectName::new(bytes.one(&NAMESPACES[..2]), name).expect("a name")
}

fn ip(bytes: &mut Bytes<'_>) -> IpAddr {
    bytes.one(&IPS).parse().expect("an address")
}

fn service(bytes: &mut Bytes<'_>) -> Service {
    let mut service = Service::new(object(bytes));
    let count = bytes.next() % 3;
    match bytes.next() % 8 {
        0..3 => service.cluster_ips = ClusterIps::Headless,
        3..6 => {
            service.cluster_ips =
                ClusterIps::Assigned((0..=count % 2).map(|_| ip(bytes)).collect());
        }
        6 => service.kind = ServiceKind::ExternalName(bytes.one(&TARGETS).into()),
        _ => {}
    }
    for _ in 0..count {
        let mut port = ServicePort::new(80 + u16::from(bytes.next() % 2));
        port.name = port_name(bytes);
        port.protocol = bytes.one(&PROTOCOLS);
        service.ports.push(port);
    }
    service
}

fn port_name(bytes: &mut Bytes<'_>) -> Option<svcplane::name::DnsLabel> {
    bytes.bit().then(|| bytes.one(&PORT_NAMES).parse().expect("a label"))
}

fn endpoint(bytes: &mut Bytes<'_>) -> Endpoint {
    let mut endpoint = Endpoint::new(ip(bytes));
    let bits = bytes.next();
    endpoint.conditions.ready = bits & 3 > 0;
    if bits & 4 > 0 {
        endpoint.hostname = Some(bytes.one(&HOSTS).parse().expect("a label"));
    }
    if bits & 8 > 0 {
        let pod = bytes.one(&["pod-1", "pod.2"]);
        let pod = ObjectName::new("x", pod).expect("a name");
        endpoint.target = Some(Reference::new("Pod", &pod, &bytes.next().to_string()));
    }
    if bits / 16 % 4 == 0 {
        let more = ip(bytes);
        if more.is_ipv4() == endpoint.ip.is_ipv4() {
            endpoint.other_ips.push(more);
        }
    }
    let ports = (0..bytes.next() % 3).map(|_| {
        let mut port = EndpointPort::new(80 + u16::from(bytes.next() % 2));
        port.name = port_name(bytes);
        port.protocol = bytes.one(&PROTOCOLS);
        port
    });
    let mut ports: Vec<EndpointPort> = ports.collect();
    ports.sort();
    endpoint.ports = Arc::from(ports);
    endpoint
}

fn pod(bytes: &mut Bytes<'_>) -> Pod {
    let mut pod = Pod::new(object(bytes));
    pod.ips = (0..bytes.next() % 3).map(|_| ip(bytes)).collect();
    pod.phase = bytes.one(&[Phase::Running, Phase::Pending, Phase::Unknown, Phase::Failed]);
    if bytes.next() % 8 == 0 {
        pod.deleted = Some(Timestamp::from_unix(0));
    }
    pod
}

/// A question: a few labels under the zone or elsewhere, sometimes in other letters.
fn question(bytes: &mut Bytes<'_>) -> String {
    let mut labels: Vec<String> =
        (0..bytes.next() % 7).map(|_| bytes.one(&LABELS).to_owned()).collect();
    match bytes.next() % 8 {
        0 => labels.extend(["in-addr", "arpa"].map(str::to_owned)),
        1 => {
            // An address's name, or a part of it.
            let name = arpa(ip(bytes));
            let name: Vec<&str> = name.trim_end_matches('.').split('.').collect();
            let cut = usize::from(bytes.next()) % name.len();
            labels = name[cut..].iter().map(|&label| label.to_owned()).collect();
        }
        2 => {}
        _ => labels.push(ZONE.to_owned()),
    }
    format!("{}.", labels.join("."))
}

/// A zone of many objects of all kinds, always the same.
pub(crate) fn varied() -> Zone {
    let mut state = 1_u32;
    let random = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    let random: Vec<u8> = random.take(2_000).collect();
    let mut bytes = Bytes(&random);
    let mut world = World::default();
    world.config.pods = PodMode::Verified;
    let mut zone = world.zone();
    while !bytes.0.is_empty() {
        let service = service(&mut bytes);
        let endpoints: Vec<Endpoint> =
            (0..bytes.next() % 5).map(|_| endpoint(&mut bytes)).collect();
        zone.upsert(&service, &set(&service, &endpoints));
        zone.upsert_pod(&pod(&mut bytes));
    }
    let mut alias = Service::new(ObjectName::new("x", "alias").expect("a name"));
    alias.kind = ServiceKind::ExternalName(TARGETS[3].into());
    zone.upsert(&alias, &set(&alias, &[]));
    zone
}

/// Carries out what the bytes say, on a zone and on the model, and compares.
pub(crate) fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut world = World::default();
    let bits = bytes.next();
    world.config.endpoint_pod_names = bits & 1 > 0;
    world.config.ignore_empty_services = bits & 2 > 0;
    world.config.pods =
        [PodMode::Disabled, PodMode::Insecure, PodMode::Verified, PodMode::Verified]
            [usize::from(bits >> 2 & 3)];
    if bits & 16 > 0 {
        world.config.servers = vec![ip(&mut bytes), ip(&mut bytes)];
    }
    world.config.seed = bits.into();
    let mut zone = world.zone();
    while !bytes.0.is_empty() {
        let serial = zone.serial();
        let changed = match bytes.next() % 16 {
            0..5 => {
                let service = service(&mut bytes);
                let endpoints: Vec<Endpoint> =
                    (0..bytes.next() % 5).map(|_| endpoint(&mut bytes)).collect();
                let set = set(&service, &endpoints);
                let changed = zone.upsert(&service, &set);
                // What a set makes of several statements about one endpoint is its own business.
                let endpoints = set.endpoints().cloned().collect();
                world.services.insert(service.name.clone(), (service, endpoints));
                changed
            }
            5 | 6 => {
                let name = object(&mut bytes);
                let known = world.services.remove(&name).is_some();
                assert_eq!(zone.remove(&name), known);
                known
            }
            7 => {
                let pod = pod(&mut bytes);
                let changed = zone.upsert_pod(&pod);
                world.pods.insert(pod.name.clone(), pod);
                changed
            }
            8 => {
                let name = object(&mut bytes);
                let known = world.pods.remove(&name).is_some();
                assert_eq!(zone.remove_pod(&name), known);
                known
            }
            9 => {
                let (name, exists) = (bytes.one(&NAMESPACES), bytes.bit());
                zone.declare_namespace(name, exists);
                if exists {
                    world.namespaces.insert(name.to_owned())
                } else {
                    world.namespaces.remove(name)
                }
            }
            _ => {
                let name = question(&mut bytes);
                ask(&world, &zone, &name, bytes.one(&KINDS), bytes.next().into());
                false
            }
        };
        assert_eq!(zone.serial() != serial, changed, "the serial number tells changes");
    }
    compare(&world, &zone);
}

fn ask(world: &World, zone: &Zone, text: &str, kind: RecordType, turn: u64) {
    let name: NameBuf = text.parse().expect("a name");
    let expected = folded(world.answer(zone, &text.to_lowercase(), kind));
    assert_eq!(folded(told(zone, name.name(), kind, turn)), expected, "{kind} {text}: {world:#?}");
    // The letters of the question.
    let first = zone.answer(name.name(), kind, turn).answers().next();
    assert!(first.is_none_or(|first| first.name.to_string() == text), "{kind} {text}");
}

/// In lower case, and sorted.
fn folded(mut told: Told) -> Told {
    for records in [&mut told.answers, &mut told.authority, &mut told.additional] {
        for record in records.iter_mut() {
            *record = record.to_lowercase();
        }
        records.sort();
    }
    told
}

/// All that a zone says, by the model, by a zone that has heard of it in another order, and for every name there is.
fn compare(world: &World, zone: &Zone) {
    let records: Vec<String> = zone.records().map(|record| record.to_string()).collect();
    let set: BTreeSet<String> = records.iter().cloned().collect();
    assert_eq!(set.len(), records.len(), "no record twice: {records:#?}");
    let fold = |records: &BTreeSet<String>| -> BTreeSet<String> {
        records.iter().map(|record| record.to_lowercase()).collect()
    };
    assert_eq!(fold(&set), fold(&world.records(zone)), "{world:#?}");
    let pointers: Vec<(IpAddr, String)> =
        zone.pointers().map(|(ip, name)| (ip, name.to_string())).collect();
    assert_eq!(pointers.iter().cloned().collect::<BTreeSet<_>>(), world.pointers(), "{world:#?}");

    let anew = world.zone();
    let same = |zone: &Zone| -> Vec<String> {
        zone.records().map(|r| r.to_string()).filter(|r| !r.contains(" SOA ")).collect()
    };
    assert_eq!(same(zone), same(&anew), "order does not matter: {world:#?}");
    assert!(zone.pointers().eq(anew.pointers()));

    let mut names: BTreeSet<String> =
        zone.records().map(|record| record.name.to_string()).collect();
    names.extend(pointers.iter().map(|(ip, _)| arpa(*ip)));
    // And those that may have been.
    for namespace in NAMESPACES {
        names.extend(["svc", "pod"].map(|tree| format!("{namespace}.{tree}.{ZONE}.")));
        names.extend(NAMES.map(|name| format!("{name}.{namespace}.svc.{ZONE}.")));
    }
    for name in names {
        for kind in KINDS {
            ask(world, zone, &name, kind, 7);
            let whole: NameBuf = name.parse().expect("a name");
            fits(zone, whole.name(), kind);
        }
    }
}

/// What is left out for lack of room: additional records, then the last ones.
fn fits(zone: &Zone, name: Name<'_>, kind: RecordType) {
    let answer = zone.answer(name, kind, 3);
    let size = |answer: &svcplane::dns::Answer<'_>| {
        let records = answer.answers().chain(answer.authority()).chain(answer.additional());
        let records = records.map(|record| {
            let own = if record.name == name { 2 } else { record.name.wire_len() };
            own + 10 + record.data.wire_len()
        });
        12 + name.wire_len() + 4 + records.sum::<usize>()
    };
    let whole = size(&answer);
    for limit in [0, 12, 60, 80, 100, 150, 200, whole.saturating_sub(1), whole, 512, 65_535] {
        let fitted = answer.fit(limit);
        assert!(size(&fitted) <= limit.max(12 + name.wire_len() + 4));
        assert!(fitted.answers().eq(answer.answers().take(fitted.answers().len())));
        assert_eq!(fitted.is_truncated(), fitted.answers().len() < answer.answers().len());
        assert_eq!(fitted.code(), answer.code());
        if limit >= whole {
            assert_eq!(size(&fitted), whole);
        } else {
            let next = answer.answers().nth(fitted.answers().len());
            if let Some(next) = next {
                let room = limit.saturating_sub(size(&fitted));
                let own = if next.name == name { 2 } else { next.name.wire_len() };
                assert!(own + 10 + next.data.wire_len() > room, "another would have fitted");
                assert_eq!(fitted.additional().count() + fitted.authority().len(), 0);
            }
        }
    }
}
