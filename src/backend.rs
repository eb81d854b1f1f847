//! What a picker of backends needs to know: the backends, the ids that outlive changes, the flow.
//!
//! ```
//! use svcplane::backend::{Backend, Flow};
//!
//! let backend = Backend::new("10.0.0.1:8080".parse()?);
//! assert_eq!(backend.weight, 1);
//!
//! let flow = Flow::new("192.0.2.7:40000".parse()?, "10.96.0.10:80".parse()?);
//! assert_eq!(flow.client.port(), 40_000);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! All of them are plain values of a few words, to be copied.

use core::net::SocketAddr;

/// A server that connections can go to. Its address and port are its identity within a balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Backend {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its share, 0 to 2³¹−1 (a balancer takes more as that much), for the algorithms that heed weights. 0 means "nothing new" in
    /// every algorithm: open connections go on, no pick yields it. Defaults to 1.
    pub weight: u32,
    /// From so many connections on it is overloaded and gets nothing new; 0 is no limit. Defaults to 0.
    pub upper_threshold: u32,
    /// It is overloaded until it has fewer connections than this; 0 is three quarters of the upper threshold. A balancer takes a
    /// greater one than the upper threshold as that. Defaults to 0.
    pub lower_threshold: u32,
}

impl Backend {
    /// A backend of weight 1.
    pub const fn new(addr: SocketAddr) -> Self {
        Self { addr, weight: 1, upper_threshold: 0, lower_threshold: 0 }
    }

    /// The same backend with another weight.
    #[must_use]
    pub const fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// The same backend with [thresholds](Self::upper_threshold).
    #[must_use]
    pub const fn with_thresholds(self, lower_threshold: u32, upper_threshold: u32) -> Self {
        Self { upper_threshold, lower_threshold, ..self }
    }
}

impl From<SocketAddr> for Backend {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr)
    }
}

/// What becomes of one backend. [`Balancer::change`](crate::balancer::Balancer::change) carries it out.
#[expect(clippy::exhaustive_enums, reason = "there is nothing else that can happen to one")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendChange {
    /// It goes; its connections stay counted.
    Remove(SocketAddr),
    /// It comes, or what there is of its address gets this weight and these thresholds in its place.
    Set(Backend),
}

/// A handle on a backend of one balancer, good until the backend is removed, its connections are over
/// and its grace time has passed. After that it is an error value, never another backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// The two ends of a new connection (or a UDP exchange) as the client sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Flow {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The virtual address and port that the client called.
    pub destination: SocketAddr,
}

impl Flow {
    /// A flow from a client to a virtual address.
    pub const fn new(client: SocketAddr, destination: SocketAddr) -> Self {
        Self { client, destination }
    }
}
