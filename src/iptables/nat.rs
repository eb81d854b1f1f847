//! The table `nat`: where connections go, and with which source.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::chains::{ChainName, Chains};
use super::{Config, Layout};
use crate::backend::Backend;
use crate::net::IpFamily;
use crate::plan::{Action, Frontend, FrontendKind, LocalDetector, NodePortReach, Plan, PortPlan};
use crate::rules::{Hash, Hashes, Source, Text, disjoint, interfaces, seconds};
use crate::service::TrafficPolicy;

/// `-m tcp -p tcp -d ADDRESS --dport PORT`
pub(super) fn frontend_match(rules: &mut Text, port: &PortPlan, frontend: &Frontend) {
    let protocol = port.name.protocol.as_lower_str();
    rules.str("-m ").str(protocol).str(" -p ").str(protocol);
    if let Some(ip) = frontend.ip {
        rules.str(" -d ").ip(ip);
    }
    rules.str(" --dport ").number(frontend.port.into());
}

/// Each way to match packets to where node ports are, with a blank behind it.
pub(super) fn node_port_places(plan: &Plan, family: IpFamily, mut place: impl FnMut(&str)) {
    match plan.node_port_reach(family) {
        NodePortReach::Local { loopback: true } => place("-m addrtype --dst-type LOCAL "),
        NodePortReach::Local { loopback: false } => place(match family {
            IpFamily::V4 => "-m addrtype --dst-type LOCAL ! -d 127.0.0.0/8 ",
            IpFamily::V6 => "-m addrtype --dst-type LOCAL ! -d ::1/128 ",
        }),
        NodePortReach::Listed(ips) => ips.iter().for_each(|ip| place(&format!("-d {ip} "))),
    }
}

/// How packets from pods are told apart in rules.
pub(super) struct Pods {
    /// A match for each way in which a packet may be from a pod, with a blank behind it.
    pub(super) are: Vec<String>,
    /// What is done with packets that are not, so that they are masqueraded; `None` if pods are not told apart.
    mark_others: Option<String>,
}

impl Pods {
    pub(super) fn of(plan: &Plan, family: IpFamily, config: &Config) -> Self {
        let are: Vec<String> = match &plan.node().pods {
            LocalDetector::Cidrs(cidrs) => {
                let of_family = cidrs.iter().filter(|net| IpFamily::of(net.addr()) == family);
                let cidrs = disjoint(&of_family.copied().collect::<Vec<_>>());
                cidrs.into_iter().map(|net| format!("-s {net} ")).collect()
            }
            LocalDetector::Bridge(name) => alloc::vec![format!("-i {name} ")],
            LocalDetector::InterfacePrefix(prefix) => {
                alloc::vec![format!("-i {} ", interfaces(*prefix, '+'))]
            }
            _ => Vec::new(),
        };
        let mark_others = match &*are {
            [] => None,
            [one] => Some(format!("! {one}-j {}", config.chain("MARK-MASQ"))),
            // Rules cannot say that a packet matches none of several.
            _ => Some(format!("-j {}", config.chain("MARK-OTHERS"))),
        };
        Self { are, mark_others }
    }
}

/// The chains that are the same whatever Services there are.
pub(super) fn write_fixed(chains: &mut Chains, plan: &Plan, family: IpFamily, config: &Config) {
    chains.begin(config.chain("POSTROUTING"));
    write_masquerading(chains, config);
    let pods = Pods::of(plan, family, config);
    if pods.are.len() > 1 {
        chains.begin(config.chain("MARK-OTHERS"));
        for pods in &pods.are {
            chains.rule().str(pods).str("-j RETURN\n");
        }
        chains.rule().str("-j ").display(config.chain("MARK-MASQ")).str("\n");
    }
    if config.layout == Layout::Tree {
        for (chain, mark) in [("MARK-REJECT", config.reject()), ("MARK-DROP", config.drop())] {
            chains.begin(config.chain(chain));
            chains.rule().str("-j MARK --set-xmark ").display(mark).str("\n");
        }
    }
}

/// Changes the source of what is marked, in the chain that is open, and has the chain that marks it.
pub(super) fn write_masquerading(chains: &mut Chains, config: &Config) {
    let mark = config.mark();
    chains.rule().display(format_args!("-m mark ! --mark {mark:#010x}/{mark:#010x} -j RETURN\n"));
    chains.rule().display(format_args!("-j MARK --xor-mark {mark:#010x}\n"));
    let random = if config.random_fully { " --random-fully\n" } else { "\n" };
    chains.rule().str("-j MASQUERADE").str(random);
    chains.begin(config.chain("MARK-MASQ"));
    chains.rule().display(format_args!("-j MARK --or-mark {mark:#010x}\n"));
}

/// The rules that lead from `SERVICES` to node ports, behind all others.
pub(super) fn lead_to_node_ports(
    services: &mut Chains,
    plan: &Plan,
    family: IpFamily,
    config: &Config,
) {
    node_port_places(plan, family, |place| {
        let rules = services.rule();
        rules.str("-m comment --comment \"node ports; this has to be the last rule\" ");
        if config.layout == Layout::Tree {
            let refused = config.refused();
            rules.display(format_args!("-m mark ! --mark {refused:#010x}/{refused:#010x} "));
        }
        rules.str(place).str("-j ").display(config.chain("NODEPORTS")).str("\n");
    });
}

/// The rules for a frontend where they are told apart: where it leads.
pub(super) fn write_lead(
    chains: &mut Chains,
    config: &Config,
    hash: Hash,
    port: &PortPlan,
    frontend: &Frontend,
) {
    let Some(lead) = Lead::of(frontend) else { return };
    let rules = chains.rule();
    rules.str("-m comment --comment \"").display(&port.name).str(" ");
    rules.display(frontend.kind).str("\" ");
    frontend_match(rules, port, frontend);
    rules.str(" -j ").chain(&lead.chain(config, hash)).str("\n");
}

/// In the linear layout, what comes back from where a frontend leads, or did not go, must not come to a node port of the same
/// number.
pub(super) fn write_return(chains: &mut Chains, plan: &Plan, port: &PortPlan, frontend: &Frontend) {
    let comes_back = match Lead::of(frontend) {
        None | Some(Lead::Firewall) => true,
        Some(_) => !matches!(frontend.from_elsewhere, Action::Forward { .. }),
    };
    if comes_back && frontend.ip.is_some_and(|ip| plan.node().is_own(ip)) {
        let rules = chains.rule();
        frontend_match(rules, port, frontend);
        rules.str(" -j RETURN\n");
    }
}

/// How those are refused that no endpoint was drawn for.
pub(super) fn refusal(frontend: &Frontend) -> Option<Refusal> {
    match frontend.from_elsewhere {
        // Who is not in a range; a Service that has none at all refuses everybody.
        _ if !frontend.source_ranges.is_empty() => Some(Refusal::Drop),
        Action::Forward { .. } => None,
        Action::Reject => Some(Refusal::Reject),
        Action::Drop => Some(Refusal::Drop),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Reject,
    Drop,
}

/// In the tree layout, refusals are marked where packets are told apart.
pub(super) fn write_refusal(
    chains: &mut Chains,
    config: &Config,
    port: &PortPlan,
    frontend: &Frontend,
) {
    let Some(refusal) = refusal(frontend) else { return };
    let rules = chains.rule();
    frontend_match(rules, port, frontend);
    let mark = match refusal {
        Refusal::Reject => "MARK-REJECT",
        Refusal::Drop => "MARK-DROP",
    };
    rules.str(" -j ").chain(&config.chain(mark)).str("\n");
}

/// To which of a port's chains a frontend leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lead {
    Cluster,
    Local,
    External,
    Firewall,
}

impl Lead {
    const fn to(policy: TrafficPolicy) -> Self {
        match policy {
            TrafficPolicy::Cluster => Self::Cluster,
            TrafficPolicy::Local => Self::Local,
        }
    }

    /// `None` if nobody who comes there is forwarded.
    fn of(frontend: &Frontend) -> Option<Self> {
        let actions = [frontend.from_pod, frontend.from_node, frontend.from_elsewhere];
        let mut forwarded = actions.into_iter().filter_map(|action| match action {
            Action::Forward { policy, .. } => Some(policy),
            Action::Reject | Action::Drop => None,
        });
        let policy = forwarded.next()?;
        Some(match frontend.kind {
            FrontendKind::ClusterIp => Self::to(policy),
            _ if frontend.source_ranges.is_empty() => Self::External,
            _ => Self::Firewall,
        })
    }

    fn chain(self, config: &Config, hash: Hash) -> ChainName {
        let kind = match self {
            Self::Cluster => "SVC",
            Self::Local => "SVL",
            Self::External => "EXT",
            Self::Firewall => "FW",
        };
        ChainName::new(&config.prefix, kind, hash.as_bytes())
    }
}

/// The chains of a port.
pub(super) fn write_port(chains: &mut Chains, config: &Config, pods: &Pods, port: &PortPlan) {
    let mut hashes = Hashes::of(&port.name);
    let hash = hashes.port();
    let chain = |lead: Lead| lead.chain(config, hash);
    let mark = config.chain("MARK-MASQ");
    // Which of the two policies is used.
    let mut used = [false; 2];
    let place = |policy: TrafficPolicy| usize::from(policy == TrafficPolicy::Local);
    let forwarded = |frontend: &&Frontend| Lead::of(frontend).is_some();
    let external = port.frontends.iter().filter(|f| f.kind != FrontendKind::ClusterIp);

    if let Some(frontend) = external.clone().find(forwarded) {
        chains.begin(chain(Lead::External));
        let mut go = |chains: &mut Chains, origin: &str, action: Action| {
            let Action::Forward { policy, masquerade } = action else { return };
            used[place(policy)] = true;
            if masquerade {
                chains.rule().str(origin).str("-j ").chain(&mark).str("\n");
            }
            let to = chain(Lead::to(policy));
            chains.rule().str(origin).str("-j ").chain(&to).str("\n");
        };
        let Frontend { from_pod, from_node, from_elsewhere, .. } = *frontend;
        if from_pod != from_elsewhere {
            for origin in &pods.are {
                go(chains, origin, from_pod);
            }
        }
        if from_node != from_elsewhere {
            go(chains, "-m addrtype --src-type LOCAL ", from_node);
        }
        go(chains, "", from_elsewhere);
    }
    let firewall = external.filter(forwarded).find(|frontend| !frontend.source_ranges.is_empty());
    if let Some(frontend) = firewall {
        chains.begin(chain(Lead::Firewall));
        for net in disjoint(&frontend.source_ranges) {
            let rules = chains.rule();
            rules.str("-s ").display(Source(net)).str(" -j ");
            rules.chain(&chain(Lead::External)).str("\n");
        }
    }

    let own = port.frontends.iter().filter(|frontend| frontend.kind == FrontendKind::ClusterIp);
    let own = own.filter_map(|frontend| match frontend.from_pod {
        Action::Forward { policy, masquerade } => Some((frontend, policy, masquerade)),
        Action::Reject | Action::Drop => None,
    });
    for (_, policy, _) in own.clone() {
        used[place(policy)] = true;
    }
    let endpoint = |hash: Hash| ChainName::new(&config.prefix, "SEP", hash.as_bytes());
    let mut reachable: Vec<(&Backend, ChainName)> = Vec::new();
    for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
        if !used[place(policy)] {
            continue;
        }
        chains.begin(chain(Lead::to(policy)));
        for (frontend, _, pod) in own.clone().filter(|(_, used, _)| *used == policy) {
            let others =
                matches!(frontend.from_elsewhere, Action::Forward { masquerade: true, .. });
            let jump = format!("-j {mark}");
            let target = if pod { Some(&*jump) } else { pods.mark_others.as_deref() };
            if let Some(target) = target.filter(|_| others) {
                let rules = chains.rule();
                rules.str("-m comment --comment \"").display(&port.name).str(" cluster IP\" ");
                frontend_match(rules, port, frontend);
                rules.str(" ").str(target).str("\n");
            }
        }
        let backends = &port.targets(policy).backends;
        let known: BTreeMap<_, _> = reachable.iter().map(|(b, name)| (b.addr, *name)).collect();
        let mut of = |backend: &Backend| {
            let known = known.get(&backend.addr).copied();
            known.unwrap_or_else(|| endpoint(hashes.endpoint(backend.addr)))
        };
        let endpoints: Vec<ChainName> = backends.iter().map(&mut of).collect();
        if let Some(timeout) = port.client_ip_affinity {
            for endpoint in &endpoints {
                let rules = chains.rule();
                rules.str("-m recent --name ").chain(endpoint).str(" --rcheck --seconds ");
                rules.display(seconds(timeout)).str(" --reap -j ");
                rules.chain(endpoint).str("\n");
            }
        }
        draw(chains, backends, &endpoints);
        let new = backends.iter().zip(endpoints).filter(|(b, _)| !known.contains_key(&b.addr));
        reachable.extend(new);
    }
    for (backend, endpoint) in reachable {
        chains.begin(endpoint);
        let rules = chains.rule();
        rules.str("-s ").ip(backend.addr.ip()).str(" -j ").chain(&mark).str("\n");
        let protocol = port.name.protocol.as_lower_str();
        let rules = chains.rule();
        if port.client_ip_affinity.is_some() {
            rules.str("-m recent --name ").chain(&endpoint).str(" --set ");
        }
        rules.str("-m ").str(protocol).str(" -p ").str(protocol);
        rules.str(" -j DNAT --to-destination ").addr(backend.addr).str("\n");
    }
}

/// Leads to one of some endpoints: each rule takes its part of what the rules before it left.
fn draw(chains: &mut Chains, backends: &[Backend], endpoints: &[ChainName]) {
    let mut left: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    for (backend, endpoint) in backends.iter().zip(endpoints) {
        let weight = u64::from(backend.weight);
        if weight == 0 {
            continue;
        }
        let rules = chains.rule();
        if weight < left {
            rules.str("-m statistic --mode random --probability ");
            rules.ascii(&probability(weight, left)).str(" ");
        }
        rules.str("-j ").chain(endpoint).str("\n");
        left -= weight;
    }
}

/// `0.3333333333`: ten digits, the last one rounded.
fn probability(part: u64, whole: u64) -> [u8; 12] {
    let (shifted, divisor) = (u128::from(part) * 10_u128.pow(10), u128::from(whole));
    let (mut digits, rest) = (shifted / divisor, shifted % divisor);
    digits += u128::from(match (2 * rest).cmp(&divisor) {
        Ordering::Less => false,
        Ordering::Equal => is_above(part, whole, digits),
        Ordering::Greater => true,
    });
    let mut digits = u64::try_from(digits).unwrap_or(u64::MAX);
    let mut text = *b"0.0000000000";
    for place in text.iter_mut().rev().filter(|place| **place == b'0') {
        *place += (digits % 10) as u8;
        digits /= 10;
    }
    text
}

/// Whether a probability that is halfway between two of ten digits, of which the lower is given, is written as the upper one: it is
/// if the float is, which may be a little more or less.
#[expect(clippy::cast_precision_loss, reason = "that is how kube-proxy has it")]
fn is_above(part: u64, whole: u64, lower: u128) -> bool {
    let written = format!("{:.10}", part as f64 / whole as f64);
    written.bytes().last() != b"0123456789".get((lower % 10) as usize).copied()
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    /// As Go's `%0.10f` writes `1.0 / float64(n)`.
    #[test]
    fn probabilities_are_written_as_floats_are() {
        let written = |part, whole| String::from_utf8_lossy(&probability(part, whole)).into_owned();
        for n in (1..5_000_u32).chain([1 << 16, 1 << 20, u32::MAX]) {
            assert_eq!(written(1, n.into()), format!("{:.10}", 1.0 / f64::from(n)), "1/{n}");
            assert_eq!(
                written((n - 1).into(), n.into()),
                format!("{:.10}", f64::from(n - 1) / f64::from(n))
            );
        }
        assert_eq!(written(1, 2048), "0.0004882812", "to the even one");
        assert_eq!(written(1, 51_200), "0.0000195313", "as the float, which is above");
        assert_eq!(written(u64::MAX / 2, u64::MAX), "0.5000000000");
    }
}
