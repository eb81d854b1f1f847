//! Where Services and pools differ: each rule as a row.

use std::collections::BTreeSet;
use std::time::Duration;

use super::assign::{name, owned, pools, service};
use svcplane::assign::{Claim, Finding, Pools, Repair};
use svcplane::ipam::IpPool;
use svcplane::name::ObjectName;
use svcplane::service::Service;
use svcplane::time::{Instant, Timestamp};

/// `10.0.0.1`, `30001`, `lb:192.0.2.1`.
fn claim(text: &str) -> Claim {
    let ip = |text: &str| text.parse().expect("an address");
    match (text.strip_prefix("lb:"), text.parse()) {
        (Some(text), _) => Claim::LoadBalancerIp(ip(text)),
        (None, Ok(port)) => Claim::NodePort(port),
        (None, Err(_)) => Claim::ClusterIp(ip(text)),
    }
}

/// `a@5: TEXT`, the Service's name, when it was created, and what [`service`] reads.
fn services(lines: &[&str]) -> Vec<Service> {
    let one = |line: &&str| {
        let (head, text) = line.split_once(": ").expect("a name");
        let (head, created) = head.split_once('@').unwrap_or((head, ""));
        let mut service = service(text);
        service.name = name(head);
        service.created = created.parse().ok().map(Timestamp::from_unix);
        service
    };
    lines.iter().map(one).collect()
}

/// The pools of a cluster without the other Service, but with these claims: `10.0.0.1 a`.
fn allocated(lines: &[&str]) -> Pools {
    let mut pools = pools("46 lb4");
    for claim in owned(&pools, &name("other")) {
        pools.release(claim, &name("other"), Instant::ZERO);
    }
    for line in lines {
        let (text, owner) = line.split_once(' ').expect("an owner");
        pools.learn(claim(text), name(owner));
    }
    pools
}

fn told(findings: &[Finding]) -> Vec<String> {
    let short = |claim: &Claim| {
        let text = claim.to_string();
        let (kind, text) = text.split_once('/').expect("a key");
        if kind == "load-balancer-ip" { format!("lb:{text}") } else { text.to_owned() }
    };
    let told = |finding: &Finding| match finding {
        Finding::Unallocated { claim, service } => {
            format!("unallocated {} {}", short(claim), service.name())
        }
        Finding::ForeignOwned { claim, service, owner } => {
            format!("foreign {} {} of {}", short(claim), service.name(), owner.name())
        }
        Finding::Duplicate { claim, service, owner } => {
            format!("duplicate {} {} of {}", short(claim), service.name(), owner.name())
        }
        Finding::OutOfRange { claim, service } => {
            format!("outside {} {}", short(claim), service.name())
        }
        Finding::WrongFamily { ip, service } => format!("family {ip} {}", service.name()),
        Finding::Leaked { claim, owner, remaining } => {
            format!("leaked {} {} {remaining}", short(claim), owner.name())
        }
        _ => panic!("{finding:?}"),
    };
    findings.iter().map(told).collect()
}

/// What it is, the Services, what is allocated, the findings, how many of them are acted upon.
type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str], usize);

/// After the repair, every claim that was not found to be wrong is had by who claims it.
fn check(rows: &[Row<'_>]) {
    let mut failures = Vec::new();
    for (what, lines, claims, expected, done) in rows {
        let services = services(lines);
        let mut pools = allocated(claims);
        let findings = Repair::default().run(&services, &pools);
        let got = (told(&findings), pools.repair(&findings, Instant::ZERO));
        if got != (expected.iter().map(ToString::to_string).collect(), *done) {
            failures.push(format!("{what}: {expected:?} {done}, got {got:?}"));
        }
        let reversed: Vec<&Service> = services.iter().rev().collect();
        let again = Repair::default().run(reversed, &allocated(claims));
        assert_eq!(again, findings, "{what}: the order of the Services does not matter");
        assert_eq!(pools.repair(&findings, Instant::ZERO), 0, "{what}: again");
        let rest = Repair::default().run(&services, &pools);
        let mended =
            |f: &Finding| matches!(f, Finding::Unallocated { .. } | Finding::ForeignOwned { .. });
        assert!(!rest.iter().any(mended), "{what}: {:?}", told(&rest));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Kubernetes `pkg/registry/core/service/ipallocator/controller/repairip_test.go`, `TestRepairServiceIP`;
/// `pkg/registry/core/service/ipallocator/controller/repair_test.go`, `TestRepairWithExisting`.
#[rustfmt::skip]
#[test]
fn addresses() {
    check(&[
        ("nothing at all", &[], &[], &[], 0),
        ("no changes, single stack", &["a: S4 ip=10.0.0.1"], &["10.0.0.1 a"], &[], 0),
        ("no changes, dual stack", &["a: P46 ip=10.0.0.1,2000::1"], &["10.0.0.1 a", "2000::1 a"], &[], 0),
        ("nothing to claim", &["a: S4 ip=None", "b: S4", "c: External", "d: External ip=10.0.0.1"], &[], &[], 0),
        ("one is missing", &["a: S4 ip=10.0.0.1"], &[], &["unallocated 10.0.0.1 a"], 1),
        ("two are missing", &["a: P46 ip=10.0.0.1,2000::1"], &[], &["unallocated 10.0.0.1 a", "unallocated 2000::1 a"], 2),
        ("one of two is missing", &["a: P46 ip=10.0.0.1,2000::1"], &["10.0.0.1 a"], &["unallocated 2000::1 a"], 1),
        ("its owner is gone", &["a: S4 ip=10.0.0.1"], &["10.0.0.1 x"], &["foreign 10.0.0.1 a of x"], 1),
        ("its owner does not claim it", &["a: S4 ip=10.0.0.1", "b: S4 ip=10.0.0.2"], &["10.0.0.1 b", "10.0.0.2 b"], &["foreign 10.0.0.1 a of b"], 1),
        ("two have changed places", &["a: S4 ip=10.0.0.1", "b: S4 ip=10.0.0.2"], &["10.0.0.1 b", "10.0.0.2 a"],
            &["foreign 10.0.0.1 a of b", "foreign 10.0.0.2 b of a"], 2),
        ("its owner is an ExternalName now", &["a: S4 ip=10.0.0.1", "b: External ip=10.0.0.1"], &["10.0.0.1 b"], &["foreign 10.0.0.1 a of b"], 1),
        // Of two, who has it keeps it, else the oldest, else the first by name.
        ("two claim it, one has it", &["a@1: S4 ip=10.0.0.1", "b@2: S4 ip=10.0.0.1"], &["10.0.0.1 b"], &["duplicate 10.0.0.1 a of b"], 0),
        ("two claim it, nobody has it", &["a@2: S4 ip=10.0.0.1", "b@1: S4 ip=10.0.0.1"], &[], &["unallocated 10.0.0.1 b", "duplicate 10.0.0.1 a of b"], 1),
        ("two of one age", &["b@1: S4 ip=10.0.0.1", "a@1: S4 ip=10.0.0.1"], &[], &["unallocated 10.0.0.1 a", "duplicate 10.0.0.1 b of a"], 1),
        ("one of no known age", &["a: S4 ip=10.0.0.1", "b@9: S4 ip=10.0.0.1"], &[], &["unallocated 10.0.0.1 b", "duplicate 10.0.0.1 a of b"], 1),
        ("two claim what a third has", &["a@2: S4 ip=10.0.0.1", "b@1: S4 ip=10.0.0.1"], &["10.0.0.1 x"], &["foreign 10.0.0.1 b of x", "duplicate 10.0.0.1 a of b"], 1),
        ("three claim it", &["a@1: S4 ip=10.0.0.1", "b@2: S4 ip=10.0.0.1", "c@3: S4 ip=10.0.0.1"], &["10.0.0.1 c"],
            &["duplicate 10.0.0.1 a of c", "duplicate 10.0.0.1 b of c"], 0),
        ("twice in one Service", &["a: P46 ip=10.0.0.1,10.0.0.1"], &["10.0.0.1 a"], &[], 0),
        ("out of range", &["a: S4 ip=10.0.1.1"], &[], &["outside 10.0.1.1 a"], 0),
        ("the network's own", &["a: S4 ip=10.0.0.0", "b: S4 ip=10.0.0.255"], &[], &["outside 10.0.0.0 a", "outside 10.0.0.255 b"], 0),
        ("two out of range", &["a: S4 ip=10.0.1.1", "b: S4 ip=10.0.1.1"], &[], &["outside 10.0.1.1 a", "outside 10.0.1.1 b"], 0),
        ("another family", &["a: S6 ip=10.0.0.1"], &["10.0.0.1 a"], &["family 10.0.0.1 a"], 0),
        ("another family, missing", &["a: S6 ip=10.0.0.1"], &[], &["unallocated 10.0.0.1 a", "family 10.0.0.1 a"], 1),
        ("no family is stated", &["a: ip=10.0.0.1,2000::1"], &["10.0.0.1 a", "2000::1 a"], &[], 0),
        ("a second that is not stated", &["a: S4 ip=10.0.0.1,2000::1"], &["10.0.0.1 a", "2000::1 a"], &["family 2000::1 a"], 0),
        ("a leak", &[], &["10.0.0.1 x"], &["leaked 10.0.0.1 x 2"], 0),
        ("a leak of a Service that is there", &["a: S4 ip=10.0.0.2"], &["10.0.0.1 a", "10.0.0.2 a"], &["leaked 10.0.0.1 a 2"], 0),
        ("a leak of an ExternalName", &["a: External ip=10.0.0.1"], &["10.0.0.1 a"], &["leaked 10.0.0.1 a 2"], 0),
        // Load balancers: what the pool has is claimed by who publishes it.
        ("a load balancer", &["a: LB S4 ip=10.0.0.1 lb=192.0.2.1"], &["10.0.0.1 a", "lb:192.0.2.1 a"], &[], 0),
        ("a load balancer's is missing", &["a: LB S4 ip=10.0.0.1 lb=192.0.2.1"], &["10.0.0.1 a"], &["unallocated lb:192.0.2.1 a"], 1),
        ("a load balancer of others", &["a: LB S4 ip=10.0.0.1 lb=198.51.100.1"], &["10.0.0.1 a"], &[], 0),
        ("two load balancers", &["a@1: LB lb=192.0.2.1", "b@2: LB lb=192.0.2.1"], &["lb:192.0.2.1 b"], &["duplicate lb:192.0.2.1 a of b"], 0),
        ("a load balancer's leak", &["a: LB S4 ip=10.0.0.1"], &["10.0.0.1 a", "lb:192.0.2.1 a"], &["leaked lb:192.0.2.1 a 2"], 0),
    ]);
}

/// Kubernetes `pkg/registry/core/service/portallocator/controller/repair_test.go`, `TestCollectServiceNodePorts`, `TestRepairWithExisting`.
#[rustfmt::skip]
#[test]
fn ports() {
    check(&[
        ("no duplicates", &["a: NodePort a/TCP/1/30001 b/UDP/2/30002 c/UDP/3/30003"], &["30001 a", "30002 a", "30003 a"], &[], 0),
        ("twice in TCP", &["a: NodePort a/TCP/1/30001 b/TCP/2/30001 c/UDP/3/30002"], &["30001 a", "30002 a"], &["duplicate 30001 a of a"], 0),
        ("twice in UDP", &["a: NodePort a/UDP/1/30001 b/UDP/2/30001 c/TCP/3/30002"], &["30001 a", "30002 a"], &["duplicate 30001 a of a"], 0),
        ("thrice in TCP", &["a: NodePort a/TCP/1/30001 b/TCP/2/30001 c/TCP/3/30001"], &["30001 a"], &["duplicate 30001 a of a", "duplicate 30001 a of a"], 0),
        ("once in each", &["a: NodePort a/TCP/1/30001 b/TCP/2/30002 c/UDP/3/30001"], &["30001 a", "30002 a"], &[], 0),
        ("health checks", &["a: LB a/TCP/1/30001 b/UDP/2/30002 hc=30003"], &["30001 a", "30002 a", "30003 a"], &[], 0),
        ("health checks on a UDP port's", &["a: LB a/UDP/1/30001 b/TCP/2/30002 hc=30001"], &["30001 a", "30002 a"], &[], 0),
        ("health checks on a TCP port's", &["a: LB a/UDP/1/30001 b/TCP/2/30002 hc=30002"], &["30001 a", "30002 a"], &["duplicate 30002 a of a"], 0),
        ("twice, and missing", &["a: NodePort a/TCP/1/30001 b/TCP/2/30001"], &[], &["unallocated 30001 a", "duplicate 30001 a of a"], 1),
        ("of several Services", &[
            "one: NodePort a/TCP/1/30011", "two: NodePort a/TCP/1/30022 b/TCP/2/30033", "three: NodePort a/TCP/1/30201",
            "four: NodePort a/TCP/1", "zfive: NodePort a/TCP/1/30011", "six: hc=30044",
        ], &[], &[
            "unallocated 30011 one", "unallocated 30022 two", "unallocated 30033 two", "unallocated 30044 six",
            "duplicate 30011 zfive of one", "outside 30201 three",
        ], 4),
        ("another Service's, in another protocol", &["a@1: NodePort a/TCP/1/30001", "b@2: NodePort a/UDP/1/30001"], &["30001 a"], &["duplicate 30001 b of a"], 0),
        ("another Service's health checks", &["a@1: NodePort a/TCP/1/30001", "b@2: LB hc=30001"], &["30001 a"], &["duplicate 30001 b of a"], 0),
        ("its owner is gone", &["a: NodePort a/TCP/1/30001"], &["30001 x"], &["foreign 30001 a of x"], 1),
        ("a leak", &["a: NodePort a/TCP/1/30001"], &["30001 a", "30002 a"], &["leaked 30002 a 2"], 0),
    ]);
}

/// Kubernetes `pkg/registry/core/service/ipallocator/controller/repair_test.go`, `TestRepairLeak`;
/// `pkg/registry/core/service/portallocator/controller/repair_test.go`, `TestRepairLeak`.
#[test]
fn three_strikes() {
    for text in ["10.0.0.5", "30005", "lb:192.0.2.5"] {
        let mut pools = allocated(&[&format!("{text} x")]);
        let mut repair = Repair::default();
        for (remaining, done) in [(2, 0), (1, 0), (0, 1)] {
            assert_eq!(pools.owner(claim(text)), Some(&name("x")));
            let findings = repair.run([], &pools);
            assert_eq!(told(&findings), [format!("leaked {text} x {remaining}")]);
            assert_eq!(pools.repair(&findings, Instant::ZERO), done);
        }
        assert_eq!(pools.owner(claim(text)), None);
        assert_eq!(repair.run([], &pools), []);
    }
}

#[test]
fn what_comes_back_in_use_is_no_leak() {
    let mut pools = allocated(&["10.0.0.5 x"]);
    let users = services(&["x: S4 ip=10.0.0.5"]);
    let others = services(&["y: S4 ip=10.0.0.5"]);
    let mut repair = Repair::default();
    let run = |repair: &mut Repair, services: &[Service], pools: &Pools| {
        told(&repair.run(services, pools))
    };
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 x 2"]);
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 x 1"]);
    assert_eq!(run(&mut repair, &users, &pools), [""; 0]);
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 x 2"], "from the start");
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 x 1"]);
    assert_eq!(run(&mut repair, &others, &pools), ["foreign 10.0.0.5 y of x"]);
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 x 2"]);
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 x 1"]);
    // Another's leak is another leak.
    pools.learn(claim("10.0.0.5"), name("z"));
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 z 2"]);
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 z 1"]);
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 z 0"]);
    assert_eq!(run(&mut repair, &[], &pools), ["leaked 10.0.0.5 z 0"], "until somebody acts");
}

#[test]
fn a_leak_is_counted_by_itself() {
    let pools = allocated(&["10.0.0.5 x", "30005 x"]);
    let late = allocated(&["10.0.0.5 x"]);
    let mut repair = Repair::default();
    assert_eq!(told(&repair.run([], &late)), ["leaked 10.0.0.5 x 2"]);
    assert_eq!(told(&repair.run([], &pools)), ["leaked 10.0.0.5 x 1", "leaked 30005 x 2"]);
    assert_eq!(told(&repair.run([], &pools)), ["leaked 10.0.0.5 x 0", "leaked 30005 x 1"]);
}

/// Between a run and the repair, something may have happened: what is not as it was found stays.
#[test]
fn findings_that_are_out_of_date() {
    let finding = |claim_of: &str, service: &str, owner: Option<&str>| {
        let (claim, service) = (claim(claim_of), name(service));
        match owner {
            Some(owner) => Finding::ForeignOwned { claim, service, owner: name(owner) },
            None => Finding::Unallocated { claim, service },
        }
    };
    for stale in [finding("10.0.0.1", "a", None), finding("10.0.0.1", "a", Some("x"))] {
        let mut pools = allocated(&["10.0.0.1 b"]);
        assert_eq!(pools.repair(&[stale], Instant::ZERO), 0);
        assert_eq!(pools.owner(claim("10.0.0.1")), Some(&name("b")));
    }
    let leak = Repair::default().run([], &allocated(&["10.0.0.1 x"]));
    let mut repair = Repair::default();
    let mut last = Vec::new();
    for _ in 0..3 {
        last = repair.run([], &allocated(&["10.0.0.1 x"]));
    }
    assert_eq!(
        (told(&leak), told(&last)),
        (vec!["leaked 10.0.0.1 x 2".into()], vec!["leaked 10.0.0.1 x 0".into()])
    );
    let mut pools = allocated(&["10.0.0.1 b"]);
    assert_eq!(pools.repair(&last, Instant::ZERO), 0);
    assert_eq!(owned(&pools, &name("b")), BTreeSet::from([claim("10.0.0.1")]));
}

/// What has leaked rests; what is claimed does not, whoever had it.
#[test]
fn repair_and_rest() {
    let mut pools = allocated(&[]);
    let mut pool: IpPool<ObjectName> = IpPool::new(Duration::from_secs(60));
    pool.add(super::assign::range("10.0.0.0/24"));
    pools.cluster_ips = pool;
    let ip = claim("10.0.0.1");
    pools.learn(ip, name("x"));
    let mut repair = Repair::default();
    for _ in 0..3 {
        let findings = repair.run([], &pools);
        pools.repair(&findings, Instant::ZERO);
    }
    assert!(pools.allocate(ip, &name("a"), Instant::from_secs(59)).is_err(), "it rests");
    let services = services(&["a: S4 ip=10.0.0.1"]);
    let findings = repair.run(&services, &pools);
    assert_eq!(told(&findings), ["unallocated 10.0.0.1 a"]);
    assert_eq!(pools.repair(&findings, Instant::ZERO), 1);
    pools.sweep(Instant::from_secs(60));
    assert_eq!(pools.owner(ip), Some(&name("a")));
}

/// A range that is drained holds what it gave; one that is gone holds nothing.
#[test]
fn ranges_that_go() {
    let services = services(&["a: S4 ip=10.0.0.1"]);
    let mut pools = allocated(&["10.0.0.1 a"]);
    let net = "10.0.0.0/24".parse().expect("a prefix");
    pools.cluster_ips.drain(net);
    assert_eq!(Repair::default().run(&services, &pools), []);
    pools.release(claim("10.0.0.1"), &name("a"), Instant::ZERO);
    assert_eq!(told(&Repair::default().run(&services, &pools)), ["unallocated 10.0.0.1 a"]);
    pools.cluster_ips.remove(net).expect("nothing is held");
    assert_eq!(told(&Repair::default().run(&services, &pools)), ["outside 10.0.0.1 a"]);
}

#[test]
fn findings_as_text() {
    let (claim, service, owner) = (claim("10.0.0.1"), name("a"), name("b"));
    let rows = [
        (
            Finding::Unallocated { claim, service: service.clone() },
            "cluster-ip/10.0.0.1 of ns/a is not allocated",
        ),
        (
            Finding::ForeignOwned { claim, service: service.clone(), owner: owner.clone() },
            "cluster-ip/10.0.0.1 of ns/a is allocated to ns/b, which does not claim it",
        ),
        (
            Finding::Duplicate { claim, service: service.clone(), owner: owner.clone() },
            "cluster-ip/10.0.0.1 of ns/a belongs to ns/b: give ns/a another",
        ),
        (
            Finding::OutOfRange { claim, service: service.clone() },
            "cluster-ip/10.0.0.1 of ns/a is in no range: give ns/a another",
        ),
        (
            Finding::WrongFamily { ip: "10.0.0.1".parse().expect("an address"), service },
            "cluster-ip/10.0.0.1 of ns/a is of a family that ns/a does not have",
        ),
        (
            Finding::Leaked { claim, owner: owner.clone(), remaining: 0 },
            "cluster-ip/10.0.0.1 is allocated to ns/b, which does not claim it; it is given back",
        ),
        (
            Finding::Leaked { claim, owner, remaining: 2 },
            "cluster-ip/10.0.0.1 is allocated to ns/b, which does not claim it; it is given back after 2 more runs",
        ),
    ];
    for (finding, text) in rows {
        assert_eq!(finding.to_string(), text);
    }
}
