//! Which address families a Service has, and under which policy.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::Draft;
use crate::field::Path;
use crate::net::IpFamily;
use crate::service::{ClusterIps, IpFamilyPolicy, Service, ServiceKind};

impl Draft<'_> {
    pub(super) fn families(&mut self, service: &mut Service) {
        if matches!(service.kind, ServiceKind::ExternalName(_)) || self.is_left_alone(service) {
            return;
        }
        let root = Path::root("spec");
        let detached = service.is_headless() && service.selector.is_empty();
        let before = self.before().and_then(|old| old.ip_family_policy);
        let policy = service.ip_family_policy.or(before).unwrap_or(if detached {
            IpFamilyPolicy::RequireDualStack
        } else {
            IpFamilyPolicy::SingleStack
        });
        service.ip_family_policy = Some(policy);
        let single = policy == IpFamilyPolicy::SingleStack;
        self.second_goes(service, single);

        let mut ips: Vec<IpAddr> = service.cluster_ips.as_slice().to_vec();
        let families = &mut service.ip_families;
        let path = root.field("ipFamilyPolicy");
        if single && (ips.len() > 1 || families.len() > 1) {
            let detail = "two families need PreferDualStack or RequireDualStack";
            self.report.invalid(&path, &policy.as_str(), detail);
            return;
        }
        ips.truncate(2);
        let list = root.field("clusterIPs");
        for (i, ip) in ips.iter().enumerate() {
            let family = IpFamily::of(*ip);
            match families.get(i) {
                Some(&stated) if stated != family => {
                    let detail =
                        alloc::format!("expected an {stated} address, as spec.ipFamilies has it");
                    self.report.invalid(&list.index(i), ip, &detail);
                    return;
                }
                Some(_) => {}
                None if families.contains(&family) => {
                    self.report.invalid(&list.index(i), ip, "expected one address of each family");
                    return;
                }
                None if !self.pools.families.contains(&family) => {
                    let detail = alloc::format!("the cluster has no {family}");
                    self.report.invalid(&list.index(i), ip, &detail);
                    return;
                }
                None => families.push(family),
            }
        }
        let default = self.pools.families.first().copied();
        if detached {
            families.extend(if families.is_empty() { default } else { None });
            if !single {
                second(families, |_| true);
            }
            return;
        }
        if policy == IpFamilyPolicy::RequireDualStack && self.pools.families.len() < 2 {
            let detail = "the cluster has one family only";
            self.report.invalid(&path, &policy.as_str(), detail);
        }
        let list = root.field("ipFamilies");
        for (i, family) in families.iter().enumerate() {
            if !self.pools.families.contains(family) {
                self.report.invalid(
                    &list.index(i),
                    &family.as_str(),
                    "the cluster does not have it",
                );
            }
        }
        families.extend(if families.is_empty() { default } else { None });
        if families.is_empty() {
            self.report.unavailable(&list, "the cluster has no address family at all");
        }
        if !single {
            second(families, |family| self.pools.families.contains(&family));
        }
    }

    /// The old Service, if it had families to speak of.
    fn before(&self) -> Option<&Service> {
        self.old.filter(|old| !matches!(old.kind, ServiceKind::ExternalName(_)))
    }

    /// A Service that says that it prefers two families and stays as it was does so even if the cluster's families change.
    fn is_left_alone(&self, service: &Service) -> bool {
        let prefer = Some(IpFamilyPolicy::PreferDualStack);
        self.old.is_some_and(|old| {
            old.ip_family_policy == prefer
                && service.ip_family_policy == prefer
                && old.kind == service.kind
                && old.cluster_ips == service.cluster_ips
                && !service.ip_families.is_empty()
                && old.ip_families == service.ip_families
        })
    }

    /// To become single-stack it is enough to say so: what is repeated of the second family does not count.
    fn second_goes(&mut self, service: &mut Service, single: bool) {
        let Some(old) = self.old.filter(|old| !matches!(old.kind, ServiceKind::ExternalName(_)))
        else {
            return;
        };
        if single {
            if service.cluster_ips == old.cluster_ips {
                if let ClusterIps::Assigned(ips) = &mut service.cluster_ips {
                    ips.truncate(1);
                }
            }
            if service.ip_families == old.ip_families {
                service.ip_families.truncate(1);
            }
            return;
        }
        let fewer_ips = service.cluster_ips.as_slice().len() < old.cluster_ips.as_slice().len();
        let stated = !service.ip_families.is_empty();
        let fewer_families = stated && service.ip_families.len() < old.ip_families.len();
        if fewer_ips || fewer_families {
            let policy = service.ip_family_policy.map_or("", IpFamilyPolicy::as_str);
            let root = Path::root("spec");
            let detail = "has to be SingleStack when the second family is taken away";
            self.report.invalid(&root.field("ipFamilyPolicy"), &policy, detail);
        }
    }
}

/// Adds the other family to a single one.
fn second(families: &mut Vec<IpFamily>, wanted: impl Fn(IpFamily) -> bool) {
    if let [only] = **families {
        families.extend(Some(only.other()).filter(|&other| wanted(other)));
    }
}
