//! Where objects come from: `kube`'s watcher, and what has to be added to it.

use std::fmt;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use http::Uri;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};

use crate::stored::{Mirror, Stored};

/// What a watch says: an object, the beginning or end of a list, or an error after which it goes on by itself.
pub type Heard<T> = Result<watcher::Event<Stored<T>>, Interruption>;

/// Why a watch was interrupted.
#[derive(Debug)]
pub struct Interruption {
    /// Where the API server is.
    pub server: Uri,
    /// What was watched, as in the server's paths.
    pub plural: &'static str,
    /// What happened.
    pub error: watcher::Error,
    /// Whether everything will be listed anew, as it is not known what was missed.
    pub relist: bool,
    /// When the next attempt is.
    pub next: Duration,
}

/// Watches all objects of a kind; `only` is the name of the one that matters, if it is one.
///
/// `kube` lists and watches, takes up an interrupted watch where the last event or bookmark was, and lists anew if it is told within a
/// watch that this is too long ago. Two things are added:
///
/// * It lists anew also where `kube` would go on: if the *answer* is 410 Gone, which `kube` asks for again and again; and after an event
///   that cannot be read, as it may have been any.
/// * The pause between attempts grows until an event comes. With `kube`'s `StreamBackoff` the beginning of each attempt to list is a success,
///   and so the pause is always the shortest one.
pub fn watch<T, B>(
    client: Client,
    server: Uri,
    only: Option<&str>,
    backoff: B,
) -> BoxStream<'static, Heard<T>>
where
    T: Mirror,
    B: Backoff + 'static,
    Stored<T>: kube::Resource<DynamicType = ()>,
{
    let api = Api::<Stored<T>>::all(client);
    let mut config = watcher::Config::default();
    if let Some(name) = only {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let start = move || watcher(api.clone(), config.clone()).boxed();
    let state = (start(), Duration::ZERO, backoff);
    let next = move |(mut events, pause, mut backoff): (BoxStream<'static, _>, Duration, B)| {
        let (start, server) = (start.clone(), server.clone());
        async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let error = match events.next().await? {
                Ok(event) => {
                    if matches!(event, watcher::Event::Apply(_) | watcher::Event::Delete(_)) {
                        backoff.reset();
                    }
                    return Some((Ok(event), (events, Duration::ZERO, backoff)));
                }
                Err(error) => error,
            };
            let relist = is_lost(&error);
            if relist {
                events = start();
            }
            let next = backoff.next()?;
            let plural = T::PLURAL;
            let interruption = Interruption { server, plural, error, relist, next };
            Some((Err(interruption), (events, next, backoff)))
        }
    };
    stream::unfold(state, next).boxed()
}

/// Whether it is not known any more what was missed.
fn is_lost(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        // A line that is no event is read as a Status, of which every field may be absent.
        watcher::Error::WatchFailed(kube::Error::SerdeError(_) | kube::Error::Api(_))
        | watcher::Error::NoResourceVersion => true,
        _ => false,
    }
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, plural, error, relist, next } = self;
        let (doing, cause) = match error {
            watcher::Error::InitialListFailed(error) => ("listing", cause(error)),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                ("watching", cause(error))
            }
            watcher::Error::WatchError(status) => ("watching", said(status)),
            watcher::Error::NoResourceVersion => {
                ("watching", "an object has no resourceVersion".to_owned())
            }
        };
        let how = if *relist { "a new list" } else { "again" };
        write!(f, "{server}: {doing} {plural}: {cause}; {how} in {next:.1?}")
    }
}

impl std::error::Error for Interruption {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What an error comes from: each of `kube`'s repeats those below it.
fn cause(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return said(status);
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn said(status: &kube::core::Status) -> String {
    // Whatever stands between the server and this may answer with a page.
    let message = status.message.lines().next().unwrap_or_default();
    match (status.code, message) {
        (0, "") => "neither an event nor a Status".to_owned(),
        (0, message) => message.to_owned(),
        (code, "") => format!("{code} {}", status.reason),
        (code, message) => format!("{code} {message}"),
    }
}
