//! How long a kernel takes to load rules, to change one Service's, to remove them, and how long a connection's first packet takes through them.
//!
//! As root, in a network namespace of its own:
//!
//! ```text
//! cargo build --release --features nftables --example load
//! unshare -n target/release/examples/load --services 1000 --services 10000
//! ```

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::name::ObjectName;
use svcplane::nftables::{self, Config, Layout};
use svcplane::plan::{LocalNode, Mode, Plan};
use svcplane::service::{ClusterIps, Service, ServicePort};

/// Measures a kernel with the rules for many Services, in a network namespace of its own
#[derive(Parser)]
struct Args {
    /// How many Services; may be given several times
    #[arg(long, default_value = "1000")]
    services: Vec<u32>,
    /// How many endpoints each has
    #[arg(long, default_value_t = 3)]
    endpoints: u8,
    /// How many Services the layout of chains is tried with at most: it takes minutes where the flat one takes a second
    #[arg(long, default_value_t = 2000)]
    chains_up_to: u32,
}

const PORT: u16 = 8080;

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<(), String> {
    enter()?;
    let listening = |n: u8| {
        let addr = SocketAddr::from((endpoint(n), PORT));
        TcpListener::bind(addr).map_err(|error| format!("{addr}: {error}"))
    };
    let listeners: Vec<TcpListener> =
        (0..args.endpoints).map(listening).collect::<Result<_, _>>()?;
    for listener in listeners {
        std::thread::spawn(move || listener.incoming().for_each(drop));
    }
    let direct = connect(200, |_| endpoint(0), PORT)?;
    println!("without a Service, a connection takes {direct:?}");
    println!(
        "| Services | layout | load | a Service's endpoint less | and its bytes | connection | remove |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for &count in &args.services {
        for (name, layout) in [("flat", Layout::Flat), ("chains", Layout::Chains)] {
            if layout == Layout::Chains && count > args.chains_up_to {
                continue;
            }
            let mut config = Config::default();
            config.layout = layout;
            let node = LocalNode::new("node".parse().map_err(|error| format!("{error}"))?);
            let mut services: Vec<_> = (0..count).map(|n| service(n, args.endpoints)).collect();
            let plan_of = |services: &[(Service, EndpointSet)]| {
                let services = services.iter().map(|(service, set)| (service, set));
                Plan::new(&node, Mode::Nftables, services)
            };
            let before = plan_of(&services);
            let load = nft(&nftables::compile(&before, &config))?;
            let connection =
                connect(1000, |n| cluster_ip(n.wrapping_mul(2_654_435_761) % count), 80)?;
            services[count as usize / 2] = service(count / 2, args.endpoints - 1);
            let after = plan_of(&services);
            let delta = nftables::delta(&after, &Plan::diff(&before, &after), &config);
            let change = nft(&delta.script)?;
            let remove = nft(&nftables::remove(&config))?;
            println!(
                "| {count} | {name} | {load:.2?} | {change:.2?} | {} | {connection:.1?} | {remove:.2?} |",
                delta.script.len()
            );
        }
    }
    Ok(())
}

/// Makes loopback usable, after a look that this is a namespace of its own.
fn enter() -> Result<(), String> {
    let interfaces = std::fs::read_to_string("/proc/net/dev").map_err(|error| error.to_string())?;
    let others = interfaces.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:"));
    if others.clone().any(|line| !line.contains("dummy") && !line.contains("tun")) {
        return Err("expected a network namespace of its own: unshare -n".to_owned());
    }
    for arguments in ["link set lo up", "route add 172.16.0.0/12 dev lo"] {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        let status = status.map_err(|error| format!("ip: {error}"))?;
        if !status.success() {
            return Err(format!("ip {arguments}: {status}"));
        }
    }
    Ok(())
}

fn endpoint(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, n)
}

fn cluster_ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xac10_0000 + n)
}

fn service(n: u32, endpoints: u8) -> (Service, EndpointSet) {
    let name = ObjectName::new("default", &format!("service-{n}")).expect("a name");
    let mut service = Service::new(name);
    service.cluster_ips = ClusterIps::Assigned(vec![cluster_ip(n).into()]);
    service.ports = vec![ServicePort::new(80)];
    let ports: Arc<[EndpointPort]> = [EndpointPort::new(PORT)].into();
    let endpoint = |i: u8| {
        let mut endpoint = Endpoint::new(endpoint(i).into());
        endpoint.ports = Arc::clone(&ports);
        endpoint
    };
    let endpoints = EndpointSet::new(service.name.clone(), (0..endpoints).map(endpoint));
    (service, endpoints)
}

/// The time that nft takes for a script.
fn nft(script: &str) -> Result<Duration, String> {
    let start = Instant::now();
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("nft: {error}"))?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    stdin.write_all(script.as_bytes()).map_err(|error| format!("nft: {error}"))?;
    drop(stdin);
    let status = child.wait().map_err(|error| format!("nft: {error}"))?;
    if status.success() { Ok(start.elapsed()) } else { Err(format!("nft: {status}")) }
}

/// The mean time to connect, each time to another address.
fn connect(times: u32, address: impl Fn(u32) -> Ipv4Addr, port: u16) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    for n in 0..times {
        let addr = SocketAddr::from((address(n), port));
        let start = Instant::now();
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2));
        total += start.elapsed();
        drop(stream.map_err(|error| format!("{addr}: {error}"))?);
    }
    Ok(total / times)
}
