//! Many frontends whose addresses, transports and ports have digits in common, so that the tree is deep: it grows and
//! shrinks as they come and go, and deltas follow.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::iptables::{self, Config};
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{LocalNode, Mode, Packet, Plan};
use svcplane::service::{ClusterIps, Service, ServiceKind, ServicePort, TrafficPolicy};

use crate::ends::{Host, may_stay};

use super::{loaded, planned};

const NODE_IPS: [&str; 2] = ["192.168.0.2", "2001:db8::2"];

fn node() -> LocalNode {
    let mut node = LocalNode::new("here".parse().expect("a name"));
    node.addresses = NODE_IPS.map(|ip| ip.parse().expect("an address")).into();
    node
}

/// What a Service has to itself: an address with a port, a node port, a health check.
#[derive(Clone, Debug)]
struct Item {
    /// The digits of its address that are not those of all.
    digits: [u8; 3],
    protocol: Protocol,
    port: u16,
    node_port: Option<u16>,
    health: Option<u16>,
    has_endpoints: bool,
}

fn item() -> impl Strategy<Value = Item> {
    let digit = || select(vec![0_u8, 1, 7, 0xf]);
    let protocol = select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let port = prop_oneof![80_u16..84, select(vec![443, 0x1000, 0xffff, 8080, 8081])];
    let node_port = prop_oneof![30_000_u16..30_040, 32_000_u16..32_767];
    (
        [digit(), digit(), digit()],
        protocol,
        port,
        prop::option::of(node_port),
        prop::option::weighted(0.3, 31_000_u16..31_060),
        any::<bool>(),
    )
        .prop_map(|(digits, protocol, port, node_port, health, has_endpoints)| Item {
            digits,
            protocol,
            port,
            node_port,
            health,
            has_endpoints,
        })
}

impl Item {
    fn served(&self, n: usize, family: IpFamily) -> (Service, EndpointSet) {
        let mut service = Service::new(format!("ns/s{n}").parse().expect("a name"));
        let [a, b, c] = self.digits;
        let ip: IpAddr = match family {
            IpFamily::V4 => Ipv4Addr::new(10, 96, a, b << 4 | c).into(),
            IpFamily::V6 => {
                let [a, b, c] = [a, b, c].map(u16::from);
                Ipv6Addr::new(0xfd00, a << 12, 0, 0, 0, b, 0, c).into()
            }
        };
        service.cluster_ips = ClusterIps::Assigned(vec![ip]);
        service.kind = ServiceKind::LoadBalancer;
        service.external_traffic_policy = match self.health {
            Some(_) => TrafficPolicy::Local,
            None => TrafficPolicy::Cluster,
        };
        service.health_check_node_port = self.health;
        let mut port = ServicePort::new(self.port);
        (port.protocol, port.node_port) = (self.protocol, self.node_port);
        service.ports = vec![port];
        let endpoint: IpAddr = match family {
            IpFamily::V4 => [10, 0, 0, 1].into(),
            IpFamily::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1).into(),
        };
        let endpoint = self.has_endpoints.then(|| {
            let mut endpoint = Endpoint::new(endpoint);
            let mut port = EndpointPort::new(8080);
            port.protocol = self.protocol;
            endpoint.ports = [port].into();
            endpoint
        });
        (service.clone(), EndpointSet::new(service.name, endpoint))
    }
}

/// With those of some items that are there.
fn plan(items: &[Item], there: &BTreeSet<usize>, family: IpFamily) -> Plan {
    let served: Vec<_> = there.iter().map(|&n| items[n].served(n, family)).collect();
    Plan::new(&node(), Mode::Iptables, served.iter().map(|(service, set)| (service, set)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn trees_grow_and_shrink(
        items in prop::collection::vec(item(), 20..120),
        steps in prop::collection::vec(prop::collection::vec(any::<Index>(), 1..12), 1..10),
        family in select(vec![IpFamily::V4, IpFamily::V6]),
        full in any::<bool>(),
    ) {
        let (config, host) = (Config::default(), Host::new(&node()));
        let mut there: BTreeSet<usize> = (0..items.len()).filter(|n| full || n % 5 == 0).collect();
        let mut before = plan(&items, &there, family);
        let mut tables = loaded(&before, family, &config);
        for step in steps {
            for index in step {
                // Not only one: also its neighbours in the list, so that leaves fill and empty.
                let first = index.index(items.len());
                for n in first..(first + 5).min(items.len()) {
                    if !there.remove(&n) {
                        there.insert(n);
                    }
                }
            }
            let after = plan(&items, &there, family);
            let changes = Plan::diff(&before, &after);
            let input = iptables::delta(&after, &changes, family, &config);
            tables.apply(&input).map_err(|e| TestCaseError::fail(format!("{e}\n{input}")))?;
            let whole = loaded(&after, family, &config);
            prop_assert_eq!(tables.own(), whole.own(), "after\n{}", input);
            let node_ip = node().primary_address(family).expect("one of each family");
            for (n, item) in items.iter().enumerate() {
                let (service, _) = item.served(n, family);
                let at_ip = SocketAddr::new(service.cluster_ips.as_slice()[0], item.port);
                let at_node = [item.node_port, item.health].into_iter().flatten();
                let at_node = at_node.map(|port| SocketAddr::new(node_ip, port));
                for to in at_node.chain([at_ip]) {
                    let source = if family == IpFamily::V4 { "192.0.2.1" } else { "2600::1" };
                    let source = source.parse().expect("an address");
                    let packet = Packet::new(item.protocol, source, to);
                    if !may_stay(&after, &packet) {
                        let ends = tables.ends(&host, &packet);
                        prop_assert_eq!(ends, planned(&after, &packet), "{}", packet);
                    }
                }
            }
            before = after;
        }
    }
}
