//! A small kube-proxy: carries out the Services of Kubernetes manifests in this machine's kernel, or in one network namespace. Needs root.
//!
//! ```text
//! ip netns add blue
//! cargo run --release --features kernel --example node -- --mode nftables --netns blue examples/manifests/
//! cargo run --release --features kernel --example node -- --mode iptables --netns blue examples/manifests/
//! cargo run --release --features kernel --example node -- --mode ipvs --netns blue examples/manifests/
//! ```
//!
//! With `--mode auto` it is nftables, or else IPVS, or else iptables, whatever the machine has; with `--mode ipvs` it is nftables, or else iptables, if the
//! kernel has no IPVS.
//!
//! Services get their addresses, node ports and endpoints as in the proxy example. The files are watched: edit one, and what changes in
//! the rules is loaded, a line for each script. Node ports are at the addresses of the Node that this is, from the manifests or
//! `--node FILE`. Ctrl-C and the signal TERM remove all rules.

#[path = "common/assigned.rs"]
mod assigned;
#[path = "common/cluster.rs"]
mod cluster;
#[path = "common/manifests.rs"]
mod manifests;
#[path = "common/node.rs"]
mod node;
#[path = "common/watch.rs"]
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use svcplane::iptables;
use svcplane::ipvs;
use svcplane::kernel::{
    Conntrack, Iptables, IpvsNode, KernelError, NetnsName, Nft, Pacing, Rules, Script, Step,
    Syncer, choose,
};
use svcplane::net::IpFamily;
use svcplane::nftables::{self, TableName};
use svcplane::plan::{Changes, Mode, Plan};
use svcplane::time::Instant;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;
use tokio::time::sleep;

use cluster::{Cluster, Setup};
use manifests::Sources;

/// Carries out the Services of manifests in the kernel, as kube-proxy does on a node.
#[derive(Parser)]
struct Args {
    /// What carries them out
    #[arg(long)]
    mode: Plane,
    /// How the rules are laid out: flat or chains for nftables, tree or linear for iptables [default: flat, tree]
    #[arg(long)]
    layout: Option<Shape>,
    /// The network namespace, as `ip netns` names it [default: this one]
    #[arg(long, value_name = "NAME")]
    netns: Option<NetnsName>,
    /// The name of the tables, one for IPv4 and one for IPv6. What they hold is replaced
    #[arg(long, value_name = "NAME", default_value = "svcplane")]
    table: TableName,
    /// What the names of iptables' chains begin with. Those that there are are replaced
    #[arg(long, value_name = "NAME", default_value = "SVCP")]
    prefix: iptables::Prefix,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Clone, Copy, ValueEnum)]
enum Plane {
    Nftables,
    Iptables,
    Ipvs,
    Auto,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    /// nftables: maps for all Services
    Flat,
    /// nftables: a chain for each port and endpoint
    Chains,
    /// iptables: chains by the destination's digits
    Tree,
    /// iptables: one chain of all frontends
    Linear,
}

/// How long connections to what is no longer an endpoint may go on, with IPVS.
const DRAIN: Duration = Duration::from_secs(900);

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => {
            for error in &errors {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Vec<String>> {
    let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
    let wanted: &[Mode] = match args.mode {
        Plane::Nftables => &[Mode::Nftables],
        Plane::Iptables => &[Mode::Iptables],
        Plane::Ipvs => &[Mode::Ipvs, Mode::Nftables, Mode::Iptables],
        Plane::Auto => &[Mode::Nftables, Mode::Ipvs, Mode::Iptables],
    };
    let choice = choose(wanted, args.netns.as_ref()).map_err(|error| one(&error))?;
    for (mode, error) in &choice.refused {
        eprintln!("warning: not {mode}: {error}");
    }
    let mode = choice.mode;
    let setup = &args.setup;
    let sources = Sources::new(setup.paths.clone()).map_err(|error| vec![error])?;
    let mut seen = sources.fingerprint();
    let (mut cluster, _) = Cluster::new(sources.read()?, setup, mode)?;
    let mut kernel = Kernel::new(&args, mode).map_err(|error| vec![error])?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| one(&error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| one(&error))?;
    kernel.syncer.desire(cluster.plan().clone());
    kernel.warn(&cluster);
    // What was read is all there is.
    kernel.syncer.services_listed();
    kernel.syncer.slices_listed();

    loop {
        let until = block_in_place(|| kernel.sync());
        tokio::select! {
            newer = watch::change(&sources, &seen) => {
                seen = newer;
                let Some(read) = watch::read(&sources, &seen) else { continue };
                match read.and_then(|read| cluster.follow(read, setup)) {
                    Ok(changes) => {
                        kernel.syncer.follow(&changes.plan);
                        kernel.warn(&cluster);
                    }
                    Err(errors) => {
                        for error in &errors {
                            eprintln!("error: {error}");
                        }
                        eprintln!("not reloaded: the last good state stays");
                    }
                }
            }
            () = sleep(until) => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    block_in_place(|| kernel.remove()).map_err(|error| one(&error))
}

/// The kernel, and what is to be done to it.
struct Kernel {
    tools: Tools,
    conntrack: Conntrack,
    syncer: Syncer,
    started: std::time::Instant,
    /// When real servers that drain were looked after.
    drained: Instant,
}

enum Tools {
    Nft(Nft, nftables::Config),
    Iptables(Iptables, iptables::Config),
    Ipvs(Box<IpvsNode>),
}

impl Kernel {
    fn new(args: &Args, mode: Mode) -> Result<Self, String> {
        let mut conntrack = Conntrack::new();
        conntrack.netns.clone_from(&args.netns);
        let (tools, rules) = Tools::new(args, mode)?;
        let syncer = Syncer::new(rules, Pacing::default());
        let started = std::time::Instant::now();
        Ok(Self { tools, conntrack, syncer, started, drained: Instant::ZERO })
    }

    fn now(&self) -> Instant {
        self.started.elapsed().into()
    }

    fn warn(&self, cluster: &Cluster) {
        for warning in &cluster.warnings {
            eprintln!("warning: {warning}");
        }
        let sticky = cluster.plan().ports().any(|port| port.client_ip_affinity.is_some());
        if let (Tools::Iptables(..), Some(clients), true) =
            (&self.tools, Iptables::remembered_clients(), sticky)
        {
            if clients <= 100 {
                eprintln!(
                    "warning: session affinity holds for {clients} clients of each endpoint: load xt_recent with a greater ip_list_tot"
                );
            }
        }
    }

    /// Does all that is to be done by now; how long it takes until there is more.
    fn sync(&mut self) -> Duration {
        loop {
            let step = self.syncer.step(self.now());
            let done = match step {
                Step::Wait(until) => {
                    let now = self.now();
                    let drains = self.drain(now);
                    let until = [until, drains].into_iter().flatten().min();
                    return until.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
                }
                Step::Full(plan) => {
                    let (services, now) = (plan.services().len(), self.now());
                    self.drained = now;
                    timed("full ", Some(services), || self.tools.replace(&plan, now))
                }
                Step::Delta { script, services } => {
                    timed("delta", Some(services), || self.tools.apply(&script))
                }
                Step::Follow { plan, changes } => {
                    let (services, now) = (changes.services().len(), self.now());
                    timed("delta", Some(services), || self.tools.follow(&plan, &changes, now))
                }
                Step::Sweep { script } => timed("sweep", None, || self.tools.apply(&script)),
                Step::Flows(plan) => self.free_flows(&plan),
                other => unreachable!("{other:?} is not known here"),
            };
            let now = self.now();
            match done {
                Ok(()) => self.syncer.done(now),
                Err(error) => {
                    eprintln!("error: {error}");
                    self.syncer.failed(now);
                }
            }
        }
    }

    fn free_flows(&self, plan: &Plan) -> Result<(), KernelError> {
        let began = std::time::Instant::now();
        let deleted = self.conntrack.delete_stale(plan)?;
        if deleted > 0 {
            let millis = began.elapsed().as_secs_f64() * 1e3;
            println!("flows  {deleted:>6} stale UDP flows deleted  {millis:>8.1} ms");
        }
        Ok(())
    }

    /// With IPVS, looks after real servers that are to go when their connections have ended; when to do so again.
    fn drain(&mut self, now: Instant) -> Option<Instant> {
        let (Tools::Ipvs(node), Some(plan)) = (&mut self.tools, self.syncer.loaded()) else {
            return None;
        };
        node.next_sync(self.drained)?;
        if node.next_sync(self.drained) <= Some(now) {
            self.drained = now;
            match node.sync(plan, now) {
                Ok(done) if done.commands.is_empty() => {}
                Ok(done) => println!("drain  {:>6} real servers", done.commands.len()),
                Err(error) => eprintln!("error: {error}"),
            }
        }
        node.next_sync(self.drained)
    }

    fn remove(&mut self) -> Result<(), KernelError> {
        match &mut self.tools {
            Tools::Nft(nft, config) => nft.apply(&nftables::remove(config))?,
            Tools::Iptables(iptables, config) => iptables.remove(config)?,
            Tools::Ipvs(node) => node.remove()?,
        }
        println!("removed");
        Ok(())
    }
}

impl Tools {
    /// The tools of a mode, after a look whether they and the kernel will do; and what rules they are to load.
    fn new(args: &Args, mode: Mode) -> Result<(Self, Rules), String> {
        let failed = |error: KernelError| error.to_string();
        match mode {
            Mode::Nftables => {
                let mut nft = Nft::new();
                nft.netns.clone_from(&args.netns);
                let mut config = nftables::Config::default();
                config.table = args.table.clone();
                config.layout = match args.layout {
                    None | Some(Shape::Flat) => nftables::Layout::Flat,
                    Some(Shape::Chains) => nftables::Layout::Chains,
                    Some(_) => return Err("expected the layout flat or chains".to_owned()),
                };
                println!("nft {}", nft.supported().map_err(failed)?);
                Ok((Self::Nft(nft, config.clone()), config.into()))
            }
            Mode::Ipvs => {
                let config = ipvs::Config::default();
                let node = IpvsNode::open(args.netns.as_ref(), config, Some(DRAIN));
                println!("ipvs");
                Ok((Self::Ipvs(Box::new(node.map_err(failed)?)), Rules::Ipvs))
            }
            _ => {
                let tools = Iptables::detect(args.netns.as_ref()).map_err(failed)?;
                let mut config = iptables::Config::default();
                config.prefix = args.prefix.clone();
                config.layout = match args.layout {
                    None | Some(Shape::Tree) => iptables::Layout::Tree,
                    Some(Shape::Linear) => iptables::Layout::Linear,
                    Some(_) => return Err("expected the layout tree or linear".to_owned()),
                };
                println!("iptables {}", tools.supported().map_err(failed)?);
                Ok((Self::Iptables(tools, config.clone()), config.into()))
            }
        }
    }

    /// How much it took.
    fn replace(&mut self, plan: &Plan, now: Instant) -> Result<String, KernelError> {
        match self {
            Self::Nft(nft, config) => nft.replace(plan, config).map(bytes),
            Self::Iptables(iptables, config) => iptables.replace(plan, config).map(bytes),
            Self::Ipvs(node) => {
                node.sync(plan, now).map(|done| format!("{} commands", done.commands.len()))
            }
        }
    }

    fn follow(
        &mut self,
        plan: &Plan,
        changes: &Changes,
        now: Instant,
    ) -> Result<String, KernelError> {
        let Self::Ipvs(node) = self else { unreachable!("only IPVS takes changes") };
        node.follow(plan, changes, now).map(|done| format!("{} commands", done.commands.len()))
    }

    fn apply(&self, script: &Script) -> Result<String, KernelError> {
        match (self, script) {
            (Self::Nft(nft, _), Script::Nftables(script)) => nft.apply(script)?,
            (Self::Iptables(iptables, _), Script::Iptables { v4, v6 }) => {
                iptables.apply(IpFamily::V4, v4)?;
                iptables.apply(IpFamily::V6, v6)?;
            }
            (_, other) => unreachable!("{other:?} is not of this mode"),
        }
        Ok(bytes(script.len()))
    }
}

fn bytes(bytes: usize) -> String {
    format!("{bytes} bytes")
}

fn timed(
    kind: &str,
    services: Option<usize>,
    load: impl FnOnce() -> Result<String, KernelError>,
) -> Result<(), KernelError> {
    let began = std::time::Instant::now();
    let size = load()?;
    let millis = began.elapsed().as_secs_f64() * 1e3;
    let services = services.map_or(String::new(), |services| format!("{services} services"));
    println!("{kind}  {services:>15}  {size:>15}  {millis:>8.1} ms");
    Ok(())
}
