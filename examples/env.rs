//! Prints the environment variables by which the containers of a pod find Services.
//!
//! ```text
//! cargo run --example env -- --namespace default examples/manifests
//! ```
//!
//! Services get their addresses as in the proxy example; those of a live cluster have them. What two Services claim, and how much
//! of what a program can be started with is used up, goes to standard error.

#[path = "common/assigned.rs"]
mod assigned;
#[path = "common/cluster.rs"]
#[expect(dead_code, reason = "the proxy looks at more")]
mod cluster;
#[path = "common/manifests.rs"]
#[expect(dead_code, reason = "the proxy looks at more")]
mod manifests;
#[path = "common/node.rs"]
mod node;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use svcplane::env::Environment;
use svcplane::plan::Mode;

use cluster::{Cluster, Setup};
use manifests::Sources;

/// Prints the environment variables by which the containers of a pod find Services
#[derive(Parser)]
struct Args {
    /// The pod's namespace
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// As a pod with `enableServiceLinks: false` has them
    #[arg(long)]
    no_service_links: bool,
    /// As a JSON object instead of NAME=value lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    setup: Setup,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => {
            for error in errors {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Vec<String>> {
    let sources = Sources::new(args.setup.paths.clone()).map_err(|error| vec![error])?;
    let (cluster, _) = Cluster::new(sources.read()?, &args.setup, Mode::Userspace)?;
    for warning in &cluster.warnings {
        eprintln!("warning: {warning}");
    }
    let services = cluster.catalog.services().map(|(service, _)| service);
    let environment = Environment::new(&args.namespace, !args.no_service_links, services);
    for collision in environment.collisions() {
        eprintln!("warning: {collision}");
    }
    let mut text = String::new();
    if args.json {
        let pairs = environment.vars().iter().map(|var| (var.name(), var.value()));
        let object: serde_json::Map<_, _> =
            pairs.map(|(name, value)| (name.to_owned(), value.into())).collect();
        text = serde_json::to_string_pretty(&object).map_err(|error| vec![error.to_string()])?;
        text.push('\n');
    } else {
        for var in environment.vars() {
            text.push_str(var.as_str());
            text.push('\n');
        }
    }
    let written = std::io::stdout().write_all(text.as_bytes());
    eprintln!("{}", environment.budget());
    written.map_err(|error| vec![error.to_string()])
}
