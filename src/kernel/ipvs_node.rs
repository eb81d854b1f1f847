//! Plans carried out by IPVS, with all that goes with it.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use std::vec::Vec;

use super::tool::Tool;
use super::{DummyInterface, Iptables, Ipvs, KernelError, NetnsName, Parameters};
use crate::iptables;
use crate::ipvs::{self, Actual, Command, Config, Drain, Sets};
use crate::net::IpFamily;
use crate::plan::{Changes, LocalNode, Plan};
use crate::time::Instant;

/// A node whose Services IPVS carries out: virtual servers, the interface with their addresses, the sets and the rules that go with
/// them.
///
/// ```no_run
/// use std::time::Duration;
///
/// use svcplane::kernel::IpvsNode;
/// # use svcplane::plan::{LocalNode, Mode, Plan};
/// use svcplane::time::Instant;
/// # let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Ipvs);
///
/// let mut node = IpvsNode::open(None, svcplane::ipvs::Config::default(), Some(Duration::from_secs(900)))?;
/// // After each change, and each minute while something drains:
/// let done = node.sync(&plan, Instant::from_secs(1))?;
/// println!("{} commands, {} addresses more", done.commands.len(), done.addresses_added);
/// node.remove()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Order.** What packets are let through by comes before what sends them: sets, rules, real servers and then addresses; addresses that are
/// no longer a Service's go last.
///
/// **Loopback.** A client of this machine that binds to a loopback address reaches endpoints at this machine's own addresses only: IPVS sends nothing
/// elsewhere that comes from there, masqueraded or not.
///
/// **Restart.** All is compared with what the kernel has, so that a sync that failed, or that another program was at
/// work after, is put right by the next one.
#[derive(Debug)]
#[non_exhaustive]
pub struct IpvsNode {
    /// Virtual servers at these addresses are left alone. Defaults to none.
    pub exclude: Vec<ipnet::IpNet>,
    ipvs: Ipvs,
    interface: DummyInterface,
    iptables: Iptables,
    ipset: PathBuf,
    config: Config,
    drain: Drain,
    /// The node for which rules are loaded, and the sets of each family; `None` if that is not known.
    loaded: Option<(LocalNode, Vec<Sets>)>,
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpvsSync {
    /// What IPVS was told.
    pub commands: Vec<Command>,
    /// How many addresses the interface got.
    pub addresses_added: usize,
    /// How many it lost.
    pub addresses_removed: usize,
}

impl IpvsNode {
    /// Makes a network namespace ready for it: sets the [parameters](Parameters), makes the interface. `deadline` is as in
    /// [`Drain::new`].
    ///
    /// # Errors
    ///
    /// If the kernel has no IPVS or not the scheduler, or one of the tools `ip`, `ipset` and `iptables-restore` is missing or
    /// refuses.
    pub fn open(
        netns: Option<&NetnsName>,
        config: Config,
        deadline: Option<Duration>,
    ) -> Result<Self, KernelError> {
        let mut ipvs = Ipvs::open_at(netns, Duration::from_secs(10))?;
        if !ipvs.has_scheduler(config.scheduler)? {
            return Err(KernelError::NoScheduler(config.scheduler));
        }
        let iptables = Iptables::detect(netns)?;
        let mut interface = DummyInterface::new(config.interface);
        interface.netns = netns.cloned();
        let node = Self {
            exclude: Vec::new(),
            ipvs,
            interface,
            iptables,
            ipset: "ipset".into(),
            config,
            drain: Drain::new(deadline),
            loaded: None,
        };
        node.tool().succeed(&["version"], "", |_| ())?;
        Parameters { netns: netns.cloned(), ..Parameters::default() }.set()?;
        node.interface.create()?;
        Ok(node)
    }

    /// Leads the kernel to a plan, which should be one for [`Mode::Ipvs`](crate::plan::Mode::Ipvs).
    ///
    /// # Errors
    ///
    /// The first thing that fails. What comes before it is done, and the next sync does the rest.
    pub fn sync(&mut self, plan: &Plan, now: Instant) -> Result<IpvsSync, KernelError> {
        self.load(plan)?;
        let desired = ipvs::compile(plan, &self.config);
        let actual = self.ipvs.state()?;
        let commands = self.drain.commands(&desired, &actual, &self.exclude, now);
        self.ipvs.apply(&commands)?;
        let there = self.interface.addresses()?;
        let wanted: BTreeSet<_> = desired.addresses().filter(|ip| self.handles(*ip)).collect();
        self.interface.add(wanted.difference(&there).copied())?;
        self.interface.remove(there.difference(&wanted).copied())?;
        Ok(IpvsSync {
            addresses_added: wanted.difference(&there).count(),
            addresses_removed: there.difference(&wanted).count(),
            commands,
        })
    }

    /// Leads the kernel on to a plan from the one before these changes, which was synced: of the virtual servers only those are
    /// read that the change concerns. As [`sync`](Self::sync) where the node is another, or nothing is known of what is loaded.
    ///
    /// # Errors
    ///
    /// The first thing that fails. What comes before it is done; a sync has to do the rest.
    pub fn follow(
        &mut self,
        plan: &Plan,
        changes: &Changes,
        now: Instant,
    ) -> Result<IpvsSync, KernelError> {
        if changes.concerns_node() || self.loaded.is_none() {
            return self.sync(plan, now);
        }
        self.load(plan)?;
        let delta = ipvs::delta(plan, changes, &self.config);
        let mut actual = Actual::default();
        for key in delta.virtual_servers() {
            if let Some(listed) = self.ipvs.find(*key)? {
                actual.insert(listed.server, self.ipvs.real_servers(*key)?);
            }
        }
        let commands = self.drain.delta_commands(&delta, &actual, &self.exclude, now);
        self.ipvs.apply(&commands)?;
        let (mut added, mut removed) = (BTreeSet::new(), BTreeSet::new());
        if delta.concerns_addresses() {
            let there = self.interface.addresses()?;
            let missing = |ip: &IpAddr| self.handles(*ip) && !there.contains(ip);
            added.extend(delta.desired().addresses().filter(missing));
            removed.extend(delta.removed_addresses().filter(|ip| there.contains(ip)));
        }
        self.interface.add(added.iter().copied())?;
        self.interface.remove(removed.iter().copied())?;
        let (addresses_added, addresses_removed) = (added.len(), removed.len());
        Ok(IpvsSync { commands, addresses_added, addresses_removed })
    }

    fn handles(&self, ip: IpAddr) -> bool {
        self.iptables.families.contains(&IpFamily::of(ip))
    }

    /// When to sync again although nothing has changed; `None` if nothing drains. At a deadline, and as kube-proxy does, each
    /// minute.
    pub fn next_sync(&self, now: Instant) -> Option<Instant> {
        let minute = now + Duration::from_secs(60);
        let deadline = self.drain.next_deadline().map_or(minute, |at| at.min(minute).max(now));
        (!self.drain.is_idle()).then_some(deadline)
    }

    /// Takes all away: rules, sets, the interface, and the virtual servers but for those that are [left alone](Self::exclude) and
    /// those of firewall marks. The kernel parameters stay as they are.
    ///
    /// # Errors
    ///
    /// The first thing that fails.
    pub fn remove(&mut self) -> Result<(), KernelError> {
        self.loaded = None;
        self.iptables.remove(&self.rules())?;
        for &family in &self.iptables.families {
            let input = Sets::ipset_remove(&self.config.prefix, family);
            self.tool().succeed(&["restore"], &input, |_| ())?;
        }
        self.interface.delete()?;
        let actual = self.ipvs.state()?;
        let commands = ipvs::reconcile(&ipvs::Desired::default(), &actual, &self.exclude);
        self.ipvs.apply(&commands)
    }

    /// Loads sets and, if the node is another, rules.
    fn load(&mut self, plan: &Plan) -> Result<(), KernelError> {
        let before = self.loaded.take().filter(|(node, _)| node == plan.node());
        let families = self.iptables.families.iter();
        let sets: Vec<Sets> = families.map(|&family| Sets::new(plan, family)).collect();
        for (place, sets) in sets.iter().enumerate() {
            let input = match &before {
                Some((_, before)) => sets.ipset_delta(&before[place], &self.config.prefix),
                None => sets.ipset(&self.config.prefix),
            };
            if !input.is_empty() {
                self.tool().succeed(&["restore"], &input, |_| ())?;
            }
        }
        if before.is_none() {
            self.iptables.beside_ipvs(plan, &self.rules())?;
        }
        self.loaded = Some((plan.node().clone(), sets));
        Ok(())
    }

    fn rules(&self) -> iptables::Config {
        iptables::Config {
            prefix: self.config.prefix.clone(),
            masquerade_bit: self.config.masquerade_bit,
            ..iptables::Config::default()
        }
    }

    fn tool(&self) -> Tool<'_> {
        Tool { path: &self.ipset, netns: self.interface.netns.as_ref() }
    }
}
