//! What happens around fork(2).
//!
//! A forked child has one thread, the one that forked. Its clocks are another process's, and a mark may point at a page that
//! the child does not have. So before a fork the mark of the thread that forks is taken away; the parent gets it back, and the
//! child's thread reads no clock of ours any more.

#![allow(unsafe_code)]

use std::sync::OnceLock;

/// Called on the thread that forks. None may allocate, lock or panic: the other threads are gone in the child, with whatever
/// they held.
#[derive(Clone, Copy)]
pub(crate) struct Handlers {
    /// Before the fork.
    pub(crate) prepare: fn(),
    /// After it, in the parent.
    pub(crate) parent: fn(),
    /// After it, in the child.
    pub(crate) child: fn(),
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// What other crates do in the child. Four are enough: there is one executor, as a rule.
static IN_CHILD: [OnceLock<fn()>; 4] = [const { OnceLock::new() }; 4];

unsafe extern "C" {
    // POSIX. Absent from the libc crate on Linux.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> libc::c_int;
}

/// Has the handlers called at every fork from here on; the first ones that are given, once a process. False if the system
/// refuses. A child made by a bare clone(2) passes them by.
pub(crate) fn watch(handlers: Handlers) -> bool {
    static WATCHED: OnceLock<bool> = OnceLock::new();
    *WATCHED.get_or_init(|| {
        HANDLERS.get_or_init(|| handlers);
        // SAFETY: the handlers do only what is allowed in a forked child, by the contract of `Handlers`.
        let result = unsafe { pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        result == 0
    })
}

/// Has `f` called in a child, on its thread, under the contract of [`Handlers`]. Twice the same is once.
pub(crate) fn in_child(f: fn()) {
    let known = |there: &OnceLock<fn()>| std::ptr::fn_addr_eq(*there.get_or_init(|| f), f);
    let has_room = IN_CHILD.iter().any(known);
    debug_assert!(has_room, "more executors than there are places for");
}

/// This thread was found to be one of a child which no handler was called in.
pub(super) fn found_child() {
    // SAFETY: it has no contract but that of a signal handler, which any code keeps.
    unsafe { child() };
}

unsafe extern "C" fn prepare() {
    if let Some(handlers) = HANDLERS.get() {
        (handlers.prepare)();
    }
}

unsafe extern "C" fn parent() {
    if let Some(handlers) = HANDLERS.get() {
        (handlers.parent)();
    }
}

unsafe extern "C" fn child() {
    if let Some(handlers) = HANDLERS.get() {
        (handlers.child)();
    }
    IN_CHILD.iter().filter_map(OnceLock::get).for_each(|f| f());
}
