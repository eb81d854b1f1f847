//! A shared balancer beside a plain one, through all that can happen to both.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use proptest::prelude::*;
use svcplane::backend::{Backend, BackendId};
use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::Algorithm;
use svcplane::sync::{Lease, SharedBalancer};
use svcplane::time::Instant;

use super::{NOW, addr, flow, total};

#[derive(Clone, Debug)]
enum Op {
    Pick(u16, Vec<usize>),
    Established(usize),
    Closing(usize),
    Drop(usize),
    DropWithin(usize),
    Add(u16, u32, u32),
    Edit(u16, u32),
    Remove(u16),
    Suspend(u16, u8),
    Set(Vec<u16>),
    Wait(u8),
    /// As another handle, which takes a seat or gives one up.
    Clone,
    Leave,
    /// A closure removes a backend and panics.
    Panic(u16),
    Look,
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0_u16..6;
    let at = any::<usize>;
    prop_oneof![
        8 => (any::<u16>(), prop::collection::vec(at(), 0..3)).prop_map(|(c, t)| Op::Pick(c, t)),
        4 => at().prop_map(Op::Established),
        2 => at().prop_map(Op::Closing),
        3 => at().prop_map(Op::Drop),
        2 => at().prop_map(Op::DropWithin),
        2 => (n(), 0_u32..4, 0_u32..5).prop_map(|(n, w, upper)| Op::Add(n, w, upper)),
        1 => (n(), 0_u32..4).prop_map(|(n, weight)| Op::Edit(n, weight)),
        1 => n().prop_map(Op::Remove),
        1 => (n(), any::<u8>()).prop_map(|(n, seconds)| Op::Suspend(n, seconds)),
        1 => prop::collection::vec(n(), 0..6).prop_map(Op::Set),
        1 => any::<u8>().prop_map(Op::Wait),
    ]
}

/// The same, through handles that come and go; what was counted is looked at now and then.
fn op_of_handles() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => op(),
        10 => any::<u16>().prop_map(|client| Op::Pick(client, Vec::new())),
        2 => Just(Op::Clone),
        1 => Just(Op::Leave),
        1 => (0_u16..6).prop_map(Op::Panic),
        3 => Just(Op::Look),
    ]
}

/// A shared balancer and a plain one that have to agree.
struct Pair {
    /// Handles, used in turn.
    handles: Vec<SharedBalancer>,
    plain: Balancer,
    /// The same connections, with how far each is: new, established, closing.
    open: Vec<(Lease, Conn, u8)>,
    now: Instant,
}

impl Pair {
    fn new(algorithm: Algorithm, seed: u64, slow_start: u64, handles: usize) -> Self {
        let mut plain = Balancer::new(algorithm, seed);
        plain.set_slow_start(Duration::from_secs(slow_start));
        let mut handles = vec![SharedBalancer::from(plain.clone()); handles];
        handles.rotate_left(1);
        Self { handles, plain, open: Vec::new(), now: NOW }
    }

    /// The shared one chooses as the plain one does.
    fn pick_alike(&mut self, client: u16, tried: &[BackendId]) {
        let lease = self.handles[0].pick_except(&flow(client), tried, self.now);
        let conn = self.plain.pick_except(&flow(client), tried, self.now);
        let picked = |conn: &Conn| (conn.addr(), conn.backend());
        assert_eq!(
            lease.as_ref().map(|lease| (lease.addr(), lease.backend())),
            conn.as_ref().map(picked)
        );
        self.open.extend(lease.zip(conn).map(|(lease, conn)| (lease, conn, 0)));
    }

    /// The plain one could choose what the shared one chooses; it has to, if that depends on the client alone.
    fn pick_as_well(&mut self, client: u16, tried: &[BackendId]) {
        let choice = self.plain.clone().pick_except(&flow(client), tried, self.now);
        let lease = self.handles[0].pick_except(&flow(client), tried, self.now);
        assert_eq!(lease.is_some(), choice.is_some());
        let (Some(lease), Some(choice)) = (lease, choice) else {
            self.plain.expire(self.now);
            return;
        };
        if matches!(self.plain.algorithm().as_str(), "sh" | "dh" | "mh") {
            assert_eq!(lease.backend(), choice.backend());
        }
        let listed = self.plain.iter().map(|(id, _)| id);
        let others: Vec<_> = listed.filter(|&id| id != lease.backend()).collect();
        let conn = self.plain.pick_except(&flow(client), &others, self.now).expect("usable");
        assert_eq!((lease.addr(), lease.backend()), (conn.addr(), conn.backend()));
        assert!(!tried.contains(&lease.backend()));
        self.open.push((lease, conn, 0));
    }

    fn counts(balancer: &Balancer) -> Vec<(BackendId, SocketAddr, u32, u32)> {
        let all = balancer.iter().chain(balancer.removed());
        all.map(|(id, entry)| (id, entry.addr(), entry.active(), entry.inactive())).collect()
    }

    fn compare_counts(&self) {
        let shared = &self.handles[0];
        assert_eq!(shared.with(|balancer| Self::counts(balancer)), Self::counts(&self.plain));
    }

    fn apply(&mut self, op: Op, pick: fn(&mut Self, u16, &[BackendId])) {
        self.handles.rotate_left(1);
        let shared = &self.handles[0];
        let (now, found) = (self.now, |n| self.plain.find(addr(n)));
        let at = |at: usize| at.checked_rem(self.open.len());
        match op {
            Op::Pick(client, tried) => {
                let tried: Vec<_> =
                    tried.into_iter().filter_map(at).map(|at| self.open[at].1.backend()).collect();
                pick(self, client, &tried);
            }
            Op::Established(n) => {
                let Some((lease, conn, stage)) = at(n).map(|at| &mut self.open[at]) else { return };
                lease.established();
                if *stage == 0 {
                    *stage = 1;
                    self.plain.activate(conn).expect("a good id");
                }
            }
            Op::Closing(n) => {
                let Some((lease, conn, stage)) = at(n).map(|at| &mut self.open[at]) else { return };
                lease.closing();
                *stage = 2;
                self.plain.deactivate(conn).expect("a good id");
            }
            Op::Drop(n) | Op::DropWithin(n) => {
                let Some(at) = at(n) else { return };
                let (lease, conn, _) = self.open.swap_remove(at);
                if matches!(op, Op::Drop(_)) {
                    drop(lease);
                } else {
                    shared.with(|_| drop(lease));
                }
                self.plain.release(conn).expect("a good id");
            }
            Op::Add(n, weight, upper) => {
                let backend = Backend::new(addr(n)).with_weight(weight).with_thresholds(0, upper);
                assert_eq!(shared.add(backend, now), self.plain.add(backend, now));
            }
            Op::Edit(n, weight) => {
                let Some(id) = found(n) else { return };
                let change = |backend: Backend| backend.with_weight(weight);
                assert_eq!(shared.edit(id, change), self.plain.edit(id, change));
            }
            Op::Remove(n) => {
                let Some(id) = found(n) else { return };
                assert_eq!(shared.remove(id, now), self.plain.remove(id, now));
            }
            Op::Suspend(n, seconds) => {
                let Some(id) = found(n) else { return };
                let until = now + Duration::from_secs(seconds.into());
                assert_eq!(shared.suspend(id, until), self.plain.suspend(id, until));
            }
            Op::Set(numbers) => {
                let backends = || numbers.iter().map(|&n| Backend::from(addr(n)));
                shared.set_backends(backends(), now);
                self.plain.set_backends(backends(), now);
            }
            Op::Wait(seconds) => self.now = now + Duration::from_secs(seconds.into()),
            Op::Clone => {
                let another = shared.clone();
                self.handles.push(another);
            }
            Op::Leave if self.handles.len() > 1 => drop(self.handles.pop()),
            Op::Leave => {}
            Op::Panic(n) => {
                let Some(id) = found(n) else { return };
                let removed = self.plain.remove(id, now);
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    shared.with(|balancer| {
                        assert_eq!(balancer.remove(id, now), removed);
                        resume_unwind(Box::new(()));
                    })
                }));
                assert!(panicked.is_err());
            }
            Op::Look => {
                shared.expire(now);
                self.plain.expire(now);
                self.compare_counts();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn with_one_handle_it_is_the_plain_balancer(
        algorithm in prop::sample::select(Algorithm::ALL),
        seed in any::<u64>(),
        slow_start in 0_u64..60,
        ops in prop::collection::vec(op(), 0..100),
    ) {
        let mut pair = Pair::new(algorithm, seed, slow_start, 1);
        for op in (0..4).map(|n| Op::Add(n, 1, 0)).chain(ops) {
            pair.apply(op, Pair::pick_alike);
            pair.handles[0].expire(pair.now);
            pair.plain.expire(pair.now);
            prop_assert_eq!(pair.handles[0].next_expiry(), pair.plain.next_expiry());
            pair.compare_counts();
        }
        let Pair { handles, open, .. } = pair;
        drop(open);
        prop_assert_eq!(total(&handles[0]), (0, 0));
    }

    #[test]
    fn with_several_handles_counts_and_what_may_be_picked_are_the_plain_balancers(
        algorithm in prop::sample::select(Algorithm::ALL),
        seed in any::<u64>(),
        slow_start in prop_oneof![Just(0), 0_u64..60],
        handles in 1_usize..5,
        ops in prop::collection::vec(op_of_handles(), 0..200),
    ) {
        let mut pair = Pair::new(algorithm, seed, slow_start, handles);
        for op in (0..4).map(|n| Op::Add(n, 1, 0)).chain(ops).chain([Op::Look]) {
            pair.apply(op, Pair::pick_as_well);
        }
        let Pair { handles, open, .. } = pair;
        drop(open);
        prop_assert_eq!(total(&handles[0]), (0, 0));
    }
}
