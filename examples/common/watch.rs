//! Files that somebody edits.

use std::time::Duration;

use tokio::time::sleep;

use crate::manifests::{Fingerprint, Manifests, Sources};

/// Waits until the files are others than those seen, and have been for a moment: a writer may be at work.
pub(crate) async fn change(sources: &Sources, seen: &Fingerprint) -> Fingerprint {
    const EVERY: Duration = Duration::from_millis(100);
    /// There may be file descriptors again.
    const AGAIN: Duration = Duration::from_secs(1);
    const SETTLED: Duration = Duration::from_millis(30);
    if sources.starved_since(seen) {
        sleep(AGAIN).await;
    }
    let mut emptied = 0;
    loop {
        sleep(EVERY).await;
        let mut now = sources.fingerprint();
        if now == *seen {
            continue;
        }
        for _ in 0..10 {
            sleep(SETTLED).await;
            let later = sources.fingerprint();
            if later == now {
                break;
            }
            now = later;
        }
        // Who writes into a file empties it first. One that stays empty for a second is meant to be.
        if is_emptied(&now, seen) && emptied < 10 {
            emptied += 1;
            continue;
        }
        return now;
    }
}

fn is_emptied(now: &Fingerprint, seen: &Fingerprint) -> bool {
    let length =
        |path| seen.iter().find(|(seen, ..)| seen == path).map_or(0, |(.., length)| *length);
    now.iter().any(|(path, _, now)| *now == 0 && length(path) > 0)
}

/// Reads the files that have changed. `None` if a writer was at work meanwhile: then there is another change to come.
pub(crate) fn read(
    sources: &Sources,
    seen: &Fingerprint,
) -> Option<Result<Manifests, Vec<String>>> {
    let read = sources.read();
    // For want of file descriptors nothing is read, and nothing can be said of the files.
    let whole = sources.starved_since(seen) || sources.fingerprint() == *seen;
    whole.then_some(read)
}
