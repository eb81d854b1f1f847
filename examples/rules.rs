//! Prints the rules that carry out what a node does with the Services of manifests.
//!
//! ```text
//! cargo run --release --features nftables --example rules -- --to nftables examples/manifests
//! ```
//!
//! Services get their addresses, node ports and endpoints as in the proxy example; those of a live cluster have them.

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

use clap::{Parser, ValueEnum};
use svcplane::nftables::{self, Config, Layout};
use svcplane::plan::Mode;

use cluster::{Cluster, Setup};
use manifests::Sources;

/// Prints the rules that carry out what a node does with the Services of manifests
#[derive(Parser)]
struct Args {
    /// What the rules are for
    #[arg(long)]
    to: Target,
    /// How they are laid out
    #[arg(long, default_value = "flat")]
    layout: Shape,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Nftables,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    /// Maps for all Services
    Flat,
    /// A chain for each port and endpoint
    Chains,
}

fn main() -> ExitCode {
    match rules(&Args::parse()) {
        Ok(text) => {
            // Whoever reads may have read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            for error in errors {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn rules(args: &Args) -> Result<String, Vec<String>> {
    let sources = Sources::new(args.setup.paths.clone()).map_err(|error| vec![error])?;
    let mode = match args.to {
        Target::Nftables => Mode::Nftables,
    };
    let cluster = Cluster::new(sources.read()?, &args.setup, mode, None)?;
    for warning in &cluster.warnings {
        eprintln!("warning: {warning}");
    }
    let mut config = Config::default();
    config.layout = match args.layout {
        Shape::Flat => Layout::Flat,
        Shape::Chains => Layout::Chains,
    };
    Ok(nftables::compile(&cluster.plan, &config))
}
