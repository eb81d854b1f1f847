//! What becomes of packets: the packet-flow tables of kube-proxy's own tests, and the plan's promises.

mod conntrack;
mod health;
mod topology;
mod warning;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use svcplane::endpoints::{Conditions, Endpoint, EndpointPort, EndpointSet, HEADLESS_LABEL};
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{
    FrontendKind, LocalDetector, LocalNode, Mode, NodePortAddresses, PROXY_NAME_LABEL, Packet,
    Plan, Verdict,
};
use svcplane::service::{
    ClusterIps, Ingress, IpMode, Service, ServiceKind, ServicePort, TrafficPolicy,
};
use svcplane::time::Timestamp;

const POD: &str = "10.0.0.2";
const NODE: &str = "192.168.0.2";
const OUTSIDE: &str = "203.0.113.2";
const BLOCKED: &str = "203.0.113.130";

fn node() -> LocalNode {
    let mut node = LocalNode::new("test-node".parse().expect("a name"));
    node.addresses = ["192.168.0.2", "192.168.1.2", "2001:db8::1"].map(ip).to_vec();
    node.pods = LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
    node
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}

fn service(name: &str, cluster_ip: &str) -> Service {
    let mut service = Service::new(ObjectName::new("ns", name).expect("a name"));
    service.cluster_ips = ClusterIps::Assigned(vec![ip(cluster_ip)]);
    service.ports = vec![ServicePort::new(80)];
    service
}

fn ingress(address: &str) -> Ingress {
    let mut ingress = Ingress::default();
    ingress.ip = Some(ip(address));
    ingress
}

/// Addresses with their state, as `10.180.0.1 local ready`.
fn endpoints(service: &Service, list: &[&str]) -> EndpointSet {
    let endpoint = |text: &&str| {
        let mut words = text.split(' ');
        let mut endpoint = Endpoint::new(ip(words.next().expect("an address")));
        endpoint.conditions = Conditions { ready: false, serving: false, terminating: false };
        for word in words {
            match word {
                "local" => endpoint.node = Some("test-node".parse().expect("a name")),
                "remote" => endpoint.node = Some("other".parse().expect("a name")),
                "ready" => (endpoint.conditions.ready, endpoint.conditions.serving) = (true, true),
                "serving" => endpoint.conditions.serving = true,
                "terminating" => endpoint.conditions.terminating = true,
                other => panic!("unknown word {other}"),
            }
        }
        endpoint.ports = service
            .ports
            .iter()
            .map(|port| {
                let mut resolved = EndpointPort::new(port.port);
                (resolved.name, resolved.protocol) = (port.name.clone(), port.protocol);
                resolved
            })
            .collect();
        endpoint
    };
    EndpointSet::new(service.name.clone(), list.iter().map(endpoint))
}

/// The verdict as text: the backends' addresses without port, or a word.
fn outcome(plan: &Plan, protocol: Protocol, source: &str, destination: &str) -> String {
    let destination: SocketAddr = destination.parse().expect("an address with port");
    match plan.route(&Packet::new(protocol, ip(source), destination)) {
        Verdict::Forward(route) => {
            let backends: Vec<_> = route.backends.iter().map(|b| b.addr.ip().to_string()).collect();
            backends.join(" ")
        }
        Verdict::Reject => "REJECT".to_owned(),
        Verdict::Drop => "DROP".to_owned(),
        Verdict::Accept(_) => "ACCEPT".to_owned(),
        Verdict::Pass => "PASS".to_owned(),
    }
}

fn check(what: &str, plan: &Plan, rows: &[(&str, &str, &str)]) {
    for (source, destination, expected) in rows {
        let found = outcome(plan, Protocol::Tcp, source, destination);
        assert_eq!(found, *expected, "{what}: {source} -> {destination}");
    }
}

fn plan_of(service: &Service, list: &[&str]) -> Plan {
    Plan::new(&node(), Mode::Userspace, [(service, &endpoints(service, list))])
}

/// A Service reached in every way there is.
fn everywhere() -> Service {
    let mut service = service("svc1", "172.30.0.41");
    service.kind = ServiceKind::LoadBalancer;
    service.ports[0].node_port = Some(3001);
    service.external_ips = vec![ip("192.168.99.11")];
    service.load_balancer.ingress = vec![ingress("1.2.3.4")];
    service
}

/// Kubernetes `pkg/proxy/iptables/proxier_test.go`, `TestNoEndpointsReject`.
#[test]
fn without_endpoints_everything_is_refused() {
    check(
        "no endpoints",
        &plan_of(&everywhere(), &[]),
        &[
            (POD, "172.30.0.41:80", "REJECT"),
            (OUTSIDE, "192.168.99.11:80", "REJECT"),
            (POD, "192.168.0.2:3001", "REJECT"),
            (OUTSIDE, "192.168.0.2:3001", "REJECT"),
            (POD, "1.2.3.4:80", "REJECT"),
            (OUTSIDE, "1.2.3.4:80", "REJECT"),
            (OUTSIDE, "10.9.9.9:80", "PASS"),
            (OUTSIDE, "192.168.0.2:3002", "PASS"),
            (OUTSIDE, "192.168.0.3:3001", "PASS"),
        ],
    );
}

/// The same, `TestClusterIPGeneral`.
#[test]
fn protocols_and_ports_are_kept_apart() {
    let mut service = service("svc2", "172.30.0.42");
    let port = |name: &str, number: u16, protocol: Protocol| {
        let mut port = ServicePort::new(number);
        (port.name, port.protocol) = (Some(name.parse().expect("a label")), protocol);
        port
    };
    service.ports = vec![
        port("http", 80, Protocol::Tcp),
        port("dns-udp", 53, Protocol::Udp),
        port("dns-tcp", 53, Protocol::Tcp),
        port("dns-sctp", 53, Protocol::Sctp),
    ];
    let plan = plan_of(&service, &["10.180.0.1 local ready", "10.180.2.1 remote ready"]);
    let both = "10.180.0.1 10.180.2.1";
    for (protocol, port, expected) in [
        (Protocol::Tcp, 80, both),
        (Protocol::Tcp, 53, both),
        (Protocol::Udp, 53, both),
        (Protocol::Sctp, 53, both),
        (Protocol::Udp, 80, "PASS"),
        (Protocol::Tcp, 443, "PASS"),
    ] {
        let found = outcome(&plan, protocol, POD, &format!("172.30.0.42:{port}"));
        assert_eq!(found, expected, "{protocol} {port}");
    }
}

/// The same, `TestLoadBalancer`: source ranges bind the load balancer's addresses and nothing else.
#[test]
fn source_ranges() {
    let mut service = everywhere();
    service.load_balancer.ingress = vec![ingress("1.2.3.4"), ingress("5.6.7.8")];
    service.load_balancer.source_ranges =
        ["192.168.0.0/24", "203.0.113.0/25"].map(|net| net.parse().expect("a CIDR")).to_vec();
    check(
        "with ranges",
        &plan_of(&service, &["10.180.0.1 remote ready"]),
        &[
            (POD, "172.30.0.41:80", "10.180.0.1"),
            (OUTSIDE, "192.168.0.2:3001", "10.180.0.1"),
            (BLOCKED, "192.168.0.2:3001", "10.180.0.1"),
            (BLOCKED, "192.168.99.11:80", "10.180.0.1"),
            (OUTSIDE, "1.2.3.4:80", "10.180.0.1"),
            (OUTSIDE, "5.6.7.8:80", "10.180.0.1"),
            (BLOCKED, "1.2.3.4:80", "DROP"),
            (BLOCKED, "5.6.7.8:80", "DROP"),
            (POD, "1.2.3.4:80", "DROP"),
            (NODE, "1.2.3.4:80", "10.180.0.1"),
            ("1.2.3.4", "1.2.3.4:80", "10.180.0.1"),
            ("5.6.7.8", "5.6.7.8:80", "10.180.0.1"),
            ("1.2.3.4", "5.6.7.8:80", "10.180.0.1"),
        ],
    );
}

/// The same, `TestExternalTrafficPolicyLocal` and `TestExternalTrafficPolicyCluster`.
#[test]
fn external_traffic_policy() {
    let list = ["10.180.0.1 remote ready", "10.180.2.1 local ready"];
    let both = "10.180.0.1 10.180.2.1";
    for (policy, outside) in [(TrafficPolicy::Local, "10.180.2.1"), (TrafficPolicy::Cluster, both)]
    {
        let mut service = everywhere();
        service.external_traffic_policy = policy;
        check(
            policy.as_str(),
            &plan_of(&service, &list),
            &[
                (POD, "172.30.0.41:80", both),
                (POD, "192.168.99.11:80", both),
                (OUTSIDE, "192.168.99.11:80", outside),
                (POD, "1.2.3.4:80", both),
                (OUTSIDE, "1.2.3.4:80", outside),
                (POD, "192.168.0.2:3001", both),
                (NODE, "192.168.0.2:3001", both),
                ("127.0.0.1", "127.0.0.1:3001", both),
                (OUTSIDE, "192.168.0.2:3001", outside),
            ],
        );
    }
}

/// The same, `TestInternalTrafficPolicy`.
#[test]
fn internal_traffic_policy() {
    let three = |first: &'static str, second: &'static str| {
        [
            format!("10.0.1.1 {first} ready"),
            format!("10.0.1.2 {second} ready"),
            "10.0.1.3 remote ready".into(),
        ]
    };
    let rows = [
        (TrafficPolicy::Cluster, three("local", "remote"), "10.0.1.1 10.0.1.2 10.0.1.3"),
        (TrafficPolicy::Local, three("local", "remote"), "10.0.1.1"),
        (TrafficPolicy::Local, three("local", "local"), "10.0.1.1 10.0.1.2"),
        (TrafficPolicy::Local, three("remote", "remote"), "DROP"),
    ];
    for (policy, list, expected) in rows {
        let mut service = service("svc1", "172.30.1.1");
        service.internal_traffic_policy = policy;
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        check(policy.as_str(), &plan_of(&service, &list), &[(POD, "172.30.1.1:80", expected)]);
        check("deleted", &plan_of(&service, &[]), &[(POD, "172.30.1.1:80", "REJECT")]);
    }
}

/// The same, `TestTerminatingEndpointsTrafficPolicyLocal`.
#[test]
fn terminating_endpoints_serve_when_nothing_else_does() {
    let rows: &[(&[&str], &str, &str)] = &[
        (
            &[
                "10.0.1.1 local ready",
                "10.0.1.2 local ready",
                "10.0.1.3 local serving terminating",
                "10.0.1.4 local terminating",
                "10.0.1.5 remote ready",
            ],
            "10.0.1.1 10.0.1.2 10.0.1.5",
            "10.0.1.1 10.0.1.2",
        ),
        (
            &[
                "10.0.1.2 local serving terminating",
                "10.0.1.3 local serving terminating",
                "10.0.1.4 local terminating",
                "10.0.1.5 remote ready",
            ],
            "10.0.1.5",
            "10.0.1.2 10.0.1.3",
        ),
        (&["10.0.1.5 remote serving terminating"], "10.0.1.5", "DROP"),
        (&["10.0.1.4 local terminating", "10.0.1.6 local"], "REJECT", "REJECT"),
        (&["10.0.1.6 local serving"], "REJECT", "REJECT"),
        (&[], "REJECT", "REJECT"),
    ];
    for (list, inside, outside) in rows {
        let mut service = everywhere();
        service.external_traffic_policy = TrafficPolicy::Local;
        check(
            &format!("{list:?}"),
            &plan_of(&service, list),
            &[(POD, "172.30.0.41:80", inside), (OUTSIDE, "1.2.3.4:80", outside)],
        );
    }
}

/// `pkg/proxy/util`: which Services no proxy serves, and which addresses of a load balancer.
#[test]
fn passed_over() {
    let list = ["10.0.1.1 local ready"];
    let skip = |change: fn(&mut Service)| {
        let mut service = everywhere();
        change(&mut service);
        plan_of(&service, &list)
    };
    for (what, plan) in [
        ("headless", skip(|s| s.cluster_ips = ClusterIps::Headless)),
        ("no address yet", skip(|s| s.cluster_ips = ClusterIps::Unassigned)),
        ("external name", skip(|s| s.kind = ServiceKind::ExternalName("example.com".into()))),
        ("another proxy's", skip(|s| s.labels = [(PROXY_NAME_LABEL, "")].into_iter().collect())),
        ("DNS's", skip(|s| s.labels = [(HEADLESS_LABEL, "")].into_iter().collect())),
    ] {
        assert!(plan.ports().next().is_none(), "{what}");
        check(what, &plan, &[(POD, "172.30.0.41:80", "PASS"), (POD, "192.168.0.2:3001", "PASS")]);
    }
    let plan = skip(|s| s.load_balancer.ingress[0].mode = IpMode::Proxy);
    check(
        "ipMode Proxy",
        &plan,
        &[(OUTSIDE, "1.2.3.4:80", "PASS"), (POD, "172.30.0.41:80", "10.0.1.1")],
    );
}

/// A dual-stack Service is one of each family.
#[test]
fn families_do_not_mix() {
    let mut service = everywhere();
    service.cluster_ips = ClusterIps::Assigned(vec![ip("172.30.0.41"), ip("fd00:172:30::41")]);
    service.ip_families = vec![IpFamily::V4, IpFamily::V6];
    service.load_balancer.ingress.push(ingress("2001:db8:1::4"));
    let plan = plan_of(&service, &["10.0.1.1 local ready", "fd00:10::1 local ready"]);
    check(
        "dual stack",
        &plan,
        &[
            (OUTSIDE, "172.30.0.41:80", "10.0.1.1"),
            (OUTSIDE, "[fd00:172:30::41]:80", "fd00:10::1"),
            (OUTSIDE, "[2001:db8:1::4]:80", "fd00:10::1"),
            (OUTSIDE, "[::ffff:172.30.0.41]:80", "10.0.1.1"),
        ],
    );
}

/// An address that is the Service's in two ways is one frontend; a Service that is mentioned twice counts once.
#[test]
fn nothing_is_there_twice() {
    let mut service = everywhere();
    service.external_ips = ["1.1.1.1", "2.2.2.2", "1.2.3.4"].map(ip).to_vec();
    service.load_balancer.ingress.push(ingress("1.1.1.1"));
    let set = endpoints(&service, &["10.0.1.1 local ready"]);
    let mut later = service.clone();
    later.cluster_ips = ClusterIps::Assigned(vec![ip("172.30.0.99")]);
    later.created = Some(Timestamp::from_unix(5));
    let plan = Plan::new(&node(), Mode::Userspace, [(&service, &set), (&later, &set)]);
    let addresses: Vec<_> =
        plan.ports().next().expect("a port").frontends.iter().map(|f| (f.ip, f.port)).collect();
    assert_eq!(addresses.len(), addresses.iter().collect::<BTreeSet<_>>().len(), "{addresses:?}");
    check(
        "the known time is the older",
        &plan,
        &[(OUTSIDE, "172.30.0.99:80", "10.0.1.1"), (OUTSIDE, "172.30.0.41:80", "PASS")],
    );
    assert_eq!(plan.conflicts().count(), 0);
}

/// Duplicates of one address count as the one that can do most; the order is that of the text.
#[test]
fn backends_are_unique_and_in_kube_proxys_order() {
    let service = service("svc1", "172.30.0.41");
    let list = [
        "10.1.1.1 local",
        "10.1.1.1 remote ready",
        "10.1.1.11 remote ready",
        "10.2.2.2 remote ready",
    ];
    let plan = plan_of(&service, &list);
    let backends: Vec<String> = plan
        .ports()
        .next()
        .expect("a port")
        .cluster
        .backends
        .iter()
        .map(|b| b.addr.to_string())
        .collect();
    assert_eq!(backends, ["10.1.1.11:80", "10.1.1.1:80", "10.2.2.2:80"]);
}

/// kube-proxy's rule: two Services with one claim, the older has it.
#[test]
fn conflicts_go_to_the_older() {
    let (mut first, mut second) = (everywhere(), everywhere());
    second.name = ObjectName::new("ns", "aaa").expect("a name");
    second.cluster_ips = ClusterIps::Assigned(vec![ip("172.30.0.99")]);
    first.created = Some(Timestamp::from_unix(1));
    for created in [Some(Timestamp::from_unix(2)), None] {
        second.created = created;
        let sets = [
            endpoints(&first, &["10.0.1.1 local ready"]),
            endpoints(&second, &["10.0.1.2 local ready"]),
        ];
        let plan = Plan::new(&node(), Mode::Userspace, [(&second, &sets[1]), (&first, &sets[0])]);
        check(
            "older wins",
            &plan,
            &[
                (OUTSIDE, "1.2.3.4:80", "10.0.1.1"),
                (OUTSIDE, "192.168.0.2:3001", "10.0.1.1"),
                (OUTSIDE, "172.30.0.99:80", "10.0.1.2"),
            ],
        );
        let conflicts: Vec<String> = plan.conflicts().map(ToString::to_string).collect();
        assert_eq!(
            conflicts,
            [
                "IPv4 node port 3001/TCP of ns/aaa belongs to ns/svc1, which comes first",
                "1.2.3.4:80/TCP of ns/aaa belongs to ns/svc1, which comes first",
                "192.168.99.11:80/TCP of ns/aaa belongs to ns/svc1, which comes first",
            ]
        );
    }
    // Equally old: by name.
    second.created = first.created;
    let sets = [
        endpoints(&first, &["10.0.1.1 local ready"]),
        endpoints(&second, &["10.0.1.2 local ready"]),
    ];
    let plan = Plan::new(&node(), Mode::Userspace, [(&first, &sets[0]), (&second, &sets[1])]);
    check("by name", &plan, &[(OUTSIDE, "1.2.3.4:80", "10.0.1.2")]);
}

#[test]
fn node_port_addresses() {
    let mut local = node();
    local.node_port_addresses =
        NodePortAddresses::In(vec!["192.168.1.0/24".parse().expect("a CIDR")]);
    let service = everywhere();
    let set = endpoints(&service, &["10.0.1.1 local ready"]);
    let plan = Plan::new(&local, Mode::Userspace, [(&service, &set)]);
    check(
        "listed",
        &plan,
        &[
            (OUTSIDE, "192.168.1.2:3001", "10.0.1.1"),
            (OUTSIDE, "192.168.0.2:3001", "PASS"),
            ("127.0.0.1", "127.0.0.1:3001", "PASS"),
        ],
    );
}

#[derive(Clone, Debug)]
struct Claimant {
    address: u8,
    node_port: Option<u16>,
    external: Option<u8>,
    created: Option<i64>,
    local: bool,
    endpoints: Vec<(u8, u8)>,
}

fn claimant() -> impl Strategy<Value = Claimant> {
    let endpoint = (0_u8..6, 0_u8..6);
    (
        0_u8..5,
        prop::option::of(3000_u16..3003),
        prop::option::of(0_u8..3),
        prop::option::of(0_i64..3),
        any::<bool>(),
        prop::collection::vec(endpoint, 0..4),
    )
        .prop_map(|(address, node_port, external, created, local, endpoints)| Claimant {
            address,
            node_port,
            external,
            created,
            local,
            endpoints,
        })
}

fn build(i: usize, claimant: &Claimant) -> (Service, EndpointSet) {
    let mut service = service(&format!("s{i}"), &format!("172.30.0.{}", claimant.address));
    service.ports[0].node_port = claimant.node_port;
    let external = claimant.external.map(|n| ip(&format!("172.30.0.{n}")));
    service.external_ips = external.into_iter().collect();
    service.created = claimant.created.map(Timestamp::from_unix);
    if claimant.local {
        service.external_traffic_policy = TrafficPolicy::Local;
    }
    let states = [
        "ready",
        "serving terminating",
        "terminating",
        "",
        "local ready",
        "local serving terminating",
    ];
    let list: Vec<String> = claimant
        .endpoints
        .iter()
        .map(|(n, state)| format!("10.0.1.{n} {}", states[usize::from(*state)]).trim().to_owned())
        .collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let set = endpoints(&service, &list);
    (service, set)
}

proptest! {
    /// The inputs' order changes nothing; every claim is met once or listed as a conflict; what is forwarded has
    /// backends; and routing agrees with a scan over the frontends.
    #[test]
    fn plans_keep_their_promises(
        claimants in prop::collection::vec(claimant(), 0..6),
        rotation in 0_usize..6,
    ) {
        let mut services: Vec<_> = claimants.iter().enumerate().map(|(i, c)| build(i, c)).collect();
        let of = |services: &[(Service, EndpointSet)]| Plan::new(&node(), Mode::Userspace, services.iter().map(|(s, e)| (s, e)));
        let plan = of(&services);
        let count = services.len().max(1);
        services.rotate_left(rotation % count);
        services.reverse();
        prop_assert_eq!(&of(&services), &plan);

        let mut claimed = BTreeSet::new();
        for port in plan.ports() {
            for frontend in &port.frontends {
                prop_assert!(claimed.insert((port.family, frontend.ip, frontend.port)), "{frontend:?} twice");
            }
        }
        for conflict in plan.conflicts() {
            prop_assert!(claimed.contains(&(conflict.family, conflict.ip, conflict.port)), "nobody has {conflict}");
        }
        for (source, n, port) in (0..5).flat_map(|n| [(POD, n, 80), (OUTSIDE, n, 80)]) {
            let destination = SocketAddr::new(ip(&format!("172.30.0.{n}")), port);
            let scanned = plan
                .ports()
                .find(|p| p.frontends.iter().any(|f| f.ip == Some(destination.ip()) && f.port == port));
            match (plan.route(&Packet::new(Protocol::Tcp, ip(source), destination)), scanned) {
                (Verdict::Pass, None) | (Verdict::Reject | Verdict::Drop, Some(_)) => {}
                (Verdict::Forward(route), Some(port)) => {
                    prop_assert_eq!(&route.port.name, &port.name);
                    prop_assert!(!route.backends.is_empty());
                    let local = route.policy == TrafficPolicy::Local;
                    let kind = port.frontends.iter().find(|f| f.ip == Some(destination.ip()));
                    let external = kind.is_some_and(|f| f.kind == FrontendKind::ExternalIp);
                    prop_assert!(!local || (source == OUTSIDE && external));
                }
                (verdict, scanned) => prop_assert!(false, "{verdict:?} for {scanned:?}"),
            }
        }
    }
}
