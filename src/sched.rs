//! Algorithms that choose a backend, and the list that they choose from.
//!
//! Most programs name an [`Algorithm`] and leave the rest to [`Balancer`](crate::balancer::Balancer):
//!
//! ```
//! use svcplane::backend::Flow;
//! use svcplane::balancer::Balancer;
//! use svcplane::sched::{Algorithm, Flags};
//! use svcplane::time::Instant;
//!
//! let kernel = Flags { head: true, ..Flags::default() };
//! let mut balancer = Balancer::with_flags("rr".parse::<Algorithm>()?, kernel, 0);
//! for addr in ["10.0.0.1:80", "10.0.0.2:80"] {
//!     balancer.add(addr.parse::<std::net::SocketAddr>()?.into(), Instant::ZERO);
//! }
//! let flow = Flow::new("192.0.2.7:40000".parse()?, "10.96.0.10:80".parse()?);
//! // As the kernel does: the last one added is walked first.
//! assert_eq!(balancer.pick(&flow, Instant::ZERO).unwrap().addr().to_string(), "10.0.0.2:80");
//! assert_eq!(balancer.pick(&flow, Instant::ZERO).unwrap().addr().to_string(), "10.0.0.1:80");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Programs with an algorithm of their own implement [`Scheduler`] and call
//! [`Balancer::with_scheduler`](crate::balancer::Balancer::with_scheduler). A scheduler is told of every
//! change, so that it can keep whatever structure makes its pick cheap; no pick has to scan.
//!
//! Source: Linux IPVS, 6.1. New backends go to the *head* of the list, and every algorithm walks from head
//! to tail. Where the kernel would begin at the head, a seed chooses the place by default, and which of equals comes first: many
//! instances that are all told the same would all send their first clients to the same backend else. [`Flags::head`] asks for what
//! the kernel does.
//!
//! | algorithm | picks | found by |
//! | --- | --- | --- |
//! | [`rr`](RoundRobin) | in turn | bitset of usable places, 64-ary |
//! | [`wrr`](WeightedRoundRobin) | in turn, by weight | tree of the greatest weights |
//! | [`lc`](LeastConnection), [`wlc`](WeightedLeastConnection), [`sed`](ShortestExpectedDelay) | the least loaded | winner tree, 16-ary |
//! | [`nq`](NeverQueue) | an idle one, else as `sed` | bitset of idle places, and the tree |
//! | [`sh`](SourceHashing), [`dh`](DestinationHashing), [`mh`](MaglevHashing) | by an address | table of slots |
//! | [`random`](Random), [`wrandom`](WeightedRandom), [`p2c`](PowerOfTwoChoices) | by lot | places side by side, by class of weight |
//!
//! None of them scans; the costs do not grow with the number of backends but for a level more of a tree or bitset, and for
//! what no longer fits a cache.

mod dh;
mod hash;
mod lc;
mod list;
mod lots;
mod mh;
mod nq;
mod p2c;
mod random;
mod rr;
mod sed;
mod sh;
mod tree;
mod wlc;
mod wrandom;
mod wrr;

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

pub use dh::DestinationHashing;
pub use lc::LeastConnection;
pub use list::{Backends, Entry, Place};
pub use mh::MaglevHashing;
pub use nq::NeverQueue;
pub use p2c::PowerOfTwoChoices;
pub use random::Random;
pub use rr::RoundRobin;
pub use sed::ShortestExpectedDelay;
pub use sh::SourceHashing;
pub use wlc::WeightedLeastConnection;
pub use wrandom::WeightedRandom;
pub use wrr::WeightedRoundRobin;

use lots::{Lots, Start};

use crate::backend::Flow;

/// An algorithm that chooses the backend of a new connection.
///
/// A scheduler is created with no backends, hears of each change *after* it was made to the list, and
/// answers picks from what it keeps. It never counts: the balancer does, and says so by
/// [`Change::Counted`].
pub trait Scheduler: fmt::Debug {
    /// The list has changed. A kind of change that the scheduler does not know is best treated as
    /// [`Change::Renumbered`].
    fn changed(&mut self, backends: &Backends, change: Change);

    /// The place of the backend for a new connection, which has to be [usable](Entry::usable); `None` if
    /// there is none. Not scanning the list here is what the changes are told for.
    fn pick(&mut self, backends: &Backends, flow: &Flow) -> Option<Place>;

    /// A scheduler that picks as this one would from now on, for one more thread with a copy of this list. It hears of no change:
    /// after one, this one is asked for another. `None`, the default, if picks depend on connection counts, which then have to be
    /// in one place.
    ///
    /// What it leaves to chance should be seeded from this one's draws, so that no two draw the same.
    fn another(&mut self, backends: &Backends) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = backends;
        None
    }
}

/// What happened to the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A backend came to the head of the list.
    Added(Place),
    /// A backend's weight was set, perhaps to what it was; it keeps its place.
    Edited(Place),
    /// A backend has left; its place stays empty.
    Removed(Place),
    /// A backend's connection counts changed, and nothing else of it.
    Counted(Place),
    /// A backend became usable or unusable for a reason other than an edit, or its share changed. Its counts may have changed, too.
    Updated(Place),
    /// Every place may be another now; the order is the same. State about places has to be built again. It happens
    /// before a backend is added, of which the next change tells.
    Renumbered,
}

/// What the algorithms can be told.
#[expect(
    clippy::exhaustive_structs,
    reason = "the kernel has the first two, and the last is to be as the kernel"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flags {
    /// `sh-port`, `mh-port`: the client's port counts as well as its address. Defaults to false.
    pub port: bool,
    /// `sh-fallback`, `mh-fallback`: where the chosen backend is not usable, another is looked for; the kernel would refuse the
    /// client without. Defaults to true.
    ///
    /// `DIFFERENCE`: the kernel's default is false, and its `dh` has no such flag.
    pub fallback: bool,
    /// Walks begin at the head of the list, and of equally loaded backends the one nearest to it comes first. Defaults to false:
    /// the seed says where, and which. The hashing algorithms do not heed it, as all instances are to choose alike.
    ///
    /// `DIFFERENCE`: the kernel always begins at the head.
    pub head: bool,
}

impl Flags {
    /// A kernel's defaults.
    pub const KERNEL: Self = Self { port: false, fallback: false, head: true };
}

impl Default for Flags {
    fn default() -> Self {
        Self { port: false, fallback: true, head: false }
    }
}

macro_rules! algorithms {
    ($( $(#[$doc:meta])* $name:ident $scheduler:ident $kernel:literal $new:expr; )*) => {
        /// The algorithms of this crate, by the names that the kernel and `ipvsadm` use; `random`, `wrandom` and `p2c` are
        /// not the kernel's.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Algorithm {
            $( $(#[$doc])* $name, )*
        }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$name => $kernel, )*
                }
            }
        }

        /// Any of this crate's schedulers: what [`Algorithm`] names.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum AnyScheduler {
            $(
                #[doc = concat!("`", $kernel, "`")]
                $name($scheduler),
            )*
        }

        impl AnyScheduler {
            /// A scheduler that has heard of no backend yet. What is left to chance follows from the seed.
            pub fn new(algorithm: Algorithm, flags: Flags, seed: u64) -> Self {
                match algorithm {
                    $( Algorithm::$name => Self::$name($new(flags, seed)), )*
                }
            }

            /// Which one it is.
            pub const fn algorithm(&self) -> Algorithm {
                match self {
                    $( Self::$name(_) => Algorithm::$name, )*
                }
            }
        }

        impl Scheduler for AnyScheduler {
            #[inline]
            fn changed(&mut self, backends: &Backends, change: Change) {
                match self {
                    $( Self::$name(scheduler) => scheduler.changed(backends, change), )*
                }
            }

            #[inline]
            fn pick(&mut self, backends: &Backends, flow: &Flow) -> Option<Place> {
                match self {
                    $( Self::$name(scheduler) => scheduler.pick(backends, flow), )*
                }
            }

            fn another(&mut self, backends: &Backends) -> Option<Self> {
                match self {
                    $( Self::$name(scheduler) => scheduler.another(backends).map(Self::$name), )*
                }
            }
        }
    };
}

algorithms! {
    /// `rr`: each usable backend in turn, whatever its weight.
    #[default]
    RoundRobin RoundRobin "rr" RoundRobin::new;
    /// `wrr`: in turn, each as often as its weight says.
    WeightedRoundRobin WeightedRoundRobin "wrr" WeightedRoundRobin::new;
    /// `lc`: the fewest connections.
    LeastConnection LeastConnection "lc" LeastConnection::new;
    /// `wlc`: the fewest connections per weight.
    WeightedLeastConnection WeightedLeastConnection "wlc" WeightedLeastConnection::new;
    /// `sh`: by the client's address.
    SourceHashing SourceHashing "sh" |flags, _| SourceHashing::new(flags);
    /// `dh`: by the virtual address.
    DestinationHashing DestinationHashing "dh" |flags, _| DestinationHashing::new(flags);
    /// `mh`: by the client's address; little moves when backends change.
    MaglevHashing MaglevHashing "mh" |flags, _| MaglevHashing::new(flags);
    /// `sed`: the fewest active connections per weight, the new one included.
    ShortestExpectedDelay ShortestExpectedDelay "sed" ShortestExpectedDelay::new;
    /// `nq`: an idle backend; if there is none, as `sed`.
    NeverQueue NeverQueue "nq" NeverQueue::new;
    /// `random`: any one, each as probable as the others.
    Random Random "random" |_, seed| Random::new(seed);
    /// `wrandom`: any one, each as probable as its weight says.
    WeightedRandom WeightedRandom "wrandom" |_, seed| WeightedRandom::new(seed);
    /// `p2c`: the one with the fewer connections per weight of two that are drawn by weight.
    PowerOfTwoChoices PowerOfTwoChoices "p2c" |_, seed| PowerOfTwoChoices::new(seed);
}

impl AnyScheduler {
    /// Changes what the hashing algorithms look at; their tables do not depend on it.
    pub(crate) const fn set_flags(&mut self, flags: Flags) {
        match self {
            Self::SourceHashing(sh) => sh.flags = flags,
            Self::DestinationHashing(dh) => dh.flags = flags,
            Self::MaglevHashing(mh) => mh.flags = flags,
            _ => {}
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No algorithm of this crate has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "unknown scheduling algorithm: expected rr, wrr, lc, wlc, sh, dh, mh, sed, nq, random, wrandom or p2c"
)]
#[non_exhaustive]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.iter().copied().find(|a| a.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

/// The greatest common divisor; that of 0 and a number is the number.
const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
