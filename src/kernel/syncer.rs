//! When to hand over what: a state machine without I/O or clock.

use std::sync::Arc;
use std::vec::Vec;

use core::time::Duration;
use std::string::String;

use crate::iptables;
use crate::net::{IpFamily, Protocol};
use crate::nftables::{self, ClientAffinity, Leftover};
use crate::plan::{Changes, Plan, PortPlan, ServicePlan};
use crate::time::Instant;

/// How often, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pacing {
    /// How long it takes, on average, from one full script or delta to the next. What changes meanwhile goes into one. Defaults to 1 s.
    pub period: Duration,
    /// How many may follow each other at once after a quiet time, at least 1. Defaults to 2.
    pub burst: u32,
    /// How long it takes from a failure to the next attempt if nothing else changes; what changes is attempted at once. Defaults to 30 s.
    pub retry: Duration,
    /// How long leftovers stay. Kernels before 6.2 need a second. Defaults to 1 s.
    pub sweep_after: Duration,
    /// How long it takes from one full script to the next, whether anything has changed or not: it puts right what others have done to the
    /// tables. `None` is never. Defaults to 1 h.
    ///
    /// `DIFFERENCE`: while a Service with [stateful affinity](ClientAffinity::Stateful) is loaded none is due, since a full
    /// script forgets the clients' affinity; kube-proxy's does not.
    pub full_every: Option<Duration>,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(1),
            burst: 2,
            retry: Duration::from_secs(30),
            sweep_after: Duration::from_secs(1),
            full_every: Some(Duration::from_secs(3_600)),
        }
    }
}

/// What is to be done now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Nothing until this time, or until the syncer is told of something if it is `None`.
    Wait(Option<Instant>),
    /// Put the rules for the whole plan in the place of whatever there is: [`Nft::replace`](super::Nft::replace),
    /// [`Iptables::replace`](super::Iptables::replace) or [`IpvsNode::sync`](super::IpvsNode::sync).
    Full(Arc<Plan>),
    /// Load this script, which leads from what is loaded to what is desired.
    Delta {
        /// The script.
        script: Script,
        /// How many Services are treated otherwise.
        services: usize,
    },
    /// Lead on from what is loaded to this plan by these changes: [`IpvsNode::follow`](super::IpvsNode::follow).
    Follow {
        /// The plan.
        plan: Arc<Plan>,
        /// What leads to it.
        changes: Changes,
    },
    /// Load this script, which deletes what earlier deltas left without use.
    Sweep {
        /// The script.
        script: Script,
    },
    /// Delete the connection tracking entries that are [stale](Plan::stale_flows) under this plan, which is loaded. Comes after a change of a
    /// UDP port.
    Flows(Arc<Plan>),
}

/// A change of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Script {
    /// For [`Nft::apply`](super::Nft::apply).
    Nftables(String),
    /// For [`Iptables::apply`](super::Iptables::apply), once for each family. One of them may be empty.
    Iptables {
        /// For IPv4.
        v4: String,
        /// For IPv6.
        v6: String,
    },
}

impl Script {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Nftables(script) => script.len(),
            Self::Iptables { v4, v6 } => v4.len() + v6.len(),
        }
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// By what rules a plan is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rules {
    /// Those of nftables.
    Nftables(nftables::Config),
    /// Those of iptables.
    Iptables(iptables::Config),
    /// Virtual servers of IPVS: a change is a step for [`IpvsNode::follow`](super::IpvsNode::follow). Besides,
    /// [`IpvsNode::sync`](super::IpvsNode::sync) wants to be called while something [drains](super::IpvsNode::next_sync).
    Ipvs,
}

impl From<nftables::Config> for Rules {
    fn from(config: nftables::Config) -> Self {
        Self::Nftables(config)
    }
}

impl From<iptables::Config> for Rules {
    fn from(config: iptables::Config) -> Self {
        Self::Iptables(config)
    }
}

impl Rules {
    /// `None` if it takes more than a script.
    fn delta(&self, plan: &Plan, changes: &Changes) -> Option<(Script, Vec<Leftover>)> {
        match self {
            Self::Nftables(config) => {
                let delta = nftables::delta(plan, changes, config);
                Some((Script::Nftables(delta.script), delta.leftovers))
            }
            Self::Iptables(config) => {
                let [v4, v6] = [IpFamily::V4, IpFamily::V6]
                    .map(|family| iptables::delta(plan, changes, family, config));
                Some((Script::Iptables { v4, v6 }, Vec::new()))
            }
            Self::Ipvs => None,
        }
    }

    fn sweep(&self, plan: &Plan, leftovers: &[Leftover]) -> Script {
        match self {
            Self::Nftables(config) => Script::Nftables(nftables::sweep(plan, config, leftovers)),
            Self::Iptables(_) | Self::Ipvs => Script::Nftables(String::new()),
        }
    }

    /// Whether a full script would forget to which endpoints clients are pinned.
    fn pins(&self, plan: &Plan) -> bool {
        match self {
            Self::Nftables(config) => {
                config.affinity == ClientAffinity::Stateful
                    && plan.ports().any(|port| port.client_ip_affinity.is_some())
            }
            // The kernel keeps a list as long as any rule names it.
            Self::Iptables(_) | Self::Ipvs => false,
        }
    }
}

/// Leads the kernel from plan to plan: says what to load and when, and is told how it went.
///
/// ```
/// use svcplane::kernel::{Pacing, Step, Syncer};
/// use svcplane::nftables::Config;
/// use svcplane::plan::{LocalNode, Mode, Plan};
/// use svcplane::time::Instant;
///
/// let mut syncer = Syncer::new(Config::default(), Pacing::default());
/// let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Nftables);
/// syncer.desire(plan);
/// let now = Instant::from_secs(10);
/// // Nothing is written before both lists are complete: it would cut off what is not listed yet.
/// assert!(matches!(syncer.step(now), Step::Wait(None)));
///
/// syncer.services_listed();
/// syncer.slices_listed();
/// let until = loop {
///     let done: Result<(), std::io::Error> = match syncer.step(now) {
///         Step::Full(plan) => Ok(drop(plan)), // kernel::Nft::replace, kernel::Iptables::replace
///         Step::Delta { script, .. } | Step::Sweep { script } => Ok(drop(script)), // apply
///         Step::Flows(plan) => Ok(drop(plan)), // kernel::Conntrack::delete_stale
///         Step::Wait(until) => break until,
///         _ => unreachable!("there are no others"),
///     };
///     if done.is_ok() { syncer.done(now) } else { syncer.failed(now) }
/// };
/// assert_eq!(until, Some(Instant::from_secs(3_610))); // or when the plan changes
/// # Ok::<(), svcplane::name::NameError>(())
/// ```
///
/// **Rules.** The first script is a full one, whatever an earlier run left behind. After that, deltas, as long as all succeed. After a failure of any
/// script nobody knows what is loaded: what comes next is a full one, when the plan changes or the time to
/// [retry](Pacing::retry) is over. Full scripts and deltas are [paced](Pacing::period); sweeps and flows are not. A step is
/// to be answered by [`done`](Self::done) or [`failed`](Self::failed); one that was not, when the next is asked for, counts as failed.
///
/// Source: kube-proxy's `BoundedFrequencyRunner`, nftables and iptables modes. A step costs what the script costs, and after [`desire`](Syncer::desire) what
/// [`Plan::diff`] costs.
#[derive(Clone, Debug)]
pub struct Syncer {
    rules: Rules,
    pacing: Pacing,
    services_listed: bool,
    slices_listed: bool,
    desired: Option<Arc<Plan>>,
    /// What the kernel has; `None` if that is not known.
    loaded: Option<Arc<Plan>>,
    /// What leads from what is loaded, or handed out to be, to what is desired; `None` if that has to be found out.
    ahead: Option<Changes>,
    /// When the last full script was loaded.
    full_at: Instant,
    /// When the allowance for scripts is whole again.
    paced_until: Instant,
    /// Not before this time, since something failed.
    retry_at: Option<Instant>,
    /// Each with the time from which it may be swept.
    leftovers: Vec<(Instant, Leftover)>,
    /// Whether a UDP port has changed since flows were looked at, and from when on they may be.
    flows_at: Option<Instant>,
    pending: Option<Pending>,
}

/// What was handed out and not answered yet.
#[derive(Clone, Debug)]
enum Pending {
    Load { plan: Loaded, leftovers: Vec<Leftover>, udp: bool },
    Sweep,
    Flows,
}

/// What is loaded when a script has been.
#[derive(Clone, Debug)]
enum Loaded {
    Plan(Arc<Plan>),
    /// What was, and these.
    Changes(Changes),
}

impl Syncer {
    /// One that knows of nothing yet.
    pub fn new(rules: impl Into<Rules>, pacing: Pacing) -> Self {
        Self {
            rules: rules.into(),
            pacing,
            services_listed: false,
            slices_listed: false,
            desired: None,
            loaded: None,
            ahead: None,
            full_at: Instant::ZERO,
            paced_until: Instant::ZERO,
            retry_at: None,
            leftovers: Vec::new(),
            flows_at: None,
            pending: None,
        }
    }

    /// Says what is to be carried out from now on.
    pub fn desire(&mut self, plan: impl Into<Arc<Plan>>) {
        let plan = plan.into();
        let same = |old: &Arc<Plan>| Arc::ptr_eq(old, &plan) || **old == *plan;
        if !self.desired.as_ref().is_some_and(same) {
            self.retry_at = None;
        }
        self.desired = Some(plan);
        self.ahead = None;
    }

    /// Says what has changed of what is to be carried out, since [`desire`](Self::desire) said what that is: as by
    /// [`Catalog::apply`](crate::catalog::Catalog::apply). O(change), where `desire` has the whole plans compared.
    pub fn follow(&mut self, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        if let Some(desired) = &mut self.desired {
            self.retry_at = None;
            Arc::make_mut(desired).apply(changes);
            if let Some(ahead) = &mut self.ahead {
                ahead.merge(changes.clone());
            }
        }
    }

    /// Says that all Services are known. Nothing is loaded before.
    pub const fn services_listed(&mut self) {
        self.services_listed = true;
    }

    /// Says that all EndpointSlices are known. Nothing is loaded before.
    pub const fn slices_listed(&mut self) {
        self.slices_listed = true;
    }

    /// What the kernel has, as far as is known: the plan of the last script that was loaded; `None` before the first and after a failure.
    pub const fn loaded(&self) -> Option<&Arc<Plan>> {
        self.loaded.as_ref()
    }

    /// What is to be done now. `now` should not go backwards.
    pub fn step(&mut self, now: Instant) -> Step {
        if self.pending.is_some() {
            self.failed(now);
        }
        if !(self.services_listed && self.slices_listed) {
            return Step::Wait(None);
        }
        let Some(desired) = self.desired.clone() else { return Step::Wait(None) };
        let mut wake = Wake::default();
        // What is loaded first has to be known before anything else is done.
        if wake.is_due(self.retry_at, now) {
            if let Some(step) = self.load(&desired, now, &mut wake) {
                self.spend(now);
                return step;
            }
        }
        if self.loaded.is_some() && wake.is_due(self.flows_at, now) && self.flows_at.is_some() {
            self.pending = Some(Pending::Flows);
            return Step::Flows(self.loaded.clone().unwrap_or(desired));
        }
        if let Some(script) = self.sweep(now, &mut wake) {
            self.pending = Some(Pending::Sweep);
            return Step::Sweep { script };
        }
        Step::Wait(wake.0)
    }

    /// Says that what the last step asked for has been done.
    pub fn done(&mut self, now: Instant) {
        match self.pending.take() {
            None | Some(Pending::Sweep) => {}
            Some(Pending::Flows) => self.flows_at = None,
            Some(Pending::Load { plan, leftovers, udp }) => {
                self.retry_at = None;
                if matches!(plan, Loaded::Plan(_)) {
                    self.full_at = now;
                    self.leftovers.clear();
                }
                let ripe = now + self.pacing.sweep_after;
                self.leftovers.extend(leftovers.into_iter().map(|leftover| (ripe, leftover)));
                match (plan, &mut self.loaded) {
                    (Loaded::Plan(plan), loaded) => *loaded = Some(plan),
                    (Loaded::Changes(changes), Some(loaded)) => {
                        Arc::make_mut(loaded).apply(&changes);
                    }
                    (Loaded::Changes(_), None) => {}
                }
                if udp {
                    self.flows_at = Some(now);
                }
            }
        }
    }

    /// Says that what the last step asked for has failed. After a script that failed all is written anew; flows are looked at again.
    pub fn failed(&mut self, now: Instant) {
        let retry = now + self.pacing.retry;
        match self.pending.take() {
            None => {}
            Some(Pending::Flows) => self.flows_at = Some(retry),
            Some(Pending::Load { .. } | Pending::Sweep) => {
                self.loaded = None;
                self.leftovers.clear();
                self.retry_at = Some(retry);
            }
        }
    }

    /// A script that leads to what is desired, if one is needed and may be loaded by now.
    fn load(&mut self, desired: &Arc<Plan>, now: Instant, wake: &mut Wake) -> Option<Step> {
        let full_at = self.next_full();
        let known = self.loaded.as_ref().filter(|_| full_at.is_none_or(|at| now < at));
        if let Some(loaded) = known {
            let ahead = self.ahead.get_or_insert_with(|| Plan::diff(loaded, desired));
            if ahead.is_empty() {
                wake.at(full_at);
                return None;
            }
        }
        let is_known = known.is_some();
        if !wake.is_due(self.pace(now), now) {
            return None;
        }
        let plan = Arc::clone(desired);
        let changes = self.ahead.replace(Changes::default()).filter(|_| is_known);
        let Some(changes) = changes.filter(|changes| !changes.concerns_node()) else {
            // What was open before this program began, or while nobody knew what was loaded, counts.
            self.pending = Some(Pending::Load {
                plan: Loaded::Plan(Arc::clone(&plan)),
                leftovers: Vec::new(),
                udp: true,
            });
            return Some(Step::Full(plan));
        };
        let udp = changes_udp(&changes);
        let Some((script, leftovers)) = self.rules.delta(desired, &changes) else {
            let loaded = Loaded::Changes(changes.clone());
            self.pending = Some(Pending::Load { plan: loaded, leftovers: Vec::new(), udp });
            return Some(Step::Follow { plan, changes });
        };
        let services = changes.services().len();
        self.pending = Some(Pending::Load { plan: Loaded::Changes(changes), leftovers, udp });
        if script.is_empty() {
            self.done(now);
            return None;
        }
        Some(Step::Delta { script, services })
    }

    /// When a full script is due though nothing has changed.
    fn next_full(&self) -> Option<Instant> {
        let loaded = self.loaded.as_ref()?;
        let at = self.full_at + self.pacing.full_every?;
        (!self.rules.pins(loaded)).then_some(at)
    }

    /// From when on the next script may be loaded; `None` is now.
    fn pace(&self, now: Instant) -> Option<Instant> {
        let ahead = self.paced_until.saturating_duration_since(now);
        let allowed = self.pacing.period.saturating_mul(self.pacing.burst.max(1) - 1);
        let rest = ahead.saturating_sub(allowed);
        (!rest.is_zero()).then(|| now + rest)
    }

    fn spend(&mut self, now: Instant) {
        self.paced_until = self.paced_until.max(now) + self.pacing.period;
    }

    /// A script that deletes what may be deleted by now. Leftovers that are in use again are forgotten.
    fn sweep(&mut self, now: Instant, wake: &mut Wake) -> Option<Script> {
        let loaded = self.loaded.as_ref()?;
        let (ripe, rest): (Vec<_>, Vec<_>) =
            self.leftovers.drain(..).partition(|(at, _)| *at <= now);
        self.leftovers = rest;
        wake.at(self.leftovers.iter().map(|(at, _)| *at).min());
        if ripe.is_empty() {
            return None;
        }
        let ripe: Vec<Leftover> = ripe.into_iter().map(|(_, leftover)| leftover).collect();
        let script = self.rules.sweep(loaded, &ripe);
        (!script.is_empty()).then_some(script)
    }
}

/// The earliest time at which something is due.
#[derive(Default)]
struct Wake(Option<Instant>);

impl Wake {
    fn at(&mut self, at: Option<Instant>) {
        self.0 = match (self.0, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Whether a time has come, if there is one to wait for; it is waited for otherwise.
    fn is_due(&mut self, at: Option<Instant>, now: Instant) -> bool {
        let later = at.filter(|&at| at > now);
        self.at(later);
        later.is_none()
    }
}

/// Whether any UDP port is treated otherwise.
fn changes_udp(changes: &Changes) -> bool {
    fn udp(service: Option<&Arc<ServicePlan>>) -> impl Iterator<Item = &PortPlan> {
        let ports = service.into_iter().flat_map(|service| &service.ports);
        ports.filter(|port| port.name.protocol == Protocol::Udp)
    }
    changes
        .services()
        .any(|(_, change)| !udp(change.before.as_ref()).eq(udp(change.after.as_ref())))
}
