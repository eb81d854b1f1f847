//! Which cluster IPs, node ports and load balancer addresses a Service gets or gives back.
//!
//! ```
//! use std::time::Duration;
//! use svcplane::assign::{Assignment, Claim, Pools};
//! use svcplane::ipam::IpRange;
//! use svcplane::name::ObjectName;
//! use svcplane::net::IpFamily;
//! use svcplane::service::{Service, ServiceKind, ServicePort};
//! use svcplane::time::Instant;
//!
//! let mut pools = Pools::new(&[IpFamily::V4], Duration::ZERO);
//! pools.cluster_ips.add(IpRange::new("10.96.0.0/16".parse()?, 7)?);
//! pools.node_ports.add("30000-32767".parse()?);
//!
//! let mut service = Service::new(ObjectName::new("default", "web")?);
//! service.kind = ServiceKind::NodePort;
//! service.ports = vec![ServicePort::new(80)];
//!
//! // A plan, made from values: nothing is taken yet.
//! let assignment = Assignment::new(None, &service, &pools, 42).map_err(|errors| format!("{errors:?}"))?;
//! assert!(matches!(assignment.takes[..], [Claim::ClusterIp(_), Claim::NodePort(_)]));
//! assert!(assignment.service.ports[0].node_port.is_some());
//!
//! // All of it, or nothing if somebody was faster.
//! pools.commit(&assignment, Instant::ZERO)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Between plan and commit lies what makes several replicas safe: each writes the claims of its plan to the store that they
//! share, every key under the condition that it is not there ([`Claim`] prints as a key), in one transaction. Who
//! succeeds commits; who does not [learns](Pools::learn) whose the claim is and plans again, with another seed. What a
//! replica gives back rests in its own pools only: how long the store is to keep the key is the caller's business.
//!
//! Source: Kubernetes `pkg/registry/core/service/storage/alloc.go`, `strategy.go`. O(ports² + log n), at any fill of the
//! pools.

mod balancer;
mod families;
mod inherit;
mod ports;
mod repair;

pub use repair::{Finding, Repair};

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use thiserror::Error;

use crate::field::{FieldError, Path, Report};
use crate::ipam::{IpPool, PoolError, PortPool};
use crate::name::ObjectName;
use crate::net::IpFamily;
use crate::service::{ClusterIps, Service, ServiceKind};
use crate::time::Instant;

/// What there is to give, and who has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pools {
    /// The families that the cluster has, the default one first.
    pub families: Vec<IpFamily>,
    /// Addresses for Services.
    pub cluster_ips: IpPool<ObjectName>,
    /// Node ports, those of health checks among them. One number serves all protocols, for one Service.
    pub node_ports: PortPool<ObjectName>,
    /// Addresses for load balancers; `None` if others give them out. Defaults to `None`.
    pub load_balancer_ips: Option<IpPool<ObjectName>>,
    /// Whose load balancers get them, by `spec.loadBalancerClass`. Defaults to those of no class.
    pub load_balancer_class: Option<Box<str>>,
}

impl Pools {
    /// Pools without ranges. What is given back rests for `rest` before another Service can have it.
    pub fn new(families: &[IpFamily], rest: Duration) -> Self {
        let mut distinct = Vec::new();
        for &family in families {
            if !distinct.contains(&family) {
                distinct.push(family);
            }
        }
        Self {
            families: distinct,
            cluster_ips: IpPool::new(rest),
            node_ports: PortPool::new(rest),
            load_balancer_ips: None,
            load_balancer_class: None,
        }
    }

    /// Takes and gives back what an assignment says: everything, or nothing if something that it takes is not free any
    /// more. Committing again at once changes nothing; later, the Service may have got again what it gave back.
    ///
    /// # Errors
    ///
    /// The first claim that cannot be met.
    pub fn commit(&mut self, assignment: &Assignment, now: Instant) -> Result<(), CommitError> {
        let owner = &assignment.service.name;
        self.sweep(now);
        for claim in &assignment.takes {
            self.check(*claim, owner)?;
        }
        for claim in &assignment.takes {
            self.learn(*claim, owner.clone());
        }
        for claim in &assignment.gives_back {
            self.release(*claim, owner, now);
        }
        Ok(())
    }

    /// Gives one thing to a Service; nothing changes if it has it already.
    ///
    /// # Errors
    ///
    /// No range holds it, another Service has it, or it rests after another Service had it.
    pub fn allocate(
        &mut self,
        claim: Claim,
        owner: &ObjectName,
        now: Instant,
    ) -> Result<(), CommitError> {
        self.sweep(now);
        self.check(claim, owner)?;
        self.learn(claim, owner.clone());
        Ok(())
    }

    /// Notes that a Service has something, whatever the pools say: it was found in a store, or another replica gave
    /// it. Who had it before.
    pub fn learn(&mut self, claim: Claim, owner: ObjectName) -> Option<ObjectName> {
        match claim {
            Claim::ClusterIp(ip) => self.cluster_ips.learn(ip, owner),
            Claim::NodePort(port) => self.node_ports.learn(port, owner),
            Claim::LoadBalancerIp(ip) => self.load_balancer_ips.as_mut()?.learn(ip, owner),
        }
    }

    /// Takes something back from a Service, to rest. False, and nothing done, if the Service does not have it.
    pub fn release(&mut self, claim: Claim, owner: &ObjectName, now: Instant) -> bool {
        match claim {
            Claim::ClusterIp(ip) => self.cluster_ips.release(ip, owner, now),
            Claim::NodePort(port) => self.node_ports.release(port, owner, now),
            Claim::LoadBalancerIp(ip) => {
                let pool = self.load_balancer_ips.as_mut();
                pool.is_some_and(|pool| pool.release(ip, owner, now))
            }
        }
    }

    /// Who has something.
    pub fn owner(&self, claim: Claim) -> Option<&ObjectName> {
        match claim {
            Claim::ClusterIp(ip) => self.cluster_ips.owner(ip),
            Claim::NodePort(port) => self.node_ports.owner(port),
            Claim::LoadBalancerIp(ip) => self.load_balancer_ips.as_ref()?.owner(ip),
        }
    }

    /// Makes free what has rested long enough.
    pub fn sweep(&mut self, now: Instant) {
        self.cluster_ips.sweep(now);
        self.node_ports.sweep(now);
        if let Some(pool) = &mut self.load_balancer_ips {
            pool.sweep(now);
        }
    }

    /// When there is something to sweep again.
    pub fn next_expiry(&self) -> Option<Instant> {
        let balancer = self.load_balancer_ips.as_ref().and_then(IpPool::next_expiry);
        let others = [self.cluster_ips.next_expiry(), self.node_ports.next_expiry()];
        others.into_iter().chain([balancer]).flatten().min()
    }

    fn check(&self, claim: Claim, owner: &ObjectName) -> Result<(), CommitError> {
        match claim {
            Claim::ClusterIp(ip) => {
                self.cluster_ips.check(ip, owner).map_err(CommitError::ClusterIp)
            }
            Claim::NodePort(port) => {
                self.node_ports.check(port, owner).map_err(CommitError::NodePort)
            }
            Claim::LoadBalancerIp(ip) => {
                let none = || Err(PoolError::NotInRange { item: ip, ranges: "none".into() });
                let pool = self.load_balancer_ips.as_ref();
                pool.map_or_else(none, |pool| pool.check(ip, owner))
                    .map_err(CommitError::LoadBalancerIp)
            }
        }
    }
}

/// Something that only one Service can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Claim {
    /// An address of the Service.
    ClusterIp(IpAddr),
    /// A port on the nodes, in all protocols.
    NodePort(u16),
    /// An address of its load balancer.
    LoadBalancerIp(IpAddr),
}

impl Claim {
    /// The address or port as text.
    fn value(self) -> String {
        match self {
            Self::ClusterIp(ip) | Self::LoadBalancerIp(ip) => ip.to_string(),
            Self::NodePort(port) => port.to_string(),
        }
    }
}

impl fmt::Display for Claim {
    /// `cluster-ip/10.96.0.10`, `node-port/30080`, `load-balancer-ip/192.0.2.1`: one claim, one text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp(ip) => write!(f, "cluster-ip/{ip}"),
            Self::NodePort(port) => write!(f, "node-port/{port}"),
            Self::LoadBalancerIp(ip) => write!(f, "load-balancer-ip/{ip}"),
        }
    }
}

/// A claim of an assignment that cannot be met any more: make another assignment.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A cluster IP.
    #[error("cluster IP {0}")]
    ClusterIp(PoolError<IpAddr, ObjectName>),
    /// A node port.
    #[error("node port {0}")]
    NodePort(PoolError<u16, ObjectName>),
    /// A load balancer's address.
    #[error("load balancer IP {0}")]
    LoadBalancerIp(PoolError<IpAddr, ObjectName>),
}

/// What a Service takes and gives back, and what it is then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assignment {
    /// The Service, with everything filled in that was left open: families and their policy, addresses, ports, the load
    /// balancer's addresses.
    pub service: Service,
    /// What it did not have before.
    pub takes: Vec<Claim>,
    /// What it does not have any more.
    pub gives_back: Vec<Claim>,
    /// Wishes that were not followed.
    pub warnings: Vec<FieldError>,
}

impl Assignment {
    /// Plans for a new Service, or for one that takes the place of `old`. The pools are taken as they are
    /// ([swept](Pools::sweep) or not), and `seed` is what random starts are made from: the same arguments give the same plan.
    ///
    /// A new Service is to be [validated](crate::k8s::Service::validate) before. An update is to be
    /// [validated](crate::k8s::Service::validate_update) after, as the plan's `service`: what it leaves out is filled in here.
    ///
    /// **Families.** Without a policy the Service keeps its old one; a headless Service without selector is
    /// `RequireDualStack`, any other `SingleStack`. Families that are not stated follow from the addresses, then from the
    /// cluster's default; `PreferDualStack` and `RequireDualStack` add the second family where the cluster has it. A headless
    /// Service without selector has the families that it wants, whatever the cluster has.
    ///
    /// **Cluster IPs.** One for each family: the one that is stated, or the next free one. Headless Services and external names
    /// have none.
    ///
    /// **Node ports** are for NodePort and LoadBalancer Services (of the latter with `allocateLoadBalancerNodePorts: false`, only those
    /// that are stated). When a Service is created, its ports of one number share a node port across protocols; later each gets
    /// its own. A LoadBalancer with `externalTrafficPolicy: Local` has one for health checks.
    ///
    /// **Updates.** What the new Service leaves out and still needs stays as it was: addresses, node ports by the port's name. What it does not
    /// need any more and does not change is taken out of it. To `SingleStack`, the second address goes.
    ///
    /// **Load balancers**, if there is a pool: an address for each family that the pool has, the wish of
    /// `spec.loadBalancerIP` if it can be had. What cannot be had is a warning, for there can be a Service without.
    ///
    /// # Errors
    ///
    /// Everything that stands in the way, by field.
    pub fn new(
        old: Option<&Service>,
        new: &Service,
        pools: &Pools,
        seed: u64,
    ) -> Result<Self, Vec<FieldError>> {
        let mut service = new.clone();
        if let Some(old) = old {
            inherit::fill(old, &mut service);
            inherit::clear(old, &mut service);
        }
        let mut draft = Draft {
            old,
            pools,
            seed,
            report: Report::default(),
            warnings: Report::default(),
            had: old.map(|old| claims(old).collect()).unwrap_or_default(),
            takes: Vec::new(),
        };
        draft.families(&mut service);
        if draft.report.is_empty() {
            // Otherwise there would be mistakes that follow from those before.
            draft.cluster_ips(&mut service);
        }
        draft.node_ports(&mut service);
        draft.balancer(&mut service);
        let Draft { report, warnings, takes, .. } = draft;
        let errors = report.into_errors();
        if !errors.is_empty() {
            return Err(errors);
        }
        let keeps = held(&service, pools);
        let had = old.map(|old| held(old, pools)).unwrap_or_default();
        let gives_back =
            had.into_iter().filter(|claim| keeps.binary_search(claim).is_err()).collect();
        Ok(Self { service, takes, gives_back, warnings: warnings.into_errors() })
    }

    /// Plans for a Service that goes away.
    pub fn release(service: &Service, pools: &Pools) -> Self {
        Self {
            service: service.clone(),
            takes: Vec::new(),
            gives_back: held(service, pools),
            warnings: Vec::new(),
        }
    }
}

/// What a Service says that it has, sorted.
fn held(service: &Service, pools: &Pools) -> Vec<Claim> {
    let mut held: Vec<Claim> = claims(service).collect();
    if let Some(pool) = &pools.load_balancer_ips {
        // Others may have written addresses of theirs into the status.
        let ips = service.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip);
        let own = ips.filter(|&ip| pool.owner(ip) == Some(&service.name) || pool.contains(ip));
        held.extend(own.map(Claim::LoadBalancerIp));
    }
    held.sort_unstable();
    held.dedup();
    held
}

/// The cluster IPs and node ports that a Service states or was given.
pub fn claims(service: &Service) -> impl Iterator<Item = Claim> {
    let external = matches!(service.kind, ServiceKind::ExternalName(_));
    let ips = service.cluster_ips.as_slice().iter().filter(move |_| !external);
    let ports = service.ports.iter().filter_map(|port| port.node_port);
    let ports = ports.chain(service.health_check_node_port);
    ips.copied().map(Claim::ClusterIp).chain(ports.map(Claim::NodePort))
}

/// An assignment in the making.
struct Draft<'a> {
    old: Option<&'a Service>,
    pools: &'a Pools,
    seed: u64,
    report: Report,
    warnings: Report,
    /// What the Service had before.
    had: BTreeSet<Claim>,
    takes: Vec<Claim>,
}

impl Draft<'_> {
    /// Another seed for each thing that is drawn.
    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.seed
    }

    /// Takes what the Service states, unless it has it. An error is a mistake in the Service.
    fn take(&mut self, claim: Claim, service: &Service, path: &Path<'_>) {
        if self.takes.contains(&claim) {
            return;
        }
        if self.had.contains(&claim) {
            // It is not for an update to lose what the Service has, even if there is something wrong with it.
            if let Some(other) = self.pools.owner(claim).filter(|owner| **owner != service.name) {
                let detail = alloc::format!("it is allocated to {other} as well");
                self.warnings.ignored(path, &claim.value(), &detail);
            }
            return;
        }
        match self.pools.check(claim, &service.name) {
            Ok(()) => self.takes.push(claim),
            Err(error) => {
                self.report.invalid(path, &claim.value(), &why(&error));
            }
        }
    }

    fn cluster_ips(&mut self, service: &mut Service) {
        let external = matches!(service.kind, ServiceKind::ExternalName(_));
        if external || service.is_headless() {
            return;
        }
        let root = Path::root("spec");
        let path = root.field("clusterIPs");
        let mut ips = Vec::new();
        for (i, &family) in service.ip_families.iter().enumerate() {
            if let Some(&ip) = service.cluster_ips.as_slice().get(i) {
                self.take(Claim::ClusterIp(ip), service, &path.index(i));
                ips.push(ip);
                continue;
            }
            let seed = self.next_seed();
            let of_family =
                |range: &crate::ipam::IpRange| IpFamily::of(range.net().addr()) == family;
            if let Some(ip) = self.pools.cluster_ips.propose(seed, &ips, of_family) {
                self.takes.push(Claim::ClusterIp(ip));
                ips.push(ip);
            } else {
                let detail = alloc::format!("no {family} address is free");
                self.report.unavailable(&path.index(i), &detail);
            }
        }
        if !ips.is_empty() {
            service.cluster_ips = ClusterIps::Assigned(ips);
        }
    }
}

fn why(error: &CommitError) -> String {
    match error {
        CommitError::ClusterIp(error) | CommitError::LoadBalancerIp(error) => {
            alloc::format!("{error}")
        }
        CommitError::NodePort(error) => alloc::format!("{error}"),
    }
}
