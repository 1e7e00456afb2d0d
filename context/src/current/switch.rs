//! The switch: the only place where slices of CPU are charged. Fenced.
//!
//! Slices chain: the end of one is the start of the next, so nothing falls between. The switch costs one reading of
//! the clock; none when the next poll is for the same context as the last.
#![allow(unsafe_code)]

use super::Slot;
use super::share::{LOOP, NOBODY, Share, address_of};
use crate::clock::{self, Rung, Stamp};
use crate::journal as sentinel;
use crate::node::Node;
use crate::node::ledger::Ledger;
use crate::report::ReportKind;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Slot {
    /// Charges the slice that ends at `now`, and begins the next.
    #[inline]
    pub(super) fn settle(&self, now: Stamp) {
        let last = self.last.replace(now);
        let Some(ledger) = self.ledger.get() else { return };
        let ns = now.cpu.wrapping_sub(last.cpu) as i64;
        if ns < 0 || now.broken {
            self.settle_unusual(ledger, ns, last.wall);
        } else {
            self.charge(ledger, ns as u64, last.wall);
        }
    }

    /// The thread left the CPU in this slice, or the clock's extrapolation was a little ahead of the kernel's.
    #[cold]
    fn settle_unusual(&self, ledger: &Ledger, ns: i64, began: u64) {
        let cpu = u64::try_from(ns).unwrap_or(0);
        if ns < 0 {
            ledger.negative.add(ns.unsigned_abs());
        }
        let wall = self.last.get().wall.saturating_sub(began);
        let off = self.ticks_to_ns(wall).saturating_sub(cpu);
        match self.current_node() {
            Some(node) if node.gate.load(Relaxed) == self.id.get() => node.local.blocked.add(off),
            Some(node) => node.shared.blocked.add_shared(off),
            None if self.current.get() == LOOP => ledger.parked.add(off),
            None => ledger.sentinel.blocked.add(off),
        }
        self.charge(ledger, cpu, began);
    }

    #[inline]
    fn charge(&self, ledger: &Ledger, ns: u64, began: u64) {
        match self.current_node() {
            Some(node) if node.gate.load(Relaxed) == self.id.get() => node.local.cpu.add(ns),
            Some(node) => self.charge_cold(ledger, node, ns, began),
            None if self.current.get() == LOOP => ledger.runtime.add(ns),
            None => ledger.sentinel.cpu.add(ns),
        }
    }

    /// Another thread's context, or a finished one.
    ///
    /// The slice in which a context finishes has a tail: the way back from `finish` to the loop. It is charged as late
    /// like any other, but not reported: nobody did anything wrong.
    #[cold]
    fn charge_cold(&self, ledger: &Ledger, node: &Node, ns: u64, began: u64) {
        let Some(finished) = node.control.finished_at() else {
            node.shared.cpu.add_shared(ns);
            ledger.foreign.add(ns);
            return;
        };
        node.shared.late_cpu.add_shared(ns);
        ledger.late.add(ns);
        if ns == 0 || began <= finished {
            return;
        }
        let age = self.ticks_to_ns(self.last.get().wall.saturating_sub(finished));
        let place = self.place.get().unwrap_or(node.birth.place);
        let detail = format!(
            "finished {:?} ago, work that began at {place} still charges it",
            Duration::from_nanos(age)
        );
        sentinel::report(ReportKind::LateWork, &node.name(), place, &detail);
    }

    /// Makes `next`, a share that the slot now owns, current. Returns the share it was.
    #[inline]
    pub(super) fn switch_to(&self, next: *const Node) -> *const Node {
        if !self.ready() {
            return self.current.replace(next);
        }
        let now = self.clock.now();
        self.settle(now);
        if let Some(node) = self.current_node() {
            node.last_out.set(now.wall);
        }
        let before = self.current.replace(next);
        if let Some(ledger) = self.ledger.get() {
            ledger.running.publish(self.current_node().map_or(0, |node| node.birth.id), now.cpu);
        }
        before
    }

    /// Puts `share` in place, if it is not. Whether it was not.
    #[inline]
    pub(super) fn put(&self, share: &Share) -> bool {
        let switches = self.current.get() != share.node;
        if switches {
            let before = self.switch_to(share.clone().into_raw());
            drop(Share::from_raw(before));
        }
        switches
    }

    /// Puts `share` in place for one poll, and measures the time its task waited for the thread.
    #[inline]
    pub(super) fn resume(&self, share: &Share, woken: u64) {
        let switched = self.put(share);
        let since = match woken {
            0 if switched => share.node().map_or(0, |node| node.last_out.get()),
            woken => woken,
        };
        let waited = if since == 0 { 0 } else { self.last.get().wall.saturating_sub(since) };
        self.waited.set(if waited == 0 { 0 } else { self.ticks_to_ns(waited) });
    }

    /// Counts a poll of what is current, and charges it with what the task has waited for the thread.
    ///
    /// The first context polled in a poll takes the whole of it: a request inside a connection's task, say, for the
    /// request is what waited.
    #[inline]
    pub(super) fn count_poll(&self) {
        let waited = self.waited.take();
        match self.current_node() {
            Some(node) if node.birth.owner == self.id.get() => {
                node.local.polls.add(1);
                node.local.queued.add(waited);
            }
            Some(node) => {
                node.shared.polls.add_shared(1);
                node.shared.queued.add_shared(waited);
            }
            None if self.current.get() == LOOP => {}
            None => {
                if let Some(ledger) = self.ledger.get() {
                    ledger.sentinel.polls.add(1);
                    ledger.sentinel.queued.add(waited);
                }
            }
        }
    }

    #[inline]
    pub(super) fn current_node(&self) -> Option<&Node> {
        let address = address_of(self.current.get())?;
        // SAFETY: the slot owns a share of it (rules 1 and 2 of `node::raw`). The borrow ends before the slot lets
        // go of that share: callers do not keep it across `switch_to`.
        Some(unsafe { address.as_ref() })
    }

    pub(super) fn share(&self) -> Share {
        let own = ManuallyDrop::new(Share::from_raw(self.current.get()));
        if own.node == LOOP { Share::nobody() } else { (*own).clone() }
    }

    pub(super) fn become_nobody(&self) {
        let before = self.switch_to(NOBODY);
        drop(Share::from_raw(before));
    }

    pub(super) fn ticks_to_ns(&self, ticks: u64) -> u64 {
        if self.clock.rung() == Some(Rung::Manual) { ticks } else { clock::ticks_to_ns(ticks) }
    }
}
