//! The mirrors of core/v1 `Endpoints` and discovery.k8s.io/v1 `EndpointSlice`.

use alloc::string::String;
use alloc::vec::Vec;

use super::meta::{ObjectMeta, ObjectReference};

mirror! {
    /// The endpoints of a Service in their older form.
    pub struct Endpoints {
        /// Names, labels, annotations; the name is the Service's.
        metadata: ObjectMeta,
        /// Addresses with the ports that they share.
        subsets: Vec<EndpointSubset>,
    }

    /// Addresses that have the same ports.
    pub struct EndpointSubset {
        /// Those that are ready.
        addresses: Vec<EndpointAddress>,
        /// Those that are not.
        not_ready_addresses: Vec<EndpointAddress>,
        /// The ports of each.
        ports: Vec<EndpointPort>,
    }

    /// An address of a subset.
    pub struct EndpointAddress {
        /// The address.
        ip: String,
        /// Its hostname under the Service's DNS name.
        hostname: String,
        /// The node that it is on.
        node_name: Option<String>,
        /// The object behind it.
        target_ref: Option<ObjectReference>,
    }

    /// A port of a subset.
    pub struct EndpointPort {
        /// The name of the Service's port.
        name: String,
        /// The number.
        port: i32,
        /// `TCP`, `UDP` or `SCTP`.
        protocol: String,
        /// The application's protocol.
        app_protocol: Option<String>,
    }

    /// Some of the endpoints of a Service.
    pub struct EndpointSlice {
        /// Names, labels, annotations; a label names the Service.
        metadata: ObjectMeta,
        /// `IPv4`, `IPv6` or `FQDN`.
        address_type: String,
        /// The endpoints.
        endpoints: Vec<SliceEndpoint>,
        /// The ports of each.
        ports: Vec<SlicePort>,
    }

    /// An endpoint of a slice.
    pub struct SliceEndpoint {
        /// Its addresses, of the slice's type.
        addresses: Vec<String>,
        /// What state it is in.
        conditions: EndpointConditions,
        /// Its hostname under the Service's DNS name.
        hostname: Option<String>,
        /// The object behind it.
        target_ref: Option<ObjectReference>,
        /// The node that it is on.
        node_name: Option<String>,
        /// The zone that it is in.
        zone: Option<String>,
        /// Who should use it.
        hints: Option<EndpointHints>,
    }

    /// The state of an endpoint; what is absent is good news.
    pub struct EndpointConditions {
        /// It may take new connections.
        ready: Option<bool>,
        /// It answers.
        serving: Option<bool>,
        /// It is being deleted.
        terminating: Option<bool>,
    }

    /// Who should use an endpoint.
    pub struct EndpointHints {
        /// Clients in these zones.
        for_zones: Vec<ForZone>,
        /// Clients on these nodes.
        for_nodes: Vec<ForNode>,
    }

    /// A zone in a hint.
    pub struct ForZone {
        /// Its name.
        name: String,
    }

    /// A node in a hint.
    pub struct ForNode {
        /// Its name.
        name: String,
    }

    /// A port of a slice.
    pub struct SlicePort {
        /// The name of the Service's port; empty for an unnamed one.
        name: Option<String>,
        /// `TCP`, `UDP` or `SCTP`.
        protocol: Option<String>,
        /// The number.
        port: Option<i32>,
        /// The application's protocol.
        app_protocol: Option<String>,
    }
}
