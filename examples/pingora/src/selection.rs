//! The balancer as a selection: pingora builds a new one for each set of backends, over the same balancer.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::Extensions;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use svcplane::backend::{BackendId, Flow};
use svcplane::balancer::Balancer;
use svcplane::sched::Algorithm;
use svcplane::sync::{Lease, SharedBalancer};

/// A balancer, and the clock that its instants are from: the configuration of a [`Selection`]. It belongs to one `LoadBalancer`, whose
/// backends are its backends. Clones are handles on the same.
#[derive(Clone, Debug)]
pub struct Shared {
    balancer: Arc<SharedBalancer>,
    epoch: Instant,
}

impl Shared {
    /// A balancer without backends.
    #[must_use]
    pub fn new(algorithm: Algorithm, seed: u64) -> Self {
        let balancer = Arc::new(SharedBalancer::new(Balancer::new(algorithm, seed)));
        Self { balancer, epoch: Instant::now() }
    }

    /// The balancer: to read counts, to suspend a backend.
    #[must_use]
    pub fn balancer(&self) -> &SharedBalancer {
        &self.balancer
    }

    /// The time for the balancer's calls.
    #[must_use]
    pub fn now(&self) -> svcplane::time::Instant {
        self.epoch.elapsed().into()
    }
}

/// The backends of one set. Those that are no addresses of the Internet's, such as Unix sockets, are passed over.
#[derive(Debug)]
pub struct Selection {
    shared: Shared,
    /// As pingora knows them: it looks up their health by address and weight.
    backends: HashMap<SocketAddr, Backend>,
}

impl BackendSelection for Selection {
    type Iter = Candidates;
    type Config = Shared;

    /// Round robin, with a balancer for this set alone.
    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &Shared::new(Algorithm::RoundRobin, 0))
    }

    fn build_with_config(backends: &BTreeSet<Backend>, shared: &Shared) -> Self {
        let known = |backend: &Backend| match &backend.addr {
            PingoraAddr::Inet(addr) => Some((*addr, backend.clone())),
            PingoraAddr::Unix(_) => None,
        };
        let backends: HashMap<_, _> = backends.iter().filter_map(known).collect();
        let mut listed: Vec<_> =
            backends.iter().map(|(&addr, backend)| ours(addr, backend)).collect();
        // The order decides who comes first. The last one does.
        listed.sort_by_key(|backend| Reverse(backend.addr));
        shared.balancer.set_backends(listed, shared.now());
        Self { shared: shared.clone(), backends }
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Candidates {
        Candidates { of: Arc::clone(self), flow: flow(key), tried: Vec::new(), current: None }
    }
}

fn ours(addr: SocketAddr, backend: &Backend) -> svcplane::backend::Backend {
    let weight = u32::try_from(backend.weight).unwrap_or(u32::MAX);
    svcplane::backend::Backend::new(addr).with_weight(weight)
}

/// The balancer's choices for one request, best first. Each is counted from when it is looked at until the next is, or until what
/// [`Held::of`] it gave is dropped.
pub struct Candidates {
    of: Arc<Selection>,
    flow: Flow,
    tried: Vec<BackendId>,
    current: Option<Backend>,
}

impl BackendIter for Candidates {
    fn next(&mut self) -> Option<&Backend> {
        let Shared { balancer, .. } = &self.of.shared;
        // The one before was not accepted, and is not to count in this pick.
        self.current = None;
        // Each turn tries one more of the balancer's backends.
        loop {
            let mut lease = balancer.pick_except(&self.flow, &self.tried, self.of.shared.now())?;
            self.tried.push(lease.backend());
            // The balancer may know of a newer set than this.
            let Some(known) = self.of.backends.get(&lease.addr()) else { continue };
            // A request is work for the backend from the start.
            lease.established();
            let mut backend = known.clone();
            backend.ext.insert(Held(Arc::new(lease)));
            return Some(self.current.insert(backend));
        }
    }
}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidates").field("flow", &self.flow).finish_non_exhaustive()
    }
}

/// A request that the balancer counts, until the last clone of this is dropped.
#[derive(Clone, Debug)]
#[must_use = "the request is counted no more when it is dropped"]
pub struct Held(Arc<Lease>);

impl Held {
    /// Takes it out of a backend that a [`Selection`] chose.
    pub fn of(backend: &mut Backend) -> Option<Self> {
        let extensions: &mut Extensions = &mut backend.ext;
        extensions.remove()
    }

    /// The backend's handle in the balancer.
    #[must_use]
    pub fn backend(&self) -> BackendId {
        self.0.backend()
    }
}

/// The key of a request on a connection between a client and the address that it called.
#[must_use]
pub fn key(client: SocketAddr, destination: SocketAddr) -> [u8; 36] {
    let mut key = [0; 36];
    for (half, addr) in key.chunks_exact_mut(18).zip([client, destination]) {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        half[..16].copy_from_slice(&ip.octets());
        half[16..].copy_from_slice(&addr.port().to_be_bytes());
    }
    key
}

/// The flow that a key stands for.
fn flow(key: &[u8]) -> Flow {
    let addr = |half: &[u8]| {
        let (ip, port) = half.split_first_chunk::<16>()?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some(SocketAddr::new(Ipv6Addr::from(*ip).to_canonical(), port))
    };
    if key.len() == 36
        && let (Some(client), Some(destination)) = (addr(&key[..18]), addr(&key[18..]))
    {
        return Flow::new(client, destination);
    }
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    // For documentation only: no client has such an address.
    let ip = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(hasher.finish()));
    Flow::new((ip, 0).into(), (Ipv4Addr::UNSPECIFIED, 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_who_calls_whom() {
        for (client, destination) in
            [("192.0.2.7:40000", "10.96.0.1:80"), ("[2001:db8::7]:1", "[::1]:65535")]
        {
            let (client, destination) = (client.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(flow(&key(client, destination)), Flow::new(client, destination));
        }
        assert_eq!(flow(b"session 7"), flow(b"session 7"));
        assert_ne!(flow(b"session 7"), flow(b"session 8"));
    }

    #[test]
    fn candidates_are_counted_one_at_a_time() {
        let shared = Shared::new(Algorithm::LeastConnection, 7);
        let set = ["127.0.0.1:1", "127.0.0.1:2"].map(|addr| Backend::new(addr).unwrap());
        let selection = Arc::new(Selection::build_with_config(&set.into(), &shared));
        let counts = || {
            shared
                .balancer()
                .with(|b| b.iter().map(|(_, entry)| entry.active()).collect::<Vec<_>>())
        };
        let mut candidates = selection.iter(b"");
        let first = candidates.next().cloned();
        assert_eq!(counts().iter().sum::<u32>(), 1);
        drop(first);
        let mut second = candidates.next().cloned().unwrap();
        assert_eq!(counts().iter().sum::<u32>(), 1);
        assert!(candidates.next().is_none());
        let held = Held::of(&mut second).unwrap();
        drop((candidates, second));
        assert_eq!(counts().iter().sum::<u32>(), 1);
        // The least is chosen: not the one that is held.
        let other = selection.iter(b"").next().cloned().unwrap();
        assert_ne!(other.ext.get::<Held>().unwrap().backend(), held.backend());
        drop((held, other));
        assert_eq!(counts(), [0, 0]);
    }
}
