//! What connections share: the plan, a balancer for each route, the affinity table. Time enters here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{BackendId, Flow};
use svcplane::balancer::{Balancer, Conn};
use svcplane::net::IpFamily;
use svcplane::plan::{Packet, Plan, ServicePortName, Verdict};
use svcplane::sched::Algorithm;
use svcplane::service::TrafficPolicy;
use svcplane::time::Instant;
use tokio::sync::watch;

type RouteKey = (ServicePortName, IpFamily, TrafficPolicy);
type SharedBalancer = Arc<Mutex<Balancer>>;

/// At most so many clients are remembered, over all Services.
const AFFINITY_CAPACITY: usize = 1 << 20;

pub(crate) struct Shared {
    pub(crate) options: Options,
    started: std::time::Instant,
    plan: RwLock<Arc<Plan>>,
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
}

impl Shared {
    pub(crate) fn new(options: Options, plan: Plan) -> Self {
        let seed = std::process::id().into();
        let shared = Self {
            options,
            started: std::time::Instant::now(),
            plan: RwLock::new(Arc::new(plan.clone())),
            generation: AtomicU64::new(0),
            balancers: RwLock::default(),
            affinity: Mutex::new(Affinity::new(AFFINITY_CAPACITY, seed)),
            scopes: RwLock::default(),
            open: watch::Sender::new(0),
        };
        shared.set_plan(plan);
        shared
    }

    pub(crate) fn now(&self) -> Instant {
        self.started.elapsed().into()
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&read(&self.plan))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Takes up a new plan. Backends that stay keep their counts; connections to those that go live on.
    pub(crate) fn set_plan(&self, plan: Plan) {
        let now = self.now();
        let mut wanted = HashMap::new();
        for port in plan.ports() {
            for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
                wanted.insert((port.name.clone(), port.family, policy), port.backends(policy));
            }
        }
        {
            let mut balancers = write(&self.balancers);
            // Connections hold on to the balancer that they are counted in.
            balancers.retain(|key, _| wanted.contains_key(key));
            for (key, backends) in wanted {
                let balancer = balancers.entry(key).or_insert_with(|| {
                    Arc::new(Mutex::new(Balancer::new(Algorithm::RoundRobin, 0)))
                });
                let backends = backends.iter().copied();
                lock(balancer).set_backends(backends, now);
            }
        }
        let mut scopes = write(&self.scopes);
        for port in plan.ports() {
            if let (Some(_), Ok(next)) = (port.client_ip_affinity, u32::try_from(scopes.len())) {
                scopes.entry(port.name.clone()).or_insert(next);
            }
        }
        *write(&self.plan) = Arc::new(plan);
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
            Verdict::Pass => return Err("no Service is here any more"),
        };
        let key = (route.port.name.clone(), route.port.family, route.policy);
        let Some(balancer) = read(&self.balancers).get(&key).cloned() else {
            return Err(NONE);
        };
        let scope = route.port.client_ip_affinity.and_then(|timeout| {
            let scopes = read(&self.scopes);
            scopes.get(&route.port.name).map(|&id| Scope::new(id, timeout))
        });
        let flow = Flow::new(client, packet.destination);
        let now = self.now();
        let conn = {
            let mut balancer = lock(&balancer);
            match scope {
                Some(scope) => {
                    let mut table = lock(&self.affinity);
                    balancer.with_affinity(&mut table, scope).pick_except(&flow, tried, now)
                }
                None => balancer.pick_except(&flow, tried, now),
            }
        };
        let conn = conn.ok_or(NONE)?;
        Ok(Lease { balancer, conn: Some(conn) })
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

/// A picked connection, released when dropped.
pub(crate) struct Lease {
    balancer: SharedBalancer,
    conn: Option<Conn>,
}

impl Lease {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.conn().addr()
    }

    pub(crate) fn backend(&self) -> BackendId {
        self.conn().backend()
    }

    pub(crate) fn activate(&mut self) {
        if let Some(conn) = &mut self.conn {
            // The balancer is the one that made the connection, so the id is good.
            let _ = lock(&self.balancer).activate(conn);
        }
    }

    fn conn(&self) -> &Conn {
        self.conn.as_ref().expect("a lease has its connection until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = lock(&self.balancer).release(conn);
        }
    }
}

// A panic of one connection's task leaves the data whole: every critical section is a single call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
