//! The mirror of core/v1 `Pod`.

use alloc::string::String;
use alloc::vec::Vec;

use super::meta::{Condition, ObjectMeta};

mirror! {
    /// A pod.
    pub struct Pod {
        /// Names, labels, annotations.
        metadata: ObjectMeta,
        /// What is wanted.
        spec: PodSpec,
        /// What is.
        status: PodStatus,
    }

    /// What is wanted of a pod.
    pub struct PodSpec {
        /// Its containers.
        containers: Vec<Container>,
        /// Containers that run before the others; with `restartPolicy: Always`, beside them.
        init_containers: Vec<Container>,
        /// The node that it is bound to.
        node_name: String,
        /// The hostname within its subdomain.
        hostname: String,
        /// The headless Service that its hostname is found under.
        subdomain: String,
        /// It has its node's addresses.
        host_network: bool,
    }

    /// A container.
    pub struct Container {
        /// Its name within the pod.
        name: String,
        /// The ports that it declares.
        ports: Vec<ContainerPort>,
        /// `Always` makes an init container a sidecar.
        restart_policy: Option<String>,
    }

    /// A port that a container declares.
    pub struct ContainerPort {
        /// Its name.
        name: String,
        /// The number.
        container_port: i32,
        /// `TCP`, `UDP` or `SCTP`.
        protocol: String,
    }

    /// What a pod is.
    pub struct PodStatus {
        /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        phase: String,
        /// What holds; `Ready` makes it an endpoint that serves.
        conditions: Vec<Condition>,
        /// The primary address.
        pod_ip as "podIP": String,
        /// The addresses, the primary one first.
        pod_ips as "podIPs": Vec<PodIp>,
    }

    /// An address of a pod.
    pub struct PodIp {
        /// The address.
        ip: String,
    }
}
