//! What a balancer does when its time has come.

use core::time::Duration;

use super::{Balancer, GRACE};
use crate::backend::BackendId;
use crate::sched::{Entry, Scheduler};
use crate::time::Instant;

/// What is to be done with a backend at some time. It has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// See whether a removed one is still referred to.
    Look,
    /// End its suspension.
    Resume,
    /// Let its share grow.
    Grow,
}

impl<S: Scheduler> Balancer<S> {
    pub(super) fn arm(&mut self, deadline: Instant, id: BackendId, timer: Timer) {
        self.timers.insert((deadline, id, timer));
        self.next = self.next.min(deadline);
    }

    #[cold]
    pub(super) fn run_timers(&mut self, now: Instant) {
        // No more than there are: at the end of time what is armed anew is due at once.
        for _ in 0..self.timers.len() {
            let due = self.timers.first().filter(|(deadline, ..)| *deadline <= now);
            let Some(&(deadline, id, timer)) = due else { break };
            self.timers.pop_first();
            match timer {
                Timer::Look => self.look(id, now),
                Timer::Resume => self.resume(id, now),
                Timer::Grow => self.grow(id, deadline, now),
            }
        }
        self.next = self.next_expiry().unwrap_or(Instant::MAX);
    }

    fn look(&mut self, id: BackendId, now: Instant) {
        let listed = self.is_listed(id);
        let Some(entry) = self.backends.entry(id) else { return };
        let (addr, busy) = (entry.addr(), entry.active > 0 || entry.inactive > 0);
        let Some(aside) = self.backends.aside_mut(id) else { return };
        let busy = busy || aside.persistent > 0;
        if listed {
            aside.buried = false;
        } else if aside.idle && !busy {
            let timers = [(aside.suspended_until, Timer::Resume), (aside.grows_at, Timer::Grow)];
            for (deadline, timer) in timers {
                if let Some(deadline) = deadline {
                    self.timers.remove(&(deadline, id, timer));
                }
            }
            self.by_addr.remove(&addr);
            self.backends.forget(id);
        } else {
            // One more grace time from the first look that finds nothing referring to it, as the kernel's trash has it.
            aside.idle = !busy;
            self.arm(now + GRACE, id, Timer::Look);
        }
    }

    fn resume(&mut self, id: BackendId, now: Instant) {
        if let Some(aside) = self.backends.aside_mut(id) {
            aside.suspended_until = None;
        }
        if let Some(entry) = self.backends.entry_mut(id) {
            entry.suspended = false;
        }
        self.start_slowly(id, now);
        self.updated(id);
    }

    pub(super) fn start_slowly(&mut self, id: BackendId, now: Instant) {
        // One that comes back may have left half-way.
        let whole = self.slow_start == Duration::ZERO;
        self.set_share(id, if whole { Entry::FULL_SHARE } else { 1 }, now);
    }

    /// A share was to grow at `deadline`, and since then perhaps more than once.
    fn grow(&mut self, id: BackendId, deadline: Instant, now: Instant) {
        let share = self.get(id).map_or(Entry::FULL_SHARE, Entry::share);
        let late = now.saturating_duration_since(deadline).as_nanos();
        let steps = late.checked_div(self.share_step().as_nanos()).unwrap_or(u128::MAX);
        let missing = Entry::FULL_SHARE.saturating_sub(share);
        let steps = u8::try_from(steps).unwrap_or(u8::MAX).saturating_add(1).min(missing);
        let began = deadline + self.share_step() * u32::from(steps.saturating_sub(1));
        self.set_share(id, share + steps, began);
        self.updated(id);
    }

    /// How long it takes for a share to grow by one.
    fn share_step(&self) -> Duration {
        self.slow_start / u32::from(Entry::FULL_SHARE - 1)
    }

    /// Sets a share, and when it grows next unless it is whole.
    fn set_share(&mut self, id: BackendId, share: u8, now: Instant) {
        let grows_at = (share < Entry::FULL_SHARE).then_some(now + self.share_step());
        let Some(aside) = self.backends.aside_mut(id) else { return };
        if let Some(earlier) = core::mem::replace(&mut aside.grows_at, grows_at) {
            self.timers.remove(&(earlier, id, Timer::Grow));
        }
        self.backends.set_share(id, share);
        if let Some(at) = grows_at {
            self.arm(at, id, Timer::Grow);
        }
    }
}
