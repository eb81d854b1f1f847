//! How long a kernel takes to load rules, to change one Service's, to remove them, and how long a connection's first packet takes through them.
//!
//! As root, in a network namespace of its own:
//!
//! ```text
//! cargo build --release --features kernel --example load
//! unshare -n target/release/examples/load --services 1000 --services 10000
//! unshare -n target/release/examples/load --ipvs --services 5000
//! ```

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::iptables;
use svcplane::ipvs;
use svcplane::kernel::{Iptables, Ipvs, KernelError, Nft, Variant};
use svcplane::name::ObjectName;
use svcplane::net::IpFamily;
use svcplane::nftables;
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
    /// How many Services rules in `nf_tables` with a chain for each endpoint are tried with at most: they take minutes where others take a second
    #[arg(long, default_value_t = 2000)]
    chains_up_to: u32,
    /// IPVS instead of rules, beside ipvsadm
    #[arg(long)]
    ipvs: bool,
}

const PORT: u16 = 8080;

/// What carries a plan out.
enum Plane {
    Nftables(nftables::Layout),
    Iptables(Variant, iptables::Layout),
}

impl Plane {
    fn all() -> [(&'static str, Self); 6] {
        let (tree, linear) = (iptables::Layout::Tree, iptables::Layout::Linear);
        [
            ("nftables, flat", Self::Nftables(nftables::Layout::Flat)),
            ("nftables, chains", Self::Nftables(nftables::Layout::Chains)),
            ("iptables-legacy, tree", Self::Iptables(Variant::Legacy, tree)),
            ("iptables-legacy, linear", Self::Iptables(Variant::Legacy, linear)),
            ("iptables-nft, tree", Self::Iptables(Variant::Nft, tree)),
            ("iptables-nft, linear", Self::Iptables(Variant::Nft, linear)),
        ]
    }

    const fn mode(&self) -> Mode {
        match self {
            Self::Nftables(_) => Mode::Nftables,
            Self::Iptables(..) => Mode::Iptables,
        }
    }

    /// Whether the kernel keeps a chain of `nf_tables` for each endpoint.
    const fn is_slow(&self) -> bool {
        matches!(self, Self::Nftables(nftables::Layout::Chains) | Self::Iptables(Variant::Nft, _))
    }

    fn tools(variant: Variant) -> Iptables {
        let mut tools = Iptables::new(variant);
        tools.families = vec![IpFamily::V4];
        tools
    }

    fn load(&self, plan: &Plan) -> Result<usize, KernelError> {
        match self {
            Self::Nftables(layout) => Nft::new().replace(plan, &of_nftables(*layout)),
            Self::Iptables(variant, layout) => {
                Self::tools(*variant).replace(plan, &of_iptables(*layout))
            }
        }
    }

    /// How many bytes of input it takes.
    fn change(&self, before: &Plan, after: &Plan) -> Result<usize, KernelError> {
        let changes = Plan::diff(before, after);
        match self {
            Self::Nftables(layout) => {
                let delta = nftables::delta(after, &changes, &of_nftables(*layout));
                Nft::new().apply(&delta.script).map(|()| delta.script.len())
            }
            Self::Iptables(variant, layout) => {
                let input = iptables::delta(after, &changes, IpFamily::V4, &of_iptables(*layout));
                Self::tools(*variant).apply(IpFamily::V4, &input).map(|()| input.len())
            }
        }
    }

    fn remove(&self) -> Result<(), KernelError> {
        match self {
            Self::Nftables(layout) => Nft::new().apply(&nftables::remove(&of_nftables(*layout))),
            Self::Iptables(variant, layout) => Self::tools(*variant).remove(&of_iptables(*layout)),
        }
    }
}

fn of_nftables(layout: nftables::Layout) -> nftables::Config {
    let mut config = nftables::Config::default();
    config.layout = layout;
    config
}

fn of_iptables(layout: iptables::Layout) -> iptables::Config {
    let mut config = iptables::Config::default();
    config.layout = layout;
    config
}

fn main() -> ExitCode {
    let args = Args::parse();
    match if args.ipvs { measure_ipvs(&args) } else { measure(&args) } {
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
        "| Services | rules | load | an endpoint less | its bytes | a Service more | its bytes | a connection | to the last Service | remove |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let node = LocalNode::new("node".parse().map_err(|error| format!("{error}"))?);
    for &count in &args.services {
        for (name, plane) in Plane::all() {
            if plane.is_slow() && count > args.chains_up_to {
                continue;
            }
            let mut services: Vec<_> = (0..count).map(|n| service(n, args.endpoints)).collect();
            let plan_of = |services: &[(Service, EndpointSet)]| {
                let services = services.iter().map(|(service, set)| (service, set));
                Plan::new(&node, plane.mode(), services)
            };
            let failed = |error: KernelError| format!("{name}: {error}");
            let plan = plan_of(&services);
            let (_, load) = timed(|| plane.load(&plan)).map_err(failed)?;
            let any = |n: u32| cluster_ip(n.wrapping_mul(2_654_435_761) % count);
            let connection = connect(1000, any, 80)?;
            let last = connect(1000, |_| cluster_ip(count - 1), 80)?;
            services[count as usize / 2] = service(count / 2, args.endpoints - 1);
            let less = plan_of(&services);
            let (bytes, change) = timed(|| plane.change(&plan, &less)).map_err(failed)?;
            services.push(service(count, args.endpoints));
            let (more_bytes, more) =
                timed(|| plane.change(&less, &plan_of(&services))).map_err(failed)?;
            let ((), remove) = timed(|| plane.remove()).map_err(failed)?;
            println!(
                "| {count} | {name} | {load:.2?} | {change:.1?} | {bytes} | {more:.1?} | {more_bytes} | {connection:.1?} | {last:.1?} | {remove:.2?} |"
            );
        }
    }
    Ok(())
}

/// Virtual servers made by commands and by `ipvsadm -R`, and one real server less.
fn measure_ipvs(args: &Args) -> Result<(), String> {
    enter()?;
    let node = LocalNode::new("node".parse().map_err(|error| format!("{error}"))?);
    let failed = |error: KernelError| error.to_string();
    let mut kernel = Ipvs::open(Duration::from_secs(10)).map_err(failed)?;
    println!(
        "| virtual servers | commands | ipvsadm -R | a real server less: read, compare | and tell | its commands |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for &count in &args.services {
        let mut services: Vec<_> = (0..count).map(|n| service(n, args.endpoints)).collect();
        let desired_of = |services: &[(Service, EndpointSet)]| {
            let services = services.iter().map(|(service, set)| (service, set));
            let plan = Plan::new(&node, Mode::Ipvs, services);
            ipvs::compile(&plan, &ipvs::Config::default())
        };
        let commands = desired_of(&services).commands();
        let mut lines = String::new();
        for command in &commands {
            lines.extend([command.to_string(), "\n".to_owned()]);
        }
        kernel.flush().map_err(failed)?;
        let began = Instant::now();
        let mut child = Command::new("ipvsadm")
            .arg("-R")
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("ipvsadm: {error}"))?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        stdin.write_all(lines.as_bytes()).map_err(|error| format!("ipvsadm: {error}"))?;
        drop(stdin);
        let status = child.wait().map_err(|error| format!("ipvsadm: {error}"))?;
        if !status.success() {
            return Err(format!("ipvsadm -R: {status}"));
        }
        let restore = began.elapsed();
        let by_others = kernel.state().map_err(failed)?;

        kernel.flush().map_err(failed)?;
        let ((), apply) = timed(|| kernel.apply(&commands)).map_err(failed)?;
        if kernel.state().map_err(failed)? != by_others {
            return Err("ipvsadm and these commands came to different ends".to_owned());
        }
        services[count as usize / 2] = service(count / 2, args.endpoints - 1);
        let desired = desired_of(&services);
        let (change, read) = timed(|| {
            let actual = kernel.state()?;
            Ok(ipvs::reconcile(&desired, &actual, &[]))
        })
        .map_err(failed)?;
        let ((), tell) = timed(|| kernel.apply(&change)).map_err(failed)?;
        println!(
            "| {count} | {apply:.2?} | {restore:.2?} | {read:.2?} | {tell:.2?} | {} |",
            change.len()
        );
        kernel.flush().map_err(failed)?;
    }
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T, KernelError>) -> Result<(T, Duration), KernelError> {
    let began = Instant::now();
    work().map(|done| (done, began.elapsed()))
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
