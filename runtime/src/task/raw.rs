//! The task's memory: header, and future or result in one place. **Fenced: the unsafe of a task is all here**, and
//! nothing unsafe leaves: [`Task`] owns its cell alone (it is neither `Clone` nor `Copy`), and whoever wants to poll,
//! drop or take must have it in hand. So the borrow checker proves outside of this file what other task harnesses
//! prove by protocol.
//!
//! ```text
//!            header                                       contents (a union)
//!  +--------+----+-------+-------+-------+    +------------------------------------------+
//!  | vtable | id | place | share | stage |    | future F  |  output T  |  failure        |
//!  +--------+----+-------+-------+-------+    +------------------------------------------+
//! ```
//!
//! Who may touch what:
//!
//! 1. `vtable`, `id` and `place` never change; anyone with a reference to the task reads them.
//! 2. `share` and `ending` change only through `&mut Task`, so the `&Share` of [`Task::split`] is good for as long
//!    as the borrow.
//! 3. `stage` says what `contents` holds. It and `contents` are touched only through [`Contents`], which borrows the task
//!    mutably and of which there is one at a time.
//! 4. `stage` becomes `Empty` *before* a value is dropped or moved out, and anything else only *after* it was written: user
//!    code may unwind out of any call here, and what was not dropped by then is leaked at worst, never dropped twice.
//! 5. No reference to the whole cell is ever made. The pointer keeps the provenance of the allocation; a reference
//!    covers the header only, and the future is reached by an offset, so that what the future points to inside itself stays
//!    valid while the task is moved about (the future itself never moves: pinned from birth to drop).
//!
//! Memory comes from [`Pool`], which keeps what finished tasks leave, by size class: in steady state spawning allocates
//! nothing. A pool is only a cache: each task owns its memory and may outlive the pool.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, offset_of};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::config::TASK_KEPT_MAX as KEPT_MAX;
use crate::task::{Ending, JoinFailure};
use context::harness::Share;

/// A task, owned. Dropping it drops what it holds and frees its memory; [`Pool::reclaim`] keeps the memory.
pub(crate) struct Task {
    cell: NonNull<Header>,
}

/// The right to the output of one task, and the proof of its type: made together with the task, bound to its id.
///
/// It holds no value and no pointer, so it goes anywhere (`Send` and `Sync`, whatever `T`).
pub(crate) struct Ticket<T> {
    id: u64,
    output: PhantomData<fn() -> T>,
}

/// The future or the result of a task, to be polled or dropped. Borrowed apart from the share, which meanwhile says on
/// whose account.
pub(crate) struct Contents<'a> {
    cell: NonNull<Header>,
    task: PhantomData<&'a mut Task>,
}

/// Makes tasks, and keeps the memory of those that are gone.
///
/// What it keeps it keeps until it is dropped: a burst of a million tasks leaves their memory here, for the next burst.
pub(crate) struct Pool {
    kept: [Cell<Option<NonNull<Spare>>>; CLASSES],
    refills: Cell<u64>,
    next_id: Cell<u64>,
    last_id: Cell<u64>,
}

impl Pool {
    pub(crate) fn new() -> Pool {
        Pool {
            kept: [const { Cell::new(None) }; CLASSES],
            refills: Cell::new(0),
            next_id: Cell::new(0),
            last_id: Cell::new(0),
        }
    }

    /// A new task around `future`. Runs no user code.
    pub(crate) fn task<F>(
        &self,
        future: F,
        share: Share,
        place: &'static Location<'static>,
    ) -> (Task, Ticket<F::Output>)
    where
        F: Future + 'static,
    {
        let id = self.mint();
        let vtable = const { &VTable::of::<F>() };
        let cell = self.memory(vtable.memory).cast::<Cellular<F>>();
        let header =
            Header { vtable, id, place, share, stage: Cell::new(Stage::Future), ending: Ending::Stay };
        let contents = Union { future: ManuallyDrop::new(future) };
        // SAFETY: `memory` gave us this block alone, of this very layout.
        unsafe { cell.write(Cellular { header, contents }) };
        (Task { cell: cell.cast() }, Ticket { id, output: PhantomData })
    }

    /// Keeps the task's memory. Drops what is left in it first, which may run user code and unwind.
    pub(crate) fn reclaim(&self, mut task: Task) {
        task.contents().discard();
        drop(task.release());
        self.keep(task);
    }

    /// Keeps the memory of a task that [is bare](Task::is_bare).
    #[inline]
    pub(crate) fn keep(&self, task: Task) {
        debug_assert!(task.is_bare());
        let Memory { layout, class } = task.header().vtable.memory;
        let block = ManuallyDrop::new(task).cell;
        self.give(block.cast(), layout, class);
    }

    #[cfg(test)]
    /// How often the allocator was asked for memory.
    pub(crate) fn refills(&self) -> u64 {
        self.refills.get()
    }

    /// Process-unique and never 0. Blocks of ids are taken from a process-wide counter, so that the atomic costs nothing
    /// per task; it would overflow after 2^52 blocks (at a million spawns a second: half a million years).
    fn mint(&self) -> u64 {
        if self.next_id.get() == self.last_id.get() {
            let first = first_of_block();
            self.next_id.set(first);
            self.last_id.set(first + ID_BLOCK - 1);
        }
        let id = self.next_id.get() + 1;
        self.next_id.set(id);
        id
    }

    /// Unused, unaliased memory of that layout.
    fn memory(&self, Memory { layout, class }: Memory) -> NonNull<u8> {
        let kept = self.kept.get(class as usize);
        let Some((kept, spare)) = kept.and_then(|kept| Some((kept, kept.get()?))) else {
            self.refills.set(self.refills.get() + 1);
            return allocate(layout);
        };
        // SAFETY: whatever is in `kept` was written by `give` and belongs to the pool alone.
        kept.set(unsafe { spare.read() }.next);
        spare.cast()
    }

    /// Takes memory that nothing uses any more.
    #[inline]
    fn give(&self, block: NonNull<u8>, layout: Layout, class: u8) {
        let Some(kept) = self.kept.get(class as usize) else {
            // SAFETY: every cell was allocated with the layout its vtable says, and the caller gave it up.
            return unsafe { dealloc(block.as_ptr(), layout) };
        };
        let spare = block.cast::<Spare>();
        // SAFETY: a block is larger than `Spare` and aligned for it (`class_of`), and ours now.
        unsafe { spare.write(Spare { next: kept.get() }) };
        kept.set(Some(spare));
    }
}

fn first_of_block() -> u64 {
    static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);
    NEXT_BLOCK.fetch_add(1, Ordering::Relaxed) * ID_BLOCK
}

/// An id for work that is not (yet) a task here. It costs a whole block: there are enough.
pub(crate) fn fresh_id() -> u64 {
    first_of_block() + 1
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (class, kept) in self.kept.iter().enumerate() {
            while let Some(spare) = kept.get() {
                // SAFETY: as in `memory`.
                kept.set(unsafe { spare.read() }.next);
                // SAFETY: blocks of a class were allocated with the layout of the class, and this one is unused.
                unsafe { dealloc(spare.as_ptr().cast(), class_layout(class)) };
            }
        }
    }
}

impl Task {
    /// Where it was spawned.
    pub(crate) fn place(&self) -> &'static Location<'static> {
        self.header().place
    }

    /// The task's context and its contents, so that the contents can be polled or dropped on that account. The share is
    /// nobody's after [`Task::release`].
    #[inline]
    pub(crate) fn split(&mut self) -> (&Share, Contents<'_>) {
        // SAFETY: the cell lives as long as the task. The reference covers the header, which `Contents` only reads (and
        // writes through the `Cell` in it); the share itself changes only through `&mut self`, which is borrowed.
        let header = unsafe { self.cell.as_ref() };
        (&header.share, Contents { cell: self.cell, task: PhantomData })
    }

    #[inline]
    pub(crate) fn contents(&mut self) -> Contents<'_> {
        self.split().1
    }

    /// Whether neither future nor result nor context is left.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.header().stage.get() == Stage::Empty && self.header().share.is_nobody()
    }

    /// Gives up the context, if the task has ended and its output has no destructor, which would have to run there: then a
    /// finished task pins no context, however long its handle lives.
    #[inline]
    pub(crate) fn release_ended(&mut self) -> Share {
        let header = self.header();
        let waits = header.vtable.output_needs_drop && header.stage.get() == Stage::Output;
        if waits { Share::nobody() } else { self.release() }
    }

    /// Gives up the context.
    #[inline]
    pub(crate) fn release(&mut self) -> Share {
        // SAFETY: the cell lives as long as the task; by `&mut self` there is no other reference to the header.
        mem::replace(&mut unsafe { self.cell.as_mut() }.share, Share::nobody())
    }

    /// Moves the result out. `None` if there is none, or the ticket is another task's.
    #[inline]
    pub(crate) fn take<T>(&mut self, ticket: &Ticket<T>) -> Option<Result<T, JoinFailure>> {
        let header = self.header();
        if header.id != ticket.id {
            return None;
        }
        if header.stage.get() != Stage::Output {
            return self.take_failure().map(Err);
        }
        header.stage.set(Stage::Empty);
        // SAFETY: the stage said that there is an output, and it is moved out once, as the stage is `Empty` now.
        // Its type is `T`: ids are process-unique, and task and ticket of one id were made in one call.
        Some(Ok(unsafe { self.cell_contents().cast::<T>().read() }))
    }

    /// Says what happens to the context when the task has ended.
    pub(crate) fn set_ending(&mut self, ending: Ending) {
        // SAFETY: the cell lives as long as the task; by `&mut self` there is no other reference to the header.
        unsafe { self.cell.as_mut() }.ending = ending;
    }

    pub(crate) fn ending(&self) -> Ending {
        self.header().ending
    }

    /// Moves the failure out, if that is what there is.
    #[cold]
    pub(crate) fn take_failure(&mut self) -> Option<JoinFailure> {
        let header = self.header();
        if header.stage.get() != Stage::Failed {
            return None;
        }
        header.stage.set(Stage::Empty);
        // SAFETY: the stage said that there is a failure, and it is moved out once, as the stage is `Empty` now.
        Some(unsafe { self.cell_contents().cast::<JoinFailure>().read() })
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the cell lives as long as the task, and the header is written mutably only through `&mut self`.
        unsafe { self.cell.as_ref() }
    }

    fn cell_contents(&self) -> NonNull<u8> {
        contents_of(self.cell, self.header().vtable)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        /// Frees the memory even if a destructor unwinds.
        struct Free(NonNull<u8>, Layout);
        impl Drop for Free {
            fn drop(&mut self) {
                // SAFETY: allocated with the layout that its vtable says; the task owned it and is gone.
                unsafe { dealloc(self.0.as_ptr(), self.1) };
            }
        }
        let _free = Free(self.cell.cast(), self.header().vtable.memory.layout);
        let _share = self.release();
        self.contents().discard();
    }
}

impl Contents<'_> {
    /// Whether the future is there, neither completed nor dropped.
    #[inline]
    pub(crate) fn is_future(&self) -> bool {
        self.header().stage.get() == Stage::Future
    }

    /// Whether there is an output or a failure.
    pub(crate) fn has_result(&self) -> bool {
        matches!(self.header().stage.get(), Stage::Output | Stage::Failed)
    }

    /// Polls the future. Once it is ready it is dropped, and the output takes its place. Ready at once if there is no
    /// future any more.
    ///
    /// Never unwinds. If the future's `poll` panicked it is still there, and [`Contents::discard`] drops it; if its `drop`
    /// panicked after it was ready it counts as dropped, and the output is there to be discarded.
    #[inline(always)]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        let header = self.header();
        if header.stage.get() != Stage::Future {
            return Polled(READY);
        }
        let poll = header.vtable.poll;
        // SAFETY: the vtable is this cell's, the stage is `Future`, and we have the contents alone.
        Polled(unsafe { poll(self.cell, cx) })
    }

    /// Drops whatever there is: future, output or failure. It counts as dropped even if its destructor unwinds.
    #[inline]
    pub(crate) fn discard(&mut self) {
        if self.header().stage.get() != Stage::Empty {
            self.discard_value();
        }
    }

    fn discard_value(&mut self) {
        let header = self.header();
        let stage = header.stage.replace(Stage::Empty);
        let contents = contents_of(self.cell, header.vtable);
        match stage {
            Stage::Empty => {}
            // SAFETY: the stage said what is there, its destructor is the vtable's, and as the stage is `Empty` now it runs
            // once. We have the contents alone.
            Stage::Future => unsafe { (header.vtable.drop_future)(contents) },
            // SAFETY: likewise.
            Stage::Output => unsafe { (header.vtable.drop_output)(contents) },
            // SAFETY: likewise.
            Stage::Failed => unsafe { contents.cast::<JoinFailure>().drop_in_place() },
        }
    }

    /// Makes `failure` the result. Discards first what is there, which may unwind: then there is no result.
    pub(crate) fn fail(&mut self, failure: JoinFailure) {
        self.discard();
        let header = self.header();
        // SAFETY: the union has room for a failure, is aligned for it, and is empty.
        unsafe { contents_of(self.cell, header.vtable).cast::<JoinFailure>().write(failure) };
        header.stage.set(Stage::Failed);
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the cell lives as long as the task, which is borrowed; nobody has the header mutably meanwhile.
        unsafe { self.cell.as_ref() }
    }
}

impl<T> Ticket<T> {
    /// The task's process-unique id.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// A cell, as laid out.
#[repr(C)]
struct Cellular<F: Future> {
    header: Header,
    contents: Union<F>,
}

struct Header {
    vtable: &'static VTable,
    id: u64,
    place: &'static Location<'static>,
    share: Share,
    stage: Cell<Stage>,
    ending: Ending,
}

/// What the contents are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Future,
    Output,
    Failed,
    Empty,
}

/// All fields at offset 0.
#[repr(C)]
union Union<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<F::Output>,
    failure: ManuallyDrop<JoinFailure>,
}

/// What is to be known of an erased `F`.
struct VTable {
    /// # Safety
    ///
    /// The cell is a `Cellular<F>` in stage `Future`, and the caller has its contents alone.
    ///
    /// `extern "C"`, since then the compiler knows that it does not unwind, and the loop around it needs no way out: what it
    /// has in hand stays in registers.
    poll: unsafe extern "C" fn(NonNull<Header>, &mut Context<'_>) -> *mut Panic,
    /// # Safety
    ///
    /// Points to an `F` that nobody uses or will use.
    drop_future: unsafe fn(NonNull<u8>),
    /// # Safety
    ///
    /// Points to an `F::Output` that nobody uses or will use.
    drop_output: unsafe fn(NonNull<u8>),
    /// Offset of the contents in the cell.
    contents: usize,
    memory: Memory,
    /// An output has a destructor, which is to run in the task's context.
    output_needs_drop: bool,
}

#[derive(Clone, Copy)]
struct Memory {
    layout: Layout,
    /// Index into [`Pool::kept`], or [`UNKEPT`].
    class: u8,
}

impl VTable {
    const fn of<F: Future>() -> VTable {
        VTable {
            poll: poll::<F>,
            drop_future: drop_in_place::<F>,
            drop_output: drop_in_place::<F::Output>,
            contents: offset_of!(Cellular<F>, contents),
            memory: Memory::of(Layout::new::<Cellular<F>>()),
            output_needs_drop: mem::needs_drop::<F::Output>(),
        }
    }
}

type Panic = Box<dyn Any + Send>;

/// How a poll ended. One word: null if the future is pending, [`READY`], or a box of its panic.
#[must_use = "a panic may be in it"]
pub(crate) struct Polled(*mut Panic);

impl Polled {
    #[inline(always)]
    pub(crate) fn is_pending(&self) -> bool {
        self.0.is_null()
    }

    /// The panic, if there was one.
    pub(crate) fn into_panic(self) -> Option<Panic> {
        if self.is_pending() || self.0 == READY {
            return None;
        }
        // SAFETY: what is neither comes from `Box::into_raw` in `poll`, and `self` is the only one to have it.
        Some(*unsafe { Box::from_raw(self.0) })
    }
}

const READY: *mut Panic = ptr::without_provenance_mut(1);

/// # Safety
///
/// See [`VTable::poll`].
unsafe extern "C" fn poll<F: Future>(cell: NonNull<Header>, cx: &mut Context<'_>) -> *mut Panic {
    // SAFETY: the caller's promise.
    match catch_unwind(AssertUnwindSafe(|| unsafe { step::<F>(cell, cx) })) {
        Ok(Poll::Pending) => ptr::null_mut(),
        Ok(Poll::Ready(())) => READY,
        Err(panic) => Box::into_raw(Box::new(panic)),
    }
}

/// # Safety
///
/// See [`VTable::poll`].
#[inline(always)]
unsafe fn step<F: Future>(cell: NonNull<Header>, cx: &mut Context<'_>) -> Poll<()> {
    // SAFETY: the cell is a `Cellular<F>`, so the offset is inside of the allocation.
    let contents = unsafe { cell.byte_add(offset_of!(Cellular<F>, contents)) };
    // SAFETY: in stage `Future` there is an `F`, and the caller has it alone.
    let future = unsafe { contents.cast::<F>().as_mut() };
    // SAFETY: from `Pool::task` on the future never moves, until it is dropped in place.
    let Poll::Ready(output) = unsafe { Pin::new_unchecked(future) }.poll(cx) else { return Poll::Pending };

    // SAFETY: the header is there as long as the cell; the stage is in a `Cell`.
    let stage = unsafe { &cell.as_ref().stage };
    stage.set(Stage::Empty);
    // On unwind, too: the output must not be dropped while the thread panics already, as a second panic would abort.
    let _settle = Settle { contents: contents.cast::<F::Output>(), output: ManuallyDrop::new(output), stage };
    // SAFETY: the future was there, and as the stage is `Empty` now nobody drops it again. `_settle` writes to its place
    // only afterwards.
    unsafe { contents.cast::<F>().drop_in_place() };
    Poll::Ready(())
}

/// Puts the output where the future was.
struct Settle<'a, T> {
    contents: NonNull<T>,
    output: ManuallyDrop<T>,
    stage: &'a Cell<Stage>,
}

impl<T> Drop for Settle<'_, T> {
    fn drop(&mut self) {
        // SAFETY: taken once, as this is the destructor.
        let output = unsafe { ManuallyDrop::take(&mut self.output) };
        // SAFETY: the union has room for an output and is aligned for it; the future there is gone.
        unsafe { self.contents.write(output) };
        self.stage.set(Stage::Output);
    }
}

/// # Safety
///
/// Points to a `T` that nobody uses or will use.
unsafe fn drop_in_place<T>(value: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { value.cast::<T>().drop_in_place() };
}

#[inline]
fn contents_of(cell: NonNull<Header>, vtable: &'static VTable) -> NonNull<u8> {
    debug_assert!(vtable.contents < vtable.memory.layout.size());
    // SAFETY: callers pass a live cell with its own vtable, whose offset is inside of the allocation.
    unsafe { cell.cast::<u8>().byte_add(vtable.contents) }
}

/// A block that waits for the next task of its class.
struct Spare {
    next: Option<NonNull<Spare>>,
}

const ID_BLOCK: u64 = 4096;

/// Sizes up to [`FINE_MAX`] are rounded up to 16 n + 8 bytes, which is what malloc gives without waste, beyond that to
/// multiples of [`COARSE`]; larger ones than [`KEPT_MAX`] go back to the allocator.
const FINE: usize = 16;
const FINE_MAX: usize = 1024 + 8;
const COARSE: usize = 256;

const FINE_CLASSES: usize = FINE_MAX / FINE + 1;
const CLASSES: usize = FINE_CLASSES + KEPT_MAX / COARSE + 1;
/// The class of what is not kept.
const UNKEPT: u8 = u8::MAX;

/// What malloc aligns to anyway.
const ALIGN: usize = 16;

impl Memory {
    const fn of(wanted: Layout) -> Memory {
        let size = wanted.size();
        if size > KEPT_MAX || wanted.align() > ALIGN {
            return Memory { layout: wanted, class: UNKEPT };
        }
        let class = if size <= FINE_MAX {
            // 8, 24, 40 ...: the least class that has room.
            size.saturating_sub(8).div_ceil(FINE)
        } else {
            FINE_CLASSES + size.div_ceil(COARSE)
        };
        Memory { layout: class_layout(class), class: class as u8 }
    }
}

const fn class_layout(class: usize) -> Layout {
    let size = if class < FINE_CLASSES { class * FINE + 8 } else { (class - FINE_CLASSES) * COARSE };
    match Layout::from_size_align(size, ALIGN) {
        Ok(layout) => layout,
        Err(_) => unreachable!(),
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout of a cell is never of size 0, as there is a header.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_that_fits_and_wastes_little() {
        assert!(CLASSES < UNKEPT as usize);
        for size in size_of::<Header>()..=KEPT_MAX + 1 {
            let memory = Memory::of(Layout::from_size_align(size, 8).unwrap());
            if size > KEPT_MAX {
                assert_eq!((memory.class, memory.layout.size()), (UNKEPT, size));
                continue;
            }
            assert!((memory.class as usize) < CLASSES);
            assert_eq!(memory.layout, class_layout(memory.class as usize));
            let waste = memory.layout.size().checked_sub(size).expect("fits");
            assert!(waste < if size <= FINE_MAX { FINE } else { COARSE }, "{size}");
        }
    }

    #[test]
    fn wide_alignment_goes_to_the_allocator() {
        #[repr(align(64))]
        struct Wide;
        let pool = Pool::new();
        let future = async {
            let wide = Wide;
            std::future::pending::<()>().await;
            std::hint::black_box(&wide);
        };
        let (mut task, _) = pool.task(future, Share::nobody(), Location::caller());
        assert_eq!(contents_of(task.cell, task.header().vtable).addr().get() % 64, 0);
        assert!(task.contents().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        pool.reclaim(task);
        assert!(pool.kept.iter().all(|kept| kept.get().is_none()));
    }

    #[test]
    fn ids_are_unique_over_pools_and_never_zero() {
        let pools = [Pool::new(), Pool::new()];
        let mut ids: Vec<u64> = (0..3 * ID_BLOCK as usize).map(|n| pools[n % 2].mint()).collect();
        ids.sort_unstable();
        assert!(ids[0] > 0 && ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn the_header_is_40_bytes() {
        assert_eq!(size_of::<Header>(), 40);
    }
}
