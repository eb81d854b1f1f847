//! The flat layout: what a port has in the maps that all Services share.

use core::net::SocketAddr;

use super::affinity;
use super::object::{At, Class, Map, Masquerade, Side};
use super::{ClientAffinity, Config, Sink};
use crate::plan::{Action, Frontend, PortPlan};
use crate::rules::{Slots, Text, disjoint};
use crate::service::TrafficPolicy;

/// What becomes of what comes to a frontend.
pub(super) enum Fate {
    /// It is refused, by this verdict.
    Refused(&'static str),
    /// It goes to the same endpoints wherever it comes from.
    Same(TrafficPolicy, Masquerade),
    /// Pods and the node itself go elsewhere than everybody else, who may go nowhere.
    Divided { inside: TrafficPolicy, outside: Option<TrafficPolicy> },
}

impl Fate {
    pub(super) fn of(frontend: &Frontend) -> Self {
        let Frontend { from_pod, from_node, from_elsewhere, .. } = frontend;
        match (from_pod, from_node, from_elsewhere) {
            (
                Action::Forward { policy: a, masquerade: pod },
                Action::Forward { policy: b, masquerade: node },
                Action::Forward { policy: c, masquerade: elsewhere },
            ) if a == b && b == c => Self::Same(*a, Masquerade::of(*pod, *node, *elsewhere)),
            (Action::Forward { policy, .. }, _, outside) => {
                let outside = match outside {
                    Action::Forward { policy, .. } => Some(*policy),
                    Action::Reject | Action::Drop => None,
                };
                Self::Divided { inside: *policy, outside }
            }
            (Action::Drop, ..) => Self::Refused("drop"),
            (Action::Reject, ..) => Self::Refused("goto rejecting"),
        }
    }
}

impl At {
    pub(super) const fn of(frontend: &Frontend) -> Self {
        match frontend.ip {
            Some(_) => Self::Ip,
            None => Self::Node,
        }
    }
}

/// What a frontend is found by.
pub(super) fn key(text: &mut Text, port: &PortPlan, frontend: &Frontend) {
    if let Some(ip) = frontend.ip {
        text.ip(ip).str(" . ");
    }
    text.str(port.name.protocol.as_lower_str()).str(" . ").number(frontend.port.into());
}

/// What both layouts have in common: refusals, source ranges, endpoints that may call themselves.
pub(super) fn write_common(sink: &mut impl Sink, port: &PortPlan) {
    for &ip in &port.here {
        sink.shared(Map::Hairpin, ip);
    }
    for frontend in &port.frontends {
        let at = At::of(frontend);
        let of = |text: &mut Text| key(text, port, frontend);
        match Fate::of(frontend) {
            Fate::Refused(verdict) => {
                sink.element(Map::Refused(at), of, |text| _ = text.str(verdict));
                // An address that is the node's as well has no node ports here.
                if at == At::Ip {
                    sink.element(Map::Services(at), of, |text| _ = text.str("accept"));
                }
            }
            Fate::Divided { outside: None, .. } => {
                sink.element(Map::Refused(at), of, |text| _ = text.str("drop"));
            }
            Fate::Same(..) | Fate::Divided { .. } => {}
        }
        let ranges = disjoint(&frontend.source_ranges);
        if !ranges.is_empty() && ranges.iter().all(|net| net.prefix_len() > 0) {
            sink.element(Map::Firewalled, of, |_| ());
            for net in ranges {
                let with_range = |text: &mut Text| {
                    of(text);
                    text.str(" . ").ip(net.network()).str("/").number(net.prefix_len().into());
                };
                sink.element(Map::SourceRanges, with_range, |_| ());
            }
        }
    }
}

pub(super) fn write_port(sink: &mut impl Sink, config: &Config, port: &PortPlan) {
    write_common(sink, port);
    let targets = |policy: TrafficPolicy| Lead { port, policy, config };
    for frontend in &port.frontends {
        let at = At::of(frontend);
        let of = |text: &mut Text| key(text, port, frontend);
        match Fate::of(frontend) {
            Fate::Refused(_) => {}
            Fate::Same(policy, masquerade) => {
                targets(policy).write(sink, Map::Services(at), frontend, masquerade, Side::Main);
            }
            Fate::Divided { inside, outside } => {
                let divided =
                    |text: &mut Text| _ = text.str("goto ").str(at.prefix()).str("divided");
                sink.element(Map::Services(at), of, divided);
                let nobody = Masquerade::Nobody;
                targets(inside).write(sink, Map::Inside(at), frontend, nobody, Side::Main);
                if let Some(outside) = outside {
                    targets(outside).write(sink, Map::Outside(at), frontend, nobody, Side::Local);
                }
            }
        }
    }
}

/// Leads frontends to targets.
struct Lead<'a> {
    port: &'a PortPlan,
    policy: TrafficPolicy,
    config: &'a Config,
}

impl Lead<'_> {
    fn write(
        &self,
        sink: &mut impl Sink,
        from: Map,
        frontend: &Frontend,
        masquerade: Masquerade,
        side: Side,
    ) {
        let Self { port, policy, config } = *self;
        let of = |text: &mut Text| key(text, port, frontend);
        let hashed = match (port.client_ip_affinity, config.affinity) {
            (None, _) => false,
            (Some(_), ClientAffinity::Hashed) => true,
            (Some(timeout), ClientAffinity::Stateful) => {
                let chain = affinity::write(sink, config, port, policy, masquerade, timeout);
                sink.element(from, of, |text| _ = text.str("goto ").str(&chain));
                return;
            }
        };
        let targets = port.targets(policy);
        let slots = Slots::new(&targets.backends);
        let at = At::of(frontend);
        let protocol = port.name.protocol;
        let class = Class { masquerade, side, at, protocol, hashed, slots: slots.total() };
        sink.class(class);
        sink.element(from, of, |text| _ = text.str("goto ").display(class));
        let mut key = Text::default();
        if let Some(ip) = frontend.ip {
            key.ip(ip).str(" . ");
        }
        key.number(frontend.port.into());
        sink.slots(class.map(), &key, &slots, &targets.backends);
    }
}

pub(super) fn endpoint(text: &mut Text, addr: SocketAddr) {
    text.ip(addr.ip()).str(" . ").number(addr.port().into());
}
