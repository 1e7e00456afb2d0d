//! The switch: the only place where slices of CPU are charged. Fenced.
//!
//! Slices chain: the end of one is the start of the next, so nothing falls between. The switch costs one reading of
//! the clock; none when the next poll is for the same context as the last.
//!
//! Nothing runs inside a switch. What is found here (late work, a blocking call) is put aside, and no function of this file
//! calls a logger, a listener, a hook or a destructor, or can unwind; [`deferred`](super::deferred) has the rule. A caller
//! of [`Slot::switch`] catches up when its own cells are set, and drops what was current after that.
#![allow(unsafe_code)]

use super::deferred::Deferred;
use super::share::{Held, LOOP, Share, address_of, is_plain, without_owner};
use super::{Place, Slot, charge};
use crate::clock::{Rung, Stamp};
use crate::node::Node;
use crate::node::hooks;
use crate::node::ledger::Ledger;
use crate::node::running::{Split, fence_before_split};
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::Relaxed;

impl Slot {
    /// Charges the slice that ends at `now`, and begins the next. `began`: the wall ticks at which it began.
    pub(super) fn settle(&self, now: Stamp, began: u64) {
        let Some(ledger) = self.books() else { return };
        let since = self.last_cpu();
        let ns = now.cpu.wrapping_sub(since) as i64;
        // What is charged is one step for other threads, until the next slice is published.
        ledger.running.change();
        let off = if ns < 0 || now.broken { self.charge_off(ledger, ns, began) } else { 0 };
        let ns = u64::try_from(ns).unwrap_or(0);
        self.charge(ledger, since, ns, began);
        self.publish_changed(now.cpu);
        if off > 0 && self.blocking_min.get() != 0 {
            self.look_for_blocking_call(off);
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
    /// Charges the time off the CPU, and returns it, ns.
    #[cold]
    fn charge_off(&self, ledger: &Ledger, ns: i64, began: u64) -> u64 {
        let cpu = u64::try_from(ns).unwrap_or(0);
        if ns < 0 {
            ledger.negative.add(ns.unsigned_abs());
        }
        let wall = self.clock.last_wall().saturating_sub(began);
        let off = self.clock.ticks_to_ns(wall).saturating_sub(cpu);
        match self.current_node() {
            // Whoever sent the job counts its wall time as a whole: `running`, or `in_transaction`.
            Some(_) if self.may_block.get() => {}
            Some(node) if node.gate.load(Relaxed) == self.id.get() => node.local.blocked.add(off),
            Some(node) => node.abroad().shared.blocked.add_shared(off),
            None if self.current.get() == LOOP => ledger.parked.add(off),
            None => ledger.sentinel.blocked.add(off),
        }
        off
    }

    /// The thread left the CPU in the last poll, and the next one is for the same context: a new slice begins, so that a
    /// blocking call is laid to the task that made it and not to the next one. Where there is no mark to tell, the slice
    /// goes on: each end of one would be a system call.
    #[cold]
    #[inline(never)]
    pub(super) fn settle_interrupted(&self) {
        let has_mark = matches!(self.clock.rung(), Some(Rung::Rseq | Rung::PerfPage));
        if !has_mark || self.blocking_min.get() == 0 {
            return;
        }
        self.settle_now();
        self.catch_up();
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
        self.defer(Deferred::BlockingCall { name: node.name(), place, off });
    }

    /// Charges a slice of `ns` that began at `since`, and at `began` in wall ticks.
    fn charge(&self, ledger: &Ledger, since: u64, ns: u64, began: u64) {
        match self.current_node() {
            Some(node) if node.gate.load(Relaxed) == self.id.get() => node.local.cpu.add(ns),
            Some(node) => self.charge_cold(ledger, node, since, ns, began),
            None if self.current.get() == LOOP => ledger.runtime.add(ns),
            None => ledger.sentinel.cpu.add(ns),
        }
    }

    /// Another thread's context, or one with a budget.
    fn charge_open(&self, ledger: &Ledger, node: &Node, ns: u64) {
        if node.birth.owner == self.id.get() {
            node.local.cpu.add(ns);
        } else {
            node.abroad().shared.cpu.add_shared(ns);
            ledger.foreign.add(ns);
        }
        if let Some(budget) = node.budget() {
            budget.spend(ns);
        }
    }

    /// Another thread's context, one with a budget, a finished one, or one that finished elsewhere while this slice ran: then
    /// the slice is split (see [`running`](crate::node::running)).
    #[cold]
    fn charge_cold(&self, ledger: &Ledger, node: &Node, since: u64, ns: u64, began: u64) {
        fence_before_split();
        let Split { cpu, late } = ledger.running.split(&node.gate, since, ns);
        if cpu > 0 {
            self.charge_open(ledger, node, cpu);
        }
        if late > 0 {
            node.abroad().shared.late_cpu.add_shared(late);
            ledger.late.add(late);
        }
        // The finisher read the kernel's clock, and this thread's own may be a little behind it.
        ledger.negative.add(cpu.saturating_sub(ns));
        if node.is_closed() {
            self.note_late(node, late, began, late < ns);
        }
    }

    /// The slice that ends, which began at `began`, is late, or the last `ns` of it: then it was cut.
    ///
    /// The slice in which this thread finishes a context has a tail: the way back from `finish` to the loop. It is charged as
    /// late like any other, but not reported: nobody did anything wrong. It is one tail however often it is interrupted, by
    /// a preemption or by a reading of the books, until something else becomes current.
    fn note_late(&self, node: &Node, ns: u64, began: u64, was_cut: bool) {
        let Some(finished) = node.late_since() else { return };
        if began <= finished && !was_cut {
            self.tail_of.set(node.id);
        }
        if ns == 0 || self.tail_of.get() == node.id || self.leftover_of.get() == node.id {
            return;
        }
        let age = self.clock.ticks_to_ns(self.clock.last_wall().saturating_sub(finished));
        let place = self.place.get().unwrap_or(node.birth.place);
        self.defer(Deferred::LateWork { name: node.name(), place, age, cpu: ns });
    }

    /// What is current has just finished: the rest of its slice is its tail. The next poll is none of it, even if it is for
    /// the same context: the slot owns what it holds from here on, so that it is not found to be the same.
    pub(super) fn begin_tail(&self) {
        if let Some(node) = self.current_node() {
            self.tail_of.set(node.id);
            self.current.set(Held::from_raw(self.current.get()).into_owned().into_raw());
        }
    }

    /// The switch itself: what was current pays for the slice that ends.
    #[inline(always)]
    pub(super) fn swap(&self, next: *const Node) -> *const Node {
        let before = self.current.get();
        if self.swap_plainly(without_owner(before), next).is_none() {
            self.swap_unusual(next);
        }
        before
    }

    /// The usual case and nothing else: the clock need not be asked, the slice was short, and what was current is open,
    /// this thread's own, and borrowed. Half of its price is the `rdtsc`. Says when; `None` if nothing was done.
    #[inline(always)]
    fn swap_plainly(&self, before: *const Node, next: *const Node) -> Option<u64> {
        if !is_plain(before) {
            return None;
        }
        // Says nothing before the books are open: the mark is never intact then.
        let (cpu, wall) = self.clock.glance()?;
        let running = &self.ledger.get().running;
        let ns = cpu.wrapping_sub(running.since());
        // SAFETY: the address of a node, as it has no marks. The slot holds it (rules 1 and 2 of `node::raw`), and lets go
        // of it below at the earliest.
        let node = unsafe { &*before };
        // A negative slice is a very long one.
        if (node.gate.load(Relaxed) != self.id.get()) | (ns > self.clock.slice_max_ns()) {
            return None;
        }
        running.change();
        node.local.cpu.add(ns);
        node.last_out.set(wall);
        self.clock.commit(wall);
        self.current.set(next);
        running.publish(next.addr() as u64, cpu);
        Some(wall)
    }

    /// Where the running slice began, ns of this thread's CPU. (In wall ticks: the clock's `last_wall`.)
    #[inline(always)]
    pub(super) fn last_cpu(&self) -> u64 {
        self.ledger.get().running.since()
    }

    /// The switch with all its doubts: from the loop, somebody else's context, a finished one, the sentinel; after a long
    /// slice; when the thread was off the CPU, or the clock a little ahead of the kernel's.
    #[cold]
    #[inline(never)]
    fn swap_unusual(&self, next: *const Node) {
        let began = self.clock.last_wall();
        let now = self.ready().then(|| self.settle_now());
        self.note_slice(began);
        // Only the owner's thread knows when its own task was last switched out.
        if let Some(node) = self.current_node().filter(|node| node.birth.owner == self.id.get()) {
            node.last_out.set(self.clock.last_wall());
        }
        if address_of(self.current.get()) != address_of(next) {
            self.tail_of.set(0);
        }
        self.current.set(next);
        if let Some(now) = now {
            self.publish(now.cpu);
        }
    }

    /// Keeps the longest of the slices that are long enough to be looked for. Slices that short are not seen here, and
    /// need not be.
    fn note_slice(&self, began: u64) {
        let length = self.clock.ticks_to_ns(self.clock.last_wall().saturating_sub(began));
        if length < self.long_min.get() || length <= self.longest.get() {
            return;
        }
        let Some(node) = self.current_node() else { return };
        self.longest.set(length);
        self.longest_of.set(Some((node.name(), self.place.get().unwrap_or(node.birth.place))));
    }

    /// Puts `share` in place, if it is not, for something that is no poll.
    #[inline]
    pub(super) fn put(&self, share: &Share, place: Place) {
        // What the slot owns stays so: see `begin_tail`.
        if without_owner(self.current.get()) != share.node {
            self.put_now(share);
        } else if self.clock.may_have_left() {
            self.settle_interrupted();
        }
        self.begin_visit(place);
    }

    fn put_now(&self, share: &Share) {
        let before = self.switch(Held::of(share));
        self.catch_up_and_release(before);
    }

    /// Puts `share`, which is `node`'s, in place for one poll, and measures the time its task waited for the thread.
    #[inline(always)]
    pub(super) fn resume(&self, share: &Share, node: &Node, place: Place, woken: u64) {
        if self.current.get() != share.node {
            self.resume_other(share, node, woken);
        } else {
            if self.clock.may_have_left() {
                self.settle_interrupted();
            }
            if woken != 0 {
                self.wait_since(woken);
            }
        }
        self.begin_visit(place);
    }

    // Once in the program, with the switch in it: one call, and the poll around it keeps its registers.
    #[inline(never)]
    fn resume_other(&self, share: &Share, node: &Node, woken: u64) {
        let before = self.current.get();
        let wall = if hooks::anyone() { None } else { self.swap_plainly(before, share.node) };
        let Some(wall) = wall else { return self.resume_with_care(share, node, woken) };
        self.waited.set(wall.wrapping_sub(if woken == 0 { node.last_out.get() } else { woken }));
    }

    #[cold]
    #[inline(never)]
    fn resume_with_care(&self, share: &Share, node: &Node, woken: u64) {
        let before = self.switch(Held::of(share));
        self.tail_of.set(0);
        self.wait_since(if woken == 0 { node.last_out.get() } else { woken });
        self.catch_up_and_release(before);
    }

    /// The poll that begins was waited for since then. (It may be later than the last stamp: see `count_own_poll`.)
    #[inline(always)]
    fn wait_since(&self, since: u64) {
        self.waited.set(self.clock.last_wall().wrapping_sub(since));
    }

    /// The same for somebody else's context, the loop or nobody.
    #[cold]
    #[inline(never)]
    pub(super) fn resume_elsewhere(&self, share: &Share, place: Place, woken: u64) {
        if self.tail_of.get() != 0 && address_of(self.current.get()) == address_of(share.node) {
            // The next poll is none of the tail, even if it is for the same context. (A switch to another one ends it.)
            self.settle_now();
            self.tail_of.set(0);
        }
        self.put(share, place);
        if woken != 0 {
            self.wait_since(woken);
        }
    }

    #[inline(always)]
    pub(super) fn begin_visit(&self, place: Place) {
        self.place.set(Some(place));
        self.lends.set(true);
    }

    /// Counts a poll of what is held, and charges it with what its task has waited for the thread.
    ///
    /// The first context polled in a poll takes the whole of it: a request inside a connection's task, say, for the
    /// request is what waited.
    #[inline]
    pub(super) fn count_poll(&self, held: &Held) {
        match held.own_node() {
            Some(node) => charge::count(self, node),
            None => self.count_poll_elsewhere(held),
        }
    }

    #[inline(always)]
    pub(super) fn count_own_poll(&self, node: &Node) {
        node.local.polls.add(1);
        let waited = self.waited.get();
        // Negative: woken, by another thread's clock, a little after the last stamp of this one.
        if waited as i64 > 0 {
            self.waited.set(0);
            node.local.queued.add(self.clock.ticks_to_ns(waited));
        }
    }

    /// Of another thread's context, the loop or nobody.
    #[cold]
    #[inline(never)]
    pub(super) fn count_poll_elsewhere(&self, held: &Held) {
        let waited = self.clock.ticks_to_ns((self.waited.take() as i64).max(0) as u64);
        match (held.node(), self.books()) {
            (Some(node), _) => {
                node.abroad().shared.polls.add_shared(1);
                node.abroad().shared.queued.add_shared(waited);
            }
            (None, Some(ledger)) if !held.is_loop() => {
                ledger.sentinel.polls.add(1);
                ledger.sentinel.queued.add(waited);
            }
            (None, _) => {}
        }
    }

    /// What is current has been running since `cpu`.
    pub(super) fn publish(&self, cpu: u64) {
        self.ledger.get().running.change();
        self.publish_changed(cpu);
    }

    /// The same, where it was said before that the slice changes.
    fn publish_changed(&self, cpu: u64) {
        self.ledger.get().running.publish(self.current.get().addr() as u64, cpu);
    }

    #[inline]
    pub(super) fn current_node(&self) -> Option<&Node> {
        let address = address_of(self.current.get())?;
        // SAFETY: the slot holds it (rules 1 and 2 of `node::raw`). The borrow ends before the slot lets go: callers do
        // not keep it across a switch.
        Some(unsafe { address.as_ref() })
    }

    pub(super) fn share(&self) -> Share {
        ManuallyDrop::new(Held::from_raw(self.current.get())).share()
    }

    /// The same; the account of the loop, too.
    pub(super) fn share_or_loop(&self) -> Share {
        if self.current.get() == LOOP { Share::bookkeeping() } else { self.share() }
    }

    #[inline]
    pub(super) fn idle(&self) {
        if self.current.get() != LOOP {
            let before = self.switch(Held::LOOP);
            self.catch_up_and_release(before);
        }
    }

    pub(super) fn become_nobody(&self) {
        let before = self.switch(Held::NOBODY);
        self.catch_up_and_release(before);
    }
}
