//! Which runtime runs on this thread. **Fenced**, for one pointer; and the crate's only thread-local.
//!
//! The thread-local is initialised by a constant and has no destructor. So looking costs one plain load, and works at any
//! time in a thread's life, during the destruction of its other thread-locals too (where it says "none").

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use crate::inbox::Remote;
use crate::task::table::Table;

/// The mechanisms of one runtime.
pub(crate) struct Core {
    /// Its index in the process.
    pub(crate) index: u16,
    pub(crate) tasks: Table,
    pub(crate) remote: Arc<Remote>,
}

thread_local! {
    /// The runtime whose loop is on this thread's stack; null = none.
    static HERE: Cell<*const Core> = const { Cell::new(ptr::null()) };
}

/// Makes `core` this thread's runtime during `f`, and what was before again afterwards, also on unwind.
pub(crate) fn set<R>(core: &Core, f: impl FnOnce() -> R) -> R {
    struct Reset(*const Core);
    impl Drop for Reset {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }
    let _reset = Reset(HERE.replace(core));
    f()
}

/// Lets `f` look at this thread's runtime.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(Option<&Core>) -> R) -> R {
    let core = HERE.get();
    // SAFETY: null, or put there by a `set` on this thread, which holds the borrow of the core until it has taken the pointer away
    // again. Its frame is below ours, so that is after `f`, and `f` cannot keep the reference.
    f(unsafe { core.as_ref() })
}
