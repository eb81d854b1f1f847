//! [`vars`]: the environment variables by which a container finds Services.
//!
//! ```
//! use svcplane::env;
//! use svcplane::name::ObjectName;
//! use svcplane::service::{ClusterIps, Service, ServicePort};
//!
//! let mut redis = Service::new(ObjectName::new("default", "redis-master")?);
//! redis.cluster_ips = ClusterIps::Assigned(vec!["10.0.0.11".parse()?]);
//! redis.ports = vec![ServicePort::new(6379)];
//!
//! let vars: Vec<String> = env::vars([&redis]).iter().map(ToString::to_string).collect();
//! assert_eq!(vars, [
//!     "REDIS_MASTER_SERVICE_HOST=10.0.0.11",
//!     "REDIS_MASTER_SERVICE_PORT=6379",
//!     "REDIS_MASTER_PORT=tcp://10.0.0.11:6379",
//!     "REDIS_MASTER_PORT_6379_TCP=tcp://10.0.0.11:6379",
//!     "REDIS_MASTER_PORT_6379_TCP_PROTO=tcp",
//!     "REDIS_MASTER_PORT_6379_TCP_PORT=6379",
//!     "REDIS_MASTER_PORT_6379_TCP_ADDR=10.0.0.11",
//! ]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A container is given them once, at its start: Services that change later are not seen. [`visible`] says which Services a pod
//! is told of, and [`Environment`] is all of it at once: each variable once, with what got lost over it, and whether a program
//! can be started with that much.
//!
//! Source: Kubernetes kubelet `envvars` and `getServiceEnvVarMap`; Linux `execve(2)`. O(n · log n) in the Services.

mod budget;
mod visible;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::net::IpAddr;

pub use budget::{Budget, EXEC_LIMIT, STRING_LIMIT};
pub use visible::{Collision, Environment, visible};

use crate::service::{Service, ServicePort};

/// An environment variable. Ordered by name, then value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Var {
    /// `NAME=value`, as in a process.
    text: Box<str>,
    name: usize,
}

impl Var {
    /// A variable. All before the first `=` of a name is the name: no process could tell it otherwise.
    pub fn new(name: &str, value: &str) -> Self {
        let name = name.split('=').next().unwrap_or(name);
        Self::written(name.len(), format_args!("{name}={value}"))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.text[..self.name]
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.text[self.name + 1..]
    }

    /// `NAME=value`
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn written(name: usize, text: fmt::Arguments<'_>) -> Self {
        // Most are this long at most; one allocation, and one that cuts off the rest.
        let mut written = String::with_capacity(64);
        let _ = written.write_fmt(text); // a string takes everything
        Self { text: written.into(), name }
    }
}

impl Ord for Var {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.name().cmp(other.name()).then_with(|| self.value().cmp(other.value()))
    }
}

impl PartialOrd for Var {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl fmt::Display for Var {
    /// `NAME=value`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// The variables of these Services, in the order of the Services.
///
/// With `P` for the Service's name in upper case with `_` for `-`, they are, in order: `P_SERVICE_HOST` and `P_SERVICE_PORT` (the
/// first port's); `P_SERVICE_PORT_NAME` for each port with a name; and the older links: `P_PORT` for the first port, and for each
/// `P_PORT_<number>_<PROTOCOL>` alone and with `_PROTO`, `_PORT`, `_ADDR`. The address is the first cluster IP; IPv6 is in
/// brackets where a port follows. Services without a cluster IP or without ports have none.
///
/// Nothing else is done to a name: a Service that is called `1st` has variables that no shell can name.
///
/// `DIFFERENCE`: addresses are in canonical form; the kubelet writes them as the Service has them.
pub fn vars<'a, I>(services: I) -> Vec<Var>
where
    I: IntoIterator<Item = &'a Service>,
{
    let mut vars = Vec::new();
    for service in services {
        push(service, &mut vars);
    }
    vars
}

/// The address and the first port that a Service is announced with.
pub(in crate::env) fn announced(service: &Service) -> Option<(IpAddr, &ServicePort)> {
    Some((*service.cluster_ips.as_slice().first()?, service.ports.first()?))
}

fn push(service: &Service, vars: &mut Vec<Var>) {
    let Some((ip, first)) = announced(service) else { return };
    let service_name = upper(service.name.name());
    let prefix = &*service_name;
    let (open, close) = if ip.is_ipv6() { ("[", "]") } else { ("", "") };
    let mut push = |name: usize, text: fmt::Arguments<'_>| vars.push(Var::written(name, text));

    let named = prefix.len() + "_SERVICE_HOST".len();
    push(named, format_args!("{prefix}_SERVICE_HOST={ip}"));
    push(named, format_args!("{prefix}_SERVICE_PORT={}", first.port));
    for port in &service.ports {
        if let Some(name) = &port.name {
            let name = upper(name.as_str());
            let named = named + 1 + name.len();
            push(named, format_args!("{prefix}_SERVICE_PORT_{name}={}", port.port));
        }
    }
    for (i, port) in service.ports.iter().enumerate() {
        let (number, proto) = (port.port, port.protocol.as_lower_str());
        if i == 0 {
            let named = prefix.len() + "_PORT".len();
            push(named, format_args!("{prefix}_PORT={proto}://{open}{ip}{close}:{number}"));
        }
        let mut link = String::with_capacity(prefix.len() + 16);
        let _ = write!(link, "{prefix}_PORT_{number}_{}", port.protocol.as_str());
        let named = link.len();
        push(named, format_args!("{link}={proto}://{open}{ip}{close}:{number}"));
        push(named + "_PROTO".len(), format_args!("{link}_PROTO={proto}"));
        push(named + "_PORT".len(), format_args!("{link}_PORT={number}"));
        push(named + "_ADDR".len(), format_args!("{link}_ADDR={ip}"));
    }
}

fn upper(name: &str) -> String {
    let upper = |c: char| if c == '-' { '_' } else { c.to_ascii_uppercase() };
    name.chars().map(upper).collect()
}
