//! What becomes of packets: in the scenarios of `tests/data/flows/`, and in random clusters as the plan says.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::sample::select;
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::name::ObjectName;
use svcplane::net::Protocol;
use svcplane::plan::{LocalNode, Mode, Packet, Plan};
use svcplane::service::{ClusterIps, Ingress, Service, ServiceKind, ServicePort};

use crate::ends::{End, Host, cluster, may_stay, packets, scenarios, words};

use super::{configs, loaded, planned};

#[test]
fn scenarios_have_the_expected_ends() {
    let (mut compared, mut forwarded) = (0, 0);
    for (name, flows) in scenarios() {
        let plan = flows.plan(Mode::Nftables);
        let host = Host::new(&flows.node);
        for config in configs() {
            let rules = loaded(&plan, &config);
            for (what, packet, expected) in flows.packets(Mode::Nftables) {
                let ends = rules.ends(config.table.as_str(), &host, &packet, 0);
                let got = words(&ends);
                let (layout, affinity) = (config.layout, config.affinity);
                assert_eq!(got, expected, "{name}: {layout:?}, {affinity:?}: {what}: {packet}");
                compared += 1;
                forwarded += usize::from(got.contains(':'));
            }
        }
    }
    assert!(compared >= 3 * 400 && forwarded >= 3 * 200, "{compared}, {forwarded} forwarded");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_route_is_the_plans(
        cluster in cluster(Mode::Nftables),
        packets in packets(150),
        bit in select(vec![0_u8, 14, 31]),
    ) {
        let plan = cluster.plan();
        let host = Host::new(&cluster.node);
        for mut config in configs() {
            config.masquerade_bit = bit;
            let rules = loaded(&plan, &config);
            for packet in packets.iter().filter(|packet| !may_stay(&plan, packet)) {
                let ends = rules.ends(config.table.as_str(), &host, packet, 0);
                let expected = planned(&plan, packet);
                let hashed = config.affinity;
                prop_assert_eq!(
                    ends, expected, "{:?} {:?}: {}: {}\n{}", config.layout, hashed, packet,
                    plan.explain(packet), svcplane::nftables::compile(&plan, &config)
                );
            }
        }
    }
}

/// An endpoint may be where another Service refuses everybody: at a node port or a virtual address without endpoints, at an address
/// that only some may call, in the service CIDR.
#[test]
fn what_is_translated_is_not_refused_for_where_it_goes() {
    let mut node = LocalNode::new("here".parse().expect("a name"));
    node.addresses = vec![[192, 168, 0, 2].into()];
    node.service_cidrs = vec!["10.96.0.0/12".parse().expect("a CIDR")];
    let service = |name: &str, number: u8| {
        let mut service = Service::new(ObjectName::new("ns", name).expect("a name"));
        service.kind = ServiceKind::LoadBalancer;
        service.cluster_ips = ClusterIps::Assigned(vec![[10, 96, 0, number].into()]);
        service.ports = vec![ServicePort::new(80)];
        service
    };
    let mut refused = service("refused", 1);
    refused.ports[0].node_port = Some(30_080);
    refused.external_ips = vec![[192, 168, 0, 2].into(), [192, 0, 2, 1].into()];
    let mut closed = service("closed", 2);
    closed.ports[0] = ServicePort::new(81);
    let mut ingress = Ingress::default();
    ingress.ip = Some([192, 168, 0, 2].into());
    closed.load_balancer.ingress = vec![ingress];
    closed.load_balancer.source_ranges = vec!["203.0.113.0/24".parse().expect("a CIDR")];
    let called = service("called", 3);
    let endpoints = |service: &Service, addrs: &[&str]| {
        let endpoints = addrs.iter().map(|addr| {
            let addr: SocketAddr = addr.parse().expect("an address");
            let mut endpoint = Endpoint::new(addr.ip());
            endpoint.ports = [EndpointPort::new(addr.port())].into();
            endpoint
        });
        EndpointSet::new(service.name.clone(), endpoints)
    };
    let elsewhere = endpoints(&closed, &["10.0.0.1:80"]);
    let nothing = endpoints(&refused, &[]);
    let there = ["192.168.0.2:80", "192.168.0.2:81", "192.168.0.2:30080", "192.0.2.1:80"];
    let there = [&there[..], &["10.96.0.9:80", "10.96.0.1:7"]].concat();
    let all = endpoints(&called, &there);
    let served = [(&refused, &nothing), (&closed, &elsewhere), (&called, &all)];
    let plan = Plan::new(&node, Mode::Nftables, served);
    let addrs: BTreeSet<SocketAddr> =
        there.iter().map(|addr| addr.parse().expect("an address")).collect();
    for config in configs() {
        let rules = loaded(&plan, &config);
        let ends = |source: [u8; 4], destination: &str| {
            let destination = destination.parse().expect("an address");
            let packet = Packet::new(Protocol::Tcp, source.into(), destination);
            rules.ends(config.table.as_str(), &Host::new(&node), &packet, 0)
        };
        for source in [[192, 168, 0, 2], [10, 0, 0, 7]] {
            let found = ends(source, "10.96.0.3:80");
            let found: BTreeSet<_> = found
                .iter()
                .map(|end| match end {
                    End::Backend(addr, _) => *addr,
                    other => panic!("{other:?} from {source:?}"),
                })
                .collect();
            assert_eq!(found, addrs);
            for there in ["192.168.0.2:80", "192.168.0.2:30080", "192.0.2.1:80"] {
                assert_eq!(ends(source, there), [End::Reject].into(), "{there}");
            }
            assert_eq!(ends(source, "192.168.0.2:81"), [End::Drop].into());
            assert_eq!(ends(source, "10.96.0.9:80"), [End::Drop].into());
        }
    }
}
