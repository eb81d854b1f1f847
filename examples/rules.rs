//! Prints the rules that carry out what a node does with the Services of manifests.
//!
//! ```text
//! cargo run --release --features ipvs,nftables --example rules -- --to nftables examples/manifests
//! ```
//!
//! Services get their addresses, node ports and endpoints as in the proxy example; those of a live cluster have them.

#[path = "common/assigned.rs"]
mod assigned;
#[path = "common/cluster.rs"]
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
use svcplane::ipvs::{self, Sets};
use svcplane::net::IpFamily;
use svcplane::nftables;
use svcplane::plan::{Mode, Plan};

use cluster::{Cluster, Setup};
use manifests::Sources;

/// Prints the rules that carry out what a node does with the Services of manifests
#[derive(Parser)]
struct Args {
    /// What the rules are for
    #[arg(long)]
    to: Target,
    /// How they are laid out: flat or chains for nftables, tree or linear for iptables [default: flat, tree]
    #[arg(long)]
    layout: Option<Shape>,
    /// For ipvs: what goes with the virtual servers, too, as comments: addresses, sets for ipset, rules for iptables-restore
    #[arg(long)]
    all: bool,
    /// For ipvs: the netlink messages, in hexadecimal digits, with 0 for the family's number
    #[arg(long)]
    hex: bool,
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
    /// For `ipvsadm -R`
    Ipvs,
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
        Target::Ipvs => Mode::Ipvs,
    };
    let (cluster, _) = Cluster::new(sources.read()?, &args.setup, mode)?;
    for warning in &cluster.warnings {
        eprintln!("warning: {warning}");
    }
    let plan = cluster.plan();
    let family = match args.to {
        Target::Nftables => {
            let mut config = nftables::Config::default();
            config.layout = match args.layout {
                None | Some(Shape::Flat) => nftables::Layout::Flat,
                Some(Shape::Chains) => nftables::Layout::Chains,
                Some(_) => return Err(vec!["expected the layout flat or chains".to_owned()]),
            };
            return Ok(nftables::compile(plan, &config));
        }
        Target::Ipvs => return Ok(for_ipvs(plan, args)),
        Target::Iptables => IpFamily::V4,
        Target::Ip6tables => IpFamily::V6,
    };
    let mut config = iptables::Config::default();
    config.layout = match args.layout {
        None | Some(Shape::Tree) => iptables::Layout::Tree,
        Some(Shape::Linear) => iptables::Layout::Linear,
        Some(_) => return Err(vec!["expected the layout tree or linear".to_owned()]),
    };
    Ok(iptables::replace(plan, family, &config, ""))
}

fn for_ipvs(plan: &Plan, args: &Args) -> String {
    let config = ipvs::Config::default();
    let desired = ipvs::compile(plan, &config);
    let mut text = String::new();
    for (command, sequence) in desired.commands().into_iter().zip(1..) {
        if args.hex {
            let exchange = ipvs::Exchange::new(command, 0, sequence);
            text.extend(exchange.request().iter().map(|byte| format!("{byte:02x}")));
            text.push('\n');
        } else {
            text.extend([command.to_string(), "\n".to_owned()]);
        }
    }
    if args.all {
        let mut comment = |what: &str, lines: &str| {
            text.extend(["# ", what, ":\n"]);
            text.extend(lines.lines().map(|line| format!("# {line}\n")));
        };
        let addresses: Vec<String> = desired.addresses().map(|ip| ip.to_string()).collect();
        comment("addresses of an interface of their own", &addresses.join("\n"));
        for (family, tool) in [(IpFamily::V4, "iptables"), (IpFamily::V6, "ip6tables")] {
            comment("ipset restore", &Sets::new(plan, family).ipset(&config.prefix));
            let rules = iptables::beside_ipvs(plan, family, &iptables::Config::default(), "");
            comment(&format!("{tool}-restore --noflush"), &rules);
        }
    }
    text
}
