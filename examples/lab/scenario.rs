//! What happens in the lab, checked.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use svcplane::backend::Backend;
use svcplane::sched::Algorithm;
use svcplane::time::Instant;

use super::{Args, When};

pub(crate) struct Scenario {
    /// Those of the beginning, then the added one.
    pub(crate) backends: Vec<Backend>,
    pub(crate) at_first: usize,
    pub(crate) clients: u32,
    /// So many of them share an address.
    pub(crate) behind_nat: u32,
    pub(crate) rate: f64,
    pub(crate) short: Duration,
    pub(crate) long: Duration,
    pub(crate) long_share: f64,
    pub(crate) slow: Option<Slow>,
    pub(crate) added: Option<Event>,
    pub(crate) removed: Option<Event>,
    pub(crate) slow_start: Duration,
    pub(crate) affinity: Option<Duration>,
    pub(crate) instances: u16,
    pub(crate) head: bool,
    pub(crate) end: Instant,
    pub(crate) warm_up: Instant,
    pub(crate) seed: u64,
    schedulers: Vec<Algorithm>,
}

/// Something that happens to a backend.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) backend: usize,
    pub(crate) at: Instant,
}

#[derive(Clone, Copy)]
pub(crate) struct Slow {
    pub(crate) event: Event,
    pub(crate) factor: f64,
}

/// How many times the load is looked at, at even intervals.
pub(crate) const SAMPLES: u32 = 2000;

impl Scenario {
    pub(crate) fn new(args: &Args) -> Result<Self, String> {
        let at_first = usize::from(args.backends);
        let weights = args.weights.iter().cycle();
        let backends = (1..=args.backends + 1).zip(weights).map(|(n, &weight)| {
            let [high, low] = n.to_be_bytes();
            let addr = SocketAddr::from((Ipv4Addr::new(10, 0, high, low), 8080));
            Backend::new(addr).with_weight(weight)
        });
        let time = |option: &str, at: Duration| {
            if at < args.duration {
                return Ok(Instant::from(at));
            }
            let (at, end) = (at.as_secs_f64(), args.duration.as_secs_f64());
            Err(format!("{option} {at}: expected less than the duration, {end}"))
        };
        let event = |number: (&str, u16), option: &str, at: When| {
            let (name, number) = number;
            let Some(at) = at.0 else { return Ok(None) };
            if number == 0 || number > args.backends {
                return Err(format!("{name} {number}: expected 1 to {}", args.backends));
            }
            let at = time(option, at)?;
            Ok(Some(Event { backend: usize::from(number) - 1, at }))
        };
        let repeated = |&n: &usize| args.schedulers[..n].contains(&args.schedulers[n]);
        if let Some(n) = (0..args.schedulers.len()).find(repeated) {
            return Err(format!("--schedulers: {} is named twice", args.schedulers[n]));
        }
        let slow = event(("--slow", args.slow), "--slow-at", args.slow_at)?;
        let add_at = args.add_at.0.map(|at| time("--add-at", at)).transpose()?;
        Ok(Self {
            backends: backends.take(at_first + usize::from(add_at.is_some())).collect(),
            at_first,
            clients: args.clients,
            behind_nat: part(args.nat, args.clients),
            rate: args.rate,
            short: args.short,
            long: args.long,
            long_share: args.long_share,
            slow: slow.map(|event| Slow { event, factor: args.slow_factor }),
            added: add_at.map(|at| Event { backend: at_first, at }),
            removed: event(("--remove", args.remove), "--remove-at", args.remove_at)?,
            slow_start: args.slow_start,
            affinity: args.affinity,
            instances: args.instances,
            head: args.head,
            end: Instant::from(args.duration),
            warm_up: time("--warm-up", args.warm_up)?,
            seed: args.seed,
            schedulers: args.schedulers.clone(),
        })
    }

    pub(crate) fn schedulers(&self) -> Vec<Algorithm> {
        let mut all = Algorithm::ALL.to_vec();
        // There is one virtual address only.
        all.retain(|&algorithm| algorithm != Algorithm::DestinationHashing);
        if self.schedulers.is_empty() { all } else { self.schedulers.clone() }
    }

    pub(crate) fn expected_connections(&self) -> f64 {
        self.rate * seconds(self.end)
    }

    /// How long a connection lasts that begins now at a backend.
    pub(crate) fn length(&self, nominal: Duration, backend: usize, now: Instant) -> Duration {
        match self.slow {
            Some(Slow { event, factor }) if event.backend == backend && event.at <= now => {
                Duration::from_secs_f64(nominal.as_secs_f64() * factor)
            }
            _ => nominal,
        }
    }

    /// Whether new connections may go to a backend at a time.
    pub(crate) fn listed(&self, backend: usize, at: Instant) -> bool {
        let is = |event: &Event| event.backend == backend;
        self.added.filter(is).is_none_or(|event| event.at <= at)
            && self.removed.filter(is).is_none_or(|event| at < event.at)
    }

    /// What the added backend's weight says that it gets.
    pub(crate) fn fair_share_of_added(&self) -> Option<f64> {
        let added = self.added?;
        let weight = |backend: usize| f64::from(self.backends[backend].weight);
        let listed = (0..self.backends.len()).filter(|&backend| self.listed(backend, added.at));
        Some(weight(added.backend) / listed.map(weight).sum::<f64>())
    }

    /// In words, a line for the connections and one for the backends.
    pub(crate) fn description(&self) -> [String; 2] {
        let Self { rate, clients, instances, .. } = self;
        let (short, long) = (self.short.as_secs_f64(), self.long.as_secs_f64());
        let mut connections = format!(
            "{rate} connections/s from {clients} clients, {} of them behind one address; {} % last {long} s on average, the rest {short} s",
            self.behind_nat,
            self.long_share * 100.0
        );
        if *instances > 1 {
            let _ = write!(connections, "; {instances} instances");
        }
        if let Some(timeout) = self.affinity {
            let _ = write!(connections, "; affinity for {} s", timeout.as_secs_f64());
        }
        let weights: Vec<u32> = self.backends.iter().map(|backend| backend.weight).collect();
        let mut backends = format!("{} backends", self.at_first);
        if self.weights_differ() {
            let shown: Vec<String> = weights.iter().take(4).map(u32::to_string).collect();
            let more = if weights.len() > 4 { " …" } else { "" };
            let _ = write!(backends, " of weights {}{more}", shown.join(" "));
        } else {
            let _ = write!(backends, " of weight {}", weights[0]);
        }
        if let Some(Slow { event, factor }) = self.slow {
            let _ = write!(
                backends,
                "; b{} gets {factor} times as slow at {} s",
                event.backend + 1,
                seconds(event.at)
            );
        }
        if let Some(Event { backend, at }) = self.added {
            let _ = write!(backends, "; b{} is added at {} s", backend + 1, seconds(at));
            if self.slow_start > Duration::ZERO {
                let _ = write!(backends, ", slowly for {} s", self.slow_start.as_secs_f64());
            }
        }
        if let Some(Event { backend, at }) = self.removed {
            let _ = write!(backends, "; b{} is removed at {} s", backend + 1, seconds(at));
        }
        let _ = write!(backends, "; seed {}", self.seed);
        [connections, backends]
    }

    pub(crate) fn weights_differ(&self) -> bool {
        self.backends.iter().any(|backend| backend.weight != self.backends[0].weight)
    }

    /// When the load is looked at for the nth time, from 1.
    pub(crate) fn sample_time(&self, n: u32) -> Instant {
        let whole = u128::from(self.end.as_nanos()) * u128::from(n) / u128::from(SAMPLES);
        Instant::from_nanos(u64::try_from(whole).unwrap_or(u64::MAX))
    }
}

pub(crate) fn seconds(at: Instant) -> f64 {
    at.saturating_duration_since(Instant::ZERO).as_secs_f64()
}

/// The nearest whole number to a share of so many.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the share is from 0 to 1"
)]
fn part(share: f64, of: u32) -> u32 {
    (share * f64::from(of)).round() as u32
}
