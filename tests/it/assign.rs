//! What Services get and give back: tables of Services as short texts, before and after.

mod balancer;
mod create;
mod families;
mod model;
mod update;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use svcplane::assign::{Assignment, Claim, Pools, claims};
use svcplane::field::FieldError;
use svcplane::ipam::{IpPool, IpRange};
use svcplane::labels::Labels;
use svcplane::name::{DnsLabel, ObjectName};
use svcplane::net::{IpFamily, Protocol};
use svcplane::service::{
    ClusterIps, Ingress, IpFamilyPolicy, Service, ServiceKind, ServicePort, TrafficPolicy,
};
use svcplane::time::Instant;

pub(crate) fn name(text: &str) -> ObjectName {
    ObjectName::new("ns", text).expect("a name")
}

pub(crate) fn range(cidr: &str) -> IpRange {
    IpRange::new(cidr.parse().expect("a prefix"), 7).expect("a range")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn family(c: char) -> IpFamily {
    match c {
        '4' => IpFamily::V4,
        '6' => IpFamily::V6,
        _ => panic!("no family: {c}"),
    }
}

/// `46`: the families, the default one first, each with a range; then `lb4`, `lb46`: ranges of load balancers; `lb=CLASS`.
/// Another Service has what ends in 9.
pub(crate) fn pools(cluster: &str) -> Pools {
    let mut words = cluster.split_whitespace();
    let families: Vec<IpFamily> = words.next().unwrap_or("").chars().map(family).collect();
    let mut pools = Pools::new(&families, Duration::ZERO);
    for family in families {
        pools.cluster_ips.add(range(match family {
            IpFamily::V4 => "10.0.0.0/24",
            IpFamily::V6 => "2000::/120",
        }));
    }
    pools.node_ports.add("30000-30063".parse().expect("ports"));
    for word in words {
        if let Some(class) = word.strip_prefix("lb=") {
            pools.load_balancer_class = Some(class.into());
            continue;
        }
        let mut pool = IpPool::new(Duration::ZERO);
        for family in word.strip_prefix("lb").expect("lb").chars().map(family) {
            pool.add(range(match family {
                IpFamily::V4 => "192.0.2.0/28",
                IpFamily::V6 => "2001:db8::/124",
            }));
        }
        pools.load_balancer_ips = Some(pool);
    }
    for ip in ["10.0.0.9", "2000::9"].map(ip) {
        pools.learn(Claim::ClusterIp(ip), name("other"));
    }
    pools.learn(Claim::NodePort(30_009), name("other"));
    for ip in ["192.0.2.9", "2001:db8::9"].map(ip) {
        pools.learn(Claim::LoadBalancerIp(ip), name("other"));
    }
    pools
}

/// A Service as text, every word optional, in the order in which [`text`] writes them:
///
/// * `NodePort`, `LB`, `External`; else ClusterIP. `detached`: without selector.
/// * `S4`, `P`, `R64`, `-46`: policy and families.
/// * `ip=None`, `ip=10.0.0.1,2000::1`.
/// * `dns/UDP/53/30053`: a port, the node port optional. Without any, `a/TCP/80`.
/// * `hc=31000`, `Local`, `alloc=false`, `class=example.com/a`, `wish=192.0.2.1`, `lb=192.0.2.1,2001:db8::1`, `ext=1.1.1.1`.
pub(crate) fn service(text: &str) -> Service {
    let mut service = Service::new(name("web"));
    service.selector = Labels::from_iter([("app", "web")]);
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let ips = || value.split(',').map(ip);
        match key {
            "NodePort" => service.kind = ServiceKind::NodePort,
            "LB" => service.kind = ServiceKind::LoadBalancer,
            "External" => service.kind = ServiceKind::ExternalName("example.com".into()),
            "detached" => service.selector = Labels::default(),
            "ip" if value == "None" => service.cluster_ips = ClusterIps::Headless,
            "ip" => service.cluster_ips = ClusterIps::Assigned(ips().collect()),
            "hc" => service.health_check_node_port = Some(value.parse().expect("a number")),
            "Local" => service.external_traffic_policy = TrafficPolicy::Local,
            "alloc" => service.load_balancer.allocate_node_ports = Some(value == "true"),
            "class" => service.load_balancer.class = Some(value.into()),
            "wish" => service.load_balancer.requested_ip = Some(ip(value)),
            "lb" => service.load_balancer.ingress = ips().map(ingress).collect(),
            "ext" => service.external_ips = ips().collect(),
            _ if key.contains('/') => service.ports.push(port(key)),
            _ => {
                service.ip_family_policy = match &key[..1] {
                    "S" => Some(IpFamilyPolicy::SingleStack),
                    "P" => Some(IpFamilyPolicy::PreferDualStack),
                    "R" => Some(IpFamilyPolicy::RequireDualStack),
                    "-" => None,
                    _ => panic!("no such word: {key}"),
                };
                service.ip_families = key[1..].chars().map(family).collect();
            }
        }
    }
    if service.ports.is_empty() {
        service.ports = vec![port("a/TCP/80")];
    }
    service
}

fn ingress(ip: IpAddr) -> Ingress {
    let mut ingress = Ingress::default();
    ingress.ip = Some(ip);
    ingress
}

fn port(text: &str) -> ServicePort {
    let parts: Vec<&str> = text.split('/').collect();
    let mut port = ServicePort::new(parts[2].parse().expect("a port"));
    port.name = Some(parts[0].parse::<DnsLabel>().expect("a port's name"));
    port.protocol = parts[1].parse::<Protocol>().expect("a protocol");
    port.node_port = parts.get(3).map(|number| number.parse().expect("a node port"));
    port
}

/// The text of a Service. What was drawn is `?1`, `?2`, in the order of `drawn`.
fn text(service: &Service, drawn: &[Claim]) -> String {
    let told = |claim: Claim, text: String| {
        drawn.iter().position(|d| *d == claim).map_or(text, |at| format!("?{}", at + 1))
    };
    let list = |ips: &mut dyn Iterator<Item = IpAddr>, claim: fn(IpAddr) -> Claim| {
        ips.map(|ip| told(claim(ip), ip.to_string())).collect::<Vec<_>>().join(",")
    };
    let mut words: Vec<String> = Vec::new();
    words.extend(match service.kind {
        ServiceKind::ClusterIp => None,
        ServiceKind::NodePort => Some("NodePort".into()),
        ServiceKind::LoadBalancer => Some("LB".into()),
        ServiceKind::ExternalName(_) => Some("External".into()),
    });
    words.extend(service.selector.is_empty().then(|| "detached".into()));
    words.extend(Some(families_text(service)).filter(|text| text != "-"));
    words.extend(match &service.cluster_ips {
        ClusterIps::Headless => Some("ip=None".into()),
        ips if ips.as_slice().is_empty() => None,
        ips => Some(format!("ip={}", list(&mut ips.as_slice().iter().copied(), Claim::ClusterIp))),
    });
    for port in &service.ports {
        let mut word = format!("{}/{}/{}", port.name_str(), port.protocol, port.port);
        if let Some(number) = port.node_port {
            write!(word, "/{}", told(Claim::NodePort(number), number.to_string())).expect("text");
        }
        words.extend(Some(word).filter(|word| word != "a/TCP/80" || service.ports.len() > 1));
    }
    let check = service.health_check_node_port;
    words.extend(check.map(|n| format!("hc={}", told(Claim::NodePort(n), n.to_string()))));
    let local = service.external_traffic_policy == TrafficPolicy::Local;
    words.extend(local.then(|| "Local".into()));
    let balancer = &service.load_balancer;
    words.extend(balancer.allocate_node_ports.map(|alloc| format!("alloc={alloc}")));
    words.extend(balancer.class.as_ref().map(|class| format!("class={class}")));
    words.extend(balancer.requested_ip.map(|ip| format!("wish={ip}")));
    let mut ips = balancer.ingress.iter().filter_map(|ingress| ingress.ip).peekable();
    if ips.peek().is_some() {
        words.push(format!("lb={}", list(&mut ips, Claim::LoadBalancerIp)));
    }
    let external: Vec<String> = service.external_ips.iter().map(ToString::to_string).collect();
    words.extend((!external.is_empty()).then(|| format!("ext={}", external.join(","))));
    words.join(" ")
}

/// `S4`, `P46`, `-`.
fn families_text(service: &Service) -> String {
    let policy = service.ip_family_policy.map_or("-", |policy| &policy.as_str()[..1]);
    let digit = |family: &IpFamily| if *family == IpFamily::V4 { '4' } else { '6' };
    policy.chars().chain(service.ip_families.iter().map(digit)).collect()
}

/// Everything that a Service has, of load balancer addresses those of the pool.
pub(crate) fn all_claims(service: &Service, pools: &Pools) -> BTreeSet<Claim> {
    let ours = |ip: &IpAddr| pools.owner(Claim::LoadBalancerIp(*ip)) == Some(&service.name);
    let ingress = service.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip);
    claims(service).chain(ingress.filter(ours).map(Claim::LoadBalancerIp)).collect()
}

/// Everything that a Service has, as the pools say.
pub(crate) fn owned(pools: &Pools, owner: &ObjectName) -> BTreeSet<Claim> {
    let ips = pools.cluster_ips.iter().map(|(ip, of)| (Claim::ClusterIp(ip), of));
    let ports = pools.node_ports.iter().map(|(port, of)| (Claim::NodePort(port), of));
    let balancer = pools.load_balancer_ips.iter().flat_map(IpPool::iter);
    let balancer = balancer.map(|(ip, of)| (Claim::LoadBalancerIp(ip), of));
    let all = ips.chain(ports).chain(balancer).filter(|(_, of)| *of == owner);
    all.map(|(claim, _)| claim).collect()
}

/// What it became, ` ; ` what it gave back as `-10.0.0.1`, ` ; ` the paths of warnings; or `!` and the paths of errors.
fn outcome(cluster: &str, old: Option<&str>, new: &str) -> String {
    let mut pools = pools(cluster);
    let old = old.map(service);
    if let Some(old) = &old {
        let ingress = old.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip);
        for claim in claims(old).chain(ingress.map(Claim::LoadBalancerIp)) {
            pools.learn(claim, old.name.clone());
        }
    }
    let new = service(new);
    let paths = |errors: &[FieldError]| {
        let mut paths: Vec<&str> = errors.iter().map(FieldError::path).collect();
        paths.sort_unstable();
        paths.join(" ")
    };
    let planned = Assignment::new(old.as_ref(), &new, &pools, 42);
    assert_eq!(planned, Assignment::new(old.as_ref(), &new, &pools, 42), "the same plan");
    let assignment = match planned {
        Ok(assignment) => assignment,
        Err(errors) => return format!("! {}", paths(&errors)),
    };
    let balancer = &new.load_balancer;
    let published = balancer.ingress.iter().filter_map(|ingress| ingress.ip);
    let published = published.chain(balancer.requested_ip).map(Claim::LoadBalancerIp);
    let stated: BTreeSet<Claim> = claims(&new).chain(published).collect();
    let takes = assignment.takes.iter();
    let drawn: Vec<Claim> = takes.filter(|claim| !stated.contains(claim)).copied().collect();
    let had = owned(&pools, &new.name);
    pools.commit(&assignment, Instant::ZERO).expect("what was planned");
    let service = &assignment.service;
    let has = owned(&pools, &new.name);
    assert_eq!(has, all_claims(service, &pools), "{}", text(service, &drawn));
    let gained: BTreeSet<Claim> = has.difference(&had).copied().collect();
    assert_eq!(gained, assignment.takes.iter().copied().collect(), "what was taken");
    assert_eq!(gained.len(), assignment.takes.len(), "a claim is taken once");
    let given: Vec<Claim> = had.difference(&has).copied().collect();
    assert_eq!(given, assignment.gives_back, "what was given back");

    let mut told = text(service, &drawn);
    if !given.is_empty() || !assignment.warnings.is_empty() {
        let given = given.iter().map(|claim| {
            let claim = claim.to_string();
            format!("-{}", claim.split_once('/').expect("a key").1)
        });
        write!(told, " ; {}", given.collect::<Vec<_>>().join(" ")).expect("text");
    }
    if !assignment.warnings.is_empty() {
        write!(told, " ; {}", paths(&assignment.warnings)).expect("text");
    }
    let gone = Assignment::release(service, &pools);
    pools.commit(&gone, Instant::ZERO).expect("nothing is taken");
    assert_eq!(owned(&pools, &new.name), BTreeSet::new(), "everything is given back");
    told
}

/// Cluster, before (empty for a new Service), after, what comes of it.
type Row = (&'static str, &'static str, &'static str, &'static str);

fn check(rows: &[Row]) {
    let mut failures = Vec::new();
    for (cluster, old, new, expected) in rows {
        let old = Some(*old).filter(|old| !old.is_empty());
        let got = outcome(cluster, old, new);
        if got != *expected {
            failures.push(format!("{cluster}: {old:?} to {new:?}: {expected:?}, got {got:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
