//! Where what Services claim and what is allocated differ.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use super::{Claim, Pools, held};
use crate::ipam::IpPool;
use crate::name::ObjectName;
use crate::net::{IpFamily, Protocol};
use crate::service::Service;
use crate::time::Instant;

/// How many runs in a row find a leak before it is given back.
const STRIKES: u8 = 3;

/// Compares Services with pools, again and again: a store and a cache of it differ for a moment without anything being
/// wrong, so something that nobody seems to claim is given back only when three runs in a row have found it so.
///
/// ```
/// use std::time::Duration;
/// use svcplane::assign::{Claim, Finding, Pools, Repair};
/// use svcplane::name::ObjectName;
/// use svcplane::net::IpFamily;
/// use svcplane::time::Instant;
///
/// let mut pools = Pools::new(&[IpFamily::V4], Duration::ZERO);
/// pools.node_ports.add("30000-32767".parse()?);
/// pools.learn(Claim::NodePort(30_080), ObjectName::new("default", "gone")?);
///
/// let mut repair = Repair::default();
/// for remaining in [2, 1, 0] {
///     let findings = repair.run([], &pools);
///     assert!(matches!(&findings[..], [Finding::Leaked { remaining: found, .. }] if *found == remaining));
///     pools.repair(&findings, Instant::ZERO);
/// }
/// assert_eq!(pools.owner(Claim::NodePort(30_080)), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The Services have to be as new as the pools: of a list that is older, what was given meanwhile looks leaked.
///
/// `DIFFERENCE`: the three strikes stand for the 60 s after which Kubernetes deletes an `IPAddress` whose Service is missing.
///
/// Source: Kubernetes `ipallocator/controller/{repair,repairip}.go`, `portallocator/controller/repair.go`.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    /// The runs that each leak has left.
    leaks: BTreeMap<(Claim, ObjectName), u8>,
}

/// A difference. Nothing of it ever changes a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Finding {
    /// A Service claims what nobody has: it is to have it.
    Unallocated {
        /// What it claims.
        claim: Claim,
        /// The Service.
        service: ObjectName,
    },
    /// A Service claims what is allocated to one that does not claim it: it is to have it.
    ForeignOwned {
        /// What it claims.
        claim: Claim,
        /// The Service.
        service: ObjectName,
        /// Who has it.
        owner: ObjectName,
    },
    /// Two Services claim the same, or one does twice. Only a user can mend it.
    Duplicate {
        /// What they claim.
        claim: Claim,
        /// Who claims it in vain.
        service: ObjectName,
        /// Who has it.
        owner: ObjectName,
    },
    /// A Service claims what no range holds. Only a user can mend it.
    OutOfRange {
        /// What it claims.
        claim: Claim,
        /// The Service.
        service: ObjectName,
    },
    /// A Service has an address of a family that it does not state. Only a user can mend it.
    WrongFamily {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ObjectName,
    },
    /// Something is allocated that its owner does not claim.
    Leaked {
        /// What is allocated.
        claim: Claim,
        /// Who has it.
        owner: ObjectName,
        /// After how many more runs it is given back; at 0 it is.
        remaining: u8,
    },
}

impl Repair {
    /// Compares. Findings are sorted; [`Pools::repair`] acts on them. Of several Services that claim what nobody has, the oldest
    /// is to have it.
    pub fn run<'a, I>(&mut self, services: I, pools: &Pools) -> Vec<Finding>
    where
        I: IntoIterator<Item = &'a Service>,
    {
        let mut services: Vec<&Service> = services.into_iter().collect();
        services.sort_by_key(|service| (service.created.is_none(), service.created, &service.name));
        let claimed: BTreeSet<(Claim, &ObjectName)> = services
            .iter()
            .flat_map(|service| {
                held(service, pools).into_iter().map(|claim| (claim, &service.name))
            })
            .collect();
        let mut findings = Vec::new();
        let mut given: BTreeMap<Claim, &ObjectName> = BTreeMap::new();
        for service in &services {
            let name = &service.name;
            for claim in stated(service, pools) {
                let service = name.clone();
                let owner = given.get(&claim).copied().or_else(|| {
                    // Whoever has it and claims it, keeps it.
                    pools
                        .owner(claim)
                        .filter(|owner| *owner != name && claimed.contains(&(claim, owner)))
                });
                if let Some(owner) = owner {
                    findings.push(Finding::Duplicate { claim, service, owner: owner.clone() });
                    continue;
                }
                if !holds(pools, claim) {
                    findings.push(Finding::OutOfRange { claim, service });
                    continue;
                }
                given.insert(claim, name);
                match pools.owner(claim) {
                    None => findings.push(Finding::Unallocated { claim, service }),
                    Some(owner) if owner == name => {}
                    Some(owner) => {
                        findings.push(Finding::ForeignOwned {
                            claim,
                            service,
                            owner: owner.clone(),
                        });
                    }
                }
            }
            let families = &service.ip_families;
            let odd =
                |ip: &&IpAddr| !families.is_empty() && !families.contains(&IpFamily::of(**ip));
            let odd = service.cluster_ips.as_slice().iter().filter(odd);
            findings.extend(odd.map(|&ip| Finding::WrongFamily { ip, service: name.clone() }));
        }
        let mut leaks = BTreeMap::new();
        for (claim, owner) in allocated(pools) {
            if given.contains_key(&claim) || claimed.contains(&(claim, owner)) {
                continue;
            }
            let key = (claim, owner.clone());
            let remaining = self.leaks.get(&key).copied().unwrap_or(STRIKES).saturating_sub(1);
            findings.push(Finding::Leaked { claim, owner: owner.clone(), remaining });
            leaks.insert(key, remaining);
        }
        self.leaks = leaks;
        findings.sort_unstable();
        findings
    }
}

impl Pools {
    /// Does what findings ask for: gives Services what they claim, takes back what has leaked for long enough. How many findings
    /// that were; the others are for the user to read.
    pub fn repair(&mut self, findings: &[Finding], now: Instant) -> usize {
        let mut done = 0;
        for finding in findings {
            done += usize::from(match finding {
                Finding::Unallocated { claim, service } => {
                    self.owner(*claim).is_none() && {
                        self.learn(*claim, service.clone());
                        true
                    }
                }
                Finding::ForeignOwned { claim, service, owner } => {
                    self.owner(*claim) == Some(owner) && {
                        self.learn(*claim, service.clone());
                        true
                    }
                }
                Finding::Leaked { claim, owner, remaining: 0 } => self.release(*claim, owner, now),
                _ => false,
            });
        }
        done
    }
}

/// What a Service claims, as often as it does. A number in several protocols is one claim, but twice in one protocol
/// it is two; the health checks' number is TCP.
fn stated(service: &Service, pools: &Pools) -> Vec<Claim> {
    let mut stated: Vec<Claim> = held(service, pools);
    let mut numbers: BTreeMap<u16, BTreeSet<Protocol>> = BTreeMap::new();
    for port in &service.ports {
        let Some(number) = port.node_port else { continue };
        if !numbers.entry(number).or_default().insert(port.protocol) {
            stated.push(Claim::NodePort(number));
        }
    }
    let check = service.health_check_node_port;
    if let Some(number) =
        check.filter(|n| numbers.get(n).is_some_and(|p| p.contains(&Protocol::Tcp)))
    {
        stated.push(Claim::NodePort(number));
    }
    stated
}

fn holds(pools: &Pools, claim: Claim) -> bool {
    match claim {
        Claim::ClusterIp(ip) => pools.cluster_ips.contains(ip),
        Claim::NodePort(port) => pools.node_ports.contains(port),
        Claim::LoadBalancerIp(ip) => {
            pools.load_balancer_ips.as_ref().is_some_and(|pool| pool.contains(ip))
        }
    }
}

fn allocated(pools: &Pools) -> impl Iterator<Item = (Claim, &ObjectName)> {
    let ips = pools.cluster_ips.iter().map(|(ip, owner)| (Claim::ClusterIp(ip), owner));
    let ports = pools.node_ports.iter().map(|(port, owner)| (Claim::NodePort(port), owner));
    let balancer = pools.load_balancer_ips.iter().flat_map(IpPool::iter);
    let balancer = balancer.map(|(ip, owner)| (Claim::LoadBalancerIp(ip), owner));
    ips.chain(ports).chain(balancer)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unallocated { claim, service } => {
                write!(f, "{claim} of {service} is not allocated")
            }
            Self::ForeignOwned { claim, service, owner } => {
                write!(f, "{claim} of {service} is allocated to {owner}, which does not claim it")
            }
            Self::Duplicate { claim, service, owner } => {
                write!(f, "{claim} of {service} belongs to {owner}: give {service} another")
            }
            Self::OutOfRange { claim, service } => {
                write!(f, "{claim} of {service} is in no range: give {service} another")
            }
            Self::WrongFamily { ip, service } => {
                write!(
                    f,
                    "cluster-ip/{ip} of {service} is of a family that {service} does not have"
                )
            }
            Self::Leaked { claim, owner, remaining } => {
                write!(f, "{claim} is allocated to {owner}, which does not claim it; ")?;
                match remaining {
                    0 => f.write_str("it is given back"),
                    _ => write!(f, "it is given back after {remaining} more runs"),
                }
            }
        }
    }
}
