//! The client's half: which names are tried for the one that was typed.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use super::NameBuf;
use crate::name::NameError;

/// What a resolver is told, as in `/etc/resolv.conf`.
///
/// ```
/// use svcplane::dns::{Limits, ResolvConf};
///
/// // What a kubelet writes for a pod in the namespace `prod` (`dnsPolicy: ClusterFirst`).
/// let zone = "cluster.local".parse()?;
/// let host = ["example.com"].map(Into::into);
/// let (conf, _) = ResolvConf::cluster_first("prod", Some(zone), ["10.96.0.10".parse()?], host, Limits::default());
/// assert_eq!(
///     conf.to_string(),
///     "search prod.svc.cluster.local svc.cluster.local cluster.local example.com\n\
///      nameserver 10.96.0.10\n\
///      options ndots:5\n"
/// );
/// let tried: Vec<String> = conf.names("db.other")?.map(|name| name.to_string()).collect();
/// assert_eq!(tried[..2], ["db.other.prod.svc.cluster.local.", "db.other.svc.cluster.local."]);
/// assert_eq!(tried.last().map(|name| &**name), Some("db.other."));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Kubernetes kubelet `network/dns`; `resolv.conf(5)` for what a resolver does with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvConf {
    /// Whom to ask, in order. Defaults to nobody in particular.
    pub name_servers: Vec<IpAddr>,
    /// What is tried behind a name, in order, without a dot at the end. Defaults to nothing.
    pub search: Vec<Box<str>>,
    /// A name with fewer dots than this is first tried with what is searched. Defaults to 0: none is.
    pub ndots: usize,
}

/// What a kubelet writes at most.
#[expect(clippy::exhaustive_structs, reason = "resolvers have known these limits for ever")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many name servers. Defaults to 3.
    pub name_servers: usize,
    /// How many domains to search. Defaults to 32; before expanded DNS configuration it was 6.
    pub domains: usize,
    /// How many characters they have together with the blanks between them. Defaults to 2,048; before
    /// expanded DNS configuration it was 256.
    pub characters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { name_servers: 3, domains: 32, characters: 2_048 }
    }
}

/// What was left out for a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// Name servers.
    pub name_servers: Vec<IpAddr>,
    /// Domains to search.
    pub search: Vec<Box<str>>,
}

/// How many dots a pod's names need to be taken for whole.
const NDOTS: usize = 5;

impl ResolvConf {
    /// What a pod of a namespace is told by the policy `ClusterFirst`: to ask the cluster's server, and to search its own
    /// namespace, all namespaces, the zone, and then what its node searches; each once. Without a zone it searches what its node
    /// searches.
    ///
    /// What exceeds the limits is left out from the end, and returned.
    pub fn cluster_first<S, H>(
        namespace: &str,
        zone: Option<NameBuf>,
        servers: S,
        host_search: H,
        limits: Limits,
    ) -> (Self, Dropped)
    where
        S: IntoIterator<Item = IpAddr>,
        H: IntoIterator<Item = Box<str>>,
    {
        let mut search: Vec<Box<str>> = Vec::new();
        let zone = zone.map(|zone| alloc::format!("{zone}"));
        if let Some(zone) = zone.as_deref().map(|zone| zone.strip_suffix('.').unwrap_or(zone)) {
            search.push(alloc::format!("{namespace}.svc.{zone}").into());
            search.push(alloc::format!("svc.{zone}").into());
            search.push(zone.into());
        }
        for domain in host_search {
            if !search.contains(&domain) {
                search.push(domain);
            }
        }
        let mut name_servers: Vec<IpAddr> = servers.into_iter().collect();
        let fitting = fitting(&search, limits);
        let dropped = Dropped {
            name_servers: name_servers.split_off(name_servers.len().min(limits.name_servers)),
            search: search.split_off(fitting),
        };
        (Self { name_servers, search, ndots: NDOTS }, dropped)
    }

    /// The names to ask for, in order, until one has what is looked for. A name with a dot at the end is tried alone; one with at
    /// least [`ndots`](Self::ndots) dots first alone, then with each domain; another with each domain, then alone. What would be
    /// no legal name is passed over.
    ///
    /// # Errors
    ///
    /// It is no domain name itself.
    pub fn names(&self, typed: &str) -> Result<impl Iterator<Item = NameBuf>, NameError> {
        let name: NameBuf = typed.parse()?;
        let whole = typed.ends_with('.') && !typed.ends_with("\\.");
        let alone_first = whole || typed.matches('.').count() >= self.ndots;
        let domains = if whole { &[][..] } else { &*self.search };
        let searched = domains.iter().filter_map(move |domain| {
            let domain: NameBuf = domain.parse().ok()?;
            name.followed_by(domain.name())
        });
        let (first, last) = if alone_first { (Some(name), None) } else { (None, Some(name)) };
        Ok(first.into_iter().chain(searched).chain(last))
    }
}

impl fmt::Display for ResolvConf {
    /// As in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.search.is_empty() {
            f.write_str("search")?;
            self.search.iter().try_for_each(|domain| write!(f, " {domain}"))?;
            f.write_str("\n")?;
        }
        self.name_servers.iter().try_for_each(|server| writeln!(f, "nameserver {server}"))?;
        if self.ndots > 0 {
            writeln!(f, "options ndots:{}", self.ndots)?;
        }
        Ok(())
    }
}

/// How many domains are within the limits.
fn fitting(search: &[Box<str>], limits: Limits) -> usize {
    let mut line = String::new();
    for (n, domain) in search.iter().enumerate() {
        line.push_str(if n > 0 { " " } else { "" });
        line.push_str(domain);
        if n >= limits.domains || line.len() > limits.characters {
            return n;
        }
    }
    search.len()
}
