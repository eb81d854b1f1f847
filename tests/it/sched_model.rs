//! The kernel's list and its algorithms as their rules are worded, by scans, beside a balancer; for tests and a fuzz
//! target. Source: Linux IPVS, 6.1.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use svcplane::backend::{Backend, BackendId, Flow};
use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::{Algorithm, Entry, Flags};
use svcplane::time::Instant;

/// Hands the table of algorithms, with the names of their rules, to another macro.
macro_rules! each_algorithm {
    ($then:ident) => {
        $then! {
            rr RoundRobin Rr;
            wrr WeightedRoundRobin Wrr;
            lc LeastConnection Lc;
            wlc WeightedLeastConnection Wlc;
            sh SourceHashing Sh;
            dh DestinationHashing Dh;
            mh MaglevHashing Mh;
            sed ShortestExpectedDelay Sed;
            nq NeverQueue Nq;
            random Random Any;
            wrandom WeightedRandom Any;
            p2c PowerOfTwoChoices Any;
        }
    };
}

/// One destination, listed or in the trash.
#[derive(Clone, Debug)]
struct Dest {
    addr: SocketAddr,
    weight: u32,
    last_weight: u32,
    lower: u32,
    upper: u32,
    active: u32,
    inactive: u32,
    overloaded: bool,
    excluded: bool,
    suspended: bool,
    suspended_until: Instant,
}

impl Dest {
    fn usable(&self) -> bool {
        self.weight > 0 && !self.overloaded && !self.excluded && !self.suspended
    }

    fn set(&mut self, wanted: Wanted, added: bool) {
        let (weight, upper) = (wanted.weight.min(0x7fff_ffff), wanted.upper);
        if added || weight != 0 {
            self.last_weight = weight;
        }
        if upper == 0 || upper > self.upper {
            self.overloaded = false;
        }
        (self.weight, self.upper, self.lower) = (weight, upper, wanted.lower.min(upper));
    }

    fn bind(&mut self) {
        self.inactive += 1;
        if self.upper != 0 && self.active + self.inactive >= self.upper {
            self.overloaded = true;
        }
    }

    fn unbind(&mut self, active: bool) {
        *if active { &mut self.active } else { &mut self.inactive } -= 1;
        let total = self.active + self.inactive;
        if match (self.lower, self.upper) {
            (0, 0) => true,
            (0, upper) => u64::from(total) * 4 < u64::from(upper) * 3,
            (lower, _) => total < lower,
        } {
            self.overloaded = false;
        }
    }
}

#[derive(Clone, Copy)]
enum Event {
    Created,
    Added,
    Edited,
    /// What was at this index of the list, by its address.
    Removed(usize, SocketAddr),
}

/// An algorithm. Lists begin with the head.
trait Rule {
    fn changed(&mut self, _: &[Dest], _: Event) {}

    /// The index of the destination picked.
    fn pick(&mut self, list: &[Dest], flow: &Flow) -> Option<usize>;

    /// Whether it may be this one instead, where a seed decides; if so, it is from now on as if it had been.
    fn instead(&mut self, _list: &[Dest], _expected: usize, _picked: usize) -> bool {
        false
    }
}

#[derive(Default)]
struct Rr {
    /// `None` is the head of the list.
    mark: Option<SocketAddr>,
    picks: u64,
}

impl Rr {
    fn new(_: Algorithm, _: Flags) -> Self {
        Self::default()
    }
}

impl Rule for Rr {
    fn changed(&mut self, list: &[Dest], event: Event) {
        if let Event::Removed(at, addr) = event {
            if self.mark == Some(addr) {
                self.mark = at.checked_sub(1).map(|before| list[before].addr);
            }
        }
    }

    fn pick(&mut self, list: &[Dest], _: &Flow) -> Option<usize> {
        let from = self.mark.and_then(|mark| at(list, mark)).map_or(0, |at| at + 1);
        let picked = (from..list.len()).chain(0..from).find(|&at| list[at].usable())?;
        self.mark = Some(list[picked].addr);
        self.picks += 1;
        Some(picked)
    }

    fn instead(&mut self, list: &[Dest], _: usize, picked: usize) -> bool {
        self.mark = Some(list[picked].addr);
        self.picks == 1 && list[picked].usable()
    }
}

#[derive(Default)]
struct Wrr {
    /// `None` is the head of the list.
    cursor: Option<SocketAddr>,
    bar: i64,
    highest: i64,
    step: i64,
}

impl Wrr {
    fn new(_: Algorithm, _: Flags) -> Self {
        Self::default()
    }
}

impl Rule for Wrr {
    fn changed(&mut self, list: &[Dest], _: Event) {
        let weights = || list.iter().map(|dest| i64::from(dest.weight));
        self.cursor = None;
        self.step = weights().filter(|&weight| weight > 0).reduce(gcd).unwrap_or(1);
        self.highest = weights().max().unwrap_or(0) - (self.step - 1);
        if self.bar > self.highest || self.bar == 0 {
            self.bar = self.highest;
        } else if self.step > 1 {
            self.bar = self.bar / self.step * self.step + 1;
        }
    }

    fn pick(&mut self, list: &[Dest], _: &Flow) -> Option<usize> {
        if self.highest == 0 {
            return None;
        }
        let began = self.cursor.and_then(|cursor| at(list, cursor));
        let began_lowest = self.bar <= self.step;
        let usable = list.iter().filter(|dest| dest.usable());
        let reached = usable.map(|dest| i64::from(dest.weight)).max().unwrap_or(1);
        let (mut from, mut wrapped) = (began.map_or(0, |at| at + 1), false);
        loop {
            for (at, dest) in list.iter().enumerate().skip(from) {
                if dest.usable() && i64::from(dest.weight) >= self.bar {
                    self.cursor = Some(dest.addr);
                    return Some(at);
                }
                if wrapped && began == Some(at) && self.bar <= self.step {
                    return None;
                }
            }
            from = 0;
            self.bar -= self.step;
            if self.bar <= 0 {
                self.bar = self.highest;
                if began.is_none() || !began_lowest {
                    self.cursor = None;
                    return None;
                }
                wrapped = true;
            }
            // Bars that nobody reaches: two thousand million of them would take a while.
            if self.bar > reached {
                self.bar -= (self.bar - reached) / self.step * self.step;
            }
        }
    }

    fn instead(&mut self, list: &[Dest], _: usize, picked: usize) -> bool {
        list[picked].usable()
    }
}

/// Cost per weight: less than 0 if the first is better.
fn better(a: (u32, u32), b: (u32, u32)) -> std::cmp::Ordering {
    (u64::from(a.0) * u64::from(b.1)).cmp(&(u64::from(b.0) * u64::from(a.1)))
}

/// The first of those with the least cost per weight.
fn least(list: &[Dest], key: impl Fn(&Dest) -> (u32, u32)) -> Option<usize> {
    let usable = list.iter().enumerate().filter(|(_, dest)| dest.usable());
    usable.min_by(|(_, a), (_, b)| better(key(a), key(b))).map(|(at, _)| at)
}

fn overhead(dest: &Dest) -> u32 {
    let cost = u64::from(dest.active) * 256 + u64::from(dest.inactive);
    u32::try_from(cost % (1 << 32)).expect("32 bits")
}

macro_rules! stateless {
    ($($rule:ident $pick:expr, $alike:expr;)*) => {
        $(
            struct $rule;

            impl $rule {
                fn new(_: Algorithm, _: Flags) -> Self {
                    Self
                }
            }

            impl Rule for $rule {
                fn pick(&mut self, list: &[Dest], _: &Flow) -> Option<usize> {
                    $pick(list)
                }

                fn instead(&mut self, list: &[Dest], expected: usize, picked: usize) -> bool {
                    list[picked].usable() && $alike(&list[expected], &list[picked])
                }
            }
        )*
    };
}

fn delay(dest: &Dest) -> (u32, u32) {
    (dest.active + 1, dest.weight)
}

fn lightness(dest: &Dest) -> (u32, u32) {
    (overhead(dest), 1)
}

fn loads(dest: &Dest) -> (u32, u32) {
    (overhead(dest), dest.weight)
}

fn alike(key: impl Fn(&Dest) -> (u32, u32)) -> impl Fn(&Dest, &Dest) -> bool {
    move |a, b| better(key(a), key(b)).is_eq()
}

stateless! {
    Lc |list| least(list, lightness), alike(lightness);
    Wlc |list| least(list, loads), alike(loads);
    Sed |list| least(list, delay), alike(delay);
    Nq |list: &[Dest]| {
        let idle = list.iter().position(|dest| dest.usable() && dest.active == 0);
        idle.or_else(|| least(list, delay))
    }, |a: &Dest, b: &Dest| match (a.active, b.active) {
        (0, active) => active == 0,
        _ => alike(delay)(a, b),
    };
}

/// By lot.
struct Any(Algorithm);

impl Any {
    fn new(algorithm: Algorithm, _: Flags) -> Self {
        Self(algorithm)
    }
}

impl Rule for Any {
    fn pick(&mut self, list: &[Dest], _: &Flow) -> Option<usize> {
        list.iter().position(Dest::usable)
    }

    /// The better of two is not worse than all others.
    fn instead(&mut self, list: &[Dest], _: usize, picked: usize) -> bool {
        let beaten = |dest: &Dest| better(loads(dest), loads(&list[picked])).is_lt();
        let worst = list
            .iter()
            .enumerate()
            .all(|(at, dest)| at == picked || !dest.usable() || beaten(dest));
        list[picked].usable() && !(worst && self.0.as_str() == "p2c")
    }
}

fn folded(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(u32::from_be_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let segments = ip.segments().map(u64::from);
            segments.chunks(2).fold(0, |folded, pair| folded ^ (pair[0] << 16 | pair[1]))
        }
    }
}

/// The 256 slots of `sh` and `dh`, as indices of the list.
fn ring(list: &[Dest], turns: impl Fn(&Dest) -> u32) -> Vec<usize> {
    let (mut slots, mut at, mut taken) = (Vec::new(), 0, 0);
    while !list.is_empty() && slots.len() < 256 {
        slots.push(at);
        taken += 1;
        if taken >= turns(&list[at]) {
            (at, taken) = ((at + 1) % list.len(), 0);
        }
    }
    slots
}

fn on_ring(slots: &[usize], list: &[Dest], number: u64, fallback: bool) -> Option<usize> {
    let hash = usize::try_from(number * 0x61c8_8647 % (1 << 32) / (1 << 24)).expect("8 bits");
    let usable = |slot: usize| slots.get(slot).copied().filter(|&at| list[at].usable());
    let mut others = (0..256).map(|off| (hash + (off + hash) % 256) % 256);
    usable(hash).or_else(|| others.find_map(usable).filter(|_| fallback))
}

struct Sh {
    flags: Flags,
    slots: Vec<usize>,
}

impl Sh {
    fn new(_: Algorithm, flags: Flags) -> Self {
        Self { flags, slots: Vec::new() }
    }
}

impl Rule for Sh {
    fn changed(&mut self, list: &[Dest], _: Event) {
        self.slots = ring(list, |dest| dest.weight);
    }

    fn pick(&mut self, list: &[Dest], flow: &Flow) -> Option<usize> {
        on_ring(&self.slots, list, client(flow, self.flags), self.flags.fallback)
    }
}

struct Dh {
    flags: Flags,
    slots: Vec<usize>,
}

impl Dh {
    fn new(_: Algorithm, flags: Flags) -> Self {
        Self { flags, slots: Vec::new() }
    }
}

impl Rule for Dh {
    fn changed(&mut self, list: &[Dest], event: Event) {
        if !matches!(event, Event::Edited) {
            self.slots = ring(list, |_| 1);
        }
    }

    fn pick(&mut self, list: &[Dest], flow: &Flow) -> Option<usize> {
        on_ring(&self.slots, list, folded(flow.destination.ip()), self.flags.fallback)
    }
}

/// The client's number for `sh` and `mh`, of 32 bits.
fn client(flow: &Flow, flags: Flags) -> u64 {
    let port = if flags.port { u64::from(flow.client.port()) } else { 0 };
    (folded(flow.client.ip()) + port) % (1 << 32)
}

const MH_SLOTS: u64 = 4093;

struct Mh {
    flags: Flags,
    /// Empty until a pick asks.
    slots: Vec<Option<usize>>,
}

impl Mh {
    fn new(_: Algorithm, flags: Flags) -> Self {
        Self { flags, slots: Vec::new() }
    }
}

impl Mh {
    fn deal(&mut self, list: &[Dest]) {
        self.slots = vec![None; 4093];
        let weights = || list.iter().map(|dest| i64::from(dest.last_weight)).filter(|w| *w > 0);
        let Some(gcd) = weights().reduce(gcd) else { return };
        let mut greatest = weights().max().unwrap_or(0) / gcd;
        let mut shift = 0;
        while greatest > 63 {
            (greatest, shift) = (greatest / 2, shift + 1);
        }
        let mut next: Vec<(u64, u64)> = list
            .iter()
            .map(|dest| {
                let number = (folded(dest.addr.ip()) + u64::from(dest.addr.port())) % (1 << 32);
                (sip(2_654_435_761, number) % MH_SLOTS, sip(2_654_446_892, number) % 4092 + 1)
            })
            .collect();
        let mut taken = 0;
        loop {
            for (at, dest) in list.iter().enumerate().filter(|(_, dest)| dest.last_weight > 0) {
                let turns = ((i64::from(dest.last_weight) / gcd) >> shift).max(1);
                for _ in 0..turns {
                    if taken == self.slots.len() {
                        return;
                    }
                    let (slot, skip) = &mut next[at];
                    while self.slots[index(*slot)].is_some() {
                        *slot = (*slot + *skip) % MH_SLOTS;
                    }
                    self.slots[index(*slot)] = Some(at);
                    taken += 1;
                }
            }
        }
    }
}

impl Rule for Mh {
    fn changed(&mut self, _: &[Dest], _: Event) {
        self.slots.clear();
    }

    fn pick(&mut self, list: &[Dest], flow: &Flow) -> Option<usize> {
        if self.slots.is_empty() {
            self.deal(list);
        }
        let number = client(flow, self.flags);
        let hash = |plus: u64| sip(2_654_435_761, (number + plus) % (1 << 32)) % MH_SLOTS;
        let usable = |slot: u64| self.slots[index(slot)].filter(|&at| list[at].usable());
        let first = hash(0);
        let found = usable(first);
        if found.is_some() || !self.flags.fallback || self.slots[index(first)].is_none() {
            return found;
        }
        (0..MH_SLOTS).find_map(|off| usable(hash((off + first) % MH_SLOTS)))
    }
}

fn index(slot: u64) -> usize {
    usize::try_from(slot).expect("below 4093")
}

/// The low half of SipHash-1-3 of four bytes, as Aumasson and Bernstein describe it, both halves of the key alike.
pub(crate) fn sip(key: u64, number: u64) -> u64 {
    fn round(v: &mut [u64; 4]) {
        for (a, b, turn) in [(0, 1, 13), (2, 3, 16)] {
            v[a] = v[a].wrapping_add(v[b]);
            v[b] = v[b].rotate_left(turn) ^ v[a];
        }
        v[0] = v[0].rotate_left(32);
        for (a, b, turn) in [(2, 1, 17), (0, 3, 21)] {
            v[a] = v[a].wrapping_add(v[b]);
            v[b] = v[b].rotate_left(turn) ^ v[a];
        }
        v[2] = v[2].rotate_left(32);
    }
    let start: [&[u8; 8]; 4] = [b"somepseu", b"dorandom", b"lygenera", b"tedbytes"];
    let mut v = start.map(|word| u64::from_be_bytes(*word) ^ key);
    let word = number | 4 << 56;
    v[3] ^= word;
    round(&mut v);
    v[0] ^= word;
    v[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut v));
    (v[0] ^ v[1] ^ v[2] ^ v[3]) % (1 << 32)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn at(list: &[Dest], addr: SocketAddr) -> Option<usize> {
    list.iter().position(|dest| dest.addr == addr)
}

macro_rules! rules {
    ($($kernel:ident $name:ident $rule:ident;)*) => {
        fn rule(algorithm: Algorithm, flags: Flags) -> Box<dyn Rule> {
            match algorithm {
                $( Algorithm::$name => Box::new($rule::new(algorithm, flags)), )*
                other => panic!("no rule for {other}"),
            }
        }
    };
}

each_algorithm!(rules);

/// A backend of which it is only the number that matters to a sequence of operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) number: u16,
    pub(crate) weight: u32,
    pub(crate) lower: u32,
    pub(crate) upper: u32,
}

impl Wanted {
    fn backend(self) -> Backend {
        let backend = Backend::new(addr(self.number)).with_weight(self.weight);
        backend.with_thresholds(self.lower, self.upper)
    }
}

/// The address of a backend.
pub(crate) fn addr(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    if number % 5 == 4 {
        return SocketAddr::from(([0xfd00, 1, 2, 3, 4, 5, number, 7], 8080));
    }
    SocketAddr::from(([10, 1, high, low], 8080 + number % 3))
}

/// A flow whose ends are of either family.
pub(crate) fn flow(client: u32, destination: u8) -> Flow {
    let end = |number: u32, port: u16| {
        let mixed = number.wrapping_mul(0x9e37_79b1);
        let [a, b, c, d] = mixed.to_be_bytes();
        if number % 3 == 0 {
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            return SocketAddr::from(([0x2001, 0xdb8, low, high, 1, high, 2, low], port));
        }
        SocketAddr::from(([a, b, c, d], port))
    };
    let port = u16::try_from(client >> 8 & 0xffff).expect("16 bits");
    Flow::new(end(client, port), end(destination.into(), 80))
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Add(Wanted),
    Edit(Wanted),
    Remove(u16),
    /// Removed and added so many times.
    Churn(Wanted, u8),
    Set(Vec<Wanted>),
    /// Client, destination, those tried.
    Pick(u32, u8, Vec<u16>),
    /// One of the connections.
    Activate(usize),
    Deactivate(usize),
    Release(usize),
    Switch(Algorithm, Flags),
    /// For so many microseconds.
    Suspend(u16, u8),
    /// So many microseconds pass.
    Wait(u8),
}

const SEED: u64 = 7;

/// A balancer beside the kernel's rules. Nothing is ever forgotten: that takes minutes.
pub(crate) struct Both {
    pub(crate) balancer: Balancer,
    list: Vec<Dest>,
    trash: Vec<Dest>,
    rule: Box<dyn Rule>,
    algorithm: Algorithm,
    /// The seed has a say.
    seeded: bool,
    now: Instant,
    /// With whether each is active.
    conns: Vec<(Conn, bool)>,
}

impl Both {
    pub(crate) fn new(algorithm: Algorithm, flags: Flags) -> Self {
        let balancer = Balancer::with_flags(algorithm, flags, SEED);
        let mut rule = rule(algorithm, flags);
        rule.changed(&[], Event::Created);
        Self {
            balancer,
            list: Vec::new(),
            trash: Vec::new(),
            rule,
            algorithm,
            seeded: seeded(algorithm, flags),
            now: Instant::ZERO,
            conns: Vec::new(),
        }
    }

    /// Does it to both, which have to agree.
    pub(crate) fn step(&mut self, op: &Op) {
        self.expire();
        match op {
            Op::Add(wanted) => {
                self.balancer.add(wanted.backend(), self.now);
                self.add(*wanted);
            }
            Op::Edit(wanted) => {
                let addr = addr(wanted.number);
                // An address is none of what can be edited.
                let mut backend = wanted.backend();
                backend.addr = ([1, 2, 3, 4], 5).into();
                let change = |_| backend;
                let edited = self.balancer.find(addr).map(|id| self.balancer.edit(id, change));
                let listed = at(&self.list, addr).is_some();
                assert_eq!(edited.is_some_and(|edited| edited.is_ok()), listed);
                if listed {
                    self.add(*wanted);
                }
            }
            Op::Suspend(number, micros) => {
                let until = self.now + Duration::from_micros((*micros).into());
                let id = self.balancer.find(addr(*number));
                let suspended = id.is_some_and(|id| self.balancer.suspend(id, until).is_ok());
                let mut all = self.list.iter_mut().chain(&mut self.trash);
                let dest = all.find(|dest| dest.addr == addr(*number));
                assert_eq!(suspended, dest.is_some());
                if let Some(dest) = dest {
                    (dest.suspended, dest.suspended_until) = (true, until);
                }
            }
            Op::Wait(micros) => {
                self.now += Duration::from_micros((*micros).into());
                self.expire();
            }
            Op::Remove(number) => self.remove(*number),
            Op::Churn(wanted, times) => {
                for _ in 0..*times {
                    self.remove(wanted.number);
                    self.balancer.add(wanted.backend(), self.now);
                    self.add(*wanted);
                }
            }
            Op::Set(wanted) => self.set(wanted),
            Op::Pick(client, destination, except) => {
                self.pick(&flow(*client, *destination), except);
            }
            Op::Activate(n) => self.set_active(*n, true),
            Op::Deactivate(n) => self.set_active(*n, false),
            Op::Release(n) => {
                if !self.conns.is_empty() {
                    let (conn, active) = self.conns.swap_remove(n % self.conns.len());
                    self.dest(conn.addr()).unbind(active);
                    assert_eq!(self.balancer.release(conn), Ok(()));
                }
            }
            Op::Switch(algorithm, flags) => {
                self.balancer.set_algorithm(*algorithm, *flags, SEED);
                // The same scheduler keeps its state; that of a hashing one is a function of the list.
                let hashing = matches!(algorithm.as_str(), "sh" | "dh" | "mh");
                if hashing || *algorithm != self.algorithm {
                    self.rule = rule(*algorithm, *flags);
                    self.seeded = seeded(*algorithm, *flags);
                    self.rule.changed(&self.list, Event::Created);
                    self.algorithm = *algorithm;
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        let mut listed = self.balancer.iter();
        for dest in &self.list {
            let (id, entry) = listed.next().expect("as many are listed");
            assert_eq!((entry.addr(), state(entry)), (dest.addr, dest.state()));
            assert_eq!(self.balancer.find(dest.addr), Some(id));
        }
        assert!(listed.next().is_none() && self.balancer.len() == self.list.len());
        for dest in &self.trash {
            let id = self.balancer.find(dest.addr).expect("remembered");
            assert!(!self.balancer.is_listed(id));
            assert_eq!(self.balancer.get(id).map(state), Some(dest.state()), "{}", dest.addr);
        }
    }

    /// The backend that both pick.
    pub(crate) fn pick(&mut self, flow: &Flow, except: &[u16]) -> Option<SocketAddr> {
        let ids: Vec<BackendId> =
            except.iter().filter_map(|&n| self.balancer.find(addr(n))).collect();
        for dest in &mut self.list {
            dest.excluded = except.iter().any(|&n| addr(n) == dest.addr);
        }
        self.expire();
        let conn = if except.is_empty() {
            self.balancer.pick(flow, self.now)
        } else {
            self.balancer.pick_except(flow, &ids, self.now)
        };
        let picked = conn.as_ref().and_then(|conn| at(&self.list, conn.addr()));
        let mut expected = self.rule.pick(&self.list, flow);
        let other = picked.filter(|_| self.seeded && picked != expected);
        if let (Some(one), Some(other)) = (expected, other) {
            if self.rule.instead(&self.list, one, other) {
                expected = picked;
            }
        }
        self.list.iter_mut().for_each(|dest| dest.excluded = false);
        let expected = expected.map(|at| {
            self.list[at].bind();
            self.list[at].addr
        });
        assert_eq!(conn.as_ref().map(Conn::addr), expected, "{flow:?}");
        self.conns.extend(conn.map(|conn| (conn, false)));
        expected
    }

    /// Calls that are given the time begin so.
    fn expire(&mut self) {
        self.balancer.expire(self.now);
        for dest in self.list.iter_mut().chain(&mut self.trash) {
            dest.suspended &= dest.suspended_until > self.now;
        }
    }

    fn add(&mut self, wanted: Wanted) {
        let addr = addr(wanted.number);
        if let Some(at) = at(&self.list, addr) {
            self.list[at].set(wanted, false);
            return self.rule.changed(&self.list, Event::Edited);
        }
        let new = || Dest {
            addr,
            weight: 0,
            last_weight: 0,
            lower: 0,
            upper: 0,
            active: 0,
            inactive: 0,
            overloaded: false,
            excluded: false,
            suspended: false,
            suspended_until: Instant::ZERO,
        };
        let mut dest = at(&self.trash, addr).map_or_else(new, |at| self.trash.remove(at));
        dest.set(wanted, true);
        self.list.insert(0, dest);
        self.rule.changed(&self.list, Event::Added);
    }

    fn remove(&mut self, number: u16) {
        let id = self.balancer.find(addr(number));
        let removed = id.is_some_and(|id| self.balancer.remove(id, self.now).is_ok());
        assert_eq!(removed, at(&self.list, addr(number)).is_some());
        self.bury(addr(number));
    }

    fn bury(&mut self, addr: SocketAddr) {
        if let Some(at) = at(&self.list, addr) {
            self.trash.push(self.list.remove(at));
            self.rule.changed(&self.list, Event::Removed(at, addr));
        }
    }

    /// As the difference that `set_backends` is documented to be.
    fn set(&mut self, wanted: &[Wanted]) {
        self.balancer.set_backends(wanted.iter().map(|wanted| wanted.backend()), self.now);
        let listed: Vec<SocketAddr> = self.list.iter().map(|dest| dest.addr).collect();
        for gone in listed {
            if wanted.iter().all(|wanted| addr(wanted.number) != gone) {
                self.bury(gone);
            }
        }
        for (i, &one) in wanted.iter().enumerate() {
            let same = at(&self.list, addr(one.number)).is_some_and(|at| {
                let (now, mut then) = (&self.list[at], self.list[at].clone());
                then.set(one, false);
                (now.weight, now.lower, now.upper) == (then.weight, then.lower, then.upper)
            });
            if !same && wanted[..i].iter().all(|earlier| earlier.number != one.number) {
                self.add(one);
            }
        }
    }

    fn set_active(&mut self, n: usize, active: bool) {
        let count = self.conns.len().max(1);
        let Some((conn, was)) = self.conns.get_mut(n % count) else { return };
        let done =
            if active { self.balancer.activate(conn) } else { self.balancer.deactivate(conn) };
        assert_eq!(done, Ok(()));
        let was = std::mem::replace(was, active);
        let addr = conn.addr();
        let dest = self.dest(addr);
        match (was, active) {
            (false, true) => (dest.active, dest.inactive) = (dest.active + 1, dest.inactive - 1),
            (true, false) => (dest.active, dest.inactive) = (dest.active - 1, dest.inactive + 1),
            _ => {}
        }
    }

    fn dest(&mut self, addr: SocketAddr) -> &mut Dest {
        let all = self.list.iter_mut().chain(&mut self.trash);
        all.into_iter().find(|dest| dest.addr == addr).expect("a connection's destination is kept")
    }
}

fn seeded(algorithm: Algorithm, flags: Flags) -> bool {
    !flags.head || matches!(algorithm.as_str(), "random" | "wrandom" | "p2c")
}

/// Weight, active, inactive, overloaded, suspended.
type State = (u32, u32, u32, bool, bool);

fn state(entry: &Entry) -> State {
    let (active, inactive) = (entry.active(), entry.inactive());
    (entry.weight(), active, inactive, entry.overloaded(), entry.suspended())
}

impl Dest {
    fn state(&self) -> State {
        (self.weight, self.active, self.inactive, self.overloaded, self.suspended)
    }
}
