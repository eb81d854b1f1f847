//! The messages of IPVS: those that were recorded, every value there and back, and whatever bytes.

mod errors;
mod exchange;
mod recordings;
mod there_and_back;
mod values;
