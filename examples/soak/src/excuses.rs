//! When a client may go without an answer: while there is no backend, while descriptors are out, while a backend dies.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the times at which clients may fail.
#[derive(Default)]
pub(crate) struct Excuses {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// The beginning of what may turn out to be excused.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    begun: u64,
    ended: u64,
}

/// While this lives, failures are excused.
pub(crate) struct Excuse<'a>(&'a Excuses);

impl Excuses {
    pub(crate) fn begin(&self) -> Excuse<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Excuse(self)
    }

    pub(crate) fn mark(&self) -> Mark {
        // In this order: an excuse that ends in between is taken as one that goes on.
        let ended = self.ended.load(Ordering::SeqCst);
        Mark { begun: self.begun.load(Ordering::SeqCst), ended }
    }

    /// Whether any excuse held at any time since the mark.
    pub(crate) fn held_since(&self, mark: Mark) -> bool {
        mark.begun != mark.ended || self.begun.load(Ordering::SeqCst) != mark.begun
    }
}

impl Drop for Excuse<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}
