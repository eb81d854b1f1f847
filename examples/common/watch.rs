//! Files that somebody edits.

use std::time::Duration;

use tokio::time::sleep;

use crate::manifests::{Fingerprint, Sources};

/// Waits until the files are others than those seen, and have been for a moment: a writer may be at work.
pub(crate) async fn change(sources: &Sources, seen: &Fingerprint) -> Fingerprint {
    const EVERY: Duration = Duration::from_millis(100);
    /// There may be file descriptors again.
    const AGAIN: Duration = Duration::from_secs(1);
    const SETTLED: Duration = Duration::from_millis(30);
    if sources.starved_since(seen) {
        sleep(AGAIN).await;
    }
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
        return now;
    }
}
