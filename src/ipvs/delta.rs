//! What a change of a plan comes to.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::net::{IpAddr, SocketAddr};

use super::desired::{bound, places, wanted};
use super::{Config, Desired, VirtualKey, compile};
use crate::plan::{Changes, Plan, ServicePlan};

/// What a change concerns, and what is wanted of that from now on.
///
/// ```
/// use svcplane::ipvs::{self, Actual, Config};
/// # use svcplane::plan::{Changes, LocalNode, Mode, Plan};
/// # let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Ipvs);
/// # let changes = Changes::default();
/// # let mut desired = ipvs::compile(&plan, &Config::default());
///
/// let delta = ipvs::delta(&plan, &changes, &Config::default());
/// let mut actual = Actual::default();
/// for key in delta.virtual_servers() {
///     // Command::FindVirtual and Command::ListReal of these alone, for Actual::insert
/// }
/// let commands = ipvs::reconcile(delta.desired(), &actual, &[]);
///
/// // Or with what was compiled before, as long as nobody else changes what the kernel has:
/// desired.apply(&delta);
/// assert_eq!(desired, ipvs::compile(&plan, &Config::default()));
/// # Ok::<(), svcplane::name::NameError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    keys: BTreeSet<VirtualKey>,
    /// The addresses that Services gained or lost.
    ips: BTreeSet<IpAddr>,
    desired: Desired,
}

impl Delta {
    /// The virtual servers that may have to be others than they are, sorted.
    pub fn virtual_servers(&self) -> impl ExactSizeIterator<Item = &VirtualKey> {
        self.keys.iter()
    }

    /// Whether a virtual server is among them.
    pub(super) fn concerns(&self, key: &VirtualKey) -> bool {
        self.keys.contains(key)
    }

    /// What is wanted of them; those that are not there are to go.
    pub const fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Whether addresses may have come or gone.
    #[cfg(feature = "kernel")]
    pub(crate) fn concerns_addresses(&self) -> bool {
        !self.ips.is_empty()
    }

    /// The addresses that the node need not have any more, sorted. Those that it has to have are among those
    /// [desired](Self::desired).
    pub fn removed_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let wanted = |ip: &&IpAddr| !self.desired.addresses.contains(*ip);
        self.ips.iter().filter(wanted).copied()
    }
}

/// What changes that led to a plan come to. O(change), unless they [concern the node](Changes::concerns_node).
pub fn delta(plan: &Plan, changes: &Changes, config: &Config) -> Delta {
    let mut delta = Delta::default();
    if changes.concerns_node() {
        let mut before = plan.clone();
        before.apply(&changes.reversed());
        let before = compile(&before, config);
        delta.desired = compile(plan, config);
        delta.keys.extend(before.servers.keys().chain(delta.desired.servers.keys()));
        delta.ips.extend(before.addresses.iter().chain(&delta.desired.addresses));
        return delta;
    }
    for (_, change) in changes.services() {
        for service in change.before.iter().chain(&change.after) {
            delta.keys.extend(keys(plan, service));
        }
        let ips = |service: &Option<Arc<ServicePlan>>| -> BTreeSet<IpAddr> {
            let ips = service.iter().flat_map(|service| bound(service));
            ips.filter(|ip| !plan.node().is_own(*ip)).collect()
        };
        delta.ips.extend(ips(&change.before).symmetric_difference(&ips(&change.after)));
    }
    let servers = delta.keys.iter().filter_map(|key| Some((*key, wanted(plan, *key, config)?)));
    delta.desired.servers = servers.collect();
    delta.desired.addresses = delta.ips.iter().copied().filter(|ip| plan.is_virtual(*ip)).collect();
    delta
}

/// The virtual servers at a Service's frontends.
fn keys(plan: &Plan, service: &ServicePlan) -> impl Iterator<Item = VirtualKey> {
    service.ports.iter().flat_map(move |port| {
        port.frontends.iter().flat_map(move |frontend| {
            let key = |ip| VirtualKey::new(port.name.protocol, SocketAddr::new(ip, frontend.port));
            places(plan, port, frontend).into_iter().map(key)
        })
    })
}

impl Desired {
    /// Makes it what is wanted after a change.
    pub fn apply(&mut self, delta: &Delta) {
        for key in &delta.keys {
            match delta.desired.servers.get(key) {
                Some(server) => drop(self.servers.insert(*key, server.clone())),
                None => drop(self.servers.remove(key)),
            }
        }
        for ip in &delta.ips {
            if delta.desired.addresses.contains(ip) {
                self.addresses.insert(*ip);
            } else {
                self.addresses.remove(ip);
            }
        }
    }
}
