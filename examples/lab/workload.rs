//! The connections that come, from a seed: the same for every scheduler, on every platform.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use svcplane::backend::Flow;
use svcplane::time::Instant;

use super::scenario::Scenario;

/// Random numbers: SplitMix64.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bits(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// A number in `0..bound`.
    fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.bits()) * u64::from(bound)) >> 32) as u32
    }

    /// A number greater than 0 and less than 1.
    fn unit(&mut self) -> f64 {
        (f64::from(self.bits()) + 0.5) / 4_294_967_296.0
    }

    /// Exponential with mean 1, by von Neumann's comparisons: a logarithm is not the same to the last bit everywhere.
    fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let (mut last, mut odd) = (first, true);
            loop {
                let next = self.unit();
                if next >= last {
                    break;
                }
                (last, odd) = (next, !odd);
            }
            if odd {
                return whole + first;
            }
            whole += 1.0;
        }
    }

    /// Pareto with exponent 2 and mean 1.
    fn pareto(&mut self) -> f64 {
        0.5 / self.unit().sqrt()
    }
}

/// A connection that comes.
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) client: usize,
    pub(crate) flow: Flow,
    pub(crate) instance: usize,
    /// How long it lasts where nothing is slow.
    pub(crate) length: Duration,
}

pub(crate) struct Arrivals<'a> {
    scenario: &'a Scenario,
    draw: Draw,
    clients: Vec<Ipv4Addr>,
    now: Instant,
}

impl<'a> Arrivals<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let mut draw = Draw::new(scenario.seed);
        let mut address = || Ipv4Addr::from_bits(0x6440_0000 | draw.bits() >> 10);
        let nat = address();
        let clients = (0..scenario.clients)
            .map(|client| if client < scenario.behind_nat { nat } else { address() })
            .collect();
        Self { scenario, draw, clients, now: Instant::ZERO }
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let Self { scenario, draw, .. } = self;
        self.now += Duration::from_secs_f64(draw.exponential() / scenario.rate);
        let client = draw.below(scenario.clients) as usize;
        let port = u16::try_from(1024 + draw.below(64_000)).unwrap_or(u16::MAX);
        let instance = draw.below(scenario.instances.into()) as usize;
        let length = if draw.unit() < scenario.long_share {
            scenario.long.as_secs_f64() * draw.pareto()
        } else {
            scenario.short.as_secs_f64() * draw.exponential()
        };
        let flow = Flow::new(
            SocketAddr::from((self.clients[client], port)),
            SocketAddr::from(([10, 96, 0, 10], 80)),
        );
        let length = Duration::from_secs_f64(length);
        Some(Arrival { at: self.now, client, flow, instance, length })
    }
}
