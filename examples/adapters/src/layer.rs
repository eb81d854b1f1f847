//! A tower layer that picks a backend for every request. For HTTP proxies and clients: requests on one connection go to different
//! backends, and a backend counts the requests that it is busy with.
//!
//! The service inside gets the backend's address with each request, and keeps connections as it likes; [`towards`] makes the request one
//! that hyper-util's client sends to that address, with a pool of connections to each backend:
//!
//! ```
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use svcplane::{backend::Flow, balancer::Balancer, sched::Algorithm, sync::SharedBalancer};
//! use svcplane_adapters::{Clock, layer::{BalanceLayer, towards}};
//! use tower::{Layer, service_fn};
//!
//! # fn example() -> impl tower::Service<http::Request<String>> {
//! let balancer = SharedBalancer::new(Balancer::new(Algorithm::PowerOfTwoChoices, 7));
//! let client = Client::builder(TokioExecutor::new()).build_http::<String>();
//! // The server in front puts there who is calling what; only algorithms that hash look at it.
//! let flow = |request: &http::Request<String>| request.extensions().get::<Flow>().copied();
//! BalanceLayer::new(balancer, Clock::start(), flow)
//!     .layer(service_fn(move |(addr, request)| client.request(towards(addr, request))))
//! # }
//! ```
//!
//! A connection that a response upgrades, as for WebSocket, is counted only until that response: whoever copies its bytes needs a lease of
//! its own, as in [`tcp`](crate::tcp).
//!
//! **Compared with tower's `Discover`.** That is a stream of services that come and go, one for each backend, for tower's own balancer:
//! two choices by the load that the services measure. What an endpoint set resolves to can feed it, as `Change::Insert` and
//! `Change::Remove` by address. Then tower chooses among services that are ready, each with its own queue and limits. Here one service serves
//! all backends, and the choice with its counts is the [`SharedBalancer`]'s: any algorithm, weights, thresholds, affinity, suspension.

use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use svcplane::backend::Flow;
use svcplane::sync::{Lease, SharedBalancer};
use tower::{BoxError, Layer, Service};

use crate::Clock;

/// Puts a [`Balance`] around a service of `(SocketAddr, Request<B>)`.
#[derive(Clone, Debug)]
pub struct BalanceLayer<F> {
    // Services are cloned freely: a clone of the balancer's own allocates.
    balancer: Arc<SharedBalancer>,
    clock: Clock,
    flow: F,
}

impl<F> BalanceLayer<F> {
    /// `flow` says of a request which client calls which virtual address, `None` if nobody knows.
    pub fn new(balancer: SharedBalancer, clock: Clock, flow: F) -> Self {
        Self { balancer: Arc::new(balancer), clock, flow }
    }
}

impl<S, F: Clone> Layer<S> for BalanceLayer<F> {
    type Service = Balance<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Balance { inner, layer: self.clone() }
    }
}

/// Picks a backend for each request, and hands both to the service inside.
#[derive(Clone, Debug)]
pub struct Balance<S, F> {
    inner: S,
    layer: BalanceLayer<F>,
}

impl<S, F, B, R> Service<Request<B>> for Balance<S, F>
where
    S: Service<(SocketAddr, Request<B>), Response = Response<R>>,
    S::Error: Into<BoxError>,
    F: FnMut(&Request<B>) -> Option<Flow>,
{
    type Response = Response<Leased<R>>;
    type Error = BoxError;
    type Future = Responding<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let BalanceLayer { balancer, clock, flow } = &mut self.layer;
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let flow = flow(&request).unwrap_or_else(|| Flow::new(unknown, unknown));
        let Some(mut lease) = balancer.pick(&flow, clock.now()) else {
            return Responding { inner: None, lease: None };
        };
        // A request is work for the backend from the start: there is no handshake to wait for.
        lease.established();
        let inner = self.inner.call((lease.addr(), request));
        Responding { inner: Some(inner), lease: Some(lease) }
    }
}

pin_project! {
    /// The response to come. Dropping it before that releases the backend.
    #[must_use = "futures do nothing unless polled"]
    pub struct Responding<F> {
        #[pin]
        inner: Option<F>,
        lease: Option<Lease>,
    }
}

impl<F, R, E> Future for Responding<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<Leased<R>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(Err(NoBackend.into()));
        };
        let outcome = ready!(inner.poll(cx));
        let lease = this.lease.take();
        Poll::Ready(match outcome {
            Ok(response) => Ok(response.map(|body| Leased { body, lease })),
            Err(error) => Err(error.into()),
        })
    }
}

pin_project! {
    /// A response's body, and what counts it until it has ended, failed, or been dropped.
    #[derive(Debug)]
    pub struct Leased<B> {
        #[pin]
        body: B,
        lease: Option<Lease>,
    }
}

impl<B: Body> Body for Leased<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        // Who knows that this was the last frame need not ask for another.
        if !matches!(frame, Some(Ok(_))) || this.body.is_end_stream() {
            *this.lease = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// No backend is usable. To a client of HTTP that is 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBackend;

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no backend is usable")
    }
}

impl Error for NoBackend {}

/// The request with a backend in place of its URI's host, which the header `Host` keeps. To the backend it is plain HTTP.
///
/// # Panics
///
/// Never: an address is an authority, and with a scheme and a path it is a URI.
#[must_use]
pub fn towards<B>(addr: SocketAddr, mut request: Request<B>) -> Request<B> {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    let authority = addr.to_string().parse::<Authority>().expect("an authority");
    // As RFC 9112 has it for proxies: what the URI names goes before the header.
    let named = uri.authority.replace(authority);
    if let Some(host) = named.as_ref().and_then(|named| named.as_str().rsplit('@').next())
        && let Ok(host) = host.parse()
    {
        request.headers_mut().insert(HOST, host);
    }
    uri.scheme = Some(Scheme::HTTP);
    uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = uri.try_into().expect("a URI");
    request
}

#[cfg(test)]
mod tests {
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::testing::{HttpServer, active, balancer, bounded, read_all, released};

    #[tokio::test]
    async fn requests_alternate_and_are_counted_until_their_bodies_end() {
        bounded(async {
            let (a, b) = (HttpServer::start("a").await, HttpServer::start("b").await);
            let balancer = balancer([a.addr, b.addr]);
            let client = Client::builder(TokioExecutor::new()).build_http::<String>();
            let flow = |_: &Request<String>| None;
            let service = BalanceLayer::new(balancer.clone(), Clock::start(), flow)
                .layer(service_fn(move |(addr, request)| client.request(towards(addr, request))));
            let get = |path: &str| {
                let uri = format!("http://virtual.example{path}");
                let request = Request::get(uri).body(String::new()).unwrap();
                service.clone().oneshot(request)
            };

            let mut names = Vec::new();
            for _ in 0..4 {
                let response = get("/").await.unwrap();
                assert_eq!(active(&balancer).iter().sum::<u32>(), 1);
                names.push(read_all(response.into_body()).await);
                assert_eq!(active(&balancer), [0, 0]);
            }
            names.sort();
            assert_eq!(names, ["a", "a", "b", "b"]);

            // Cancelled while the backend is at work: released at once.
            let mut pending = Box::pin(get("/never"));
            tokio::select! {
                _ = &mut pending => unreachable!("it does not answer"),
                () = a.asked_in_vain() => {}
                () = b.asked_in_vain() => {}
            }
            assert_eq!(active(&balancer).iter().sum::<u32>(), 1);
            drop(pending);
            assert_eq!(active(&balancer), [0, 0]);

            // The same for a body that nobody wants to read.
            let response = get("/").await.unwrap();
            assert_eq!(active(&balancer).iter().sum::<u32>(), 1);
            drop(response);
            released(&balancer).await;

            balancer.set_backends([], Clock::start().now());
            assert!(get("/").await.unwrap_err().is::<NoBackend>());
        })
        .await;
    }

    #[test]
    fn the_virtual_host_stays_in_the_header() {
        let request = Request::get("https://user@virtual.example:81/x?y").header("host", "other");
        let sent = towards("[fe80::1%3]:80".parse().unwrap(), request.body(()).unwrap());
        assert_eq!(sent.uri(), "http://[fe80::1%3]:80/x?y");
        assert_eq!(sent.headers()["host"], "virtual.example:81");
        // As a server gets it.
        let request = Request::get("/x").header("host", "virtual.example").body(()).unwrap();
        let sent = towards("10.0.0.1:80".parse().unwrap(), request);
        assert_eq!(sent.uri(), "http://10.0.0.1:80/x");
        assert_eq!(sent.headers()["host"], "virtual.example");
    }
}
