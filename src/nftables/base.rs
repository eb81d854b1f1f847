//! The chains that every ruleset has: where packets enter, and what they go through.

use alloc::format;

use super::object::At;
use super::{Config, family_str};
use crate::net::IpFamily;
use crate::plan::{LocalDetector, NodePortReach, Plan};
use crate::rules::{Text, disjoint, interfaces};

/// Declares the base chains and what they jump to. The flow is kube-proxy's: source ranges before translation, refusals after it,
/// where `reject` may stand.
pub(super) fn declare(script: &mut Text, plan: &Plan, config: &Config, family: IpFamily) {
    let ip = family_str(family);
    let key = At::Ip.key(family);
    let mark = config.mark();
    let mut chain = |name: &str, rules: &Text| {
        script.str("chain ").str(name).str(" {\n").text(rules).str("}\n");
    };
    let text = |rules: core::fmt::Arguments<'_>| {
        let mut text = Text::default();
        text.display(rules);
        text
    };
    let marks = text(format_args!("meta mark set meta mark | {mark:#010x}\n"));

    let hook = |what: &str, rules: &str| text(format_args!("type {what}; policy accept;\n{rules}"));
    // What is translated already, of the node's own also before it comes in again, goes to an endpoint, and what is refused at the same
    // address and port does not concern it.
    let first = |chain: &str| format!("ct state new ct status ! dnat jump {chain}\n");
    let ranges = first("firewall");
    chain("prerouting-filter", &hook("filter hook prerouting priority -110", &ranges));
    chain("output-filter", &hook("filter hook output priority -110", &ranges));
    chain("prerouting", &hook("nat hook prerouting priority -100", "jump services\n"));
    chain("output", &hook("nat hook output priority -100", "jump services\n"));
    // Who was on its way through the rules while a transaction replaced them may have found an endpoint's chain of before and its elements gone. It
    // goes through those that are there now; nobody else comes here whom a Service has got already.
    chain("prerouting-again", &hook("nat hook prerouting priority -99", "jump services\n"));
    chain("output-again", &hook("nat hook output priority -99", "jump services\n"));
    let services = first("refused-services");
    let input = format!("{services}{}", first("refused-node-ports"));
    let onward = format!("{services}{}", first("unused-cluster-ips"));
    chain("input", &hook("filter hook input priority 0", &input));
    chain("forward", &hook("filter hook forward priority 0", &onward));
    chain("output-translated", &hook("filter hook output priority 0", &onward));
    chain("postrouting", &hook("nat hook postrouting priority 100", "jump masquerading\n"));

    let at_node = node_ports(plan, family);
    let node_rule = |map: &str| match &at_node {
        Some(at) => text(format_args!("{}meta l4proto . th dport vmap @{map}\n", at.as_str())),
        None => Text::default(),
    };
    chain(
        "services",
        &text(format_args!("{key} vmap @services\n{}", node_rule("node-services").as_str())),
    );
    chain("refused-services", &text(format_args!("{key} vmap @refused\n")));
    chain("refused-node-ports", &node_rule("node-refused"));
    let mut rules = text(format_args!("{ip} daddr @cluster-ips reject\n"));
    let of_family =
        plan.node().service_cidrs.iter().filter(|net| IpFamily::of(net.addr()) == family);
    let cidrs = disjoint(&of_family.copied().collect::<alloc::vec::Vec<_>>());
    if !cidrs.is_empty() {
        rules.str(ip).str(" daddr ");
        list(&mut rules, cidrs.iter());
        rules.str(" drop\n");
    }
    chain("unused-cluster-ips", &rules);
    chain(
        "firewall",
        &text(format_args!("{key} @firewalled {key} . {ip} saddr != @source-ranges drop\n")),
    );
    chain("rejecting", &text(format_args!("reject\n")));

    chain("mark-for-masquerade", &marks);
    chain("mark-own", &text(format_args!("fib saddr type local {}", marks.as_str())));
    let others = pods(plan, family, " !=");
    let others = others.as_ref().map_or("", Text::as_str);
    chain("mark-others", &text(format_args!("{others}{}", marks.as_str())));
    let pods = pods(plan, family, "");
    for at in [At::Ip, At::Node] {
        let (key, prefix) = (at.key(family), at.prefix());
        let inside = text(format_args!("goto {prefix}inside\n"));
        let mut rules = Text::default();
        if let Some(pods) = &pods {
            rules.text(pods).text(&inside);
        }
        rules
            .str("fib saddr type local jump mark-for-masquerade\nfib saddr type local ")
            .text(&inside);
        rules.str(key).str(" vmap @").str(prefix).str("outside\n");
        chain(text(format_args!("{prefix}divided")).as_str(), &rules);
        let rules = text(format_args!("{key} vmap @{prefix}inside\n"));
        chain(text(format_args!("{prefix}inside")).as_str(), &rules);
    }
    let masquerading = text(format_args!(
        "meta mark & {mark:#010x} != 0 goto masquerade-now\n\
         ct status dnat {ip} saddr . {ip} daddr @hairpin goto masquerade-now\n"
    ));
    chain("masquerading", &masquerading);
    let rest = !mark;
    let now =
        text(format_args!("meta mark set meta mark & {rest:#010x}\nmasquerade fully-random\n"));
    chain("masquerade-now", &now);
}

/// Matches packets from pods, or those that are not; `None` if they cannot be told apart.
fn pods(plan: &Plan, family: IpFamily, not: &str) -> Option<Text> {
    let mut text = Text::default();
    match &plan.node().pods {
        LocalDetector::Cidrs(cidrs) => {
            let of_family = cidrs.iter().filter(|net| IpFamily::of(net.addr()) == family);
            let cidrs = disjoint(&of_family.copied().collect::<alloc::vec::Vec<_>>());
            if cidrs.is_empty() {
                return None;
            }
            text.str(family_str(family)).str(" saddr").str(not).str(" ");
            list(&mut text, cidrs.iter());
        }
        LocalDetector::Bridge(name) => {
            text.str("iifname").str(not).str(" \"").display(name).str("\"");
        }
        LocalDetector::InterfacePrefix(prefix) => {
            let names = interfaces(*prefix, '*');
            text.str("iifname").str(not).str(" \"").str(&names).str("\"");
        }
        _ => return None,
    }
    text.str(" ");
    Some(text)
}

/// Matches packets to where node ports are; `None` if they are nowhere.
fn node_ports(plan: &Plan, family: IpFamily) -> Option<Text> {
    let ip = family_str(family);
    let mut text = Text::default();
    match plan.node_port_reach(family) {
        NodePortReach::Local { loopback } => {
            text.str("fib daddr type local ");
            if !loopback {
                let net = if family == IpFamily::V4 { "127.0.0.0/8" } else { "::1" };
                text.str(ip).str(" daddr != ").str(net).str(" ");
            }
        }
        NodePortReach::Listed(ips) if ips.is_empty() => return None,
        NodePortReach::Listed(ips) => {
            text.str(ip).str(" daddr ");
            list(&mut text, ips.iter());
            text.str(" ");
        }
    }
    Some(text)
}

fn list<T: core::fmt::Display>(text: &mut Text, items: impl Iterator<Item = T>) {
    text.str("{ ");
    for (n, item) in items.enumerate() {
        text.str(if n == 0 { "" } else { ", " }).display(item);
    }
    text.str(" }");
}
