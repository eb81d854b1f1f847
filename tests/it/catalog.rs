//! The catalog against computations from scratch: after any sequence of events its plan, endpoint sets, zone, index and pools are those
//! of a [model] that keeps plain maps of objects and computes everything anew; and what is said to have changed is what has.

mod bytes;
mod check;
#[cfg(feature = "serde")]
mod deltas;
mod model;
mod week;

use proptest::prelude::*;
use svcplane::catalog::Changes;
use svcplane::plan::Plan;

use bytes::Bytes;
use check::{Pair, same_behaviour};

/// Bytes for each step.
fn steps(most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..28), 1..most)
}

fn made() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 4)
}

/// A number for each place, by which places are shuffled.
fn shuffle(seed: u64) -> impl Fn(usize) -> u64 {
    move |n| {
        (n as u64 + 1).wrapping_mul(seed | 1).rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn agrees_with_a_computation_from_scratch(
        made in made(),
        steps in steps(48),
        seed in any::<u64>(),
    ) {
        let mut pair = Pair::new(Bytes(&made).made());
        for step in &steps {
            let step = Bytes(step).step(&pair.model);
            pair.take(&step);
        }
        let mut asked = Bytes(&made);
        let asked = [asked.labels(), asked.labels(), asked.labels()];
        pair.check(&asked);
        pair.check_order(shuffle(seed));
    }

    #[test]
    fn changes_merge(made in made(), steps in steps(16), cut in any::<(u8, u8)>()) {
        let mut pair = Pair::new(Bytes(&made).made());
        let first = pair.catalog.plan().clone();
        let mut all: Vec<Changes> = Vec::new();
        for step in &steps {
            let step = Bytes(step).step(&pair.model);
            all.push(pair.take(&step));
        }
        let merged = |changes: &[Changes]| {
            changes.iter().cloned().fold(Changes::default(), |mut merged, later| {
                merged.merge(later);
                merged
            })
        };
        let whole = merged(&all);
        prop_assert_eq!(&whole.plan, &Plan::diff(&first, pair.catalog.plan()));
        // Neighbours first.
        let mut cuts = [usize::from(cut.0) % all.len(), usize::from(cut.1) % all.len()];
        cuts.sort_unstable();
        let parts = [&all[..cuts[0]], &all[cuts[0]..cuts[1]], &all[cuts[1]..]].map(merged);
        prop_assert_eq!(&merged(&parts), &whole);
        let mut followed = first.clone();
        for part in &parts {
            followed.apply(&part.plan);
        }
        same_behaviour(&followed, pair.catalog.plan());
        let mut at_once = first;
        at_once.apply(&whole.plan);
        same_behaviour(&at_once, pair.catalog.plan());
    }
}

/// A Service that loses its selector has from its Endpoints what it had from the pods.
#[test]
fn endpoints_that_pods_were_stay_by_the_endpoints() {
    use svcplane::catalog::{Catalog, EndpointSource};
    use svcplane::endpoints::Endpoints;
    use svcplane::labels::Labels;
    use svcplane::name::ObjectName;
    use svcplane::plan::{LocalNode, Mode};
    use svcplane::pod::{Phase, Pod};
    use svcplane::service::{Service, ServicePort};

    let name = |name| ObjectName::new("a", name).expect("a name");
    let mut service = Service::new(name("web"));
    service.selector = Labels::from_iter([("app", "x")]);
    service.ports = vec![ServicePort::new(80)];
    let mut pod = Pod::new(name("web-0"));
    pod.labels = Labels::from_iter([("app", "x")]);
    (pod.phase, pod.ready) = (Phase::Running, true);
    pod.ips = vec!["10.0.0.1".parse().expect("an address")];
    let endpoints = Endpoints::resolve(&service, [&pod], None).expect("it has a selector");

    let node = LocalNode::new("here".parse().expect("a name"));
    let mut catalog = Catalog::new(node, Mode::Nftables).with_pods(EndpointSource::Pods);
    catalog.apply(service.clone());
    catalog.apply(pod);
    catalog.apply(endpoints);
    let before = catalog.endpoints(&service.name).cloned();
    service.selector = Labels::default();
    catalog.apply(service.clone());
    assert_eq!(before.as_ref().map(|set| set.endpoints().count()), Some(1));
    assert_eq!(catalog.endpoints(&service.name), before.as_ref());
}

/// What Services claim that a node no longer serves, others have there.
#[test]
fn another_node_forgets_whom_it_does_not_serve() {
    use svcplane::catalog::Catalog;
    use svcplane::labels::Labels;
    use svcplane::name::ObjectName;
    use svcplane::plan::{LocalNode, Mode, PROXY_NAME_LABEL};
    use svcplane::service::{ClusterIps, Service, ServicePort};
    use svcplane::time::Timestamp;

    let service = |name, created, labels: &[(&str, &str)]| {
        let mut service = Service::new(ObjectName::new("a", name).expect("a name"));
        service.created = Some(Timestamp::from_unix(created));
        service.labels = labels.iter().copied().collect::<Labels>();
        service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.1".parse().expect("an address")]);
        service.ports = vec![ServicePort::new(80)];
        service
    };
    let (older, younger) =
        (service("older", 1, &[]), service("younger", 2, &[(PROXY_NAME_LABEL, "mine")]));
    let mut node = LocalNode::new("here".parse().expect("a name"));
    let mut catalog = Catalog::new(node.clone(), Mode::Nftables);
    catalog.apply_all([older, younger]);
    node.proxy_name = Some("mine".into());
    catalog.set_node(node);
    assert_eq!(catalog.plan().conflicts().count(), 0);
    assert_eq!(catalog.plan().ports().map(|port| port.frontends.len()).collect::<Vec<_>>(), [1]);
}

/// Those that go first, then those that are edited or come, in the order of their text; nothing of those that stay.
#[test]
fn a_route_tells_what_a_balancer_has_to_do() {
    use svcplane::backend::BackendChange::{Remove, Set};
    use svcplane::backend::{Backend, BackendChange};
    use svcplane::catalog::Catalog;
    use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSlice};
    use svcplane::labels::Labels;
    use svcplane::name::ObjectName;
    use svcplane::net::IpFamily;
    use svcplane::plan::{LocalNode, Mode, WEIGHTS_ANNOTATION};
    use svcplane::service::{ClusterIps, Service, ServicePort, TrafficPolicy};

    let mut service = Service::new(ObjectName::new("a", "web").expect("a name"));
    service.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.1".parse().expect("an address")]);
    service.ports = vec![ServicePort::new(80)];
    let slice = |last: &[u8]| {
        let name = ObjectName::new("a", "web-1").expect("a name");
        let mut slice = EndpointSlice::new(name, service.name.clone(), IpFamily::V4);
        let endpoint = |&n: &u8| Endpoint::new([10, 0, 0, n].into());
        slice.set_endpoints([EndpointPort::new(80)], last.iter().map(endpoint));
        slice
    };
    let backend = |n: u8| Backend::new(([10, 0, 0, n], 80).into());
    let told = |changes: &Changes| -> Vec<BackendChange> {
        let (_, change) = changes.plan.services().next().expect("a Service");
        let mut routes = change.routes();
        let cluster = routes.next().expect("a route");
        assert_eq!(cluster.policy, TrafficPolicy::Cluster);
        assert!(routes.all(|local| local.backends().next().is_none()));
        cluster.backends().collect()
    };
    let mut catalog = Catalog::new(LocalNode::new("here".parse().expect("a name")), Mode::Nftables);
    catalog.apply(service.clone());
    let changes = catalog.apply(slice(&[1, 2, 10]));
    assert_eq!(told(&changes), [Set(backend(10)), Set(backend(1)), Set(backend(2))]);
    let changes = catalog.apply(slice(&[2, 3, 9, 10]));
    assert_eq!(told(&changes), [Remove(backend(1).addr), Set(backend(3)), Set(backend(9))]);
    service.annotations = Labels::from_iter([(WEIGHTS_ANNOTATION, "10.0.0.3=7")]);
    let changes = catalog.apply(service.clone());
    assert_eq!(told(&changes), [Set(backend(3).with_weight(7))]);
    let changes = catalog.apply(svcplane::catalog::Key::Service(service.name.clone()));
    let gone = [10, 2, 3, 9].map(|n| Remove(backend(n).addr));
    assert_eq!(told(&changes), gone);
}

/// A node's CPU is what endpoints are shared out by, on whichever node they are.
#[test]
fn hints_follow_the_nodes() {
    use svcplane::catalog::{Catalog, EndpointSource};
    use svcplane::endpoints::EndpointSet;
    use svcplane::labels::Labels;
    use svcplane::name::ObjectName;
    use svcplane::node::{Node, Nodes, ZONE_LABEL};
    use svcplane::plan::{LocalNode, Mode};
    use svcplane::pod::{Phase, Pod};
    use svcplane::service::{Service, ServicePort};

    let mut service = Service::new(ObjectName::new("a", "web").expect("a name"));
    service.annotations = Labels::from_iter([("service.kubernetes.io/topology-mode", "Auto")]);
    service.selector = Labels::from_iter([("app", "x")]);
    service.ports = vec![ServicePort::new(80)];
    let pods: Vec<Pod> = (0_u8..4)
        .map(|n| {
            let mut pod = Pod::new(ObjectName::new("a", &format!("web-{n}")).expect("a name"));
            pod.labels = Labels::from_iter([("app", "x")]);
            (pod.phase, pod.ready) = (Phase::Running, true);
            pod.ips = vec![[10, 0, 0, n].into()];
            pod.node = Some(format!("n{}", n % 2).parse().expect("a name"));
            pod
        })
        .collect();
    let node = |n: u8, cpu_millis| {
        let mut node = Node::new(format!("n{n}").parse().expect("a name"));
        node.labels = Labels::from_iter([(ZONE_LABEL, if n == 0 { "a" } else { "b" })]);
        (node.ready, node.cpu_millis) = (true, cpu_millis);
        node
    };
    let local = LocalNode::new("n0".parse().expect("a name"));
    let mut catalog = Catalog::new(local, Mode::Nftables).with_pods(EndpointSource::Pods);
    catalog.apply_all(pods.iter().cloned());
    catalog.apply(service.clone());
    for cpus in [[4_000, 4_000], [4_000, 0], [4_000, 4_100], [0, 0], [4_000, 4_000]] {
        catalog.apply_all([node(0, cpus[0]), node(1, cpus[1])]);
        let nodes: Nodes = (0..).zip(cpus).map(|(n, cpu)| node(n, cpu)).collect();
        let expected = EndpointSet::resolve(&service, &pods, &nodes);
        assert_eq!(catalog.endpoints(&service.name), Some(&expected), "{cpus:?}");
        let hinted = expected.endpoints().all(|endpoint| !endpoint.hints.zones.is_empty());
        assert_eq!(hinted, !cpus.contains(&0), "{cpus:?}");
    }
}

/// Every midnight.
#[test]
fn a_week_ends_as_it_began() {
    let mut week = week::Week::new();
    week.check();
    for _ in 0..7 {
        week.day(1_500);
        week.check();
    }
    assert_eq!(week.now, svcplane::time::Instant::from_secs(7 * 86_400));
    assert!(week.events >= 10_500, "{}", week.events);
}
