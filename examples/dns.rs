//! A DNS server for the Services of Kubernetes manifests: reads them, and answers as a cluster's server would.
//!
//! ```text
//! cargo run --release --example dns -- --listen 127.0.0.1:5353 examples/manifests/
//! dig @127.0.0.1 -p 5353 myapp.default.svc.cluster.local
//! ```
//!
//! Services get their addresses and endpoints as in the proxy example; those of a live cluster have them. It forwards nothing:
//! other names are refused. The files are watched: edit one, and the names follow. Ctrl-C and the signal TERM end it.

#[path = "common/assigned.rs"]
mod assigned;
#[path = "common/cluster.rs"]
#[expect(dead_code, reason = "the proxy looks at more")]
mod cluster;
#[path = "common/dns.rs"]
mod dns;
#[path = "common/manifests.rs"]
mod manifests;
#[path = "common/node.rs"]
mod node;
#[path = "common/watch.rs"]
mod watch;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use svcplane::catalog::Changes;
use svcplane::dns::{Config, NameBuf, PodMode};
use svcplane::plan::Mode;
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use cluster::{Cluster, Setup};
use dns::Dns;
use manifests::Sources;

/// Answers DNS questions about the Services of manifests
#[derive(Parser)]
struct Args {
    /// Where to answer, over UDP and TCP
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
    listen: SocketAddr,
    /// The zone
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    zone: NameBuf,
    /// How long answers may be kept, in seconds, at most 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    ttl: u32,
    /// Which pods have names
    #[arg(long, value_enum, default_value = "verified")]
    pods: Pods,
    /// Send back what comes, to see what the machine can do
    #[arg(long, hide = true)]
    echo: bool,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pods {
    /// None
    Disabled,
    /// Any address, in every namespace
    Insecure,
    /// Those that there are
    Verified,
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
    let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
    let setup = &args.setup;
    let sources = Sources::new(setup.paths.clone()).map_err(|error| vec![error])?;
    let mut seen = sources.fingerprint();
    let (mut cluster, changes) = Cluster::new(sources.read()?, setup, Mode::Userspace)?;
    if args.echo {
        return echo(args.listen).await.map_err(|error| one(&error));
    }
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| one(&error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| one(&error))?;
    let dns = Arc::new(Dns::new(args.zone, args.config()));
    show(&dns, &cluster, &changes);
    let opened = dns.serve(args.listen).await;
    opened.map_err(|error| vec![format!("{}: {error}", args.listen)])?;
    println!("ready at {} over UDP and TCP; Ctrl-C to stop", args.listen);

    loop {
        tokio::select! {
            newer = watch::change(&sources, &seen) => {
                seen = newer;
                let Some(read) = watch::read(&sources, &seen) else { continue };
                match read.and_then(|read| cluster.follow(read, setup)) {
                    Ok(changes) => show(&dns, &cluster, &changes),
                    Err(errors) => {
                        for error in &errors {
                            eprintln!("error: {error}");
                        }
                        eprintln!("not reloaded: the last good state stays");
                    }
                }
            }
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

impl Args {
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.ttl = self.ttl;
        config.pods = match self.pods {
            Pods::Disabled => PodMode::Disabled,
            Pods::Insecure => PodMode::Insecure,
            Pods::Verified => PodMode::Verified,
        };
        config.servers.extend(Some(self.listen.ip()).filter(|ip| !ip.is_unspecified()));
        config.seed = std::process::id().into();
        config
    }
}

fn show(dns: &Dns, cluster: &Cluster, changes: &Changes) {
    let (told, warnings) = dns.follow(&cluster.catalog, changes);
    for warning in cluster.warnings.iter().chain(&warnings) {
        eprintln!("warning: {warning}");
    }
    println!("{told}");
}

/// As the server, but for the answers.
async fn echo(addr: SocketAddr) -> std::io::Result<()> {
    let socket = Arc::new(UdpSocket::bind(addr).await?);
    println!("ready to send back what comes to {addr}");
    let mut tasks = JoinSet::new();
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let socket = Arc::clone(&socket);
        tasks.spawn(async move {
            let mut packet = [0; 4_096];
            loop {
                let Ok((len, client)) = socket.recv_from(&mut packet).await else { continue };
                // The flag of an answer, so that clients count it.
                packet[2] |= 0x80;
                let _ = socket.send_to(&packet[..len], client).await;
            }
        });
    }
    tasks.join_all().await;
    Ok(())
}
