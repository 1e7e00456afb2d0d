//! The node's memory: who counts, who may look, who frees. Fenced.
//!
//! Rules, cited below by number:
//! 1. A node is made by [`Context::new`] and moved out of its memory by [`retire`] alone, when the count of handles reaches zero.
//! 2. A [`Context`] is one handle. All [`Share`](crate::current::Share)s of one node together are one more.
//! 3. The registry of the owner's [`Ledger`] points to the node from its making until [`retire`] has taken it out
//!    under the registry's lock; who holds that lock may look at every node in it.
//! 4. A parent's links point to a child from [`tree::link`](super::tree::link) until
//!    [`tree::unlink`](super::tree::unlink), both under the tree's lock; a child holds a handle of its parent.
//! 5. A node's memory is a [`Spare`]'s before and after: whoever has that has the memory alone.
//!
//! An `Arc` with `Weak`s in the registry would do, but for two things: a reader of the registry must still see a
//! node whose last handle is just being dropped (else its usage is missed for a moment and a sum decreases), and
//! each context would pay two more atomic operations.
#![allow(unsafe_code)]

use super::Name;
use super::control::Control;
use super::ledger::Ledger;
use super::tree;
use crate::cells::{Cell64, Cells, Tally};
use crate::class::Class;
use crate::node::hooks::Observer;
use crate::value::Value;
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// One context's data.
///
/// The first cache line is what a switch and a poll touch, down to the first four of the local cells.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Node {
    /// The owner's ledger id while the context is open, 0 once it finished: one comparison tells the switch both
    /// that it may use plain additions and that the work is not late.
    pub(crate) gate: AtomicU64,
    /// Of `birth`, here again for the switch.
    pub(crate) id: u64,
    /// Wall ticks when it was last switched out, or made. Owner only.
    pub(crate) last_out: Cell64,
    /// Shares on the owner's thread. Owner only.
    pub(crate) shares: AtomicU32,
    /// Of `birth`, here again for the poll.
    pub(crate) budgeted: bool,
    /// Written by the owner's thread only.
    pub(crate) local: Cells,
    handles: AtomicUsize,
    /// What most contexts never get; made when it is needed.
    abroad: OnceLock<Box<Abroad>>,
    /// The largest CPU that any reader was told, ns: a reading never decreases.
    pub(crate) shown_own: AtomicU64,
    pub(crate) shown_total: AtomicU64,
    pub(crate) links: tree::Links,
    pub(crate) control: Control,
    /// What it was made with.
    pub(crate) birth: Birth,
    /// Key in the owner's registry.
    key: usize,
}

/// What comes to a context from outside of it.
#[derive(Debug)]
pub(crate) struct Abroad {
    /// What other threads add.
    pub(crate) shared: Cells,
    /// The total usage of children that are gone.
    pub(crate) folded: Cells,
}

impl Node {
    /// The cells that anybody may add to.
    pub(crate) fn abroad(&self) -> &Abroad {
        self.abroad.get_or_init(|| Box::new(Abroad { shared: Cells::new(), folded: Cells::new() }))
    }

    pub(crate) fn own_tally(&self) -> Tally {
        let mut own = self.local.read();
        if let Some(abroad) = self.abroad.get() {
            own += &abroad.shared.read();
        }
        own
    }

    /// The total usage of children that are gone, if there were any.
    pub(crate) fn below(&self) -> Option<Tally> {
        self.abroad.get().map(|abroad| abroad.folded.read())
    }
}

/// What never changes after a context was made.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) ledger: &'static Ledger,
    /// The ledger's id at that time.
    pub(crate) owner: u64,
    pub(crate) id: u64,
    pub(crate) class: &'static Class,
    pub(crate) parent: Option<Context>,
    pub(crate) opened: u64,
    pub(crate) place: &'static Location<'static>,
    pub(crate) deadline: Option<Instant>,
    /// It or an ancestor has a CPU budget.
    pub(crate) budgeted: bool,
    /// What was current where it was made.
    pub(crate) made_in: Option<Name>,
    pub(crate) extras: Option<Box<Extras>>,
}

/// What most contexts do not have; boxed, so that they do not pay for it.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) values: Vec<Value>,
    pub(crate) fields: Vec<(&'static str, Box<str>)>,
    pub(crate) cpu_budget: Option<std::time::Duration>,
    pub(crate) observers: Vec<Observer>,
}

impl std::fmt::Debug for Extras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extras").field("fields", &self.fields).finish_non_exhaustive()
    }
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
    pub(crate) fn new(birth: Birth) -> Self {
        let (ledger, class) = (birth.ledger, birth.class);
        let mut address = NonNull::dangling();
        ledger.register(class, |spare, key| {
            let memory = spare.unwrap_or_default().into_memory();
            // SAFETY: the memory is a node's, and ours alone (rule 5).
            unsafe { memory.write(Node::new(birth, key)) };
            address = memory;
            Registered(memory)
        });
        let context = Self(address);
        if let Some(parent) = &context.node().birth.parent {
            tree::link(parent.0, context.0);
        }
        context
    }

    #[inline]
    pub(crate) fn node(&self) -> &Node {
        // SAFETY: rule 1: this handle is counted, so the node is not freed while it is borrowed.
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
}

impl Clone for Context {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed, as in `Arc`: a handle exists, so nobody frees meanwhile.
        self.node().handles.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for Context {
    #[inline]
    fn drop(&mut self) {
        if self.node().handles.fetch_sub(1, Ordering::Release) == 1 {
            retire(self.0);
        }
    }
}

impl Node {
    #[inline]
    fn new(birth: Birth, key: usize) -> Self {
        Self {
            gate: AtomicU64::new(birth.owner),
            id: birth.id,
            last_out: Cell64::from(birth.opened),
            shares: AtomicU32::new(0),
            budgeted: birth.budgeted,
            local: Cells::new(),
            handles: AtomicUsize::new(1),
            abroad: OnceLock::new(),
            shown_own: AtomicU64::new(0),
            shown_total: AtomicU64::new(0),
            links: tree::Links::new(),
            control: Control::new(),
            birth,
            key,
        }
    }
}

/// The last handle is gone: settle, fold, free; then the same for the parent if this was its last handle.
///
/// A loop, not a recursion: a chain of a million nested contexts must not overflow the stack.
#[inline(never)]
fn retire(mut dying: NonNull<Node>) {
    loop {
        std::sync::atomic::fence(Ordering::Acquire);
        // SAFETY: rule 1: handles are zero and only this call frees; the registry still points here (rule 3).
        let node = unsafe { dying.as_ref() };
        if super::finish_at_last(node) && is_kept(dying, Node::run_finish_hooks) {
            // It is finished, and retires when that handle goes.
            return;
        }
        super::fold(node, dying);
        let (name, place) = (node.name(), node.birth.place);
        let gone = node.birth.ledger.unregister(node.key, |registered| {
            // SAFETY: rules 1 and 3: no handle, no share, no registry entry and (unlinked by `fold`) no parent points
            // here any more; who reads through the registry holds its lock, which we have.
            let gone = unsafe { Gone::move_out(registered.0) };
            (gone, Spare(registered.0))
        });
        let parent = match gone {
            Gone::Bare(parent) => parent,
            Gone::Whole(mut node) => {
                let parent = node.birth.parent.take();
                // User code: destructors of values. After the books are closed, outside all locks.
                super::contain(name, place, || drop(node));
                parent
            }
        };
        let Some(parent) = parent else { return };
        let parent = std::mem::ManuallyDrop::new(parent);
        if parent.node().handles.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        dying = parent.0;
    }
}

/// Lends `hooks` a handle of a node that has none left. Whether they kept one.
fn is_kept(node: NonNull<Node>, hooks: fn(&Node, &Context)) -> bool {
    let lent = std::mem::ManuallyDrop::new(Context(node));
    // Nobody else has a handle to count (rule 1), and those that hooks make are made from this one.
    lent.node().handles.store(1, Ordering::Relaxed);
    hooks(lent.node(), &lent);
    let kept = lent.node().handles.fetch_sub(1, Ordering::Release) != 1;
    std::sync::atomic::fence(Ordering::Acquire);
    kept
}

/// What is left to drop of a node that was.
#[expect(
    clippy::large_enum_variant,
    reason = "lives on one stack frame; a box would be an allocation per context"
)]
enum Gone {
    /// It owned its handle of the parent and nothing else. Moving that alone spares a copy of half a kilobyte.
    Bare(Option<Context>),
    Whole(Node),
}

impl Gone {
    /// # Safety
    ///
    /// The caller has the node alone, and never uses it as a node again.
    unsafe fn move_out(memory: NonNull<Node>) -> Self {
        // SAFETY: the caller's promise.
        let node = unsafe { memory.as_ref() };
        if node.control.is_bare() && node.birth.extras.is_none() && node.abroad.get().is_none() {
            // SAFETY: the parent is moved out once, and the rest needs no drop.
            Self::Bare(unsafe { std::ptr::from_ref(&node.birth.parent).read() })
        } else {
            // SAFETY: moved out once.
            Self::Whole(unsafe { memory.read() })
        }
    }
}

/// Memory for one node, with none in it. Given back to the allocator when it is dropped.
#[derive(Debug)]
pub(crate) struct Spare(NonNull<Node>);

// SAFETY: it is memory and nothing else.
unsafe impl Send for Spare {}

impl Spare {
    fn into_memory(self) -> NonNull<Node> {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Default for Spare {
    fn default() -> Self {
        Self(NonNull::from(Box::leak(Box::<Node>::new_uninit())).cast())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // SAFETY: rule 5: it came from such a box, in `default`, and is ours alone.
        drop(unsafe { Box::from_raw(self.0.cast::<MaybeUninit<Node>>().as_ptr()) });
    }
}

/// A node as the registry knows it (rule 3).
#[derive(Debug)]
pub(crate) struct Registered(NonNull<Node>);

// SAFETY: a registry only lends `&Node`, and `Node` is `Sync` (see `Context`).
unsafe impl Send for Registered {}

impl Registered {
    /// Only through a registry, whose lock the caller therefore holds.
    pub(super) fn node(&self) -> &Node {
        // SAFETY: rule 3: the node is freed after it was taken out of the registry, and the registry owns `self`.
        unsafe { self.0.as_ref() }
    }
}
