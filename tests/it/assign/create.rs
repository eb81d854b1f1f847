//! Node ports of new Services, and what there is to be had of anything.

use super::{all_claims, check, name, owned, pools, service};
use std::collections::BTreeSet;
use svcplane::assign::{Assignment, Claim, CommitError, Pools};
use svcplane::field::FieldErrorKind;
use svcplane::ipam::PoolError;
use svcplane::time::Instant;

/// Kubernetes `pkg/registry/core/service/storage/alloc.go`, `initNodePorts`.
#[rustfmt::skip]
#[test]
fn node_ports() {
    check(&[
        ("4", "", "dns/UDP/53",                                    "S4 ip=?1 dns/UDP/53"),
        ("4", "", "NodePort a/TCP/80 b/TCP/81",                    "NodePort S4 ip=?1 a/TCP/80/?2 b/TCP/81/?3"),
        ("4", "", "NodePort a/TCP/80/30001 b/TCP/81",              "NodePort S4 ip=?1 a/TCP/80/30001 b/TCP/81/?2"),
        // One number for one port in several protocols.
        ("4", "", "NodePort a/TCP/53 b/UDP/53",                    "NodePort S4 ip=?1 a/TCP/53/?2 b/UDP/53/?2"),
        ("4", "", "NodePort a/TCP/53 b/UDP/53 c/SCTP/53",          "NodePort S4 ip=?1 a/TCP/53/?2 b/UDP/53/?2 c/SCTP/53/?2"),
        ("4", "", "NodePort b/UDP/53 a/TCP/53/30053",              "NodePort S4 ip=?1 b/UDP/53/30053 a/TCP/53/30053"),
        ("4", "", "NodePort a/TCP/53/30053 b/UDP/53",              "NodePort S4 ip=?1 a/TCP/53/30053 b/UDP/53/30053"),
        ("4", "", "NodePort a/TCP/53/30053 b/UDP/53/30054",        "NodePort S4 ip=?1 a/TCP/53/30053 b/UDP/53/30054"),
        ("4", "", "NodePort a/TCP/53/30053 b/UDP/53/30053",        "NodePort S4 ip=?1 a/TCP/53/30053 b/UDP/53/30053"),
        ("4", "", "NodePort c/SCTP/53 a/TCP/53/30053 b/UDP/53/30054", "NodePort S4 ip=?1 c/SCTP/53/30053 a/TCP/53/30053 b/UDP/53/30054"),
        ("4", "", "NodePort a/TCP/53 b/UDP/54",                    "NodePort S4 ip=?1 a/TCP/53/?2 b/UDP/54/?3"),
        ("4", "", "NodePort a/TCP/53/30053 b/UDP/54/30053",        "NodePort S4 ip=?1 a/TCP/53/30053 b/UDP/54/30053"),
        // What is shared may be what another port has.
        ("4", "", "NodePort a/TCP/53 b/UDP/53/30053 c/TCP/54/30053", "! spec.ports[2].nodePort"),
        ("4", "", "NodePort a/TCP/1/30001 b/TCP/2/30001",          "! spec.ports[1].nodePort"),
        ("4", "", "NodePort a/TCP/1/30009",                        "! spec.ports[0].nodePort"),
        ("4", "", "NodePort a/TCP/1/29999",                        "! spec.ports[0].nodePort"),
        ("4", "", "NodePort a/TCP/1/30064",                        "! spec.ports[0].nodePort"),
        ("4", "", "a/TCP/1/30001",                                 "! spec.ports[0].nodePort"),
        ("4", "", "External a/TCP/1/30001",                        "! spec.ports[0].nodePort"),
        ("4", "", "NodePort ip=None",                              "NodePort S4 ip=None a/TCP/80/?1"),
        ("4", "", "LB",                                            "LB S4 ip=?1 a/TCP/80/?2"),
        ("4", "", "LB alloc=true",                                 "LB S4 ip=?1 a/TCP/80/?2 alloc=true"),
        ("4", "", "LB alloc=false",                                "LB S4 ip=?1 alloc=false"),
        ("4", "", "LB a/TCP/1/30001 b/TCP/2 alloc=false",          "LB S4 ip=?1 a/TCP/1/30001 b/TCP/2 alloc=false"),
        ("4", "", "LB a/TCP/53/30001 b/UDP/53 alloc=false",        "LB S4 ip=?1 a/TCP/53/30001 b/UDP/53 alloc=false"),
        ("4", "", "NodePort alloc=false",                          "NodePort S4 ip=?1 a/TCP/80/?2 alloc=false"),
    ]);
}

/// Kubernetes `pkg/registry/core/service/storage/alloc.go`, `allocHealthCheckNodePort`.
#[rustfmt::skip]
#[test]
fn health_check_node_ports() {
    check(&[
        ("4", "", "LB Local",                          "LB S4 ip=?1 a/TCP/80/?2 hc=?3 Local"),
        ("4", "", "LB Local alloc=false",              "LB S4 ip=?1 hc=?2 Local alloc=false"),
        ("4", "", "LB hc=30001 Local alloc=false",     "LB S4 ip=?1 hc=30001 Local alloc=false"),
        ("4", "", "LB hc=30009 Local",                 "! spec.healthCheckNodePort"),
        ("4", "", "LB hc=29999 Local",                 "! spec.healthCheckNodePort"),
        ("4", "", "LB a/TCP/1/30001 hc=30001 Local",   "! spec.healthCheckNodePort"),
        ("4", "", "LB a/UDP/1/30001 hc=30001 Local",   "! spec.healthCheckNodePort"),
        ("4", "", "LB hc=30001",                       "! spec.healthCheckNodePort"),
        ("4", "", "NodePort hc=30001 Local",           "! spec.healthCheckNodePort"),
        ("4", "", "NodePort Local",                    "NodePort S4 ip=?1 a/TCP/80/?2 Local"),
    ]);
}

/// Pools of one family with so many addresses and node ports.
fn small(ips: &str, ports: &str) -> Pools {
    let mut pools = Pools::new(&[svcplane::net::IpFamily::V4], std::time::Duration::ZERO);
    pools.cluster_ips.add(super::range(ips));
    pools.node_ports.add(ports.parse().expect("ports"));
    pools
}

#[test]
fn what_is_drawn_is_not_what_is_stated() {
    // Two of three numbers are stated, so that the third is all that can be drawn.
    for seed in 0..50 {
        let pools = small("10.0.0.0/30", "30000-30002");
        let new = service("LB a/TCP/1 b/TCP/2/30001 hc=30002 Local");
        let assigned = Assignment::new(None, &new, &pools, seed).expect("a plan");
        assert_eq!(assigned.service.ports[0].node_port, Some(30_000), "seed {seed}");
        let new = service("LB a/TCP/1/30000 b/TCP/2/30001 Local");
        let assigned = Assignment::new(None, &new, &pools, seed).expect("a plan");
        assert_eq!(assigned.service.health_check_node_port, Some(30_002), "seed {seed}");
    }
}

#[test]
fn seeds_lead_to_different_plans() {
    let pools = pools("46");
    let new = service("NodePort P");
    let plan = |seed| Assignment::new(None, &new, &pools, seed).expect("a plan").takes;
    assert_eq!(plan(7), plan(7));
    let plans: BTreeSet<Vec<Claim>> = (0..20).map(plan).collect();
    assert!(plans.len() > 10, "{} of 20 are different", plans.len());
}

#[test]
fn nothing_is_left() {
    let cases = [
        ("10.0.0.0/31", "30000-30009", "S", "spec.clusterIPs[0]"),
        ("10.0.0.0/24", "", "NodePort S", "spec.ports[0].nodePort"),
        ("10.0.0.0/24", "30000", "NodePort S a/TCP/1 b/TCP/2", "spec.ports[1].nodePort"),
        ("10.0.0.0/24", "30000", "LB S Local", "spec.healthCheckNodePort"),
    ];
    for (ips, ports, new, path) in cases {
        let pools = small(ips, ports);
        let errors = Assignment::new(None, &service(new), &pools, 1).expect_err("full");
        let [error] = &errors[..] else { panic!("{new}: {errors:?}") };
        assert_eq!((error.path(), error.kind()), (path, FieldErrorKind::Unavailable), "{new}");
    }
    let all = Assignment::new(None, &service("LB S Local"), &small("10.0.0.0/31", ""), 1);
    let errors = all.expect_err("nothing at all");
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn a_commit_is_all_or_nothing() {
    let rest = |pools: &Pools| owned(pools, &name("web"));
    let cases = [
        (Claim::NodePort(30_001), "node port 30001 is already allocated to ns/thief"),
        (
            Claim::ClusterIp(super::ip("10.0.0.1")),
            "cluster IP 10.0.0.1 is already allocated to ns/thief",
        ),
        (
            Claim::LoadBalancerIp(super::ip("192.0.2.1")),
            "load balancer IP 192.0.2.1 is already allocated to ns/thief",
        ),
    ];
    for (stolen, message) in cases {
        let mut pools = pools("4 lb4");
        let old = service("LB S4 ip=10.0.0.2 a/TCP/80/30002 lb=192.0.2.2");
        let held = |s| all_claims(s, &pools);
        let before: BTreeSet<Claim> = held(&old);
        for claim in &before {
            pools.learn(*claim, name("web"));
        }
        let new = service("LB S ip=10.0.0.1 a/TCP/80/30001 wish=192.0.2.1");
        let assigned = Assignment::new(Some(&old), &new, &pools, 1).expect("a plan");
        assert_eq!(assigned.takes.len(), 3);
        pools.learn(stolen, name("thief"));
        let had = rest(&pools);
        let error = pools.commit(&assigned, Instant::ZERO).expect_err("stolen");
        assert_eq!(error.to_string(), message);
        assert_eq!(rest(&pools), had, "nothing changed");
        pools.release(stolen, &name("thief"), Instant::ZERO);
        assert_eq!(pools.commit(&assigned, Instant::ZERO), Ok(()), "now it can be had");
        assert_eq!(rest(&pools), all_claims(&assigned.service, &pools));
        let done = rest(&pools);
        assert_eq!(pools.commit(&assigned, Instant::ZERO), Ok(()), "again");
        assert_eq!(rest(&pools), done);
    }
}

#[test]
fn a_commit_after_a_range_has_gone() {
    let mut pools = pools("4");
    let assigned = Assignment::new(None, &service("S"), &pools, 1).expect("a plan");
    pools.cluster_ips.drain("10.0.0.0/24".parse().expect("a prefix"));
    let error = pools.commit(&assigned, Instant::ZERO).expect_err("drained");
    let CommitError::ClusterIp(PoolError::NotInRange { ranges, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(ranges, "none");
    assert_eq!(owned(&pools, &name("web")), BTreeSet::new());
}

#[test]
fn claims_as_keys() {
    let keys = [
        (Claim::ClusterIp(super::ip("10.96.0.10")), "cluster-ip/10.96.0.10"),
        (Claim::ClusterIp(super::ip("FD00:0::A")), "cluster-ip/fd00::a"),
        (Claim::NodePort(30_080), "node-port/30080"),
        (Claim::LoadBalancerIp(super::ip("192.0.2.1")), "load-balancer-ip/192.0.2.1"),
    ];
    for (claim, key) in keys {
        assert_eq!(claim.to_string(), key);
    }
}

#[test]
fn one_claim_at_a_time() {
    let mut pools = pools("4 lb4");
    let (web, other) = (name("web"), name("other"));
    for claim in [
        Claim::ClusterIp(super::ip("10.0.0.1")),
        Claim::NodePort(30_001),
        Claim::LoadBalancerIp(super::ip("192.0.2.1")),
    ] {
        assert_eq!(pools.allocate(claim, &web, Instant::ZERO), Ok(()));
        assert_eq!(pools.allocate(claim, &web, Instant::ZERO), Ok(()), "again");
        assert!(pools.allocate(claim, &other, Instant::ZERO).is_err());
        assert!(!pools.release(claim, &other, Instant::ZERO));
        assert_eq!(pools.owner(claim), Some(&web));
        assert_eq!(pools.learn(claim, other.clone()), Some(web.clone()));
        assert!(pools.release(claim, &other, Instant::ZERO));
        assert_eq!(pools.owner(claim), None);
    }
}
