//! The affinity table against a list, and what a balancer makes of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use svcplane::affinity::{Affinity, Mode, Scope};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::Balancer;
use svcplane::sched::{Algorithm, Flags};
use svcplane::time::Instant;

use crate::affinity_model::{Both, Op, end, scope};

fn client(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn op() -> impl Strategy<Value = Op> {
    let (scope, client) = (0_u32..4, 0_u8..40);
    prop_oneof![
        4 => (scope.clone(), client.clone()).prop_map(|(s, c)| Op::Lookup(s, c)),
        3 => (scope.clone(), client.clone()).prop_map(|(s, c)| Op::Renew(s, c)),
        6 => (scope.clone(), client.clone(), 0_u64..9).prop_map(|(s, c, v)| Op::Insert(s, c, v)),
        1 => (scope, client).prop_map(|(s, c)| Op::Remove(s, c)),
        1 => (0_usize..40).prop_map(Op::Sweep),
        2 => (0_u64..30).prop_map(Op::Wait),
        1 => (0_u64..1_000_000).prop_map(Op::Move),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_map(
        capacity in prop_oneof![1_usize..12, Just(1000)],
        ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut both = Both::new(capacity);
        for op in &ops {
            both.step(op);
        }
        both.finish();
    }
}

#[test]
fn a_mapped_client_is_the_ipv4_client() {
    let mut table = Affinity::new(10, 0);
    table.insert(scope(0), SocketAddr::new(client(1), 0), 'a', Instant::ZERO);
    let mapped = "[::ffff:192.0.2.1]:7".parse().expect("an address");
    assert_eq!(table.lookup(scope(0), mapped, Instant::ZERO), Some(&'a'));
}

const TIMEOUT: Duration = Duration::from_secs(10_800);

struct Setting {
    balancer: Balancer,
    table: Affinity<SocketAddr>,
    now: Instant,
}

impl Setting {
    fn new() -> Self {
        let mut balancer = Balancer::with_flags(Algorithm::RoundRobin, Flags::KERNEL, 0);
        balancer.set_backends((1..=3).map(|n| Backend::new(backend(n))), Instant::ZERO);
        Self { balancer, table: Affinity::new(100, 1), now: Instant::ZERO }
    }

    fn pick(&mut self, n: u8) -> Option<SocketAddr> {
        home(self, Scope::new(0, TIMEOUT), n)
    }
}

fn backend(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

/// Source of the figures: Kubernetes userspace proxy, `roundrobin_test.go`,
/// `TestStickyLoadBalanceWorksWithMultipleEndpointsRemoveOne`: three clients stick to three endpoints; removing one
/// moves only its client; adding one moves nobody.
#[test]
fn change_moves_only_the_clients_that_it_must() {
    let mut setting = Setting::new();
    let homes: Vec<_> = (1..=3).map(|n| setting.pick(n).expect("a backend")).collect();
    let mut distinct = homes.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 3);

    let stays = |setting: &mut Setting, n: u8| setting.pick(n) == Some(homes[usize::from(n) - 1]);
    let gone = setting.balancer.find(homes[1]).expect("listed");
    setting.balancer.remove(gone, setting.now).expect("listed");
    let moved = setting.pick(2).expect("another backend");
    assert!(moved != homes[1] && stays(&mut setting, 1) && stays(&mut setting, 3));

    setting.balancer.add(Backend::new(backend(4)), setting.now);
    assert!(stays(&mut setting, 1) && stays(&mut setting, 3));
    assert_eq!(setting.pick(2), Some(moved));
    // The old backend comes back: who was moved stays moved.
    setting.balancer.add(Backend::new(homes[1]), setting.now);
    assert_eq!(setting.pick(2), Some(moved));
}

#[test]
fn each_new_connection_renews_the_time() {
    let mut setting = Setting::new();
    let home = setting.pick(1);
    for _ in 0..5 {
        setting.now += Duration::from_secs(10_799);
        assert_eq!(setting.pick(1), home);
    }
    // The turn has moved on for nobody else: an honoured pick does not ask the scheduler.
    let second = setting.pick(2);
    setting.now += TIMEOUT;
    let third = setting.pick(1);
    assert!(third != home && third != second, "expired: the next in turn");
}

#[test]
fn a_quiesced_or_tried_backend_is_not_honoured() {
    let mut setting = Setting::new();
    let home = setting.pick(1).expect("a backend");
    let id = setting.balancer.find(home).expect("listed");
    setting.balancer.edit(id, |b| b.with_weight(0)).expect("listed");
    let moved = setting.pick(1).expect("another backend");
    assert_ne!(moved, home);

    let tried = [setting.balancer.find(moved).expect("listed")];
    let flow = Flow::new(SocketAddr::new(client(1), 4000), SocketAddr::from(([10, 96, 0, 1], 80)));
    let mut sticky = setting.balancer.with_affinity(&mut setting.table, Scope::new(0, TIMEOUT));
    let conn = sticky.pick_except(&flow, &tried, setting.now).expect("a third backend");
    let third = conn.addr();
    assert!(third != home && third != moved);
    setting.balancer.release(conn).expect("a good id");
    assert_eq!(setting.pick(1), Some(third), "the client was moved");
}

fn home(setting: &mut Setting, scope: Scope, n: u8) -> Option<SocketAddr> {
    let flow = Flow::new(SocketAddr::new(client(n), 4000), SocketAddr::from(([10, 96, 0, 1], 80)));
    let conn =
        setting.balancer.with_affinity(&mut setting.table, scope).pick(&flow, setting.now)?;
    let addr = conn.addr();
    setting.balancer.release(conn).expect("a good id");
    Some(addr)
}

/// A draining backend gets no new clients and keeps the others until its time; an edit ends that.
#[test]
fn a_draining_backend_keeps_its_clients_for_a_time() {
    let mut setting = Setting::new();
    let scope = Scope::new(0, TIMEOUT);
    let first = home(&mut setting, scope, 1).expect("a backend");
    let id = setting.balancer.find(first).expect("listed");
    let until = setting.now + Duration::from_secs(60);
    setting.balancer.drain(id, until).expect("listed");
    for n in 2..=20 {
        assert_ne!(home(&mut setting, scope, n), Some(first), "new clients go elsewhere");
    }
    setting.now += Duration::from_secs(59);
    assert_eq!(home(&mut setting, scope, 1), Some(first));
    setting.balancer.suspend(id, until).expect("known");
    setting.now += Duration::from_secs(1);
    let moved = home(&mut setting, scope, 1).expect("another");
    assert_ne!(moved, first, "its time is over");

    let id = setting.balancer.find(moved).expect("listed");
    setting.balancer.drain(id, Instant::MAX).expect("listed");
    assert_eq!(home(&mut setting, scope, 1), Some(moved));
    setting.balancer.edit(id, |backend| backend.with_weight(0)).expect("listed");
    assert_ne!(home(&mut setting, scope, 1), Some(moved), "quiesced, not draining");
    setting.balancer.remove(id, setting.now).expect("listed");
    assert!(setting.balancer.drain(id, until).is_err());
}

/// Source: kube-proxy's iptables mode. Each endpoint has its list; the rules are walked in the order of endpoints; the list goes with the
/// endpoint's rules.
#[test]
fn recent_lists_are_those_of_iptables() {
    let mut setting = Setting::new();
    let scope = Scope::new(0, TIMEOUT).with_mode(Mode::Recent);
    let first = home(&mut setting, scope, 1).expect("a backend");
    let id = setting.balancer.find(first).expect("listed");
    // Rules know nothing of weight and load.
    setting.balancer.edit(id, |b| b.with_weight(0)).expect("listed");
    assert_eq!(home(&mut setting, scope, 1), Some(first));
    setting.balancer.edit(id, |b| b.with_weight(1).with_thresholds(0, 1)).expect("listed");
    assert_eq!(home(&mut setting, scope, 1), Some(first));

    // Away and back: its list is a new one, and what came in the meantime stays.
    setting.now += Duration::from_secs(1);
    setting.balancer.remove(id, setting.now).expect("listed");
    let second = home(&mut setting, scope, 1).expect("another");
    assert_ne!(second, first);
    setting.now += Duration::from_secs(1);
    setting.balancer.add(Backend::new(first), setting.now);
    assert_eq!(home(&mut setting, scope, 1), Some(second));

    // In two lists: the one that is first in the rules.
    setting.table.insert(scope, SocketAddr::new(client(1), 1), first, setting.now);
    assert_eq!(home(&mut setting, scope, 1), Some(second), "listed longer");
    let gone = setting.balancer.find(second).expect("listed");
    setting.balancer.remove(gone, setting.now).expect("listed");
    assert_eq!(home(&mut setting, scope, 1), Some(first));
    setting.now += TIMEOUT;
    let flow = Flow::new(SocketAddr::new(client(1), 1), backend(9));
    let tried = [setting.balancer.find(first).expect("listed")];
    let mut sticky = setting.balancer.with_affinity(&mut setting.table, scope);
    let conn = sticky.pick_except(&flow, &tried, setting.now).expect("the third");
    assert!(conn.addr() != first && conn.addr() != second);
    setting.balancer.release(conn).expect("a good id");
}

#[test]
fn a_caller_may_note_what_succeeded() {
    let mut setting = Setting::new();
    let scope = Scope::new(0, TIMEOUT).noted_by_caller();
    let first = home(&mut setting, scope, 1).expect("a backend");
    assert_ne!(home(&mut setting, scope, 1), Some(first), "nothing is noted");
    setting.table.insert(scope, SocketAddr::new(client(1), 1), first, setting.now);
    setting.now += Duration::from_secs(10_000);
    assert_eq!(home(&mut setting, scope, 1), Some(first));
    setting.now += Duration::from_secs(800);
    assert_ne!(home(&mut setting, scope, 1), Some(first), "a pick has not renewed it");
}

/// So many clients that the table has many parts, of both kinds.
#[test]
fn a_great_table_is_bounded_and_keeps_what_is_newest() {
    const CAPACITY: u32 = 20_000;
    let (mut table, scope) = (Affinity::new(CAPACITY as usize, 3), Scope::new(0, TIMEOUT));
    let end = |n: u32| match n % 4 {
        0 => SocketAddr::from((u128::from(n).to_be_bytes(), 0)),
        _ => SocketAddr::from((n.to_be_bytes(), 0)),
    };
    let at = |n: u32| Instant::from_secs(n.into());
    for n in 0..5 * CAPACITY {
        table.insert(scope, end(1 << 24 | n), n % 7, at(n / 100));
        assert!(table.len() <= CAPACITY as usize);
    }
    let now = at(5 * CAPACITY / 100);
    assert_eq!(table.len(), CAPACITY as usize);
    assert!(table.bytes() < 60 * CAPACITY as usize, "{} bytes", table.bytes());
    let mut there = |from: u32, to: u32| {
        let found = (from..to).filter(|n| table.lookup(scope, end(1 << 24 | n), now).is_some());
        f64::from(u32::try_from(found.count()).expect("few")) / f64::from(to - from)
    };
    // The one of sixteen that would end first makes room: nearly the oldest of all.
    let (newest, oldest) = (there(9 * CAPACITY / 2, 5 * CAPACITY), there(0, 3 * CAPACITY));
    assert!(newest > 0.99 && oldest < 0.01, "{newest} of the newest, {oldest} of the oldest");
    assert_eq!(
        table.remove(scope, end(1 << 24 | (5 * CAPACITY - 1))),
        Some((5 * CAPACITY - 1) % 7)
    );
    assert!(table.lookup(scope, end(1 << 24 | (5 * CAPACITY - 1)), now).is_none());
}

#[test]
fn a_full_table_stays_as_big_while_clients_come_and_go() {
    let mut table = Affinity::new(20_000, 7);
    let scope = Scope::new(1, Duration::from_secs(10_800));
    for n in 0..200_000_u32 {
        let client = SocketAddr::from((n.to_be_bytes(), 40_000));
        table.insert(scope, client, 80, Instant::ZERO);
    }
    assert_eq!(table.len(), 20_000);
    assert!(table.bytes() <= 32 * 20_000, "{} bytes", table.bytes());
}

fn change() -> impl Strategy<Value = (u8, u8, u32)> {
    (0_u8..8, 1_u8..6, 0_u32..3)
}

proptest! {
    /// Whatever happens to backends, a pick goes to one that may take it, and from then on the client is noted there: what it was told
    /// before is honoured once too often at no time.
    #[test]
    fn a_pin_never_outlives_its_backend(changes in prop::collection::vec(change(), 1..200)) {
        let mut setting = Setting::new();
        let scope = Scope::new(0, TIMEOUT);
        for (kind, n, weight) in changes {
            setting.now += Duration::from_secs(1);
            let (id, now) = (setting.balancer.find(backend(n)), setting.now);
            match (kind, id) {
                (0, Some(id)) => drop(setting.balancer.remove(id, now)),
                (1, _) => drop(setting.balancer.add(Backend::new(backend(n)), now)),
                (2, Some(id)) => drop(setting.balancer.edit(id, |b| b.with_weight(weight))),
                (3, Some(id)) => {
                    setting.balancer.suspend(id, now + Duration::from_secs(3)).expect("known");
                }
                _ => {
                    let usable = |entry: &svcplane::sched::Entry| entry.usable();
                    setting.balancer.expire(now);
                    let any = setting.balancer.iter().any(|(_, entry)| usable(entry));
                    let before = setting.table.clone().lookup(scope, end_of(n), now).copied();
                    let picked = home(&mut setting, scope, n);
                    prop_assert_eq!(picked.is_some(), any);
                    let Some(picked) = picked else { continue };
                    let entry = setting.balancer.iter().find(|(_, entry)| entry.addr() == picked);
                    prop_assert!(entry.is_some_and(|(_, entry)| usable(entry)), "{picked}");
                    let noted = setting.table.lookup(scope, end_of(n), now).copied();
                    prop_assert_eq!(noted, Some(picked));
                    // Who can stay stays.
                    let stays = before.and_then(|addr| {
                        setting.balancer.iter().find(|(_, entry)| entry.addr() == addr && usable(entry))
                    });
                    prop_assert!(stays.is_none() || before == Some(picked));
                }
            }
        }
    }

    /// The same calls make the same table, down to the order of what it exports.
    #[test]
    fn tables_fed_alike_are_alike(ops in prop::collection::vec(op(), 1..300)) {
        let run = || {
            let (mut table, mut now) = (Affinity::new(20, 5), Instant::ZERO);
            for op in &ops {
                match *op {
                    Op::Lookup(s, c) => drop(table.lookup(scope(s), end(c), now)),
                    Op::Renew(s, c) => drop(table.renew(scope(s), end(c), now)),
                    Op::Insert(s, c, value) => table.insert(scope(s), end(c), value, now),
                    Op::Remove(s, c) => drop(table.remove(scope(s), end(c))),
                    Op::Sweep(limit) => drop(table.sweep(now, limit)),
                    Op::Wait(secs) => now += Duration::from_secs(secs),
                    Op::Move(_) => {}
                }
            }
            (table.len(), table.export(now).collect::<Vec<_>>())
        };
        prop_assert_eq!(run(), run());
    }
}

fn end_of(n: u8) -> SocketAddr {
    SocketAddr::new(client(n), 4000)
}
