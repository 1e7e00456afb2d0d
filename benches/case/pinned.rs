//! A thread that stays on its processor: what is measured between two must not be how the kernel places them.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Lets the calling thread go back to where it might run before when it is dropped.
pub(super) struct Pinned {
    before: Option<CpuSet>,
}

impl Pinned {
    /// Keeps the calling thread on the `nth` of the processors that the process may use; where it is, if there are not so
    /// many.
    pub(super) fn to(nth: usize) -> Self {
        let Ok(before) = sched_getaffinity(None) else { return Self { before: None } };
        let Some(processor) = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu)).nth(nth) else {
            return Self { before: None };
        };
        let mut only = CpuSet::new();
        only.set(processor);
        let pinned = sched_setaffinity(None, &only).is_ok();
        Self { before: pinned.then_some(before) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = sched_setaffinity(None, before);
        }
    }
}
