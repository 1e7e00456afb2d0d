//! What depends on the thread in the life of a handle: its drop. Fenced, for it says which thread this is.
#![allow(unsafe_code)]

use super::{SLOT, Slot};
use crate::node::{Context, Here, retire};
use std::ops::Deref;

/// Whose books are open here.
#[inline]
pub(super) fn here(slot: &Slot) -> Here {
    // SAFETY: a slot's number is that of the ledger which its thread opened; other threads cannot reach the slot.
    unsafe { Here::new(slot.id.get()) }
}

/// The calling thread's slot, for long functions: of a large closure for `SLOT.with` the compiler makes a function of its
/// own, and hands over what it captures through memory.
#[inline(always)]
pub(super) fn slot() -> SlotRef {
    SlotRef(SLOT.with(std::ptr::from_ref))
}

/// A borrow of the slot that cannot leave its thread: not `Send`.
pub(super) struct SlotRef(*const Slot);

impl Deref for SlotRef {
    type Target = Slot;

    #[inline(always)]
    fn deref(&self) -> &Slot {
        // SAFETY: it has no destructor, so it is there as long as its thread is, and this is that thread.
        unsafe { &*self.0 }
    }
}

impl Drop for Context {
    #[inline]
    fn drop(&mut self) {
        if self.give_up() {
            retire(self, here(&slot()));
        }
    }
}
