//! The affinity table against a list, and what a balancer makes of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::Balancer;
use svcplane::sched::{Algorithm, Flags};
use svcplane::time::Instant;

fn client(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

/// What the table is documented to be, as a list from the entry noted longest ago to the newest.
struct Model {
    capacity: usize,
    entries: Vec<(u32, IpAddr, u64, Instant)>,
    /// Whose entry the next sweep begins with; `None` is the oldest.
    cursor: Option<(u32, IpAddr)>,
}

impl Model {
    fn find(&self, scope: u32, client: IpAddr) -> Option<usize> {
        self.entries.iter().position(|entry| (entry.0, entry.1) == (scope, client))
    }

    fn remove(&mut self, at: usize) -> u64 {
        let gone = self.entries.remove(at);
        if self.cursor == Some((gone.0, gone.1)) {
            self.cursor = self.entries.get(at).map(|next| (next.0, next.1));
        }
        gone.2
    }

    fn lookup(&mut self, scope: u32, client: IpAddr, now: Instant) -> Option<u64> {
        let at = self.find(scope, client)?;
        if self.entries[at].3 <= now {
            self.remove(at);
            return None;
        }
        Some(self.entries[at].2)
    }

    fn insert(&mut self, scope: u32, client: IpAddr, value: u64, deadline: Instant) {
        if let Some(at) = self.find(scope, client) {
            self.remove(at);
        } else if self.entries.len() >= self.capacity {
            self.remove(0);
        }
        self.entries.push((scope, client, value, deadline));
    }

    fn sweep(&mut self, now: Instant, limit: usize) -> usize {
        let mut dropped = 0;
        for _ in 0..limit.min(self.entries.len()) {
            let at = self.cursor.and_then(|(scope, client)| self.find(scope, client)).unwrap_or(0);
            let over = self.entries[at].3 <= now;
            self.cursor = self.entries.get(at + 1).map(|next| (next.0, next.1));
            if over {
                self.remove(at);
                dropped += 1;
            }
        }
        dropped
    }
}

#[derive(Clone, Debug)]
enum Op {
    Lookup(u32, u8),
    Insert(u32, u8, u64),
    Remove(u32, u8),
    Sweep(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (scope, client) = (0_u32..3, 0_u8..20);
    prop_oneof![
        4 => (scope.clone(), client.clone()).prop_map(|(s, c)| Op::Lookup(s, c)),
        4 => (scope.clone(), client.clone(), any::<u64>()).prop_map(|(s, c, v)| Op::Insert(s, c, v)),
        1 => (scope, client).prop_map(|(s, c)| Op::Remove(s, c)),
        1 => (0_usize..10).prop_map(Op::Sweep),
        2 => (0_u64..30).prop_map(Op::Wait),
    ]
}

/// Each scope has a timeout of its own, so that deadlines are not in the order of insertion.
fn scope(id: u32) -> (Scope, Duration) {
    let timeout = Duration::from_secs([10, 60, 1][id as usize]);
    (Scope::new(id, timeout), timeout)
}

proptest! {
    #[test]
    fn agrees_with_a_list(
        capacity in 1_usize..12,
        ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut table = Affinity::new(capacity, 7);
        let mut model = Model { capacity, entries: Vec::new(), cursor: None };
        let mut now = Instant::ZERO;
        for op in ops {
            match op {
                Op::Lookup(s, c) => {
                    let found = table.lookup(scope(s).0, client(c), now).copied();
                    prop_assert_eq!(found, model.lookup(s, client(c), now));
                }
                Op::Insert(s, c, value) => {
                    table.insert(scope(s).0, client(c), value, now);
                    model.insert(s, client(c), value, now + scope(s).1);
                }
                Op::Remove(s, c) => {
                    let expected = model.find(s, client(c)).map(|at| model.remove(at));
                    prop_assert_eq!(table.remove(scope(s).0, client(c)), expected);
                }
                Op::Sweep(limit) => prop_assert_eq!(table.sweep(now, limit), model.sweep(now, limit)),
                Op::Wait(secs) => now += Duration::from_secs(secs),
            }
            prop_assert_eq!(table.len(), model.entries.len());
            prop_assert!(table.len() <= capacity);
        }
    }
}

#[test]
fn a_mapped_client_is_the_ipv4_client() {
    let mut table = Affinity::new(10, 0);
    let (scope, _) = scope(0);
    table.insert(scope, client(1), 'a', Instant::ZERO);
    let mapped = "::ffff:192.0.2.1".parse().expect("an address");
    assert_eq!(table.lookup(scope, mapped, Instant::ZERO), Some(&'a'));
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
        let flow =
            Flow::new(SocketAddr::new(client(n), 4000), SocketAddr::from(([10, 96, 0, 1], 80)));
        let scope = Scope::new(0, TIMEOUT);
        let mut sticky = self.balancer.with_affinity(&mut self.table, scope);
        let conn = sticky.pick(&flow, self.now)?;
        let addr = conn.addr();
        self.balancer.release(conn).expect("a good id");
        Some(addr)
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
