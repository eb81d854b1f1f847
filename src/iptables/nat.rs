//! The table `nat`: where connections go, and with which source.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ipnet::IpNet;

use super::Config;
use crate::backend::Backend;
use crate::net::IpFamily;
use crate::plan::{Action, Frontend, FrontendKind, LocalDetector, NodePortReach, Plan, PortPlan};
use crate::rules::{Text, disjoint, endpoint_hash, port_hash};
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
    are: Vec<String>,
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
            LocalDetector::InterfacePrefix(prefix) => alloc::vec![format!("-i {prefix}+ ")],
            _ => Vec::new(),
        };
        let mark_others = match &*are {
            [] => None,
            [one] => Some(format!("! {one}-j {}-MARK-MASQ", config.prefix)),
            // Rules cannot say that a packet matches none of several.
            _ => Some(format!("-j {}-MARK-OTHERS", config.prefix)),
        };
        Self { are, mark_others }
    }
}

/// The chains through which all packets go.
pub(super) fn chains(plan: &Plan, family: IpFamily, config: &Config) -> Vec<(String, Text)> {
    let prefix = &config.prefix;
    let (mut services, mut node_ports) = (Text::default(), Text::default());
    for port in plan.ports().filter(|port| port.family == family) {
        let hash = port_hash(&port.name);
        for frontend in &port.frontends {
            let rules = if frontend.ip.is_some() { &mut services } else { &mut node_ports };
            let lead = Lead::of(frontend);
            if let Some(lead) = lead {
                rules.str("-m comment --comment \"").display(&port.name).str(" ");
                rules.display(frontend.kind).str("\" ");
                frontend_match(rules, port, frontend);
                rules.str(" -j ").display(lead.chain(config, &hash)).str("\n");
            }
            // What comes back from there, or did not go, must not come to a node port of the same number.
            let comes_back = lead.is_none() || matches!(frontend.from_elsewhere, Action::Drop);
            if comes_back && frontend.ip.is_some_and(|ip| plan.node().is_own(ip)) {
                frontend_match(rules, port, frontend);
                rules.str(" -j RETURN\n");
            }
        }
    }
    node_port_places(plan, family, |place| {
        services.str("-m comment --comment \"node ports; this has to be the last rule\" ");
        services.str(place).str("-j ").display(prefix).str("-NODEPORTS\n");
    });
    let mark = config.mark();
    let mut postrouting = Text::default();
    postrouting.display(format_args!("-m mark ! --mark {mark:#010x}/{mark:#010x} -j RETURN\n"));
    postrouting.display(format_args!("-j MARK --xor-mark {mark:#010x}\n-j MASQUERADE"));
    postrouting.str(if config.random_fully { " --random-fully\n" } else { "\n" });
    let mut masquerade = Text::default();
    masquerade.display(format_args!("-j MARK --or-mark {mark:#010x}\n"));

    let name = |chain: &str| format!("{prefix}-{chain}");
    let mut chains = alloc::vec![
        (name("SERVICES"), services),
        (name("NODEPORTS"), node_ports),
        (name("POSTROUTING"), postrouting),
        (name("MARK-MASQ"), masquerade),
    ];
    let pods = Pods::of(plan, family, config);
    if pods.are.len() > 1 {
        let mut others = Text::default();
        for pods in &pods.are {
            others.str(pods).str("-j RETURN\n");
        }
        others.str("-j ").display(prefix).str("-MARK-MASQ\n");
        chains.push((name("MARK-OTHERS"), others));
    }
    chains
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

    fn chain(self, config: &Config, hash: &str) -> String {
        let kind = match self {
            Self::Cluster => "SVC",
            Self::Local => "SVL",
            Self::External => "EXT",
            Self::Firewall => "FW",
        };
        format!("{}-{kind}-{hash}", config.prefix)
    }
}

/// The chains of a port.
pub(super) fn write_port(
    chains: &mut BTreeMap<String, Text>,
    config: &Config,
    pods: &Pods,
    port: &PortPlan,
) {
    let hash = port_hash(&port.name);
    let chain = |lead: Lead| lead.chain(config, &hash);
    let mark = format!("-j {}-MARK-MASQ\n", config.prefix);
    let lead_of = |frontend: &&Frontend| Lead::of(frontend).is_some();
    let mut used = [None::<Text>, None::<Text>];
    let mut of_policy = |policy: TrafficPolicy, rules: &Text| {
        let used = &mut used[usize::from(policy == TrafficPolicy::Local)];
        used.get_or_insert_default().text(rules);
    };

    for frontend in port.frontends.iter().filter(lead_of) {
        if frontend.kind == FrontendKind::ClusterIp {
            let Action::Forward { policy, masquerade: pod } = frontend.from_pod else { continue };
            let others =
                matches!(frontend.from_elsewhere, Action::Forward { masquerade: true, .. });
            let mut rules = Text::default();
            let target = if pod { Some(mark.trim_end()) } else { pods.mark_others.as_deref() };
            if let Some(target) = target.filter(|_| others) {
                rules.str("-m comment --comment \"").display(&port.name).str(" cluster IP\" ");
                frontend_match(&mut rules, port, frontend);
                rules.str(" ").str(target).str("\n");
            }
            of_policy(policy, &rules);
        }
    }

    let nothing = Text::default();
    let external = port.frontends.iter().filter(|f| f.kind != FrontendKind::ClusterIp);
    if let Some(frontend) = external.clone().find(lead_of) {
        let mut rules = Text::default();
        let mut go = |rules: &mut Text, place: &str, action: Action| {
            let Action::Forward { policy, masquerade } = action else { return };
            of_policy(policy, &nothing);
            if masquerade {
                rules.str(place).str(&mark);
            }
            rules.str(place).str("-j ").str(&chain(Lead::to(policy))).str("\n");
        };
        let Frontend { from_pod, from_node, from_elsewhere, .. } = *frontend;
        if from_pod != from_elsewhere {
            for place in &pods.are {
                go(&mut rules, place, from_pod);
            }
        }
        if from_node != from_elsewhere {
            go(&mut rules, "-m addrtype --src-type LOCAL ", from_node);
        }
        go(&mut rules, "", from_elsewhere);
        chains.insert(chain(Lead::External), rules);
    }
    if let Some(frontend) = external.clone().find(|f| !f.source_ranges.is_empty()) {
        let mut rules = Text::default();
        for net in disjoint(&frontend.source_ranges) {
            rules.str("-s ").display(Source(net)).str(" -j ").str(&chain(Lead::External)).str("\n");
        }
        chains.insert(chain(Lead::Firewall), rules);
    }

    let mut reachable = BTreeMap::new();
    for (policy, masquerade) in [TrafficPolicy::Cluster, TrafficPolicy::Local].into_iter().zip(used)
    {
        let Some(mut rules) = masquerade else { continue };
        let backends = &port.targets(policy).backends;
        let endpoints: Vec<String> = backends
            .iter()
            .map(|b| format!("{}-SEP-{}", config.prefix, endpoint_hash(&port.name, b.addr)))
            .collect();
        if let Some(timeout) = port.client_ip_affinity {
            for endpoint in &endpoints {
                rules.str("-m recent --name ").str(endpoint).str(" --rcheck --seconds ");
                rules.display(timeout.as_secs()).str(" --reap -j ").str(endpoint).str("\n");
            }
        }
        draw(&mut rules, backends, &endpoints);
        chains.insert(chain(Lead::to(policy)), rules);
        reachable.extend(backends.iter().map(|backend| backend.addr).zip(endpoints));
    }
    for (addr, endpoint) in reachable {
        let protocol = port.name.protocol.as_lower_str();
        let mut rules = Text::default();
        rules.str("-s ").ip(addr.ip()).str(" ").str(&mark);
        if port.client_ip_affinity.is_some() {
            rules.str("-m recent --name ").str(&endpoint).str(" --set ");
        }
        rules.str("-m ").str(protocol).str(" -p ").str(protocol);
        rules.str(" -j DNAT --to-destination ").display(addr).str("\n");
        chains.insert(endpoint, rules);
    }
}

/// Leads to one of some endpoints: each rule takes its part of what the rules before it left.
fn draw(rules: &mut Text, backends: &[Backend], endpoints: &[String]) {
    let mut left: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    for (backend, endpoint) in backends.iter().zip(endpoints) {
        let weight = u64::from(backend.weight);
        if weight == 0 {
            continue;
        }
        if weight < left {
            rules.str("-m statistic --mode random --probability ");
            rules.display(format_args!("{:.10} ", probability(weight, left)));
        }
        rules.str("-j ").str(endpoint).str("\n");
        left -= weight;
    }
}

#[expect(clippy::cast_precision_loss, reason = "ten digits are written")]
fn probability(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// As rules have it: an address alone without a length.
struct Source(IpNet);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(net) = self;
        if net.prefix_len() == net.max_prefix_len() {
            write!(f, "{}", net.addr())
        } else {
            write!(f, "{net}")
        }
    }
}
