//! A script is a function of its inputs as sets, and nothing that a stranger wrote gets into it unchecked.

use proptest::prelude::*;
use svcplane::nftables::{self, TableName};
use svcplane::plan::{Mode, Plan};

use crate::ends::cluster;
use crate::plan_model::Cluster;
use crate::strangers::{local_node, or_anything, plan, service, slice};

use super::configs;
use super::ruleset::Ruleset;

const SIGNS: &str = " \n.:/,_-@{}\"!=&|*+[];";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn strangers_write_no_rules(
        node in local_node(),
        services in prop::collection::vec(service(), 1..4),
        slices in prop::collection::vec(slice(), 0..6),
        table in or_anything(&["svcplane", "a-b_c"]),
    ) {
        let plan = plan(&node, Mode::Nftables, services, slices);
        let empty = Plan::empty(node.clone(), Mode::Nftables);
        for mut config in configs() {
            config.table = table.parse::<TableName>().unwrap_or(config.table);
            let whole = nftables::compile(&plan, &config);
            let there = nftables::delta(&plan, &Plan::diff(&empty, &plan), &config);
            let back = nftables::delta(&empty, &Plan::diff(&plan, &empty), &config);
            let sweep = nftables::sweep(&empty, &config, &back.leftovers);
            let start = nftables::compile(&empty, &config);
            for script in [&whole, &start, &there.script, &back.script, &sweep] {
                let strange = script.chars().find(|c| !c.is_ascii_alphanumeric() && !SIGNS.contains(*c));
                prop_assert_eq!(strange, None, "{}", script);
                prop_assert!(script.is_empty() || script.ends_with('\n'));
            }
            // The parser knows each shape; only the tables of this name are touched.
            let mut rules = Ruleset::default();
            for script in [&whole, &start, &there.script, &back.script, &sweep] {
                let applied = rules.apply(script);
                prop_assert!(applied.is_ok(), "{:?}\n{}", applied, script);
                prop_assert!(rules.tables.keys().all(|key| key.name == config.table.as_str()));
            }
        }
    }

    #[test]
    fn order_changes_nothing((cluster, shuffled) in cluster(Mode::Nftables).prop_flat_map(|cluster| {
        let lists = cluster.services.clone().into_iter().map(|(service, endpoints)| {
            (Just(service), Just(endpoints).prop_shuffle())
        });
        let services = lists.collect::<Vec<_>>().prop_shuffle();
        (Just(cluster), services)
    })) {
        let again = Cluster { services: shuffled, ..cluster.clone() };
        let empty = Plan::empty(cluster.node.clone(), Mode::Nftables);
        let (plan, again) = (cluster.plan(), again.plan());
        for config in configs() {
            prop_assert_eq!(nftables::compile(&plan, &config), nftables::compile(&again, &config));
            let [a, b] = [&plan, &again].map(|p| nftables::delta(p, &Plan::diff(&empty, p), &config));
            prop_assert_eq!(&a, &b);
            let back = nftables::delta(&empty, &Plan::diff(&plan, &empty), &config).leftovers;
            let reversed: Vec<_> = back.iter().rev().cloned().collect();
            let [a, b] = [&back, &reversed].map(|l| nftables::sweep(&empty, &config, l));
            prop_assert_eq!(a, b);
        }
    }
}
