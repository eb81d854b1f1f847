//! What a run comes to, in numbers.

use svcplane::sched::Algorithm;

use super::scenario::{Scenario, Slow};
use super::simulation::{ADDING, Drawn, Moves, Outcome, REMOVAL};

/// `None` is what did not happen.
pub(crate) struct Measures {
    pub(crate) algorithm: Algorithm,
    /// The load of the busiest backend by that of all together, on average over time.
    pub(crate) imbalance: Option<f64>,
    /// The same at its worst.
    pub(crate) peak: Option<f64>,
    /// The slow backend's connections by what its weight says, from when it is slow.
    pub(crate) slow: Option<f64>,
    /// How many times as long connections last as if nothing were slow.
    pub(crate) stretch: Option<f64>,
    /// The added backend's share of new connections in its first second and its first ten.
    pub(crate) first: [Option<f64>; 2],
    /// The share of clients that moved for no need when a backend was added, and when one was removed.
    pub(crate) moved: [Option<f64>; 2],
    /// The mean load of each backend, while it is listed.
    pub(crate) loads: Vec<Option<f64>>,
    pub(crate) refused: u64,
}

impl Measures {
    pub(crate) fn new(scenario: &Scenario, outcome: &Outcome) -> Self {
        let mut imbalance = Mean::default();
        let mut peak = None::<f64>;
        let mut slow = Mean::default();
        let mut loads: Vec<Mean> = scenario.backends.iter().map(|_| Mean::default()).collect();
        for (n, sample) in (1..).zip(&outcome.samples) {
            let at = scenario.sample_time(n);
            if at < scenario.warm_up {
                continue;
            }
            let listed = || (0..sample.len()).filter(|&backend| scenario.listed(backend, at));
            let weight = |backend: usize| f64::from(scenario.backends[backend].weight);
            let load = |backend: usize| f64::from(sample[backend]) / weight(backend);
            listed().for_each(|backend| loads[backend].add(load(backend)));
            let active: f64 = listed().map(|backend| f64::from(sample[backend])).sum();
            let mean = active / listed().map(weight).sum::<f64>();
            if active == 0.0 {
                continue;
            }
            let busiest = listed().map(load).fold(0.0, f64::max) / mean;
            imbalance.add(busiest);
            peak = Some(peak.map_or(busiest, |peak| peak.max(busiest)));
            let is_slow =
                |event: &Slow| event.event.at <= at && scenario.listed(event.event.backend, at);
            if let Some(Slow { event, .. }) = scenario.slow.filter(is_slow) {
                slow.add(load(event.backend) / mean);
            }
        }
        let stretch = outcome.lasted.as_secs_f64() / outcome.nominal.as_secs_f64();
        Self {
            algorithm: outcome.algorithm,
            imbalance: imbalance.value(),
            peak,
            slow: slow.value(),
            stretch: Some(stretch).filter(|stretch| stretch.is_finite()),
            first: outcome.first.map(Drawn::share),
            moved: [ADDING, REMOVAL].map(|change| outcome.moves[change].share()),
            loads: loads.iter().map(Mean::value).collect(),
            refused: outcome.refused,
        }
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

impl Drawn {
    fn share(self) -> Option<f64> {
        (self.connections > 0).then(|| f64::from(self.to_added) / f64::from(self.connections))
    }
}

impl Moves {
    fn share(self) -> Option<f64> {
        (self.returned > 0).then(|| f64::from(self.moved) / f64::from(self.returned))
    }
}
