//! Random updates of several Services, by one replica and by two.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use svcplane::assign::{Assignment, Claim, Pools};
use svcplane::field::FieldErrorKind;
use svcplane::ipam::IpPool;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::service::Service;
use svcplane::time::Instant;

use super::{all_claims, name, owned, range, service};

/// So little that it is often full: five addresses, three, eight ports, two addresses of load balancers.
fn small(rest: u64) -> Pools {
    let rest = Duration::from_secs(rest);
    let mut pools = Pools::new(&[IpFamily::V4, IpFamily::V6], rest);
    pools.cluster_ips.add(range("10.0.0.0/30"));
    pools.cluster_ips.add(range("10.0.1.0/29"));
    pools.cluster_ips.add(range("2000::/126"));
    pools.node_ports.add("30000-30007".parse().expect("ports"));
    let mut balancer = IpPool::new(rest);
    balancer.add(range("192.0.2.0/30"));
    pools.load_balancer_ips = Some(balancer);
    pools
}

/// Some are wrong, as are many updates from one to another: then nothing may change.
const TEXTS: &[&str] = &[
    "-",
    "P",
    "R64",
    "S",
    "S6",
    "ip=None",
    "detached ip=None",
    "ip=10.0.0.1",
    "P ip=10.0.0.1,2000::1",
    "S ip=10.0.0.0",
    "External",
    "NodePort",
    "NodePort a/TCP/53 b/UDP/53",
    "NodePort P a/TCP/53/30001 b/UDP/53 c/TCP/54",
    "NodePort a/TCP/1/30001 b/UDP/2/30002",
    "LB",
    "LB P Local",
    "LB alloc=false Local hc=30003",
    "LB a/TCP/1/30004 b/TCP/2 alloc=false wish=192.0.2.1",
    "LB class=example.com/a",
];

#[derive(Clone, Debug)]
enum Op {
    Put(usize, usize, u64),
    Delete(usize),
    Wait,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..8_usize, 0..TEXTS.len(), any::<u64>()).prop_map(|(s, t, seed)| Op::Put(s, t, seed)),
        1 => (0..8_usize).prop_map(Op::Delete),
        1 => Just(Op::Wait),
    ];
    prop::collection::vec(op, 1..60)
}

fn named(which: usize, text: &str) -> Service {
    let mut service = service(text);
    service.name = name(&format!("s{which}"));
    service
}

fn everything(pools: &Pools) -> BTreeMap<Claim, ObjectName> {
    let owners: BTreeSet<ObjectName> = (0..8).map(|which| name(&format!("s{which}"))).collect();
    let of = |owner: &ObjectName| {
        owned(pools, owner).into_iter().map(|claim| (claim, owner.clone())).collect::<Vec<_>>()
    };
    owners.iter().flat_map(of).collect()
}

/// What the pools say is the sum of what the stored Services say, and nothing is there twice.
fn consistent(pools: &Pools, stored: &BTreeMap<usize, Service>) -> Result<(), TestCaseError> {
    let mut claimed = BTreeMap::new();
    for service in stored.values() {
        for claim in all_claims(service, pools) {
            let other = claimed.insert(claim, service.name.clone());
            prop_assert_eq!(other, None, "{} has two owners", claim);
        }
    }
    prop_assert_eq!(everything(pools), claimed);
    Ok(())
}

fn one_replica(ops: &[Op], rest: u64) -> Result<(), TestCaseError> {
    let mut pools = small(rest);
    let mut stored: BTreeMap<usize, Service> = BTreeMap::new();
    let mut now = 0;
    for op in ops {
        let at = Instant::from_secs(now);
        pools.sweep(at);
        match *op {
            Op::Put(which, text, seed) => {
                let new = named(which, TEXTS[text]);
                let old = stored.get(&which);
                let planned = Assignment::new(old, &new, &pools, seed);
                prop_assert_eq!(&planned, &Assignment::new(old, &new, &pools, seed));
                if let Ok(assignment) = planned {
                    prop_assert_eq!(pools.commit(&assignment, at), Ok(()));
                    let again = Assignment::new(
                        Some(&assignment.service),
                        &assignment.service,
                        &pools,
                        seed ^ 1,
                    );
                    let again = again.expect("what is stored is right");
                    prop_assert_eq!(&again.service.cluster_ips, &assignment.service.cluster_ips);
                    prop_assert_eq!(&again.service.ports, &assignment.service.ports);
                    prop_assert_eq!(&again.gives_back, &vec![]);
                    stored.insert(which, assignment.service);
                }
            }
            Op::Delete(which) => {
                if let Some(service) = stored.remove(&which) {
                    let assignment = Assignment::release(&service, &pools);
                    prop_assert_eq!(pools.commit(&assignment, at), Ok(()));
                }
            }
            Op::Wait => now += 3,
        }
        consistent(&pools, &stored)?;
    }
    for service in std::mem::take(&mut stored).into_values() {
        let assignment = Assignment::release(&service, &pools);
        prop_assert_eq!(pools.commit(&assignment, Instant::from_secs(now)), Ok(()));
    }
    consistent(&pools, &stored)?;
    pools.sweep(Instant::from_secs(now + rest));
    prop_assert_eq!(pools.next_expiry(), None);
    // As much can be had as at first.
    let mut drawn = Vec::new();
    while let Some(ip) = pools.cluster_ips.propose(1, &drawn, |_| true) {
        drawn.push(ip);
    }
    prop_assert_eq!(drawn.len(), 2 + 6 + 3);
    let mut ports = Vec::new();
    while let Some(port) = pools.node_ports.propose(1, &ports, |_| true) {
        ports.push(port);
    }
    prop_assert_eq!(ports.len(), 8);
    Ok(())
}

/// The store that replicas share: all keys that were not there, or none.
#[derive(Default)]
struct Store {
    keys: BTreeMap<String, (Claim, ObjectName)>,
    services: BTreeMap<usize, Service>,
}

impl Store {
    /// Who was first, if anybody was.
    fn swap(&mut self, which: usize, assignment: &Assignment) -> Result<(), (Claim, ObjectName)> {
        for claim in &assignment.takes {
            if let Some(taken) = self.keys.get(&claim.to_string()) {
                return Err(taken.clone());
            }
        }
        for claim in &assignment.takes {
            self.keys.insert(claim.to_string(), (*claim, assignment.service.name.clone()));
        }
        for claim in &assignment.gives_back {
            let gone = self.keys.remove(&claim.to_string()).expect("what is given back was there");
            assert_eq!(gone.1, assignment.service.name, "{claim}");
        }
        self.services.insert(which, assignment.service.clone());
        Ok(())
    }
}

/// What a replica does next: it plans for one of its Services, or writes what it has planned, or hears of the other's writes.
#[derive(Clone, Debug)]
enum Step {
    Plan(usize, u64),
    Write(usize),
    Hear(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..2_usize;
    let step = prop_oneof![
        3 => (replica.clone(), any::<u64>()).prop_map(|(r, seed)| Step::Plan(r, seed)),
        3 => replica.clone().prop_map(Step::Write),
        1 => replica.prop_map(Step::Hear),
    ];
    prop::collection::vec(step, 0..60)
}

struct Replica {
    pools: Pools,
    planned: Option<(usize, Assignment)>,
    /// Services that it is to create.
    todo: Vec<(usize, Service)>,
    full: usize,
}

impl Replica {
    fn plan(&mut self, seed: u64) {
        if self.planned.is_some() {
            return;
        }
        let Some((which, new)) = self.todo.last() else { return };
        match Assignment::new(None, new, &self.pools, seed) {
            Ok(assignment) => self.planned = Some((*which, assignment)),
            Err(errors) => {
                // That the other has what is stated is an error as well.
                let full = |e: &svcplane::field::FieldError| {
                    e.kind() == FieldErrorKind::Unavailable || e.detail().contains("allocated to")
                };
                assert!(errors.iter().all(full), "{errors:?}");
                self.full += 1;
                self.todo.pop();
            }
        }
    }

    fn write(&mut self, store: &mut Store) -> Result<(), TestCaseError> {
        let Some((which, assignment)) = self.planned.take() else { return Ok(()) };
        match store.swap(which, &assignment) {
            Ok(()) => {
                self.todo.pop();
                prop_assert_eq!(self.pools.commit(&assignment, Instant::ZERO), Ok(()));
            }
            Err((claim, owner)) => {
                let known = self.pools.learn(claim, owner.clone());
                prop_assert!(known.is_none_or(|known| known == owner), "{} has moved", claim);
                let late = self.pools.commit(&assignment, Instant::ZERO);
                let late = late.expect_err("what another has").to_string();
                prop_assert!(late.contains("is already allocated to ns/s"), "{}", late);
            }
        }
        Ok(())
    }

    fn hear(&mut self, store: &Store) {
        for (claim, owner) in store.keys.values() {
            self.pools.learn(*claim, owner.clone());
        }
    }
}

fn two_replicas(texts: &[usize], steps: &[Step]) -> Result<(), TestCaseError> {
    let mut store = Store::default();
    let mut todo = [Vec::new(), Vec::new()];
    for (which, text) in texts.iter().enumerate() {
        todo[which % 2].push((which, named(which, TEXTS[*text])));
    }
    let replica = |todo| Replica { pools: small(0), planned: None, todo, full: 0 };
    let mut replicas = todo.map(replica);
    for step in steps {
        match *step {
            Step::Plan(r, seed) => replicas[r].plan(seed),
            Step::Write(r) => replicas[r].write(&mut store)?,
            Step::Hear(r) => replicas[r].hear(&store),
        }
    }
    // Then each in turn until nothing is left to do; every round ends a plan or learns of a claim.
    for round in 0_u64..1000 {
        for replica in &mut replicas {
            replica.plan(round);
            replica.write(&mut store)?;
        }
    }
    let full: usize = replicas.iter().map(|replica| replica.full).sum();
    prop_assert_eq!(store.services.len() + full, texts.len(), "all are assigned, or it is full");
    let mut claimed = BTreeMap::new();
    for replica in &mut replicas {
        replica.hear(&store);
    }
    for service in store.services.values() {
        for claim in all_claims(service, &replicas[0].pools) {
            prop_assert_eq!(claimed.insert(claim, service.name.clone()), None, "{} twice", claim);
        }
    }
    let keys: BTreeMap<Claim, ObjectName> = store.keys.into_values().collect();
    prop_assert_eq!(&claimed, &keys, "keys and Services agree");
    for replica in &replicas {
        prop_assert_eq!(&everything(&replica.pools), &keys, "and so do replicas");
    }
    Ok(())
}

/// Those of the texts that are right for a new Service wherever there is enough.
const RIGHT: [usize; 14] = [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15, 16, 17];

proptest! {
    #[test]
    fn nothing_has_two_owners(ops in ops(), rest in 0_u64..8) {
        one_replica(&ops, rest)?;
    }

    #[test]
    fn replicas_never_give_one_claim_twice(
        texts in prop::collection::vec(prop::sample::select(RIGHT.to_vec()), 1..8),
        steps in steps(),
    ) {
        two_replicas(&texts, &steps)?;
    }
}
