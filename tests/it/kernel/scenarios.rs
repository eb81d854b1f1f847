//! Every packet of `tests/data/flows` as a real connection through the node's kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use svcplane::iptables;
use svcplane::ipvs;
use svcplane::kernel::{Iptables, IpvsNode, Nft, Variant};
use svcplane::net::Protocol;
use svcplane::nftables::{self, Config, Layout};
use svcplane::plan::{Mode, Packet, Plan, Verdict};
use tokio::runtime;

use crate::flows::scenario::Scenario;

use super::ready;
use super::topology::{Addresses, Topology};
use super::traffic::{Met, Servers, call};

/// Why a packet is not sent, if it is not.
fn not_sent(packet: &Packet, mode: Mode) -> Option<&'static str> {
    if packet.protocol == Protocol::Sctp {
        return Some("the kernels that this runs on have no SCTP sockets");
    }
    if mode == Mode::Ipvs && packet.source.is_loopback() {
        return Some("IPVS sends nothing elsewhere that comes from a loopback address");
    }
    // What listens at one, and what calls it, has to name its own interface.
    let scoped = matches!(packet.destination.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    scoped.then_some("a link-local address is another one at each interface")
}

/// An answer that is expected. A refusal may come with the second attempt only, after a second: client and node are one kernel here, which hears of
/// it while it is busy with the first.
const PATIENCE: Duration = Duration::from_secs(5);
/// Silence: everything here answers in less than a millisecond.
const SILENCE: Duration = Duration::from_millis(150);
/// Scenarios at a time: most of it is waiting.
const WORKERS: usize = 4;

#[test]
fn packets_go_where_the_scenarios_say() {
    if ready("packets_go_where_the_scenarios_say") {
        play_all(&PLANES);
    }
}

/// Sends every packet of every scenario through some planes.
pub(crate) fn play_all(planes: &[(Mode, &[Plane])]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows");
    let entries = fs::read_dir(folder).expect("the folder can be listed");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let only = std::env::var("SVCPLANE_SCENARIO").ok();
    files.retain(|path| only.as_ref().is_none_or(|only| path.to_string_lossy().contains(only)));

    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let own = play(file, planes);
                    report.lock().expect("no worker panics with it").add(own);
                }
            });
        }
    });
    let report = report.into_inner().expect("all workers are done");
    for (plane, (packets, connections)) in &report.sent {
        println!(
            "{plane}: {packets} packets of {} scenarios, {connections} connections",
            report.scenarios
        );
    }
    for (reason, packets) in &report.left_out {
        println!("not sent: {packets} packets: {reason}");
    }
    assert!(report.wrong.is_empty(), "{} wrong:\n{}", report.wrong.len(), report.wrong.join("\n"));
}

#[derive(Default)]
struct Report {
    /// By plane: packets, and connections for them.
    sent: BTreeMap<String, (usize, usize)>,
    left_out: BTreeMap<&'static str, usize>,
    /// Those that have packets for this mode.
    scenarios: usize,
    wrong: Vec<String>,
}

impl Report {
    fn add(&mut self, other: Self) {
        for (plane, (packets, connections)) in other.sent {
            let sent = self.sent.entry(plane).or_default();
            *sent = (sent.0 + packets, sent.1 + connections);
        }
        for (reason, packets) in other.left_out {
            *self.left_out.entry(reason).or_default() += packets;
        }
        self.scenarios += other.scenarios;
        self.wrong.extend(other.wrong);
    }
}

/// A packet, and what is to become of it.
struct Expected<'a> {
    name: &'a str,
    packet: Packet,
    words: String,
    /// Where it goes.
    backends: BTreeSet<SocketAddr>,
    masquerade: bool,
    /// One client goes to one of them only.
    sticky: bool,
}

/// What carries a plan out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plane {
    Nft(Layout),
    Iptables(Variant, iptables::Layout),
    Ipvs,
}

const PLANES: [(Mode, &[Plane]); 2] = [
    (Mode::Nftables, &[Plane::Nft(Layout::Flat), Plane::Nft(Layout::Chains)]),
    (
        Mode::Iptables,
        &[
            Plane::Iptables(Variant::Nft, iptables::Layout::Linear),
            Plane::Iptables(Variant::Nft, iptables::Layout::Tree),
            Plane::Iptables(Variant::Legacy, iptables::Layout::Linear),
            Plane::Iptables(Variant::Legacy, iptables::Layout::Tree),
        ],
    ),
];

impl Plane {
    /// Puts a plan's rules in the place of what is there.
    fn load(self, topology: &Topology, plan: &Plan) {
        let node = &topology.node;
        match self {
            Self::Nft(layout) => {
                let mut nft = Nft::new();
                nft.netns = Some(node.name());
                let mut config = Config::default();
                config.layout = layout;
                let script = nftables::compile(plan, &config);
                nft.apply(&script).unwrap_or_else(|error| panic!("{error}"));
            }
            Self::Iptables(variant, layout) => {
                let mut config = iptables::Config::default();
                config.layout = layout;
                // Rules that are replaced keep to their clients, and the sysctl is not taken back.
                self.clear(topology);
                node.set(&[("ipv4/conf/all/route_localnet", "0")]);
                let tools = tools(topology, variant);
                tools.replace(plan, &config).unwrap_or_else(|error| panic!("{error}"));
            }
            Self::Ipvs => {
                let now = svcplane::time::Instant::ZERO;
                let synced = ipvs_node(topology).sync(plan, now);
                synced.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    /// Takes all rules away.
    fn clear(self, topology: &Topology) {
        let node = &topology.node;
        match self {
            Self::Nft(_) => node.tool("nft", &["flush", "ruleset"], ""),
            Self::Iptables(variant, _) => {
                let config = iptables::Config::default();
                let tools = tools(topology, variant);
                tools.remove(&config).unwrap_or_else(|error| panic!("{error}"));
            }
            Self::Ipvs => {
                ipvs_node(topology).remove().unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

fn ipvs_node(topology: &Topology) -> IpvsNode {
    let node = IpvsNode::open(Some(&topology.node.name()), <_>::default(), None);
    node.unwrap_or_else(|error| panic!("{error}"))
}

fn tools(topology: &Topology, variant: Variant) -> Iptables {
    let mut tools = Iptables::new(variant);
    tools.netns = Some(topology.node.name());
    tools
}

fn play(file: &Path, planes: &[(Mode, &[Plane])]) -> Report {
    let mut report = Report::default();
    for (mode, planes) in planes {
        report.add(play_in(file, *mode, planes));
    }
    report
}

fn play_in(file: &Path, mode: Mode, planes: &[Plane]) -> Report {
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let text = fs::read_to_string(file).expect("a file");
    let recorded = serde_json::from_str(&text).expect("JSON");
    let scenario = Scenario::read(recorded).unwrap_or_else(|error| panic!("{name}: {error}"));
    let plan = scenario.plan(mode);
    let mut report = Report::default();
    let mut expected = Vec::new();
    for (name, packet, words) in scenario.packets(mode) {
        match not_sent(&packet, mode) {
            Some(reason) => *report.left_out.entry(reason).or_default() += 1,
            None => expected.push(Expected::new(&plan, name, packet, words)),
        }
    }
    if expected.is_empty() {
        return report;
    }
    report.scenarios = 1;
    let topology = Topology::new(addresses(&scenario, &plan, &expected));
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let _servers = servers(&topology, &scenario, &expected);
        for plane in planes {
            let load = || plane.load(&topology, &plan);
            load();
            let (free, sticky): (Vec<_>, Vec<_>) = expected.iter().partition(|one| !one.sticky);
            let mut results = Vec::new();
            if matches!(plane, Plane::Ipvs) {
                // Those who call in turns get real servers in turns: each the same one again.
                for one in &free {
                    results.push(one.check(&topology).await);
                }
            } else {
                let calls = free.iter().map(|one| one.check(&topology));
                results.extend(futures(calls).await);
            }
            for one in &sticky {
                results.push(one.check_sticky(&topology, load).await);
            }
            plane.clear(&topology);
            let sent = report.sent.entry(format!("{plane:?}")).or_default();
            for (one, (connections, wrong)) in free.iter().chain(&sticky).zip(results) {
                *sent = (sent.0 + 1, sent.1 + connections);
                if let Some(wrong) = wrong {
                    let Expected { name: packet_name, packet, words, .. } = one;
                    report.wrong.push(format!(
                        "{name}: {plane:?}: {packet_name}: {packet}: expected {words}, got {wrong}"
                    ));
                }
            }
        }
    });
    report
}

/// All of them at the same time, in order.
async fn futures<T>(calls: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    use std::pin::{Pin, pin};
    use std::task::Poll;
    let mut calls: Vec<Pin<Box<_>>> = calls.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    let all = std::future::poll_fn(move |context| {
        for (call, done) in calls.iter_mut().zip(&mut done) {
            if done.is_none() {
                if let Poll::Ready(result) = call.as_mut().poll(context) {
                    *done = Some(result);
                }
            }
        }
        if done.iter().any(Option::is_none) {
            return Poll::Pending;
        }
        Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
    });
    pin!(all).await
}

fn addresses(scenario: &Scenario, plan: &Plan, expected: &[Expected<'_>]) -> Addresses {
    let node = &scenario.node;
    let mut addresses = Addresses::default();
    addresses.node.extend(&node.addresses);
    let others = node.local_addresses.iter().filter(|ip| !node.addresses.contains(ip));
    addresses.node.extend(others);
    for (_, endpoints) in &scenario.services {
        for endpoint in endpoints.endpoints() {
            let here = endpoint.node.as_ref() == Some(&node.name);
            let side = if here { &mut addresses.pods } else { &mut addresses.world };
            side.insert(endpoint.ip);
        }
    }
    for Expected { packet, .. } in expected {
        let is_pod = node.pods.is_pod(packet.source, None);
        if is_pod && !addresses.world.contains(&packet.source) {
            addresses.pods.insert(packet.source);
        }
        addresses.world.extend([packet.source, packet.destination.ip()]);
    }
    if plan.mode() == Mode::Ipvs {
        addresses.virtual_ips.extend(ipvs::compile(plan, &<_>::default()).addresses());
    }
    addresses
}

/// One for each endpoint, and one wherever a packet is addressed: it gets what is not translated.
fn servers(topology: &Topology, scenario: &Scenario, expected: &[Expected<'_>]) -> Servers {
    let mut at: BTreeSet<(Protocol, SocketAddr)> = BTreeSet::new();
    for (_, endpoints) in &scenario.services {
        for endpoint in endpoints.endpoints() {
            let addr = |port| SocketAddr::new(endpoint.ip, port);
            at.extend(endpoint.ports.iter().map(|port| (port.protocol, addr(port.port))));
        }
    }
    at.extend(expected.iter().map(|one| (one.packet.protocol, one.packet.destination)));
    let mut servers = Servers::none();
    for (protocol, addr) in at {
        servers.start(topology, protocol, addr);
    }
    servers
}

impl<'a> Expected<'a> {
    fn new(plan: &Plan, name: &'a str, packet: Packet, words: String) -> Self {
        let list = words.strip_suffix(", masqueraded");
        let backends =
            list.unwrap_or(&words).split(' ').filter_map(|word| word.parse().ok()).collect();
        let masquerade = list.is_some();
        let sticky = match plan.route(&packet) {
            Verdict::Forward(route) => route.port.client_ip_affinity.is_some(),
            _ => false,
        };
        Self { name, packet, words, backends, masquerade, sticky }
    }

    /// How many connections it took, and what was wrong.
    async fn check(&self, topology: &Topology) -> (usize, Option<String>) {
        let patience = if self.words == "drop" { SILENCE } else { PATIENCE };
        let mut reached = BTreeSet::new();
        let at_least = if self.backends.is_empty() { 2 } else { 3 + self.backends.len() };
        // One of n is missed by 40 n in e⁻⁴⁰ of the runs.
        let at_most = at_least.max(40 * self.backends.len());
        for connections in 1..=at_most {
            match self.judge(topology, &call(topology, &self.packet, patience).await) {
                Ok(server) => reached.extend(server),
                Err(wrong) => return (connections, Some(wrong)),
            }
            if connections >= at_least && reached == self.backends {
                return (connections, None);
            }
        }
        (at_most, Some(format!("{reached:?} only in {at_most} connections")))
    }

    /// Each loading of the rules forgets where the client went: it goes to each of them, and there as often as it calls.
    async fn check_sticky(&self, topology: &Topology, load: impl Fn()) -> (usize, Option<String>) {
        let mut reached = BTreeSet::new();
        let at_most = 40 * self.backends.len();
        for loaded in 1..=at_most {
            load();
            let mut now = BTreeSet::new();
            for _ in 0..3 {
                match self.judge(topology, &call(topology, &self.packet, PATIENCE).await) {
                    Ok(server) => now.extend(server),
                    Err(wrong) => return (loaded * 3, Some(wrong)),
                }
            }
            if now.len() != 1 {
                return (loaded * 3, Some(format!("{now:?}, one after the other")));
            }
            reached.extend(now);
            if reached == self.backends {
                return (loaded * 3, None);
            }
        }
        (at_most * 3, Some(format!("{reached:?} only in {at_most} loadings")))
    }

    /// The backend that was reached, if one should be.
    fn judge(&self, topology: &Topology, met: &Met) -> Result<Option<SocketAddr>, String> {
        let source = self.packet.source;
        match (met, self.words.as_str()) {
            (Met::Refusal, "reject") | (Met::Silence, "drop") => Ok(None),
            (Met::Server { server, client }, "none" | "accept") => {
                let untouched = *server == self.packet.destination && *client == source;
                if untouched { Ok(None) } else { Err(met.to_string()) }
            }
            (Met::Server { server, client }, _) if self.backends.contains(server) => {
                // What stays on the node from elsewhere never leaves it: the kernel gives nobody another source there.
                let leaves = !topology.is_node(server.ip()) || topology.is_node(source);
                let right = if self.masquerade && leaves {
                    topology.is_node(*client) && !client.is_loopback()
                } else {
                    *client == source
                };
                if right { Ok(Some(*server)) } else { Err(met.to_string()) }
            }
            _ => Err(met.to_string()),
        }
    }
}
