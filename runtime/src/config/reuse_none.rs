//! Twin of `reuse` under `--cfg bursar_no_reuse`: the memory of a task goes back to the allocator when the task has gone,
//! so that AddressSanitizer sees a use of it afterwards, which would read the living memory of another task else.

/// None.
pub(crate) const TASK_KEPT_MAX: usize = 0;
