//! A [`SharedBalancer`](svcplane::sync::SharedBalancer) where proxies and clients have their connections. Each module is short, meant to be
//! copied and changed, and tested against real sockets:
//!
//! | module | for | what is picked | the lease lasts |
//! | --- | --- | --- | --- |
//! | [`tcp`] | a proxy on plain tokio | a backend for each connection of a client | until the copying ends, or its task |
//! | [`layer`] | a service of requests on tower | a backend for each request | until the response's body has ended, or was dropped |
//! | [`connector`] | a client on hyper | a backend for each connection to the virtual address | as long as the pool has the connection |
//!
//! In all of them a lease is a value in the future or the connection that it counts, so that nothing else has to be done when that is
//! cancelled, aborted, or fails: what is dropped is released.
//!
//! The balancer's backends are kept up to date elsewhere, by `set_backends` as endpoints change; leases on those that go live on. What
//! shares a balancer shares a [`Clock`] too.
//!
//! ```sh
//! cargo test --manifest-path examples/adapters/Cargo.toml
//! ```

pub mod connector;
pub mod layer;
pub mod tcp;

#[cfg(test)]
mod testing;

/// Where time comes from: a balancer has no clock, and all the instants given to one have to share an epoch.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: std::time::Instant,
}

impl Clock {
    /// A clock whose epoch is now. Copies share it.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch: std::time::Instant::now() }
    }

    /// The time since the epoch.
    #[must_use]
    pub fn now(self) -> svcplane::time::Instant {
        self.epoch.elapsed().into()
    }
}
