// The README says the same for its other readers; the first definition of a link counts.
//! [fidelity]: guide::fidelity
//! [cookbook]: guide::cookbook
//! [design]: guide::design
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "kernel", feature = "sync"))]
extern crate std;

pub mod affinity;
pub mod assign;
pub mod backend;
pub mod balancer;
mod bitset;
pub mod catalog;
pub mod dns;
mod draw;
pub mod endpoints;
pub mod env;
pub mod field;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod ipam;
#[cfg(feature = "iptables")]
pub mod iptables;
#[cfg(feature = "ipvs")]
pub mod ipvs;
pub mod k8s;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod kernel;
pub mod labels;
pub mod name;
pub mod net;
#[cfg(feature = "nftables")]
pub mod nftables;
pub mod node;
pub mod plan;
pub mod pod;
#[cfg(any(feature = "iptables", feature = "nftables"))]
pub mod rules;
pub mod sched;
pub mod service;
#[cfg(feature = "sync")]
pub mod sync;
pub mod time;

pub use ipnet;
