//! A bar on standard error, for runs that take a while.

use std::io::{IsTerminal, Write};

pub(crate) struct Progress {
    scheduler: &'static str,
    done: u32,
    /// As many connections as are expected of all schedulers.
    total: f64,
    shown: bool,
}

/// A second's work or so.
const LONG: f64 = 2e6;
const EVERY: u32 = 1 << 14;
const WIDTH: u32 = 40;

impl Progress {
    pub(crate) fn new(connections: f64, schedulers: usize) -> Self {
        let total = (0..schedulers).map(|_| connections).sum();
        let shown = total > LONG && std::io::stderr().is_terminal();
        Self { scheduler: "", done: 0, total, shown }
    }

    pub(crate) fn begin(&mut self, scheduler: &'static str) {
        self.scheduler = scheduler;
    }

    pub(crate) fn advance(&mut self) {
        self.done = self.done.saturating_add(1);
        if self.shown && self.done % EVERY == 0 {
            let part = (f64::from(self.done) / self.total).min(1.0);
            let tick = |n: u32| if f64::from(n) <= part * f64::from(WIDTH) { '#' } else { '.' };
            let bar: String = (1..=WIDTH).map(tick).collect();
            eprint!("\r[{bar}] {:3.0} % {:<8}", part * 100.0, self.scheduler);
            let _ = std::io::stderr().flush();
        }
    }

    pub(crate) fn clear(&self) {
        if self.shown {
            eprint!("\r{:60}\r", "");
        }
    }
}
