//! What comes out.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::name::ObjectName;
use crate::plan;

/// What changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The Services that are treated otherwise, with both their plans.
    pub plan: plan::Changes,
    /// The Services that are others than they were, or of whose endpoints something else is said, whether or not the node treats them otherwise:
    /// among them are headless ones, aliases, and those that are gone. Of several events at once, also those that are in the end as they were.
    pub services: BTreeSet<ObjectName>,
    /// The pods that are others than they were, or gone; none, if they are not [kept](super::Catalog::with_pods).
    pub pods: BTreeSet<ObjectName>,
}

impl Changes {
    /// Whether nothing is other than it was.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.services.is_empty() && self.pods.is_empty()
    }

    /// Makes one of these changes and later ones. In the [plan](Self::plan), what ends where it began is no change; the
    /// [Services](Self::services) and [pods](Self::pods) are those of both. Associative: of several, any neighbours can be merged first.
    pub fn merge(&mut self, later: Self) {
        self.plan.merge(later.plan);
        self.services.extend(later.services);
        self.pods.extend(later.pods);
    }
}

/// What an event concerns.
#[derive(Default)]
pub(super) struct Touched {
    /// Whether the Service or its endpoints are others, or just what it may claim.
    pub(super) services: BTreeMap<ObjectName, bool>,
    /// All that these Services select is to be looked at again.
    pub(super) selections: BTreeSet<ObjectName>,
    pub(super) pods: BTreeSet<ObjectName>,
}

impl Touched {
    pub(super) fn itself(&mut self, service: ObjectName) {
        self.services.insert(service, true);
    }

    pub(super) fn beside(&mut self, services: BTreeSet<ObjectName>) {
        for service in services {
            self.services.entry(service).or_insert(false);
        }
    }
}
