//! The balancer against the kernel's rules written naively, and its promises about change.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use svcplane::backend::{Backend, BackendId, Flow};
use svcplane::balancer::{Balancer, Conn, StaleId};
use svcplane::sched::{Algorithm, Backends, Change, Place, Scheduler};
use svcplane::time::Instant;

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + n))
}

fn flow() -> Flow {
    Flow::new(SocketAddr::from(([192, 0, 2, 1], 40_000)), SocketAddr::from(([10, 96, 0, 1], 80)))
}

const NOW: Instant = Instant::ZERO;

/// One destination of the kernel's list, with what is kept of it after removal.
#[derive(Clone, Debug)]
struct Dest {
    addr: SocketAddr,
    weight: u32,
    active: u32,
    inactive: u32,
}

/// The kernel's list and its round robin, as they are described: `list[0]` is the head. Removed destinations
/// wait in a trash for as long as the test runs.
#[derive(Default)]
struct Model {
    list: Vec<Dest>,
    trash: Vec<Dest>,
    /// The address of the marked entry; `None` is the head of the list.
    mark: Option<SocketAddr>,
}

impl Model {
    fn at(&self, addr: SocketAddr) -> Option<usize> {
        self.list.iter().position(|dest| dest.addr == addr)
    }

    fn add(&mut self, addr: SocketAddr, weight: u32) {
        if let Some(at) = self.at(addr) {
            self.list[at].weight = weight;
            return;
        }
        let old = self.trash.iter().position(|dest| dest.addr == addr);
        let mut dest =
            old.map_or(Dest { addr, weight, active: 0, inactive: 0 }, |at| self.trash.remove(at));
        dest.weight = weight;
        self.list.insert(0, dest);
    }

    fn remove(&mut self, addr: SocketAddr) {
        let Some(at) = self.at(addr) else { return };
        if self.mark == Some(addr) {
            self.mark = at.checked_sub(1).map(|before| self.list[before].addr);
        }
        let dest = self.list.remove(at);
        self.trash.push(dest);
    }

    fn pick(&mut self, except: &[SocketAddr]) -> Option<SocketAddr> {
        let from = self.mark.and_then(|mark| self.at(mark)).map_or(0, |at| at + 1);
        let order = (from..self.list.len()).chain(0..from);
        let usable = |dest: &Dest| dest.weight > 0 && !except.contains(&dest.addr);
        let at = order.into_iter().find(|&at| usable(&self.list[at]))?;
        self.list[at].inactive += 1;
        self.mark = Some(self.list[at].addr);
        self.mark
    }

    fn dest(&mut self, addr: SocketAddr) -> &mut Dest {
        let all = self.list.iter_mut().chain(&mut self.trash);
        all.into_iter().find(|dest| dest.addr == addr).expect("a connection's destination is kept")
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(u16, u32),
    Remove(u16),
    Edit(u16, u32),
    Set(Vec<(u16, u32)>),
    Pick,
    PickExcept(Vec<u16>),
    Activate(usize),
    Deactivate(usize),
    Release(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let backend = 0_u16..12;
    let weight = prop_oneof![Just(0_u32), Just(1), Just(3)];
    prop_oneof![
        3 => (backend.clone(), weight.clone()).prop_map(|(b, w)| Op::Add(b, w)),
        2 => backend.clone().prop_map(Op::Remove),
        1 => (backend.clone(), weight.clone()).prop_map(|(b, w)| Op::Edit(b, w)),
        1 => prop::collection::vec((backend.clone(), weight), 0..8).prop_map(Op::Set),
        8 => Just(Op::Pick),
        2 => prop::collection::vec(backend, 0..4).prop_map(Op::PickExcept),
        2 => any::<usize>().prop_map(Op::Activate),
        1 => any::<usize>().prop_map(Op::Deactivate),
        3 => any::<usize>().prop_map(Op::Release),
    ]
}

/// Applies `set_backends` to the model as the difference that it is documented to be.
fn set(model: &mut Model, wanted: &[(u16, u32)]) {
    let mut first: Vec<(SocketAddr, u32)> = Vec::new();
    for &(n, weight) in wanted {
        if first.iter().all(|(known, _)| *known != addr(n)) {
            first.push((addr(n), weight));
        }
    }
    let listed: Vec<SocketAddr> = model.list.iter().map(|dest| dest.addr).collect();
    for gone in listed.iter().filter(|listed| first.iter().all(|(addr, _)| addr != *listed)) {
        model.remove(*gone);
    }
    for (addr, weight) in first {
        model.add(addr, weight);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Linux IPVS 6.1: list order, round robin, counting, the trash.
    #[test]
    fn agrees_with_the_kernels_rules(ops in prop::collection::vec(op(), 1..200)) {
        let mut balancer = Balancer::new(Algorithm::RoundRobin);
        let mut model = Model::default();
        let mut conns: Vec<(Conn, bool)> = Vec::new();
        for op in ops {
            match op {
                Op::Add(n, weight) => {
                    balancer.add(Backend::new(addr(n)).with_weight(weight), NOW);
                    model.add(addr(n), weight);
                }
                Op::Remove(n) => {
                    let removed = balancer.find(addr(n)).map(|id| balancer.remove(id, NOW));
                    prop_assert_eq!(removed == Some(Ok(())), model.at(addr(n)).is_some());
                    model.remove(addr(n));
                }
                Op::Edit(n, weight) => {
                    let edited = balancer.find(addr(n)).map(|id| balancer.edit(id, weight));
                    prop_assert_eq!(edited == Some(Ok(())), model.at(addr(n)).is_some());
                    if let Some(at) = model.at(addr(n)) {
                        model.list[at].weight = weight;
                    }
                }
                Op::Set(wanted) => {
                    let backends = wanted.iter().map(|&(n, w)| Backend::new(addr(n)).with_weight(w));
                    balancer.set_backends(backends, NOW);
                    set(&mut model, &wanted);
                }
                Op::Pick | Op::PickExcept(_) => {
                    let except = if let Op::PickExcept(except) = op { except } else { Vec::new() };
                    let ids: Vec<BackendId> =
                        except.iter().filter_map(|&n| balancer.find(addr(n))).collect();
                    let addrs: Vec<SocketAddr> = except.iter().map(|&n| addr(n)).collect();
                    let conn = balancer.pick_except(&flow(), &ids, NOW);
                    prop_assert_eq!(conn.as_ref().map(Conn::addr), model.pick(&addrs));
                    conns.extend(conn.map(|conn| (conn, false)));
                }
                Op::Activate(n) | Op::Deactivate(n) => {
                    let active = matches!(op, Op::Activate(_));
                    let count = conns.len().max(1);
                    if let Some((conn, was_active)) = conns.get_mut(n % count) {
                        let done = if active { balancer.activate(conn) } else { balancer.deactivate(conn) };
                        prop_assert_eq!(done, Ok(()));
                        let dest = model.dest(conn.addr());
                        match (*was_active, active) {
                            (false, true) => (dest.active, dest.inactive) = (dest.active + 1, dest.inactive - 1),
                            (true, false) => (dest.active, dest.inactive) = (dest.active - 1, dest.inactive + 1),
                            _ => {}
                        }
                        *was_active = active;
                    }
                }
                Op::Release(n) if !conns.is_empty() => {
                    let (conn, was_active) = conns.swap_remove(n % conns.len());
                    let dest = model.dest(conn.addr());
                    let count = if was_active { &mut dest.active } else { &mut dest.inactive };
                    *count -= 1;
                    prop_assert_eq!(balancer.release(conn), Ok(()));
                }
                Op::Release(_) => {}
            }
            let listed: Vec<_> = balancer
                .iter()
                .map(|(_, e)| (e.addr(), e.weight(), e.active(), e.inactive()))
                .collect();
            let expected: Vec<_> =
                model.list.iter().map(|d| (d.addr, d.weight, d.active, d.inactive)).collect();
            prop_assert_eq!(listed, expected);
            for dest in &model.trash {
                let entry = balancer.find(dest.addr).and_then(|id| balancer.get(id));
                let counts = entry.map(|entry| (entry.active(), entry.inactive()));
                prop_assert_eq!(counts, Some((dest.active, dest.inactive)));
            }
        }
    }
}

/// Many rounds of change make the list close its gaps; order and turn survive it.
#[test]
fn a_churning_list_keeps_order_and_turn() {
    let mut balancer = Balancer::new(Algorithm::RoundRobin);
    let mut model = Model::default();
    for round in 0..5_000_u16 {
        let n = round % 40;
        if round % 3 == 0 {
            if let Some(id) = balancer.find(addr(n)) {
                let _ = balancer.remove(id, NOW);
            }
            model.remove(addr(n));
        }
        balancer.add(addr(n).into(), NOW);
        model.add(addr(n), 1);
        let conn = balancer.pick(&flow(), NOW);
        assert_eq!(conn.as_ref().map(Conn::addr), model.pick(&[]), "round {round}");
        balancer.release(conn.expect("a backend")).expect("a good id");
    }
}

#[test]
fn ids_go_stale_only_after_the_last_connection_and_the_grace_time() {
    let mut balancer = Balancer::new(Algorithm::RoundRobin);
    let id = balancer.add(addr(1).into(), NOW);
    let conn = balancer.pick(&flow(), NOW).expect("a backend");
    balancer.remove(id, NOW).expect("listed");
    assert_eq!(balancer.remove(id, NOW).map_err(|error| error.id), Err(id), "removed twice");
    assert!(balancer.pick(&flow(), NOW).is_none(), "nothing new");

    // A connection holds it, however long.
    let mut now = NOW + Duration::from_secs(100_000);
    balancer.expire(now);
    assert_eq!(balancer.find(addr(1)), Some(id));
    balancer.release(conn).expect("a good id");

    // The look that finds it idle starts one more grace time.
    now = balancer.next_expiry().expect("a removed backend is due");
    balancer.expire(now);
    assert_eq!(balancer.find(addr(1)), Some(id));
    now = balancer.next_expiry().expect("still due");
    balancer.expire(now);
    assert_eq!((balancer.find(addr(1)), balancer.next_expiry()), (None, None));

    let next = balancer.add(addr(2).into(), now);
    assert_ne!(next, id, "the slot is used again, the id is not");
    assert!(balancer.get(id).is_none());
    assert!(matches!(balancer.edit(id, 1), Err(StaleId { id: stale, .. }) if stale == id));
}

#[test]
fn a_connection_of_another_balancer_is_refused() {
    let mut balancers =
        [Balancer::new(Algorithm::RoundRobin), Balancer::new(Algorithm::RoundRobin)];
    let mut conns = Vec::new();
    for (n, balancer) in (0..).zip(&mut balancers) {
        balancer.add(Backend::new(addr(n)).with_weight(u32::MAX), NOW);
        conns.extend(balancer.pick(&flow(), NOW));
    }
    let id = conns[1].backend();
    assert_eq!(balancers[0].activate(&mut conns[1]).map_err(|error| error.id), Err(id));
    let other = conns.remove(1);
    assert!(balancers[0].release(other).is_err());
    let (_, entry) = balancers[0].iter().next().expect("listed");
    assert_eq!((entry.active(), entry.inactive(), entry.weight()), (0, 1, 0x7fff_ffff));
}

#[test]
fn a_removed_backend_comes_back_with_its_id_and_counts() {
    let mut balancer = Balancer::new(Algorithm::RoundRobin);
    let id = balancer.add(addr(1).into(), NOW);
    let mut conn = balancer.pick(&flow(), NOW).expect("a backend");
    balancer.activate(&mut conn).expect("a good id");
    balancer.remove(id, NOW).expect("listed");
    let now = NOW + Duration::from_secs(60);
    assert_eq!(balancer.add(addr(1).into(), now), id);
    assert_eq!(balancer.get(id).map(svcplane::sched::Entry::active), Some(1));
    // Its old deadline is no more.
    balancer.expire(now + Duration::from_secs(10_000));
    assert!(balancer.is_listed(id));
    // Removed again, it has a whole grace time again.
    balancer.release(conn).expect("a good id");
    let now = now + Duration::from_secs(20_000);
    balancer.remove(id, now).expect("listed");
    balancer.expire(now + Duration::from_secs(119));
    assert_eq!(balancer.find(addr(1)), Some(id));
}

#[test]
fn at_the_end_of_time_expiry_still_returns() {
    let mut balancer = Balancer::new(Algorithm::RoundRobin);
    let id = balancer.add(addr(1).into(), Instant::MAX);
    balancer.remove(id, Instant::MAX).expect("listed");
    balancer.expire(Instant::MAX);
    balancer.expire(Instant::MAX);
    assert_eq!(balancer.find(addr(1)), None);
}

/// A scheduler of a user's own: always the tail of the list.
#[derive(Debug)]
struct Tail;

impl Scheduler for Tail {
    fn changed(&mut self, _: &Backends, _: Change) {}

    fn pick(&mut self, backends: &Backends, _: &Flow) -> Option<Place> {
        backends.iter().filter(|(_, entry)| entry.usable()).last().map(|(place, _)| place)
    }
}

#[test]
fn a_scheduler_of_the_callers_own_is_asked() {
    let mut balancer = Balancer::with_scheduler(Tail);
    for n in 0..3 {
        balancer.add(addr(n).into(), NOW);
    }
    let first = balancer.pick(&flow(), NOW).expect("a backend");
    assert_eq!(first.addr(), addr(0));
    let other = balancer.pick_except(&flow(), &[first.backend()], NOW).expect("another");
    assert_eq!(other.addr(), addr(1));
    for conn in [first, other] {
        balancer.release(conn).expect("a good id");
    }
    assert!(balancer.pick_except(&flow(), &[], NOW).is_some_and(|conn| conn.addr() == addr(0)));
}
