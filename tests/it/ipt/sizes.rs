//! How many rules a packet is compared with, and how much is written for a change, as Services become more.

use std::net::{IpAddr, SocketAddr};

use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::iptables::{Layout, delta};
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{LocalNode, Mode, Packet, Plan};
use svcplane::service::{ClusterIps, Ingress, Service, ServiceKind, ServicePort};

use crate::ends::{End, Host};

use super::rule::State;
use super::{configs, loaded, planned};

fn node() -> LocalNode {
    let mut node = LocalNode::new("here".parse().expect("a name"));
    node.addresses = vec![[192, 168, 0, 2].into()];
    node
}

/// One of many: every fourth has a node port and an address elsewhere, every eighth no endpoints. Their cluster IPs are
/// one after the other, or anywhere in 10.96.0.0/12.
fn served(n: u32, spread: bool, endpoints: u8) -> (Service, EndpointSet) {
    let mut service = Service::new(format!("ns/s{n}").parse().expect("a name"));
    let at = if spread { n.wrapping_mul(0x9e37_79b1) >> 12 } else { n };
    service.cluster_ips = ClusterIps::Assigned(vec![ip(0x0a60_0000 + at)]);
    let mut port = ServicePort::new(80);
    if n % 4 == 0 {
        service.kind = ServiceKind::LoadBalancer;
        port.node_port = Some(30_000 + u16::try_from(n / 4).expect("few"));
        let mut ingress = Ingress::default();
        ingress.ip = Some(ip(0xc612_0000 + n));
        service.load_balancer.ingress = vec![ingress];
    }
    service.ports = vec![port];
    let endpoints = (0..if n % 8 == 0 { 0 } else { endpoints }).map(|e| {
        let mut endpoint = Endpoint::new(ip(0x0a00_0000 + (n << 4) + u32::from(e)));
        endpoint.ports = [EndpointPort::new(8080)].into();
        endpoint
    });
    let set = EndpointSet::new(service.name.clone(), endpoints);
    (service, set)
}

fn ip(bits: u32) -> IpAddr {
    bits.to_be_bytes().into()
}

fn plan(all: &[(Service, EndpointSet)]) -> Plan {
    Plan::new(&node(), Mode::Iptables, all.iter().map(|(service, set)| (service, set)))
}

fn many(count: u32, spread: bool) -> Vec<(Service, EndpointSet)> {
    (0..count).map(|n| served(n, spread, 3)).collect()
}

const MANY: u32 = 5_000;

/// The tree has at most 16 rules on each of the levels that the number of Services asks for, and as many in a leaf; the
/// rest is the same for all, and drawing an endpoint.
#[test]
fn packets_are_compared_with_few_rules() {
    let host = Host::new(&node());
    for spread in [false, true] {
        let plan = plan(&many(MANY, spread));
        for config in configs() {
            let tables = loaded(&plan, IpFamily::V4, &config);
            let (mut most, mut all, mut count) = (0, 0, 0);
            let mut compare = |to: SocketAddr, forwards: Option<bool>| {
                let packet = Packet::new(Protocol::Tcp, [192, 0, 2, 1].into(), to);
                let branches = tables.branches(&host, &packet, State::New, 0);
                let ends = branches.iter().map(|branch| branch.end).collect();
                assert_eq!(planned(&plan, &packet), ends, "{packet}");
                let forwarded = branches.iter().any(|b| matches!(b.end, End::Backend(..)));
                assert!(forwards.is_none_or(|forwards| forwarded == forwards), "{packet}");
                for branch in branches {
                    most = most.max(branch.compared);
                    all += branch.compared;
                    count += 1;
                }
            };
            let step = if config.layout == Layout::Tree { 1 } else { 151 };
            for port in plan.ports().step_by(step) {
                let has_endpoints = Some(!port.cluster.backends.is_empty());
                for frontend in &port.frontends {
                    let at = frontend.ip.unwrap_or_else(|| ip(0xc0a8_0002));
                    compare(SocketAddr::new(at, frontend.port), has_endpoints);
                }
            }
            // Of no Service: somewhere else, and near by.
            for n in (0..200).step_by(step) {
                compare(SocketAddr::new(ip(n << 24 | 5), 443), None);
                compare(SocketAddr::new(ip(0x0a60_0000 + n * 7 + 6_000), 443), None);
                compare(
                    SocketAddr::new(ip(0xc0a8_0002), 31_300 + u16::try_from(n).expect("few")),
                    None,
                );
            }
            let mean = all / count;
            println!(
                "{:?}, spread {spread}: {most} rules at most, {mean} on average",
                config.layout
            );
            match config.layout {
                Layout::Tree => assert!(most <= 80 && mean <= 45, "{most} at most, {mean}"),
                _ => assert!(most > 5_000 && mean > 1_000, "{most} at most, {mean}"),
            }
        }
    }
}

/// How many lines it takes from one to the other.
fn lines(before: &Plan, after: &Plan, layout: Layout) -> usize {
    let mut config = configs()[0].clone();
    config.layout = layout;
    delta(after, &Plan::diff(before, after), IpFamily::V4, &config).lines().count()
}

#[test]
fn a_change_of_endpoints_is_as_long_however_many_services_there_are() {
    for layout in [Layout::Linear, Layout::Tree] {
        let lengths = [100, MANY].map(|count| {
            let mut all = many(count, false);
            let before = plan(&all);
            all[55] = served(55, false, 4);
            lines(&before, &plan(&all), layout)
        });
        assert_eq!(lengths[0], lengths[1], "{layout:?}");
        // Declared and filled: the chain that draws, and the one that is new; and what is around that.
        assert!((8..=12).contains(&lengths[0]), "{layout:?}: {}", lengths[0]);
    }
}

#[test]
fn a_service_comes_and_goes_in_as_few_lines_however_many_there_are() {
    let longest = |count: u32, spread: bool, layout: Layout| {
        let mut all = many(count, spread);
        let whole = plan(&all);
        let picks = (0..count).step_by(usize::try_from(count / 20).expect("few"));
        let lengths = picks.map(|n| {
            let gone = all.remove(n as usize);
            let without = plan(&all);
            all.insert(n as usize, gone);
            lines(&whole, &without, layout).max(lines(&without, &whole, layout))
        });
        lengths.max().expect("there are some")
    };
    for spread in [false, true] {
        let [few, many] = [100, MANY].map(|count| longest(count, spread, Layout::Tree));
        println!("spread {spread}: {few} lines at most of 100 Services, {many} of {MANY}");
        assert!(few <= 64 && many <= 64, "{few} of 100, {many} of {MANY}");
    }
    // Of the first Services that there are, one more or less writes all of them anew.
    assert!(longest(500, false, Layout::Linear) > 500);
}
