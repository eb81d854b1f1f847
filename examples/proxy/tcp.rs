//! TCP: one connection in, one out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use svcplane::net::Protocol;
use svcplane::plan::Packet;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::shared::{Lease, Picked, Shared};

/// How long the first attempts to connect may take, as kube-proxy's userspace mode had it; later ones take as
/// long as the last.
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, destination: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                tokio::spawn(proxy(Arc::clone(&shared), client, from, destination));
            }
            Err(error) => {
                // Out of file descriptors, mostly: wait for connections to end.
                eprintln!("tcp {destination}: accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
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
    let started = tokio::time::Instant::now();
    let packet = Packet::new(Protocol::Tcp, from.ip(), destination);
    let mut failures = Vec::new();
    let Some((mut lease, mut backend)) = connect(&shared, &packet, from, &mut failures).await
    else {
        // A reset, not an orderly end: the kernel would have refused the connection.
        let _ = client.set_zero_linger();
        if shared.options.verbose {
            println!("tcp {from} -> {destination}: refused: {}", reasons(&failures));
        }
        return;
    };
    lease.activate();
    let _ = client.set_nodelay(true);
    let _ = backend.set_nodelay(true);
    let outcome = copy_bidirectional(&mut client, &mut backend).await;
    if shared.options.verbose {
        let addr = lease.addr();
        let retried = if failures.is_empty() {
            String::new()
        } else {
            format!(" after {}", reasons(&failures))
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
) -> Option<(Lease, TcpStream)> {
    let mut tried = Vec::new();
    loop {
        let Picked::Backend(lease) = shared.pick(packet, from, &tried) else { return None };
        let patience = PATIENCE[tried.len().min(PATIENCE.len() - 1)];
        let attempt = timeout(patience, dial(shared, lease.addr())).await;
        match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(backend) => return Some((lease, backend)),
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

fn reasons(failures: &[String]) -> String {
    if failures.is_empty() { "no endpoints".to_owned() } else { failures.join("; ") }
}
