//! A cluster that changes: what its objects are, and when they are others.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use svcplane::catalog::{Catalog, Event, Key};
use svcplane::endpoints::{
    Conditions, Endpoint, EndpointPort, EndpointSet, EndpointSlice, Reference,
};
use svcplane::labels::{Labels, Selector};
use svcplane::name::{NodeName, ObjectName};
use svcplane::net::IpFamily;
use svcplane::node::{Node, ZONE_LABEL};
use svcplane::pod::{Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServicePort};
use svcplane::time::Timestamp;

#[derive(clap::Args)]
pub(crate) struct Size {
    /// Services
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    services: u32,
    /// Pods of all Services
    #[arg(long, value_name = "N", default_value_t = 150_000)]
    pods: u32,
    /// Pods of the largest Service
    #[arg(long, value_name = "N", default_value_t = 250)]
    largest: u32,
    /// Nodes, in three zones
    #[arg(long, value_name = "N", default_value_t = 1_500)]
    nodes: u32,
}

const ZONES: [&str; 3] = ["a", "b", "c"];
/// Kubernetes' own.
const ENDPOINTS_PER_SLICE: usize = 100;
const PORT: u16 = 8_080;

const START: Duration = Duration::from_secs(2);
const READY: Duration = Duration::from_secs(8);
const GONE: Duration = Duration::from_secs(30);
const EVICTED: Duration = Duration::from_secs(300);
const RECOVERED: Duration = Duration::from_secs(600);

pub(crate) struct Cluster {
    draw: Draw,
    nodes: Vec<SimNode>,
    services: Vec<SimService>,
    pods: HashMap<u32, SimPod>,
    /// How many pods there were ever.
    created: u32,
    ips: Vec<u32>,
    port: Arc<[EndpointPort]>,
    queue: BinaryHeap<Reverse<(Duration, u64, Action)>>,
    sequence: u64,
    now: Duration,
    /// What is not told yet.
    told: VecDeque<Told>,
}

struct SimNode {
    name: NodeName,
    zone: Arc<str>,
    ready: bool,
    pods: BTreeSet<u32>,
}

struct SimService {
    name: ObjectName,
    labels: Labels,
    /// Those that have an address, by slice.
    slices: Vec<Vec<u32>>,
    pods: BTreeSet<u32>,
}

struct SimPod {
    name: ObjectName,
    uid: Arc<str>,
    service: u32,
    node: u32,
    ip: Option<u32>,
    ready: bool,
    deleted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Update(u32),
    /// One more pod of a Service, in place of one.
    Replace(u32, u32),
    Run(u32, u32),
    Ready(u32, u32),
    Gone(u32),
    Lose(u32),
    Evict(u32),
    Recover(u32),
}

enum Told {
    Node(u32),
    Pod(u32),
    PodGone(ObjectName),
    Slice(u32, u32),
}

/// Numbers from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn one(&mut self, of: usize) -> u32 {
        u32::try_from(self.below(of)).unwrap_or(0)
    }
}

/// How many pods each Service has: by a power law, the largest first, and as many together as there are to be.
fn sizes(size: &Size) -> Result<Vec<u32>, String> {
    let Size { services, pods, largest, .. } = *size;
    if services == 0
        || pods < services
        || largest == 0
        || u64::from(largest) * u64::from(services) < pods.into()
    {
        return Err(format!("{services} Services of 1 to {largest} pods cannot have {pods} pods"));
    }
    let of = |exponent: f64| -> Vec<u32> {
        let rank = |n: u32| (f64::from(largest) * f64::from(n).powf(-exponent)).max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to largest")]
        (1..=services).map(|n| rank(n) as u32).collect()
    };
    let sum = |sizes: &[u32]| sizes.iter().map(|&n| u64::from(n)).sum::<u64>();
    let (mut low, mut high) = (0.0, 8.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if sum(&of(middle)) > pods.into() { low = middle } else { high = middle }
    }
    let mut sizes = of(high);
    let mut missing = u64::from(pods).saturating_sub(sum(&sizes));
    while missing > 0 {
        for size in sizes.iter_mut().rev().filter(|size| **size < largest) {
            let more = missing.min(1);
            *size += u32::from(more > 0);
            missing -= more;
        }
    }
    Ok(sizes)
}

impl Cluster {
    pub(crate) fn new(size: &Size, seed: u64) -> Result<Self, String> {
        let sizes = sizes(size)?;
        if size.nodes < 2 || size.services > 1 << 20 {
            return Err("expected two nodes or more, and at most 1048576 Services".to_owned());
        }
        let zones: Vec<Arc<str>> = ZONES.iter().map(|&zone| zone.into()).collect();
        let node = |n: u32| SimNode {
            name: format!("node-{n}").parse().expect("a name"),
            zone: Arc::clone(&zones[n as usize % ZONES.len()]),
            ready: true,
            pods: BTreeSet::new(),
        };
        let mut cluster = Self {
            draw: Draw(seed),
            nodes: (0..size.nodes).map(node).collect(),
            services: Vec::new(),
            pods: HashMap::new(),
            created: 0,
            ips: (0x0a00_0001..0x0b00_0000).rev().collect(),
            port: [EndpointPort::new(PORT)].into(),
            queue: BinaryHeap::new(),
            sequence: 0,
            now: Duration::ZERO,
            told: VecDeque::new(),
        };
        for (n, size) in (0..).zip(sizes) {
            let app = format!("app-{n}");
            cluster.services.push(SimService {
                name: ObjectName::new(&format!("ns-{}", n % 100), &app).expect("a name"),
                labels: Labels::from_iter([("app", &*app), ("tier", "web")]),
                slices: Vec::new(),
                pods: BTreeSet::new(),
            });
            for _ in 0..size {
                let pod = cluster.create(n);
                cluster.run(pod);
                if let Some(pod) = cluster.pods.get_mut(&pod) {
                    pod.ready = true;
                }
            }
        }
        cluster.told.clear();
        Ok(cluster)
    }

    /// Whose view it is.
    pub(crate) fn observer(&self) -> NodeName {
        self.nodes[0].name.clone()
    }

    pub(crate) fn services(&self) -> usize {
        self.services.len()
    }

    pub(crate) fn pods(&self) -> usize {
        self.services.iter().map(|service| service.pods.len()).sum()
    }

    /// Everything as it is now.
    pub(crate) fn objects(&self, slices: bool) -> impl Iterator<Item = Event> {
        let nodes = (0..).zip(&self.nodes).map(|(n, _)| Told::Node(n));
        let pods = self.services.iter().flat_map(|service| &service.pods);
        let pods = pods.map(|&pod| Told::Pod(pod));
        let all = (0..).zip(&self.services).flat_map(|(s, service)| {
            (0..).zip(&service.slices).map(move |(slice, _)| Told::Slice(s, slice))
        });
        let services = (0..).zip(&self.services).map(|(n, service)| service.object(n).into());
        let rest = nodes.chain(pods).chain(all).filter_map(move |told| self.tell(told, slices));
        services.chain(rest)
    }

    /// What happens in the hours to come: the first update is of the largest Service.
    pub(crate) fn schedule(&mut self, hours: u32, updates: u32, failures: u32) {
        for hour in 0..u64::from(hours) {
            for n in 0..updates {
                let service =
                    if hour == 0 && n == 0 { 0 } else { self.draw.one(self.services.len()) };
                let at =
                    Duration::from_millis(hour * 3_600_000 + self.draw.below(3_000_000) as u64);
                self.at(at, Action::Update(service));
            }
            for _ in 0..failures {
                let node = 1 + self.draw.one(self.nodes.len() - 1);
                let at =
                    Duration::from_millis(hour * 3_600_000 + self.draw.below(3_000_000) as u64);
                self.at(at, Action::Lose(node));
            }
        }
    }

    /// The next thing that the node hears of, and when; `None` when all is over.
    pub(crate) fn next_event(&mut self, slices: bool) -> Option<(Duration, Event)> {
        loop {
            while let Some(told) = self.told.pop_front() {
                let event = self.tell(told, slices);
                if event.is_some() {
                    return Some(self.now).zip(event);
                }
            }
            let Reverse((at, _, action)) = self.queue.pop()?;
            self.now = at;
            self.act(action);
        }
    }

    fn at(&mut self, at: Duration, action: Action) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, action)));
    }

    fn after(&mut self, wait: Duration, action: Action) {
        self.at(self.now + wait, action);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Update(service) => {
                let stays = |pod: &&u32| self.pods.get(*pod).is_some_and(|pod| !pod.deleted);
                let pods = self.services[service as usize].pods.iter().filter(stays);
                let pods: Vec<u32> = pods.copied().collect();
                for (n, pod) in (0_u32..).zip(pods) {
                    self.after(Duration::from_secs(2) * n, Action::Replace(service, pod));
                }
            }
            Action::Replace(service, old) => {
                // It may have been replaced for another reason.
                if self.pods.get(&old).is_some_and(|pod| !pod.deleted) {
                    let new = self.create(service);
                    self.after(START, Action::Run(new, old));
                }
            }
            Action::Run(new, old) => {
                self.run(new);
                self.after(READY, Action::Ready(new, old));
            }
            Action::Ready(new, old) => {
                let nodes = &self.nodes;
                if let Some(pod) = self.pods.get_mut(&new) {
                    pod.ready = nodes[pod.node as usize].ready;
                    self.tell_pod(new);
                }
                self.terminate(old);
            }
            Action::Gone(pod) => self.remove(pod),
            Action::Lose(node) => {
                if std::mem::replace(&mut self.nodes[node as usize].ready, false) {
                    self.told.push_back(Told::Node(node));
                    self.make_ready(node, false);
                    self.after(EVICTED, Action::Evict(node));
                    self.after(RECOVERED, Action::Recover(node));
                }
            }
            Action::Evict(node) => {
                for pod in self.nodes[node as usize].pods.clone() {
                    let service = self.pods.get(&pod).map_or(0, |pod| pod.service);
                    self.after(Duration::ZERO, Action::Replace(service, pod));
                }
            }
            Action::Recover(node) => {
                self.nodes[node as usize].ready = true;
                self.told.push_back(Told::Node(node));
                self.make_ready(node, true);
            }
        }
    }

    fn make_ready(&mut self, node: u32, ready: bool) {
        for id in self.nodes[node as usize].pods.clone() {
            if let Some(pod) = self.pods.get_mut(&id) {
                pod.ready = ready && pod.ip.is_some();
                self.tell_pod(id);
            }
        }
    }

    /// A pod without address, on a node that is well.
    fn create(&mut self, service: u32) -> u32 {
        let mut node = self.draw.one(self.nodes.len());
        while !self.nodes[node as usize].ready {
            node = (node + 1) % u32::try_from(self.nodes.len()).unwrap_or(1);
        }
        self.created += 1;
        let id = self.created;
        let of = &mut self.services[service as usize];
        let name = format!("{}-{id}", of.name.name());
        let pod = SimPod {
            name: ObjectName::new(of.name.namespace(), &name).expect("a name"),
            uid: format!("{service:08x}-0000-4000-8000-{id:012x}").into(),
            service,
            node,
            ip: None,
            ready: false,
            deleted: false,
        };
        self.pods.insert(id, pod);
        of.pods.insert(id);
        self.nodes[node as usize].pods.insert(id);
        self.told.push_back(Told::Pod(id));
        id
    }

    fn run(&mut self, id: u32) {
        let Some(pod) = self.pods.get_mut(&id) else { return };
        pod.ip = self.ips.pop();
        let slices = &mut self.services[pod.service as usize].slices;
        match slices.iter_mut().find(|slice| slice.len() < ENDPOINTS_PER_SLICE) {
            Some(slice) => slice.push(id),
            None => slices.push(vec![id]),
        }
        self.tell_pod(id);
    }

    fn terminate(&mut self, id: u32) {
        if let Some(pod) = self.pods.get_mut(&id).filter(|pod| !pod.deleted) {
            pod.deleted = true;
            self.tell_pod(id);
            self.after(GONE, Action::Gone(id));
        }
    }

    fn remove(&mut self, id: u32) {
        let Some(pod) = self.pods.remove(&id) else { return };
        self.nodes[pod.node as usize].pods.remove(&id);
        let service = &mut self.services[pod.service as usize];
        service.pods.remove(&id);
        for (n, slice) in (0..).zip(&mut service.slices) {
            if let Some(place) = slice.iter().position(|pod| *pod == id) {
                slice.swap_remove(place);
                self.told.push_back(Told::Slice(pod.service, n));
            }
        }
        self.told.push_back(Told::PodGone(pod.name));
        self.ips.extend(pod.ip);
    }

    fn tell_pod(&mut self, id: u32) {
        self.told.push_back(Told::Pod(id));
        let Some(pod) = self.pods.get(&id) else { return };
        let slices = (0..).zip(&self.services[pod.service as usize].slices);
        let told = slices.filter(|(_, slice)| slice.contains(&id));
        self.told.extend(told.map(|(n, _)| Told::Slice(pod.service, n)));
    }

    /// What the node hears, by what it listens to.
    fn tell(&self, told: Told, slices: bool) -> Option<Event> {
        match told {
            Told::Node(node) if !slices => Some(self.nodes[node as usize].object().into()),
            Told::Pod(pod) if !slices => Some(self.pod_object(self.pods.get(&pod)?).into()),
            Told::PodGone(name) if !slices => Some(Key::Pod(name).into()),
            Told::Slice(service, slice) if slices => Some(self.slice_object(service, slice).into()),
            _ => None,
        }
    }

    fn pod_object(&self, pod: &SimPod) -> Pod {
        let mut object = Pod::new(pod.name.clone());
        object.uid = Arc::clone(&pod.uid);
        object.labels = self.services[pod.service as usize].labels.clone();
        object.phase = if pod.ip.is_some() { Phase::Running } else { Phase::Pending };
        object.ips = pod.ip.map(address).into_iter().collect();
        object.ready = pod.ready;
        object.deleted = pod.deleted.then(|| Timestamp::from_unix(1));
        object.node = Some(self.nodes[pod.node as usize].name.clone());
        object
    }

    fn slice_object(&self, service: u32, slice: u32) -> EndpointSlice {
        let of = &self.services[service as usize];
        let name = format!("{}-{slice}", of.name.name());
        let name = ObjectName::new(of.name.namespace(), &name).expect("a name");
        let mut object = EndpointSlice::new(name, of.name.clone(), IpFamily::V4);
        let endpoint = |pod: &u32| {
            let pod = self.pods.get(pod)?;
            let node = &self.nodes[pod.node as usize];
            let mut endpoint = Endpoint::new(address(pod.ip?));
            endpoint.ports = Arc::clone(&self.port);
            let (serving, terminating) = (pod.ready, pod.deleted);
            endpoint.conditions =
                Conditions { ready: serving && !terminating, serving, terminating };
            endpoint.node = Some(node.name.clone());
            endpoint.zone = Some(Arc::clone(&node.zone));
            endpoint.target = Some(Reference::new("Pod", &pod.name, &pod.uid));
            Some(endpoint)
        };
        let endpoints = of.slices[slice as usize].iter().filter_map(endpoint);
        object.set_endpoints(self.port.iter().cloned(), endpoints);
        object
    }
}

fn address(ip: u32) -> IpAddr {
    Ipv4Addr::from(ip).into()
}

impl SimNode {
    fn object(&self) -> Node {
        let mut object = Node::new(self.name.clone());
        object.labels = Labels::from_iter([(ZONE_LABEL, &*self.zone)]);
        object.ready = self.ready;
        object.cpu_millis = 8_000;
        object
    }
}

impl SimService {
    fn object(&self, n: u32) -> Service {
        let mut object = Service::new(self.name.clone());
        object.selector = self.labels.clone();
        object.cluster_ips = ClusterIps::Assigned(vec![address(0xac10_0000 + n)]);
        let mut port = ServicePort::new(80);
        port.target = svcplane::service::TargetPort::Number(PORT);
        object.ports = vec![port];
        object
    }
}

/// The endpoints of a Service, computed from all that is known.
pub(crate) fn afresh(catalog: &Catalog, service: &Service, known: &EndpointSet) -> EndpointSet {
    let (Some(index), Some(nodes)) = (catalog.selectors(), catalog.nodes()) else {
        return EndpointSet::new(service.name.clone(), known.endpoints().cloned());
    };
    let selector = Selector::from(&service.selector);
    let pods = index.objects_matching(service.name.namespace(), &selector);
    EndpointSet::resolve(service, pods.into_iter().filter_map(|pod| catalog.pod(pod)), nodes)
}
