//! From streams to changes.

use std::pin::{Pin, pin};

use futures::stream::{self, BoxStream, Stream, StreamExt};
use http::Uri;
use kube::Client;
use kube::runtime::utils::Backoff;
use svcplane::catalog::{Catalog, Changes};
use svcplane::k8s;
use svcplane::name::NodeName;

use crate::feed::{Feed, Input, Notice};
use crate::source::{Heard, watch};

/// How much is taken at once at most.
const BURST: usize = 1000;

/// What the API server says of all Services, all EndpointSlices and one node. `server` is for messages.
pub fn inputs<B: Backoff + 'static>(
    client: &Client,
    server: &Uri,
    node: &NodeName,
    backoff: impl Fn() -> B,
) -> BoxStream<'static, Input> {
    merged(
        watch::<k8s::Service, _>(client.clone(), server.clone(), None, backoff()),
        watch::<k8s::EndpointSlice, _>(client.clone(), server.clone(), None, backoff()),
        watch::<k8s::Node, _>(client.clone(), server.clone(), Some(node.as_str()), backoff()),
    )
}

/// Three streams in one.
pub fn merged(
    services: BoxStream<'static, Heard<k8s::Service>>,
    slices: BoxStream<'static, Heard<k8s::EndpointSlice>>,
    node: BoxStream<'static, Heard<k8s::Node>>,
) -> BoxStream<'static, Input> {
    stream::select_all([
        services.map(Input::Service).boxed(),
        slices.map(Input::EndpointSlice).boxed(),
        node.map(Input::Node).boxed(),
    ])
    .boxed()
}

/// Feeds until the inputs end, which those of an API server do not.
///
/// `update` gets what is known and what has changed since it got something last, the first time everything, and answers with a future that is
/// done when that is carried out. Until then nothing more is handed on; what comes meanwhile is taken, and merged.
pub async fn run<U, F>(
    inputs: impl Stream<Item = Input>,
    feed: &mut Feed,
    mut notice: impl FnMut(Notice),
    mut update: U,
) where
    U: FnMut(&Catalog, Changes) -> F,
    F: Future<Output = ()>,
{
    let mut inputs = pin!(inputs.ready_chunks(BURST));
    let mut open = true;
    let mut busy: Option<Pin<Box<F>>> = None;
    loop {
        if busy.is_none() {
            if let Some(changes) = feed.changes() {
                busy = Some(Box::pin(update(feed.catalog(), changes)));
            } else if !open {
                return;
            }
        }
        tokio::select! {
            biased;
            () = finished(&mut busy), if busy.is_some() => busy = None,
            chunk = inputs.next(), if open => match chunk {
                Some(chunk) => feed.take(chunk, &mut notice),
                None => open = false,
            },
        }
    }
}

async fn finished<F: Future<Output = ()>>(busy: &mut Option<Pin<Box<F>>>) {
    match busy {
        Some(busy) => busy.await,
        None => std::future::pending().await,
    }
}
