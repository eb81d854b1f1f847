//! Hands what the compilers write to this machine's kernel. Linux, with the tools that administrators use: `nft`,
//! `iptables-restore`, `conntrack`, `ip`, `nsenter`; and without one for [IPVS](Ipvs), over netlink.
//!
//! ```no_run
//! use svcplane::kernel::{Conntrack, Nft};
//! use svcplane::nftables::{self, Config};
//! use svcplane::plan::{LocalNode, Mode, Plan};
//!
//! let (nft, config) = (Nft::new(), Config::default());
//! println!("nft {}", nft.supported()?);
//! let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Nftables);
//! nft.replace(&plan, &config)?;
//! Conntrack::new().delete_stale(&plan)?;
//! nft.apply(&nftables::remove(&config))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! No shell is involved, scripts go through pipes, and every call waits until the tool has ended: the kernel may take seconds for a
//! large ruleset, so that a program that has other things to do makes these calls on a thread of its own. All need root, or the
//! capability `CAP_NET_ADMIN` in the network namespace.
//!
//! [`Syncer`] says when to hand over what. It does nothing itself, reads no clock and can be tested without a kernel.
//!
//! Source: kube-proxy, which runs the same tools (but for conntrack, to which it speaks netlink since 1.32).
//!
//! **Cost.** But for IPVS each call starts a process, which takes some milliseconds. What the kernel itself takes follows the length of a script in nftables and in
//! the nft variant of iptables, the size of the whole table in the legacy one. [`Syncer`] takes what the scripts take that it writes.

mod choose;
mod conntrack;
mod dummy;
mod iptables;
mod ipvs;
mod ipvs_node;
mod netlink;
mod netns;
mod nft;
mod parameters;
mod syncer;
mod tool;

use std::boxed::Box;
use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::str::FromStr;
use std::string::String;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use thiserror::Error;

use crate::endpoints::{Endpoint, EndpointPort, EndpointSet};
use crate::ipvs::{CommandError, ExchangeError, SchedulerName};
use crate::name::ObjectName;
use crate::net::{IpFamily, Protocol};
use crate::plan::{LocalNode, Mode, Plan};
use crate::service::{ClusterIps, Ingress, Service, ServiceKind, ServicePort};

pub use choose::{Choice, choose};
pub use conntrack::Conntrack;
pub use dummy::DummyInterface;
pub use iptables::{Iptables, IptablesVersion, Variant};
pub use ipvs::{Ipvs, IpvsError, IpvsFailure, IpvsSupport};
pub use ipvs_node::{IpvsNode, IpvsSync};
pub use nft::{Nft, NftVersion};
pub use parameters::{ParameterChange, Parameters};
pub use syncer::{Pacing, Rules, Script, Step, Syncer};

/// The name of a network namespace as `ip netns` keeps them, in `/run/netns`: 1 to 255 bytes, no slash and no control character,
/// not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsName(Box<str>);

impl NetnsName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NetnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for NetnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The text is not the name of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected the name of a network namespace: 1 to 255 bytes without slash")]
#[non_exhaustive]
pub struct ParseNetnsNameError;

impl FromStr for NetnsName {
    type Err = ParseNetnsNameError;

    fn from_str(text: &str) -> Result<Self, ParseNetnsNameError> {
        let illegal = |c: char| c == '/' || c.is_control();
        if text.is_empty()
            || text.len() > 255
            || matches!(text, "." | "..")
            || text.contains(illegal)
        {
            return Err(ParseNetnsNameError);
        }
        Ok(Self(text.into()))
    }
}

/// A tool could not be run, or did not do what it was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The tool cannot be started: it is not installed, or this process may not.
    #[error("cannot run {tool}: {error}")]
    Start {
        /// The tool.
        tool: String,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The tool was started, and what it says cannot be read.
    #[error("cannot talk to {tool}: {error}")]
    Pipe {
        /// The tool.
        tool: String,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The tool refused. Of a script for `nft` nothing has been done, it is one transaction; of input for iptables, each table is
    /// one.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The tool said something that is not what it is known to say.
    #[error("cannot read what {tool} says: {line:?}")]
    Unreadable {
        /// The tool.
        tool: String,
        /// The line.
        line: String,
    },
    /// The tool is older than what the scripts need.
    #[error("{tool} {found} is too old: expected {needed} or a newer one")]
    TooOld {
        /// The tool.
        tool: String,
        /// The version that is installed.
        found: String,
        /// The oldest that will do.
        needed: String,
    },
    /// A socket to the kernel cannot be opened.
    #[error("cannot open a netlink socket: {0}")]
    Netlink(#[source] io::Error),
    /// IPVS has refused a command, or has not answered it.
    #[error("{0}")]
    Ipvs(Box<IpvsFailure>),
    /// The kernel's IPVS has no such scheduler.
    #[error("the kernel's IPVS has no scheduler {0}")]
    NoScheduler(SchedulerName),
    /// Nobody said which mode would do.
    #[error("expected one mode at least to choose from")]
    NoMode,
    /// A network namespace cannot be entered.
    #[error("cannot enter the network namespace {netns}: {error}")]
    Netns {
        /// The namespace.
        netns: NetnsName,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// A kernel parameter cannot be read or set.
    #[error("cannot set {path}: {error}")]
    Parameter {
        /// Its path.
        path: String,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl KernelError {
    /// Why IPVS has refused a command, if it has.
    pub fn refusal(&self) -> Option<&CommandError> {
        match self {
            Self::Ipvs(failure) => match &failure.error {
                IpvsError::Answer(ExchangeError::Refused(refusal)) => Some(refusal),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What a tool says about why it did not do what it was asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The tool.
    pub tool: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it said, at most 64 KiB.
    pub stderr: String,
    /// The lines of the script that it complains of, at most eight, each with its number from 1. Empty if it names none.
    pub lines: Vec<(usize, String)>,
}

impl fmt::Display for Refusal {
    /// The first line of what the tool said, and the lines that it complains of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused ({})", self.tool, self.status)?;
        let said = self.stderr.lines().map(str::trim).find(|line| !line.is_empty());
        if let Some(said) = said {
            write!(f, ": {said}")?;
        }
        for (number, line) in &self.lines {
            write!(f, "; line {number}: {line}")?;
        }
        Ok(())
    }
}

/// A plan for a Service with endpoints, affinity and source ranges in both families.
fn specimen(mode: Mode) -> Option<Plan> {
    let name = ObjectName::new("default", "specimen").ok()?;
    let mut node = LocalNode::new("specimen".parse().ok()?);
    node.addresses = vec!["192.0.2.1".parse().ok()?, "2001:db8::1".parse().ok()?];
    let mut service = Service::new(name.clone());
    service.cluster_ips =
        ClusterIps::Assigned(vec!["198.51.100.1".parse().ok()?, "2001:db8:1::1".parse().ok()?]);
    service.ip_families = vec![IpFamily::V4, IpFamily::V6];
    service.client_ip_affinity = Some(Duration::from_secs(10_800));
    let ingress = Ingress { ip: Some("203.0.113.1".parse().ok()?), ..Ingress::default() };
    service.kind = ServiceKind::LoadBalancer;
    service.load_balancer.ingress = vec![ingress];
    service.load_balancer.source_ranges = vec!["203.0.113.128/25".parse().ok()?];
    let mut endpoints = vec![];
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let mut port = ServicePort::new(53);
        port.protocol = protocol;
        port.name = Some(protocol.as_lower_str().parse().ok()?);
        port.node_port = Some(30_053);
        let mut resolved = EndpointPort::new(53);
        (resolved.name, resolved.protocol) = (port.name.clone(), protocol);
        service.ports.push(port);
        endpoints.push(resolved);
    }
    let endpoint = |ip: &str| {
        let mut endpoint = Endpoint::new(ip.parse().ok()?);
        endpoint.ports = endpoints.iter().cloned().collect();
        Some(endpoint)
    };
    let endpoints = [endpoint("192.0.2.2")?, endpoint("2001:db8::2")?];
    let endpoints = EndpointSet::new(name, endpoints);
    Some(Plan::new(&node, mode, [(&service, &endpoints)]))
}
