//! Two sides that are asked the same, in turns.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
#[cfg(feature = "pingora")]
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(50);
/// Few enough for the first-level cache: what is asked should not cost.
const CLIENTS: usize = 512;

/// One that is asked again and again where a client goes.
trait Side {
    fn answer(&mut self) -> SocketAddr;

    fn time(&mut self, operations: u32) -> Duration;
}

struct Asked<F> {
    clients: Box<[SocketAddrV4; CLIENTS]>,
    next: usize,
    choose: F,
}

impl<F: FnMut(SocketAddrV4) -> SocketAddr> Side for Asked<F> {
    #[inline]
    fn answer(&mut self) -> SocketAddr {
        self.next = (self.next + 1) % CLIENTS;
        (self.choose)(black_box(self.clients[self.next]))
    }

    fn time(&mut self, operations: u32) -> Duration {
        let start = Instant::now();
        for _ in 0..operations {
            black_box(self.answer());
        }
        start.elapsed()
    }
}

fn asked<F: FnMut(SocketAddrV4) -> SocketAddr>(choose: F) -> Asked<F> {
    let clients = std::array::from_fn(|n| {
        let host = u32::try_from(n * 40_503).expect("a small number");
        SocketAddrV4::new(Ipv4Addr::from_bits(0x6440_0000 + host), 40_000)
    });
    Asked { clients: Box::new(clients), next: 0, choose }
}

/// Several threads that are asked at once, each with something of its own that chooses, and is made and dropped untimed.
#[cfg(feature = "pingora")]
struct Threads<F, C> {
    count: u32,
    start: F,
    /// Who answers when no time is taken.
    alone: Option<Asked<C>>,
}

#[cfg(feature = "pingora")]
impl<F, C> Side for Threads<F, C>
where
    F: Fn() -> C + Sync,
    C: FnMut(SocketAddrV4) -> SocketAddr,
{
    fn answer(&mut self) -> SocketAddr {
        self.alone.get_or_insert_with(|| asked((self.start)())).answer()
    }

    /// From the first start to the last end.
    fn time(&mut self, operations: u32) -> Duration {
        self.alone = None;
        let start = &self.start;
        let barrier = Barrier::new(self.count as usize);
        let share = operations.div_ceil(self.count);
        let work = || {
            let mut side = asked(start());
            barrier.wait();
            let began = Instant::now();
            for _ in 0..share {
                black_box(side.answer());
            }
            (began, Instant::now())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.count).map(|_| scope.spawn(work)).collect();
            let times = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            let (began, ended) = times
                .reduce(|(began, ended), (b, e)| (began.min(b), ended.max(e)))
                .expect("a thread");
            ended - began
        })
    }
}

pub(crate) struct Contest {
    backends: Vec<SocketAddr>,
    rebuilds: bool,
    ours: (&'static str, Box<dyn Side>),
    peer: (&'static str, Box<dyn Side>),
}

impl Contest {
    pub(crate) const HEADING: &str = concat!(
        "svcplane                       peer                                 ",
        "backends  svcplane ns      peer ns    ratio        quartiles"
    );

    /// The two get one client a call and answer with the backend.
    pub(crate) fn new(
        backends: &[SocketAddr],
        (our_name, ours): (&'static str, impl FnMut(SocketAddrV4) -> SocketAddr + 'static),
        (peer_name, peer): (&'static str, impl FnMut(SocketAddrV4) -> SocketAddr + 'static),
    ) -> Self {
        let ours: Box<dyn Side> = Box::new(asked(ours));
        let peer: Box<dyn Side> = Box::new(asked(peer));
        let (ours, peer) = ((our_name, ours), (peer_name, peer));
        Self { backends: backends.to_vec(), rebuilds: false, ours, peer }
    }

    /// The two are called in each of the threads, for what gets one client a call there.
    #[cfg(feature = "pingora")]
    pub(crate) fn of_threads<C, D>(
        threads: u32,
        backends: &[SocketAddr],
        (our_name, ours): (&'static str, impl Fn() -> C + Sync + 'static),
        (peer_name, peer): (&'static str, impl Fn() -> D + Sync + 'static),
    ) -> Self
    where
        C: FnMut(SocketAddrV4) -> SocketAddr + 'static,
        D: FnMut(SocketAddrV4) -> SocketAddr + 'static,
    {
        let ours: Box<dyn Side> = Box::new(Threads { count: threads, start: ours, alone: None });
        let peer: Box<dyn Side> = Box::new(Threads { count: threads, start: peer, alone: None });
        let (ours, peer) = ((our_name, ours), (peer_name, peer));
        Self { backends: backends.to_vec(), rebuilds: false, ours, peer }
    }

    /// Each answer takes so long that few are checked: far from enough to reach all backends.
    pub(crate) fn of_rebuilds(self) -> Self {
        Self { rebuilds: true, ..self }
    }

    /// Whether both answer with backends, and do not leave most of them out.
    pub(crate) fn check(&mut self) {
        let backends: HashSet<SocketAddr> = self.backends.iter().copied().collect();
        let (answers, least) = if self.rebuilds {
            (8, 1)
        } else {
            (2 * backends.len().max(CLIENTS), backends.len().min(CLIENTS) / 2)
        };
        for (name, side) in [&mut self.ours, &mut self.peer] {
            let reached: HashSet<SocketAddr> = (0..answers).map(|_| side.answer()).collect();
            assert!(reached.is_subset(&backends), "{name}: no backend among {reached:?}");
            assert!(reached.len() >= least, "{name}: {} of {}", reached.len(), backends.len());
        }
    }

    pub(crate) fn run(&mut self) -> Outcome {
        let (ours, peer) = (&mut *self.ours.1, &mut *self.peer.1);
        let (our_operations, peer_operations) = (calibrate(ours), calibrate(peer));
        let rounds: Vec<(f64, f64)> = (0..ROUNDS)
            .map(|_| (per_operation(ours, our_operations), per_operation(peer, peer_operations)))
            .collect();
        Outcome {
            names: [self.ours.0, self.peer.0],
            backends: self.backends.len(),
            ours: Sorted::new(rounds.iter().map(|(ours, _)| *ours)),
            peer: Sorted::new(rounds.iter().map(|(_, peer)| *peer)),
            ratios: Sorted::new(rounds.iter().map(|(ours, peer)| peer / ours)),
        }
    }
}

/// How many operations take about as long as a round should. It warms up, too.
fn calibrate(side: &mut dyn Side) -> u32 {
    let mut operations = 1;
    loop {
        let took = side.time(operations);
        if took >= ROUND / 4 || operations > u32::MAX / 2 {
            let rounds = ROUND.as_secs_f64() / took.as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates"
            )]
            return ((f64::from(operations) * rounds) as u32).max(1);
        }
        operations *= 2;
    }
}

/// In nanoseconds.
fn per_operation(side: &mut dyn Side, operations: u32) -> f64 {
    side.time(operations).as_secs_f64() * 1e9 / f64::from(operations)
}

pub(crate) struct Outcome {
    names: [&'static str; 2],
    backends: usize,
    ours: Sorted,
    peer: Sorted,
    ratios: Sorted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, peer] = self.names;
        let (our_time, peer_time) = (self.ours.quartile(2), self.peer.quartile(2));
        write!(f, "{ours:<31}{peer:<37}{:>8}", self.backends)?;
        write!(f, "{our_time:>13.1}{peer_time:>13.1}{:>9.2}", self.ratios.quartile(2))?;
        write!(f, "{:>9.2} –{:>6.2}", self.ratios.quartile(1), self.ratios.quartile(3))
    }
}

struct Sorted(Vec<f64>);

impl Sorted {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The second is the median.
    fn quartile(&self, quarters: usize) -> f64 {
        self.0[(self.0.len() - 1) * quarters / 4]
    }
}

/// What a future comes to that waits for nothing.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("expected a future that is ready at once"),
    }
}
