//! Who claims which address and port, so that after a change only those Services are planned anew that it can concern.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::{Changes, Claim, ClaimHasher, LocalNode, Mode, Plan, age, policy};
use crate::endpoints::EndpointSet;
use crate::name::ObjectName;
use crate::service::Service;
use crate::time::Timestamp;

/// The claims of all Services, met or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    claimants: HashMap<Claim, Claimants, ClaimHasher>,
}

/// The older is less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claimant {
    age: (bool, Option<Timestamp>),
    service: ObjectName,
}

/// At least one, sorted.
#[derive(Clone, Debug)]
enum Claimants {
    One(Claimant),
    Many(Vec<Claimant>),
}

impl Claimants {
    fn all(&self) -> &[Claimant] {
        match self {
            Self::One(only) => core::slice::from_ref(only),
            Self::Many(all) => all,
        }
    }
}

impl Claims {
    /// Takes the claims of a Service as they are now in place of those that it had. The other Services to which it matters that
    /// it has more, or fewer.
    pub(crate) fn replace(
        &mut self,
        node: &LocalNode,
        mode: Mode,
        before: Option<&Service>,
        after: Option<&Service>,
    ) -> BTreeSet<ObjectName> {
        let claims = |service: Option<&Service>| -> BTreeSet<Claim> {
            let service = service.filter(|service| node.serves(service));
            service.map_or_else(BTreeSet::new, |service| policy::claims(node, mode, service))
        };
        let claimant =
            |service: &Service| Claimant { age: age(service), service: service.name.clone() };
        let (old, new) = (claims(before), claims(after));
        let (old_self, new_self) = (before.map(claimant), after.map(claimant));
        let mut others = BTreeSet::new();
        if let Some(claimant) = old_self.as_ref() {
            let stays = |claim: &Claim| old_self == new_self && new.contains(claim);
            for claim in old.iter().filter(|claim| !stays(claim)) {
                self.remove(*claim, claimant, &mut others);
            }
        }
        if let Some(claimant) = new_self.as_ref() {
            let stayed = |claim: &Claim| old_self == new_self && old.contains(claim);
            for claim in new.iter().filter(|claim| !stayed(claim)) {
                self.insert(*claim, claimant, &mut others);
            }
        }
        if let Some(service) = before.or(after) {
            others.remove(&service.name);
        }
        others
    }

    fn insert(&mut self, claim: Claim, claimant: &Claimant, others: &mut BTreeSet<ObjectName>) {
        let mut known = match self.claimants.entry(claim) {
            Entry::Occupied(known) => known,
            Entry::Vacant(vacant) => {
                vacant.insert(Claimants::One(claimant.clone()));
                return;
            }
        };
        let mut all = known.get().all().to_vec();
        if let Err(at) = all.binary_search(claimant) {
            if at == 0 {
                // Another owner: each of them is told of it.
                others.extend(all.iter().map(|other| other.service.clone()));
            }
            all.insert(at, claimant.clone());
        }
        known.insert(Claimants::Many(all));
    }

    fn remove(&mut self, claim: Claim, claimant: &Claimant, others: &mut BTreeSet<ObjectName>) {
        let Some(known) = self.claimants.get_mut(&claim) else { return };
        let mut all = known.all().to_vec();
        if let Ok(at) = all.binary_search(claimant) {
            all.remove(at);
            if at == 0 {
                others.extend(all.iter().map(|other| other.service.clone()));
            }
        }
        match &*all {
            [] => drop(self.claimants.remove(&claim)),
            [only] => *known = Claimants::One(only.clone()),
            _ => *known = Claimants::Many(all),
        }
    }

    /// The oldest Service with a claim.
    fn owner(&self, claim: Claim) -> Option<&ObjectName> {
        self.claimants.get(&claim)?.all().first().map(|claimant| &claimant.service)
    }
}

impl Plan {
    /// Plans one Service anew, with its endpoints as they are now, and notes what is other than before. `claims` has to have those of all
    /// Services.
    pub(crate) fn replan(
        &mut self,
        claims: &Claims,
        service: &Service,
        endpoints: &EndpointSet,
        changes: &mut Changes,
    ) {
        if !self.node.serves(service) {
            return self.withdraw(&service.name, changes);
        }
        let name = &service.name;
        let mut planned = policy::plan_service(&self.node, self.mode, service, endpoints);
        let mut own = BTreeSet::new();
        planned.settle_claims(|claim| {
            let owner = claims.owner(claim).filter(|owner| *owner != name);
            if owner.is_some() {
                return owner.cloned();
            }
            (!own.insert(claim)).then(|| name.clone())
        });
        let before = self.services.get(name).cloned();
        if before.as_ref().is_some_and(|before| **before == planned) {
            return;
        }
        let planned = Arc::new(planned);
        changes.put(name, before, Some(Arc::clone(&planned)));
        self.set(name, Some(planned));
    }

    /// Takes a Service out, and notes that.
    pub(crate) fn withdraw(&mut self, service: &ObjectName, changes: &mut Changes) {
        if let Some(before) = self.services.get(service).cloned() {
            changes.put(service, Some(before), None);
            self.set(service, None);
        }
    }
}
