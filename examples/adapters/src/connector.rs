//! A connector for hyper-util's client that dials a backend, whatever host the URI names. For clients that take everything else as it is:
//! pool, URIs, `Host`; and for TLS, with a connector for that around this one, which checks the name in the URI.
//!
//! It picks for each *connection*. The pool sends requests on an idle connection if there is one, so that a client
//! which makes one request at a time stays at one backend; if that matters, use the [`layer`](crate::layer). For HTTP/2 it matters most.
//!
//! ```
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use svcplane::{balancer::Balancer, sched::Algorithm, sync::SharedBalancer};
//! use svcplane_adapters::{Clock, connector::Connector};
//!
//! # fn example() -> Client<Connector, String> {
//! let balancer = SharedBalancer::new(Balancer::new(Algorithm::LeastConnection, 7));
//! Client::builder(TokioExecutor::new()).build(Connector::new(balancer, Clock::start()))
//! # }
//! ```
//!
//! A removed backend gets no new connection, but those in the pool are used on until they idle for too long: set `pool_idle_timeout`.

use std::io::{IoSlice, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use svcplane::backend::Flow;
use svcplane::sync::{Lease, SharedBalancer};
use tokio::net::TcpStream;
use tower::Service;

use crate::Clock;
use crate::tcp::connect;

/// Dials backends. Clones share the balancer.
#[derive(Clone, Debug)]
pub struct Connector {
    balancer: Arc<SharedBalancer>,
    clock: Clock,
    flow: Flow,
}

impl Connector {
    /// A connector for a client that serves nobody in particular: an algorithm that hashes sends all its connections to one backend.
    #[must_use]
    pub fn new(balancer: SharedBalancer, clock: Clock) -> Self {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self { balancer: Arc::new(balancer), clock, flow: Flow::new(unknown, unknown) }
    }

    /// The same on behalf of someone.
    #[must_use]
    pub fn with_flow(self, flow: Flow) -> Self {
        Self { flow, ..self }
    }
}

impl Service<Uri> for Connector {
    type Response = Leased;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Leased>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { balancer, clock, flow } = self.clone();
        Box::pin(async move {
            let (lease, stream) = connect(&balancer, clock, &flow).await?;
            stream.set_nodelay(true)?;
            Ok(Leased { lease, io: TokioIo::new(stream) })
        })
    }
}

/// A connection, counted as long as it lives, in use or idle in the pool.
#[derive(Debug)]
pub struct Leased {
    lease: Lease,
    io: TokioIo<TcpStream>,
}

impl Leased {
    /// The backend at the other end.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.lease.addr()
    }
}

impl Connection for Leased {
    fn connected(&self) -> Connected {
        self.io.connected()
    }
}

impl Read for Leased {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Leased {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // The backend is rid of it, or soon will be.
        self.lease.closing();
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;

    use super::*;
    use crate::testing::{HttpServer, active, balancer, bounded, read_all, released};

    #[tokio::test]
    async fn connections_are_counted_while_the_pool_has_them() {
        bounded(async {
            let (a, b) = (HttpServer::start("a").await, HttpServer::start("b").await);
            let balancer = balancer([a.addr, b.addr]);
            let client = Client::builder(TokioExecutor::new())
                .build(Connector::new(balancer.clone(), Clock::start()));
            let get = |path: &str| {
                // A name that does not resolve, and need not.
                let uri = format!("http://virtual.invalid{path}");
                client.request(Request::get(uri).body(String::new()).unwrap())
            };

            // The first is still unanswered, so that the second needs a connection of its own.
            let mut pending = Box::pin(get("/never"));
            let busy = tokio::select! {
                _ = &mut pending => unreachable!("it does not answer"),
                () = a.asked_in_vain() => "a",
                () = b.asked_in_vain() => "b",
            };
            let idle = read_all(get("/").await.unwrap().into_body()).await;
            assert_ne!(idle, busy);
            assert_eq!(active(&balancer), [1, 1]);

            // A cancelled request takes its connection with it; the other one is idle in the pool, and counted.
            drop(pending);
            while active(&balancer).iter().sum::<u32>() > 1 {
                tokio::task::yield_now().await;
            }
            assert_eq!(read_all(get("/").await.unwrap().into_body()).await, idle);

            drop(client);
            released(&balancer).await;
        })
        .await;
    }
}
