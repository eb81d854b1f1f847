//! Scripts of nft, carried out by an interpreter that knows nothing of the compiler: what becomes of packets is what the plan
//! says, whatever the way from plan to plan.

mod deltas;
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
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::select;
use svcplane::nftables::{self, ClientAffinity, Config, Layout};
use svcplane::plan::{Mode, Packet, Plan, Verdict};

use crate::plan_model::clusters;
use crate::plan_model::{Cluster, Served};
use ruleset::Ruleset;
use walk::End;

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
    match plan.route(packet) {
        Verdict::Forward(route) => {
            let used = route.backends.iter().filter(|backend| backend.weight > 0);
            let source = packet.source.to_canonical();
            let itself = |ip: IpAddr| ip == source && plan.is_backend_here(ip);
            used.map(|backend| backend.addr)
                .map(|addr| End::Backend(addr, route.masquerades(addr) || itself(addr.ip())))
                .collect()
        }
        Verdict::Reject => [End::Reject].into(),
        Verdict::Drop => [End::Drop].into(),
        Verdict::Accept(_) | Verdict::Pass => [End::Pass].into(),
    }
}

/// A cluster whose node runs nftables. Its endpoints may be at ports that Services have too.
fn cluster() -> impl Strategy<Value = Cluster> {
    let port = select(vec![8080, 8080, 80, 3001]);
    (clusters::cluster(), port).prop_map(|(mut cluster, port)| {
        cluster.mode = Mode::Nftables;
        for endpoint in cluster.services.iter_mut().flat_map(|(_, endpoints)| endpoints) {
            let mut ports = endpoint.ports.to_vec();
            for resolved in ports.iter_mut().filter(|resolved| resolved.port == 8080) {
                resolved.port = port;
            }
            endpoint.ports = ports.into();
        }
        cluster
    })
}

/// Whether a packet may be translated to where it is going anyway: to the kernel it is then not translated, and may still be refused.
fn may_stay(plan: &Plan, packet: &Packet) -> bool {
    let to = packet.destination;
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    matches!(plan.route(packet), Verdict::Forward(route) if route.backends.iter().any(|b| b.addr == to))
}

/// Packets; none from one family to the other.
fn packets(most: usize) -> impl Strategy<Value = Vec<Packet>> {
    prop::collection::vec(clusters::packet(), most).prop_map(|mut packets| {
        packets.retain(|packet| {
            let (from, to) = (packet.source.to_canonical(), packet.destination.ip().to_canonical());
            from.is_ipv4() == to.is_ipv4()
        });
        packets
    })
}
