//! One replica: propose, compare and swap in the store, confirm.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use anyhow::Context;
use svcplane::assign::{Assignment, Claim, Pools};
use svcplane::field::FieldErrorKind;
use svcplane::ipam::IpRange;
use svcplane::ipnet::IpNet;
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::service::{Service, ServicePort};
use svcplane::time::Instant;

use crate::store::{SERVICES, Store, Token, Written};

/// Nothing is given back here, so nothing rests and the time does not matter.
const NOW: Instant = Instant::ZERO;

pub(crate) async fn run(endpoint: &str, name: &str, range: IpNet) -> anyhow::Result<()> {
    let mut store = Store::connect(endpoint).await?;
    let mut pools = Pools::new(&[IpFamily::of(range.addr())], Duration::ZERO);
    pools.cluster_ips.add(IpRange::new(range, 0)?);
    // What this process calls its attempts, so that no earlier one of the name is taken for it.
    let process = format!("{name}.{:x}", RandomState::new().hash_one(std::process::id()));

    // What earlier runs and other replicas did.
    for (claim, token) in store.claims().await? {
        if let Some(ip) = claim.strip_prefix("cluster-ip/") {
            pools.learn(Claim::ClusterIp(ip.parse()?), token.service.parse()?);
        }
    }
    let known = store.read(SERVICES).await?;
    for n in 1_u64.. {
        let service = ObjectName::new("default", &format!("{name}-{n}"))?;
        if known.contains_key(service.as_str()) {
            continue;
        }
        let mut wanted = Service::new(service.clone());
        wanted.ports = vec![ServicePort::new(80)];
        let mut attempt = 0_u64;
        let assignment = loop {
            attempt += 1;
            // Each attempt starts somewhere else.
            let seed = RandomState::new().hash_one((&process, n, attempt));
            let proposed = match Assignment::new(None, &wanted, &pools, seed) {
                Ok(proposed) => proposed,
                Err(errors) if errors.iter().all(|e| e.kind() == FieldErrorKind::Unavailable) => {
                    println!("full");
                    return Ok(());
                }
                Err(errors) => anyhow::bail!("{errors:?}"),
            };
            let token =
                Token { service: service.to_string(), attempt: format!("{process}.{n}.{attempt}") };
            match store.write(&proposed, &token).await? {
                Written::Yes => break proposed,
                Written::Refused(holders) if holders.is_empty() => {
                    anyhow::bail!("{service} is there already")
                }
                Written::Refused(holders) => {
                    for (claim, holder) in holders {
                        println!("lost {claim} {}", holder.service);
                        pools.learn(claim, holder.service.parse()?);
                    }
                }
            }
        };
        pools.commit(&assignment, NOW)?;
        let ip = assignment.service.cluster_ips.as_slice().first().context("no address")?;
        println!("got {ip} {service}");
    }
    Ok(())
}
