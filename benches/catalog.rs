//! A catalog of 10,000 Services: what an event costs, from an object to rules.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use svcplane::catalog::{Catalog, EndpointSource, Event, Key, Kind, Object};
use svcplane::endpoints::{Conditions, Endpoint, EndpointPort, EndpointSlice, Reference};
use svcplane::labels::Labels;
use svcplane::name::{NodeName, ObjectName};
use svcplane::net::IpFamily;
use svcplane::node::Node;
use svcplane::plan::{LocalDetector, LocalNode, Mode};
use svcplane::pod::{Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServicePort, TargetPort};
use svcplane::{iptables, nftables};

const SERVICES: u32 = 10_000;

fn local(mode: Mode) -> Catalog {
    let mut node = LocalNode::new("node-0".parse().expect("a name"));
    node.addresses = vec![IpAddr::from([192, 168, 0, 2])];
    node.pods = LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
    Catalog::new(node, mode)
}

fn name(n: u32, suffix: &str) -> ObjectName {
    ObjectName::new(&format!("ns-{}", n % 100), &format!("app-{n}{suffix}")).expect("a name")
}

fn labels(n: u32) -> Labels {
    Labels::from_iter([("app", &*format!("app-{n}")), ("tier", "web")])
}

fn service(n: u32) -> Service {
    let mut service = Service::new(name(n, ""));
    service.selector = labels(n);
    service.cluster_ips = ClusterIps::Assigned(vec![Ipv4Addr::from(0xac10_0000 + n).into()]);
    let mut port = ServicePort::new(80);
    port.target = TargetPort::Number(8080);
    service.ports = vec![port];
    service
}

fn nodes() -> Vec<NodeName> {
    (0..100).map(|n| format!("node-{n}").parse().expect("a name")).collect()
}

fn ip(service: u32, n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + service * 256 + n).into()
}

fn slice(nodes: &[NodeName], service: u32, count: u32, unready: Option<u32>) -> EndpointSlice {
    let mut slice = EndpointSlice::new(name(service, "-x7k2p"), name(service, ""), IpFamily::V4);
    let endpoint = |n: u32| {
        let mut endpoint = Endpoint::new(ip(service, n));
        endpoint.node = Some(nodes[n as usize % nodes.len()].clone());
        let ready = unready != Some(n);
        endpoint.conditions = Conditions { ready, serving: ready, terminating: false };
        let pod = name(service, &format!("-{n}"));
        endpoint.target = Some(Reference::new("Pod", &pod, &format!("{service:08x}-{n:08x}")));
        endpoint
    };
    slice.set_endpoints([EndpointPort::new(8080)], (0..count).map(endpoint));
    slice
}

fn pod(nodes: &[NodeName], service: u32, n: u32, ready: bool) -> Pod {
    let mut pod = Pod::new(name(service, &format!("-{n}")));
    pod.uid = format!("{service:08x}-{n:08x}").into();
    pod.labels = labels(service);
    pod.phase = Phase::Running;
    pod.ips = vec![ip(service, n)];
    pod.ready = ready;
    pod.node = Some(nodes[n as usize % nodes.len()].clone());
    pod
}

/// Of Services with so many endpoints each, all from slices.
fn of_slices(services: u32, count: u32) -> Catalog {
    let (mut catalog, nodes) = (local(Mode::Nftables), nodes());
    catalog.apply_all((0..services).map(service));
    catalog.apply_all((0..services).map(|n| slice(&nodes, n, count, None)));
    catalog
}

fn of_pods(services: u32, count: u32) -> Catalog {
    let nodes = nodes();
    let mut catalog = local(Mode::Nftables).with_pods(EndpointSource::Pods);
    catalog.apply_all(nodes.iter().cloned().map(Node::new));
    catalog.apply_all((0..services).map(service));
    let pods = (0..services).flat_map(|s| (0..count).map(move |n| (s, n)));
    catalog.apply_all(pods.map(|(s, n)| pod(&nodes, s, n, true)));
    catalog
}

/// Places that no cache expects.
fn scattered(n: &mut u32, of: u32) -> u32 {
    *n = n.wrapping_add(2_654_435_761);
    *n % of
}

fn events(c: &mut Criterion) {
    let nodes: Arc<[NodeName]> = nodes().into();
    let flat = nftables::Config::default();
    let tree = iptables::Config::default();
    let mut group = c.benchmark_group("catalog");

    for (services, count) in [(SERVICES, 10), (100, 100), (4, 250)] {
        // Every other event makes an endpoint ready again.
        let mut catalog = of_slices(services, count);
        let (mut turn, mut at) = (0_u32, 0);
        let mut event = || {
            turn += 1;
            if turn % 2 == 1 {
                scattered(&mut at, services);
            }
            let unready = (turn % 2 == 1).then_some(at % count);
            Event::from(slice(&nodes, at % services, count, unready))
        };
        group.bench_function(format!("slice/{services}x{count}"), |b| {
            let apply = |event| {
                let changes = catalog.apply(event);
                assert_eq!(changes.plan.services().len(), 1);
                changes
            };
            b.iter_batched(&mut event, apply, BatchSize::SmallInput);
        });
        group.bench_function(format!("slice_to_nftables/{services}x{count}"), |b| {
            let apply = |event| {
                let changes = catalog.apply(event);
                let delta = nftables::delta(catalog.plan(), &changes.plan, &flat);
                assert!(!delta.script.is_empty());
                delta
            };
            b.iter_batched(&mut event, apply, BatchSize::SmallInput);
        });
        group.bench_function(format!("slice_to_iptables/{services}x{count}"), |b| {
            let apply = |event| {
                let changes = catalog.apply(event);
                let delta = iptables::delta(catalog.plan(), &changes.plan, IpFamily::V4, &tree);
                assert!(!delta.is_empty());
                delta
            };
            b.iter_batched(&mut event, apply, BatchSize::SmallInput);
        });
    }

    for (services, count) in [(SERVICES, 10), (4, 250)] {
        let mut catalog = of_pods(services, count);
        let (mut turn, mut at) = (0_u32, 0);
        let mut event = || {
            turn += 1;
            if turn % 2 == 1 {
                scattered(&mut at, services * count);
            }
            let (s, n) = (at % services, at / services % count);
            Event::from(pod(&nodes, s, n, turn % 2 == 0))
        };
        group.bench_function(format!("pod/{services}x{count}"), |b| {
            let apply = |event| {
                let changes = catalog.apply(event);
                assert_eq!(changes.plan.services().len(), 1);
                changes
            };
            b.iter_batched(&mut event, apply, BatchSize::SmallInput);
        });
    }

    let mut catalog = of_slices(SERVICES, 10);
    let (mut turn, mut at) = (0_u32, 0);
    let mut event = || {
        turn += 1;
        if turn % 2 == 1 {
            let gone = scattered(&mut at, SERVICES);
            return Event::from(Key::Service(name(gone, "")));
        }
        Event::from(service(at % SERVICES))
    };
    group.bench_function(format!("service/{SERVICES}x10"), |b| {
        let apply = |event| {
            let changes = catalog.apply(event);
            assert_eq!(changes.plan.services().len(), 1);
            changes
        };
        b.iter_batched(&mut event, apply, BatchSize::SmallInput);
    });
    group.finish();
}

fn lists(c: &mut Criterion) {
    let nodes = nodes();
    let mut group = c.benchmark_group("catalog");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(SERVICES)));
    let mut catalog = of_slices(SERVICES, 10);
    group.bench_function("resync_same/10000x10", |b| {
        let list = || -> Vec<Object> {
            (0..SERVICES).map(|n| slice(&nodes, n, 10, None).into()).collect()
        };
        let resync = |list| assert!(catalog.resync(Kind::EndpointSlice, list).is_empty());
        b.iter_batched(list, resync, BatchSize::LargeInput);
    });
    group.bench_function("build/10000x10", |b| b.iter(|| of_slices(black_box(SERVICES), 10)));
    group.finish();
}

criterion_group!(benches, events, lists);
criterion_main!(benches);
