//! Twin of `charge` for the bench `accounting` and nothing else: nothing is charged, and nothing switched. The first
//! context that is polled on a thread stays current there, for what is spawned must be somebody's.

use super::share::LOOP;
use super::{Place, Share, Slot};
use crate::node::Node;

#[inline(always)]
pub(super) fn resume(slot: &Slot, share: &Share, _: &Node, place: Place, _: u64) {
    if slot.current.get().addr() <= LOOP.addr() {
        stay(slot, share);
    }
    slot.begin_visit(place);
}

/// For ever: a share of it is leaked.
#[cold]
fn stay(slot: &Slot, share: &Share) {
    std::mem::forget(share.clone());
    slot.current.set(share.node);
}

/// Gives back what it was given, so that who owned it still does.
#[inline(always)]
pub(super) fn swap(_: &Slot, next: *const Node) -> *const Node {
    next
}

#[inline(always)]
pub(super) fn count(_: &Slot, _: &Node) {}

#[inline]
pub(crate) fn stamp() -> u64 {
    0
}
