//! [`Zone`]: what a cluster's DNS server answers, from Services, their endpoints and pods.
//!
//! ```
//! use svcplane::dns::{Code, Config, NameBuf, RecordType, Zone};
//! use svcplane::endpoints::EndpointSet;
//! use svcplane::name::ObjectName;
//! use svcplane::service::{ClusterIps, Service, ServicePort};
//!
//! let mut redis = Service::new(ObjectName::new("default", "redis")?);
//! redis.cluster_ips = ClusterIps::Assigned(vec!["10.96.0.10".parse()?]);
//! redis.ports = vec![ServicePort::new(6379)];
//! let endpoints = EndpointSet::new(redis.name.clone(), []);
//!
//! let mut zone = Zone::new("cluster.local".parse()?, Config::default());
//! zone.upsert(&redis, &endpoints);
//!
//! let question: NameBuf = "redis.default.svc.cluster.local".parse()?;
//! let turn = 0; // which of several records comes first; another number each time
//! let answer = zone.answer(question.name(), RecordType::A, turn);
//! let records: Vec<String> = answer.answers().map(|record| record.to_string()).collect();
//! assert_eq!(records, ["redis.default.svc.cluster.local. 5 IN A 10.96.0.10"]);
//!
//! let nobody: NameBuf = "nobody.default.svc.cluster.local".parse()?;
//! assert_eq!(zone.answer(nobody.name(), RecordType::A, turn).code(), Code::NxDomain);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In a zone `cluster.local` (Z), with Services S of namespaces N, ports with names P and endpoints H, a name has:
//!
//! | name | records |
//! | --- | --- |
//! | `S.N.svc.Z`, with cluster IPs | A, AAAA: those; SRV: all ports |
//! | `S.N.svc.Z`, headless | A, AAAA: each ready endpoint's address; SRV: all their ports |
//! | `_P._tcp.S.N.svc.Z` | SRV: that port, at the Service itself or at each ready endpoint |
//! | `H.S.N.svc.Z` | A, AAAA, SRV of that endpoint. H is its hostname, as pods of a `StatefulSet` have one, or else its address with dashes |
//! | `S.N.svc.Z`, ExternalName | CNAME, and what that leads to in this zone |
//! | `10-1-2-3.N.pod.Z` | A, AAAA: the address, if [`PodMode`] has it so |
//! | `10.0.96.10.in-addr.arpa` and such | PTR: the Service with this cluster IP, or the endpoints with this address |
//! | `dns-version.Z` | TXT: the version of the specification |
//! | `Z`, `ns.dns.Z` | SOA and NS of the zone; A, AAAA of its server, if [told](Config::servers) |
//!
//! A name that has others under it exists. A headless Service without ready endpoints does not, nor does a label that is none of
//! its endpoints'. What is ready is the endpoint set's matter: a Service that publishes addresses that are not ready has them as
//! ready.
//!
//! A zone is kept up to date object by object; an update costs what the one Service holds, a question a hash and, but for PTR, no
//! search. Nothing is allocated for an answer. What is told does not depend on the order of updates. The client's half, by which
//! `redis` becomes `redis.default.svc.cluster.local`, is [`ResolvConf`].
//!
//! Source: Kubernetes DNS specification 1.1.0, and the plugin `kubernetes` of `CoreDNS` for what that leaves open.
//!
//! `DIFFERENCE` from `CoreDNS`: `_tcp.S.N.svc.Z` exists if there are ports under it, and so do parts of addresses in the reverse
//! zones, as RFC 8020 asks; a name with ports' labels has SRV records only; an alias of a name in the zone is told also if that
//! name has no such record, or does not exist; a pod's name has no names under it, and is the pod's whichever of its addresses it
//! has; empty labels are no name.

mod answer;
mod entry;
mod lookup;
mod name;
mod record;
mod resolv;
mod zone;

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use answer::Answer;
pub use name::{MAX_NAME, Name, NameBuf};
pub use record::{Code, Record, RecordData, RecordType, Soa};
pub use resolv::{Dropped, Limits, ResolvConf};
pub use zone::Zone;

use crate::name::ObjectName;

/// The version of the specification, which `dns-version` tells.
pub const SCHEMA_VERSION: &str = "1.1.0";
/// How long that may be kept, in seconds.
pub const SCHEMA_TTL: u32 = 28_800;
/// The longest time to live that a zone has otherwise, in seconds.
pub const MAX_TTL: u32 = 3_600;

/// How a zone answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How long records, and the news that there are none, may be kept, in seconds; more than 3,600 counts as that. Defaults to 5.
    pub ttl: u32,
    /// Which names pods have. Defaults to none.
    pub pods: PodMode,
    /// Whether an endpoint without a hostname is called as its pod, where that is a label; otherwise it is called as its address.
    /// Defaults to false.
    pub endpoint_pod_names: bool,
    /// Whether Services with a cluster IP do not exist while they have no ready endpoint, so that clients look elsewhere.
    /// Defaults to false.
    pub ignore_empty_services: bool,
    /// Which addresses' PTR records are this zone's to give. One that does not end with a label, as a /12, stands for several
    /// that do. Defaults to all.
    pub reverse: Vec<IpNet>,
    /// The addresses of the name server itself, `ns.dns` in the zone. Defaults to none.
    pub servers: Vec<IpAddr>,
    /// The serial number that the zone begins with. Defaults to 1.
    pub serial: u32,
    /// What the hash of names follows from, so that nobody can choose names that meet. Defaults to 0.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        let all = [
            Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
            Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
        ];
        Self {
            ttl: 5,
            pods: PodMode::Disabled,
            endpoint_pod_names: false,
            ignore_empty_services: false,
            reverse: all.into(),
            servers: Vec::new(),
            serial: 1,
            seed: 0,
        }
    }
}

/// Which names pods have.
#[expect(clippy::exhaustive_enums, reason = "the specification's server has had these three")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PodMode {
    /// None: the default.
    #[default]
    Disabled,
    /// Any address has a name in any namespace that exists, whether or not there is such a pod.
    Insecure,
    /// Addresses of pods have a name in the pod's namespace.
    Verified,
}

/// What a zone does not tell of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ignored {
    /// The Service itself: what it is called is no label, or too long for this zone.
    Name,
    /// Where an ExternalName leads: it is an address, or no domain name. The Service's name exists.
    ExternalName,
}

/// What a zone does not tell of which Service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The Service.
    pub service: ObjectName,
    /// What is not told.
    pub ignored: Ignored,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.ignored {
            Ignored::Name => "it has no DNS name: expected an RFC 1123 label, and room for it",
            Ignored::ExternalName => {
                "its name in DNS leads nowhere: expected a domain name as externalName"
            }
        };
        write!(f, "{}: {what}", self.service)
    }
}
