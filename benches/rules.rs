//! Rules for nftables and iptables: written whole, for an endpoint that has gone, and for a Service that has come.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::iptables;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::nftables::{Config, Layout, compile, delta};
use svcplane::plan::{LocalDetector, LocalNode, Mode, Plan};
use svcplane::service::{ClusterIps, Service, ServicePort};

const ENDPOINTS: u32 = 10;

fn node() -> LocalNode {
    let mut node = LocalNode::new("node-1".parse().expect("a name"));
    node.addresses = vec![IpAddr::from([192, 168, 0, 2])];
    node.pods = LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
    node
}

fn service(n: u32, endpoints: u32) -> (Service, EndpointSet) {
    let name = ObjectName::new(&format!("ns-{}", n % 100), &format!("service-{n}"));
    let mut service = Service::new(name.expect("a name"));
    service.cluster_ips = ClusterIps::Assigned(vec![Ipv4Addr::from(0xac10_0000 + n).into()]);
    service.ports = vec![ServicePort::new(80)];
    let ports: Arc<[EndpointPort]> = [EndpointPort::new(8080)].into();
    let endpoint = |i: u32| {
        let mut endpoint = Endpoint::new(Ipv4Addr::from(0x0a00_0000 + n * ENDPOINTS + i).into());
        endpoint.ports = Arc::clone(&ports);
        endpoint.node = Some(format!("node-{}", i % 30).parse().expect("a name"));
        endpoint
    };
    let endpoints = EndpointSet::new(service.name.clone(), (0..endpoints).map(endpoint));
    (service, endpoints)
}

fn plan(mode: Mode, services: &[(Service, EndpointSet)]) -> Plan {
    let services = services.iter().map(|(service, set)| (service, set));
    Plan::new(&node(), mode, services)
}

fn of_nftables(c: &mut Criterion) {
    let mut chains = Config::default();
    chains.layout = Layout::Chains;
    let layouts = [("flat", Config::default()), ("chains", chains)];

    let mut group = c.benchmark_group("nftables/compile");
    group.sample_size(10);
    for count in [1_000, 10_000] {
        let services: Vec<_> = (0..count).map(|n| service(n, ENDPOINTS)).collect();
        let plan = plan(Mode::Nftables, &services);
        for (layout, config) in &layouts {
            // Each service is a cluster IP, a frontend and its endpoints.
            group.throughput(Throughput::Elements(u64::from(count * (ENDPOINTS + 2))));
            group.bench_function(BenchmarkId::new(*layout, count), |b| {
                b.iter(|| compile(black_box(&plan), config));
            });
        }
    }
    group.finish();

    let mut services: Vec<_> = (0..10_000).map(|n| service(n, ENDPOINTS)).collect();
    let before = plan(Mode::Nftables, &services);
    services[5_000] = service(5_000, ENDPOINTS - 1);
    let after = plan(Mode::Nftables, &services);
    let changes = Plan::diff(&before, &after);
    for (layout, config) in &layouts {
        let script = delta(&after, &changes, config).script;
        eprintln!(
            "nftables/delta/one_endpoint/{layout}: {} bytes, {} lines",
            script.len(),
            script.lines().count()
        );
        c.bench_function(&format!("nftables/delta/one_endpoint/{layout}/10000"), |b| {
            b.iter(|| delta(black_box(&after), &changes, config));
        });
    }
}

fn of_iptables(c: &mut Criterion) {
    let layouts = [("tree", iptables::Layout::Tree), ("linear", iptables::Layout::Linear)];
    let layouts = layouts.map(|(name, layout)| {
        let mut config = iptables::Config::default();
        config.layout = layout;
        (name, config)
    });

    let mut group = c.benchmark_group("iptables/compile");
    group.sample_size(10);
    for count in [1_000, 10_000] {
        let services: Vec<_> = (0..count).map(|n| service(n, ENDPOINTS)).collect();
        let plan = plan(Mode::Iptables, &services);
        for (layout, config) in &layouts {
            let lines = iptables::compile(&plan, IpFamily::V4, config).lines().count();
            // A chain and its rules for each endpoint, and what leads there.
            assert!(lines > (count * ENDPOINTS * 4) as usize);
            group.throughput(Throughput::Elements(lines as u64));
            group.bench_function(BenchmarkId::new(*layout, count), |b| {
                b.iter(|| iptables::compile(black_box(&plan), IpFamily::V4, config));
            });
        }
    }
    group.finish();

    let mut services: Vec<_> = (0..10_000).map(|n| service(n, ENDPOINTS)).collect();
    let before = plan(Mode::Iptables, &services);
    services[5_000] = service(5_000, ENDPOINTS - 1);
    let less = plan(Mode::Iptables, &services);
    services.push(service(10_000, ENDPOINTS));
    let more = plan(Mode::Iptables, &services);
    for (case, before, after) in [("one_endpoint", &before, &less), ("one_service", &less, &more)] {
        let changes = Plan::diff(before, after);
        for (layout, config) in &layouts {
            let input = iptables::delta(after, &changes, IpFamily::V4, config);
            let (bytes, lines) = (input.len(), input.lines().count());
            eprintln!("iptables/delta/{case}/{layout}: {bytes} bytes, {lines} lines");
            assert!(lines < 100 || (*layout == "linear" && case == "one_service"), "{lines}");
            c.bench_function(&format!("iptables/delta/{case}/{layout}/10000"), |b| {
                b.iter(|| iptables::delta(black_box(after), &changes, IpFamily::V4, config));
            });
        }
    }
}

criterion_group!(benches, of_nftables, of_iptables);
criterion_main!(benches);
