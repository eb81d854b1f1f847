//! What a load balancer's health checks are told.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::name::ObjectName;
use crate::net::IpFamily;

/// The health check of a Service of type LoadBalancer under the external policy `Local`: whether this node has endpoints for it.
///
/// The program that embeds the plan listens on the port, at the addresses that take node ports or at all, and answers any HTTP
/// request.
///
/// Source: kube-proxy's `healthcheck` package.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The Service.
    pub service: ObjectName,
    /// Its `healthCheckNodePort`.
    pub port: u16,
    /// How many addresses of endpoints on this node are ready, in each family that the check is answered in. Terminating ones do
    /// not count, so that the load balancer leaves the node in time; traffic that still comes goes to them all the same.
    pub local_endpoints: Vec<(IpFamily, usize)>,
}

/// The answer to a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthAnswer {
    /// The HTTP status: 200 or 503.
    pub status: u16,
    /// The body, in JSON.
    pub body: String,
}

impl HealthAnswer {
    /// The headers of every answer.
    pub const HEADERS: [(&'static str, &'static str); 2] =
        [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")];
}

impl Health {
    /// What to answer to a check that came in over a family: 200 if some endpoint on this node is ready and the proxy itself is
    /// healthy, which the caller knows: no change has been waiting for too long to be carried out.
    pub fn answer(&self, family: IpFamily, proxy_healthy: bool) -> HealthAnswer {
        let counts = self.local_endpoints.iter().find(|(of, _)| *of == family);
        let count = counts.map_or(0, |&(_, count)| count);
        let (namespace, name) = (self.service.namespace(), self.service.name());
        // Names of objects hold nothing that JSON would want escaped.
        let body = format!(
            r#"{{"service":{{"namespace":"{namespace}","name":"{name}"}},"localEndpoints":{count},"serviceProxyHealthy":{proxy_healthy}}}"#
        );
        HealthAnswer { status: if count > 0 && proxy_healthy { 200 } else { 503 }, body }
    }
}
