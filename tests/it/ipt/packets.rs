//! What becomes of packets: in the scenarios of `tests/data/flows/`, and in random clusters as the plan says.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{LocalDetector, LocalNode, Mode, Packet, Plan, Verdict};
use svcplane::rules::endpoint_hash;
use svcplane::service::{ClusterIps, Service, ServicePort};

use crate::ends::{End, Host, cluster, may_stay, of_one_family, packets, scenarios, words};

use super::rule::State;
use super::{Loaded, configs, loaded, planned};

#[test]
fn scenarios_have_the_expected_ends() {
    let (mut compared, mut forwarded) = (0, 0);
    for (name, flows) in scenarios() {
        let plan = flows.plan(Mode::Iptables);
        let host = Host::new(&flows.node);
        for config in configs() {
            let rules = Loaded::new(&plan, &config);
            for (what, packet, expected) in flows.packets(Mode::Iptables) {
                let got = words(&rules.of(&packet).ends(&host, &packet));
                assert_eq!(got, expected, "{name}: {config:?}: {what}: {packet}");
                compared += 1;
                forwarded += usize::from(got.contains(':'));
            }
        }
    }
    let least = configs().len() * 400;
    assert!(compared >= least && forwarded >= least / 2, "{compared}, {forwarded} forwarded");
}

/// What belongs to a connection is let through, what belongs to none is not, and whoever is masqueraded is let through
/// by its mark.
#[test]
fn what_is_forwarded_is_told_by_its_state() {
    let mut node = LocalNode::new("here".parse().expect("a name"));
    node.addresses = vec![[192, 168, 0, 2].into()];
    node.pods = LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
    let mut service = Service::new("ns/a".parse().expect("a name"));
    service.cluster_ips = ClusterIps::Assigned(vec![[10, 96, 0, 1].into()]);
    service.ports = vec![ServicePort::new(80), ServicePort::new(81)];
    service.ports[1].name = Some("b".parse().expect("a label"));
    let mut endpoint = Endpoint::new([10, 0, 0, 1].into());
    endpoint.ports = [EndpointPort::new(8080)].into();
    let set = EndpointSet::new(service.name.clone(), [endpoint]);
    let itself = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut other = Service::new("ns/b".parse().expect("a name"));
    other.cluster_ips = ClusterIps::Assigned(vec![[10, 96, 0, 2].into()]);
    other.ports = vec![ServicePort::new(80)];
    let mut endpoint = Endpoint::new(itself.ip());
    endpoint.ports = [EndpointPort::new(8080)].into();
    let others = EndpointSet::new(other.name.clone(), [endpoint]);
    let plan = Plan::new(&node, Mode::Iptables, [(&service, &set), (&other, &others)]);
    for (mut config, drops) in configs().into_iter().flat_map(|c| [(c.clone(), true), (c, false)]) {
        config.drop_invalid = drops;
        let mut tables = loaded(&plan, IpFamily::V4, &config);
        tables.apply("*filter\n-A FORWARD -j DROP\nCOMMIT\n").expect("a firewall");
        let end = |source: [u8; 4], destination: &str, state| {
            let destination = destination.parse().expect("an address");
            let packet = Packet::new(Protocol::Tcp, source.into(), destination);
            let branches = tables.branches(&Host::new(&node), &packet, state, 0);
            assert_eq!(branches.len(), 1);
            branches[0].end
        };
        let (pod, other) = ([10, 0, 0, 9], [203, 0, 113, 2]);
        let invalid = if drops { End::Drop } else { End::Pass };
        // To another machine; to this one, where nothing is dropped.
        assert_eq!(end(pod, "203.0.113.9:80", State::New), End::Drop);
        assert_eq!(end(pod, "203.0.113.9:80", State::Established), End::Pass);
        assert_eq!(end(pod, "203.0.113.9:80", State::Related), End::Pass);
        assert_eq!(end(pod, "203.0.113.9:80", State::Invalid), End::Drop);
        assert_eq!(end(pod, "192.168.0.2:80", State::Invalid), End::Pass);
        assert_eq!(end(pod, "10.96.0.1:80", State::New), End::Drop, "by the firewall");
        let there = SocketAddr::from(([10, 0, 0, 1], 8080));
        assert_eq!(end(other, "10.96.0.1:80", State::New), End::Backend(there, true));
        assert_eq!(end(other, "10.96.0.1:81", State::New), End::Reject);
        assert_eq!(end(other, "10.96.0.1:81", State::Established), End::Pass);
        // Loopback addresses, which other machines may not call; what the node said to them is answered.
        assert_eq!(end(other, "127.0.0.1:9", State::New), End::Drop);
        assert_eq!(end(other, "127.0.0.1:9", State::Invalid), End::Drop);
        assert_eq!(end(other, "127.0.0.1:9", State::Established), End::Pass);
        assert_eq!(end([127, 0, 0, 1], "127.0.0.1:9", State::New), End::Pass);
        // But for those that a Service sends there.
        assert_eq!(end(other, "10.96.0.2:80", State::New), End::Backend(itself, true));
        tables.apply("*filter\n-D FORWARD -j DROP\nCOMMIT\n").expect("it is there");
        let packet = Packet::new(Protocol::Tcp, pod.into(), SocketAddr::from((other, 80)));
        let branches = tables.branches(&Host::new(&node), &packet, State::Invalid, 0);
        assert_eq!(branches[0].end, invalid);
    }
}

/// Where something may happen: frontends, node ports at every address around, endpoints, and what is next to these.
fn aims(plan: &Plan) -> Vec<(Protocol, SocketAddr)> {
    let around = ["127.0.0.1", "127.9.9.9", "::1", "192.0.2.99", "2001:db8:99::99"];
    let around = around.map(|ip| ip.parse::<IpAddr>().expect("an address"));
    let node = plan.node();
    let at_node: Vec<IpAddr> =
        node.addresses.iter().chain(&node.local_addresses).copied().chain(around).collect();
    let mut aims = BTreeSet::new();
    for port in plan.ports() {
        let own = port.frontends.iter().flat_map(|frontend| match frontend.ip {
            Some(ip) => vec![SocketAddr::new(ip, frontend.port)],
            None => at_node.iter().map(|ip| SocketAddr::new(*ip, frontend.port)).collect(),
        });
        let backends = port.cluster.backends.iter().chain(&port.local.backends);
        let addrs: Vec<SocketAddr> = own.chain(backends.map(|backend| backend.addr)).collect();
        aims.extend(addrs.iter().map(|addr| (port.name.protocol, *addr)));
        for addr in addrs {
            aims.insert((other(port.name.protocol), addr));
            for number in [addr.port() - 1, addr.port() + 1] {
                aims.insert((port.name.protocol, SocketAddr::new(addr.ip(), number)));
            }
            let beside = next(addr.ip());
            aims.insert((port.name.protocol, SocketAddr::new(beside, addr.port())));
        }
    }
    for health in plan.services().filter_map(|service| service.health.as_ref()) {
        aims.extend(at_node.iter().map(|ip| (Protocol::Tcp, SocketAddr::new(*ip, health.port))));
    }
    aims.into_iter().collect()
}

const fn other(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Tcp => Protocol::Udp,
        _ => Protocol::Tcp,
    }
}

fn next(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::from((u32::from(v4) ^ 1).to_be_bytes()),
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) ^ 1).to_be_bytes()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_route_is_the_plans(
        cluster in cluster(Mode::Iptables),
        packets in packets(200),
        picks in prop::collection::vec(any::<Index>(), 200),
        bits in select(vec![(0_u8, 15_u8), (14, 15), (14, 0), (31, 31)]),
    ) {
        let plan = cluster.plan();
        let host = Host::new(&cluster.node);
        let aims = aims(&plan);
        let aimed = packets.iter().zip(&picks).filter(|_| !aims.is_empty()).map(|(packet, pick)| {
            let mut packet = *packet;
            (packet.protocol, packet.destination) = *pick.get(&aims);
            packet
        });
        let packets = packets.iter().copied().chain(aimed.filter(of_one_family));
        let packets: Vec<Packet> = packets.filter(|packet| !may_stay(&plan, packet)).collect();
        for mut config in configs() {
            (config.masquerade_bit, config.refuse_bit) = bits;
            let rules = Loaded::new(&plan, &config);
            for packet in &packets {
                let tables = rules.of(packet);
                let branches = tables.branches(&host, packet, State::New, 0);
                let ends: BTreeSet<End> = branches.iter().map(|branch| branch.end).collect();
                let input = || svcplane::iptables::compile(&plan, tables.family, &config);
                prop_assert_eq!(
                    ends, planned(&plan, packet), "{:?}: {}: {}\n{}", config.layout, packet,
                    plan.explain(packet), input()
                );
                for branch in branches {
                    let lists = match (branch.end, plan.route(packet)) {
                        (End::Backend(addr, _), Verdict::Forward(route)) => {
                            let hash = endpoint_hash(&route.port.name, addr);
                            let sticky = route.port.client_ip_affinity.is_some();
                            sticky.then(|| format!("{}-SEP-{hash}", config.prefix))
                        }
                        _ => None,
                    };
                    prop_assert_eq!(branch.remembered, Vec::from_iter(lists), "{}", packet);
                }
            }
        }
    }
}
