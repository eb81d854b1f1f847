//! The way from plan to plan: deltas end where a full input does, and are never refused; what an earlier run left is
//! put in order.

use proptest::prelude::*;
use svcplane::iptables::{self, Config};
use svcplane::net::IpFamily;
use svcplane::plan::{Changes, Mode, Packet, Plan};

use crate::ends::{Host, may_stay, packets};
use crate::plan_model::sequences::plans;

use super::parse::{Line, parse};
use super::tables::Tables;
use super::{FAMILIES, configs, loaded, planned};

/// What is loaded, on its way.
struct Followed<'a> {
    config: &'a Config,
    family: IpFamily,
    tables: Tables,
}

impl Followed<'_> {
    fn follow(&mut self, old: &Plan, changes: &Changes, new: &Plan) -> Result<(), TestCaseError> {
        let input = iptables::delta(new, changes, self.family, self.config);
        prop_assert!(!changes.is_empty() || input.is_empty());
        let failed = |error: String| TestCaseError::fail(format!("{error}\n{input}"));
        self.tables.apply(&input).map_err(failed)?;
        if changes.concerns_node() {
            for jump in iptables::jumps(new, self.family, self.config) {
                self.tables.ensure(&jump).map_err(failed)?;
            }
        } else {
            let back = Plan::diff(new, old);
            let known = [self.of_ports(&back, old)?, self.of_ports(changes, new)?].concat();
            for chain in ports_chains(&input, self.family)? {
                prop_assert!(known.contains(&chain), "{} in\n{}", chain, input);
            }
        }
        // All that is there, and nothing else.
        let whole = loaded(new, self.family, self.config);
        prop_assert_eq!(self.tables.own(), whole.own(), "after\n{}", input);
        Ok(())
    }

    /// The chains of the ports that a change leads to, by themselves.
    fn of_ports(&self, changes: &Changes, node: &Plan) -> Result<Vec<String>, TestCaseError> {
        let mut those = Plan::empty(node.node().clone(), node.mode());
        those.apply(changes);
        ports_chains(&iptables::compile(&those, self.family, self.config), self.family)
    }

    /// With a full input over what is there, and with one that puts it in order.
    fn anew(&self, plan: &Plan) -> Result<(), TestCaseError> {
        let whole = loaded(plan, self.family, self.config);
        let mut over = self.tables.clone();
        let input = iptables::compile(plan, self.family, self.config);
        over.apply(&input).map_err(TestCaseError::fail)?;
        for jump in iptables::jumps(plan, self.family, self.config) {
            over.ensure(&jump).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(over.reached(), whole.reached());
        let mut instead = self.tables.clone();
        let saved = instead.saved();
        let input = iptables::replace(plan, self.family, self.config, &saved);
        let failed =
            |error: String| TestCaseError::fail(format!("{error}\n{input}\nafter\n{saved}"));
        instead.apply(&input).map_err(failed)?;
        prop_assert_eq!(&instead.by_name, &whole.by_name);
        Ok(())
    }
}

/// From plan to plan, with what is said to lead there.
pub(crate) fn lead(
    first: &Plan,
    steps: &[(Changes, Plan)],
    packets: &[Packet],
) -> Result<(), TestCaseError> {
    for (config, family) in configs().iter().flat_map(|c| FAMILIES.map(|family| (c, family))) {
        let packets = packets.iter().filter(|packet| is_of(packet, family));
        let packets: Vec<Packet> = packets.copied().collect();
        let tables = loaded(first, family, config);
        let mut followed = Followed { config, family, tables };
        let mut before = first;
        for (changes, plan) in steps {
            followed.anew(plan)?;
            followed.follow(before, changes, plan)?;
            let host = Host::new(plan.node());
            for packet in packets.iter().filter(|packet| !may_stay(plan, packet)) {
                let ends = followed.tables.ends(&host, packet);
                prop_assert_eq!(ends, planned(plan, packet), "{}", packet);
            }
            before = plan;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn deltas_lead_to_what_is_compiled(plans in plans(Mode::Iptables, 7), packets in packets(12)) {
        let first = Plan::empty(plans[0].node().clone(), Mode::Iptables);
        let before = [&first].into_iter().chain(&plans);
        let steps: Vec<(Changes, Plan)> =
            before.zip(&plans).map(|(old, new)| (Plan::diff(old, new), new.clone())).collect();
        lead(&first, &steps, &packets)?;
    }
}

/// The chains that an input names and that are ports'.
fn ports_chains(input: &str, family: IpFamily) -> Result<Vec<String>, TestCaseError> {
    let lines = parse(input, family).map_err(TestCaseError::fail)?;
    let named = lines.into_iter().filter_map(|line| match line {
        Line::Chain(name) => Some(name),
        _ => None,
    });
    let kinds = ["-SVC-", "-SVL-", "-EXT-", "-FW-", "-SEP-"];
    Ok(named.filter(|name| kinds.iter().any(|kind| name.contains(kind))).collect())
}

fn is_of(packet: &Packet, family: IpFamily) -> bool {
    IpFamily::of(packet.destination.ip().to_canonical()) == family
}
