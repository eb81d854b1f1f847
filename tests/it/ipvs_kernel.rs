//! IPVS in a real kernel: what is said to it, what it says, and which real server each connection goes to.
//!
//! They need root and a kernel with IPVS, `ipvsadm` and `ip`, and are skipped where something of that is missing; not if `SVCPLANE_REQUIRE_IPVS` is
//! set, as it is where `.ci/run` has them run in user-mode Linux. Each has a network namespace of its own, and so virtual servers of its own.

use std::sync::OnceLock;
use std::time::Duration;

use svcplane::kernel::Ipvs;

use crate::kernel::netns::{Netns, sweep_dead};

mod flows;
mod host;
mod live;
mod node;
mod said;

/// Nothing takes so long but a failure.
const LONG: Duration = Duration::from_secs(30);

/// A namespace, and its IPVS; `None` if these tests cannot run here. Says why not, once for each test.
fn ready(test: &str) -> Option<(Netns, Ipvs)> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| {
        sweep_dead();
        make("probe").err()
    });
    if let Some(missing) = missing {
        assert!(std::env::var_os("SVCPLANE_REQUIRE_IPVS").is_none(), "{test}: {missing}");
        eprintln!("skipped: {test}: {missing}");
        return None;
    }
    Some(make(test).expect("a namespace with IPVS"))
}

fn make(label: &str) -> Result<(Netns, Ipvs), String> {
    let netns = Netns::try_new(label)?;
    let ipvs = Ipvs::open_in(&netns.name(), LONG);
    let ipvs = ipvs.map_err(|error| format!("needs a kernel with IPVS: {error}"))?;
    netns.configure("link set lo up\n", "");
    Ok((netns, ipvs))
}
