//! The kernel's persistence as its rules are worded, over plain lists, beside a balancer with its table. Source: Linux IPVS, 6.1.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use svcplane::affinity::{Persistence, TemplateKey, Templates, VirtualAddress, VirtualService};
use svcplane::backend::{Backend, BackendId, Flow};
use svcplane::balancer::{Balancer, Controlled};
use svcplane::net::Protocol;
use svcplane::sched::{Algorithm, Flags};
use svcplane::time::Instant;

/// Protocol number, client, what was called, port.
type Key = (u8, IpAddr, String, u16);

/// The destinations, head first, with `rr` over them.
#[derive(Default)]
struct Dests {
    list: Vec<Dest>,
    trash: Vec<Dest>,
    /// `None` is the head of the list.
    mark: Option<SocketAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Dest {
    addr: Option<SocketAddr>,
    weight: u32,
    lower: u32,
    upper: u32,
    active: u32,
    inactive: u32,
    persistent: u32,
    overloaded: bool,
    suspended_until: Option<Instant>,
    tried: bool,
}

impl Dest {
    fn usable(&self) -> bool {
        self.weight > 0 && !self.overloaded && !self.held_back()
    }

    /// For reasons that the kernel does not have.
    fn held_back(&self) -> bool {
        self.tried || self.suspended_until.is_some()
    }

    fn bound(&mut self) {
        if self.upper != 0 && self.active + self.inactive >= self.upper {
            self.overloaded = true;
        }
    }

    fn unbound(&mut self) {
        let total = self.active + self.inactive;
        let relieved = match (self.lower, self.upper) {
            (0, 0) => true,
            (0, upper) => 4 * total < 3 * upper,
            (lower, _) => total < lower,
        };
        self.overloaded &= !relieved;
    }
}

impl Dests {
    fn at(&self, addr: SocketAddr) -> Option<usize> {
        self.list.iter().position(|dest| dest.addr == Some(addr))
    }

    fn any(&mut self, addr: SocketAddr) -> &mut Dest {
        let mut all = self.list.iter_mut().chain(&mut self.trash);
        all.find(|dest| dest.addr == Some(addr)).expect("referred to, so that it is kept")
    }

    fn set(&mut self, addr: SocketAddr, wanted: Wanted) {
        let dest = self.any(addr);
        if wanted.upper == 0 || wanted.upper > dest.upper {
            dest.overloaded = false;
        }
        (dest.weight, dest.lower, dest.upper) = (wanted.weight, wanted.lower, wanted.upper);
    }

    fn remove(&mut self, at: usize) {
        let gone = self.list.remove(at);
        if self.mark == gone.addr {
            self.mark = at.checked_sub(1).and_then(|before| self.list[before].addr);
        }
        self.trash.push(gone);
    }

    fn schedule(&mut self) -> Option<SocketAddr> {
        let from = self.mark.and_then(|mark| self.at(mark)).map_or(0, |at| at + 1);
        let picked = (from..self.list.len()).chain(0..from).find(|&at| self.list[at].usable())?;
        self.mark = self.list[picked].addr;
        self.mark
    }

    fn resume(&mut self, now: Instant) {
        for dest in self.list.iter_mut().chain(&mut self.trash) {
            dest.suspended_until = dest.suspended_until.filter(|&until| until > now);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Template {
    key: Key,
    dest: SocketAddr,
    timeout: Duration,
    ends: Instant,
    conns: u32,
    valid: bool,
    assured: bool,
}

struct Conn {
    controlled: Controlled,
    dest: SocketAddr,
    active: bool,
    /// The number of its template.
    template: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) number: u8,
    pub(crate) weight: u32,
    pub(crate) lower: u32,
    pub(crate) upper: u32,
}

/// Clients and virtual addresses are numbers here.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Or edit.
    Add(Wanted),
    Remove(u8),
    /// For so many milliseconds.
    Suspend(u8, u32),
    Service(VirtualService),
    /// Off, or the timeout in milliseconds, the netmask, the prefix length.
    Persist(Option<(u32, Ipv4Addr, u8)>),
    Quiescent(bool),
    /// Client, virtual address, its port, those tried.
    Pick(u8, u8, u16, Vec<u8>),
    Activate(usize),
    Deactivate(usize),
    Establish(usize),
    Release(usize),
    /// So many milliseconds pass.
    Wait(u32),
    Expire,
}

/// A balancer with its templates beside the rules.
pub(crate) struct Both {
    balancer: Balancer,
    table: Templates,
    persistence: Option<Persistence>,
    service: VirtualService,
    quiescent: bool,
    now: Instant,
    dests: Dests,
    templates: Vec<(u64, Template)>,
    conns: Vec<Conn>,
    made: u64,
}

impl Both {
    pub(crate) fn new(capacity: usize) -> Self {
        let service = VirtualService::Address { protocol: Protocol::Tcp, port: 80 };
        Self {
            balancer: Balancer::with_flags(Algorithm::RoundRobin, Flags::KERNEL, 0),
            table: Templates::new(capacity, 11),
            persistence: Some(Persistence::new(service, Duration::from_secs(100))),
            service,
            quiescent: false,
            now: Instant::ZERO,
            dests: Dests::default(),
            templates: Vec::new(),
            conns: Vec::new(),
            made: 0,
        }
    }

    /// Does it to both, which have to agree.
    pub(crate) fn step(&mut self, op: &Op) {
        match op {
            Op::Add(wanted) => self.add(*wanted),
            Op::Remove(number) => {
                let Some(at) = self.dests.at(dest(*number)) else { return };
                let id = self.balancer.find(dest(*number)).expect("listed");
                self.balancer.remove(id, self.now).expect("listed");
                self.dests.resume(self.now);
                self.dests.remove(at);
            }
            Op::Suspend(number, millis) => {
                let Some(at) = self.dests.at(dest(*number)) else { return };
                let until = self.now + Duration::from_millis((*millis).into());
                let id = self.balancer.find(dest(*number)).expect("listed");
                self.balancer.suspend(id, until).expect("listed");
                self.dests.list[at].suspended_until = Some(until);
            }
            Op::Service(service) => self.service = *service,
            Op::Persist(options) => {
                self.persistence = options.map(|(millis, netmask, prefix_len)| {
                    let timeout = Duration::from_millis(millis.into());
                    let mut persistence = Persistence::new(self.service, timeout);
                    (persistence.netmask, persistence.prefix_len) = (netmask, prefix_len);
                    persistence
                });
            }
            Op::Quiescent(quiescent) => self.quiescent = *quiescent,
            Op::Pick(from, to, port, tried) => self.pick(&flow(*from, *to, *port), tried),
            Op::Activate(n) => self.set_active(*n, true),
            Op::Deactivate(n) => self.set_active(*n, false),
            Op::Establish(n) => {
                self.set_active(*n, true);
                let Some(n) = n.checked_rem(self.conns.len()) else { return };
                let mut lent = self.balancer.with_templates(&mut self.table, None);
                lent.established(&mut self.conns[n].controlled).expect("both are there");
                if let Some(number) = self.conns[n].template {
                    template(&mut self.templates, number).assured = true;
                }
            }
            Op::Release(n) => self.release(*n),
            Op::Wait(millis) => self.now += Duration::from_millis((*millis).into()),
            Op::Expire => {
                self.balancer.with_templates(&mut self.table, None).expire(self.now);
                self.pass(self.now);
            }
        }
        self.check();
    }

    /// Timers up to a time, in their order.
    fn pass(&mut self, now: Instant) {
        self.dests.resume(now);
        loop {
            let due = self.templates.iter().enumerate().filter(|(_, (_, one))| one.ends <= now);
            let Some((at, _)) = due.min_by_key(|(_, (_, one))| one.ends) else { return };
            let one = &mut self.templates[at].1;
            if one.conns > 0 {
                // Sixty seconds more, for good.
                one.timeout = Duration::from_secs(60);
                one.ends += Duration::from_secs(60);
            } else {
                self.end(at);
            }
        }
    }

    fn end(&mut self, at: usize) {
        let (_, gone) = self.templates.remove(at);
        let dest = self.dests.any(gone.dest);
        dest.persistent -= 1;
        dest.unbound();
    }

    fn add(&mut self, wanted: Wanted) {
        let addr = dest(wanted.number);
        self.balancer.expire(self.now);
        self.dests.resume(self.now);
        if self.dests.at(addr).is_none() {
            let buried = self.dests.trash.iter().position(|dest| dest.addr == Some(addr));
            let mut dest = buried.map_or_else(Dest::default, |at| self.dests.trash.remove(at));
            if self.balancer.find(addr).is_none() {
                let counts = (dest.active, dest.inactive, dest.persistent);
                assert_eq!(counts, (0, 0, 0), "forgotten, though it is referred to");
                dest = Dest::default();
            }
            dest.addr = Some(addr);
            self.dests.list.insert(0, dest);
        }
        self.dests.set(addr, wanted);
        let backend = Backend::new(addr).with_weight(wanted.weight);
        self.balancer.add(backend.with_thresholds(wanted.lower, wanted.upper), self.now);
    }

    fn pick(&mut self, flow: &Flow, tried: &[u8]) {
        // No two timers end together.
        self.now += Duration::from_nanos(1);
        let persistence = self.persistence.map(|options| {
            let mut persistence = Persistence::new(self.service, options.timeout);
            (persistence.netmask, persistence.prefix_len) = (options.netmask, options.prefix_len);
            persistence.expire_quiescent = self.quiescent;
            persistence
        });
        let ids: Vec<BackendId> =
            tried.iter().filter_map(|&n| self.balancer.find(dest(n))).collect();
        for one in &mut self.dests.list {
            one.tried = tried.iter().any(|&n| one.addr == Some(dest(n)));
        }
        let mut lent = self.balancer.with_templates(&mut self.table, persistence);
        let controlled = if tried.is_empty() {
            lent.pick(flow, self.now)
        } else {
            lent.pick_except(flow, &ids, self.now)
        };
        self.pass(self.now);
        let expected = match persistence {
            Some(persistence) => self.persist(flow, &persistence),
            None => self.dests.schedule().map(|dest| (dest, None)),
        };
        for one in &mut self.dests.list {
            one.tried = false;
        }
        let got = controlled.as_ref().map(|conn| (conn.addr(), conn.template().is_some()));
        assert_eq!(got, expected.map(|(dest, template)| (dest, template.is_some())), "{flow:?}");
        if let (Some(controlled), Some((dest, number))) = (controlled, expected) {
            let bound = self.dests.any(dest);
            bound.inactive += 1;
            bound.bound();
            if let Some(number) = number {
                let one = template(&mut self.templates, number);
                one.conns += 1;
                one.ends = self.now + one.timeout;
            }
            self.conns.push(Conn { controlled, dest, active: false, template: number });
        }
    }

    /// Where a connection goes, and through which template.
    fn persist(
        &mut self,
        flow: &Flow,
        persistence: &Persistence,
    ) -> Option<(SocketAddr, Option<u64>)> {
        let key = key(flow, persistence);
        if let Some((number, one)) =
            self.templates.iter_mut().find(|(_, one)| one.valid && one.key == key)
        {
            let listed = self.dests.list.iter().find(|dest| dest.addr == Some(one.dest));
            let good = |dest: &Dest| !(persistence.expire_quiescent && dest.weight == 0);
            if listed.is_some_and(|dest| good(dest) && !dest.held_back()) {
                return Some((one.dest, Some(*number)));
            }
            one.valid = false;
        }
        let dest = self.dests.schedule()?;
        if self.templates.len() == self.table.capacity() {
            let idle = self.templates.iter().enumerate().filter(|(_, (_, one))| one.conns == 0);
            let Some((at, _)) = idle.min_by_key(|(_, (_, one))| one.ends) else {
                return Some((dest, None));
            };
            self.end(at);
        }
        let bound = self.dests.any(dest);
        bound.persistent += 1;
        bound.bound();
        self.made += 1;
        let timeout = persistence.timeout;
        let ends = self.now + timeout;
        let new = Template { key, dest, timeout, ends, conns: 0, valid: true, assured: false };
        self.templates.push((self.made, new));
        Some((dest, Some(self.made)))
    }

    fn set_active(&mut self, n: usize, active: bool) {
        let Some(n) = n.checked_rem(self.conns.len()) else { return };
        let conn = &mut self.conns[n];
        let mut lent = self.balancer.with_templates(&mut self.table, self.persistence);
        let done = if active {
            lent.activate(&mut conn.controlled)
        } else {
            lent.deactivate(&mut conn.controlled)
        };
        done.expect("its backend is there");
        let dest = self.dests.any(conn.dest);
        match (std::mem::replace(&mut conn.active, active), active) {
            (false, true) => (dest.active, dest.inactive) = (dest.active + 1, dest.inactive - 1),
            (true, false) => (dest.active, dest.inactive) = (dest.active - 1, dest.inactive + 1),
            _ => {}
        }
    }

    fn release(&mut self, n: usize) {
        let Some(n) = n.checked_rem(self.conns.len()) else { return };
        let conn = self.conns.swap_remove(n);
        let mut lent = self.balancer.with_templates(&mut self.table, self.persistence);
        lent.release(conn.controlled, self.now).expect("both are there");
        // What ends with it ends after it.
        if self.now > Instant::ZERO {
            self.pass(Instant::from_nanos(self.now.as_nanos() - 1));
        }
        if let Some(number) = conn.template {
            template(&mut self.templates, number).conns -= 1;
        }
        let dest = self.dests.any(conn.dest);
        *if conn.active { &mut dest.active } else { &mut dest.inactive } -= 1;
        dest.unbound();
    }

    fn check(&self) {
        let state = |id: BackendId| {
            let entry = self.balancer.get(id).expect("it was found");
            let counts = (entry.active(), entry.inactive(), self.balancer.persistent(id));
            (entry.addr(), counts, entry.weight(), entry.overloaded(), entry.suspended())
        };
        let expected = |dest: &Dest| {
            let counts = (dest.active, dest.inactive, dest.persistent);
            let suspended = dest.suspended_until.is_some();
            (dest.addr.expect("set"), counts, dest.weight, dest.overloaded, suspended)
        };
        let listed: Vec<_> = self.balancer.iter().map(|(id, _)| state(id)).collect();
        assert_eq!(listed, self.dests.list.iter().map(expected).collect::<Vec<_>>());
        for dest in &self.dests.trash {
            let known = self.balancer.find(dest.addr.expect("set"));
            if dest.active + dest.inactive + dest.persistent > 0 {
                assert_eq!(known.map(state), Some(expected(dest)));
            }
        }
        let one = |one: &svcplane::affinity::Template| Template {
            key: plain(&one.key()),
            dest: self.balancer.get(one.backend()).expect("kept").addr(),
            timeout: one.timeout(),
            ends: one.expires(),
            conns: one.connections(),
            valid: one.is_valid(),
            assured: one.is_assured(),
        };
        let mut got: Vec<_> = self.table.iter().map(|(_, template)| one(template)).collect();
        let mut expected: Vec<_> = self.templates.iter().map(|(_, one)| one.clone()).collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
        assert_eq!(self.table.len(), expected.len());
        assert_eq!(self.table.next_expiry(), expected.iter().map(|one| one.ends).min());
        for (id, template) in self.table.iter() {
            assert_eq!(self.table.get(id), Some(template));
            assert_eq!(self.table.find(&template.key()) == Some(id), template.is_valid());
        }
    }
}

fn template(templates: &mut [(u64, Template)], number: u64) -> &mut Template {
    let found = templates.iter_mut().find(|(one, _)| *one == number);
    &mut found.expect("what controls a connection is there").1
}

/// The address of a destination.
pub(crate) fn dest(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 254, 0, number], 8080))
}

/// Clients in few networks of both families, calling one of few addresses.
pub(crate) fn flow(client: u8, address: u8, port: u16) -> Flow {
    let (high, low) = (client >> 3 & 3, client & 3);
    let port = (port, 40_000 + u16::from(client));
    if client & 4 == 0 {
        let from = SocketAddr::from(([10, 1, high, low], port.1));
        return Flow::new(from, SocketAddr::from(([10, 255, 0, address], port.0)));
    }
    let from = SocketAddr::from(([0xfd00, 0, 0, high.into(), 0, 0, 0, low.into()], port.1));
    Flow::new(from, SocketAddr::from(([0xfd00, 255, 0, 0, 0, 0, 0, address.into()], port.0)))
}

fn key(flow: &Flow, persistence: &Persistence) -> Key {
    let client = match flow.client.ip() {
        IpAddr::V4(ip) => {
            let (ip, mask) = (ip.octets(), persistence.netmask.octets());
            IpAddr::from([0, 1, 2, 3].map(|at| ip[at] & mask[at]))
        }
        IpAddr::V6(ip) => {
            let mut bytes = ip.octets();
            for bit in usize::from(persistence.prefix_len)..128 {
                bytes[bit / 8] &= !(128 >> (bit % 8));
            }
            IpAddr::from(bytes)
        }
    };
    let called = flow.destination;
    match persistence.service {
        VirtualService::Mark(mark) => (0, client, format!("mark {mark}"), 0),
        VirtualService::Address { protocol, port: 0 | 21 } => {
            (number(protocol), client, called.ip().to_string(), 0)
        }
        VirtualService::Address { protocol, port } => {
            // What comes to another port of a service has come by way of port 0.
            let port = if called.port() == port { port } else { 0 };
            (number(protocol), client, called.ip().to_string(), port)
        }
    }
}

fn plain(key: &TemplateKey) -> Key {
    let called = match key.destination {
        VirtualAddress::Ip(ip) => ip.to_string(),
        VirtualAddress::Mark(mark) => format!("mark {mark}"),
    };
    (key.protocol.map_or(0, number), key.client, called, key.port)
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
