//! How much of the memory of tasks is used again. The twin `reuse_none` is for AddressSanitizer.

/// Memory of tasks up to this size is kept for the next ones; what is larger goes back to the allocator.
pub(crate) const TASK_KEPT_MAX: usize = 4096;
