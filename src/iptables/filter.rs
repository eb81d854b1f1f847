//! The table `filter`: what is refused, dropped or let in.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Config;
use super::nat::{frontend_match, node_port_places};
use crate::net::IpFamily;
use crate::plan::{Action, Frontend, FrontendKind, NodePortReach, Plan, PortPlan};
use crate::rules::Text;

/// Whether packets from elsewhere to loopback addresses have to be stopped: the kernel is told to route those, so that node
/// ports can be there.
pub(super) fn guards_loopback(plan: &Plan, family: IpFamily) -> bool {
    let loopback = match plan.node_port_reach(family) {
        NodePortReach::Local { loopback } => *loopback,
        NodePortReach::Listed(ips) => ips.iter().any(core::net::IpAddr::is_loopback),
    };
    family == IpFamily::V4 && loopback
}

pub(super) fn chains(plan: &Plan, family: IpFamily, config: &Config) -> Vec<(String, Text)> {
    let (mut services, mut external) = (Text::default(), Text::default());
    let (mut node_ports, mut firewall) = (Text::default(), Text::default());
    let of_family = |port: &&PortPlan| port.family == family;
    for service in plan.services() {
        for port in service.ports.iter().filter(of_family) {
            for frontend in &port.frontends {
                let rules = match frontend.kind {
                    FrontendKind::ClusterIp => &mut services,
                    _ => &mut external,
                };
                refuse(rules, plan, port, frontend);
                if !frontend.source_ranges.is_empty() {
                    firewall.str("-m comment --comment \"").display(&port.name);
                    firewall.str(": not in its source ranges\" ");
                    frontend_match(&mut firewall, port, frontend);
                    firewall.str(" -j DROP\n");
                }
            }
        }
        let health = service.health.iter().filter(|health| {
            health.local_endpoints.iter().any(|(answered, _)| *answered == family)
        });
        for health in health {
            node_ports.str("-m comment --comment \"").display(&health.service);
            node_ports.str(" health check node port\" -m tcp -p tcp --dport ");
            node_ports.number(health.port.into()).str(" -j ACCEPT\n");
        }
    }

    let mark = config.mark();
    let mut forward = Text::default();
    if config.drop_invalid {
        forward.str("-m conntrack --ctstate INVALID -j DROP\n");
    }
    forward.display(format_args!("-m mark --mark {mark:#010x}/{mark:#010x} -j ACCEPT\n"));
    forward.str("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");

    // What is translated goes to an endpoint, which may be at an address and port where another Service refuses.
    for rules in [&mut services, &mut external, &mut firewall] {
        if !rules.is_empty() {
            let refusals = core::mem::take(rules);
            rules.str("-m conntrack --ctstate DNAT -j RETURN\n").text(&refusals);
        }
    }

    let name = |chain: &str| format!("{}-{chain}", config.prefix);
    let mut chains = alloc::vec![
        (name("SERVICES"), services),
        (name("EXTERNAL-SERVICES"), external),
        (name("FORWARD"), forward),
        (name("NODEPORTS"), node_ports),
        (name("PROXY-FIREWALL"), firewall),
    ];
    if guards_loopback(plan, family) {
        let mut rules = Text::default();
        rules.str("-m comment --comment \"block incoming localnet connections\" ");
        rules.str("-d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ");
        rules.str("! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n");
        chains.push((name("FIREWALL"), rules));
    }
    chains
}

/// Refuses what comes to a frontend without endpoints for those who come from elsewhere: others, if they may go somewhere, were sent
/// there before.
fn refuse(rules: &mut Text, plan: &Plan, port: &PortPlan, frontend: &Frontend) {
    let (why, verdict) = match frontend.from_elsewhere {
        Action::Forward { .. } => return,
        Action::Reject => ("has no endpoints", "REJECT"),
        Action::Drop => ("has no local endpoints", "DROP"),
    };
    let mut rule = |place: &str| {
        rules.str("-m comment --comment \"").display(&port.name).str(" ").str(why).str("\" ");
        rules.str(place);
        frontend_match(rules, port, frontend);
        rules.str(" -j ").str(verdict).str("\n");
    };
    match frontend.ip {
        Some(_) => rule(""),
        None => node_port_places(plan, port.family, |place| rule(place)),
    }
}
