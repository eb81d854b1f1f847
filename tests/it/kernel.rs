//! The compiled rules in the real kernel: in network namespaces that these tests make, with real connections.
//!
//! They need root, `nft`, `iptables` in both variants, `ip` and `conntrack`, and are skipped where something of that is missing; not if `SVCPLANE_REQUIRE_KERNEL` is
//! set. Everything that they make is named after this process and goes with it, also after a panic; what a process that was killed left
//! behind, the next run removes.

mod affinity;
pub(crate) mod change;
mod iptables;
#[cfg(feature = "ipvs")]
mod ipvs_rules;
pub(crate) mod lab;
pub(crate) mod netns;
pub(crate) mod scenarios;
mod syncer;
mod topology;
mod traffic;

use netns::ready;
