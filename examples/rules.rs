//! Prints the rules that carry out what a node does with the Services of manifests.
//!
//! ```text
//! cargo run --release --features iptables,nftables --example rules -- --to nftables examples/manifests
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
use svcplane::iptables;
use svcplane::net::IpFamily;
use svcplane::nftables::{self, Layout};
use svcplane::plan::{Mode, Plan};

use cluster::{Cluster, Setup};
use manifests::Sources;

/// Prints the rules that carry out what a node does with the Services of manifests
#[derive(Parser)]
struct Args {
    /// What the rules are for
    #[arg(long)]
    to: Target,
    /// How those for nft are laid out
    #[arg(long, default_value = "flat")]
    layout: Shape,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// For `nft -f -`
    Nftables,
    /// For `iptables-restore --noflush`
    Iptables,
    /// For `ip6tables-restore --noflush`
    Ip6tables,
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
        Target::Iptables | Target::Ip6tables => Mode::Iptables,
    };
    let cluster = Cluster::new(sources.read()?, &args.setup, mode, None)?;
    for warning in &cluster.warnings {
        eprintln!("warning: {warning}");
    }
    let plan = &cluster.plan;
    Ok(match args.to {
        Target::Nftables => {
            let mut config = nftables::Config::default();
            config.layout = match args.layout {
                Shape::Flat => Layout::Flat,
                Shape::Chains => Layout::Chains,
            };
            nftables::compile(plan, &config)
        }
        Target::Iptables => for_iptables(plan, IpFamily::V4),
        Target::Ip6tables => for_iptables(plan, IpFamily::V6),
    })
}

fn for_iptables(plan: &Plan, family: IpFamily) -> String {
    let config = iptables::Config::default();
    let mut text = iptables::compile(plan, family, &config);
    text += "# then, unless they are there:\n";
    let jump = |jump: iptables::Jump| {
        format!("# -t {} -I {} {}\n", jump.table, jump.chain, jump.rule.join(" "))
    };
    text.extend(iptables::jumps(plan, family, &config).into_iter().map(jump));
    text
}
