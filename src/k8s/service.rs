//! The mirror of core/v1 `Service`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::meta::{IntOrString, ObjectMeta};

mirror! {
    /// A Service.
    pub struct Service {
        /// Names, labels, annotations.
        metadata: ObjectMeta,
        /// What is wanted.
        spec: ServiceSpec,
        /// What is.
        status: ServiceStatus,
    }

    /// What is wanted of a Service.
    pub struct ServiceSpec {
        /// Its ports.
        ports: Vec<ServicePort>,
        /// The labels of the pods behind it; empty selects nothing.
        selector: BTreeMap<String, String>,
        /// The primary virtual address; `None` for a headless Service.
        cluster_ip as "clusterIP": String,
        /// The virtual addresses, the primary one first.
        cluster_ips as "clusterIPs": Vec<String>,
        /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
        kind as "type": String,
        /// Further addresses that nodes accept.
        external_ips as "externalIPs": Vec<String>,
        /// `None` or `ClientIP`.
        session_affinity: String,
        /// A wish for the load balancer's address; deprecated.
        load_balancer_ip as "loadBalancerIP": String,
        /// Whose connections a load balancer takes, as CIDRs.
        load_balancer_source_ranges: Vec<String>,
        /// The name that an ExternalName stands for.
        external_name: String,
        /// `Cluster` or `Local`, for traffic from outside.
        external_traffic_policy: String,
        /// The node port for a load balancer's health checks; 0 for none.
        health_check_node_port: i32,
        /// Endpoints count as ready whatever the pods say.
        publish_not_ready_addresses: bool,
        /// The details of `sessionAffinity`.
        session_affinity_config: Option<SessionAffinityConfig>,
        /// `IPv4` and `IPv6`, the primary one first.
        ip_families: Vec<String>,
        /// `SingleStack`, `PreferDualStack` or `RequireDualStack`.
        ip_family_policy: Option<String>,
        /// Whether a load balancer needs node ports.
        allocate_load_balancer_node_ports: Option<bool>,
        /// Who implements the load balancer.
        load_balancer_class: Option<String>,
        /// `Cluster` or `Local`, for traffic to the virtual address.
        internal_traffic_policy: Option<String>,
        /// `PreferClose`, `PreferSameZone` or `PreferSameNode`.
        traffic_distribution: Option<String>,
    }

    /// One port of a Service.
    pub struct ServicePort {
        /// Its name; needed when there are several.
        name: String,
        /// `TCP`, `UDP` or `SCTP`.
        protocol: String,
        /// The application's protocol.
        app_protocol: Option<String>,
        /// The port on the virtual address.
        port: i32,
        /// The pods' port, a number or the name of a container's port.
        target_port: Option<IntOrString>,
        /// The port on the nodes; 0 for none.
        node_port: i32,
    }

    /// The details of a session affinity.
    pub struct SessionAffinityConfig {
        /// Those of `ClientIP`.
        client_ip as "clientIP": Option<ClientIpConfig>,
    }

    /// The details of `ClientIP` affinity.
    pub struct ClientIpConfig {
        /// How long a client keeps to its backend, in seconds: 1 to 86400.
        timeout_seconds: Option<i32>,
    }

    /// What a Service is.
    pub struct ServiceStatus {
        /// Its load balancer.
        load_balancer: LoadBalancerStatus,
    }

    /// What a load balancer is.
    pub struct LoadBalancerStatus {
        /// Where it accepts connections.
        ingress: Vec<LoadBalancerIngress>,
    }

    /// One way in to a load balancer.
    pub struct LoadBalancerIngress {
        /// Its address.
        ip: String,
        /// Its DNS name.
        hostname: String,
        /// `VIP` or `Proxy`: how packets arrive at the nodes.
        ip_mode: Option<String>,
    }
}
