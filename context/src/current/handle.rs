//! The drop of a handle: the one thing about handles that depends on the thread. Fenced, for it says which thread this is.
#![allow(unsafe_code)]

use super::{SLOT, Slot};
use crate::node::{Context, Here, retire};

/// Whose books are open here.
#[inline]
pub(super) fn here(slot: &Slot) -> Here {
    // SAFETY: a slot's number is that of the ledger which its thread opened; other threads cannot reach the slot.
    unsafe { Here::new(slot.id.get()) }
}

impl Drop for Context {
    #[inline]
    fn drop(&mut self) {
        if self.give_up() {
            retire(self, SLOT.with(here));
        }
    }
}
