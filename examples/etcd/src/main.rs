//! Three processes give out the addresses of one range until it is full, through one etcd, and a referee looks
//! whether any address went to two of them or got lost, also when one is killed in the middle.
//!
//! What matters is in `replica.rs`.

mod referee;
mod replica;
mod store;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use svcplane::ipnet::IpNet;

#[derive(Parser)]
#[command(about = "Several replicas give out addresses of one range through etcd")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts etcd on loopback and three replicas, kills one of them half-way, and checks what is in the store at
    /// the end.
    Fight {
        /// The range, of which every address is to be given out once.
        #[arg(long, default_value = "10.96.0.0/24")]
        range: IpNet,
        /// The program to start.
        #[arg(long, default_value = "etcd")]
        etcd: PathBuf,
        /// How many replicas fight, 2 to 16.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
        replicas: u8,
    },
    /// One replica: makes Services until there is no address left.
    Replica {
        /// Where etcd listens.
        #[arg(long)]
        endpoint: String,
        /// The replica's name, part of its Services' names.
        #[arg(long)]
        name: String,
        /// The range.
        #[arg(long)]
        range: IpNet,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Fight { range, etcd, replicas } => referee::fight(range, &etcd, replicas).await,
        Command::Replica { endpoint, name, range } => replica::run(&endpoint, &name, range).await,
    }
}
