//! A forked child: the thread that forked is not measured there any more, and what needs that fails.

use super::{SLOT, Slot};
use crate::clock::{self, ForkHandlers};

/// False if the system refuses: then no clock is used that needs it.
pub(super) fn watch_forks() -> bool {
    clock::watch_forks(ForkHandlers {
        prepare: || SLOT.with(|slot| slot.clock.before_fork()),
        parent: || SLOT.with(|slot| slot.clock.after_fork()),
        child: || SLOT.with(Slot::abandon),
    })
}

/// Whether this thread is that of a forked child, and was measured before the fork.
#[inline]
pub(crate) fn has_forked() -> bool {
    SLOT.with(|slot| slot.clock.is_abandoned())
}

/// For what a forked child cannot do.
#[inline]
#[track_caller]
pub(crate) fn check_process() {
    if has_forked() {
        panic!("{FORKED}");
    }
}

pub(crate) const FORKED: &str = "bursar: the process has forked, and contexts and runtimes from before do not work in the \
     child: call exec, or start a runtime of its own on a new thread";

impl Slot {
    /// This is the thread of a forked child: from here on nothing is charged on it, as when a thread is being destroyed.
    fn abandon(&self) {
        self.clock.abandon();
        self.has_books.set(false);
    }
}
