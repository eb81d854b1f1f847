//! Any bytes as Services that are created, updated and deleted: what the pools say is at all times the sum of what the stored Services say,
//! nothing is given twice, an assignment is settled.

#![no_main]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use svcplane::assign::{Assignment, Claim, Pools, claims};
use svcplane::ipam::{IpPool, IpRange};
use svcplane::k8s;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::service::Service;
use svcplane::time::Instant;

use crate::bytes::Bytes;

#[path = "../bytes.rs"]
mod bytes;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(&bytes[..bytes.len().min(400)]);
    let (mut pools, mut now) = (pools(bytes.byte()), Instant::ZERO);
    let mut stored: BTreeMap<ObjectName, Service> = BTreeMap::new();
    while let Some(kind) = bytes.next() {
        let name = format!("ns/s{}", kind >> 5).parse().expect("a name");
        match kind % 8 {
            0 => now += Duration::from_secs(3),
            1 => {
                if let Some(service) = stored.remove(&name) {
                    let assignment = Assignment::release(&service, &pools);
                    assert_eq!(pools.commit(&assignment, now), Ok(()));
                }
            }
            _ => {
                let new = mirror(&name, &mut bytes);
                let (old, seed) = (stored.get(&name), bytes.byte().into());
                if old.is_none() && !new.validate().is_empty() {
                    continue;
                }
                let new = new.convert().expect("a legal name").object;
                pools.sweep(now);
                let Ok(assignment) = Assignment::new(old, &new, &pools, seed) else { continue };
                let right = old.is_none_or(|old| {
                    let new = k8s::Service::from(&assignment.service);
                    new.validate_update(&k8s::Service::from(old)).is_empty()
                });
                if !right {
                    continue;
                }
                assert_eq!(pools.commit(&assignment, now), Ok(()));
                let service = assignment.service;
                let again = Assignment::new(Some(&service), &service, &pools, seed ^ 1);
                let again = again.expect("what is stored is right");
                assert_eq!(again.service.cluster_ips, service.cluster_ips);
                assert_eq!(again.service.ports, service.ports);
                assert_eq!(again.gives_back, []);
                stored.insert(name, service);
            }
        }
        assert_eq!(given(&pools), claimed(&pools, stored.values()));
    }
    for service in std::mem::take(&mut stored).into_values() {
        let assignment = Assignment::release(&service, &pools);
        assert_eq!(pools.commit(&assignment, now), Ok(()));
    }
    assert_eq!(given(&pools), BTreeMap::new());
    pools.sweep(now + Duration::from_secs(8));
    assert_eq!(pools.next_expiry(), None);
});

/// So little that it is often full.
fn pools(kind: u8) -> Pools {
    let rest = Duration::from_secs(u64::from(kind) % 8);
    let range = |net: &str| IpRange::new(net.parse().expect("a prefix"), 7).expect("few addresses");
    let families = match kind >> 6 {
        0 => &[IpFamily::V4, IpFamily::V6][..],
        1 => &[IpFamily::V6, IpFamily::V4],
        2 => &[IpFamily::V4],
        _ => &[IpFamily::V6],
    };
    let mut pools = Pools::new(families, rest);
    for net in ["10.0.0.0/30", "10.0.1.0/29", "2000::/126"] {
        pools.cluster_ips.add(range(net));
    }
    pools.node_ports.add("30000-30007".parse().expect("ports"));
    if kind & 8 > 0 {
        let mut balancer = IpPool::new(rest);
        balancer.add(range("192.0.2.0/30"));
        pools.load_balancer_ips = Some(balancer);
    }
    pools
}

fn mirror(name: &ObjectName, bytes: &mut Bytes<'_>) -> k8s::Service {
    let policies = [None, Some("SingleStack"), Some("PreferDualStack"), Some("RequireDualStack")];
    let families: [&[&str]; 4] = [&[], &["IPv4"], &["IPv6", "IPv4"], &["IPv4", "IPv6"]];
    let ips: [&[&str]; 8] = [
        &[],
        &[],
        &[],
        &["None"],
        &["10.0.0.1"],
        &["10.0.1.2", "2000::1"],
        &["2000::2"],
        &["10.9.9.9"],
    ];
    let ips = bytes.one(&ips);
    let ports: Vec<_> = (0..bytes.byte() % 4)
        .map(|_| {
            let (name, protocol) = (bytes.one(&["a", "b", "c"]), bytes.one(&["TCP", "UDP"]));
            let (port, node) = (53 + bytes.byte() % 2, bytes.one(&[0, 0, 30_001, 30_002, 31_000]));
            json!({"name": name, "protocol": protocol, "port": port, "nodePort": node})
        })
        .collect();
    let bits = bytes.byte();
    let mirror = json!({
        "metadata": {"namespace": name.namespace(), "name": name.name()},
        "spec": {
            "type": bytes.one(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
            "externalName": "example.com",
            "selector": (bits & 1 == 0).then(|| json!({"app": "a"})),
            "clusterIP": ips.first(),
            "clusterIPs": ips,
            "ipFamilies": bytes.one(&families),
            "ipFamilyPolicy": bytes.one(&policies),
            "externalTrafficPolicy": (bits & 2 > 0).then_some("Local"),
            "allocateLoadBalancerNodePorts": (bits & 4 > 0).then_some(bits & 8 > 0),
            "healthCheckNodePort": if bits & 16 > 0 { 30_003 } else { 0 },
            "loadBalancerIP": (bits & 32 > 0).then_some("192.0.2.1"),
            "loadBalancerClass": (bits & 64 > 0).then_some("example.com/a"),
            "ports": ports,
        },
    });
    let mut mirror: k8s::Service = serde_json::from_value(mirror).expect("of the right types");
    mirror.set_defaults();
    mirror
}

fn given(pools: &Pools) -> BTreeMap<Claim, ObjectName> {
    let ips = pools.cluster_ips.iter().map(|(ip, of)| (Claim::ClusterIp(ip), of));
    let ports = pools.node_ports.iter().map(|(port, of)| (Claim::NodePort(port), of));
    let balancer = pools.load_balancer_ips.iter().flat_map(IpPool::iter);
    let balancer = balancer.map(|(ip, of)| (Claim::LoadBalancerIp(ip), of));
    ips.chain(ports).chain(balancer).map(|(claim, of)| (claim, of.clone())).collect()
}

/// What Services say that they have; nobody has what another has.
fn claimed<'a>(
    pools: &Pools,
    services: impl Iterator<Item = &'a Service>,
) -> BTreeMap<Claim, ObjectName> {
    let mut claimed = BTreeMap::new();
    for service in services {
        let ours = |ip: &IpAddr| pools.owner(Claim::LoadBalancerIp(*ip)) == Some(&service.name);
        let ingress = service.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip);
        let balancers = ingress.filter(ours).map(Claim::LoadBalancerIp);
        let all: std::collections::BTreeSet<Claim> = claims(service).chain(balancers).collect();
        for claim in all {
            let other = claimed.insert(claim, service.name.clone());
            assert_eq!(other, None, "{claim} has two owners");
        }
    }
    claimed
}
