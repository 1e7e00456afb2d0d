//! A fence for two threads of which one is in a hurry: the other pays for both.
//!
//! Two threads that each write one word and then read the other's must not both read the old value. That takes a full
//! fence on each side, 20 cycles and more; `membarrier` makes the kernel put one into every running thread of the process
//! instead (half a microsecond, and an interrupt for each), so the hurried side needs to keep the compiler in order only.

#[cfg(target_os = "linux")]
mod membarrier;
#[cfg(not(target_os = "linux"))]
#[path = "absent.rs"]
mod membarrier;

pub(crate) use membarrier::{heavy, is_available, light};
