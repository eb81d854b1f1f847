//! The way from plan to plan: deltas and sweeps end where a full script does, and are never refused.

use proptest::prelude::*;
use svcplane::nftables::{self, Config, Delta, Leftover};
use svcplane::plan::{Changes, Mode, Packet, Plan};

use crate::ends::{Host, may_stay, packets};
use crate::plan_model::sequences::plans;

use super::ruleset::Ruleset;
use super::{configs, loaded, planned};

/// What is loaded, on its way.
struct Followed<'a> {
    config: &'a Config,
    rules: Ruleset,
    leftovers: Vec<Leftover>,
}

impl Followed<'_> {
    fn sweep(&mut self, plan: &Plan) -> Result<(), TestCaseError> {
        let script = nftables::sweep(plan, self.config, &self.leftovers);
        self.leftovers.clear();
        self.rules.apply(&script).map_err(|e| TestCaseError::fail(format!("{e}\n{script}")))
    }

    fn follow(&mut self, old: &Plan, changes: &Changes, new: &Plan) -> Result<(), TestCaseError> {
        let delta = nftables::delta(new, changes, self.config);
        if changes.is_empty() {
            prop_assert_eq!(&delta, &Delta::default());
        }
        let script = delta.script;
        if changes.concerns_node() {
            self.leftovers.clear();
        } else {
            let most = elements(&Plan::diff(new, old), old, self.config)
                + elements(changes, new, self.config);
            let found = Ruleset::elements_in(&script).map_err(TestCaseError::fail)?;
            prop_assert!(found <= most, "{} elements for {}:\n{}", found, most, script);
        }
        self.leftovers.extend(delta.leftovers);
        self.rules.apply(&script).map_err(|e| TestCaseError::fail(format!("{e}\n{script}")))
    }
}

/// How many elements what a change names has by itself.
fn elements(changes: &Changes, node: &Plan, config: &Config) -> usize {
    let mut those = Plan::empty(node.node().clone(), node.mode());
    those.apply(changes);
    let script = nftables::compile(&those, config);
    Ruleset::elements_in(&script).expect("it can be read")
}

/// Whether all that is in the one is in the other, with the same contents.
fn is_part_of(part: &Ruleset, whole: &Ruleset) -> Result<(), String> {
    for (table, wanted) in &part.tables {
        let found = whole.tables.get(table).ok_or("a table is missing")?;
        for (name, chain) in &wanted.chains {
            if found.chains.get(name) != Some(chain) {
                return Err(format!("chain {name}: {:?} for {chain:?}", found.chains.get(name)));
            }
        }
        for (name, set) in &wanted.sets {
            if found.sets.get(name) != Some(set) {
                return Err(format!("{name}: {:?} for {set:?}", found.sets.get(name)));
            }
        }
    }
    Ok(())
}

/// From plan to plan, with what is said to lead there.
pub(crate) fn lead(
    first: &Plan,
    steps: &[(Changes, Plan)],
    sweeps: &[bool],
    packets: &[Packet],
) -> Result<(), TestCaseError> {
    for config in configs() {
        let table = config.table.as_str();
        let mut followed =
            Followed { config: &config, rules: loaded(first, &config), leftovers: Vec::new() };
        let mut before = first;
        for ((changes, plan), sweep) in steps.iter().zip(sweeps) {
            followed.follow(before, changes, plan)?;
            // At once, and before anything is swept.
            let whole = loaded(plan, &config);
            is_part_of(&whole, &followed.rules).map_err(TestCaseError::fail)?;
            let host = Host::new(plan.node());
            for packet in packets.iter().filter(|packet| !may_stay(plan, packet)) {
                let ends = followed.rules.ends(table, &host, packet, 0);
                prop_assert_eq!(ends, planned(plan, packet), "{}", packet);
            }
            if *sweep {
                followed.sweep(plan)?;
                is_part_of(&followed.rules, &whole).map_err(TestCaseError::fail)?;
            }
            let again = nftables::delta(plan, &Plan::diff(plan, &plan.clone()), &config);
            prop_assert_eq!(again, Delta::default());
            before = plan;
        }
        followed.sweep(before)?;
        let whole = loaded(before, &config);
        is_part_of(&followed.rules, &whole).map_err(TestCaseError::fail)?;
        is_part_of(&whole, &followed.rules).map_err(TestCaseError::fail)?;
        prop_assert_eq!(nftables::sweep(before, &config, &[]), "");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn deltas_lead_to_what_is_compiled(
        plans in plans(Mode::Nftables, 7),
        sweeps in prop::collection::vec(any::<bool>(), 7),
        packets in packets(12),
    ) {
        let first = Plan::empty(plans[0].node().clone(), Mode::Nftables);
        let before = [&first].into_iter().chain(&plans);
        let steps: Vec<(Changes, Plan)> =
            before.zip(&plans).map(|(old, new)| (Plan::diff(old, new), new.clone())).collect();
        lead(&first, &steps, &sweeps, &packets)?;
    }
}

#[test]
fn what_was_written_can_be_removed() {
    for config in configs() {
        let mut rules = Ruleset::default();
        rules.apply(&nftables::remove(&config)).expect("there may be nothing");
        assert_eq!(rules, Ruleset::default());
        let node = svcplane::plan::LocalNode::new("here".parse().expect("a name"));
        let mut rules = loaded(&Plan::empty(node, Mode::Nftables), &config);
        assert_eq!(rules.tables.len(), 2);
        rules.apply(&nftables::remove(&config)).expect("there is something");
        assert_eq!(rules, Ruleset::default());
    }
}
