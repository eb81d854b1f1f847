//! What a plan ignores, and what annotations ask for.

use svcplane::endpoints::{EndpointSet, Reference};
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::plan::{Mode, Plan, SCHEDULER_ANNOTATION, WEIGHTS_ANNOTATION, WarningKind};
use svcplane::sched::Algorithm;
use svcplane::service::{ClusterIps, Service, TrafficPolicy};

use super::{endpoints, everywhere, ingress, ip, node};

fn annotated(key: &str, text: &str) -> Service {
    let mut service = everywhere();
    service.annotations = [(key, text)].into_iter().collect();
    service
}

fn texts(service: &Service) -> Vec<String> {
    super::plan_of(service, &["10.0.0.1 local ready"]).warnings().map(ToString::to_string).collect()
}

/// `svcplane::plan::WarningKind`: every kind in words, and that nothing else is said.
#[test]
fn every_warning_says_what_is_ignored_and_why() {
    let changed = |change: &dyn Fn(&mut Service)| {
        let mut service = everywhere();
        change(&mut service);
        texts(&service)
    };
    let ranges =
        |texts: &[&str]| texts.iter().map(|t| t.parse().expect("a CIDR")).collect::<Vec<_>>();
    let rows = [
        (changed(&|_| {}), ""),
        (
            changed(&|s| s.external_ips.push(ip("2001:db8::9"))),
            "external IP 2001:db8::9 is ignored: the Service has no IPv6 cluster IP",
        ),
        (
            changed(&|s| s.load_balancer.ingress.push(ingress("2001:db8::9"))),
            "load balancer IP 2001:db8::9 is ignored: the Service has no IPv6 cluster IP",
        ),
        (
            changed(&|s| s.load_balancer.source_ranges = ranges(&["10.0.0.0/8", "2001:db8::/32"])),
            "source range 2001:db8::/32 is ignored: the load balancer has no IPv6 address",
        ),
        (
            changed(&|s| s.load_balancer.source_ranges = ranges(&["2001:db8::/32"])),
            "source range 2001:db8::/32 is ignored: the load balancer has no IPv6 address\n\
             none of the source ranges is IPv4: everybody may connect over IPv4",
        ),
        (
            changed(&|s| {
                s.load_balancer.ingress.clear();
                s.load_balancer.source_ranges = ranges(&["2001:db8::/32", "10.0.0.0/8"]);
            }),
            "",
        ),
        (
            changed(&|s| s.health_check_node_port = Some(30000)),
            "health-check node port 30000 is ignored: expected type LoadBalancer and externalTrafficPolicy Local",
        ),
        (
            texts(&annotated(SCHEDULER_ANNOTATION, "least")),
            "annotation svcplane/scheduler is ignored: \"least\": unknown scheduling algorithm: \
             expected rr, wrr, lc, wlc, sh, dh, mh, sed, nq, random, wrandom or p2c",
        ),
        (
            texts(&annotated(WEIGHTS_ANNOTATION, "redis-0")),
            "item \"redis-0\" of annotation svcplane/weights is ignored: expected NAME=WEIGHT or ADDRESS=WEIGHT \
             with a weight from 1 to 65535, each once",
        ),
    ];
    for (found, expected) in rows {
        let expected: Vec<String> =
            expected.lines().map(|line| format!("ns/svc1: {line}")).collect();
        assert_eq!(found, expected);
    }
}

/// The same: hints that one endpoint disables, by the port's name.
#[test]
fn hints_that_one_endpoint_disables_are_told() {
    for (name, of) in [(None, ""), (Some("web"), " of port web")] {
        let mut service = everywhere();
        service.ports[0].name = name.map(|name| name.parse().expect("a label"));
        let list = ["10.0.0.1 local ready", "10.0.0.2 remote ready", "10.0.0.3 remote"];
        let with_hints = |hinted: &[&str]| {
            let set = endpoints(&service, &list);
            let all = set.endpoints().map(|endpoint| {
                let mut endpoint = endpoint.clone();
                if hinted.contains(&&*endpoint.ip.to_string()) {
                    endpoint.hints.zones = vec!["a".into()];
                }
                endpoint
            });
            let set = EndpointSet::new(service.name.clone(), all);
            let plan = Plan::new(&node(), Mode::Userspace, [(&service, &set)]);
            plan.warnings().map(ToString::to_string).collect::<Vec<_>>()
        };
        let expected =
            format!("ns/svc1: topology hints{of} are ignored: the endpoint 10.0.0.2 has none");
        assert_eq!(with_hints(&["10.0.0.1"]), [expected]);
        // All have hints, none has, or only one that does not count.
        for hinted in [&["10.0.0.1", "10.0.0.2"][..], &[], &["10.0.0.3"]] {
            assert!(with_hints(hinted).is_empty(), "{hinted:?}");
        }
    }
}

/// A dual-stack Service: what is of either family is in its place, and each family has ranges or not.
#[test]
fn of_a_dual_stack_service_a_family_may_be_unrestricted() {
    let mut service = everywhere();
    service.cluster_ips = ClusterIps::Assigned(vec![ip("172.30.0.41"), ip("fd00:172:30::41")]);
    service.ip_families = vec![IpFamily::V4, IpFamily::V6];
    service.load_balancer.ingress.push(ingress("2001:db8::9"));
    service.load_balancer.source_ranges = vec!["10.0.0.0/8".parse().expect("a CIDR")];
    let plan = super::plan_of(&service, &[]);
    let kinds: Vec<&WarningKind> = plan.warnings().map(|warning| &warning.kind).collect();
    assert_eq!(kinds, [&WarningKind::Unrestricted(IpFamily::V6)]);
}

/// `svcplane/scheduler`: an algorithm by its kernel name, of every port.
#[test]
fn a_service_may_ask_for_a_scheduler() {
    for (text, expected) in [
        ("lc", Some(Algorithm::LeastConnection)),
        (" mh\n", Some(Algorithm::MaglevHashing)),
        ("LC", None),
        ("", None),
    ] {
        let service = annotated(SCHEDULER_ANNOTATION, text);
        let plan = super::plan_of(&service, &["10.0.0.1 local ready"]);
        assert_eq!(plan.ports().next().expect("a port").scheduler, expected, "{text:?}");
        assert_eq!(plan.warnings().count(), usize::from(expected.is_none()), "{text:?}");
    }
}

/// `svcplane/weights`: by the object's name, else by address; of two for one the first counts, what is no weight is told.
#[test]
fn endpoints_have_the_weights_of_the_annotation() {
    // The endpoints are redis-0 at 10.0.0.1, redis-1 at 10.0.0.2 and 10.0.0.3 of no object; then the same over IPv6.
    let rows: &[(&str, [u32; 3], &[&str])] = &[
        ("", [1, 1, 1], &[]),
        ("redis-0=3", [3, 1, 1], &[]),
        ("10.0.0.3=2, fd00:10::3=2", [1, 1, 2], &[]),
        ("redis-0=3, 10.0.0.1=2, fd00:10::1=2", [3, 1, 1], &[]),
        ("10.0.0.1=2,redis-0=3,fd00:10:0::1=2", [3, 1, 1], &[]),
        (" redis-0 = 65535 ,, redis-1=1,", [65535, 1, 1], &[]),
        ("redis-0=3,redis-0=4", [3, 1, 1], &["redis-0=4"]),
        (
            "10.0.0.3=5,010.0.0.3=6,fd00:10::3=5,fd00:10::0:3=6",
            [1, 1, 5],
            &["010.0.0.3=6", "fd00:10::0:3=6"],
        ),
        ("redis-0=0,redis-1=7", [1, 7, 1], &["redis-0=0"]),
        ("redis-0=65536", [1, 1, 1], &["redis-0=65536"]),
        (
            "redis-0=-1,redis-1,=4,redis-1=x",
            [1, 1, 1],
            &["=4", "redis-0=-1", "redis-1", "redis-1=x"],
        ),
        ("nobody=9,10.9.9.9=9", [1, 1, 1], &[]),
    ];
    for (text, expected, ignored) in rows {
        let mut service = annotated(WEIGHTS_ANNOTATION, text);
        service.cluster_ips = ClusterIps::Assigned(vec![ip("172.30.0.41"), ip("fd00:172:30::41")]);
        service.ip_families = vec![IpFamily::V4, IpFamily::V6];
        service.internal_traffic_policy = TrafficPolicy::Local;
        let list =
            ["10.0.0.", "fd00:10::"].map(|net| [1, 2, 3].map(|n| format!("{net}{n} local ready")));
        let list: Vec<&str> = list.iter().flatten().map(String::as_str).collect();
        let set = endpoints(&service, &list);
        let all = set.endpoints().map(|endpoint| {
            let mut endpoint = endpoint.clone();
            let name = match endpoint.ip.to_string().chars().last() {
                Some('1') => "redis-0",
                Some('2') => "redis-1",
                _ => return endpoint,
            };
            let name = ObjectName::new("ns", name).expect("a name");
            endpoint.target = Some(Reference::new("Pod", &name, ""));
            endpoint
        });
        let set = EndpointSet::new(service.name.clone(), all);
        let plan = Plan::new(&node(), Mode::Userspace, [(&service, &set)]);
        for port in plan.ports() {
            for targets in [&port.cluster, &port.local] {
                let weights: Vec<u32> = targets.backends.iter().map(|b| b.weight).collect();
                assert_eq!(weights, expected, "{text:?} {}", port.family);
            }
        }
        let warnings: Vec<WarningKind> = plan.warnings().map(|w| w.kind.clone()).collect();
        let ignored: Vec<WarningKind> =
            ignored.iter().map(|item| WarningKind::Weight((*item).into())).collect();
        assert_eq!(warnings, ignored, "{text:?}");
    }
}
