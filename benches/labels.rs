//! Selectors and objects, by the index and by the linear scan.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use svcplane::labels::{Index, Labels, Selector};

const SERVICES: u32 = 10_000;
const PODS: u32 = 150_000;

/// Half of the Services have a selector of one pair, half of two; every pod is of one of them.
fn selector(service: u32) -> Labels {
    let app = ("app".to_owned(), format!("app-{service}"));
    let tier = ("tier".to_owned(), format!("tier-{}", service % 4));
    if service % 2 == 0 { Labels::from_iter([app]) } else { Labels::from_iter([app, tier]) }
}

fn pod(n: u32) -> Labels {
    let service = n % SERVICES;
    Labels::from_iter([
        ("app", format!("app-{service}")),
        ("tier", format!("tier-{}", service % 4)),
        ("pod-template-hash", format!("{:x}", service.wrapping_mul(2_654_435_761))),
        ("version", format!("v{}", service % 3)),
        ("apps.kubernetes.io/pod-index", format!("{}", n / SERVICES)),
    ])
}

fn filled() -> Index<u32, u32> {
    let mut index = Index::default();
    for service in 0..SERVICES {
        index.insert_selector("default", service, Selector::from(&selector(service)));
    }
    index
}

/// One pod event: which of 10,000 Services does it matter to?
fn event(c: &mut Criterion) {
    let mut group = c.benchmark_group("labels/event");
    let index = filled();
    let selectors: Vec<Selector> = (0..SERVICES).map(|n| Selector::from(&selector(n))).collect();
    let labels = pod(77_777);
    let scan = |labels: &Labels| -> Vec<u32> {
        let matching = selectors.iter().zip(0..).filter(|(selector, _)| selector.matches(labels));
        matching.map(|(_, id)| id).collect()
    };
    assert_eq!(index.selectors_matching("default", &labels), [&7_777]);
    assert_eq!(scan(&labels), [7_777]);
    group.bench_function("index", |b| {
        b.iter(|| index.selectors_matching("default", black_box(&labels)).len());
    });
    group.bench_function("linear", |b| b.iter(|| scan(black_box(&labels)).len()));
    group.finish();
}

/// Everything: the pods of each of 10,000 Services among 150,000.
fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("labels/all");
    group.sample_size(10);
    let mut index = filled();
    let pods: Vec<Labels> = (0..PODS).map(pod).collect();
    for (labels, n) in pods.iter().zip(0..) {
        index.insert_object("default", n, labels);
    }
    let selectors: Vec<Selector> = (0..SERVICES).map(|n| Selector::from(&selector(n))).collect();
    group.bench_function("index", |b| {
        b.iter(|| {
            let found: usize =
                selectors.iter().map(|s| index.objects_matching("default", s).len()).sum();
            assert_eq!(found, PODS as usize);
        });
    });
    group.bench_function("file", |b| {
        b.iter(|| {
            let mut index: Index<u32, u32> = Index::default();
            for (labels, n) in pods.iter().zip(0..) {
                index.insert_object("default", n, labels);
            }
            assert_eq!(index.objects(), PODS as usize);
        });
    });
    // A hundredth of the Services: the whole takes a minute and more.
    group.bench_function("linear_of_100", |b| {
        b.iter(|| {
            let matching =
                |selector: &Selector| pods.iter().filter(|pod| selector.matches(pod)).count();
            let found: usize = selectors.iter().step_by(100).map(matching).sum();
            assert_eq!(found, PODS as usize / 100);
        });
    });
    group.finish();
}

criterion_group!(benches, event, all);
criterion_main!(benches);
