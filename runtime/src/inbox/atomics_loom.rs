//! The atomics of the protocol as loom knows them: it tries every order in which the threads of a model may run, and
//! every value that a load may see.

/// As few as the models need: loom keeps account of each atomic.
pub(super) const FIRST_BLOCK: u32 = 2;

pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use loom::sync::Mutex;
use loom::sync::atomic::AtomicBool;

/// A `OnceLock` whose order of memory loom sees: whoever finds the value has acquired what was done before it was set, and
/// whoever wants to set it waits for the one who does.
pub(super) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
    setting: Mutex<()>,
}

impl<T> OnceLock<T> {
    pub(super) fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), is_set: AtomicBool::new(false), setting: Mutex::new(()) }
    }

    pub(super) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(super) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        if self.get().is_none() {
            let _setting = self.setting.lock().expect("no thread panics under it");
            self.value.get_or_init(init);
            self.is_set.store(true, Ordering::Release);
        }
        self.value.get().expect("it was set above")
    }
}
