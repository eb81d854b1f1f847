//! The kernel's connection tracking, by the tool `conntrack`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::string::ToString;
use std::vec::Vec;

use super::tool::Tool;
use super::{KernelError, NetnsName};
use crate::net::{IpFamily, Protocol};
use crate::plan::{ConntrackFlow, Plan};

/// The tool `conntrack`, by which UDP flows are freed from endpoints that have gone.
///
/// ```no_run
/// use svcplane::kernel::Conntrack;
/// # use svcplane::plan::{LocalNode, Mode, Plan};
/// # let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Nftables);
///
/// // After each change of a UDP port, when the rules are loaded:
/// let deleted = Conntrack::new().delete_stale(&plan)?;
/// println!("{deleted} entries deleted");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Conntrack {
    /// The program. Defaults to `conntrack`, found as the environment's `PATH` says.
    pub path: PathBuf,
    /// The network namespace whose connections are meant, entered by `nsenter`. Defaults to `None`, that of this process.
    pub netns: Option<NetnsName>,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self { path: "conntrack".into(), netns: None }
    }
}

impl Conntrack {
    /// The `conntrack` of this machine, for the network namespace of this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// The UDP flows that are tracked, of both families: where clients send to and who answers, each pair once, in order. Reads the
    /// whole table, which may have some hundred thousand entries, and keeps only these pairs.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run, refuses, or lists something that is not a flow.
    pub fn udp_flows(&self) -> Result<Vec<ConntrackFlow>, KernelError> {
        let mut pairs: BTreeSet<(SocketAddr, SocketAddr)> = BTreeSet::new();
        let mut unreadable = None;
        for family in ["ipv4", "ipv6"] {
            self.tool().succeed(&["-L", "-p", "udp", "-f", family], "", |line| {
                match parse(line) {
                    Some(pair) => _ = pairs.insert(pair),
                    None if line.trim().is_empty() => {}
                    None => _ = unreadable.get_or_insert_with(|| line.to_string()),
                }
            })?;
        }
        if let Some(line) = unreadable {
            return Err(KernelError::Unreadable { tool: self.tool().name(), line });
        }
        let flow = |(to, from)| ConntrackFlow::new(Protocol::Udp, to, from);
        Ok(pairs.into_iter().map(flow).collect())
    }

    /// Deletes all entries of a flow; how many there were. That there is none any more is no error.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run or refuses.
    pub fn delete(&self, flow: &ConntrackFlow) -> Result<usize, KernelError> {
        let family = match IpFamily::of(flow.destination.ip()) {
            IpFamily::V4 => "ipv4",
            IpFamily::V6 => "ipv6",
        };
        let (to, from) = (flow.destination, flow.reply_source);
        let [to_ip, from_ip] = [to, from].map(|addr| addr.ip().to_string());
        let [to_port, from_port] = [to, from].map(|addr| addr.port().to_string());
        #[rustfmt::skip]
        let args = [
            "-D", "-p", flow.protocol.as_lower_str(), "-f", family, "--orig-dst", &to_ip, "--orig-port-dst", &to_port,
            "--reply-src", &from_ip, "--reply-port-src", &from_port,
        ];
        let mut deleted = 0;
        let ended = self.tool().run(&args, "", |_| deleted += 1)?;
        // What it says where nothing matched, as a failure.
        let none = ended.stderr.contains(": 0 flow entries have been deleted");
        if ended.status.success() || none {
            Ok(deleted)
        } else {
            Err(self.tool().refusal(ended, ""))
        }
    }

    /// Deletes the entries that keep clients from what a plan says, [`Plan::stale_flows`]; how many there were. To be called when
    /// the rules for the plan are loaded: an entry that is made anew then is made by them.
    ///
    /// # Errors
    ///
    /// As [`udp_flows`](Self::udp_flows) and [`delete`](Self::delete). What is deleted by then stays so.
    pub fn delete_stale(&self, plan: &Plan) -> Result<usize, KernelError> {
        let flows = self.udp_flows()?;
        plan.stale_flows(flows).map(|flow| self.delete(&flow)).sum()
    }

    fn tool(&self) -> Tool<'_> {
        Tool { path: &self.path, netns: self.netns.as_ref() }
    }
}

/// Reads an entry of the list, which has the client's direction first and the answers' after it. Other words may stand anywhere:
/// `udp 17 29 src=10.0.0.9 dst=10.96.0.10 sport=4000 dport=53 [UNREPLIED] src=10.0.0.7 dst=10.0.0.9 sport=53 dport=4000 mark=0 use=1`
fn parse(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let all = |key: &str| -> Vec<&str> {
        line.split_whitespace().filter_map(|word| word.strip_prefix(key)).collect()
    };
    let addr = |ip: &str, port: &str| -> Option<SocketAddr> {
        Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?))
    };
    let (sources, destinations) = (all("src="), all("dst="));
    let (source_ports, destination_ports) = (all("sport="), all("dport="));
    let to = addr(destinations.first()?, destination_ports.first()?)?;
    let from = addr(sources.get(1)?, source_ports.get(1)?)?;
    Some((to, from))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn entries_are_read() {
        let v4 = "udp      17 29 src=10.0.0.9 dst=10.96.0.10 sport=4000 dport=53 [UNREPLIED] src=10.0.0.7 \
                  dst=10.0.0.9 sport=5353 dport=4000 mark=0 use=1";
        let expected = ("10.96.0.10:53", "10.0.0.7:5353");
        let parsed = parse(v4).map(|(to, from)| (std::format!("{to}"), std::format!("{from}")));
        assert_eq!(parsed, Some((expected.0.into(), expected.1.into())));

        let v6 = "udp      17 118 src=fd00:10::2 dst=fd00:172:30::41 sport=4000 dport=53 packets=1 bytes=9 \
                  src=fd00:10::1:1 dst=fd00:10::2 sport=53 dport=4000 packets=1 bytes=9 [ASSURED] mark=0 zone=3 use=1";
        let expected = ("[fd00:172:30::41]:53", "[fd00:10::1:1]:53");
        let parsed = parse(v6).map(|(to, from)| (std::format!("{to}"), std::format!("{from}")));
        assert_eq!(parsed, Some((expected.0.into(), expected.1.into())));

        let unfinished = "udp 17 29 src=10.0.0.9 dst=10.96.0.10 sport=4000 dport=53";
        for wrong in ["", "udp 17", unfinished] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
