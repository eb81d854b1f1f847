//! Input is a function of what it is made from as sets, and nothing that a stranger wrote gets into it unchecked.

use std::net::SocketAddr;

use proptest::prelude::*;
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::iptables::{self, Config, Prefix};
use svcplane::net::{InterfaceName, IpFamily, Protocol};
use svcplane::plan::{LocalDetector, LocalNode, Mode, Packet, Plan};
use svcplane::service::{ClusterIps, Service, ServicePort};

use crate::ends::{End, Host, cluster};
use crate::plan_model::Cluster;
use crate::strangers::{local_node, or_anything, plan, service, slice};

use super::tables::Tables;
use super::{FAMILIES, configs, loaded};

const SIGNS: &str = " \n.:/,_-@\"!+[]*;";

/// Each line is known to the parser, which is strict; only chains of this prefix are written.
fn is_well_formed(tables: &mut Tables, input: &str, prefix: &Prefix) -> Result<(), TestCaseError> {
    let strange = input.chars().find(|c| !c.is_ascii_alphanumeric() && !SIGNS.contains(*c));
    prop_assert_eq!(strange, None, "{}", input);
    let applied = tables.apply(input);
    prop_assert!(applied.is_ok(), "{:?}\n{}", applied, input);
    for ((_, chain), _) in tables.own() {
        prop_assert!(prefix.names(chain), "{}", chain);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn strangers_write_no_rules(
        node in local_node(),
        services in prop::collection::vec(service(), 1..4),
        slices in prop::collection::vec(slice(), 0..6),
        prefix in or_anything(&["SVCP", "A", "SVCPLAN"]),
    ) {
        let plan = plan(&node, Mode::Iptables, services, slices);
        let empty = Plan::empty(node.clone(), Mode::Iptables);
        let all = configs().into_iter().flat_map(|c| FAMILIES.map(|f| (c.clone(), f)));
        for (mut config, family) in all {
            config.prefix = prefix.parse().unwrap_or(config.prefix);
            let mut tables = Tables::new(family);
            let there = Plan::diff(&empty, &plan);
            let back = Plan::diff(&plan, &empty);
            for input in [
                iptables::compile(&plan, family, &config),
                iptables::compile(&empty, family, &config),
                iptables::delta(&plan, &there, family, &config),
                iptables::delta(&empty, &back, family, &config),
            ] {
                is_well_formed(&mut tables, &input, &config.prefix)?;
            }
            for plan in [&plan, &empty, &plan] {
                let input = iptables::replace(plan, family, &config, &tables.saved());
                is_well_formed(&mut tables, &input, &config.prefix)?;
            }
            let input = iptables::remove(&config, &tables.saved());
            is_well_formed(&mut tables, &input, &config.prefix)?;
            prop_assert_eq!(&tables.by_name, &Tables::new(family).by_name);
        }
    }

    /// Whatever an interface may be called: but what ends in a plus sign is the beginning of a name to the tools.
    #[test]
    fn interfaces_can_be_matched(name in "[-.+@_a-zA-Z0-9]{1,15}", prefix: bool) {
        let Ok(name) = name.parse::<InterfaceName>() else { return Ok(()) };
        let ends_in_plus = name.as_str().ends_with('+') && (!prefix || name.as_str().len() == 15);
        prop_assume!(!ends_in_plus);
        let mut node = LocalNode::new("here".parse().expect("a name"));
        node.pods =
            if prefix { LocalDetector::InterfacePrefix(name) } else { LocalDetector::Bridge(name) };
        let plan = called(&node, &service_of("ns/a", ""));
        for config in configs() {
            let tables = loaded(&plan, IpFamily::V4, &config);
            let from = |interface: &str| {
                let to = SocketAddr::from(([10, 96, 0, 1], 80));
                let mut packet = Packet::new(Protocol::Tcp, [192, 0, 2, 1].into(), to);
                packet.interface = Some(interface.parse().expect("a name"));
                let ends = tables.ends(&Host::new(&node), &packet);
                (ends, super::planned(&plan, &packet))
            };
            let (mut shorter, mut longer) = (name.to_string(), name.to_string());
            shorter.pop();
            longer.push('1');
            for interface in [name.as_str(), &shorter, &longer, "other"] {
                if interface.parse::<InterfaceName>().is_ok() {
                    let (ends, expected) = from(interface);
                    prop_assert_eq!(ends, expected, "from {}", interface);
                }
            }
        }
    }

    #[test]
    fn order_changes_nothing((cluster, shuffled) in cluster(Mode::Iptables).prop_flat_map(|cluster| {
        let lists = cluster.services.clone().into_iter().map(|(service, endpoints)| {
            (Just(service), Just(endpoints).prop_shuffle())
        });
        let services = lists.collect::<Vec<_>>().prop_shuffle();
        (Just(cluster), services)
    })) {
        let again = Cluster { services: shuffled, ..cluster.clone() };
        let empty = Plan::empty(cluster.node.clone(), Mode::Iptables);
        let plans = [cluster.plan(), again.plan()];
        for (config, family) in configs().iter().flat_map(|c| FAMILIES.map(|f| (c, f))) {
            let [a, b] = plans.each_ref().map(|plan| iptables::compile(plan, family, config));
            prop_assert_eq!(a, b);
            let [a, b] = plans.each_ref().map(|plan| {
                let (there, back) = (Plan::diff(&empty, plan), Plan::diff(plan, &empty));
                [(plan, there), (&empty, back)]
                    .map(|(plan, changes)| iptables::delta(plan, &changes, family, config))
            });
            prop_assert_eq!(a, b);
        }
    }
}

fn service_of(name: &str, port: &str) -> Service {
    let mut service = Service::new(name.parse().expect("a name"));
    service.cluster_ips = ClusterIps::Assigned(vec![[10, 96, 0, 1].into()]);
    let mut named = ServicePort::new(80);
    named.name = (!port.is_empty()).then(|| port.parse().expect("a label"));
    service.ports = vec![named];
    service
}

/// With an endpoint that is here.
fn called(node: &LocalNode, service: &Service) -> Plan {
    let mut endpoint = Endpoint::new([10, 0, 0, 1].into());
    let mut port = EndpointPort::new(8080);
    port.name.clone_from(&service.ports[0].name);
    endpoint.ports = [port].into();
    let set = EndpointSet::new(service.name.clone(), [endpoint]);
    Plan::new(node, Mode::Iptables, [(service, &set)])
}

/// The longest of everything still fits names, comments and lines.
#[test]
fn the_longest_names_fit() {
    let label = "a".repeat(63);
    let mut service = service_of(&format!("{label}/{label}"), &label);
    service.client_ip_affinity = Some(std::time::Duration::MAX);
    let node = LocalNode::new("here".parse().expect("a name"));
    let mut config = Config::default();
    config.prefix = "PREFIX7".parse().expect("a prefix");
    for layout in configs().map(|config| config.layout) {
        config.layout = layout;
        for plan in [called(&node, &service), called(&node, &service_of("ns/a", &label))] {
            let tables = loaded(&plan, IpFamily::V4, &config);
            let to = SocketAddr::from(([10, 96, 0, 1], 80));
            let packet = Packet::new(Protocol::Tcp, [192, 0, 2, 1].into(), to);
            let ends = tables.ends(&Host::new(&node), &packet);
            assert_eq!(ends, [End::Backend(SocketAddr::from(([10, 0, 0, 1], 8080)), false)].into());
        }
        // And without endpoints, for which there are words.
        let set = EndpointSet::new(service.name.clone(), []);
        loaded(&Plan::new(&node, Mode::Iptables, [(&service, &set)]), IpFamily::V4, &config);
        service.client_ip_affinity = Some(std::time::Duration::ZERO);
        loaded(&called(&node, &service), IpFamily::V4, &config);
    }
}
