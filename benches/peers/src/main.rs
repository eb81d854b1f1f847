//! svcplane's `Balancer` and other crates that choose a backend, side by side in one run.
//!
//! ```sh
//! cargo run --release                        # Debian: apt-get install cmake
//! cargo run --release --no-default-features  # without pingora, and without cmake
//! cargo test                                 # the answers only
//! ```
//!
//! A line is a contest of two that do nearly the same work for the same clients. They take turns, 15 rounds of about 50 ms each,
//! so that what else the machine does meets both. The times are medians over the rounds. The ratio is the peer's time by
//! svcplane's in the same round, median and quartiles: above 1, svcplane is faster; where the quartiles are far apart, the
//! machine was not quiet. The first line is what asking costs: a list walked by both sides, whose ratio should be 1. One thread,
//! unless the line names a number of them. Built as cargo's release profile has it, without link-time optimization.
//!
//! No two of these crates do the same, and a ratio is worth what these lines leave of it:
//!
//! * **svcplane** counts: a pick makes a connection that is released, and what the algorithm needs to know of it is kept up to date.
//!   Weights, thresholds, suspension and backends that come and go are looked after in each pick. It takes `&mut self`, so
//!   threads have to share it behind a lock; the lines with "Mutex" take an uncontended one in each call.
//! * The lines with "thread" or "threads" are svcplane's `SharedBalancer`, a clone for each thread, beside one pingora `LoadBalancer` in an `Arc`. Ours
//!   counts and releases: an operation is a pick, its `established`, and the drop of one at random of the 256 connections that the thread
//!   holds; where picks depend on no counts, each thread does that by itself. pingora's is `select`, which does none of this. The threads start at a
//!   barrier and divide the operations; the time is from the first start to the last end, by the operations of all
//!   threads: with two it would at best be half of what it is with one.
//! * **pingora**'s `LoadBalancer::select` counts nothing, has no thresholds and takes `&self`: any thread may call it, and updates swap
//!   what it reads. It asks after the backend's health by a hash of it, notes it among those seen, and returns a clone. "the
//!   selection alone" is the algorithm without that, which is less than a user gets. Its weighted round robin gives a backend all
//!   its turns in a row, svcplane's spreads them. A change rebuilds the algorithm whole; only that is timed, not the update of
//!   health around it. `Consistent` is ketama, a sorted ring of 160 points for each backend, against `mh`'s table of 4093 slots:
//!   another algorithm for the same end.
//! * **tower**'s `Balance` counts the requests in flight, like svcplane, by handles that are dropped. It heeds no weights. It is
//!   not only a choice: a service is asked whether it is ready before it is called, and goes through a set of futures to be asked
//!   again; that is timed too, as there is no choosing without. Services here are ready and answer at once; no runtime is involved.
//! * **maglev** has the table alone: nothing is counted, no weights, no health, `&self`. A change is a new table. It is given
//!   svcplane's number of slots. It writes each backend's way through all the slots down before it deals them out.
//! * **`quick_cache`**, **mini-moka** and **moka** are caches with a bound, asked what an affinity table is asked for 1,000,000 IPv4 clients: one
//!   that is there at random, the same noted again, and a new one for which another has to go. Their key is the scope's number with the
//!   client's IP, the value the backend's address; the hash is the table's SipHash-1-3. They are shared: `&self`, any thread. They keep what is
//!   asked for often, and may refuse a new client; the table keeps him whose time ends last, and never refuses. moka and mini-moka have a
//!   time to live, as the table has, and do part of their work a batch of calls later, which is timed if it falls into a
//!   round; `quick_cache` has none. The last lines are bytes on the heap for each client, after twice as many as fit.
//!
//! The hashing contests end at 1,000 backends (`sh`: 100, as it has 256 slots): of 10,000, a table of 4093 slots would leave most out.
//!
//! Each side gets the client as a socket address and makes of it what it hashes, in the peers' case just the four bytes of the IP.

mod contest;
mod ours;
mod vs_caches;
mod vs_maglev;
#[cfg(feature = "pingora")]
mod vs_pingora;
mod vs_tower;

use std::alloc::System;
use std::net::{SocketAddr, SocketAddrV4};

use contest::Contest;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Boxed, so that one contest at a time is in memory.
type Prepare = Box<dyn FnOnce() -> Contest>;

fn contests() -> Vec<Prepare> {
    let mut contests: Vec<Prepare> = vec![Box::new(asking)];
    #[cfg(feature = "pingora")]
    contests.extend(vs_pingora::contests());
    contests.extend(vs_tower::contests());
    contests.extend(vs_maglev::contests());
    contests.extend(vs_caches::contests());
    contests
}

/// The same on both sides, and as little as an answer can be.
fn asking() -> Contest {
    let backends = ours::backends(100);
    let (ours, peer) = (in_turn(backends.clone()), in_turn(backends.clone()));
    Contest::new(&backends, ("(a Vec in turn)", ours), ("(a Vec in turn)", peer))
}

fn in_turn(backends: Vec<SocketAddr>) -> impl FnMut(SocketAddrV4) -> SocketAddr {
    let mut last = 0;
    move |_| {
        last = if last == 0 { backends.len() - 1 } else { last - 1 };
        backends[last]
    }
}

fn main() {
    println!("{}", Contest::HEADING);
    for prepare in contests() {
        let mut contest = prepare();
        contest.check();
        println!("{}", contest.run());
    }
    vs_caches::print_bytes();
}

#[test]
fn all_sides_answer_with_backends() {
    for prepare in contests() {
        prepare().check();
    }
}
