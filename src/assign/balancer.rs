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
        let pools = self.pools;
        let Some(pool) = &pools.load_balancer_ips else {
            if let Some(ip) = wish {
                self.warnings.ignored(&path, &ip, "there is no pool of load balancer addresses");
            }
            return;
        };
        // Those that it was given, of families that it still has; a pool that was made anew may not know of them.
        let given = service.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip);
        let before = self.old.iter().flat_map(|old| &old.load_balancer.ingress);
        let before: Vec<IpAddr> = before.filter_map(|ingress| ingress.ip).collect();
        let own = |ip: &IpAddr| match pool.owner(*ip) {
            Some(owner) => *owner == service.name,
            None => before.contains(ip) && pool.check(*ip, &service.name).is_ok(),
        };
        let has = |ip: &IpAddr| service.ip_families.contains(&IpFamily::of(*ip));
        let mut have: Vec<IpAddr> = given.filter(has).filter(own).collect();
        if let Some(ip) = wish.filter(|ip| !have.contains(ip)) {
            let wanted = service.ip_families.contains(&IpFamily::of(ip));
            let refused = match pool.check(ip, &service.name) {
                Ok(()) if wanted => None,
                Ok(()) => Some(alloc::format!("the Service has no {}", IpFamily::of(ip))),
                Err(error) => Some(why(&super::CommitError::LoadBalancerIp(error))),
            };
            match refused {
                None => {
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
            if let Some(ip) = pool.propose(self.next_seed(), &[], of_family) {
                have.push(ip);
            } else {
                let status = Path::root("status");
                let detail = alloc::format!("no {family} address is free");
                self.warnings.unavailable(&status.field("loadBalancer"), &detail);
            }
        }
        have.sort_by_key(|ip| {
            service.ip_families.iter().position(|family| *family == IpFamily::of(*ip))
        });
        let new = have.iter().filter(|ip| pool.owner(**ip).is_none());
        self.takes.extend(new.map(|ip| Claim::LoadBalancerIp(*ip)));
        let ingress = |ip: IpAddr| Ingress { ip: Some(ip), ..Ingress::default() };
        service.load_balancer.ingress = have.into_iter().map(ingress).collect();
    }
}
