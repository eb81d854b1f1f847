//! What is counted, by phase, and the table of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Losses told in full; the rest are counted.
const TOLD: usize = 20;
/// At most so many latencies a phase are kept.
const LATENCIES: usize = 1 << 20;

/// The figures of a phase.
#[derive(Default)]
struct Phase {
    name: &'static str,
    connections: u64,
    bytes: u64,
    /// Not served, while there was no backend or no descriptor.
    refused: u64,
    /// Ended by their backend's death.
    died: u64,
    lost: u64,
    /// From the call of `connect` to the first byte of the backend's answer.
    latencies: Vec<u32>,
    /// The most that the proxy had at once.
    fds: u64,
    rss: u64,
}

/// Counters that all clients share.
#[derive(Default)]
pub(crate) struct Figures(Mutex<State>);

#[derive(Default)]
struct State {
    phases: Vec<Phase>,
    lost: BTreeMap<String, u64>,
    total: u64,
}

impl Figures {
    /// From now on it counts for this phase.
    pub(crate) fn begin(&self, name: &'static str) {
        self.with(|state| state.phases.push(Phase { name, ..Phase::default() }));
        eprintln!("{name} ...");
    }

    pub(crate) fn connected(&self, latency: Duration) {
        self.phase(|phase| {
            phase.connections += 1;
            if phase.latencies.len() < LATENCIES {
                phase.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
            }
        });
    }

    pub(crate) fn carried(&self, bytes: usize) {
        self.phase(|phase| phase.bytes += bytes as u64);
    }

    pub(crate) fn refused(&self) {
        self.phase(|phase| phase.refused += 1);
    }

    pub(crate) fn died(&self) {
        self.phase(|phase| phase.died += 1);
    }

    pub(crate) fn sampled(&self, fds: u64, rss: u64) {
        self.phase(|phase| {
            phase.fds = phase.fds.max(fds);
            phase.rss = phase.rss.max(rss);
        });
    }

    /// Something that need not have been lost was.
    pub(crate) fn lost(&self, what: impl Into<String>) {
        self.with(|state| {
            let name = state.phases.last_mut().map_or("before", |phase| {
                phase.lost += 1;
                phase.name
            });
            state.total += 1;
            let what = format!("{name}: {}", what.into());
            if state.lost.len() < TOLD || state.lost.contains_key(&what) {
                *state.lost.entry(what).or_default() += 1;
            }
        });
    }

    /// A check of its own kind: lost if it does not hold.
    pub(crate) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.lost(what());
        }
    }

    /// Connections that were not served in this phase, because they could not be.
    pub(crate) fn refusals(&self) -> u64 {
        self.with(|state| state.phases.last().map_or(0, |phase| phase.refused))
    }

    /// The latency of this phase that a part of its connections do not exceed.
    pub(crate) fn latency(&self, part: f64) -> Duration {
        self.with(|state| state.phases.last().map_or(Duration::ZERO, |phase| phase.latency(part)))
    }

    /// Everything that was lost, the number of each.
    pub(crate) fn losses(&self) -> (u64, Vec<String>) {
        self.with(|state| {
            let told = state.lost.iter().map(|(what, count)| format!("{count} x {what}"));
            (state.total, told.collect())
        })
    }

    /// A line for each phase.
    pub(crate) fn table(&self) -> String {
        self.with(|state| {
            let mut text = format!(
                "{:<14}{:>9}{:>9}{:>9}{:>7}{:>11}{:>10}{:>10}{:>7}{:>9}\n",
                "phase",
                "connected",
                "refused",
                "died",
                "lost",
                "MB",
                "p50 ms",
                "p99 ms",
                "fds",
                "RSS MB"
            );
            for phase in &state.phases {
                text += &phase.line();
            }
            text
        })
    }

    fn phase(&self, work: impl FnOnce(&mut Phase)) {
        self.with(|state| state.phases.last_mut().map(work));
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Phase {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rank among at most a million"
    )]
    fn latency(&self, part: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * part) as usize;
        let micros = sorted.get(rank.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0);
        Duration::from_micros(micros.into())
    }

    fn line(&self) -> String {
        format!(
            "{:<14}{:>9}{:>9}{:>9}{:>7}{:>11}{:>10}{:>10}{:>7}{:>9}\n",
            self.name,
            self.connections,
            self.refused,
            self.died,
            self.lost,
            tenths(self.bytes, 1_000_000),
            millis(self.latency(0.5)),
            millis(self.latency(0.99)),
            self.fds,
            tenths(self.rss, 1_000_000)
        )
    }
}

fn millis(duration: Duration) -> String {
    tenths(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), 1000)
}

/// A quotient with one digit after the point.
pub(crate) fn tenths(number: u64, unit: u64) -> String {
    let tenths = number.saturating_mul(10) / unit;
    format!("{}.{}", tenths / 10, tenths % 10)
}
