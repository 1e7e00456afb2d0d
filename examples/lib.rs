//! What the examples are made of. Run them from the root: `cargo run --release --example service`.

pub mod service;
