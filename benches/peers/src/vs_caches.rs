//! `quick_cache`, `mini-moka` and `moka`: caches with a bound, of which an affinity table is one that sweeps.

use std::hash::BuildHasher;
use std::mem::size_of_val;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use siphasher::sip::SipHasher13;
use stats_alloc::Region;
use svcplane::affinity::{Affinity, Scope};

use crate::contest::Contest;
use crate::ours::{NOW, backends};
use crate::{ALLOCATOR, Prepare};

/// Fewer in a test, where nothing is timed and a full cache takes seconds to fill.
const CLIENTS: u32 = if cfg!(test) { 10_000 } else { 1_000_000 };
const TIMEOUT: Duration = Duration::from_secs(10_800);

pub(crate) fn contests() -> Vec<Prepare> {
    let mut contests: Vec<Prepare> = Vec::new();
    for what in [What::Hit, What::Renew, What::PushOut] {
        contests.push(Box::new(move || contest::<QuickCache>(what)));
        contests.push(Box::new(move || contest::<MiniMoka>(what)));
        contests.push(Box::new(move || contest::<Moka>(what)));
    }
    contests
}

/// What is asked: a client that is there; the same, noted again; a new one, for which another makes room.
#[derive(Clone, Copy)]
enum What {
    Hit,
    Renew,
    PushOut,
}

fn contest<P: Cache>(what: What) -> Contest {
    let backends = backends(100);
    let our_name = ["affinity hit", "affinity renew", "affinity, another out"][what as usize];
    let ours = side::<Ours>(what, backends.clone());
    let peer = side::<P>(what, backends.clone());
    Contest::new(&backends, (our_name, ours), (P::NAME, peer))
}

/// The clients are not the few that the contest names, which would stay in the processor's cache.
fn side<C: Cache>(
    what: What,
    backends: Vec<SocketAddr>,
) -> impl FnMut(SocketAddrV4) -> SocketAddr + use<C> {
    let backend = move |n: u32| backends[n as usize % backends.len()];
    let mut cache = C::new();
    for n in 0..CLIENTS {
        cache.insert(ip(n), backend(n));
    }
    // What the cache put off is done before, and a client whom it did not keep is not moved.
    cache.len();
    let (mut random, mut next) = (1_u64, CLIENTS);
    move |_| {
        if let What::PushOut = what {
            next = next.wrapping_add(1);
            cache.insert(ip(next), backend(next));
            return backend(next);
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let n = ((random >> 32) * u64::from(CLIENTS)) >> 32;
        let n = u32::try_from(n).expect("less than the number of clients");
        let addr = cache.get(ip(n)).unwrap_or_else(|| backend(n));
        if let What::Renew = what {
            cache.insert(ip(n), addr);
        }
        addr
    }
}

/// A permutation of all addresses.
fn ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1))
}

/// Bytes on the heap for each client of full caches, after as many others.
pub(crate) fn print_bytes() {
    println!();
    bytes::<Ours>();
    bytes::<QuickCache>();
    bytes::<MiniMoka>();
    bytes::<Moka>();
}

fn bytes<C: Cache>() {
    let backends = backends(100);
    let region = Region::new(ALLOCATOR);
    let mut cache = C::new();
    for n in 0..2 * CLIENTS {
        cache.insert(ip(n), backends[n as usize % backends.len()]);
    }
    let held = cache.len();
    let change = region.change();
    let bytes = change.bytes_allocated - change.bytes_deallocated + size_of_val(&cache);
    println!("{:<31}{held:>9} clients held, {:>6} bytes each", C::NAME, bytes / held.max(1));
}

trait Cache: 'static {
    const NAME: &str;

    fn new() -> Self;
    fn get(&mut self, client: Ipv4Addr) -> Option<SocketAddr>;
    fn insert(&mut self, client: Ipv4Addr, addr: SocketAddr);
    /// How many there are after what was put off.
    fn len(&mut self) -> usize;
}

struct Ours(Affinity<SocketAddr>);

const SCOPE: Scope = Scope::new(1, TIMEOUT);

impl Cache for Ours {
    const NAME: &str = "affinity";

    fn new() -> Self {
        Self(Affinity::new(CLIENTS as usize, 7))
    }
    fn get(&mut self, client: Ipv4Addr) -> Option<SocketAddr> {
        self.0.lookup(SCOPE, (client, 40_000).into(), NOW).copied()
    }
    fn insert(&mut self, client: Ipv4Addr, addr: SocketAddr) {
        self.0.insert(SCOPE, (client, 40_000).into(), addr, NOW);
    }
    fn len(&mut self) -> usize {
        self.0.len()
    }
}

/// What the table hashes with.
#[derive(Clone)]
struct Sip;

impl BuildHasher for Sip {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(7, !7)
    }
}

type ClientKey = (u32, IpAddr);

fn key(client: Ipv4Addr) -> ClientKey {
    (1, client.into())
}

struct QuickCache(quick_cache::sync::Cache<ClientKey, SocketAddr, quick_cache::UnitWeighter, Sip>);

impl Cache for QuickCache {
    const NAME: &str = "quick_cache";

    fn new() -> Self {
        Self(quick_cache::sync::Cache::with(
            CLIENTS as usize,
            CLIENTS.into(),
            quick_cache::UnitWeighter,
            Sip,
            quick_cache::sync::DefaultLifecycle::default(),
        ))
    }
    fn get(&mut self, client: Ipv4Addr) -> Option<SocketAddr> {
        self.0.get(&key(client))
    }
    fn insert(&mut self, client: Ipv4Addr, addr: SocketAddr) {
        self.0.insert(key(client), addr);
    }
    fn len(&mut self) -> usize {
        self.0.len()
    }
}

struct MiniMoka(mini_moka::sync::Cache<ClientKey, SocketAddr, Sip>);

impl Cache for MiniMoka {
    const NAME: &str = "mini-moka";

    fn new() -> Self {
        let builder = mini_moka::sync::Cache::builder();
        Self(builder.max_capacity(CLIENTS.into()).time_to_live(TIMEOUT).build_with_hasher(Sip))
    }
    fn get(&mut self, client: Ipv4Addr) -> Option<SocketAddr> {
        self.0.get(&key(client))
    }
    fn insert(&mut self, client: Ipv4Addr, addr: SocketAddr) {
        self.0.insert(key(client), addr);
    }
    fn len(&mut self) -> usize {
        mini_moka::sync::ConcurrentCacheExt::sync(&self.0);
        usize::try_from(self.0.entry_count()).expect("fits")
    }
}

struct Moka(moka::sync::Cache<ClientKey, SocketAddr, Sip>);

impl Cache for Moka {
    const NAME: &str = "moka";

    fn new() -> Self {
        let builder = moka::sync::Cache::builder();
        Self(builder.max_capacity(CLIENTS.into()).time_to_live(TIMEOUT).build_with_hasher(Sip))
    }
    fn get(&mut self, client: Ipv4Addr) -> Option<SocketAddr> {
        self.0.get(&key(client))
    }
    fn insert(&mut self, client: Ipv4Addr, addr: SocketAddr) {
        self.0.insert(key(client), addr);
    }
    fn len(&mut self) -> usize {
        self.0.run_pending_tasks();
        usize::try_from(self.0.entry_count()).expect("fits")
    }
}
