//! Kubernetes objects as Kubernetes writes them, and the three steps from there to domain objects.
//!
//! ```
//! # #[cfg(feature = "serde")] {
//! use svcplane::k8s;
//!
//! let mut stored: k8s::Service = serde_json::from_str(r#"{
//!     "apiVersion": "v1", "kind": "Service",
//!     "metadata": { "namespace": "default", "name": "redis" },
//!     "spec": { "selector": { "app": "redis" }, "ports": [{ "port": 6379 }] }
//! }"#).unwrap();
//!
//! stored.set_defaults(); // 1. what the API server fills in
//! assert_eq!(stored.validate(), []); // 2. what its admission would say: every mistake at once
//! let converted = stored.convert().unwrap(); // 3. the domain object, leniently
//! assert!(converted.warnings.is_empty());
//! assert_eq!(converted.object.ports[0].port, 6379);
//! # }
//! ```
//!
//! The steps are separate because they are different programs' business. Who accepts new objects takes all
//! three. Who reads *stored* objects, as a proxy on a node does, converts only: an object that a newer or older
//! API server let in has to work as far as it can, and what had to be left out is a warning, not an outage.
//! Only an object without a usable name does not convert.
//!
//! The mirrors have the fields that this crate heeds; others are ignored when read. Absent, `null` and empty
//! are the same, as in the API. With the feature `serde` they read and write JSON, and YAML through any serde
//! YAML crate. [`Object`] reads any of them by `apiVersion` and `kind`, lists included.
//!
//! Source: Kubernetes core/v1 and discovery.k8s.io/v1, about 1.34.
//!
//! To read and to convert takes as long as the object is; to validate as well, but that each port is compared with those before it.

#[macro_use]
mod mirror;
mod convert;
mod defaults;
mod endpoints;
mod export;
mod label_selector;
mod meta;
mod node;
mod object;
mod pod;
mod quantity;
mod service;
mod validate;

pub use convert::Converted;
pub use endpoints::{
    EndpointAddress, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice,
    EndpointSubset, Endpoints, ForNode, ForZone, SliceEndpoint, SlicePort,
};
pub use label_selector::{LabelSelector, LabelSelectorRequirement};
pub use meta::{Condition, IntOrString, ObjectMeta, ObjectReference, OwnerReference};
pub use node::{Node, NodeAddress, NodeSpec, NodeStatus, Taint};
pub use object::{List, Object};
pub use pod::{Container, ContainerPort, Pod, PodIp, PodSpec, PodStatus};
pub use quantity::Quantity;
pub use service::{
    ClientIpConfig, LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec,
    ServiceStatus, SessionAffinityConfig,
};
