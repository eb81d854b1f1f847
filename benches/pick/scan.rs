//! One list of servers that every pick walks, as the kernel does.

use svcplane::backend::{Backend, Flow};
use svcplane::sched::Algorithm;

use super::part;

#[derive(Clone, Copy)]
struct Server {
    weight: u32,
    active: u32,
    inactive: u32,
    overloaded: bool,
}

impl Server {
    fn usable(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    fn overhead(&self) -> u32 {
        self.active * 256 + self.inactive
    }
}

pub(crate) struct Scan {
    algorithm: &'static str,
    servers: Vec<Server>,
    total_weight: usize,
    slots: Vec<usize>,
    mark: usize,
    bar: u32,
}

impl Scan {
    pub(crate) fn new(algorithm: Algorithm, backends: impl Iterator<Item = Backend>) -> Self {
        let server =
            |b: Backend| Server { weight: b.weight, active: 0, inactive: 0, overloaded: false };
        let mut servers: Vec<Server> = backends.map(server).collect();
        servers.reverse();
        let slots = if algorithm == Algorithm::MaglevHashing { 4093 } else { 256 };
        Self {
            algorithm: algorithm.as_str(),
            total_weight: servers.iter().map(|server| server.weight as usize).sum(),
            // Which server has which slot makes no difference to the time.
            slots: (0..slots).map(|slot| slot % servers.len()).collect(),
            mark: servers.len() - 1,
            bar: 4,
            servers,
        }
    }

    pub(crate) fn hold(&mut self, at: usize) -> usize {
        self.servers[at].active += 1;
        at
    }

    pub(crate) fn release(&mut self, at: usize) {
        self.servers[at].active -= 1;
    }

    pub(crate) fn pick(&mut self, flow: &Flow, random: u32) -> usize {
        let usable = || self.servers.iter().enumerate().filter(|(_, server)| server.usable());
        let picked = match self.algorithm {
            "rr" => {
                let len = self.servers.len();
                let next = (1..=len).map(|off| (self.mark + off) % len);
                next.into_iter().find(|&at| self.servers[at].usable()).inspect(|&at| self.mark = at)
            }
            "wrr" => self.bars(),
            "lc" => self.least(|server| (server.overhead(), 1)),
            "wlc" => self.least(|server| (server.overhead(), server.weight)),
            "sed" => self.least(|server| (server.active + 1, server.weight)),
            "nq" => usable()
                .find(|(_, server)| server.active == 0)
                .map(|(at, _)| at)
                .or_else(|| self.least(|server| (server.active + 1, server.weight))),
            "random" => usable().nth(part(random, usable().count())).map(|(at, _)| at),
            "wrandom" => {
                let mut left = part(random, self.total_weight);
                usable()
                    .find(|(_, server)| {
                        let found = left < server.weight as usize;
                        left = left.saturating_sub(server.weight as usize);
                        found
                    })
                    .map(|(at, _)| at)
            }
            "p2c" => {
                let len = self.servers.len();
                let first = part(random, len);
                let second = (first + 1 + part(random.swap_bytes(), len - 1)) % len;
                let cost = |at: usize| self.servers[at].overhead();
                Some(if cost(second) < cost(first) { second } else { first })
            }
            _ => {
                let std::net::IpAddr::V4(client) = flow.client.ip() else { unreachable!("IPv4") };
                let number = u32::from(client).wrapping_mul(0x61c8_8647);
                let at = self.slots[part(number, self.slots.len())];
                self.servers[at].usable().then_some(at)
            }
        };
        picked.expect("all are usable")
    }

    fn least(&self, key: impl Fn(&Server) -> (u32, u32)) -> Option<usize> {
        let mut best: Option<(usize, (u32, u32))> = None;
        for (at, server) in self.servers.iter().enumerate().filter(|(_, server)| server.usable()) {
            let (cost, weight) = key(server);
            let better = |(_, (least, of)): (usize, (u32, u32))| {
                u64::from(least) * u64::from(weight) > u64::from(cost) * u64::from(of)
            };
            if best.is_none_or(better) {
                best = Some((at, (cost, weight)));
            }
        }
        best.map(|(at, _)| at)
    }

    fn bars(&mut self) -> Option<usize> {
        for _ in 0..5 {
            for at in self.mark + 1..self.servers.len() {
                if self.servers[at].usable() && self.servers[at].weight >= self.bar {
                    self.mark = at;
                    return Some(at);
                }
            }
            self.bar = if self.bar == 1 { 4 } else { self.bar - 1 };
            self.mark = 0;
            if self.servers[0].weight >= self.bar {
                return Some(0);
            }
        }
        None
    }
}
