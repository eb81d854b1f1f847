#![doc = include_str!("../README.md")]

pub mod demo;
mod discovery;
mod proxy;
mod selection;

pub use discovery::Listed;
pub use proxy::Proxy;
pub use selection::{Candidates, Held, Selection, Shared, key};
