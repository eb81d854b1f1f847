//! `pingora-load-balancing`: turns, lots and hashes.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora_load_balancing::discovery::Static;
use pingora_load_balancing::selection::{
    BackendIter, BackendSelection, Consistent, FNVHash, Random, RoundRobin,
};
use pingora_load_balancing::{Backend, Backends, LoadBalancer};
use svcplane::balancer::Balancer;
use svcplane::sched::Algorithm;
use svcplane::sync::SharedBalancer;

use crate::Prepare;
use crate::contest::{Contest, at_once};
use crate::ours::{
    Change, Victims, backends, balancer, hold, one_changes, pick, pick_release, weight,
};

/// More than it ever needs here: the first choice is healthy.
const MAX_ITERATIONS: usize = 256;

pub(crate) fn contests() -> Vec<Prepare> {
    let mut contests: Vec<Prepare> = Vec::new();
    for n in [3, 100, 10_000] {
        contests.push(Box::new(move || turns_unreleased(n)));
        contests.push(Box::new(move || turns_released(n)));
        contests.push(Box::new(move || turns_locked(n)));
        contests.push(Box::new(move || turns_alone(n)));
        contests.push(Box::new(move || weighted_turns(n)));
        contests.push(Box::new(move || lots(n)));
        contests.push(Box::new(move || weighted_lots(n)));
    }
    contests.push(Box::new(|| {
        threads::<RoundRobin>(
            1,
            Algorithm::RoundRobin,
            "rr, 1 thread",
            "pingora RoundRobin, 1 thread",
        )
    }));
    contests.push(Box::new(|| {
        threads::<RoundRobin>(
            2,
            Algorithm::RoundRobin,
            "rr, 2 threads",
            "pingora RoundRobin, 2 threads",
        )
    }));
    contests.push(Box::new(|| {
        threads::<Random>(1, Algorithm::Random, "random, 1 thread", "pingora Random, 1 thread")
    }));
    contests.push(Box::new(|| {
        threads::<Random>(2, Algorithm::Random, "random, 2 threads", "pingora Random, 2 threads")
    }));
    // `sh` has 256 slots.
    for n in [3, 100] {
        contests.push(Box::new(move || hash(n)));
    }
    for n in [3, 100, 1000] {
        contests.push(Box::new(move || consistent(n)));
        contests.push(Box::new(move || consistent_alone(n)));
        contests.push(Box::new(move || consistent_change(n)));
    }
    contests
}

fn turns_unreleased(n: u32) -> Contest {
    let backends = backends(n);
    let mut balancer = balancer(Algorithm::RoundRobin, &backends, false);
    let ours = move |client| pick(&mut balancer, client).addr();
    let peer = select::<RoundRobin>(&backends, false);
    Contest::new(&backends, ("rr, never released", ours), ("pingora RoundRobin", peer))
}

fn turns_released(n: u32) -> Contest {
    let backends = backends(n);
    let ours = ours(Algorithm::RoundRobin, &backends, false);
    let peer = select::<RoundRobin>(&backends, false);
    Contest::new(&backends, ("rr", ours), ("pingora RoundRobin", peer))
}

fn turns_locked(n: u32) -> Contest {
    let backends = backends(n);
    let balancer = Mutex::new(balancer(Algorithm::RoundRobin, &backends, false));
    let ours = move |client| {
        let conn = pick(&mut lock(&balancer), client);
        let addr = conn.addr();
        lock(&balancer).release(conn).expect("a good id");
        addr
    };
    let peer = select::<RoundRobin>(&backends, false);
    Contest::new(&backends, ("rr, Mutex", ours), ("pingora RoundRobin", peer))
}

fn lock(balancer: &Mutex<Balancer>) -> MutexGuard<'_, Balancer> {
    balancer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn turns_alone(n: u32) -> Contest {
    let backends = backends(n);
    let ours = ours(Algorithm::RoundRobin, &backends, false);
    let peer = choose::<RoundRobin>(&backends, false);
    Contest::new(&backends, ("rr", ours), ("pingora RoundRobin, selection alone", peer))
}

fn weighted_turns(n: u32) -> Contest {
    let backends = backends(n);
    let ours = ours(Algorithm::WeightedRoundRobin, &backends, true);
    let peer = select::<RoundRobin>(&backends, true);
    Contest::new(&backends, ("wrr, weights 1 to 5", ours), ("pingora RoundRobin, weighted", peer))
}

fn lots(n: u32) -> Contest {
    let backends = backends(n);
    let ours = ours(Algorithm::Random, &backends, false);
    let peer = select::<Random>(&backends, false);
    Contest::new(&backends, ("random", ours), ("pingora Random", peer))
}

fn weighted_lots(n: u32) -> Contest {
    let backends = backends(n);
    let ours = ours(Algorithm::WeightedRandom, &backends, true);
    let peer = select::<Random>(&backends, true);
    Contest::new(&backends, ("wrandom, weights 1 to 5", ours), ("pingora Random, weighted", peer))
}

fn threads<S>(
    threads: u32,
    algorithm: Algorithm,
    our_name: &'static str,
    peer_name: &'static str,
) -> Contest
where
    S: BackendSelection<Iter: BackendIter> + Send + Sync + 'static,
{
    let backends = backends(100);
    let ours = SharedBalancer::new(balancer(algorithm, &backends, false));
    let ours = move || hold(ours.clone());
    let peer = Arc::new(load_balancer::<S>(&backends, false));
    let peer = move || selecting(Arc::clone(&peer));
    Contest::of_threads(threads, &backends, (our_name, ours), (peer_name, peer))
}

fn hash(n: u32) -> Contest {
    let backends = backends(n);
    let ours = ours(Algorithm::SourceHashing, &backends, false);
    let peer = select::<FNVHash>(&backends, false);
    Contest::new(&backends, ("sh", ours), ("pingora FNVHash", peer))
}

fn consistent(n: u32) -> Contest {
    let backends = backends(n);
    let ours = ours(Algorithm::MaglevHashing, &backends, false);
    let peer = select::<Consistent>(&backends, false);
    Contest::new(&backends, ("mh", ours), ("pingora Consistent", peer))
}

fn consistent_alone(n: u32) -> Contest {
    let backends = backends(n);
    let ours = ours(Algorithm::MaglevHashing, &backends, false);
    let peer = choose::<Consistent>(&backends, false);
    Contest::new(&backends, ("mh", ours), ("pingora Consistent, selection alone", peer))
}

fn consistent_change(n: u32) -> Contest {
    let backends = backends(n);
    let ours = one_changes(&backends, balancer(Algorithm::MaglevHashing, &backends, false));
    let mut victims = Victims::new(&backends);
    let mut present = set(&backends, false);
    let peer = move |client: SocketAddrV4| {
        match victims.next() {
            Change::Leaves(addr) => present.remove(&backend(addr, 1)),
            Change::Returns(addr) => present.insert(backend(addr, 1)),
        };
        victims.spared(first_choice(&Arc::new(Consistent::build(&present)), client))
    };
    let (ours, peer) = (("mh, one changes", ours), ("pingora Consistent, one changes", peer));
    Contest::new(&backends, ours, peer).of_rebuilds()
}

fn ours(
    algorithm: Algorithm,
    backends: &[SocketAddr],
    weighted: bool,
) -> impl FnMut(SocketAddrV4) -> SocketAddr + use<> {
    let mut balancer = balancer(algorithm, backends, weighted);
    move |client| pick_release(&mut balancer, client)
}

/// All of `LoadBalancer::select`.
fn select<S>(
    backends: &[SocketAddr],
    weighted: bool,
) -> impl FnMut(SocketAddrV4) -> SocketAddr + use<S>
where
    S: BackendSelection<Iter: BackendIter> + 'static,
{
    selecting(Box::new(load_balancer::<S>(backends, weighted)))
}

fn load_balancer<S>(backends: &[SocketAddr], weighted: bool) -> LoadBalancer<S>
where
    S: BackendSelection<Iter: BackendIter> + 'static,
{
    let discovery = Static::new(set(backends, weighted));
    let balancer = LoadBalancer::<S>::from_backends(Backends::new(discovery));
    at_once(balancer.update()).expect("a list is discovered without an error");
    balancer
}

fn selecting<S>(
    balancer: impl Deref<Target = LoadBalancer<S>>,
) -> impl FnMut(SocketAddrV4) -> SocketAddr
where
    S: BackendSelection<Iter: BackendIter> + 'static,
{
    move |client| {
        let backend = balancer.select(&client.ip().octets(), MAX_ITERATIONS).expect("a backend");
        address(&backend)
    }
}

/// The algorithm without health and without a clone.
fn choose<S>(
    backends: &[SocketAddr],
    weighted: bool,
) -> impl FnMut(SocketAddrV4) -> SocketAddr + use<S>
where
    S: BackendSelection<Iter: BackendIter> + 'static,
{
    let selection = Arc::new(S::build(&set(backends, weighted)));
    move |client| first_choice(&selection, client)
}

fn first_choice<S>(selection: &Arc<S>, client: SocketAddrV4) -> SocketAddr
where
    S: BackendSelection<Iter: BackendIter>,
{
    address(selection.iter(&client.ip().octets()).next().expect("a backend"))
}

fn set(backends: &[SocketAddr], weighted: bool) -> BTreeSet<Backend> {
    let backends = backends.iter().enumerate();
    backends.map(|(n, addr)| backend(*addr, weight(weighted, n))).collect()
}

fn backend(addr: SocketAddr, weight: u32) -> Backend {
    let weight = usize::try_from(weight).expect("a small number");
    Backend::new_with_weight(&addr.to_string(), weight).expect("an address")
}

fn address(backend: &Backend) -> SocketAddr {
    *backend.addr.as_inet().expect("an IP address")
}
