//! Who has which address and node port, by what the Services say.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::assign::{Claim, Pools, claims};
use crate::name::ObjectName;
use crate::plan::age;
use crate::service::Service;
use crate::time::{Instant, Timestamp};

/// Pools that follow Services.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) pools: Pools,
    /// Who states it, the oldest first.
    stated: BTreeMap<Claim, BTreeSet<Claimant>>,
}

type Claimant = ((bool, Option<Timestamp>), ObjectName);

fn claimant(service: &Service) -> Claimant {
    (age(service), service.name.clone())
}

impl Account {
    pub(super) fn new(pools: Pools) -> Self {
        Self { pools, stated: BTreeMap::new() }
    }

    /// Takes a Service as it is now in place of what it was.
    pub(super) fn replace(
        &mut self,
        before: Option<&Service>,
        after: Option<&Service>,
        now: Instant,
    ) {
        let mut concerned = BTreeSet::new();
        if let Some(service) = before {
            for claim in claims(service) {
                if let Some(all) = self.stated.get_mut(&claim) {
                    all.remove(&claimant(service));
                }
                concerned.insert(claim);
            }
        }
        if let Some(service) = after {
            for claim in claims(service) {
                self.stated.entry(claim).or_default().insert(claimant(service));
                concerned.insert(claim);
            }
        }
        for claim in concerned {
            let owner = self.stated.get(&claim).and_then(BTreeSet::first).map(|(_, owner)| owner);
            match (owner, before.or(after)) {
                (Some(owner), _) if self.pools.owner(claim) != Some(owner) => {
                    self.pools.learn(claim, owner.clone());
                }
                (None, Some(service)) => {
                    self.stated.remove(&claim);
                    self.pools.release(claim, &service.name, now);
                }
                _ => {}
            }
        }
    }
}
