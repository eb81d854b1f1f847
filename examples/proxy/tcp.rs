//! TCP: one connection in, one out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use svcplane::net::Protocol;
use svcplane::plan::Packet;
use svcplane::sync::Lease;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::shared::Shared;

/// How long the first attempts to connect may take, as kube-proxy's userspace mode had it; later ones take as
/// long as the last.
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// What fails again and again is said so often.
const SAID_EVERY: Duration = Duration::from_secs(5);

pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, destination: SocketAddr) {
    let mut silent_until = Instant::now();
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                tokio::spawn(proxy(Arc::clone(&shared), client, from, destination));
            }
            Err(error) => {
                // Out of file descriptors, mostly: wait for connections to end.
                if Instant::now() >= silent_until {
                    silent_until = Instant::now() + SAID_EVERY;
                    eprintln!(
                        "tcp {destination}: accept: {error}; clients wait until connections end"
                    );
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn proxy(
    shared: Arc<Shared>,
    mut client: TcpStream,
    from: SocketAddr,
    destination: SocketAddr,
) {
    let _open = shared.opened();
    let started = Instant::now();
    let packet = Packet::new(Protocol::Tcp, from.ip(), destination);
    let mut failures = Vec::new();
    let (mut lease, mut backend) = match connect(&shared, &packet, from, &mut failures).await {
        Ok(connected) => connected,
        Err(why) => {
            // A reset, not an orderly end: the kernel would have refused the connection, or have been silent,
            // for which it is too late here.
            let _ = client.set_zero_linger();
            if shared.options.verbose {
                let why = if failures.is_empty() { why.to_owned() } else { failures.join("; ") };
                println!("tcp {from} -> {destination}: refused: {why}");
            }
            return;
        }
    };
    lease.established();
    let _ = client.set_nodelay(true);
    let _ = backend.set_nodelay(true);
    let outcome = copy_bidirectional(&mut client, &mut backend).await;
    if outcome.is_err() {
        // What one side cut off must not look whole to the other.
        let _ = client.set_zero_linger();
        let _ = backend.set_zero_linger();
    }
    if shared.options.verbose {
        let addr = lease.addr();
        let retried = if failures.is_empty() {
            String::new()
        } else {
            format!(" after {}", failures.join("; "))
        };
        let took = started.elapsed();
        let outcome = outcome.map_or_else(
            |error| error.to_string(),
            |(up, down)| format!("{up} B up, {down} B down"),
        );
        println!("tcp {from} -> {destination} -> {addr}{retried}: {outcome}, {took:.1?}");
    }
}

/// Picks until a backend answers or none is left.
async fn connect(
    shared: &Shared,
    packet: &Packet,
    from: SocketAddr,
    failures: &mut Vec<String>,
) -> Result<(Lease, TcpStream), &'static str> {
    let mut tried = Vec::new();
    loop {
        let lease = shared.pick(packet, from, &tried)?;
        let patience = PATIENCE[tried.len().min(PATIENCE.len() - 1)];
        let attempt = timeout(patience, dial(shared, lease.addr())).await;
        match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(backend) => return Ok((lease, backend)),
            Err(error) => failures.push(format!("{}: {error}", lease.addr())),
        }
        tried.push(lease.backend());
    }
}

async fn dial(shared: &Shared, addr: SocketAddr) -> io::Result<TcpStream> {
    if shared.options.demo && !addr.ip().is_loopback() {
        return Err(io::ErrorKind::HostUnreachable.into());
    }
    TcpStream::connect(addr).await
}
