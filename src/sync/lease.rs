//! [`Lease`]: a connection that releases itself.

use alloc::sync::Arc;
use core::net::SocketAddr;
use core::{fmt, mem};

use super::Handle;
use super::seat::Ticket;
use crate::backend::BackendId;
use crate::sched::{AnyScheduler, Scheduler};

/// A connection that a pick counted. Dropping it releases it.
///
/// It keeps the balancer alive, not the backend: if that is removed, the lease goes on until it is dropped. Its calls do not wait
/// for picks, and do not fail.
#[must_use = "the connection is released when the lease is dropped"]
pub struct Lease<S: Scheduler = AnyScheduler> {
    handle: Arc<Handle<S>>,
    ticket: Ticket,
    stage: Stage,
}

/// Stages follow each other and none comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    New,
    Established,
    Closing,
}

impl<S: Scheduler> Lease<S> {
    pub(super) const fn new(handle: Arc<Handle<S>>, ticket: Ticket, active: bool) -> Self {
        let stage = if active { Stage::Established } else { Stage::New };
        Self { handle, ticket, stage }
    }

    /// The backend's address.
    pub const fn addr(&self) -> SocketAddr {
        self.ticket.addr
    }

    /// The backend's handle, for `tried` in [`SharedBalancer::pick_except`](super::SharedBalancer::pick_except) and for
    /// [`SharedBalancer::suspend`](super::SharedBalancer::suspend).
    pub const fn backend(&self) -> BackendId {
        self.ticket.backend
    }

    /// The connection is there (TCP: the handshake is done): it counts as active. Only the first call does something, and only
    /// before [`closing`](Self::closing). UDP has no such state, and needs no call.
    ///
    /// `DIFFERENCE`: the kernel, between client and server, counts it from the SYN on. A proxy that wants this calls it after the
    /// pick.
    pub fn established(&mut self) {
        if self.stage < Stage::Established {
            self.stage = Stage::Established;
            self.handle.count(&self.ticket, 1, -1);
        }
    }

    /// One side has closed or reset the connection: it counts as inactive until it is dropped. Only the first call does something.
    pub fn closing(&mut self) {
        let before = mem::replace(&mut self.stage, Stage::Closing);
        if before == Stage::Established {
            self.handle.count(&self.ticket, -1, 1);
        }
    }
}

impl<S: Scheduler> Drop for Lease<S> {
    #[inline]
    fn drop(&mut self) {
        let (active, inactive) = match self.stage {
            Stage::Established => (-1, 0),
            Stage::New | Stage::Closing => (0, -1),
        };
        self.handle.count(&self.ticket, active, inactive);
    }
}

impl<S: Scheduler> fmt::Debug for Lease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("addr", &self.addr())
            .field("backend", &self.backend())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
