//! What a load balancer's health checks are told.

use svcplane::endpoints::EndpointSet;
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{HealthAnswer, LocalNode, Mode, Packet, Plan, Verdict};
use svcplane::service::{ClusterIps, Service, ServiceKind, ServicePort, TrafficPolicy};
use svcplane::time::Timestamp;

use super::{check, endpoints, everywhere, ip, node};

const CHECK: u16 = 30000;

fn checked() -> Service {
    let mut service = everywhere();
    service.external_traffic_policy = TrafficPolicy::Local;
    service.health_check_node_port = Some(CHECK);
    service
}

fn counts(node: &LocalNode, service: &Service, list: &[&str]) -> Vec<(IpFamily, usize)> {
    let plan = Plan::new(node, Mode::Iptables, [(service, &endpoints(service, list))]);
    let health = plan.health(&service.name).expect("it has a health check");
    assert_eq!((&health.service, health.port), (&service.name, CHECK));
    health.local_endpoints.clone()
}

/// kube-proxy's `TestHealthCheckNodePortWhenTerminating`, and its `healthcheck` package: distinct addresses on this node that are ready.
#[test]
fn ready_addresses_on_the_node_are_counted() {
    let mut service = checked();
    let mut second = ServicePort::new(81);
    second.name = Some("second".parse().expect("a label"));
    service.ports.push(second);
    let rows: &[(&[&str], usize)] = &[
        (&[], 0),
        (&["10.0.0.1 local ready", "10.0.0.2 local ready", "10.0.0.3 remote ready"], 2),
        (&["10.0.0.1 local serving terminating", "10.0.0.2 local serving", "10.0.0.3 local"], 0),
        (&["10.0.0.1 local ready", "10.0.0.2 local serving terminating"], 1),
        (&["10.0.0.1 ready"], 0),
    ];
    for (list, expected) in rows {
        assert_eq!(counts(&node(), &service, list), [(IpFamily::V4, *expected)], "{list:?}");
    }
    service.cluster_ips = ClusterIps::Assigned(vec![ip("fd00:172:30::41"), ip("172.30.0.41")]);
    service.ip_families = vec![IpFamily::V6, IpFamily::V4];
    let list = ["10.0.0.1 local ready", "fd00:10::1 local ready", "fd00:10::2 local ready"];
    assert_eq!(counts(&node(), &service, &list), [(IpFamily::V4, 1), (IpFamily::V6, 2)]);
}

/// An endpoint that only one port of two has is counted all the same.
#[test]
fn addresses_of_any_port_are_counted() {
    let mut service = checked();
    let mut second = ServicePort::new(81);
    second.name = Some("second".parse().expect("a label"));
    service.ports.push(second);
    let set = endpoints(&service, &["10.0.0.1 local ready", "10.0.0.2 local ready"]);
    let one_each = set.endpoints().zip([0, 1]).map(|(endpoint, n)| {
        let mut endpoint = endpoint.clone();
        endpoint.ports = [endpoint.ports[n].clone()].into();
        endpoint
    });
    let set = EndpointSet::new(service.name.clone(), one_each);
    let plan = Plan::new(&node(), Mode::Iptables, [(&service, &set)]);
    let health = plan.health(&service.name).expect("it has a health check");
    assert_eq!(health.local_endpoints, [(IpFamily::V4, 2)]);
}

/// kube-proxy's `healthcheck` package: the status, the headers and the body.
#[test]
fn an_answer_is_what_load_balancers_know() {
    let service = checked();
    let rows: &[(&[&str], IpFamily, bool, u16, u64)] = &[
        (&["10.0.0.1 local ready"], IpFamily::V4, true, 200, 1),
        (&["10.0.0.1 local ready"], IpFamily::V4, false, 503, 1),
        (&["10.0.0.1 local ready"], IpFamily::V6, true, 503, 0),
        (&["10.0.0.1 remote ready"], IpFamily::V4, true, 503, 0),
    ];
    for (list, family, proxy_healthy, status, count) in rows {
        let plan = Plan::new(&node(), Mode::Nftables, [(&service, &endpoints(&service, list))]);
        let answer =
            plan.health(&service.name).expect("a health check").answer(*family, *proxy_healthy);
        assert_eq!(answer.status, *status, "{list:?} {family} {proxy_healthy}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&answer.body).expect("JSON"),
            serde_json::json!({
                "service": {"namespace": "ns", "name": "svc1"},
                "localEndpoints": count,
                "serviceProxyHealthy": proxy_healthy,
            })
        );
    }
    assert_eq!(
        HealthAnswer::HEADERS,
        [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")]
    );
}

/// Kubernetes, `NeedsHealthCheck`: type LoadBalancer and the external policy Local.
#[test]
fn only_local_load_balancers_are_checked() {
    for (kind, policy, expected) in [
        (ServiceKind::LoadBalancer, TrafficPolicy::Local, true),
        (ServiceKind::LoadBalancer, TrafficPolicy::Cluster, false),
        (ServiceKind::NodePort, TrafficPolicy::Local, false),
        (ServiceKind::ClusterIp, TrafficPolicy::Local, false),
    ] {
        let mut service = checked();
        (service.kind, service.external_traffic_policy) = (kind.clone(), policy);
        let plan = Plan::new(&node(), Mode::Iptables, [(&service, &endpoints(&service, &[]))]);
        assert_eq!(plan.health(&service.name).is_some(), expected, "{kind} {policy:?}");
        let accepted = if expected { "ACCEPT" } else { "PASS" };
        check("check", &plan, &[("203.0.113.2", "192.168.0.2:30000", accepted)]);
        assert_eq!(plan.warnings().count(), usize::from(!expected), "{kind} {policy:?}");
    }
}

/// The port is claimed like a node port: the older Service has it, family by family.
#[test]
fn an_older_node_port_takes_the_health_check() {
    let mut service = checked();
    service.cluster_ips = ClusterIps::Assigned(vec![ip("172.30.0.41"), ip("fd00:172:30::41")]);
    service.ip_families = vec![IpFamily::V4, IpFamily::V6];
    let mut other = super::service("other", "172.30.0.42");
    other.ports[0].node_port = Some(CHECK);
    let list = ["10.0.0.1 local ready", "fd00:10::1 local ready"];
    let plan = |other: &Service| {
        let sets = [endpoints(&service, &list), endpoints(other, &["10.0.0.9 remote ready"])];
        Plan::new(&node(), Mode::Iptables, [(&service, &sets[0]), (other, &sets[1])])
    };
    let verdict = |plan: &Plan, to: &str| {
        let to = to.parse().expect("an address with port");
        match plan.route(&Packet::new(Protocol::Tcp, ip("203.0.113.2"), to)) {
            Verdict::Accept(health) => health.service.name().to_owned(),
            Verdict::Forward(route) => route.port.name.to_string(),
            verdict => verdict.to_string(),
        }
    };
    let conflicts = |plan: &Plan| plan.conflicts().map(ToString::to_string).collect::<Vec<_>>();
    let (v4, v6) = ("192.168.0.2:30000", "[2001:db8::1]:30000");

    other.created = Some(Timestamp::from_unix(1));
    let older = plan(&other);
    assert_eq!([verdict(&older, v4), verdict(&older, v6)], ["ns/other", "svc1"]);
    let conflict = "IPv4 node port 30000/TCP of ns/svc1 belongs to ns/other, which comes first";
    assert_eq!(conflicts(&older), [conflict]);
    let health = older.health(&service.name).expect("over the other family");
    assert_eq!(health.local_endpoints, [(IpFamily::V6, 1)]);
    assert_eq!(health.answer(IpFamily::V4, true).status, 503);

    other.cluster_ips = ClusterIps::Assigned(vec![ip("172.30.0.42"), ip("fd00:172:30::42")]);
    other.ip_families = vec![IpFamily::V4, IpFamily::V6];
    let both = plan(&other);
    assert_eq!(both.health(&service.name), None);
    assert_eq!(conflicts(&both).len(), 2);

    other.created = None;
    other.name = ObjectName::new("ns", "zzz").expect("a name");
    let younger = plan(&other);
    assert_eq!([verdict(&younger, v4), verdict(&younger, v6)], ["svc1", "svc1"]);
    let conflict = "IPv4 node port 30000/TCP of ns/zzz belongs to ns/svc1, which comes first";
    assert_eq!(conflicts(&younger)[0], conflict);
}
