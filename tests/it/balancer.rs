//! The balancer's promises about change. Its picks and counts are compared with the kernel's in `sched.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use svcplane::backend::{Backend, Flow};
use svcplane::balancer::{Balancer, StaleId};
use svcplane::sched::{Algorithm, Backends, Change, Flags, Place, Scheduler};
use svcplane::time::Instant;

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + n))
}

fn flow() -> Flow {
    Flow::new(SocketAddr::from(([192, 0, 2, 1], 40_000)), SocketAddr::from(([10, 96, 0, 1], 80)))
}

const NOW: Instant = Instant::ZERO;

#[test]
fn ids_go_stale_only_after_the_last_connection_and_the_grace_time() {
    let mut balancer = Balancer::with_flags(Algorithm::RoundRobin, Flags::KERNEL, 0);
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
    assert!(matches!(balancer.edit(id, |b| b), Err(StaleId { id: stale, .. }) if stale == id));
}

#[test]
fn a_connection_of_another_balancer_is_refused() {
    let mut balancers = [
        Balancer::with_flags(Algorithm::RoundRobin, Flags::KERNEL, 0),
        Balancer::with_flags(Algorithm::RoundRobin, Flags::KERNEL, 0),
    ];
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
    let mut balancer = Balancer::with_flags(Algorithm::RoundRobin, Flags::KERNEL, 0);
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
    let mut balancer = Balancer::with_flags(Algorithm::RoundRobin, Flags::KERNEL, 0);
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
