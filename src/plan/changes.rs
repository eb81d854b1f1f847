//! What is other in one plan than in another.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::iter::{self, Peekable};
use core::slice;

use super::topology::order;
use super::{LocalNode, Mode, Plan, PortPlan, ServicePlan, ServicePortName};
use crate::backend::BackendChange;
use crate::name::ObjectName;
use crate::net::IpFamily;
use crate::service::TrafficPolicy;

/// What leads from one plan to another: for each Service that is treated otherwise, both its plans.
///
/// ```
/// # use svcplane::plan::{LocalNode, Mode, Plan};
/// # let old = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Nftables);
/// # let new = old.clone();
/// let changes = Plan::diff(&old, &new);
/// let mut followed = old.clone();
/// followed.apply(&changes);
/// assert_eq!(followed, new);
/// # Ok::<(), svcplane::name::NameError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    node: Option<NodeChange>,
    services: BTreeMap<ObjectName, ServiceChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NodeChange {
    before: (Arc<LocalNode>, Mode),
    after: (Arc<LocalNode>, Mode),
}

/// What is done for a Service, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceChange {
    /// What was done; `None` if it was not served.
    pub before: Option<Arc<ServicePlan>>,
    /// What is done now; `None` if it is not served.
    pub after: Option<Arc<ServicePlan>>,
}

/// The backends of one port under one policy, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteChange<'a> {
    /// The port.
    pub port: &'a ServicePortName,
    /// The address family.
    pub family: IpFamily,
    /// The policy.
    pub policy: TrafficPolicy,
    /// What was done for the port; `None` if it was not there.
    pub before: Option<&'a PortPlan>,
    /// What is done for it now; `None` if it is not there.
    pub after: Option<&'a PortPlan>,
}

impl ServiceChange {
    /// Each route that there was or is, by port, family and policy: for each port two. Those are among them whose backends stay as
    /// they are.
    pub fn routes(&self) -> impl Iterator<Item = RouteChange<'_>> {
        fn ports(plan: Option<&Arc<ServicePlan>>) -> Peekable<slice::Iter<'_, PortPlan>> {
            plan.map_or(&[][..], |plan| &plan.ports).iter().peekable()
        }
        let (mut before, mut after) = (ports(self.before.as_ref()), ports(self.after.as_ref()));
        let ports = iter::from_fn(move || {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.name.cmp(&new.name).then(old.family.cmp(&new.family)),
            };
            let old = if order.is_le() { before.next() } else { None };
            let new = if order.is_ge() { after.next() } else { None };
            Some((old.or(new)?, old, new))
        });
        let policies = [TrafficPolicy::Cluster, TrafficPolicy::Local];
        ports.flat_map(move |(port, before, after)| {
            let (port, family) = (&port.name, port.family);
            policies.map(|policy| RouteChange { port, family, policy, before, after })
        })
    }
}

impl<'a> RouteChange<'a> {
    /// What has to be done with a [`Balancer`](crate::balancer::Balancer) that has the backends of before: first those that go,
    /// then those that are edited or come, in the order of the backends.
    pub fn backends(&self) -> impl Iterator<Item = BackendChange> + use<> {
        let of = |port: Option<&'a PortPlan>| {
            port.map_or(&[][..], |port| &port.targets(self.policy).backends)
        };
        let (mut gone, mut set) = (Vec::new(), Vec::new());
        // Both are in one order.
        let (mut old, mut new) = (of(self.before).iter(), of(self.after).iter());
        let (mut before, mut after) = (old.next(), new.next());
        while before.or(after).is_some() {
            let order = match (before, after) {
                (Some(old), Some(new)) => order(old.addr, new.addr),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match (before, after) {
                (Some(old), _) if order.is_lt() => gone.push(BackendChange::Remove(old.addr)),
                (old, Some(new)) if order.is_gt() || old != Some(new) => {
                    set.push(BackendChange::Set(*new));
                }
                _ => {}
            }
            if order.is_le() {
                before = old.next();
            }
            if order.is_ge() {
                after = new.next();
            }
        }
        gone.into_iter().chain(set)
    }
}

impl Changes {
    /// Whether nothing is other than it was.
    pub fn is_empty(&self) -> bool {
        self.node.is_none() && self.services.is_empty()
    }

    /// Whether the node itself or the mode is another, so that all that was written for it has to be written anew.
    pub const fn concerns_node(&self) -> bool {
        self.node.is_some()
    }

    /// The Services that are treated otherwise, by name.
    pub fn services(&self) -> impl ExactSizeIterator<Item = (&ObjectName, &ServiceChange)> {
        self.services.iter()
    }

    /// Makes one of these changes and later ones. What ends where it began is no change.
    pub fn merge(&mut self, later: Self) {
        if let Some(later) = later.node {
            let before = self.node.take().map_or(later.before, |earlier| earlier.before);
            let change = NodeChange { before, after: later.after };
            self.node = (change.before != change.after).then_some(change);
        }
        for (name, later) in later.services {
            match self.services.entry(name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(later);
                }
                Entry::Occupied(mut earlier) => {
                    earlier.get_mut().after = later.after;
                    if earlier.get().before == earlier.get().after {
                        earlier.remove();
                    }
                }
            }
        }
    }

    /// What leads back.
    #[cfg(feature = "iptables")]
    pub(crate) fn reversed(&self) -> Self {
        let node = self.node.clone();
        let node =
            node.map(|NodeChange { before, after }| NodeChange { before: after, after: before });
        let back = |change: &ServiceChange| ServiceChange {
            before: change.after.clone(),
            after: change.before.clone(),
        };
        let services = self.services.iter().map(|(name, change)| (name.clone(), back(change)));
        Self { node, services: services.collect() }
    }

    fn note(
        &mut self,
        name: &ObjectName,
        before: Option<&Arc<ServicePlan>>,
        after: Option<&Arc<ServicePlan>>,
    ) {
        let same = match (before, after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after) || before == after,
            (before, after) => before.is_none() && after.is_none(),
        };
        if !same {
            self.put(name, before.cloned(), after.cloned());
        }
    }

    /// Notes two plans that are known to differ.
    pub(super) fn put(
        &mut self,
        name: &ObjectName,
        before: Option<Arc<ServicePlan>>,
        after: Option<Arc<ServicePlan>>,
    ) {
        self.services.insert(name.clone(), ServiceChange { before, after });
    }
}

impl Plan {
    /// What leads from one plan to another. O(Services); what both share is not looked into.
    pub fn diff(old: &Self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        let view = |plan: &Self| (Arc::clone(&plan.node), plan.mode);
        if old.mode != new.mode || old.node != new.node {
            changes.node = Some(NodeChange { before: view(old), after: view(new) });
        }
        let (mut before, mut after) =
            (old.services.iter().peekable(), new.services.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let old = if order.is_le() { before.next() } else { None };
            let new = if order.is_ge() { after.next() } else { None };
            if let Some((name, _)) = old.or(new) {
                changes.note(name, old.map(|(_, plan)| plan), new.map(|(_, plan)| plan));
            }
        }
    }

    /// Takes changes up. O(change): the Services that they do not name stay where they are. Changes that lead from another plan
    /// than this put what they name in place all the same.
    pub fn apply(&mut self, changes: &Changes) {
        if let Some(NodeChange { after: (node, mode), .. }) = &changes.node {
            let empty = Self::empty(LocalNode::clone(node), *mode);
            let services = core::mem::take(&mut self.services);
            *self = empty;
            for planned in services.values() {
                self.file(planned);
            }
            self.services = services;
        }
        for (name, change) in &changes.services {
            self.set(name, change.after.clone());
        }
    }
}
