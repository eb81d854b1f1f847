//! Clients that keep to their endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::net::Protocol;
use svcplane::nftables::{self, Config, Layout};
use svcplane::plan::{LocalNode, Mode, Packet, Plan};
use svcplane::service::{ClusterIps, Ingress, Service, ServiceKind, ServicePort, TrafficPolicy};

use crate::ends::{End, Host};

use super::config;
use super::ruleset::Ruleset;

const TIMEOUT: u64 = 100;
/// Cluster IP, external IP, load balancer's, node port.
const WAYS: [&str; 4] = ["10.96.0.1:80", "192.0.2.1:80", "192.0.2.2:80", "192.168.0.2:30080"];

struct World {
    config: Config,
    host: Host,
    external: TrafficPolicy,
    plan: Plan,
    rules: Ruleset,
    now: u64,
    /// For drawing; the walk is the same whatever is drawn, but for where new clients go.
    state: u32,
}

fn node() -> LocalNode {
    let mut node = LocalNode::new("here".parse().expect("a name"));
    node.addresses = vec!["192.168.0.2".parse().expect("an address")];
    node.pods = svcplane::plan::LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
    node
}

/// Endpoints 10.0.0.n, the even ones on this node.
fn plan(external: TrafficPolicy, timeout: u64, endpoints: &[u8]) -> Plan {
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
    service.client_ip_affinity = Some(Duration::from_secs(timeout));
    let endpoints = endpoints.iter().map(|n| {
        let mut endpoint = Endpoint::new([10, 0, 0, *n].into());
        endpoint.ports = [EndpointPort::new(8080)].into();
        let on = if n % 2 == 0 { "here" } else { "there" };
        endpoint.node = Some(on.parse().expect("a name"));
        endpoint
    });
    let set = EndpointSet::new(service.name.clone(), endpoints);
    Plan::new(&node(), Mode::Nftables, [(&service, &set)])
}

impl World {
    fn new(layout: Layout, external: TrafficPolicy, clients: u32, endpoints: &[u8]) -> Self {
        let mut config = config(layout, <_>::default());
        config.clients = clients;
        let plan = plan(external, TIMEOUT, endpoints);
        let rules = super::loaded(&plan, &config);
        Self { config, host: Host::new(&node()), external, plan, rules, now: 1000, state: 1 }
    }

    /// Through a delta, and a sweep of what it leaves.
    fn endpoints(&mut self, endpoints: &[u8]) {
        self.becomes(plan(self.external, TIMEOUT, endpoints));
    }

    fn becomes(&mut self, plan: Plan) {
        let delta = nftables::delta(&plan, &Plan::diff(&self.plan, &plan), &self.config);
        self.rules.apply(&delta.script).expect("a delta");
        let sweep = nftables::sweep(&plan, &self.config, &delta.leftovers);
        self.rules.apply(&sweep).expect("a sweep");
        self.plan = plan;
    }

    /// The last number of the endpoint's address.
    fn connect(&mut self, client: &str, way: &str) -> u8 {
        let destination: SocketAddr = way.parse().expect("an address");
        let source: IpAddr = client.parse().expect("an address");
        let packet = Packet::new(Protocol::Tcp, source, destination);
        let state = &mut self.state;
        let draw = |of: u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 8) % of
        };
        let table = self.config.table.as_str();
        let end = self.rules.connect(table, &self.host, &packet, self.now, draw);
        let End::Backend(SocketAddr::V4(addr), _) = end else { panic!("{packet}: {end:?}") };
        addr.ip().octets()[3]
    }
}

const LAYOUTS: [Layout; 2] = [Layout::Flat, Layout::Chains];
const OUTSIDE: [&str; 3] = ["203.0.113.2", "203.0.113.3", "203.0.113.4"];

fn many() -> Vec<String> {
    (1..=40).map(|n| format!("203.0.113.{n}")).collect()
}

#[test]
fn clients_keep_to_their_endpoint_however_they_come() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, TrafficPolicy::Cluster, 100, &[1, 2, 3, 4, 5]);
        let mut first = BTreeMap::new();
        for (n, client) in many().iter().enumerate() {
            first.insert(client.clone(), world.connect(client, WAYS[n % 4]));
        }
        assert_eq!(first.values().collect::<BTreeSet<_>>().len(), 5, "all are drawn");
        for _ in 0..3 {
            for way in WAYS {
                for (client, endpoint) in &first {
                    assert_eq!(world.connect(client, way), *endpoint, "{layout:?} {client} {way}");
                }
                world.now += TIMEOUT / 4;
            }
        }
    }
}

#[test]
fn a_timeout_starts_again_with_each_connection() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, TrafficPolicy::Cluster, 100, &[1, 2, 3, 4, 5]);
        let first = many().iter().map(|c| world.connect(c, WAYS[0])).collect::<Vec<_>>();
        for _ in 0..5 {
            world.now += TIMEOUT - 1;
            assert_eq!(many().iter().map(|c| world.connect(c, WAYS[1])).collect::<Vec<_>>(), first);
        }
        world.now += TIMEOUT;
        let again = many().iter().map(|c| world.connect(c, WAYS[0])).collect::<Vec<_>>();
        assert_ne!(again, first, "{layout:?}: drawn anew");
        world.now += TIMEOUT - 1;
        assert_eq!(many().iter().map(|c| world.connect(c, WAYS[3])).collect::<Vec<_>>(), again);
    }
}

#[test]
fn only_clients_of_an_endpoint_that_is_gone_move() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, TrafficPolicy::Cluster, 100, &[1, 2, 3]);
        let ask = |world: &mut World| -> Vec<u8> {
            many().iter().enumerate().map(|(n, c)| world.connect(c, WAYS[n % 4])).collect()
        };
        let first = ask(&mut world);
        world.endpoints(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(ask(&mut world), first, "{layout:?}: newcomers");
        world.endpoints(&[2, 4, 6, 7]);
        let then = ask(&mut world);
        for (old, new) in first.iter().zip(&then) {
            assert!(if *old == 2 { *new == 2 } else { [2, 4, 6, 7].contains(new) }, "{layout:?}");
        }
        assert_eq!(then.iter().collect::<BTreeSet<_>>().len(), 4, "drawn anew");
        assert_eq!(ask(&mut world), then, "{layout:?}: and kept");
        // Those that found it gone do not go back.
        world.endpoints(&[1, 2, 3, 4, 6, 7]);
        assert_eq!(ask(&mut world), then, "{layout:?}");
    }
}

#[test]
fn another_timeout_counts_from_then_on() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, TrafficPolicy::Cluster, 100, &[1, 2, 3, 4, 5]);
        world.connect(OUTSIDE[0], WAYS[0]);
        world.becomes(plan(TrafficPolicy::Cluster, 5, &[1, 2, 3, 4, 5]));
        let first = many().iter().map(|c| world.connect(c, WAYS[0])).collect::<Vec<_>>();
        world.now += 4;
        assert_eq!(many().iter().map(|c| world.connect(c, WAYS[0])).collect::<Vec<_>>(), first);
        world.now += 5;
        assert_ne!(many().iter().map(|c| world.connect(c, WAYS[0])).collect::<Vec<_>>(), first);
    }
}

#[test]
fn who_finds_no_room_gets_through() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, TrafficPolicy::Cluster, 2, &[1, 2, 3, 4]);
        let first = many().iter().map(|c| world.connect(c, WAYS[0])).collect::<Vec<_>>();
        // The first of all has its place.
        assert_eq!(world.connect(&many()[0], WAYS[1]), first[0], "{layout:?}");
        let held: usize = world
            .rules
            .tables
            .values()
            .flat_map(|table| table.sets.values())
            .filter(|set| set.spec.dynamic)
            .map(|set| set.elements.len())
            .sum();
        assert_eq!(held, if layout == Layout::Flat { 2 } else { 8 });
        // Room that is there again is taken.
        world.now += TIMEOUT;
        let later = world.connect("203.0.113.200", WAYS[2]);
        assert_eq!(world.connect("203.0.113.200", WAYS[0]), later);
    }
}

/// Under the external policy Local, who comes from outside gets an endpoint of this node even if pinned to another.
#[test]
fn outside_clients_stay_on_the_node() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, TrafficPolicy::Local, 100, &[1, 2, 3, 4, 5]);
        let mut elsewhere = 0;
        for client in many() {
            let inside = world.connect(&client, WAYS[0]);
            elsewhere += usize::from(inside % 2 == 1);
            let outside = world.connect(&client, WAYS[1]);
            assert_eq!(outside % 2, 0, "{layout:?}");
            for way in &WAYS[1..] {
                assert_eq!(world.connect(&client, way), outside, "{layout:?}");
            }
            if inside % 2 == 0 {
                assert_eq!(inside, outside, "{layout:?}: it is pinned here");
            }
        }
        assert!(elsewhere > 5);
        // Pods go where they would through the cluster IP.
        let pod = world.connect("10.9.9.9", WAYS[0]);
        for way in WAYS {
            assert_eq!(world.connect("10.9.9.9", way), pod, "{layout:?}");
        }
    }
}

#[test]
fn nothing_is_remembered_where_the_address_decides() {
    let mut config = config(Layout::Flat, nftables::ClientAffinity::Hashed);
    config.clients = 1;
    let rules = super::loaded(&plan(TrafficPolicy::Cluster, TIMEOUT, &[1, 2, 3]), &config);
    let sets = rules.tables.values().flat_map(|table| table.sets.values());
    assert!(sets.into_iter().all(|set| !set.spec.dynamic));
    let script = nftables::compile(&plan(TrafficPolicy::Cluster, TIMEOUT, &[1, 2, 3]), &config);
    assert!(
        script.contains(". tcp dport . jhash ip saddr mod 3 seed 0x1 map @slots-tcp-3"),
        "{script}"
    );
}
