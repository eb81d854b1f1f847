//! From what there is to what is wanted.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use ipnet::IpNet;

use super::desired::ActualServer;
use super::{
    Actual, Command, Delta, Desired, DesiredServer, ListedReal, RealKey, RealServer, VirtualKey,
    Weight,
};
use crate::net::Protocol;
use crate::time::Instant;

/// What leads from what the kernel has to what is wanted: the fewest commands, and in an order in which no virtual server is
/// without a usable real server that has one before and after.
///
/// What is as it should be is not mentioned: an edit that changes nothing makes `wrr` begin anew. Real servers that are no longer
/// wanted are [drained](Drain): of TCP, one that has connections gets the weight 0, and goes when it has none any more. Virtual
/// servers that are not wanted are deleted, except those of firewall marks, which no plan has, and those at addresses within
/// `exclude`, which are somebody else's.
///
/// ```
/// use svcplane::ipvs::{self, Actual, Config, VirtualServer};
/// # use svcplane::plan::{LocalNode, Mode, Plan};
/// # let desired = ipvs::compile(&Plan::empty(LocalNode::new("node-1".parse()?), Mode::Ipvs), &Config::default());
///
/// let mut actual = Actual::default();
/// actual.insert(VirtualServer::new(ipvs::VirtualKey::tcp("10.96.0.9:80".parse()?), "rr".parse()?), []);
/// let commands = ipvs::reconcile(&desired, &actual, &[]);
/// assert_eq!(commands[0].to_string(), "-D -t 10.96.0.9:80");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// O(virtual and real servers). Source: kube-proxy's ipvs mode and its graceful termination.
pub fn reconcile(desired: &Desired, actual: &Actual, exclude: &[IpNet]) -> Vec<Command> {
    commands(desired, actual, exclude, |_, _| false)
}

/// Drains real servers that are no longer wanted, and no longer than a deadline.
///
/// What is draining is seen in what the kernel has: a weight of 0 where no real server is wanted. A program that was started anew
/// goes on where the last one stopped, and only the deadlines begin again. A real server that is wanted again gets its weight back,
/// connections and all.
///
/// ```
/// use std::time::Duration;
///
/// use svcplane::ipvs::{Actual, Desired, Drain};
/// use svcplane::time::Instant;
///
/// let mut drain = Drain::new(Some(Duration::from_secs(900)));
/// # let (desired, actual) = (Desired::default(), Actual::default());
/// // After each change, and each minute while something is draining:
/// let commands = drain.commands(&desired, &actual, &[], Instant::from_secs(60));
/// assert!(commands.is_empty() && drain.is_idle());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Drain {
    deadline: Option<Duration>,
    /// Since when each has been draining, as far as is known.
    since: BTreeMap<(VirtualKey, RealKey), Instant>,
}

impl Drain {
    /// With a time after which a real server goes, connections or not; `None` is never, as in kube-proxy.
    pub const fn new(deadline: Option<Duration>) -> Self {
        Self { deadline, since: BTreeMap::new() }
    }

    /// As [`reconcile`], and what has drained for too long is deleted. `now` should not go backwards.
    pub fn commands(
        &mut self,
        desired: &Desired,
        actual: &Actual,
        exclude: &[IpNet],
        now: Instant,
    ) -> Vec<Command> {
        let Self { deadline, since } = self;
        let is_over = |began: Instant| {
            deadline.is_some_and(|deadline| now.saturating_duration_since(began) >= deadline)
        };
        let commands = commands(desired, actual, exclude, |key, real| {
            is_over(*since.entry((key, real)).or_insert(now))
        });
        since.retain(|(key, real), began| {
            is_draining(desired, actual, *key, *real) && !is_over(*began)
        });
        commands
    }

    /// The same for what a change concerns: of what the kernel has only [these](Delta::virtual_servers) are looked at, and of what
    /// drains only what is at these.
    pub fn delta_commands(
        &mut self,
        delta: &Delta,
        actual: &Actual,
        exclude: &[IpNet],
        now: Instant,
    ) -> Vec<Command> {
        let concerned = actual.servers.iter().filter(|(key, _)| delta.concerns(key));
        let concerned = concerned.map(|(key, server)| (*key, server.clone())).collect();
        let (of_these, others): (BTreeMap<_, _>, BTreeMap<_, _>) = core::mem::take(&mut self.since)
            .into_iter()
            .partition(|((key, _), _)| delta.concerns(key));
        self.since = of_these;
        let actual = Actual { servers: concerned };
        let commands = self.commands(delta.desired(), &actual, exclude, now);
        self.since.extend(others);
        commands
    }

    /// Whether nothing is draining, as of the last [commands](Self::commands).
    pub fn is_idle(&self) -> bool {
        self.since.is_empty()
    }

    /// When the first of those that drain has to go; `None` if none has to.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.since.values().min().zip(self.deadline).map(|(since, deadline)| *since + deadline)
    }
}

/// Whether a real server is not wanted and waits for its connections to end.
fn is_draining(desired: &Desired, actual: &Actual, key: VirtualKey, real: RealKey) -> bool {
    let wanted = desired.server(&key);
    let there = actual.servers.get(&key).and_then(|server| server.reals.get(&real));
    match (wanted, there) {
        (Some(wanted), Some(there)) => !wanted.reals.contains_key(&real) && waits(key, there),
        _ => false,
    }
}

/// Whether connections of a real server are worth waiting for. Those of UDP and SCTP are cut off, as in kube-proxy: they may never
/// end.
const fn waits(key: VirtualKey, real: &ListedReal) -> bool {
    let tcp = matches!(key, VirtualKey::Address { protocol: Protocol::Tcp, .. });
    tcp && (real.active > 0 || real.inactive > 0)
}

fn commands(
    desired: &Desired,
    actual: &Actual,
    exclude: &[IpNet],
    mut is_overdue: impl FnMut(VirtualKey, RealKey) -> bool,
) -> Vec<Command> {
    let mut commands = Vec::new();
    for (&key, wanted) in desired.servers() {
        match actual.servers.get(&key) {
            None => {
                commands.push(Command::AddVirtual(wanted.server));
                add(&mut commands, key, wanted.reals.values().rev());
            }
            Some(there) => change(&mut commands, key, wanted, there, &mut is_overdue),
        }
    }
    let ours = |key: &VirtualKey| match key {
        VirtualKey::Address { ip, .. } => !exclude.iter().any(|net| net.contains(ip)),
        VirtualKey::Mark { .. } => false,
    };
    let unwanted = actual.servers.keys().filter(|key| desired.server(key).is_none() && ours(key));
    commands.extend(unwanted.map(|key| Command::DeleteVirtual(*key)));
    commands
}

fn add<'a>(
    commands: &mut Vec<Command>,
    key: VirtualKey,
    reals: impl Iterator<Item = &'a RealServer>,
) {
    commands.extend(reals.map(|real| Command::AddReal(key, *real)));
}

fn change(
    commands: &mut Vec<Command>,
    key: VirtualKey,
    wanted: &DesiredServer,
    there: &ActualServer,
    is_overdue: &mut impl FnMut(VirtualKey, RealKey) -> bool,
) {
    if there.server != wanted.server {
        commands.push(Command::EditVirtual(wanted.server));
    }
    // First those that may be chosen, then those that may not any more.
    let new = wanted.reals.values().rev().filter(|real| !there.reals.contains_key(&real.key));
    add(commands, key, new);
    let edits = wanted
        .reals
        .values()
        .filter(|real| there.reals.get(&real.key).is_some_and(|listed| listed.server != **real));
    let (ends, lives): (Vec<&RealServer>, Vec<&RealServer>) =
        edits.partition(|real| real.weight == Weight::ZERO);
    commands.extend(lives.into_iter().chain(ends).map(|real| Command::EditReal(key, *real)));
    for (real, listed) in there.reals.iter().filter(|(real, _)| !wanted.reals.contains_key(real)) {
        if !waits(key, listed) || is_overdue(key, *real) {
            commands.push(Command::DeleteReal(key, *real));
        } else if listed.server.weight != Weight::ZERO {
            let drained = listed.server.with_weight(Weight::ZERO);
            commands.push(Command::EditReal(key, drained));
        }
    }
}
