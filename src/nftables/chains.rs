//! The layout of kube-proxy: a chain for each port and each endpoint.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};

use super::flat::{self, Fate};
use super::object::{At, Map, Masquerade};
use super::{Config, Kind, Sink, family_str};
use crate::plan::{PortPlan, ServicePortName};
use crate::rules::{self, Hash, Slots, Text};
use crate::service::TrafficPolicy;

/// The name of a port in the names of its chains.
fn base(name: &ServicePortName, endpoint: Option<SocketAddr>) -> String {
    let (service, protocol) = (&name.service, name.protocol.as_lower_str());
    let port = name.port.as_ref().map_or("", |port| port.as_str());
    let mut text = format!("{service}/{protocol}/{port}");
    if let Some(addr) = endpoint {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => format!("{v4}"),
            // A colon ends a name.
            IpAddr::V6(v6) => format!("{v6}").replace(':', "."),
        };
        // A String takes whatever is written to it.
        let _ = write!(text, "__{ip}/{}", addr.port());
    }
    let mut base = format!("{}-{text}", &Hash::of(text.as_bytes()).as_str()[..8]);
    // The kernel takes 255 bytes, of which prefix and timeout take 15.
    if base.len() > 240 {
        base.truncate(237);
        base.push_str("...");
    }
    base
}

pub(super) fn write_port(sink: &mut impl Sink, config: &Config, port: &PortPlan) {
    flat::write_common(sink, port);
    let base = base(&port.name, None);
    let chain = |policy: TrafficPolicy| match policy {
        TrafficPolicy::Cluster => format!("service-{base}"),
        TrafficPolicy::Local => format!("local-{base}"),
    };
    let mut used = [false; 2];
    let mut goto = |policy: TrafficPolicy| {
        used[usize::from(policy == TrafficPolicy::Local)] = true;
        chain(policy)
    };
    for frontend in &port.frontends {
        let at = At::of(frontend);
        let key = |text: &mut Text| flat::key(text, port, frontend);
        let lead = |sink: &mut _, name: &str| {
            Sink::element(sink, Map::Services(at), key, |text| _ = text.str("goto ").str(name));
        };
        match Fate::of(frontend) {
            Fate::Refused(_) => {}
            Fate::Same(policy, Masquerade::Nobody) => lead(sink, &goto(policy)),
            Fate::Same(policy, masquerade) => {
                let name = format!("{}-{base}", marking(policy, masquerade));
                let mut rules = Text::default();
                masquerade.rule(&mut rules);
                rules.str("goto ").str(&goto(policy)).str("\n");
                sink.chain(name.clone(), rules);
                lead(sink, &name);
            }
            Fate::Divided { inside, outside } => {
                // Whether it is a pod's or the node's is found out in a chain that all share.
                let divided =
                    |text: &mut Text| _ = text.str("goto ").str(at.prefix()).str("divided");
                sink.element(Map::Services(at), key, divided);
                let inside = goto(inside);
                sink.element(Map::Inside(at), key, |text| _ = text.str("goto ").str(&inside));
                if let Some(outside) = outside {
                    let outside = goto(outside);
                    sink.element(Map::Outside(at), key, |text| _ = text.str("goto ").str(&outside));
                }
            }
        }
    }
    for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
        if used[usize::from(policy == TrafficPolicy::Local)] {
            write_targets(sink, config, port, policy, chain(policy));
        }
    }
}

/// The kind of chain that marks packets on their way to a port's endpoints under a policy: a port may have one for each. With a `-`
/// no longer than a name has room for.
const fn marking(policy: TrafficPolicy, masquerade: Masquerade) -> &'static str {
    match (policy, masquerade) {
        (TrafficPolicy::Cluster, _) => masquerade.as_str(),
        (TrafficPolicy::Local, Masquerade::Everybody) => "local-all",
        (TrafficPolicy::Local, Masquerade::Others) => "local-cluster",
        (TrafficPolicy::Local, Masquerade::Node | Masquerade::Nobody) => "local-own",
    }
}

/// The chain of a port's endpoints under a policy, and theirs.
fn write_targets(
    sink: &mut impl Sink,
    config: &Config,
    port: &PortPlan,
    policy: TrafficPolicy,
    chain: String,
) {
    let ip = family_str(port.family);
    let backends = &port.targets(policy).backends;
    let slots = Slots::new(backends);
    let bases: alloc::vec::Vec<String> =
        backends.iter().map(|backend| base(&port.name, Some(backend.addr))).collect();
    let mut rules = Text::default();
    for (backend, base) in backends.iter().zip(&bases) {
        let mut endpoint = Text::default();
        if let Some(timeout) = port.client_ip_affinity {
            // Its timeout cannot be changed, so that another one is another set.
            let seconds = rules::seconds(timeout);
            let set = format!("affinity-{base}-{seconds}");
            rules.display(format_args!("{ip} saddr @{set} goto endpoint-{base}\n"));
            endpoint.display(format_args!("update @{set} {{ {ip} saddr }}\n"));
            let mut spec = Text::default();
            spec.display(format_args!("typeof {ip} saddr\nflags dynamic,timeout\n"));
            let clients = config.clients.max(1);
            spec.display(format_args!("timeout {seconds}s\nsize {clients}\n"));
            sink.dynamic(Kind::Set, set, spec);
        }
        let (protocol, addr) = (port.name.protocol.as_lower_str(), backend.addr);
        endpoint.display(format_args!("meta l4proto {protocol} dnat {ip} to {addr}\n"));
        sink.chain(format!("endpoint-{base}"), endpoint);
    }
    rules.display(format_args!("numgen random mod {} vmap {{ ", slots.total()));
    for (slot, place) in slots.iter() {
        rules.str(if slot == 0 { "" } else { ", " }).number(slot);
        rules.str(" : goto endpoint-").str(&bases[place]);
    }
    rules.str(" }\n");
    sink.chain(chain, rules);
}
