//! Scripts of nft, carried out by an interpreter that knows nothing of the compiler: what becomes of packets is what the plan
//! says, whatever the way from plan to plan.

pub(crate) mod deltas;
mod kernel;
mod names;
mod packets;
mod parse;
mod pins;
mod ruleset;
mod script;
mod text;
mod walk;

use std::collections::BTreeSet;

use svcplane::nftables::{self, ClientAffinity, Config, Layout};
use svcplane::plan::{Packet, Plan};

use crate::ends::{self, End};
use ruleset::Ruleset;

fn config(layout: Layout, affinity: ClientAffinity) -> Config {
    let mut config = Config::default();
    (config.layout, config.affinity) = (layout, affinity);
    config
}

/// Every way of writing rules.
fn configs() -> [Config; 3] {
    [
        config(Layout::Flat, ClientAffinity::Stateful),
        config(Layout::Chains, ClientAffinity::Stateful),
        config(Layout::Flat, ClientAffinity::Hashed),
    ]
}

fn loaded(plan: &Plan, config: &Config) -> Ruleset {
    let script = nftables::compile(plan, config);
    let mut rules = Ruleset::default();
    rules.apply(&script).unwrap_or_else(|error| panic!("{error}\n{script}"));
    rules
}

/// What becomes of a packet, as the plan says; but if one port has an address on this node and another has it elsewhere, it is here for
/// the rules of both.
fn planned(plan: &Plan, packet: &Packet) -> BTreeSet<End> {
    ends::planned(plan, packet, |ip| plan.is_backend_here(ip))
}
