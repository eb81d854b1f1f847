//! The integration tests, one module for each of the crate's, in one binary.

mod affinity;
mod assign;
mod balancer;
mod endpoints;
mod index;
mod ipam;
mod ipam_model;
mod k8s;
mod labels;
mod layering;
mod name;
mod net;
mod packing;
mod plan;
#[cfg(feature = "serde")]
mod pods;
mod pool;
mod proxy;
mod quantity;
mod repair;
mod selectors;
mod slices;
mod snapshot;
mod sources;
mod sync;
mod time;
mod update;
mod validate;
