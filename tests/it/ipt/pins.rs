//! Clients that keep to their endpoints, as kube-proxy's rules have it: each endpoint has a list of its clients, asked
//! in the endpoints' order before any is drawn; each connection puts the client into the list of where it goes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::iptables::{Config, delta, replace};
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{LocalDetector, LocalNode, Mode, Packet, Plan, Verdict};
use svcplane::rules::endpoint_hash;
use svcplane::service::{ClusterIps, Ingress, Service, ServiceKind, ServicePort, TrafficPolicy};

use crate::ends::{End, Host};

use super::tables::Tables;
use super::walk::ROOM;
use super::{configs, loaded};

/// Cluster IP, external IP, load balancer's, node port.
const WAYS: [&str; 4] = ["10.96.0.1:80", "192.0.2.1:80", "192.0.2.2:80", "192.168.0.2:30080"];

fn node() -> LocalNode {
    let mut node = LocalNode::new("here".parse().expect("a name"));
    node.addresses = vec!["192.168.0.2".parse().expect("an address")];
    node.pods = LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
    node
}

/// Endpoints 10.0.0.n, the even ones on this node.
fn plan(external: TrafficPolicy, timeout: Option<u64>, endpoints: &[u8]) -> Plan {
    let mut service = Service::new("ns/sticky".parse().expect("a name"));
    service.kind = ServiceKind::LoadBalancer;
    service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.1".parse().expect("an address")]);
    let mut port = ServicePort::new(80);
    port.node_port = Some(30_080);
    service.ports = vec![port];
    service.external_ips = vec!["192.0.2.1".parse().expect("an address")];
    let mut ingress = Ingress::default();
    ingress.ip = Some("192.0.2.2".parse().expect("an address"));
    service.load_balancer.ingress = vec![ingress];
    service.external_traffic_policy = external;
    service.client_ip_affinity = timeout.map(Duration::from_secs);
    let endpoints = endpoints.iter().map(|n| {
        let mut endpoint = Endpoint::new([10, 0, 0, *n].into());
        endpoint.ports = [EndpointPort::new(8080)].into();
        let on = if n % 2 == 0 { "here" } else { "there" };
        endpoint.node = Some(on.parse().expect("a name"));
        endpoint
    });
    let set = EndpointSet::new(service.name.clone(), endpoints);
    Plan::new(&node(), Mode::Iptables, [(&service, &set)])
}

struct World {
    config: Config,
    plan: Plan,
    tables: Tables,
    now: u64,
    /// For drawing.
    state: u32,
}

impl World {
    fn new(config: Config, plan: Plan) -> Self {
        let tables = loaded(&plan, IpFamily::V4, &config);
        Self { config, plan, tables, now: 1000, state: 1 }
    }

    fn becomes(&mut self, plan: Plan) {
        let input = delta(&plan, &Plan::diff(&self.plan, &plan), IpFamily::V4, &self.config);
        self.tables.apply(&input).unwrap_or_else(|error| panic!("{error}\n{input}"));
        self.plan = plan;
    }

    fn packet(client: &str, way: &str) -> Packet {
        let source: IpAddr = client.parse().expect("an address");
        Packet::new(Protocol::Tcp, source, way.parse().expect("an address"))
    }

    /// The last number of the endpoint's address; `None` if it is refused.
    fn connect(&mut self, client: &str, way: &str) -> Option<u8> {
        let state = &mut self.state;
        let draw = |of: u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *state >> 1 < of
        };
        let (host, packet) = (Host::new(&node()), Self::packet(client, way));
        let branch = self.tables.connect(&host, &packet, self.now, draw);
        match branch.end {
            End::Backend(SocketAddr::V4(addr), _) => Some(addr.ip().octets()[3]),
            End::Reject | End::Drop => None,
            end => panic!("{packet}: {end:?}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Connect {
        client: &'static str,
        way: &'static str,
    },
    Wait(u64),
    Endpoints(Vec<u8>),
    /// With affinity from now on, or without.
    Affinity(bool),
    /// All rules anew, over what is there.
    Full,
}

const CLIENTS: [&str; 6] =
    ["203.0.113.1", "203.0.113.2", "203.0.113.3", "10.9.9.9", "10.9.9.8", "192.168.0.2"];

fn op() -> impl Strategy<Value = Op> {
    let endpoints = subsequence((1..=6).collect::<Vec<u8>>(), 0..=6);
    let connect = (select(&CLIENTS[..]), select(&WAYS[..]));
    prop_oneof![
        12 => connect.prop_map(|(client, way)| Op::Connect { client, way }),
        3 => select(vec![1_u64, 9, 10, 11, 99, 100, 101]).prop_map(Op::Wait),
        2 => endpoints.prop_map(Op::Endpoints),
        1 => any::<bool>().prop_map(Op::Affinity),
        1 => Just(Op::Full),
    ]
}

/// When each endpoint was called by whom for the last time.
type Seen = BTreeMap<(SocketAddr, &'static str), u64>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn clients_keep_to_their_endpoints(
        ops in prop::collection::vec(op(), 1..80),
        external in select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]),
        seconds in select(vec![10, 100]),
    ) {
        for config in configs() {
            let mut endpoints: Vec<u8> = vec![1, 2, 3, 4, 5];
            let mut timeout = Some(seconds);
            let mut world = World::new(config.clone(), plan(external, timeout, &endpoints));
            let mut seen = Seen::new();
            for op in &ops {
                match op {
                    Op::Wait(seconds) => world.now += seconds,
                    Op::Endpoints(some) => endpoints.clone_from(some),
                    Op::Affinity(wanted) => timeout = wanted.then_some(seconds),
                    Op::Full => {
                        let saved = world.tables.saved();
                        let input = replace(&world.plan, IpFamily::V4, &config, &saved);
                        world.tables.apply(&input).map_err(TestCaseError::fail)?;
                    }
                    Op::Connect { client, way } => {
                        let found = world.connect(client, way);
                        let plan = world.plan.clone();
                        let Verdict::Forward(route) = plan.route(&World::packet(client, way)) else {
                            prop_assert_eq!(found, None);
                            continue;
                        };
                        let found = SocketAddr::from(([10, 0, 0, found.expect("forwarded")], 8080));
                        let since = timeout.map(|timeout| world.now.saturating_sub(timeout));
                        let pinned = route.backends.iter().find(|backend| {
                            let at = seen.get(&(backend.addr, *client));
                            at.is_some_and(|at| since.is_some_and(|since| *at >= since))
                        });
                        match pinned {
                            Some(backend) => prop_assert_eq!(backend.addr, found, "{:?}", op),
                            None => prop_assert!(route.backends.iter().any(|b| b.addr == found)),
                        }
                        if timeout.is_some() {
                            seen.insert((found, *client), world.now);
                        }
                    }
                }
                world.becomes(plan(external, timeout, &endpoints));
                // What no rule names is forgotten.
                let named = world.plan.ports().flat_map(|port| {
                    let used = port.cluster.backends.iter().chain(&port.local.backends);
                    used.filter(|_| timeout.is_some()).map(|backend| backend.addr)
                });
                let named: Vec<SocketAddr> = named.collect();
                seen.retain(|(addr, _), _| named.contains(addr));
            }
        }
    }
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("203.0.{}.{}", n / 200, n % 200)).collect()
}

#[test]
fn only_clients_of_an_endpoint_that_is_gone_move() {
    for config in configs() {
        let with = |endpoints: &[u8]| plan(TrafficPolicy::Cluster, Some(100), endpoints);
        let mut world = World::new(config.clone(), with(&[1, 2, 3]));
        let ask = |world: &mut World| -> Vec<u8> {
            let clients = many(60);
            let ends = clients.iter().enumerate().map(|(n, c)| world.connect(c, WAYS[n % 4]));
            ends.map(|end| end.expect("forwarded")).collect()
        };
        let first = ask(&mut world);
        assert!((1..=3).all(|n| first.contains(&n)), "{first:?}");
        world.becomes(with(&[2, 4]));
        let then = ask(&mut world);
        let kept = first.iter().zip(&then).filter(|(old, _)| **old == 2);
        assert!(kept.clone().count() > 5 && kept.clone().all(|(_, new)| *new == 2));
        assert!(then.contains(&4));
        world.becomes(with(&[1, 2, 3, 4]));
        assert_eq!(ask(&mut world), then, "nobody goes back");
    }
}

/// Who was seen least recently makes room, and gets through nevertheless.
#[test]
fn a_full_list_forgets_the_oldest() {
    for config in configs() {
        let plan = plan(TrafficPolicy::Cluster, Some(10_000), &[1, 2]);
        let hash = |n: u8| {
            let addr = SocketAddr::from(([10, 0, 0, n], 8080));
            let port = plan.ports().next().expect("a port");
            format!("{}-SEP-{}", config.prefix, endpoint_hash(&port.name, addr))
        };
        let mut world = World::new(config.clone(), plan.clone());
        let clients = many(3 * ROOM);
        for client in &clients {
            world.now += 1;
            world.connect(client, WAYS[0]).expect("forwarded");
        }
        let lists = [1, 2].map(|n| world.tables.recent[&hash(n)].clone());
        assert_eq!(lists.each_ref().map(Vec::len), [ROOM; 2]);
        for (n, list) in (1_u8..).zip(&lists) {
            let order: Vec<usize> = list
                .iter()
                .map(|(ip, _)| clients.iter().position(|c| *c == ip.to_string()).expect("one"))
                .collect();
            assert!(order.is_sorted(), "the latest are kept: {order:?}");
            for (client, _) in list {
                assert_eq!(world.connect(&client.to_string(), WAYS[1]), Some(n));
            }
        }
    }
}
