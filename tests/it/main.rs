//! The integration tests, one module for each of the crate's, in one binary.

#[macro_use]
mod sched_model;

mod affinity;
mod affinity_model;
mod assign;
mod balancer;
mod catalog;
mod chance;
mod change;
mod choices;
mod convert;
mod dns;
mod dns_model;
mod dns_server;
mod endpoints;
#[cfg(feature = "serde")]
mod ends;
mod env;
#[cfg(feature = "serde")]
mod example;
mod fidelity;
#[cfg(feature = "serde")]
mod flows;
mod hints;
mod index;
mod ipam;
mod ipam_model;
#[cfg(feature = "serde")]
mod ipt;
#[cfg(feature = "serde")]
mod iptables;
#[cfg(feature = "serde")]
mod ipvs;
#[cfg(all(feature = "kernel", feature = "serde", target_os = "linux"))]
mod ipvs_kernel;
#[cfg(feature = "serde")]
mod ipvs_plan;
mod k8s;
#[cfg(all(feature = "kernel", feature = "serde", target_os = "linux"))]
mod kernel;
#[cfg(feature = "serde")]
mod lab;
mod labels;
mod layering;
mod merge;
mod mirror;
mod name;
mod net;
#[cfg(feature = "serde")]
mod nft;
mod packing;
mod plan;
mod plan_model;
#[cfg(feature = "serde")]
mod pods;
mod pool;
mod pool_model;
mod proxy;
mod quantity;
mod repair;
mod sched;
mod selectors;
#[cfg(feature = "sync")]
mod shared;
mod slices;
mod slow_start;
mod snapshot;
mod sources;
#[cfg(feature = "serde")]
mod strangers;
mod subsets;
mod sync;
mod templates;
mod templates_model;
mod time;
#[cfg(feature = "serde")]
mod traces;
mod update;
mod validate;
