//! [`Pod`]: as much of a pod as decides whether and where it is an endpoint.
//!
//! ```
//! use svcplane::labels::Labels;
//! use svcplane::name::ObjectName;
//! use svcplane::pod::{Phase, Pod};
//!
//! let mut pod = Pod::new(ObjectName::new("default", "redis-0")?);
//! pod.labels = Labels::from_iter([("app", "redis")]);
//! pod.ips = vec!["10.0.0.7".parse()?];
//! pod.phase = Phase::Running;
//! pod.ready = true;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: Kubernetes core/v1 `Pod`.
//! A plain value.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::labels::Labels;
use crate::name::{DnsLabel, NodeName, ObjectName, PortName};
use crate::net::Protocol;
use crate::time::Timestamp;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pod {
    /// Namespace and name.
    pub name: ObjectName,
    /// The object's uid; empty if it has none. Defaults to empty.
    pub uid: Arc<str>,
    /// Its labels. Defaults to none.
    pub labels: Labels,
    /// Since when it is being deleted (it may still serve). Defaults to not at all.
    pub deleted: Option<Timestamp>,
    /// Where it is in its life. Defaults to pending.
    pub phase: Phase,
    /// Its addresses, the primary one first. Defaults to none.
    pub ips: Vec<IpAddr>,
    /// Whether its `Ready` condition is true. Defaults to false.
    pub ready: bool,
    /// Since when it has been ready, or not. Defaults to unknown.
    pub ready_since: Option<Timestamp>,
    /// The hostname that it asked for (not its name). Defaults to none.
    pub hostname: Option<DnsLabel>,
    /// The headless Service that its hostname is to be found under. Defaults to none.
    pub subdomain: Option<DnsLabel>,
    /// The node that it runs on. Defaults to none.
    pub node: Option<NodeName>,
    /// The ports of its containers, in their order. Defaults to none.
    pub ports: Vec<ContainerPort>,
    /// The ports of its sidecars (init containers that are restarted always), in their order. Defaults to none.
    pub sidecar_ports: Vec<ContainerPort>,
}

impl Pod {
    /// A pending pod without address.
    pub fn new(name: ObjectName) -> Self {
        Self {
            name,
            uid: Arc::default(),
            labels: Labels::default(),
            deleted: None,
            phase: Phase::Pending,
            ips: Vec::new(),
            ready: false,
            ready_since: None,
            hostname: None,
            subdomain: None,
            node: None,
            ports: Vec::new(),
            sidecar_ports: Vec::new(),
        }
    }

    /// The number of the container port with a name and protocol: the first among the containers, then among
    /// the sidecars. Ordinary init containers and ephemeral ones are never asked.
    pub fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.ports
            .iter()
            .chain(&self.sidecar_ports)
            .find(|port| {
                port.name.as_ref().is_some_and(|n| n.as_str() == name) && port.protocol == protocol
            })
            .map(|port| port.port)
    }
}

/// Where a pod is in its life.
#[expect(clippy::exhaustive_enums, reason = "the API has had these five since 1.0")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Accepted, not all of it running.
    #[default]
    Pending,
    /// Running.
    Running,
    /// Ended well, for good.
    Succeeded,
    /// Ended badly, for good.
    Failed,
    /// Its node does not answer.
    Unknown,
}

impl Phase {
    /// The API's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether it is over: no container will run again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ContainerPort {
    /// Its name. Defaults to none.
    pub name: Option<PortName>,
    /// The transport. Defaults to TCP.
    pub protocol: Protocol,
    /// The number, 1 to 65535.
    pub port: u16,
}

impl ContainerPort {
    /// An unnamed TCP port.
    pub const fn new(port: u16) -> Self {
        Self { name: None, protocol: Protocol::Tcp, port }
    }
}
