//! An HTTP proxy of pingora in which svcplane's balancer chooses.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pingora_core::server::Server;
use pingora_core::services::background::background_service;
use pingora_load_balancing::{Backends, LoadBalancer};
use pingora_proxy::http_proxy_service;
use svcplane::backend::Backend;
use svcplane::sched::Algorithm;
use svcplane_pingora::{Listed, Proxy, Selection, Shared, demo};

/// Proxies HTTP to the backends.
#[derive(Parser)]
struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6188")]
    listen: SocketAddr,
    /// rr, wrr, lc, wlc, sh, dh, mh, sed, nq, random, wrandom or p2c
    #[arg(long, value_name = "NAME", default_value = "wlc")]
    scheduler: Algorithm,
    /// Start small backends with these weights
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',')]
    demo: Vec<u32>,
    /// Backends, ADDRESS:PORT or ADDRESS:PORT=WEIGHT
    #[arg(value_name = "BACKEND", value_parser = backend, required_unless_present = "demo")]
    backends: Vec<Backend>,
}

fn backend(text: &str) -> Result<Backend, String> {
    let (addr, weight) = text.split_once('=').unwrap_or((text, "1"));
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr:?}: {error}"))?;
    let weight = weight.parse().map_err(|error| format!("{weight:?}: {error}"))?;
    Ok(Backend::new(addr).with_weight(weight))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut backends = args.backends;
    match start_demo(&args.demo) {
        Ok(started) => backends.extend(started),
        Err(error) => {
            eprintln!("error: demo backends: {error}");
            return ExitCode::FAILURE;
        }
    }
    for backend in &backends {
        println!("backend {}, weight {}", backend.addr, backend.weight);
    }
    // A program whose backends come and go keeps a clone of this, and sets it anew.
    let listed = Listed::default();
    listed.set(backends);
    let shared = Shared::new(args.scheduler, std::process::id().into());
    let known = Backends::new(Box::new(listed));
    let mut balancer = LoadBalancer::<Selection>::from_backends_with_config(known, Some(shared));
    balancer.update_frequency = Some(Duration::from_millis(200));
    let updates = background_service("endpoints", balancer);

    let mut server = match Server::new(None) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, Proxy(updates.task()));
    proxy.add_tcp(&args.listen.to_string());
    println!("http://{}, scheduler {}; Ctrl-C to stop", args.listen, args.scheduler);
    server.add_service(proxy);
    server.add_service(updates);
    server.run_forever()
}

/// In a thread of their own, which ends with the program.
fn start_demo(weights: &[u32]) -> std::io::Result<Vec<Backend>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut backends = Vec::new();
    for &weight in weights {
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        backends.push(Backend::new(listener.local_addr()?).with_weight(weight));
        runtime.spawn(demo::serve(listener));
    }
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(backends)
}
