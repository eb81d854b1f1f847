//! How likely each endpoint is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use proptest::prelude::*;
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::iptables::compile;
use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{LocalNode, Mode, Packet, Plan, WEIGHTS_ANNOTATION};
use svcplane::service::{ClusterIps, Service, ServicePort};

use crate::ends::{End, Host};

use super::rule::State;
use super::{configs, loaded};

fn node() -> LocalNode {
    LocalNode::new("here".parse().expect("a name"))
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 80))
}

/// A Service with endpoints of these weights.
fn plan(weights: &[u32]) -> Plan {
    let mut service = Service::new("ns/drawn".parse().expect("a name"));
    service.cluster_ips = ClusterIps::Assigned(vec![[10, 96, 0, 1].into()]);
    service.ports = vec![ServicePort::new(80)];
    let mut texts = String::new();
    for (n, weight) in (1..).zip(weights).filter(|(_, weight)| **weight != 1) {
        write!(texts, "{}={weight},", addr(n).ip()).expect("a String takes it");
    }
    service.annotations = [(WEIGHTS_ANNOTATION, &*texts)].into_iter().collect();
    let endpoints = (1..).zip(weights).map(|(n, _)| {
        let mut endpoint = Endpoint::new(addr(n).ip());
        endpoint.ports = [EndpointPort::new(80)].into();
        endpoint
    });
    let set = EndpointSet::new(service.name.clone(), endpoints);
    Plan::new(&node(), Mode::Iptables, [(&service, &set)])
}

/// kube-proxy's `TestComputeProbability`: the table, and that no two follow each other that are written alike. The
/// first of n rules takes one of n, the next one of n - 1, so that one port has them all.
#[test]
fn probabilities_are_written_as_kube_proxy_does() {
    let plan = plan(&vec![1; 100_001]);
    for config in configs() {
        let input = compile(&plan, IpFamily::V4, &config);
        let rules = input.lines().filter_map(|line| line.split_once("--probability "));
        let texts: Vec<&str> =
            rules.map(|(_, rest)| rest.split_once(' ').expect("a target").0).collect();
        assert_eq!(texts.len(), 100_000, "the last is taken without being drawn");
        for (n, expected) in [
            (2, "0.5000000000"),
            (3, "0.3333333333"),
            (10, "0.1000000000"),
            (100, "0.0100000000"),
            (1_000, "0.0010000000"),
            (10_000, "0.0001000000"),
            (100_000, "0.0000100000"),
            (100_001, "0.0000099999"),
        ] {
            assert_eq!(texts[100_001 - n], expected, "1 of {n}");
        }
        for (n, text) in (2..=100_001_u32).rev().zip(&texts) {
            assert_eq!(*text, format!("{:.10}", 1.0 / f64::from(n)), "1 of {n}");
        }
        assert!(texts.windows(2).all(|pair| pair[0] < pair[1]), "of one length, so in order");
    }
}

/// What is left out of the chances by ten digits and by the kernel's 31 bits, for each rule.
const ROUNDING: f64 = 0.5e-10 + 0.5 / 2_147_483_648.0;

fn shares(weights: &[u32]) -> Result<(), TestCaseError> {
    let plan = plan(weights);
    let host = Host::new(plan.node());
    let count = u32::try_from(weights.len()).expect("few");
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    for config in configs() {
        let tables = loaded(&plan, IpFamily::V4, &config);
        let to = SocketAddr::from(([10, 96, 0, 1], 80));
        let packet = Packet::new(Protocol::Tcp, [192, 0, 2, 1].into(), to);
        let mut found: BTreeMap<End, f64> = BTreeMap::new();
        for branch in tables.branches(&host, &packet, State::New, 0) {
            *found.entry(branch.end).or_default() += branch.chance;
        }
        prop_assert_eq!(found.len(), weights.len());
        prop_assert!((found.values().sum::<f64>() - 1.0).abs() < 1e-12);
        for (n, weight) in (1..).zip(weights) {
            let share = found.get(&End::Backend(addr(n), false));
            let share = share.ok_or_else(|| TestCaseError::fail(format!("{n} is not drawn")))?;
            let off = (share - f64::from(*weight) / total).abs();
            prop_assert!(off <= ROUNDING * f64::from(count), "{}: {}", n, off);
        }
    }
    Ok(())
}

#[test]
fn equal_endpoints_have_equal_shares() {
    for n in (1..=20).chain([64, 100, 333]) {
        shares(&vec![1; n]).unwrap_or_else(|error| panic!("{n}: {error}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn shares_are_as_weights_say(
        weights in
            prop::collection::vec(prop_oneof![1_u32..10, 1_u32..=65_535, Just(65_535)], 1..40),
    ) {
        shares(&weights)?;
    }
}
