//! Chapters to read: how the crate is [built](design), what it [follows](fidelity) and how that is proved, and
//! [recipes](cookbook) to paste.
//!
//! There are no items here.

// The root has this module only for rustdoc, which reads it for the documentation (`doc`) and for the examples (`doctest`): a
// program that depends on the crate compiles nothing of it, and no editor offers it empty modules. docs.rs is rustdoc, and so
// is `cargo test --doc`.

// Chapters name items of all features. Without one of them a link is plain text, and no warning.
#![cfg_attr(
    not(all(feature = "kernel", feature = "serde", feature = "sync", target_os = "linux")),
    allow(rustdoc::broken_intra_doc_links)
)]

pub mod cookbook {
    #![doc = include_str!("guide/cookbook.md")]
}

pub mod design {
    #![doc = include_str!("guide/design.md")]
}

pub mod fidelity {
    #![doc = include_str!("guide/fidelity.md")]
}
