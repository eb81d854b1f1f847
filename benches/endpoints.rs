//! Endpoint sets from pods and from slices, and slices from sets.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use svcplane::endpoints::{EndpointSet, EndpointSlice, Merged, Packing, SliceWrites};
use svcplane::labels::Labels;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::node::{Node, Nodes};
use svcplane::pod::{ContainerPort, Phase, Pod};
use svcplane::service::{Service, ServicePort, TargetPort};

const NODES: u32 = 100;

fn service() -> Service {
    let mut service = Service::new(ObjectName::new("default", "web").expect("a name"));
    service.selector = Labels::from_iter([("app", "web")]);
    service.ip_families = vec![IpFamily::V4];
    let mut port = ServicePort::new(80);
    port.name = Some("http".parse().expect("a label"));
    port.target = TargetPort::Name("http".into());
    service.ports = vec![port];
    service
}

fn nodes() -> Nodes {
    let node = |n: u32| {
        let mut node = Node::new(format!("node-{n}").parse().expect("a name"));
        let zone = format!("zone-{}", n % 3);
        node.labels = Labels::from_iter([("topology.kubernetes.io/zone", zone)]);
        node
    };
    (0..NODES).map(node).collect()
}

fn pods(count: u32) -> Vec<Pod> {
    let pod = |n: u32| {
        let name = format!("web-{:x}", n.wrapping_mul(2_654_435_761));
        let mut pod = Pod::new(ObjectName::new("default", &name).expect("a name"));
        pod.uid = format!("0b6c1f3e-0000-4000-8000-{n:012x}").into();
        pod.labels = Labels::from_iter([("app", "web"), ("pod-template-hash", "5d4f7c9b8")]);
        pod.ips = vec![std::net::Ipv4Addr::from(0x0a00_0001 + n).into()];
        pod.phase = Phase::Running;
        pod.ready = true;
        pod.node = Some(format!("node-{}", n % NODES).parse().expect("a name"));
        let mut port = ContainerPort::new(8080);
        port.name = Some("http".parse().expect("a port name"));
        pod.ports = vec![port];
        pod
    };
    (0..count).map(pod).collect()
}

/// A Service's endpoints from the pods that it selects.
fn resolve(c: &mut Criterion) {
    let mut group = c.benchmark_group("endpoints/resolve");
    let (service, nodes) = (service(), nodes());
    for count in [10, 5_000] {
        let pods = pods(count);
        assert_eq!(
            EndpointSet::resolve(&service, &pods, &nodes).endpoints().count(),
            count as usize
        );
        group.bench_function(count.to_string(), |b| {
            b.iter(|| EndpointSet::resolve(&service, black_box(&pods), &nodes));
        });
    }
    group.finish();
}

fn made(service: &Service, nodes: &Nodes, pods: &[Pod]) -> Vec<EndpointSlice> {
    let set = EndpointSet::resolve(service, pods, nodes);
    SliceWrites::new(service, &set, nodes, [], &Packing::default()).creates
}

/// One of the slices of a Service changes: one of its endpoints is ready, and is not.
fn merge_slice(c: &mut Criterion) {
    let mut group = c.benchmark_group("endpoints/merge_slice");
    let (service, nodes) = (service(), nodes());
    for count in [1_000, 10_000, 100_000] {
        let mut pods = pods(count);
        let slices = made(&service, &nodes, &pods);
        let at = slices.len() / 2;
        pods[at * 100 + 50].ready = false;
        let changed = made(&service, &nodes, &pods).swap_remove(at);
        assert_eq!((changed.name == slices[at].name, changed != slices[at]), (true, true));
        let mut merged = Merged::new(service.name.clone());
        for slice in &slices {
            assert!(merged.insert(slice));
        }
        group.bench_function(format!("one_of_{count}"), |b| {
            b.iter(|| {
                assert!(merged.insert(black_box(&changed)));
                assert!(merged.insert(black_box(&slices[at])));
            });
        });
        if count == 10_000 {
            group.bench_function(format!("all_of_{count}"), |b| {
                b.iter(|| EndpointSet::merge(service.name.clone(), black_box(&slices)));
            });
        }
    }
    group.finish();
}

/// One of 5,000 endpoints changes: what is there to write?
fn slices_one_of_5000(c: &mut Criterion) {
    let mut group = c.benchmark_group("endpoints/slices_one_of_5000");
    let (service, nodes) = (service(), nodes());
    let mut pods = pods(5_000);
    let slices = made(&service, &nodes, &pods);
    pods[2_500].ready = false;
    let set = EndpointSet::resolve(&service, &pods, &nodes);
    let packing = Packing::default();
    group.bench_function("writes", |b| {
        b.iter(|| {
            let writes =
                SliceWrites::new(&service, black_box(&set), &nodes, black_box(&slices), &packing);
            assert_eq!((writes.updates.len(), writes.creates.len() + writes.deletes.len()), (1, 0));
        });
    });
    group.finish();
}

criterion_group!(benches, resolve, merge_slice, slices_one_of_5000);
criterion_main!(benches);
