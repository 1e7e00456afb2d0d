//! A runtime that bills.

pub use bursar_macros::{main, test};
