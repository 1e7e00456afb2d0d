//! The atomics of the protocol between wakers and the loop. The twin `atomics_loom.rs` takes their place where the models
//! are checked.

/// The cells of the first block; each further block has as many as all before it.
pub(super) const FIRST_BLOCK: u32 = 64;

pub(super) use std::sync::OnceLock;
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
