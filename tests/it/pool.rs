//! Several ranges as one: tables, and random operations against a naive model.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use svcplane::ipam::{IpPool, IpRange, PoolError, PortPool};
use svcplane::ipnet::IpNet;
use svcplane::time::Instant;

use crate::pool_model::{Model, Op, RANGES, REST};

const NOW: Instant = Instant::ZERO;

fn at(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn range(text: &str) -> IpRange {
    IpRange::new(net(text), 7).expect("a range")
}

fn pool(rest: u64, ranges: &[&str]) -> IpPool<&'static str> {
    let mut pool = IpPool::new(Duration::from_secs(rest));
    for text in ranges {
        pool.add(range(text));
    }
    pool
}

/// Draws until nothing is left, and how many that were.
fn fill(pool: &mut IpPool<&'static str>) -> usize {
    let before = pool.iter().len();
    for seed in 0.. {
        let Some(ip) = pool.propose(seed, &[], |_| true) else { break };
        assert_eq!(pool.owner(ip), None, "{ip} is drawn twice");
        pool.allocate(ip, "filler", NOW).expect("what was proposed");
    }
    pool.iter().len() - before
}

/// Kubernetes `pkg/registry/core/service/ipallocator/cidrallocator_test.go`, `TestCIDRAllocateMultiple`.
#[test]
fn ranges_side_by_side() {
    let mut pool = pool(0, &[]);
    assert_eq!(pool.propose(1, &[], |_| true), None);
    pool.add(range("192.168.0.0/28"));
    assert_eq!(fill(&mut pool), 14);
    pool.add(range("10.0.0.0/28"));
    pool.allocate(ip("10.0.0.11"), "me", NOW).expect("free");
    assert_eq!(fill(&mut pool), 13);
    assert_eq!(pool.iter().len(), 28);
}

/// Kubernetes `pkg/registry/core/service/ipallocator/cidrallocator_test.go`, `TestCIDRAllocateShadow`: what the one range may not
/// give, the other may.
#[test]
fn the_edge_of_a_range_is_in_the_midst_of_another() {
    let mut pool = pool(0, &["192.168.1.0/24"]);
    let edge = ip("192.168.1.0");
    let ranges = "192.168.1.0/24".to_owned();
    let error = pool.allocate(edge, "me", NOW);
    assert_eq!(error, Err(PoolError::NotInRange { item: edge, ranges }));
    pool.add(range("192.168.0.0/16"));
    assert_eq!(pool.allocate(edge, "me", NOW), Ok(()));
    assert!(pool.iter().eq([(edge, &"me")]));
}

/// Kubernetes `pkg/registry/core/service/ipallocator/cidrallocator_test.go`, `TestCIDRAllocateGrow`.
#[test]
fn growing_moves_nobody() {
    let mut pool = pool(0, &["192.168.0.0/28"]);
    assert_eq!(fill(&mut pool), 14);
    let before: Vec<IpAddr> = pool.iter().map(|(ip, _)| ip).collect();
    pool.add(range("192.168.0.0/24"));
    assert_eq!(fill(&mut pool), 240);
    assert!(before.iter().all(|ip| pool.owner(*ip) == Some(&"filler")));
}

/// Kubernetes `pkg/registry/core/service/ipallocator/cidrallocator_test.go`, `TestCIDRAllocateShrink`.
#[test]
fn shrinking() {
    let mut pool = pool(0, &["192.168.0.0/24"]);
    assert_eq!(fill(&mut pool), 254);
    pool.add(range("192.168.0.0/28"));
    assert_eq!(pool.remove(net("192.168.0.0/24")).expect_err("held"), 240);
    assert_eq!(pool.in_use().map(IpRange::net).collect::<Vec<_>>(), [net("192.168.0.0/28")]);
    let all: Vec<IpAddr> = pool.iter().map(|(ip, _)| ip).collect();
    assert_eq!(all.len(), 254, "who has something keeps it");
    for ip in all {
        assert!(pool.release(ip, &"filler", NOW));
    }
    let removed = pool.remove(net("192.168.0.0/24")).expect("nothing is held");
    assert_eq!(removed.map(|range| range.net()), Some(net("192.168.0.0/24")));
    assert_eq!(fill(&mut pool), 14);
    assert!(pool.remove(net("192.168.0.0/24")).expect("no such range").is_none());
    assert!(!pool.drain(net("192.168.0.0/24")));
}

/// Kubernetes `pkg/registry/core/service/ipallocator/cidrallocator_test.go`, `TestCIDRAllocateIPv6`, `TestCIDRAllocateDualStack`.
#[test]
fn families() {
    let v6 = |range: &IpRange| range.net().addr().is_ipv6();
    let mut pool = pool(0, &["192.168.0.0/28", "fd00:1:2:3::/120"]);
    let mut drawn = 0;
    while let Some(ip) = pool.propose(drawn, &[], v6) {
        assert!(ip.is_ipv6());
        pool.allocate(ip, "me", NOW).expect("what was proposed");
        drawn += 1;
    }
    assert_eq!((drawn, fill(&mut pool)), (255, 14));
    let all: Vec<IpAddr> = pool.iter().map(|(ip, _)| ip).collect();
    assert!(all.iter().all(|ip| pool.release(
        *ip,
        if ip.is_ipv6() { &"me" } else { &"filler" },
        NOW
    )));
    assert_eq!(fill(&mut pool), 255 + 14);
}

#[test]
fn a_drained_range() {
    let (old, new) = ("10.0.0.0/30", "10.0.1.0/30");
    let mut pool = pool(0, &[old, new]);
    let kept = ip("10.0.0.1");
    pool.allocate(kept, "me", NOW).expect("free");
    assert!(pool.drain(net(old)));
    assert!(pool.drain(net(old)), "again");
    assert!(pool.contains(kept), "in use or not");
    assert_eq!(pool.check(kept, &"me"), Ok(()), "what it gave stays");
    assert_eq!(pool.allocate(kept, "me", NOW), Ok(()));
    let refused = pool.allocate(ip("10.0.0.2"), "me", NOW);
    assert_eq!(
        refused.expect_err("drained").to_string(),
        "10.0.0.2 is in no range that is in use: expected one of 10.0.1.0/30"
    );
    assert_eq!(fill(&mut pool), 2);
    assert!(pool.release(kept, &"me", NOW));
    assert_eq!(pool.propose(1, &[], |_| true), None, "not even what was given back");
    pool.add(range(old));
    assert_eq!(pool.in_use().count(), 2, "in use again, not twice");
    assert_eq!(fill(&mut pool), 2);
    let key = |range: &IpRange| range.net();
    assert_eq!(pool.in_use().map(key).collect::<Vec<_>>(), [net(old), net(new)], "as added");
}

#[test]
fn what_is_taken_is_taken_in_nested_ranges() {
    let mut pool = pool(60, &["10.0.0.0/24", "10.0.0.0/28"]);
    pool.allocate(ip("10.0.0.3"), "me", NOW).expect("free");
    pool.allocate(ip("10.0.0.4"), "me", NOW).expect("free");
    assert!(pool.release(ip("10.0.0.4"), &"me", NOW));
    pool.learn(ip("10.0.0.5"), "me");
    // And in one that comes later, and in one that is alone in use.
    pool.add(range("10.0.0.0/29"));
    pool.drain(net("10.0.0.0/24"));
    pool.drain(net("10.0.0.0/28"));
    let mut drawn: Vec<IpAddr> = Vec::new();
    while let Some(ip) = pool.propose(1, &drawn, |_| true) {
        drawn.push(ip);
    }
    drawn.sort_unstable();
    assert_eq!(drawn, ["10.0.0.1", "10.0.0.2", "10.0.0.6"].map(ip));
    // What rests holds no range back, and rests on.
    assert!(pool.release(ip("10.0.0.3"), &"me", NOW) && pool.release(ip("10.0.0.5"), &"me", NOW));
    for text in ["10.0.0.0/24", "10.0.0.0/28", "10.0.0.0/29"] {
        assert!(pool.remove(net(text)).expect("nothing is held").is_some(), "{text}");
    }
    pool.add(range("10.0.0.0/29"));
    assert_eq!(fill(&mut pool), 3);
    pool.sweep(at(60));
    assert_eq!(fill(&mut pool), 3);
}

#[test]
fn proposals() {
    let pool = pool(0, &["10.0.0.0/28", "10.1.0.0/28", "fd00::/124"]);
    let first = |seed| pool.propose(seed, &[], |_| true).expect("free");
    assert!((0..50).all(|seed| net("10.0.0.0/28").contains(&first(seed))), "the first range first");
    assert!((0..50).all(|seed| first(seed) == first(seed)), "the same seed, the same address");
    assert!((0..50).any(|seed| first(seed) != first(0)));
    let except: Vec<IpAddr> = range("10.0.0.0/28").net().hosts().collect();
    let second = pool.propose(1, &except, |_| true).expect("free");
    assert!(net("10.1.0.0/28").contains(&second), "{second}");
    assert!(!except.is_empty() && pool.iter().len() == 0, "nothing is taken by it");
    assert_eq!(pool.propose(1, &[], |_| false), None);
}

#[test]
fn the_dynamic_band_first() {
    let mut pool = pool(0, &["192.168.1.0/24"]);
    for seed in 0..238 {
        let drawn = pool.propose(seed, &[], |_| true).expect("free");
        assert!(drawn >= ip("192.168.1.17"), "{drawn}");
        pool.allocate(drawn, "me", NOW).expect("what was proposed");
    }
    assert!(pool.propose(1, &[], |_| true).expect("free") < ip("192.168.1.17"));
}

#[test]
fn owners() {
    let mut pool = pool(0, &["10.0.0.0/28"]);
    let one = ip("10.0.0.1");
    assert_eq!(pool.allocate(one, "me", NOW), Ok(()));
    assert_eq!(pool.allocate(one, "me", NOW), Ok(()), "again");
    let error = pool.allocate(one, "you", NOW).expect_err("taken");
    assert_eq!(error, PoolError::Allocated { item: one, owner: "me" });
    assert_eq!(error.to_string(), "10.0.0.1 is already allocated to me");
    assert!(!pool.release(one, &"you", NOW), "not yours");
    assert_eq!(pool.owner(one), Some(&"me"));
    assert_eq!(pool.learn(one, "you"), Some("me"));
    assert_eq!(pool.learn(one, "you"), Some("you"));
    assert!(!pool.release(one, &"me", NOW));
    assert!(pool.release(one, &"you", NOW));
    assert!(!pool.release(one, &"you", NOW), "again");
    assert_eq!(pool.allocate(one, "me", NOW), Ok(()), "no rest");
    // What no range holds can be known as well, and be given back.
    let strange = ip("192.0.2.1");
    assert_eq!(pool.learn(strange, "me"), None);
    assert_eq!((pool.owner(strange), pool.contains(strange)), (Some(&"me"), false));
    assert!(pool.release(strange, &"me", NOW));
    assert!(matches!(pool.allocate(strange, "me", NOW), Err(PoolError::NotInRange { .. })));
    pool.learn(ip("10.0.1.1"), "me");
    pool.add(range("10.0.1.0/30"));
    assert_eq!(pool.propose(1, &[], |r| r.net() == net("10.0.1.0/30")), Some(ip("10.0.1.2")));
}

#[test]
fn rest() {
    let mut pool = pool(60, &["10.0.0.0/30"]);
    let [one, two] = ["10.0.0.1", "10.0.0.2"].map(ip);
    pool.allocate(one, "me", NOW).expect("free");
    pool.allocate(two, "me", NOW).expect("free");
    assert_eq!(pool.next_expiry(), None);
    assert!(pool.release(one, &"me", at(10)) && pool.release(two, &"me", at(20)));
    assert_eq!((pool.owner(one), pool.propose(1, &[], |_| true)), (None, None));
    assert_eq!(pool.next_expiry(), Some(at(70)));
    let error = pool.allocate(one, "you", at(69)).expect_err("it rests");
    assert_eq!(error, PoolError::Resting { item: one, owner: "me", until: at(70) });
    assert_eq!(error.to_string(), "10.0.0.1 was given back by me and rests");
    assert_eq!(pool.check(one, &"me"), Ok(()), "who had it may have it");
    assert!(!pool.release(one, &"me", at(69)), "it has been given back");
    pool.sweep(at(70));
    assert_eq!(pool.propose(1, &[], |_| true), Some(one));
    assert_eq!(
        pool.check(two, &"you").map_err(|e| matches!(e, PoolError::Resting { .. })),
        Err(true)
    );
    assert_eq!(pool.next_expiry(), Some(at(80)));
    assert_eq!(pool.allocate(two, "you", at(80)), Ok(()), "no sweep is needed");
    assert_eq!(pool.next_expiry(), None);
}

#[test]
fn who_takes_back_and_gives_back_rests_anew() {
    let mut pool = pool(60, &["10.0.0.0/30"]);
    let one = ip("10.0.0.1");
    pool.allocate(one, "me", NOW).expect("free");
    pool.release(one, &"me", at(0));
    pool.allocate(one, "me", at(30)).expect("its own");
    assert_eq!(pool.next_expiry(), None, "nothing rests");
    pool.sweep(at(60));
    assert_eq!(pool.owner(one), Some(&"me"), "the first rest is no more");
    pool.release(one, &"me", at(70));
    assert_eq!(pool.next_expiry(), Some(at(130)));
    pool.allocate(one, "me", at(71)).expect("its own");
    pool.release(one, &"me", at(100));
    pool.sweep(at(130));
    assert!(pool.check(one, &"you").is_err(), "not early");
    assert_eq!(pool.next_expiry(), Some(at(160)));
    // Whoever is known to have it has it.
    assert_eq!(pool.learn(one, "you"), None);
    assert_eq!(pool.next_expiry(), None);
    pool.sweep(at(1000));
    assert_eq!(pool.owner(one), Some(&"you"));
    assert_eq!(pool.propose(1, &[one], |_| true), Some(ip("10.0.0.2")));
}

/// The first of two rests of an item is not over while another item's, before it, lasts.
#[test]
fn a_rest_behind_another() {
    let mut pool = pool(60, &["10.0.0.0/30"]);
    let [one, two] = ["10.0.0.1", "10.0.0.2"].map(ip);
    for ip in [one, two] {
        pool.allocate(ip, "me", NOW).expect("free");
    }
    assert!(pool.release(one, &"me", at(0)) && pool.release(two, &"me", at(1)));
    pool.allocate(two, "me", at(2)).expect("its own");
    assert!(pool.release(two, &"me", at(3)));
    pool.sweep(at(61));
    assert!(pool.check(one, &"you").is_ok() && pool.check(two, &"you").is_err());
    assert_eq!(pool.next_expiry(), Some(at(63)));
}

/// A caller's clock should not go backwards. If it does, nothing is free early, and nothing stays for ever.
#[test]
fn a_clock_that_goes_backwards() {
    let mut pool = pool(60, &["10.0.0.0/30"]);
    let [one, two] = ["10.0.0.1", "10.0.0.2"].map(ip);
    pool.allocate(one, "me", at(100)).expect("free");
    pool.allocate(two, "me", at(100)).expect("free");
    pool.release(one, &"me", at(100));
    pool.release(two, &"me", at(50));
    pool.sweep(at(109));
    assert!(pool.check(one, &"you").is_err() && pool.check(two, &"you").is_err());
    pool.sweep(at(pool.next_expiry().expect("something rests").as_nanos() / 1_000_000_000));
    assert!(pool.check(one, &"you").is_ok() && pool.check(two, &"you").is_ok());
    pool.release(one, &"me", Instant::MAX);
}

fn op() -> impl Strategy<Value = Op> {
    let (range, owner) = (0..RANGES.len(), prop_oneof![3 => Just(0), 1 => 1_u8..3]);
    // Mostly the same few, so that they come and go.
    let item = prop_oneof![3 => 11_u16..14, 1 => 9_u16..24].boxed();
    prop_oneof![
        2 => range.clone().prop_map(Op::Add),
        1 => range.clone().prop_map(Op::Drain),
        1 => range.prop_map(Op::Remove),
        4 => (item.clone(), owner.clone()).prop_map(|(item, owner)| Op::Allocate(item, owner)),
        1 => (item.clone(), owner.clone()).prop_map(|(item, owner)| Op::Check(item, owner)),
        4 => (item.clone(), owner.clone()).prop_map(|(item, owner)| Op::Release(item, owner)),
        1 => (item.clone(), owner).prop_map(|(item, owner)| Op::Learn(item, owner)),
        2 => (any::<u64>(), prop::collection::vec(item, 0..4)).prop_map(|(s, e)| Op::Propose(s, e)),
        1 => Just(Op::Sweep),
        2 => (1_u64..4).prop_map(Op::Wait),
    ]
}

proptest! {
    #[test]
    fn as_the_model(ops in prop::collection::vec(op(), 1..120)) {
        let mut pool = PortPool::new(Duration::from_secs(REST));
        let mut model = Model::default();
        for op in &ops {
            model.step(&mut pool, op);
        }
    }
}
