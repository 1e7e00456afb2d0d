//! What accounting adds to a poll: the switch to the task's context, the slice that it ends, the count, the stamp of the
//! wake. The work is done in `switch`; this is the seam at which benches measure what it costs, in builds of their own
//! (`benches/targets/accounting.rs`): the twins of this module leave it out. No feature does that, since features of
//! all crates in a program are united, and what one of them takes away is gone for all.

use super::{Place, SLOT, Share, Slot};
use crate::node::Node;

/// Puts `share`, which is `node`'s, in place for one poll.
#[inline(always)]
pub(super) fn resume(slot: &Slot, share: &Share, node: &Node, place: Place, woken: u64) {
    slot.resume(share, node, place, woken);
}

/// Makes `next`, which the slot holds from here on, current. Returns what it held.
#[inline(always)]
pub(super) fn swap(slot: &Slot, next: *const Node) -> *const Node {
    slot.swap(next)
}

/// Counts a poll of this thread's own `node`.
#[inline(always)]
pub(super) fn count(slot: &Slot, node: &Node) {
    slot.count_own_poll(node);
}

/// When a task is woken, in wall ticks.
#[inline]
pub(crate) fn stamp() -> u64 {
    SLOT.with(|slot| slot.clock.wall())
}
