//! What connections share: the plan, a balancer for each route, the affinity table. Time enters here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{BackendId, Flow};
use svcplane::balancer::Balancer;
use svcplane::net::IpFamily;
use svcplane::plan::{Changes, Packet, Plan, ServicePortName, Verdict};
use svcplane::sched::{Algorithm, Entry, Flags};
use svcplane::service::TrafficPolicy;
use svcplane::sync::{Lease, SharedBalancer};
use svcplane::time::Instant;
use tokio::sync::watch;

use crate::cluster::Cluster;

type RouteKey = (ServicePortName, IpFamily, TrafficPolicy);

/// At most so many clients are remembered, over all Services.
const AFFINITY_CAPACITY: usize = 1 << 20;

pub(crate) struct Shared {
    pub(crate) options: Options,
    started: std::time::Instant,
    seed: u64,
    plan: RwLock<Plan>,
    /// Grows with every plan.
    generation: AtomicU64,
    balancers: RwLock<HashMap<RouteKey, SharedBalancer>>,
    affinity: Mutex<Affinity<SocketAddr>>,
    /// Numbers for the table's scopes.
    scopes: RwLock<HashMap<ServicePortName, u32>>,
    open: watch::Sender<usize>,
}

#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// Dial loopback addresses only; others fail at once.
    pub(crate) demo: bool,
    /// Report every connection.
    pub(crate) verbose: bool,
    /// For Services that ask for none.
    pub(crate) scheduler: Algorithm,
}

/// The backends of one route, and what goes to them.
pub(crate) struct Counts {
    pub(crate) route: String,
    pub(crate) algorithm: Algorithm,
    /// Whether each is listed, or removed and still has connections.
    pub(crate) backends: Vec<(Entry, bool)>,
}

impl Shared {
    /// One that is to follow the changes of a cluster from its beginning.
    pub(crate) fn new(options: Options, cluster: &Cluster, changes: &Changes) -> Self {
        let seed = std::process::id().into();
        let empty = Plan::empty(cluster.plan().node().clone(), cluster.plan().mode());
        let shared = Self {
            options,
            started: std::time::Instant::now(),
            seed,
            plan: RwLock::new(empty),
            generation: AtomicU64::new(0),
            balancers: RwLock::default(),
            affinity: Mutex::new(Affinity::new(AFFINITY_CAPACITY, seed)),
            scopes: RwLock::default(),
            open: watch::Sender::new(0),
        };
        shared.follow(changes);
        shared
    }

    pub(crate) fn now(&self) -> Instant {
        self.started.elapsed().into()
    }

    pub(crate) fn plan(&self) -> RwLockReadGuard<'_, Plan> {
        read(&self.plan)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Takes up what has changed. Backends that stay keep their counts; connections to those that go live on.
    pub(crate) fn follow(&self, changes: &Changes) {
        let now = self.now();
        {
            let mut balancers = write(&self.balancers);
            for (_, change) in changes.services() {
                for route in change.routes() {
                    let key = (route.port.clone(), route.family, route.policy);
                    let Some(after) = route.after else {
                        // Connections hold on to the balancer that they are counted in.
                        balancers.remove(&key);
                        continue;
                    };
                    let algorithm = after.scheduler.unwrap_or(self.options.scheduler);
                    // One of its own, so that routes do not all begin alike.
                    let seed = self.seed.wrapping_add(balancers.len() as u64);
                    let new = || Balancer::new(algorithm, seed).into();
                    balancers.entry(key).or_insert_with(new).with(|balancer| {
                        balancer.set_algorithm(algorithm, Flags::default(), seed);
                        balancer.change(route.backends(), now);
                    });
                }
            }
        }
        let mut scopes = write(&self.scopes);
        let after = changes.services().filter_map(|(_, change)| change.after.as_ref());
        for port in after.flat_map(|service| &service.ports) {
            if let (Some(_), Ok(next)) = (port.client_ip_affinity, u32::try_from(scopes.len())) {
                scopes.entry(port.name.clone()).or_insert(next);
            }
        }
        write(&self.plan).apply(changes);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Picks a backend for a flow, other than those tried; or says why there is none.
    pub(crate) fn pick(
        &self,
        packet: &Packet,
        client: SocketAddr,
        tried: &[BackendId],
    ) -> Result<Lease, &'static str> {
        const NONE: &str = "no endpoints";
        let plan = self.plan();
        let route = match plan.route(packet) {
            Verdict::Forward(route) => route,
            Verdict::Reject => return Err(NONE),
            Verdict::Drop => return Err("not for this source, or no endpoints on this node"),
            Verdict::Accept(_) | Verdict::Pass => return Err("no Service is here any more"),
        };
        let key = (route.port.name.clone(), route.port.family, route.policy);
        let balancers = read(&self.balancers);
        let balancer = balancers.get(&key).ok_or(NONE)?;
        let scope = route.port.client_ip_affinity.and_then(|timeout| {
            let scopes = read(&self.scopes);
            scopes.get(&route.port.name).map(|&id| Scope::new(id, timeout))
        });
        let flow = Flow::new(client, packet.destination);
        let now = self.now();
        let lease = match scope {
            Some(scope) => {
                balancer.with_affinity(&self.affinity, scope).pick_except(&flow, tried, now)
            }
            None => balancer.pick_except(&flow, tried, now),
        };
        lease.ok_or(NONE)
    }

    /// The backends of the routes, in the order of their names; of those to local endpoints only where connections are open.
    pub(crate) fn counts(&self) -> Vec<Counts> {
        let mut routes: Vec<(RouteKey, SharedBalancer)> =
            read(&self.balancers).iter().map(|(key, one)| (key.clone(), one.clone())).collect();
        let is_local = |key: &RouteKey| key.2 == TrafficPolicy::Local;
        routes.sort_by_key(|(key, _)| (key.0.clone(), key.1, is_local(key)));
        let counts = |(key, balancer): (RouteKey, SharedBalancer)| {
            let busy = |entry: &Entry| entry.active() > 0 || entry.inactive() > 0;
            let (algorithm, backends) = balancer.with(|balancer| {
                let listed = balancer.iter().map(|(_, entry)| (*entry, true));
                let removed = balancer.removed().map(|(_, entry)| (*entry, false));
                let removed = removed.filter(|(entry, _)| busy(entry));
                (balancer.algorithm(), listed.chain(removed).collect::<Vec<_>>())
            });
            let local = is_local(&key);
            let shown = backends.iter().any(|(entry, _)| !local || busy(entry));
            let route = if local { format!("{} (local)", key.0) } else { key.0.to_string() };
            shown.then_some(Counts { route, algorithm, backends })
        };
        routes.into_iter().filter_map(counts).collect()
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn opened(self: &Arc<Self>) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(Arc::clone(self))
    }

    pub(crate) fn open_connections(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }
}

pub(crate) struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

// A panic of one connection's task leaves the data whole: every critical section is a single call.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
