//! What a plan ignored.

use alloc::boxed::Box;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;

use super::{FrontendKind, SCHEDULER_ANNOTATION, WEIGHTS_ANNOTATION};
use crate::name::ObjectName;
use crate::net::IpFamily;
use crate::sched::UnknownAlgorithm;

/// Something about a Service that a plan ignored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Warning {
    /// The Service.
    pub service: ObjectName,
    /// What it is about.
    pub kind: WarningKind,
}

/// What was ignored, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WarningKind {
    /// An address of a family in which the Service has no cluster IP.
    Address(FrontendKind, IpAddr),
    /// A source range of a family in which the load balancer has no address.
    SourceRange(IpNet),
    /// There are source ranges, but none of this family, so that everybody may connect over it.
    Unrestricted(IpFamily),
    /// The health-check node port, as the Service is not of type LoadBalancer with the external policy `Local`.
    HealthCheckNodePort(u16),
    /// The text of the annotation that names the scheduling algorithm.
    Scheduler(Box<str>),
    /// An item of the annotation that gives weights.
    Weight(Box<str>),
    /// The topology hints of a port (of this name, empty for an unnamed one), as an endpoint that is ready has none.
    Hints {
        /// The port's name.
        port: Box<str>,
        /// The endpoint's address.
        without: IpAddr,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.service, self.kind)
    }
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(kind, ip) => {
                let family = IpFamily::of(*ip);
                write!(f, "{kind} {ip} is ignored: the Service has no {family} cluster IP")
            }
            Self::SourceRange(range) => {
                let family = IpFamily::of(range.addr());
                write!(
                    f,
                    "source range {range} is ignored: the load balancer has no {family} address"
                )
            }
            Self::Unrestricted(family) => {
                write!(
                    f,
                    "none of the source ranges is {family}: everybody may connect over {family}"
                )
            }
            Self::HealthCheckNodePort(port) => write!(
                f,
                "health-check node port {port} is ignored: expected type LoadBalancer and externalTrafficPolicy Local"
            ),
            Self::Scheduler(text) => {
                write!(
                    f,
                    "annotation {SCHEDULER_ANNOTATION} is ignored: {text:?}: {UnknownAlgorithm}"
                )
            }
            Self::Weight(item) => write!(
                f,
                "item {item:?} of annotation {WEIGHTS_ANNOTATION} is ignored: expected NAME=WEIGHT or ADDRESS=WEIGHT with a weight from 1 to 65535, each once"
            ),
            Self::Hints { port, without } => {
                let (of, name) = if port.is_empty() { ("", "") } else { (" of port ", &**port) };
                write!(f, "topology hints{of}{name} are ignored: the endpoint {without} has none")
            }
        }
    }
}
