//! Addresses of load balancers.

use super::{check, name, outcome, pools, service};
use svcplane::assign::{Assignment, Claim};
use svcplane::field::FieldErrorKind;
use svcplane::time::Instant;

const WISH: &str = "spec.loadBalancerIP";

#[rustfmt::skip]
#[test]
fn addresses() {
    check(&[
        // Without a pool nothing is done, and a wish is not heard.
        ("4", "", "LB alloc=false",                          "LB S4 ip=?1 alloc=false"),
        ("4", "", "LB alloc=false wish=192.0.2.1",           "LB S4 ip=?1 alloc=false wish=192.0.2.1 ;  ; spec.loadBalancerIP"),
        ("4", "", "LB alloc=false lb=198.51.100.1",          "LB S4 ip=?1 alloc=false lb=198.51.100.1"),
        // With one, an address of each family that both have.
        ("4 lb4", "", "LB alloc=false",                      "LB S4 ip=?1 alloc=false lb=?2"),
        ("4 lb46", "", "LB alloc=false",                     "LB S4 ip=?1 alloc=false lb=?2"),
        ("46 lb46", "", "LB P alloc=false",                  "LB P46 ip=?1,?2 alloc=false lb=?3,?4"),
        ("46 lb4", "", "LB P alloc=false",                   "LB P46 ip=?1,?2 alloc=false lb=?3"),
        ("46 lb4", "", "LB P64 alloc=false",                 "LB P64 ip=?1,?2 alloc=false lb=?3"),
        ("46 lb6", "", "LB S4 alloc=false",                  "LB S4 ip=?1 alloc=false"),
        ("4 lb4", "", "NodePort wish=192.0.2.1",             "NodePort S4 ip=?1 a/TCP/80/?2 wish=192.0.2.1"),
        ("4 lb4", "", "wish=192.0.2.1",                      "S4 ip=?1 wish=192.0.2.1"),
        // Wishes.
        ("4 lb4", "", "LB alloc=false wish=192.0.2.1",       "LB S4 ip=?1 alloc=false wish=192.0.2.1 lb=192.0.2.1"),
        ("46 lb46", "", "LB P alloc=false wish=192.0.2.1",   "LB P46 ip=?1,?2 alloc=false wish=192.0.2.1 lb=192.0.2.1,?3"),
        ("46 lb46", "", "LB P alloc=false wish=2001:db8::1", "LB P46 ip=?1,?2 alloc=false wish=2001:db8::1 lb=?3,2001:db8::1"),
        ("46 lb46", "", "LB S4 alloc=false wish=2001:db8::1", "LB S4 ip=?1 alloc=false wish=2001:db8::1 lb=?2 ;  ; spec.loadBalancerIP"),
        ("4 lb4", "", "LB alloc=false wish=192.0.2.9",       "LB S4 ip=?1 alloc=false wish=192.0.2.9 lb=?2 ;  ; spec.loadBalancerIP"),
        ("4 lb4", "", "LB alloc=false wish=192.0.2.0",       "LB S4 ip=?1 alloc=false wish=192.0.2.0 lb=?2 ;  ; spec.loadBalancerIP"),
        ("4 lb4", "", "LB alloc=false wish=198.51.100.1",    "LB S4 ip=?1 alloc=false wish=198.51.100.1 lb=?2 ;  ; spec.loadBalancerIP"),
        // Of a new Service, what the status says is not believed.
        ("4 lb4", "", "LB alloc=false lb=192.0.2.9",         "LB S4 ip=?1 alloc=false lb=?2"),
        // Whose it is to give them.
        ("4 lb4", "", "LB alloc=false class=example.com/a",  "LB S4 ip=?1 alloc=false class=example.com/a"),
        ("4 lb4", "", "LB alloc=false class=example.com/a wish=192.0.2.1", "LB S4 ip=?1 alloc=false class=example.com/a wish=192.0.2.1"),
        ("4 lb4 lb=example.com/a", "", "LB alloc=false",     "LB S4 ip=?1 alloc=false"),
        ("4 lb4 lb=example.com/a", "", "LB alloc=false class=example.com/b", "LB S4 ip=?1 alloc=false class=example.com/b"),
        ("4 lb4 lb=example.com/a", "", "LB alloc=false class=example.com/a", "LB S4 ip=?1 alloc=false class=example.com/a lb=?2"),
    ]);
}

#[rustfmt::skip]
#[test]
fn updates() {
    check(&[
        // It keeps what it has, repeated or not.
        ("4 lb4", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1"),
        ("4 lb4", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "LB S4 ip=10.0.0.1 alloc=false", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1"),
        // A wish that can be had moves it, one that cannot does not.
        ("4 lb4", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "LB S4 ip=10.0.0.1 alloc=false wish=192.0.2.2", "LB S4 ip=10.0.0.1 alloc=false wish=192.0.2.2 lb=192.0.2.2 ; -192.0.2.1"),
        ("4 lb4", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "LB S4 ip=10.0.0.1 alloc=false wish=192.0.2.9", "LB S4 ip=10.0.0.1 alloc=false wish=192.0.2.9 lb=192.0.2.1 ;  ; spec.loadBalancerIP"),
        ("4 lb4", "LB S4 ip=10.0.0.1 alloc=false wish=192.0.2.1 lb=192.0.2.1", "LB S4 ip=10.0.0.1 alloc=false", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1"),
        ("46 lb46", "LB P46 ip=10.0.0.1,2000::1 alloc=false lb=192.0.2.1,2001:db8::1", "LB P46 ip=10.0.0.1,2000::1 alloc=false wish=2001:db8::2",
            "LB P46 ip=10.0.0.1,2000::1 alloc=false wish=2001:db8::2 lb=192.0.2.1,2001:db8::2 ; -2001:db8::1"),
        // To and from other types.
        ("4 lb4", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "S4 ip=10.0.0.1", "S4 ip=10.0.0.1 ; -192.0.2.1"),
        ("4 lb4", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "S4 ip=10.0.0.1 lb=192.0.2.1", "S4 ip=10.0.0.1 ; -192.0.2.1"),
        ("4 lb4", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "External", "External ; -10.0.0.1 -192.0.2.1"),
        ("4 lb4", "S4 ip=10.0.0.1", "LB S4 ip=10.0.0.1 alloc=false", "LB S4 ip=10.0.0.1 alloc=false lb=?1"),
        // Families come and go.
        ("46 lb46", "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1", "LB P ip=10.0.0.1 alloc=false", "LB P46 ip=10.0.0.1,?1 alloc=false lb=192.0.2.1,?2"),
        ("46 lb46", "LB P46 ip=10.0.0.1,2000::1 alloc=false lb=192.0.2.1,2001:db8::1", "LB S46 ip=10.0.0.1,2000::1 alloc=false lb=192.0.2.1,2001:db8::1",
            "LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.1 ; -2000::1 -2001:db8::1"),
    ]);
}

#[test]
fn what_is_said_of_wishes() {
    let rows = [
        ("4", "192.0.2.1", "there is no pool of load balancer addresses"),
        ("4 lb4", "192.0.2.9", "192.0.2.9 is already allocated to ns/other"),
        (
            "4 lb4",
            "198.51.100.1",
            "198.51.100.1 is in no range that is in use: expected one of 192.0.2.0/28",
        ),
        ("46 lb46", "2001:db8::1", "the Service has no IPv6"),
    ];
    for (cluster, wish, detail) in rows {
        let new = service(&format!("LB S4 wish={wish}"));
        let assigned = Assignment::new(None, &new, &pools(cluster), 1).expect("a plan");
        let [warning] = &assigned.warnings[..] else { panic!("{:?}", assigned.warnings) };
        assert_eq!((warning.path(), warning.kind()), (WISH, FieldErrorKind::Ignored), "{wish}");
        assert_eq!(warning.detail(), detail);
    }
}

#[test]
fn a_full_pool_is_a_warning() {
    let mut pools = pools("46 lb46");
    let pool = pools.load_balancer_ips.as_mut().expect("a pool");
    while let Some(ip) = pool.propose(1, &[], |range| range.net().addr().is_ipv4()) {
        pool.allocate(ip, name("other"), Instant::ZERO).expect("what was proposed");
    }
    let assigned = Assignment::new(None, &service("LB P"), &pools, 1).expect("a plan");
    let [warning] = &assigned.warnings[..] else { panic!("{:?}", assigned.warnings) };
    assert_eq!(warning.path(), "status.loadBalancer");
    assert_eq!(warning.kind(), FieldErrorKind::Unavailable);
    assert_eq!(warning.detail(), "no IPv4 address is free");
    let ingress = &assigned.service.load_balancer.ingress;
    assert!(matches!(ingress[..], [ref only] if only.ip.is_some_and(|ip| ip.is_ipv6())));
}

/// A pool that was made anew does not know yet who has what.
#[test]
fn an_address_that_the_pool_does_not_know_of_is_kept() {
    let mut pools = pools("4 lb4");
    let old = service("LB S4 ip=10.0.0.1 alloc=false lb=192.0.2.3");
    let assigned = Assignment::new(Some(&old), &old, &pools, 1).expect("a plan");
    assert_eq!(assigned.service, old);
    assert_eq!(assigned.gives_back, []);
    pools.commit(&assigned, Instant::ZERO).expect("free");
    let lb = Claim::LoadBalancerIp("192.0.2.3".parse().expect("an address"));
    assert_eq!(pools.owner(lb), Some(&old.name));
    assert_eq!(
        outcome("4 lb4", None, "LB alloc=false lb=192.0.2.3"),
        "LB S4 ip=?1 alloc=false lb=?2"
    );
}
