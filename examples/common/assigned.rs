//! Every Service its addresses and node ports.

use std::collections::BTreeMap;
use std::time::Duration;

use svcplane::assign::{Assignment, Claim, Pools, claims};
use svcplane::field::FieldError;
use svcplane::ipam::{IpRange, PortRange};
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::service::Service;
use svcplane::time::Instant;

use crate::cluster::Setup;
use crate::manifests::{Located, Origin};

/// A fixed seed: the same manifests get the same addresses in every run.
const SEED: u64 = 1;
/// Manifests are read all at once: what one Service gives back, another can have.
const NOW: Instant = Instant::ZERO;

/// Gives out what Services state first, then what they had `earlier`, then the rest.
pub(crate) fn assigned(
    services: Vec<Located<Service>>,
    setup: &Setup,
    earlier: &[Service],
    warnings: &mut Vec<String>,
) -> Result<Vec<Service>, Vec<String>> {
    let mut pools = pools(setup).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    let mut refused = Vec::new();
    for Located { origin, object } in &services {
        for claim in claims(object) {
            if let Err(error) = pools.allocate(claim, &object.name, NOW) {
                errors.push(format!("{origin}: {}: {error}; {}", path(object, claim), hint(claim)));
                refused.push(object.name.clone());
            }
        }
    }
    let mut earlier: BTreeMap<&ObjectName, &Service> =
        earlier.iter().map(|service| (&service.name, service)).collect();
    for Located { object, .. } in &services {
        let Some(before) = earlier.get(&object.name).copied() else { continue };
        if claims(before).any(|claim| pools.allocate(claim, &object.name, NOW).is_err()) {
            // Somebody states it now: the Service is as good as new.
            let stated: Vec<Claim> = claims(object).collect();
            for claim in claims(before).filter(|claim| !stated.contains(claim)) {
                pools.release(claim, &object.name, NOW);
            }
            earlier.remove(&object.name);
        }
    }
    let mut done = Vec::new();
    let rest = services.into_iter().filter(|service| !refused.contains(&service.object.name));
    for (Located { origin, object }, seed) in rest.zip(SEED..) {
        let earlier = earlier.get(&object.name).copied();
        match Assignment::new(earlier, &object, &pools, seed) {
            Ok(assignment) => match pools.commit(&assignment, NOW) {
                Ok(()) => {
                    let told = assignment.warnings.iter();
                    warnings.extend(told.map(|warning| format!("{origin}: {warning}")));
                    done.push(assignment.service);
                }
                Err(error) => errors.push(format!("{origin}: {error}")),
            },
            Err(mistakes) => errors.extend(mistakes.iter().map(|error| told(&origin, error))),
        }
    }
    if errors.is_empty() {
        done.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(done)
    } else {
        Err(errors)
    }
}

fn pools(setup: &Setup) -> Result<Pools, String> {
    let families: Vec<IpFamily> =
        setup.cluster_ip_range.iter().map(|net| IpFamily::of(net.addr())).collect();
    let mut pools = Pools::new(&families, Duration::ZERO);
    for &net in &setup.cluster_ip_range {
        let range = IpRange::new(net, SEED);
        pools.cluster_ips.add(range.map_err(|error| format!("--cluster-ip-range: {error}"))?);
    }
    let (first, last) = setup.node_port_range;
    pools.node_ports.add(PortRange::new(first, last, SEED));
    Ok(pools)
}

fn path(service: &Service, claim: Claim) -> String {
    let ip = service.cluster_ips.as_slice().iter().position(|&ip| Claim::ClusterIp(ip) == claim);
    let port = service.ports.iter().position(|p| p.node_port.map(Claim::NodePort) == Some(claim));
    match (ip, port) {
        (Some(i), _) => format!("spec.clusterIPs[{i}]"),
        (_, Some(i)) => format!("spec.ports[{i}].nodePort"),
        _ => "spec.healthCheckNodePort".to_owned(),
    }
}

fn hint(claim: Claim) -> &'static str {
    match claim {
        Claim::NodePort(_) => "--node-port-range changes the range",
        _ => "--cluster-ip-range changes the range",
    }
}

fn told(origin: &Origin, error: &FieldError) -> String {
    let hint = match error.path() {
        path if path.contains("odePort") => "; --node-port-range changes the range",
        path if path.starts_with("spec.clusterIP") || path.starts_with("spec.ipFamil") => {
            "; --cluster-ip-range adds a range"
        }
        _ => "",
    };
    format!("{origin}: {error}{hint}")
}
