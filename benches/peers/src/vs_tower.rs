//! `tower`'s `Balance`: the less loaded of two, with the requests in flight for the load.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::mem;
use std::net::{SocketAddr, SocketAddrV4};
use std::task::{Context, Poll, Waker};

use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::Algorithm;
use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::pending_requests::Handle;
use tower::load::{PendingRequestsDiscover, TrackCompletion};

use crate::Prepare;
use crate::contest::{Contest, at_once};
use crate::ours::{backends, balancer, pick};

pub(crate) fn contests() -> Vec<Prepare> {
    let mut contests: Vec<Prepare> = Vec::new();
    for n in [3, 100, 10_000] {
        contests.push(Box::new(move || one_at_a_time(n)));
        contests.push(Box::new(move || held(n)));
    }
    contests
}

fn one_at_a_time(n: u32) -> Contest {
    let backends = backends(n);
    let mut balancer = balancer(Algorithm::PowerOfTwoChoices, &backends, false);
    let mut peer = peer(&backends);
    let ours = move |client| {
        let conn = open(&mut balancer, client);
        let addr = conn.addr();
        balancer.release(conn).expect("a good id");
        addr
    };
    let peer = move |_| request(&mut peer).addr;
    Contest::new(&backends, ("p2c", ours), ("tower Balance", peer))
}

/// With twice as many connections as backends: a new one, then the oldest goes.
fn held(n: u32) -> Contest {
    let backends = backends(n);
    let mut balancer = balancer(Algorithm::PowerOfTwoChoices, &backends, false);
    let mut peer = peer(&backends);
    let client = SocketAddrV4::new([100, 64, 0, 1].into(), 40_000);
    let mut conns = Held::new((0..2 * n).map(|_| open(&mut balancer, client)));
    let mut requests = Held::new((0..2 * n).map(|_| request(&mut peer)));
    let ours = move |client| {
        let conn = open(&mut balancer, client);
        let addr = conn.addr();
        balancer.release(conns.replace_oldest(conn)).expect("a good id");
        addr
    };
    let peer = move |_| {
        let request = request(&mut peer);
        let addr = request.addr;
        drop(requests.replace_oldest(request));
        addr
    };
    Contest::new(&backends, ("p2c, 2 n held", ours), ("tower Balance, 2 n held", peer))
}

struct Held<T> {
    all: Vec<T>,
    oldest: usize,
}

impl<T> Held<T> {
    fn new(all: impl Iterator<Item = T>) -> Self {
        Self { all: all.collect(), oldest: 0 }
    }

    fn replace_oldest(&mut self, new: T) -> T {
        let oldest = mem::replace(&mut self.all[self.oldest], new);
        self.oldest = (self.oldest + 1) % self.all.len();
        oldest
    }
}

fn open(balancer: &mut Balancer, client: SocketAddrV4) -> Conn {
    let mut conn = pick(balancer, client);
    balancer.activate(&mut conn).expect("a good id");
    conn
}

type Peer = Balance<PendingRequestsDiscover<ServiceList<Vec<Server>>, WhenDropped>, ()>;

fn peer(backends: &[SocketAddr]) -> Peer {
    let servers = ServiceList::new::<()>(backends.iter().copied().map(Server).collect::<Vec<_>>());
    Balance::new(PendingRequestsDiscover::new::<()>(servers, WhenDropped))
}

fn request(peer: &mut Peer) -> Request {
    let ready = peer.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))), "every server is ready");
    at_once(peer.call(())).expect("no server fails")
}

/// Always ready, and answers at once with its address.
struct Server(SocketAddr);

impl Service<()> for Server {
    type Response = SocketAddr;
    type Error = Infallible;
    type Future = Ready<Result<SocketAddr, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0))
    }
}

/// Counts a request until the caller drops it, as svcplane counts a connection until it is released.
#[derive(Clone)]
struct WhenDropped;

struct Request {
    addr: SocketAddr,
    _counted: Handle,
}

impl TrackCompletion<Handle, SocketAddr> for WhenDropped {
    type Output = Request;

    fn track_completion(&self, handle: Handle, addr: SocketAddr) -> Request {
        Request { addr, _counted: handle }
    }
}
