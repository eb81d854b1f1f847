//! One scheduler on the workload: a queue of events in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use svcplane::affinity::{Affinity, Scope};
use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::{Algorithm, Flags};
use svcplane::time::Instant;

use super::scenario::{Event, SAMPLES, Scenario};
use super::workload::{Arrival, Arrivals, Draw};

/// What was seen of one scheduler.
pub(crate) struct Outcome {
    pub(crate) algorithm: Algorithm,
    /// The active connections of each backend, of all instances, at each [`Scenario::sample_time`].
    pub(crate) samples: Vec<Vec<u32>>,
    /// New connections in the first second and the first ten after a backend was added.
    pub(crate) first: [Drawn; 2],
    /// By [`ADDING`] and [`REMOVAL`].
    pub(crate) moves: [Moves; 2],
    /// How long all connections last, and would last where nothing is slow.
    pub(crate) lasted: Duration,
    pub(crate) nominal: Duration,
    pub(crate) refused: u64,
}

/// New connections, and how many of them went to the added backend.
#[derive(Clone, Copy, Default)]
pub(crate) struct Drawn {
    pub(crate) connections: u32,
    pub(crate) to_added: u32,
}

/// Clients who came again after a change that need not have moved them, and how many of them it did move.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moves {
    pub(crate) returned: u32,
    pub(crate) moved: u32,
}

pub(crate) const ADDING: usize = 0;
pub(crate) const REMOVAL: usize = 1;

/// In which time each of [`Outcome::first`] is counted.
pub(crate) const FIRST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrival,
    /// Of a connection.
    End(usize),
    Sample(u32),
    Adding,
    Removal,
}

struct Instance {
    balancer: Balancer,
    affinity: Affinity<SocketAddr>,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    instances: Vec<Instance>,
    by_addr: HashMap<SocketAddr, usize>,
    arrivals: Arrivals<'a>,
    next: Option<Arrival>,
    /// The number keeps those of one time in the order in which they were scheduled.
    queue: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    scheduled: u64,
    /// The open connections with their instances; vacant places are listed in `free`.
    open: Vec<Option<(usize, Conn)>>,
    free: Vec<usize>,
    /// Where each client went last.
    last: Vec<Option<usize>>,
    /// Where each client had gone last when the backends changed last, until it comes again.
    before: Vec<Option<usize>>,
    /// That change, and whose moves it makes.
    change: Option<(Event, usize)>,
    outcome: Outcome,
}

/// Runs to the end; `advance` is called at each connection.
pub(crate) fn run(scenario: &Scenario, algorithm: Algorithm, advance: impl FnMut()) -> Outcome {
    let mut simulation = Simulation::new(scenario, algorithm);
    simulation.run(advance);
    simulation.outcome
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, algorithm: Algorithm) -> Self {
        let mut seeds = Draw::new(!scenario.seed);
        let flags = Flags { head: scenario.head, ..Flags::default() };
        let clients = scenario.clients as usize;
        let instances = (0..scenario.instances).map(|_| {
            let mut balancer = Balancer::with_flags(algorithm, flags, seeds.next());
            let at_first = &scenario.backends[..scenario.at_first];
            balancer.set_backends(at_first.iter().copied(), Instant::ZERO);
            balancer.set_slow_start(scenario.slow_start);
            Instance { balancer, affinity: Affinity::new(clients, seeds.next()) }
        });
        Self {
            scenario,
            instances: instances.collect(),
            by_addr: scenario.backends.iter().enumerate().map(|(i, b)| (b.addr, i)).collect(),
            arrivals: Arrivals::new(scenario),
            next: None,
            queue: BinaryHeap::new(),
            scheduled: 0,
            open: Vec::new(),
            free: Vec::new(),
            last: vec![None; clients],
            before: vec![None; clients],
            change: None,
            outcome: Outcome {
                algorithm,
                samples: Vec::new(),
                first: [Drawn::default(); 2],
                moves: [Moves::default(); 2],
                lasted: Duration::ZERO,
                nominal: Duration::ZERO,
                refused: 0,
            },
        }
    }

    fn run(&mut self, mut advance: impl FnMut()) {
        if let Some(Event { at, .. }) = self.scenario.added {
            self.schedule(at, Happening::Adding);
        }
        if let Some(Event { at, .. }) = self.scenario.removed {
            self.schedule(at, Happening::Removal);
        }
        self.schedule(self.scenario.sample_time(1), Happening::Sample(1));
        self.expect_arrival();
        while let Some(Reverse((now, _, happening))) = self.queue.pop() {
            match happening {
                Happening::Arrival => {
                    if let Some(arrival) = self.next.take() {
                        self.connect(&arrival);
                        advance();
                    }
                    self.expect_arrival();
                }
                Happening::End(at) => self.end(at),
                Happening::Sample(n) => {
                    self.sample();
                    if n == SAMPLES {
                        break;
                    }
                    self.schedule(self.scenario.sample_time(n + 1), Happening::Sample(n + 1));
                }
                Happening::Adding => self.add(now),
                Happening::Removal => self.remove(now),
            }
        }
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.queue.push(Reverse((at, self.scheduled, happening)));
        self.scheduled += 1;
    }

    fn expect_arrival(&mut self) {
        self.next = self.arrivals.next();
        if let Some(arrival) = &self.next {
            let at = arrival.at;
            self.schedule(at, Happening::Arrival);
        }
    }

    fn connect(&mut self, arrival: &Arrival) {
        let now = arrival.at;
        let Instance { balancer, affinity } = &mut self.instances[arrival.instance];
        let conn = match self.scenario.affinity {
            Some(timeout) => {
                let scope = Scope::new(1, timeout);
                balancer.with_affinity(affinity, scope).pick(&arrival.flow, now)
            }
            None => balancer.pick(&arrival.flow, now),
        };
        let Some(mut conn) = conn else {
            self.outcome.refused += 1;
            return;
        };
        balancer.activate(&mut conn).expect("a connection of this balancer");
        let backend = self.by_addr[&conn.addr()];
        let length = self.scenario.length(arrival.length, backend, now);
        self.outcome.lasted += length;
        self.outcome.nominal += arrival.length;
        self.note(arrival.client, backend, now);
        let at = self.free.pop().unwrap_or(self.open.len());
        if at == self.open.len() {
            self.open.push(None);
        }
        self.open[at] = Some((arrival.instance, conn));
        self.schedule(now + length, Happening::End(at));
    }

    /// Counts what the change before has done to a client and its connection.
    fn note(&mut self, client: usize, backend: usize, now: Instant) {
        self.last[client] = Some(backend);
        if let Some(added) = self.scenario.added.filter(|added| added.at <= now) {
            for (drawn, limit) in self.outcome.first.iter_mut().zip(FIRST) {
                if now < added.at + limit {
                    drawn.connections += 1;
                    drawn.to_added += u32::from(backend == added.backend);
                }
            }
        }
        let before = self.before[client].take();
        let (Some(before), Some((change, moves))) = (before, self.change) else { return };
        // It had to go elsewhere, or is the new one's now.
        if change.backend == before || moves == ADDING && change.backend == backend {
            return;
        }
        let moves = &mut self.outcome.moves[moves];
        moves.returned += 1;
        moves.moved += u32::from(backend != before);
    }

    fn end(&mut self, at: usize) {
        if let Some((instance, conn)) = self.open[at].take() {
            let balancer = &mut self.instances[instance].balancer;
            balancer.release(conn).expect("a connection of this balancer");
            self.free.push(at);
        }
    }

    fn sample(&mut self) {
        let active = |addr| {
            let of = |balancer: &Balancer| Some(balancer.get(balancer.find(addr)?)?.active());
            self.instances.iter().filter_map(|instance| of(&instance.balancer)).sum()
        };
        self.outcome.samples.push(self.scenario.backends.iter().map(|b| active(b.addr)).collect());
    }

    fn add(&mut self, now: Instant) {
        let Some(added) = self.scenario.added else { return };
        for instance in &mut self.instances {
            instance.balancer.add(self.scenario.backends[added.backend], now);
        }
        self.changed(added, ADDING);
    }

    fn remove(&mut self, now: Instant) {
        let Some(removed) = self.scenario.removed else { return };
        let addr = self.scenario.backends[removed.backend].addr;
        for Instance { balancer, .. } in &mut self.instances {
            let id = balancer.find(addr).expect("a backend that is listed");
            balancer.remove(id, now).expect("a backend that is listed");
        }
        self.changed(removed, REMOVAL);
    }

    fn changed(&mut self, change: Event, moves: usize) {
        self.before.clone_from(&self.last);
        self.change = Some((change, moves));
    }
}
