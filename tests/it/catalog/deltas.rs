//! Rules that follow a catalog by deltas are those of its plan.

use proptest::prelude::*;
use proptest::sample::Index;
use svcplane::plan::{Changes, Mode, Packet, Plan};

use super::bytes::{Bytes, packets};
use super::check::Pair;
use super::{made, steps};
use crate::{ipt, nft};

/// What a catalog for a mode begins with; what each step changes, and the plan then.
fn ways(rules: Mode, made: &[u8], steps: &[Vec<u8>]) -> (Plan, Vec<(Changes, Plan)>) {
    let mut made = Bytes(made).made();
    made.mode = rules;
    let mut pair = Pair::new(made);
    let first = pair.catalog.plan().clone();
    let mut ways = Vec::new();
    for step in steps {
        let step = Bytes(step).step(&pair.model);
        let changes = pair.take(&step).plan;
        if !changes.is_empty() {
            ways.push((changes, pair.catalog.plan().clone()));
        }
    }
    (first, ways)
}

fn some(chosen: &[Index]) -> Vec<Packet> {
    let packets = packets();
    chosen.iter().map(|index| *index.get(&packets)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn nftables_follows(
        made in made(),
        steps in steps(24),
        sweeps in prop::collection::vec(any::<bool>(), 24),
        chosen in prop::collection::vec(any::<Index>(), 12),
    ) {
        let (first, ways) = ways(Mode::Nftables, &made, &steps);
        nft::deltas::lead(&first, &ways, &sweeps, &some(&chosen))?;
    }

    #[test]
    fn iptables_follows(
        made in made(),
        steps in steps(24),
        chosen in prop::collection::vec(any::<Index>(), 12),
    ) {
        let (first, ways) = ways(Mode::Iptables, &made, &steps);
        ipt::deltas::lead(&first, &ways, &some(&chosen))?;
    }
}
