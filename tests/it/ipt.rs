//! Input for iptables-restore, carried out by an interpreter that knows nothing of the compiler: what becomes of
//! packets is what the plan says, whatever the way from plan to plan.

mod chances;
pub(crate) mod deltas;
mod kernel;
mod packets;
mod parse;
mod pins;
mod rule;
mod sizes;
mod tables;
mod text;
mod trees;
mod walk;

use std::collections::BTreeSet;
use std::net::IpAddr;

use svcplane::iptables::{self, Config, Layout};
use svcplane::net::IpFamily;
use svcplane::plan::{Packet, Plan};

use crate::ends::{self, End};
use tables::Tables;

/// Every way of writing rules.
fn configs() -> [Config; 2] {
    [Layout::Linear, Layout::Tree].map(|layout| {
        let mut config = Config::default();
        config.layout = layout;
        config
    })
}

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// What a machine has that has just started and loads a plan.
fn loaded(plan: &Plan, family: IpFamily, config: &Config) -> Tables {
    let mut tables = Tables::new(family);
    let input = iptables::compile(plan, family, config);
    tables.apply(&input).unwrap_or_else(|error| panic!("{error}\n{input}"));
    for jump in iptables::jumps(plan, family, config) {
        tables.ensure(&jump).unwrap_or_else(|error| panic!("{error}: {jump:?}"));
    }
    tables
}

/// What is loaded for both families.
struct Loaded([Tables; 2]);

impl Loaded {
    fn new(plan: &Plan, config: &Config) -> Self {
        Self(FAMILIES.map(|family| loaded(plan, family, config)))
    }

    fn of(&self, packet: &Packet) -> &Tables {
        let family = IpFamily::of(packet.destination.ip().to_canonical());
        self.0.iter().find(|tables| tables.family == family).expect("there are two")
    }
}

/// What becomes of a packet, as the plan says; but loopback addresses are closed to others while they have node ports,
/// and an endpoint that is sent back to itself is masqueraded wherever it is.
fn planned(plan: &Plan, packet: &Packet) -> BTreeSet<End> {
    let ends = ends::planned(plan, packet, |_| true);
    let is_loopback = |ip: IpAddr| ip.is_ipv4() && ip.is_loopback();
    let (from, to) = (packet.source.to_canonical(), packet.destination.ip().to_canonical());
    let stopped = iptables::needs_route_localnet(plan) && is_loopback(to) && !is_loopback(from);
    let stays = !ends.iter().any(|end| matches!(end, End::Backend(..)));
    if stopped && stays { [End::Drop].into() } else { ends }
}
