//! The table `filter`: what is refused, dropped or let in.

use super::chains::Chains;
use super::nat::{Refusal, frontend_match, node_port_places, refusal};
use super::{Config, Layout};
use crate::net::IpFamily;
use crate::plan::{Frontend, FrontendKind, Health, NodePortReach, Plan, PortPlan};

/// Whether packets from elsewhere to loopback addresses have to be stopped: the kernel is told to route those, so that node
/// ports can be there.
pub(super) fn guards_loopback(plan: &Plan, family: IpFamily) -> bool {
    let loopback = match plan.node_port_reach(family) {
        NodePortReach::Local { loopback } => *loopback,
        NodePortReach::Listed(ips) => ips.iter().any(core::net::IpAddr::is_loopback),
    };
    family == IpFamily::V4 && loopback
}

/// The chains that are the same whatever Services there are.
pub(super) fn write_fixed(chains: &mut Chains, plan: &Plan, family: IpFamily, config: &Config) {
    let mark = config.mark();
    chains.begin(config.chain("FORWARD"));
    if config.drop_invalid {
        chains.rule().str("-m conntrack --ctstate INVALID -j DROP\n");
    }
    chains.rule().display(format_args!("-m mark --mark {mark:#010x}/{mark:#010x} -j ACCEPT\n"));
    chains.rule().str("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");
    if family == IpFamily::V4 {
        // Also without rules: what leads there since loopback addresses had node ports leads there still.
        chains.begin(config.chain("FIREWALL"));
    }
    if guards_loopback(plan, family) {
        let rules = chains.rule();
        rules.str("-m comment --comment \"block incoming localnet connections\" ");
        rules.str("-d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ");
        rules.str("! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n");
    }
    if config.layout == Layout::Tree {
        chains.begin(config.chain("SERVICES"));
        chains.begin(config.chain("EXTERNAL-SERVICES"));
        chains.begin(config.chain("PROXY-FIREWALL"));
        chains.rule().str(TRANSLATED);
        for (mark, verdict) in [(config.reject(), "REJECT"), (config.drop(), "DROP")] {
            chains.rule().str("-m mark --mark ").display(mark).str(" -j ").str(verdict).str("\n");
        }
    }
}

/// What is translated goes to an endpoint, which may be at an address and port where another Service refuses.
pub(super) const TRANSLATED: &str = "-m conntrack --ctstate DNAT -j RETURN\n";

/// Refuses in the linear layout what no endpoint was drawn for.
pub(super) fn refuse(chains: [&mut Chains; 3], plan: &Plan, port: &PortPlan, frontend: &Frontend) {
    let Some(refusal) = refusal(frontend) else { return };
    let [services, external, firewall] = chains;
    let ranges = !frontend.source_ranges.is_empty();
    let chain = match frontend.kind {
        _ if ranges => firewall,
        FrontendKind::ClusterIp => services,
        _ => external,
    };
    let (why, verdict) = match refusal {
        Refusal::Reject => (" has no endpoints", "REJECT"),
        Refusal::Drop if ranges => (": not in its source ranges", "DROP"),
        Refusal::Drop => (" has no local endpoints", "DROP"),
    };
    let mut rule = |place: &str| {
        if !chain.has_rules() {
            chain.rule().str(TRANSLATED);
        }
        let rules = chain.rule();
        rules.str("-m comment --comment \"").display(&port.name).str(why).str("\" ");
        rules.str(place);
        frontend_match(rules, port, frontend);
        rules.str(" -j ").str(verdict).str("\n");
    };
    match frontend.ip {
        Some(_) => rule(""),
        None => node_port_places(plan, port.family, |place| rule(place)),
    }
}

/// Lets health checks in.
pub(super) fn accept(chains: &mut Chains, health: &Health) {
    let rules = chains.rule();
    rules.str("-m comment --comment \"").display(&health.service);
    rules.str(" health check node port\" -m tcp -p tcp --dport ");
    rules.number(health.port.into()).str(" -j ACCEPT\n");
}
