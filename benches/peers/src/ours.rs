//! svcplane's side of the contests, and the backends of both sides.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use svcplane::backend::{Backend, Flow};
use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::Algorithm;
#[cfg(feature = "pingora")]
use svcplane::sync::{Lease, SharedBalancer};
use svcplane::time::Instant;

pub(crate) const NOW: Instant = Instant::ZERO;

pub(crate) fn backends(count: u32) -> Vec<SocketAddr> {
    let ip = |n| Ipv4Addr::from_bits(0x0a00_0000 + n);
    (0..count).map(|n| SocketAddr::from((ip(n), 80))).collect()
}

/// Equal weights, or 1 to 5 in turn.
pub(crate) fn weight(weighted: bool, n: usize) -> u32 {
    if weighted { [1, 2, 3, 4, 5][n % 5] } else { 1 }
}

pub(crate) fn balancer(algorithm: Algorithm, backends: &[SocketAddr], weighted: bool) -> Balancer {
    let mut balancer = Balancer::new(algorithm, 7);
    let backends = backends.iter().enumerate();
    let backends = backends.map(|(n, addr)| Backend::new(*addr).with_weight(weight(weighted, n)));
    balancer.set_backends(backends, NOW);
    balancer
}

pub(crate) fn pick(balancer: &mut Balancer, client: SocketAddrV4) -> Conn {
    balancer.pick(&flow(client), NOW).expect("a backend")
}

fn flow(client: SocketAddrV4) -> Flow {
    const DESTINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 1), 80);
    Flow::new(client.into(), DESTINATION.into())
}

/// One thread's use of a shared balancer: each call opens a connection and closes another at random.
#[cfg(feature = "pingora")]
pub(crate) fn hold(balancer: SharedBalancer) -> impl FnMut(SocketAddrV4) -> SocketAddr + use<> {
    const HELD: usize = 256;
    let open = move |client| {
        let mut lease = balancer.pick(&flow(client), NOW).expect("a backend");
        lease.established();
        lease
    };
    let first = SocketAddrV4::new(Ipv4Addr::new(100, 64, 0, 1), 40_000);
    let mut held: Vec<Lease> = (0..HELD).map(|_| open(first)).collect();
    let mut random = 1_u64;
    move |client| {
        let lease = open(client);
        let addr = lease.addr();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        held[usize::from(random.to_be_bytes()[0]) % HELD] = lease;
        addr
    }
}

pub(crate) fn pick_release(balancer: &mut Balancer, client: SocketAddrV4) -> SocketAddr {
    let conn = pick(balancer, client);
    let addr = conn.addr();
    balancer.release(conn).expect("a good id");
    addr
}

/// One after another of the backends leaves and comes back; a call is one change and the first pick after it.
pub(crate) fn one_changes(
    backends: &[SocketAddr],
    mut balancer: Balancer,
) -> impl FnMut(SocketAddrV4) -> SocketAddr + use<> {
    let mut victims = Victims::new(backends);
    move |client| {
        match victims.next() {
            Change::Leaves(addr) => {
                let id = balancer.find(addr).expect("it is listed");
                balancer.remove(id, NOW).expect("a good id");
            }
            Change::Returns(addr) => {
                balancer.add(addr.into(), NOW);
            }
        }
        victims.spared(pick_release(&mut balancer, client))
    }
}

/// Which backend is next to leave, or to come back before another leaves.
pub(crate) struct Victims {
    backends: Vec<SocketAddr>,
    at: usize,
    out: bool,
}

pub(crate) enum Change {
    Leaves(SocketAddr),
    Returns(SocketAddr),
}

impl Victims {
    pub(crate) fn new(backends: &[SocketAddr]) -> Self {
        Self { backends: backends.to_vec(), at: 0, out: false }
    }

    pub(crate) fn next(&mut self) -> Change {
        let addr = self.backends[self.at];
        self.out = !self.out;
        if self.out {
            return Change::Leaves(addr);
        }
        self.at = (self.at + 1) % self.backends.len();
        Change::Returns(addr)
    }

    /// The answer, which is not the backend that has left.
    pub(crate) fn spared(&self, answer: SocketAddr) -> SocketAddr {
        assert!(!self.out || answer != self.backends[self.at], "{answer} has left");
        answer
    }
}
