//! The node: one context's data; who counts, who may look, who frees. Fenced.
//!
//! Rules, cited below by number:
//! 1. A node is begun by [`Context::new`] and ended by [`retire`] alone, when the count of handles reaches zero.
//! 2. A [`Context`] is one handle. All [`Share`](crate::current::Share)s of one node together are one more.
//! 3. The registry of the owner's [`Ledger`] shows the node from its making until [`retire`] has ended it, both under the
//!    registry's lock; who holds that lock may look at every node in it.
//! 4. A parent's links point to a child from [`tree::link`](super::tree::link) until
//!    [`tree::unlink`](super::tree::unlink), both under the tree's lock; a child holds a handle of its parent.
//! 5. A node's memory is [`vacant`](Node::vacant) before and after; of a vacant node only the registry knows.
//!
//! An `Arc` with `Weak`s in the registry would do, but for two things: a reader of the registry must still see a
//! node whose last handle is just being dropped (else its usage is missed for a moment and a sum decreases), and
//! each context would pay two more atomic operations.
#![allow(unsafe_code)]

use super::control::{Aside, Control};
use super::handles::Handles;
use super::late::Late;
use super::ledger::Ledger;
use super::tree;
use super::{Name, UserCode};
use crate::cells::{Cell64, Cells, Tally};
use crate::class::{self, Class};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// One context's data, in four cache lines.
///
/// The first is what a switch and a poll touch, down to the first four of the local cells. The second is the other
/// eight of those, which most contexts never touch: in vacant memory they are zero. The other two are what the making
/// and the end touch.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Node {
    /// The owner's ledger id while the context is open, 0 once it or a context above it has finished, and [`CLOSING`] in
    /// between if other threads may run in it: one comparison tells the switch both that it may use plain additions and
    /// that the work is not late. Never goes back. Marked if there is a budget to be counted against: then it is never equal, and the
    /// switch looks closer.
    pub(crate) gate: AtomicU64,
    /// 0 for the sentinel, and in vacant memory.
    pub(crate) id: u64,
    /// Wall ticks when it was last switched out, or made. Owner only.
    pub(crate) last_out: Cell64,
    /// Shares on the owner's thread. Owner only.
    pub(crate) shares: AtomicU32,
    /// It or an ancestor has a CPU budget.
    pub(crate) budgeted: bool,
    /// It or an ancestor has a deadline.
    pub(super) timed: bool,
    /// Something is in the second line. Owner only.
    spread: AtomicBool,
    /// Another thread than the owner's has, or had, it in a form in which it can become current there.
    visited: AtomicBool,
    /// Written by the owner's thread only.
    pub(crate) local: Cells,
    handles: Handles,
    pub(crate) control: Control,
    /// What comes from outside, if anything did.
    abroad: Late<Abroad>,
    /// What it was made with.
    pub(crate) birth: Birth,
    pub(crate) links: tree::Links,
    /// Its place in the owner's registry, which is the memory's, not the context's.
    pub(super) place: AtomicU32,
}

/// The gate of a context that is being closed while other threads may run in it: what they run is cut. No ledger's id.
pub(super) const CLOSING: u64 = u64::MAX - 1;

/// What comes to a context from outside of it.
#[derive(Debug, Default)]
pub(crate) struct Abroad {
    /// What other threads add.
    pub(crate) shared: Cells,
    /// The total usage of children that are gone.
    pub(crate) folded: Cells,
}

impl Node {
    /// The cells that anybody may add to.
    #[inline]
    pub(crate) fn abroad(&self) -> &Abroad {
        self.abroad.get_or_make(Abroad::default)
    }

    /// Adds from the owner's thread.
    pub(crate) fn add(&self, tally: &Tally) {
        self.spread.store(true, Ordering::Relaxed);
        self.local.add(tally);
    }

    /// Another thread than the owner's is about to make it current, perhaps.
    ///
    /// SeqCst, and before that thread's slice begins: so a finisher which does not see it is seen by that thread.
    pub(crate) fn visit(&self) {
        if !self.is_visited() {
            self.visited.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn is_visited(&self) -> bool {
        self.visited.load(Ordering::SeqCst)
    }

    pub(crate) fn own_tally(&self) -> Tally {
        let mut own = self.local.read();
        if let Some(abroad) = self.abroad_if_any() {
            own += &abroad.shared.read();
        }
        own
    }

    #[inline]
    pub(super) fn abroad_if_any(&self) -> Option<&Abroad> {
        self.abroad.get()
    }

    /// Whether its books are more than the local cells.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.abroad_if_any().is_some() || self.control.has_aside()
    }

    /// Whether there is one handle of it, the caller's. (All shares together are one.)
    pub(crate) fn has_one_handle(&self) -> bool {
        self.handles.is_one()
    }

    /// The total usage of children that are gone, if there were any.
    pub(crate) fn below(&self) -> Option<Tally> {
        self.abroad_if_any().map(|abroad| abroad.folded.read())
    }
}

/// What never changes after a context was made.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) ledger: &'static Ledger,
    /// The ledger's id at that time.
    pub(crate) owner: u64,
    pub(crate) class: &'static Class,
    pub(crate) parent: Option<Context>,
    pub(crate) opened: u64,
    pub(crate) place: &'static Location<'static>,
    /// What was current where it was made.
    pub(crate) made_in: Option<&'static Class>,
    pub(crate) made_in_id: u64,
}

/// What a context is made from.
pub(crate) struct Plan {
    pub(crate) id: u64,
    pub(crate) budgeted: bool,
    pub(crate) timed: bool,
    pub(crate) birth: Birth,
    pub(crate) aside: Option<Box<Aside>>,
}

/// One unit of work that is billed and named: a request, a background process, or a part of either.
///
/// A cheap handle: cloning counts, nothing is copied. Two handles are equal if they are of the same context. When the
/// last handle of a context goes and nobody finished it, it finishes then.
///
/// ```
/// use context::Context;
///
/// let request = Context::root("GET /users/{id}");
/// let part = request.child("parse");
/// assert_eq!(part.parent().as_ref(), Some(&request));
/// part.scope(|| assert_eq!(Context::current(), part));
/// assert!(Context::current().is_sentinel());
/// ```
pub struct Context(NonNull<Node>);

// SAFETY: a handle gives shared access to the node only, and every field of the node is `Sync`: atomics, locks and
// what never changes. The cells with a single writer are atomics too; two writers would lose counts, not soundness.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Makes the node and its first handle, and enters it in its owner's registry and in its parent's children.
    #[inline(always)]
    pub(crate) fn new(plan: Plan) -> Self {
        let mut live = plan.birth.ledger.live.lock();
        let mut memory = live.nodes.take();
        // SAFETY: the memory is vacant, so ours alone (rule 5).
        unsafe { memory.as_mut() }.begin(plan);
        drop(live);
        let context = Self(memory);
        if let Some(parent) = &context.node().birth.parent {
            tree::link(parent.0, context.0);
        }
        context
    }

    #[inline]
    pub(crate) fn node(&self) -> &Node {
        // SAFETY: rule 1: this handle is counted, so the node is not ended while it is borrowed.
        unsafe { self.0.as_ref() }
    }

    /// The node's address, for a [`Share`](crate::current::Share).
    pub(crate) fn as_ptr(&self) -> NonNull<Node> {
        self.0
    }

    /// The handle that stands for all shares (rule 2), without counting.
    ///
    /// # Safety
    ///
    /// `node` is the address of a node, and the caller gives up one handle of it.
    pub(crate) unsafe fn from_counted(node: NonNull<Node>) -> Self {
        Self(node)
    }

    /// Gives up this handle, in its drop: whether it was the last one, so that the node is to [`retire`].
    #[inline]
    fn give_up(&self) -> bool {
        self.node().handles.give_up()
    }
}

impl Drop for Context {
    #[inline]
    fn drop(&mut self) {
        if self.give_up() {
            retire(self.0);
        }
    }
}

impl Clone for Context {
    #[inline]
    fn clone(&self) -> Self {
        self.node().handles.add();
        Self(self.0)
    }
}

impl Node {
    /// Memory without a context: what [`end`](Self::end) leaves.
    pub(super) fn vacant(place: u32) -> Self {
        let birth = Birth {
            ledger: Ledger::limbo(),
            owner: 0,
            class: class::sentinel(),
            parent: None,
            opened: 0,
            place: Location::caller(),
            made_in: None,
            made_in_id: 0,
        };
        Self {
            gate: AtomicU64::new(0),
            id: 0,
            last_out: Cell64::new(),
            shares: AtomicU32::new(0),
            budgeted: false,
            timed: false,
            spread: AtomicBool::new(false),
            visited: AtomicBool::new(false),
            local: Cells::new(),
            handles: Handles::new(AtomicUsize::new(0)),
            control: Control::new(),
            abroad: Late::new(),
            birth,
            links: tree::Links::new(),
            place: AtomicU32::new(place),
        }
    }

    /// What is not set here is as in vacant memory.
    #[inline(always)]
    fn begin(&mut self, plan: Plan) {
        let Plan { id, budgeted, timed, birth, aside } = plan;
        let Birth { ledger, owner, class, parent, opened, place, made_in, made_in_id } = birth;
        *self.gate.get_mut() = owner | (u64::from(budgeted) << 63);
        self.id = id;
        self.budgeted = budgeted;
        self.timed = timed;
        self.last_out.set(opened);
        self.handles.be_one();
        self.control.begin(aside);
        // Field by field, or the compiler copies the whole by way of the stack.
        self.birth.ledger = ledger;
        self.birth.owner = owner;
        self.birth.class = class;
        self.birth.opened = opened;
        self.birth.place = place;
        self.birth.made_in = made_in;
        self.birth.made_in_id = made_in_id;
        // There was none.
        std::mem::forget(std::mem::replace(&mut self.birth.parent, parent));
    }

    /// Makes the memory vacant. What is left is to be dropped outside all locks.
    #[inline(always)]
    fn end(&mut self) -> Remains {
        self.id = 0;
        *self.shares.get_mut() = 0;
        *self.visited.get_mut() = false;
        self.local.clear(std::mem::take(self.spread.get_mut()));
        self.links.clear();
        (self.birth.parent.take(), self.control.end(), self.abroad.take())
    }

    pub(super) fn is_spread(&self) -> bool {
        self.spread.load(Ordering::Relaxed)
    }

    pub(super) fn made_in(&self) -> Option<Name> {
        self.birth.made_in.map(|class| Name { class: class.name, id: self.birth.made_in_id })
    }
}

/// What a node that was had, and memory does not keep.
type Remains = (Option<Context>, Option<Box<Aside>>, Option<Box<Abroad>>);

/// The last handle is gone: settle, fold, free; then the same for the parent if this was its last handle.
///
/// A loop, not a recursion: a chain of a million nested contexts must not overflow the stack.
#[inline(never)]
fn retire(mut dying: NonNull<Node>) {
    loop {
        // SAFETY: rule 1: handles are zero, or the one that is being dropped, and only this call ends it; the registry
        // still shows it (rule 3).
        let node = unsafe { dying.as_ref() };
        if super::finish_at_last(node) && is_kept(dying, super::tell_last) {
            // It is finished, and retires when that handle goes.
            return;
        }
        super::fold(node, dying);
        let (name, place) = (node.name(), node.birth.place);
        let mut live = node.birth.ledger.live.lock();
        live.settle(node);
        // SAFETY: rules 1 and 3: no handle, no share and (unlinked by `fold`) no parent points here any more; who reads
        // through the registry holds its lock, which we have.
        let (parent, aside, abroad) = unsafe { dying.as_mut() }.end();
        live.nodes.give(dying);
        drop(live);
        drop(abroad);
        if let Some(aside) = aside {
            // Destructors of values: after the books are closed, outside all locks.
            <Node as UserCode>::discard(name, place, aside);
        }
        let Some(parent) = parent else { return };
        let parent = std::mem::ManuallyDrop::new(parent);
        if !parent.give_up() {
            return;
        }
        dying = parent.0;
    }
}

/// Lends `hooks` a handle of a node that has none left. Whether they kept one.
fn is_kept(node: NonNull<Node>, hooks: fn(&Context)) -> bool {
    let lent = std::mem::ManuallyDrop::new(Context(node));
    // Nobody else has a handle to count (rule 1), and those that hooks make are made from this one.
    lent.node().handles.be_one();
    hooks(&lent);
    !lent.node().handles.take_back()
}

/// As promised above.
const _: () = assert!(size_of::<Node>() == 256);
