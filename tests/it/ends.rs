//! What becomes of packets, whatever carries a plan out: what interpreters of compiled rules say and what is compared
//! with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use svcplane::plan::{LocalNode, Mode, Packet, Plan, Verdict};

use crate::flows::scenario::Scenario;
use crate::plan_model::{Cluster, clusters};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// It goes to a backend, masqueraded or not.
    Backend(SocketAddr, bool),
    Reject,
    Drop,
    /// It is let in as it is, whatever others say.
    Accept,
    /// It goes on as it is.
    Pass,
}

/// Who is asked whether addresses are local.
#[derive(Clone, Debug)]
pub(crate) struct Host(Vec<IpAddr>);

impl Host {
    pub(crate) fn new(node: &LocalNode) -> Self {
        Self(node.addresses.iter().chain(&node.local_addresses).copied().collect())
    }

    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.0.contains(&ip)
    }
}

/// What somebody else has marked packets with.
pub(crate) const FOREIGN: u32 = 1 << 16 | 1 << 1;

/// Everything that may become of a packet, in the words of the scenarios.
pub(crate) fn words(ends: &BTreeSet<End>) -> String {
    let mut backends: BTreeMap<SocketAddr, bool> = BTreeMap::new();
    let mut others = Vec::new();
    for end in ends {
        match *end {
            End::Backend(addr, masqueraded) => {
                let before = backends.insert(addr, masqueraded);
                assert!(before.is_none_or(|before| before == masqueraded), "{ends:?}");
            }
            End::Reject => others.push("reject"),
            End::Drop => others.push("drop"),
            End::Accept => others.push("accept"),
            End::Pass => others.push("none"),
        }
    }
    let mut texts: Vec<String> = backends.keys().map(ToString::to_string).collect();
    texts.extend(others.into_iter().map(str::to_owned));
    let all = !backends.is_empty() && backends.values().all(|masqueraded| *masqueraded);
    texts.join(" ") + if all { ", masqueraded" } else { "" }
}

/// What becomes of a packet, as the plan says. Whether a client that is sent back to itself is on this node for its
/// masquerading is told by the address alone.
pub(crate) fn planned(
    plan: &Plan,
    packet: &Packet,
    is_here: impl Fn(IpAddr) -> bool,
) -> BTreeSet<End> {
    match plan.route(packet) {
        Verdict::Forward(route) => {
            let used = route.backends.iter().filter(|backend| backend.weight > 0);
            let source = packet.source.to_canonical();
            let itself = |ip: IpAddr| ip == source && is_here(ip);
            used.map(|backend| backend.addr)
                .map(|addr| End::Backend(addr, route.masquerades(addr) || itself(addr.ip())))
                .collect()
        }
        Verdict::Reject => [End::Reject].into(),
        Verdict::Drop => [End::Drop].into(),
        Verdict::Accept(_) => [End::Accept].into(),
        Verdict::Pass => [End::Pass].into(),
    }
}

/// Every scenario of `tests/data/flows/` with its file's name.
pub(crate) fn scenarios() -> impl Iterator<Item = (String, Scenario)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows");
    let entries = std::fs::read_dir(folder).expect("the folder can be listed");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).map(|path| {
        let name = path.display().to_string();
        let file = File::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let recorded = serde_json::from_reader(BufReader::new(file));
        let recorded = recorded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let flows = Scenario::read(recorded).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, flows)
    })
}

/// A cluster. Its endpoints may be at ports that Services have too.
pub(crate) fn cluster(mode: Mode) -> impl Strategy<Value = Cluster> {
    let port = select(vec![8080, 8080, 80, 3001]);
    (clusters::cluster(), port).prop_map(move |(mut cluster, port)| {
        cluster.mode = mode;
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

/// Whether a packet may be translated to where it is going anyway: to the kernel it is then not translated, and may
/// still be refused.
pub(crate) fn may_stay(plan: &Plan, packet: &Packet) -> bool {
    let to = packet.destination;
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    matches!(plan.route(packet), Verdict::Forward(route) if route.backends.iter().any(|b| b.addr == to))
}

/// Packets; none from one family to the other.
pub(crate) fn packets(most: usize) -> impl Strategy<Value = Vec<Packet>> {
    prop::collection::vec(clusters::packet(), most).prop_map(|mut packets| {
        packets.retain(of_one_family);
        packets
    })
}

pub(crate) fn of_one_family(packet: &Packet) -> bool {
    let (from, to) = (packet.source.to_canonical(), packet.destination.ip().to_canonical());
    from.is_ipv4() == to.is_ipv4()
}
