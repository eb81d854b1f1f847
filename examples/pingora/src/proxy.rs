//! The proxy: a backend for each request.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::ErrorType::HTTPStatus;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, OkOrErr, Result};
use pingora_load_balancing::LoadBalancer;
use pingora_proxy::{ProxyHttp, Session};

use crate::selection::{Held, Selection, key};

/// Sends each request to the backend that the balancer chooses.
pub struct Proxy(pub Arc<LoadBalancer<Selection>>);

/// What is kept for a request.
#[derive(Default)]
pub struct Request {
    /// Counts it while it lasts.
    held: Option<Held>,
    /// Backends that could not be reached.
    failed: Vec<SocketAddr>,
}

/// As many candidates are looked at before a request is given up.
const CANDIDATES: usize = 256;

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        Request::default()
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        request: &mut Request,
    ) -> Result<Box<HttpPeer>> {
        let addr = |addr: Option<&PingoraAddr>| match addr {
            Some(PingoraAddr::Inet(addr)) => *addr,
            _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        let key = key(addr(session.client_addr()), addr(session.server_addr()));
        // A choice before this one has failed, and is not to count.
        request.held = None;
        let chosen = self.0.select_with(&key, CANDIDATES, |backend, healthy| {
            let failed = backend.addr.as_inet().is_some_and(|addr| request.failed.contains(addr));
            healthy && !failed
        });
        let mut chosen = chosen.or_err(HTTPStatus(503), "no backend is usable")?;
        request.held = Held::of(&mut chosen);
        let mut peer = HttpPeer::new(chosen, false, String::new());
        peer.options.connection_timeout = Some(Duration::from_secs(1));
        Ok(Box::new(peer))
    }

    /// Lets the next one try.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        peer: &HttpPeer,
        request: &mut Request,
        mut error: Box<Error>,
    ) -> Box<Error> {
        request.failed.extend(peer.address().as_inet().copied());
        error.set_retry(true);
        error
    }
}
