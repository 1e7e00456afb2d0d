//! The switch: the only place where slices of CPU are charged. Fenced.
//!
//! Slices chain: the end of one is the start of the next, so nothing falls between. The switch costs one reading of
//! the clock; none when the next poll is for the same context as the last.
#![allow(unsafe_code)]

use super::Slot;
use super::share::{LOOP, NOBODY, Share, address_of};
use crate::clock::{Rung, Stamp};
use crate::journal as sentinel;
use crate::node::hooks::{self, Hooks, Observer};
use crate::node::ledger::Ledger;
use crate::node::{Context, Node, contain};
use crate::report::ReportKind;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Slot {
    /// Charges the slice that ends at `now`, and begins the next. `began`: the wall ticks at which it began.
    pub(super) fn settle(&self, now: Stamp, began: u64) {
        let ns = now.cpu.wrapping_sub(self.last_cpu.replace(now.cpu)) as i64;
        let Some(ledger) = self.ledger.get() else { return };
        if ns < 0 || now.broken {
            self.settle_unusual(ledger, ns, began);
        } else {
            self.charge(ledger, ns as u64, began);
        }
    }

    /// The same, read now.
    pub(super) fn settle_now(&self) -> Stamp {
        let began = self.clock.last_wall();
        let now = self.clock.now();
        self.settle(now, began);
        now
    }

    /// The same, and the kernel's own clock is read.
    pub(super) fn settle_resynced(&self) -> Stamp {
        let began = self.clock.last_wall();
        let now = self.clock.resync();
        self.settle(now, began);
        now
    }

    /// The thread left the CPU in this slice, or the clock's extrapolation was a little ahead of the kernel's.
    #[cold]
    fn settle_unusual(&self, ledger: &Ledger, ns: i64, began: u64) {
        let cpu = u64::try_from(ns).unwrap_or(0);
        if ns < 0 {
            ledger.negative.add(ns.unsigned_abs());
        }
        let wall = self.clock.last_wall().saturating_sub(began);
        let off = self.clock.ticks_to_ns(wall).saturating_sub(cpu);
        match self.current_node() {
            Some(node) if node.gate.load(Relaxed) == self.id.get() => node.local.blocked.add(off),
            Some(node) => node.abroad().shared.blocked.add_shared(off),
            None if self.current.get() == LOOP => ledger.parked.add(off),
            None => ledger.sentinel.blocked.add(off),
        }
        self.charge(ledger, cpu, began);
        if self.blocking_min.get() != 0 {
            self.look_for_blocking_call(off);
        }
    }

    /// The thread left the CPU in the poll that ends: its slice ends with it, so that a blocking call is laid to this task
    /// and not to the next one of the same context. Where there is no mark to tell, the slice goes on: each end of one
    /// would be a system call.
    #[cold]
    #[inline(never)]
    pub(super) fn settle_interrupted(&self) {
        let has_mark = matches!(self.clock.rung(), Some(Rung::Rseq | Rung::PerfPage));
        if !has_mark || self.blocking_min.get() == 0 {
            return;
        }
        self.settle_now();
        self.publish();
        if self.current_node().is_some_and(|node| node.control.finished_at().is_some()) {
            // What is left is the way out.
            self.tail.set(self.clock.last_wall());
        }
    }

    /// Was it preempted, or did it give up the CPU of its own accord? Only the kernel's count of voluntary switches
    /// tells; it is read (~100 ns and more) when the thread was off the CPU, never else.
    fn look_for_blocking_call(&self, off: u64) {
        let switches = self.clock.voluntary_switches();
        let blocked = switches != self.voluntary.replace(switches);
        let Some(node) = self.current_node().filter(|_| blocked && off >= self.blocking_min.get()) else {
            return;
        };
        let place = self.place.get().unwrap_or(node.birth.place);
        let detail = format!("the thread slept for {:?}", Duration::from_nanos(off));
        sentinel::report(ReportKind::BlockingCall, &node.name(), place, &detail);
    }

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
            node.abroad().shared.cpu.add_shared(ns);
            ledger.foreign.add(ns);
            return;
        };
        node.abroad().shared.late_cpu.add_shared(ns);
        ledger.late.add(ns);
        if ns == 0 || began <= finished || began == self.tail.get() {
            return;
        }
        let age = self.clock.ticks_to_ns(self.clock.last_wall().saturating_sub(finished));
        let place = self.place.get().unwrap_or(node.birth.place);
        let detail = format!(
            "finished {:?} ago, work that began at {place} still charges it",
            Duration::from_nanos(age)
        );
        let cpu = Duration::from_nanos(ns);
        sentinel::report_cpu(ReportKind::LateWork, &node.name(), place, &detail, cpu);
    }

    /// Makes `next`, a share that the slot now owns, current. Returns the share it was.
    ///
    /// The usual case stands here and nothing else: the clock need not be asked, and what was current is open and this
    /// thread's own, or the loop. Half of the price of a switch is its `rdtsc`.
    #[inline]
    pub(super) fn switch_to(&self, next: *const Node) -> *const Node {
        if hooks::anyone() { self.switch_observed(next) } else { self.swap(next) }
    }

    #[cold]
    #[inline(never)]
    fn switch_observed(&self, next: *const Node) -> *const Node {
        // Shares of one context may differ by their marks.
        if address_of(self.current.get()) == address_of(next) {
            return self.swap(next);
        }
        self.tell(|hooks, context| hooks.on_suspend(context));
        let before = self.swap(next);
        self.tell(|hooks, context| hooks.on_resume(context));
        before
    }

    /// Tells the observers of what is current; not of switches that they make themselves.
    fn tell(&self, what: impl Fn(&dyn Hooks, &Context)) {
        let current = ManuallyDrop::new(Share::from_raw(self.current.get()));
        let Some(context) = current.target() else { return };
        let Some(observers) = super::observers(context.node()) else { return };
        for observer in observers {
            contain(context.node().name(), context.place(), || what(&*observer.0, &context));
        }
        super::told();
    }

    /// Tells one observer of what is current: where it begins or ends to observe.
    pub(super) fn tell_one(&self, observer: &Observer, what: impl Fn(&dyn Hooks, &Context)) {
        let current = ManuallyDrop::new(Share::from_raw(self.current.get()));
        if let Some(context) = current.target() {
            contain(context.node().name(), context.place(), || what(&*observer.0, &context));
        }
    }

    /// The thread ends with a context current, by a forgotten guard: that is a suspend too.
    pub(super) fn tell_last(&self, observers: &[Observer]) {
        let Some(node) = self.current_node().filter(|_| hooks::anyone()) else { return };
        for observer in observers.iter().cloned().chain(node.observers()) {
            self.tell_one(&observer, |hooks, context| hooks.on_suspend(context));
        }
    }

    /// The switch itself.
    #[inline(always)]
    fn swap(&self, next: *const Node) -> *const Node {
        let began = self.clock.last_wall();
        // Says nothing before the books are open: its mark is never intact then.
        let Some((cpu, wall)) = self.clock.glance() else { return self.switch_anew(next) };
        let ns = cpu.wrapping_sub(self.last_cpu.replace(cpu));
        let Some(ledger) = self.ledger.get() else { return self.current.replace(next) };
        match self.current_node() {
            Some(node) if (node.gate.load(Relaxed) == self.id.get()) & (ns as i64 >= 0) => {
                node.local.cpu.add(ns);
                node.last_out.set(wall);
            }
            None if (self.current.get() == LOOP) & (ns as i64 >= 0) => ledger.runtime.add(ns),
            _ => return self.switch_unusual(next, ledger, ns as i64, began),
        }
        let before = self.current.replace(next);
        ledger.running.publish(self.current_node().map_or(0, |node| node.id), cpu);
        before
    }

    /// From somebody else's context, a finished one, the sentinel; or the clock was a little ahead of the kernel's.
    #[cold]
    #[inline(never)]
    fn switch_unusual(&self, next: *const Node, ledger: &Ledger, ns: i64, began: u64) -> *const Node {
        match u64::try_from(ns) {
            Ok(ns) => self.charge(ledger, ns, began),
            Err(_) => self.settle_unusual(ledger, ns, began),
        }
        self.replace(next)
    }

    /// The switch with all its doubts.
    #[cold]
    #[inline(never)]
    fn switch_anew(&self, next: *const Node) -> *const Node {
        if self.ready() {
            self.settle_now();
        }
        self.replace(next)
    }

    fn replace(&self, next: *const Node) -> *const Node {
        if let Some(node) = self.current_node() {
            node.last_out.set(self.clock.last_wall());
        }
        let before = self.current.replace(next);
        self.publish();
        before
    }

    /// Puts `share` in place, if it is not.
    #[inline]
    pub(super) fn put(&self, share: &Share) {
        if self.current.get() != share.node {
            self.put_now(share);
        }
    }

    // Once in the program, with the switch in it: one call, and the poll around it keeps its registers.
    #[inline(never)]
    fn put_now(&self, share: &Share) {
        let before = self.switch_to(share.clone().into_raw());
        drop(Share::from_raw(before));
    }

    /// Puts `share` in place for one poll, and measures the time its task waited for the thread.
    #[inline(always)]
    pub(super) fn resume(&self, share: &Share, woken: u64) {
        let mut since = woken;
        if self.current.get() != share.node {
            self.put_now(share);
            if woken == 0 {
                since = share.node().map_or(0, |node| node.last_out.get());
            }
        }
        if since != 0 {
            self.waited.set(self.clock.last_wall().saturating_sub(since));
        }
    }

    /// Counts a poll of `share`, and charges it with what its task has waited for the thread.
    ///
    /// The first context polled in a poll takes the whole of it: a request inside a connection's task, say, for the
    /// request is what waited.
    #[inline]
    pub(super) fn count_poll(&self, share: &Share) {
        let waited = self.waited.take();
        match share.own_node() {
            Some(node) => self.count_own_poll(node, waited),
            None => self.count_poll_elsewhere(share, waited),
        }
    }

    #[inline]
    pub(super) fn count_own_poll(&self, node: &Node, waited: u64) {
        node.local.polls.add(1);
        if waited != 0 {
            node.local.queued.add(self.clock.ticks_to_ns(waited));
        }
    }

    /// Of another thread's context, the loop or nobody.
    #[cold]
    #[inline(never)]
    pub(super) fn count_poll_elsewhere(&self, share: &Share, waited: u64) {
        let waited = self.clock.ticks_to_ns(waited);
        match (share.node(), self.ledger.get()) {
            (Some(node), _) => {
                node.abroad().shared.polls.add_shared(1);
                node.abroad().shared.queued.add_shared(waited);
            }
            (None, Some(ledger)) if share.node != LOOP => {
                ledger.sentinel.polls.add(1);
                ledger.sentinel.queued.add(waited);
            }
            (None, _) => {}
        }
    }

    pub(super) fn publish(&self) {
        if let Some(ledger) = self.ledger.get() {
            ledger.running.publish(self.current_node().map_or(0, |node| node.id), self.last_cpu.get());
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
}
