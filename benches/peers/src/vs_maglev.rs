//! `maglev`: the table of Maglev hashing, without a balancer around it.

use std::net::{SocketAddr, SocketAddrV4};

use maglev::{ConsistentHasher, Maglev};
use svcplane::sched::Algorithm;

use crate::Prepare;
use crate::contest::Contest;
use crate::ours::{Change, Victims, backends, balancer, one_changes, pick_release};

/// As many as `mh` has.
const SLOTS: usize = 4093;

pub(crate) fn contests() -> Vec<Prepare> {
    let mut contests: Vec<Prepare> = Vec::new();
    for n in [3, 100, 1000] {
        contests.push(Box::new(move || lookup(n)));
        contests.push(Box::new(move || build(n)));
        contests.push(Box::new(move || change(n)));
    }
    contests
}

fn lookup(n: u32) -> Contest {
    let backends = backends(n);
    let mut balancer = balancer(Algorithm::MaglevHashing, &backends, false);
    let table = table(backends.iter().copied());
    let ours = move |client| pick_release(&mut balancer, client);
    let peer = move |client| look_up(&table, client);
    Contest::new(&backends, ("mh", ours), ("maglev", peer))
}

/// From a list of backends to the first answer.
fn build(n: u32) -> Contest {
    let backends = backends(n);
    let (for_ours, for_peer) = (backends.clone(), backends.clone());
    let ours = move |client| {
        pick_release(&mut balancer(Algorithm::MaglevHashing, &for_ours, false), client)
    };
    let peer = move |client| look_up(&table(for_peer.iter().copied()), client);
    Contest::new(&backends, ("mh, new", ours), ("maglev, new", peer)).of_rebuilds()
}

fn change(n: u32) -> Contest {
    let backends = backends(n);
    let ours = one_changes(&backends, balancer(Algorithm::MaglevHashing, &backends, false));
    let mut victims = Victims::new(&backends);
    let all = backends.clone();
    let peer = move |client| {
        let all = all.iter().copied();
        let table = match victims.next() {
            Change::Leaves(gone) => table(all.filter(|addr| *addr != gone)),
            Change::Returns(_) => table(all),
        };
        victims.spared(look_up(&table, client))
    };
    let (ours, peer) = (("mh, one changes", ours), ("maglev, one changes", peer));
    Contest::new(&backends, ours, peer).of_rebuilds()
}

fn table(backends: impl Iterator<Item = SocketAddr>) -> Maglev<SocketAddr> {
    Maglev::with_capacity(backends, SLOTS)
}

fn look_up(table: &Maglev<SocketAddr>, client: SocketAddrV4) -> SocketAddr {
    *table.get(&client.ip().to_bits()).expect("a backend")
}
