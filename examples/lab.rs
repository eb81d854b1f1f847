//! A laboratory: what each scheduler makes of one and the same workload, in virtual time.
//!
//! ```text
//! cargo run --release --example lab
//! cargo run --release --example lab -- --svg lab.svg --instances 20 --slow-start 20
//! ```
//!
//! `--help` lists the options. It prints a table, the best of each column marked, and draws a picture if asked to. Nothing
//! sleeps and no clock is read: the same options give the same bytes.
//!
//! **The model.** Connections come as a Poisson process, each from one of the clients, all of them equally busy. Some
//! clients share one address (NAT). Most connections are short, their lengths exponential; some are long, their lengths
//! Pareto with exponent 2, whose variance is infinite. Each connection comes to one of the proxy instances by chance; an
//! instance has a [`Balancer`](svcplane::balancer::Balancer) of its own and knows of no other's connections. The connection is active
//! from its pick to its end. A slow backend's connections last longer by a factor; nothing else slows a
//! connection, so that an overloaded backend costs here less than it does in the world. Changes reach all instances at once,
//! and the connections of a removed backend go on to their end. Every scheduler gets the same connections.

#[path = "lab/measures.rs"]
mod measures;
#[path = "lab/picture.rs"]
mod picture;
#[path = "lab/progress.rs"]
mod progress;
#[path = "lab/scenario.rs"]
mod scenario;
#[path = "lab/simulation.rs"]
mod simulation;
#[path = "lab/table.rs"]
mod table;
#[path = "lab/verdict.rs"]
mod verdict;
#[path = "lab/workload.rs"]
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use svcplane::sched::Algorithm;

use measures::Measures;
use progress::Progress;
use scenario::Scenario;

/// Compares the schedulers on a workload, in virtual time.
///
/// Prints a table with a row for each scheduler. All times are in seconds, with a fraction if you like; the same options give
/// the same output.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Args {
    /// Backends at the beginning, b1, b2 and so on
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    backends: u16,
    /// Their weights, from the first again when they run out; the added one has the next
    #[arg(long, value_name = "W,…", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    weights: Vec<u32>,
    /// Clients, all equally busy
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// How many of the clients share one address
    #[arg(long, value_name = "PERCENT", default_value = "15", value_parser = percent)]
    nat: f64,
    /// New connections per second
    #[arg(long, value_name = "N", default_value = "400", value_parser = rate)]
    rate: f64,
    /// Mean length of the short connections (exponential)
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = length)]
    short: Duration,
    /// Mean length of the long connections (Pareto with exponent 2)
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = length)]
    long: Duration,
    /// How many of the connections are long
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = percent)]
    long_share: f64,
    /// The backend that gets slow, by number
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    slow: u16,
    /// How many times as long its connections last
    #[arg(long, value_name = "K", default_value = "3", value_parser = factor)]
    slow_factor: f64,
    /// From when on new connections to it are slow; 0 is from the beginning
    #[arg(long, value_name = "SECONDS|never", default_value = "40", value_parser = when)]
    slow_at: When,
    /// When a backend is added
    #[arg(long, value_name = "SECONDS|never", default_value = "120", value_parser = when)]
    add_at: When,
    /// The backend that is removed, by number
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    remove: u16,
    /// When it is removed
    #[arg(long, value_name = "SECONDS|never", default_value = "180", value_parser = when)]
    remove_at: When,
    /// How long a backend that is added starts slowly
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    slow_start: Duration,
    /// Keep a client to its backend for so long after each connection (ClientIP affinity)
    #[arg(long, value_name = "SECONDS", value_parser = length)]
    affinity: Option<Duration>,
    /// Proxy instances, each with a balancer (and affinity table) of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    instances: u16,
    /// Begin at the head of the list in every instance, as the kernel does, not where a seed says
    #[arg(long)]
    head: bool,
    /// How much virtual time passes
    #[arg(long, value_name = "SECONDS", default_value = "240", value_parser = length)]
    duration: Duration,
    /// From when on the load is measured, as there is none at the beginning
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    warm_up: Duration,
    /// What is left to chance follows from it
    #[arg(long, value_name = "N", default_value_t = 3)]
    seed: u64,
    /// Schedulers to compare [default: all but dh: it goes by the virtual address, and there is one only]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    schedulers: Vec<Algorithm>,
    /// Where to write the picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// When something happens, if it does.
#[derive(Clone, Copy)]
struct When(Option<Duration>);

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = number(text.strip_suffix('%').unwrap_or(text).trim_end())?;
    let legal = (0.0..=100.0).contains(&percent);
    if legal { Ok(percent / 100.0) } else { Err("expected 0 to 100".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let legal = Some(number(text)?).filter(|rate| (0.001..=1e6).contains(rate));
    legal.ok_or_else(|| "expected 0.001 to 1000000".to_owned())
}

fn factor(text: &str) -> Result<f64, String> {
    let legal = Some(number(text)?).filter(|factor| (0.01..=1000.0).contains(factor));
    legal.ok_or_else(|| "expected 0.01 to 1000".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let legal = Some(number(text)?).filter(|seconds| (0.0..=1e6).contains(seconds));
    legal.map(Duration::from_secs_f64).ok_or_else(|| "expected 0 to 1000000".to_owned())
}

fn length(text: &str) -> Result<Duration, String> {
    let legal = Some(seconds(text)?).filter(|length| *length >= Duration::from_millis(1));
    legal.ok_or_else(|| "expected 0.001 to 1000000".to_owned())
}

fn when(text: &str) -> Result<When, String> {
    if text == "never" {
        return Ok(When(None));
    }
    let at = seconds(text).map_err(|error| format!("{error}, or never"))?;
    Ok(When(Some(at)))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let scenario = Scenario::new(args)?;
    let schedulers = scenario.schedulers();
    let mut progress = Progress::new(scenario.expected_connections(), schedulers.len());
    let mut outcomes = Vec::new();
    for &algorithm in &schedulers {
        progress.begin(algorithm.as_str());
        outcomes.push(simulation::run(&scenario, algorithm, || progress.advance()));
    }
    progress.clear();
    let measures: Vec<Measures> = outcomes.iter().map(|o| Measures::new(&scenario, o)).collect();
    print!("{}", table::table(&scenario, &measures));
    if let Some(file) = &args.svg {
        let picture = picture::picture(&scenario, &outcomes, &measures);
        std::fs::write(file, picture)
            .map_err(|error| format!("--svg {}: {error}", file.display()))?;
    }
    Ok(())
}
