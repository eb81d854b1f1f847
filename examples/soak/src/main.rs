//! Load and faults for the proxy example, as a program of its own.
//!
//! ```sh
//! cargo build --release --example proxy
//! cargo run --release --manifest-path examples/soak/Cargo.toml -- --proxy target/release/examples/proxy
//! ```
//!
//! It starts the proxy with manifests in a temporary folder, backends of its own on loopback addresses and 1,000 clients. Seven of
//! ten hold a connection and send bytes back and forth, the others come and go; part of them comes by a node port. Meanwhile
//! backends are killed and started, removed and added; manifests are spoilt, left half-written and rewritten; some clients read a
//! byte now and then, close by halves, reset. At the end the proxy drains, and another one runs out of file descriptors.
//!
//! Lost is what need not have been: a byte, an open connection whose backend lives (listed or not), a new connection while there
//! was a backend and a descriptor for it. Besides, the proxy has to say what is wrong in a few clear lines, and to give back its
//! descriptors and its memory. A line for each phase tells the figures; status 1 if anything was lost, with what it was.

mod backends;
mod clients;
mod excuses;
mod faults;
mod figures;
mod manifests;
mod odd;
mod pattern;
mod proxy;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::sleep;

use backends::Backends;
use clients::{Load, until};
use excuses::Excuses;
use faults::{KEPT, MORTAL};
use figures::{Figures, tenths};
use manifests::Place;
use proxy::{Proxy, Sample};

/// Load and faults for the proxy example: what it carries has to arrive, what it takes it has to give back.
#[derive(Parser)]
struct Args {
    /// The proxy's binary, such as target/release/examples/proxy
    #[arg(long, value_name = "FILE")]
    proxy: PathBuf,
    /// About how long it all takes
    #[arg(long, value_name = "N", default_value_t = 180, value_parser = clap::value_parser!(u32).range(10..=86_400))]
    seconds: u32,
    /// How many clients are at work at once
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(200..=10_000))]
    clients: u32,
}

/// The file descriptors of the proxy that runs out of them.
const FEW: u64 = 256;

/// What clients and faults share.
struct World {
    place: Place,
    backends: Backends,
    figures: Figures,
    excuses: Excuses,
}

impl World {
    /// The proxy has said that a backend is listed no more, or is about to hear that it is.
    fn set_removed(&self, number: u8, removed: bool) {
        if let Some(life) = self.backends.running(number) {
            life.set_removed(removed);
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<u64> {
    let descriptors = u64::from(args.clients) * 4 + 1000;
    allow(descriptors)?;
    let place = Place::new()?;
    let backends = Backends::new(place.net());
    let world = Arc::new(World {
        place,
        backends,
        figures: Figures::default(),
        excuses: Excuses::default(),
    });
    for number in KEPT.chain(MORTAL) {
        world.backends.start(number)?;
    }
    world.place.services(true)?;
    let pods = world.place.pods(KEPT.chain(MORTAL), true);
    world.place.replace("pods.yaml", &pods)?;

    let outcome = async {
        under_load(&world, &args, descriptors).await?;
        out_of_descriptors(&world, &args).await
    };
    let outcome = outcome.await;
    println!("{}", world.figures.table());
    let (lost, told) = world.figures.losses();
    for line in &told {
        println!("lost: {line}");
    }
    outcome?;
    println!("{}", if lost == 0 { "nothing lost" } else { "" });
    Ok(lost)
}

/// Raises this process's own limit on descriptors.
fn allow(descriptors: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= descriptors) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(descriptors), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .with_context(|| format!("{descriptors} file descriptors are needed: ulimit -Hn"))
}

/// A part of the time, in hundredths.
fn part(args: &Args, hundredths: u32) -> Duration {
    Duration::from_secs(args.seconds.into()) * hundredths / 100
}

async fn start(
    world: &World,
    args: &Args,
    descriptors: u64,
    manifests: &[PathBuf],
) -> anyhow::Result<Proxy> {
    let range = world.place.range();
    let arguments = ["--cluster-ip-range", &range, "--drain-seconds", "15"];
    Proxy::start(&args.proxy, descriptors, &arguments, manifests).await
}

async fn under_load(world: &Arc<World>, args: &Args, descriptors: u64) -> anyhow::Result<()> {
    let figures = &world.figures;
    let mut proxy = start(world, args, descriptors, &[world.place.folder().to_owned()]).await?;
    let idle = proxy.sample()?;
    let _sampling = Sampling::start(world, &proxy);

    figures.begin("warm-up");
    let load = Load::start(world, args.clients);
    sleep(part(args, 8)).await;
    load.stop().await;
    let warm = settled(world, &proxy, idle).await?;

    figures.begin("steady");
    let load = Load::start(world, args.clients);
    sleep(part(args, 10)).await;
    let holders = u64::from(args.clients / 10 * 7 + (args.clients % 10).min(7));
    let all_hold = || load.held.load(Ordering::Relaxed) == holders;
    figures.check(until(all_hold).await, || format!("not all of {holders} have a connection"));

    figures.begin("killed");
    faults::killed(world, part(args, 15)).await?;
    figures.begin("removed");
    faults::removed(world, &proxy, part(args, 12)).await?;
    figures.begin("rewritten");
    faults::rewritten(world, &proxy, part(args, 18)).await?;
    figures.begin("no backend");
    faults::none(world, &proxy, part(args, 4)).await?;
    figures.begin("slow readers");
    odd::slow(world, &proxy, part(args, 12)).await?;
    figures.begin("half-closed");
    odd::halves_and_resets(world, part(args, 6)).await;
    figures.check(until(all_hold).await, || format!("not all of {holders} have a connection"));
    load.stop().await;
    let after = settled(world, &proxy, idle).await?;
    told(world, "proxy under load", idle, warm, after);

    figures.begin("draining");
    let load = Load::start(world, args.clients);
    figures.check(until(|| load.held.load(Ordering::Relaxed) == holders).await, || {
        format!("not all of {holders} have a connection")
    });
    let _closed = world.excuses.begin();
    let since = proxy.printed();
    proxy.signal("-TERM").await?;
    figures.check(proxy.prints("draining", since).await, || "it does not say so".to_owned());
    sleep(part(args, 2)).await;
    load.stop().await;
    let status = proxy.ended().await?;
    figures.check(status.success(), || format!("the proxy ended with {status}"));
    figures.check(!proxy.prints_already("cut off"), || "it cut connections off".to_owned());
    for line in proxy.complaints(0) {
        let known = line.starts_with("error: ") || line.starts_with("not reloaded: ");
        figures.check(known, || format!("the proxy says {line:?}"));
    }
    Ok(())
}

/// A proxy with few descriptors serves as many as it can, says what is missing, and is as new when clients have gone.
async fn out_of_descriptors(world: &Arc<World>, args: &Args) -> anyhow::Result<()> {
    let figures = &world.figures;
    // Files, not their folder: to see that one has changed takes no descriptor, to read it does.
    let files = ["services.yaml", "pods.yaml"].map(|file| world.place.folder().join(file));
    let mut proxy = start(world, args, FEW, &files).await?;
    let idle = proxy.sample()?;
    let _sampling = Sampling::start(world, &proxy);
    let served = (FEW - idle.fds) / 2;

    figures.begin("descriptors");
    let out = world.excuses.begin();
    let load = Load::start(world, args.clients);
    let complained = proxy.complains("Too many open files", 0).await;
    figures.check(complained, || "the proxy does not say that descriptors are out".to_owned());
    let most = || load.held.load(Ordering::Relaxed) > served / 2;
    figures.check(until(most).await, || {
        format!("{} connections with {FEW} descriptors", load.held.load(Ordering::Relaxed))
    });
    // It cannot always read the manifests now, but has to at last.
    let since = proxy.printed();
    let pods = world.place.pods(KEPT.chain([5, 6, 7]), true);
    world.place.replace("pods.yaml", &pods)?;
    sleep(part(args, 8)).await;
    println!(
        "with {FEW} descriptors: {} connections held at once",
        load.held.load(Ordering::Relaxed)
    );
    let lines = proxy.complaints(0);
    figures.check(lines.len() <= 20 + 2 * args.seconds as usize, || {
        format!("{} lines about descriptors", lines.len())
    });

    load.stop().await;
    let freed = settled(world, &proxy, idle).await?;
    figures.check(proxy.prints("reloaded", since).await, || {
        "manifests that changed while descriptors were out were not taken up".to_owned()
    });
    world.set_removed(8, true);
    drop(out);

    figures.begin("recovered");
    // As many as it can serve.
    let load = Load::start(world, u32::try_from(served * 9 / 10)?);
    sleep(part(args, 5)).await;
    load.stop().await;
    let after = settled(world, &proxy, idle).await?;
    told(world, "proxy with few descriptors", idle, freed, after);
    for line in proxy.complaints(0) {
        let known = line.contains("Too many open files") || line.starts_with("not reloaded: ");
        figures.check(known, || format!("the proxy says {line:?}"));
    }
    proxy.signal("-INT").await?;
    let status = proxy.ended().await?;
    figures.check(status.success(), || format!("the proxy ended with {status}"));
    Ok(())
}

/// Waits until the proxy has as many descriptors as when it was idle.
async fn settled(world: &World, proxy: &Proxy, idle: Sample) -> anyhow::Result<Sample> {
    let same = || proxy.sample().is_ok_and(|now| now.fds == idle.fds);
    until(same).await;
    let now = proxy.sample()?;
    world.figures.check(now.fds == idle.fds, || {
        format!("{} file descriptors, {} when the proxy was idle before", now.fds, idle.fds)
    });
    Ok(now)
}

/// Prints what the proxy held, and checks that it holds no more than after the warm-up.
fn told(world: &World, what: &str, idle: Sample, warm: Sample, after: Sample) {
    let mb = |sample: Sample| tenths(sample.rss, 1_000_000);
    println!(
        "{what}: descriptors {} idle, {} after; RSS {} MB idle, {} MB after the first load, {} MB after the last",
        idle.fds,
        after.fds,
        mb(idle),
        mb(warm),
        mb(after)
    );
    let most = warm.rss + warm.rss / 4 + odd::SLACK;
    world.figures.check(after.rss <= most, || {
        format!("{} MB after the load, {} MB after the first", mb(after), mb(warm))
    });
}

/// Notes what the proxy holds, ten times a second.
struct Sampling(tokio::task::JoinHandle<()>);

impl Sampling {
    fn start(world: &Arc<World>, proxy: &Proxy) -> Self {
        let (world, id) = (Arc::clone(world), proxy.id());
        Self(tokio::spawn(async move {
            while let Ok(Sample { fds, rss }) = proxy::sample(id) {
                world.figures.sampled(fds, rss);
                sleep(Duration::from_millis(100)).await;
            }
        }))
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.0.abort();
    }
}
