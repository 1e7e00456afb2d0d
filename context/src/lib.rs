//! Contexts that are billed.

#[allow(dead_code, unused_imports, reason = "the floors above are being built")]
mod clock;

pub use clock::{Clock, Rung};
