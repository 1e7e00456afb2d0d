//! The calling thread's slot, for long functions. Fenced, for it says which thread this is.
//!
//! Of a large closure for `SLOT.with` the compiler makes a function of its own, and hands over what it captures through
//! memory: 80 instructions of a frame.
#![allow(unsafe_code)]

use super::{SLOT, Slot};
use std::ops::Deref;

/// This thread's slot.
#[inline(always)]
pub(super) fn here() -> Here {
    Here(SLOT.with(std::ptr::from_ref))
}

/// A borrow of the slot that cannot leave its thread: not `Send`.
pub(super) struct Here(*const Slot);

impl Deref for Here {
    type Target = Slot;

    #[inline(always)]
    fn deref(&self) -> &Slot {
        // SAFETY: it has no destructor, so it is there as long as its thread is, and this is that thread.
        unsafe { &*self.0 }
    }
}
