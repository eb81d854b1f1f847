//! Addresses of load balancers.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Claim, Draft, why};
use crate::field::Path;
use crate::ipam::IpRange;
use crate::net::IpFamily;
use crate::service::{Ingress, Service, ServiceKind};

impl Draft<'_> {
    /// One address for each family that the pool has; the Service keeps those that it has got.
    pub(super) fn balancer(&mut self, service: &mut Service) {
        let root = Path::root("spec");
        let path = root.field("loadBalancerIP");
        let wish = service.load_balancer.requested_ip;
        let ours = service.load_balancer.class == self.pools.load_balancer_class;
        if service.kind != ServiceKind::LoadBalancer || !ours {
            return;
        }
        let Some(pool) = &self.pools.load_balancer_ips else {
            if let Some(ip) = wish {
                self.warnings.ignored(&path, &ip, "there is no pool of load balancer addresses");
            }
            return;
        };
        let stated = service.load_balancer.ingress.iter();
        let own = |ip: &IpAddr| pool.owner(*ip) == Some(&service.name);
        let mut have: Vec<IpAddr> = stated.filter_map(|ingress| ingress.ip).filter(own).collect();
        if let Some(ip) = wish.filter(|ip| !have.contains(ip)) {
            let wanted = service.ip_families.contains(&IpFamily::of(ip));
            let refused = match pool.check(ip, &service.name) {
                Ok(()) if wanted => None,
                Ok(()) => Some(alloc::format!("the Service has no {}", IpFamily::of(ip))),
                Err(error) => Some(why(&super::CommitError::LoadBalancerIp(error))),
            };
            match refused {
                None => {
                    self.takes.push(Claim::LoadBalancerIp(ip));
                    have.retain(|other| IpFamily::of(*other) != IpFamily::of(ip));
                    have.push(ip);
                }
                Some(why) => self.warnings.ignored(&path, &ip, &why),
            }
        }
        for &family in &service.ip_families {
            if have.iter().any(|ip| IpFamily::of(*ip) == family) {
                continue;
            }
            let of_family = |range: &IpRange| IpFamily::of(range.net().addr()) == family;
            if !pool.in_use().any(of_family) {
                continue;
            }
            let pool = self.pools.load_balancer_ips.as_ref();
            let seed = self.next_seed();
            match pool.and_then(|pool| pool.propose(seed, &[], of_family)) {
                Some(ip) => {
                    self.takes.push(Claim::LoadBalancerIp(ip));
                    have.push(ip);
                }
                None => {
                    let status = Path::root("status");
                    let detail = alloc::format!("no {family} address is free");
                    self.warnings.unavailable(&status.field("loadBalancer"), &detail);
                }
            }
        }
        have.sort_by_key(|ip| {
            service.ip_families.iter().position(|family| *family == IpFamily::of(*ip))
        });
        let ingress = |ip: IpAddr| Ingress { ip: Some(ip), ..Ingress::default() };
        service.load_balancer.ingress = have.into_iter().map(ingress).collect();
    }
}
