//! A node's plan: built anew, asked about packets, compared after one endpoint has changed.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::name::ObjectName;
use svcplane::net::Protocol;
use svcplane::plan::{LocalDetector, LocalNode, Mode, Packet, Plan, Verdict};
use svcplane::service::{ClusterIps, Service, ServicePort};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;

fn node() -> LocalNode {
    let mut node = LocalNode::new("node-1".parse().expect("a name"));
    node.addresses = vec![IpAddr::from([192, 168, 0, 2])];
    node.pods = LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
    node
}

fn cluster_ip(n: u32) -> IpAddr {
    Ipv4Addr::from(0xac10_0000 + n).into()
}

fn service(n: u32) -> (Service, EndpointSet) {
    let name = ObjectName::new(&format!("ns-{}", n % 100), &format!("service-{n}"));
    let mut service = Service::new(name.expect("a name"));
    service.cluster_ips = ClusterIps::Assigned(vec![cluster_ip(n)]);
    let mut port = ServicePort::new(80);
    port.name = Some("http".parse().expect("a label"));
    service.ports = vec![port];
    let endpoints = endpoints(&service, n, ENDPOINTS);
    (service, endpoints)
}

fn endpoints(service: &Service, n: u32, count: u32) -> EndpointSet {
    let mut port = EndpointPort::new(8080);
    port.name.clone_from(&service.ports[0].name);
    let ports: std::sync::Arc<[EndpointPort]> = [port].into();
    let endpoint = |i: u32| {
        let mut endpoint = Endpoint::new(Ipv4Addr::from(0x0a00_0000 + n * ENDPOINTS + i).into());
        endpoint.ports = ports.clone();
        endpoint.node = Some(format!("node-{}", i % 3).parse().expect("a name"));
        endpoint
    };
    EndpointSet::new(service.name.clone(), (0..count).map(endpoint))
}

fn plan_of(services: &[(Service, EndpointSet)]) -> Plan {
    let services = services.iter().map(|(service, set)| (service, set));
    Plan::new(&node(), Mode::Nftables, services)
}

fn plan(c: &mut Criterion) {
    let mut services: Vec<_> = (0..SERVICES).map(service).collect();
    let before = plan_of(&services);

    let mut group = c.benchmark_group("plan");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(SERVICES * ENDPOINTS)));
    group.bench_function("new/10000x10", |b| b.iter(|| plan_of(black_box(&services))));
    group.finish();

    let mut group = c.benchmark_group("plan");
    let packet = |n: u32| {
        let client = IpAddr::from((0x0a80_0000 + n).to_be_bytes());
        Packet::new(Protocol::Tcp, client, SocketAddr::new(cluster_ip(n), 80))
    };
    let mut n = 0_u32;
    group.bench_function("route/10000", |b| {
        b.iter(|| {
            // Scattered, so that a Service's lines are in the cache only if all of them fit.
            n = n.wrapping_add(2_654_435_761);
            let verdict = before.route(black_box(&packet(n % SERVICES)));
            assert!(matches!(verdict, Verdict::Forward(_)));
        });
    });
    group.bench_function("route_none/10000", |b| {
        b.iter(|| {
            n = n.wrapping_add(2_654_435_761);
            before.route(black_box(&packet(SERVICES + n % SERVICES)))
        });
    });

    // One endpoint less, in the plan of one Service: the others are shared, as they are by whoever keeps a plan up to date.
    let of = &services[5_000].0;
    services[5_000].1 = endpoints(of, 5_000, ENDPOINTS - 1);
    let changed = plan_of(&services[5_000..=5_000]);
    let single = Plan::diff(&plan_of(&[service(5_000)]), &changed);
    let mut after = before.clone();
    after.apply(&single);
    group
        .bench_function("diff/one_endpoint", |b| b.iter(|| Plan::diff(&before, black_box(&after))));
    let back = Plan::diff(&after, &before);
    group.bench_function("apply/one_endpoint", |b| {
        b.iter(|| {
            after.apply(black_box(&back));
            after.apply(black_box(&single));
        });
    });
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
