//! What was measured, in words.

use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// Until the changes were there.
    pub(crate) applied: Duration,
    /// Until the rules' delta was, too.
    pub(crate) all: Duration,
    /// Of the delta; 0 is no change of rules.
    pub(crate) size: usize,
}

/// What everything takes.
#[derive(Default)]
pub(crate) struct Afresh {
    pub(crate) endpoints: Duration,
    pub(crate) plan: Duration,
    pub(crate) rules: Duration,
    pub(crate) size: usize,
}

pub(crate) struct Report {
    unit: &'static str,
    services: usize,
    pods: usize,
    pub(crate) build: Duration,
    pub(crate) memory: usize,
    pub(crate) memory_of_new: usize,
    /// At the beginning of each day.
    pub(crate) days: Vec<usize>,
    pub(crate) times: Vec<Times>,
    pub(crate) afresh: Afresh,
}

impl Report {
    pub(crate) fn new(unit: &'static str, services: usize, pods: usize) -> Self {
        Self {
            unit,
            services,
            pods,
            build: Duration::ZERO,
            memory: 0,
            memory_of_new: 0,
            days: Vec::new(),
            times: Vec::new(),
            afresh: Afresh::default(),
        }
    }
}

fn mib(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1_024.0
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// What `part` of a hundred thousand are not above.
fn percentile<T: Copy>(sorted: &[T], part: usize) -> Option<T> {
    sorted.get((sorted.len() * part).div_ceil(100_000).saturating_sub(1)).copied()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, services, pods, .. } = self;
        let per_pod = self.memory / (*pods).max(1);
        writeln!(
            f,
            "{services} Services, {pods} pods: built in {:.2} s",
            self.build.as_secs_f64()
        )?;
        writeln!(f, "memory {:.1} MiB, {per_pod} bytes a pod", mib(self.memory))?;

        let spent: Duration = self.times.iter().map(|times| times.all).sum();
        let events = self.times.len();
        let rate = f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / spent.as_secs_f64();
        writeln!(f, "\n{events} events in {:.2} s: {rate:.0} a second", spent.as_secs_f64())?;
        let head = ["p50", "p90", "p99", "p99.9", "most"];
        let parts = [50_000, 90_000, 99_000, 99_900, 100_000];
        write!(f, "{:<28}", "")?;
        head.iter().try_for_each(|name| write!(f, "{name:>11}"))?;
        let mut row = |name: &str, of: &dyn Fn(&Times) -> Option<Duration>| {
            let mut sorted: Vec<Duration> = self.times.iter().filter_map(of).collect();
            sorted.sort_unstable();
            write!(f, "\n{name:<28}")?;
            parts.iter().try_for_each(|&part| {
                let at = percentile(&sorted, part).unwrap_or_default();
                write!(f, "{:>8.1} µs", micros(at))
            })
        };
        row("event to changes", &|times| Some(times.applied))?;
        row("event to rules", &|times| Some(times.all))?;
        row("  where rules change", &|times| (times.size > 0).then_some(times.all))?;
        let mut sizes: Vec<usize> =
            self.times.iter().map(|times| times.size).filter(|size| *size > 0).collect();
        sizes.sort_unstable();
        write!(f, "\n{:<28}", format!("{unit} of rules"))?;
        for part in parts {
            write!(f, "{:>11}", percentile(&sizes, part).unwrap_or_default())?;
        }
        writeln!(f, "\n{} events change no rule", events - sizes.len())?;

        let Afresh { endpoints, plan, rules, size } = &self.afresh;
        let all = *endpoints + *plan + *rules;
        let millis = |duration: &Duration| duration.as_secs_f64() * 1e3;
        writeln!(
            f,
            "\neverything anew: {:.0} ms (endpoints {:.0}, plan {:.0}, rules {:.0}), {size} {unit}",
            millis(&all),
            millis(endpoints),
            millis(plan),
            millis(rules),
        )?;
        let mut sorted: Vec<Duration> = self.times.iter().map(|times| times.all).collect();
        sorted.sort_unstable();
        if let Some(median) = percentile(&sorted, 50_000).filter(|median| !median.is_zero()) {
            let ratio = all.as_secs_f64() / median.as_secs_f64();
            writeln!(f, "that is {ratio:.0} times the event at p50")?;
        }
        if self.days.len() > 1 {
            let days: Vec<String> =
                self.days.iter().map(|&bytes| format!("{:.1}", mib(bytes))).collect();
            writeln!(f, "\nmemory at the beginning of each day, in MiB: {}", days.join(" "))?;
        }
        writeln!(
            f,
            "memory of a new catalog of the same objects: {:.1} MiB; it is equal",
            mib(self.memory_of_new)
        )
    }
}
