//! Answers from a zone of 10,000 Services, one endpoint more or less in it, and the environment of a pod among so many.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svcplane::dns::{Code, Config, Name, NameBuf, Record, RecordData, RecordType, Zone};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::env::Environment;
use svcplane::name::ObjectName;
use svcplane::service::{ClusterIps, Service, ServicePort};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;
/// Every so many Services one is headless, with so many endpoints.
const HEADLESS: (u32, u32) = (100, 100);

fn service(n: u32, namespaces: u32) -> Service {
    let name = ObjectName::new(&format!("ns-{}", n % namespaces), &format!("service-{n}"));
    let mut service = Service::new(name.expect("a name"));
    service.cluster_ips = if n % HEADLESS.0 == 0 {
        ClusterIps::Headless
    } else {
        ClusterIps::Assigned(vec![Ipv4Addr::from(0xac10_0000 + n).into()])
    };
    let mut port = ServicePort::new(80);
    port.name = Some("http".parse().expect("a label"));
    service.ports = vec![port];
    service
}

fn endpoints(service: &Service, n: u32, count: u32) -> EndpointSet {
    let mut port = EndpointPort::new(8080);
    port.name.clone_from(&service.ports[0].name);
    let ports: Arc<[EndpointPort]> = [port].into();
    let endpoint = |i: u32| {
        let mut endpoint = Endpoint::new(Ipv4Addr::from(0x0a00_0000 + n * HEADLESS.1 + i).into());
        endpoint.ports = ports.clone();
        endpoint
    };
    EndpointSet::new(service.name.clone(), (0..count).map(endpoint))
}

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local".parse().expect("a name"), Config::default());
    for n in 0..SERVICES {
        let service = service(n, 100);
        let count = if service.is_headless() { HEADLESS.1 } else { ENDPOINTS };
        assert!(zone.upsert(&service, &endpoints(&service, n, count)));
    }
    zone
}

/// Names of Services that a step apart are all of one kind.
fn names(prefix: &str, first: u32, step: usize) -> Vec<NameBuf> {
    let name = |n: u32| format!("{prefix}service-{n}.ns-{}.svc.cluster.local", n % 100);
    let numbers = (first..SERVICES).step_by(step);
    numbers.map(|n| name(n).parse().expect("a name")).collect()
}

/// What a server does with a record, but for writing it.
fn look(record: &Record<'_>) -> usize {
    record.name.wire_len() + record.data.wire_len()
}

fn answer(c: &mut Criterion) {
    let mut group = c.benchmark_group("dns/answer");
    let zone = zone();
    let cases = [
        ("a", names("", 1, 3), RecordType::A, 1, 0),
        ("srv", names("_http._tcp.", 1, 3), RecordType::Srv, 1, 1),
        ("headless_100", names("", 0, HEADLESS.0 as usize), RecordType::A, 100, 0),
        ("nxdomain", names("no-", 1, 3), RecordType::A, 0, 0),
    ];
    for (case, names, kind, answers, additional) in cases {
        // Headless ones are among the others; they are few.
        // As they are in packets, side by side.
        let names: Vec<Box<[u8]>> = names
            .into_iter()
            .filter(|name| {
                let answer = zone.answer(name.name(), kind, 0);
                let counts = (answer.answers().len(), answer.additional().count());
                counts == (answers, additional)
            })
            .map(|name| name.as_wire().into())
            .collect();
        assert!(names.len() >= 100, "{case}: {} names", names.len());
        let (mut n, mut turn) = (0_usize, 0_u64);
        group.bench_function(case, |b| {
            b.iter(|| {
                // Scattered, so that a Service's lines are in the cache only if all of them fit.
                n = (n + 7_919) % names.len();
                turn += 1;
                let name = Name::from_wire(black_box(&names[n])).expect("a name");
                let answer = zone.answer(name, kind, turn);
                let expected = if answers == 0 { Code::NxDomain } else { Code::NoError };
                assert_eq!(answer.code(), expected);
                let sections = answer.answers().chain(answer.additional());
                let bytes: usize = sections.map(|record| look(&record)).sum();
                assert!(bytes >= answers * 20);
                bytes
            });
        });
    }
    group.finish();
}

fn update(c: &mut Criterion) {
    let mut group = c.benchmark_group("dns/update_one_endpoint");
    let mut zone = zone();
    for (n, count) in [(5_001, ENDPOINTS), (5_000, HEADLESS.1)] {
        let service = service(n, 100);
        let sets = [count - 1, count].map(|count| endpoints(&service, n, count));
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let changed = zone.upsert(&service, black_box(&sets[turn % 2]));
                turn += 1;
                assert!(changed);
            });
        });
        zone.upsert(&service, &sets[0]);
        let last = Ipv4Addr::from(0x0a00_0000 + n * HEADLESS.1 + count - 1);
        assert!(zone.pointers().all(|(ip, _)| ip != IpAddr::V4(last)));
        let name: NameBuf =
            format!("service-{n}.ns-{}.svc.cluster.local", n % 100).parse().expect("a name");
        let answer = zone.answer(name.name(), RecordType::A, 0);
        let mut ips = answer.answers().map(|record| record.data);
        assert!(ips.all(|data| matches!(data, RecordData::A(ip) if ip != last)));
    }
    group.finish();
}

/// All of them in one namespace, which is more than a program can be started with.
fn env(c: &mut Criterion) {
    let mut group = c.benchmark_group("env");
    let mut services: Vec<Service> = (0..SERVICES).map(|n| service(n, 1)).collect();
    services.retain(|service| !service.is_headless());
    group.sample_size(10);
    group.throughput(Throughput::Elements(services.len() as u64));
    group.bench_function("10000_services", |b| {
        b.iter(|| {
            let environment = Environment::new("ns-0", true, black_box(&services));
            assert_eq!(environment.vars().len(), services.len() * 8);
            assert!(environment.collisions().is_empty() && !environment.budget().fits());
            environment
        });
    });
    group.finish();
}

criterion_group!(benches, answer, update, env);
criterion_main!(benches);
