//! Updates: what is kept, filled in, taken out, given back.

use super::{check, name, pools, service};
use std::collections::BTreeSet;
use svcplane::assign::{Assignment, Claim};
use svcplane::k8s;
use svcplane::time::Instant;

/// Kubernetes `pkg/registry/core/service/storage/alloc.go`, `initIPFamilyFields` and `updateClusterIPs`.
#[rustfmt::skip]
#[test]
fn families_and_addresses() {
    check(&[
        // To and from ExternalName.
        ("46", "External", "-",                                "S4 ip=?1"),
        ("46", "External", "P",                                "P46 ip=?1,?2"),
        ("46", "External", "P64 ip=2000::1",                   "P64 ip=2000::1,?1"),
        ("46", "External", "ip=None",                          "S4 ip=None"),
        ("46", "External", "detached ip=None",                 "detached R46 ip=None"),
        ("46", "External", "ip=10.0.0.9",                      "! spec.clusterIPs[0]"),
        ("46", "External", "External",                         "External"),
        ("46", "S4 ip=10.0.0.1", "External",                   "External ; -10.0.0.1"),
        ("46", "S4 ip=10.0.0.1", "External S4 ip=10.0.0.1",    "External ; -10.0.0.1"),
        ("46", "P46 ip=10.0.0.1,2000::1", "External P46 ip=10.0.0.1,2000::1", "External ; -10.0.0.1 -2000::1"),
        ("46", "S4 ip=None", "External S4 ip=None",            "External"),
        // The same again, with more or less of it left out.
        ("46", "S4 ip=10.0.0.1", "S4 ip=10.0.0.1",             "S4 ip=10.0.0.1"),
        ("46", "S4 ip=10.0.0.1", "-",                          "S4 ip=10.0.0.1"),
        ("46", "S6 ip=2000::1", "-",                           "S6 ip=2000::1"),
        ("46", "R46 ip=10.0.0.1,2000::1", "-",                 "R46 ip=10.0.0.1,2000::1"),
        ("46", "P64 ip=2000::1,10.0.0.1", "-",                 "P64 ip=2000::1,10.0.0.1"),
        ("46", "P46 ip=10.0.0.1,2000::1", "-46",               "P46 ip=10.0.0.1,2000::1"),
        ("46", "ip=10.0.0.1", "ip=10.0.0.1",                   "S4 ip=10.0.0.1"),
        // From one to two.
        ("46", "S4 ip=10.0.0.1", "P",                          "P46 ip=10.0.0.1,?1"),
        ("46", "S4 ip=10.0.0.1", "P4 ip=10.0.0.1",             "P46 ip=10.0.0.1,?1"),
        ("46", "S4 ip=10.0.0.1", "R46 ip=10.0.0.1",            "R46 ip=10.0.0.1,?1"),
        ("46", "S4 ip=10.0.0.1", "R ip=10.0.0.1,2000::1",      "R46 ip=10.0.0.1,2000::1"),
        ("46", "S4 ip=10.0.0.1", "R46 ip=10.0.0.1,2000::1",    "R46 ip=10.0.0.1,2000::1"),
        ("46", "S6 ip=2000::1", "R ip=2000::1",                "R64 ip=2000::1,?1"),
        ("46", "S4 ip=10.0.0.1", "R ip=10.0.0.1,2000::9",      "! spec.clusterIPs[1]"),
        ("46", "S4 ip=10.0.0.1", "S46 ip=10.0.0.1",            "! spec.ipFamilyPolicy"),
        ("46", "S4 ip=10.0.0.1", "-46",                        "! spec.ipFamilyPolicy"),
        ("46", "S4 ip=10.0.0.1", "S ip=10.0.0.1,2000::1",      "! spec.ipFamilyPolicy"),
        ("4",  "S4 ip=10.0.0.1", "P",                          "P4 ip=10.0.0.1"),
        ("4",  "S4 ip=10.0.0.1", "R",                          "! spec.ipFamilyPolicy"),
        // From two to one.
        ("46", "R46 ip=10.0.0.1,2000::1", "S46 ip=10.0.0.1,2000::1", "S4 ip=10.0.0.1 ; -2000::1"),
        ("46", "R46 ip=10.0.0.1,2000::1", "S",                 "S4 ip=10.0.0.1 ; -2000::1"),
        ("46", "R46 ip=10.0.0.1,2000::1", "S4",                "S4 ip=10.0.0.1 ; -2000::1"),
        ("46", "R46 ip=10.0.0.1,2000::1", "S4 ip=10.0.0.1",    "S4 ip=10.0.0.1 ; -2000::1"),
        ("46", "P64 ip=2000::1,10.0.0.1", "S64 ip=2000::1",    "S6 ip=2000::1 ; -10.0.0.1"),
        ("46", "R46 ip=10.0.0.1,2000::1", "R46 ip=10.0.0.1",   "! spec.ipFamilyPolicy"),
        ("46", "R46 ip=10.0.0.1,2000::1", "P4 ip=10.0.0.1,2000::1", "! spec.ipFamilyPolicy"),
        ("46", "P46 ip=10.0.0.1,2000::1", "P4 ip=10.0.0.1",    "! spec.ipFamilyPolicy"),
        ("46", "R46 ip=10.0.0.1,2000::1", "ip=10.0.0.1",       "! spec.ipFamilyPolicy"),
        ("46", "R46 ip=10.0.0.1,2000::1", "S64 ip=10.0.0.1,2000::1", "! spec.ipFamilyPolicy"),
        // Who prefers two is not asked again because the cluster has changed, but is when the Service does.
        ("46", "P4 ip=10.0.0.1", "P4 ip=10.0.0.1",             "P4 ip=10.0.0.1"),
        ("46", "P4 ip=10.0.0.1", "P4",                         "P4 ip=10.0.0.1"),
        ("46", "P4 ip=10.0.0.1", "NodePort P4 ip=10.0.0.1",    "NodePort P46 ip=10.0.0.1,?1 a/TCP/80/?2"),
        ("46", "P4 ip=10.0.0.1", "P46 ip=10.0.0.1",            "P46 ip=10.0.0.1,?1"),
        ("46", "P4 ip=10.0.0.1", "R4 ip=10.0.0.1",             "R46 ip=10.0.0.1,?1"),
        ("4",  "P46 ip=10.0.0.1,2000::1", "P46 ip=10.0.0.1,2000::1", "P46 ip=10.0.0.1,2000::1"),
        ("4",  "P46 ip=10.0.0.1,2000::1", "NodePort P46 ip=10.0.0.1,2000::1", "! spec.ipFamilies[1]"),
        ("4",  "R46 ip=10.0.0.1,2000::1", "R46 ip=10.0.0.1,2000::1", "! spec.ipFamilies[1] spec.ipFamilyPolicy"),
        ("4",  "R46 ip=10.0.0.1,2000::1", "S46 ip=10.0.0.1,2000::1", "S4 ip=10.0.0.1 ; -2000::1"),
        ("46", "P4 ip=10.0.0.1", "-4 ip=10.0.0.1",             "P46 ip=10.0.0.1,?1"),
        // Headless.
        ("46", "S4 ip=None", "-",                              "S4 ip=None"),
        ("46", "S4 ip=None", "P ip=None",                      "P46 ip=None"),
        ("46", "P46 ip=None", "S46 ip=None",                   "S4 ip=None"),
        ("46", "R46 ip=None", "R4 ip=None",                    "! spec.ipFamilyPolicy"),
        ("4",  "detached R46 ip=None", "detached R46 ip=None", "detached R46 ip=None"),
        ("4",  "detached S4 ip=None", "detached R ip=None",    "detached R46 ip=None"),
    ]);
}

/// Kubernetes `pkg/registry/core/service/storage/storage_test.go`, `TestPatchAllocatedValues`; `alloc.go`, `updateNodePorts`.
#[rustfmt::skip]
#[test]
fn node_ports() {
    check(&[
        // all_patched, IPs_patched, NPs_patched, HCNP_patched, nothing_patched
        ("46", "LB R46 ip=10.0.0.1,2000::1 a/TCP/80/30001 hc=30002 Local", "LB Local", "LB R46 ip=10.0.0.1,2000::1 a/TCP/80/30001 hc=30002 Local"),
        ("46", "R46 ip=10.0.0.1,2000::1", "-",                 "R46 ip=10.0.0.1,2000::1"),
        ("46", "NodePort R46 ip=10.0.0.1,2000::1 a/TCP/80/30001", "NodePort ip=10.0.0.1,2000::1", "NodePort R46 ip=10.0.0.1,2000::1 a/TCP/80/30001"),
        ("46", "LB S4 ip=10.0.0.1 a/TCP/80/30001 hc=30002 Local", "LB ip=10.0.0.1 a/TCP/80/30001 Local", "LB S4 ip=10.0.0.1 a/TCP/80/30001 hc=30002 Local"),
        ("46", "External", "External",                         "External"),
        // reset_NodePort, reset_partial_NodePorts, keep_NodePort
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=false", "LB ip=10.0.0.1 alloc=false", "LB S4 ip=10.0.0.1 alloc=false ; -30001"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/93/30001 b/TCP/94/30002 alloc=false", "LB ip=10.0.0.1 a/TCP/93/30001 b/TCP/94 alloc=false",
            "LB S4 ip=10.0.0.1 a/TCP/93/30001 b/TCP/94 alloc=false ; -30002"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=true", "LB ip=10.0.0.1 alloc=true", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=true"),
        // By name, whatever else changes; not what another port has now.
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 b/TCP/81/30002", "NodePort b/TCP/82 a/UDP/83", "NodePort S4 ip=10.0.0.1 b/TCP/82/30002 a/UDP/83/30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort b/TCP/80", "NodePort S4 ip=10.0.0.1 b/TCP/80/?1 ; -30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort a/TCP/80 b/TCP/81/30001", "NodePort S4 ip=10.0.0.1 a/TCP/80/?1 b/TCP/81/30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort a/TCP/80 b/UDP/80/30001", "NodePort S4 ip=10.0.0.1 a/TCP/80/?1 b/UDP/80/30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 b/TCP/81/30002", "NodePort a/TCP/80/30002 b/TCP/81/30001", "NodePort S4 ip=10.0.0.1 a/TCP/80/30002 b/TCP/81/30001"),
        // A number that two protocols share stays theirs.
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/53/30001 b/UDP/53/30001", "NodePort a/TCP/53 b/UDP/53", "NodePort S4 ip=10.0.0.1 a/TCP/53/30001 b/UDP/53/30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/53/30001 b/UDP/53/30001", "NodePort a/TCP/53", "NodePort S4 ip=10.0.0.1 a/TCP/53/30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/53/30001 b/UDP/53/30001", "NodePort a/TCP/53 b/TCP/54", "! spec.ports[1].nodePort"),
        // Nothing is shared anew.
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort a/TCP/80 b/UDP/80", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 b/UDP/80/?1"),
        ("4", "S4 ip=10.0.0.1", "NodePort a/TCP/53 b/UDP/53",  "NodePort S4 ip=10.0.0.1 a/TCP/53/?1 b/UDP/53/?2"),
        ("4", "S4 ip=10.0.0.1", "NodePort a/TCP/53/30053 b/UDP/53", "NodePort S4 ip=10.0.0.1 a/TCP/53/30053 b/UDP/53/?1"),
        ("4", "External", "NodePort a/TCP/53 b/UDP/53",        "NodePort S4 ip=?1 a/TCP/53/?2 b/UDP/53/?3"),
        ("4", "S4 ip=10.0.0.1", "NodePort a/TCP/53/30053 b/UDP/53/30053", "NodePort S4 ip=10.0.0.1 a/TCP/53/30053 b/UDP/53/30053"),
        // Others, and other numbers.
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort a/TCP/80/30002", "NodePort S4 ip=10.0.0.1 a/TCP/80/30002 ; -30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort a/TCP/80/30009", "! spec.ports[0].nodePort"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort a/TCP/1/30001 b/TCP/2/30001", "! spec.ports[1].nodePort"),
        // What it has is not asked for again: it may be out of the range by now.
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/31000", "NodePort a/TCP/80/31000", "NodePort S4 ip=10.0.0.1 a/TCP/80/31000"),
        ("4", "S4 ip=10.1.0.1", "S4 ip=10.1.0.1",              "S4 ip=10.1.0.1"),
        // Types.
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "-",   "S4 ip=10.0.0.1 ; -30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "LB",  "LB S4 ip=10.0.0.1 a/TCP/80/30001"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort",  "NodePort S4 ip=10.0.0.1 a/TCP/80/30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "External", "External ; -10.0.0.1 -30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "External a/TCP/80/30001", "External ; -10.0.0.1 -30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001", "External a/TCP/80/30002", "! spec.ports[0].nodePort"),
        ("4", "S4 ip=10.0.0.1", "LB alloc=false",              "LB S4 ip=10.0.0.1 alloc=false"),
        ("4", "S4 ip=10.0.0.1", "a/TCP/80/30001",              "! spec.ports[0].nodePort"),
    ]);
}

/// Kubernetes `pkg/registry/core/service/storage/alloc.go`, `updateHealthCheckNodePort`.
#[rustfmt::skip]
#[test]
fn health_check_node_ports() {
    check(&[
        ("4", "LB S4 ip=10.0.0.1 alloc=false", "LB Local alloc=false",          "LB S4 ip=10.0.0.1 hc=?1 Local alloc=false"),
        ("4", "LB S4 ip=10.0.0.1 alloc=false", "LB hc=30001 Local alloc=false", "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false"),
        ("4", "LB S4 ip=10.0.0.1 alloc=false", "LB hc=30009 Local alloc=false", "! spec.healthCheckNodePort"),
        ("4", "LB S4 ip=10.0.0.1 alloc=false", "LB hc=30001 alloc=false",       "! spec.healthCheckNodePort"),
        ("4", "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false", "LB Local alloc=false", "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false"),
        ("4", "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false", "LB alloc=false",  "LB S4 ip=10.0.0.1 alloc=false ; -30001"),
        ("4", "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false", "LB hc=30001 alloc=false", "LB S4 ip=10.0.0.1 alloc=false ; -30001"),
        ("4", "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false", "LB hc=30002 alloc=false", "! spec.healthCheckNodePort"),
        ("4", "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false", "NodePort Local",  "NodePort S4 ip=10.0.0.1 a/TCP/80/?1 Local ; -30001"),
        ("4", "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false", "External hc=30001", "External ; -10.0.0.1 -30001"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 Local", "LB Local",        "LB S4 ip=10.0.0.1 a/TCP/80/30001 hc=?1 Local"),
        ("4", "External", "LB Local alloc=false",                                "LB S4 ip=?1 hc=?2 Local alloc=false"),
    ]);
}

/// Kubernetes `pkg/registry/core/service/strategy_test.go`, `TestDropTypeDependentFields`.
#[rustfmt::skip]
#[test]
fn what_a_type_does_not_need() {
    const DUAL: &str = "R46 ip=10.0.0.1,2000::1";
    const PORTS: &str = "LB S4 ip=10.0.0.1 a/TCP/80/30001 b/TCP/81/30002";
    const HEALTH: &str = "LB S4 ip=10.0.0.1 hc=30001 Local alloc=false";
    const CLASS: &str = "LB S4 ip=10.0.0.1 alloc=false class=example.com/a";
    check(&[
        // clusterIP: don't clear, clear, don't clear changed clusterIP, ipFamilies, ipFamilyPolicy
        ("46", DUAL, DUAL,                                   DUAL),
        ("46", DUAL, "External R46 ip=10.0.0.1,2000::1",     "External ; -10.0.0.1 -2000::1"),
        ("46", DUAL, "External R46 ip=10.0.0.2,2000::2",     "External ip=10.0.0.2,2000::2 ; -10.0.0.1 -2000::1"),
        ("46", DUAL, "External R64 ip=10.0.0.1,2000::1",     "External -64 ; -10.0.0.1 -2000::1"),
        ("46", DUAL, "External S46 ip=10.0.0.1,2000::1",     "External S ; -10.0.0.1 -2000::1"),
        // nodePort: don't clear, clear, changed, a port more, one more with a node port, one less, a changed port
        ("4", PORTS, PORTS,                                  PORTS),
        ("4", PORTS, "a/TCP/80/30001 b/TCP/81/30002",        "S4 ip=10.0.0.1 a/TCP/80 b/TCP/81 ; -30001 -30002"),
        ("4", PORTS, "a/TCP/80/30003 b/TCP/81/30004",        "! spec.ports[0].nodePort spec.ports[1].nodePort"),
        ("4", PORTS, "a/TCP/80/30001 b/TCP/81/30002 c/TCP/82", "S4 ip=10.0.0.1 a/TCP/80 b/TCP/81 c/TCP/82 ; -30001 -30002"),
        ("4", PORTS, "a/TCP/80/30001 b/TCP/81/30002 c/TCP/82/30003", "! spec.ports[0].nodePort spec.ports[1].nodePort spec.ports[2].nodePort"),
        ("4", PORTS, "a/TCP/80/30001",                       "S4 ip=10.0.0.1 ; -30001 -30002"),
        ("4", PORTS, "a/UDP/180/30001 b/TCP/81/30002",       "S4 ip=10.0.0.1 a/UDP/180 b/TCP/81 ; -30001 -30002"),
        // healthCheckNodePort: don't clear, clear, changed; and externalTrafficPolicy with it
        ("4", HEALTH, HEALTH,                                HEALTH),
        ("4", HEALTH, "hc=30001 Local alloc=false",          "S4 ip=10.0.0.1 ; -30001"),
        ("4", HEALTH, "hc=30002 Local",                      "! spec.healthCheckNodePort"),
        // allocateLoadBalancerNodePorts: true, false, each to each
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=true", "NodePort alloc=true",  "NodePort S4 ip=10.0.0.1 a/TCP/80/30001"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=false", "NodePort alloc=false", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort alloc=true",   "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 alloc=true"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001", "NodePort alloc=false",  "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 alloc=false"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=true", "NodePort",   "NodePort S4 ip=10.0.0.1 a/TCP/80/30001"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=false", "NodePort",  "NodePort S4 ip=10.0.0.1 a/TCP/80/30001"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=true", "NodePort alloc=false", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 alloc=false"),
        ("4", "LB S4 ip=10.0.0.1 a/TCP/80/30001 alloc=false", "NodePort alloc=true", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 alloc=true"),
        // loadBalancerClass: clear, change, take away, change with the type, set, don't clear
        ("4", CLASS, "class=example.com/a",                  "S4 ip=10.0.0.1"),
        ("4", CLASS, "LB alloc=false class=example.com/b",   "LB S4 ip=10.0.0.1 alloc=false class=example.com/b"),
        ("4", CLASS, "LB alloc=false",                       "LB S4 ip=10.0.0.1 alloc=false"),
        ("4", CLASS, "class=example.com/b",                  "S4 ip=10.0.0.1 class=example.com/b"),
        ("4", "S4 ip=10.0.0.1", "LB alloc=false class=example.com/a", CLASS),
        ("4", CLASS, CLASS,                                  CLASS),
        // externalTrafficPolicy, with and without external addresses
        ("4", "S4 ip=10.0.0.1 Local ext=1.1.1.1", "Local",   "S4 ip=10.0.0.1"),
        ("4", "S4 ip=10.0.0.1 Local ext=1.1.1.1", "Local ext=1.1.1.1", "S4 ip=10.0.0.1 Local ext=1.1.1.1"),
        ("4", "S4 ip=10.0.0.1 ext=1.1.1.1", "Local",         "S4 ip=10.0.0.1 Local"),
        ("4", "NodePort S4 ip=10.0.0.1 a/TCP/80/30001 Local", "Local ext=1.1.1.1", "S4 ip=10.0.0.1 Local ext=1.1.1.1 ; -30001"),
        // The status of who is no load balancer any more.
        ("4", "LB S4 ip=10.0.0.1 alloc=false lb=198.51.100.1", "lb=198.51.100.1", "S4 ip=10.0.0.1"),
        ("4", "LB S4 ip=10.0.0.1 alloc=false lb=198.51.100.1", "LB alloc=false", "LB S4 ip=10.0.0.1 alloc=false lb=198.51.100.1"),
    ]);
}

/// Kubernetes `pkg/registry/core/service/storage/storage_test.go`, `TestNormalizeClusterIPs`.
#[rustfmt::skip]
#[test]
fn one_address_and_the_list_of_them() {
    type Spec = (&'static str, &'static [&'static str]);
    const ONE: Spec = ("10.0.0.10", &["10.0.0.10"]);
    const TWO: Spec = ("10.0.0.10", &["10.0.0.10", "2000::1"]);
    const HEADLESS: Spec = ("None", &["None"]);
    let rows: &[(&str, Option<Spec>, Spec, &[&str])] = &[
        ("new, only clusterIP",       None,      ("10.0.0.10", &[]),         &["10.0.0.10"]),
        ("new, only clusterIPs",      None,      ("", &["10.0.0.10"]),       &["10.0.0.10"]),
        ("new, both",                 None,      ONE,                        &["10.0.0.10"]),
        ("no change",                 Some(ONE), ONE,                        &["10.0.0.10"]),
        ("malformed",                 Some(ONE), ("10.0.0.11", &["10.0.0.11"]), &["10.0.0.11"]),
        ("malformed second",          Some(TWO), ("10.0.0.11", &["10.0.0.11", "3000::1"]), &["10.0.0.11", "3000::1"]),
        ("upgrade",                   Some(ONE), TWO,                        TWO.1),
        ("downgrade",                 Some(TWO), ONE,                        ONE.1),
        ("clusterIP cleared",         Some(ONE), ("", ONE.1),                &[]),
        ("clusterIPs cleared",        Some(ONE), ("10.0.0.10", &[]),         ONE.1),
        ("clusterIPs of two cleared", Some(TWO), ("10.0.0.10", &[]),         TWO.1),
        ("both cleared",              Some(ONE), ("", &[]),                  &[]),
        ("one cleared, other changed", Some(ONE), ("", &["10.0.0.11"]),      &["10.0.0.11"]),
        ("other cleared, one changed", Some(TWO), ("10.0.0.11", &[]),        &[]),
        ("from None",                 Some(HEADLESS), ("10.0.0.10", &["None"]), &["10.0.0.10"]),
        ("to None",                   Some(ONE), ("None", ONE.1),            &["None"]),
        ("to None, two",              Some(TWO), ("None", TWO.1),            &["None"]),
        ("to None, a mistake",        Some(TWO), ("None", &["10.0.0.11", "2000::1"]), &["10.0.0.11", "2000::1"]),
        ("from nothing",              Some(("", &[])), ("10.0.0.10", &[]),   &["10.0.0.10"]),
        ("nothing at all",            Some(("", &[])), ("", &[]),            &[]),
    ];
    let object = |(one, all): Spec| {
        let mut service = k8s::Service::default();
        service.spec.cluster_ip = one.into();
        service.spec.cluster_ips = all.iter().map(ToString::to_string).collect();
        service
    };
    for (name, old, new, expected) in rows {
        let mut service = object(*new);
        match old {
            Some(old) => service.normalize_cluster_ips(&object(*old)),
            None => service.set_defaults(),
        }
        assert_eq!(service.spec.cluster_ips, *expected, "{name}");
        assert_eq!(service.spec.cluster_ip, new.0, "{name}: the one is not touched");
    }
}

#[test]
fn growing_and_draining_move_nobody() {
    let mut pools = pools("4");
    let first = Assignment::new(None, &service("S"), &pools, 1).expect("a plan");
    pools.commit(&first, Instant::ZERO).expect("free");
    let old_range = "10.0.0.0/24".parse().expect("a prefix");
    pools.cluster_ips.add(super::range("10.1.0.0/30"));
    assert!(pools.cluster_ips.drain(old_range));
    let again = Assignment::new(Some(&first.service), &service("S"), &pools, 2).expect("a plan");
    assert_eq!((again.service, again.takes), (first.service.clone(), vec![]));
    let mut other = service("S");
    other.name = name("third");
    let new = Assignment::new(None, &other, &pools, 3).expect("a plan");
    let fresh: BTreeSet<Claim> =
        ["10.1.0.1", "10.1.0.2"].map(|ip| Claim::ClusterIp(super::ip(ip))).into();
    assert!(new.takes.iter().all(|claim| fresh.contains(claim)), "{:?}", new.takes);
    assert!(Assignment::new(None, &service("S ip=10.0.0.1"), &pools, 4).is_err(), "drained");
}

#[test]
fn what_is_given_back_rests_for_others() {
    let mut pools = pools("4");
    pools.cluster_ips = svcplane::ipam::IpPool::new(std::time::Duration::from_secs(60));
    pools.cluster_ips.add(super::range("10.0.0.0/30"));
    pools.node_ports = svcplane::ipam::PortPool::new(std::time::Duration::from_secs(30));
    pools.node_ports.add("30000".parse().expect("a port"));
    let web = service("NodePort S ip=10.0.0.1 a/TCP/80/30000");
    let assigned = Assignment::new(None, &web, &pools, 1).expect("a plan");
    pools.commit(&assigned, Instant::ZERO).expect("free");
    pools
        .commit(&Assignment::release(&assigned.service, &pools), Instant::from_secs(1))
        .expect("held");
    assert_eq!(pools.next_expiry(), Some(Instant::from_secs(31)));

    let mut other = web.clone();
    other.name = name("third");
    let errors = Assignment::new(None, &other, &pools, 1).expect_err("it rests");
    let details: Vec<&str> = errors.iter().map(svcplane::field::FieldError::detail).collect();
    let expected =
        ["10.0.0.1 was given back by ns/web and rests", "30000 was given back by ns/web and rests"];
    assert_eq!(details, expected);
    assert!(Assignment::new(None, &web, &pools, 1).is_ok(), "its own");
    pools.sweep(Instant::from_secs(31));
    assert_eq!(pools.next_expiry(), Some(Instant::from_secs(61)));
    assert_eq!(Assignment::new(None, &other, &pools, 1).expect_err("one rests").len(), 1);
    pools.sweep(Instant::from_secs(61));
    assert_eq!(pools.next_expiry(), None);
    let assigned = Assignment::new(None, &other, &pools, 1).expect("a plan");
    assert_eq!(pools.commit(&assigned, Instant::from_secs(61)), Ok(()));
}
