//! CPU budgets: what was spent of each, counted as it is charged.
//!
//! A context with a budget has one of these, and everything below it refers to the nearest; so a charge walks the chain of
//! budgets above and nothing else, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

#[derive(Debug)]
pub(crate) struct Budget {
    /// ns of CPU, of the context and everything below it.
    limit: u64,
    spent: AtomicU64,
    /// Its context was cancelled for it.
    is_told: AtomicBool,
    /// The next one above.
    above: Option<Arc<Budget>>,
}

impl Budget {
    pub(crate) fn new(limit: u64, above: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { limit, spent: AtomicU64::new(0), is_told: AtomicBool::new(false), above })
    }

    /// CPU was charged to its context, or to one below. From any thread.
    pub(crate) fn spend(&self, ns: u64) {
        for budget in self.upwards() {
            let add = |spent: u64| Some(spent.saturating_add(ns));
            // Cannot fail: there always is a sum.
            let _ = budget.spent.fetch_update(Relaxed, Relaxed, add);
        }
    }

    /// Those that are spent and whose context is to be cancelled for it: each once.
    pub(crate) fn newly_spent(&self) -> impl Iterator<Item = &Self> {
        self.upwards().filter(|budget| {
            let is_spent = budget.spent.load(Relaxed) >= budget.limit;
            is_spent && !budget.is_told.load(Relaxed) && !budget.is_told.swap(true, Relaxed)
        })
    }

    fn upwards(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |budget| budget.above.as_deref())
    }
}
