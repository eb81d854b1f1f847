//! A small kube-proxy: carries out the Services of Kubernetes manifests in this machine's kernel, or in one network namespace. Needs root.
//!
//! ```text
//! ip netns add blue
//! cargo run --release --features kernel --example node -- --mode nftables --netns blue examples/manifests/
//! ```
//!
//! Services get their addresses, node ports and endpoints as in the proxy example. The files are watched: edit one, and what changes in
//! the rules is loaded, a line for each script. Node ports are at the addresses of the Node that this is, from the manifests or
//! `--node FILE`. Ctrl-C and the signal TERM remove all rules.

#[path = "common/assigned.rs"]
mod assigned;
#[path = "common/cluster.rs"]
#[expect(dead_code, reason = "the proxy looks at more")]
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
use svcplane::kernel::{Conntrack, KernelError, NetnsName, Nft, Pacing, Step, Syncer};
use svcplane::nftables::{self, Config, Layout, TableName};
use svcplane::plan::{Mode, Plan};
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
    /// How the rules are laid out
    #[arg(long, default_value = "flat")]
    layout: Shape,
    /// The network namespace, as `ip netns` names it [default: this one]
    #[arg(long, value_name = "NAME")]
    netns: Option<NetnsName>,
    /// The name of the tables, one for IPv4 and one for IPv6. What they hold is replaced
    #[arg(long, value_name = "NAME", default_value = "svcplane")]
    table: TableName,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Clone, Copy, ValueEnum)]
enum Plane {
    Nftables,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    /// Maps for all Services
    Flat,
    /// A chain for each port and endpoint
    Chains,
}

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
    let mode = match args.mode {
        Plane::Nftables => Mode::Nftables,
    };
    let setup = &args.setup;
    let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
    let sources = Sources::new(setup.paths.clone()).map_err(|error| vec![error])?;
    let mut seen = sources.fingerprint();
    let mut cluster = Cluster::new(sources.read()?, setup, mode, None)?;
    let mut kernel = Kernel::new(&args);
    println!("nft {}", kernel.nft.supported().map_err(|error| one(&error))?);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| one(&error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| one(&error))?;
    kernel.follow(&cluster);
    // What was read is all there is.
    kernel.syncer.services_listed();
    kernel.syncer.slices_listed();

    loop {
        let until = block_in_place(|| kernel.sync());
        tokio::select! {
            changed = watch::change(&sources, &seen) => {
                seen = changed;
                let read = sources.read();
                match read.and_then(|read| Cluster::new(read, setup, mode, Some(&cluster))) {
                    Ok(next) => {
                        cluster = next;
                        kernel.follow(&cluster);
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
    nft: Nft,
    conntrack: Conntrack,
    config: Config,
    syncer: Syncer,
    started: std::time::Instant,
}

impl Kernel {
    fn new(args: &Args) -> Self {
        let (mut nft, mut conntrack, mut config) =
            (Nft::new(), Conntrack::new(), Config::default());
        nft.netns.clone_from(&args.netns);
        conntrack.netns.clone_from(&args.netns);
        config.table = args.table.clone();
        config.layout = match args.layout {
            Shape::Flat => Layout::Flat,
            Shape::Chains => Layout::Chains,
        };
        let syncer = Syncer::new(config.clone(), Pacing::default());
        Self { nft, conntrack, config, syncer, started: std::time::Instant::now() }
    }

    fn now(&self) -> Instant {
        self.started.elapsed().into()
    }

    fn follow(&mut self, cluster: &Cluster) {
        for warning in &cluster.warnings {
            eprintln!("warning: {warning}");
        }
        self.syncer.desire(cluster.plan.clone());
    }

    /// Does all that is to be done by now; how long it takes until there is more.
    fn sync(&mut self) -> Duration {
        loop {
            let step = self.syncer.step(self.now());
            let done = match step {
                Step::Wait(None) => return Duration::MAX,
                Step::Wait(Some(at)) => return at.saturating_duration_since(self.now()),
                Step::Full { script, services } => self.load("full ", &script, Some(services)),
                Step::Delta { script, services } => self.load("delta", &script, Some(services)),
                Step::Sweep { script } => self.load("sweep", &script, None),
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

    fn load(&self, kind: &str, script: &str, services: Option<usize>) -> Result<(), KernelError> {
        let began = std::time::Instant::now();
        self.nft.apply(script)?;
        let (bytes, millis) = (script.len(), began.elapsed().as_secs_f64() * 1e3);
        let services = services.map_or(String::new(), |services| format!("{services} services"));
        println!("{kind}  {services:>15}  {bytes:>9} bytes  {millis:>8.1} ms");
        Ok(())
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

    fn remove(&self) -> Result<(), KernelError> {
        self.nft.apply(&nftables::remove(&self.config))?;
        println!("removed");
        Ok(())
    }
}
