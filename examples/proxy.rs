//! A userspace Service proxy: reads Kubernetes manifests, gives every Service an address on loopback, and
//! carries TCP and UDP to the pods behind it.
//!
//! ```text
//! cargo run --release --example proxy -- --demo examples/manifests/
//! curl http://127.0.0.1:30080
//! ```
//!
//! With `--dns 127.0.0.1:5353` it also answers DNS questions, so that `dig @127.0.0.1 -p 5353 myapp.default.svc.cluster.local`
//! says where to connect. `--help` lists the options. The files are watched: edit one and the proxy follows without dropping a
//! connection. The signal USR1 prints the connections of each backend. Ctrl-C drains; a second one ends at once.

#[path = "common/assigned.rs"]
mod assigned;
#[path = "common/cluster.rs"]
mod cluster;
#[path = "proxy/demo.rs"]
mod demo;
#[path = "common/dns.rs"]
mod dns;
#[path = "proxy/listeners.rs"]
mod listeners;
#[path = "common/manifests.rs"]
mod manifests;
#[path = "common/node.rs"]
mod node;
#[path = "proxy/shared.rs"]
mod shared;
#[path = "proxy/table.rs"]
mod table;
#[path = "proxy/tcp.rs"]
mod tcp;
#[path = "proxy/udp.rs"]
mod udp;
#[path = "common/watch.rs"]
mod watch;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use svcplane::catalog::Changes;
use svcplane::dns::{Config, NameBuf, PodMode};
use svcplane::plan::Mode;
use svcplane::sched::Algorithm;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use cluster::{Cluster, Setup};
use demo::Demo;
use dns::Dns;
use listeners::Listeners;
use manifests::Sources;
use shared::{Options, Shared};
use watch::change;

/// Proxies TCP and UDP to the Services in Kubernetes manifests.
#[derive(Parser)]
#[command(mut_arg("cluster_ip_range", |arg| arg.default_value("127.96.0.0/16")))]
struct Args {
    #[command(flatten)]
    setup: Setup,
    /// Start an echo backend on each loopback pod address, and dial nothing but loopback
    #[arg(long)]
    demo: bool,
    /// Report each connection
    #[arg(short, long)]
    verbose: bool,
    /// The scheduler of Services without the annotation svcplane/scheduler: rr, wrr, lc, wlc, sh, dh, mh, sed, nq, random,
    /// wrandom or p2c
    #[arg(long, value_name = "NAME", default_value_t)]
    scheduler: Algorithm,
    /// Answer DNS questions about the Services here, over UDP and TCP, such as myapp.default.svc.cluster.local
    #[arg(long, value_name = "ADDRESS:PORT")]
    dns: Option<SocketAddr>,
    /// How long connections may go on after Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 10)]
    drain_seconds: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(args).await {
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
    let options = Options { demo: args.demo, verbose: args.verbose, scheduler: args.scheduler };
    let setup = args.setup;
    let sources = Sources::new(setup.paths.clone()).map_err(|error| vec![error])?;
    let mut seen = sources.fingerprint();
    let (mut cluster, changes) = Cluster::new(sources.read()?, &setup, Mode::Userspace)?;
    let signals = |kind| signal(kind).map_err(|error| vec![format!("signals: {error}")]);
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    let mut report = signals(SignalKind::user_defined1())?;

    let shared = Arc::new(Shared::new(options, &cluster, &changes.plan));
    let mut demo = Demo::default();
    let mut listeners = Listeners::default();
    show(&cluster, &shared, &mut demo, &mut listeners).await;
    let dns = args.dns.map(dns);
    if let (Some(dns), Some(addr)) = (&dns, args.dns) {
        follow(dns, &cluster, &changes);
        dns.serve(addr).await.map_err(|error| vec![format!("{addr}: {error}")])?;
        println!("DNS at {addr} over UDP and TCP");
    }
    println!("ready; Ctrl-C to stop");

    loop {
        tokio::select! {
            newer = change(&sources, &seen) => {
                seen = newer;
                let Some(read) = watch::read(&sources, &seen) else { continue };
                match read.and_then(|read| cluster.follow(read, &setup)) {
                    Ok(changes) => {
                        shared.follow(&changes.plan);
                        println!("\nreloaded");
                        show(&cluster, &shared, &mut demo, &mut listeners).await;
                        if let Some(dns) = &dns {
                            follow(dns, &cluster, &changes);
                        }
                    }
                    Err(errors) => {
                        for error in &errors {
                            eprintln!("error: {error}");
                        }
                        eprintln!("not reloaded: the last good state stays");
                    }
                }
            }
            _ = report.recv() => println!("{}", table::backends(&shared.counts())),
            () = either(&mut interrupt, &mut terminate) => break,
        }
    }
    listeners.stop().await;
    let again = either(&mut interrupt, &mut terminate);
    drain(&shared, Duration::from_secs(args.drain_seconds), again).await;
    Ok(())
}

fn dns(addr: SocketAddr) -> Arc<Dns> {
    let mut config = Config::default();
    config.pods = PodMode::Verified;
    config.servers.extend(Some(addr.ip()).filter(|ip| !ip.is_unspecified()));
    config.seed = std::process::id().into();
    let zone = NameBuf::from_labels([&b"cluster"[..], b"local"]).expect("a name");
    Arc::new(Dns::new(zone, config))
}

fn follow(dns: &Dns, cluster: &Cluster, changes: &Changes) {
    let (told, warnings) = dns.follow(&cluster.catalog, changes);
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    println!("{told}");
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn show(cluster: &Cluster, shared: &Arc<Shared>, demo: &mut Demo, listeners: &mut Listeners) {
    for warning in &cluster.warnings {
        eprintln!("warning: {warning}");
    }
    if shared.options.demo {
        for failure in demo.update(cluster).await {
            eprintln!("warning: {failure}");
        }
    }
    let listening = listeners.update(shared).await;
    println!("{}", table::services(cluster, shared.options.scheduler));
    println!("{}", table::listening(&listening));
    println!("{}", table::backends(&shared.counts()));
    if shared.options.demo {
        println!("{} demo backends on loopback pod addresses", demo.len());
    }
}

/// Waits for the open connections to end, but no longer than said.
async fn drain(shared: &Shared, patience: Duration, again: impl Future<Output = ()>) {
    let mut open = shared.open_connections();
    let count = *open.borrow();
    if count == 0 {
        return;
    }
    println!(
        "draining {count} open connections for at most {patience:?}; Ctrl-C again to end at once"
    );
    tokio::select! {
        waited = timeout(patience, open.wait_for(|open| *open == 0)) => {
            if waited.is_err() {
                println!("{} connections were cut off", *shared.open_connections().borrow());
            }
        }
        () = again => {}
    }
}
