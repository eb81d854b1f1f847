//! A cluster of a given size, and what its changes cost: a rolling update here, a lost node there, in virtual time, through a
//! [`Catalog`](svcplane::catalog::Catalog) to the rules of one node; beside a computation of everything.
//!
//! ```text
//! cargo run --release --example scale
//! cargo run --release --example scale -- --hours 168 --updates 20 --failures 1
//! ```
//!
//! The second runs for a week of the cluster's time, and shows the memory day by day.
//!
//! **The model.** Services have from one pod on, by a power law. In a rolling update each pod of a Service is replaced, one after the other:
//! there is a new one without address, it runs, it is ready, the old one terminates and is gone 30 s later. A node that is lost takes its
//! pods' readiness with it; after five minutes they are replaced elsewhere; after ten it is back. The same options give the same
//! events. At the end the state is compared with that of a new catalog.

#[path = "scale/cluster.rs"]
mod cluster;
#[path = "scale/memory.rs"]
mod memory;
#[path = "scale/report.rs"]
mod report;

use std::hint::black_box;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use svcplane::catalog::{Catalog, EndpointSource};
use svcplane::net::IpFamily;
use svcplane::plan::{Changes, LocalDetector, LocalNode, Mode, Plan};
use svcplane::{iptables, ipvs, nftables};

use cluster::{Cluster, Size};
use memory::live_bytes;
use report::{Report, Times};

/// Runs a cluster in virtual time, and measures what its changes cost on one node.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    size: Size,
    /// How long the cluster runs, in hours of its own time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hours: u32,
    /// How many Services are updated an hour; the largest is the first
    #[arg(long, value_name = "N", default_value_t = 120)]
    updates: u32,
    /// How many nodes are lost an hour
    #[arg(long, value_name = "N", default_value_t = 3)]
    failures: u32,
    /// What the node hears of: pods, or the EndpointSlices that a controller makes of them
    #[arg(long, value_enum, default_value = "pods")]
    from: From,
    /// What the rules are for
    #[arg(long, value_enum, default_value = "nftables")]
    rules: Rules,
    /// What the events are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Pods,
    Slices,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rules {
    Nftables,
    Iptables,
    Ipvs,
}

impl Rules {
    const fn mode(self) -> Mode {
        match self {
            Self::Nftables => Mode::Nftables,
            Self::Iptables => Mode::Iptables,
            Self::Ipvs => Mode::Ipvs,
        }
    }

    /// How much it takes to lead on to a plan: bytes, or commands.
    fn delta(self, plan: &Plan, changes: &Changes) -> usize {
        match self {
            Self::Nftables => {
                nftables::delta(plan, changes, &nftables::Config::default()).script.len()
            }
            Self::Iptables => {
                iptables::delta(plan, changes, IpFamily::V4, &iptables::Config::default()).len()
            }
            Self::Ipvs => {
                ipvs::delta(plan, changes, &ipvs::Config::default()).desired().commands().len()
            }
        }
    }

    fn compile(self, plan: &Plan) -> usize {
        match self {
            Self::Nftables => nftables::compile(plan, &nftables::Config::default()).len(),
            Self::Iptables => {
                iptables::compile(plan, IpFamily::V4, &iptables::Config::default()).len()
            }
            Self::Ipvs => ipvs::compile(plan, &ipvs::Config::default()).commands().len(),
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Nftables | Self::Iptables => "bytes",
            Self::Ipvs => "commands",
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn catalog(args: &Args, cluster: &Cluster) -> Catalog {
    let mut node = LocalNode::new(cluster.observer());
    node.addresses = vec![[192, 168, 0, 1].into()];
    node.pods = LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().expect("a CIDR")]);
    let catalog = Catalog::new(node, args.rules.mode());
    match args.from {
        From::Pods => catalog.with_pods(EndpointSource::Pods),
        From::Slices => catalog,
    }
}

fn run(args: &Args) -> Result<Report, String> {
    let mut cluster = Cluster::new(&args.size, args.seed)?;
    let mut report = Report::new(args.rules.unit(), cluster.services(), cluster.pods());

    let before = live_bytes();
    let mut catalog = catalog(args, &cluster);
    let began = Instant::now();
    // Objects are made as they are taken, so that what they cost is in here, but not what it would take to keep them.
    catalog.apply_all(cluster.objects(args.from == From::Slices));
    report.build = began.elapsed();
    report.memory = live_bytes().saturating_sub(before);

    let full = |report: &mut Report, catalog: &Catalog| {
        let began = Instant::now();
        let sets = catalog.services();
        let sets: Vec<_> =
            sets.map(|(service, set)| (service, cluster::afresh(catalog, service, set))).collect();
        report.afresh.endpoints = began.elapsed();
        let began = Instant::now();
        let served = sets.iter().map(|(service, set)| (*service, set));
        let plan = Plan::new(catalog.plan().node(), args.rules.mode(), served);
        report.afresh.plan = began.elapsed();
        let began = Instant::now();
        report.afresh.size = black_box(args.rules.compile(&plan));
        report.afresh.rules = began.elapsed();
        plan == *catalog.plan()
    };
    if !full(&mut report, &catalog) {
        return Err("the plan is not that of all Services".to_owned());
    }

    cluster.schedule(args.hours, args.updates, args.failures);
    let mut bar = Bar::new(args.hours);
    let mut memory_at = Duration::ZERO;
    while let Some((at, event)) = cluster.next_event(args.from == From::Slices) {
        if at >= memory_at {
            let own = report.times.capacity() * size_of::<Times>();
            report.days.push(live_bytes().saturating_sub(before + own));
            memory_at += Duration::from_secs(24 * 3_600);
        }
        bar.show(at);
        let began = Instant::now();
        let changes = catalog.apply(event);
        let applied = began.elapsed();
        let size = if changes.plan.is_empty() {
            0
        } else {
            args.rules.delta(catalog.plan(), &changes.plan)
        };
        report.times.push(Times { applied, all: began.elapsed(), size });
    }
    bar.clear();
    if !full(&mut report, &catalog) {
        return Err("the plan is not that of all Services at the end".to_owned());
    }
    let before = live_bytes();
    let mut again = self::catalog(args, &cluster);
    again.apply_all(cluster.objects(args.from == From::Slices));
    report.memory_of_new = live_bytes().saturating_sub(before);
    let mut restored = self::catalog(args, &cluster);
    restored.apply_all(catalog.snapshot());
    for other in [again, restored] {
        if other.plan() != catalog.plan() || !other.services().eq(catalog.services()) {
            return Err("a new catalog of the same objects is another".to_owned());
        }
    }
    Ok(report)
}

/// How far the cluster's time is, on standard error.
struct Bar {
    hours: u32,
    shown: Option<u32>,
}

impl Bar {
    const WIDTH: u32 = 40;

    fn new(hours: u32) -> Self {
        Self { hours, shown: std::io::stderr().is_terminal().then_some(u32::MAX) }
    }

    fn show(&mut self, at: Duration) {
        let done = at.as_secs() * u64::from(Self::WIDTH) / (u64::from(self.hours) * 3_600);
        let done = u32::try_from(done).unwrap_or(Self::WIDTH).min(Self::WIDTH);
        if self.shown.is_some_and(|shown| shown != done) {
            self.shown = Some(done);
            let bar: String = (0..Self::WIDTH).map(|n| if n < done { '#' } else { '.' }).collect();
            eprint!("\r[{bar}] {} h of {} h", at.as_secs() / 3_600, self.hours);
            let _ = std::io::stderr().flush();
        }
    }

    fn clear(&self) {
        if self.shown.is_some() {
            eprint!("\r{:70}\r", "");
        }
    }
}
