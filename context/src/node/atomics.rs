//! The atomics of `handles` and `life`. Twin: `models/atomics.rs`, where loom looks.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
