//! Says what becomes of a packet on a node, and why.
//!
//! ```text
//! cargo run --example explain -- --from 192.0.2.7 --to 10.96.0.10:80/TCP examples/manifests
//! ```
//!
//! The Services get their addresses, node ports and endpoints as in the proxy example; those of a live cluster have them:
//! `kubectl get services,endpointslices,nodes -A -o yaml | explain --from … --to … -`.

#[path = "common/assigned.rs"]
mod assigned;
#[path = "common/cluster.rs"]
mod cluster;
#[path = "common/manifests.rs"]
#[expect(dead_code, reason = "the proxy looks at more")]
mod manifests;
#[path = "common/node.rs"]
mod node;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::Parser;
use svcplane::net::{InterfaceName, Protocol};
use svcplane::plan::{Mode, Packet};

use cluster::{Cluster, Setup};
use manifests::Sources;

/// Says what becomes of a packet on a node, and why.
#[derive(Parser)]
struct Args {
    /// Who sends it
    #[arg(long, value_name = "ADDRESS")]
    from: IpAddr,
    /// Where it is addressed to: ADDRESS:PORT, TCP, or ADDRESS:PORT/PROTOCOL
    #[arg(long, value_name = "DESTINATION", value_parser = destination)]
    to: (SocketAddr, Protocol),
    /// The interface that it comes in from
    #[arg(long, value_name = "NAME")]
    interface: Option<InterfaceName>,
    /// What carries the plan out: iptables, nftables, ipvs or userspace
    #[arg(long, default_value = "nftables")]
    mode: Mode,
    #[command(flatten)]
    setup: Setup,
}

fn destination(text: &str) -> Result<(SocketAddr, Protocol), String> {
    let (addr, protocol) = text.rsplit_once('/').unwrap_or((text, "TCP"));
    let addr = addr.parse().map_err(|_| "expected ADDRESS:PORT, as 10.96.0.10:80/TCP")?;
    let protocol =
        protocol.to_uppercase().parse().map_err(|error| format!("{protocol:?}: {error}"))?;
    Ok((addr, protocol))
}

fn main() -> ExitCode {
    match explain(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => {
            for error in errors {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn explain(args: &Args) -> Result<(), Vec<String>> {
    let sources = Sources::new(args.setup.paths.clone()).map_err(|error| vec![error])?;
    let (cluster, _) = Cluster::new(sources.read()?, &args.setup, args.mode)?;
    for warning in &cluster.warnings {
        eprintln!("warning: {warning}");
    }
    let (to, protocol) = args.to;
    let mut packet = Packet::new(protocol, args.from, to);
    packet.interface = args.interface;
    println!("{packet}, at node {} in mode {}:", cluster.plan().node().name, args.mode);
    println!("{}", cluster.plan().explain(&packet));
    Ok(())
}
