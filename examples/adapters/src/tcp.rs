//! A TCP proxy: one connection in, one out. For whatever speaks its own protocol over TCP, or when requests need not be told apart.
//!
//! A backend that does not answer is left alone for [`SUSPENDED`], and the client gets another one.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

use svcplane::backend::Flow;
use svcplane::sync::{Lease, SharedBalancer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Clock;

/// How long an attempt to connect may take.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long a backend gets nothing new after a failed attempt.
pub const SUSPENDED: Duration = Duration::from_secs(5);

/// Proxies what the listener accepts. Dropping the future (or aborting its task) ends all connections, and releases them.
///
/// # Errors
///
/// If the listener has no address. Failures to accept are waited out.
pub async fn serve(listener: TcpListener, balancer: SharedBalancer, clock: Clock) -> Result<()> {
    let destination = listener.local_addr()?;
    // Tasks share this handle: a clone of the balancer's own allocates.
    let balancer = Arc::new(balancer);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, from)) = listener.accept().await else {
            // Out of file descriptors, mostly.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let balancer = Arc::clone(&balancer);
        let flow = Flow::new(from, destination);
        connections.spawn(async move { proxy(client, &balancer, clock, &flow).await });
    }
}

/// Proxies one connection until both sides have closed it.
///
/// # Errors
///
/// As [`connect`], or if either side fails.
pub async fn proxy(
    mut client: TcpStream,
    balancer: &SharedBalancer,
    clock: Clock,
    flow: &Flow,
) -> Result<()> {
    let (_lease, mut backend) = match connect(balancer, clock, flow).await {
        Ok(connected) => connected,
        Err(error) => {
            // A reset rather than an orderly end, which would look like an empty answer.
            client.set_zero_linger()?;
            return Err(error);
        }
    };
    let outcome = copy_bidirectional(&mut client, &mut backend).await;
    if outcome.is_err() {
        // What one side cut off must not look whole to the other.
        let _ = (client.set_zero_linger(), backend.set_zero_linger());
    }
    outcome.map(drop)
}

/// Picks until a backend answers or none is left. The lease counts as active.
///
/// # Errors
///
/// Why the last attempt failed; [`ErrorKind::NotConnected`] if there was none, as no backend is usable.
pub async fn connect(
    balancer: &SharedBalancer,
    clock: Clock,
    flow: &Flow,
) -> Result<(Lease, TcpStream)> {
    let mut tried = Vec::new();
    let mut failure = Error::new(ErrorKind::NotConnected, "no backend is usable");
    while let Some(mut lease) = balancer.pick_except(flow, &tried, clock.now()) {
        match timeout(PATIENCE, TcpStream::connect(lease.addr())).await {
            Ok(Ok(stream)) => {
                lease.established();
                return Ok((lease, stream));
            }
            Ok(Err(error)) => failure = error,
            Err(elapsed) => failure = elapsed.into(),
        }
        if is_of_backend(&failure) {
            // Only an error if it was removed meanwhile. With the last one suspended nothing is picked until the time is over: clients
            // are refused at once rather than after PATIENCE.
            let _ = balancer.suspend(lease.backend(), clock.now() + SUSPENDED);
        }
        tried.push(lease.backend());
    }
    Err(failure)
}

/// Whether it is the backend that failed, rather than this process, which may be out of file descriptors or ports.
fn is_of_backend(error: &Error) -> bool {
    use ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;
    use crate::testing::{active, balancer, bounded, loopback, released};

    #[tokio::test]
    async fn connections_go_to_backends_that_answer_and_are_released() {
        bounded(async {
            let (a, b) = (greeter(b'a').await, greeter(b'b').await);
            // Bound and not listening: refuses, and nobody else gets the port.
            let deaf = TcpSocket::new_v4().unwrap();
            deaf.bind(loopback()).unwrap();
            let (balancer, clock) = (balancer([a, b, deaf.local_addr().unwrap()]), Clock::start());
            let listener = TcpListener::bind(loopback()).await.unwrap();
            let virtual_addr = listener.local_addr().unwrap();
            let serving = tokio::spawn(serve(listener, balancer.clone(), clock));

            let mut clients = Vec::new();
            for _ in 0..4 {
                let mut client = TcpStream::connect(virtual_addr).await.unwrap();
                let name = client.read_u8().await.unwrap();
                clients.push((name, client));
            }
            let of = |wanted| clients.iter().filter(|(name, _)| *name == wanted).count();
            assert_eq!((of(b'a'), of(b'b')), (2, 2));
            assert_eq!(active(&balancer), [2, 2, 0]);

            // An orderly end, by the client and then by the backend.
            let (name, mut client) = clients.remove(0);
            client.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            let left = if name == b'a' { [1, 2, 0] } else { [2, 1, 0] };
            while active(&balancer) != left {
                tokio::task::yield_now().await;
            }

            // The rest is aborted.
            serving.abort();
            assert!(serving.await.unwrap_err().is_cancelled());
            released(&balancer).await;
            drop(clients);
        })
        .await;
    }

    #[tokio::test]
    async fn clients_are_refused_when_no_backend_answers() {
        bounded(async {
            let deaf = TcpSocket::new_v4().unwrap();
            deaf.bind(loopback()).unwrap();
            let (balancer, clock) = (balancer([deaf.local_addr().unwrap()]), Clock::start());
            let flow = Flow::new(loopback(), loopback());
            let error = connect(&balancer, clock, &flow).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            // Suspended: not even tried.
            let error = connect(&balancer, clock, &flow).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            released(&balancer).await;
        })
        .await;
    }

    /// Says its name, and closes when the other side has.
    async fn greeter(name: u8) -> std::net::SocketAddr {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let _ = stream.write_u8(name).await;
                    let _ = stream.read(&mut [0]).await;
                });
            }
        });
        addr
    }
}
