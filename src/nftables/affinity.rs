//! A chain of its own for a port whose clients keep to their endpoints.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use sha2::{Digest, Sha256};

use super::object::Masquerade;
use super::{Config, Kind, Sink, family_str, flat};
use crate::plan::{PortPlan, ServicePortName, Targets};
use crate::rules::{self, Slots, Text, port_hash};
use crate::service::TrafficPolicy;

/// Writes the chain and what it needs; its name.
pub(super) fn write(
    sink: &mut impl Sink,
    config: &Config,
    port: &PortPlan,
    policy: TrafficPolicy,
    masquerade: Masquerade,
    timeout: Duration,
) -> String {
    let targets = port.targets(policy);
    let slots = Slots::new(&targets.backends);
    let (hash, ip) = (port_hash(&port.name), family_str(port.family));
    let seconds = rules::seconds(timeout);
    // A port may go to both kinds of targets from frontends of one masquerading.
    let prefix = if policy == TrafficPolicy::Local { "local-" } else { "" };
    let chain = format!("{prefix}{}-{hash}", masquerade.as_str());
    // Its timeout cannot be changed, so that another one is another map.
    let pins = format!("pins-{hash}-{seconds}");

    let ids = ids(&port.name, targets);
    let mut endpoints = Text::default();
    endpoints.str("meta l4proto ").str(port.name.protocol.as_lower_str());
    endpoints.str(" dnat ").str(ip).str(" to meta priority map { ");
    for (n, (backend, id)) in targets.backends.iter().zip(&ids).enumerate() {
        endpoints.str(if n == 0 { "" } else { ", " }).display(format_args!("{id:#x} : "));
        flat::endpoint(&mut endpoints, backend.addr);
    }
    endpoints.str(" }\n");

    let mut rules = Text::default();
    masquerade.rule(&mut rules);
    let client = format!("@{pins} {{ {ip} saddr : meta priority }}");
    // To where it went last, if that is an endpoint still. This makes the timeout start again.
    rules.display(format_args!("meta priority set {ip} saddr map @{pins} update {client} "));
    rules.text(&endpoints);
    // What is there is only refreshed by an update, never another.
    rules.display(format_args!("delete {client}\n"));
    rules.display(format_args!("meta priority set numgen random mod {} map {{ ", slots.total()));
    for (slot, place) in slots.iter() {
        rules.str(if slot == 0 { "" } else { ", " }).number(slot);
        rules.display(format_args!(" : {:#x}", ids[place]));
    }
    rules.str(" }\n");
    // A rule of its own: it ends where the map is full.
    rules.display(format_args!("update {client}\n"));
    rules.text(&endpoints);

    let mut spec = Text::default();
    spec.display(format_args!("typeof {ip} saddr : meta priority\nflags dynamic,timeout\n"));
    spec.display(format_args!("timeout {seconds}s\nsize {}\n", config.clients.max(1)));
    sink.dynamic(Kind::Map, pins, spec);
    sink.chain(chain.clone(), rules);
    chain
}

/// A number for each backend that stays its own while others come and go, but for a collision in one of some million ports.
fn ids(name: &ServicePortName, targets: &Targets) -> Vec<u32> {
    let mut taken: BTreeMap<u32, SocketAddr> = BTreeMap::new();
    let id = |addr: SocketAddr| {
        let text = format!("{name}{}{addr}", name.protocol.as_lower_str());
        let digest = Sha256::digest(text.as_bytes());
        let mut id = digest.iter().take(4).fold(0, |id: u32, &byte| id << 8 | u32::from(byte));
        // 0 and the greatest mean something else to the kernel.
        while matches!(id, 0 | u32::MAX) || taken.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        taken.insert(id, addr);
        id
    };
    targets.backends.iter().map(|backend| backend.addr).map(id).collect()
}
