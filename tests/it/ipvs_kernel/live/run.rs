//! A run: what happens, in the kernel and in the balancer.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use svcplane::affinity::{Persistence, Templates, VirtualService};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::{Balancer, Controlled, Persistent};
use svcplane::ipvs::{
    self, Command, Forwarding, Netmask, RealServer, SchedulerFlags, SchedulerName, Seconds,
    Thresholds, VirtualKey, VirtualServer, Weight,
};
use svcplane::kernel::Ipvs;
use svcplane::net::{IpFamily, Protocol};
use svcplane::sched::{Algorithm, Flags};
use svcplane::time;

use super::wire::{Called, DEAF, End, MARK, PORT, Servers, end, until};

/// Before anything ends by a timer.
const IN_TIME: Duration = Duration::from_secs(9);
/// A client is remembered for longer than a run takes.
const REMEMBERED: u32 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    TcpV6,
    Udp,
    OnePacket,
    Mark,
    Persistent,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::TcpV6 => "tcp6",
            Self::Udp => "udp",
            Self::OnePacket => "ops",
            Self::Mark => "mark",
            Self::Persistent => "persist",
        }
    }

    pub(super) fn seeds(self) -> u64 {
        match self {
            Self::Tcp => 3,
            _ => 1,
        }
    }

    fn is_udp(self) -> bool {
        matches!(self, Self::Udp | Self::OnePacket)
    }
}

#[derive(Debug)]
pub(super) struct Setup {
    pub(super) algorithm: Algorithm,
    pub(super) kind: Kind,
    pub(super) seed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) operations: usize,
    pub(super) picks: usize,
    /// Picks of none.
    pub(super) refused: usize,
    pub(super) states: usize,
    pub(super) mismatches: Vec<String>,
}

impl Outcome {
    pub(super) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.picks += other.picks;
        self.refused += other.refused;
        self.states += other.states;
        self.mismatches.extend(other.mismatches);
    }
}

/// Runs until something differs, or a timer may end something.
pub(super) fn run(setup: &Setup, ipvs: &mut Ipvs, operations: usize) -> Outcome {
    let mut run = Run::new(setup, ipvs);
    let begun = Instant::now();
    for number in 0..operations {
        if begun.elapsed() > IN_TIME {
            break;
        }
        run.now = time::Instant::ZERO + begun.elapsed();
        let mut log = String::new();
        let done = run.operate(number, &mut log).and_then(|()| run.compare());
        if let Err(mismatch) = done {
            // What took too long may be a timer's.
            if begun.elapsed() <= IN_TIME {
                run.outcome.mismatches.push(format!("operation {number}, {log}: {mismatch}"));
            }
            break;
        }
        run.outcome.operations += 1;
    }
    run.outcome
}

/// A number from a seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).expect("small")).expect("small")
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A connection that both count.
struct Held {
    flow: Flow,
    conn: Controlled,
    /// While it is open.
    ends: Option<(TcpStream, TcpStream)>,
    reset: bool,
}

struct Run<'a> {
    setup: &'a Setup,
    draw: Draw,
    now: time::Instant,
    ipvs: &'a mut Ipvs,
    servers: Servers,
    server: VirtualServer,
    flags: Flags,
    /// All there may be, listed or not.
    dests: Vec<SocketAddr>,
    ours: Balancer,
    templates: Templates,
    held: Vec<Held>,
    callers: HashSet<SocketAddr>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(setup: &'a Setup, ipvs: &'a mut Ipvs) -> Self {
        let &Setup { algorithm, kind, seed } = setup;
        let mut draw = Draw(seed ^ (kind as u64) << 32 ^ (algorithm as u64) << 40);
        let v6 = kind == Kind::TcpV6;
        let ip = |last: u8| -> IpAddr {
            if v6 {
                Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, last.into()).into()
            } else {
                Ipv4Addr::new(10, 9, 0, last).into()
            }
        };
        let mut dests: Vec<SocketAddr> = (1..=7).map(|last| (ip(last), PORT).into()).collect();
        let servers = if kind.is_udp() {
            Servers::udp(dests.iter().copied())
        } else {
            dests.push((ip(8), DEAF).into());
            Servers::tcp(v6)
        };
        let flags = flags(algorithm, &mut draw);
        let mut run = Self {
            setup,
            now: time::Instant::ZERO,
            ipvs,
            servers,
            server: server(setup, flags),
            flags,
            dests,
            ours: Balancer::with_flags(algorithm, flags, 0),
            templates: Templates::new(10_000, 0),
            held: Vec::new(),
            callers: HashSet::new(),
            outcome: Outcome::default(),
            draw,
        };
        run.tell(Command::AddVirtual(run.server)).expect("a virtual server");
        run
    }

    fn tell(&mut self, command: Command) -> Result<(), String> {
        self.ipvs.apply(&[command]).map_err(|error| error.to_string())
    }

    fn key(&self) -> VirtualKey {
        self.server.key()
    }

    fn ours(&mut self) -> Persistent<'_> {
        let persistence = (self.setup.kind == Kind::Persistent).then(|| {
            let service = VirtualService::Address { protocol: Protocol::Tcp, port: 80 };
            let mut persistence = Persistence::new(service, Duration::from_secs(REMEMBERED.into()));
            persistence.netmask = Ipv4Addr::new(255, 255, 255, 0);
            persistence
        });
        self.ours.with_templates(&mut self.templates, persistence)
    }

    /// Something that happens.
    fn operate(&mut self, number: usize, log: &mut String) -> Result<(), String> {
        // Some real servers to begin with.
        let choice = if number < 3 { 75 } else { self.draw.below(100) };
        match choice {
            0..58 => {
                let flow = self.flow();
                *log = format!("new {flow:?}");
                self.pick(number, flow)
            }
            58..68 => self.close(log),
            68..73 => self.again(number, log),
            73..83 => self.add(log),
            83..94 => self.edit(log),
            94..97 => self.remove(log),
            97..99 => self.edit_service(log),
            _ => self.recreate(log),
        }
    }

    /// A new client's.
    fn flow(&mut self) -> Flow {
        loop {
            let [.., a, b, c, d] = self.draw.next().to_be_bytes();
            // Few networks for clients that come back.
            let a = if self.setup.kind == Kind::Persistent { a % 8 } else { a };
            let port = 1024 + u16::from(c) * 128 + u16::from(d);
            let last = self.draw.one(&[1_u8, 2, 3]);
            let (client, called): (IpAddr, IpAddr) = match self.setup.kind {
                Kind::TcpV6 => {
                    let client = Ipv6Addr::new(0xfd00, 1, a.into(), 0, b.into(), 0, 0, 1);
                    let called = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
                    (client.into(), called.into())
                }
                Kind::Mark => ([10, 1, a, b].into(), [192, 0, 2, a % 100].into()),
                Kind::Persistent => ([10, 1, a, last].into(), [192, 0, 2, 1].into()),
                _ => ([10, 1, a, b].into(), [192, 0, 2, 1].into()),
            };
            let client = SocketAddr::new(client, port);
            if self.callers.insert(client) {
                return Flow::new(client, (called, 80).into());
            }
        }
    }

    /// A new connection, or a datagram.
    fn pick(&mut self, number: usize, flow: Flow) -> Result<(), String> {
        let now = self.now;
        let expected = self.ours().pick(&flow, now);
        let addr = expected.as_ref().map(Controlled::addr);
        self.outcome.picks += 1;
        self.outcome.refused += usize::from(addr.is_none());
        let (got, mut ends): (Option<SocketAddr>, _);
        ends = None;
        if self.setup.kind.is_udp() {
            let text = number.to_string();
            got = self.servers.send(flow.client, flow.destination, &text, addr.is_some())?;
        } else {
            match self.servers.call(flow.client, flow.destination, addr.is_some())? {
                Called::Accepted(client, server, addr) => {
                    (got, ends) = (Some(addr), Some((client, server)));
                }
                // If it may be the one that does not listen, the counts tell whether it is.
                Called::Refused => got = addr.filter(|addr| addr.port() == DEAF),
            }
        }
        if got != addr {
            return Err(format!("the kernel picks {got:?}, expected {addr:?}"));
        }
        let Some(mut conn) = expected else { return Ok(()) };
        let reset = !self.setup.kind.is_udp() && ends.is_none();
        if self.setup.kind == Kind::OnePacket {
            return self.ours().release(conn, now).map_err(|error| error.to_string());
        }
        if !self.setup.kind.is_udp() {
            let mut ours = self.ours();
            let counted = if reset {
                ours.activate(&mut conn)
                    .and_then(|()| ours.deactivate(&mut conn))
                    .map_err(Into::into)
            } else {
                ours.established(&mut conn)
            };
            counted.map_err(|error| error.to_string())?;
        }
        self.held.push(Held { flow, conn, ends, reset });
        Ok(())
    }

    /// The end of a connection. Those of a removed real server are cut off, and are left alone.
    fn close(&mut self, log: &mut String) -> Result<(), String> {
        let listed = |held: &Held| held.ends.is_some() && self.ours.is_listed(held.conn.backend());
        let open: Vec<usize> = (0..self.held.len()).filter(|&at| listed(&self.held[at])).collect();
        if open.is_empty() {
            return Ok(());
        }
        let at = self.draw.one(&open);
        let how = self.draw.one(&[End::Client, End::Server, End::Reset, End::Half]);
        self.end(at, how, log)
    }

    fn end(&mut self, at: usize, how: End, log: &mut String) -> Result<(), String> {
        let Self { held, ours, templates, .. } = self;
        let held = &mut held[at];
        *log = format!("{how:?} ends {:?}", held.flow);
        let Some(ends) = held.ends.take() else { return Ok(()) };
        // What has ended by half may be reset, which changes no count.
        held.ends = end(how, ends)?;
        held.reset = how == End::Reset;
        let mut ours = ours.with_templates(templates, None);
        ours.deactivate(&mut held.conn).map_err(|error| error.to_string())
    }

    /// A client comes back from the port of a connection that was reset. The kernel forgets that one a moment after it has picked.
    fn again(&mut self, number: usize, log: &mut String) -> Result<(), String> {
        let reset: Vec<usize> = (0..self.held.len()).filter(|&at| self.held[at].reset).collect();
        if reset.is_empty() || self.setup.kind == Kind::Persistent {
            return self.close(log);
        }
        let at = self.draw.one(&reset);
        let earlier = self.held.swap_remove(at);
        *log = format!("again {:?}, which was at {}", earlier.flow, earlier.conn.addr());
        self.pick(number, earlier.flow)?;
        let now = self.now;
        self.ours().release(earlier.conn, now).map_err(|error| error.to_string())
    }

    fn real(&mut self, addr: SocketAddr) -> (RealServer, Backend) {
        let weight = self.draw.one(&[0, 1, 1, 1, 2, 3, 5, 10, 60, 1000]);
        let upper = self.draw.one(&[0, 0, 0, 1, 3, 8, 20]);
        let lower =
            if upper == 0 { 0 } else { u32::try_from(self.draw.below(upper + 1)).expect("small") };
        let upper = u32::try_from(upper).expect("small");
        let mut real = RealServer::new(addr, Forwarding::Masquerade);
        real.weight = Weight::saturating(weight);
        real.thresholds = Thresholds::new(lower, upper).expect("in order");
        (real, Backend::new(addr).with_weight(weight).with_thresholds(lower, upper))
    }

    fn add(&mut self, log: &mut String) -> Result<(), String> {
        let listed: Vec<SocketAddr> = self.ours.iter().map(|(_, entry)| entry.addr()).collect();
        let rest: Vec<SocketAddr> =
            self.dests.iter().copied().filter(|dest| !listed.contains(dest)).collect();
        if rest.is_empty() {
            return self.edit(log);
        }
        let addr = self.draw.one(&rest);
        let (real, backend) = self.real(addr);
        *log = format!("add {real}");
        self.ours.add(backend, self.now);
        self.tell(Command::AddReal(self.key(), real))
    }

    fn edit(&mut self, log: &mut String) -> Result<(), String> {
        let listed: Vec<_> = self.ours.iter().map(|(id, entry)| (id, entry.addr())).collect();
        if listed.is_empty() {
            return Ok(());
        }
        let (id, addr) = self.draw.one(&listed);
        let (real, backend) = self.real(addr);
        *log = format!("edit {real}");
        self.ours.edit(id, |_| backend).map_err(|error| error.to_string())?;
        self.tell(Command::EditReal(self.key(), real))
    }

    fn remove(&mut self, log: &mut String) -> Result<(), String> {
        let listed: Vec<_> = self.ours.iter().map(|(id, entry)| (id, entry.addr())).collect();
        if listed.is_empty() {
            return Ok(());
        }
        let (id, addr) = self.draw.one(&listed);
        *log = format!("remove {addr}");
        self.ours.remove(id, self.now).map_err(|error| error.to_string())?;
        self.tell(Command::DeleteReal(self.key(), addr.into()))
    }

    /// The same scheduler, with other flags.
    fn edit_service(&mut self, log: &mut String) -> Result<(), String> {
        self.flags = flags(self.setup.algorithm, &mut self.draw);
        self.server = server(self.setup, self.flags);
        *log = format!("edit {}", self.server);
        self.ours.set_algorithm(self.setup.algorithm, self.flags, 0);
        self.tell(Command::EditVirtual(self.server))
    }

    /// The virtual server is deleted and made again, with some of its real servers.
    fn recreate(&mut self, log: &mut String) -> Result<(), String> {
        self.ours.set_backends([], self.now);
        self.tell(Command::DeleteVirtual(self.key()))?;
        self.tell(Command::AddVirtual(self.server))?;
        for _ in 0..self.draw.below(4) {
            self.add(log)?;
        }
        log.insert_str(0, "recreate and ");
        Ok(())
    }

    /// All real servers, in order, with their weights and counts.
    fn compare(&mut self) -> Result<(), String> {
        self.outcome.states += 1;
        let ours: Vec<_> = self.ours.iter().collect();
        let state = |(id, entry): &(_, &svcplane::sched::Entry)| {
            let counts = (entry.active(), entry.inactive(), self.ours.persistent(*id));
            (entry.addr(), entry.weight(), counts)
        };
        let expected: Vec<_> = ours.iter().map(state).collect();
        let key = self.key();
        let mut got = vec![];
        let same = until(|| {
            let listed = self.ipvs.real_servers(key).map_err(|error| error.to_string())?;
            let state = |real: &ipvs::ListedReal| {
                let counts = (real.active, real.inactive, real.persistent);
                (SocketAddr::from(real.server.key), real.server.weight.get(), counts)
            };
            got = listed.iter().map(state).collect();
            Ok((got == expected).then_some(()))
        })?;
        same.ok_or_else(|| format!("the kernel has {got:?}, expected {expected:?}"))
    }
}

fn flags(algorithm: Algorithm, draw: &mut Draw) -> Flags {
    let heeds = matches!(algorithm, Algorithm::SourceHashing | Algorithm::MaglevHashing);
    let mut flag = || heeds && draw.below(2) == 0;
    Flags { port: flag(), fallback: flag(), ..Flags::KERNEL }
}

fn server(setup: &Setup, flags: Flags) -> VirtualServer {
    let called = |text: &str| text.parse().expect("an address");
    let key = match setup.kind {
        Kind::Tcp | Kind::Persistent => VirtualKey::tcp(called("192.0.2.1:80")),
        Kind::TcpV6 => VirtualKey::tcp(called("[2001:db8::1]:80")),
        Kind::Udp | Kind::OnePacket => VirtualKey::udp(called("192.0.2.1:80")),
        Kind::Mark => VirtualKey::mark(NonZeroU32::new(MARK).expect("not 0"), IpFamily::V4),
    };
    let scheduler = SchedulerName::try_from(setup.algorithm).expect("one of the kernel's");
    let mut server = VirtualServer::new(key, scheduler);
    server.flags = SchedulerFlags::from(flags);
    server.one_packet = setup.kind == Kind::OnePacket;
    if setup.kind == Kind::Persistent {
        let netmask = Netmask::v4(24).expect("a netmask");
        let persistence = ipvs::Persistence::new(Seconds(REMEMBERED), netmask);
        server.set_persistence(Some(persistence)).expect("of the family");
    }
    server
}
