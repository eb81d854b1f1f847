//! Feeds a [`Catalog`](svcplane::catalog::Catalog) from a Kubernetes API server.
//!
//! [`inputs`] watches Services, EndpointSlices and one node. [`run`] takes what they say, as much as is there at once, and hands on what
//! has changed; while that is being carried out, what changes is merged. The decisions are in [`Feed`], which does no I/O.

mod feed;
mod run;
mod source;
mod stored;

pub use feed::{Feed, Input, Notice};
pub use run::{inputs, merged, run};
pub use source::{Heard, Interruption, watch};
pub use stored::{Mirror, Stored};
