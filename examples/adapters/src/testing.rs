//! What the tests share: backends on loopback, and waits that end.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use svcplane::balancer::Balancer;
use svcplane::sched::Algorithm;
use svcplane::sync::SharedBalancer;
use svcplane::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Any port.
pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn balancer<const N: usize>(backends: [SocketAddr; N]) -> SharedBalancer {
    let balancer = SharedBalancer::new(Balancer::new(Algorithm::RoundRobin, 7));
    // The last is walked first.
    for backend in backends.into_iter().rev() {
        balancer.add(backend.into(), Instant::ZERO);
    }
    balancer
}

/// The active connections of each, in the order in which `balancer` was given them.
pub(crate) fn active(balancer: &SharedBalancer) -> Vec<u32> {
    balancer.with(|balancer| balancer.iter().map(|(_, entry)| entry.active()).collect())
}

/// Waits until no connection is counted. Tasks that were aborted or lost their client take a few turns to end.
pub(crate) async fn released(balancer: &SharedBalancer) {
    let open = || {
        balancer.with(|balancer| {
            balancer.iter().any(|(_, entry)| (entry.active(), entry.inactive()) != (0, 0))
        })
    };
    while open() {
        tokio::task::yield_now().await;
    }
}

/// Nothing takes as long; it keeps a failure from hanging.
pub(crate) async fn bounded(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test does not end");
}

pub(crate) async fn read_all(body: impl Body<Data: AsRef<[u8]>, Error: std::fmt::Debug>) -> String {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        bytes.extend(frame.unwrap().into_data().ok().iter().flat_map(AsRef::as_ref));
    }
    String::from_utf8(bytes).unwrap()
}

/// Answers every request with its name, but none for `/never`.
pub(crate) struct HttpServer {
    pub(crate) addr: SocketAddr,
    asked_in_vain: Arc<Notify>,
}

impl HttpServer {
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked_in_vain = Arc::new(Notify::new());
        let notify = Arc::clone(&asked_in_vain);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let notify = Arc::clone(&notify);
                tokio::spawn(async move { answer(stream, name, &notify).await });
            }
        });
        Self { addr, asked_in_vain }
    }

    /// Waits until a request for `/never` has come.
    pub(crate) async fn asked_in_vain(&self) {
        self.asked_in_vain.notified().await;
    }
}

async fn answer(stream: TcpStream, name: &str, asked_in_vain: &Notify) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let mut first = None;
    while let Some(line) = lines.next_line().await? {
        if !line.is_empty() {
            first.get_or_insert(line);
        } else if first.take().is_some_and(|line| line.contains(" /never ")) {
            asked_in_vain.notify_one();
        } else {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            lines.get_mut().write_all(answer.as_bytes()).await?;
        }
    }
    Ok(())
}
