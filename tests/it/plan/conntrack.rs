//! Which entries of connection tracking are stale.

use svcplane::endpoints::EndpointSet;
use svcplane::net::Protocol::{self, Sctp, Tcp, Udp};
use svcplane::plan::{ConntrackFlow, Mode, NodePortAddresses, Plan};
use svcplane::service::{Service, TrafficPolicy};

use super::{endpoints, everywhere, node};

fn dns() -> Service {
    let mut service = everywhere();
    service.ports[0].protocol = Udp;
    service
}

fn is_stale(plan: &Plan, protocol: Protocol, destination: &str, answers: &str) -> bool {
    let parse = |text: &str| text.parse().expect("an address with port");
    let flow = ConntrackFlow::new(protocol, parse(destination), parse(answers));
    let stale: Vec<_> = plan.stale_flows([flow]).collect();
    assert!(stale.is_empty() || stale == [flow]);
    !stale.is_empty()
}

/// kube-proxy's `CleanStaleEntries` (`pkg/proxy/conntrack/cleanup.go`), with the differences that
/// `Plan::stale_flows` states.
#[test]
fn a_flow_is_stale_if_nothing_that_serves_answers() {
    let mut node = node();
    node.service_cidrs = vec!["172.30.0.0/16".parse().expect("a CIDR")];
    let states = [
        "10.0.0.1 local ready",
        "10.0.0.2 remote ready",
        "10.0.0.3 remote serving",
        "10.0.0.4 remote serving terminating",
        "10.0.0.5 remote terminating",
        "10.0.0.6 remote",
    ];
    let rows: &[(&str, Protocol, &str, &str, bool)] = &[
        ("ready", Udp, "172.30.0.41:80", "10.0.0.1:80", false),
        ("serves, not ready", Udp, "172.30.0.41:80", "10.0.0.3:80", false),
        ("serves while it goes", Udp, "172.30.0.41:80", "10.0.0.4:80", false),
        ("goes and does not serve", Udp, "172.30.0.41:80", "10.0.0.5:80", true),
        ("does not serve", Udp, "172.30.0.41:80", "10.0.0.6:80", true),
        ("gone", Udp, "172.30.0.41:80", "10.0.0.9:80", true),
        ("another port of it", Udp, "172.30.0.41:80", "10.0.0.1:81", true),
        ("not translated", Udp, "172.30.0.41:80", "172.30.0.41:80", true),
        ("external IP", Udp, "192.168.99.11:80", "10.0.0.1:80", false),
        ("external IP, gone", Udp, "192.168.99.11:80", "10.0.0.9:80", true),
        ("load balancer", Udp, "1.2.3.4:80", "10.0.0.1:80", false),
        ("load balancer, gone", Udp, "1.2.3.4:80", "10.0.0.9:80", true),
        ("node port", Udp, "192.168.0.2:3001", "10.0.0.1:80", false),
        ("node port, gone", Udp, "192.168.0.2:3001", "10.0.0.9:80", true),
        ("its number, at another node", Udp, "192.168.0.3:3001", "10.0.0.9:80", false),
        (
            "its number, at an address that takes none",
            Udp,
            "192.168.1.2:3001",
            "10.0.0.9:80",
            false,
        ),
        ("TCP", Tcp, "172.30.0.41:80", "10.0.0.9:80", false),
        ("SCTP", Sctp, "172.30.0.41:80", "10.0.0.9:80", false),
        (
            "the endpoint not on the node, whatever the policies",
            Udp,
            "1.2.3.4:80",
            "10.0.0.2:80",
            false,
        ),
        ("nobody's any more", Udp, "172.30.0.99:80", "10.0.0.1:80", true),
        ("nobody's port any more", Udp, "172.30.0.41:81", "10.0.0.1:80", true),
        ("nobody's, not translated", Udp, "172.30.0.99:80", "172.30.0.99:80", false),
        ("nobody's, TCP", Tcp, "172.30.0.99:80", "10.0.0.1:80", false),
        ("elsewhere", Udp, "5.6.7.8:80", "10.0.0.1:80", false),
        ("ready, as IPv6 has it", Udp, "[::ffff:172.30.0.41]:80", "[::ffff:10.0.0.1]:80", false),
        ("gone, as IPv6 has it", Udp, "[::ffff:172.30.0.41]:80", "10.0.0.9:80", true),
        ("not translated, as IPv6 has it", Udp, "[::ffff:172.30.0.99]:80", "172.30.0.99:80", false),
        ("nobody's, as IPv6 has it", Udp, "[::ffff:172.30.0.99]:80", "10.0.0.1:80", true),
    ];
    node.node_port_addresses =
        NodePortAddresses::In(vec!["192.168.0.0/24".parse().expect("a CIDR")]);
    for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
        let mut service = dns();
        (service.internal_traffic_policy, service.external_traffic_policy) = (policy, policy);
        for &mode in Mode::ALL {
            let plan = Plan::new(&node, mode, [(&service, &endpoints(&service, &states))]);
            for (what, protocol, destination, answers, expected) in rows {
                let found = is_stale(&plan, *protocol, destination, answers);
                assert_eq!(found, *expected, "{mode}: {policy:?}: {what}");
            }
        }
    }
}

/// `DIFFERENCE`: kube-proxy leaves the clients of a Service without endpoints where they are.
#[test]
fn without_endpoints_all_flows_are_stale() {
    let service = dns();
    for list in [&[][..], &["10.0.0.1 local terminating"]] {
        let plan = super::plan_of(&service, list);
        for destination in ["172.30.0.41:80", "1.2.3.4:80", "192.168.0.2:3001"] {
            assert!(is_stale(&plan, Udp, destination, "10.0.0.1:80"), "{list:?}: {destination}");
        }
    }
    // Of a Service that is no more nothing is known but that the service CIDRs are for none else.
    let plan = Plan::empty(node(), Mode::Userspace);
    assert!(!is_stale(&plan, Udp, "172.30.0.41:80", "10.0.0.1:80"));
}

/// What is published whatever its state is ready and may not serve: `DIFFERENCE`, kube-proxy takes clients away that it would send there again.
#[test]
fn what_is_ready_keeps_its_flows_though_it_does_not_serve() {
    let service = dns();
    let set = endpoints(&service, &["10.0.0.1 local ready"]);
    let published = set.endpoints().map(|endpoint| {
        let mut endpoint = endpoint.clone();
        endpoint.conditions.serving = false;
        endpoint
    });
    let set = EndpointSet::new(service.name.clone(), published);
    let plan = Plan::new(&node(), Mode::Userspace, [(&service, &set)]);
    assert!(!is_stale(&plan, Udp, "172.30.0.41:80", "10.0.0.1:80"));
    assert!(is_stale(&plan, Udp, "172.30.0.41:80", "10.0.0.2:80"));
}

/// All that are stale are told, in order.
#[test]
fn flows_are_told_in_order() {
    let service = dns();
    let plan = super::plan_of(&service, &["10.0.0.1 local ready"]);
    let to = "172.30.0.41:80".parse().expect("an address with port");
    let flows: Vec<ConntrackFlow> =
        [9, 1, 8].map(|n| ConntrackFlow::new(Udp, to, ([10, 0, 0, n], 80).into())).to_vec();
    assert_eq!(plan.stale_flows(flows.clone()).collect::<Vec<_>>(), [flows[0], flows[2]]);
}
