//! What is other in one plan than in another.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;

use super::{LocalNode, Mode, Plan, ServicePlan};
use crate::name::ObjectName;

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
            let change = ServiceChange { before: before.cloned(), after: after.cloned() };
            self.services.insert(name.clone(), change);
        }
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
                (Some(_), None) => core::cmp::Ordering::Less,
                (None, Some(_)) => core::cmp::Ordering::Greater,
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
