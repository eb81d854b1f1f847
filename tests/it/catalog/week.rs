//! Seven days of a cluster's life in virtual time: Services are rolled, fail, come and go, nodes break down and are replaced, and every
//! midnight there is the same cluster again. Used by a bench, too, which counts bytes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use svcplane::assign::Pools;
use svcplane::catalog::{Catalog, EndpointSource, Event, Key, Kind, Object};
use svcplane::dns::{self, PodMode, Zone};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSlice};
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::node::{Node, ZONE_LABEL};
use svcplane::plan::{LocalNode, Mode};
use svcplane::pod::{Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServicePort, TrafficDistribution};
use svcplane::time::{Instant, Timestamp};

const SERVICES: u32 = 50;
/// The last ones have no selector: others write their slices.
const SELECTING: u32 = 40;
const REPLICAS: u32 = 20;
const NODES: u32 = 30;

/// A cluster, and the catalog that is told of it.
pub(crate) struct Week {
    pub(crate) catalog: Catalog,
    pub(crate) now: Instant,
    /// How many events there were.
    pub(crate) events: usize,
    /// What there is every midnight.
    midnight: Vec<Object>,
    /// Pods that there are.
    pods: BTreeMap<ObjectName, Pod>,
    /// How many things were made: all names and addresses are new ones.
    made: u32,
    chance: u64,
}

fn name(text: &str) -> ObjectName {
    ObjectName::new("ns", text).expect("a name")
}

pub(crate) fn catalog() -> Catalog {
    let mut node = LocalNode::new("node-0".parse().expect("a name"));
    node.addresses = vec![Ipv4Addr::new(192, 168, 0, 1).into()];
    let mut config = dns::Config::default();
    (config.pods, config.endpoint_pod_names) = (PodMode::Verified, true);
    let zone = Zone::new("cluster.local".parse().expect("a name"), config);
    let pools = Pools::new(&[IpFamily::V4], Duration::from_secs(3600));
    Catalog::new(node, Mode::Nftables)
        .with_pods(EndpointSource::Pods)
        .with_zone(zone)
        .with_pools(pools)
}

/// The address of a number, in a /8.
fn address(net: u8, n: u32) -> IpAddr {
    let [_, a, b, c] = n.to_be_bytes();
    Ipv4Addr::new(net, a, b, c).into()
}

fn node(n: u32) -> Node {
    let mut node = Node::new(format!("node-{n}").parse().expect("a name"));
    node.labels = [(ZONE_LABEL, ["z0", "z1", "z2"][n as usize % 3])].into_iter().collect();
    (node.ready, node.cpu_millis) = (true, 4000);
    node
}

fn service(n: u32, version: u32) -> Service {
    let mut service = Service::new(name(&format!("s{n}")));
    service.created = Some(Timestamp::from_unix(i64::from(n)));
    service.cluster_ips = match n % 10 {
        9 => ClusterIps::Headless,
        _ => ClusterIps::Assigned(vec![address(11, version * SERVICES + n)]),
    };
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort::new(80)];
    if n < SELECTING {
        service.selector = Labels::from_iter([("app", &*format!("s{n}"))]);
    }
    if n % 3 == 1 {
        service.traffic_distribution = Some(TrafficDistribution::PreferSameZone);
    }
    if n % 7 == 3 {
        service.annotations =
            [("service.kubernetes.io/topology-mode", "Auto")].into_iter().collect();
    }
    service
}

fn pod(of: u32, n: u32, on: u32) -> Pod {
    let mut pod = Pod::new(name(&format!("s{of}-{n}")));
    pod.uid = format!("uid-{n}").into();
    let hash = format!("{}", n / 3);
    pod.labels = Labels::from_iter([("app", &*format!("s{of}")), ("pod-template-hash", &*hash)]);
    (pod.phase, pod.ready) = (Phase::Running, true);
    pod.ips = vec![address(10, n)];
    pod.node = Some(format!("node-{on}").parse().expect("a name"));
    pod
}

fn slice(of: u32, which: u32, first: u32) -> EndpointSlice {
    let owner = name(&format!("s{of}"));
    let mut slice = EndpointSlice::new(name(&format!("s{of}-{which}")), owner, IpFamily::V4);
    let endpoints = (0..REPLICAS / 2).map(|n| Endpoint::new(address(12, first + n)));
    slice.set_endpoints([EndpointPort::new(80)], endpoints);
    slice
}

impl Week {
    pub(crate) fn new() -> Self {
        let mut midnight: Vec<Object> = Vec::new();
        let mut pods = BTreeMap::new();
        for n in 0..NODES {
            midnight.push(node(n).into());
        }
        for n in 0..SERVICES {
            midnight.push(service(n, 0).into());
            for replica in 0..REPLICAS {
                if n < SELECTING {
                    let pod = pod(n, n * REPLICAS + replica, (n + replica) % NODES);
                    pods.insert(pod.name.clone(), pod.clone());
                    midnight.push(pod.into());
                }
            }
            for which in 0..2 {
                if n >= SELECTING {
                    midnight.push(slice(n, which, (2 * n + which) * REPLICAS).into());
                }
            }
        }
        let mut catalog = catalog();
        catalog.apply_all(midnight.clone());
        let (now, made) = (Instant::ZERO, SERVICES * REPLICAS);
        Self { catalog, now, events: 0, midnight, pods, made, chance: 7 }
    }

    fn below(&mut self, n: u32) -> u32 {
        self.chance =
            self.chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1_442_695_040_888_963_407);
        let bits = (self.chance >> 33) as u32;
        bits % n
    }

    fn next(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn tell(&mut self, event: impl Into<Event>) {
        let event = event.into();
        match &event {
            Event::Upsert(Object::Pod(pod)) => {
                drop(self.pods.insert(pod.name.clone(), (**pod).clone()));
            }
            Event::Delete(Key::Pod(name)) => drop(self.pods.remove(name)),
            _ => {}
        }
        self.catalog.apply(event);
        self.events += 1;
    }

    fn of(&self, of: u32) -> Vec<Pod> {
        let prefix = format!("s{of}-");
        let pods = self.pods.values().filter(|pod| pod.name.name().starts_with(&prefix));
        pods.cloned().collect()
    }

    /// One replaces another: it comes without being ready, and the other goes when it is.
    fn replace(&mut self, of: u32, mut old: Pod, on: u32) {
        let n = self.next();
        let new = pod(of, n, on);
        let mut unready = new.clone();
        (unready.ready, unready.phase) = (false, Phase::Pending);
        self.tell(unready);
        self.tell(new);
        old.deleted = Some(Timestamp::from_unix(9));
        self.tell(old.clone());
        (old.ready, old.phase) = (false, Phase::Succeeded);
        self.tell(old.clone());
        self.tell(Key::Pod(old.name));
    }

    /// Something happens.
    fn happen(&mut self) {
        let of = self.below(SELECTING);
        match self.below(20) {
            0 => {
                for old in self.of(of) {
                    let on = self.below(NODES);
                    self.replace(of, old, on);
                }
            }
            // A node breaks down, and another comes in its place.
            1 => {
                let broken = self.below(NODES);
                let on: svcplane::name::NodeName = node(broken).name;
                let lost = self.pods.values().filter(|pod| pod.node.as_ref() == Some(&on));
                let lost: Vec<Pod> = lost.cloned().collect();
                let mut down = node(broken);
                down.ready = false;
                self.tell(down);
                for mut pod in lost.iter().cloned() {
                    pod.ready = false;
                    self.tell(pod);
                }
                self.tell(Key::Node(on));
                for pod in lost {
                    self.tell(Key::Pod(pod.name));
                }
                let n = NODES + self.next();
                self.tell(node(n));
                self.tell(Key::Node(node(n).name));
                self.tell(node(broken));
            }
            // A Service is made anew, with another address.
            2 => {
                let n = self.below(SERVICES);
                let version = self.next();
                self.tell(Key::Service(service(n, 0).name));
                self.tell(service(n, version));
            }
            3 | 4 => {
                let n = SELECTING + self.below(SERVICES - SELECTING);
                let (which, first) = (self.below(3), self.next() * REPLICAS);
                self.tell(slice(n, which, first));
                self.tell(Key::EndpointSlice(slice(n, 2, 0).name));
            }
            _ => {
                let mut all = self.of(of);
                if all.len() < REPLICAS as usize {
                    let (n, on) = (self.next(), self.below(NODES));
                    self.tell(pod(of, n, on));
                } else {
                    let mut pod = all.swap_remove(self.below(REPLICAS) as usize);
                    pod.ready = !pod.ready;
                    self.tell(pod);
                }
            }
        }
    }

    /// A day with at least so many events. At its end the cluster is as it was at its beginning.
    pub(crate) fn day(&mut self, events: usize) {
        let end = self.events + events;
        let begun = self.now;
        while self.events < end {
            let gone = (self.events + events - end) as u64 * 86_400 / events as u64;
            self.now = self.now.max(begun + Duration::from_secs(gone));
            self.catalog.set_now(self.now);
            self.happen();
        }
        for &kind in Kind::ALL {
            let objects = self.midnight.iter().filter(|object| object.key().kind() == kind);
            self.catalog.resync(kind, objects.cloned());
        }
        let pods = self.midnight.iter().filter_map(|object| match object {
            Object::Pod(pod) => Some((pod.name.clone(), (**pod).clone())),
            _ => None,
        });
        self.pods = pods.collect();
        self.now = begun + Duration::from_secs(86_400);
        self.catalog.set_now(self.now);
    }

    /// It is as a catalog that has never known anything else.
    pub(crate) fn check(&self) {
        let snapshot = self.catalog.snapshot();
        let mut midnight = self.midnight.clone();
        midnight.sort_by_cached_key(Object::key);
        assert_eq!(snapshot, midnight);
        let mut fresh = catalog();
        fresh.apply_all(snapshot);
        assert_eq!(self.catalog.plan(), fresh.plan());
        assert!(self.catalog.services().eq(fresh.services()));
        let (Some(zone), Some(other)) = (self.catalog.zone(), fresh.zone()) else { return };
        assert!(zone.records().skip(1).eq(other.records().skip(1)));
        assert!(zone.pointers().eq(other.pointers()));
        let (Some(index), Some(other)) = (self.catalog.selectors(), fresh.selectors()) else {
            return;
        };
        assert_eq!((index.selectors(), index.objects()), (other.selectors(), other.objects()));
    }
}
