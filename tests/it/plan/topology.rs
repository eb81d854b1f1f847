//! Which endpoints traffic goes to, step by step.

use std::fmt::Write as _;

use svcplane::endpoints::EndpointSet;
use svcplane::plan::{Mode, Plan, Targets};
use svcplane::service::TrafficPolicy;

use super::{endpoints, everywhere, node};

/// A set of endpoints as `10.0.0.1 local ready zone=a,b node=test-node`.
fn hinted(list: &[&str]) -> EndpointSet {
    let service = everywhere();
    let plain: Vec<String> = list
        .iter()
        .map(|text| {
            text.split(' ').filter(|word| !word.contains('=')).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    let set = endpoints(&service, &plain);
    let with_hints = list.iter().map(|text| {
        let ip = super::ip(text.split(' ').next().expect("an address"));
        let mut endpoint = set.endpoints().find(|e| e.ip == ip).expect("it is there").clone();
        for word in text.split(' ').filter_map(|word| word.split_once('=')) {
            match word {
                ("zone", names) => {
                    endpoint.hints.zones = names.split(',').map(Into::into).collect();
                }
                (_, names) => {
                    let names = names.split(',').map(|name| name.parse().expect("a name"));
                    endpoint.hints.nodes = names.collect();
                }
            }
        }
        endpoint
    });
    EndpointSet::new(service.name.clone(), with_hints)
}

/// `1 2: ready`, by the last parts of the addresses.
fn described(targets: &Targets) -> String {
    let mut text = String::new();
    for backend in &targets.backends {
        let ip = backend.addr.ip().to_string();
        let last = ip.rsplit('.').next().unwrap_or_default();
        let _ = write!(text, "{last} ");
    }
    format!("{}: {}", text.trim_end(), targets.basis)
}

/// What it is about, the endpoints, those of the cluster and of the node.
const STEPS: &[(&str, &[&str], &str, &str)] = &[
    ("none at all", &[], ": none", ": none"),
    (
        "what is ready",
        &["10.0.0.1 local ready", "10.0.0.2 remote ready", "10.0.0.3 local"],
        "1 2: ready",
        "1: ready",
    ),
    (
        "what serves while it goes, only if none is ready",
        &["10.0.0.1 local ready", "10.0.0.2 local serving terminating"],
        "1: ready",
        "1: ready",
    ),
    (
        "that, in the cluster",
        &["10.0.0.1 remote serving terminating", "10.0.0.2 remote terminating", "10.0.0.3 local"],
        "1: terminating, as none is ready",
        ": none",
    ),
    (
        "that, on the node, while others are ready",
        &["10.0.0.1 local serving terminating", "10.0.0.2 remote ready"],
        "2: ready",
        "1: terminating, as none is ready",
    ),
    (
        "what serves and is neither ready nor goes, never",
        &["10.0.0.1 local serving", "10.0.0.2 remote serving"],
        ": none",
        ": none",
    ),
    (
        "hints for this node",
        &[
            "10.0.0.1 remote ready node=test-node",
            "10.0.0.2 local ready node=other,test-node",
            "10.0.0.3 remote ready node=other",
        ],
        "1 2: ready, with hints for this node",
        "2: ready",
    ),
    (
        "hints for this node before those for its zone",
        &["10.0.0.1 remote ready node=test-node zone=b", "10.0.0.2 remote ready node=other zone=a"],
        "1: ready, with hints for this node",
        ": none",
    ),
    (
        "one without hints for a node: those for zones",
        &["10.0.0.1 remote ready node=test-node zone=b", "10.0.0.2 remote ready zone=a"],
        "2: ready, with hints for this node's zone",
        ": none",
    ),
    (
        "no hint for this node: those for zones",
        &["10.0.0.1 remote ready node=other zone=a", "10.0.0.2 remote ready node=other zone=b"],
        "1: ready, with hints for this node's zone",
        ": none",
    ),
    (
        "hints for the zone",
        &[
            "10.0.0.1 remote ready zone=a",
            "10.0.0.2 local ready zone=b",
            "10.0.0.3 remote ready zone=b,a",
        ],
        "1 3: ready, with hints for this node's zone",
        "2: ready",
    ),
    (
        "one without hints",
        &["10.0.0.1 local ready zone=a", "10.0.0.2 remote ready"],
        "1 2: ready",
        "1: ready",
    ),
    (
        "no hint for this zone",
        &["10.0.0.1 local ready zone=b", "10.0.0.2 remote ready zone=c"],
        "1 2: ready",
        "1: ready",
    ),
    (
        "hints of those that are not ready do not matter, nor that they have none",
        &[
            "10.0.0.1 remote ready zone=a",
            "10.0.0.2 remote ready zone=b",
            "10.0.0.3 remote serving terminating",
            "10.0.0.4 remote zone=a",
        ],
        "1: ready, with hints for this node's zone",
        ": none",
    ),
    (
        "hints do not choose among those that go",
        &[
            "10.0.0.1 remote serving terminating zone=a node=test-node",
            "10.0.0.2 local serving terminating zone=b node=other",
        ],
        "1 2: terminating, as none is ready",
        "2: terminating, as none is ready",
    ),
];

/// kube-proxy's `CategorizeEndpoints` and `topologyModeFromHints` (`pkg/proxy/topology.go`), for a Service that uses
/// both policies.
#[test]
fn steps_of_the_choice() {
    for (what, list, cluster, local) in STEPS {
        let (mut node, mut service) = (node(), everywhere());
        node.zone = Some("a".into());
        service.external_traffic_policy = TrafficPolicy::Local;
        let plan = Plan::new(&node, Mode::Userspace, [(&service, &hinted(list))]);
        let port = plan.ports().next().expect("a port");
        assert_eq!(described(&port.cluster), *cluster, "{what}: cluster");
        assert_eq!(described(&port.local), *local, "{what}: local");
    }
}

/// The same: a node that does not know its zone follows no hint for zones.
#[test]
fn a_zone_that_is_not_known_is_nobodys() {
    let set = hinted(&["10.0.0.1 remote ready zone=a", "10.0.0.2 remote ready zone=,b"]);
    for (zone, expected) in [
        (None, "1 2: ready"),
        (Some(""), "1 2: ready"),
        (Some("b"), "2: ready, with hints for this node's zone"),
    ] {
        let mut node = node();
        node.zone = zone.map(Into::into);
        let plan = Plan::new(&node, Mode::Userspace, [(&everywhere(), &set)]);
        assert_eq!(described(&plan.ports().next().expect("a port").cluster), expected, "{zone:?}");
    }
}
